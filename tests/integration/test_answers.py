from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
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
    PgStatus,
    Unknown,
    UnknownBecause,
)
from payments.local.postgres import LocalPostgres
from payments.models import Payment
from payments.queries import history
from payments.records import Discrepancy, OutboxMessage
from payments.states import Cause, PaymentMethod, PaymentStatus
from payments.usecases.answers import METHODS, OPEN, Question, record
from tests.builders import (
    ACCOUNT,
    AT,
    LATER,
    PAYMENT_KEY,
    WEBHOOK_SECRET,
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
    ("approved", CREATED): Outcome(CREATED, noted=["captured_but_unknown_here"]),
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
        for status in (PENDING, APPROVED, COMPLETED, FAILED, CANCELLED, REFUNDED, PARTIAL)
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

    @pytest.mark.parametrize("status", S)
    @pytest.mark.parametrize("kind", KINDS)
    async def test_about_an_earlier_attempt_never_touches_the_present_one(
        self, session: AsyncSession, kind: str, status: PaymentStatus
    ) -> None:
        payment = await stored(session, a_payment(status, attempt=2))
        before, since = columns(payment), payment.last_sequence

        answer = an_answer(kind, earlier_key(1))
        await record(session, payment, answer, question=asked(payment, earlier_key(1)), cause=Cause.WEBHOOK, at=LATER)

        noted = {"approved": ["captured_but_failed_here"], "deposit awaited": ["deposit_awaited_but_closed_here"]}
        assert await outcome(session, payment, since=since) == Outcome(status, noted=noted.get(kind, []))
        assert columns(payment) == before

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
        told = message.payload["payment"]
        assert isinstance(told, dict)
        assert (message.sequence, message.payload["sequence"]) == (payment.last_sequence, payment.last_sequence)
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
