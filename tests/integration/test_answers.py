from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import product
from typing import Final

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from payments.db import create_engine, create_sessions
from payments.gateways.pg import (
    Answer,
    Approved,
    Cancelled,
    Declined,
    DepositAwaited,
    PgCancel,
    PgPayment,
    PgStatus,
    PgVirtualAccount,
    Refunded,
    RefundRefused,
    RefusedBecause,
    Unknown,
    UnknownBecause,
)
from payments.local.postgres import LocalPostgres
from payments.models import DEPOSIT_GRACE, FIRST_DEPOSIT_CHECK, Payment, Refund
from payments.queries import history, refunds_of
from payments.records import Discrepancy, Json, OutboxMessage
from payments.states import Cause, PaymentMethod, PaymentStatus, RefundStatus
from payments.usecases.answers import METHODS, OPEN, Overtaken, Question, record
from payments.usecases.refund_answers import Told, record_refund
from tests.builders import (
    ACCOUNT,
    AT,
    LATER,
    LEASE,
    PAYMENT_KEY,
    WEBHOOK_SECRET,
    a_cancel,
    a_held_payment,
    a_payment,
    columns,
    earlier_key,
    given_back,
)
from tests.conftest import TEMPLATE

S = PaymentStatus
CREATED, PENDING, WAITING, APPROVED, COMPLETED, FAILED, CANCELLED, REFUNDED, PARTIAL = S

KINDS: Final = ("approved", "deposit awaited", "declined", "cancelled", "unknown", "mismatch")


def an_answer(kind: str, payment_key: str = PAYMENT_KEY) -> Answer:
    """What the PG says about the attempt that was confirmed under `payment_key`."""
    match kind:
        case "approved":
            return Approved(a_held_payment(payment_key=payment_key))
        case "deposit awaited":
            return DepositAwaited(a_held_payment(PgStatus.WAITING_FOR_DEPOSIT, payment_key=payment_key))
        case "declined":
            return Declined("REJECT_CARD_PAYMENT", "한도초과 혹은 잔액부족으로 결제에 실패했습니다.")
        case "cancelled":
            return Cancelled(a_held_payment(PgStatus.CANCELED, balance=0, payment_key=payment_key))
        case "mismatch":
            return Unknown(UnknownBecause.MISMATCH, payment=a_held_payment(amount=12_001, payment_key=payment_key))
        case _:
            return Unknown(UnknownBecause.NO_ANSWER)


@dataclass(frozen=True)
class Outcome:
    """What is there after an answer was recorded."""

    status: PaymentStatus
    moves: list[PaymentStatus] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)


def completed(*noted: str) -> Outcome:
    return Outcome(COMPLETED, [APPROVED, COMPLETED], ["payment.completed"], list(noted))


def moved(status: PaymentStatus, told: str) -> Outcome:
    return Outcome(status, [status], [told])


# What each answer does to a payment in each status. Where there is no row it changes nothing.
# A CREATED payment was never confirmed under any key, so no answer can be about its present attempt.
EXPECTED: Final[dict[tuple[str, PaymentStatus], Outcome]] = {
    ("approved", CREATED): Outcome(
        COMPLETED, [PENDING, APPROVED, COMPLETED], ["payment.completed"], ["captured_but_unknown_here"]
    ),
    ("approved", PENDING): completed(),
    ("approved", WAITING): completed(),
    ("approved", FAILED): completed("captured_but_failed_here"),
    ("approved", PARTIAL): Outcome(PARTIAL, noted=["refund_differs_at_pg"]),
    ("approved", REFUNDED): Outcome(REFUNDED, noted=["refund_differs_at_pg"]),
    ("approved", CANCELLED): Outcome(CANCELLED, noted=["captured_after_cancel"]),
    ("deposit awaited", PENDING): moved(WAITING, "payment.waiting_for_deposit"),
    ("deposit awaited", CREATED): Outcome(CREATED, noted=["deposit_awaited_but_closed_here"]),
    ("deposit awaited", FAILED): Outcome(FAILED, noted=["deposit_awaited_but_closed_here"]),
    ("deposit awaited", CANCELLED): Outcome(CANCELLED, noted=["deposit_awaited_but_closed_here"]),
    ("deposit awaited", COMPLETED): Outcome(COMPLETED, noted=["completed_here_not_at_pg"]),
    ("deposit awaited", PARTIAL): Outcome(PARTIAL, noted=["completed_here_not_at_pg"]),
    ("deposit awaited", REFUNDED): Outcome(REFUNDED, noted=["completed_here_not_at_pg"]),
    ("declined", PENDING): moved(FAILED, "payment.failed"),
    ("declined", WAITING): moved(FAILED, "payment.failed"),
    ("declined", COMPLETED): Outcome(COMPLETED, noted=["completed_here_not_at_pg"]),
    ("declined", PARTIAL): Outcome(PARTIAL, noted=["completed_here_not_at_pg"]),
    ("declined", REFUNDED): Outcome(REFUNDED, noted=["completed_here_not_at_pg"]),
    ("cancelled", PENDING): moved(CANCELLED, "payment.cancelled"),
    ("cancelled", WAITING): moved(CANCELLED, "payment.cancelled"),
    ("cancelled", COMPLETED): moved(REFUNDED, "payment.refunded"),
    ("cancelled", PARTIAL): Outcome(PARTIAL, noted=["refund_differs_at_pg"]),
    **{
        ("mismatch", status): Outcome(status, noted=["amount_differs_at_pg"])
        for status in (CREATED, PENDING, APPROVED, COMPLETED, FAILED, CANCELLED, REFUNDED, PARTIAL)
    },
    ("mismatch", WAITING): Outcome(WAITING, noted=["deposit_amount_differs"]),
}


@pytest.fixture(scope="module")
def books(postgres: LocalPostgres) -> Iterator[str]:
    """One database for all of these stories: none of them commits."""
    name = "answers"
    postgres.create_database(name, template=TEMPLATE)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
async def session(books: str) -> AsyncIterator[AsyncSession]:
    """A transaction that is rolled back at the end."""
    engine = create_engine(books)
    async with create_sessions(engine)() as session:
        yield session
        await session.rollback()
    await engine.dispose()


async def stored(session: AsyncSession, payment: Payment) -> Payment:
    session.add(payment)
    await session.flush()
    session.add_all(given_back(payment))
    await session.flush()
    return payment


def asked(payment: Payment, payment_key: str | None = None) -> Question:
    """The PG was asked a moment ago, and nothing has happened since."""
    return Question(payment_key or payment.payment_key or PAYMENT_KEY, payment.version)


async def outcome(session: AsyncSession, payment: Payment, *, since: int) -> Outcome:
    """What the database shows, with the moves after sequence `since`."""
    await session.flush()
    told = await session.scalars(select(OutboxMessage).order_by(OutboxMessage.sequence))
    noted = await session.scalars(select(Discrepancy.kind).order_by(Discrepancy.kind))
    return Outcome(
        payment.status,
        [row.to_status for row in (await history(session, payment.id))[since:]],
        [message.type.value for message in told],
        [kind.value for kind in noted],
    )


def payment_told(message: OutboxMessage) -> dict[str, Json]:
    """The payment as a message shows it; the message also says which row of the history it tells of."""
    data = message.payload["data"]
    assert isinstance(data, dict)
    assert data["sequence"] == message.sequence
    payment = data["payment"]
    assert isinstance(payment, dict)
    return payment


class TestRecord:
    @pytest.mark.parametrize("status", S)
    @pytest.mark.parametrize("kind", KINDS)
    async def test_does_what_the_table_says_and_twice_no_more(
        self, session: AsyncSession, kind: str, status: PaymentStatus
    ) -> None:
        payment = await stored(session, a_payment(status))
        since = payment.last_sequence

        await record(session, payment, an_answer(kind), question=asked(payment), cause=Cause.RECOVERY, at=LATER)
        once = await outcome(session, payment, since=since)
        await record(session, payment, an_answer(kind), question=asked(payment), cause=Cause.RECOVERY, at=LATER)
        twice = await outcome(session, payment, since=since)

        assert once == EXPECTED.get((kind, status), Outcome(status))
        assert twice == once

    @pytest.mark.parametrize(("kind", "status"), [pair for pair in product(KINDS, S) if pair != ("approved", CREATED)])
    async def test_about_an_earlier_attempt_never_touches_one_for_which_money_was_asked(
        self, session: AsyncSession, kind: str, status: PaymentStatus
    ) -> None:
        payment = await stored(session, a_payment(status, attempt=2))
        before, since = columns(payment), payment.last_sequence

        answer = an_answer(kind, earlier_key(1))
        await record(session, payment, answer, question=asked(payment, earlier_key(1)), cause=Cause.WEBHOOK, at=LATER)

        captured = "captured_after_cancel" if status is CANCELLED else "captured_but_failed_here"
        noted = {
            "approved": [captured],
            "deposit awaited": ["deposit_awaited_but_closed_here"],
            "mismatch": ["amount_differs_at_pg"],
        }
        assert await outcome(session, payment, since=since) == Outcome(status, noted=noted.get(kind, []))
        assert columns(payment) == before

    async def test_of_money_under_an_earlier_key_pays_an_order_for_which_none_was_asked_since(
        self, session: AsyncSession
    ) -> None:
        payment = await stored(session, a_payment(CREATED, attempt=2))
        since = payment.last_sequence

        answer = an_answer("approved", earlier_key(1))
        await record(session, payment, answer, question=asked(payment, earlier_key(1)), cause=Cause.WEBHOOK, at=LATER)

        paid = Outcome(COMPLETED, [PENDING, APPROVED, COMPLETED], ["payment.completed"], ["captured_but_failed_here"])
        assert await outcome(session, payment, since=since) == paid
        assert payment.payment_key == earlier_key(1)

    def test_is_told_of_every_status_that_can_still_be_decided(self) -> None:
        decided = {status for (kind, status), found in EXPECTED.items() if kind == "declined" and found.moves}

        assert decided == OPEN


async def recorded(session: AsyncSession, payment: Payment, answer: Answer, cause: Cause = Cause.API) -> Payment:
    await record(session, payment, answer, question=asked(payment), cause=cause, at=LATER)
    await session.flush()
    return payment


class TestCapture:
    async def test_is_told_as_a_snapshot_of_what_the_database_then_holds(self, session: AsyncSession) -> None:
        payment = await recorded(session, await stored(session, a_payment(PENDING)), an_answer("approved"))

        message = await session.scalar(select(OutboxMessage))

        assert message is not None
        told = payment_told(message)
        assert message.sequence == payment.last_sequence
        assert (told["status"], told["amount"], told["paymentKey"]) == ("COMPLETED", 12_000, PAYMENT_KEY)
        assert told["version"] == await session.scalar(select(Payment.version))
        assert (message.attempts, message.next_attempt_at, message.delivered_at) == (0, LATER, None)

    async def test_is_told_without_the_buyers_address_or_any_secret(self, session: AsyncSession) -> None:
        payment = await recorded(session, await stored(session, a_payment(PENDING)), an_answer("approved"))

        message = await session.scalar(select(OutboxMessage))

        assert message is not None
        for hidden in (payment.customer_email, payment.webhook_secret, payment.confirm_key):
            assert hidden
            assert hidden not in str(message.payload)

    async def test_keeps_the_pgs_time_and_ours(self, session: AsyncSession) -> None:
        payment = await recorded(session, await stored(session, a_payment(PENDING)), an_answer("approved"))

        assert (payment.approved_at, payment.completed_at) == (AT, LATER)

    async def test_without_a_time_of_the_pg_is_approved_now(self, session: AsyncSession) -> None:
        timeless = Approved(replace(a_held_payment(), approved_at=None))

        payment = await recorded(session, await stored(session, a_payment(PENDING)), timeless)

        assert payment.approved_at == LATER

    async def test_of_which_a_part_went_back_already_is_a_capture_and_a_refund(self, session: AsyncSession) -> None:
        partly_back = Approved(a_held_payment(PgStatus.PARTIAL_CANCELED, balance=5_000))
        payment = await stored(session, a_payment(PENDING))
        since = payment.last_sequence

        await recorded(session, payment, partly_back)

        assert await outcome(session, payment, since=since) == Outcome(
            PARTIAL, [APPROVED, COMPLETED, PARTIAL], ["payment.completed", "payment.refunded"]
        )
        assert payment.refundable_amount == 5_000

    async def test_late_shows_both_sides_as_they_were(self, session: AsyncSession) -> None:
        payment = await recorded(session, await stored(session, a_payment(FAILED)), an_answer("approved"))

        noted = await session.scalar(select(Discrepancy))

        assert noted is not None
        assert (noted.subject, noted.payment_id) == (payment.order_id, payment.id)
        assert (noted.ours["status"], noted.theirs["status"]) == ("FAILED", "DONE")

    async def test_of_two_earlier_attempts_are_two_discrepancies(self, session: AsyncSession) -> None:
        payment = await stored(session, a_payment(PENDING, attempt=3))

        for number in (1, 2, 2):
            answer = an_answer("approved", earlier_key(number))
            await record(
                session, payment, answer, question=asked(payment, earlier_key(number)), cause=Cause.NIGHTLY, at=LATER
            )

        subjects = await session.scalars(select(Discrepancy.subject).order_by(Discrepancy.subject))
        assert list(subjects) == [f"{payment.order_id}/{earlier_key(1)}", f"{payment.order_id}/{earlier_key(2)}"]

    @pytest.mark.parametrize(("korean", "method"), METHODS.items())
    async def test_is_under_the_method_that_the_buyer_chose(
        self, session: AsyncSession, korean: str, method: PaymentMethod
    ) -> None:
        held = Approved(replace(a_held_payment(), method=korean))

        payment = await recorded(session, await stored(session, a_payment(PENDING)), held)

        assert payment.method is method

    @pytest.mark.parametrize("word", ["암호화폐", None])
    async def test_by_a_method_that_we_do_not_know_keeps_the_one_that_was_prepared(
        self, session: AsyncSession, word: str | None
    ) -> None:
        held = Approved(replace(a_held_payment(), method=word))

        payment = await recorded(
            session, await stored(session, a_payment(PENDING, method=PaymentMethod.TRANSFER)), held
        )

        assert (payment.status, payment.method) == (COMPLETED, PaymentMethod.TRANSFER)


class TestDepositAwaited:
    async def test_keeps_the_account_and_the_secret_of_its_callback(self, session: AsyncSession) -> None:
        payment = await recorded(session, await stored(session, a_payment(PENDING)), an_answer("deposit awaited"))

        assert (payment.virtual_account, payment.webhook_secret) == (ACCOUNT, WEBHOOK_SECRET)
        assert payment.method is PaymentMethod.VIRTUAL_ACCOUNT

    async def test_without_an_account_leaves_it_pending(self, session: AsyncSession) -> None:
        payment = await stored(session, a_payment(PENDING))
        since = payment.last_sequence

        await recorded(session, payment, DepositAwaited(a_held_payment(PgStatus.DONE)))

        assert await outcome(session, payment, since=since) == Outcome(PENDING)


class TestDeclined:
    async def test_keeps_the_pgs_words_as_evidence(self, session: AsyncSession) -> None:
        payment = await recorded(
            session, await stored(session, a_payment(PENDING)), an_answer("declined"), Cause.RECOVERY
        )

        *_, last = await history(session, payment.id)
        assert (payment.fail_code, last.pg_code) == ("REJECT_CARD_PAYMENT", "REJECT_CARD_PAYMENT")
        assert (payment.fail_reason, last.message, last.cause) == (last.message, payment.fail_reason, Cause.RECOVERY)


class TestUnknown:
    async def test_plans_the_next_question(self, session: AsyncSession) -> None:
        payment = await recorded(session, await stored(session, a_payment(PENDING)), an_answer("unknown"))

        assert payment.next_check_at is not None
        assert LATER + timedelta(seconds=2) <= payment.next_check_at <= LATER + timedelta(seconds=2.4)
        assert payment.check_count == 1

    async def test_waits_as_long_as_the_pg_asks(self, session: AsyncSession) -> None:
        busy = Unknown(UnknownBecause.ASK_AGAIN, retry_after=timedelta(minutes=4))

        payment = await recorded(session, await stored(session, a_payment(PENDING)), busy)

        assert payment.next_check_at == LATER + timedelta(minutes=4)

    @pytest.mark.parametrize("because", UnknownBecause)
    async def test_is_never_a_failure_for_whatever_reason(self, session: AsyncSession, because: UnknownBecause) -> None:
        payment = await recorded(session, await stored(session, a_payment(PENDING)), Unknown(because))

        assert payment.status is PENDING

    @pytest.mark.parametrize("status", sorted(set(S) - {CREATED, PENDING}))
    async def test_leaves_the_plans_of_any_other_status_alone(
        self, session: AsyncSession, status: PaymentStatus
    ) -> None:
        payment = await stored(session, a_payment(status))
        before = columns(payment)

        await recorded(session, payment, an_answer("unknown"))

        assert columns(payment) == before


class TestDiscrepancy:
    async def test_seen_again_is_the_same_row_seen_later(self, session: AsyncSession) -> None:
        payment = await stored(session, a_payment(COMPLETED))
        await recorded(session, payment, an_answer("declined"))
        much_later = LATER + timedelta(days=1)

        await record(
            session, payment, an_answer("declined"), question=asked(payment), cause=Cause.NIGHTLY, at=much_later
        )

        (noted,) = (await session.scalars(select(Discrepancy).execution_options(populate_existing=True))).all()
        assert (noted.first_seen_at, noted.last_seen_at) == (LATER, much_later)


# What an answer does that others have overtaken, where it differs: money that came or went is still new, but nothing
# that is known now is taken back, and no difference is noted that may be over.
OVERTAKEN: Final[dict[tuple[str, PaymentStatus], Outcome]] = {
    **EXPECTED,
    **{
        ("deposit awaited", status): Outcome(status)
        for status in (WAITING, APPROVED, COMPLETED, FAILED, CANCELLED, REFUNDED, PARTIAL)
    },
    **{("approved", status): Outcome(status) for status in (WAITING, PARTIAL, REFUNDED)},
    ("declined", WAITING): Outcome(WAITING),
    ("cancelled", PARTIAL): Outcome(PARTIAL),
}
LOOKS_AGAIN: Final = [
    *(("deposit awaited", status) for status in (WAITING, COMPLETED, FAILED, CANCELLED, REFUNDED, PARTIAL)),
    ("declined", WAITING),
]
ANEW: Final = ("approved", WAITING)  # the PG has to be asked again before anything is concluded


def asked_before(payment: Payment) -> Question:
    """The PG was asked, and somebody else changed the payment before the answer came."""
    return Question(payment.payment_key or PAYMENT_KEY, payment.version - 1)


class TestOvertakenAnswer:
    @pytest.mark.parametrize("status", S)
    @pytest.mark.parametrize("kind", KINDS)
    async def test_brings_new_truths_and_takes_none_away(
        self, session: AsyncSession, kind: str, status: PaymentStatus
    ) -> None:
        payment = await stored(session, a_payment(status))
        since = payment.last_sequence

        with pytest.raises(Overtaken) if (kind, status) == ANEW else nullcontext():
            await record(
                session, payment, an_answer(kind), question=asked_before(payment), cause=Cause.RECOVERY, at=LATER
            )

        assert await outcome(session, payment, since=since) == OVERTAKEN.get((kind, status), Outcome(status))

    @pytest.mark.parametrize(("kind", "status"), LOOKS_AGAIN)
    async def test_that_would_take_one_away_has_the_pg_asked_again_at_once(
        self, session: AsyncSession, kind: str, status: PaymentStatus
    ) -> None:
        payment = await stored(session, a_payment(status))

        await record(session, payment, an_answer(kind), question=asked_before(payment), cause=Cause.RECOVERY, at=LATER)

        assert payment.next_check_at == LATER

    async def test_of_a_deposit_changes_nothing_of_an_account_that_is_being_given_up(
        self, session: AsyncSession
    ) -> None:
        payment = await stored(session, a_waiting_payment())
        payment.begin_cancel("품절", cancel_key="key-1", request_id=payment.id, at=AT, lease=LEASE)
        await session.flush()

        with pytest.raises(Overtaken) as overtaken:
            await record(
                session, payment, an_answer("approved"), question=asked_before(payment), cause=Cause.API, at=LATER
            )

        assert (payment.status, payment.cancel_key) == (WAITING, "key-1")
        assert overtaken.value.version == payment.version

    async def test_of_a_deposit_that_was_taken_back_since_pays_no_account_that_is_closed(
        self, session: AsyncSession
    ) -> None:
        payment, slow = await an_account_whose_deposit_was_taken_back(session)
        since, closed_at = payment.last_sequence, DUE + 2 * DEPOSIT_GRACE

        with pytest.raises(Overtaken):
            await record(session, payment, a_deposit(), question=slow, cause=Cause.API, at=closed_at)

        found = await outcome(session, payment, since=since)
        assert (found.status, found.moves, found.noted) == (FAILED, [], [])

    async def test_of_a_deposit_that_was_taken_back_since_pays_no_later_attempt(self, session: AsyncSession) -> None:
        payment, slow = await an_account_whose_deposit_was_taken_back(session)
        payment.retry(at=DUE + timedelta(hours=1))
        await session.flush()
        since = payment.last_sequence

        with pytest.raises(Overtaken):
            await record(session, payment, a_deposit(), question=slow, cause=Cause.API, at=DUE + timedelta(hours=1))

        found = await outcome(session, payment, since=since)
        assert (found.status, found.moves, found.noted) == (CREATED, [], [])


def a_deposit() -> Approved:
    """The PG says that the account was paid into."""
    held, awaited = an_answer("approved"), an_answer("deposit awaited")
    assert isinstance(held, Approved)
    assert isinstance(awaited, DepositAwaited)
    return Approved(replace(held.payment, virtual_account=awaited.payment.virtual_account, method="가상계좌"))


async def an_account_whose_deposit_was_taken_back(session: AsyncSession) -> tuple[Payment, Question]:
    """It was paid into, the bank took that back, the due date passed; and a question of before that."""
    payment = await stored(session, a_waiting_payment())
    slow = asked(payment)
    awaited = an_answer("deposit awaited")
    for answer, at in ((a_deposit(), DUE), (awaited, DUE), (awaited, DUE + DEPOSIT_GRACE + timedelta(seconds=1))):
        await record(session, payment, answer, question=asked(payment), cause=Cause.WEBHOOK, at=at)
        await session.flush()
    assert [row.to_status for row in await history(session, payment.id)][-3:] == [COMPLETED, WAITING, FAILED]
    return payment, slow


def a_waiting_payment() -> Payment:
    return a_payment(WAITING, method=PaymentMethod.VIRTUAL_ACCOUNT)


def a_deposited_payment() -> Payment:
    payment = a_waiting_payment()
    payment.approve(PAYMENT_KEY, approved_at=AT, at=AT, cause=Cause.RECOVERY)
    payment.complete(at=AT, cause=Cause.RECOVERY)
    return payment


def a_refund(payment: Payment, amount: int, reason: str = "고객 변심") -> Refund:
    """A refund whose outcome is not known."""
    return Refund.request(
        payment, amount, reason=reason, refund_key=f"key-of-{amount}", at=AT, lease=LEASE, cause=Cause.API
    )


def shows(*cancels: PgCancel, amount: int = 12_000) -> Approved | Cancelled:
    """The PG as it stands after these cancels."""
    balance = cancels[-1].balance_after if cancels else amount
    status = PgStatus.CANCELED if balance == 0 else PgStatus.PARTIAL_CANCELED if cancels else PgStatus.DONE
    held = replace(a_held_payment(status, amount, balance=balance), cancels=cancels, was_approved=True)
    return Cancelled(held) if balance == 0 else Approved(held)


THREE: Final = a_cancel(3_000, balance_after=9_000, key="three")
NINE: Final = a_cancel(9_000, balance_after=0, key="nine")


class TestCancelInTheConsole:
    async def given_back(self, session: AsyncSession, payment: Payment) -> list[tuple[int, str, str | None]]:
        await session.flush()
        return [(one.amount, one.status.value, one.transaction_key) for one in await refunds_of(session, payment.id)]

    @pytest.mark.parametrize("question", [asked, asked_before])
    async def test_becomes_a_refund_however_old_the_answer_is(
        self, session: AsyncSession, question: Callable[[Payment], Question]
    ) -> None:
        payment = await stored(session, a_payment(COMPLETED))
        since = payment.last_sequence

        for _ in range(2):
            await record(session, payment, shows(THREE), question=question(payment), cause=Cause.NIGHTLY, at=LATER)

        assert await self.given_back(session, payment) == [(3_000, "SUCCEEDED", "three")]
        assert await outcome(session, payment, since=since) == Outcome(PARTIAL, [PARTIAL], ["payment.refunded"])

    async def test_keeps_its_reason_its_time_and_who_found_it(self, session: AsyncSession) -> None:
        payment = await recorded(session, await stored(session, a_payment(COMPLETED)), shows(THREE), Cause.NIGHTLY)

        (adopted,) = await refunds_of(session, payment.id)
        assert (adopted.reason, adopted.cause, adopted.completed_at) == (THREE.reason, Cause.NIGHTLY, LATER)
        assert (adopted.request_id, adopted.actor, adopted.next_check_at) == (None, None, None)

    async def test_is_told_each_when_there_were_several(self, session: AsyncSession) -> None:
        payment = await stored(session, a_payment(COMPLETED))
        since = payment.last_sequence

        await recorded(session, payment, shows(THREE, NINE))

        assert await self.given_back(session, payment) == [(3_000, "SUCCEEDED", "three"), (9_000, "SUCCEEDED", "nine")]
        assert await outcome(session, payment, since=since) == Outcome(
            REFUNDED, [PARTIAL, REFUNDED], ["payment.refunded"] * 2
        )
        told = [payment_told(one) for one in await session.scalars(select(OutboxMessage))]
        assert [payment["refundableAmount"] for payment in told] == [9_000, 0]

    async def test_that_may_be_the_refund_we_wait_for_is_left_to_it(self, session: AsyncSession) -> None:
        payment = await stored(session, a_payment(COMPLETED))
        session.add(a_refund(payment, 3_000))
        since = payment.last_sequence

        await recorded(session, payment, shows(THREE))

        assert await self.given_back(session, payment) == [(3_000, "REQUESTED", None)]
        assert await outcome(session, payment, since=since) == Outcome(COMPLETED)

    async def test_after_the_refund_we_wait_for_is_adopted_beside_it(self, session: AsyncSession) -> None:
        payment = await stored(session, a_payment(COMPLETED))
        session.add(a_refund(payment, 3_000))

        await recorded(session, payment, shows(THREE, NINE))

        assert sorted(await self.given_back(session, payment)) == [
            (3_000, "REQUESTED", None),
            (9_000, "SUCCEEDED", "nine"),
        ]
        assert (payment.status, payment.refundable_amount) == (PARTIAL, 3_000)

    async def test_before_it_is_adopted_too_and_the_refund_will_be_refused(self, session: AsyncSession) -> None:
        payment = await stored(session, a_payment(COMPLETED))
        session.add(a_refund(payment, 12_000))
        since = payment.last_sequence

        await recorded(session, payment, shows(THREE))

        assert sorted(await self.given_back(session, payment)) == [
            (3_000, "SUCCEEDED", "three"),
            (12_000, "REQUESTED", None),
        ]
        assert (await outcome(session, payment, since=since)).noted == []

    @pytest.mark.parametrize("question", [asked, asked_before])
    async def test_of_more_than_is_left_here_is_for_a_person_and_adopts_nothing(
        self, session: AsyncSession, question: Callable[[Payment], Question]
    ) -> None:
        payment = await stored(session, a_payment(PARTIAL))  # 4,000 of 12,000 went back, which the PG does not show
        since = payment.last_sequence

        await record(
            session,
            payment,
            shows(a_cancel(9_000, balance_after=3_000, key="nine")),
            question=question(payment),
            cause=Cause.NIGHTLY,
            at=LATER,
        )

        assert await outcome(session, payment, since=since) == Outcome(PARTIAL, noted=["refund_differs_at_pg"])
        assert [amount for amount, *_ in await self.given_back(session, payment)] == [4_000]

    async def test_that_is_not_done_is_none(self, session: AsyncSession) -> None:
        payment = await stored(session, a_payment(COMPLETED))
        under_way = replace(shows().payment, cancels=(replace(THREE, is_done=False),))

        await recorded(session, payment, Approved(under_way))

        assert (await self.given_back(session, payment), payment.refundable_amount) == ([], 12_000)

    async def test_without_a_list_of_cancels_is_for_a_person(self, session: AsyncSession) -> None:
        payment = await stored(session, a_payment(COMPLETED))
        since = payment.last_sequence
        listless = replace(shows(THREE).payment, cancels=())

        await recorded(session, payment, Approved(listless))

        assert await outcome(session, payment, since=since) == Outcome(COMPLETED, noted=["refund_differs_at_pg"])


def refused(because: RefusedBecause = RefusedBecause.BALANCE_DIFFERS) -> RefundRefused:
    return RefundRefused(because, "NOT_MATCHES_REFUNDABLE_AMOUNT", "취소 금액과 환불 가능 금액이 다릅니다.")


REPEATABLE: Final = {UnknownBecause.PG_ERROR, UnknownBecause.UNLISTED, UnknownBecause.MISCONFIGURED}


class TestRefundAnswer:
    async def waiting(self, session: AsyncSession, amount: int = 3_000) -> tuple[Payment, Refund]:
        payment = await stored(session, a_payment(COMPLETED))
        refund = a_refund(payment, amount)
        session.add(refund)
        await session.flush()
        return payment, refund

    async def told(self, session: AsyncSession, payment: Payment, refund: Refund, told: Told) -> RefundStatus:
        await record_refund(session, payment, refund, told, cause=Cause.RECOVERY, at=LATER)
        await session.flush()
        return refund.status

    async def test_recorded_again_changes_nothing(self, session: AsyncSession) -> None:
        payment, refund = await self.waiting(session)
        since = payment.last_sequence
        done = Told(Refunded(shows(THREE).payment, THREE))

        await self.told(session, payment, refund, done)
        once = columns(refund)
        await self.told(session, payment, refund, done)

        assert columns(refund) == once
        assert await outcome(session, payment, since=since) == Outcome(PARTIAL, [PARTIAL], ["payment.refunded"])

    @pytest.mark.parametrize("answer", [refused(), Unknown(UnknownBecause.NO_ANSWER)], ids=["refused", "unknown"])
    async def test_that_the_pg_contradicts_by_what_it_shows_is_what_it_shows(
        self, session: AsyncSession, answer: RefundRefused | Unknown
    ) -> None:
        payment, refund = await self.waiting(session)

        assert await self.told(session, payment, refund, Told(answer, shows(THREE).payment)) == "SUCCEEDED"

        assert (refund.transaction_key, payment.refundable_amount) == ("three", 9_000)

    @pytest.mark.parametrize(
        "cancel",
        [
            replace(THREE, reason="관리자 취소"),
            a_cancel(3_001, balance_after=8_999, key="other"),
            a_cancel(3_000, balance_after=8_000, key="other"),
            replace(THREE, is_done=False),
        ],
        ids=["another reason", "another amount", "another balance", "not done"],
    )
    async def test_is_not_found_in_a_cancel_that_is_somebody_elses(
        self, session: AsyncSession, cancel: PgCancel
    ) -> None:
        payment, refund = await self.waiting(session)

        status = await self.told(session, payment, refund, Told(refused(), shows(cancel).payment))

        assert (status, refund.fail_because) == ("FAILED", "balance_differs")

    async def test_is_found_whatever_spaces_the_pg_makes_of_the_reason(self, session: AsyncSession) -> None:
        payment, refund = await self.waiting(session)
        respaced = replace(THREE, reason=" 고객  변심 ")

        told = Told(Unknown(UnknownBecause.NO_ANSWER), shows(respaced).payment)

        assert await self.told(session, payment, refund, told) == "SUCCEEDED"

    async def test_of_one_that_failed_here_and_was_carried_out_all_the_same_brings_the_books_up_to_date(
        self, session: AsyncSession
    ) -> None:
        payment, refund = await self.waiting(session)
        await self.told(session, payment, refund, Told(refused(RefusedBecause.OTHER)))

        await self.told(session, payment, refund, Told(Refunded(shows(THREE).payment, THREE)))

        assert (refund.status, payment.refundable_amount) == ("FAILED", 9_000)

    async def test_that_is_refused_leaves_an_unshown_payment_alone(self, session: AsyncSession) -> None:
        payment, refund = await self.waiting(session)
        before = columns(payment)

        assert await self.told(session, payment, refund, Told(refused(RefusedBecause.TOO_LATE))) == "FAILED"

        assert columns(payment) == before

    async def test_that_is_unknown_waits_as_long_as_the_pg_asks(self, session: AsyncSession) -> None:
        payment, refund = await self.waiting(session)
        busy = Unknown(UnknownBecause.ASK_AGAIN, retry_after=timedelta(minutes=4))

        assert await self.told(session, payment, refund, Told(busy)) == "REQUESTED"

        assert refund.next_check_at == LATER + timedelta(minutes=4)

    @pytest.mark.parametrize(
        ("because", "shown", "after", "is_anew"),
        [
            *((because, shows(), timedelta(minutes=1), because in REPEATABLE) for because in UnknownBecause),
            (UnknownBecause.PG_ERROR, shows(), timedelta(seconds=59), False),
            (UnknownBecause.PG_ERROR, None, timedelta(minutes=1), False),
            (UnknownBecause.PG_ERROR, shows(replace(THREE, reason="?")), timedelta(minutes=1), False),
        ],
    )
    async def test_takes_another_key_only_for_a_fault_that_may_be_repeated_and_had_no_effect(
        self,
        session: AsyncSession,
        because: UnknownBecause,
        shown: Approved | Cancelled | None,
        after: timedelta,
        *,
        is_anew: bool,
    ) -> None:
        payment, refund = await self.waiting(session)
        told = Told(Unknown(because), shown.payment if shown else None)

        await record_refund(session, payment, refund, told, cause=Cause.RECOVERY, at=AT + after)

        assert (refund.refund_key != "key-of-3000", refund.status.value) == (is_anew, "REQUESTED")


def pays_out(status: str | None, balance: int = 0) -> Cancelled | Approved:
    """A refund to an account, and how far the bank is with it."""
    answer = shows(a_cancel(12_000 - balance, balance_after=balance))
    issued = PgVirtualAccount(ACCOUNT.bank, ACCOUNT.account_number, ACCOUNT.holder, ACCOUNT.due_at, status)
    return replace(answer, payment=replace(answer.payment, virtual_account=issued))


class TestPayOut:
    async def refunded(self, session: AsyncSession) -> Payment:
        return await recorded(session, await stored(session, a_deposited_payment()), pays_out("NONE"))

    async def test_is_asked_about_soon_and_is_under_way_until_the_pg_says_otherwise(
        self, session: AsyncSession
    ) -> None:
        payment = await self.refunded(session)

        assert (payment.status, payment.is_being_paid_out) == (REFUNDED, True)
        assert payment.next_check_at == LATER + FIRST_DEPOSIT_CHECK

    @pytest.mark.parametrize(
        ("status", "noted"),
        [
            ("PENDING", []),
            ("COMPLETED", []),
            ("FAILED", ["refund_not_paid_out"]),
            ("PARTIAL_FAILED", ["refund_not_paid_out"]),
            (None, []),
        ],
    )
    async def test_is_followed_and_its_failure_is_for_a_person(
        self, session: AsyncSession, status: str | None, noted: list[str]
    ) -> None:
        payment = await self.refunded(session)
        since = payment.last_sequence

        for _ in range(2):
            await recorded(session, payment, pays_out(status))

        found = await outcome(session, payment, since=since)
        assert (payment.account_refund_status, found.noted) == (status or "NONE", noted)

    @pytest.mark.parametrize("stale", ["NONE", "PENDING", "COMPLETED"])
    async def test_that_failed_is_not_forgotten_for_an_answer_that_was_overtaken(
        self, session: AsyncSession, stale: str
    ) -> None:
        payment = await self.refunded(session)
        await recorded(session, payment, pays_out("FAILED"))

        await record(session, payment, pays_out(stale), question=asked_before(payment), cause=Cause.RECOVERY, at=LATER)

        assert payment.account_refund_status == "FAILED"

    async def test_is_not_forgotten_either_when_the_books_do_not_agree(self, session: AsyncSession) -> None:
        payment = await self.refunded(session)
        await recorded(session, payment, pays_out("FAILED"))
        absurd = pays_out("NONE").payment
        absurd = replace(absurd, cancels=(*absurd.cancels, a_cancel(1, balance_after=0, key="one-more")))

        await record(
            session, payment, Cancelled(absurd), question=asked_before(payment), cause=Cause.RECOVERY, at=LATER
        )

        assert payment.account_refund_status == "FAILED"


class TestReversal:
    async def test_makes_the_account_wait_again(self, session: AsyncSession) -> None:
        payment = await stored(session, a_deposited_payment())
        since = payment.last_sequence

        await recorded(session, payment, an_answer("deposit awaited"))
        await recorded(session, payment, an_answer("deposit awaited"))

        assert await outcome(session, payment, since=since) == moved(WAITING, "payment.deposit_reversed")
        assert payment.next_check_at == LATER + FIRST_DEPOSIT_CHECK

    async def test_waits_for_a_refund_that_is_not_decided(self, session: AsyncSession) -> None:
        payment = await stored(session, a_deposited_payment())
        session.add(a_refund(payment, 3_000))
        since = payment.last_sequence

        await recorded(session, payment, an_answer("deposit awaited"))

        assert await outcome(session, payment, since=since) == Outcome(COMPLETED)
        assert payment.next_check_at == LATER + FIRST_DEPOSIT_CHECK

    async def test_is_never_concluded_from_an_answer_that_was_overtaken(self, session: AsyncSession) -> None:
        payment = await stored(session, a_deposited_payment())
        since = payment.last_sequence

        awaited = an_answer("deposit awaited")
        await record(session, payment, awaited, question=asked_before(payment), cause=Cause.RECOVERY, at=LATER)

        assert await outcome(session, payment, since=since) == Outcome(COMPLETED)
        assert payment.next_check_at == LATER

    async def test_shown_by_a_refund_that_was_refused_is_looked_at_at_once(self, session: AsyncSession) -> None:
        payment = await stored(session, a_deposited_payment())
        refund = a_refund(payment, 12_000)
        session.add(refund)
        await session.flush()
        shown: PgPayment = a_held_payment(PgStatus.WAITING_FOR_DEPOSIT)

        await record_refund(session, payment, refund, Told(refused(), shown), cause=Cause.API, at=LATER)

        assert (refund.status, payment.status, payment.next_check_at) == ("FAILED", COMPLETED, LATER)


class TestDepositOfAnotherAmount:
    async def paid_in(self, session: AsyncSession) -> Payment:
        return await recorded(session, await stored(session, a_waiting_payment()), an_answer("mismatch"))

    async def test_is_kept_for_a_person_to_see(self, session: AsyncSession) -> None:
        payment = await self.paid_in(session)

        assert (payment.status, payment.deposited_amount) == (WAITING, 12_001)

    @pytest.mark.parametrize("kind", ["approved", "deposit awaited"])
    async def test_is_forgotten_once_the_right_one_came_or_the_bank_took_it_back(
        self, session: AsyncSession, kind: str
    ) -> None:
        payment = await self.paid_in(session)

        await recorded(session, payment, an_answer(kind))

        assert payment.deposited_amount is None

    async def test_that_others_have_overtaken_is_not_believed(self, session: AsyncSession) -> None:
        payment = await stored(session, a_waiting_payment())

        mismatch = an_answer("mismatch")
        await record(session, payment, mismatch, question=asked_before(payment), cause=Cause.RECOVERY, at=LATER)

        assert payment.deposited_amount is None


class TestReversedAndClosed:
    """The bank took the deposit back, and somebody closed the account at the PG before we looked."""

    def closed(self) -> Cancelled:
        return Cancelled(replace(shows(a_cancel(12_000, balance_after=0, key="closed")).payment, was_approved=False))

    async def test_is_a_reversal_and_a_cancel_and_no_refund(self, session: AsyncSession) -> None:
        payment = await stored(session, a_deposited_payment())
        since = payment.last_sequence

        for _ in range(2):
            await recorded(session, payment, self.closed())

        assert await outcome(session, payment, since=since) == Outcome(
            CANCELLED, [WAITING, CANCELLED], ["payment.deposit_reversed", "payment.cancelled"]
        )
        assert list(await refunds_of(session, payment.id)) == []

    async def test_waits_for_a_refund_that_is_not_decided_which_then_has_nothing_to_give_back(
        self, session: AsyncSession
    ) -> None:
        payment = await stored(session, a_deposited_payment())
        refund = a_refund(payment, 12_000)
        session.add(refund)
        since = payment.last_sequence

        await recorded(session, payment, self.closed())
        meanwhile = await outcome(session, payment, since=since)
        told = Told(Unknown(UnknownBecause.NO_ANSWER), self.closed().payment)
        await record_refund(session, payment, refund, told, cause=Cause.RECOVERY, at=LATER)

        assert meanwhile == Outcome(COMPLETED)
        assert (refund.status, refund.fail_code) == ("FAILED", "DEPOSIT_REVERSED")
        assert (payment.status, payment.next_check_at) == (COMPLETED, LATER)


class TestOvertakenRefund:
    async def test_fails_although_the_pg_says_nothing_because_its_balance_never_fits_again(
        self, session: AsyncSession
    ) -> None:
        payment = await stored(session, a_payment(COMPLETED))
        refund = a_refund(payment, 3_000)
        session.add(refund)
        await session.flush()
        told = Told(Unknown(UnknownBecause.PG_ERROR), shows(a_cancel(5_000, balance_after=7_000, key="five")).payment)

        await record_refund(session, payment, refund, told, cause=Cause.RECOVERY, at=LATER)

        assert (refund.status, refund.fail_because) == ("FAILED", "balance_differs")
        assert (payment.status, payment.refundable_amount) == (PARTIAL, 7_000)

    async def test_waits_while_what_was_taken_may_be_itself(self, session: AsyncSession) -> None:
        payment = await stored(session, a_payment(COMPLETED))
        refund = a_refund(payment, 3_000)
        session.add(refund)
        await session.flush()
        told = Told(Unknown(UnknownBecause.PG_ERROR), shows(replace(THREE, reason="?")).payment)

        await record_refund(session, payment, refund, told, cause=Cause.RECOVERY, at=LATER)

        assert (refund.status, payment.refundable_amount) == ("REQUESTED", 12_000)

    async def test_waits_while_the_pg_does_not_say_what_was_taken(self, session: AsyncSession) -> None:
        payment = await stored(session, a_payment(COMPLETED))
        refund = a_refund(payment, 3_000)
        session.add(refund)
        await session.flush()
        told = Told(Unknown(UnknownBecause.NO_ANSWER), replace(shows(THREE).payment, cancels=()))

        await record_refund(session, payment, refund, told, cause=Cause.RECOVERY, at=LATER)

        assert refund.status == "REQUESTED"


DUE: Final = AT + timedelta(days=3)  # as every account here says


class TestOverdue:
    async def looked_at(
        self, session: AsyncSession, payment: Payment, after_due: timedelta, question: Question | None = None
    ) -> Outcome:
        since = payment.last_sequence
        await record(
            session,
            payment,
            an_answer("deposit awaited"),
            question=question or asked(payment),
            cause=Cause.RECOVERY,
            at=DUE + after_due,
        )
        return await outcome(session, payment, since=since)

    async def test_account_fails_when_nothing_can_be_on_its_way_any_more(self, session: AsyncSession) -> None:
        payment = await stored(session, a_waiting_payment())

        found = await self.looked_at(session, payment, DEPOSIT_GRACE + timedelta(seconds=1))

        assert found == moved(FAILED, "payment.failed")
        assert (payment.fail_code, payment.next_check_at) == ("DEPOSIT_OVERDUE", None)

    @pytest.mark.parametrize("after_due", [timedelta(), DEPOSIT_GRACE])
    async def test_account_waits_for_a_deposit_of_the_last_minute(
        self, session: AsyncSession, after_due: timedelta
    ) -> None:
        payment = await stored(session, a_waiting_payment())

        assert await self.looked_at(session, payment, after_due) == Outcome(WAITING)

    async def test_account_waits_for_an_answer_that_nobody_has_overtaken(self, session: AsyncSession) -> None:
        payment = await stored(session, a_waiting_payment())

        found = await self.looked_at(session, payment, timedelta(days=1), asked_before(payment))

        assert (found, payment.next_check_at) == (Outcome(WAITING), DUE + timedelta(days=1))

    async def test_account_fails_as_soon_as_the_pg_takes_no_deposit_any_more(self, session: AsyncSession) -> None:
        payment = await stored(session, a_waiting_payment())
        held = a_held_payment(PgStatus.WAITING_FOR_DEPOSIT)
        assert held.virtual_account is not None
        expired = replace(held, virtual_account=replace(held.virtual_account, is_expired=True))

        await recorded(session, payment, DepositAwaited(expired))

        assert (payment.status, payment.fail_code) == (FAILED, "DEPOSIT_OVERDUE")

    async def test_account_whose_due_date_the_pg_moved_waits_until_then(self, session: AsyncSession) -> None:
        payment = await stored(session, a_waiting_payment())
        held = a_held_payment(PgStatus.WAITING_FOR_DEPOSIT)
        assert held.virtual_account is not None
        moved_to = DUE + timedelta(days=2)
        later = DepositAwaited(replace(held, virtual_account=replace(held.virtual_account, due_at=moved_to)))

        at = DUE + timedelta(days=1)
        await record(session, payment, later, question=asked(payment), cause=Cause.RECOVERY, at=at)

        assert (payment.status, payment.account_due_at) == (WAITING, moved_to)

    @pytest.mark.parametrize("status", [FAILED, CANCELLED])
    async def test_account_that_was_closed_here_is_nobodys_business(
        self, session: AsyncSession, status: PaymentStatus
    ) -> None:
        payment = a_waiting_payment()
        if status is FAILED:
            payment.fail("DEPOSIT_OVERDUE", "입금 기한이 지났습니다.", at=AT, cause=Cause.RECOVERY)
        else:
            payment.cancel("품절", at=AT, cause=Cause.API)

        assert await self.looked_at(session, await stored(session, payment), timedelta(days=1)) == Outcome(status)
