"""What a webhook tells: Toss's three envelopes, written for the change of a payment or by hand."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from toss_sandbox.bodies import read_text
from toss_sandbox.clock import KST, toss_time
from toss_sandbox.payment_object import API_VERSION
from toss_sandbox.payments import Failure, Payment, RefundStatus, Status, new_transaction_key

PAYMENT_STATUS_CHANGED: Final = "PAYMENT_STATUS_CHANGED"
DEPOSIT_CALLBACK: Final = "DEPOSIT_CALLBACK"

# https://docs.tosspayments.com/reference/using-api/webhook-events; nothing tells of an account's passed due date.
PAYMENT_STATUSES: Final = frozenset(
    {
        Status.DONE,
        Status.CANCELED,
        Status.PARTIAL_CANCELED,
        Status.ABORTED,
        Status.EXPIRED,
        Status.WAITING_FOR_DEPOSIT,
    }
)
"""The statuses that PAYMENT_STATUS_CHANGED tells; only a virtual account can wait for a deposit."""

DEPOSIT_STATUSES: Final = frozenset({Status.WAITING_FOR_DEPOSIT, Status.DONE, Status.CANCELED, Status.PARTIAL_CANCELED})
"""The statuses that DEPOSIT_CALLBACK tells, of virtual accounts alone."""

_ENTITIES: Final = {"payout.changed": "payout", "seller.changed": "seller"}
SIGNED: Final = frozenset(_ENTITIES)
"""The events that Toss signs."""

_CONTRADICTED_REFUSAL: Final = "REJECT_CARD_COMPANY"

_SAMPLES: Final[dict[str, dict[str, JsonValue]]] = {
    DEPOSIT_CALLBACK: {
        "secret": "ps_0000000000000000000000000000",
        "status": Status.DONE.value,
        "transactionKey": "9FF15E1A29D0E77C218F57262BFA4986",
        "orderId": "order-000001",
    },
    "CANCEL_STATUS_CHANGED": {
        "transactionKey": "9FF15E1A29D0E77C218F57262BFA4986",
        "cancelReason": "구매자 변심",
        "canceledAt": "2026-01-02T14:46:59+09:00",
        "cancelStatus": "DONE",
        "cancelRequestId": "cancel-request-1",
        "cancelAmount": 15_000,
        "refundableAmount": 0,
    },
    "BILLING_DELETED": {"billingKey": "billing-key-1", "reason": "삭제 API 요청"},
    "METHOD_UPDATED": {"customerKey": "customer-1", "methodKey": "method-1", "status": "ENABLED"},
    "CUSTOMER_STATUS_CHANGED": {
        "customerKey": "customer-1",
        "status": "PASSWORD_CHANGED",
        "changedAt": "2026-01-02T14:46:59+09:00",
    },
    "payout.changed": {
        "id": "FPA_12345",
        "refPayoutId": "my-payout-1",
        "destination": "seller-1",
        "scheduleType": "SCHEDULED",
        "payoutDate": "2026-01-03",
        "amount": {"currency": "KRW", "value": 5_000.0},
        "transactionDescription": "대금지급",
        "requestedAt": "2026-01-02T10:00:00+09:00",
        "status": "COMPLETED",
        "error": None,
        "metadata": {},
    },
    "seller.changed": {
        "id": "seller-1",
        "refSellerId": "my-seller-1",
        "businessType": "INDIVIDUAL_BUSINESS",
        "company": {
            "name": "테스트 상점",
            "representativeName": "김토스",
            "businessRegistrationNumber": "1234567890",
            "email": "seller@example.com",
            "phone": "01000000000",
        },
        "individual": None,
        "account": {"bankCode": "092", "accountNumber": "123*****90123", "holderName": "김토스"},
        "status": "KYC_REQUIRED",
        "metadata": {},
    },
}

_CONTRARY: Final = {Status.DONE: Status.ABORTED}
_CONTRARY_DEPOSIT: Final = {Status.DONE: Status.WAITING_FOR_DEPOSIT}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, with the exact text in which it is told.

    `status` is the one it tells; order and payment are None where it is about something else.
    """

    event_type: str
    created_at: str
    body: str
    order_id: str | None = None
    payment_key: str | None = None
    status: str | None = None


def payment_event(payment: Payment, shown: dict[str, JsonValue], *, at: datetime) -> Event:
    """PAYMENT_STATUS_CHANGED with the whole Payment object."""
    created_at = _event_time(at)
    body: dict[str, JsonValue] = {"eventType": PAYMENT_STATUS_CHANGED, "createdAt": created_at, "data": shown}
    return _about(payment, PAYMENT_STATUS_CHANGED, created_at, body)


def deposit_event(payment: Payment, *, at: datetime) -> Event:
    """DEPOSIT_CALLBACK: five flat fields, without a payment key."""
    created_at = _event_time(at)
    body: dict[str, JsonValue] = {
        "createdAt": created_at,
        "secret": payment.secret,
        "status": payment.status.value,
        "transactionKey": payment.last_transaction_key,
        "orderId": payment.order_id,
    }
    return _about(payment, DEPOSIT_CALLBACK, created_at, body)


def contrary_payment(payment: Payment, event_type: str, *, at: datetime) -> Payment:
    """The payment as an event tells it that contradicts what is true."""
    contraries = _CONTRARY_DEPOSIT if event_type == DEPOSIT_CALLBACK else _CONTRARY
    status = contraries.get(payment.status, Status.DONE)
    contrary = replace(
        payment,
        status=status,
        failure=None,
        cancels=(),
        refund_status=RefundStatus.NONE,
        last_transaction_key=new_transaction_key(),
    )
    if status is Status.ABORTED:
        return replace(contrary, failure=Failure.of(_CONTRADICTED_REFUSAL), approved_at=None)
    return replace(contrary, approved_at=payment.approved_at or at)


def hand_made_event(event_type: str, data: Mapping[str, JsonValue] | None, *, at: datetime) -> Event:
    """An event that nothing caused, in the envelope of its type; without data a sample, where there is one."""
    told = dict(_SAMPLES.get(event_type, {}) if data is None else data)
    if event_type in _ENTITIES:
        created_at, body = toss_time(at), _entity_envelope(event_type, told, at=at)
    else:
        created_at = _event_time(at)
        head: dict[str, JsonValue] = {"createdAt": created_at}
        body = head | told if event_type == DEPOSIT_CALLBACK else {"eventType": event_type, **head, "data": told}
    return Event(
        event_type,
        created_at,
        _written(body),
        order_id=read_text(told, "orderId"),
        payment_key=read_text(told, "paymentKey"),
        status=read_text(told, "status"),
    )


def _entity_envelope(event_type: str, entity: dict[str, JsonValue], *, at: datetime) -> dict[str, JsonValue]:
    return {
        "eventType": event_type,
        "createdAt": toss_time(at),
        "version": API_VERSION,
        "eventId": secrets.token_hex(16),
        "entityType": _ENTITIES[event_type],
        "entityBody": entity,
    }


def _about(payment: Payment, event_type: str, created_at: str, body: dict[str, JsonValue]) -> Event:
    return Event(
        event_type, created_at, _written(body), payment.order_id, payment.payment_key, status=payment.status.value
    )


def _event_time(at: datetime) -> str:
    """Korean time without its offset and with six digits, unlike every other time of Toss."""
    return at.astimezone(KST).replace(tzinfo=None).isoformat(timespec="microseconds")


def _written(body: Mapping[str, JsonValue]) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))
