"""Everybody's own books about the same orders: ours, the PG's, the shop's; and what clients were told."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString

import psycopg
from psycopg.rows import dict_row
from tests.acceptance.worker_world import Shop

from proof.world import Pg

Row = Mapping[str, Any]

PREPARE: Final = "prepare"
CONFIRM: Final = "confirm"
CANCEL: Final = "cancel"
WEBHOOK: Final = "webhook"


@dataclass(frozen=True, slots=True)
class Told:
    """An answer that a client got. Whoever got none has nothing to show."""

    what: str  # PREPARE, CONFIRM, CANCEL, WEBHOOK
    order_id: str
    name: str  # what makes two of them the same request: a payment key, an idempotency key, an event
    status: int
    body: Any


@dataclass(frozen=True, slots=True)
class OrderBooks:
    """All that is written anywhere about one order."""

    order_id: str
    payment: Row | None
    history: Sequence[Row] = ()  # by sequence
    refunds: Sequence[Row] = ()
    strays: Sequence[Row] = ()
    messages: Sequence[Row] = ()  # of the outbox, by sequence
    captures: Sequence[Row] = ()  # of the PG; a reader may leave out what is over, or none of ours
    taken: Sequence[Row] = ()  # the same of which nothing is left out, where somebody kept it
    cancels: Sequence[Row] = ()
    reversals: Sequence[Row] = ()
    discrepancies: Sequence[Row] = ()
    shown: Sequence[Row] = ()  # the PG's Payment objects
    confirmed: Sequence[Row] = ()  # those under the keys that were confirmed for it, of whatever order
    calls: Sequence[Row] = ()  # that the PG was asked with, where something FAILED
    order: Row | None = None  # of the shop
    events: Sequence[Row] = ()  # that the shop took, as they arrived
    told: Sequence[Told] = ()


@dataclass(frozen=True, slots=True)
class Books:
    """The orders, and what belongs to no single one."""

    orders: Sequence[OrderBooks]
    webhooks: Sequence[Row] = ()
    requests: Sequence[Row] = ()  # under idempotency keys
    log: str = field(default="", repr=False)  # all that our programs wrote


_PAYMENTS: Final = "SELECT * FROM payments WHERE order_id = ANY(%(orders)s)"
_OF_PAYMENTS: Final[dict[str, LiteralString]] = {
    "history": "SELECT * FROM payment_events WHERE payment_id = ANY(%(ids)s) ORDER BY sequence",
    "refunds": "SELECT * FROM refunds WHERE payment_id = ANY(%(ids)s) ORDER BY requested_at, id",
    "strays": "SELECT * FROM stray_captures WHERE payment_id = ANY(%(ids)s)",
    "discrepancies": "SELECT * FROM discrepancies WHERE payment_id = ANY(%(ids)s) ORDER BY first_seen_at",
    "messages": "SELECT * FROM outbox_messages WHERE payment_id = ANY(%(ids)s) ORDER BY sequence",
}


def read_books(
    connection: psycopg.Connection,
    pg: Pg,
    shop: Shop,
    order_ids: Sequence[str],
    *,
    told: Iterable[Told] = (),
    log: str = "",
) -> Books:
    """Read what there is now. `log` is what our programs wrote, where somebody kept it."""
    ours = _ours(connection, order_ids)
    theirs = _by_order(pg, order_ids)
    calls = _calls(pg, ours)
    confirmed = _confirmed(ours, theirs)
    sold = _sold(shop, order_ids)
    answers: dict[str, list[Told]] = defaultdict(list)
    for one in told:
        answers[one.order_id].append(one)
    orders = [
        OrderBooks(
            order_id,
            told=answers[order_id],
            calls=calls[order_id],
            confirmed=confirmed[order_id],
            **ours[order_id],
            **theirs[order_id],
            **sold[order_id],
        )
        for order_id in order_ids
    ]
    return Books(
        orders,
        webhooks=_rows(connection, "SELECT * FROM received_webhooks"),
        requests=_rows(connection, "SELECT *, locked_until > now() AS is_locked FROM idempotent_requests"),
        log=log,
    )


def _rows(connection: psycopg.Connection, query: LiteralString, **parameters: object) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return list(cursor.execute(query, parameters or None).fetchall())


def _ours(connection: psycopg.Connection, order_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    payments = {row["order_id"]: row for row in _rows(connection, _PAYMENTS, orders=list(order_ids))}
    by_id = {row["id"]: order_id for order_id, row in payments.items()}
    found: dict[str, dict[str, Any]] = {
        order_id: {"payment": payments.get(order_id), **{name: [] for name in _OF_PAYMENTS}} for order_id in order_ids
    }
    for name, query in _OF_PAYMENTS.items():
        for row in _rows(connection, query, ids=list(by_id)):
            found[by_id[row["payment_id"]]][name].append(row)
    return found


def _by_order(pg: Pg, order_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    single = order_ids[0] if len(order_ids) == 1 else None
    ledger = pg.ledger(single)
    found: dict[str, dict[str, Any]] = {
        order_id: {"captures": [], "cancels": [], "reversals": [], "shown": pg.payments(order_id)}
        for order_id in order_ids
    }
    for kind in ("captures", "cancels", "reversals"):
        for movement in ledger[kind]:
            if movement["orderId"] in found:
                found[movement["orderId"]][kind].append(movement)
    for books in found.values():
        books["taken"] = books["captures"]
    return found


def _calls(pg: Pg, ours: Mapping[str, Mapping[str, Any]]) -> Mapping[str, list[Row]]:
    """What the PG was asked about the orders of which something FAILED: they are many, and nobody needs the others."""
    found: dict[str, list[Row]] = defaultdict(list)
    failed = {order_id for order_id, books in ours.items() if _has_failed(books)}
    concerned: dict[str | None, set[str]] = defaultdict(set)  # by payment key
    for order_id in failed:
        for row in ours[order_id]["history"]:
            concerned[row["payment_key"]].add(order_id)
    for call in pg.calls() if failed else ():
        keys_of = concerned[call["paymentKey"]] if call["paymentKey"] else set()
        for order_id in failed & {call["orderId"], *keys_of}:
            found[order_id].append(call)
    return found


def _confirmed(
    ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, list[Row]]:
    by_key = {shown["paymentKey"]: shown for books in theirs.values() for shown in books["shown"]}
    return {
        order_id: [by_key[key] for key in {row["payment_key"] for row in books["history"]} & by_key.keys()]
        for order_id, books in ours.items()
    }


def _has_failed(books: Mapping[str, Any]) -> bool:
    moves = any(row["to_status"] == "FAILED" for row in books["history"])
    return moves or any(row["status"] == "FAILED" for name in ("refunds", "strays") for row in books[name])


def _sold(shop: Shop, order_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {order_id: {"order": None, "events": []} for order_id in order_ids}
    with psycopg.connect(shop.database.replace("+psycopg", "", 1), autocommit=True) as connection:
        orders = _rows(connection, "SELECT * FROM orders WHERE order_id = ANY(%(orders)s)", orders=list(order_ids))
        arrived = "SELECT * FROM received_events WHERE order_id = ANY(%(orders)s) ORDER BY received_at"
        events = _rows(connection, arrived, orders=list(order_ids))
    for row in orders:
        found[row["order_id"]]["order"] = row
    for row in events:
        found[row["order_id"]]["events"].append(row)
    return found
