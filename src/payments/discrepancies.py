"""Differences between orders, payments and the PG, noted once and kept until somebody resolves them."""

from datetime import datetime

import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from payments.ids import new_id
from payments.models import Payment
from payments.records import Discrepancy, DiscrepancyKind, Json, Severity

log = structlog.get_logger()


async def note(
    session: AsyncSession,
    kind: DiscrepancyKind,
    payment: Payment,
    *,
    theirs: dict[str, Json],
    at: datetime,
    subject: str | None = None,
    severity: Severity = Severity.CRITICAL,
) -> None:
    """Note a difference; seen again, only its `last_seen_at` moves. `theirs` is the other side's view of it."""
    ours: dict[str, Json] = {
        "status": payment.status.value,
        "amount": payment.amount,
        "refundedAmount": payment.refunded_amount,
        "attempt": payment.attempt,
    }
    row = insert(Discrepancy).values(
        id=new_id(),
        kind=kind,
        subject=subject or payment.order_id,
        severity=severity,
        payment_id=payment.id,
        ours=ours,
        theirs=theirs,
        first_seen_at=at,
        last_seen_at=at,
    )
    seen_again = row.on_conflict_do_update(
        index_elements=[Discrepancy.kind, Discrepancy.subject], set_={Discrepancy.last_seen_at: at}
    ).returning(Discrepancy.first_seen_at)
    if await session.scalar(seen_again) == at:
        log.error("discrepancy.noted", kind=kind.value, order_id=payment.order_id, severity=severity.value)
