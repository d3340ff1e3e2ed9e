import asyncio

import pytest

from tests.sandbox.client import API_KEY, ORDER, Toss, code_of, until
from tests.sandbox.conftest import sandbox_in_process
from toss_sandbox.settings import Settings

RUNNING = {"code": "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING", "message": "[S008] 기존 요청을 처리중입니다."}


class TestConfirm:
    async def test_confirm_moves_the_money(self, toss: Toss) -> None:
        payment_key = await toss.pay(amount=15_000)

        answer = await toss.confirm(payment_key, amount=15_000)

        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json;charset=UTF-8"
        assert (answer.json()["status"], answer.json()["totalAmount"]) == ("DONE", 15_000)
        ledger = (await toss.http.get("/sandbox/ledger")).json()
        assert ledger == {
            "captures": [
                {
                    "paymentKey": payment_key,
                    "orderId": ORDER,
                    "amount": 15_000,
                    "transactionKey": answer.json()["lastTransactionKey"],
                    "at": answer.json()["approvedAt"],
                }
            ],
            "cancels": [],
            "reversals": [],
        }

    async def test_virtual_account_waits_without_money(self, toss: Toss) -> None:
        payment_key = await toss.pay(method="VIRTUAL_ACCOUNT")

        answer = await toss.confirm(payment_key)

        assert answer.json()["status"] == "WAITING_FOR_DEPOSIT"
        assert answer.json()["approvedAt"] is None
        assert await toss.captured() == 0

    async def test_second_confirm_is_already_processed(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.confirm(payment_key)

        again = await toss.confirm(payment_key)

        assert again.json() == {"code": "ALREADY_PROCESSED_PAYMENT", "message": "이미 처리된 결제 입니다."}
        assert again.status_code == 400
        assert await toss.captured() == 15_000

    async def test_second_confirm_while_the_first_runs_meets_s008(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.arm("delay", delaySeconds=0.5)
        first = asyncio.create_task(toss.confirm(payment_key))
        await until(toss.calls)

        second = await toss.confirm(payment_key)

        assert (second.status_code, second.json()) == (500, RUNNING)
        assert (await first).status_code == 200
        assert await toss.captured() == 15_000

    async def test_refused_payment_is_aborted_with_its_failure(self, toss: Toss) -> None:
        payment_key = await toss.pay(refuseWith="REJECT_CARD_COMPANY")

        answer = await toss.confirm(payment_key)

        failure = {"code": "REJECT_CARD_COMPANY", "message": "결제 승인이 거절되었습니다."}
        assert (answer.status_code, answer.json()) == (403, failure)
        payment = (await toss.look_up(payment_key)).json()
        assert (payment["status"], payment["failure"]) == ("ABORTED", failure)
        assert await toss.captured() == 0

    async def test_aborted_payment_cannot_be_confirmed(self, toss: Toss) -> None:
        payment_key = await toss.pay(refuseWith="REJECT_CARD_PAYMENT")
        await toss.confirm(payment_key)

        assert code_of(await toss.confirm(payment_key)) == (400, "ALREADY_PROCESSED_PAYMENT")

    @pytest.mark.parametrize(("order_id", "amount"), [("order-000002", 15_000), (ORDER, 14_999)])
    async def test_confirm_of_something_else_is_forbidden(self, toss: Toss, order_id: str, amount: int) -> None:
        payment_key = await toss.pay(amount=15_000)

        assert code_of(await toss.confirm(payment_key, order_id, amount=amount)) == (403, "FORBIDDEN_REQUEST")
        assert (await toss.confirm(payment_key)).status_code == 200

    async def test_unknown_payment_is_not_found(self, toss: Toss) -> None:
        assert code_of(await toss.confirm("no-such-payment")) == (404, "NOT_FOUND_PAYMENT")

    async def test_unauthenticated_payment_has_no_session(self, toss: Toss) -> None:
        payment_key = await toss.pay(leaveReady=True)

        assert code_of(await toss.confirm(payment_key)) == (404, "NOT_FOUND_PAYMENT_SESSION")

    async def test_second_payment_of_a_paid_order_is_a_duplicate(self, toss: Toss) -> None:
        first, second = await toss.pay(), await toss.pay()
        await toss.confirm(first)

        assert code_of(await toss.confirm(second)) == (400, "DUPLICATED_ORDER_ID")
        assert await toss.captured() == 15_000

    async def test_duplicate_orders_are_taken_where_told_so(self) -> None:
        async with sandbox_in_process(Settings(refuses_duplicate_orders=False)) as toss:
            for payment_key in (await toss.pay(), await toss.pay()):
                assert (await toss.confirm(payment_key)).status_code == 200

            assert await toss.captured() == 30_000

    @pytest.mark.parametrize(
        ("method", "amount", "code"),
        [
            ("CARD", 99, "BELOW_MINIMUM_AMOUNT"),
            ("TRANSFER", 199, "BELOW_MINIMUM_AMOUNT"),
            ("TRANSFER", 10_000_001, "EXCEEDS_TRANSFER_AMOUNT_MAXIMUM"),
        ],
    )
    async def test_amount_outside_the_limits_is_refused(self, toss: Toss, method: str, amount: int, code: str) -> None:
        payment_key = await toss.pay(method=method, amount=amount)

        assert code_of(await toss.confirm(payment_key, amount=amount)) == (400, code)

    @pytest.mark.parametrize(("method", "amount"), [("CARD", 100), ("TRANSFER", 200), ("TRANSFER", 10_000_000)])
    async def test_amount_at_the_limit_is_taken(self, toss: Toss, method: str, amount: int) -> None:
        payment_key = await toss.pay(method=method, amount=amount)

        assert (await toss.confirm(payment_key, amount=amount)).status_code == 200

    async def test_twenty_simultaneous_confirms_capture_once(self, served: Toss) -> None:
        payment_key = await served.pay()

        answers = await asyncio.gather(*(served.confirm(payment_key) for _ in range(20)))

        statuses = sorted(answer.status_code for answer in answers)
        assert statuses.count(200) == 1
        assert {answer.json()["code"] for answer in answers if answer.status_code != 200} <= {
            "ALREADY_PROCESSED_PAYMENT",
            RUNNING["code"],
        }
        assert await served.captured() == 15_000

    async def test_abandoned_confirm_is_carried_through(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.arm("delay", delaySeconds=0.05)
        confirm = asyncio.create_task(toss.confirm(payment_key))
        await until(toss.calls)

        confirm.cancel()

        await until(toss.captured)
        assert [(call["status"], call["fault"]) for call in await toss.calls()] == [(None, "delay")]


class TestConfirmBody:
    @pytest.mark.parametrize("amount", ["15000", 15_000.0])
    async def test_amount_may_be_a_string_of_digits(self, toss: Toss, amount: object) -> None:
        payment_key = await toss.pay(amount=15_000)

        assert (await toss.confirm(payment_key, amount=amount)).status_code == 200

    @pytest.mark.parametrize("amount", [None, 0, -1, True, "1e3", "15,000", 15_000.5, [15_000]])
    async def test_amount_that_is_none_is_refused(self, toss: Toss, amount: object) -> None:
        payment_key = await toss.pay()

        assert code_of(await toss.confirm(payment_key, amount=amount)) == (400, "INVALID_REQUEST")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b'"text"',
            b"{}",
            b"\xff\xfe",
            b'{"paymentKey": 1}',
            b'{"orderId": "\\ud800"}',
            b"[" * 9_999,
        ],
    )
    async def test_body_that_is_no_confirm_is_refused(self, toss: Toss, body: bytes) -> None:
        answer = await toss.http.post("/v1/payments/confirm", content=body, auth=API_KEY)

        assert answer.json() == {"code": "INVALID_REQUEST", "message": "잘못된 요청입니다."}
        assert answer.status_code == 400

    @pytest.mark.parametrize("order_id", ["short", "o" * 65, "order 000001", "주문-000001"])
    async def test_order_id_outside_the_rules_is_refused(self, toss: Toss, order_id: str) -> None:
        payment_key = await toss.pay()

        assert code_of(await toss.confirm(payment_key, order_id)) == (400, "INVALID_REQUEST")

    async def test_bad_fields_are_named_where_told_so(self) -> None:
        async with sandbox_in_process(Settings(specific_field_codes=True)) as toss:
            payment_key = await toss.pay()

            assert code_of(await toss.confirm("k" * 201)) == (400, "INVALID_PAYMENT_KEY")
            assert code_of(await toss.confirm(payment_key, "short")) == (400, "INVALID_ORDER_ID")
            assert code_of(await toss.confirm(payment_key, amount=None)) == (400, "REQUIRED_AMOUNT")

    async def test_unknown_fields_are_ignored(self, toss: Toss) -> None:
        payment_key = await toss.pay()

        answer = await toss.http.post(
            "/v1/payments/confirm",
            json={"paymentKey": payment_key, "orderId": ORDER, "amount": 15_000, "paymentType": "NORMAL"},
            auth=API_KEY,
        )

        assert answer.status_code == 200
