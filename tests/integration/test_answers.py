from collections.abc import AsyncIterator
from dataclasses import dataclass, field
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
from payments.models import Payment
from payments.queries import history
from payments.records import Discrepancy, OutboxMessage
from payments.states import Cause, PaymentMethod, PaymentStatus
from payments.usecases.answers import METHODS, OPEN, record
from tests.builders import ACCOUNT, LATER, PAYMENT_KEY, WEBHOOK_SECRET, a_held_payment, a_payment, earlier_key

S = PaymentStatus
CREATED, PENDING, WAITING, APPROVED, COMPLETED, FAILED, CANCELLED, REFUNDED, PARTIAL = S

ANSWERS: Final[dict[str, Answer]] = {
    "approved": Approved(a_held_payment()),
    "deposit awaited": DepositAwaited(a_held_payment(PgStatus.WAITING_FOR_DEPOSIT)),
    "declined": Declined("REJECT_CARD_PAYMENT", "한도초과 혹은 잔액부족으로 결제에 실패했습니다."),
    "cancelled": Cancelled(a_held_payment(PgStatus.CANCELED, balance=0)),
    "unknown": Unknown(UnknownBecause.NO_ANSWER),
    "mismatch": Unknown(UnknownBecause.MISMATCH, payment=a_held_payment(amount=12_001)),
}


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
    ("approved", CREATED): Outcome(CREATED, noted=["captured_but_failed_here"]),
    ("approved", PENDING): completed(),
    ("approved", WAITING): completed(),
    ("approved", FAILED): completed("captured_but_failed_here"),
    ("approved", CANCELLED): Outcome(CANCELLED, noted=["captured_after_cancel"]),
    ("deposit awaited", PENDING): moved(WAITING, "payment.waiting_for_deposit"),
    ("deposit awaited", COMPLETED): moved(WAITING, "payment.deposit_reversed"),
    ("declined", PENDING): moved(FAILED, "payment.failed"),
    ("declined", WAITING): moved(FAILED, "payment.failed"),
    ("declined", COMPLETED): Outcome(COMPLETED, noted=["completed_here_not_at_pg"]),
    ("declined", PARTIAL): Outcome(PARTIAL, noted=["completed_here_not_at_pg"]),
    ("cancelled", PENDING): moved(CANCELLED, "payment.cancelled"),
    ("cancelled", WAITING): moved(CANCELLED, "payment.cancelled"),
    ("cancelled", COMPLETED): Outcome(COMPLETED, noted=["refund_differs_at_pg"]),
    ("cancelled", PARTIAL): Outcome(PARTIAL, noted=["refund_differs_at_pg"]),
    **{
        ("mismatch", status): Outcome(status, noted=["amount_differs_at_pg"])
        for status in (PENDING, WAITING, APPROVED, COMPLETED, FAILED, CANCELLED, REFUNDED, PARTIAL)
    },
}


@pytest.fixture(scope="module")
def books(postgres: "LocalPostgres") -> "Iterator[str]":
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
    return payment


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
    @pytest.mark.parametrize("kind", ANSWERS)
    async def test_does_what_the_table_says_and_twice_no_more(
        self, session: AsyncSession, kind: str, status: PaymentStatus
    ) -> None:
        payment = await stored(session, a_payment(status))
        since = payment.last_sequence

        await record(session, payment, ANSWERS[kind], payment_key=PAYMENT_KEY, cause=Cause.RECOVERY, at=LATER)
        once = await outcome(session, payment, since=since)
        await record(session, payment, ANSWERS[kind], payment_key=PAYMENT_KEY, cause=Cause.RECOVERY, at=LATER)
        twice = await outcome(session, payment, since=since)

        assert once == EXPECTED.get((kind, status), Outcome(status))
        assert twice == once

    @pytest.mark.parametrize("status", S)
    @pytest.mark.parametrize("kind", ANSWERS)
    async def test_about_an_earlier_attempt_never_touches_the_present_one(
        self, session: AsyncSession, kind: str, status: PaymentStatus
    ) -> None:
        payment = await stored(session, a_payment(status, attempt=2))
        before, since = columns(payment), payment.last_sequence

        await record(session, payment, ANSWERS[kind], payment_key=earlier_key(1), cause=Cause.WEBHOOK, at=LATER)

        noted = ["captured_but_failed_here"] if kind == "approved" else []
        assert await outcome(session, payment, since=since) == Outcome(status, noted=noted)
        assert columns(payment) == before

    def test_is_told_of_every_status_that_can_still_be_decided(self) -> None:
        decided = {status for (kind, status), found in EXPECTED.items() if kind == "declined" and found.moves}

        assert decided == OPEN
