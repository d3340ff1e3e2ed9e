"""What the payments API answers, with sane defaults: a story overrides what it is about."""

from datetime import UTC, datetime

AT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)  # noon in Seoul

Json = dict[str, object]


def a_payment(order_id: str, **overrides: object) -> Json:
    return {
        "orderId": order_id,
        "paymentKey": "tviva20261122120000Ab1Cd",
        "status": "COMPLETED",
        "method": "CARD",
        "amount": 24_000,
        "refundedAmount": 0,
        "refundableAmount": 24_000,
        "currency": "KRW",
        "orderName": "달항아리 머그잔",
        "attempt": 1,
        "failure": None,
        "virtualAccount": None,
        "receiptUrl": "https://receipt.test/1",
        "createdAt": "2026-11-22T02:58:00Z",
        "approvedAt": "2026-11-22T03:00:00Z",
        "completedAt": "2026-11-22T03:00:00Z",
        "cancelledAt": None,
        "refunds": [],
        "version": 3,
    } | overrides


def not_prepared() -> Json:
    return {"type": "about:blank", "title": "Not Found", "status": 404, "code": "payment_not_found"}


def a_refund(amount: int, **overrides: object) -> Json:
    return {
        "refundId": "0199aaaa-0000-7000-8000-000000000001",
        "amount": amount,
        "taxFreeAmount": 0,
        "reason": "단순 변심",
        "status": "SUCCEEDED",
        "requestedAt": "2026-11-22T03:10:00Z",
        "completedAt": "2026-11-22T03:10:01Z",
        "failure": None,
        "nextCheckAt": None,
    } | overrides


def a_virtual_account(**overrides: object) -> Json:
    return {
        "bank": "88",
        "accountNumber": "X6505636518308",
        "holder": "온돌",
        "dueDate": "2099-11-29T14:59:59Z",
        "refundStatus": "NONE",
    } | overrides


def a_problem(code: str, **more: object) -> Json:
    return {"type": "about:blank", "title": "Conflict", "status": 409, "code": code, "requestId": "r-1"} | more
