"""Which events have arrived, kept in the same transaction that moves their orders: each event counts once."""

import logging
from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, DateTime, ForeignKey, String, Text, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from demo_shop.events import Event
from demo_shop.orders import Base, Order, Sessions
from demo_shop.payments_client import Payment
from demo_shop.refresh import ORDER_STATUS, move_order

log = logging.getLogger(__name__)

EVENT_ID_PATTERN: Final = r"[!-~]{1,200}"  # a UUID of the payments service; the standard leaves it open


class ReceivedEvent(Base):
    """An event of one of our orders, whether it moved the order or came too late for that."""

    __tablename__ = "received_events"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    type: Mapped[str] = mapped_column(Text)
    order_id: Mapped[str] = mapped_column(ForeignKey("orders.order_id"))
    sequence: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


async def receive(sessions: Sessions, event_id: str, *, event: Event, at: datetime) -> None:
    """Let the order follow what an event tells; the same event again, or an older one, changes nothing.

    An event that is not of one of our orders is logged and not kept, so that it counts if it is sent once more.
    """
    payment = event.data.payment
    async with sessions.begin() as session:
        is_news = await _is_of_our_order(session, payment) and await _is_new(session, event_id, event=event, at=at)
        moved = is_news and await move_order(session, payment, at=at)
    if moved:
        log.info("order %s is now %s: %s", payment.order_id, ORDER_STATUS[payment.status], event.type)


async def _is_of_our_order(session: AsyncSession, payment: Payment) -> bool:
    amount = await session.scalar(select(Order.amount).where(Order.order_id == payment.order_id))
    if amount is None:
        log.error("an event tells of %s, which is no order of this shop: not followed", payment.order_id)
        return False
    if not payment.is_over(amount):
        log.error("an event tells of another amount than that of %s: not followed", payment.order_id)
        return False
    return True


async def _is_new(session: AsyncSession, event_id: str, *, event: Event, at: datetime) -> bool:
    """Keep it. The same event in another transaction waits here until this one is over."""
    kept = (
        insert(ReceivedEvent)
        .values(
            id=event_id,
            type=event.type,
            order_id=event.data.payment.order_id,
            sequence=event.data.sequence,
            received_at=at,
        )
        .on_conflict_do_nothing()
        .returning(ReceivedEvent.id)
    )
    return await session.scalar(kept) is not None
