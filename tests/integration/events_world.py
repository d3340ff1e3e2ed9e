"""The words in which the stories of events are told: payments whose lives are announced, and a shop that listens."""

import asyncio
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select, update

from payments.db import Sessions, transaction
from payments.gateways.subscribers import Delivered, Delivery, NotDelivered
from payments.outbox import announce
from payments.queries import database_now, get_payment_to_change
from payments.records import Discrepancy, EventType, OutboxMessage
from payments.states import Cause
from payments.usecases.deliver import Sent, deliver_due
from tests.builders import a_payment

AWAY: Final = NotDelivered("ConnectError")
BROKEN: Final = NotDelivered("status 500")
REFUSED: Final = NotDelivered("status 400", is_refused=True)


@dataclass(frozen=True, slots=True)
class Told:
    """One try at telling the shop something."""

    message_id: UUID
    order_id: str
    sequence: int
    type: str

    @classmethod
    def of(cls, message_id: UUID, body: bytes) -> "Told":
        event = json.loads(body)
        data = event["data"]
        return cls(message_id, data["payment"]["orderId"], data["sequence"], event["type"])


def takes(_: Told) -> Delivery:
    return Delivered()


@dataclass
class Shop:
    """An order service that acts on each message once, by its id, and writes down every try."""

    answer: Callable[[Told], Delivery] = takes
    answers_lost: int = 0  # of the next ones: taken, and nobody hears of it
    tries: list[Told] = field(default_factory=list)
    acted_on: dict[UUID, Told] = field(default_factory=dict)
    came_early: list[Told] = field(default_factory=list)  # before what happened earlier to the same payment
    sequences: dict[str, set[int]] = field(default_factory=dict)  # of each order, what there is to be told

    async def deliver(self, message_id: UUID, body: bytes) -> Delivery:
        told = Told.of(message_id, body)
        self.tries.append(told)
        if self._is_early(told):
            self.came_early.append(told)
        for _ in range(random.randrange(8)):
            await asyncio.sleep(0)  # others get in between
        delivery = self.answer(told)
        if isinstance(delivery, Delivered):
            self.acted_on.setdefault(message_id, told)
            if self.answers_lost:
                self.answers_lost -= 1
                return NotDelivered("ReadTimeout")
        return delivery

    def expect(self, messages: Iterable[OutboxMessage]) -> None:
        for message in messages:
            self.sequences.setdefault(message.order_id, set()).add(message.sequence)

    def told_of(self, order_id: str) -> list[int]:
        """The sequences of what the shop acted on, in the order in which it did."""
        return [told.sequence for told in self.acted_on.values() if told.order_id == order_id]

    def _is_early(self, told: Told) -> bool:
        earlier = {number for number in self.sequences.get(told.order_id, ()) if number < told.sequence}
        return not earlier <= set(self.told_of(told.order_id))


async def lived(sessions: Sessions, *order_ids: str, events: int = 1) -> None:
    """Payments that were completed, and then given back won by won until so many events were announced of each."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        for order_id in order_ids:
            payment = a_payment(order_id=order_id, payment_key=f"key-of-{order_id}")
            session.add(payment)
            await announce(session, payment, EventType.COMPLETED, at=now)
    for _ in range(events - 1):
        await gave_back(sessions, *order_ids)


async def gave_back(sessions: Sessions, *order_ids: str) -> None:
    """One more event of each of these payments."""
    async with transaction(sessions) as session:
        for order_id in order_ids:
            payment, now = await get_payment_to_change(session, order_id)
            payment.refund(1, at=now, cause=Cause.API)
            await announce(session, payment, EventType.REFUNDED, at=now)


async def messages(sessions: Sessions) -> Sequence[OutboxMessage]:
    """All there is to tell, in the order of each payment."""
    async with transaction(sessions) as session:
        found = select(OutboxMessage).order_by(OutboxMessage.payment_id, OutboxMessage.sequence)
        return (await session.scalars(found)).all()


async def message_of(sessions: Sessions, order_id: str) -> OutboxMessage:
    """The only thing to tell of an order."""
    (message,) = [one for one in await messages(sessions) if one.order_id == order_id]
    return message


async def let_pass(sessions: Sessions, time: timedelta) -> None:
    """So much time goes by for everything that is to be told."""
    async with transaction(sessions) as session:
        await session.execute(
            update(OutboxMessage).values(
                created_at=OutboxMessage.created_at - time,
                first_attempt_at=OutboxMessage.first_attempt_at - time,
                next_attempt_at=OutboxMessage.next_attempt_at - time,
                held_until=OutboxMessage.held_until - time,
                delivered_at=OutboxMessage.delivered_at - time,
            )
        )


async def pause_of(sessions: Sessions, order_id: str) -> timedelta:
    """How long the message of an order still waits for its next try."""
    message = await message_of(sessions, order_id)
    async with transaction(sessions) as session:
        return message.next_attempt_at - await database_now(session)


async def deliver_all(sessions: Sessions, shop: Shop) -> list[Sent]:
    """A worker's round: as long as something that is due is taken."""
    sent: list[Sent] = []
    while True:
        some = await deliver_due(sessions=sessions, subscriber=shop)
        sent += some
        if not any(one.delivered for one in some):
            return sent


async def noted(sessions: Sessions) -> Sequence[Discrepancy]:
    """Every discrepancy, oldest first."""
    async with transaction(sessions) as session:
        return (await session.scalars(select(Discrepancy).order_by(Discrepancy.first_seen_at, Discrepancy.id))).all()
