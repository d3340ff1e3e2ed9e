"""The selects and claims of the nightly comparisons: a business day in pages, and each night done once."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, or_, select, tuple_, union_all, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from payments.leases import DEAD_AFTER
from payments.models import Payment, PaymentEvent, Refund, StrayCapture
from payments.records import Discrepancy, DiscrepancyKind, Json, NightlyCheck, NightlyRun, OutboxMessage, Process
from payments.states import RefundStatus

HELD_FOR: Final = timedelta(minutes=30)  # then a night is taken over, whether or not its holder still lives
RETRY_AFTER: Final = timedelta(minutes=5)  # for each time that a night has been tried
LONGEST_RETRY: Final = timedelta(hours=1)


class Move(NamedTuple):
    """That a payment was completed, refunded or reversed; their order is that of the pages."""

    at: datetime
    payment_id: UUID


async def moves_between(
    session: AsyncSession, since: datetime, until: datetime, *, after: Move | None, limit: int
) -> Sequence[Move]:
    """When payments were completed, given back and taken back by a bank, from `since` to before `until`, in pages."""

    def page_of(
        at: InstrumentedAttribute[datetime | None],
        payment_id: InstrumentedAttribute[UUID],
        *conditions: ColumnElement[bool],
    ) -> Select[datetime | None, UUID]:
        # Each source is read no further than a page, along its own index, however much happened on the day.
        page = select(at.label("at"), payment_id.label("payment_id")).where(at >= since, at < until, *conditions)
        if after is not None:
            page = page.where(tuple_(at, payment_id) > tuple_(*after))
        return page.order_by(at, payment_id).limit(limit)

    completed = page_of(Payment.completed_at, Payment.id)
    given_back = page_of(Refund.completed_at, Refund.payment_id, Refund.status == RefundStatus.SUCCEEDED)
    taken_back = page_of(Payment.reversed_at, Payment.id)
    moves = union_all(completed, given_back, taken_back).subquery()
    page = select(moves.c.at, moves.c.payment_id).order_by(moves.c.at, moves.c.payment_id).limit(limit)
    return [Move(at, payment_id) for at, payment_id in await session.execute(page)]


async def payments_with_moves(session: AsyncSession, payment_ids: Iterable[UUID]) -> Sequence[tuple[Payment, datetime]]:
    """Payments, each with the time of its newest move, in the order of their ids."""
    return await _with_moves(session, Payment.id.in_(payment_ids))


async def payments_of_orders(session: AsyncSession, order_ids: Iterable[str]) -> Sequence[tuple[Payment, datetime]]:
    """The same, by their orders."""
    return await _with_moves(session, Payment.order_id.in_(order_ids))


async def payments_of_keys(session: AsyncSession, payment_keys: Sequence[str]) -> dict[str, Payment]:
    """Payments by the payment keys that they have, or had in an earlier attempt."""
    present = await session.scalars(select(Payment).where(Payment.payment_key.in_(payment_keys)))
    found = {payment.payment_key: payment for payment in present if payment.payment_key is not None}
    others = [key for key in payment_keys if key not in found]
    earlier = await session.execute(
        select(PaymentEvent.payment_key, Payment)
        .join(Payment, Payment.id == PaymentEvent.payment_id)
        .where(PaymentEvent.payment_key.in_(others))
    )
    return {**found, **{key: payment for key, payment in earlier if key is not None}}


async def refunds_of_payments(session: AsyncSession, payment_ids: Iterable[UUID]) -> dict[UUID, list[Refund]]:
    """The refunds of several payments that succeeded, or are not decided yet; none for those without."""
    refunds = select(Refund).where(Refund.payment_id.in_(payment_ids), Refund.status != RefundStatus.FAILED)
    found: dict[UUID, list[Refund]] = {}
    for refund in await session.scalars(refunds.order_by(Refund.requested_at, Refund.id)):
        found.setdefault(refund.payment_id, []).append(refund)
    return found


async def strays_among(session: AsyncSession, payment_keys: Sequence[str]) -> set[str]:
    """Those of the payment keys whose captures go, or went, back because no payment of ours may have them."""
    return set(
        await session.scalars(select(StrayCapture.payment_key).where(StrayCapture.payment_key.in_(payment_keys)))
    )


async def send_again(session: AsyncSession, payment_ids: Iterable[UUID], *, at: datetime) -> Sequence[UUID]:
    """Let the messages about these payments be sent once more, unless they have been already.

    Answers all that are to be sent now, in order for each payment: what was sent once more before and has not been
    taken since is among them.
    """
    payment_ids = list(payment_ids)
    again = update(OutboxMessage).where(OutboxMessage.payment_id.in_(payment_ids), OutboxMessage.resent_at.is_(None))
    await session.execute(
        again.values(
            resent_at=at,
            delivered_at=None,
            parked_at=None,
            last_error=None,
            attempts=0,
            first_attempt_at=None,
            next_attempt_at=at,
            held_until=None,
            awaits_receiver=False,
        )
    )
    waiting = select(OutboxMessage.id).where(
        OutboxMessage.payment_id.in_(payment_ids),
        OutboxMessage.delivered_at.is_(None),
        OutboxMessage.parked_at.is_(None),
    )
    return (await session.scalars(waiting.order_by(OutboxMessage.payment_id, OutboxMessage.sequence))).all()


async def noted_at(session: AsyncSession, payment_id: UUID, at: datetime) -> Counter[DiscrepancyKind]:
    """The differences of a payment that were noted, again or for the first time, in the transaction that began `at`."""
    kinds = select(Discrepancy.kind).where(Discrepancy.payment_id == payment_id, Discrepancy.last_seen_at == at)
    return Counter(await session.scalars(kinds))


async def open_nights(session: AsyncSession, kind: NightlyCheck, *, newest: date, at_most: int) -> Sequence[date]:
    """The nights up to `newest` that are not finished, oldest first: since the first one that there was.

    Where there was none, only `newest`. What is more than `at_most` days old is given up.
    """
    oldest = newest - timedelta(days=at_most - 1)
    runs = await session.execute(
        select(NightlyRun.day, NightlyRun.finished_at).where(NightlyRun.kind == kind, NightlyRun.day <= newest)
    )
    finished = {day: finished_at for day, finished_at in runs}  # noqa: C416 - a Row is no tuple to the type checker
    day = max(oldest, min(finished, default=newest))
    days = [day + timedelta(days=number) for number in range((newest - day).days + 1)]
    return [day for day in days if finished.get(day) is None]


async def is_watched(session: AsyncSession, kind: NightlyCheck, day: date) -> bool:
    """Whether the workers look after this night, or an earlier one."""
    known = select(NightlyRun.day).where(NightlyRun.kind == kind, NightlyRun.day <= day).limit(1)
    return await session.scalar(known) is not None


async def claim_night(
    session: AsyncSession, kind: NightlyCheck, day: date, *, holder: UUID | None, now: datetime
) -> int | None:
    """Take a night that is not finished, away from everybody else; answers which attempt at it this is.

    None while somebody else is at it: until `HELD_FOR` is over, or until the holder dies; and after a failure until
    the night is due again.
    """
    first = insert(NightlyRun).values(
        kind=kind, day=day, held_by=holder, next_attempt_at=now + HELD_FOR, attempts=1, started_at=now
    )
    if await session.scalar(first.on_conflict_do_nothing().returning(NightlyRun.attempts)) is not None:
        return 1
    alive = select(Process.id).where(Process.seen_at > now - DEAD_AFTER)
    is_free = or_(
        NightlyRun.next_attempt_at <= now, and_(NightlyRun.held_by.is_not(None), NightlyRun.held_by.not_in(alive))
    )
    night = await session.scalar(
        _night(kind, day).where(NightlyRun.finished_at.is_(None), is_free).with_for_update(skip_locked=True)
    )
    if night is None:
        return None
    night.attempts += 1
    night.held_by = holder
    night.next_attempt_at = now + HELD_FOR
    return night.attempts


async def finish_night(
    session: AsyncSession, kind: NightlyCheck, day: date, *, report: dict[str, Json], now: datetime
) -> None:
    """A night is done, whoever else may be at it; its newest report is kept."""
    done = {"finished_at": now, "report": report, "last_error": None, "held_by": None}
    row = insert(NightlyRun).values(kind=kind, day=day, next_attempt_at=now, attempts=1, started_at=now, **done)
    await session.execute(row.on_conflict_do_update(index_elements=[NightlyRun.kind, NightlyRun.day], set_=done))


async def fail_night(
    session: AsyncSession, kind: NightlyCheck, day: date, *, attempt: int, error: str, now: datetime
) -> None:
    """A night could not be finished and is due again later; unless somebody else has taken it over by now."""
    night = await session.scalar(
        _night(kind, day).where(NightlyRun.finished_at.is_(None), NightlyRun.attempts == attempt).with_for_update()
    )
    if night is None:
        return
    night.held_by = None
    night.last_error = error
    night.next_attempt_at = now + min(RETRY_AFTER * attempt, LONGEST_RETRY)


def _night(kind: NightlyCheck, day: date) -> Select[NightlyRun]:
    return select(NightlyRun).where(NightlyRun.kind == kind, NightlyRun.day == day)


async def _with_moves(session: AsyncSession, chosen: ColumnElement[bool]) -> Sequence[tuple[Payment, datetime]]:
    newest = and_(PaymentEvent.payment_id == Payment.id, PaymentEvent.sequence == Payment.last_sequence)
    rows = await session.execute(
        select(Payment, PaymentEvent.at).join(PaymentEvent, newest).where(chosen).order_by(Payment.id)
    )
    return [(payment, at) for payment, at in rows]
