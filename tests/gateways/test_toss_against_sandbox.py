"""The client and the sandbox over real HTTP: two readings of the same documents have to agree."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from payments.gateways.breaker import Breaker
from payments.gateways.pg import (
    Answer,
    Approved,
    CancelAnswer,
    Cancelled,
    Declined,
    DepositAwaited,
    PgPayment,
    PgStatus,
    RefundAccount,
    RefundAnswer,
    Refunded,
    RefundOrder,
    RefundRefused,
    RefusedBecause,
    TransactionPage,
    Unknown,
    UnknownBecause,
)
from payments.gateways.toss import TossClient
from payments.gateways.toss_lists import TRANSACTIONS_LIMIT
from tests.sandbox.conftest import running_sandbox
from toss_sandbox.settings import Settings

AMOUNT = 15_000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_sandbox() as url:
        yield url


@pytest.fixture
async def control(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url) as control:
        await control.post("/sandbox/reset")
        yield control


@pytest.fixture
async def client(url: str) -> AsyncIterator[TossClient]:
    async with TossClient(
        base_url=url,
        secret_key=Settings().secret_key,
        read_timeout=timedelta(seconds=5),
        breaker=Breaker(failures=1_000, pause=timedelta(seconds=1)),
        cancel_breaker=Breaker(failures=1_000, pause=timedelta(seconds=1)),
    ) as client:
        yield client


@pytest.fixture
def order_id() -> str:
    return f"order-{uuid4().hex}"


async def authenticate(control: httpx.AsyncClient, order_id: str, **choices: str) -> str:
    """What a buyer does in the payment window; returns the payment key."""
    created = await control.post("/sandbox/payments", json={"orderId": order_id, "amount": AMOUNT, **choices})
    assert created.status_code == 201, created.text
    key: str = created.json()["paymentKey"]
    return key


async def break_next(control: httpx.AsyncClient, operation: str, kind: str, **details: str | int) -> None:
    made = await control.post("/sandbox/faults", json={"operation": operation, "kind": kind, **details})
    assert made.status_code == 201, made.text


async def captured(control: httpx.AsyncClient, order_id: str) -> list[int]:
    ledger = (await control.get("/sandbox/ledger", params={"orderId": order_id})).json()
    return [capture["amount"] for capture in ledger["captures"]]


async def confirm(client: TossClient, payment_key: str, order_id: str) -> Answer:
    return await client.confirm(payment_key, order_id=order_id, amount=AMOUNT, idempotency_key=f"attempt-{order_id}")


async def look_up(client: TossClient, payment_key: str, order_id: str) -> Answer:
    return await client.look_up(payment_key, order_id=order_id, amount=AMOUNT)


def because(answer: Answer | RefundAnswer | CancelAnswer) -> UnknownBecause:
    assert isinstance(answer, Unknown), answer
    return answer.because


def approved(answer: Answer) -> PgPayment:
    assert isinstance(answer, Approved), answer
    return answer.payment


class TestConfirm:
    @pytest.mark.parametrize("method", ["CARD", "TRANSFER", "EASY_PAY", "MOBILE_PHONE", "GIFT_CERTIFICATE"])
    async def test_an_authenticated_payment_is_approved(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str, method: str
    ) -> None:
        key = await authenticate(control, order_id, method=method)

        payment = approved(await confirm(client, key, order_id))

        assert (payment.payment_key, payment.order_id, payment.total_amount) == (key, order_id, AMOUNT)
        assert payment.approved_at is not None
        assert payment.secret
        assert payment.receipt_url
        assert payment.easy_pay is (method == "EASY_PAY")
        assert await captured(control, order_id) == [AMOUNT]

    async def test_a_virtual_account_awaits_its_deposit(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id, method="VIRTUAL_ACCOUNT")

        answer = await confirm(client, key, order_id)

        assert isinstance(answer, DepositAwaited)
        assert answer.payment.virtual_account is not None
        assert answer.payment.virtual_account.account_number
        assert answer.payment.virtual_account.due_at is not None
        assert await captured(control, order_id) == []

    async def test_a_refused_card_is_declined_with_the_pgs_words(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id, refuseWith="REJECT_CARD_COMPANY")

        answer = await confirm(client, key, order_id)

        assert answer == Declined(code="REJECT_CARD_COMPANY", message="결제 승인이 거절되었습니다.")
        assert isinstance(await look_up(client, key, order_id), Declined)

    async def test_repeated_with_its_key_it_is_approved_again_and_captured_once(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)

        first = await confirm(client, key, order_id)
        second = await confirm(client, key, order_id)

        assert approved(first) == approved(second)
        assert await captured(control, order_id) == [AMOUNT]

    async def test_confirmed_under_another_key_it_is_to_be_looked_up(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)
        await confirm(client, key, order_id)

        answer = await client.confirm(key, order_id=order_id, amount=AMOUNT, idempotency_key="another")

        assert isinstance(answer, Unknown)
        assert answer.code == "ALREADY_PROCESSED_PAYMENT"
        assert isinstance(await look_up(client, key, order_id), Approved)

    async def test_another_amount_is_not_captured(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)

        answer = await client.confirm(key, order_id=order_id, amount=AMOUNT - 1, idempotency_key="cheaper")

        assert isinstance(answer, Unknown)
        assert await captured(control, order_id) == []

    async def test_after_ten_minutes_it_is_declined(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)
        await control.post("/sandbox/clock", json={"advanceSeconds": 601})

        answer = await confirm(client, key, order_id)

        assert isinstance(answer, Declined)
        assert answer.code == "NOT_FOUND_PAYMENT_SESSION"

    async def test_a_wrong_secret_key_is_for_an_operator(
        self, url: str, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)

        async with TossClient(base_url=url, secret_key="test_sk_of_somebody_else") as stranger:
            answer = await confirm(stranger, key, order_id)

        assert because(answer) is UnknownBecause.MISCONFIGURED


class TestLookUp:
    async def test_before_the_confirm_it_is_in_progress(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)

        assert because(await look_up(client, key, order_id)) is UnknownBecause.IN_PROGRESS

    async def test_the_order_leads_to_the_payment(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)
        await confirm(client, key, order_id)

        assert approved(await client.look_up_order(order_id, amount=AMOUNT)).payment_key == key

    @pytest.mark.usefixtures("control")
    async def test_what_toss_does_not_know_is_not_found(self, client: TossClient, order_id: str) -> None:
        assert because(await look_up(client, "nobodys-key", order_id)) is UnknownBecause.NOT_FOUND
        assert because(await client.look_up_order(order_id, amount=AMOUNT)) is UnknownBecause.NOT_FOUND

    async def test_an_expired_payment_is_declined(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)
        await control.post(f"/sandbox/payments/{key}/expire")

        answer = await look_up(client, key, order_id)

        assert isinstance(answer, Declined)
        assert answer.code == "EXPIRED_PAYMENT"

    async def test_another_amount_is_a_mismatch(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)
        await confirm(client, key, order_id)

        answer = await client.look_up(key, order_id=order_id, amount=AMOUNT + 1)

        assert because(answer) is UnknownBecause.MISMATCH


CAPTURED = [
    ("drop_reply", UnknownBecause.NO_ANSWER),
    ("reset_after_effect", UnknownBecause.NO_ANSWER),
    ("server_error_after_effect", UnknownBecause.PG_ERROR),
    ("wrong_json", UnknownBecause.MALFORMED),
    ("wrong_amount", UnknownBecause.MISMATCH),
    ("wrong_order", UnknownBecause.MISMATCH),
]
NOT_CAPTURED = [
    ("drop_before_effect", UnknownBecause.NO_ANSWER),
    ("reset", UnknownBecause.NO_ANSWER),
    ("server_error", UnknownBecause.PG_ERROR),
    ("too_many_requests", UnknownBecause.ASK_AGAIN),
    ("html", UnknownBecause.PG_ERROR),
]


class TestBrokenAnswer:
    @pytest.mark.parametrize(("kind", "reason"), CAPTURED)
    async def test_a_capture_whose_answer_is_broken_is_unknown_until_it_is_looked_up(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str, *, kind: str, reason: UnknownBecause
    ) -> None:
        key = await authenticate(control, order_id)
        await break_next(control, "confirm", kind)

        answer = await confirm(client, key, order_id)

        assert because(answer) is reason
        assert await captured(control, order_id) == [AMOUNT]
        assert isinstance(await look_up(client, key, order_id), Approved)

    async def test_half_an_answer_is_unknown_until_it_is_looked_up(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)
        await break_next(control, "confirm", "truncated_json")

        answer = await confirm(client, key, order_id)

        # Which of the two depends on whether the length was announced.
        assert because(answer) in {UnknownBecause.MALFORMED, UnknownBecause.NO_ANSWER}
        assert isinstance(await look_up(client, key, order_id), Approved)

    @pytest.mark.parametrize(("kind", "reason"), NOT_CAPTURED)
    async def test_a_confirm_without_effect_is_unknown_and_succeeds_when_repeated(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str, *, kind: str, reason: UnknownBecause
    ) -> None:
        key = await authenticate(control, order_id)
        await break_next(control, "confirm", kind)

        answer = await confirm(client, key, order_id)

        assert because(answer) is reason
        assert because(await look_up(client, key, order_id)) is UnknownBecause.IN_PROGRESS
        assert isinstance(await confirm(client, key, order_id), Approved)
        assert await captured(control, order_id) == [AMOUNT]

    async def test_the_wait_that_toss_asks_for_is_passed_on(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)
        await break_next(control, "confirm", "too_many_requests", retryAfterSeconds=9)

        answer = await confirm(client, key, order_id)

        assert isinstance(answer, Unknown)
        assert answer.retry_after == timedelta(seconds=9)

    async def test_a_slow_capture_is_unknown_until_it_is_looked_up(
        self, url: str, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await authenticate(control, order_id)
        await break_next(control, "confirm", "delay", delaySeconds=1)

        async with TossClient(
            base_url=url, secret_key=Settings().secret_key, read_timeout=timedelta(seconds=0.2)
        ) as hasty:
            answer = await confirm(hasty, key, order_id)

        assert because(answer) is UnknownBecause.NO_ANSWER
        assert not isinstance(await look_up(client, key, order_id), Declined)

    @pytest.mark.parametrize("kind", [kind for kind, _ in CAPTURED + NOT_CAPTURED])
    async def test_a_broken_look_up_never_declines(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str, kind: str
    ) -> None:
        key = await authenticate(control, order_id)
        await confirm(client, key, order_id)
        await break_next(control, "lookup", kind)

        assert isinstance(await look_up(client, key, order_id), Unknown)
        assert isinstance(await look_up(client, key, order_id), Approved)


ACCOUNT = RefundAccount(bank="88", account_number="110123456789", holder_name="박환불")


async def act(control: httpx.AsyncClient, payment_key: str, action: str, **details: int | str | bool) -> None:
    """What happens to a payment outside of the API: at the bank, in the console."""
    done = await control.post(f"/sandbox/payments/{payment_key}/{action}", json=details)
    assert done.status_code == 200, done.text


async def given_back(control: httpx.AsyncClient, order_id: str) -> list[int]:
    ledger = (await control.get("/sandbox/ledger", params={"orderId": order_id})).json()
    return [cancel["amount"] for cancel in ledger["cancels"]]


async def a_captured_payment(
    client: TossClient, control: httpx.AsyncClient, order_id: str, **choices: str | int | bool
) -> str:
    created = await control.post("/sandbox/payments", json={"orderId": order_id, "amount": AMOUNT, **choices})
    assert created.status_code == 201, created.text
    key: str = created.json()["paymentKey"]
    approved(await confirm(client, key, order_id))
    return key


async def a_waiting_account(client: TossClient, control: httpx.AsyncClient, order_id: str) -> str:
    key = await authenticate(control, order_id, method="VIRTUAL_ACCOUNT")
    assert isinstance(await confirm(client, key, order_id), DepositAwaited)
    return key


async def a_paid_account(client: TossClient, control: httpx.AsyncClient, order_id: str) -> str:
    key = await a_waiting_account(client, control, order_id)
    await act(control, key, "deposit")
    return key


def an_order(
    order_id: str,
    amount: int = AMOUNT,
    *,
    believed_balance: int = AMOUNT,
    tax_free_amount: int = 0,
    account: RefundAccount | None = None,
    key: str = "refund-1",
) -> RefundOrder:
    return RefundOrder(
        order_id=order_id,
        total_amount=AMOUNT,
        amount=amount,
        believed_balance=believed_balance,
        tax_free_amount=tax_free_amount,
        reason="고객이 취소를  원함 🎁",
        idempotency_key=f"{key}-{order_id}",
        account=account,
    )


def refunded(answer: RefundAnswer) -> Refunded:
    assert isinstance(answer, Refunded), answer
    return answer


def refused_because(answer: RefundAnswer | CancelAnswer) -> RefusedBecause:
    assert isinstance(answer, RefundRefused), answer
    return answer.because


class TestRefund:
    @pytest.mark.parametrize("method", ["CARD", "TRANSFER", "EASY_PAY", "MOBILE_PHONE", "GIFT_CERTIFICATE"])
    async def test_everything_goes_back(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str, method: str
    ) -> None:
        key = await a_captured_payment(client, control, order_id, method=method)

        answer = refunded(await client.refund(key, an_order(order_id)))

        assert (answer.payment.status, answer.payment.balance_amount) == (PgStatus.CANCELED, 0)
        assert (answer.cancel.amount, answer.cancel.balance_after) == (AMOUNT, 0)
        assert answer.cancel.cancelled_at is not None
        assert answer.cancel.reason == "고객이 취소를  원함 🎁"
        assert await given_back(control, order_id) == [AMOUNT]
        assert isinstance(await look_up(client, key, order_id), Cancelled)

    async def test_it_goes_back_in_parts(self, client: TossClient, control: httpx.AsyncClient, order_id: str) -> None:
        key = await a_captured_payment(client, control, order_id)

        first = refunded(await client.refund(key, an_order(order_id, 5_000, key="first")))
        second = refunded(await client.refund(key, an_order(order_id, 4_000, believed_balance=10_000, key="second")))
        rest = refunded(await client.refund(key, an_order(order_id, 6_000, believed_balance=6_000, key="rest")))

        assert [one.payment.status for one in (first, second, rest)] == [PgStatus.PARTIAL_CANCELED] * 3
        assert rest.payment.cancels == (first.cancel, second.cancel, rest.cancel)
        assert await given_back(control, order_id) == [5_000, 4_000, 6_000]
        assert approved(await look_up(client, key, order_id)).cancels == rest.payment.cancels

    async def test_repeated_with_its_key_it_goes_back_once(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_captured_payment(client, control, order_id)
        order = an_order(order_id, 5_000)

        first = await client.refund(key, order)
        second = await client.refund(key, order)

        assert refunded(first) == refunded(second)
        assert await given_back(control, order_id) == [5_000]

    async def test_what_was_sold_without_tax_goes_back_without(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_captured_payment(client, control, order_id, taxFreeAmount=6_000)

        part = await client.refund(key, an_order(order_id, 5_000, tax_free_amount=2_000, key="part"))
        too_much = await client.refund(
            key, an_order(order_id, 5_000, believed_balance=10_000, tax_free_amount=4_500, key="too-much")
        )

        refunded(part)
        assert refused_because(too_much) is RefusedBecause.BALANCE_DIFFERS
        assert await given_back(control, order_id) == [5_000]

    async def test_with_another_balance_than_believed_nothing_goes_back(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_captured_payment(client, control, order_id)
        await act(control, key, "cancel", amount=1_000)

        answer = await client.refund(key, an_order(order_id, 5_000))

        assert isinstance(answer, RefundRefused)
        assert (answer.because, answer.code) == (RefusedBecause.BALANCE_DIFFERS, "NOT_MATCHES_REFUNDABLE_AMOUNT")
        assert await given_back(control, order_id) == [1_000]

    async def test_after_everything_went_back_there_is_no_more(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_captured_payment(client, control, order_id)
        await client.refund(key, an_order(order_id, key="first"))

        answer = await client.refund(key, an_order(order_id, key="second"))

        assert refused_because(answer) is RefusedBecause.BALANCE_DIFFERS
        assert await given_back(control, order_id) == [AMOUNT]

    @pytest.mark.parametrize("choices", [{"isPartialCancelable": False}, {"useEscrow": True}])
    async def test_a_payment_that_knows_no_parts_gives_no_part_back(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str, choices: dict[str, bool]
    ) -> None:
        key = await a_captured_payment(client, control, order_id, **choices)

        part = await client.refund(key, an_order(order_id, 5_000, key="part"))
        whole = await client.refund(key, an_order(order_id, key="whole"))

        assert refused_because(part) is RefusedBecause.NOT_PARTIALLY
        assert refunded(whole).payment.is_partial_cancelable is choices.get("isPartialCancelable", True)

    async def test_after_the_deadline_nothing_goes_back(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_captured_payment(client, control, order_id, method="TRANSFER")
        await control.post("/sandbox/clock", json={"advanceSeconds": 181 * 24 * 3600})

        assert refused_because(await client.refund(key, an_order(order_id))) is RefusedBecause.TOO_LATE

    async def test_a_payment_of_nobody_is_for_an_operator(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        assert because(await client.refund("nobodys-key", an_order(order_id))) is UnknownBecause.MISCONFIGURED

    async def test_the_keys_of_another_shop_are_for_an_operator(
        self, url: str, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_captured_payment(client, control, order_id)

        async with TossClient(base_url=url, secret_key="test_sk_of_somebody_else") as stranger:
            answer = await stranger.refund(key, an_order(order_id))

        assert because(answer) is UnknownBecause.MISCONFIGURED

    async def test_what_was_cancelled_in_the_console_is_shown(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_captured_payment(client, control, order_id)
        await act(control, key, "cancel", amount=1_000, reason="관리자 취소")

        [cancel] = approved(await look_up(client, key, order_id)).cancels

        assert (cancel.amount, cancel.balance_after, cancel.reason) == (1_000, 14_000, "관리자 취소")
        assert cancel.is_done


class TestVirtualAccount:
    async def test_before_the_deposit_it_is_given_up(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_waiting_account(client, control, order_id)

        answer = await give_up(client, key, order_id)

        assert isinstance(answer, Cancelled)
        assert answer.payment.balance_amount == 0
        assert await given_back(control, order_id) == []
        assert isinstance(await look_up(client, key, order_id), Cancelled)

    async def test_repeated_with_its_key_it_is_given_up_again(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_waiting_account(client, control, order_id)

        first = await give_up(client, key, order_id)

        assert await give_up(client, key, order_id) == first

    async def test_once_paid_it_is_not_given_up(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_paid_account(client, control, order_id)

        answer = await give_up(client, key, order_id)

        assert isinstance(answer, RefundRefused)
        assert isinstance(await look_up(client, key, order_id), Approved)
        assert await given_back(control, order_id) == []

    async def test_its_money_goes_to_an_account(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_paid_account(client, control, order_id)

        answer = refunded(await client.refund(key, an_order(order_id, 5_000, account=ACCOUNT)))
        await act(control, key, "finish-account-refund", succeeded=True)

        assert answer.payment.virtual_account is not None
        assert answer.payment.virtual_account.refund_status == "NONE"
        shown = approved(await look_up(client, key, order_id)).virtual_account
        assert shown is not None
        assert shown.refund_status == "COMPLETED"
        assert await given_back(control, order_id) == [5_000]

    async def test_a_bank_that_cannot_pay_it_out_is_shown(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_paid_account(client, control, order_id)
        refunded(await client.refund(key, an_order(order_id, account=ACCOUNT)))

        await act(control, key, "finish-account-refund", succeeded=False)

        answer = await look_up(client, key, order_id)
        assert isinstance(answer, Cancelled)
        assert answer.payment.virtual_account is not None
        assert answer.payment.virtual_account.refund_status == "FAILED"

    @pytest.mark.parametrize(
        "account",
        [
            None,
            RefundAccount("00", "110123456789", "박환불"),
            RefundAccount("88", "no number", "박환불"),
            RefundAccount("88", "110123456789", ""),
        ],
        ids=["none", "no bank", "no number", "nobody"],
    )
    async def test_without_a_right_account_nothing_goes_back(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str, account: RefundAccount | None
    ) -> None:
        key = await a_paid_account(client, control, order_id)

        answer = await client.refund(key, an_order(order_id, account=account))

        assert refused_because(answer) is RefusedBecause.ACCOUNT
        assert await given_back(control, order_id) == []

    async def test_a_deposit_that_the_bank_took_back_is_awaited_again(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_paid_account(client, control, order_id)
        assert isinstance(await look_up(client, key, order_id), Approved)

        await act(control, key, "reverse-deposit")

        assert isinstance(await look_up(client, key, order_id), DepositAwaited)
        part = await client.refund(key, an_order(order_id, 5_000, account=ACCOUNT))
        assert isinstance(part, RefundRefused)

    async def test_another_amount_than_the_one_owed_is_a_mismatch(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_waiting_account(client, control, order_id)

        await act(control, key, "deposit", amount=AMOUNT - 1, force=True)

        assert because(await look_up(client, key, order_id)) is UnknownBecause.MISMATCH


async def give_up(client: TossClient, payment_key: str, order_id: str) -> CancelAnswer:
    return await client.cancel(
        payment_key, order_id=order_id, amount=AMOUNT, reason="주문 취소", idempotency_key=f"give-up-{order_id}"
    )


class TestBrokenRefund:
    @pytest.mark.parametrize(("kind", "reason"), CAPTURED)
    async def test_a_refund_whose_answer_is_broken_is_shown_by_a_look_up(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str, *, kind: str, reason: UnknownBecause
    ) -> None:
        key = await a_captured_payment(client, control, order_id)
        await break_next(control, "cancel", kind)

        answer = await client.refund(key, an_order(order_id, 5_000))

        assert because(answer) is reason
        assert await given_back(control, order_id) == [5_000]
        [cancel] = approved(await look_up(client, key, order_id)).cancels
        assert (cancel.amount, cancel.balance_after) == (5_000, 10_000)

    @pytest.mark.parametrize(("kind", "reason"), CAPTURED)
    async def test_repeated_with_its_key_it_goes_back_once(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str, *, kind: str, reason: UnknownBecause
    ) -> None:
        """Either the first answer is told again, or the balance is no longer the one that was believed in."""
        key = await a_captured_payment(client, control, order_id)
        await break_next(control, "cancel", kind)
        await client.refund(key, an_order(order_id, 5_000))

        answer = await client.refund(key, an_order(order_id, 5_000))

        if isinstance(answer, RefundRefused):
            assert answer.because is RefusedBecause.BALANCE_DIFFERS
        else:
            refunded(answer)
        assert await given_back(control, order_id) == [5_000]

    @pytest.mark.parametrize(("kind", "reason"), NOT_CAPTURED)
    async def test_a_refund_without_effect_is_unknown_and_succeeds_when_repeated(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str, *, kind: str, reason: UnknownBecause
    ) -> None:
        key = await a_captured_payment(client, control, order_id)
        await break_next(control, "cancel", kind)

        answer = await client.refund(key, an_order(order_id, 5_000))

        assert because(answer) is reason
        assert approved(await look_up(client, key, order_id)).cancels == ()
        refunded(await client.refund(key, an_order(order_id, 5_000)))
        assert await given_back(control, order_id) == [5_000]

    @pytest.mark.parametrize(("kind", "reason"), [*CAPTURED, *NOT_CAPTURED])
    async def test_an_account_given_up_without_an_answer_is_given_up_in_the_end(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str, *, kind: str, reason: UnknownBecause
    ) -> None:
        key = await a_waiting_account(client, control, order_id)
        await break_next(control, "cancel", kind)

        assert because(await give_up(client, key, order_id)) is reason

        await give_up(client, key, order_id)
        assert isinstance(await look_up(client, key, order_id), Cancelled)

    async def test_a_refusal_is_told_again_under_its_key_and_under_no_other(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        key = await a_paid_account(client, control, order_id)
        refusal = await client.refund(key, an_order(order_id, key="first"))

        again = await client.refund(key, an_order(order_id, account=ACCOUNT, key="first"))
        anew = await client.refund(key, an_order(order_id, account=ACCOUNT, key="second"))

        assert refused_because(refusal) is RefusedBecause.ACCOUNT
        assert again == refusal
        refunded(anew)


class TestTransactions:
    async def test_a_capture_and_what_was_given_back_stand_in_the_list(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        began = datetime.now(UTC)
        key = await a_captured_payment(client, control, order_id)
        back = refunded(await client.refund(key, an_order(order_id, 5_000)))

        page = await client.list_transactions(began - timedelta(minutes=1), began + timedelta(hours=1), after=None)

        assert isinstance(page, TransactionPage)
        assert page.next_after is None
        assert [(row.payment_key, row.order_id, row.status, row.amount, row.currency) for row in page.rows] == [
            (key, order_id, PgStatus.DONE, AMOUNT, "KRW"),
            (key, order_id, PgStatus.PARTIAL_CANCELED, 5_000, "KRW"),
        ]
        assert page.rows[1].transaction_key == back.cancel.transaction_key
        assert all(began - timedelta(seconds=1) <= row.at <= began + timedelta(minutes=1) for row in page.rows)

    async def test_more_than_a_page_is_read_to_its_end_without_a_row_twice(
        self, client: TossClient, control: httpx.AsyncClient
    ) -> None:
        count = TRANSACTIONS_LIMIT + 5
        since = datetime(2026, 1, 1, 15, tzinfo=UTC)
        payments = [
            {
                "orderId": f"order-{number:06}",
                "amount": 1_000 + number,
                "approvedAt": (since + timedelta(seconds=60 * number // 10)).isoformat(),
            }
            for number in range(count)
        ]
        (await control.post("/sandbox/import", json={"payments": payments})).raise_for_status()

        first = await client.list_transactions(since, since + timedelta(days=1), after=None)
        assert isinstance(first, TransactionPage)
        second = await client.list_transactions(since, since + timedelta(days=1), after=first.next_after)
        assert isinstance(second, TransactionPage)

        assert (len(first.rows), len(second.rows), second.next_after) == (TRANSACTIONS_LIMIT, 5, None)
        assert [row.order_id for row in (*first.rows, *second.rows)] == [payment["orderId"] for payment in payments]

    async def test_a_place_that_is_not_among_them_is_our_mistake(
        self, client: TossClient, control: httpx.AsyncClient, order_id: str
    ) -> None:
        await a_captured_payment(client, control, order_id)
        long_ago = datetime(2026, 1, 1, 15, tzinfo=UTC)

        answer = await client.list_transactions(long_ago, long_ago + timedelta(days=1), after="nowhere")

        assert isinstance(answer, Unknown)
        assert answer.because is UnknownBecause.MISCONFIGURED
