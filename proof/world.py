"""Everything around us: a private PostgreSQL, the PG with its own books, the shop with its own."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from shutil import rmtree
from typing import Any, Final

import httpx
import psycopg
from psycopg import sql
from psycopg.errors import DeadlockDetected
from pydantic import SecretStr
from tests.acceptance.worker_world import EVENTS_SECRET, Town, open_town
from tests.authorities import few_authorities
from tests.conftest import SHARED_MEMORY
from tests.integration.world import AMOUNT, settings_for
from tests.keys import let_in

from payments.local.postgres import LocalPostgres
from payments.schema import migrate
from payments.settings import Settings

WEBHOOK_SECRET: Final = "whsec-proof-9f1c27d05a6e4b83"  # noqa: S105 - of a PG that only this machine knows
_TEMPLATE: Final = "migrated"
# Longer than any lease (`Resources.pg_lease`, twice that for a request), and than a dead process's silence.
LEASES_ARE_OVER: Final = timedelta(seconds=70)
_TRIES: Final = 10
_READ_TIMEOUT: Final = timedelta(seconds=2)
_HOME: Final = "payments-proof-"
_LEFT_BEHIND: Final = (_HOME, "payments-planted-")
_TOO_NEW: Final = 60.0  # seconds: whoever has just made a directory may have nothing open in it yet

# The database ends whoever sleeps inside a transaction for 30 s (`db.CONNECT`); nobody waits for that here.
_END_SLEEPERS: Final = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'
"""
# Sessions of processes that were killed may still be carrying out what those asked last.
_END_EVERYBODY: Final = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_UNGUARDED: Final = "SET LOCAL session_replication_role = replica"  # no trigger guards the history from us
_TABLES: Final = """
SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename NOT IN ('api_keys', 'alembic_version')
"""
_TIMES: Final = """
SELECT table_name, array_agg(column_name::text) FROM information_schema.columns
WHERE table_schema = 'public' AND data_type = 'timestamp with time zone'
GROUP BY table_name
"""


@dataclass(frozen=True, slots=True)
class Pg:
    """What a story does to the PG (Toss's stand-in, a process of its own), past our programs."""

    http: httpx.Client

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    def reset(self) -> None:
        """Forget everything, faults included, and put the clock back."""
        self.http.post("/sandbox/reset").raise_for_status()

    def authenticate(self, order_id: str, amount: int = AMOUNT, **more: object) -> str:
        """A buyer goes through the payment window; the payment key of the redirect."""
        answer = self.http.post("/sandbox/payments", json={"orderId": order_id, "amount": amount, **more})
        return str(answer.raise_for_status().json()["paymentKey"])

    def act(self, payment_key: str, verb: str, **more: object) -> None:
        """The buyer, the bank, or somebody in the PG's console does something to a payment."""
        self.http.post(f"/sandbox/payments/{payment_key}/{verb}", json=more or None).raise_for_status()

    def arm(self, operation: str, kind: str, **more: object) -> None:
        """Let the next such call go wrong."""
        self.http.post("/sandbox/faults", json={"operation": operation, "kind": kind, **more}).raise_for_status()

    def faults_left(self) -> int:
        """How many armed faults have not struck yet."""
        return len(self.http.get("/sandbox/faults").raise_for_status().json()["faults"])

    def clear_faults(self) -> None:
        self.http.delete("/sandbox/faults").raise_for_status()

    def pass_time(self, by: timedelta) -> None:
        seconds = int(by.total_seconds())
        self.http.post("/sandbox/clock", json={"advanceSeconds": seconds}).raise_for_status()

    def ledger(self, order_id: str | None = None) -> dict[str, list[dict[str, Any]]]:
        """The money that moved: `captures`, `cancels`, `reversals`."""
        found = self.http.get("/sandbox/ledger", params=_of(order_id)).raise_for_status()
        ledger: dict[str, list[dict[str, Any]]] = found.json()
        return ledger

    def payments(self, order_id: str) -> list[dict[str, Any]]:
        """The Payment objects of an order, newest first."""
        found: list[dict[str, Any]] = (
            self.http.get("/sandbox/payments", params={"orderId": order_id}).raise_for_status().json()
        )
        return found

    def calls(self, order_id: str | None = None) -> list[dict[str, Any]]:
        """Every request about an order that reached the PG."""
        found: list[dict[str, Any]] = (
            self.http.get("/sandbox/calls", params=_of(order_id)).raise_for_status().json()["calls"]
        )
        return found


def _of(order_id: str | None) -> dict[str, str]:
    return {} if order_id is None else {"orderId": order_id}


@dataclass(frozen=True, slots=True)
class Case:
    """A fresh database of ours, and what its programs are told."""

    database: str  # SQLAlchemy's address
    settings: Settings
    pg: Pg

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.database.replace("+psycopg", "", 1), autocommit=True)

    def clear(self) -> None:
        """Empty every table, which is three times as quick as a new database: its sessions have to learn nothing."""
        with self.connect() as connection, connection.transaction():
            connection.execute(_END_EVERYBODY)
            connection.execute(_UNGUARDED)
            tables = [sql.Identifier(table) for (table,) in connection.execute(_TABLES).fetchall()]
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(tables)))

    def pass_time(self, by: timedelta = LEASES_ARE_OVER, *, alive: Sequence[int] = ()) -> None:
        """Let it be so much later, for our database and for the PG.

        The processes with these numbers live on meanwhile, and have said so; the others were silent all the time.

        Whatever is written down grows older, so that no session has to be ended to learn of it: a process that is
        frozen keeps its connections. Only what it left open is ended, as the database does by itself after 30 s.
        """
        for _ in range(_TRIES):
            # A process that was killed may still have its last statement carried out, which locks in its own order.
            with suppress(DeadlockDetected):
                self._age(by, alive)
                break
        else:
            raise TimeoutError("the database would not grow older")
        self.pg.pass_time(by)

    def _age(self, by: timedelta, alive: Sequence[int]) -> None:
        with self.connect() as connection:
            connection.execute(_END_SLEEPERS)
            with connection.transaction():
                connection.execute(_UNGUARDED)
                for table, columns in connection.execute(_TIMES).fetchall():
                    connection.execute(_aged(table, columns), {"by": by, "alive": [f"%:{pid}" for pid in alive]})


def _aged(table: str, columns: Sequence[str]) -> sql.Composed:
    older = [sql.SQL("{0} = {0} - %(by)s").format(sql.Identifier(column)) for column in columns]
    aged = sql.SQL("UPDATE {} SET {}").format(sql.Identifier(table), sql.SQL(", ").join(older))
    # A process's name ends with its number.
    return aged + sql.SQL(" WHERE name NOT LIKE ALL (%(alive)s::text[])") if table == "processes" else aged


@dataclass(frozen=True, slots=True)
class World:
    """One PostgreSQL, one PG, one shop; and one database of ours after the other."""

    home: Path
    postgres: LocalPostgres
    town: Town

    @property
    def pg(self) -> Pg:
        return Pg(self.town.pg.http)

    def settings(self, database: str, **more: object) -> Settings:
        """What our programs are told of this world; `more` as `Settings` has it."""
        told: dict[str, object] = {
            "orders_url": self.town.shop.api,
            "events_url": f"{self.town.shop.api}/events",
            "events_secrets": (SecretStr(EVENTS_SECRET),),
            "toss_read_timeout": _READ_TIMEOUT,
            "toss_webhook_secrets": (SecretStr(WEBHOOK_SECRET),),
            **more,
        }
        return Settings(**{**dict(settings_for(database, self.pg.url)), **told})

    @contextmanager
    def case(self, name: str = "story", **more: object) -> Iterator[Case]:
        """A database of this name with nothing in it, whatever was there before; the PG has forgotten as well."""
        if not self.postgres.database_exists(name):
            self.postgres.create_database(name, template=_TEMPLATE)
        self.pg.reset()
        database = self.postgres.url(name)
        case = Case(database, self.settings(database, **more), self.pg)
        case.clear()
        yield case


@contextmanager
def open_world(*, durable: bool = False) -> Iterator[World]:
    """The world, running. Without `durable` its database is in memory, and survives our processes but no machine."""
    parent = SHARED_MEMORY if SHARED_MEMORY.is_dir() and not durable else None
    with (
        tempfile.TemporaryDirectory(prefix=_HOME, dir=parent, ignore_cleanup_errors=True) as directory,
        few_authorities(Path(directory)),
        LocalPostgres(Path(directory, "pg"), durable=durable) as postgres,
        open_town(postgres, Path(directory), is_quiet=True) as town,
    ):
        postgres.create_database(_TEMPLATE)
        migrate(postgres.url(_TEMPLATE))
        let_in(postgres.url(_TEMPLATE))
        yield World(Path(directory), postgres, town)


def sweep() -> int:
    """Remove the directories of runs that were killed: memory, mostly; how many there were.

    What a living process works in, has open or was told of stays.
    """
    if not Path("/proc/self").exists():
        return 0  # nobody can tell
    parents = {parent.resolve() for parent in (SHARED_MEMORY, Path(tempfile.gettempdir())) if parent.is_dir()}
    found = [home for parent in parents for prefix in _LEFT_BEHIND for home in parent.glob(f"{prefix}*")]
    used = _used() if found else ""
    left = [home for home in found if str(home) not in used and not _is_new(home) and not _is_locked(home)]
    for home in left:
        rmtree(home, ignore_errors=True)
    return sum(not home.exists() for home in left)


def _used() -> str:
    """What all processes that we may look at work in, have open and were told of."""
    words = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended, or is none of ours
            words.append((process / "cmdline").read_bytes().replace(b"\0", b"\n").decode(errors="replace"))
            words.append(str((process / "cwd").readlink()))
            for opened in (process / "fd").iterdir():
                with suppress(OSError):
                    words.append(str(opened.readlink()))
    return "\n".join(words)


def _is_new(home: Path) -> bool:
    with suppress(OSError):
        return time.time() - home.stat().st_mtime < _TOO_NEW
    return True


def _is_locked(home: Path) -> bool:
    """Whether a database runs there, of a container perhaps whose processes we do not see."""
    for lock in home.glob("*/*.lock"):
        try:
            with lock.open() as opened:
                flock(opened, LOCK_EX | LOCK_NB)
        except OSError:
            return True
    return False
