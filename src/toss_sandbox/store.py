"""The sandbox's memory: one SQLite file that a killed process leaves whole, with a ledger nobody can rewrite."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

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
_NO_LIMIT: Final = -1  # as SQLite writes it
_EMPTIED: Final = ("payments", "calls", "answers", "faults", "switches")
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
        """Commit everything written inside at once, or nothing of it when the block raises."""
        with self._lock, self._flushed_commit():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def reset(self) -> None:
        """Forget everything, though a call that is still running keeps its id for itself."""
        with self._lock:
            for table in _EMPTIED:
                self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our own tables
            # The one way past the ledger's triggers.
            self._connection.execute("DROP TABLE ledger")
            self._connection.executescript(_SCHEMA)

    def save_payment(self, payment: Payment) -> None:
        self._write(
            "INSERT INTO payments (payment_key, order_id, status, document) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (payment_key) DO UPDATE SET status = excluded.status, document = excluded.document",
            payment.payment_key,
            payment.order_id,
            payment.status.value,
            PAYMENT_JSON.dump_json(payment).decode(),
        )

    def payment(self, payment_key: str) -> Payment | None:
        return next(self._payments("WHERE payment_key = ?", payment_key), None)

    def payments_of_order(self, order_id: str) -> list[Payment]:
        """Newest first."""
        return list(self._payments("WHERE order_id = ? ORDER BY sequence DESC", order_id))

    def newest_payments(self, limit: int) -> list[Payment]:
        return list(self._payments("ORDER BY sequence DESC LIMIT ?", limit))

    def unfinished_payments(self) -> list[Payment]:
        return list(self._payments("WHERE status IN ('READY', 'IN_PROGRESS')"))

    def append(self, movement: Movement) -> None:
        """Add to the ledger; belongs into the transaction that changes the payment."""
        self._write(
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
        rows = self._read(
            "SELECT kind, payment_key, order_id, amount, transaction_key, at FROM ledger"
            " WHERE ? IS NULL OR order_id = ? ORDER BY id",
            order_id,
            order_id,
        )
        return [Movement(*row) for row in rows]

    def begin_call(self, call: Call) -> int:
        """Note a request before anything is done about it; returns its id."""
        return self._write(
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
        self._write("UPDATE calls SET status = ?, code = ?, fault = ? WHERE id = ?", status, code, fault, call_id)

    def calls(self, *, order_id: str | None, payment_key: str | None, limit: int | None) -> list[Call]:
        """In the order in which they came; a limit keeps the newest."""
        rows = self._read(
            "SELECT id, method, path, order_id, payment_key, idempotency_key, test_code, status, code, fault, at"
            " FROM calls WHERE (? IS NULL OR order_id = ?) AND (? IS NULL OR payment_key = ?)"
            " ORDER BY id DESC LIMIT ?",
            order_id,
            order_id,
            payment_key,
            payment_key,
            _NO_LIMIT if limit is None else limit,
        )
        return [Call(*row) for row in reversed(rows)]

    def remember(self, identity: Identity, answer: Remembered, *, at: datetime) -> None:
        self._write(
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
        rows = self._read(
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
        return Fault(self._write("INSERT INTO faults (document) VALUES (?)", document), order)

    def faults(self) -> list[Fault]:
        """Oldest first."""
        rows = self._read("SELECT id, document FROM faults ORDER BY id")
        return [Fault(fault_id, _FAULT_JSON.validate_json(document)) for fault_id, document in rows]

    def use_up(self, fault: Fault) -> None:
        """Count one strike; the last one clears the fault."""
        if fault.order.times is None:
            return
        if fault.order.times == 1:
            self.drop_fault(fault.id)
            return
        left = replace(fault.order, times=fault.order.times - 1)
        self._write("UPDATE faults SET document = ? WHERE id = ?", _FAULT_JSON.dump_json(left).decode(), fault.id)

    def drop_fault(self, fault_id: int) -> None:
        self._write("DELETE FROM faults WHERE id = ?", fault_id)

    def drop_faults(self) -> None:
        self._write("DELETE FROM faults")

    def switch(self, name: str, *, default: float) -> float:
        rows = self._read("SELECT value FROM switches WHERE name = ?", name)
        return next((float(value) for (value,) in rows), default)

    def set_switch(self, name: str, value: float) -> None:
        self._write("INSERT OR REPLACE INTO switches VALUES (?, ?)", name, value)

    def _migrate(self) -> None:
        ((version,),) = self._read("PRAGMA user_version")
        if version < _VERSION:
            self._connection.executescript(_MIGRATION)

    @contextmanager
    def _flushed_commit(self) -> Iterator[None]:
        self._connection.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            self._connection.execute("PRAGMA synchronous = NORMAL")

    def _payments(self, clause: str, *values: object) -> Iterator[Payment]:
        rows = self._read(f"SELECT document FROM payments {clause}", *values)  # noqa: S608 - our own clauses
        return (PAYMENT_JSON.validate_json(document) for (document,) in rows)

    def _read(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def _write(self, statement: str, *values: object) -> int:
        with self._lock:
            return self._connection.execute(statement, values).lastrowid or 0
