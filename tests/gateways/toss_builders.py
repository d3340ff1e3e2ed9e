"""Answers of Toss as its reference shows them; a story overrides what it is about."""

import json
from typing import Final

from payments.gateways.pg import RefundAccount, RefundOrder
from payments.gateways.toss_answers import Asked

PAYMENT_KEY: Final = "tviva20260102144639Ab1Cd"
ORDER_ID: Final = "order-000001"
AMOUNT: Final = 15_000
ASKED: Final = Asked(PAYMENT_KEY, ORDER_ID, AMOUNT)
ASKED_BY_ORDER: Final = Asked(None, ORDER_ID, AMOUNT)
SECRET: Final = "ps_0123456789abcdefghijklmnopqr"
REASON: Final = "고객이 취소를 원함"
REFUND_KEY: Final = "0198c0de-0000-7000-8000-000000000002"
ACCOUNT: Final = RefundAccount(bank="88", account_number="110123456789", holder_name="박환불")

VIRTUAL_ACCOUNT: Final = {
    "accountType": "일반",
    "accountNumber": "X6505636518308",
    "bankCode": "20",
    "customerName": "박토스",
    "depositorName": None,
    "dueDate": "2026-01-09T23:59:59+09:00",
    "expired": False,
    "settlementStatus": "INCOMPLETED",
    "refundStatus": "NONE",
    "refundReceiveAccount": None,
}


def a_payment(**changes: object) -> dict[str, object]:
    """A card payment that was captured, with every field that Toss sends."""
    return {
        "mId": "tvivarepubl",
        "lastTransactionKey": "txrd_a01k0000000000000000000000",
        "paymentKey": PAYMENT_KEY,
        "orderId": ORDER_ID,
        "orderName": "테스트 상품 외 1건",
        "taxExemptionAmount": 0,
        "status": "DONE",
        "requestedAt": "2026-01-02T14:46:39+09:00",
        "approvedAt": "2026-01-02T14:46:59+09:00",
        "useEscrow": False,
        "cultureExpense": False,
        "card": {"issuerCode": "61", "acquirerCode": "31", "number": "12345678****789*", "amount": AMOUNT},
        "virtualAccount": None,
        "transfer": None,
        "mobilePhone": None,
        "giftCertificate": None,
        "cashReceipt": None,
        "cashReceipts": None,
        "discount": None,
        "cancels": None,
        "secret": SECRET,
        "type": "NORMAL",
        "easyPay": None,
        "country": "KR",
        "failure": None,
        "isPartialCancelable": True,
        "receipt": {"url": "https://dashboard.tosspayments.com/receipt/redirection?transactionId=t&ref=PX"},
        "checkout": {"url": "https://api.tosspayments.com/v1/payments/t/checkout"},
        "currency": "KRW",
        "totalAmount": AMOUNT,
        "balanceAmount": AMOUNT,
        "suppliedAmount": 13_636,
        "vat": 1_364,
        "taxFreeAmount": 0,
        "method": "카드",
        "version": "2022-11-16",
        "metadata": None,
        **changes,
    }


def a_virtual_account_payment(**changes: object) -> dict[str, object]:
    """A virtual account that was issued and waits for its deposit."""
    waiting = {
        "status": "WAITING_FOR_DEPOSIT",
        "method": "가상계좌",
        "card": None,
        "approvedAt": None,
        "virtualAccount": VIRTUAL_ACCOUNT,
    }
    return a_payment(**{**waiting, **changes})


def a_cancel(amount: int, balance_after: int, **changes: object) -> dict[str, object]:
    """One entry of `cancels`, with every field that Toss sends; its key tells the balance that it left."""
    return {
        "transactionKey": f"cancel-down-to-{balance_after}",
        "cancelReason": REASON,
        "taxExemptionAmount": 0,
        "canceledAt": "2026-01-03T10:20:30+09:00",
        "cardDiscountAmount": 0,
        "transferDiscountAmount": 0,
        "easyPayDiscountAmount": 0,
        "receiptKey": None,
        "cancelStatus": "DONE",
        "cancelRequestId": None,
        "cancelAmount": amount,
        "taxFreeAmount": 0,
        "refundableAmount": balance_after,
        **changes,
    }


def a_refunded_payment(*amounts: int, **changes: object) -> dict[str, object]:
    """A card payment of which `amounts` were given back one after another; all of it unless said."""
    cancels = []
    balance = AMOUNT
    for amount in amounts or (AMOUNT,):
        balance -= amount
        cancels.append(a_cancel(amount, balance))
    refunded = {
        "status": "CANCELED" if len(cancels) == 1 and balance == 0 else "PARTIAL_CANCELED",
        "balanceAmount": balance,
        "cancels": cancels,
        "lastTransactionKey": cancels[-1]["transactionKey"],
    }
    return a_payment(**{**refunded, **changes})


def an_order(
    amount: int = AMOUNT,
    *,
    believed_balance: int = AMOUNT,
    total_amount: int = AMOUNT,
    tax_free_amount: int = 0,
    order_id: str = ORDER_ID,
    reason: str = REASON,
    idempotency_key: str = REFUND_KEY,
    account: RefundAccount | None = None,
) -> RefundOrder:
    """A refund as it was promised: of everything, unless said."""
    return RefundOrder(
        order_id=order_id,
        total_amount=total_amount,
        amount=amount,
        believed_balance=believed_balance,
        tax_free_amount=tax_free_amount,
        reason=reason,
        idempotency_key=idempotency_key,
        account=account,
    )


def as_bytes(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()
