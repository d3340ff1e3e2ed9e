"""Differences between orders, payments and the PG, noted once and kept until somebody resolves them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import case, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from payments.errors import DiscrepancyNotFound
from payments.ids import new_id
from payments.models import Payment
from payments.records import Discrepancy, DiscrepancyKind, Json, Severity

log = structlog.get_logger()

# What somebody was told of a difference, and what came of it; forgotten when it is open again.
_OF_ITS_END: Final = ("alerted_at", "resolved_at", "resolved_by", "resolution")


async def note(
    session: AsyncSession,
    kind: DiscrepancyKind,
    payment: Payment,
    *,
    theirs: dict[str, Json],
    at: datetime,
    subject: str | None = None,
    severity: Severity = Severity.CRITICAL,
) -> bool:
    """Note how a payment of ours differs; `theirs` is the other side's view of it. Answers as `note_subject`."""
    ours: dict[str, Json] = {
        "status": payment.status.value,
        "amount": payment.amount,
        "refundedAmount": payment.refunded_amount,
        "attempt": payment.attempt,
    }
    return await note_subject(
        session,
        kind,
        subject or payment.order_id,
        payment_id=payment.id,
        ours=ours,
        theirs=theirs,
        at=at,
        severity=severity,
    )


async def note_subject(
    session: AsyncSession,
    kind: DiscrepancyKind,
    subject: str,
    *,
    payment_id: UUID | None,
    ours: dict[str, Json],
    theirs: dict[str, Json],
    at: datetime,
    severity: Severity = Severity.CRITICAL,
) -> bool:
    """Note a difference about an order that may have no payment here; answers whether it is new.

    Seen again, only its `last_seen_at` moves; unless somebody resolved it and the other side has changed since: then
    it is open again, and alerted again.
    """
    row = insert(Discrepancy).values(
        id=new_id(),
        kind=kind,
        subject=subject,
        severity=severity,
        payment_id=payment_id,
        ours=ours,
        theirs=theirs,
        first_seen_at=at,
        last_seen_at=at,
        next_alert_at=at,
    )
    has_changed = or_(Discrepancy.ours != row.excluded.ours, Discrepancy.theirs != row.excluded.theirs)
    is_open_again = Discrepancy.resolved_at.is_not(None) & has_changed
    anew = {"first_seen_at": at, "next_alert_at": at, **dict.fromkeys(_OF_ITS_END)}
    # What turns out to be about money after all is alerted after all.
    is_critical = row.excluded.severity == Severity.CRITICAL
    seen_again = row.on_conflict_do_update(
        index_elements=[Discrepancy.kind, Discrepancy.subject],
        set_={
            "last_seen_at": at,
            "ours": row.excluded.ours,
            "theirs": row.excluded.theirs,
            "severity": case((is_critical, Severity.CRITICAL), else_=Discrepancy.severity),
            **{name: case((is_open_again, value), else_=getattr(Discrepancy, name)) for name, value in anew.items()},
        },
    ).returning(Discrepancy.first_seen_at)
    is_new = await session.scalar(seen_again) == at
    if is_new:
        log.error("discrepancy.noted", kind=kind.value, subject=subject, severity=severity.value)
    return is_new


async def claim_alerts(session: AsyncSession, *, now: datetime, until: datetime, limit: int) -> Sequence[Discrepancy]:
    """Take critical differences of which nobody was told yet, oldest first; they come back at `until` at the latest."""
    untold = (
        select(Discrepancy)
        .where(
            Discrepancy.alerted_at.is_(None),
            Discrepancy.resolved_at.is_(None),
            Discrepancy.severity == Severity.CRITICAL,
            Discrepancy.next_alert_at <= now,
        )
        .order_by(Discrepancy.next_alert_at, Discrepancy.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = (await session.scalars(untold)).all()
    for one in found:
        one.next_alert_at = until
    return found


async def were_told(session: AsyncSession, ids: Sequence[UUID], *, at: datetime) -> None:
    """A person was told of these."""
    await session.execute(update(Discrepancy).where(Discrepancy.id.in_(ids)).values(alerted_at=at))


async def listed(
    session: AsyncSession, *, kind: DiscrepancyKind | None, resolved_too: bool, limit: int
) -> Sequence[Discrepancy]:
    """Differences, newest first; open ones unless all are asked for."""
    found = select(Discrepancy).order_by(Discrepancy.first_seen_at.desc(), Discrepancy.id).limit(limit)
    if kind is not None:
        found = found.where(Discrepancy.kind == kind)
    if not resolved_too:
        found = found.where(Discrepancy.resolved_at.is_(None))
    return (await session.scalars(found)).all()


async def find(session: AsyncSession, discrepancy_id: UUID) -> Discrepancy:
    """One difference, locked.

    Raises:
        DiscrepancyNotFound: there is none with this id.
    """
    found = await session.scalar(select(Discrepancy).where(Discrepancy.id == discrepancy_id).with_for_update())
    if found is None:
        raise DiscrepancyNotFound
    return found


async def settle(session: AsyncSession, subject: str, *, by: str, resolution: str, at: datetime) -> None:
    """What stood open about a subject has been put right by ourselves."""
    await session.execute(
        update(Discrepancy)
        .where(Discrepancy.subject == subject, Discrepancy.resolved_at.is_(None))
        .values(resolved_at=at, resolved_by=by, resolution=resolution)
    )
