"""A load generator that costs little: raw asyncio protocols and requests that are bytes already.

On a machine of two cores every microsecond that the generator takes is one that the measured programs do not have.
"""

import asyncio
import gc
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from bench import http1

HOST = "127.0.0.1"
OK = frozenset({200})
_SHOWN_BYTES = 600  # of an answer that was not expected
_MILLISECONDS = 1000.0
_ALL_BEGIN_WITHIN = 0.3  # seconds; clients that begin at one moment would stay in step with a slow PG


class MeasurementFailed(Exception):
    """What was measured is not what was meant; the message says what came instead."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a measurement; latencies in milliseconds."""

    rate: float  # answers per second
    p50: float
    p99: float
    count: int  # answers that count: those after the warm-up
    answers: Mapping[int, int]  # all there were, by status, the warm-up included


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie; `ordered` is sorted and not empty."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


async def closed_loop(
    requests: Iterator[bytes],
    ports: Sequence[int],
    *,
    clients: int,
    seconds: float,
    warm_up: float = 1.0,
    expected: Collection[int] = OK,
) -> Load:
    """Each client sends its next request as soon as the last one is answered, spread evenly over the ports.

    It ends early where the requests do.

    Raises:
        MeasurementFailed: an answer had a status that is not expected, or did not come.
    """
    with _without_collections():
        began = time.perf_counter()
        tally = _Tally(expected, begins=began + warm_up, ends=began + warm_up + seconds)
        crew = _ClosedLoop(requests, tally)
        await crew.run([ports[number % len(ports)] for number in range(clients)])
    return tally.load()


async def open_loop(
    requests: Iterator[bytes],
    ports: Sequence[int],
    *,
    per_second: float,
    seconds: float,
    warm_up: float = 1.0,
    expected: Collection[int] = OK,
) -> Load:
    """Requests are sent at planned moments, however long the ones before take; latencies count from those moments.

    Timers tick in milliseconds, so that latencies are up to one too long.

    Raises:
        MeasurementFailed: as `closed_loop`.
    """
    with _without_collections():
        began = time.perf_counter()
        tally = _Tally(expected, begins=began + warm_up, ends=began + warm_up + seconds)
        crew = _OpenLoop(requests, tally, ports)
        await crew.run(began + number / per_second for number in range(int(per_second * (warm_up + seconds))))
    return tally.load()


@contextmanager
def _without_collections() -> Iterator[None]:
    """A full collection of the generator's own objects would stand in the percentiles of somebody else."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Tally:
    def __init__(self, expected: Collection[int], *, begins: float, ends: float) -> None:
        self._expected = expected
        self._begins = begins
        self.ends = ends
        self._seconds = array("d")
        self._answers: Counter[int] = Counter()

    def note(self, status: int, *, sent: float, now: float) -> None:
        self._answers[status] += 1
        if status not in self._expected:
            raise MeasurementFailed(f"status {status}")
        if self._begins <= now <= self.ends:
            self._seconds.append(now - sent)

    def end_now(self) -> None:
        self.ends = min(self.ends, time.perf_counter())

    def load(self) -> Load:
        """What came of it.

        Raises:
            MeasurementFailed: nothing did.
        """
        if not self._seconds:
            raise MeasurementFailed("no answer came after the warm-up")
        ordered = sorted(self._seconds)
        return Load(
            rate=len(ordered) / (self.ends - self._begins),
            p50=percentile(ordered, 0.5) * _MILLISECONDS,
            p99=percentile(ordered, 0.99) * _MILLISECONDS,
            count=len(ordered),
            answers=dict(self._answers),
        )


class _Connection(asyncio.Protocol):
    """A keep-alive connection with one request under way at most."""

    def __init__(self, answered: Callable[["_Connection", int], None], failed: Callable[[Exception], None]) -> None:
        self._answered = answered
        self._failed = failed
        self._held = b""
        self._transport: asyncio.Transport | None = None
        self._is_asking = False
        self.sent = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, *, at: float) -> None:
        """Send a request; its latency counts from `at`."""
        if self._transport is None:
            raise MeasurementFailed("a connection was used before it was made")
        self.sent = at
        self._is_asking = True
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_asking:
            self._failed(MeasurementFailed(f"a connection was closed instead of an answer: {exc}"))

    def data_received(self, data: bytes) -> None:
        self._held += data
        try:
            if (bounds := http1.bounds(self._held)) is not None:
                self._take(bounds[1])
        except Exception as error:  # noqa: BLE001 - the loop would only log what a protocol raises
            said = self._held[:_SHOWN_BYTES].decode(errors="replace")
            self._failed(MeasurementFailed(f"{error}: {said}"))

    def _take(self, end: int) -> None:
        if len(self._held) > end:
            raise MeasurementFailed("more than one answer")
        status = int(self._held[9:12])  # behind `HTTP/1.1 `
        self._is_asking = False
        self._answered(self, status)
        self._held = b""


class _Crew:
    """Some connections, and whether they have finished."""

    def __init__(self, requests: Iterator[bytes], tally: _Tally) -> None:
        self._requests = requests
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._all: list[_Connection] = []

    async def _connect(self, port: int) -> _Connection:
        connection = _Connection(self._answered, self._fail)
        self._all.append(connection)
        await self._loop.create_connection(lambda: connection, HOST, port)
        return connection

    def _answered(self, connection: _Connection, status: int) -> None:
        raise NotImplementedError

    def _fail(self, error: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    def _finish(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    async def _wait(self) -> None:
        try:
            await self._over
        finally:
            for connection in self._all:
                connection.close()


class _ClosedLoop(_Crew):
    async def run(self, ports: Sequence[int]) -> None:
        self._at_work = len(ports)
        clients = [await self._connect(port) for port in ports]
        for number, client in enumerate(clients):
            self._loop.call_later(_ALL_BEGIN_WITHIN * number / len(clients), self._begin, client)
        await self._wait()

    def _begin(self, client: _Connection) -> None:
        if not self._over.done():
            self._send_next(client, time.perf_counter())

    def _answered(self, connection: _Connection, status: int) -> None:
        now = time.perf_counter()
        self._tally.note(status, sent=connection.sent, now=now)
        self._send_next(connection, now)

    def _send_next(self, connection: _Connection, now: float) -> None:
        request = next(self._requests, None) if now < self._tally.ends else None
        if request is not None:
            connection.send(request, at=now)
            return
        self._tally.end_now()
        self._at_work -= 1
        if not self._at_work:
            self._finish()


class _OpenLoop(_Crew):
    def __init__(self, requests: Iterator[bytes], tally: _Tally, ports: Sequence[int]) -> None:
        super().__init__(requests, tally)
        self._ports = ports
        self._idle: deque[_Connection] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._planned: deque[float] = deque()
        self._unanswered = 0

    async def run(self, planned: Iterable[float]) -> None:
        self._planned.extend(planned)
        self._unanswered = len(self._planned)
        self._begin_due()
        await self._wait()

    def _begin_due(self) -> None:
        while self._planned and self._planned[0] <= time.perf_counter():
            self._begin(self._planned.popleft())
        if self._planned and not self._over.done():
            self._loop.call_later(self._planned[0] - time.perf_counter(), self._begin_due)

    def _begin(self, planned: float) -> None:
        while self._idle:
            connection = self._idle.popleft()  # the longest idle one: none is left until the server closes it
            if connection.is_open:
                self._send_next(connection, planned)
                return
        task = self._loop.create_task(self._begin_on_new(planned))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _begin_on_new(self, planned: float) -> None:
        try:
            connection = await self._connect(self._ports[len(self._all) % len(self._ports)])
            self._send_next(connection, planned)
        except OSError as error:
            self._fail(MeasurementFailed(f"cannot connect: {error}"))

    def _send_next(self, connection: _Connection, planned: float) -> None:
        request = next(self._requests, None)
        if request is None:
            self._fail(MeasurementFailed("there are fewer requests than planned moments"))
        else:
            connection.send(request, at=planned)

    def _answered(self, connection: _Connection, status: int) -> None:
        self._tally.note(status, sent=connection.sent, now=time.perf_counter())
        self._idle.append(connection)
        self._unanswered -= 1
        if not self._unanswered:
            self._finish()
