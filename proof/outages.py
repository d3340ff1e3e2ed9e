"""The database crashes under load, again and again: nothing that was acknowledged is lost, and everybody goes on."""

import hashlib
import hmac
import json
import random
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Final, LiteralString

import httpx
import psycopg
from tests.acceptance.worker_world import numbered, working
from tests.integration.world import REASON, SECRET_KEY, SHOP, confirm_body, prepare_body
from tests.keys import API_KEY, AUTHORIZATION, let_in
from tests.programs import server

from payments.schema import migrate
from proof.books import CANCEL, CONFIRM, PREPARE, WEBHOOK, Told, read_books
from proof.cluster import Crash, Server, open_server, until
from proof.findings import BadReplay, Failure, Figure, Findings, Options, Say
from proof.invariants import violations
from proof.world import WEBHOOK_SECRET, World, open_world

DATABASE: Final = "payments"
FIRST_SUCCESS_WITHIN: Final = 2.0  # seconds since the server takes connections again
SETTLED_WITHIN: Final = 180.0  # seconds: what was cut in the middle is held until its lease ends
_CRASHES: Final = 50
_QUICK_CRASHES: Final = 8
_BUYERS: Final = 6
_AGAIN_AFTER: Final = 0.02  # seconds; more often than any page would, so that the first success is seen when it comes
_ANSWERS_BEFORE: Final = 25  # at least, before each crash
_SOME: Final = 0.4  # of the purchases are refunded in part, of as many the PG tells us something
_REFUNDED: Final = 1_000  # won
_REPEATED: Final = 200
_LOAD_SECONDS: Final = (0.3, 1.2)  # between two crashes
# How long the server stays away: as short as it can, up to longer than the recording of an answer is tried (4 s).
_AWAY_SECONDS: Final = (0.0, 0.0, 0.3, 1.0, 0.0, 0.1, 5.0, 0.5)
_GIVEN_UP_AFTER: Final = 30.0  # seconds without a success
_LOOK_EVERY: Final = 0.5
_CANARIES: Final = (API_KEY, SECRET_KEY, WEBHOOK_SECRET)
_OPEN: Final[dict[str, LiteralString]] = {
    "payments": "SELECT count(*) FROM payments WHERE status = 'PENDING'",
    "refunds": "SELECT count(*) FROM refunds WHERE status = 'REQUESTED'",
    "messages": "SELECT count(*) FROM outbox_messages WHERE delivered_at IS NULL",
    "webhooks": "SELECT count(*) FROM received_webhooks WHERE processed_at IS NULL AND parked_at IS NULL",
    "requests": "SELECT count(*) FROM idempotent_requests WHERE locked_until > now()",
}


@dataclass(frozen=True, slots=True)
class Noted:
    """An answer that a client got, and when (`time.time`)."""

    told: Told
    asked_at: float
    at: float

    @property
    def is_acknowledged(self) -> bool:
        return self.told.status in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED}

    @property
    def is_written(self) -> bool:
        """Whether a whole step of a purchase was written for it."""
        return self.told.what in {PREPARE, CONFIRM} and self.told.status in {HTTPStatus.OK, HTTPStatus.CREATED}


@dataclass
class Crowd:
    """Buyers, a back office and the PG's webhooks, who go on whatever happens, note what they are told, and repeat."""

    api: str
    world: World
    story: str
    seed: int
    noted: list[Noted] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)  # when somebody was told to come back
    surprises: list[str] = field(default_factory=list)  # answers that no outage explains
    _stopping: threading.Event = field(default_factory=threading.Event)
    _calls: Iterator[int] = field(default_factory=count)

    @contextmanager
    def at_work(self, buyers: int = _BUYERS) -> Iterator[None]:
        """So many buyers, each with one purchase after the other, and one who never gets beyond the first page."""
        self._stopping.clear()
        with ThreadPoolExecutor(buyers + 1) as threads:
            lives = [threads.submit(self._buy_on, next(self._calls)) for _ in range(buyers)]
            lives.append(threads.submit(self._prepare_on))
            try:
                yield
            finally:
                self._stopping.set()
        for life in lives:
            life.result()

    def keep_busy(self, seconds: float) -> None:
        """Wait so long, and until the next thing is likely to happen in the middle of something."""
        before = len(self.noted)
        time.sleep(seconds)
        until(lambda: len(self.noted) >= before + _ANSWERS_BEFORE, "a crowd at work")

    @property
    def orders(self) -> list[str]:
        """All that somebody was told something about."""
        return sorted({noted.told.order_id for noted in list(self.noted)})

    def acknowledged(self) -> list[Noted]:
        """What must never be lost from now on."""
        return [noted for noted in list(self.noted) if noted.is_acknowledged]

    def happened(self) -> Counter[str]:
        """How many different requests of each kind were acknowledged."""
        return Counter(what for what, _ in {(noted.told.what, noted.told.name) for noted in self.acknowledged()})

    def first_success(self, *, asked_since: float, after: float) -> float | None:
        """How long after a moment the first step of a purchase was answered that was begun since another moment."""
        found = [one.at for one in list(self.noted) if one.is_written and one.asked_at >= asked_since]
        return max(0.0, min(found) - after) if found else None

    def repeat(self, most: int = _REPEATED) -> None:
        """Send some of the requests that were decided once more; their answers are noted, to be compared."""
        decided = [noted.told for noted in self.noted if noted.told.status == HTTPStatus.OK]
        sample = random.Random(self.seed).sample(decided, min(most, len(decided)))  # noqa: S311 - a seed, no secret
        with client_of(self.api) as api:
            for told in sample:
                if told.what == CONFIRM:
                    again = partial(api.post, "/payments/confirm", json=confirm_body(told.name, told.order_id))
                elif told.what == CANCEL:
                    again = partial(refund, api, told.order_id)
                else:
                    continue
                self._ask(told.what, told.order_id, told.name, again)

    def _buy_on(self, number: int) -> None:
        chance = random.Random(f"{self.seed} {number}")  # noqa: S311 - a seed, no secret
        with client_of(self.api) as api:
            while not self._stopping.is_set():
                orders = numbered(self.story, 20)
                self.world.town.shop.take_orders(orders)
                for order_id in orders:
                    if not self._stopping.is_set():
                        self._buy(api, order_id, chance)

    def _prepare_on(self) -> None:
        """The same order again and again: a confirm waits by itself for a database that is away, a prepare does not."""
        (order_id,) = numbered(self.story, 1)
        self.world.town.shop.take_orders([order_id])
        with client_of(self.api) as api:
            prepare = partial(api.post, "/payments/prepare", json=prepare_body(order_id))
            while not self._stopping.is_set():
                self._insist(PREPARE, order_id, order_id, prepare)
                time.sleep(_AGAIN_AFTER)

    def _buy(self, api: httpx.Client, order_id: str, chance: random.Random) -> None:
        """One purchase, as far as it goes: who is told to wait for the outcome, or to come back much later, leaves."""
        prepare = partial(api.post, "/payments/prepare", json=prepare_body(order_id))
        if self._insist(PREPARE, order_id, order_id, prepare) is None:
            return
        payment_key = self.world.pg.authenticate(order_id)
        confirm = partial(api.post, "/payments/confirm", json=confirm_body(payment_key, order_id))
        is_paid = self._insist(CONFIRM, order_id, payment_key, confirm) == HTTPStatus.OK
        if is_paid and chance.random() < _SOME:
            self._insist(CANCEL, order_id, f"refund-{order_id}", partial(refund, api, order_id))
        if is_paid and chance.random() < _SOME:
            self._insist(WEBHOOK, order_id, f"event-{order_id}", partial(send_webhook, api, order_id, payment_key))

    def _insist(self, what: str, order_id: str, name: str, ask: Callable[[], httpx.Response]) -> int | None:
        """Repeat a request until it is answered 2xx, and note that; None if it was not."""
        while not self._stopping.is_set():
            answer = self._ask(what, order_id, name, ask)
            if answer is None:
                return None
            if answer.is_success:
                return answer.status_code
            if answer.status_code == HTTPStatus.CONFLICT and what == CANCEL:
                return None  # the request that was cut is held for a minute: the worker will see to it
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                self.surprises.append(f"{what} {order_id}: {answer.status_code} {answer.text[:200]}")
                return None
            time.sleep(_AGAIN_AFTER)
        return None

    def _ask(self, what: str, order_id: str, name: str, ask: Callable[[], httpx.Response]) -> httpx.Response | None:
        """Send a request and note what is answered; None if nothing is, although the API runs all the time."""
        asked_at = time.time()
        try:
            answer = ask()
        except httpx.TransportError as error:
            self.surprises.append(f"{what} {order_id}: {error!r}")
            return None
        if answer.is_success:
            told = Told(what, order_id, name, answer.status_code, answer.json())
            self.noted.append(Noted(told, asked_at, time.time()))
        else:
            self.refused.append(time.time())
        return answer


def client_of(api: str) -> httpx.Client:
    """The shop's page and its back office in one."""
    return httpx.Client(base_url=api, trust_env=False, timeout=30, headers={"origin": SHOP, **AUTHORIZATION})


def refund(api: httpx.Client, order_id: str) -> httpx.Response:
    """The back office gives a part of the money back, under the same key each time."""
    body = {"cancelReason": REASON, "cancelAmount": _REFUNDED}
    headers = {"idempotency-key": f"refund-{order_id}"}
    return api.post(f"/payments/orders/{order_id}/cancel", json=body, headers=headers)


def send_webhook(api: httpx.Client, order_id: str, payment_key: str) -> httpx.Response:
    """The PG tells us that a payment is done, in the same words each time; signed by a relay."""
    created_at = datetime(2026, 11, 2, tzinfo=UTC).isoformat()
    content = {"orderId": order_id, "paymentKey": payment_key, "status": "DONE"}
    event = {"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": created_at, "data": content}
    body = json.dumps(event).encode()
    signature = hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {"toss-signature": signature, "content-type": "application/json"}
    return api.post("/webhook/toss", content=body, headers=headers)


_PAYMENTS: Final = """
SELECT order_id, payment_key,
  ARRAY(SELECT to_status FROM payment_events WHERE payment_id = payments.id),
  ARRAY(SELECT status FROM refunds WHERE payment_id = payments.id)
FROM payments
"""


def lost(connection: psycopg.Connection, acknowledged: Sequence[Noted]) -> list[str]:
    """What was acknowledged and is not there."""
    payments = {row[0]: row[1:] for row in connection.execute(_PAYMENTS)}
    webhooks = {order_id for (order_id,) in connection.execute("SELECT order_id FROM received_webhooks")}
    return [
        f"{told.what} {told.order_id} ({told.status})"
        for told in (noted.told for noted in acknowledged)
        if not (told.order_id in webhooks if told.what == WEBHOOK else _is_there(told, payments.get(told.order_id)))
    ]


def _is_there(told: Told, payment: tuple[str, list[str], list[str]] | None) -> bool:
    if payment is None:
        return False
    payment_key, statuses, refunds = payment
    if told.what == CONFIRM:
        return payment_key == told.name and told.body["status"] in statuses
    if told.what == CANCEL:
        return "SUCCEEDED" in refunds if told.status == HTTPStatus.OK else bool(refunds)
    return True


@dataclass(frozen=True, slots=True)
class Programs:
    """Our API and our worker, which run all the time and heal by themselves."""

    api: str  # its address
    processes: Sequence[subprocess.Popen[bytes]]
    logs: Path

    def ended(self) -> int:
        """How many of them have not lived on."""
        return sum(process.poll() is not None for process in self.processes)

    def log(self) -> str:
        """All that they have written."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.logs.glob("*.log")))


@contextmanager
def serving(world: World, database: str, logs: Path) -> Iterator[Programs]:
    """Both on the database at an address, with the PG and the shop of the world around them."""
    told = {"TOSS_WEBHOOK_SECRETS": WEBHOOK_SECRET, "TOSS_WORKER_RATE": "10000", "TOSS_READ_TIMEOUT": "2s"}
    environment = world.town.environment(database, **told)
    logs.mkdir()
    with (
        server("payments", "api", environment=environment, log=logs / "api.log") as (api, process),
        working(environment, logs) as workers,
    ):
        yield Programs(api, [process, *(worker.process for worker in workers)], logs)


def make_database(server: Server) -> None:
    """Our tables, and the back office's key."""
    server.create_database(DATABASE)
    migrate(server.url(DATABASE))
    let_in(server.url(DATABASE))


def settle(crowd: Crowd, programs: Programs, server: Server) -> tuple[float, list[str]]:
    """Wait until nothing is left to do, as long as it may take; how long that was, and what does not hold then."""
    began = time.monotonic()
    orders = crowd.orders
    with server.connect(DATABASE) as connection:
        while (left := _left_to_do(connection)) and time.monotonic() < began + SETTLED_WITHIN:
            time.sleep(_LOOK_EVERY)
        took = time.monotonic() - began
        crowd.repeat()
        told = [noted.told for noted in crowd.noted]
        books = read_books(connection, crowd.world.pg, crowd.world.town.shop, orders, told=told, log=programs.log())
    wrong = [f"after {took:.0f} s there is still to do: {left}"] if left else []
    return took, [*wrong, *map(str, violations(books, canaries=_CANARIES))]


def _left_to_do(connection: psycopg.Connection) -> dict[str, int]:
    counts = {name: connection.execute(query).fetchone() for name, query in _OPEN.items()}
    return {name: row[0] for name, row in counts.items() if row and row[0]}


def run(options: Options, say: Say) -> Findings:
    """Crash the database under load so often; each crash is looked at before the next one comes."""
    crashes, seed = plan(options, full=_CRASHES, quick=_QUICK_CRASHES)
    with (
        open_world() as world,
        tempfile.TemporaryDirectory(prefix="payments-proof-") as home,
        open_server(Path(home, "server")) as server,
    ):
        make_database(server)
        with serving(world, server.url(DATABASE), Path(home, "logs")) as programs:
            crowd = Crowd(programs.api, world, "outage", seed)
            with crowd.at_work():
                outages = list(_outages(server, crowd, crashes=crashes, say=say))
            say("  settling")
            took, wrong = settle(crowd, programs, server)
            wrong += [*wrong_with(outages, meant=crashes), *wrong_around(crowd, programs)]
    figures = [
        Figure("crashes of the database", len(outages)),
        *told_figures(crowd),
        *delays_since("the return of the server", outages, crowd),
        Figure("settled after", round(took), "s"),
    ]
    return Findings(figures, [Failure(what, f"{crashes}-{seed}") for what in wrong])


def plan(options: Options, *, full: int, quick: int) -> tuple[int, int]:
    """How many times, and with which seed; what a failure has named says both.

    Raises:
        BadReplay: it does not.
    """
    if options.replay is None:
        return full if options.is_full else quick, options.seed
    times, _, seed = options.replay.partition("-")
    if not times.isdecimal() or not int(times) or not (seed or "1").isdecimal():
        raise BadReplay("so many times, and the seed: 8-1")
    return int(times), int(seed or 1)


@dataclass(frozen=True, slots=True)
class Outage:
    """What one of them did."""

    back_since: float  # when the server took connections again (`time.time`)
    noticed: int  # answers that told somebody to come back
    first_success: float | None  # seconds after that; None: not in time
    lost: Sequence[str]

    def __str__(self) -> str:
        first = "no success" if self.first_success is None else f"first success after {self.first_success:.2f} s"
        return f"{first}, {len(self.lost)} lost, {self.noticed} told to come back"


def _outages(server: Server, crowd: Crowd, *, crashes: int, say: Say) -> Iterator[Outage]:
    chance = random.Random(crowd.seed)  # noqa: S311 - a seed, no secret
    for number in range(crashes):
        crowd.keep_busy(chance.uniform(*_LOAD_SECONDS))
        crashed_at = server.crash((Crash.IMMEDIATE, Crash.KILLED)[number % 2])
        time.sleep(_AWAY_SECONDS[number % len(_AWAY_SECONDS)])
        outage = look_at(crowd, server, crashed_at=crashed_at, back_since=server.start())
        say(f"  crash {number + 1} of {crashes}: {outage}")
        yield outage
        if outage.first_success is None:
            return


def look_at(crowd: Crowd, server: Server, *, crashed_at: float, back_since: float) -> Outage:
    """Wait for the first success after an outage, and look whether everything is there that was acknowledged."""
    acknowledged = crowd.acknowledged()
    with server.connect(DATABASE) as connection:
        missing = lost(connection, acknowledged)
    ends = time.monotonic() + _GIVEN_UP_AFTER
    while (first := crowd.first_success(asked_since=crashed_at, after=back_since)) is None and time.monotonic() < ends:
        time.sleep(_AGAIN_AFTER)
    noticed = sum(at >= crashed_at for at in list(crowd.refused))
    return Outage(back_since, noticed, first, missing)


def wrong_with(outages: Sequence[Outage], *, meant: int) -> list[str]:
    """What did not hold in them, or did not happen although it was meant to."""
    wrong = [f"lost in outage {number}: {what}" for number, one in enumerate(outages, 1) for what in one.lost]
    for number, outage in enumerate(outages, 1):
        if outage.first_success is None:
            wrong.append(f"no success within {_GIVEN_UP_AFTER:.0f} s after outage {number}")
        elif outage.first_success > FIRST_SUCCESS_WITHIN:
            wrong.append(f"the first success came {outage.first_success:.2f} s after outage {number}")
    if not any(outage.noticed for outage in outages):
        wrong.append("nobody noticed anything")
    if len(outages) < meant:
        wrong.append(f"{len(outages)} outages instead of {meant}")
    return wrong


def wrong_around(crowd: Crowd, programs: Programs) -> list[str]:
    """What the crowd did not do, or met although no outage explains it; programs that have not lived on."""
    happened = crowd.happened()
    wrong = [f"no {what} was ever acknowledged" for what in (PREPARE, CONFIRM, CANCEL, WEBHOOK) if not happened[what]]
    wrong += [f"{programs.ended()} of our programs have ended"] if programs.ended() else []
    return wrong + crowd.surprises


def told_figures(crowd: Crowd) -> list[Figure]:
    """How much was acknowledged, each looked for after every crash that followed."""
    acknowledged = [Figure(f"{what}s acknowledged", number) for what, number in crowd.happened().items()]
    return [*acknowledged, Figure("requests told to come back", len(crowd.refused))]


def delays_since(what: str, outages: Sequence[Outage], crowd: Crowd) -> list[Figure]:
    """How long it took until somebody could pay again, and until those had their answer who had asked before."""
    delays = [1000 * outage.first_success for outage in outages if outage.first_success is not None]
    if not delays:
        return []
    return [
        Figure(f"first success after {what}, median", round(statistics.median(delays)), "ms"),
        Figure(f"first success after {what}, longest", round(max(delays)), "ms"),
        Figure(f"answer after {what} to a request from before, longest", round(1000 * _longest(outages, crowd)), "ms"),
    ]


def _longest(outages: Sequence[Outage], crowd: Crowd) -> float:
    waits = (
        noted.at - outage.back_since
        for outage in outages
        for noted in crowd.noted
        if noted.asked_at < outage.back_since < noted.at
    )
    return max(waits, default=0.0)
