"""What the order service must be told: written in the transaction of the change, sent and read in order."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Text, cast, exists, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from payments.ids import new_id
from payments.models import Payment, Refund
from payments.queries import refunds_of
from payments.records import Discrepancy, DiscrepancyKind, EventType, Json, OutboxMessage
from payments.snapshots import iso, snapshot
from payments.states import EVER_CAPTURED


async def announce(session: AsyncSession, payment: Payment, event_type: EventType, *, at: datetime) -> None:
    """Add the message that tells of the payment's newest history row. Sent only if this transaction commits."""
    await session.flush()  # so that the snapshot carries the version that this change gets
    refunds = await refunds_of(session, payment.id) if payment.status in EVER_CAPTURED else ()
    session.add(
        OutboxMessage(
            id=new_id(),
            payment_id=payment.id,
            sequence=payment.last_sequence,
            type=event_type,
            payload=payload_of(payment, refunds, event_type, at=at),
            created_at=at,
            transaction_id=_not_before(payment),
            attempts=0,
            next_attempt_at=at,
            awaits_receiver=False,
        )
    )


def payload_of(payment: Payment, refunds: Sequence[Refund], event_type: EventType, *, at: datetime) -> dict[str, Json]:
    """What a message tells, as Standard Webhooks recommends: type, timestamp, data."""
    return {
        "type": event_type.value,
        "timestamp": iso(at),
        "data": {"sequence": payment.last_sequence, "payment": snapshot(payment, refunds)},
    }


def _not_before(payment: Payment) -> ColumnElement[int]:
    """This transaction's number, or that of the payment's last message if it is higher.

    Numbers are drawn when a transaction first writes, and a payment is locked before that: of two that waited for it
    the later one may have the lower number. Its own is never undercut, so no reader can have passed it.
    """
    own = cast(cast(func.pg_current_xact_id(), Text), BigInteger)
    last = select(func.max(OutboxMessage.transaction_id)).where(OutboxMessage.payment_id == payment.id)
    return func.greatest(own, last.scalar_subquery())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader of the feed has come to."""

    transaction_id: int
    sequence: int
    message_id: UUID


async def claim_messages(
    session: AsyncSession, *, now: datetime, until: datetime, limit: int, only: Sequence[UUID] | None = None
) -> Sequence[OutboxMessage]:
    """Take messages that are due, oldest first, away from everybody else; of a payment only the first undelivered one.

    With `only` these messages are taken, due or not, unless somebody is sending them at this moment.
    """
    earlier = aliased(OutboxMessage)
    is_first = ~exists().where(
        earlier.payment_id == OutboxMessage.payment_id,
        earlier.sequence < OutboxMessage.sequence,
        earlier.delivered_at.is_(None),
        earlier.parked_at.is_(None),
    )
    is_free = or_(OutboxMessage.held_until.is_(None), OutboxMessage.held_until <= now)
    due = select(OutboxMessage).where(OutboxMessage.delivered_at.is_(None), is_first, is_free)
    if only is None:
        due = due.where(OutboxMessage.parked_at.is_(None), OutboxMessage.next_attempt_at <= now)
    else:
        due = due.where(OutboxMessage.id.in_(only))
    due = due.order_by(OutboxMessage.next_attempt_at).limit(limit).with_for_update(skip_locked=True)
    messages = (await session.scalars(due)).all()
    for message in messages:
        message.held_until = until
        message.first_attempt_at = message.first_attempt_at or now
    return messages


class Undelivered(NamedTuple):
    """A message that was not taken yet."""

    message_id: UUID
    payment_id: UUID


async def undelivered(session: AsyncSession, message_ids: Collection[UUID] | None) -> Sequence[Undelivered]:
    """What was not delivered and not parked, in order for each payment; all of it, or what is left of these."""
    waiting = (
        select(OutboxMessage.id, OutboxMessage.payment_id)
        .where(OutboxMessage.delivered_at.is_(None), OutboxMessage.parked_at.is_(None))
        .order_by(OutboxMessage.payment_id, OutboxMessage.sequence)
    )
    if message_ids is not None:
        waiting = waiting.where(OutboxMessage.id.in_(message_ids))
    return [Undelivered(*row) for row in await session.execute(waiting)]


async def get_message(session: AsyncSession, message_id: UUID) -> tuple[OutboxMessage, datetime]:
    """A message that is known to be there, locked, and the time by the database's clock."""
    found = select(OutboxMessage, func.now()).where(OutboxMessage.id == message_id).with_for_update()
    message, now = (await session.execute(found)).one()
    return message, now


async def hasten(session: AsyncSession, *, at: datetime) -> None:
    """The receiver is back: let be due what it did not answer.

    What it refused, or asked to wait with, keeps its pause.
    """
    pausing = (
        select(OutboxMessage.id)
        .where(
            OutboxMessage.delivered_at.is_(None),
            OutboxMessage.parked_at.is_(None),
            OutboxMessage.awaits_receiver,
            OutboxMessage.held_until.is_(None),
            OutboxMessage.next_attempt_at > at,
        )
        .with_for_update(skip_locked=True)
    )
    await session.execute(update(OutboxMessage).where(OutboxMessage.id.in_(pausing)).values(next_attempt_at=at))


async def resolve_undelivered(session: AsyncSession, message: OutboxMessage, *, at: datetime) -> None:
    """Nobody has to look any more at a message that was delivered after all, nor at the refusal that it met before."""
    await session.execute(
        update(Discrepancy)
        .where(
            Discrepancy.kind == DiscrepancyKind.EVENT_NOT_DELIVERED,
            Discrepancy.subject.in_([f"{message.order_id}/{message.id}", refusal_subject(message.last_error)]),
            Discrepancy.resolved_at.is_(None),
        )
        .values(resolved_at=at, resolved_by="delivery", resolution="delivered after all")
    )


def refusal_subject(answer: str | None) -> str:
    """What all messages that the receiver refuses alike have in common: mostly a wrong key or address of its own."""
    return f"receiver/{answer}"


async def replay(
    session: AsyncSession, *, order_id: str | None, message_id: UUID | None, parked_only: bool, at: datetime
) -> int:
    """Have messages sent once more, from the first try on; answers how many. Their ids stay as they are."""
    again = update(OutboxMessage).values(
        delivered_at=None,
        parked_at=None,
        last_error=None,
        attempts=0,
        first_attempt_at=None,
        next_attempt_at=at,
        held_until=None,
        awaits_receiver=False,
    )
    if order_id is not None:
        of_order = select(Payment.id).where(Payment.order_id == order_id)
        again = again.where(OutboxMessage.payment_id.in_(of_order))
    if message_id is not None:
        again = again.where(OutboxMessage.id == message_id)
    if parked_only:
        again = again.where(OutboxMessage.parked_at.is_not(None))
    return len((await session.scalars(again.returning(OutboxMessage.id))).all())


async def feed(session: AsyncSession, after: Place | None, *, limit: int) -> Sequence[OutboxMessage]:
    """The messages behind a place, in an order in which nothing ever appears before what was read.

    Ids are drawn before the commit, so that a later one can be seen first; only what began before every transaction
    that still runs is shown (https://www.postgresql.org/docs/current/functions-info.html, pg_snapshot_xmin).
    """
    oldest_running = cast(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text), BigInteger)
    place = tuple_(OutboxMessage.transaction_id, OutboxMessage.sequence, OutboxMessage.id)
    messages = (
        select(OutboxMessage)
        .where(OutboxMessage.transaction_id < oldest_running)
        .order_by(OutboxMessage.transaction_id, OutboxMessage.sequence, OutboxMessage.id)
        .limit(limit)
    )
    if after is not None:
        messages = messages.where(place > (after.transaction_id, after.sequence, after.message_id))
    return (await session.scalars(messages)).all()
