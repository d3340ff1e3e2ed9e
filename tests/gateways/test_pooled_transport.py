"""aiohttp's connections fail in the same words as httpx's own: every kind of failure is sent through both.

What matters for money is whether the server may have got the request: `not sent` is said only where it cannot.
"""

import asyncio
import gzip
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import certifi
import httpx
import pytest

from payments.gateways.pg import Approved, Unknown, UnknownBecause
from payments.gateways.pooled_transport import PooledTransport
from payments.gateways.toss import TossClient
from tests.gateways.certificates import UNTRUSTED, Authority
from tests.gateways.conftest import SECRET_KEY
from tests.gateways.loopback import Loopback, Script, answering, end, loopback, never_answering, ok_reply
from tests.gateways.toss_builders import AMOUNT, ORDER_ID, PAYMENT_KEY, a_payment, as_bytes

NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
BRIEF: Final = 0.2  # seconds; where the story is about waiting in vain
LONG: Final = 20.0


class Make(Protocol):
    def __call__(self, *, most: int = 10) -> httpx.AsyncBaseTransport: ...


def of_httpx(*, most: int = 10) -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport(trust_env=False, limits=httpx.Limits(max_connections=most))


def pooled(*, most: int = 10) -> httpx.AsyncBaseTransport:
    return PooledTransport(max_connections=most)


TRANSPORTS: Final = {"httpx": of_httpx, "pooled": pooled}
on_both = pytest.mark.parametrize("make", TRANSPORTS.values(), ids=TRANSPORTS.keys())


async def ask(
    transport: httpx.AsyncBaseTransport,
    url: str,
    *,
    method: str = "POST",
    connect: float = LONG,
    read: float = LONG,
) -> tuple[int, bytes]:
    """One request and its whole answer, as `TossClient` has it."""
    request = httpx.Request(
        method,
        url,
        headers={"accept-encoding": "identity", "user-agent": "payments"},
        content=b'{"amount": 15000}' if method == "POST" else None,
        extensions={"timeout": {"connect": connect, "read": read, "write": read, "pool": connect}},
    )
    answer = await transport.handle_async_request(request)
    try:
        return answer.status_code, await answer.aread()
    finally:
        await answer.aclose()


async def outcome(transport: httpx.AsyncBaseTransport, url: str, *, connect: float = LONG, read: float = LONG) -> str:
    """What a caller makes of it."""
    try:
        status, body = await ask(transport, url, connect=connect, read=read)
    except NOT_SENT:
        return "not sent"
    except (httpx.HTTPError, httpx.StreamError, OSError):
        return "lost"
    return f"{status}: {body.decode(errors='replace')}"


@asynccontextmanager
async def closing_in_the_end(make: Callable[[], httpx.AsyncBaseTransport]) -> AsyncIterator[httpx.AsyncBaseTransport]:
    transport = make()
    try:
        yield transport
    finally:
        await transport.aclose()


def reset(writer: asyncio.StreamWriter) -> None:
    """Hang up without a word: what has not been read is thrown away."""
    held = writer.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def then_reset(reply: bytes) -> Script:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()
        reset(writer)

    return script


def then_silent(reply: bytes) -> Script:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()
        await asyncio.Event().wait()

    return script


HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# What a server does that has read the request, and what the caller makes of it.
AFTER_READING: Final[dict[str, tuple[Script, str]]] = {
    "an answer": (answering(ok_reply(b"{}")), "200: {}"),
    "an answer in chunks": (answering(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"), "200: {}"),
    "an answer that ends with the connection": (
        answering(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}"),
        "200: {}",
    ),
    "an answer of HTTP/1.0": (answering(b"HTTP/1.0 200 OK\r\n\r\n{}"), "200: {}"),
    "an answer after a 100": (answering(b"HTTP/1.1 100 Continue\r\n\r\n" + ok_reply(b"{}")), "200: {}"),
    "an error": (answering(b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n"), "503: "),
    "a redirect": (answering(b"HTTP/1.1 307 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), "307: "),
    "nothing, and hangs up": (answering(b""), "lost"),
    "nothing, and resets": (then_reset(b""), "lost"),
    "half a status line": (answering(b"HTTP/1.1 20"), "lost"),
    "half a head": (answering(HEAD[:-4]), "lost"),
    "half a head, and resets": (then_reset(HEAD[:-4]), "lost"),
    "a head, and hangs up": (answering(HEAD), "lost"),
    "half a body": (answering(HEAD + b"12345"), "lost"),
    "half a body, and resets": (then_reset(HEAD + b"12345"), "lost"),
    "half a chunk": (answering(CHUNKED + b"10\r\n12345"), "lost"),
    "no last chunk": (answering(CHUNKED + b"2\r\n{}\r\n"), "lost"),
    "a chunk of no size": (answering(CHUNKED + b"xyz\r\n{}\r\n0\r\n\r\n"), "lost"),
    "garbage": (answering(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), "lost"),
    "bytes": (answering(b"\x00\x01\x02\xff" * 100), "lost"),
    "a status that is none": (answering(b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"), "lost"),
    "a head without end": (answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000 + b"\r\n\r\n"), "lost"),
    "two lengths": (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} "), "lost"),
    "a length that is none": (answering(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}"), "lost"),
}
SILENT: Final[dict[str, Script]] = {
    "nothing": never_answering,
    "half a head": then_silent(HEAD[:-4]),
    "a head": then_silent(HEAD),
    "half a body": then_silent(HEAD + b"12345"),
    "half a chunk": then_silent(CHUNKED + b"10\r\n12345"),
}


@on_both
class TestAServerThatHasReadTheRequest:
    @pytest.mark.parametrize(("script", "expected"), AFTER_READING.values(), ids=AFTER_READING.keys())
    async def test_and_says(self, make: Make, script: Script, expected: str) -> None:
        async with loopback(script) as server, closing_in_the_end(make) as transport:
            told = await outcome(transport, server.url)

        assert told == expected
        assert len(server.requests) == 1

    @pytest.mark.parametrize("script", SILENT.values(), ids=SILENT.keys())
    async def test_and_falls_silent_after(self, make: Make, script: Script) -> None:
        async with loopback(script) as server, closing_in_the_end(make) as transport:
            told = await outcome(transport, server.url, read=BRIEF)

        assert told == "lost"
        assert len(server.requests) == 1

    async def test_over_tls_and_hangs_up(self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        authority = trusted(tmp_path, monkeypatch)
        scripts = {"nothing": answering(b""), "half a head": answering(HEAD[:-4]), "half a body": answering(HEAD)}
        told = {}
        for said, script in scripts.items():
            async with (
                loopback(script, tls=authority.server(tmp_path)) as server,
                closing_in_the_end(make) as transport,
            ):
                told[said] = await outcome(transport, f"https://127.0.0.1:{server.port}")

        assert told == dict.fromkeys(scripts, "lost")


@dataclass
class Raw:
    """A server that says something before, or without, reading a request."""

    url: str = ""
    read: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def raw(
    serve: Callable[[Raw, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Raw]:
    seen = Raw()
    running: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(seen, reader, writer)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    seen.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        await end(server, running, writers)


async def hang_up(_: Raw, __: asyncio.StreamReader, ___: asyncio.StreamWriter) -> None:
    """Before a byte was read."""


async def hang_up_after_a_byte(seen: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    seen.read += await reader.readexactly(1)
    reset(writer)


async def speak_plainly(seen: Raw, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    seen.read += await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def wait(_: Raw, __: asyncio.StreamReader, ___: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@contextmanager
def refusing() -> Iterator[str]:
    """A port on which nobody listens, and nobody else can."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@contextmanager
def overrun() -> Iterator[str]:
    """A server that is too busy to take connections: those that wait for it are as many as may."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        try:
            while True:
                waiting.append(socket.socket())
                waiting[-1].settimeout(BRIEF)
                waiting[-1].connect(listener.getsockname())
        except TimeoutError:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for one in waiting:
                one.close()


def trusted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The only authority that this machine trusts."""
    authority = Authority.create()
    pem = authority.write_to(folder / "trusted.pem")
    monkeypatch.setattr(certifi, "where", lambda: str(pem))
    return authority


@on_both
class TestAServerThatHasNotReadTheRequest:
    async def test_because_nobody_listens(self, make: Make) -> None:
        with refusing() as url:
            async with closing_in_the_end(make) as transport:
                assert await outcome(transport, url) == "not sent"

    async def test_because_it_takes_no_connection(self, make: Make) -> None:
        with overrun() as url:
            async with closing_in_the_end(make) as transport:
                assert await outcome(transport, url, connect=BRIEF) == "not sent"

    @pytest.mark.parametrize("serve", [hang_up, hang_up_after_a_byte, speak_plainly])
    async def test_because_it_speaks_no_tls(
        self, make: Make, serve: Callable[[Raw, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        async with raw(serve) as server, closing_in_the_end(make) as transport:
            assert await outcome(transport, server.url.replace("http", "https")) == "not sent"

    async def test_because_it_does_not_answer_to_tls(self, make: Make) -> None:
        async with raw(wait) as server, closing_in_the_end(make) as transport:
            assert await outcome(transport, server.url.replace("http", "https"), connect=BRIEF) == "not sent"

    @pytest.mark.parametrize("certified", UNTRUSTED.values(), ids=UNTRUSTED.keys())
    async def test_because_it_is_certified(
        self,
        make: Make,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        certified: Callable[[Authority, Path], ssl.SSLContext],
    ) -> None:
        authority = trusted(tmp_path, monkeypatch)
        reply = answering(ok_reply(b"{}"))

        async with loopback(reply, tls=certified(authority, tmp_path)) as server, closing_in_the_end(make) as transport:
            told = await outcome(transport, f"https://127.0.0.1:{server.port}")

        assert told == "not sent"
        assert server.requests == []

    @pytest.mark.parametrize("serve", [hang_up, hang_up_after_a_byte])
    async def test_all_of_it_for_all_we_know(
        self, make: Make, serve: Callable[[Raw, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> None:
        """There was a connection, so that the request may have gone out on it."""
        async with raw(serve) as server, closing_in_the_end(make) as transport:
            assert await outcome(transport, server.url) == "lost"

    async def test_because_all_connections_are_busy(self, make: Make) -> None:
        async with loopback(never_answering) as server, closing_in_the_end(partial(make, most=1)) as transport:
            first = asyncio.ensure_future(outcome(transport, server.url))
            await server.asked.wait()

            second = await outcome(transport, server.url, connect=BRIEF)

            first.cancel()
            await asyncio.wait([first])
        assert second == "not sent"
        assert len(server.requests) == 1


def keeping(*replies: bytes | None) -> Callable[[Loopback], Script]:
    """Answer one request after the other on the same connection, and hang up at None or after the last."""

    def of(server: Loopback) -> Script:
        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for number, reply in enumerate(replies):
                if number > 0:
                    server.requests.append(await reader.readuntil(b"\r\n\r\n"))
                if reply is None:
                    return
                await reader.read(_length_of(server.requests[-1]))
                writer.write(reply)
                await writer.drain()

        return script

    return of


def _length_of(head: bytes) -> int:
    lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
    return next((int(value) for name, _, value in lines if name == b"content-length"), 0)


@asynccontextmanager
async def kept(*replies: bytes | None) -> AsyncIterator[Loopback]:
    """A server that keeps its connections, and counts every request on them."""
    made: list[Script] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made[0](reader, writer)

    async with loopback(script) as server:
        made.append(keeping(*replies)(server))
        yield server


@on_both
class TestAConnection:
    async def test_is_used_again(self, make: Make) -> None:
        async with (
            kept(ok_reply(b"1"), ok_reply(b"2"), ok_reply(b"3")) as server,
            closing_in_the_end(make) as transport,
        ):
            answers = [await ask(transport, server.url) for _ in range(3)]

        assert answers == [(200, b"1"), (200, b"2"), (200, b"3")]
        assert (server.connections, len(server.requests)) == (1, 3)

    @pytest.mark.parametrize("turns", [0, 20], ids=["unread", "read"])
    async def test_on_which_something_came_that_nobody_asked_for_is_not(self, make: Make, turns: int) -> None:
        """It would be taken for the answer to the next request: a refusal, perhaps, of another payment."""
        talking: list[asyncio.StreamWriter] = []

        async def answer_and_keep(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            talking.append(writer)
            writer.write(ok_reply(b"%d" % len(talking)))
            await asyncio.Event().wait()

        async with loopback(answer_and_keep) as server, closing_in_the_end(make) as transport:
            first = await ask(transport, server.url)
            talking[0].write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n{}")
            for _ in range(turns):
                await asyncio.sleep(0)

            second = await ask(transport, server.url)

        assert (first, second) == ((200, b"1"), (200, b"2"))
        assert server.connections == 2

    async def test_that_the_server_closes_is_not(self, make: Make) -> None:
        reply = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
        async with loopback(answering(reply)) as server, closing_in_the_end(make) as transport:
            answers = [await ask(transport, server.url) for _ in range(3)]

        assert answers == [(200, b"{}")] * 3
        assert server.connections == 3

    @pytest.mark.parametrize("more", [b"more", b"\r\n", ok_reply(b"planted")])
    async def test_with_more_on_it_than_was_announced_is_not(self, make: Make, more: bytes) -> None:
        """What was left of one answer must not be read as the beginning of the next."""
        async with loopback(answering(ok_reply(b"{}") + more)) as server, closing_in_the_end(make) as transport:
            told = [await outcome(transport, server.url) for _ in range(3)]

        assert set(told) <= {"200: {}", "lost"}
        assert len(server.requests) <= server.connections  # none was sent on a connection that had one before

    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_that_is_lost_under_a_request_makes_no_second_one(self, make: Make, method: str) -> None:
        async with kept(ok_reply(b"{}"), None) as server, closing_in_the_end(make) as transport:
            await ask(transport, server.url, method=method)

            with pytest.raises(httpx.TransportError) as lost:
                await ask(transport, server.url, method=method)

        assert not isinstance(lost.value, NOT_SENT)
        assert (server.connections, len(server.requests)) == (1, 2)

    async def test_that_was_closed_while_it_was_idle_is_left(self, make: Make) -> None:
        hung_up = asyncio.Event()

        async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(ok_reply(b"{}"))
            writer.close()
            await writer.wait_closed()
            hung_up.set()

        async with loopback(script) as server, closing_in_the_end(make) as transport:
            first = await ask(transport, server.url)
            await hung_up.wait()
            for _turn in range(5):
                await asyncio.sleep(0)  # an event loop hears of it when it has its next look
            second = await ask(transport, server.url)

        assert first == second == (200, b"{}")
        assert server.connections == len(server.requests) == 2

    async def test_that_is_closed_at_the_same_moment_loses_nothing_unnoticed(self, make: Make) -> None:
        async with loopback(answering(ok_reply(b"{}"))) as server, closing_in_the_end(make) as transport:
            told = [await outcome(transport, server.url) for _ in range(20)]

        assert set(told) <= {"200: {}", "lost"}
        assert told.count("200: {}") <= len(server.requests)

    async def test_is_closed_with_the_transport(self, make: Make) -> None:
        hung_up = asyncio.Event()

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(ok_reply(b"{}"))
            while await reader.read(100):
                pass
            hung_up.set()

        async with loopback(script) as server:
            async with closing_in_the_end(make) as transport:
                await ask(transport, server.url)
            async with asyncio.timeout(LONG):
                await hung_up.wait()

    async def test_of_a_call_that_was_cancelled_is_not_used_again(self, make: Make) -> None:
        scripts = iter([never_answering, answering(ok_reply(b"{}"))])

        async def hang_then_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await next(scripts)(reader, writer)

        async with loopback(hang_then_answer) as server, closing_in_the_end(make) as transport:
            call = asyncio.ensure_future(ask(transport, server.url))
            await server.asked.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

            answer = await ask(transport, server.url)

        assert answer == (200, b"{}")
        assert server.connections == 2


@on_both
class TestAnAnswer:
    async def test_leads_nowhere(self, make: Make) -> None:
        async with loopback(answering(ok_reply(b"{}"))) as elsewhere:
            head = f"HTTP/1.1 307 Moved\r\nlocation: {elsewhere.url}/\r\ncontent-length: 0\r\n\r\n"
            async with loopback(answering(head.encode())) as server, closing_in_the_end(make) as transport:
                answer = await ask(transport, server.url)

        assert answer == (307, b"")
        assert elsewhere.connections == 0

    async def test_leaves_no_cookie(self, make: Make) -> None:
        reply = b"HTTP/1.1 200 OK\r\nSet-Cookie: session=1; Path=/\r\nContent-Length: 2\r\n\r\n{}"
        async with kept(reply, reply) as server, closing_in_the_end(make) as transport:
            for _ in range(2):
                await ask(transport, server.url)

        assert len(server.requests) == 2
        assert b"cookie" not in server.requests[1].lower()

    async def test_that_is_compressed_stays_so(self, make: Make) -> None:
        packed = gzip.compress(b"{}" * 1_000)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
        async with loopback(answering(head + packed)) as server, closing_in_the_end(make) as transport:
            request = httpx.Request("GET", server.url, extensions={"timeout": dict.fromkeys(PHASES, LONG)})
            answer = await transport.handle_async_request(request)
            assert isinstance(answer.stream, httpx.AsyncByteStream)
            raw_body = b"".join([chunk async for chunk in answer.stream])
            await answer.aclose()

        assert raw_body == packed
        assert answer.headers["content-encoding"] == "gzip"

    async def test_keeps_its_headers_as_they_are(self, make: Make) -> None:
        reply = b"HTTP/1.1 200 OK\r\nRetry-After: 3\r\nX-Twice: 1\r\nX-Twice: 2\r\nContent-Length: 0\r\n\r\n"
        async with loopback(answering(reply)) as server, closing_in_the_end(make) as transport:
            request = httpx.Request("GET", server.url, extensions={"timeout": dict.fromkeys(PHASES, LONG)})
            answer = await transport.handle_async_request(request)
            await answer.aclose()

        assert answer.headers.multi_items() == [
            ("retry-after", "3"),
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("content-length", "0"),
        ]

    async def test_may_have_long_headers(self, make: Make) -> None:
        long = b"x" * 20_000
        reply = b"HTTP/1.1 200 OK\r\nX-Long: " + long + b"\r\nContent-Length: 0\r\n\r\n"
        async with loopback(answering(reply)) as server, closing_in_the_end(make) as transport:
            request = httpx.Request("GET", server.url, extensions={"timeout": dict.fromkeys(PHASES, LONG)})
            answer = await transport.handle_async_request(request)
            await answer.aclose()

        assert answer.headers["x-long"] == long.decode()

    async def test_does_not_come_from_a_proxy_of_the_environment(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with loopback(never_answering) as proxy, loopback(answering(ok_reply(b"{}"))) as server:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            async with closing_in_the_end(make) as transport:
                answer = await ask(transport, server.url)

        assert answer == (200, b"{}")
        assert proxy.connections == 0


PHASES: Final = ("connect", "read", "write", "pool")


class TestARequest:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    async def test_is_the_same_on_the_wire(self, method: str) -> None:
        heads = []
        for make in TRANSPORTS.values():
            async with loopback(answering(ok_reply(b"{}"))) as server, closing_in_the_end(make) as transport:
                await ask(transport, f"{server.url}/v1/payments/a%2Fb%20c?limit=1&after=x%26y", method=method)
            first, *lines = server.requests[0].strip().split(b"\r\n")
            heads.append((first, sorted(line.lower().replace(b"%d" % server.port, b"port") for line in lines)))

        assert heads[0] == heads[1]


class TestThroughTheClient:
    async def test_a_call_that_is_lost_on_a_kept_connection_is_not_known(self) -> None:
        paid = ok_reply(as_bytes(a_payment()))
        async with kept(paid, None) as server, TossClient(base_url=server.url, secret_key=SECRET_KEY) as client:
            found = await client.look_up(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT)
            answer = await client.confirm(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT, idempotency_key="attempt-1")

        assert isinstance(found, Approved)
        assert isinstance(answer, Unknown)
        assert answer.because is UnknownBecause.NO_ANSWER
        assert len(server.requests) == 2

    async def test_a_call_to_nobody_is_not_sent(self) -> None:
        with refusing() as url:
            async with TossClient(base_url=url, secret_key=SECRET_KEY) as client:
                answer = await client.confirm(
                    PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT, idempotency_key="attempt-1"
                )

        assert answer == Unknown(UnknownBecause.NOT_SENT, message="ConnectError")
