"""Confirm: the buyer is back from the payment window, and the money is taken, once."""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments.background import Background
from payments.db import Sessions, insist, race, transaction
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
from payments.hot_path import Held, HotPath
from payments.leases import Lease
from payments.models import Payment, Refund
from payments.queries import failure_of_attempt, get_payment, get_payment_to_change, refunds_of
from payments.states import EVER_CAPTURED, Cause, PaymentStatus
from payments.usecases.answers import Question, note_mismatch, record, record_anew, record_at_once

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    """What the browser brings back from the payment window; `amount` in won, all fields checked for their form."""

    payment_key: str
    order_id: str
    amount: int
    buyer: str | None = field(default=None, repr=False)  # whose payment it has to be, where buyers are known


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A payment as it stands, with all its refunds: one that was confirmed long ago may have some."""

    payment: Payment
    refunds: Sequence[Refund] = ()


async def confirm(
    asked: ConfirmRequest,
    *,
    sessions: Sessions,
    hot: HotPath | None,
    pg: PaymentGateway,
    background: Background,
    lease: Lease,
) -> Confirmed:
    """Take the money of a prepared payment; asked again, answer what is recorded and leave the PG alone.

    `lease` is how long nobody else may take this confirm over: longer than the PG's deadlines for a confirm and a
    look-up together. Without `hot` everything goes the plain path, with the same outcome.

    The payment that comes back is COMPLETED (or refunded since), WAITING_FOR_DEPOSIT, or still PENDING, which means
    that the outcome is not known yet.

    Raises:
        PaymentNotFound: the order was never prepared, or by another buyer.
        AmountMismatch, PaymentKeyMismatch, NotConfirmable, PaymentClosed: the PG was not asked.
        PaymentDeclined: the PG refused; recorded.
        PgUnavailable: the PG is failing and was not asked; nothing was changed.
        DatabaseUnavailable: the PG was not asked; the payment is as it was, or PENDING and will be asked about.
    """
    promise = await _promise(asked, sessions=sessions, hot=hot, pg=pg, lease=lease)
    if isinstance(promise, Confirmed):
        return _outcome(promise)
    confirmed = await background.finish(_ask_and_record(asked, promise, sessions=sessions, hot=hot, pg=pg))
    if confirmed.payment.payment_key == asked.payment_key:
        return _outcome(confirmed)
    # The answer took so long that others decided this attempt and the buyer began another one.
    if (recorded := await _read_recorded(asked, sessions=sessions)) is None:
        raise PaymentKeyMismatch
    return _outcome(recorded)


@dataclass(frozen=True, slots=True)
class Promise:
    """What was committed before the PG is asked."""

    confirm_key: str = field(repr=False)
    payment: Payment  # PENDING, as it was committed
    held: Held | None = None  # where the hot path did it


async def _promise(
    asked: ConfirmRequest, *, sessions: Sessions, hot: HotPath | None, pg: PaymentGateway, lease: Lease
) -> Promise | Confirmed:
    """Commit that the PG will be asked, and under which key; or find the payment already promised or decided."""
    at_once = await _promise_at_once(asked, hot=hot, lease=lease) if hot and pg.is_available else None
    # Looked at before it is locked: a hundred repetitions would queue for one row, each with a connection in its hands.
    found = at_once or await _read_recorded(asked, sessions=sessions)
    if found:
        return found
    return await race(lambda: _promise_plainly(asked, sessions=sessions, pg=pg, lease=lease))


async def _promise_at_once(asked: ConfirmRequest, *, hot: HotPath, lease: Lease) -> Promise | None:
    confirm_key = secrets.token_urlsafe(32)
    with suppress(ConcurrentUpdate):
        held = await hot.begin_confirm(
            *(asked.order_id, asked.payment_key, asked.amount), buyer=asked.buyer, confirm_key=confirm_key, lease=lease
        )
        if held is not None:
            return Promise(confirm_key, held.payment, held)
    return None


async def _promise_plainly(
    asked: ConfirmRequest, *, sessions: Sessions, pg: PaymentGateway, lease: Lease
) -> Promise | Confirmed:
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, asked.order_id)
        if await _is_recorded(session, payment, asked):
            return await _as_recorded(session, payment)
        if not pg.is_available:
            raise PgUnavailable
        confirm_key = secrets.token_urlsafe(32)
        payment.begin_confirm(asked.payment_key, asked.amount, confirm_key=confirm_key, at=now, lease=lease)
    return Promise(confirm_key, payment)


async def _read_recorded(asked: ConfirmRequest, *, sessions: Sessions) -> Confirmed | None:
    """How a confirm stands that has been promised or decided before; None if it has not."""
    async with transaction(sessions) as session:
        payment = await get_payment(session, asked.order_id)
        return await _as_recorded(session, payment) if await _is_recorded(session, payment, asked) else None


async def _as_recorded(session: AsyncSession, payment: Payment) -> Confirmed:
    return Confirmed(payment, await refunds_of(session, payment.id) if payment.status in EVER_CAPTURED else ())


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
    asked: ConfirmRequest, promise: Promise, *, sessions: Sessions, hot: HotPath | None, pg: PaymentGateway
) -> Confirmed:
    answer = await pg.confirm(
        asked.payment_key, order_id=asked.order_id, amount=asked.amount, idempotency_key=promise.confirm_key
    )
    if hot and promise.held and (payment := await record_at_once(promise.held, answer, cause=Cause.API, hot=hot)):
        return Confirmed(payment)
    mismatch = answer if isinstance(answer, Unknown) and answer.because is UnknownBecause.MISMATCH else None
    if isinstance(answer, Unknown) and answer.was_sent:
        answer = await _look_up(asked, pg=pg)
    try:
        return await record_anew(
            answer,
            Question(asked.payment_key, promise.payment.version),
            ask=lambda: _look_up(asked, pg=pg),
            write=lambda answer, question: insist(
                lambda: _record(asked, answer, mismatch, question=question, sessions=sessions)
            ),
        )
    except (ConcurrentUpdate, Unavailable):
        # The money may have been taken, so this is no error to the buyer: it is not known yet, and asked again.
        log.exception("confirm.not_recorded", order_id=asked.order_id)
        return Confirmed(promise.payment)


async def _look_up(asked: ConfirmRequest, *, pg: PaymentGateway) -> Answer:
    return await pg.look_up(asked.payment_key, order_id=asked.order_id, amount=asked.amount)


async def _record(
    asked: ConfirmRequest, answer: Answer, mismatch: Unknown | None, *, question: Question, sessions: Sessions
) -> Confirmed:
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, asked.order_id)
        if mismatch is not None and mismatch.payment is not None:
            await note_mismatch(session, payment, mismatch.payment, at=now)
        await record(session, payment, answer, question=question, cause=Cause.API, at=now)
        return await _as_recorded(session, payment)


def _outcome(confirmed: Confirmed) -> Confirmed:
    payment = confirmed.payment
    if payment.status is PaymentStatus.FAILED:
        raise PaymentDeclined(payment.fail_code or "", payment.fail_reason or "")
    if payment.status is PaymentStatus.CANCELLED:
        raise PaymentClosed
    return confirmed
