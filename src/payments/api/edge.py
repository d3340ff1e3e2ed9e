"""The HTTP edge: what a connection may send, and for how long, before anything of ours looks at a request.

Only a protocol class can bound these: an ASGI application first hears of a request when its whole head has come in.
"""

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import ClassVar, Final, NoReturn
from uuid import uuid4

import httptools
import structlog
from prometheus_client import Counter as Metric
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from payments.api.problems import EDGE_PROBLEMS, problem

log = structlog.get_logger()

# For a request to come in, head and body; for a peer to read its answer. Every slow socket is gone within ten seconds.
PATIENCE_SECONDS: Final = 8.0
# How long a refused peer may go on sending: closed at once, the system would reset the connection, answer included.
LINGER_SECONDS: Final = 1.0
MAX_CONNECTIONS: Final = 2_000
OPS_CONNECTIONS: Final = 50  # besides these, on the ops port: who looks after a flooded process must get in
MAX_HEADERS: Final = 64
MAX_HEAD_BYTES: Final = 16 * 1024
MAX_TARGET_BYTES: Final = 8 * 1024
FRAMING_PER_BYTE: Final = 8
LOG_EVERY_SECONDS: Final = 1.0

_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_ONCE: Final = frozenset({b"expect", b"host", b"transfer-encoding"})
_COME_BACK: Final = {"retry-after": "1"}

_refused = Metric("edge_refusals", "Requests and connections that were refused before any route saw them", ["code"])


class Refused(Exception):
    """A request that goes no further; carries its code in `EDGE_PROBLEMS`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class SecondRequest(Exception):
    """Another request has come before the last one was answered."""


class Refusals:
    """Counts what is refused. Of a flood, the log gets one line a second."""

    def __init__(self) -> None:
        self._unsaid: Counter[str] = Counter()
        self._is_quiet = False

    def note(self, code: str, loop: asyncio.AbstractEventLoop) -> None:
        _refused.labels(code).inc()
        self._unsaid[code] += 1
        if not self._is_quiet:
            self._say(loop)

    def _say(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_quiet = bool(self._unsaid)
        if self._unsaid:
            log.warning("edge.refused", **self._unsaid)
            self._unsaid.clear()
            loop.call_later(LOG_EVERY_SECONDS, self._say, loop)


@dataclass(frozen=True, slots=True)
class Edge:
    """What the connections of one process have in common.

    Attributes:
        headers: What every answer carries, the edge's own too.
        ops_port: Where somebody looks after this process; has connections of its own.
    """

    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    ops_port: int | None = None
    most_connections: int = MAX_CONNECTIONS
    refusals: Refusals = field(default_factory=Refusals)


def protocol_of(shared: Edge) -> type["EdgeProtocol"]:
    """The class that uvicorn makes each connection of."""

    class Protocol(EdgeProtocol):
        edge = shared

    return Protocol


class EdgeProtocol(HttpToolsProtocol):
    """One connection, one request at a time, everything in it bounded.

    A request that comes before the last one was answered is not begun: the connection closes after the answer, and its
    client sends it again. So there is no second request for a smuggler to hide, and no answer goes to the wrong one.
    """

    edge: ClassVar[Edge] = Edge()

    _timer: asyncio.TimerHandle
    # Moments of the loop's clock. Each is set to `PATIENCE_SECONDS` from then, and the one timer is never set to more:
    # it never comes too late, and a request costs no timer of its own.
    _due: float | None = None  # by when the request must have come in
    _read_by: float | None = None  # by when the peer must have read what was sent
    _is_coming = False  # a request has begun and not ended
    _has_head = False
    _head_bytes = 0  # what has come of the request, while its head is not complete
    _framing_bytes = 0  # what has come since the head, and with its end
    _body_bytes = 0  # and what of it was body
    _is_unanswered = False  # the application has the request, and has not answered all of it
    _is_deaf = False  # nothing more is read: refused, or about to close

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._due = self.loop.time() + PATIENCE_SECONDS
        self._timer = self.loop.call_at(self._due, self._look)
        if len(self.connections) > self._most_connections():
            self._say("too_many_connections")
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._unset_keepalive_if_required()
        if self._due is None and not self._is_answering():
            self._due = self.loop.time() + PATIENCE_SECONDS
        self._head_bytes = len(data) + (self._head_bytes if self._is_coming else 0)
        try:
            self._feed(data)
            if self._is_coming and self._has_head:
                self._check_framing_of_body(len(data))
            if self._is_coming and not self._has_head and self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_large_head()
        except Refused as refused:
            self._refuse(refused.code)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.code if isinstance(cause, Refused) else "malformed_request")

    def on_message_begin(self) -> None:
        if self._is_answering():
            raise SecondRequest
        super().on_message_begin()
        self._is_coming, self._has_head = True, False
        self._framing_bytes = self._body_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_head:
            raise Refused("malformed_request")  # trailers: nobody has a use for them but smugglers
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._check_size()
        self._check_head()
        if self.parser.should_upgrade():
            return  # `_feed` takes it up again
        self._has_head = self._is_unanswered = True
        super().on_headers_complete()
        self._have_early_answers_say_so(self.cycle)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._is_coming, self._due = False, None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._is_unanswered = False
        super().on_response_complete()
        if self.transport.is_closing():
            self._read_by = self.loop.time() + PATIENCE_SECONDS
        elif self._is_coming:
            # Whether the rest of the body still comes or never, the next request could not be told from it.
            self._is_deaf = True
            self.transport.write_eof()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_by = self.loop.time() + PATIENCE_SECONDS

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read_by = None

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # the last answer is still not read
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """The server stops: what has come in completely is answered, the rest is told to come again."""
        if self._is_deaf and not self._is_unanswered:
            self.transport.close()
        elif self._is_coming and not self._is_deaf:
            self._refuse("shutting_down")
        else:
            super().shutdown()

    def _feed(self, data: bytes) -> None:
        """Parse; of an offer to go over to another protocol take no notice, as HTTP allows.

        The parser stops at an offer and leaves the body lying. Java's own client offers HTTP/2 with every request.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            rest = data[offer.args[0] :]
            version = self.parser.get_http_version().encode()
            head = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
            head += [b"%b: %b" % header for header in self.headers if header[0] not in {b"connection", b"upgrade"}]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(b"\r\n".join([*head, b"", rest]))

    def _check_framing_of_body(self, size: int) -> None:
        """What is said about chunks, and never ends, is read by the parser alone: nobody else would notice it.

        Raises:
            Refused: it is out of all proportion to what they hold; a body in single bytes needs six for each.
        """
        self._framing_bytes += size
        if self._framing_bytes > 2 * MAX_HEAD_BYTES + FRAMING_PER_BYTE * self._body_bytes:
            raise Refused("malformed_request")

    def _is_answering(self) -> bool:
        return self._is_unanswered and not self._is_coming

    def _most_connections(self) -> int:
        is_ops = self.server is not None and self.server[1] == self.edge.ops_port
        return self.edge.most_connections + (OPS_CONNECTIONS if is_ops else 0)

    def _refuse_large_head(self) -> NoReturn:
        raise Refused("target_too_long" if len(self.url) > MAX_TARGET_BYTES else "head_too_large")

    def _check_size(self) -> None:
        size = len(self.url)
        if self._head_bytes > MAX_HEAD_BYTES:  # the beginning of a body may be among it
            size += sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)
        if size > MAX_HEAD_BYTES or len(self.url) > MAX_TARGET_BYTES or len(self.headers) > MAX_HEADERS:
            self._refuse_large_head()

    def _check_head(self) -> None:
        """Refuse what the parser lets pass and somebody between the client and a route could take for something else.

        Raises:
            Refused: the request is not begun.
        """
        # Only `/path?query`: everything else names a host a second time, or is no address of ours.
        is_plain = self.url.startswith(b"/") and not self.url.startswith(b"//") and b"#" not in self.url
        if not is_plain or self.parser.get_method() == b"CONNECT":
            raise Refused("malformed_request")
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            raise Refused("version_not_supported")
        given = dict(self.headers)
        if len(given) < len(self.headers) and self._repeats(_ONCE):
            raise Refused("malformed_request")
        self._check_host(given.get(b"host"), version)
        self._check_framing(given, version)

    def _repeats(self, names: frozenset[bytes]) -> bool:
        counted = Counter(name for name, _ in self.headers)
        return any(counted[name] > 1 for name in names)

    def _check_host(self, host: bytes | None, version: str) -> None:
        is_good = _HOST.fullmatch(host) is not None if host is not None else version == "1.0"
        if not is_good:
            raise Refused("malformed_request")

    def _check_framing(self, given: dict[bytes, bytes], version: str) -> None:
        encoding = given.get(b"transfer-encoding")
        # A proxy that speaks HTTP/1.0 knows no chunks, and would take them for another request.
        if encoding is not None and (encoding.lower() != b"chunked" or version == "1.0"):
            raise Refused("malformed_request")
        if b"expect" in given and not self.expect_100_continue:
            raise Refused("expectation_failed")

    def _look(self) -> None:
        """Close what took too long, or look again when the next thing can have."""
        now = self.loop.time()
        if self._read_by is not None and now >= self._read_by:
            self.transport.abort()
        elif self._due is not None and now >= self._due:
            self._time_out()
        else:
            moments = (now + PATIENCE_SECONDS, self._due, self._read_by)
            self._timer = self.loop.call_at(min(moment for moment in moments if moment is not None), self._look)

    def _time_out(self) -> None:
        if self._is_coming and not self._is_deaf:  # a connection that was opened in advance and never used asks nothing
            self._say("request_timeout")
        self._close()

    def _refuse(self, code: str) -> None:
        """Say no and close, but let the peer end its sentence, or it would not hear the answer."""
        if self._is_answering():
            self._answer_and_close()
            return
        self._say(code)
        self.transport.write_eof()
        self._end_within(LINGER_SECONDS)

    def _say(self, code: str) -> None:
        """Write a refusal, unless an answer has begun; whoever works on the request learns that nobody listens."""
        self.edge.refusals.note(code, self.loop)
        if self._is_unanswered:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                return
        self.transport.write(_refusal(code, (*self.server_state.default_headers, *self.edge.headers)))

    def _have_early_answers_say_so(self, cycle: RequestResponseCycle) -> None:
        """An answer that does not wait for the body ends the connection, and its client must not use it again."""
        send = cycle.send

        async def send_and_say(message: ASGISendEvent) -> None:
            is_early = message["type"] == "http.response.start" and cycle.more_body
            was_kept = cycle.keep_alive
            if is_early:
                cycle.keep_alive = False
            await send(message)
            if is_early:
                cycle.keep_alive = was_kept  # it is we who close, when the peer has had time to hear it

        cycle.send = send_and_say  # type: ignore[method-assign] # of this one request

    def _answer_and_close(self) -> None:
        """Read nothing more; the connection ends with the answer to the request that came first."""
        self._is_deaf = True
        self.cycle.keep_alive = False

    def _close(self) -> None:
        self.transport.close()
        self._end_within(LINGER_SECONDS)

    def _end_within(self, seconds: float) -> None:
        self._is_deaf = True
        self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.transport.abort)


def _refusal(code: str, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The whole answer, in bytes."""
    status, detail = EDGE_PROBLEMS[code]
    request_id = uuid4().hex[:16]
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        response = problem(
            status, code, detail, headers=_COME_BACK if status == HTTPStatus.SERVICE_UNAVAILABLE else None
        )
    lines = [*headers, *response.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
    head = b"".join(b"%b: %b\r\n" % line for line in lines)
    return STATUS_LINE[status] + head + b"\r\n" + bytes(response.body)
