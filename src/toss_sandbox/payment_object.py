"""The Payment object: what Toss shows of a payment."""

from datetime import datetime
from typing import Final

from pydantic import JsonValue

from toss_sandbox.clock import toss_time
from toss_sandbox.payments import APPROVED, METHOD_NAMES, Cancel, Means, Payment, Status
from toss_sandbox.settings import Settings

API_VERSION: Final = "2022-11-16"


def payment_object(payment: Payment, settings: Settings, *, at: datetime) -> dict[str, JsonValue]:
    """The Payment object in the field set and order of a real answer (API version 2022-11-16).

    `transactionKey` is left out except on an EXPIRED payment, as in the real answers that became public.
    """
    approved = payment.status in APPROVED
    expired = payment.status is Status.EXPIRED
    taxed = payment.taxed_left
    vat = vat_of(taxed)
    return {
        "mId": settings.merchant_id,
        "lastTransactionKey": payment.last_transaction_key,
        **({"transactionKey": None} if expired else {}),
        "paymentKey": payment.payment_key,
        "orderId": payment.order_id,
        "orderName": payment.order_name,
        "taxExemptionAmount": payment.tax_exemption_left,
        "status": payment.status.value,
        "requestedAt": toss_time(payment.requested_at),
        "approvedAt": toss_time(payment.approved_at) if payment.approved_at else None,
        "useEscrow": None if expired else payment.use_escrow,
        "cultureExpense": False,
        **_means_objects(payment, settings, at=at),
        "discount": None,
        "cancels": [cancel_object(cancel) for cancel in payment.cancels] or None,
        "secret": payment.secret if approved else None,
        "type": "NORMAL",
        "easyPay": _easy_pay(payment) if approved else None,
        "country": "KR",
        "failure": {"code": payment.failure.code, "message": payment.failure.message} if payment.failure else None,
        "isPartialCancelable": payment.is_partial_cancelable,
        "receipt": {"url": settings.receipt_url.format(payment_key=payment.payment_key)} if approved else None,
        "checkout": {"url": f"{settings.public_url}/v1/payments/{payment.payment_key}/checkout"},
        "currency": "KRW",
        "totalAmount": payment.total,
        "balanceAmount": payment.balance,
        "suppliedAmount": taxed - vat,
        "vat": vat,
        "taxFreeAmount": payment.tax_free_left,
        "method": METHOD_NAMES[payment.means.method] if payment.means and not expired else None,
        "version": API_VERSION,
        "metadata": None,
    }


def vat_of(taxed: int) -> int:
    """The tax in an amount of won that includes it: an eleventh, rounded half up."""
    return (2 * taxed + 11) // 22


def _means_objects(payment: Payment, settings: Settings, *, at: datetime) -> dict[str, JsonValue]:
    objects: dict[str, JsonValue] = dict.fromkeys(
        ("card", "virtualAccount", "transfer", "mobilePhone", "giftCertificate", "cashReceipt", "cashReceipts")
    )
    means = payment.means
    if means is None or payment.status not in APPROVED:
        return objects
    match means.method:
        case "CARD":
            objects["card"] = _card(payment, means)
        case "VIRTUAL_ACCOUNT":
            objects["virtualAccount"] = _virtual_account(payment, means, at=at)
        case "TRANSFER":
            objects["transfer"] = {"bankCode": means.bank, "settlementStatus": "INCOMPLETED"}
        case "MOBILE_PHONE":
            receipt_url = settings.receipt_url.format(payment_key=payment.payment_key)
            objects["mobilePhone"] = {
                "customerMobilePhone": means.number,
                "settlementStatus": "INCOMPLETED",
                "receiptUrl": receipt_url,
            }
        case method if method.endswith("GIFT_CERTIFICATE"):
            objects["giftCertificate"] = {"approveNo": means.approve_no, "settlementStatus": "INCOMPLETED"}
    return objects


def _card(payment: Payment, means: Means) -> dict[str, JsonValue]:
    return {
        "issuerCode": "61",
        "acquirerCode": "31",
        "number": means.number,
        "installmentPlanMonths": means.instalment_months,
        "isInterestFree": False,
        "interestPayer": None,
        "approveNo": means.approve_no,
        "useCardPoint": False,
        "cardType": "신용",
        "ownerType": "개인",
        "acquireStatus": "READY",
        "amount": payment.amount,
    }


def _virtual_account(payment: Payment, means: Means, *, at: datetime) -> dict[str, JsonValue]:
    return {
        "accountNumber": means.number,
        "accountType": "일반",
        "bankCode": means.bank,
        "customerName": means.holder_name or payment.customer_name or "",
        "depositorName": None,
        "dueDate": toss_time(payment.due_at) if payment.due_at else None,
        "expired": payment.is_past_due(at),
        "settlementStatus": "INCOMPLETED",
        "refundStatus": payment.refund_status.value,
        "refundReceiveAccount": None,
    }


def cancel_object(cancel: Cancel) -> dict[str, JsonValue]:
    """An item of `cancels`."""
    return {
        "transactionKey": cancel.transaction_key,
        "cancelReason": cancel.reason,
        "taxExemptionAmount": cancel.tax_exemption_amount,
        "canceledAt": toss_time(cancel.at),
        "cardDiscountAmount": 0,
        "transferDiscountAmount": 0,
        "easyPayDiscountAmount": 0,
        "receiptKey": None,
        "cancelStatus": "DONE",
        "cancelRequestId": None,
        "cancelAmount": cancel.amount,
        "taxFreeAmount": cancel.tax_free_amount,
        "refundableAmount": cancel.refundable_amount,
    }


def _easy_pay(payment: Payment) -> JsonValue:
    if payment.means is None or payment.means.method != "EASY_PAY":
        return None
    return {"provider": payment.means.wallet, "amount": payment.amount, "discountAmount": 0}
