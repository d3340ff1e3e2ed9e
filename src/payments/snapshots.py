"""A payment as others see it: the one JSON shape that the API answers and that events carry."""

from collections.abc import Sequence
from datetime import UTC, datetime

from payments.models import Payment, Refund
from payments.records import Json
from payments.states import PaymentStatus


def snapshot(payment: Payment, refunds: Sequence[Refund] = ()) -> dict[str, Json]:
    """Where a payment stands now. Amounts are whole won, times are ISO 8601 in UTC; no e-mail, no secret."""
    return {
        "orderId": payment.order_id,
        "paymentKey": payment.payment_key,
        "status": payment.status.value,
        "method": payment.method.value,
        "amount": payment.amount,
        "refundedAmount": payment.refunded_amount,
        "refundableAmount": payment.refundable_amount,
        "currency": payment.currency,
        "orderName": payment.order_name,
        "attempt": payment.attempt,
        "failure": _failure(payment),
        "virtualAccount": _virtual_account(payment),
        "receiptUrl": payment.receipt_url,
        "createdAt": iso(payment.created_at),
        "approvedAt": iso(payment.approved_at),
        "completedAt": iso(payment.completed_at),
        "cancelledAt": iso(payment.cancelled_at),
        "refunds": [refund_snapshot(refund) for refund in refunds],
        "version": payment.version,
    }


def iso(at: datetime | None) -> str | None:
    """UTC with a `Z`; None stays None."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else None


def _failure(payment: Payment) -> Json:
    if payment.status is not PaymentStatus.FAILED:
        return None
    return {"code": payment.fail_code, "message": payment.fail_reason}


def _virtual_account(payment: Payment) -> Json:
    account = payment.virtual_account
    if account is None:
        return None
    return {
        "bank": account.bank,
        "accountNumber": account.account_number,
        "holder": account.holder,
        "dueDate": iso(account.due_at),
        "refundStatus": payment.account_refund_status,
    }


def refund_snapshot(refund: Refund) -> dict[str, Json]:
    """Where a refund stands now; never the account it goes to, which is not kept."""
    failure: Json = {"code": refund.fail_code, "message": refund.fail_reason} if refund.fail_code else None
    return {
        "refundId": str(refund.id),
        "amount": refund.amount,
        "taxFreeAmount": refund.tax_free_amount,
        "reason": refund.reason,
        "status": refund.status.value,
        "requestedAt": iso(refund.requested_at),
        "completedAt": iso(refund.completed_at),
        "failure": failure,
        "nextCheckAt": iso(refund.next_check_at),
    }
