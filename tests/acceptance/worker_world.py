"""The programs around a worker, and the books that tell what came of it: ours, the PG's and the shop's."""

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final, LiteralString, TypeVar
from uuid import uuid4

import httpx
import psycopg
import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from demo_shop import orders as shop_orders
from demo_shop.received_events import ReceivedEvent
from payments.business_day import SEOUL
from payments.leases import Lease
from payments.local.postgres import LocalPostgres
from payments.models import Payment
from payments.states import PaymentMethod
from tests.clocks import move_database_clock
from tests.conftest import TEMPLATE
from tests.integration.world import AMOUNT, CLIENT_KEY, ORDER, SECRET_KEY, SHOP, confirm_body, prepare_body
from tests.keys import API_KEY, AUTHORIZATION
from tests.local.processes import kill
from tests.programs import BARE_ENVIRONMENT, free_port, program, sandbox_server, server

EVENTS_SECRET: Final = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
DEADLINE_SECONDS: Final = 90.0  # for a machine that does much else, not a promise
POLL_SECONDS: Final = 0.05  # whoever asks more often takes the time from those that are asked about

T = TypeVar("T")


def until(claim: Callable[[], T], *, within: float = DEADLINE_SECONDS, so_far: Callable[[], object] = str) -> T:
    """Return the first true answer; `so_far` says how far it had come when it took too long."""
    deadline = time.monotonic() + within
    while not (answer := claim()):
        if time.monotonic() > deadline:
            pytest.fail(f"Not within {within} seconds: {claim}; {so_far()}")
        time.sleep(POLL_SECONDS)  # other processes are at work; there is nothing to be told by
    return answer


def numbered(story: str, amount: int) -> list[str]:
    """So many order ids of a story that are used nowhere else."""
    run = uuid4().hex[:8]
    return [f"{story}-{run}-{number:04}" for number in range(amount)]


def confirm_key_of(order_id: str) -> str:
    return f"confirm-{order_id}"


class Api:
    """What a browser and the back office ask of the API."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def prepare(self, order_id: str = ORDER) -> None:
        self._http.post("/payments/prepare", json=prepare_body(order_id)).raise_for_status()

    def confirm_and_never_hear(self, payment_key: str, order_id: str = ORDER) -> None:
        """Send the request and hang up: the process that answers it will not live."""
        with pytest.raises(httpx.HTTPError):
            self._http.post("/payments/confirm", json=confirm_body(payment_key, order_id), timeout=1)

    def confirm(self, payment_key: str, order_id: str = ORDER) -> None:
        self._http.post("/payments/confirm", json=confirm_body(payment_key, order_id)).raise_for_status()

    def refund(self, amount: int, *, key: str, order_id: str = ORDER, timeout: float = 30) -> httpx.Response:
        body = {"cancelReason": "고객 변심", "cancelAmount": amount}
        url, headers = f"/payments/orders/{order_id}/cancel", {"idempotency-key": key}
        return self._http.post(url, json=body, headers=headers, timeout=timeout)

    def refund_and_never_hear(self, amount: int, *, key: str, order_id: str = ORDER) -> None:
        with pytest.raises(httpx.HTTPError):
            self.refund(amount, key=key, order_id=order_id, timeout=1)

    def status(self, order_id: str = ORDER) -> str:
        return str(self._http.get(f"/payments/orders/{order_id}").json()["status"])


@contextmanager
def serving_api(environment: dict[str, str]) -> Iterator[tuple[Api, subprocess.Popen[bytes]]]:
    with (
        server("payments", "api", environment=environment) as (url, process),
        httpx.Client(base_url=url, trust_env=False, timeout=30, headers=AUTHORIZATION) as http,
    ):
        yield Api(http), process


def environment_for(database: str, pg_url: str, **more: str) -> dict[str, str]:
    """What our own programs are told."""
    return {
        "ENVIRONMENT": "local",
        "DATABASE_URL": database,
        "TOSS_API_URL": pg_url,
        "TOSS_CLIENT_KEY": CLIENT_KEY,
        "TOSS_SECRET_KEY": SECRET_KEY,
        "ALLOWED_ORIGINS": SHOP,
        "RATE_LIMIT_BUYERS": "1000000/second",
        "RATE_LIMIT_WEBHOOKS": "1000000/second",
        "RATE_LIMIT_CLIENTS": "1000000/second",
        **more,
    }


@dataclass(frozen=True)
class PgBooks:
    """What a story does to the PG, and what is in its books."""

    http: httpx.Client

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    def authenticate(self, order_id: str = ORDER) -> str:
        """A buyer goes through the payment window; the payment key of the redirect."""
        answer = self.http.post("/sandbox/payments", json={"orderId": order_id, "amount": AMOUNT})
        return str(answer.raise_for_status().json()["paymentKey"])

    def capture(self, order_ids: Sequence[str]) -> dict[str, str]:
        """Orders whose money was taken without our having heard of it; their payment keys."""
        payments = [{"orderId": order_id, "amount": AMOUNT} for order_id in order_ids]
        answer = self.http.post("/sandbox/import", json={"payments": payments}).raise_for_status()
        return {str(one["orderId"]): str(one["paymentKey"]) for one in answer.json()["payments"]}

    def arm(self, operation: str, kind: str, **more: object) -> int:
        fault = {"operation": operation, "kind": kind, **more}
        return int(self.http.post("/sandbox/faults", json=fault).raise_for_status().json()["id"])

    def disarm(self, *faults: int) -> None:
        for fault in faults:
            self.http.delete(f"/sandbox/faults/{fault}").raise_for_status()

    def captures(self, order_ids: Iterable[str]) -> Counter[str]:
        """How often the money of each of these orders was taken."""
        wanted = set(order_ids)
        captures = self.http.get("/sandbox/ledger").json()["captures"]
        return Counter(str(one["orderId"]) for one in captures if one["orderId"] in wanted)

    def confirms(self, order_ids: Iterable[str]) -> dict[str, set[str]]:
        """Under which keys each of these orders was asked to be captured."""
        keys: dict[str, set[str]] = {}
        for call in self._calls(order_ids):
            if call["path"].endswith("/confirm"):
                keys.setdefault(call["orderId"], set()).add(call["idempotencyKey"])
        return keys

    def asked_at(self, *, since: float = 0) -> list[float]:
        """When each request arrived since a moment, in whole seconds since 1970."""
        calls = self.http.get("/sandbox/calls").json()["calls"]
        moments = [datetime.fromisoformat(call["at"]).timestamp() for call in calls]
        return [moment for moment in moments if moment >= since]

    def _calls(self, order_ids: Iterable[str]) -> list[dict[str, str]]:
        wanted = set(order_ids)
        calls: list[dict[str, str]] = self.http.get("/sandbox/calls").json()["calls"]
        return [call for call in calls if call["orderId"] in wanted]


def most_within(moments: Sequence[float], seconds: int) -> int:
    """The largest number of moments in any stretch of so many seconds; the PG notes whole ones."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


@dataclass
class Shop:
    """An order service with its own database; it runs only where a story says so."""

    database: str
    port: int

    def __post_init__(self) -> None:
        self._engine = create_engine(self.database)
        shop_orders.Base.metadata.create_all(self._engine)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    @property
    def told(self) -> dict[str, str]:
        """How our own programs are to tell it what has changed."""
        return {"EVENTS_URL": f"{self.api}/events", "EVENTS_SECRETS": EVENTS_SECRET}

    @contextmanager
    def running(self, log: Path | None = None) -> Iterator[None]:
        environment = {
            "SHOP_DATABASE_URL": self.database,
            "SHOP_EVENTS_SECRETS": EVENTS_SECRET,
            "SHOP_PAYMENTS_API_KEY": API_KEY,
        }
        with program("demo_shop", "serve", "--port", str(self.port), environment=environment, log=log):
            until(self._is_live)
            yield

    def take_orders(self, order_ids: Iterable[str]) -> None:
        """Orders that somebody made and has not paid for yet."""
        with Session(self._engine) as session, session.begin():
            session.add_all(_an_order(order_id) for order_id in order_ids)

    def order(self, order_id: str) -> tuple[str, int]:
        """Its status and the won that went back, by the shop's own API."""
        order = httpx.get(f"{self.api}/orders/{order_id}", trust_env=False, timeout=30).raise_for_status().json()
        return str(order["status"]), int(order["refundedAmount"])

    def statuses(self, order_ids: Sequence[str]) -> Counter[str]:
        chosen = select(shop_orders.Order.status).where(shop_orders.Order.order_id.in_(order_ids))
        with Session(self._engine) as session:
            return Counter(status.value for status in session.scalars(chosen))

    def received(self, order_ids: Sequence[str]) -> dict[str, list[tuple[str, int]]]:
        """The ids and sequences of the events of each order, as they arrived."""
        of_these = ReceivedEvent.order_id.in_(order_ids)
        chosen = select(ReceivedEvent).where(of_these).order_by(ReceivedEvent.received_at)
        arrived: dict[str, list[tuple[str, int]]] = {}
        with Session(self._engine) as session:
            for one in session.scalars(chosen):
                arrived.setdefault(one.order_id, []).append((one.id, one.sequence))
        return arrived

    def close(self) -> None:
        self._engine.dispose()

    def _is_live(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/live", trust_env=False).is_success
        except httpx.HTTPError:
            return False


def _an_order(order_id: str) -> shop_orders.Order:
    return shop_orders.Order(
        order_id=order_id,
        product="티셔츠",
        quantity=1,
        amount=AMOUNT,
        status=shop_orders.OrderStatus.CREATED,
        customer_email=None,
        refunded_amount=0,
        payment_key=None,
        payment_version=0,
        created_at=datetime.now(UTC),
        paid_at=None,
        deposit_reversed_at=None,
    )


class Books:
    """Our own database, read past the programs."""

    def __init__(self, database: str) -> None:
        self._url = database
        self._connection = self._connect()

    def move_clock(self, by: timedelta) -> None:
        """Let the database be so much later than it is, for whoever asks it from now on."""
        self._connection.close()
        move_database_clock(self._url, by)
        self._connection = self._connect()

    def close(self) -> None:
        self._connection.close()

    def statuses(self) -> Counter[str]:
        rows = self._rows("SELECT status, count(*) FROM payments GROUP BY status")
        return Counter({str(status): int(amount) for status, amount in rows})

    def are_all(self, status: str) -> bool:
        return set(self.statuses()) == {status}

    def times_moved_to(self, status: str) -> Counter[int]:
        """How often payments have moved to a status: the number of payments for each number of times."""
        rows = self._rows("SELECT count(*) FROM payment_events WHERE to_status = %s GROUP BY payment_id", status)
        return Counter(int(times) for (times,) in rows)

    def messages_each(self) -> Counter[int]:
        """The same for how many messages there are about a payment."""
        rows = self._rows("SELECT count(*) FROM outbox_messages GROUP BY payment_id")
        return Counter(int(messages) for (messages,) in rows)

    def undelivered(self) -> int:
        ((amount,),) = self._rows("SELECT count(*) FROM outbox_messages WHERE delivered_at IS NULL")
        return int(amount)

    def told_in_vain(self) -> int:
        """Of how many payments the order service could not be told."""
        ((amount,),) = self._rows("SELECT count(DISTINCT payment_id) FROM outbox_messages WHERE last_error IS NOT NULL")
        return int(amount)

    def sent_of(self, order_id: str) -> list[tuple[str, int]]:
        """The ids and sequences of the messages about an order, as they were written."""
        rows = self._rows(
            "SELECT outbox_messages.id, sequence FROM outbox_messages "
            "JOIN payments ON payments.id = payment_id WHERE order_id = %s ORDER BY sequence",
            order_id,
        )
        return [(str(message_id), int(sequence)) for message_id, sequence in rows]

    def holdings(self, order_ids: Sequence[str]) -> Counter[int]:
        """How many of these orders each process that is alive holds, by its number."""
        rows = self._rows(
            "SELECT substring(processes.name FROM '[0-9]+$'), count(*) FROM payments "
            "JOIN processes ON processes.id = held_by WHERE order_id = ANY(%s) GROUP BY 1",
            list(order_ids),
        )
        return Counter({int(pid): int(amount) for pid, amount in rows})

    def holders(self) -> set[str]:
        """Who holds anything, dead or alive."""
        return {str(holder) for (holder,) in self._rows("SELECT held_by FROM payments WHERE held_by IS NOT NULL")}

    def name_of(self, pid: int) -> str:
        """Under which id the others know a process."""
        ((process_id,),) = self._rows("SELECT id FROM processes WHERE name LIKE '%%:' || %s::text", pid)
        return str(process_id)

    def nights(self) -> dict[str, list[tuple[str, int, bool]]]:
        """Of each check the days that were taken up, how often, and whether they are done; oldest first."""
        found: dict[str, list[tuple[str, int, bool]]] = {}
        rows = self._rows("SELECT kind, day::text, attempts, finished_at IS NOT NULL FROM nightly_runs ORDER BY day")
        for kind, day, attempts, is_finished in rows:
            found.setdefault(kind, []).append((day, attempts, is_finished))
        return found

    def processes(self) -> int:
        """How many have said that they are there, and not goodbye."""
        return len(self._rows("SELECT id FROM processes"))

    def are_checked(self, days: Sequence[str]) -> bool:
        """Whether both checks of these nights are done."""
        done = {(kind, day) for kind, nights in self.nights().items() for day, _, is_finished in nights if is_finished}
        return done >= {(kind, day) for kind in ("check_orders", "reconcile") for day in days}

    def count_a_night_done(self, day: str) -> None:
        """Somebody did this night's checks when it was due."""
        self._connection.execute(
            "INSERT INTO nightly_runs (kind, day, next_attempt_at, attempts, started_at, finished_at) "
            "SELECT kind, %s::date, now(), 1, now(), now() FROM unnest(ARRAY['check_orders', 'reconcile']) AS kind",
            [day],
        )

    def leave_pending(self, payment_keys: dict[str, str]) -> None:
        """Payments of these orders whose confirms were promised, and never heard of again; due at once."""
        engine = create_engine(self._url)
        with Session(engine) as session, session.begin():
            now = session.scalars(select(func.now())).one()
            for order_id, payment_key in payment_keys.items():
                session.add(_a_stuck_payment(order_id, payment_key, at=now))
        engine.dispose()

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self._url.replace("+psycopg", "", 1), autocommit=True)

    def _rows(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, parameters or None).fetchall()


def _a_stuck_payment(order_id: str, payment_key: str, *, at: datetime) -> Payment:
    payment = Payment.prepare(
        order_id,
        AMOUNT,
        method=PaymentMethod.CARD,
        order_name="토스 티셔츠 외 1건",
        customer_email="buyer@example.com",
        at=at,
    )
    confirm_key = confirm_key_of(order_id)
    payment.begin_confirm(payment_key, AMOUNT, confirm_key=confirm_key, at=at, lease=Lease(timedelta()))
    return payment


@dataclass
class Worker:
    """A `payments worker`, and what it logs."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def die(self) -> None:
        kill(self.pid)
        self.process.wait()

    def tell_to_stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def left_to_others(self) -> int:
        """How much it had in hand when its time to finish was over, as it says itself."""
        said = re.search(r'"left_to_others": ?(\d+)', self.log.read_text())
        assert said is not None, self.log.read_text()[-2_000:]
        return int(said[1])


_log_numbers = count(1)


@contextmanager
def working(environment: dict[str, str], logs: Path, *, amount: int = 1) -> Iterator[list[Worker]]:
    """So many workers, started at the same time; those that still run at the end of the block are told to stop."""
    workers: list[Worker] = []
    try:
        workers.extend(_start(environment, logs / f"worker-{next(_log_numbers)}.log") for _ in range(amount))
        yield workers
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.wait(DEADLINE_SECONDS)


def _start(environment: dict[str, str], log: Path) -> Worker:
    command = [sys.executable, "-m", "payments", "worker"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**BARE_ENVIRONMENT, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
    return Worker(process, log)


def that_hold(workers: Sequence[Worker], books: Books, order_ids: Sequence[str], *, at_least: int) -> list[Worker]:
    """The workers that hold some of these orders now, once there are so many."""
    holdings = books.holdings(order_ids)
    holding = [worker for worker in workers if holdings[worker.pid]]
    return holding if len(holding) >= at_least else []


@dataclass(frozen=True)
class Town:
    """One PG and one order service, for all stories of a file; and as many databases of ours as they need."""

    postgres: LocalPostgres
    pg: PgBooks
    shop: Shop
    logs: Path

    @contextmanager
    def books(self) -> Iterator[tuple[str, Books]]:
        """A fresh database of ours: its URL, and what is in it."""
        name = f"migrated_{uuid4().hex}"
        self.postgres.create_database(name, template=TEMPLATE)
        with closing(Books(self.postgres.url(name))) as books:
            yield self.postgres.url(name), books
        self.postgres.drop_database(name)

    def environment(self, database: str, **more: str) -> dict[str, str]:
        return environment_for(database, self.pg.url, ORDERS_URL=self.shop.api, **self.shop.told, **more)

    def buy(self, api: Api, order_id: str) -> None:
        """A buyer pays, and the API confirms it."""
        api.prepare(order_id)
        api.confirm(self.pg.authenticate(order_id), order_id)

    def confirm_and_die(self, database: str, order_id: str) -> None:
        """An API is killed after the PG has taken the money, and before it has heard of that."""
        self.shop.take_orders([order_id])
        with serving_api(self.environment(database)) as (api, process):
            api.prepare(order_id)
            payment_key = self.pg.authenticate(order_id)
            self.pg.arm("confirm", "delay_reply", delaySeconds=5, orderId=order_id)
            api.confirm_and_never_hear(payment_key, order_id)
            until(lambda: self.pg.captures([order_id]).total() == 1)
            kill(process.pid)

    def leave_pending(self, books: Books, *, captured: Sequence[str], promised: Sequence[str]) -> list[str]:
        """What an outage of the PG leaves behind, all due at once and well mixed.

        Of `captured` the PG has taken the money, which nobody here knows; of `promised` it has not.
        """
        keys = self.pg.capture(captured) | {order_id: self.pg.authenticate(order_id) for order_id in promised}
        mixed = sorted(keys, key=lambda order_id: order_id[-4:])
        books.leave_pending({order_id: keys[order_id] for order_id in mixed})
        self.shop.take_orders(mixed)
        return mixed


@contextmanager
def open_town(postgres: LocalPostgres, home: Path, *, is_quiet: bool = False) -> Iterator[Town]:
    """The PG and the order service, running; what they say goes to files in `home` if it is to be quiet."""
    pg_log, shop_log = (home / "sandbox.log", home / "shop.log") if is_quiet else (None, None)
    with (
        sandbox_server(home / "sandbox.sqlite3", client_key=CLIENT_KEY, secret_key=SECRET_KEY, log=pg_log) as pg_url,
        httpx.Client(base_url=pg_url, trust_env=False, timeout=30) as pg,
        new_shop(postgres) as shop,
        shop.running(shop_log),
    ):
        yield Town(postgres, PgBooks(pg), shop, home)


@contextmanager
def new_shop(postgres: LocalPostgres) -> Iterator[Shop]:
    """A shop with a database of its own; not running yet."""
    name = f"shop_{uuid4().hex}"
    postgres.create_database(name)
    with closing(Shop(postgres.url(name), free_port())) as shop:
        yield shop
    postgres.drop_database(name)


def until_next(hour: int, minute: int) -> timedelta:
    """How far away the next such time of day in Seoul is."""
    now = datetime.now(SEOUL)
    then = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return then - now if then > now else then + timedelta(days=1) - now


def days_before_night(*, moved_by: timedelta, days: int) -> str:
    """The business day so many days before the one that is compared in the night after a clock was moved."""
    compared = (datetime.now(SEOUL) + moved_by).date() - timedelta(days=1)
    return (compared - timedelta(days=days)).isoformat()
