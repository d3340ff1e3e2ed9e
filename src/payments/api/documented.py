"""Refusals as OpenAPI shows them, with an example each."""

from collections import defaultdict
from http import HTTPStatus

from payments.api.problems import HTTP_PROBLEMS, MEDIA_TYPE, status_of, tells_when_to_come_back
from payments.errors import (
    CredentialsInvalid,
    CredentialsMissing,
    IdentityUnavailable,
    NotGivenBack,
    PaymentDeclined,
    PaymentError,
    ScopeMissing,
    TooManyRequests,
)

Responses = dict[int | str, dict[str, object]]

PROBLEM_SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "code", "requestId"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string", "description": "Stable; what a program decides by."},
        "requestId": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "pgCode": {"type": "string", "description": "The PG's own code."},
        "pgMessage": {"type": "string", "description": "The PG's words for the buyer, in Korean."},
    },
}

RETRY_AFTER: dict[str, object] = {
    "Retry-After": {
        "description": "Seconds. With a 409 it says that nothing was decided: the very same request may be sent again.",
        "schema": {"type": "integer"},
    }
}

# Where to go on, for readers and for programs that walk along (https://spec.openapis.org/oas/v3.1.0#link-object).
_ORDER = {"orderId": "$response.body#/orderId"}
_KEY = {"paymentKey": "$response.body#/paymentKey"}
WHAT_FOLLOWS_PREPARE: dict[str, object] = {
    "confirm": {
        "operationId": "confirm_payment",
        "requestBody": {**_ORDER, "amount": "$response.body#/amount"},
        "description": "With the payment key that the payment window brings back.",
    },
    "read": {"operationId": "read_payment_of_order", "parameters": _ORDER},
    "giveUp": {"operationId": "cancel_payment_of_order", "parameters": _ORDER},
}
WHAT_FOLLOWS_CONFIRM: dict[str, object] = {
    "read": {"operationId": "read_payment", "parameters": _KEY},
    "timeline": {"operationId": "read_timeline", "parameters": _KEY},
    "giveBack": {"operationId": "cancel_payment", "parameters": _KEY},
}

# What any route can answer before it has read anything.
EVERYWHERE = (400, 413, 415, 422, 500)
# What a route that is not for everybody can answer before it has looked at anything.
GUARDED = (CredentialsMissing, CredentialsInvalid, ScopeMissing, TooManyRequests, IdentityUnavailable)


def refusals(*errors: type[PaymentError]) -> Responses:
    """The `responses=` of a route that can refuse with these errors, and with what every route can."""
    examples: dict[int, dict[str, object]] = defaultdict(dict)
    for status in EVERYWHERE:
        code, detail = HTTP_PROBLEMS[status]
        examples[status][code] = _example(status, code, detail)
    for error in errors:
        status = status_of(error)
        examples[status][error.code] = _example(status, error.code, error.detail, **_more(error))
    passing = {status_of(error) for error in errors if tells_when_to_come_back(error)}
    return {
        status: {**_response(status, found), **({"headers": RETRY_AFTER} if status in passing else {})}
        for status, found in sorted(examples.items())
    }


def _response(status: int, examples: dict[str, object]) -> dict[str, object]:
    content = {MEDIA_TYPE: {"schema": PROBLEM_SCHEMA, "examples": examples}}
    return {"description": HTTPStatus(status).phrase, "content": content}


def _example(status: int, code: str, detail: str, **more: str) -> dict[str, object]:
    value = {
        "type": f"urn:payments:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": "urn:payments:request:5f0c1e",
        "code": code,
        "requestId": "5f0c1e",
        **more,
    }
    return {"value": value}


def _more(error: type[PaymentError]) -> dict[str, str]:
    if error is PaymentDeclined:
        return {"pgCode": "REJECT_CARD_PAYMENT", "pgMessage": "한도초과 혹은 잔액부족으로 결제에 실패했습니다."}
    if issubclass(error, NotGivenBack):
        return {"pgCode": "NOT_CANCELABLE_PAYMENT", "pgMessage": "취소 할 수 없는 결제 입니다."}
    return {}
