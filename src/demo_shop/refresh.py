"""Bring an order to where its payment really stands, by asking the payments API rather than the browser."""

import logging
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import httpx
from sqlalchemy.ext.asyncio import AsyncSession

from demo_shop.orders import Order, OrderStatus, Sessions, find_order, follow_payment
from demo_shop.payments_client import Found, NotPrepared, Payment, PaymentStatus, Unreadable, read_payment

log = logging.getLogger(__name__)

# A deposit that the bank took back makes an order unpaid again, which is why WAITING_FOR_DEPOSIT stands here.
ORDER_STATUS: Final = {
    PaymentStatus.CREATED: OrderStatus.CREATED,
    PaymentStatus.PENDING: OrderStatus.CREATED,
    PaymentStatus.WAITING_FOR_DEPOSIT: OrderStatus.CREATED,
    PaymentStatus.APPROVED: OrderStatus.CREATED,
    PaymentStatus.FAILED: OrderStatus.CREATED,
    PaymentStatus.COMPLETED: OrderStatus.PAID,
    PaymentStatus.CANCELLED: OrderStatus.CANCELLED,
    PaymentStatus.REFUNDED: OrderStatus.REFUNDED,
    PaymentStatus.PARTIALLY_REFUNDED: OrderStatus.PARTIALLY_REFUNDED,
}

_FINAL: Final = {OrderStatus.CANCELLED, OrderStatus.REFUNDED}
_PAID: Final = {OrderStatus.PAID, OrderStatus.REFUNDED, OrderStatus.PARTIALLY_REFUNDED}


class Knowledge(StrEnum):
    """What the shop knows about the payment of an order at this moment."""

    KNOWN = "KNOWN"
    NOT_PREPARED = "NOT_PREPARED"
    UNKNOWN = "UNKNOWN"  # the payments API could not be asked: says nothing about the money
    MISMATCH = "MISMATCH"  # it answered with another order, amount or currency


@dataclass(frozen=True)
class Refreshed:
    order: Order
    knowledge: Knowledge
    payment: Payment | None = None

    @property
    def awaits_deposit(self) -> bool:
        return self.payment is not None and self.payment.status is PaymentStatus.WAITING_FOR_DEPOSIT

    def is_overdue(self, *, at: datetime) -> bool:
        """Whether the bank takes no deposit any more, by our clock: the buyer's may be wrong."""
        account = self.payment.virtual_account if self.payment else None
        due_at = account.due_date if account else None
        return self.awaits_deposit and due_at is not None and due_at <= at


async def refresh_order(sessions: Sessions, payments: httpx.AsyncClient, order_id: str, *, at: datetime) -> Refreshed:
    """Read the payment of an order server to server and let the order follow it. Repeating it is harmless.

    Raises:
        LookupError: there is no such order.
    """
    order = await _get(sessions, order_id)
    answer = await read_payment(payments, order_id)
    match answer:
        case NotPrepared():
            return Refreshed(order, Knowledge.NOT_PREPARED)
        case Unreadable(why=why):
            log.warning("payment of %s could not be read: %s", order_id, why)
            return Refreshed(order, Knowledge.UNKNOWN)
        case Found(payment=payment):
            return await follow(sessions, order, payment=payment, at=at)


async def refresh_if_open(sessions: Sessions, payments: httpx.AsyncClient, order_id: str, *, at: datetime) -> Refreshed:
    """The same for somebody who only looks: an order to which nothing more can happen is not asked about again.

    Raises:
        LookupError: there is no such order.
    """
    order = await _get(sessions, order_id)
    if order.status in _FINAL:
        return Refreshed(order, Knowledge.KNOWN)
    return await refresh_order(sessions, payments, order_id, at=at)


async def follow(sessions: Sessions, order: Order, *, payment: Payment, at: datetime) -> Refreshed:
    """Let the order follow a payment that the payments API itself has shown to this server."""
    if payment.order_id != order.order_id or not payment.is_over(order.amount):
        log.error("payment of %s is not the one of this order: not followed", order.order_id)
        return Refreshed(order, Knowledge.MISMATCH)

    async with sessions.begin() as session:
        changed = await move_order(session, payment, at=at)
    status = ORDER_STATUS[payment.status]
    if changed and status is not order.status:
        log.info("order %s is now %s", order.order_id, status)
    return Refreshed(await _get(sessions, order.order_id), Knowledge.KNOWN, payment)


async def move_order(session: AsyncSession, payment: Payment, *, at: datetime) -> bool:
    """Move an order to where its payment stands; the caller commits. False if it had got there or further before."""
    status = ORDER_STATUS[payment.status]
    return await follow_payment(
        session,
        payment.order_id,
        amount=payment.amount,
        version=payment.version,
        status=status,
        refunded_amount=payment.refunded_amount,
        payment_key=payment.payment_key,
        paid_at=(payment.completed_at or at) if status in _PAID else None,
        at=at,
    )


async def _get(sessions: Sessions, order_id: str) -> Order:
    order = await find_order(sessions, order_id)
    if order is None:
        raise LookupError(order_id)
    return order
