"""Refund: money that was promised goes back, exactly once, however often the PG has to be asked."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments import discrepancies
from payments.db import Sessions, insist, transaction
from payments.gateways.pg import (
    Approved,
    Cancelled,
    DepositAwaited,
    PaymentGateway,
    PgPayment,
    PgStatus,
    RefusedBecause,
    Unknown,
    UnknownBecause,
)
from payments.gateways.pg import (
    RefundRefused as Refused,
)
from payments.leases import Lease
from payments.models import Payment, Refund
from payments.queries import claim_refunds, database_now, get_payment_to_change, get_refund, open_refunds
from payments.records import DiscrepancyKind, Json
from payments.states import Cause, RefundStatus
from payments.usecases.answers import note_mismatch
from payments.usecases.promises import GIVE_UP_AFTER, KEY_LIFETIME, OpenRefund, open_refund
from payments.usecases.refund_answers import Told, record_refund

log = structlog.get_logger()

# The account is not kept, so only the client's own repetition can carry out a refund that never reached the PG. When
# it does not come, the key is closed by asking without the account, which the PG refuses.
ACCOUNT_PATIENCE: Final = timedelta(minutes=10)
_ACCOUNT_NOT_KEPT: Final = ("ACCOUNT_NOT_KEPT", "환불 계좌는 보관하지 않습니다. 계좌와 함께 다시 요청해 주세요.")
AT_ONCE: Final = 20  # by one command; fewer than the calls that the PG's client lets through


@dataclass(frozen=True, slots=True)
class Resolved:
    """What came of asking about one refund; amounts in won."""

    order_id: str
    refund_id: UUID
    amount: int
    status: RefundStatus
    code: str | None  # of the PG's refusal, or of what went wrong here
    age: timedelta


async def carry_out(one: OpenRefund, *, cause: Cause, sessions: Sessions, pg: PaymentGateway) -> tuple[Payment, Refund]:
    """Ask the PG and record what it says; the payment and the refund as they stand then.

    Raises:
        ConcurrentUpdate, Unavailable: the answer could not be recorded; the refund stays promised, and is asked for
            again.
    """
    told = await _ask(one, pg=pg)
    return await insist(lambda: _record(one, told, cause=cause, sessions=sessions))


async def claim_due_refunds(*, sessions: Sessions, lease: Lease, limit: int) -> Sequence[OpenRefund]:
    """Take up to `limit` refunds that are due to be asked about, away from every other worker."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        claimed = await claim_refunds(session, now=now, lease=lease, limit=limit)
        return [open_refund(payment, refund, now=now) for refund, payment in claimed]


async def resolve_due_refunds(*, sessions: Sessions, pg: PaymentGateway, lease: Lease, limit: int = 50) -> int:
    """Ask about the refunds that are due, at most `limit`; answers how many were decided.

    Any number of workers may do this at once. A worker that dies gives its refunds back.
    """
    due = await claim_due_refunds(sessions=sessions, lease=lease, limit=limit)
    resolved = await _resolve_all(due, cause=Cause.RECOVERY, sessions=sessions, pg=pg)
    return sum(one.status is not RefundStatus.REQUESTED for one in resolved)


async def resolve_refunds(
    *,
    sessions: Sessions,
    pg: PaymentGateway,
    order_id: str | None = None,
    limit: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> Sequence[Resolved]:
    """Ask about every refund that is not decided, now, for an operator; of one order, or the `limit` oldest.

    Safe beside workers and requests that ask about the same ones: all of them ask under the same key. `progress` is
    told how many of how many have been asked about.
    """
    async with transaction(sessions) as session:
        now = await database_now(session)
        found = await open_refunds(session, order_id=order_id, limit=limit)
        due = [open_refund(payment, refund, now=now) for refund, payment in found]
    resolved: list[Resolved] = []
    for start in range(0, len(due), AT_ONCE):
        batch = due[start : start + AT_ONCE]
        resolved += await _resolve_all(batch, cause=Cause.OPERATOR, sessions=sessions, pg=pg)
        if progress is not None:
            progress(len(resolved), len(due))
    return resolved


async def _resolve_all(
    due: Sequence[OpenRefund], *, cause: Cause, sessions: Sessions, pg: PaymentGateway
) -> list[Resolved]:
    return list(await asyncio.gather(*(resolve_refund(one, cause=cause, sessions=sessions, pg=pg) for one in due)))


async def resolve_refund(one: OpenRefund, *, cause: Cause, sessions: Sessions, pg: PaymentGateway) -> Resolved:
    """Ask about one refund that is not decided. Never raises: it comes back when its lease ends."""
    try:
        _, refund = await carry_out(one, cause=cause, sessions=sessions, pg=pg)
    except Exception as error:  # one bad row never stops the others
        log.exception("refund.not_resolved", order_id=one.order.order_id, error=type(error).__name__)
        undecided = RefundStatus.REQUESTED
        return Resolved(one.order.order_id, one.refund_id, one.order.amount, undecided, type(error).__name__, one.age)
    return Resolved(one.order.order_id, refund.id, refund.amount, refund.status, refund.fail_code, one.age)


async def _ask(one: OpenRefund, *, pg: PaymentGateway) -> Told:
    if one.key_age >= KEY_LIFETIME:
        return await _look_for_it(one, pg=pg)
    if one.goes_to_account and one.order.account is None:
        shown = await _show(one, pg=pg)
        # Without the account Toss would take it for giving up an account whose deposit the bank has taken back.
        if one.age < ACCOUNT_PATIENCE or shown is None or shown.status is PgStatus.WAITING_FOR_DEPOSIT:
            return Told(Unknown(UnknownBecause.NOT_SENT), shown)
    answer = await pg.refund(one.payment_key, one.order)
    if isinstance(answer, Refused):
        return await _doubt(one, answer, pg=pg)
    was_lost = isinstance(answer, Unknown) and answer.was_sent
    return Told(answer, await _show(one, pg=pg) if was_lost else None)


async def _doubt(one: OpenRefund, refused: Refused, *, pg: PaymentGateway) -> Told:
    """Look before a refusal is believed: perhaps our own earlier request did it, or somebody in the PG's console."""
    if refused.because is RefusedBecause.ACCOUNT and one.order.account is None:
        refused = Refused(RefusedBecause.OTHER, *_ACCOUNT_NOT_KEPT)
    may_be_done = one.was_asked_before or refused.because is RefusedBecause.BALANCE_DIFFERS
    if not may_be_done and refused.because is not RefusedBecause.OTHER:
        return Told(refused)
    shown = await _show(one, pg=pg)
    if shown is None and may_be_done:
        return Told(Unknown(UnknownBecause.NO_ANSWER))
    return Told(refused, shown)


async def _look_for_it(one: OpenRefund, *, pg: PaymentGateway) -> Told:
    """The PG may have forgotten the key, so nothing may be asked for any more; what is not there never happened."""
    shown = await _show(one, pg=pg)
    if shown is None:
        return Told(Unknown(UnknownBecause.NO_ANSWER))
    message = "The refund was never carried out, and its key is too old to ask again."
    return Told(Refused(RefusedBecause.OTHER, "NOT_REFUNDED", message), shown)


async def _show(one: OpenRefund, *, pg: PaymentGateway) -> PgPayment | None:
    answer = await pg.look_up(one.payment_key, order_id=one.order.order_id, amount=one.order.total_amount)
    return answer.payment if isinstance(answer, Approved | Cancelled | DepositAwaited) else None


async def _record(one: OpenRefund, told: Told, *, cause: Cause, sessions: Sessions) -> tuple[Payment, Refund]:
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, one.order.order_id)
        refund = await get_refund(session, one.refund_id)
        await _note_mismatch(session, payment, told, at=now)
        if isinstance(told.answer, Refused) and refund.refund_key != one.order.idempotency_key:
            # It was refused under a key that has been given up since; the present one may do better.
            told = replace(told, answer=Unknown(UnknownBecause.ASK_AGAIN))
        await record_refund(session, payment, refund, told, cause=cause, at=now)
        if refund.status is RefundStatus.REQUESTED and one.age >= GIVE_UP_AFTER:
            await _call_a_person(session, payment, refund, at=now)
    return payment, refund


async def _note_mismatch(session: AsyncSession, payment: Payment, told: Told, *, at: datetime) -> None:
    answer = told.answer
    if isinstance(answer, Unknown) and answer.because is UnknownBecause.MISMATCH and answer.payment is not None:
        await note_mismatch(session, payment, answer.payment, at=at)


async def _call_a_person(session: AsyncSession, payment: Payment, refund: Refund, *, at: datetime) -> None:
    theirs: dict[str, Json] = {"answer": "unknown", "refundId": str(refund.id)}
    subject = f"{payment.order_id}/{refund.id}"
    await discrepancies.note(session, DiscrepancyKind.UNRESOLVED_24H, payment, subject=subject, theirs=theirs, at=at)
