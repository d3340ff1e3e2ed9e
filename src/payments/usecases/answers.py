"""The only way in which an answer of the PG changes a payment; confirm, webhooks and recovery all end here."""

from datetime import datetime
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments import discrepancies
from payments.gateways.pg import (
    Answer,
    Approved,
    Cancelled,
    Declined,
    DepositAwaited,
    PgPayment,
    Unknown,
    UnknownBecause,
)
from payments.models import Payment, VirtualAccount
from payments.outbox import announce
from payments.records import DiscrepancyKind, EventType, Json
from payments.states import CAPTURED, EVER_CAPTURED, Cause, PaymentMethod, PaymentStatus

log = structlog.get_logger()

# Toss answers in Korean whatever language the request was made in (https://docs.tosspayments.com/reference).
METHODS: Final[dict[str, PaymentMethod]] = {
    "카드": PaymentMethod.CARD,
    "가상계좌": PaymentMethod.VIRTUAL_ACCOUNT,
    "간편결제": PaymentMethod.EASY_PAY,
    "휴대폰": PaymentMethod.MOBILE_PHONE,
    "계좌이체": PaymentMethod.TRANSFER,
    "문화상품권": PaymentMethod.GIFT_CERTIFICATE,
    "도서문화상품권": PaymentMethod.GIFT_CERTIFICATE,
    "게임문화상품권": PaymentMethod.GIFT_CERTIFICATE,
}

OPEN: Final = frozenset({PaymentStatus.PENDING, PaymentStatus.WAITING_FOR_DEPOSIT})


async def record(
    session: AsyncSession, payment: Payment, answer: Answer, *, payment_key: str, cause: Cause, at: datetime
) -> None:
    """Apply what the PG said about the attempt that was confirmed under `payment_key`.

    Recording the same answer again changes nothing. An answer about an earlier attempt never touches the present
    one; money found there is noted as a discrepancy.
    """
    if payment_key != payment.payment_key:
        await _record_earlier_attempt(session, payment, answer, at=at)
        return
    match answer:
        case Approved(payment=held):
            await _record_capture(session, payment, held, cause=cause, at=at)
        case DepositAwaited(payment=held):
            await _record_deposit_awaited(session, payment, held, cause=cause, at=at)
        case Declined():
            await _record_declined(session, payment, answer, cause=cause, at=at)
        case Cancelled(payment=held):
            await _record_cancelled(session, payment, held, cause=cause, at=at)
        case Unknown():
            await _record_unknown(session, payment, answer, at=at)


async def _record_earlier_attempt(session: AsyncSession, payment: Payment, answer: Answer, *, at: datetime) -> None:
    """The present attempt is not touched; money, or the promise of it, under another key is for a person to look at."""
    never_asked = payment.attempt == 1 and payment.payment_key is None
    match answer:
        case Approved(payment=held) if never_asked:
            kind = DiscrepancyKind.CAPTURED_BUT_UNKNOWN_HERE
        case Approved(payment=held):
            kind = DiscrepancyKind.CAPTURED_BUT_FAILED_HERE
        case DepositAwaited(payment=held):
            kind = DiscrepancyKind.DEPOSIT_AWAITED_BUT_CLOSED_HERE
        case _:
            return
    subject = f"{payment.order_id}/{held.payment_key}"
    await discrepancies.note(session, kind, payment, subject=subject, theirs=_theirs(held), at=at)


async def _record_capture(
    session: AsyncSession, payment: Payment, held: PgPayment, *, cause: Cause, at: datetime
) -> None:
    match payment.status:
        case PaymentStatus.CANCELLED:
            await discrepancies.note(
                session, DiscrepancyKind.CAPTURED_AFTER_CANCEL, payment, theirs=_theirs(held), at=at
            )
            return
        case PaymentStatus.FAILED:  # late truth
            await discrepancies.note(
                session, DiscrepancyKind.CAPTURED_BUT_FAILED_HERE, payment, theirs=_theirs(held), at=at
            )
        case PaymentStatus.PENDING | PaymentStatus.WAITING_FOR_DEPOSIT:
            pass
        case _:
            return  # somebody else recorded this capture before us
    _learn(payment, held)
    payment.approve(held.payment_key, approved_at=held.approved_at or at, at=at, cause=cause)
    payment.complete(at=at, cause=cause)
    await announce(session, payment, EventType.COMPLETED, at=at)
    log.info("payment.completed", order_id=payment.order_id, amount=payment.amount, cause=cause.value)
    if held.balance_amount != payment.amount:
        await discrepancies.note(session, DiscrepancyKind.REFUND_DIFFERS_AT_PG, payment, theirs=_theirs(held), at=at)


async def _record_deposit_awaited(
    session: AsyncSession, payment: Payment, held: PgPayment, *, cause: Cause, at: datetime
) -> None:
    issued = held.virtual_account
    if payment.status is PaymentStatus.PENDING and issued is not None:
        _learn(payment, held)
        account = VirtualAccount(issued.bank_code, issued.account_number, issued.holder_name, issued.due_at)
        payment.await_deposit(account, at=at, cause=cause)
        await announce(session, payment, EventType.WAITING_FOR_DEPOSIT, at=at)
        log.info("payment.deposit_awaited", order_id=payment.order_id, cause=cause.value)
        return
    if payment.status in EVER_CAPTURED:
        # Either the bank took the deposit back, or the PG was asked before the deposit came and answered after it.
        kind = DiscrepancyKind.COMPLETED_HERE_NOT_AT_PG
    elif payment.status in {PaymentStatus.FAILED, PaymentStatus.CANCELLED}:
        kind = DiscrepancyKind.DEPOSIT_AWAITED_BUT_CLOSED_HERE
    else:
        return
    await discrepancies.note(session, kind, payment, theirs=_theirs(held), at=at)


async def _record_declined(
    session: AsyncSession, payment: Payment, declined: Declined, *, cause: Cause, at: datetime
) -> None:
    if payment.status in OPEN:
        payment.fail(declined.code, declined.message, at=at, cause=cause)
        await announce(session, payment, EventType.FAILED, at=at)
        log.info("payment.failed", order_id=payment.order_id, pg_code=declined.code, cause=cause.value)
    elif payment.status in EVER_CAPTURED:
        theirs: dict[str, Json] = {"code": declined.code}
        await discrepancies.note(session, DiscrepancyKind.COMPLETED_HERE_NOT_AT_PG, payment, theirs=theirs, at=at)


async def _record_cancelled(
    session: AsyncSession, payment: Payment, held: PgPayment, *, cause: Cause, at: datetime
) -> None:
    if payment.status in OPEN:
        payment.cancel("cancelled at the PG", at=at, cause=cause)
        await announce(session, payment, EventType.CANCELLED, at=at)
        log.info("payment.cancelled", order_id=payment.order_id, cause=cause.value)
    elif payment.status in CAPTURED:
        await discrepancies.note(session, DiscrepancyKind.REFUND_DIFFERS_AT_PG, payment, theirs=_theirs(held), at=at)


async def _record_unknown(session: AsyncSession, payment: Payment, unknown: Unknown, *, at: datetime) -> None:
    if payment.status is PaymentStatus.PENDING:
        plan = payment.check_later if unknown.was_sent else payment.check_soon
        plan(at=at, not_before=unknown.retry_after)
        log.warning("payment.outcome_unknown", order_id=payment.order_id, because=unknown.because.value)
    if unknown.because is UnknownBecause.MISMATCH and unknown.payment is not None:
        await note_mismatch(session, payment, unknown.payment, at=at)


async def note_mismatch(session: AsyncSession, payment: Payment, held: PgPayment, *, at: datetime) -> None:
    """The PG showed another order, key or amount than it was asked about."""
    await discrepancies.note(session, DiscrepancyKind.AMOUNT_DIFFERS_AT_PG, payment, theirs=_theirs(held), at=at)


def _learn(payment: Payment, held: PgPayment) -> None:
    method = METHODS.get(held.method or "", payment.method)
    payment.learn(method=method, receipt_url=held.receipt_url, webhook_secret=held.secret)


def _theirs(held: PgPayment) -> dict[str, Json]:
    return {
        "orderId": held.order_id,
        "status": held.status.value,
        "totalAmount": held.total_amount,
        "balanceAmount": held.balance_amount,
        "currency": held.currency,
    }
