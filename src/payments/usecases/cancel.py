"""Cancel: a payment is given up before it was paid, or its money goes back, wholly or in part."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments.background import Background
from payments.db import Sessions, insist, race, transaction
from payments.errors import (
    AlreadyRefunded,
    ConcurrentUpdate,
    DepositAmountDiffers,
    DepositArrived,
    NothingToRefund,
    PartialRefundNotAllowed,
    PaymentClosed,
    PaymentInProgress,
    PaymentKeyMismatch,
    RefundAccountNotAllowed,
    RefundAccountRequired,
    RefundInProgress,
    RefundOverLimit,
    RequestOvertaken,
    Unavailable,
)
from payments.gateways.pg import Answer, PaymentGateway, RefundAccount, Unknown
from payments.leases import Lease
from payments.models import Payment, Refund
from payments.outbox import announce
from payments.queries import (
    get_payment,
    get_payment_by_key,
    get_payment_to_change,
    has_promised,
    note_promise,
    open_refund_of,
    refund_of_request,
    refunds_of,
)
from payments.records import EventType
from payments.states import Cause, PaymentMethod, PaymentStatus, RefundStatus
from payments.usecases import give_up, refund
from payments.usecases.answers import Question, record, record_anew
from payments.usecases.promises import OpenCancel, OpenRefund, open_cancel, open_refund
from payments.usecases.refund_answers import REFUSALS, refusal_of

log = structlog.get_logger()

_ACCOUNT_FIELD: Final = "refundReceiveAccount"


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """What is to be given up or given back; amounts in won, all fields checked for their form.

    Without an amount everything that is left goes back. `request_id` names the intention: the same one is never
    carried out twice.
    """

    order_id: str
    reason: str = field(repr=False)  # in somebody's own words
    request_id: UUID
    actor: str | None = None
    limit: int | None = None  # won that whoever asks may give back of one payment in all
    amount: int | None = None
    tax_free_amount: int = 0
    account: RefundAccount | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """The payment afterwards, and the refund that was asked for, if there had been money to give back."""

    payment: Payment
    refund: Refund | None
    refunds: Sequence[Refund]  # all of the payment, oldest first

    @property
    def is_decided(self) -> bool:
        """False while the PG has not said what happened."""
        if self.refund is not None:
            return self.refund.status is not RefundStatus.REQUESTED
        return self.payment.status is PaymentStatus.CANCELLED


@dataclass(frozen=True, slots=True)
class Unresolved:
    """The payment is PENDING: the PG must be asked before anything can be given back."""

    order_id: str
    amount: int  # won
    question: Question


async def order_of_key(payment_key: str, *, sessions: Sessions) -> str:
    """The order that is paid under this payment key.

    Raises:
        PaymentNotFound: none is.
        PaymentKeyMismatch: it belongs to an earlier attempt, whose money must not be confused with the present one's.
    """
    async with transaction(sessions) as session:
        payment = await get_payment_by_key(session, payment_key)
    if payment.payment_key != payment_key:
        raise PaymentKeyMismatch
    return payment.order_id


async def cancel(
    asked: CancelRequest,
    *,
    sessions: Sessions,
    pg: PaymentGateway,
    background: Background,
    lease: Lease,
) -> CancelOutcome:
    """Give a payment up before it was paid, or give its money back; asked again for the same request, go on with it.

    `lease` is how long nobody else may take this over: longer than the PG's deadlines for a cancel and a look-up
    together. An outcome that is not decided is resolved by `refund.resolve_due_refunds` or `recover.watch`.

    Raises:
        PaymentNotFound, PaymentClosed, AlreadyRefunded, NothingToRefund, RefundExceedsBalance, TaxFreeExceedsRefund,
        DepositAmountDiffers, PartialRefundNotAllowed, RefundOverLimit,
        RefundAccountRequired, RefundAccountNotAllowed: the PG was not asked, nothing changed.
        PaymentInProgress, RefundInProgress, ConcurrentUpdate: not at this moment; nothing of this request was done.
        NotGivenBack: the PG gave nothing back; recorded.
        DepositArrived: the virtual account was paid before it could be given up; recorded.
        DatabaseUnavailable: nothing was promised, or what was promised is carried out later.
    """
    promise = await race(lambda: _promise(asked, sessions=sessions, lease=lease))
    if isinstance(promise, Unresolved):
        await background.finish(_resolve(promise, sessions=sessions, pg=pg))
        promise = await race(lambda: _promise(asked, sessions=sessions, lease=lease))
    if isinstance(promise, Unresolved):
        raise PaymentInProgress  # the PG does not know either, so nobody may guess
    if isinstance(promise, CancelOutcome):
        return promise
    work = promise.work
    keeping = (
        _refund(promise, work, sessions=sessions, pg=pg)
        if isinstance(work, OpenRefund)
        else _give_up(promise, work, sessions=sessions, pg=pg)
    )
    return await background.finish(keeping)


@dataclass(frozen=True, slots=True)
class Promised:
    """What was committed before the PG is asked; only to answer with when the outcome cannot be recorded."""

    work: OpenRefund | OpenCancel
    outcome: CancelOutcome


async def _promise(asked: CancelRequest, *, sessions: Sessions, lease: Lease) -> CancelOutcome | Promised | Unresolved:
    """Commit what the PG will be asked for, and under which key; or find it promised or decided before."""
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, asked.order_id)
        before = await _promised_before(session, payment, asked, lease=lease, at=now)
        return before or await _decide(session, payment, asked, lease=lease, at=now)


async def _promised_before(
    session: AsyncSession, payment: Payment, asked: CancelRequest, *, lease: Lease, at: datetime
) -> CancelOutcome | Promised | None:
    """Where this very request stands, if it has come this far before."""
    earlier = await refund_of_request(session, asked.request_id)
    if earlier is not None:
        outcome = await _outcome(session, payment, earlier)
        if earlier.status is RefundStatus.FAILED:
            raise refusal_of(earlier)
        # Somebody holds it, or it was asked about a moment ago. Only who repeats the request brings the account.
        is_left_alone = earlier.next_check_at is not None and earlier.next_check_at > at and asked.account is None
        if earlier.status is not RefundStatus.REQUESTED or is_left_alone:
            return outcome
        earlier.hold(lease, at=at)
        return Promised(open_refund(payment, earlier, now=at, account=asked.account), outcome)
    if payment.cancel_request_id != asked.request_id:
        if await has_promised(session, asked.request_id):
            raise RequestOvertaken
        return None
    _check_still_given_up(payment)
    outcome = await _outcome(session, payment)
    if outcome.is_decided or (payment.next_check_at is not None and payment.next_check_at > at):
        return outcome
    payment.hold(lease, at=at)
    return await _promised_cancel(session, payment)


def _check_still_given_up(payment: Payment) -> None:
    """What became of a payment that this very request has given up before."""
    match payment.status:
        case PaymentStatus.CANCELLED:
            return
        case PaymentStatus.WAITING_FOR_DEPOSIT if payment.cancel_key is not None:
            return
        case PaymentStatus.FAILED:  # the due date passed first
            raise NothingToRefund
        case _:
            raise DepositArrived


async def _decide(
    session: AsyncSession, payment: Payment, asked: CancelRequest, *, lease: Lease, at: datetime
) -> CancelOutcome | Promised | Unresolved:
    match payment.status:
        case PaymentStatus.COMPLETED | PaymentStatus.PARTIALLY_REFUNDED:
            return await _promise_refund(session, payment, asked, lease=lease, at=at)
        case PaymentStatus.WAITING_FOR_DEPOSIT:
            return await _promise_cancel(session, payment, asked, lease=lease, at=at)
        case PaymentStatus.CREATED:
            return await _abandon(session, payment, asked, at=at)
        case PaymentStatus.PENDING:
            return Unresolved(payment.order_id, payment.amount, Question(payment.payment_key or "", payment.version))
        case PaymentStatus.APPROVED:
            raise PaymentInProgress
        case PaymentStatus.FAILED:
            raise NothingToRefund
        case PaymentStatus.CANCELLED:
            raise PaymentClosed
        case PaymentStatus.REFUNDED:
            raise AlreadyRefunded


async def _promise_refund(
    session: AsyncSession, payment: Payment, asked: CancelRequest, *, lease: Lease, at: datetime
) -> Promised:
    if await open_refund_of(session, payment.id) is not None:
        raise RefundInProgress
    amount = asked.amount or payment.refundable_amount
    if asked.limit is not None and payment.refunded_amount + amount > asked.limit:
        raise RefundOverLimit
    promised = Refund.request(
        payment,
        amount,
        tax_free_amount=asked.tax_free_amount,
        reason=asked.reason,
        refund_key=secrets.token_urlsafe(32),
        at=at,
        lease=lease,
        cause=Cause.API,
        actor=asked.actor,
        request_id=asked.request_id,
    )
    if amount != payment.amount and not payment.is_partial_cancelable:
        raise PartialRefundNotAllowed
    _check_account(payment, asked)
    session.add(promised)
    await session.flush()
    log.info("refund.begun", order_id=payment.order_id, refund_id=str(promised.id), amount=amount)
    return Promised(
        open_refund(payment, promised, now=at, account=asked.account), await _outcome(session, payment, promised)
    )


async def _promise_cancel(
    session: AsyncSession, payment: Payment, asked: CancelRequest, *, lease: Lease, at: datetime
) -> Promised:
    if payment.deposited_amount is not None:
        raise DepositAmountDiffers
    _check_nothing_paid(payment, asked)
    if payment.cancel_key is not None:
        raise RefundInProgress
    payment.begin_cancel(
        asked.reason,
        cancel_key=secrets.token_urlsafe(32),
        request_id=asked.request_id,
        at=at,
        lease=lease,
        actor=asked.actor,
    )
    await note_promise(session, asked.request_id, at=at)
    return await _promised_cancel(session, payment)


async def _promised_cancel(session: AsyncSession, payment: Payment) -> Promised:
    await session.flush()  # so that the promise carries the version that this change gets
    work = open_cancel(payment)
    if work is None:
        raise AssertionError("a cancel that has begun is open")
    return Promised(work, await _outcome(session, payment))


async def _abandon(session: AsyncSession, payment: Payment, asked: CancelRequest, *, at: datetime) -> CancelOutcome:
    """The PG knows nothing of it that it would have to forget: without our confirm it takes no money."""
    _check_nothing_paid(payment, asked)
    payment.cancel(asked.reason, at=at, cause=Cause.API, actor=asked.actor, request_id=asked.request_id)
    await note_promise(session, asked.request_id, at=at)
    await announce(session, payment, EventType.CANCELLED, at=at)
    log.info("payment.cancelled", order_id=payment.order_id, cause=Cause.API.value)
    return await _outcome(session, payment)


def _check_nothing_paid(payment: Payment, asked: CancelRequest) -> None:
    if asked.amount not in {None, payment.amount}:
        raise PartialRefundNotAllowed
    if asked.account is not None:
        raise RefundAccountNotAllowed(_ACCOUNT_FIELD)


def _check_account(payment: Payment, asked: CancelRequest) -> None:
    goes_to_account = payment.method is PaymentMethod.VIRTUAL_ACCOUNT
    if goes_to_account and asked.account is None:
        raise RefundAccountRequired(_ACCOUNT_FIELD)
    if asked.account is not None and not goes_to_account:
        raise RefundAccountNotAllowed(_ACCOUNT_FIELD)


async def _resolve(one: Unresolved, *, sessions: Sessions, pg: PaymentGateway) -> None:
    """Ask the PG what became of a payment that is PENDING. Nothing is confirmed here: it is about to be given up."""
    answer = await _look_up(one, pg=pg)
    if isinstance(answer, Unknown):
        return  # whoever confirms it still holds it, and plans the next question
    await record_anew(
        answer,
        one.question,
        ask=lambda: _look_up(one, pg=pg),
        write=lambda answer, question: insist(lambda: _record(one, answer, question, sessions=sessions)),
    )


async def _look_up(one: Unresolved, *, pg: PaymentGateway) -> Answer:
    return await pg.look_up(one.question.payment_key, order_id=one.order_id, amount=one.amount)


async def _record(one: Unresolved, answer: Answer, question: Question, *, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, one.order_id)
        await record(session, payment, answer, question=question, cause=Cause.API, at=now)


async def _refund(promise: Promised, work: OpenRefund, *, sessions: Sessions, pg: PaymentGateway) -> CancelOutcome:
    try:
        _, promised = await refund.carry_out(work, cause=Cause.API, sessions=sessions, pg=pg)
    except (ConcurrentUpdate, Unavailable):
        # The money may be on its way back, so this is no error: it is not known yet, and will be asked about again.
        log.exception("refund.not_recorded", order_id=work.order.order_id)
        return promise.outcome
    if promised.status is RefundStatus.FAILED:
        raise refusal_of(promised)
    return await _read(work.order.order_id, promised, sessions=sessions)


async def _give_up(promise: Promised, work: OpenCancel, *, sessions: Sessions, pg: PaymentGateway) -> CancelOutcome:
    try:
        given_up = await give_up.carry_out(work, cause=Cause.API, sessions=sessions, pg=pg)
    except (ConcurrentUpdate, Unavailable):
        log.exception("cancel.not_recorded", order_id=work.order_id)
        return promise.outcome
    payment, refused = given_up.payment, given_up.refused
    match payment.status:
        case PaymentStatus.WAITING_FOR_DEPOSIT if payment.deposited_amount is not None:
            raise DepositAmountDiffers
        case PaymentStatus.WAITING_FOR_DEPOSIT if refused is not None and payment.cancel_key is None:
            raise REFUSALS[refused.because](refused.code, refused.message)
        case PaymentStatus.CANCELLED | PaymentStatus.WAITING_FOR_DEPOSIT:
            return CancelOutcome(payment, None, ())
        case PaymentStatus.FAILED:  # the due date had passed
            raise NothingToRefund
        case _:
            raise DepositArrived


async def _read(order_id: str, promised: Refund, *, sessions: Sessions) -> CancelOutcome:
    async with transaction(sessions) as session:
        payment = await get_payment(session, order_id)
        return CancelOutcome(payment, promised, await refunds_of(session, payment.id))


async def _outcome(session: AsyncSession, payment: Payment, promised: Refund | None = None) -> CancelOutcome:
    return CancelOutcome(payment, promised, await refunds_of(session, payment.id))
