"""Rows as our programs leave them, put there by SQL: over HTTP it would take longer than what is measured."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import psycopg

from bench.orders import AMOUNT, NAME, order_id_sql, payment_key_sql

_CHUNK: Final = 50_000
_EMAIL: Final = "buyer@example.com"

# What every payment has, whatever its state; the rest differs.
_COLUMNS: Final = (
    "id, order_id, method, amount, refunded_amount, currency, order_name, customer_email, attempt,"
    " is_partial_cancelable, created_at, prepared_at"
)
_VALUES: Final = "uuidv7(), {order}, 'CARD', {amount}, 0, 'KRW', '{name}', '{email}', 1, true, {at}, {at}"

# `Payment.prepare`, `Payment.begin_confirm` and `Payment.approve` with `complete`, by the status that they lead to.
_OWN_COLUMNS: Final = {
    "CREATED": "status, last_sequence, next_check_at, check_count, version",
    "PENDING": "status, last_sequence, next_check_at, check_count, version, payment_key, confirm_key, pending_since",
    "COMPLETED": "status, last_sequence, check_count, version, payment_key, confirm_key, pending_since, approved_at,"
    " completed_at, receipt_url, webhook_secret",
}
_OWN_VALUES: Final = {
    "CREATED": "'CREATED', 1, {at} + interval '45 minutes', 0, 1",
    # Whoever began them has died, and everybody may take them over.
    "PENDING": "'PENDING', 2, {at}, 0, 2, {key}, md5({order}), {at}",
    "COMPLETED": "'COMPLETED', 4, 0, 3, {key}, md5({order}), {at}, {at}, {at},"
    " 'https://dashboard.tosspayments.com/receipt/redirection?transactionId=' || {order}, 'ps_' || md5({order})",
}
_MOVES: Final = (
    (1, "NULL::varchar", "CREATED"),
    (2, "'CREATED'", "PENDING"),
    (3, "'PENDING'", "APPROVED"),
    (4, "'APPROVED'", "COMPLETED"),
)
_LAST_MOVE: Final = {"CREATED": 1, "PENDING": 2, "COMPLETED": 4}

# As `outbox.announce` writes it; its snapshot is as long as a real one.
_OUTBOX: Final = """
INSERT INTO outbox_messages (id, payment_id, sequence, type, payload, created_at, attempts, first_attempt_at,
                             next_attempt_at, awaits_receiver, delivered_at)
SELECT uuidv7(), id, last_sequence, 'payment.completed',
       jsonb_build_object('type', 'payment.completed', 'timestamp', completed_at, 'data', jsonb_build_object(
           'sequence', last_sequence, 'payment', jsonb_build_object(
               'orderId', order_id, 'paymentKey', payment_key, 'status', status, 'method', method, 'amount', amount,
               'refundedAmount', 0, 'refundableAmount', amount, 'currency', currency, 'orderName', order_name,
               'attempt', attempt, 'failure', NULL, 'virtualAccount', NULL, 'receiptUrl', receipt_url,
               'createdAt', created_at, 'approvedAt', approved_at, 'completedAt', completed_at, 'cancelledAt', NULL,
               'refunds', '[]'::jsonb, 'version', version))),
       completed_at, 1, completed_at, completed_at, false, completed_at
FROM payments WHERE order_id BETWEEN {first} AND {last}
"""

_IDIOM: Final = """
WITH made AS (INSERT INTO payments (order_id, status, amount, created_at)
              SELECT {order}, 'CREATED', {amount}, now() FROM generate_series(0, {last}) AS n
              RETURNING id, created_at)
INSERT INTO payment_events (payment_id, status, at) SELECT id, 'CREATED', created_at FROM made
"""


def add_created(connection: psycopg.Connection, series: str, count: int) -> None:
    """Payments that wait to be confirmed."""
    _add(connection, "CREATED", series, count)


def add_pending(connection: psycopg.Connection, series: str, count: int) -> None:
    """Payments whose outcome nobody knows, due to be asked about."""
    _add(connection, "PENDING", series, count)


def add_completed(
    connection: psycopg.Connection,
    series: str,
    count: int,
    *,
    first: int = 0,
    begins: datetime | None = None,
    step: timedelta = timedelta(),
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Payments that were paid; from `begins` on, one each `step`, or all of them now."""
    moment = (
        "now()"
        if begins is None
        else f"timestamptz '{begins.isoformat()}' + n * {step.total_seconds()} * interval '1 s'"
    )
    _add(connection, "COMPLETED", series, count, first=first, at=moment, progress=progress)


def add_delivered(connection: psycopg.Connection, series: str, *, first: int, count: int) -> None:
    """The messages that told of completed payments, which were taken long ago."""
    ends = {"first": order_id_sql(series, str(first)), "last": order_id_sql(series, str(first + count - 1))}
    connection.execute(_OUTBOX.format(**ends).encode())


def add_created_for_idiom(connection: psycopg.Connection, series: str, count: int) -> None:
    """The same as `add_created` for the reference program."""
    connection.execute(_IDIOM.format(order=order_id_sql(series), amount=AMOUNT, last=count - 1).encode())


def tidy_up(connection: psycopg.Connection) -> None:
    """Nothing that an earlier measurement left behind is done during the next one."""
    connection.execute("VACUUM ANALYZE")
    connection.execute("CHECKPOINT")


def _add(
    connection: psycopg.Connection,
    status: str,
    series: str,
    count: int,
    *,
    first: int = 0,
    at: str = "now()",
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    # Without the look-up of each foreign key, which is right by construction.
    connection.execute("SET session_replication_role = replica")
    ends = first + count
    for begin in range(first, ends, _CHUNK):
        end = min(begin + _CHUNK, ends)
        connection.execute(_statement(status, series, begin, end - 1, at).encode())
        progress(end - first)
    connection.execute("RESET session_replication_role")


def _statement(status: str, series: str, first: int, last: int, at: str) -> str:
    words = {
        "order": order_id_sql(series),
        "key": payment_key_sql(series),
        "amount": str(AMOUNT),
        "name": NAME,
        "email": _EMAIL,
        "at": "at",
    }
    moves = ", ".join(f"({move[0]}, {move[1]}, '{move[2]}')" for move in _MOVES[: _LAST_MOVE[status]])
    return f"""
WITH numbers AS (SELECT n, {at} AS at FROM generate_series({first}, {last}) AS n),
     made AS (INSERT INTO payments ({_COLUMNS}, {_OWN_COLUMNS[status]})
              SELECT {_VALUES.format(**words)}, {_OWN_VALUES[status].format(**words)} FROM numbers
              RETURNING id, payment_key, created_at)
INSERT INTO payment_events (payment_id, sequence, from_status, to_status, cause, attempt, payment_key, at)
SELECT made.id, move.sequence, move.start, move.target, 'api', 1,
       CASE WHEN move.target = 'PENDING' THEN made.payment_key END, made.created_at
FROM made CROSS JOIN (VALUES {moves}) AS move (sequence, start, target)
"""  # noqa: S608 - words of ours
