"""Payments that come into the books at once, as if they had been made long ago."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from toss_sandbox.bodies import ORDER_ID
from toss_sandbox.cancels import CancelRequest, make_cancel
from toss_sandbox.errors import TossError
from toss_sandbox.payments import METHOD_NAMES, VIRTUAL_ACCOUNT, Payment, Status, make_means, new_secret
from toss_sandbox.settings import Settings
from toss_sandbox.store import Movement, movement

IMPORTABLE: Final = (Status.DONE, Status.CANCELED, Status.WAITING_FOR_DEPOSIT)
"""What an imported payment may be."""

_REASON: Final = "관리자 취소"


@dataclass(frozen=True, slots=True)
class ImportedPayment:
    """A payment to take into the books.

    Attributes:
        order_id: Its order.
        amount: Won.
        method: As the SDK calls it.
        status: One of IMPORTABLE; only a virtual account waits for a deposit.
        approved_at: When its money moved; None for now. Everything else about it happened at the same moment.
        payment_key: None to have one made.
    """

    order_id: str
    amount: int
    method: str = "CARD"
    status: Status = Status.DONE
    approved_at: datetime | None = None
    payment_key: str | None = None


def check_import(entry: ImportedPayment, *, at: datetime) -> None:
    """Let pass what can have happened by now.

    Raises:
        TossError: INVALID_ORDER_ID, NOT_SUPPORTED_METHOD, INVALID_DATE or, for an impossible status, INVALID_REQUEST.
    """
    if not ORDER_ID.fullmatch(entry.order_id):
        raise TossError("INVALID_ORDER_ID")
    if entry.method not in METHOD_NAMES:
        raise TossError("NOT_SUPPORTED_METHOD")
    if entry.approved_at is not None and entry.approved_at > at:
        raise TossError("INVALID_DATE")
    waits = entry.status is Status.WAITING_FOR_DEPOSIT
    if entry.status not in IMPORTABLE or (waits and entry.method != VIRTUAL_ACCOUNT):
        raise TossError("INVALID_REQUEST")


def make_import(
    entry: ImportedPayment, settings: Settings, *, payment_key: str, at: datetime
) -> tuple[Payment, list[Movement]]:
    """Lead a payment through its life at one moment; returns it with the money that moved."""
    payment = _opened(entry, settings, payment_key=payment_key, at=at).begin(
        make_means(entry.method), refuse_with=None, at=at
    )
    if entry.method == VIRTUAL_ACCOUNT:
        payment = payment.await_deposit(until=at + settings.deposit_window)
    if entry.status is Status.WAITING_FOR_DEPOSIT:
        return payment, []
    payment = payment.approve(at=at)
    moved = [movement("capture", payment, payment.total, at=at)]
    if entry.status is Status.CANCELED:
        payment = payment.cancel(make_cancel(payment, CancelRequest(payment_key, _REASON), at=at))
        moved.append(movement("cancel", payment, payment.total, at=at))
    return payment, moved


def _opened(entry: ImportedPayment, settings: Settings, *, payment_key: str, at: datetime) -> Payment:
    return Payment(
        payment_key=payment_key,
        order_id=entry.order_id,
        order_name="가져온 결제",
        amount=entry.amount,
        requested_method=entry.method,
        flow="payment",
        client_key=settings.client_key,
        success_url=f"{settings.public_url}/",
        fail_url=f"{settings.public_url}/",
        secret=new_secret(),
        requested_at=at,
    )
