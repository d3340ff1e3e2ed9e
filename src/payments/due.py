"""What is due for the workers: one cheap question each second, so that nothing is claimed where there is nothing."""

from typing import Any

from sqlalchemy import Select, exists, func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from payments.leases import DEAD_AFTER
from payments.models import AskedAbout, Payment, Refund, StrayCapture
from payments.records import Discrepancy, Job, OutboxMessage, Process, ReceivedWebhook, Severity
from payments.states import PaymentStatus, RefundStatus


async def due_jobs(session: AsyncSession) -> frozenset[Job]:
    """The jobs for which there is work by the database's clock; each is looked for in an index of what waits.

    It may name one whose work somebody else takes first, never leave one out that has work to claim.
    """
    waiting = _waiting()
    row = (await session.execute(select(*(exists(work) for work in waiting.values())))).one()
    return frozenset(job for job, is_due in zip(waiting, row, strict=True) if is_due)


def _waiting() -> dict[Job, Select[Any]]:
    now = func.now()
    payments = select(Payment.id).where(Payment.next_check_at <= now)
    decided = Payment.status.not_in({PaymentStatus.PENDING, PaymentStatus.CREATED})
    return {
        Job.RECOVER: payments.where(Payment.status == PaymentStatus.PENDING),
        Job.EXPIRE: payments.where(Payment.status == PaymentStatus.CREATED),
        Job.WATCH: payments.where(decided),
        Job.REFUNDS: select(Refund.id).where(Refund.status == RefundStatus.REQUESTED, Refund.next_check_at <= now),
        Job.STRAYS: select(StrayCapture.id).where(
            StrayCapture.status == RefundStatus.REQUESTED, StrayCapture.next_check_at <= now
        ),
        Job.WEBHOOKS: select(ReceivedWebhook.id).where(
            ReceivedWebhook.processed_at.is_(None),
            ReceivedWebhook.parked_at.is_(None),
            ReceivedWebhook.next_attempt_at <= now,
        ),
        Job.EVENTS: select(OutboxMessage.id).where(
            OutboxMessage.delivered_at.is_(None),
            OutboxMessage.parked_at.is_(None),
            OutboxMessage.next_attempt_at <= now,
            or_(OutboxMessage.held_until.is_(None), OutboxMessage.held_until <= now),
        ),
        Job.ALERTS: select(Discrepancy.id).where(
            Discrepancy.alerted_at.is_(None),
            Discrepancy.resolved_at.is_(None),
            Discrepancy.severity == Severity.CRITICAL,
            Discrepancy.next_alert_at <= now,
        ),
        Job.TAKE_BACK: select(
            union_all(_orphaned(Payment), _orphaned(Refund), _orphaned(StrayCapture)).subquery().c.held_by
        ),
    }


def _orphaned(entity: type[AskedAbout]) -> Select[Any]:
    alive = select(Process.id).where(Process.seen_at > func.now() - DEAD_AFTER)
    return select(entity.held_by).where(entity.held_by.is_not(None), entity.held_by.not_in(alive))
