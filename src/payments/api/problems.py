"""Errors as `application/problem+json` (RFC 9457); the only module that knows which refusal is which HTTP status."""

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from payments.errors import (
    Busy,
    Conflict,
    CredentialsInvalid,
    CredentialsMissing,
    InvalidIdempotencyKey,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NotGivenBack,
    PaymentDeclined,
    PaymentError,
    RefundAccountRefused,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)

MEDIA_TYPE: Final = "application/problem+json"

MOST_WRONG_FIELDS: Final = 20  # named in one answer: a body can hold thousands of members

# By the branch of the tree in `errors`; the first that fits.
STATUSES: Final[tuple[tuple[type[PaymentError], int], ...]] = (
    (RefundAccountRefused, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidIdempotencyKey, HTTPStatus.BAD_REQUEST),
    (Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (TooManyRequests, HTTPStatus.TOO_MANY_REQUESTS),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (InvalidRequest, HTTPStatus.UNPROCESSABLE_ENTITY),
    (PaymentDeclined, HTTPStatus.PAYMENT_REQUIRED),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)

COME_BACK: Final = (Unavailable, Busy, TooManyRequests)
# RFC 9110, section 11.6.1: whoever must show something is told what.
SHOW_CREDENTIALS: Final = (CredentialsMissing, CredentialsInvalid)

# What a request can get wrong before it reaches a use case: code and sentence by status.
HTTP_PROBLEMS: Final[dict[int, tuple[str, str]]] = {
    400: ("malformed_request", "The request could not be read."),
    404: ("no_such_route", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take this method."),
    413: ("body_too_large", "The body is too large."),
    415: ("unsupported_media_type", "The body must be JSON, sent as Content-Type: application/json."),
    422: ("invalid_request", "The request is well formed and not acceptable; `errors` says where."),
    500: ("internal_error", "Something went wrong here. It has been logged under this request id."),
}

# What the edge refuses before any route sees it, by code: status and sentence.
EDGE_PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "malformed_request": (400, HTTP_PROBLEMS[400][1]),
    "request_timeout": (408, "The request did not come in in time."),
    "target_too_long": (414, "The address is too long."),
    "expectation_failed": (417, "Nothing can be expected but 100-continue."),
    "head_too_large": (431, "There are too many headers, or they are too large."),
    "too_many_connections": (503, "Too many connections are open. Nothing was done; come back in a moment."),
    "shutting_down": (503, "The service is being stopped. Nothing was done; send the request again."),
    "version_not_supported": (505, "This is HTTP/1.1."),
}

# A request that was being worked on when the time was up: what it asked of the PG goes on without it.
STOPPED: Final = (
    "stopped",
    "The service was stopped before the outcome was known. Ask again, or send the request again.",
)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    extra: dict[str, object] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """A problem document. Nothing in it repeats what the caller sent."""
    request_id = structlog.contextvars.get_contextvars().get("request_id", "")
    body: dict[str, object] = {
        "type": f"urn:payments:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "instance": f"urn:payments:request:{request_id}",
        "code": code,
        "requestId": request_id,
        **(extra or {}),
    }
    return JSONResponse(body, status_code=int(status), media_type=MEDIA_TYPE, headers=headers)


def http_problem(status: int, *, detail: str | None = None, headers: dict[str, str] | None = None) -> Response:
    """The problem that stands for an HTTP status itself."""
    code, sentence = HTTP_PROBLEMS.get(status, ("http_error", "The request was refused."))
    return problem(status, code, detail or sentence, headers=headers)


class Malformed(HTTPException):
    """A request that cannot be read in one way only; the detail is for the caller, and repeats nothing of it."""

    def __init__(self, detail: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, detail)


def status_of(error: type[PaymentError]) -> int:
    """The HTTP status of a kind of refusal.

    Raises:
        LookupError: a branch of the tree has no status; a test keeps this from happening.
    """
    for branch, status in STATUSES:
        if issubclass(error, branch):
            return status
    raise LookupError(error.__name__)


def tells_when_to_come_back(error: type[PaymentError]) -> bool:
    """Whether such a refusal is answered with a `Retry-After`."""
    return issubclass(error, COME_BACK)


def refusal(error: PaymentError) -> Response:
    """The problem that a refusal of ours is answered with."""
    extra: dict[str, object] = {}
    headers: dict[str, str] = {}
    if isinstance(error, PaymentDeclined | NotGivenBack) and error.pg_code:
        extra = {"pgCode": error.pg_code, "pgMessage": error.pg_message}
    if isinstance(error, InvalidRequest):
        extra = {"errors": [{"field": error.field, "message": error.detail}]}
    if isinstance(error, SHOW_CREDENTIALS):
        headers = {"www-authenticate": "Bearer"}
    if isinstance(error, COME_BACK):
        headers = {"retry-after": str(math.ceil(error.retry_after.total_seconds()))}
    return problem(status_of(type(error)), error.code, error.detail, extra=extra, headers=headers)


def refused(request: Request, error: PaymentError) -> Response:
    """The same, noted for the request's log line."""
    request.scope["problem_code"] = error.code
    return refusal(error)


def install(app: FastAPI) -> None:
    """Answer every error of this application as a problem."""

    @app.exception_handler(PaymentError)
    async def _refused(request: Request, error: PaymentError) -> Response:
        return refused(request, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        code, sentence = HTTP_PROBLEMS[HTTPStatus.UNPROCESSABLE_ENTITY]
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, code, sentence, extra={"errors": _wrong_fields(error.errors())})

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> Response:
        detail = error.detail if isinstance(error, Malformed) else None
        return http_problem(error.status_code, detail=detail, headers=dict(error.headers or {}))


def _wrong_fields(errors: Sequence[dict[str, object]]) -> list[dict[str, str]]:
    return [{"field": _field(error), "message": _message(error)} for error in errors[:MOST_WRONG_FIELDS]]


def _field(error: dict[str, object]) -> str:
    """Where it is wrong: a name of ours, never a name that the caller made up."""
    location = error.get("loc")
    if error.get("type") == "extra_forbidden" or not isinstance(location, (tuple, list)):
        return ""
    return ".".join(str(part) for part in location[1:])


def _message(error: dict[str, object]) -> str:
    return "Unknown member." if error.get("type") == "extra_forbidden" else str(error.get("msg", ""))
