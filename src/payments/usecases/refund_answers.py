"""What the PG says about money that goes back, applied to the refund, to its payment and to the books."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments import discrepancies
from payments.errors import (
    NotGivenBack,
    PartialRefundNotAllowed,
    RefundAccountRefused,
    RefundBalanceDiffers,
    RefundDeadlinePassed,
    RefundNotNow,
    RefundRefused,
)
from payments.gateways.pg import (
    PgCancel,
    PgPayment,
    PgStatus,
    RefundAnswer,
    Refunded,
    RefusedBecause,
    Unknown,
    UnknownBecause,
)
from payments.gateways.pg import RefundRefused as Refused
from payments.models import Payment, Refund
from payments.outbox import announce
from payments.queries import refunds_of
from payments.records import DiscrepancyKind, EventType, Json
from payments.states import Cause, RefundStatus
from payments.usecases.promises import SETTLED_AFTER

log = structlog.get_logger()

# The answer itself may be what the PG repeats under a key (Toss does so with every 4xx; with a 5xx it is not
# documented), so that asking again under the same one would never end.
_REPEATABLE: Final = frozenset({UnknownBecause.PG_ERROR, UnknownBecause.UNLISTED, UnknownBecause.MISCONFIGURED})


REFUSALS: Final[dict[RefusedBecause, type[NotGivenBack]]] = {
    RefusedBecause.BALANCE_DIFFERS: RefundBalanceDiffers,
    RefusedBecause.NOT_PARTIALLY: PartialRefundNotAllowed,
    RefusedBecause.TOO_LATE: RefundDeadlinePassed,
    RefusedBecause.ACCOUNT: RefundAccountRefused,
    RefusedBecause.NOT_NOW: RefundNotNow,
    RefusedBecause.OTHER: RefundRefused,
}


@dataclass(frozen=True, slots=True)
class Told:
    """All that the PG told about one refund: the answer, and what a look-up showed afterwards, if there was one."""

    answer: RefundAnswer
    shown: PgPayment | None = None

    @property
    def held(self) -> PgPayment | None:
        """The payment as the PG showed it last."""
        return self.shown or (self.answer.payment if isinstance(self.answer, Refunded) else None)


async def record_refund(
    session: AsyncSession, payment: Payment, refund: Refund, told: Told, *, cause: Cause, at: datetime
) -> None:
    """Apply what the PG said about a refund that was promised. Recording it again changes nothing."""
    if told.held is not None and has_lost_its_deposit(payment, told.held):
        _record_reversed(payment, refund, at=at)
        return
    if refund.status is RefundStatus.REQUESTED:
        found = await _carried_out(session, payment, refund, told)
        if found is not None:
            await _succeed(session, payment, refund, found, cause=cause, at=at)
        else:
            _record_not_found(payment, refund, told, is_overtaken=await _is_overtaken(session, refund, told), at=at)
    if told.held is not None:
        # Not fresh: the refund that was recorded a moment ago has changed the payment since the PG was asked.
        await adopt_cancels(session, payment, told.held, is_fresh=False, cause=cause, at=at)


async def adopt_cancels(
    session: AsyncSession, payment: Payment, held: PgPayment, *, is_fresh: bool, cause: Cause, at: datetime
) -> None:
    """Let the books of a captured payment follow the PG's: cancels that we did not ask for become refunds.

    A cancel that may be the refund we are still waiting to hear of is left to that. With `is_fresh` the PG's balance
    must equal ours afterwards.
    """
    refunds = list(await refunds_of(session, payment.id))
    waiting = next((refund for refund in refunds if refund.status is RefundStatus.REQUESTED), None)
    is_beyond_us = False
    for cancel in _unrecorded(held, refunds):
        if waiting is not None and _fits(cancel, waiting):
            continue
        if cancel.amount > payment.refundable_amount:
            is_beyond_us = True  # the books cannot be brought together, however old the answer is
            break
        await _adopt(session, payment, cancel, cause=cause, at=at)
    await _follow_pay_out(session, payment, held, is_fresh=is_fresh, at=at)
    is_settled = is_fresh and waiting is None
    if (is_settled or is_beyond_us) and held.balance_amount != payment.refundable_amount:
        await discrepancies.note(session, DiscrepancyKind.REFUND_DIFFERS_AT_PG, payment, theirs=as_theirs(held), at=at)


def has_lost_its_deposit(payment: Payment, held: PgPayment) -> bool:
    """Whether the bank has taken the deposit back, so that the PG holds nothing; the account may be closed since."""
    is_unpaid = held.status in {PgStatus.WAITING_FOR_DEPOSIT, PgStatus.CANCELED} and not held.was_approved
    return payment.has_account and is_unpaid


def as_theirs(held: PgPayment) -> dict[str, Json]:
    """A payment of the PG as a discrepancy shows it."""
    return {
        "orderId": held.order_id,
        "status": held.status.value,
        "totalAmount": held.total_amount,
        "balanceAmount": held.balance_amount,
        "currency": held.currency,
    }


def refusal_of(refund: Refund) -> NotGivenBack:
    """The refusal that a failed refund is answered with."""
    because = RefusedBecause(refund.fail_because or RefusedBecause.OTHER)
    return REFUSALS[because](refund.fail_code or "", refund.fail_reason or "")


def _record_reversed(payment: Payment, refund: Refund, *, at: datetime) -> None:
    """There is nothing to give back. The reversal itself is recorded by the next look at the payment."""
    payment.check_at(at)
    if refund.status is RefundStatus.REQUESTED:
        message = "입금이 취소되어 환불할 금액이 없습니다."
        refund.fail("DEPOSIT_REVERSED", message, because=RefusedBecause.BALANCE_DIFFERS.value, at=at)
        log.warning("refund.nothing_to_give_back", order_id=payment.order_id, refund_id=str(refund.id))


async def _carried_out(session: AsyncSession, payment: Payment, refund: Refund, told: Told) -> PgCancel | None:
    """The cancel by which the PG carried this refund out, if it did."""
    if isinstance(told.answer, Refunded):
        return told.answer.cancel  # under our own key, so it is ours
    if told.shown is None:
        return None
    refunds = await refunds_of(session, payment.id)
    # The balance that went along as the PG's lock makes amount and balance unmistakable, and the reason tells ours
    # from the same amount that somebody cancelled in the PG's console at the same moment.
    candidates = (
        cancel
        for cancel in _unrecorded(told.shown, refunds)
        if _fits(cancel, refund) and cancel.reason.split() == refund.reason.split()
    )
    return next(candidates, None)


async def _succeed(
    session: AsyncSession, payment: Payment, refund: Refund, found: PgCancel, *, cause: Cause, at: datetime
) -> None:
    others = [other for other in await refunds_of(session, payment.id) if other.id != refund.id]
    if any(other.transaction_key == found.transaction_key for other in others):
        refund.fail(
            "ALREADY_RECORDED",
            "The PG's cancel has been recorded as another refund.",
            because=RefusedBecause.BALANCE_DIFFERS.value,
            at=at,
        )
        log.error("refund.recorded_twice", order_id=payment.order_id, refund_id=str(refund.id))
        return
    refund.succeed(payment, found.transaction_key, at=at, cause=cause)
    await announce(session, payment, EventType.REFUNDED, at=at)
    log.info("refund.succeeded", order_id=payment.order_id, refund_id=str(refund.id), amount=refund.amount)


async def _is_overtaken(session: AsyncSession, refund: Refund, told: Told) -> bool:
    """Whether others have taken from the balance that went along as the PG's lock, so that it never fits again."""
    shown = told.shown
    # Without the list nothing says by whom the balance went down.
    if shown is None or not shown.cancels or shown.balance_amount >= refund.believed_balance:
        return False
    unrecorded = _unrecorded(shown, await refunds_of(session, refund.payment_id))
    return not any(_fits(cancel, refund) for cancel in unrecorded)  # one that fits may be ours, under another reason


def _record_not_found(payment: Payment, refund: Refund, told: Told, *, is_overtaken: bool, at: datetime) -> None:
    match told.answer:
        case Unknown() if is_overtaken:
            message = "잔액 결과가 일치하지 않습니다."  # as Toss itself would say
            because = RefusedBecause.BALANCE_DIFFERS.value
            refund.fail("NOT_MATCHES_REFUNDABLE_AMOUNT", message, because=because, at=at)
            log.warning("refund.overtaken", order_id=payment.order_id, refund_id=str(refund.id))
        case Refused(because=because, code=code, message=message):
            refund.fail(code, message, because=because.value, at=at)
            if payment.has_account:
                payment.check_at(at)  # perhaps because the bank has taken the deposit back
            log.warning("refund.refused", order_id=payment.order_id, refund_id=str(refund.id), pg_code=code)
        case Unknown() as unknown if _is_repeated_fault(refund, unknown, told.shown, at=at):
            refund.ask_anew(secrets.token_urlsafe(32), at=at)
            log.warning("refund.asked_anew", order_id=payment.order_id, refund_id=str(refund.id))
        case Unknown(because=because, retry_after=retry_after):
            refund.check_later(at=at, not_before=retry_after)
            log.warning(
                "refund.outcome_unknown", order_id=payment.order_id, refund_id=str(refund.id), because=because.value
            )


def _is_repeated_fault(refund: Refund, unknown: Unknown, shown: PgPayment | None, *, at: datetime) -> bool:
    """Whether the PG keeps answering with a fault of its own and has shown that it did nothing."""
    nothing_done = shown is not None and shown.balance_amount == refund.believed_balance
    return nothing_done and unknown.because in _REPEATABLE and at >= refund.key_since + SETTLED_AFTER


async def _adopt(session: AsyncSession, payment: Payment, cancel: PgCancel, *, cause: Cause, at: datetime) -> None:
    session.add(
        Refund.adopt(
            payment,
            cancel.amount,
            reason=cancel.reason,
            transaction_key=cancel.transaction_key,
            at=at,
            cause=cause,
        )
    )
    await announce(session, payment, EventType.REFUNDED, at=at)
    log.warning("refund.adopted", order_id=payment.order_id, amount=cancel.amount, cause=cause.value)


async def _follow_pay_out(
    session: AsyncSession, payment: Payment, held: PgPayment, *, is_fresh: bool, at: datetime
) -> None:
    refund_status = held.virtual_account.refund_status if held.virtual_account else None
    # An answer from before the last refund tells of the ones before it.
    if not is_fresh or refund_status is None or payment.account_refund_asked_at is None:
        return
    if payment.follow_pay_out(refund_status, at=at):
        theirs: dict[str, Json] = {**as_theirs(held), "refundStatus": refund_status}
        await discrepancies.note(session, DiscrepancyKind.REFUND_NOT_PAID_OUT, payment, theirs=theirs, at=at)


def _unrecorded(held: PgPayment, refunds: Sequence[Refund]) -> list[PgCancel]:
    known = {refund.transaction_key for refund in refunds}
    return [cancel for cancel in held.cancels if cancel.is_done and cancel.transaction_key not in known]


def _fits(cancel: PgCancel, refund: Refund) -> bool:
    return cancel.amount == refund.amount and cancel.balance_after == refund.believed_balance - refund.amount
