"""Deliver: what the order service must be told is sent until it has taken it, in order for each payment."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments import discrepancies
from payments.db import Sessions, race, transaction
from payments.gateways.subscribers import Delivered, Delivery, NotDelivered, Subscriber
from payments.outbox import (
    Undelivered,
    claim_messages,
    get_message,
    hasten,
    refusal_subject,
    resolve_undelivered,
    undelivered,
)
from payments.queries import database_now
from payments.records import DiscrepancyKind, OutboxMessage
from payments.snapshots import iso

log = structlog.get_logger()

LEASE: Final = timedelta(seconds=20)  # longer than the receiver may take; then somebody else sends it once more
# How long after a failure the next try comes, at the most: half of it at the least, so that tries spread.
PACE: Final = (
    *(timedelta(seconds=seconds) for seconds in (2, 5, 15, 60)),
    *(timedelta(minutes=minutes) for minutes in (5, 15, 30)),
    timedelta(hours=1),
)
REFUSED_PACE: Final = timedelta(hours=1)  # a receiver that will say the same again is not hammered
PARK_AFTER: Final = timedelta(hours=72)
AT_ONCE: Final = 50
PATIENCE: Final = LEASE + timedelta(seconds=5)  # with what others are sending
LOOK_AGAIN_AFTER: Final = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of sending one message."""

    message_id: UUID
    order_id: str
    type: str
    sequence: int
    delivered: bool
    error: str | None


async def deliver_due(*, sessions: Sessions, subscriber: Subscriber, limit: int = AT_ONCE) -> Sequence[Sent]:
    """Send what is due, at most `limit` messages at the same time, one of each payment.

    Any number of workers may do this at once: what one has claimed the others leave alone, and of a payment only the
    first message that was not delivered is ever sent. What was taken and not answered is sent again under the same id.
    """
    async with transaction(sessions) as session:
        now = await database_now(session)
        claimed = await claim_messages(session, now=now, until=now + LEASE, limit=limit)
    return await asyncio.gather(*(_send(one, sessions=sessions, subscriber=subscriber) for one in claimed))


async def deliver_now(
    *,
    sessions: Sessions,
    subscriber: Subscriber,
    message_ids: Sequence[UUID] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sequence[Sent]:
    """Send what was not delivered, due or not, once; all of it, or these messages.

    In order for each payment: what stands behind a message that the receiver does not take is left alone. What
    somebody else is sending at this moment is waited for, so that afterwards each of them has been tried.
    """
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + PATIENCE.total_seconds()
    sent: list[Sent] = []
    stuck: set[UUID] = set()
    waiting = await _undelivered(message_ids, sessions=sessions)
    while ready := _first_of_each_payment(waiting, stuck)[:AT_ONCE]:
        outcomes = await _send_now(ready, sessions=sessions, subscriber=subscriber)
        refused = {outcome.message_id for outcome in outcomes if not outcome.delivered}
        stuck |= {one.payment_id for one in ready if one.message_id in refused}
        if not outcomes and loop.time() >= ends_at:
            stuck |= {one.payment_id for one in ready}
        elif not outcomes:
            await asyncio.sleep(LOOK_AGAIN_AFTER.total_seconds())
        waiting = await _undelivered([one.message_id for one in waiting], sessions=sessions)
        sent += outcomes
        if progress is not None and outcomes:
            progress(len(sent), len(sent) + sum(one.message_id not in refused for one in waiting))
    return sent


async def _undelivered(message_ids: Sequence[UUID] | None, *, sessions: Sessions) -> Sequence[Undelivered]:
    async with transaction(sessions) as session:
        return await undelivered(session, message_ids)


async def _send_now(ready: Sequence[Undelivered], *, sessions: Sessions, subscriber: Subscriber) -> Sequence[Sent]:
    ids = [one.message_id for one in ready]
    async with transaction(sessions) as session:
        now = await database_now(session)
        claimed = await claim_messages(session, now=now, until=now + LEASE, limit=len(ids), only=ids)
    return await asyncio.gather(*(_send(one, sessions=sessions, subscriber=subscriber) for one in claimed))


def _first_of_each_payment(waiting: Sequence[Undelivered], stuck: set[UUID]) -> list[Undelivered]:
    first: dict[UUID, Undelivered] = {}
    for one in waiting:  # in order of their sequences
        if one.payment_id not in stuck:
            first.setdefault(one.payment_id, one)
    return list(first.values())


async def _send(message: OutboxMessage, *, sessions: Sessions, subscriber: Subscriber) -> Sent:
    body = json.dumps(message.payload, ensure_ascii=False, separators=(",", ":")).encode()
    delivery = await subscriber.deliver(message.id, body)
    try:
        await race(lambda: _record(message.id, delivery, sessions=sessions))
    except Exception as error:  # one bad row never stops the others; its lease ends, and it is sent again
        log.exception("outbox.not_recorded", message_id=str(message.id), error=type(error).__name__)
    return Sent(
        message_id=message.id,
        order_id=message.order_id,
        type=message.type.value,
        sequence=message.sequence,
        delivered=isinstance(delivery, Delivered),
        error=delivery.reason if isinstance(delivery, NotDelivered) else None,
    )


async def _record(message_id: UUID, delivery: Delivery, *, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        message, now = await get_message(session, message_id)
        if message.delivered_at is None:
            await _apply(session, message, delivery, at=now)


async def _apply(session: AsyncSession, message: OutboxMessage, delivery: Delivery, *, at: datetime) -> None:
    message.attempts += 1
    message.held_until = None
    if isinstance(delivery, Delivered):
        message.delivered_at = at
        await resolve_undelivered(session, message, at=at)
        message.parked_at = message.last_error = None
        if message.awaits_receiver:
            await hasten(session, at=at)
        message.awaits_receiver = False
        log.info("outbox.delivered", order_id=message.order_id, type=message.type.value, attempts=message.attempts)
        return
    message.last_error = delivery.reason
    message.next_attempt_at = at + _pause(message, delivery)
    message.awaits_receiver = not delivery.is_refused and delivery.retry_after is None
    is_given_up = message.first_attempt_at is not None and at >= message.first_attempt_at + PARK_AFTER
    if is_given_up:
        message.parked_at = at
        await _note(session, message, f"{message.order_id}/{message.id}", at=at)
    if delivery.is_refused:  # once for all that are refused alike: mostly a wrong key or address
        await _note(session, message, refusal_subject(delivery.reason), at=at)
    log.warning("outbox.not_delivered", order_id=message.order_id, type=message.type.value, reason=delivery.reason)


def _pause(message: OutboxMessage, delivery: NotDelivered) -> timedelta:
    longest = REFUSED_PACE if delivery.is_refused else PACE[min(message.attempts, len(PACE)) - 1]
    jittered = longest * random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
    return max(jittered, delivery.retry_after or timedelta())


async def _note(session: AsyncSession, message: OutboxMessage, subject: str, *, at: datetime) -> None:
    await discrepancies.note_subject(
        session,
        DiscrepancyKind.EVENT_NOT_DELIVERED,
        subject,
        payment_id=message.payment_id,
        ours={"type": message.type.value, "orderId": message.order_id, "triedSince": iso(message.first_attempt_at)},
        theirs={"answer": message.last_error},
        at=at,
    )
