"""What is committed before the PG is asked to give something back: all that is needed to ask, and to ask again."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from payments.gateways.pg import RefundAccount, RefundOrder
from payments.models import Payment, Refund
from payments.states import PaymentMethod, PaymentStatus

# Toss forgets a key after 15 days (https://docs.tosspayments.com/reference/using-api/authorization), and would then
# take the same request for a new one.
KEY_LIFETIME: Final = timedelta(days=14)
# By then a request that the PG was slow with has ended one way or the other.
SETTLED_AFTER: Final = timedelta(minutes=1)
GIVE_UP_AFTER: Final = timedelta(hours=24)  # then a person is told; the promise is kept at all the same


@dataclass(frozen=True, slots=True)
class OpenRefund:
    """A refund that is promised and not decided; all that is needed to ask the PG for it."""

    refund_id: UUID
    payment_key: str
    order: RefundOrder
    age: timedelta  # since it was asked for, by the database's clock
    key_age: timedelta
    was_asked_before: bool  # by us, or by somebody whose answer was lost
    goes_to_account: bool


@dataclass(frozen=True, slots=True)
class OpenCancel:
    """A cancel that is promised and not decided; all that is needed to ask the PG for it."""

    order_id: str
    payment_key: str
    amount: int  # won that were to be paid in
    reason: str = field(repr=False)
    cancel_key: str = field(repr=False)
    version: int  # of the payment as it was promised


def open_refund(payment: Payment, refund: Refund, *, now: datetime, account: RefundAccount | None = None) -> OpenRefund:
    """What the PG is asked for, the same each time."""
    if payment.payment_key is None:
        raise AssertionError("a captured payment has its key; the database checks it")
    order = RefundOrder(
        order_id=payment.order_id,
        total_amount=payment.amount,
        amount=refund.amount,
        believed_balance=refund.believed_balance,
        tax_free_amount=refund.tax_free_amount,
        reason=refund.reason,
        idempotency_key=refund.refund_key,
        account=account,
    )
    return OpenRefund(
        refund_id=refund.id,
        payment_key=payment.payment_key,
        order=order,
        age=now - refund.requested_at,
        key_age=now - refund.key_since,
        was_asked_before=refund.requested_at < now,
        goes_to_account=payment.method is PaymentMethod.VIRTUAL_ACCOUNT,
    )


def open_cancel(payment: Payment) -> OpenCancel | None:
    """The promise to give a payment up that waits to be kept; None if there is none."""
    if payment.status is not PaymentStatus.WAITING_FOR_DEPOSIT or payment.cancel_key is None:
        return None
    return OpenCancel(
        order_id=payment.order_id,
        payment_key=payment.payment_key or "",
        amount=payment.amount,
        reason=payment.cancel_reason or "",
        cancel_key=payment.cancel_key,
        version=payment.version,
    )
