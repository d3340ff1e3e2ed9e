"""PostgreSQL servers of our own that are killed and started again: one alone, or a primary with its standby."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, LiteralString
from urllib.parse import quote

import psycopg
from sqlalchemy import make_url

from payments.local import guard
from payments.local.postgres import LocalPostgres, find_bindir

PATIENCE: Final = 30.0  # seconds for whatever a server does in one or two when nobody else is at work
_LOOK_EVERY: Final = 0.002
# By its own log and clock: the moment at which it takes connections that may write, not the one at which we notice.
_READY: Final = re.compile(
    r"^(\S+ \S+) UTC \[\d+\] LOG:  database system is ready to accept connections$", re.MULTILINE
)

_IS_BOUND: Final = (
    "SELECT count(*) FROM pg_stat_replication"
    " WHERE application_name = %s AND state = 'streaming' AND sync_state = 'sync'"
)
_HAS_APPLIED: Final = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
_IS_FED: Final = "SELECT count(*) FROM pg_stat_wal_receiver"


class Crash(StrEnum):
    """How a server ends without having finished anything."""

    IMMEDIATE = "immediate shutdown"
    KILLED = "kill -9 of everything"


class ClusterFailed(Exception):
    """A server did not do what the story needs; the message says what was awaited."""


@dataclass
class Server:
    """A server on a directory of its own, as durable as in production; what it has committed outlives every crash."""

    data: Path
    _running: LocalPostgres | None = field(default=None, repr=False)

    def start(self) -> float:
        """Start it, recover what a crash left, and wait; the moment since which it takes connections (`time.time`).

        A standby takes some that only read: its moment is 0 until it is promoted.
        """
        before = self._log_size()
        server = LocalPostgres(self.data)
        server.__enter__()
        self._running = server
        return self._ready_since(before) or 0.0

    def stop(self) -> None:
        """Stop it as is proper, if it runs; also forgets one that has crashed."""
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = None

    def crash(self, how: Crash) -> float:
        """End it in the middle of everything; a moment since which nothing of it is left (`time.time`)."""
        running, family = self._server, self._family()
        if how is Crash.IMMEDIATE:
            os.kill(family[0], signal.SIGQUIT)
        else:
            _kill_all(family)
        until(lambda: not running.is_running(), f"the end of a server by {how}")
        self.stop()
        return time.time()

    def freeze(self) -> float:
        """Let it say nothing any more, while its kernel goes on acknowledging; the moment of it (`time.time`)."""
        for pid in self._family():
            os.kill(pid, signal.SIGSTOP)
        return time.time()

    def destroy(self) -> None:
        """Stop it and remove all its files."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def url(self, database: str) -> str:
        """SQLAlchemy's address of a database."""
        return self._server.url(database)

    @property
    def sockets(self) -> str:
        """The directory by which clients find it."""
        return str(make_url(self.url("postgres")).query["host"])

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(libpq_url(self.url(database)), autocommit=True)

    def ask(self, query: LiteralString, *parameters: object) -> Any:  # noqa: ANN401 - what the query selects
        """The first column of the first row; None without one."""
        with self.connect() as connection:
            row = connection.execute(query, parameters or None).fetchone()
        return row[0] if row else None

    def create_database(self, name: str) -> None:
        self._server.create_database(name)

    def configure(self, **settings: str) -> None:
        """Change settings that need no start, for everybody at once; an empty text resets one."""
        with self.connect() as connection:
            for name, value in settings.items():
                verb = f"SET {name} = '{value}'" if value else f"RESET {name}"
                connection.execute(f"ALTER SYSTEM {verb}".encode())
            connection.execute("SELECT pg_reload_conf()")

    def promote(self) -> float:
        """Make a primary of a standby; the moment since which it takes writes (`time.time`)."""
        before = self._log_size()
        if not self.ask("SELECT pg_promote(true, %s)", int(PATIENCE)):
            raise ClusterFailed(f"a standby was not promoted within {PATIENCE:.0f} s")
        return float(until(lambda: self._ready_since(before), "a promoted server that takes connections"))

    def copy_to(self, data: Path) -> "Server":
        """A standby of this primary, from a base backup; it follows once it is started."""
        data.mkdir(mode=0o700, parents=True)
        backup = [str(find_bindir() / "pg_basebackup"), f"--pgdata={guard.cluster_of(data)}", "--write-recovery-conf"]
        backup += ["--checkpoint=fast", f"--dbname=user=postgres host={self.sockets} application_name={data.name}"]
        # The files belong to whoever runs the server, who is not root.
        subprocess.run([*guard.as_server_user(data), *backup], check=True, cwd=data)  # noqa: S603 - ours
        return Server(data)

    @property
    def _server(self) -> LocalPostgres:
        if self._running is None:
            raise ClusterFailed(f"the server of {self.data.name} does not run")
        return self._running

    def _family(self) -> list[int]:
        """The process ids of the server's first process and of all that it has started."""
        first = int((guard.cluster_of(self.data) / "postmaster.pid").read_text().split("\n", 1)[0])
        return [first, *_children_of(first)]

    def _log_size(self) -> int:
        log = guard.log_of(self.data)
        return log.stat().st_size if log.exists() else 0

    def _ready_since(self, offset: int) -> float | None:
        with guard.log_of(self.data).open("rb") as log:
            log.seek(offset)
            said = _READY.findall(log.read().decode(errors="replace"))
        return _moment(said[-1]) if said else None


def _moment(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp()


def _children_of(pid: int) -> list[int]:
    found = subprocess.run(["/bin/ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603
    return [int(word) for word in found.stdout.split()]


def _kill_all(pids: Sequence[int]) -> None:
    """The first of them first, or it would start others in the place of its children."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def libpq_url(url: str) -> str:
    """SQLAlchemy's address as psycopg itself takes it."""
    return url.replace("+psycopg", "", 1)


def until(claim: Callable[[], Any], what: str, *, within: float = PATIENCE) -> Any:  # noqa: ANN401 - the claim's
    """The first true answer.

    Raises:
        ClusterFailed: there was none in time.
    """
    ends = time.monotonic() + within
    while not (answer := claim()):
        if time.monotonic() > ends:
            raise ClusterFailed(f"not within {within:.0f} s: {what}")
        time.sleep(_LOOK_EVERY)
    return answer


@contextmanager
def open_server(data: Path) -> Iterator[Server]:
    """One server, running at first and gone at the end, whatever was done to it."""
    server = Server(data)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Pair:
    """A primary and a standby without which no commit is acknowledged; their roles change with every failover."""

    primary: Server
    standby: Server

    def url(self, database: str) -> str:
        """SQLAlchemy's address of whichever of them takes writes; it stays the same over all failovers."""
        hosts = quote(",".join(self._addresses()), safe=",")
        return f"postgresql+psycopg://postgres@/{quote(database, safe='')}?host={hosts}&target_session_attrs=read-write"

    def bind(self) -> None:
        """Acknowledge no commit from now on before the standby shows it, too; answers when it has caught up."""
        name = self.standby.data.name
        self.primary.configure(synchronous_standby_names=name, synchronous_commit="remote_apply")
        until(lambda: self.primary.ask(_IS_BOUND, name), "a synchronous standby")
        written = self.primary.ask("SELECT pg_current_wal_flush_lsn()::text")
        until(lambda: self.standby.ask(_HAS_APPLIED, written), "a standby that has caught up")

    def loosen(self) -> None:
        """Acknowledge every commit at once, whatever the standby has heard."""
        self.primary.configure(synchronous_standby_names="")

    def cut_off(self) -> None:
        """Let the standby hear nothing more. It must be loose before, or nothing would be acknowledged."""
        self.standby.configure(primary_conninfo="")
        until(lambda: not self.standby.ask(_IS_FED), "a standby that hears nothing")

    def fail_over(self, how: Crash) -> tuple[float, float]:
        """Crash the primary and promote the standby; when each of these was done (`time.time`).

        The new primary acknowledges alone until it is given a standby and `bind` is called.
        """
        crashed_at = self.primary.crash(how)
        return crashed_at, self.take_over()

    def take_over(self) -> float:
        """Promote the standby, whatever has become of the primary; the moment since which it takes writes."""
        self.standby.configure(synchronous_standby_names="")  # a copy of the old primary's, which would wait for itself
        writes_since = self.standby.promote()
        self.primary, self.standby = self.standby, self.primary
        return writes_since

    def replace_standby(self) -> None:
        """A fresh standby in the place of the server that crashed."""
        self.standby.destroy()
        self.standby = self.primary.copy_to(self.standby.data)
        self.standby.start()

    def _addresses(self) -> list[str]:
        # Not in the order of their roles, which change.
        return sorted([self.primary.sockets, self.standby.sockets])


@contextmanager
def open_pair(home: Path) -> Iterator[Pair]:
    """A primary and its standby, bound to each other; gone at the end, whatever was done to them."""
    primary = Server(home / "server_0")
    primary.start()
    pair = Pair(primary, Server(home / "server_1"))
    try:
        pair.replace_standby()
        pair.bind()
        yield pair
    finally:
        pair.primary.stop()
        pair.standby.stop()
