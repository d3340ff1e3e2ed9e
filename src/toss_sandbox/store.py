"""The sandbox's memory: one SQLite file that a killed process leaves whole, with a ledger nobody can rewrite."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from toss_sandbox.clock import toss_time
from toss_sandbox.faults import Fault, FaultOrder
from toss_sandbox.payments import PAYMENT_JSON, Payment

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS payments (
    sequence INTEGER PRIMARY KEY,
    payment_key TEXT NOT NULL UNIQUE,
    order_id TEXT NOT NULL,
    status TEXT NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS payments_by_order ON payments (order_id);
CREATE INDEX IF NOT EXISTS payments_by_status ON payments (status);
CREATE INDEX IF NOT EXISTS payments_by_running_clock ON payments (
    status, coalesce(json_extract(document, '$.authenticated_at'), json_extract(document, '$.requested_at'))
) WHERE status IN ('READY', 'IN_PROGRESS');
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('capture', 'reversal', 'cancel')),
    payment_key TEXT NOT NULL,
    order_id TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    transaction_key TEXT NOT NULL UNIQUE,
    at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ledger_by_order ON ledger (order_id);
CREATE INDEX IF NOT EXISTS ledger_by_payment ON ledger (payment_key);
CREATE INDEX IF NOT EXISTS ledger_by_time ON ledger (at);
CREATE TRIGGER IF NOT EXISTS ledger_keeps_rows BEFORE DELETE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS ledger_keeps_values BEFORE UPDATE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    order_id TEXT,
    payment_key TEXT,
    idempotency_key TEXT,
    test_code TEXT,
    status INTEGER,
    code TEXT,
    fault TEXT,
    at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS calls_by_order ON calls (order_id);
CREATE INDEX IF NOT EXISTS calls_by_payment ON calls (payment_key);
CREATE TABLE IF NOT EXISTS answers (
    idempotency_key TEXT NOT NULL,
    client_key TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    trace_id TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (idempotency_key, client_key, method, path)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS faults (id INTEGER PRIMARY KEY AUTOINCREMENT, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS switches (name TEXT PRIMARY KEY, value REAL NOT NULL);
CREATE TABLE IF NOT EXISTS webhooks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    transmission_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    order_id TEXT,
    payment_key TEXT,
    status TEXT,
    created_at TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('WAITING', 'DELIVERED', 'FAILED', 'LOST')),
    next_attempt_at REAL,
    retried INTEGER NOT NULL DEFAULT 0,
    copies INTEGER NOT NULL,
    schedule INTEGER NOT NULL DEFAULT 1,
    fault TEXT,
    attempts TEXT NOT NULL DEFAULT '[]',
    headers TEXT
);
CREATE INDEX IF NOT EXISTS webhooks_by_order ON webhooks (order_id);
CREATE INDEX IF NOT EXISTS webhooks_by_payment ON webhooks (payment_key);
CREATE INDEX IF NOT EXISTS webhooks_due ON webhooks (next_attempt_at)
    WHERE state = 'WAITING' AND next_attempt_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS webhook_faults (id INTEGER PRIMARY KEY AUTOINCREMENT, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS webhook_switches (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_VERSION: Final = 1
# Files of before had a ledger that knows no reversals; its constraint cannot be altered, only its table replaced.
_MIGRATION: Final = f"""
BEGIN IMMEDIATE;
CREATE TEMP TABLE kept AS SELECT * FROM ledger;
DROP TABLE ledger;
{_SCHEMA}
INSERT INTO ledger SELECT * FROM kept;
DROP TABLE kept;
PRAGMA user_version = {_VERSION};
COMMIT;
"""  # noqa: S608 - our own tables
NO_LIMIT: Final = -1
"""As SQLite writes it."""

_EMPTIED: Final = (
    *("payments", "calls", "answers", "faults", "switches"),
    *("webhooks", "webhook_faults", "webhook_switches"),
)
_FAULT_JSON: Final = TypeAdapter(FaultOrder)


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that moved. Rows of the ledger are only ever added."""

    kind: str
    payment_key: str
    order_id: str
    amount: int
    transaction_key: str
    at: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the Toss API; `status` stays None when no answer was sent."""

    id: int
    method: str
    path: str
    order_id: str | None
    payment_key: str | None
    idempotency_key: str | None
    test_code: str | None
    status: int | None
    code: str | None
    fault: str | None
    at: str


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two requests one under an idempotency key; the body is not part of it."""

    idempotency_key: str
    client_key: str
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """The first answer under an idempotency key."""

    status: int
    body: bytes
    trace_id: str


class Store:
    """Reads and writes of one SQLite database, serialised.

    What is written in `transaction()` survives a power cut. A single write outside of it commits by itself and
    survives a killed process, which costs no wait for the disk.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_SCHEMA)
        self._migrate()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything written inside at once, or nothing of it when the block raises.

        Inside another one it is a part of that, which commits.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            with self._new_transaction():
                yield

    def reset(self) -> None:
        """Forget everything, though a call that is still running keeps its id for itself."""
        with self._lock:
            for table in _EMPTIED:
                self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own tables
            # The one way past the ledger's triggers.
            self._connection.execute("DROP TABLE ledger")
            self._connection.executescript(_SCHEMA)

    def read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def write(self, statement: str, *values: object) -> int:
        """Change something, in the open transaction where there is one; returns the id of a new row."""
        with self._lock:
            return self._connection.execute(statement, values).lastrowid or 0

    def save_payment(self, payment: Payment) -> None:
        self.write(
            "INSERT INTO payments (payment_key, order_id, status, document) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (payment_key) DO UPDATE SET status = excluded.status, document = excluded.document",
            payment.payment_key,
            payment.order_id,
            payment.status.value,
            PAYMENT_JSON.dump_json(payment).decode(),
        )

    def has_payment(self, payment_key: str) -> bool:
        return bool(self.read("SELECT 1 FROM payments WHERE payment_key = ?", payment_key))

    def payment(self, payment_key: str) -> Payment | None:
        return next(self._payments("WHERE payment_key = ?", payment_key), None)

    def payments_of_order(self, order_id: str) -> list[Payment]:
        """Newest first."""
        return list(self._payments("WHERE order_id = ? ORDER BY sequence DESC", order_id))

    def newest_payments(self, limit: int) -> list[Payment]:
        return list(self._payments("ORDER BY sequence DESC LIMIT ?", limit))

    def overdue_payments(self, *, opened_before: datetime, authenticated_before: datetime) -> list[Payment]:
        """Those whose running clock began before the moment that is meant for it; the longest running first."""
        # The conditions of the index, which unfinished payments alone have to pay for.
        clock = "coalesce(json_extract(document, '$.authenticated_at'), json_extract(document, '$.requested_at'))"
        begun = {"READY": opened_before, "IN_PROGRESS": authenticated_before}
        return [
            payment
            for status, before in begun.items()
            for payment in self._payments(
                f"WHERE status = '{status}' AND status IN ('READY', 'IN_PROGRESS') AND {clock} <= ? ORDER BY {clock}",
                _utc_text(before),
            )
        ]

    def append(self, movement: Movement) -> None:
        """Add to the ledger; belongs into the transaction that changes the payment."""
        self.write(
            "INSERT INTO ledger (kind, payment_key, order_id, amount, transaction_key, at) VALUES (?, ?, ?, ?, ?, ?)",
            movement.kind,
            movement.payment_key,
            movement.order_id,
            movement.amount,
            movement.transaction_key,
            movement.at,
        )

    def movements(self, order_id: str | None) -> list[Movement]:
        """In the order in which the money moved."""
        rows = self.read(
            "SELECT kind, payment_key, order_id, amount, transaction_key, at FROM ledger"
            " WHERE ? IS NULL OR order_id = ? ORDER BY id",
            order_id,
            order_id,
        )
        return [Movement(*row) for row in rows]

    def entries(
        self, since: str, until: str, *, after: tuple[str, int] = ("", 0), limit: int
    ) -> list[tuple[Movement, Payment]]:
        """What moved between two moments, both included, with its payment; by time, beyond the place `after`."""
        return self._entries(
            "WHERE ledger.at BETWEEN ? AND ? AND (ledger.at, ledger.id) > (?, ?) ORDER BY ledger.at, ledger.id LIMIT ?",
            *(since, until, *after, limit),
        )

    def settled_entries(self, since: str, until: str, *, limit: int, offset: int) -> list[tuple[Movement, Payment]]:
        """What moved between two moments, both included, and stayed; a deposit that was taken back did not."""
        return self._entries(
            "WHERE ledger.at BETWEEN ? AND ? AND ledger.kind <> 'reversal' AND coalesce("
            "(SELECT next.kind FROM ledger AS next WHERE next.payment_key = ledger.payment_key AND next.id > ledger.id"
            " ORDER BY next.id LIMIT 1), '') <> 'reversal'"
            " ORDER BY ledger.at, ledger.id LIMIT ? OFFSET ?",
            *(since, until, limit, offset),
        )

    def place_of(self, transaction_key: str) -> tuple[str, int] | None:
        """Where an entry of the ledger stands, by time."""
        rows = self.read("SELECT at, id FROM ledger WHERE transaction_key = ?", transaction_key)
        return next(((at, entry_id) for at, entry_id in rows), None)

    def begin_call(self, call: Call) -> int:
        """Note a request before anything is done about it; returns its id."""
        return self.write(
            "INSERT INTO calls (method, path, order_id, payment_key, idempotency_key, test_code, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            call.method,
            call.path,
            call.order_id,
            call.payment_key,
            call.idempotency_key,
            call.test_code,
            call.at,
        )

    def end_call(self, call_id: int, *, status: int | None, code: str | None, fault: str | None) -> None:
        self.write("UPDATE calls SET status = ?, code = ?, fault = ? WHERE id = ?", status, code, fault, call_id)

    def calls(self, *, order_id: str | None, payment_key: str | None, limit: int | None) -> list[Call]:
        """In the order in which they came; a limit keeps the newest."""
        rows = self.read(
            "SELECT id, method, path, order_id, payment_key, idempotency_key, test_code, status, code, fault, at"
            " FROM calls WHERE (? IS NULL OR order_id = ?) AND (? IS NULL OR payment_key = ?)"
            " ORDER BY id DESC LIMIT ?",
            order_id,
            order_id,
            payment_key,
            payment_key,
            NO_LIMIT if limit is None else limit,
        )
        return [Call(*row) for row in reversed(rows)]

    def remember(self, identity: Identity, answer: Remembered, *, at: datetime) -> None:
        self.write(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            identity.idempotency_key,
            identity.client_key,
            identity.method,
            identity.path,
            answer.status,
            answer.body,
            answer.trace_id,
            at.timestamp(),
        )

    def remembered(self, identity: Identity, *, since: datetime) -> Remembered | None:
        rows = self.read(
            "SELECT status, body, trace_id FROM answers WHERE idempotency_key = ? AND client_key = ?"
            " AND method = ? AND path = ? AND at > ?",
            identity.idempotency_key,
            identity.client_key,
            identity.method,
            identity.path,
            since.timestamp(),
        )
        return next((Remembered(*row) for row in rows), None)

    def add_fault(self, order: FaultOrder) -> Fault:
        document = _FAULT_JSON.dump_json(order).decode()
        return Fault(self.write("INSERT INTO faults (document) VALUES (?)", document), order)

    def faults(self) -> list[Fault]:
        """Oldest first."""
        rows = self.read("SELECT id, document FROM faults ORDER BY id")
        return [Fault(fault_id, _FAULT_JSON.validate_json(document)) for fault_id, document in rows]

    def use_up(self, fault: Fault) -> None:
        """Count one strike; the last one clears the fault."""
        if fault.order.times is None:
            return
        if fault.order.times == 1:
            self.drop_fault(fault.id)
            return
        left = replace(fault.order, times=fault.order.times - 1)
        self.write("UPDATE faults SET document = ? WHERE id = ?", _FAULT_JSON.dump_json(left).decode(), fault.id)

    def drop_fault(self, fault_id: int) -> None:
        self.write("DELETE FROM faults WHERE id = ?", fault_id)

    def drop_faults(self) -> None:
        self.write("DELETE FROM faults")

    def switch(self, name: str, *, default: float) -> float:
        rows = self.read("SELECT value FROM switches WHERE name = ?", name)
        return next((float(value) for (value,) in rows), default)

    def set_switch(self, name: str, value: float) -> None:
        self.write("INSERT OR REPLACE INTO switches VALUES (?, ?)", name, value)

    def _migrate(self) -> None:
        ((version,),) = self.read("PRAGMA user_version")
        if version < _VERSION:
            self._connection.executescript(_MIGRATION)

    @contextmanager
    def _new_transaction(self) -> Iterator[None]:
        with self._flushed_commit():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def _flushed_commit(self) -> Iterator[None]:
        self._connection.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def _payments(self, clause: str, *values: object) -> Iterator[Payment]:
        rows = self.read(f"SELECT document FROM payments {clause}", *values)  # noqa: S608 - our own clauses
        return (PAYMENT_JSON.validate_json(document) for (document,) in rows)

    def _entries(self, clause: str, *values: object) -> list[tuple[Movement, Payment]]:
        columns = ", ".join(f"ledger.{field.name}" for field in fields(Movement))
        rows = self.read(
            f"SELECT {columns}, document FROM ledger JOIN payments USING (payment_key) {clause}",  # noqa: S608 - ours
            *values,
        )
        return [(Movement(*columns), PAYMENT_JSON.validate_json(document)) for *columns, document in rows]


def movement(kind: str, payment: Payment, amount: int, *, at: datetime) -> Movement:
    """Money that the payment's last transaction moved."""
    return Movement(
        kind=kind,
        payment_key=payment.payment_key,
        order_id=payment.order_id,
        amount=amount,
        transaction_key=payment.last_transaction_key or "",
        at=toss_time(at),
    )


def _utc_text(at: datetime) -> str:
    """A moment as the payments' documents have it."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
