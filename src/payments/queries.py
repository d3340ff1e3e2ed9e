"""The selects that deserve a name."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from payments.errors import PaymentNotFound
from payments.models import Payment, PaymentEvent, Refund
from payments.states import PaymentStatus


class Locked(NamedTuple):
    """A payment that other writers wait for, and the time by the database's clock."""

    payment: Payment
    now: datetime


async def lock_payment(session: AsyncSession, order_id: str) -> Locked | None:
    """The payment of an order, to be changed: other writers wait until this transaction ends.

    The version counter alone would be safe too, but a confirm could lose against a stream of prepares again and again.
    The time comes along, so that processes whose clocks differ agree on what is due.
    """
    row = await session.execute(select(Payment, func.now()).where(Payment.order_id == order_id).with_for_update())
    found = row.one_or_none()
    return Locked(*found) if found else None


async def database_now(session: AsyncSession) -> datetime:
    """The time by the database's clock, at which this transaction began."""
    return (await session.scalars(select(func.now()))).one()


async def get_payment(session: AsyncSession, order_id: str) -> Payment:
    """The payment of an order.

    Raises:
        PaymentNotFound: there is none.
    """
    payment = await session.scalar(select(Payment).where(Payment.order_id == order_id))
    if payment is None:
        raise PaymentNotFound
    return payment


async def get_payment_to_change(session: AsyncSession, order_id: str) -> Locked:
    """The same as `get_payment`, locked as by `lock_payment`."""
    locked = await lock_payment(session, order_id)
    if locked is None:
        raise PaymentNotFound
    return locked


async def get_payment_by_key(session: AsyncSession, payment_key: str) -> Payment:
    """The payment that has, or in an earlier attempt had, this payment key.

    Raises:
        PaymentNotFound: nobody ever confirmed under this key.
    """
    payment = await session.scalar(select(Payment).where(Payment.payment_key == payment_key))
    if payment is None:
        earlier = select(PaymentEvent.payment_id).where(PaymentEvent.payment_key == payment_key)
        payment = await session.scalar(select(Payment).where(Payment.id.in_(earlier)).limit(1))
    if payment is None:
        raise PaymentNotFound
    return payment


async def history(session: AsyncSession, payment_id: UUID) -> Sequence[PaymentEvent]:
    """Every move of a payment, oldest first."""
    events = select(PaymentEvent).where(PaymentEvent.payment_id == payment_id).order_by(PaymentEvent.sequence)
    return (await session.scalars(events)).all()


async def refunds_of(session: AsyncSession, payment_id: UUID) -> Sequence[Refund]:
    """The refunds of a payment, oldest first."""
    refunds = select(Refund).where(Refund.payment_id == payment_id).order_by(Refund.requested_at, Refund.id)
    return (await session.scalars(refunds)).all()


async def failure_of_attempt(session: AsyncSession, payment_id: UUID, payment_key: str) -> PaymentEvent | None:
    """How the attempt that was confirmed under `payment_key` failed; None if it did not, or never was."""
    asked = select(PaymentEvent.attempt).where(
        PaymentEvent.payment_id == payment_id, PaymentEvent.payment_key == payment_key
    )
    failed = select(PaymentEvent).where(
        PaymentEvent.payment_id == payment_id,
        PaymentEvent.attempt.in_(asked),
        PaymentEvent.to_status == PaymentStatus.FAILED,
    )
    return await session.scalar(failed.limit(1))


async def claim_unresolved(session: AsyncSession, *, now: datetime, lease: timedelta, limit: int) -> Sequence[Payment]:
    """Take the payments whose outcome is due to be asked for, oldest first, away from everybody else for `lease`.

    `now` is `database_now`, so that workers with different clocks agree on what is due.
    """
    due = (
        select(Payment)
        .where(Payment.status == PaymentStatus.PENDING, Payment.next_check_at <= now)
        .order_by(Payment.next_check_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    payments = (await session.scalars(due)).all()
    for payment in payments:
        payment.next_check_at = now + lease
    return payments
