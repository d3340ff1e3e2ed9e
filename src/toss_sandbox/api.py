"""The routes of the Toss API: confirm, cancel, look-ups, lists, and Toss's answer to every route it does not have."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Final

from fastapi import APIRouter, Request
from pydantic import JsonValue
from starlette.responses import Response

from toss_sandbox.bodies import parse, read_cancel, read_confirm, read_text
from toss_sandbox.cancels import CancelRequest
from toss_sandbox.confirms import ConfirmRequest
from toss_sandbox.engine import Sandbox
from toss_sandbox.errors import TossError
from toss_sandbox.faults import Operation, Subject
from toss_sandbox.gateway import Answer, ApiRequest, Gateway, Verb, error_answer, json_answer
from toss_sandbox.payments import Payment, Status
from toss_sandbox.settings import KeyPair

_METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Confirm:
    """`POST /v1/payments/confirm`."""

    def __init__(self, sandbox: Sandbox, body: JsonValue) -> None:
        self._sandbox = sandbox
        self._body = body
        self.subject = Subject(Operation.CONFIRM, read_text(body, "orderId"), read_text(body, "paymentKey"))

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


class Cancel:
    """`POST /v1/payments/{paymentKey}/cancel`."""

    def __init__(self, sandbox: Sandbox, subject: Subject, payment_key: str, body: JsonValue) -> None:
        self._sandbox = sandbox
        self._payment_key = payment_key
        self._body = body
        self.subject = subject

    @contextmanager
    def claim(self, pair: KeyPair) -> Iterator[Callable[[], Answer]]:
        has_specific_codes = self._sandbox.settings.specific_field_codes
        request = read_cancel(self._payment_key, self._body, has_specific_codes=has_specific_codes)
        self._sandbox.check_cancel(request, pair)
        yield partial(self._effect, request, pair)

    def _effect(self, request: CancelRequest, pair: KeyPair) -> Answer:
        return json_answer(self._sandbox.show(self._sandbox.cancel(request, pair)))


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


class Listing:
    """`GET /v1/transactions` and `GET /v1/settlements`: a bare array, for every key of the shop."""

    subject = Subject(Operation.LIST)

    def __init__(self, rows: Callable[[], list[JsonValue]]) -> None:
        self._rows = rows

    @contextmanager
    def claim(self, pair: KeyPair) -> Iterator[Callable[[], Answer]]:  # noqa: ARG002 - every key of the shop may look
        yield self._effect

    def _effect(self) -> Answer:
        return json_answer(self._rows())


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
        return await _pass(request, Confirm(sandbox, parse(await request.body())) if is_confirm else UnknownRoute())

    @router.post("/v1/payments/{payment_key}/cancel")
    async def cancel(request: Request, payment_key: str) -> Response:
        subject = _about(Operation.CANCEL, payment_key)
        return await _pass(request, Cancel(sandbox, subject, payment_key, parse(await request.body())))

    @router.get("/v1/payments/orders/{order_id}")
    async def look_up_order(request: Request, order_id: str) -> Response:
        subject = Subject(Operation.LOOKUP, order_id=order_id)
        return await _pass(request, LookUp(sandbox, subject, partial(sandbox.look_up_order, order_id)))

    @router.get("/v1/payments/{payment_key}")
    async def look_up(request: Request, payment_key: str) -> Response:
        subject = _about(Operation.LOOKUP, payment_key)
        return await _pass(request, LookUp(sandbox, subject, partial(sandbox.look_up, payment_key)))

    @router.get("/v1/transactions")
    async def list_transactions(request: Request) -> Response:
        return await _pass(request, Listing(partial(sandbox.transactions, request.query_params)))

    @router.get("/v1/settlements")
    async def list_settlements(request: Request) -> Response:
        return await _pass(request, Listing(partial(sandbox.settlements, request.query_params)))

    @router.api_route("/v1/{path:path}", methods=_METHODS)
    async def unknown(request: Request) -> Response:
        return await _pass(request, UnknownRoute())

    def _about(operation: Operation, payment_key: str) -> Subject:
        payment = sandbox.store.payment(payment_key)
        return Subject(operation, payment.order_id if payment else None, payment_key)

    async def _pass(request: Request, verb: Verb) -> Response:
        return await gateway.reply(_api_request(request), verb)

    return router


def _api_request(request: Request) -> ApiRequest:
    headers = request.headers
    return ApiRequest(
        method=request.method,
        path=request.scope["path"],
        authorization=headers.get("authorization"),
        idempotency_key=headers.get("idempotency-key"),
        test_code=headers.get("tosspayments-test-code"),
    )
