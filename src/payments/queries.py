"""The selects that deserve a name."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, SQLColumnExpression, delete, func, or_, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from payments.db import Base
from payments.errors import PaymentNotFound
from payments.leases import DEAD_AFTER, Lease
from payments.models import CHECK_DELAYS, AskedAbout, Payment, PaymentEvent, Refund, StrayCapture
from payments.records import ApiKey, IdempotentRequest, Job, JobRun, OutboxMessage, Process, ReceivedWebhook
from payments.states import PaymentStatus, RefundStatus

SAFETY_NET_AFTER: Final = timedelta(minutes=10)


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


async def lock_holder_of(session: AsyncSession, payment_key: str) -> Payment | None:
    """The payment that has this payment key now, locked as by `lock_payment`."""
    holder: Payment | None = await session.scalar(
        select(Payment).where(Payment.payment_key == payment_key).with_for_update()
    )
    return holder


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


async def is_free_for(session: AsyncSession, order_id: str, buyer: str) -> bool:
    """Whether an order's payment is this buyer's, or is none yet."""
    others = select(Payment.id).where(Payment.order_id == order_id, Payment.owner.is_distinct_from(buyer))
    return await session.scalar(others) is None


async def api_key(session: AsyncSession, prefix: str) -> ApiKey | None:
    """The key with this prefix, valid or not."""
    return await session.scalar(select(ApiKey).where(ApiKey.prefix == prefix))


async def valid_api_key(session: AsyncSession, prefix: str) -> ApiKey | None:
    """The same while it is neither revoked nor over, by the database's clock."""
    lives = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now())
    return await session.scalar(select(ApiKey).where(ApiKey.prefix == prefix, ApiKey.revoked_at.is_(None), lives))


async def api_keys(session: AsyncSession, *, revoked_too: bool) -> Sequence[ApiKey]:
    """Every key, newest first."""
    keys = select(ApiKey).order_by(ApiKey.created_at.desc(), ApiKey.id.desc())
    return (await session.scalars(keys if revoked_too else keys.where(ApiKey.revoked_at.is_(None)))).all()


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


async def claim_unresolved(session: AsyncSession, *, now: datetime, lease: Lease, limit: int) -> Sequence[Payment]:
    """Take the payments whose outcome is due to be asked for, oldest first, away from everybody else.

    `now` is `database_now`, so that workers with different clocks agree on what is due.
    """
    is_pending = Payment.status == PaymentStatus.PENDING
    return await _claim(session, is_pending, Payment.next_check_at <= now, now=now, lease=lease, limit=limit)


async def claim_pending(session: AsyncSession, *, now: datetime, lease: Lease, limit: int) -> Sequence[Payment]:
    """The same for every payment whose outcome is unknown, due or not; only who is working on one keeps it."""
    is_pending = Payment.status == PaymentStatus.PENDING
    is_free = or_(Payment.held_by.is_(None), Payment.next_check_at <= now)
    return await _claim(session, is_pending, is_free, now=now, lease=lease, limit=limit)


async def count_pending(session: AsyncSession) -> int:
    """How many payments there are whose outcome is unknown."""
    pending = select(func.count()).where(Payment.status == PaymentStatus.PENDING, Payment.next_check_at.is_not(None))
    return (await session.scalars(pending)).one()


async def claim_expired(session: AsyncSession, *, now: datetime, lease: Lease, limit: int) -> Sequence[Payment]:
    """The same for payments whose session has ended without a confirm."""
    is_open = Payment.status == PaymentStatus.CREATED
    return await _claim(session, is_open, Payment.next_check_at <= now, now=now, lease=lease, limit=limit)


async def claim_watched(session: AsyncSession, *, now: datetime, lease: Lease, limit: int) -> Sequence[Payment]:
    """The same for payments that were decided and may change at the PG by themselves: deposits, mostly."""
    is_decided = Payment.status.not_in({PaymentStatus.PENDING, PaymentStatus.CREATED})
    return await _claim(session, is_decided, Payment.next_check_at <= now, now=now, lease=lease, limit=limit)


async def take_back(session: AsyncSession, *, now: datetime, limit: int) -> int:
    """Free what dead processes held, so that the next claim finds it due; answers how much that was."""
    alive = select(Process.id).where(Process.seen_at > now - DEAD_AFTER)
    payments = select(Payment).where(Payment.held_by.is_not(None), Payment.held_by.not_in(alive))
    refunds = select(Refund).where(Refund.held_by.is_not(None), Refund.held_by.not_in(alive))
    strays = select(StrayCapture).where(StrayCapture.held_by.is_not(None), StrayCapture.held_by.not_in(alive))
    orphaned: list[AskedAbout] = [
        *await session.scalars(payments.limit(limit).with_for_update(skip_locked=True)),
        *await session.scalars(refunds.limit(limit).with_for_update(skip_locked=True)),
        *await session.scalars(strays.limit(limit).with_for_update(skip_locked=True)),
    ]
    for one in orphaned:
        one.check_at(now)
    return len(orphaned)


async def say_alive(session: AsyncSession, process_id: UUID, name: str) -> None:
    """A process is alive now, by the database's clock."""
    beat = insert(Process).values(id=process_id, name=name, started_at=func.now(), seen_at=func.now())
    await session.execute(beat.on_conflict_do_update(index_elements=[Process.id], set_={Process.seen_at: func.now()}))


async def is_alive(session: AsyncSession, *, name_begins: str) -> bool:
    """Whether a process of such a name is alive."""
    alive = select(Process.id).where(
        Process.name.startswith(name_begins, autoescape=True), Process.seen_at > func.now() - DEAD_AFTER
    )
    return await session.scalar(alive.limit(1)) is not None


async def say_goodbye(session: AsyncSession, process_id: UUID) -> None:
    """A process ends; what it held is free."""
    await session.execute(delete(Process).where(Process.id == process_id))


async def note_job(session: AsyncSession, name: str, *, error: str | None) -> None:
    """How a job went that ended now; None for well."""
    went: dict[str, object] = {"last_success_at": func.now(), "last_error": None}
    if error is not None:
        went = {"last_failure_at": func.now(), "last_error": error[:200]}
    row = insert(JobRun).values(name=name, **went)
    await session.execute(row.on_conflict_do_update(index_elements=[JobRun.name], set_=went))


async def job_ages(session: AsyncSession) -> dict[str, timedelta]:
    """How long ago each job last went well; a job that never did is not among them."""
    rows = await session.execute(select(JobRun.name, JobRun.last_success_at, func.now()))
    return {name: now - last for name, last, now in rows if last is not None}


async def pull_forward(session: AsyncSession, *, now: datetime, limit: int) -> int:
    """The safety net: what has been unknown for ten minutes is never asked about later than the slowest pace says."""
    forgotten = (
        select(Payment)
        .where(
            Payment.status == PaymentStatus.PENDING,
            Payment.pending_since < now - SAFETY_NET_AFTER,
            Payment.next_check_at > now + 2 * CHECK_DELAYS[-1],
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    payments = (await session.scalars(forgotten)).all()
    for payment in payments:
        payment.check_at(now)
    return len(payments)


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
    session: AsyncSession, *, now: datetime, lease: Lease, limit: int
) -> Sequence[tuple[Refund, Payment]]:
    """Take the refunds that are due to be asked about, oldest first, away from other workers.

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
        refund.hold(lease, at=now)
    await session.flush()
    return rows


async def stray_of_key(session: AsyncSession, payment_key: str) -> StrayCapture | None:
    """The capture under this key, if it was found to be nobody's."""
    return await session.scalar(select(StrayCapture).where(StrayCapture.payment_key == payment_key))


async def get_stray_to_change(session: AsyncSession, stray_id: UUID) -> tuple[StrayCapture, datetime]:
    """A stray capture that is known to be there, locked, and the time by the database's clock."""
    found = select(StrayCapture, func.now()).where(StrayCapture.id == stray_id).with_for_update()
    stray, now = (await session.execute(found)).one()
    return stray, now


async def claim_strays(
    session: AsyncSession, *, now: datetime, lease: Lease, limit: int
) -> Sequence[tuple[StrayCapture, str]]:
    """Take the stray captures that are due, oldest first, away from other workers; each with its order id."""
    due = (
        select(StrayCapture, Payment.order_id)
        .join(Payment, Payment.id == StrayCapture.payment_id)
        .where(StrayCapture.status == RefundStatus.REQUESTED, StrayCapture.next_check_at <= now)
        .order_by(StrayCapture.next_check_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=StrayCapture)
    )
    rows = [(stray, order_id) for stray, order_id in await session.execute(due)]
    for stray, _ in rows:
        stray.hold(lease, at=now)
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


async def _claim(
    session: AsyncSession, *conditions: ColumnElement[bool], now: datetime, lease: Lease, limit: int
) -> Sequence[Payment]:
    due = select(Payment).where(*conditions).order_by(Payment.next_check_at).limit(limit)
    payments = (await session.scalars(due.with_for_update(skip_locked=True))).all()
    for payment in payments:
        payment.hold(lease, at=now)
    await session.flush()  # so that `version` is the one that this claim leaves behind
    return payments


# How long a job may go without success until somebody has to look. The nightly ones may be at work for long.
OVERDUE_AFTER: Final = dict.fromkeys(Job, timedelta(minutes=1)) | {
    Job.ALERTS: timedelta(minutes=5),
    Job.SAFETY_NET: timedelta(minutes=15),
    Job.CHECK_ORDERS: timedelta(hours=2),
    Job.RECONCILE: timedelta(hours=2),
    Job.FORGET: timedelta(hours=3),
    Job.ERASE: timedelta(hours=3),
}


async def overdue_jobs(session: AsyncSession, *, patience: timedelta) -> list[str]:
    """The jobs of the workers that have not gone well for too long.

    A night that cannot be finished is none of them: it is a discrepancy, and no reason to take no payments. `patience`
    is how long whoever asks has been there: a job is not overdue before it could have been seen to run.
    """
    ages = await job_ages(session)
    return [job.value for job in Job if min(ages.get(job.value, patience), patience) > OVERDUE_AFTER[job]]


class Forgettable(NamedTuple):
    """Rows that may go when they are old enough: their key, their age, and what must be over."""

    entity: type[Base]
    key: SQLColumnExpression[UUID]
    since: SQLColumnExpression[datetime]
    is_over: ColumnElement[bool]


FORGETTABLE: Final[dict[str, Forgettable]] = {
    "idempotent_requests": Forgettable(IdempotentRequest, IdempotentRequest.id, IdempotentRequest.created_at, true()),
    "received_webhooks": Forgettable(
        ReceivedWebhook, ReceivedWebhook.id, ReceivedWebhook.received_at, ReceivedWebhook.processed_at.is_not(None)
    ),
    "outbox_messages": Forgettable(
        OutboxMessage, OutboxMessage.id, OutboxMessage.created_at, OutboxMessage.delivered_at.is_not(None)
    ),
    "processes": Forgettable(Process, Process.id, Process.seen_at, true()),
}


async def forget_some(session: AsyncSession, rows: Forgettable, *, older_than: timedelta, limit: int) -> int:
    """Delete the oldest of these rows; answers how many."""
    old = (
        select(rows.key)
        .where(rows.since < func.now() - older_than, rows.is_over)
        .order_by(rows.since)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    gone = await session.scalars(delete(rows.entity).where(rows.key.in_(old)).returning(rows.key))
    return len(gone.all())
