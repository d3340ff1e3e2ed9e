"""Which payments no longer need the name of their buyer, and what stands in the way of those that do."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from payments.models import Payment, PaymentEvent, Refund, StrayCapture
from payments.records import Discrepancy, IdempotentRequest, OutboxMessage, ReceivedWebhook
from payments.states import EVER_CAPTURED, PaymentStatus, RefundStatus

# Nothing happens to them any more by itself; a person may still give money back.
AT_REST: Final = EVER_CAPTURED | {PaymentStatus.FAILED, PaymentStatus.CANCELLED}


class StillOpen(StrEnum):
    """Why the buyer's data are still needed, in words for an operator."""

    UNDECIDED = "the payment is not decided"
    WATCHED = "the payment gateway is still asked about it"
    REFUND = "a refund is not decided"
    STRAY = "money that was captured by mistake has not gone back"
    DISCREPANCY = "a discrepancy is not resolved"
    EVENT = "the order service has not been told everything"
    CANCEL_REQUEST = "the cancel may still be repeated under its Idempotency-Key"
    REFUND_REQUEST = "a refund may still be repeated under its Idempotency-Key"


class Place(NamedTuple):
    """Where a reader of what is due has come to."""

    prepared_at: datetime
    payment_id: UUID


class Due(NamedTuple):
    """A payment whose buyer may be forgotten."""

    order_id: str
    place: Place


# What each of them is, about a payment; that none is true is what `due_for_erasure` looks for.
_OPEN: Final[dict[StillOpen, ColumnElement[bool]]] = {
    StillOpen.UNDECIDED: Payment.status.not_in(AT_REST),
    StillOpen.WATCHED: Payment.next_check_at.is_not(None),
    StillOpen.REFUND: exists().where(Refund.payment_id == Payment.id, Refund.status == RefundStatus.REQUESTED),
    StillOpen.STRAY: exists().where(
        StrayCapture.payment_id == Payment.id, StrayCapture.status == RefundStatus.REQUESTED
    ),
    StillOpen.DISCREPANCY: exists().where(Discrepancy.payment_id == Payment.id, Discrepancy.resolved_at.is_(None)),
    # What was parked has a discrepancy, and whoever resolved that has given it up.
    StillOpen.EVENT: exists().where(
        OutboxMessage.payment_id == Payment.id,
        OutboxMessage.delivered_at.is_(None),
        OutboxMessage.parked_at.is_(None),
    ),
    # Their answers are kept until then, and a repetition must not become another refund.
    StillOpen.CANCEL_REQUEST: exists().where(IdempotentRequest.id == Payment.cancel_request_id),
    StillOpen.REFUND_REQUEST: exists().where(
        Refund.payment_id == Payment.id, IdempotentRequest.id == Refund.request_id
    ),
}


async def due_for_erasure(
    session: AsyncSession, *, older_than: timedelta, after: Place | None, limit: int
) -> Sequence[Due]:
    """Payments that hold personal data, at which nothing has moved for so long and nothing is open, oldest first."""
    is_closed = [~is_open for is_open in _OPEN.values()]
    page = select(Payment.order_id, Payment.prepared_at, Payment.id).where(_is_old(older_than), *is_closed)
    if after is not None:
        page = page.where(tuple_(Payment.prepared_at, Payment.id) > tuple_(*after))
    rows = await session.execute(page.order_by(Payment.prepared_at, Payment.id).limit(limit))
    return [Due(order_id, Place(prepared_at, payment_id)) for order_id, prepared_at, payment_id in rows]


async def count_still_needed(session: AsyncSession, *, older_than: timedelta) -> int:
    """How many are as old, and cannot be erased because something of them is open."""
    needed = select(func.count(Payment.id)).where(_is_old(older_than), or_(*_OPEN.values()))
    return (await session.scalars(needed)).one()


async def still_open(session: AsyncSession, payment: Payment) -> Sequence[StillOpen]:
    """What of a payment is open; nothing, when its buyer may be forgotten. The caller holds its lock."""
    row = (await session.execute(select(*_OPEN.values()).where(Payment.id == payment.id))).one()
    return [what for what, is_open in zip(_OPEN, row, strict=True) if is_open]


async def delete_messages(session: AsyncSession, payment: Payment) -> None:
    """Delete what the order service was told of a payment: each is a copy of what is erased."""
    await session.execute(delete(OutboxMessage).where(OutboxMessage.payment_id == payment.id))


async def delete_webhooks(session: AsyncSession, payment: Payment) -> None:
    """Delete the PG's events about a payment; one that still waits is deleted when it has been worked on for long."""
    is_over = or_(ReceivedWebhook.processed_at.is_not(None), ReceivedWebhook.parked_at.is_not(None))
    await session.execute(delete(ReceivedWebhook).where(ReceivedWebhook.order_id == payment.order_id, is_over))


async def erase_resolutions_of(session: AsyncSession, payment: Payment) -> None:
    """What people wrote about the differences of a payment; that there were some stays."""
    await session.execute(update(Discrepancy).where(Discrepancy.payment_id == payment.id).values(resolution=None))


async def erase_old_resolutions(session: AsyncSession, *, older_than: timedelta, limit: int) -> int:
    """The same for differences that were resolved so long ago, also about orders of which we have no payment."""
    old = (
        select(Discrepancy.id)
        .where(Discrepancy.resolution.is_not(None), Discrepancy.resolved_at < func.now() - older_than)
        .order_by(Discrepancy.resolved_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    erased = update(Discrepancy).where(Discrepancy.id.in_(old)).values(resolution=None).returning(Discrepancy.id)
    return len((await session.scalars(erased)).all())


async def delete_old_parked_webhooks(session: AsyncSession, *, older_than: timedelta, limit: int) -> int:
    """Delete events of the PG that were given up so long ago; the others are forgotten earlier."""
    old = (
        select(ReceivedWebhook.id)
        .where(ReceivedWebhook.received_at < func.now() - older_than, ReceivedWebhook.parked_at.is_not(None))
        .order_by(ReceivedWebhook.received_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    gone = delete(ReceivedWebhook).where(ReceivedWebhook.id.in_(old)).returning(ReceivedWebhook.id)
    return len((await session.scalars(gone)).all())


def _is_old(older_than: timedelta) -> ColumnElement[bool]:
    """Whether a payment holds personal data and nothing has moved at it for so long; an index holds just these."""
    long_ago = func.now() - older_than
    last_move = select(PaymentEvent.at).where(
        PaymentEvent.payment_id == Payment.id, PaymentEvent.sequence == Payment.last_sequence
    )
    # A refund that failed moved nothing, and was asked for all the same.
    asked_since = exists().where(
        Refund.payment_id == Payment.id, or_(Refund.requested_at >= long_ago, Refund.completed_at >= long_ago)
    )
    return and_(
        Payment.erased_at.is_(None),
        Payment.prepared_at < long_ago,
        last_move.scalar_subquery() < long_ago,
        ~asked_since,
    )
