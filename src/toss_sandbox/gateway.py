"""What every call to the Toss API passes: the call log, Basic auth, test codes, idempotency keys and armed faults."""

import asyncio
import base64
import json
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol

from pydantic import JsonValue

from toss_sandbox.clock import toss_time
from toss_sandbox.engine import Sandbox
from toss_sandbox.errors import CODES, TossError
from toss_sandbox.faults import (
    DEFAULT_DELAY_SECONDS,
    DEFAULT_RETRY_AFTER_SECONDS,
    KINDS_AT,
    PAYMENT_ANSWERS_ONLY,
    Fault,
    FaultKind,
    Stage,
    Subject,
)
from toss_sandbox.sender import Sender
from toss_sandbox.settings import KeyPair
from toss_sandbox.store import Call, Identity, Remembered
from toss_sandbox.wire import Ending, Reply

_MAXIMUM_KEY_LENGTH: Final = 300
_JSON: Final = "application/json;charset=UTF-8"
_ENDINGS: Final = {
    FaultKind.DROP_BEFORE_EFFECT: Ending.DROPPED,
    FaultKind.DROP_REPLY: Ending.DROPPED,
    FaultKind.RESET: Ending.RESET,
    FaultKind.RESET_AFTER_EFFECT: Ending.RESET,
    FaultKind.TRUNCATED_JSON: Ending.TRUNCATED,
}


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request to `/v1`, with the headers that matter."""

    method: str
    path: str
    authorization: str | None
    idempotency_key: str | None
    test_code: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: `body` is the bytes of it, `code` the Toss code of an error."""

    status: int
    body: bytes
    code: str | None = None
    trace_id: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = _JSON


class Verb(Protocol):
    """One operation of the API."""

    @property
    def subject(self) -> Subject | None:
        """What the request is about, as far as it says; None when no fault can wait for it."""

    def claim(self, pair: KeyPair) -> AbstractContextManager[Callable[[], Answer]]:
        """Check the request and hold what it needs while it runs; inside, its effect can be called once.

        The effect has to be called in a transaction. It may raise TossError as well.

        Raises:
            TossError: The request is refused; nothing has changed.
        """


class Gateway:
    """Lets requests through to their verb and turns whatever happens into a reply."""

    def __init__(self, sandbox: Sandbox, sender: Sender) -> None:
        self._sandbox = sandbox
        self._sender = sender
        self._running: set[Identity] = set()
        self._tasks: set[asyncio.Task[Reply]] = set()

    async def reply(self, request: ApiRequest, verb: Verb) -> Reply:
        """Answer one request; what has begun is carried through even if the caller gives up."""
        passage = _Passage(self._sandbox, self._sender, self._running, request=request, verb=verb)
        task = asyncio.create_task(passage.reply())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Give up what is still held up by a delay, as a killed process would."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Passage:
    """One request on its way through the gateway."""

    def __init__(
        self, sandbox: Sandbox, sender: Sender, running: set[Identity], *, request: ApiRequest, verb: Verb
    ) -> None:
        self._sandbox = sandbox
        self._sender = sender
        self._running = running
        self._request = request
        self._verb = verb
        self._trace_id = secrets.token_hex(16)
        self._struck: list[Fault] = []

    async def reply(self) -> Reply:
        call_id = self._sandbox.store.begin_call(self._call())
        try:
            pair = _authenticate(self._sandbox, self._request.authorization)
            _obey_test_code(self._request.test_code)
        except TossError as error:
            return self._finish(call_id, error_answer(error))

        if fault := self._strike(Stage.EDGE):
            return self._finish(call_id, _edge_answer(fault), _ENDINGS.get(fault.order.kind, Ending.WHOLE))

        answer = await self._answer_once(pair)
        if self._sandbox.webhooks.has_early:
            await self._sender.send_early()
        await self._wait(Stage.REPLY_DELAY)
        fault = self._strike(Stage.REPLY, without=frozenset() if _is_payment(answer) else PAYMENT_ANSWERS_ONLY)
        if fault is None:
            return self._finish(call_id, answer)
        return self._finish(call_id, _damage(answer, fault), _ENDINGS.get(fault.order.kind, Ending.WHOLE))

    async def _answer_once(self, pair: KeyPair) -> Answer:
        key = self._request.idempotency_key
        if key is None or self._request.method != "POST":
            return await self._execute(pair, remember=_forget)
        if len(key) > _MAXIMUM_KEY_LENGTH:
            return error_answer(TossError("INVALID_IDEMPOTENCY_KEY"))
        identity = Identity(key, pair.client_key, self._request.method, self._request.path)
        if identity in self._running:
            return error_answer(TossError("IDEMPOTENT_REQUEST_PROCESSING"))
        if first := self._sandbox.remembered(identity):
            return Answer(first.status, first.body, _code_of(first), trace_id=first.trace_id)
        self._running.add(identity)
        try:
            return await self._execute(pair, remember=partial(self._remember, identity))
        finally:
            self._running.discard(identity)

    async def _execute(self, pair: KeyPair, *, remember: Callable[[Answer], None]) -> Answer:
        try:
            with self._verb.claim(pair) as effect:
                await self._wait(Stage.DELAY)
                if fault := self._strike(Stage.EXECUTION):
                    raise _fault_error(fault)
                # The answer is remembered in the transaction that makes it true.
                with self._sandbox.store.transaction():
                    answer = effect()
                    if fault := self._strike(Stage.OUTCOME):
                        answer = error_answer(_fault_error(fault))
                    remember(answer)
                    return answer
        except TossError as error:
            answer = error_answer(error)
            remember(answer)
            return answer

    def _remember(self, identity: Identity, answer: Answer) -> None:
        if answer.status < 500 or self._sandbox.settings.replays_server_errors:  # noqa: PLR2004 - HTTP's server errors
            self._sandbox.remember(identity, Remembered(answer.status, answer.body, self._trace_id))

    async def _wait(self, stage: Stage) -> None:
        if fault := self._strike(stage):
            seconds = fault.order.delay_seconds
            await asyncio.sleep(DEFAULT_DELAY_SECONDS if seconds is None else seconds)

    def _strike(self, stage: Stage, *, without: frozenset[FaultKind] = frozenset()) -> Fault | None:
        subject = self._verb.subject
        if subject is None:
            return None
        fault = self._sandbox.take_fault(subject, KINDS_AT[stage] - without)
        if fault is not None:
            self._struck.append(fault)
        return fault

    def _finish(self, call_id: int, answer: Answer, ending: Ending = Ending.WHOLE) -> Reply:
        fault = "+".join(fault.order.kind for fault in self._struck) or None

        def end_call(status: int | None) -> None:
            code = answer.code if status is not None else None
            self._sandbox.store.end_call(call_id, status=status, code=code, fault=fault)

        if fault is not None:
            end_call(None)  # the fault is on record even if its caller is gone
        return Reply(answer.body, status=answer.status, headers=self._headers(answer), ending=ending, on_end=end_call)

    def _headers(self, answer: Answer) -> dict[str, str]:
        trace_id = f"{answer.trace_id},{self._trace_id}" if answer.trace_id else self._trace_id
        headers = {"content-type": answer.content_type, "x-tosspayments-trace-id": trace_id, **answer.headers}
        key = self._request.idempotency_key
        if key is not None and len(key) <= _MAXIMUM_KEY_LENGTH:
            headers["idempotency-key"] = key
        return headers

    def _call(self) -> Call:
        subject = self._verb.subject
        return Call(
            id=0,
            method=self._request.method,
            path=self._request.path,
            order_id=subject.order_id if subject else None,
            payment_key=subject.payment_key if subject else None,
            idempotency_key=self._request.idempotency_key,
            test_code=self._request.test_code,
            status=None,
            code=None,
            fault=None,
            at=toss_time(self._sandbox.now()),
        )


def json_answer(body: JsonValue, *, status: int = 200) -> Answer:
    """An answer with a JSON body, compact and with Korean letters as they are."""
    return Answer(status, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def error_answer(error: TossError) -> Answer:
    """The answer Toss gives for an error: two fields."""
    return replace(json_answer({"code": error.code, "message": error.message}, status=error.status), code=error.code)


def _authenticate(sandbox: Sandbox, authorization: str | None) -> KeyPair:
    if authorization is None:
        raise TossError("UNAUTHORIZED_KEY")
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        raise TossError("INCORRECT_BASIC_AUTH_FORMAT") from None
    if scheme.lower() != "basic" or ":" not in decoded:
        raise TossError("INCORRECT_BASIC_AUTH_FORMAT")
    secret_key, _, password = decoded.partition(":")
    pair = sandbox.key_pair(secret_key)
    if pair is None or password:
        raise TossError("UNAUTHORIZED_KEY")
    return pair


def _obey_test_code(test_code: str | None) -> None:
    if test_code is not None:
        raise TossError(test_code if test_code in CODES else "INVALID_TEST_CODE")


def _forget(_answer: Answer) -> None:
    """Without an idempotency key nothing is remembered."""


def _fault_error(fault: Fault) -> TossError:
    code = fault.order.code or "FAILED_INTERNAL_SYSTEM_PROCESSING"
    return TossError(code, status=fault.order.status)


def _edge_answer(fault: Fault) -> Answer:
    order = fault.order
    match order.kind:
        case FaultKind.TOO_MANY_REQUESTS:
            after = DEFAULT_RETRY_AFTER_SECONDS if order.retry_after_seconds is None else order.retry_after_seconds
            error = TossError(order.code or "TOO_MANY_REQUESTS", status=order.status or 429)
            return replace(error_answer(error), headers={"retry-after": str(after)})
        case FaultKind.HTML:
            page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
            return Answer(order.status or 502, page, content_type="text/html")
        case _:
            return Answer(500, b"")


def _damage(answer: Answer, fault: Fault) -> Answer:
    match fault.order.kind:
        case FaultKind.WRONG_JSON:
            return replace(json_answer({"result": "OK"}), trace_id=answer.trace_id)
        case FaultKind.WRONG_AMOUNT:
            payment = json.loads(answer.body)
            return _with_fields(answer, payment | {"totalAmount": payment["totalAmount"] + 1})
        case FaultKind.WRONG_ORDER:
            payment = json.loads(answer.body)
            return _with_fields(answer, payment | {"orderId": f"{payment['orderId'][:58]}-other"})
        case _:
            return answer


def _with_fields(answer: Answer, payment: dict[str, JsonValue]) -> Answer:
    return replace(answer, body=json_answer(payment).body)


def _is_payment(answer: Answer) -> bool:
    # Of the answers with a 200 the lists are arrays, and everything else is a Payment.
    return answer.status == 200 and answer.body.startswith(b"{")  # noqa: PLR2004 - HTTP's OK


def _code_of(first: Remembered) -> str | None:
    code = json.loads(first.body).get("code")
    return code if isinstance(code, str) else None
