"""Prepare: a payment exists for the order, and the payment window may be opened for it."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from payments.db import Sessions, race, transaction
from payments.errors import (
    AlreadyPaid,
    AmountMismatch,
    AmountOutOfRange,
    AwaitingDeposit,
    ConcurrentUpdate,
    OrderAmountMismatch,
    OrderNotFound,
    OrderNotPayable,
    OrdersUnavailable,
    PaymentClosed,
    PaymentError,
    PaymentInProgress,
    RedirectNotAllowed,
)
from payments.gateways.orders import NoSuchOrder, Order, OrderService, OrdersUnreachable
from payments.hot_path import HotPath
from payments.models import Payment
from payments.queries import database_now, is_free_for, lock_payment
from payments.states import PaymentMethod, PaymentStatus

log = structlog.get_logger()

# What a method can take, in won (https://docs.tosspayments.com/reference/error-codes: BELOW_MINIMUM_AMOUNT,
# EXCEEDS_TRANSFER_AMOUNT_MAXIMUM). The overall maximum stands in the API's schema.
MINIMUM: Final[dict[PaymentMethod, int]] = {PaymentMethod.TRANSFER: 200, PaymentMethod.VIRTUAL_ACCOUNT: 200}
MAXIMUM: Final[dict[PaymentMethod, int]] = {PaymentMethod.TRANSFER: 10_000_000}

# Why a payment that is neither new nor failed cannot be prepared.
NOT_PREPARABLE: Final[dict[PaymentStatus, type[PaymentError]]] = {
    PaymentStatus.PENDING: PaymentInProgress,
    PaymentStatus.WAITING_FOR_DEPOSIT: AwaitingDeposit,
    PaymentStatus.APPROVED: AlreadyPaid,
    PaymentStatus.COMPLETED: AlreadyPaid,
    PaymentStatus.PARTIALLY_REFUNDED: PaymentClosed,
    PaymentStatus.REFUNDED: PaymentClosed,
    PaymentStatus.CANCELLED: PaymentClosed,
}

PRINTABLE_URL: Final = re.compile(r"[!-\[\]-~]{1,2000}")  # ASCII without spaces, controls and backslashes


@dataclass(frozen=True, slots=True)
class PrepareRequest:
    """What the browser asks for; `amount` in won, all fields checked for their form."""

    order_id: str
    amount: int
    method: PaymentMethod
    customer_email: str = field(repr=False)
    order_name: str
    success_url: str = field(repr=False)
    fail_url: str = field(repr=False)
    buyer: str | None = field(default=None, repr=False)  # whose payment it is, where buyers are known


@dataclass(frozen=True, slots=True)
class Prepared:
    payment: Payment
    is_new: bool


async def prepare(
    asked: PrepareRequest,
    *,
    sessions: Sessions,
    hot: HotPath | None,
    orders: OrderService | None,
    allowed_origins: Sequence[str],
) -> Prepared:
    """Make the order's payment ready to be paid: new, found again, or reopened after a failure as a new attempt.

    Without `hot` everything goes the plain path, with the same outcome.

    Raises:
        RedirectNotAllowed, AmountOutOfRange: the request cannot be accepted.
        OrderNotFound: it is another buyer's, or was prepared for nobody in particular.
        OrderNotFound, OrderAmountMismatch, OrderNotPayable, OrdersUnavailable: what the order service says.
        AmountMismatch: the order was prepared with another amount.
        PaymentInProgress, AwaitingDeposit, AlreadyPaid, PaymentClosed: there is nothing to pay.
        DatabaseUnavailable: nothing was changed, or the same request finds what was.
    """
    _check_request(asked, allowed_origins)
    if orders is not None:
        if asked.buyer is not None:
            await _check_owner(asked.order_id, asked.buyer, sessions=sessions)
        _check_order(await orders.find(asked.order_id), asked.amount)
    if hot is not None and (prepared := await _prepare_new(asked, hot=hot)):
        return prepared
    return await race(lambda: _prepare_once(asked, sessions=sessions))


async def _prepare_new(asked: PrepareRequest, *, hot: HotPath) -> Prepared | None:
    payment = _new_payment(asked, at=await hot.now())
    with suppress(ConcurrentUpdate):
        if await hot.prepare(payment):
            return _made(payment)
    return None


async def _prepare_once(asked: PrepareRequest, *, sessions: Sessions) -> Prepared:
    async with transaction(sessions) as session:
        locked = await lock_payment(session, asked.order_id)
        if locked is not None:
            _open_again(locked.payment, asked, at=locked.now)
            return Prepared(locked.payment, is_new=False)
        payment = _new_payment(asked, at=await database_now(session))
        session.add(payment)
    return _made(payment)


def _new_payment(asked: PrepareRequest, *, at: datetime) -> Payment:
    return Payment.prepare(
        asked.order_id,
        asked.amount,
        method=asked.method,
        order_name=asked.order_name,
        customer_email=asked.customer_email,
        owner=asked.buyer,
        at=at,
    )


def _made(payment: Payment) -> Prepared:
    log.info("payment.prepared", order_id=payment.order_id, amount=payment.amount, method=payment.method.value)
    return Prepared(payment, is_new=True)


async def _check_owner(order_id: str, buyer: str, *, sessions: Sessions) -> None:
    """Before the order service is asked, whose answer would tell that the order exists."""
    async with transaction(sessions) as session:
        if not await is_free_for(session, order_id, buyer):
            raise OrderNotFound


def _open_again(payment: Payment, asked: PrepareRequest, *, at: datetime) -> None:
    if payment.is_hidden_from(asked.buyer):
        raise OrderNotFound
    if payment.amount != asked.amount:
        raise AmountMismatch
    if payment.status in NOT_PREPARABLE:
        raise NOT_PREPARABLE[payment.status]
    if payment.status is PaymentStatus.FAILED:
        payment.retry(at=at)
        log.info("payment.reopened", order_id=payment.order_id, attempt=payment.attempt)
    payment.prepare_again(method=asked.method, order_name=asked.order_name, customer_email=asked.customer_email, at=at)


def _check_request(asked: PrepareRequest, allowed_origins: Sequence[str]) -> None:
    if not is_allowed(asked.success_url, allowed_origins):
        raise RedirectNotAllowed("successUrl")
    if not is_allowed(asked.fail_url, allowed_origins):
        raise RedirectNotAllowed("failUrl")
    if not MINIMUM.get(asked.method, 0) <= asked.amount <= MAXIMUM.get(asked.method, asked.amount):
        raise AmountOutOfRange("amount")


def is_allowed(url: str, origins: Sequence[str]) -> bool:
    """Compared as text: what is not literally the origin followed by a path or query is refused, however it parses."""
    starts = tuple(f"{origin}{end}" for origin in origins for end in "/?")
    return PRINTABLE_URL.fullmatch(url) is not None and (url in origins or url.startswith(starts))


def _check_order(order: Order | NoSuchOrder | OrdersUnreachable, amount: int) -> None:
    match order:
        case OrdersUnreachable():
            raise OrdersUnavailable
        case NoSuchOrder():
            raise OrderNotFound
        case Order() if not order.is_payable:
            raise OrderNotPayable
        case Order(amount=owed) if owed != amount:
            raise OrderAmountMismatch
