"""Places where many requests are asked at the same moment: our programs as processes, or a house in this one."""

import asyncio
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final, Protocol

import httpx
from bench import http1
from tests.acceptance.worker_world import working
from tests.integration.world import SECRET_KEY, SHOP
from tests.keys import API_KEY, AUTHORIZATION
from tests.programs import server

from proof.buyers import CONSOLE, Asked
from proof.house import House
from proof.last_byte import Shot, fire
from proof.lives import Answer, Http
from proof.world import WEBHOOK_SECRET, Case, World

_PROGRAMS: Final = 2  # of each of ours, on one database
_LOOK_EVERY: Final = 0.5  # seconds
_CANARIES: Final = (API_KEY, SECRET_KEY, WEBHOOK_SECRET)
_NEVER_LOGGED: Final = ("job.failed", "request.crashed")


class Place(Protocol):
    """Where a storm rages: our API and our worker, and the PG."""

    async def ask(self, asked: Sequence[Asked]) -> Sequence[Answer | None]:
        """Ask all of these at the same moment; None for a request that got no answer."""
        ...

    async def work(self) -> None:
        """Let the workers get on."""
        ...


@dataclass
class Processes:
    """Our programs as processes of their own; requests become whole with their last byte."""

    apis: Sequence[int]  # their ports
    pg: int
    spread_seconds: float = 0.0  # the longest yet, between the first last byte and the last one

    async def ask(self, asked: Sequence[Asked]) -> Sequence[Answer | None]:
        turns = cycle(self.apis)
        volley = await fire([Shot(self.pg if one.what == CONSOLE else next(turns), _in_bytes(one)) for one in asked])
        self.spread_seconds = max(self.spread_seconds, volley.spread_seconds)
        return [Answer(one.status, _read(one.body)) if one else None for one in volley.replies]

    async def work(self) -> None:
        await asyncio.sleep(_LOOK_EVERY)  # they work by themselves


@dataclass
class InProcess:
    """Our API and our worker in this process; requests are begun one after the other, without waiting."""

    house: House
    pg: httpx.AsyncClient

    async def ask(self, asked: Sequence[Asked]) -> Sequence[Answer | None]:
        work = asyncio.create_task(self.house.work())
        try:
            return await asyncio.gather(*(self._ask(one) for one in asked))
        finally:
            await work

    async def work(self) -> None:
        await self.house.work()

    async def _ask(self, asked: Asked) -> Answer:
        http, request = self.pg if asked.what == CONSOLE else self.house.api, asked.request
        headers = {"content-type": "application/json", **dict(request.headers)}
        answer = await http.request(request.method, request.url, content=_body(request), headers=headers)
        return Answer(answer.status_code, _read(answer.content))


def _in_bytes(asked: Asked) -> bytes:
    headers = {"Origin": SHOP, **AUTHORIZATION, **dict(asked.request.headers)}
    return http1.request(asked.request.method, asked.request.url, _body(asked.request), headers)


def _body(request: Http) -> bytes:
    if request.body is None:
        return b""
    return request.body if isinstance(request.body, bytes) else json.dumps(request.body).encode()


def _read(body: bytes) -> Any:  # noqa: ANN401 - whatever JSON says
    return json.loads(body) if body else None


@dataclass(frozen=True, slots=True)
class Programs:
    """Our programs, and what they write."""

    place: Processes
    processes: Sequence[subprocess.Popen[bytes]]
    logs: Path

    def wrong(self) -> Iterator[str]:
        """What they may not have done, whatever was asked of them."""
        if ended := sum(process.poll() is not None for process in self.processes):
            yield f"{ended} of our programs have ended"
        for log in self.logs.glob("*.log"):
            yield from told_in(log)


def told_in(log: Path) -> Iterator[str]:
    """What may stand in no log of ours, and does."""
    said = log.read_text(errors="replace")
    yield from (f"I11: {log.name} shows {word!r}" for word in _CANARIES if word in said)
    yield from (f"{log.name} tells of {word}" for word in _NEVER_LOGGED if word in said)


@contextmanager
def programs(world: World, case: Case) -> Iterator[Programs]:
    """Our APIs and our workers on one database, until the block ends."""
    told = {"TOSS_WEBHOOK_SECRETS": WEBHOOK_SECRET, "TOSS_WORKER_RATE": "10000", "TOSS_READ_TIMEOUT": "2s"}
    environment = world.town.environment(case.database, **told)
    logs = world.home / "storms"
    logs.mkdir()
    with ExitStack() as stack:
        workers = stack.enter_context(working(environment, logs, amount=_PROGRAMS))
        apis = [
            stack.enter_context(server("payments", "api", environment=environment, log=logs / f"api-{number}.log"))
            for number in range(_PROGRAMS)
        ]
        ports = [_port(url) for url, _ in apis]
        processes = [*(process for _, process in apis), *(worker.process for worker in workers)]
        yield Programs(Processes(ports, _port(case.pg.url)), processes, logs)


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
