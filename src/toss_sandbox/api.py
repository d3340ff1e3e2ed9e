"""The routes of the Toss API: confirm, the two look-ups, and Toss's answer to every route it does not have."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Final

from fastapi import APIRouter, Request
from pydantic import JsonValue
from starlette.responses import Response

from toss_sandbox.engine import ORDER_ID, ConfirmRequest, Sandbox
from toss_sandbox.errors import TossError
from toss_sandbox.faults import Operation, Subject
from toss_sandbox.gateway import Answer, ApiRequest, Gateway, Verb, error_answer, json_answer
from toss_sandbox.payments import Payment, Status
from toss_sandbox.settings import KeyPair

_MAXIMUM_PAYMENT_KEY_LENGTH: Final = 200
_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Confirm:
    """`POST /v1/payments/confirm`."""

    def __init__(self, sandbox: Sandbox, body: JsonValue) -> None:
        self._sandbox = sandbox
        self._body = body
        self.subject = Subject(Operation.CONFIRM, _text(body, "orderId"), _text(body, "paymentKey"))

    @contextmanager
    def claim(self, pair: KeyPair) -> Iterator[Callable[[], Answer]]:
        request = read_confirm(self._body, has_specific_codes=self._sandbox.settings.specific_field_codes)
        with self._sandbox.confirming(request, pair):
            yield partial(self._effect, request)

    def _effect(self, request: ConfirmRequest) -> Answer:
        payment = self._sandbox.confirm(request)
        if payment.status is Status.ABORTED and payment.failure is not None:
            return error_answer(TossError(payment.failure.code))
        return json_answer(self._sandbox.show(payment))


class LookUp:
    """`GET /v1/payments/{paymentKey}` and `GET /v1/payments/orders/{orderId}`."""

    def __init__(self, sandbox: Sandbox, subject: Subject, find: Callable[[], Payment]) -> None:
        self._sandbox = sandbox
        self._find = find
        self.subject = subject

    @contextmanager
    def claim(self, pair: KeyPair) -> Iterator[Callable[[], Answer]]:  # noqa: ARG002 - every key of the shop may look
        yield self._effect

    def _effect(self) -> Answer:
        return json_answer(self._sandbox.show(self._find()))


class UnknownRoute:
    """Whatever this API does not have; Toss answers an unknown path as it does a wrong method."""

    subject = None

    def claim(self, pair: KeyPair) -> AbstractContextManager[Callable[[], Answer]]:  # noqa: ARG002 - no key opens it
        raise TossError("NOT_FOUND_HTTP_METHOD")


def create_api_router(sandbox: Sandbox, gateway: Gateway) -> APIRouter:
    """The routes under `/v1`; the last one takes what no other took."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/v1/payments/confirm", methods=_METHODS)
    async def confirm(request: Request) -> Response:
        is_confirm = request.method == "POST"
        return await _pass(request, Confirm(sandbox, _parse(await request.body())) if is_confirm else UnknownRoute())

    @router.get("/v1/payments/orders/{order_id}")
    async def look_up_order(request: Request, order_id: str) -> Response:
        subject = Subject(Operation.LOOKUP, order_id=order_id)
        return await _pass(request, LookUp(sandbox, subject, partial(sandbox.look_up_order, order_id)))

    @router.get("/v1/payments/{payment_key}")
    async def look_up(request: Request, payment_key: str) -> Response:
        payment = sandbox.store.payment(payment_key)
        subject = Subject(Operation.LOOKUP, payment.order_id if payment else None, payment_key)
        return await _pass(request, LookUp(sandbox, subject, partial(sandbox.look_up, payment_key)))

    @router.api_route("/v1/{path:path}", methods=_METHODS)
    async def unknown(request: Request) -> Response:
        return await _pass(request, UnknownRoute())

    async def _pass(request: Request, verb: Verb) -> Response:
        return await gateway.reply(_api_request(request), verb)

    return router


def read_confirm(body: JsonValue, *, has_specific_codes: bool) -> ConfirmRequest:
    """Check the body of a confirm; an amount may come as a string of digits, as integrators are known to send it.

    Raises:
        TossError: INVALID_REQUEST, or the field's own code if asked for.
    """
    payment_key, order_id = _text(body, "paymentKey"), _text(body, "orderId")
    amount = _amount(body.get("amount")) if isinstance(body, dict) else None
    if payment_key is None or not 0 < len(payment_key) <= _MAXIMUM_PAYMENT_KEY_LENGTH:
        raise TossError("INVALID_PAYMENT_KEY" if has_specific_codes else "INVALID_REQUEST")
    if order_id is None or not ORDER_ID.fullmatch(order_id):
        raise TossError("INVALID_ORDER_ID" if has_specific_codes else "INVALID_REQUEST")
    if amount is None or amount < 1:
        raise TossError("REQUIRED_AMOUNT" if has_specific_codes else "INVALID_REQUEST")
    return ConfirmRequest(payment_key, order_id, amount)


def _api_request(request: Request) -> ApiRequest:
    headers = request.headers
    return ApiRequest(
        method=request.method,
        path=request.scope["path"],
        authorization=headers.get("authorization"),
        idempotency_key=headers.get("idempotency-key"),
        test_code=headers.get("tosspayments-test-code"),
    )


def _parse(body: bytes) -> JsonValue:
    try:
        parsed: JsonValue = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed


def _text(body: JsonValue, name: str) -> str | None:
    value = body.get(name) if isinstance(body, dict) else None
    # JSON can escape half of a surrogate pair, which is no text anybody could store.
    return value if isinstance(value, str) and _is_text(value) else None


def _is_text(value: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _amount(value: JsonValue) -> int | None:
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
