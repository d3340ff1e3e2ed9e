"""What the database knows of the work that waits, as Prometheus gauges."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import Gauge
from sqlalchemy import ColumnElement, SQLColumnExpression, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from payments.models import Payment, Refund
from payments.queries import job_ages
from payments.records import Discrepancy, OutboxMessage, ReceivedWebhook, Severity
from payments.states import PaymentStatus, RefundStatus

_waiting = Gauge("payments_waiting", "How many there are", ["what"])
_oldest = Gauge("payments_oldest_seconds", "How long the oldest of them has waited; 0 where there is none", ["what"])
_stopped = Gauge("payments_parked", "What was tried for long enough and waits for a person", ["what"])
_open = Gauge("payments_discrepancies_open", "Differences that nobody has resolved", ["severity"])
_jobs = Gauge("payments_job_last_success_seconds", "How long ago a job of the workers last went well", ["job"])


@dataclass(frozen=True, slots=True)
class Queue:
    """Work that waits, and since when the oldest of it does."""

    count: int
    oldest: timedelta


@dataclass(frozen=True, slots=True)
class Figures:
    queues: dict[str, Queue]
    parked: dict[str, int]
    discrepancies: dict[str, int]
    jobs: dict[str, timedelta]


NOTHING: Final = timedelta()


async def read_figures(session: AsyncSession) -> Figures:
    """One look at every queue; each is read by an index that holds only what waits."""
    outbox_waits = OutboxMessage.delivered_at.is_(None) & OutboxMessage.parked_at.is_(None)
    inbox_waits = ReceivedWebhook.processed_at.is_(None) & ReceivedWebhook.parked_at.is_(None)
    is_pending = (Payment.status == PaymentStatus.PENDING) & Payment.next_check_at.is_not(None)
    is_requested = (Refund.status == RefundStatus.REQUESTED) & Refund.next_check_at.is_not(None)
    rows = await session.execute(
        select(Discrepancy.severity, func.count())
        .where(Discrepancy.resolved_at.is_(None))
        .group_by(Discrepancy.severity)
    )
    found = {severity.value: count for severity, count in rows}
    return Figures(
        queues={
            "pending_payments": await _queue(session, Payment.pending_since, is_pending),
            "requested_refunds": await _queue(session, Refund.requested_at, is_requested),
            "undelivered_events": await _queue(session, OutboxMessage.created_at, outbox_waits),
            "received_webhooks": await _queue(session, ReceivedWebhook.received_at, inbox_waits),
        },
        parked={
            "events": await _count(
                session, OutboxMessage.parked_at.is_not(None) & OutboxMessage.delivered_at.is_(None)
            ),
            "webhooks": await _count(
                session, ReceivedWebhook.parked_at.is_not(None) & ReceivedWebhook.processed_at.is_(None)
            ),
        },
        discrepancies={severity.value: found.get(severity.value, 0) for severity in Severity},
        jobs=await job_ages(session),
    )


def publish(figures: Figures) -> None:
    """Let the gauges show these figures."""
    for name, queue in figures.queues.items():
        _waiting.labels(what=name).set(queue.count)
        _oldest.labels(what=name).set(queue.oldest.total_seconds())
    for name, count in figures.parked.items():
        _stopped.labels(what=name).set(count)
    for severity, count in figures.discrepancies.items():
        _open.labels(severity=severity).set(count)
    for name, age in figures.jobs.items():
        _jobs.labels(job=name).set(age.total_seconds())


async def _queue(
    session: AsyncSession, since: SQLColumnExpression[datetime | None], waits: ColumnElement[bool]
) -> Queue:
    row = await session.execute(select(func.count(), func.min(since), func.now()).where(waits))
    count, oldest, now = row.one()
    return Queue(count, now - oldest if oldest else NOTHING)


async def _count(session: AsyncSession, waits: ColumnElement[bool]) -> int:
    return (await session.scalars(select(func.count()).where(waits))).one()
