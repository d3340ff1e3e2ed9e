"""Give back: money that was captured for an order which must not have it goes back by itself."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
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
    PaymentGateway,
    PgPayment,
    RefundAnswer,
    Refunded,
    RefundOrder,
    RefundRefused,
    RefusedBecause,
    Unknown,
    UnknownBecause,
)
from payments.leases import Lease
from payments.models import Payment, StrayCapture
from payments.queries import claim_strays, database_now, get_stray_to_change, stray_of_key
from payments.records import DiscrepancyKind
from payments.states import Cause, RefundStatus
from payments.usecases.promises import KEY_LIFETIME, SETTLED_AFTER

log = structlog.get_logger()

REASON: Final = "결제할 수 없는 주문의 자동 환불"  # what the buyer's statement and Toss's console show


@dataclass(frozen=True, slots=True)
class OpenStray:
    """A stray capture that is held by this worker until its lease ends; all that is needed to give it back."""

    stray_id: UUID
    payment_key: str
    order: RefundOrder
    key_age: timedelta


async def give_back_later(
    session: AsyncSession, payment: Payment, held: PgPayment, *, cause: Cause, at: datetime
) -> None:
    """Promise to give a capture back that is not the payment's; found again, it is promised once.

    A deposit goes back to an account that only the buyer can name, so that one is left to a person.
    """
    if held.virtual_account is not None or held.balance_amount == 0:
        return
    if await stray_of_key(session, held.payment_key) is not None:
        return
    session.add(
        StrayCapture.find(
            payment,
            held.payment_key,
            total_amount=held.total_amount,
            amount=held.balance_amount,
            refund_key=secrets.token_urlsafe(32),
            at=at,
            cause=cause,
        )
    )
    log.error("stray.found", order_id=payment.order_id, amount=held.balance_amount, cause=cause.value)


async def claim_due_strays(*, sessions: Sessions, lease: Lease, limit: int) -> Sequence[OpenStray]:
    """Take up to `limit` stray captures that are due, away from every other worker."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        due = await claim_strays(session, now=now, lease=lease, limit=limit)
        return [_open(stray, order_id, now=now) for stray, order_id in due]


async def give_back(one: OpenStray, *, sessions: Sessions, pg: PaymentGateway) -> None:
    """Ask the PG to give one capture back that was claimed. Never raises: it comes back when its lease ends."""
    try:
        # The PG may have forgotten an old key, and would take the same request for a new one.
        is_forgotten = one.key_age >= KEY_LIFETIME
        answer = Unknown(UnknownBecause.NOT_SENT) if is_forgotten else await pg.refund(one.payment_key, one.order)
        shown = None if isinstance(answer, Refunded) else await _show(one, pg=pg)
        await insist(lambda: _record(one, answer, shown, sessions=sessions))
    except Exception as error:  # one bad row never stops the others
        log.exception("stray.not_given_back", order_id=one.order.order_id, error=type(error).__name__)


async def _show(one: OpenStray, *, pg: PaymentGateway) -> PgPayment | None:
    answer = await pg.look_up(one.payment_key, order_id=one.order.order_id, amount=one.order.total_amount)
    return answer.payment if isinstance(answer, Approved | Cancelled) else None


async def _record(one: OpenStray, answer: RefundAnswer, shown: PgPayment | None, *, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        stray, now = await get_stray_to_change(session, one.stray_id)
        if stray.status is not RefundStatus.REQUESTED:
            return
        if isinstance(answer, Refunded) or (shown is not None and shown.balance_amount == 0):
            stray.succeed(at=now)
            subject, resolution = f"{one.order.order_id}/{one.payment_key}", "given back to the buyer"
            await discrepancies.settle(session, subject, by=Cause.RECOVERY.value, resolution=resolution, at=now)
            log.warning("stray.given_back", order_id=one.order.order_id, amount=one.order.amount)
        elif shown is not None and shown.balance_amount < stray.amount:
            stray.amount = shown.balance_amount  # somebody gave a part back; the rest goes under a key of its own
            stray.ask_anew(secrets.token_urlsafe(32), at=now)
        elif isinstance(answer, RefundRefused) and answer.because is RefusedBecause.NOT_NOW:
            stray.ask_anew(secrets.token_urlsafe(32), at=now)  # the PG would repeat the refusal under the old one
        elif isinstance(answer, RefundRefused) and shown is not None:
            stray.fail(answer.code, answer.message, at=now)
            await _call_a_person(session, one, stray, at=now)
        elif shown is not None and one.key_age >= SETTLED_AFTER:
            stray.ask_anew(secrets.token_urlsafe(32), at=now)  # the PG only repeats its first answer, perhaps
        else:
            stray.check_later(at=now, not_before=answer.retry_after if isinstance(answer, Unknown) else None)


async def _call_a_person(session: AsyncSession, one: OpenStray, stray: StrayCapture, *, at: datetime) -> None:
    """Who was told before was told that it goes back by itself."""
    log.error("stray.refused", order_id=one.order.order_id, pg_code=stray.fail_code)
    await discrepancies.note_subject(
        session,
        DiscrepancyKind.STRAY_NOT_GIVEN_BACK,
        f"{one.order.order_id}/{one.payment_key}",
        payment_id=stray.payment_id,
        ours={"amount": stray.amount},
        theirs={"code": stray.fail_code},
        at=at,
    )


def _open(stray: StrayCapture, order_id: str, *, now: datetime) -> OpenStray:
    order = RefundOrder(
        order_id=order_id,
        total_amount=stray.total_amount,
        amount=stray.amount,
        believed_balance=stray.amount,
        tax_free_amount=0,
        reason=REASON,
        idempotency_key=stray.refund_key,
    )
    return OpenStray(stray.id, stray.payment_key, order, now - stray.key_since)
