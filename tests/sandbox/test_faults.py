import time

import httpx
import pytest

from tests.sandbox.client import ORDER, Toss, code_of, until

KEY = "key-1"


class TestNothingDone:
    """Faults that strike before the effect: the money stays where it is, and the next confirm takes it."""

    @pytest.mark.parametrize("kind", ["drop_before_effect", "reset"])
    async def test_connection_breaks(self, served: Toss, kind: str) -> None:
        payment_key = await served.pay()
        await served.arm(kind)

        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await served.confirm(payment_key, key=KEY)

        assert await served.captured() == 0
        assert (await served.confirm(payment_key, key=KEY)).status_code == 200

    async def test_toss_errors(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("error_before_effect", code="PROVIDER_ERROR")

        assert code_of(await served.confirm(payment_key)) == (400, "PROVIDER_ERROR")
        assert (await served.look_up(payment_key)).json()["status"] == "IN_PROGRESS"
        assert (await served.confirm(payment_key)).status_code == 200

    async def test_error_may_have_any_code_and_status(self, served: Toss) -> None:
        await served.arm("error_before_effect", code="BRAND_NEW_CODE", status=418)

        assert code_of(await served.confirm(await served.pay())) == (418, "BRAND_NEW_CODE")

    async def test_server_errors(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("server_error")

        assert code_of(await served.confirm(payment_key)) == (500, "FAILED_INTERNAL_SYSTEM_PROCESSING")
        assert await served.captured() == 0

    async def test_too_many_requests_say_when_to_come_again(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("too_many_requests", retryAfterSeconds=7)

        answer = await served.confirm(payment_key, key=KEY)

        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert await served.captured() == 0
        assert (await served.confirm(payment_key, key=KEY)).status_code == 200

    async def test_gateway_answers_html(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("html")

        answer = await served.confirm(payment_key)

        assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
        assert await served.captured() == 0


class TestMoneyMoved:
    """Faults that strike after the effect: the money is gone, whatever the client saw."""

    @pytest.mark.parametrize(
        ("kind", "seen"),
        [
            ("drop_reply", httpx.RemoteProtocolError),
            ("reset_after_effect", httpx.ReadError),
            ("truncated_json", httpx.RemoteProtocolError),
        ],
    )
    async def test_reply_is_lost(self, served: Toss, kind: str, seen: type[Exception]) -> None:
        payment_key = await served.pay()
        await served.arm(kind)

        with pytest.raises(seen):
            await served.confirm(payment_key)

        assert await served.captured() == 15_000
        assert (await served.look_up(payment_key)).json()["status"] == "DONE"

    async def test_lost_reply_is_had_under_the_same_key(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("drop_reply")
        with pytest.raises(httpx.RemoteProtocolError):
            await served.confirm(payment_key, key=KEY)

        answer = await served.confirm(payment_key, key=KEY)

        assert (answer.status_code, answer.json()["status"]) == (200, "DONE")
        assert await served.captured() == 15_000

    async def test_server_errors(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("server_error_after_effect", code="UNKNOWN_PAYMENT_ERROR")

        assert code_of(await served.confirm(payment_key, key=KEY)) == (500, "UNKNOWN_PAYMENT_ERROR")
        assert await served.captured() == 15_000
        assert code_of(await served.confirm(payment_key, key=KEY)) == (400, "ALREADY_PROCESSED_PAYMENT")

    async def test_answer_is_no_payment(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("wrong_json")

        answer = await served.confirm(payment_key)

        assert answer.status_code == 200
        assert "paymentKey" not in answer.json()
        assert await served.captured() == 15_000

    async def test_answer_has_another_amount(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("wrong_amount")

        assert (await served.confirm(payment_key)).json()["totalAmount"] == 15_001
        assert await served.captured() == 15_000

    async def test_answer_has_another_order(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("wrong_order")

        assert (await served.confirm(payment_key)).json()["orderId"] != ORDER
        assert (await served.look_up(payment_key)).json()["orderId"] == ORDER


class TestDelay:
    async def test_slow_confirm_takes_effect_after_the_client_has_gone(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("delay", delaySeconds=1)

        with pytest.raises(httpx.ReadTimeout):
            await impatient(served, payment_key)

        assert await served.captured() == 0
        await until(served.captured)

    async def test_slow_reply_comes_after_the_effect(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("delay_reply", delaySeconds=1)

        with pytest.raises(httpx.ReadTimeout):
            await impatient(served, payment_key)

        await until(served.captured)
        assert [call["fault"] for call in await served.calls()] == [None]

    async def test_delay_is_real_time(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("delay", operation="lookup", delaySeconds=0.1)

        started = time.monotonic()
        await served.look_up(payment_key)

        assert time.monotonic() - started >= 0.1

    async def test_delay_and_another_fault_strike_the_same_call(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("delay", delaySeconds=0.01)
        await served.arm("drop_reply")

        with pytest.raises(httpx.RemoteProtocolError):
            await served.confirm(payment_key)

        assert [call["fault"] for call in await served.calls()] == ["delay+drop_reply"]


class TestArming:
    async def test_fault_strikes_as_often_as_told(self, toss: Toss) -> None:
        await toss.arm("server_error", operation="lookup", times=2)
        payment_key = await toss.pay()

        statuses = [(await toss.look_up(payment_key)).status_code for _ in range(3)]

        assert statuses == [500, 500, 200]
        assert (await toss.http.get("/sandbox/faults")).json() == {"faults": []}

    async def test_fault_without_a_number_strikes_until_cleared(self, toss: Toss) -> None:
        fault_id = await toss.arm("server_error", operation="any", times=None)
        payment_key = await toss.pay()
        struck = [(await toss.look_up(payment_key)).status_code for _ in range(3)]

        await toss.http.delete(f"/sandbox/faults/{fault_id}")

        assert struck == [500, 500, 500]
        assert (await toss.look_up(payment_key)).status_code == 200

    async def test_fault_waits_for_its_operation(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.arm("server_error", operation="confirm")

        assert (await toss.look_up(payment_key)).status_code == 200
        assert (await toss.confirm(payment_key)).status_code == 500

    @pytest.mark.parametrize("subject", ["orderId", "paymentKey"])
    async def test_fault_waits_for_its_payment(self, toss: Toss, subject: str) -> None:
        first, second = await toss.pay(), await toss.pay("order-000002")
        await toss.arm("server_error", operation="any", **{subject: {"orderId": "order-000002"}.get(subject, second)})

        assert (await toss.confirm(first)).status_code == 200
        assert (await toss.confirm(second, "order-000002")).status_code == 500

    async def test_look_up_by_key_is_about_its_order(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.arm("server_error", operation="lookup", orderId=ORDER)

        assert (await toss.look_up(payment_key)).status_code == 500

    async def test_fault_strikes_by_chance(self, toss: Toss) -> None:
        await toss.arm("server_error", operation="lookup", times=None, probability=0.5)
        payment_key = await toss.pay()

        statuses = {(await toss.look_up(payment_key)).status_code for _ in range(60)}

        assert statuses == {200, 500}

    async def test_wrong_amount_waits_for_an_answer_with_an_amount(self, toss: Toss) -> None:
        await toss.arm("wrong_amount", operation="any")

        assert (await toss.look_up("no-such-payment")).status_code == 404
        assert (await toss.confirm(await toss.pay())).json()["totalAmount"] == 15_001

    async def test_unauthorized_call_meets_no_fault(self, toss: Toss) -> None:
        await toss.arm("server_error", operation="any")

        answer = await toss.http.get("/v1/payments/some-key")

        assert answer.status_code == 401
        assert len((await toss.http.get("/sandbox/faults")).json()["faults"]) == 1

    async def test_armed_faults_are_listed(self, toss: Toss) -> None:
        fault_id = await toss.arm("too_many_requests", retryAfterSeconds=3, times=None)

        assert (await toss.http.get("/sandbox/faults")).json()["faults"] == [
            {
                "id": fault_id,
                "operation": "confirm",
                "kind": "too_many_requests",
                "times": None,
                "probability": 1.0,
                "orderId": None,
                "paymentKey": None,
                "delaySeconds": None,
                "status": None,
                "code": None,
                "retryAfterSeconds": 3,
            }
        ]

    async def test_all_faults_can_be_cleared(self, toss: Toss) -> None:
        await toss.arm("server_error", times=None)

        await toss.http.delete("/sandbox/faults")

        assert (await toss.confirm(await toss.pay())).status_code == 200

    @pytest.mark.parametrize(
        "fault",
        [
            {"kind": "no_such_kind"},
            {"kind": "server_error", "operation": "refund"},
            {"kind": "server_error", "times": 0},
            {"kind": "server_error", "probability": 0},
            {"kind": "server_error", "probability": 1.1},
            {"kind": "delay", "delaySeconds": -1},
            {"kind": "delay", "delaySeconds": 86_401},
            {"kind": "too_many_requests", "retryAfterSeconds": -1},
            {"kind": "error_before_effect"},
            {"kind": "error_before_effect", "code": ""},
            {"kind": "server_error", "status": 600},
            {"kind": "server_error", "color": "red"},
        ],
    )
    async def test_fault_that_could_never_strike_is_refused(self, toss: Toss, fault: dict[str, object]) -> None:
        answer = await toss.http.post("/sandbox/faults", json={"operation": "confirm", **fault})

        assert answer.status_code == 422


class TestInProcess:
    """Without a connection to break, a broken one is the exception that httpx would raise."""

    @pytest.mark.parametrize(
        ("kind", "seen"),
        [
            ("drop_reply", httpx.RemoteProtocolError),
            ("drop_before_effect", httpx.RemoteProtocolError),
            ("truncated_json", httpx.RemoteProtocolError),
            ("reset", httpx.ReadError),
            ("reset_after_effect", httpx.ReadError),
        ],
    )
    async def test_connection_breaks_as_on_the_wire(self, toss: Toss, kind: str, seen: type[Exception]) -> None:
        payment_key = await toss.pay()
        await toss.arm(kind)

        with pytest.raises(seen):
            await toss.confirm(payment_key)

        assert [call["fault"] for call in await toss.calls()] == [kind]


class TestCallLog:
    async def test_call_without_an_answer_has_no_status(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("drop_reply")
        with pytest.raises(httpx.RemoteProtocolError):
            await served.confirm(payment_key, key=KEY)

        (call,) = await served.calls()

        assert (call["method"], call["path"]) == ("POST", "/v1/payments/confirm")
        assert (call["orderId"], call["paymentKey"], call["idempotencyKey"]) == (ORDER, payment_key, KEY)
        assert (call["status"], call["code"], call["fault"]) == (None, None, "drop_reply")

    async def test_answered_call_has_its_status(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.confirm(payment_key, amount=1)
        await served.look_up(payment_key)
        await served.look_up_order()

        calls = await served.calls()

        assert [(call["status"], call["code"], call["fault"]) for call in calls] == [
            (403, "FORBIDDEN_REQUEST", None),
            (200, None, None),
            (200, None, None),
        ]

    async def test_answer_to_a_client_that_has_gone_counts_as_none(self, served: Toss) -> None:
        payment_key = await served.pay()
        await served.arm("delay_reply", delaySeconds=0.5)
        with pytest.raises(httpx.ReadTimeout):
            await impatient(served, payment_key)

        async def is_over() -> bool:
            return all(call["fault"] for call in await served.calls())

        await until(is_over)
        assert [call["status"] for call in await served.calls()] == [None]

    async def test_calls_can_be_asked_by_payment(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.confirm(payment_key)
        await toss.confirm(await toss.pay("order-000002"), "order-000002")

        calls = (await toss.http.get("/sandbox/calls", params={"paymentKey": payment_key})).json()["calls"]

        assert [call["orderId"] for call in calls] == [ORDER]

    async def test_limit_keeps_the_newest_in_their_order(self, toss: Toss) -> None:
        for number in range(4):
            await toss.look_up_order(f"order-00000{number}")

        calls = (await toss.http.get("/sandbox/calls", params={"limit": 2})).json()["calls"]

        assert [call["orderId"] for call in calls] == ["order-000002", "order-000003"]

    async def test_limit_counts_what_was_asked_for(self, toss: Toss) -> None:
        await toss.look_up_order()
        await toss.look_up_order("order-000002")

        calls = (await toss.http.get("/sandbox/calls", params={"limit": 1, "orderId": ORDER})).json()["calls"]

        assert [call["orderId"] for call in calls] == [ORDER]


async def impatient(served: Toss, payment_key: str) -> httpx.Response:
    """Confirm with a client that hangs up early."""
    async with httpx.AsyncClient(base_url=served.http.base_url, timeout=httpx.Timeout(10, read=0.05)) as http:
        return await Toss(http).confirm(payment_key)
