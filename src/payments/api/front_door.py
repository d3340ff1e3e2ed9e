"""What every request passes before it reaches a route: an id, a limit, an address and a body with one meaning each."""

import asyncio
import re
import time
from email.message import Message as MimeHeaders
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from payments.api.ports import OPS_PATHS
from payments.api.problems import STOPPED, http_problem, problem
from payments.api.strict_json import NotStrictJson, parse
from payments.card_numbers import has_card_number

log = structlog.get_logger()

MAX_BODY_BYTES: Final = 64 * 1024
LARGER_BODIES: Final = {"/webhook/toss": 256 * 1024}  # a whole payment with all its cancels
PARSED_BODY: Final = "payments.parsed_body"  # where the scope has it
LONGEST_CONTENT_TYPE: Final = 200  # characters; more only keeps its reader busy
HAVE_BODIES: Final = frozenset({"POST", "PUT", "PATCH"})
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_WRITTEN_WELL: Final = re.compile(rb"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class RequestLog:
    """Gives each request an id, logs one line for it, and turns a bug into a 500 problem that says nothing of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        is_harmless = REQUEST_ID.fullmatch(given) and not has_card_number(given)
        request_id = given if is_harmless else uuid4().hex[:16]
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._answer(scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        started = time.monotonic()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:  # the server stops, and has waited for as long as it can
            if not status:
                await problem(503, *STOPPED)(scope, receive, send_with_id)
        except Exception:
            log.exception("request.crashed", method=scope["method"])
            if not status:
                await http_problem(500)(scope, receive, send_with_id)
        if scope["path"] not in OPS_PATHS:  # asked every few seconds by machines
            _log_answer(scope, status, seconds=time.monotonic() - started)


class FrontDoor:
    """Refuses an address or a body that is too large or has no single meaning; reads bodies while they come in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await self._body(scope, receive)
        if isinstance(body, Response):
            await body(scope, receive, send)
            return
        if body is None:
            await self._app(scope, receive, send)
            return
        scope[PARSED_BODY] = body.parsed
        await self._app(scope, _replay(body.raw, receive), send)

    async def _body(self, scope: Scope, receive: Receive) -> "_ReadBody | Response | None":
        """The body, None where the method has none, or the refusal of the request."""
        headers = Headers(scope=scope)
        if not (_is_clear(scope.get("raw_path") or b"") and _is_clear(scope["query_string"])):
            return http_problem(400, detail="The address has something in it that addresses cannot have.")
        if scope["method"] in HAVE_BODIES:
            limit = LARGER_BODIES.get(scope["path"], MAX_BODY_BYTES)
            return await _read(headers, receive, limit=limit)
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return http_problem(400, detail="This method takes no body.")
        return None


def _is_clear(part: bytes) -> bool:
    """Whether a part of an address is written as it must be, in UTF-8, and without control characters."""
    if _WRITTEN_WELL.fullmatch(part) is None:
        return False
    if b"%" not in part:
        return True
    try:
        text = unquote_to_bytes(part).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(text) is None


class _ReadBody(NamedTuple):
    raw: bytes
    parsed: object


async def _read(headers: Headers, receive: Receive, *, limit: int) -> _ReadBody | Response:
    if not _is_json(headers):
        return http_problem(415)
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        return http_problem(413)
    body = bytearray()  # the pieces may be single bytes, and adding one must not copy all before it
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return http_problem(400)
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            return http_problem(413)
    whole = bytes(body)
    try:
        return _ReadBody(whole, parse(whole))
    except NotStrictJson as error:
        return http_problem(400, detail=str(error))


def _is_json(headers: Headers) -> bool:
    """`application/json`, in UTF-8, not compressed, said once."""
    given = headers.getlist("content-type")
    if len(given) != 1 or len(given[0]) > LONGEST_CONTENT_TYPE:
        return False
    if any(coding.lower() != "identity" for coding in headers.getlist("content-encoding")):
        return False
    if given[0] == "application/json":  # as nearly everybody writes it
        return True
    mime = MimeHeaders()
    mime["content-type"] = given[0]
    charsets = {str(value).lower() for name, value in mime.get_params([]) if name == "charset"}
    return mime.get_content_type() == "application/json" and charsets <= {"utf-8"}


def _replay(body: bytes, receive: Receive) -> Receive:
    handed_on = False

    async def replay() -> Message:
        nonlocal handed_on
        if handed_on:
            return await receive()
        handed_on = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _log_answer(scope: Scope, status: int, *, seconds: float) -> None:
    refused = {"code": scope["problem_code"]} if "problem_code" in scope else {}
    milliseconds = round(seconds * 1000, 1)
    log.info("request.answered", method=scope["method"], route=_route(scope), status=status, ms=milliseconds, **refused)


def _route(scope: Scope) -> str:
    """The route's template, so that no key or order id of a path reaches the log this way."""
    route = scope.get("route")
    return str(getattr(route, "path", "-"))
