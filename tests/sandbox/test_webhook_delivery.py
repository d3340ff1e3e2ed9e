"""How webhooks reach the shop: headers, tries and the ladder between them, by hand and by themselves."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
from datetime import timedelta
from typing import Any, Final

import httpx
import pytest
from fastapi import FastAPI

from tests.sandbox.client import Toss, code_of, until
from tests.sandbox.conftest import sandbox_in_process
from tests.sandbox.receiver import Receiver, deliver, receiving, set_up, webhooks
from toss_sandbox.app import create_sandbox
from toss_sandbox.settings import Settings

LADDER: Final = [1, 4, 16, 64, 256, 1_024, 4_096]  # minutes
ID: Final = "tosspayments-webhook-transmission-id"
TIME: Final = "tosspayments-webhook-transmission-time"
RETRIED: Final = "tosspayments-webhook-transmission-retried-count"
SIGNATURE: Final = "tosspayments-webhook-signature"
KEYS: Final = ("0f" * 32, "A1" * 32)


async def newest(toss: Toss) -> dict[str, Any]:
    return (await webhooks(toss))[-1]


class TestDelivery:
    async def test_exact_body_arrives_with_its_headers(self, toss: Toss, receiver: Receiver) -> None:
        await toss.paid()

        assert await deliver(toss) == (1, 1)

        [received] = receiver.received
        webhook = await newest(toss)
        assert received.body.decode() == webhook["body"]
        assert webhook["headers"].items() <= received.headers.items()
        assert received.headers[ID].startswith("whtrans_a01")
        assert (received.headers[RETRIED], received.headers[TIME]) == ("0", webhook["attempts"][0]["at"])
        assert SIGNATURE not in received.headers
        assert (webhook["state"], webhook["nextAttemptAt"]) == ("DELIVERED", None)

    async def test_retries_climb_the_ladder_and_end(self, toss: Toss, receiver: Receiver) -> None:
        receiver.status = 500
        await toss.paid()
        assert await deliver(toss) == (1, 0)

        for minutes in LADDER:
            assert (await newest(toss))["state"] == "WAITING"
            await toss.move_clock(seconds=60 * minutes - 30)
            assert await deliver(toss) == (0, 0)
            await toss.move_clock(seconds=30)
            assert await deliver(toss) == (1, 0)

        webhook = await newest(toss)
        assert (webhook["state"], webhook["nextAttemptAt"]) == ("FAILED", None)
        assert [attempt["status"] for attempt in webhook["attempts"]] == [500] * 8
        assert [received.headers[RETRIED] for received in receiver.received] == [str(number) for number in range(8)]
        assert len({received.headers[ID] for received in receiver.received}) == 1
        assert len({received.headers[TIME] for received in receiver.received}) == 8
        assert len({received.body for received in receiver.received}) == 1

    @pytest.mark.parametrize("status", [201, 204, 302, 404])
    async def test_nothing_but_200_is_received(self, toss: Toss, receiver: Receiver, status: int) -> None:
        receiver.status = status
        await toss.paid()

        assert await deliver(toss) == (1, 0)

        assert (await newest(toss))["attempts"][0]["status"] == status
        assert len(receiver.received) == 1  # no redirect was followed

    async def test_shop_that_is_not_there_is_tried_again(self, toss: Toss, receiver: Receiver) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        await set_up(toss, url=f"http://127.0.0.1:{port}/")
        await toss.paid()
        assert await deliver(toss) == (1, 0)
        assert "ConnectError" in (await newest(toss))["attempts"][0]["error"]

        await set_up(toss, url=receiver.url)
        await toss.move_clock(minutes=1)

        assert await deliver(toss) == (1, 1)
        assert receiver.received[0].headers[RETRIED] == "1"

    async def test_slow_shop_is_given_up_on_and_holds_up_nobody(self) -> None:
        async with receiving() as receiver:
            settings = Settings(webhook_url=receiver.url, webhook_timeout=timedelta(seconds=0.2))
            async with sandbox_in_process(settings) as toss:
                receiver.may_answer.clear()
                await toss.paid()
                await until(lambda: has_received(receiver, 1))

                assert (await toss.cancel(await toss.paid("order-000002"))).status_code == 200

                await until(lambda: has_attempts(toss))
                attempt = (await webhooks(toss))[0]["attempts"][0]
                assert (attempt["status"], attempt["error"]) == (None, "no answer within 0.2 seconds")

    async def test_few_are_under_way_at_once(self, toss: Toss, receiver: Receiver) -> None:
        for number in range(40):
            await toss.http.post("/sandbox/webhooks/send", json={"eventType": f"EVENT_{number}"})
        receiver.may_answer.clear()

        delivering = asyncio.create_task(deliver(toss))
        await until(lambda: has_received(receiver, 16))
        receiver.may_answer.set()

        assert await delivering == (40, 40)
        assert receiver.most_at_once == 16


class TestByItself:
    async def test_webhook_is_sent_at_once_and_its_retry_when_the_clock_is_moved(self) -> None:
        async with receiving() as receiver, sandbox_in_process(Settings(webhook_url=receiver.url)) as toss:
            receiver.status = 503
            await toss.paid()
            await until(lambda: has_attempts(toss))
            receiver.status = 200

            await toss.move_clock(minutes=1)

            await until(lambda: is_in(toss, "DELIVERED"))
            assert [received.headers[RETRIED] for received in receiver.received] == ["0", "1"]

    async def test_webhooks_can_be_led_into_a_shop_in_process(self) -> None:
        shop, told = FastAPI(), []

        @shop.post("/webhook/toss")
        async def take(event: dict[str, Any]) -> None:
            told.append(event["data"]["status"])

        app = create_sandbox(
            Settings(webhook_url="http://shop/webhook/toss"), webhook_transport=httpx.ASGITransport(app=shop)
        )
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://sandbox") as http:
            await Toss(http).paid()
            assert await deliver(Toss(http)) == (1, 1)
        app.state.sandbox.close()

        assert told == ["DONE"]


class TestSettings:
    async def test_without_an_address_webhooks_are_noted_and_not_sent(self, toss: Toss) -> None:
        await toss.paid()

        assert await deliver(toss) == (0, 0)

        webhook = await newest(toss)
        assert (webhook["state"], webhook["nextAttemptAt"]) == ("WAITING", None)
        refused = await toss.http.post(f"/sandbox/webhooks/{webhook['id']}/resend")
        assert code_of(refused) == (409, "SANDBOX_NO_WEBHOOK_URL")

    async def test_address_of_later_gets_what_comes_later(self, toss: Toss, receiver: Receiver) -> None:
        await set_up(toss, url=None)
        payment_key = await toss.paid()

        await set_up(toss, url=receiver.url)
        await toss.cancel(payment_key)
        await deliver(toss)

        assert receiver.statuses == ["CANCELED"]

    async def test_what_is_due_waits_while_sending_is_switched_off(self, toss: Toss, receiver: Receiver) -> None:
        await set_up(toss, enabled=False)
        await toss.paid()
        assert await deliver(toss) == (0, 0)

        await set_up(toss, enabled=True)

        assert await deliver(toss) == (1, 1)

    async def test_settings_are_told_and_fall_back_with_a_reset(self, toss: Toss, receiver: Receiver) -> None:
        await set_up(toss, depositCallbacks=False)
        settings = (await toss.http.get("/sandbox/webhooks/settings")).json()

        await toss.http.post("/sandbox/reset")

        expected = {"url": receiver.url, "enabled": True, "paymentEvents": True, "depositCallbacks": False}
        assert settings == expected
        assert (await toss.http.get("/sandbox/webhooks/settings")).json() == expected | {
            "url": None,
            "depositCallbacks": True,
        }

    @pytest.mark.parametrize("changes", [{"url": "ftp://shop/"}, {"url": ""}, {"enabled": None}, {"uri": "x"}])
    async def test_what_is_no_setting_is_refused(self, toss: Toss, changes: dict[str, object]) -> None:
        assert (await toss.http.put("/sandbox/webhooks/settings", json=changes)).status_code == 422

    async def test_reset_forgets_webhooks(self, toss: Toss, receiver: Receiver) -> None:
        await toss.paid()
        await toss.http.post("/sandbox/webhook-faults", json={"kind": "lose"})

        await toss.http.post("/sandbox/reset")
        await set_up(toss, url=receiver.url)

        assert await webhooks(toss) == []
        assert await deliver(toss) == (0, 0)
        assert (await toss.http.get("/sandbox/webhook-faults")).json() == {"faults": []}


class TestResend:
    async def test_begins_a_new_first_attempt(self, toss: Toss, receiver: Receiver) -> None:
        receiver.status = 500
        await toss.paid()
        await deliver(toss)
        receiver.status = 200

        answer = await toss.http.post(f"/sandbox/webhooks/{(await newest(toss))['id']}/resend")

        assert (answer.status_code, answer.json()["state"]) == (200, "WAITING")
        assert await deliver(toss) == (1, 1)
        assert [received.headers[RETRIED] for received in receiver.received] == ["0", "0"]
        await toss.move_clock(minutes=1)
        assert await deliver(toss) == (0, 0)  # the schedule that was running has ended

    async def test_overtakes_a_try_that_hangs(self) -> None:
        async with receiving() as receiver, sandbox_in_process(Settings(webhook_url=receiver.url)) as toss:
            receiver.status = 500
            receiver.may_answer.clear()
            await toss.paid()
            await until(lambda: has_received(receiver, 1))

            await toss.http.post(f"/sandbox/webhooks/{(await newest(toss))['id']}/resend")
            await until(lambda: has_received(receiver, 2))
            receiver.may_answer.set()

            await until(lambda: has_attempts(toss, 2))
            # Of the two failures only that of the new schedule has a retry.
            assert (await newest(toss))["headers"][RETRIED] == "0"
            receiver.status = 200
            await toss.move_clock(minutes=1)
            await until(lambda: is_in(toss, "DELIVERED"))
            assert len(receiver.received) == 3

    async def test_unknown_webhook_is_not_found(self, toss: Toss, receiver: Receiver) -> None:
        assert code_of(await toss.http.post("/sandbox/webhooks/1/resend")) == (404, "NOT_FOUND")


class TestByHand:
    @pytest.mark.parametrize("as_text", [False, True])
    @pytest.mark.parametrize("event_type", ["payout.changed", "seller.changed"])
    async def test_payouts_and_sellers_are_signed_with_every_key(self, event_type: str, *, as_text: bool) -> None:
        async with receiving() as receiver:
            settings = Settings(webhook_url=receiver.url, security_keys=KEYS, security_key_is_text=as_text)
            async with sandbox_in_process(settings) as toss:
                await toss.http.post("/sandbox/webhooks/send", json={"eventType": event_type})
                await until(lambda: has_received(receiver, 1))

        [received] = receiver.received
        message = received.body + b":" + received.headers[TIME].encode()
        keys = [key.encode() if as_text else bytes.fromhex(key) for key in KEYS]
        macs = [base64.b64encode(hmac.digest(key, message, hashlib.sha256)).decode() for key in keys]
        assert received.headers[SIGNATURE] == f"v1:{macs[0]},v1:{macs[1]}"
        assert set(received.json) == {"eventType", "createdAt", "version", "eventId", "entityType", "entityBody"}
        assert received.json["createdAt"].endswith("+09:00")

    @pytest.mark.parametrize(
        ("sent", "told"),
        [
            ({"eventType": "BILLING_DELETED"}, {"data": {"billingKey": "billing-key-1", "reason": "삭제 API 요청"}}),
            ({"eventType": "BRAND_NEW", "data": {"a": None}}, {"eventType": "BRAND_NEW", "data": {"a": None}}),
            (
                {"eventType": "PAYMENT_STATUS_CHANGED", "data": {"orderId": "order-000009", "status": "DONE"}},
                {"data": {"orderId": "order-000009", "status": "DONE"}},
            ),
            ({"eventType": "DEPOSIT_CALLBACK", "data": {"orderId": "order-000009"}}, {"orderId": "order-000009"}),
        ],
    )
    async def test_event_is_written_in_its_envelope(
        self, toss: Toss, sent: dict[str, Any], told: dict[str, Any]
    ) -> None:
        answer = await toss.http.post("/sandbox/webhooks/send", json=sent)

        body = json.loads(answer.json()["body"])
        assert answer.status_code == 201
        assert body | told == body
        assert ("eventType" in body) is (sent["eventType"] != "DEPOSIT_CALLBACK")

    @pytest.mark.parametrize(
        "sent", ['{"eventType": ""}', '{"eventType": "A", "data": {"a": "\\ud800"}}', '{"eventType": "A", "data": []}']
    )
    async def test_what_nobody_could_store_is_refused(self, toss: Toss, sent: str) -> None:
        headers = {"content-type": "application/json"}

        answer = await toss.http.post("/sandbox/webhooks/send", content=sent, headers=headers)

        assert answer.status_code == 422


async def has_received(receiver: Receiver, number: int) -> bool:
    return len(receiver.received) >= number


async def has_attempts(toss: Toss, number: int = 1) -> bool:
    return len((await webhooks(toss))[0]["attempts"]) >= number


async def is_in(toss: Toss, state: str) -> bool:
    return bool((await newest(toss))["state"] == state)
