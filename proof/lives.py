"""Lives: processes of ours that are forked warm, do what they are told, and die, freeze or fail where it was planned.

A life is an API and a worker. Whoever leads it is the world around: what is asked of it, and what it answers, go
through a pipe, so that everything that was answered is known whatever becomes of the process.
"""

import asyncio
import mmap
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import httpx
from fastapi import FastAPI

from payments.observability import configure_logging
from payments.settings import LogFormat, Settings
from proof.failpoints import Failpoints, Fault
from proof.house import House, open_house

_LOOK_EVERY: Final = 0.002  # seconds, at whether the process still runs
_PATIENCE: Final = 60.0  # seconds for one thing that is asked; far more than any deadline of ours in these stories


class Stopped(StrEnum):
    """Why no answer came."""

    DEAD = "dead"
    FROZEN = "frozen"


class LifeFailed(Exception):
    """A life did not do what it was told, for a reason that was not planned."""


@dataclass(frozen=True, slots=True)
class Http:
    """A request of a browser, a back office or the PG."""

    method: str
    url: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """One round of every job."""


@dataclass(frozen=True, slots=True)
class Night:
    """The checks of a night, about a day."""

    day: date


@dataclass(frozen=True, slots=True)
class Disarm:
    """Nothing strikes any more."""


Order = Http | Work | Night | Disarm


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an order; no status where nothing was asked over HTTP, or where it was cancelled or failed."""

    status: int | None = None
    body: Any = None


class Trace:
    """What a process has come by and what struck it, in a file in memory that it writes and that outlives it."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.memfd_create("points"), "r+b", buffering=0)
        self._heard = 0  # bytes

    def passes(self, point: str) -> None:
        self._file.write(f"{point}\n".encode())

    def strikes(self) -> None:
        self._file.write(b"\n")

    def news(self) -> list[str]:
        """The points, each once that it was come by, and an empty text after each at which something struck."""
        size = os.fstat(self._file.fileno()).st_size
        whole, end, _ = os.pread(self._file.fileno(), size - self._heard, self._heard).rpartition(b"\n")
        self._heard += len(whole + end)
        return whole.decode().split("\n") if end else []

    def close(self) -> None:
        self._file.close()


class Life:
    """One process. Orders go to it one at a time."""

    def __init__(self, settings: Settings, app: FastAPI, *, log: Path, hot: bool, faults: Sequence[Fault] = ()) -> None:
        self.points: list[str] = []  # that it has come by
        self.struck_at: list[int] = []  # where among them something struck
        self._left = len(faults)  # that have not struck
        self._trace = Trace()
        self._overtaken = mmap.mmap(-1, 1)  # how many of them have struck others while it was frozen
        self._answers, theirs = Pipe()
        self.pid = os.fork()
        if not self.pid:
            self._answers.close()
            trace, overtaken = self._trace, self._overtaken
            points = Failpoints(list(faults), trace.passes, trace.strikes, lambda: overtaken[0])
            _live(settings, app, theirs, log=log, hot=hot, points=points)
        theirs.close()
        self._is_dead = False

    @property
    def is_armed(self) -> bool:
        """Whether one of its faults may still strike."""
        return self._left > 0

    def tell(self, order: Order) -> Answer | Stopped:
        """Have something done.

        Raises:
            LifeFailed: nothing came of it for a minute.
        """
        if self._is_dead:
            return Stopped.DEAD
        with suppress(OSError):  # it has died, which is what is heard next
            self._answers.send(order)
        return self.wait()

    def wait(self) -> Answer | Stopped:
        """Wait for what was told last."""
        try:
            return self._outcome()
        finally:
            self._follow()

    def forget(self) -> None:
        """Whoever leads it has noted what it has come by."""
        self.points.clear()
        self.struck_at.clear()

    def _outcome(self) -> Answer | Stopped:
        for _ in range(int(_PATIENCE / _LOOK_EVERY)):
            try:
                if self._answers.poll(_LOOK_EVERY):
                    answer: Answer = self._answers.recv()
                    return answer
            except (EOFError, OSError):
                return self._died()
            if (stopped := self._look()) is not None:
                return stopped
        raise LifeFailed("a process that was told something has not answered for a minute")

    def thaw(self, overtaken: int) -> None:
        """Let a frozen one go on; so many of its faults have struck others meanwhile."""
        self._overtaken[0] = overtaken
        self._left -= overtaken
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Kill it, if it still runs; what it was told is done, or will never be."""
        if not self._is_dead:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._is_dead = True
        self._answers.close()
        self._trace.close()

    def _follow(self) -> None:
        for point in self._trace.news():
            if point:
                self.points.append(point)
            else:
                self.struck_at.append(len(self.points) - 1)
                self._left -= 1

    def _look(self) -> Stopped | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
        if pid and os.WIFSTOPPED(status):
            return Stopped.FROZEN
        if pid:
            self._is_dead = True
            return self._died_of(status)
        return None

    def _died(self) -> Stopped:
        _, status = os.waitpid(self.pid, 0)
        self._is_dead = True
        return self._died_of(status)

    def _died_of(self, status: int) -> Stopped:
        if not os.WIFSIGNALED(status):
            raise LifeFailed(f"a process ended by itself: {os.waitstatus_to_exitcode(status)}")
        return Stopped.DEAD


def _live(settings: Settings, app: FastAPI, orders: Connection, *, log: Path, hot: bool, points: Failpoints) -> None:
    """What the forked process does; it never returns to whoever forked it."""
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, sys.stdout.fileno())
        os.dup2(output, sys.stderr.fileno())
        configure_logging(LogFormat.JSON, to=sys.stdout, secrets=settings.secrets())
        asyncio.run(_obey(settings, app, orders, hot=hot, points=points))
        code = 0
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)


async def _obey(settings: Settings, app: FastAPI, orders: Connection, *, hot: bool, points: Failpoints) -> None:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[Order | None] = asyncio.Queue()
    loop.add_reader(orders.fileno(), lambda: waiting.put_nowait(_next(orders)))
    async with open_house(settings, app=app, hot=hot, fitted=points.fit) as house:
        while (order := await waiting.get()) is not None:
            # In a task of its own, which may be cancelled.
            (outcome,) = await asyncio.gather(asyncio.create_task(_do(house, order, points)), return_exceptions=True)
            orders.send(outcome if isinstance(outcome, Answer) else Answer(body=type(outcome).__name__))


def _next(orders: Connection) -> Order | None:
    try:
        order: Order = orders.recv()
    except EOFError:
        return None
    return order


async def _do(house: House, order: Order, points: Failpoints) -> Answer:
    match order:
        case Disarm():
            points.armed.clear()
        case Work():
            await house.work()
        case Night(day):
            await house.night(day)
        case Http():
            return await _ask(house.api, order)
    return Answer()


async def _ask(api: httpx.AsyncClient, asked: Http) -> Answer:
    content = {"content": asked.body} if isinstance(asked.body, bytes) else {"json": asked.body}
    answer = await api.request(asked.method, asked.url, headers=dict(asked.headers), **content)
    is_json = "json" in answer.headers.get("content-type", "")
    return Answer(answer.status_code, answer.json() if is_json else answer.text)
