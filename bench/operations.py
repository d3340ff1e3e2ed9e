"""What clients ask of the API: what there has to be first, what is sent, and what must have come of it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import psycopg

from bench import seeds, traffic
from bench.load import OK, Load, MeasurementFailed, closed_loop
from bench.orders import order_id
from bench.stage import Attempt, Stage

_FASTEST: Final = 3_000  # answers per second that rows are made for
_FASTEST_CLIENT: Final = 1_500  # of one client
READ_ORDERS: Final = 1_000
_WARM_UP: Final = 1.0

Seed = Callable[[psycopg.Connection, str, int], None]


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of request; each query in `left` counts what its answers must have left behind."""

    name: str
    requests: Callable[[Iterable[str]], Iterator[bytes]]
    seed: Seed | None = None
    left: Sequence[str] = ()
    expected: Collection[int] = OK
    asks_pg: bool = False
    changes_nothing: bool = False  # so that the same orders serve again and again


_CREATED_PAYMENTS: Final = (
    "SELECT count(*) FROM payments WHERE order_id BETWEEN %(first)s AND %(last)s AND status = 'CREATED'"
)
_COMPLETED_PAYMENTS: Final = (
    "SELECT count(*) FROM payments WHERE order_id BETWEEN %(first)s AND %(last)s AND status = 'COMPLETED'"
)
_REFUNDED_PAYMENTS: Final = (
    "SELECT count(*) FROM payments WHERE order_id BETWEEN %(first)s AND %(last)s AND status = 'REFUNDED'"
)
_PREPARED_EVENTS: Final = (
    "SELECT count(*) FROM payment_events JOIN payments ON payments.id = payment_id"
    " WHERE order_id BETWEEN %(first)s AND %(last)s AND to_status = 'CREATED'"
)
_CONFIRM_EVENTS: Final = (
    "SELECT count(*) / 3.0 FROM payment_events JOIN payments ON payments.id = payment_id"
    " WHERE order_id BETWEEN %(first)s AND %(last)s AND to_status IN ('PENDING', 'APPROVED', 'COMPLETED')"
)
_MESSAGES: Final = (
    "SELECT count(*) FROM outbox_messages JOIN payments ON payments.id = payment_id"
    " WHERE order_id BETWEEN %(first)s AND %(last)s"
)
_SUCCEEDED_REFUNDS: Final = (
    "SELECT count(*) FROM refunds JOIN payments ON payments.id = payment_id"
    " WHERE order_id BETWEEN %(first)s AND %(last)s AND refunds.status = 'SUCCEEDED'"
)
_STORED_WEBHOOKS: Final = "SELECT count(*) FROM received_webhooks WHERE order_id BETWEEN %(first)s AND %(last)s"

PREPARE: Final = Operation(
    "prepare", traffic.prepares, left=(_CREATED_PAYMENTS, _PREPARED_EVENTS), expected=frozenset({201})
)
CONFIRM: Final = Operation(
    "confirm",
    traffic.confirms,
    seeds.add_created,
    left=(_COMPLETED_PAYMENTS, _CONFIRM_EVENTS, _MESSAGES),
    asks_pg=True,
)
READ: Final = Operation("read", traffic.reads, seeds.add_completed, changes_nothing=True)
CANCEL: Final = Operation(
    "cancel",
    traffic.cancels,
    seeds.add_completed,
    left=(_REFUNDED_PAYMENTS, _SUCCEEDED_REFUNDS, _MESSAGES),
    asks_pg=True,
)
WEBHOOK: Final = Operation("webhook", traffic.webhooks, left=(_STORED_WEBHOOKS,))


def attempt(stage: Stage, operation: Operation, ports: Sequence[int], *, clients: int, seconds: float) -> Attempt:
    """So many clients that do the same for so long, on orders of their own."""
    series = stage.new_series()
    rows = int(min(_FASTEST, _FASTEST_CLIENT * clients) * (seconds + _WARM_UP))
    orders = traffic.orders_of(series, rows)
    if operation.changes_nothing:
        rows = READ_ORDERS
        orders = traffic.over_and_over(series, rows)
    if operation.seed is not None:
        operation.seed(stage.connection, series, rows)
    load = partial(
        closed_loop,
        operation.requests(orders),
        ports,
        clients=clients,
        seconds=seconds,
        warm_up=_WARM_UP,
        expected=operation.expected,
    )
    return Attempt(load, partial(check_left, stage.connection, operation, series))


def check_left(connection: psycopg.Connection, operation: Operation, series: str, load: Load) -> None:
    """Compare the database with what the clients were told.

    Raises:
        MeasurementFailed: they differ.
    """
    ends = {"first": order_id(series, 0), "last": order_id(series, 99_999_999)}
    answers = sum(load.answers.values())
    for query in operation.left:
        (found,) = connection.execute(query.encode(), ends).fetchone() or (0,)
        if found != answers:
            raise MeasurementFailed(f"{operation.name}: {answers} answers, and {found} in the database by {query}")
