"""Everything that is measured: a private PostgreSQL, our programs, and those that they are compared with."""

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg
from tests.keys import let_in

from bench.listings import Day
from bench.load import HOST, MeasurementFailed
from bench.stand_in import DELAY
from bench.traffic import SHOP, WEBHOOK_SECRET
from payments.business_day import yesterday
from payments.local import guard
from payments.local.postgres import LocalPostgres
from payments.schema import migrate

STAND_IN_PORT: Final = 28_100
IDIOM_PORT: Final = 28_200
API_PORT: Final = 28_000
PG_URL: Final = f"http://{HOST}:{STAND_IN_PORT}"
_CLUSTER: Final = "postgres"
_TEMPLATE: Final = "migrated"
_NEVER_LIMITED: Final = "1000000/second"
_START_PATIENCE: Final = 30.0
_END_PATIENCE: Final = 20.0
_LOOK_EVERY: Final = 0.005
_LOG_BYTES_SHOWN: Final = 2000


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs and listens, or just runs."""

    pid: int
    start_seconds: float  # until it answered


@dataclass(frozen=True, slots=True)
class World:
    """The server that all databases of a run are on, the PG beside it, and a directory for what programs write."""

    home: Path
    postgres: LocalPostgres
    stand_in: Program
    yesterday: Day  # which the PG and the order service have books of

    @property
    def postmaster(self) -> int:
        """The process id of PostgreSQL's first process."""
        pidfile = guard.cluster_of(self.home / _CLUSTER) / "postmaster.pid"
        return int(pidfile.read_text().split("\n", 1)[0])

    @property
    def sockets(self) -> str:
        """The directory by which clients find the server."""
        with self.connect("postgres") as connection:
            return connection.info.host

    def connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(libpq_url(self.postgres.url(database)), autocommit=True)

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A migrated database that knows our API key, for as long as the block lasts; answers its name."""
        self.postgres.create_database(name, template=_TEMPLATE)
        try:
            yield name
        finally:
            self.postgres.drop_database(name)

    @contextmanager
    def apis(self, database: str, ports: Sequence[int]) -> Iterator[list[Program]]:
        """One process of our API on a database for each port."""
        with ExitStack() as stack:
            yield [stack.enter_context(self._api(database, port)) for port in ports]

    @contextmanager
    def worker(self, database: str) -> Iterator[Program]:
        """One worker of ours, whom the PG does not hold back."""
        arguments = ["payments", "worker"]
        with run_program(arguments, self.home / "worker.log", environment=self.environment(database)) as worker:
            yield worker

    @contextmanager
    def idiom(self) -> Iterator[Program]:
        """The reference program, on a database of its own."""
        self.postgres.create_database("idiom")
        environment = {"IDIOM_DATABASE_URL": self.postgres.url("idiom"), "IDIOM_PG_URL": PG_URL}
        arguments = ["bench.idiom", "--port", str(IDIOM_PORT)]
        log = self.home / "idiom.log"
        with run_program(arguments, log, environment=environment, port=IDIOM_PORT) as idiom:
            yield idiom
        self.postgres.drop_database("idiom")

    def environment(self, database: str) -> dict[str, str]:
        """What our programs are told."""
        return {
            "ENVIRONMENT": "local",
            "DATABASE_URL": self.postgres.url(database),
            "TOSS_API_URL": PG_URL,
            "TOSS_CLIENT_KEY": "test_ck_sandbox0000000000000000000000",
            "TOSS_SECRET_KEY": "test_sk_sandbox0000000000000000000000",
            "TOSS_WORKER_RATE": "10000",
            "TOSS_WEBHOOK_SECRETS": WEBHOOK_SECRET,
            "ALLOWED_ORIGINS": SHOP,
            "RATE_LIMIT_BUYERS": _NEVER_LIMITED,
            "RATE_LIMIT_CLIENTS": _NEVER_LIMITED,
            "RATE_LIMIT_WEBHOOKS": _NEVER_LIMITED,
        }

    def _api(self, database: str, port: int) -> AbstractContextManager[Program]:
        arguments = ["payments", "api", "--port", str(port)]
        log = self.home / f"api-{port}.log"
        return run_program(arguments, log, environment=self.environment(database), port=port)


@contextmanager
def open_world(*, payments_of_day: int) -> Iterator[World]:
    """A PostgreSQL that survives a crash, as in production, with a migrated database to copy; and the stand-in."""
    day = Day(yesterday(datetime.now(UTC)), payments_of_day)
    with (
        tempfile.TemporaryDirectory(prefix="payments-bench-") as home,
        LocalPostgres(Path(home, _CLUSTER)) as postgres,
        _run_stand_in(Path(home), day) as stand_in,
    ):
        postgres.create_database(_TEMPLATE)
        migrate(postgres.url(_TEMPLATE))
        let_in(postgres.url(_TEMPLATE))
        yield World(Path(home), postgres, stand_in, day)


@contextmanager
def run_program(
    arguments: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, port: int | None = None
) -> Iterator[Program]:
    """Run a module of ours until the block ends; with a port, wait until it answers HTTP.

    Raises:
        MeasurementFailed: it did not start.
    """
    began = time.perf_counter()
    with log.open("wb") as said:
        process = subprocess.Popen(  # noqa: S603 - programs of ours
            [sys.executable, "-m", *arguments], env={**os.environ, **(environment or {})}, stdout=said, stderr=said
        )
    try:
        if port is not None:
            _wait_for(process, port, ends=began + _START_PATIENCE)
        yield Program(process.pid, time.perf_counter() - began)
    except MeasurementFailed as failed:
        failed.add_note(f"The end of {log.name}:\n{log.read_bytes()[-_LOG_BYTES_SHOWN:].decode(errors='replace')}")
        raise
    finally:
        _end(process)


def libpq_url(url: str) -> str:
    """SQLAlchemy's address as psycopg itself takes it."""
    return url.replace("+psycopg", "", 1)


def _run_stand_in(home: Path, day: Day) -> AbstractContextManager[Program]:
    books = ["--day", day.day.isoformat(), "--payments", str(day.payments)]
    arguments = ["bench.stand_in", "--port", str(STAND_IN_PORT), *books]
    return run_program(arguments, home / "stand-in.log", port=STAND_IN_PORT)


def set_pg_delay(milliseconds: int) -> None:
    """Have the stand-in answer so much later from now on."""
    if _get(STAND_IN_PORT, f"{DELAY}{milliseconds}") != http.client.OK:
        raise MeasurementFailed("the stand-in does not take its delay")


def _wait_for(process: subprocess.Popen[bytes], port: int, *, ends: float) -> None:
    while not _answers(port):
        if process.poll() is not None or time.perf_counter() > ends:
            raise MeasurementFailed(f"nobody answers on port {port}")
        time.sleep(_LOOK_EVERY)


def _answers(port: int) -> bool:
    try:
        _get(port, "/health/live")
    except (OSError, http.client.HTTPException):
        return False
    return True


def _get(port: int, target: str) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
