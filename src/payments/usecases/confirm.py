"""Confirm: the buyer is back from the payment window, and the money is taken, once."""

import secrets
from dataclasses import dataclass, field

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments.background import Background
from payments.db import RACES, Sessions, insist, transaction
from payments.errors import (
    AmountMismatch,
    ConcurrentUpdate,
    NotConfirmable,
    PaymentClosed,
    PaymentDeclined,
    PaymentKeyMismatch,
    PaymentNotFound,
    PgUnavailable,
    Unavailable,
)
from payments.gateways.pg import Answer, PaymentGateway, Unknown, UnknownBecause
from payments.leases import Lease
from payments.models import Payment
from payments.queries import failure_of_attempt, get_payment, get_payment_to_change
from payments.states import Cause, PaymentStatus
from payments.usecases.answers import Question, note_mismatch, record

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    """What the browser brings back from the payment window; `amount` in won, all fields checked for their form."""

    payment_key: str
    order_id: str
    amount: int
    buyer: str | None = field(default=None, repr=False)  # whose payment it has to be, where buyers are known


async def confirm(
    asked: ConfirmRequest,
    *,
    sessions: Sessions,
    pg: PaymentGateway,
    background: Background,
    lease: Lease,
) -> Payment:
    """Take the money of a prepared payment; asked again, answer what is recorded and leave the PG alone.

    `lease` is how long nobody else may take this confirm over: longer than the PG's deadlines for a confirm and a
    look-up together.

    The payment that comes back is COMPLETED (or refunded since), WAITING_FOR_DEPOSIT, or still PENDING, which means
    that the outcome is not known yet.

    Raises:
        PaymentNotFound: the order was never prepared, or by another buyer.
        AmountMismatch, PaymentKeyMismatch, NotConfirmable, PaymentClosed: the PG was not asked.
        PaymentDeclined: the PG refused; recorded.
        PgUnavailable: the PG is failing and was not asked; nothing was changed.
        DatabaseUnavailable: the PG was not asked; the payment is as it was, or PENDING and will be asked about.
    """
    promise = await _promise(asked, sessions=sessions, pg=pg, lease=lease)
    if isinstance(promise, Payment):
        return _outcome(promise)
    payment = await background.finish(_ask_and_record(asked, promise, sessions=sessions, pg=pg))
    if payment.payment_key == asked.payment_key:
        return _outcome(payment)
    # The answer took so long that others decided this attempt and the buyer began another one.
    return _outcome(await _read_recorded(asked, sessions=sessions))


@dataclass(frozen=True, slots=True)
class Promise:
    """What was committed before the PG is asked."""

    confirm_key: str = field(repr=False)
    payment: Payment  # PENDING, as it was committed; only to answer with when the outcome cannot be recorded


async def _promise(asked: ConfirmRequest, *, sessions: Sessions, pg: PaymentGateway, lease: Lease) -> Promise | Payment:
    """Commit that the PG will be asked, and under which key; or find the payment already promised or decided."""
    for _ in range(RACES):
        try:
            async with transaction(sessions) as session:
                payment, now = await get_payment_to_change(session, asked.order_id)
                if await _is_recorded(session, payment, asked):
                    return payment
                if not pg.is_available:
                    raise PgUnavailable
                confirm_key = secrets.token_urlsafe(32)
                payment.begin_confirm(asked.payment_key, asked.amount, confirm_key=confirm_key, at=now, lease=lease)
        except ConcurrentUpdate:
            continue
        log.info("payment.confirm_begun", order_id=asked.order_id, attempt=payment.attempt)
        return Promise(confirm_key, payment)
    raise ConcurrentUpdate


async def _read_recorded(asked: ConfirmRequest, *, sessions: Sessions) -> Payment:
    async with transaction(sessions) as session:
        payment = await get_payment(session, asked.order_id)
        if not await _is_recorded(session, payment, asked):
            raise PaymentKeyMismatch
    return payment


async def _is_recorded(session: AsyncSession, payment: Payment, asked: ConfirmRequest) -> bool:
    """Whether this confirm has been promised or decided before; refuses what can be neither."""
    if payment.is_hidden_from(asked.buyer):
        raise PaymentNotFound
    if payment.amount != asked.amount:
        raise AmountMismatch
    if payment.status is PaymentStatus.CANCELLED:
        raise PaymentClosed
    if payment.payment_key == asked.payment_key:
        return True
    # A success page that is loaded again after the buyer went on to another attempt.
    failure = await failure_of_attempt(session, payment.id, asked.payment_key)
    if failure is not None:
        raise PaymentDeclined(failure.pg_code or "", failure.message or "")
    match payment.status:
        case PaymentStatus.CREATED:
            return False
        case PaymentStatus.FAILED:
            raise NotConfirmable
        case _:
            raise PaymentKeyMismatch


async def _ask_and_record(
    asked: ConfirmRequest, promise: Promise, *, sessions: Sessions, pg: PaymentGateway
) -> Payment:
    answer = await pg.confirm(
        asked.payment_key, order_id=asked.order_id, amount=asked.amount, idempotency_key=promise.confirm_key
    )
    mismatch = answer if isinstance(answer, Unknown) and answer.because is UnknownBecause.MISMATCH else None
    if isinstance(answer, Unknown) and answer.was_sent:
        answer = await pg.look_up(asked.payment_key, order_id=asked.order_id, amount=asked.amount)
    question = Question(asked.payment_key, promise.payment.version)
    try:
        return await insist(lambda: _record(asked, answer, mismatch, question=question, sessions=sessions))
    except (ConcurrentUpdate, Unavailable):
        # The money may have been taken, so this is no error to the buyer: it is not known yet, and asked again.
        log.exception("confirm.not_recorded", order_id=asked.order_id)
        return promise.payment


async def _record(
    asked: ConfirmRequest, answer: Answer, mismatch: Unknown | None, *, question: Question, sessions: Sessions
) -> Payment:
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, asked.order_id)
        if mismatch is not None and mismatch.payment is not None:
            await note_mismatch(session, payment, mismatch.payment, at=now)
        await record(session, payment, answer, question=question, cause=Cause.API, at=now)
    return payment


def _outcome(payment: Payment) -> Payment:
    if payment.status is PaymentStatus.FAILED:
        raise PaymentDeclined(payment.fail_code or "", payment.fail_reason or "")
    if payment.status is PaymentStatus.CANCELLED:
        raise PaymentClosed
    return payment
