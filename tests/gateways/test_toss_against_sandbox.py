"""The client and the sandbox over real HTTP: two readings of the same documents have to agree."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from payments.gateways.breaker import Breaker
from payments.gateways.pg import Answer, Approved, Declined, DepositAwaited, PgPayment, Unknown, UnknownBecause
from payments.gateways.toss import TossClient
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


def because(answer: Answer) -> UnknownBecause:
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
