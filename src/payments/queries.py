"""The selects that deserve a name."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from payments.errors import PaymentNotFound
from payments.models import Payment, PaymentEvent, Refund
from payments.records import IdempotentRequest
from payments.states import PaymentStatus, RefundStatus


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
    return await _hold(session, due, until=now + lease)


async def claim_watched(session: AsyncSession, *, now: datetime, lease: timedelta, limit: int) -> Sequence[Payment]:
    """The same for payments that are not PENDING and may change at the PG by themselves: deposits, mostly."""
    due = (
        select(Payment)
        .where(Payment.status != PaymentStatus.PENDING, Payment.next_check_at <= now)
        .order_by(Payment.next_check_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return await _hold(session, due, until=now + lease)


async def get_refund(session: AsyncSession, refund_id: UUID) -> Refund:
    """A refund that is known to be there; whoever changes it holds the lock of its payment."""
    return (await session.scalars(select(Refund).where(Refund.id == refund_id))).one()


async def open_refund_of(session: AsyncSession, payment_id: UUID) -> Refund | None:
    """The refund of a payment that is not decided yet; there is one at most."""
    undecided = select(Refund).where(Refund.payment_id == payment_id, Refund.status == RefundStatus.REQUESTED)
    return await session.scalar(undecided)


async def refund_of_request(session: AsyncSession, request_id: UUID) -> Refund | None:
    """The refund that a request asked for."""
    return await session.scalar(select(Refund).where(Refund.request_id == request_id))


async def open_refunds(session: AsyncSession, *, order_id: str | None, limit: int) -> Sequence[tuple[Refund, Payment]]:
    """Refunds that are not decided, oldest first, with their payments; of all orders, or of one."""
    undecided = (
        select(Refund, Payment)
        .join(Payment, Payment.id == Refund.payment_id)
        .where(Refund.status == RefundStatus.REQUESTED)
        .order_by(Refund.requested_at, Refund.id)
        .limit(limit)
    )
    if order_id is not None:
        undecided = undecided.where(Payment.order_id == order_id)
    return [(refund, payment) for refund, payment in await session.execute(undecided)]


async def claim_refunds(
    session: AsyncSession, *, now: datetime, lease: timedelta, limit: int
) -> Sequence[tuple[Refund, Payment]]:
    """Take the refunds that are due to be asked about, oldest first, away from other workers for `lease`.

    `now` is `database_now`.
    """
    due = (
        select(Refund, Payment)
        .join(Payment, Payment.id == Refund.payment_id)
        .where(Refund.status == RefundStatus.REQUESTED, Refund.next_check_at <= now)
        .order_by(Refund.next_check_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = [(refund, payment) for refund, payment in await session.execute(due)]
    for refund, _ in rows:
        refund.next_check_at = now + lease
    await session.flush()
    return rows


async def lock_request(session: AsyncSession, key_hash: bytes) -> tuple[IdempotentRequest, datetime] | None:
    """The request under an idempotency key, locked, and the time by the database's clock."""
    found = await session.execute(
        select(IdempotentRequest, func.now()).where(IdempotentRequest.key_hash == key_hash).with_for_update()
    )
    row = found.one_or_none()
    return (row[0], row[1]) if row else None


async def get_request(session: AsyncSession, request_id: UUID) -> IdempotentRequest:
    """A request that was taken up."""
    return (await session.scalars(select(IdempotentRequest).where(IdempotentRequest.id == request_id))).one()


async def has_promised(session: AsyncSession, request_id: UUID) -> bool:
    """Whether a request has given a payment up, or promised to."""
    promised = select(IdempotentRequest.promised_at).where(IdempotentRequest.id == request_id)
    return await session.scalar(promised) is not None


async def note_promise(session: AsyncSession, request_id: UUID, *, at: datetime) -> None:
    """From now on the request goes on with what it has begun, or with nothing."""
    request = await session.get(IdempotentRequest, request_id)
    if request is not None:
        request.promised_at = at


async def _hold(session: AsyncSession, due: Select[Payment], *, until: datetime) -> Sequence[Payment]:
    payments = (await session.scalars(due)).all()
    for payment in payments:
        payment.next_check_at = until
    await session.flush()  # so that `version` is the one that this claim leaves behind
    return payments
