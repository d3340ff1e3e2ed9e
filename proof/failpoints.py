"""Failpoints: every commit and every outside call of ours, where something can be made to happen.

They stand at the seams through which all of them go (the sessions, the hot path's connections, the gateways), so that
no line of the product knows of them, none can be forgotten, and they cost nothing where nothing is fitted. A point is
named by the function that commits or calls: `cancel>refund._ask.pg.refund.after` is the moment after the PG has
answered the refund that a cancel asks for.
"""

import ast
import asyncio
import inspect
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, Final, LiteralString, cast

import psycopg
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

import payments
from payments.db import Sessions
from payments.errors import DatabaseUnavailable
from payments.hot_path import HotPath
from payments.reserve import Reserve, Row
from payments.resources import Resources

SOURCE: Final = Path(payments.__file__).parent
COMMIT: Final = "commit"
BEFORE: Final = "before"
AFTER: Final = "after"
# Where things are decided: a commit or call that is made for none of these is no step of a payment.
_USECASES: Final = f"{SOURCE / 'usecases'}{os.sep}"
_JOBS: Final = str(SOURCE / "jobs.py")
_HOT: Final = str(SOURCE / "hot_path.py")
_OUTSIDE: Final = frozenset({"pg", "orders", "subscriber", "hot"})
_SEVERAL: Final = 2  # names before the call itself: `self.orders.find`


class Action(StrEnum):
    """What happens at a point."""

    KILL = "kill"  # SIGKILL: the process is gone, as with a power cut or the kernel's out-of-memory killer
    RAISE = "raise"  # the database goes away, or a bug of ours
    CANCEL = "cancel"  # the task is cancelled: a client that hung up, a shutdown, a timeout of somebody above
    FREEZE = "freeze"  # SIGSTOP until every lease is over and others have done the work


class Planted(Exception):
    """A bug that no code expects."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is to happen, where, and at which time that the point is come by."""

    point: str
    action: Action
    turn: int = 1
    is_outage: bool = True  # RAISE at a commit: whether the database went away, or a bug struck

    def __str__(self) -> str:
        return f"{self.point}@{self.turn}={self.action.value}{'' if self.is_outage else '!'}"

    @classmethod
    def read(cls, text: str) -> "Fault":
        """What `str` wrote.

        Raises:
            ValueError: it did not.
        """
        place, _, action = text.partition("=")
        point, _, turn = place.partition("@")
        return cls(point, Action(action.rstrip("!")), int(turn), is_outage=not action.endswith("!"))


@dataclass(slots=True)
class Failpoints:
    """The points of one process, and what happens at some of them."""

    armed: list[Fault] = field(default_factory=list)  # one after the other
    passes: Callable[[str], None] = lambda _: None  # is told of each point that is come by
    strikes: Callable[[], None] = lambda: None  # is told of each fault before it happens
    overtaken: Callable[[], int] = lambda: 0  # how many faults have struck others while it was frozen
    _times: Counter[str] = field(default_factory=Counter)

    async def reach(self, call: str, side: str) -> None:
        """Come by a point; what is armed there happens."""
        if (place := _place(sys._getframe(1))) is None:  # noqa: SLF001 - who called is what names a point
            return
        point = f"{place}.{call}.{side}"
        self.passes(point)
        self._times[point] += 1
        fault = self.armed[0] if self.armed else None
        if fault is not None and fault.point == point and self._times[point] >= fault.turn:
            self.strikes()
            del self.armed[0]
            await _strike(fault, is_commit=call == COMMIT)
            if fault.action is Action.FREEZE:
                del self.armed[: self.overtaken()]

    def fit(self, held: Resources) -> Resources:
        """The same resources with the points in between."""
        return replace(
            held,
            sessions=cast("Sessions", _Sessions(held.sessions, self)),
            hot=HotPath(_Reserve(held.settings.database_url.get_secret_value(), self)) if held.hot else None,
            pg=cast("Any", _Calls(held.pg, "pg", self)),
            orders=cast("Any", _Calls(held.orders, "orders", self)) if held.orders else None,
            subscriber=cast("Any", _Calls(held.subscriber, "subscriber", self)) if held.subscriber else None,
        )


async def _strike(fault: Fault, *, is_commit: bool) -> None:
    match fault.action:
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.FREEZE:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Action.CANCEL:
            task = asyncio.current_task()
            if task is not None:
                task.cancel()
            await asyncio.sleep(0)
        case Action.RAISE if is_commit and fault.is_outage:
            lost = psycopg.OperationalError("the connection is lost")
            raise OperationalError("COMMIT", None, lost, connection_invalidated=True)
        case Action.RAISE:
            raise Planted(fault.point)


class _Sessions:
    """As `Sessions`, as far as `db.transaction` needs it."""

    def __init__(self, sessions: Sessions, points: Failpoints) -> None:
        self._sessions = sessions
        self._points = points

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        async with self._sessions.begin() as session:
            yield session
            await self._points.reach(COMMIT, BEFORE)
        await self._points.reach(COMMIT, AFTER)


class _Reserve(Reserve):
    """The hot path's connections: each statement is a transaction of its own."""

    def __init__(self, url: str, points: Failpoints) -> None:
        super().__init__(url)
        self._points = points

    async def run_all(self, statement: LiteralString, parameters: Mapping[str, Any]) -> list[Row]:
        try:
            await self._points.reach(COMMIT, BEFORE)
            rows = await super().run_all(statement, parameters)
            await self._points.reach(COMMIT, AFTER)
        except OperationalError:
            raise DatabaseUnavailable from None
        return rows


class _Calls:
    """A gateway whose every call is between two points."""

    def __init__(self, gateway: object, name: str, points: Failpoints) -> None:
        self._gateway = gateway
        self._name = name
        self._points = points

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the gateway has
        found = getattr(self._gateway, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def _call(*arguments: object, **named: object) -> object:
            await self._points.reach(f"{self._name}.{name}", BEFORE)
            answer = await found(*arguments, **named)
            await self._points.reach(f"{self._name}.{name}", AFTER)
            return answer

        return _call


def _place(frame: FrameType | None) -> str | None:
    """Who is at it: the function of a use case or job, and before it the use case that asked for it."""
    found = [one for one in _frames(frame) if one.f_code.co_filename.startswith((_USECASES, _JOBS))]
    if not found:
        return None
    site, entry = _module(found[0]), _module(found[-1])
    function = found[0].f_code.co_name.removeprefix("<").removesuffix(">")
    return f"{site}.{function}" if entry == site else f"{entry}>{site}.{function}"


def _module(frame: FrameType) -> str:
    return Path(frame.f_code.co_filename).stem


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def site_of(point: str) -> str:
    """The function that a point stands in, and what it does there, without who asked for it and without the side."""
    return point.rpartition(".")[0].rpartition(">")[2]


def is_commit(point: str) -> bool:
    """Whether it is before or after a commit, and not an outside call."""
    return site_of(point).endswith(f".{COMMIT}")


def sites() -> set[str]:
    """Every commit and outside call that the source of the use cases and jobs has, as `site_of` names them."""
    files = [*(SOURCE / "usecases").glob("*.py"), SOURCE / "jobs.py"]
    return {site for file in files for site in _sites_of(file)}


def _sites_of(file: Path) -> Iterator[str]:
    for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(function, ast.AsyncFunctionDef):
            yield from (f"{file.stem}.{function.name}.{call}" for node in _own(function) for call in _call(node))


def _own(function: ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """What is done in a function, without what is done in the functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def _call(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.AsyncWith) and any("transaction(" in ast.unparse(one.context_expr) for one in node.items):
        yield COMMIT
    if isinstance(node, ast.Await) and isinstance(node.value, ast.Call):
        *_, owner, name = ["", *ast.unparse(node.value.func).split(".")][-_SEVERAL:]
        if owner.lstrip("_") == "hot":
            yield COMMIT
        elif owner.lstrip("_") in _OUTSIDE:
            yield f"{owner.lstrip('_')}.{name}"
