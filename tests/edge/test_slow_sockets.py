"""Sockets that take their time: each is closed within ten seconds, and nobody else notices."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from payments.api.edge import Edge
from payments.local.postgres import LocalPostgres
from tests.acceptance.worker_world import environment_for
from tests.conftest import TEMPLATE
from tests.edge.served import listening, served
from tests.edge.wire import GET, HOST, POST
from tests.integration.world import prepare_body
from tests.programs import server

PROMISE_SECONDS: Final = 10.0
DRIP_SECONDS: Final = 1.0
ALONE_SECONDS: Final = 2.0
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Slow:
    """What a socket says at once, what it says every second after that, and what it is told in the end."""

    says: bytes
    drips: bytes = b""
    told: bytes = b"HTTP/1.1 408 "


KINDS: Final = {
    "slow head": Slow(GET + HOST, b"A"),
    "slow body": Slow(POST + b"Content-Length: 100\r\n\r\n{", b" "),
    "silence": Slow(b"", told=b""),
    "empty lines": Slow(b"\r\n", b"\r\n", told=b""),
    "half a head": Slow(b"GET /hea"),
    "a header after the other": Slow(GET + HOST, b"A: b\r\n"),
    "half a body": Slow(POST + b"Content-Length: 100\r\n\r\n{"),
    "a chunk after the other": Slow(POST + CHUNKED, b"1\r\n \r\n"),
    "a chunk's extension": Slow(POST + CHUNKED + b"1;", b"a"),
    "a body that is refused": Slow(POST + b"Content-Length: 100000\r\n\r\n", b" ", told=b"HTTP/1.1 413 "),
    "nothing after an answer": Slow(GET + HOST + b"\r\n", told=b"HTTP/1.1 200 "),
    "an offer to go over": Slow(GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"A: b\r\n"),
}
FLOOD: Final = ("slow head", "slow body")


@dataclass(frozen=True)
class Closed:
    """How long a socket lasted, and what it had heard by then."""

    seconds: float
    heard: bytes


@dataclass
class Outcome:
    sockets: dict[str, list[Closed]] = field(default_factory=dict)
    alone: list[float] = field(default_factory=list)  # seconds that requests took without the sockets
    beside: list[float] = field(default_factory=list)

    @property
    def factor(self) -> float:
        return statistics.median(self.beside) / statistics.median(self.alone)


@pytest.fixture(scope="module")
def outcome(postgres: LocalPostgres, pytestconfig: pytest.Config) -> Iterator[Outcome]:
    """All kinds of slow sockets at the same time, and a client that prepares payments beside them."""
    each = 250 if pytestconfig.getoption("--proof") else 20
    postgres.create_database("slow_sockets", template=TEMPLATE)
    environment = environment_for(postgres.url("slow_sockets"), "http://127.0.0.1:1")
    with server("payments", "api", environment=environment) as (url, _):
        yield asyncio.run(_endured(url, each))
    postgres.drop_database("slow_sockets")


async def _endured(url: str, each: int) -> Outcome:
    outcome, port = Outcome(), urlsplit(url).port or 0
    kinds = [*KINDS, *(kind for kind in FLOOD for _ in range(each - 1))]
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        outcome.alone += await _prepares_until(asyncio.sleep(ALONE_SECONDS), http)
        slow = asyncio.gather(*(_lasts(port, KINDS[kind]) for kind in kinds))
        outcome.beside += await _prepares_until(slow, http)
        # And once more: the machine may have more or less to do for others than it had before.
        outcome.alone += await _prepares_until(asyncio.sleep(ALONE_SECONDS), http)
    for kind, closed in zip(kinds, await slow, strict=True):
        outcome.sockets.setdefault(kind, []).append(closed)
    return outcome


async def _prepares_until(over: Awaitable[object], http: httpx.AsyncClient) -> list[float]:
    """One payment after the other with a pause between; the seconds that each took."""
    seconds, waiting = [], asyncio.ensure_future(over)
    while not waiting.done():
        began = time.perf_counter()
        (await http.post("/payments/prepare", json=prepare_body(f"slow-{uuid4().hex}"))).raise_for_status()
        seconds.append(time.perf_counter() - began)
        await asyncio.wait([waiting], timeout=0.05)
    return seconds


async def _lasts(port: int, kind: Slow) -> Closed:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    writer.write(kind.says)
    dripping = asyncio.create_task(_drip(writer, kind.drips))
    with contextlib.suppress(ConnectionResetError):
        heard = b""
        while more := await reader.read(65_536):
            heard += more
    dripping.cancel()
    writer.close()
    return Closed(time.monotonic() - began, heard)


async def _drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    while data and not writer.is_closing():
        await asyncio.sleep(DRIP_SECONDS)
        writer.write(data)


class TestSlowSockets:
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_closed_within_ten_seconds(self, outcome: Outcome, kind: str) -> None:
        longest = max(closed.seconds for closed in outcome.sockets[kind])

        assert longest <= PROMISE_SECONDS

    @pytest.mark.parametrize("kind", KINDS)
    def test_are_told_what_they_can_be_told(self, outcome: Outcome, kind: str) -> None:
        for closed in outcome.sockets[kind]:
            assert closed.heard.startswith(KINDS[kind].told)
            assert bool(closed.heard) == bool(KINDS[kind].told)

    def test_do_not_hold_up_others(
        self, outcome: Outcome, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
    ) -> None:
        amount = sum(map(len, outcome.sockets.values()))
        longest = max(closed.seconds for sockets in outcome.sockets.values() for closed in sockets)
        alone, beside = (statistics.median(times) * 1000 for times in (outcome.alone, outcome.beside))
        with capsys.disabled():
            print(  # noqa: T201 - the proof shows its figures
                f"\n{amount} slow sockets: the last closed after {longest:.1f} s; prepare took {alone:.1f} ms alone, "
                f"{beside:.1f} ms beside them (median; factor {outcome.factor:.2f}, {len(outcome.beside)} requests)"
            )

        assert len(outcome.beside) > 1
        if pytestconfig.getoption("--proof"):
            assert outcome.factor <= 2


async def talk(scope: Scope, _: Receive, send: Send) -> None:
    """Say more than the system keeps for a peer that does not read, at once or in three pieces."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for has_more in (True, True, False) if scope["path"] == "/in-pieces" else (False,):
        await send({"type": "http.response.body", "body": b"a" * 20_000_000, "more_body": has_more})


class TestPeerThatDoesNotRead:
    async def test_is_given_up(self) -> None:
        """While the application still has something to say, and when it has said everything."""
        listener, port = listening()

        async with served(Edge(), listener, app=talk) as running:
            connections = running.server_state.connections
            peers = [await asyncio.open_connection("127.0.0.1", port, limit=1) for _ in range(3)]
            for (_, writer), rest in zip(peers, (b"/in-pieces", b"/at-once", b"/at-once"), strict=True):
                writer.write(b"GET " + rest + b" HTTP/1.1\r\n" + HOST)
            for (_, writer), rest in zip(peers, (b"", b"", b"Connection: close\r\n"), strict=True):
                writer.write(rest + b"\r\n")
            async with asyncio.timeout(PROMISE_SECONDS):
                while len(connections) < len(peers):  # noqa: ASYNC110 - uvicorn has a set, not an event
                    await asyncio.sleep(0.01)

            async with asyncio.timeout(3 * PROMISE_SECONDS):
                while connections:  # noqa: ASYNC110 - the same
                    await asyncio.sleep(0.1)
        for _, writer in peers:
            writer.close()
