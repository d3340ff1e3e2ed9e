"""Answers of Toss as its reference shows them; a story overrides what it is about."""

import json
from typing import Final

from payments.gateways.toss_answers import Asked

PAYMENT_KEY: Final = "tviva20260102144639Ab1Cd"
ORDER_ID: Final = "order-000001"
AMOUNT: Final = 15_000
ASKED: Final = Asked(PAYMENT_KEY, ORDER_ID, AMOUNT)
ASKED_BY_ORDER: Final = Asked(None, ORDER_ID, AMOUNT)
SECRET: Final = "ps_0123456789abcdefghijklmnopqr"

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


def as_bytes(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()
