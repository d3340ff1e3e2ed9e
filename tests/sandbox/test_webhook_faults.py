"""What can happen to a webhook between its change and the shop."""

from datetime import datetime
from typing import Final

import httpx
import pytest

from tests.sandbox.client import ORDER, Toss
from tests.sandbox.receiver import Receiver, deliver, webhooks

ANY: Final = {"times": None}


async def arm(toss: Toss, kind: str, **more: object) -> httpx.Response:
    answer = await toss.http.post("/sandbox/webhook-faults", json={"kind": kind, **more})
    assert answer.status_code == 201, answer.text
    return answer


class TestFaults:
    async def test_lost_webhook_is_never_sent(self, toss: Toss, receiver: Receiver) -> None:
        await arm(toss, "lose")
        payment_key = await toss.paid()
        await toss.cancel(payment_key)

        await deliver(toss)

        assert receiver.statuses == ["CANCELED"]
        [lost, _] = await webhooks(toss)
        assert (lost["state"], lost["fault"], lost["attempts"]) == ("LOST", "lose", [])

    async def test_lost_webhook_can_be_sent_again_by_hand(self, toss: Toss, receiver: Receiver) -> None:
        await arm(toss, "lose")
        await toss.paid()

        await toss.http.post(f"/sandbox/webhooks/{(await webhooks(toss))[0]['id']}/resend")

        assert await deliver(toss) == (1, 1)

    async def test_duplicate_is_sent_twice(self, toss: Toss, receiver: Receiver) -> None:
        await arm(toss, "duplicate")
        await toss.paid()

        assert await deliver(toss) == (2, 2)

        first, second = receiver.received
        assert first.body == second.body
        [webhook] = await webhooks(toss)
        assert (webhook["state"], len(webhook["attempts"])) == ("DELIVERED", 2)

    async def test_later_event_overtakes(self, toss: Toss, receiver: Receiver) -> None:
        await arm(toss, "reorder")
        payment_key = await toss.paid()
        assert await deliver(toss) == (0, 0)

        await toss.cancel(payment_key)

        assert await deliver(toss) == (2, 2)
        assert receiver.statuses == ["CANCELED", "DONE"]

    async def test_event_of_another_payment_does_not_let_it_go(self, toss: Toss, receiver: Receiver) -> None:
        await arm(toss, "reorder", orderId=ORDER)
        await toss.paid()

        await toss.paid("order-000002")

        assert await deliver(toss) == (1, 1)

    @pytest.mark.parametrize(
        ("refuse_with", "told"), [(None, ["DONE", "ABORTED"]), ("REJECT_CARD_PAYMENT", ["ABORTED", "DONE"])]
    )
    async def test_contradiction_follows_by_45_milliseconds(
        self, toss: Toss, receiver: Receiver, refuse_with: str | None, told: list[str]
    ) -> None:
        await arm(toss, "contradict")
        payment_key = await toss.pay(refuseWith=refuse_with)
        await toss.confirm(payment_key)

        assert await deliver(toss) == (2, 2)

        truth, lie = sorted(receiver.received, key=lambda received: received.json["createdAt"])
        assert [truth.status, lie.status] == told
        gap = datetime.fromisoformat(lie.json["createdAt"]) - datetime.fromisoformat(truth.json["createdAt"])
        assert gap.total_seconds() == 0.045
        assert lie.json["data"]["paymentKey"] == payment_key
        assert (lie.json["data"]["failure"] is None) is (lie.status == "DONE")
        assert (await toss.payment(payment_key))["status"] == told[0]

    async def test_callback_of_an_account_is_contradicted_in_its_own_words(
        self, toss: Toss, receiver: Receiver
    ) -> None:
        payment_key = await toss.pay(method="VIRTUAL_ACCOUNT")
        await toss.confirm(payment_key)
        await toss.http.put("/sandbox/webhooks/settings", json={"paymentEvents": False})
        await arm(toss, "contradict", **ANY)

        await toss.control(payment_key, "deposit")
        await toss.control(payment_key, "reverse-deposit")

        statuses = [webhook["status"] for webhook in await webhooks(toss)][2:]
        assert statuses == ["DONE", "WAITING_FOR_DEPOSIT", "WAITING_FOR_DEPOSIT", "DONE"]

    async def test_early_webhook_is_there_before_the_answer(self, toss: Toss, receiver: Receiver) -> None:
        await arm(toss, "early")
        payment_key = await toss.pay()

        await toss.confirm(payment_key)

        assert receiver.statuses == ["DONE"]
        assert await deliver(toss) == (0, 0)

    async def test_early_webhook_is_there_though_the_answer_is_lost(self, toss: Toss, receiver: Receiver) -> None:
        await arm(toss, "early")
        await toss.arm("drop_reply")
        payment_key = await toss.pay()

        with pytest.raises(httpx.RemoteProtocolError):
            await toss.confirm(payment_key)

        assert receiver.statuses == ["DONE"]


class TestArming:
    async def test_fault_strikes_as_often_as_told_and_its_order_only(self, toss: Toss, receiver: Receiver) -> None:
        await arm(toss, "lose", times=2, orderId=ORDER)
        await toss.paid("order-000002")
        payment_key = await toss.paid()
        await toss.cancel(payment_key, cancelAmount=1_000)
        await toss.cancel(payment_key, cancelAmount=1_000)

        assert [webhook["state"] for webhook in await webhooks(toss)] == ["WAITING", "LOST", "LOST", "WAITING"]
        assert (await toss.http.get("/sandbox/webhook-faults")).json() == {"faults": []}

    async def test_faults_are_listed_and_cleared(self, toss: Toss) -> None:
        fault = (await arm(toss, "reorder", probability=0.5, **ANY)).json()
        await arm(toss, "lose")
        assert fault == {"id": fault["id"], "kind": "reorder", "times": None, "probability": 0.5, "orderId": None}

        await toss.http.delete(f"/sandbox/webhook-faults/{fault['id']}")
        left = (await toss.http.get("/sandbox/webhook-faults")).json()["faults"]
        await toss.http.delete("/sandbox/webhook-faults")

        assert [each["kind"] for each in left] == ["lose"]
        assert (await toss.http.get("/sandbox/webhook-faults")).json() == {"faults": []}

    @pytest.mark.parametrize("more", [{"kind": "explode"}, {"times": 0}, {"probability": 0}, {"paymentKey": "x"}])
    async def test_fault_that_could_never_strike_is_refused(self, toss: Toss, more: dict[str, object]) -> None:
        assert (await toss.http.post("/sandbox/webhook-faults", json={"kind": "lose"} | more)).status_code == 422
