"""Cancels that go wrong on their way: what the client sees, and what the ledger says."""

import asyncio
import contextlib

import httpx
import pytest

from tests.sandbox.client import ORDER, Toss, code_of, until
from tests.sandbox.conftest import sandbox_in_process
from tests.sandbox.test_test_codes import DOCUMENTED
from toss_sandbox.errors import CODES
from toss_sandbox.faults import FaultKind
from toss_sandbox.settings import Settings

KEY = "key-1"
LOST = (httpx.RemoteProtocolError, httpx.ReadError)

# Toss's table of the cancel API.
CANCEL_CODES = {
    400: """
        ALREADY_CANCELED_PAYMENT INVALID_REFUND_ACCOUNT_INFO INVALID_REFUND_ACCOUNT_NUMBER INVALID_BANK
        EXCEED_CANCEL_AMOUNT_DISCOUNT_AMOUNT NOT_MATCHES_REFUNDABLE_AMOUNT INVALID_REQUEST PROVIDER_ERROR
        REFUND_REJECTED ALREADY_REFUND_PAYMENT FORBIDDEN_BANK_REFUND_REQUEST
    """,
    401: "UNAUTHORIZED_KEY",
    403: """
        NOT_CANCELABLE_AMOUNT NOT_CANCELABLE_PAYMENT NOT_CANCELABLE_PAYMENT_FOR_DORMANT_USER
        FORBIDDEN_CONSECUTIVE_REQUEST FORBIDDEN_REQUEST EXCEED_MAX_REFUND_DUE NOT_ALLOWED_PARTIAL_REFUND
        NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT NOT_AVAILABLE_BANK INCORRECT_BASIC_AUTH_FORMAT EXCEED_CANCEL_LIMIT
    """,
    404: "NOT_FOUND_PAYMENT",
    500: """
        FAILED_INTERNAL_SYSTEM_PROCESSING FAILED_REFUND_PROCESS FAILED_METHOD_HANDLING_CANCEL FAILED_PARTIAL_REFUND
        COMMON_ERROR FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING
    """,
}
CASES = [(status, code) for status, codes in CANCEL_CODES.items() for code in codes.split()]


class TestTestCode:
    @pytest.mark.parametrize(("status", "code"), CASES)
    async def test_code_is_answered_with_its_status(self, toss: Toss, status: int, code: str) -> None:
        payment_key = await toss.paid()

        answer = await toss.cancel(payment_key, test_code=code)

        assert code_of(answer) == (status, code)
        assert answer.json()["message"] == CODES[code][1]
        assert await toss.held() == 15_000

    def test_table_is_whole(self) -> None:
        assert len(CASES) == 30
        assert {code for _, code in CASES} <= {code for codes in DOCUMENTED.values() for code in codes.split()}


class TestNothingDone:
    @pytest.mark.parametrize("kind", ["drop_before_effect", "reset"])
    async def test_connection_breaks(self, served: Toss, kind: str) -> None:
        payment_key = await served.paid()
        await served.arm(kind, "cancel")

        with pytest.raises(LOST):
            await served.cancel(payment_key, key=KEY)

        assert await served.held() == 15_000
        assert (await served.cancel(payment_key, key=KEY)).json()["status"] == "CANCELED"

    @pytest.mark.parametrize(
        ("kind", "status", "more"),
        [
            ("error_before_effect", 400, {"code": "PROVIDER_ERROR"}),
            ("server_error", 500, {}),
            ("too_many_requests", 429, {}),
            ("html", 502, {}),
        ],
    )
    async def test_error_leaves_the_money(self, toss: Toss, kind: str, status: int, more: dict[str, str]) -> None:
        payment_key = await toss.paid()
        await toss.arm(kind, "cancel", **more)

        answer = await toss.cancel(payment_key)

        assert answer.status_code == status
        assert await toss.held() == 15_000
        assert (await toss.payment(payment_key))["cancels"] is None

    async def test_error_waits_for_a_cancel_that_passes_the_checks(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        await toss.arm("server_error", "cancel")

        assert (await toss.cancel(payment_key, cancelAmount=15_001)).status_code == 403
        assert (await toss.cancel(payment_key)).status_code == 500

    async def test_temporary_refusal_comes_again_under_its_key(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        await toss.arm("error_before_effect", "cancel", code="NOT_AVAILABLE_BANK")

        answers = [await toss.cancel(payment_key, key=KEY) for _ in range(2)]

        assert [code_of(answer) for answer in answers] == [(403, "NOT_AVAILABLE_BANK")] * 2
        assert (await toss.cancel(payment_key, key="key-2")).status_code == 200


class TestMoneyGivenBack:
    @pytest.mark.parametrize("kind", ["drop_reply", "reset_after_effect", "truncated_json"])
    async def test_lost_reply_is_had_under_the_same_key(self, served: Toss, kind: str) -> None:
        payment_key = await served.paid()
        await served.arm(kind, "cancel")
        with pytest.raises(LOST):
            await served.cancel(payment_key, key=KEY, cancelAmount=4_000)

        again = await served.cancel(payment_key, key=KEY, cancelAmount=4_000)

        assert (again.status_code, again.json()["balanceAmount"]) == (200, 11_000)
        assert await served.held() == 11_000

    async def test_lost_reply_is_found_by_a_look_up(self, served: Toss) -> None:
        payment_key = await served.paid()
        await served.arm("drop_reply", "cancel")
        with pytest.raises(LOST):
            await served.cancel(payment_key, cancelAmount=4_000)

        payment = await served.payment(payment_key)

        assert [cancel["cancelAmount"] for cancel in payment["cancels"]] == [4_000]

    async def test_server_error_hides_the_effect(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        await toss.arm("server_error_after_effect", "cancel", code="FAILED_REFUND_PROCESS")

        answer = await toss.cancel(payment_key, key=KEY)

        assert code_of(answer) == (500, "FAILED_REFUND_PROCESS")
        assert await toss.held() == 0

    async def test_only_the_believed_balance_saves_from_a_second_refund(self, toss: Toss) -> None:
        careful, careless = await toss.paid(), await toss.paid("order-000002")
        await toss.arm("server_error_after_effect", "cancel", times=2)
        lock = {"cancelAmount": 4_000, "refundableAmount": 15_000}
        await toss.cancel(careful, lock, key=KEY)
        await toss.cancel(careless, key=KEY, cancelAmount=4_000)

        locked = await toss.cancel(careful, lock, key=KEY)
        doubled = await toss.cancel(careless, key=KEY, cancelAmount=4_000)

        assert code_of(locked) == (400, "NOT_MATCHES_REFUNDABLE_AMOUNT")
        assert doubled.status_code == 200
        assert (await toss.held(), await toss.held("order-000002")) == (11_000, 7_000)

    async def test_answer_is_no_payment(self, toss: Toss) -> None:
        await toss.arm("wrong_json", "cancel")

        answer = await toss.cancel(await toss.paid())

        assert (answer.status_code, answer.json()) == (200, {"result": "OK"})
        assert await toss.held() == 0

    async def test_answer_has_another_total(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        await toss.arm("wrong_amount", "cancel")

        answer = (await toss.cancel(payment_key, cancelAmount=1_000)).json()

        assert (answer["totalAmount"], answer["balanceAmount"]) == (15_001, 14_000)
        assert (await toss.payment(payment_key))["totalAmount"] == 15_000

    async def test_answer_has_another_order(self, toss: Toss) -> None:
        await toss.arm("wrong_order", "cancel")

        assert (await toss.cancel(await toss.paid())).json()["orderId"] != ORDER

    async def test_slow_cancel_takes_effect_after_the_client_has_gone(self, served: Toss) -> None:
        payment_key = await served.paid()
        await served.arm("delay", "cancel", delaySeconds=0.3)

        with pytest.raises(httpx.ReadTimeout):
            await impatient(served, payment_key)

        assert await served.held() == 15_000
        await until(lambda: has_given_back(served))

    async def test_slow_reply_comes_after_the_effect(self, served: Toss) -> None:
        payment_key = await served.paid()
        await served.arm("delay_reply", "cancel", delaySeconds=0.3)

        with pytest.raises(httpx.ReadTimeout):
            await impatient(served, payment_key)

        await until(lambda: has_given_back(served))

    @pytest.mark.parametrize("kind", FaultKind)
    async def test_every_kind_can_wait_for_a_cancel(self, toss: Toss, kind: FaultKind) -> None:
        payment_key = await toss.paid()
        await toss.arm(kind, "cancel", code="PROVIDER_ERROR", delaySeconds=0)

        with contextlib.suppress(*LOST):
            await toss.cancel(payment_key)

        assert (await toss.calls())[-1]["fault"] == kind
        assert (await toss.http.get("/sandbox/faults")).json() == {"faults": []}


class TestArming:
    async def test_other_operations_leave_it_alone(self, toss: Toss) -> None:
        await toss.arm("server_error", "cancel")

        payment_key = await toss.paid()

        assert (await toss.look_up(payment_key)).status_code == 200
        assert (await toss.cancel(payment_key)).status_code == 500

    @pytest.mark.parametrize("subject", ["orderId", "paymentKey"])
    async def test_fault_waits_for_its_payment(self, toss: Toss, subject: str) -> None:
        first, second = await toss.paid(), await toss.paid("order-000002")
        await toss.arm("server_error", "cancel", **{subject: {"orderId": "order-000002"}.get(subject, second)})

        assert (await toss.cancel(first)).status_code == 200
        assert (await toss.cancel(second)).status_code == 500

    async def test_call_is_on_record(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        await toss.cancel(payment_key, key=KEY)

        call = (await toss.calls())[-1]

        assert (call["method"], call["path"]) == ("POST", f"/v1/payments/{payment_key}/cancel")
        assert (call["orderId"], call["paymentKey"], call["idempotencyKey"]) == (ORDER, payment_key, KEY)
        assert (call["status"], call["code"]) == (200, None)


class TestReplay:
    async def test_first_answer_comes_again_byte_by_byte(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        first = await toss.cancel(payment_key, key=KEY, cancelAmount=1_000)
        await toss.cancel(payment_key, key="key-2", cancelAmount=2_000)

        again = await toss.cancel(payment_key, key=KEY, cancelAmount=1_000)

        assert (again.status_code, again.content) == (200, first.content)
        assert await toss.ledger() == {"captures": [15_000], "reversals": [], "cancels": [1_000, 2_000]}

    async def test_body_is_not_part_of_the_request(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        first = await toss.cancel(payment_key, key=KEY, cancelAmount=1_000)

        again = await toss.cancel(payment_key, key=KEY, cancelAmount=9_000)

        assert again.content == first.content
        assert await toss.held() == 14_000

    @pytest.mark.parametrize(
        ("wrong", "status"),
        [({"cancelAmount": 15_001}, 403), ({"cancelAmount": 0}, 400), ({"refundableAmount": 1}, 400)],
    )
    async def test_refusal_comes_again_even_for_a_corrected_body(
        self, toss: Toss, wrong: dict[str, int], status: int
    ) -> None:
        payment_key = await toss.paid()
        first = await toss.cancel(payment_key, wrong, key=KEY)

        again = await toss.cancel(payment_key, key=KEY)

        assert (first.status_code, again.status_code) == (status, status)
        assert again.content == first.content
        assert (await toss.cancel(payment_key, key="key-2")).status_code == 200

    async def test_same_key_for_another_payment_is_another_request(self, toss: Toss) -> None:
        first, second = await toss.paid(), await toss.paid("order-000002")

        await toss.cancel(first, key=KEY)

        assert (await toss.cancel(second, key=KEY)).json()["paymentKey"] == second
        assert (await toss.held(), await toss.held("order-000002")) == (0, 0)

    async def test_key_of_the_confirm_is_another_request(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.confirm(payment_key, key=KEY)

        assert (await toss.cancel(payment_key, key=KEY)).json()["status"] == "CANCELED"

    async def test_key_is_forgotten_after_fifteen_days(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        await toss.cancel(payment_key, key=KEY, cancelAmount=1_000)

        await toss.move_clock(days=15)
        await toss.cancel(payment_key, key=KEY, cancelAmount=1_000)

        assert await toss.held() == 13_000

    async def test_replay_shows_the_refund_as_it_was_then(self, toss: Toss) -> None:
        account = {"bank": "88", "accountNumber": "110123456789", "holderName": "김토스"}
        payment_key = await toss.paid(method="VIRTUAL_ACCOUNT")
        first = await toss.cancel(payment_key, key=KEY, refundReceiveAccount=account)
        await toss.control(payment_key, "finish-account-refund", succeeded=True)

        again = await toss.cancel(payment_key, key=KEY, refundReceiveAccount=account)

        assert again.content == first.content
        assert again.json()["virtualAccount"]["refundStatus"] == "NONE"

    async def test_server_error_comes_again_where_told_so(self) -> None:
        async with sandbox_in_process(Settings(replays_server_errors=True)) as toss:
            payment_key = await toss.paid()
            await toss.arm("server_error_after_effect", "cancel")

            statuses = [(await toss.cancel(payment_key, key=KEY, cancelAmount=1_000)).status_code for _ in range(2)]

            assert statuses == [500, 500]
            assert await toss.held() == 14_000


class TestAtOnce:
    async def test_same_key_conflicts_while_the_first_runs(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        await toss.arm("delay", "cancel", delaySeconds=0.3)
        first = asyncio.create_task(toss.cancel(payment_key, key=KEY))
        await until(lambda: has_calls(toss, 2))

        second = await toss.cancel(payment_key, key=KEY)

        assert code_of(second) == (409, "IDEMPOTENT_REQUEST_PROCESSING")
        assert (await first).status_code == 200
        assert await toss.held() == 0

    async def test_two_full_cancels_give_back_once(self, served: Toss) -> None:
        payment_key = await served.paid()
        await served.arm("delay", "cancel", delaySeconds=0.1, times=2)

        answers = await asyncio.gather(*(served.cancel(payment_key, key=key) for key in ("key-1", "key-2")))

        assert sorted(answer.status_code for answer in answers) == [200, 400]
        assert await served.ledger() == {"captures": [15_000], "reversals": [], "cancels": [15_000]}

    async def test_two_with_the_same_belief_give_back_once(self, served: Toss) -> None:
        payment_key = await served.paid()
        await served.arm("delay", "cancel", delaySeconds=0.1, times=2)

        answers = await asyncio.gather(
            *(
                served.cancel(payment_key, key=key, cancelAmount=4_000, refundableAmount=15_000)
                for key in ("k-1", "k-2")
            )
        )

        refused = [answer for answer in answers if answer.status_code != 200]
        assert [code_of(answer) for answer in refused] == [(400, "NOT_MATCHES_REFUNDABLE_AMOUNT")]
        assert await served.held() == 11_000

    async def test_many_parts_never_exceed_the_balance(self, served: Toss) -> None:
        payment_key = await served.paid(amount=10_000)

        answers = await asyncio.gather(
            *(served.cancel(payment_key, key=f"key-{number}", cancelAmount=3_000) for number in range(10))
        )

        assert sorted(answer.status_code for answer in answers) == [200] * 3 + [403] * 7
        assert await served.ledger() == {"captures": [10_000], "reversals": [], "cancels": [3_000] * 3}
        assert (await served.payment(payment_key))["balanceAmount"] == 1_000

    async def test_cancel_checks_again_when_its_turn_comes(self, toss: Toss) -> None:
        payment_key = await toss.pay(method="VIRTUAL_ACCOUNT")
        await toss.confirm(payment_key)
        await toss.arm("delay", "cancel", delaySeconds=0.2)
        giving_up = asyncio.create_task(toss.cancel(payment_key))
        await until(lambda: has_calls(toss, 2))

        await toss.control(payment_key, "deposit")

        assert code_of(await giving_up) == (400, "INVALID_REFUND_ACCOUNT_INFO")
        assert await toss.held() == 15_000


async def has_given_back(toss: Toss) -> bool:
    return await toss.held() == 0


async def has_calls(toss: Toss, number: int) -> bool:
    return len(await toss.calls()) == number


async def impatient(served: Toss, payment_key: str) -> httpx.Response:
    """Cancel with a client that hangs up early."""
    async with httpx.AsyncClient(base_url=served.http.base_url, timeout=httpx.Timeout(10, read=0.05)) as http:
        return await Toss(http).cancel(payment_key)
