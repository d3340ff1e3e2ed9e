"""The hot path: what a buyer waits for, each step as one statement that is a transaction of its own.

The plain path (`db.transaction`, SQLAlchemy's unit of work) can do everything; this one knows the usual case alone, and
whatever is not usual finds nothing here and is left to it. The rules stay where they are: a payment's methods decide
what changes, and here it is only written down, if nobody has changed the payment since. `test_hot_path` shows that
both leave the same rows. Measured, with 16 clients: 0.85 ms of CPU for a confirm instead of 5.2 (docs/performance.md).
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import partial
from types import FunctionType
from typing import Any, Final, NamedTuple, cast

from payments.ids import new_id
from payments.inbox import Incoming
from payments.leases import Lease
from payments.models import AskedAbout, Move, Payment
from payments.outbox import payload_of
from payments.records import EventType
from payments.reserve import Reserve, Row, Turns
from payments.roles import FROZEN
from payments.states import PaymentMethod, PaymentStatus

_COLUMNS: Final = tuple(column.name for column in Payment.__table__.columns)
_ALL: Final = ", ".join(f"payments.{name}" for name in _COLUMNS)
# All but what is written once, when the payment is prepared, and the version, which is the guard.
_CHANGEABLE: Final = ", ".join(name for name in _COLUMNS if name not in FROZEN["payments"] | {"version"})
_MOVE: Final = tuple(field.name for field in fields(Move))
_AS_JSON: Final = json.JSONEncoder(default=str)  # times and ids as PostgreSQL reads them
# The rules of a payment without SQLAlchemy's bookkeeping of every attribute that is read or set, which a payment of no
# session has no use for: 0.08 ms of a confirm.
_Free: Final = type(
    "FreePayment",
    (),
    {
        name: member
        for kind in (AskedAbout, Payment)
        for name, member in vars(kind).items()
        if isinstance(member, FunctionType | property) and name != "__init__"
    },
)
# Shares of the connections. A rush of new confirms leaves some to those that the PG has answered, and both leave some
# to everybody else. More at the same time would be slower: they would only keep each other waiting.
BEGIN_AT_ONCE: Final = 3
WRITE_AT_ONCE: Final = 3
# Goes on while the machine is suspended, where the system has such a clock; the database's does as well.
_seconds: Final[Callable[[], float]] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic
)
_CLOCK_GOOD_FOR: Final = timedelta(seconds=1)
_READ: Final = {"status": PaymentStatus, "method": PaymentMethod}

# A new payment, if its order has none yet.
PREPARE: Final = f"""
WITH made AS (
  INSERT INTO payments ({", ".join(_COLUMNS)})
  SELECT {", ".join(_COLUMNS)} FROM jsonb_populate_record(NULL::payments, %(payment)s::jsonb)
  ON CONFLICT (order_id) DO NOTHING
  RETURNING id
), moved AS (
  INSERT INTO payment_events (payment_id, {", ".join(_MOVE)})
  SELECT made.id, {", ".join(f"moves.{name}" for name in _MOVE)}
  FROM made, jsonb_populate_recordset(NULL::payment_events, %(moves)s::jsonb) AS moves
)
SELECT id FROM made
"""  # noqa: S608 - names of our own columns

# `begin_confirm` of a first attempt. Later attempts, which have a history of keys, take the plain path.
BEGIN_CONFIRM: Final = f"""
WITH begun AS (
  UPDATE payments
  SET status = 'PENDING', payment_key = %(payment_key)s, confirm_key = %(confirm_key)s, pending_since = now(),
      next_check_at = now() + %(lease)s, held_by = %(holder)s, check_count = 0, last_sequence = last_sequence + 1,
      version = version + 1
  WHERE order_id = %(order_id)s AND status = 'CREATED' AND attempt = 1 AND amount = %(amount)s
    AND (%(buyer)s::text IS NULL OR owner = %(buyer)s::text)
  RETURNING {_ALL}
), moved AS (
  INSERT INTO payment_events (payment_id, sequence, from_status, to_status, cause, attempt, payment_key, at)
  SELECT id, last_sequence, 'CREATED', 'PENDING', 'api', attempt, payment_key, now() FROM begun
)
SELECT now(), begun.* FROM begun
"""  # noqa: S608 - names of our own columns

# What has changed, the new rows of the history and the message come as JSON: three values instead of seventy, each of
# which the driver would look at.
WRITE: Final = f"""
WITH kept AS (
  UPDATE payments
  SET version = version + 1, ({_CHANGEABLE}) =
    (SELECT {_CHANGEABLE} FROM jsonb_populate_record(payments, %(changes)s::jsonb))
  WHERE id = %(id)s AND version = %(version)s
  RETURNING id
), moved AS (
  INSERT INTO payment_events (payment_id, {", ".join(_MOVE)})
  SELECT kept.id, {", ".join(f"moves.{name}" for name in _MOVE)}
  FROM kept, jsonb_populate_recordset(NULL::payment_events, %(moves)s::jsonb) AS moves
), told AS (
  INSERT INTO outbox_messages
    (id, payment_id, sequence, type, payload, created_at, transaction_id, attempts, next_attempt_at, awaits_receiver)
  SELECT %(message_id)s, kept.id, %(sequence)s, %(type)s, %(payload)s::jsonb, %(at)s,
    greatest((pg_current_xact_id()::text)::bigint,
      (SELECT max(earlier.transaction_id) FROM outbox_messages AS earlier WHERE earlier.payment_id = kept.id)),
    0, %(at)s, false
  FROM kept
)
SELECT id FROM kept
"""  # noqa: S608 - names of our own columns

# `queries.claim_unresolved`
CLAIM_UNRESOLVED: Final = f"""
WITH due AS (
  SELECT id FROM payments WHERE status = 'PENDING' AND next_check_at <= now()
  ORDER BY next_check_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE payments
SET next_check_at = now() + %(lease)s, held_by = %(holder)s, version = version + 1
FROM due WHERE payments.id = due.id
RETURNING now(), {_ALL}
"""  # noqa: S608 - names of our own columns

# A payment that nothing was ever to be given back of; one with refunds is read the plain way.
FIND: Final = f"""
SELECT {_ALL} FROM payments
WHERE order_id = %(order_id)s AND NOT EXISTS (SELECT FROM refunds WHERE refunds.payment_id = payments.id)
"""  # noqa: S608 - names of our own columns

# `queries.valid_api_key`
VALID_API_KEY: Final = """
SELECT name, key_hash, scopes, refund_limit FROM api_keys
WHERE prefix = %(prefix)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""

# `inbox.store` and `inbox.webhook_secret`
STORE_WEBHOOK: Final = """
INSERT INTO received_webhooks
  (id, dedupe_key, event_type, order_id, payment_key, transaction_key, status, transmission_id, verified_by, body,
   received_at, attempts, next_attempt_at)
VALUES
  (%(id)s, %(dedupe_key)s, %(event_type)s, %(order_id)s, %(payment_key)s, %(transaction_key)s, %(status)s,
   %(transmission_id)s, %(verified_by)s, %(body)s, now(), 0, now())
ON CONFLICT (dedupe_key) DO NOTHING
RETURNING id
"""
PROOF_BY_ORDER: Final = "SELECT webhook_secret FROM payments WHERE order_id = %(order_id)s"
PROOF_BY_KEY: Final = "SELECT webhook_secret FROM payments WHERE payment_key = %(payment_key)s"


@dataclass(frozen=True, slots=True)
class Clock:
    """A moment by the database's clock, and the same moment by this process's own, which only measures what passed."""

    told: datetime
    heard_at: float

    def now(self) -> datetime:
        return self.told + timedelta(seconds=_seconds() - self.heard_at)


@dataclass(frozen=True, slots=True)
class Held:
    """A payment that this process holds, as it was committed, and the database's clock at that moment."""

    payment: Payment  # of no session
    clock: Clock


class ValidKey(NamedTuple):
    """What an API key may do that is neither revoked nor over."""

    name: str
    key_hash: bytes
    scopes: list[str]
    refund_limit: int | None


class HotPath:
    """The statements, on the connections of one process."""

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        self._beginners = Turns(BEGIN_AT_ONCE)
        self._writers = Turns(WRITE_AT_ONCE)
        self._clock = Clock(datetime.min.replace(tzinfo=UTC), float("-inf"))

    async def now(self) -> datetime:
        """The time by the database's clock, which is asked once a second.

        Raises:
            DatabaseUnavailable, DatabaseRefused: as `db.transaction`.
        """
        if _seconds() > self._clock.heard_at + _CLOCK_GOOD_FOR.total_seconds():
            (told,) = await self._reserve.run("SELECT now()", {}) or (None,)
            self._clock = Clock(told, _seconds())
        return self._clock.now()

    async def prepare(self, payment: Payment) -> bool:
        """Commit a new payment that no session knows; False if its order has one already.

        Raises:
            ConcurrentUpdate, DatabaseUnavailable, DatabaseRefused: as `db.transaction`.
        """
        payment.version = 1
        new = {name: getattr(payment, name) for name in _COLUMNS}
        written = {"payment": _AS_JSON.encode(new), "moves": _as_json(payment.new_moves)}
        return await self._reserve.run(PREPARE, written) is not None

    async def find(self, order_id: str) -> Payment | None:
        """The payment of an order, to be shown; None if there is none, or it has refunds, which are shown with it.

        Raises:
            DatabaseUnavailable, DatabaseRefused: as `db.transaction`.
        """
        row = await self._reserve.run(FIND, {"order_id": order_id})
        return _payment(row) if row else None

    async def valid_api_key(self, prefix: str) -> ValidKey | None:
        """The same as `queries.valid_api_key`.

        Raises:
            DatabaseUnavailable, DatabaseRefused: as `db.transaction`.
        """
        row = await self._reserve.run(VALID_API_KEY, {"prefix": prefix})
        return ValidKey(*row) if row else None

    async def begin_confirm(
        self, order_id: str, payment_key: str, amount: int, *, buyer: str | None, confirm_key: str, lease: Lease
    ) -> Held | None:
        """`Payment.begin_confirm` of a first attempt, committed; None if there is anything else to say to this.

        Raises:
            PaymentKeyMismatch: another order has this key.
            ConcurrentUpdate, DatabaseUnavailable, DatabaseRefused: as `db.transaction`.
        """
        wanted = {
            "order_id": order_id,
            "payment_key": payment_key,
            "amount": amount,
            "buyer": buyer,
            "confirm_key": confirm_key,
            "lease": lease.length,
            "holder": lease.holder,
        }
        async with self._beginners:
            row = await self._reserve.run(BEGIN_CONFIRM, wanted)
        return _held(row) if row else None

    async def write(self, payment: Payment, event_type: EventType, *, since: Held, at: datetime) -> bool:
        """Commit what was done to a copy of a held payment, its new history, and the message that tells of it.

        False if the payment has been changed by somebody else since it was held; nothing is written then.

        Raises:
            ConcurrentUpdate, DatabaseUnavailable, DatabaseRefused: as `db.transaction`.
        """
        before = since.payment
        changes = {name: value for name in _COLUMNS if (value := getattr(payment, name)) != getattr(before, name)}
        payment.version += 1
        written = {
            "id": payment.id,
            "version": before.version,
            "changes": _AS_JSON.encode(changes),
            "moves": _as_json(payment.new_moves),
            "message_id": new_id(),
            "sequence": payment.last_sequence,
            "type": event_type.value,
            "payload": _AS_JSON.encode(payload_of(payment, (), event_type, at=at)),
            "at": at,
        }
        async with self._writers:
            return await self._reserve.run(WRITE, written) is not None

    async def claim_unresolved(self, *, lease: Lease, limit: int) -> list[Held]:
        """The same as `queries.claim_unresolved`, in no particular order.

        Raises:
            ConcurrentUpdate, DatabaseUnavailable, DatabaseRefused: as `db.transaction`.
        """
        wanted = {"limit": limit, "lease": lease.length, "holder": lease.holder}
        return [_held(row) for row in await self._reserve.run_all(CLAIM_UNRESOLVED, wanted)]

    async def webhook_secret(self, *, order_id: str | None, payment_key: str | None) -> str | None:
        """The same as `inbox.webhook_secret`.

        Raises:
            DatabaseUnavailable, DatabaseRefused: as `db.transaction`.
        """
        if order_id is None and payment_key is None:
            return None
        statement = PROOF_BY_KEY if order_id is None else PROOF_BY_ORDER
        row = await self._reserve.run(statement, {"order_id": order_id, "payment_key": payment_key})
        secret: str | None = row[0] if row else None
        return secret

    async def store(self, event: Incoming) -> bool:
        """The same as `inbox.store`, committed.

        Raises:
            DatabaseUnavailable, DatabaseRefused: as `db.transaction`.
        """
        columns = {field.name: getattr(event, field.name) for field in fields(event)}
        return await self._reserve.run(STORE_WEBHOOK, {"id": new_id(), **columns}) is not None


def copy_of(payment: Payment) -> Payment:
    """A held payment once more, to be changed without the first one changing along."""
    return _payment([getattr(payment, name) for name in _COLUMNS])


def _as_json(moves: Sequence[Move]) -> str:
    return _AS_JSON.encode([{name: getattr(move, name) for name in _MOVE} for move in moves])


def _held(row: Row) -> Held:
    at, *values = row
    return Held(_payment(values), Clock(at, _seconds()))


def _payment(row: Sequence[Any]) -> Payment:
    payment = _Free()
    payment.__dict__.update(zip(_COLUMNS, row, strict=True))
    for name, kind in _READ.items():
        payment.__dict__[name] = kind(payment.__dict__[name])
    return cast("Payment", payment)
