"""All that can be asked of the programs, with a canary in every place, while everything around them goes wrong."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import psycopg
from psycopg import sql

from payments.local import guard
from payments.local.postgres import LocalPostgres
from tests.acceptance.worker_world import environment_for, until
from tests.canary import canaries
from tests.canary.canaries import (
    ACCOUNT,
    ALERT_TOKEN,
    COOKIE,
    DATABASE_PASSWORD,
    EMAIL,
    EVENTS_SECRET,
    FREE_TEXT,
    HOLDER,
    HOLDER_AT_PG,
    IDEMPOTENCY_KEY,
    QUERY,
    SIGNATURE,
    TOKEN,
    TOSS_KEY,
    WEBHOOK_SECRET,
    WRONG_KEY,
)
from tests.canary.neighbours import Mood, Neighbours
from tests.integration.world import AMOUNT, confirm_body, prepare_body
from tests.keys import headers_of, let_in
from tests.programs import BARE_ENVIRONMENT, program, server

KEY: Final = "payk_kanarien_Kx7vQ2mZr9TbW4nYc6LdE1pHs8UgJa3fRo5iXtBkMwN"  # an API key that may do everything
UNKNOWN_KEY: Final = "kanarienKeyOfNobody0123456789"  # a payment key as a path may hold it
AWAY: Final = f"postgresql+psycopg://payments:{DATABASE_PASSWORD}@127.0.0.1:1/payments"
BODIES: Final = (
    b'{"orderId": "%s' % FREE_TEXT.encode(),
    json.dumps({"a": FREE_TEXT, "b": [ACCOUNT, HOLDER]}).encode() + b"}",
    json.dumps({canaries.EMAIL: HOLDER, "amount": ACCOUNT}).encode(),
    json.dumps([FREE_TEXT, ACCOUNT]).encode(),
    json.dumps({"eventType": FREE_TEXT[:64], "data": {"orderId": HOLDER, "secret": SIGNATURE}}).encode(),
    b"\xff" + FREE_TEXT.encode(),
)


@dataclass
class Heard:
    """What came out of the programs, by where it came out."""

    answers: dict[str, str] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)  # answers with what their asker has said, by contract
    commands: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)
    command_lines: dict[str, str] = field(default_factory=dict)
    pushed: set[tuple[str, str]] = field(default_factory=set)
    routes: set[tuple[str, str]] = field(default_factory=set)


class Caller:
    """Whoever asks the API, with a canary in every header; each answer is kept."""

    def __init__(self, http: httpx.Client, heard: Heard, *, key: str) -> None:
        self._http = http
        self._heard = heard
        self._key = key

    def ask(
        self,
        method: str,
        path: str,
        *,
        own: bool = False,
        key: str | None = None,
        name: str = "",
        headers: Mapping[str, str] | None = None,
        json: object = None,
        content: bytes | str | None = None,
        data: Mapping[str, str] | None = None,
        query: bool = False,
    ) -> httpx.Response:
        sent = {
            **headers_of(key or self._key),
            "cookie": f"session={COOKIE}",
            "x-api-key": WRONG_KEY,
            "idempotency-key": f"{IDEMPOTENCY_KEY}-{name or len(self._heard.answers)}",
            "referer": f"https://shop.example/?token={QUERY}",
            **(headers or {}),
        }
        raw = {name.encode(): value.encode() for name, value in sent.items()}
        params = {"token": QUERY} if query else None  # which no route knows
        answer = self._http.request(method, path, headers=raw, params=params, json=json, content=content, data=data)
        kept = self._heard.own if own else self._heard.answers
        number = len(self._heard.own) + len(self._heard.answers)
        kept[f"{number} {method} {path} {answer.status_code}"] = f"{dict(answer.headers)} {answer.text}"
        return answer

    def prepare(self, order_id: str, **changes: object) -> httpx.Response:
        body = {**prepare_body(order_id), "customerEmail": EMAIL, **changes}
        return self.ask("POST", "/payments/prepare", own=True, json=body)

    def confirm(self, payment_key: str, order_id: str) -> httpx.Response:
        return self.ask("POST", "/payments/confirm", json=confirm_body(payment_key, order_id))

    def cancel(self, order_id: str, *, own: bool = True, name: str = "", **more: object) -> httpx.Response:
        body = {"cancelReason": canaries.REASON, **more}
        return self.ask("POST", f"/payments/orders/{order_id}/cancel", own=own, name=name, json=body)

    def status(self, order_id: str) -> str:
        return str(self._http.get(f"/payments/orders/{order_id}", headers=headers_of(self._key)).json().get("status"))

    def routes(self) -> set[tuple[str, str]]:
        """All that there are, so that one which is new is pushed as well."""
        paths: dict[str, dict[str, object]] = self._http.get("/openapi.json").json()["paths"]
        return {(method.upper(), path) for path, methods in paths.items() for method in methods}


@dataclass(frozen=True)
class World:
    """The programs, told canaries for secrets, and everybody around them."""

    postgres: LocalPostgres
    database: str
    environment: Mapping[str, str]
    neighbours: Neighbours
    sandbox: httpx.Client
    folder: Path
    heard: Heard

    @contextmanager
    def api(self) -> Iterator[Caller]:
        let_in(self.database, KEY)
        log = self.folder / "api.log"
        with (
            server("payments", "api", environment=self.environment, log=log) as (url, process),
            # Less than the API keeps a connection that is idle, or one is used at the moment in which it ends.
            httpx.Client(base_url=url, trust_env=False, timeout=30, limits=httpx.Limits(keepalive_expiry=1)) as http,
        ):
            self.heard.command_lines["api"] = command_line(process.pid)
            yield Caller(http, self.heard, key=KEY)
            self.heard.metrics["api"] = http.get("/metrics").text

    @contextmanager
    def worker(self) -> Iterator[None]:
        with program("payments", "worker", environment=self.environment, log=self.folder / "worker.log") as process:
            yield
            self.heard.command_lines["worker"] = command_line(process.pid)

    def command(self, *arguments: str, **environment: str) -> None:
        """An operator's command, and what it says."""
        run = subprocess.run(
            [sys.executable, "-m", "payments", *arguments],
            env={**BARE_ENVIRONMENT, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        self.heard.commands[f"{len(self.heard.commands)} {' '.join(arguments[:2])}"] = run.stdout

    def authenticate(self, order_id: str, **more: object) -> str:
        asked = {"orderId": order_id, "amount": AMOUNT, **more}
        return str(self.sandbox.post("/sandbox/payments", json=asked).raise_for_status().json()["paymentKey"])

    def act(self, payment_key: str, verb: str) -> None:
        self.sandbox.post(f"/sandbox/payments/{payment_key}/{verb}").raise_for_status()

    def execute(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.postgres.url("postgres").replace("+psycopg", "", 1), autocommit=True) as connection:
            connection.execute(statement)

    def in_database(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.plain_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    @property
    def plain_url(self) -> str:
        return self.database.replace("+psycopg", "", 1)

    @property
    def database_name(self) -> str:
        return urlsplit(self.database).path.removeprefix("/")

    def log_says(self, which: str, *events: str) -> bool:
        text = (self.folder / f"{which}.log").read_text(encoding="utf-8")
        return all(f'"event": "{event}"' in text for event in events)


def environment_of(database: str, neighbours: Neighbours) -> dict[str, str]:
    """A canary in every secret."""
    alerts = neighbours.url.replace("http://", f"json://operator:{ALERT_TOKEN}@")
    told = environment_for(
        database.replace("://postgres@", f"://postgres:{DATABASE_PASSWORD}@"),
        neighbours.url,
        ORDERS_URL=neighbours.url,
        EVENTS_URL=f"{neighbours.url}/events?token={ALERT_TOKEN}",
        EVENTS_SECRETS=EVENTS_SECRET,
        TOSS_WEBHOOK_SECRETS=WEBHOOK_SECRET,
        ALERT_URLS=f"{alerts}/alerts/{ALERT_TOKEN}?-token={ALERT_TOKEN}",
        TOSS_WORKER_RATE="200",
    )
    return {**told, "TOSS_SECRET_KEY": TOSS_KEY}


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def tell(world: World, *, more: Sequence[Callable[[World], None]] = ()) -> None:
    """The whole story; `more` is told of programs that run well."""
    log_of_server = guard.log_of(world.postgres._data)
    began_at = log_of_server.stat().st_size
    configured_wrongly(world)
    with world.api() as caller:
        world.heard.routes |= caller.routes()
        pushed_through_every_route(world, caller)
        no_http_at_all(str(caller._http.base_url))
        with world.worker():
            paid_while_others_repeat(world, caller)
            given_back_while_others_repeat(world, caller)
            told_by_webhooks(world, caller)
            looked_after_by_commands(world)
            for part in more:
                part(world)
            broken_by_a_bug(world, caller)
            without_a_database(world, caller)
    gather(world, log_of_server, began_at)


def configured_wrongly(world: World) -> None:
    """Nothing starts, and what is wrong is said without saying what was given."""
    secrets = " ".join(canaries.SECRETS.values())
    world.command("api", **dict.fromkeys(world.environment, f"{secrets}:{secrets}@{secrets}"))
    world.command("refunds", "resolve", TOSS_KEY, WRONG_KEY, "--limit", TOKEN)
    world.command("migrate", DATABASE_URL=f"{AWAY}?nosuch={DATABASE_PASSWORD}&sslmode={DATABASE_PASSWORD}")


def configured_wrongly_in_other_ways(world: World) -> None:
    world.command("worker", ALERT_URLS=f"nosuch://{ALERT_TOKEN}/{ALERT_TOKEN}")
    for url in (AWAY, f"{AWAY}/{DATABASE_PASSWORD}", f"postgresql+psycopg://a:{DATABASE_PASSWORD}@[::1/x"):
        world.command("migrate", DATABASE_URL=url)
        world.command("recover", DATABASE_URL=url)
    world.command("health", "worker", DATABASE_URL=f"{AWAY}?connect_timeout={DATABASE_PASSWORD}")


def pushed_through_every_route(world: World, caller: Caller) -> None:
    world.neighbours.are(Mood.WELL)
    for method, path in sorted(world.heard.routes):
        world.heard.pushed.add((method, path))
        push(caller, method, path)
    for path in (
        "/",
        f"/{quote(FREE_TEXT)}",
        f"/payments/{quote(EMAIL)}",
        "/payments/prepare/x",
        "/docs/oauth2-redirect",
    ):
        caller.ask("GET", path)
    caller.ask("TRACE", "/payments/prepare")
    caller.ask("DELETE", f"/payments/{UNKNOWN_KEY}")


def push(caller: Caller, method: str, path: str) -> None:
    """Whatever can be wrong about a request to one route."""
    for place in (UNKNOWN_KEY, quote(FREE_TEXT, safe=""), quote(HOLDER), quote(TOKEN)):
        filled = path.replace("{paymentKey}", place).replace("{orderId}", place)
        if method == "GET":
            caller.ask(method, filled)
        else:
            caller.ask(
                method, filled, json={"cancelReason": FREE_TEXT, "refundReceiveAccount": {"accountNumber": ACCOUNT}}
            )
        if "{" not in path:
            break
    filled = path.replace("{paymentKey}", UNKNOWN_KEY).replace("{orderId}", "order-of-nobody")
    caller.ask(method, filled, query=True, json={} if method != "GET" else None)
    for key in (TOKEN, WRONG_KEY, f"{TOSS_KEY}:"):
        caller.ask(method, filled, key=key, json={} if method != "GET" else None)
    signed = {"toss-signature": SIGNATURE, "tosspayments-webhook-signature": f"v1:{SIGNATURE}"}
    for body in BODIES if method != "GET" else ():
        caller.ask(method, filled, content=body, headers={"content-type": "application/json"})
        caller.ask(method, filled, content=body, headers={"content-type": "application/json", **signed})
    if method != "GET":
        caller.ask(method, filled, content=FREE_TEXT * 4_000, headers={"content-type": "application/json"})
        caller.ask(method, filled, data={"password": FREE_TEXT})
        caller.ask(method, filled, content=b"{}", headers={"idempotency-key": FREE_TEXT, "content-type": FREE_TEXT})


def no_http_at_all(url: str) -> None:
    with socket.create_connection((urlsplit(url).hostname or "", urlsplit(url).port or 0), timeout=10) as plain:
        plain.sendall(f"GET /?token={QUERY} HTTP/9.9\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        plain.recv(4_000)


def paid_while_others_repeat(world: World, caller: Caller) -> None:
    pg = world.neighbours.moods
    for mood in (Mood.ECHO, Mood.GARBAGE, Mood.PAGE, Mood.SILENCE):
        pg["orders"] = mood
        caller.prepare(f"order-of-{mood}")
    pg["orders"] = Mood.WELL
    for mood in (Mood.ECHO, Mood.REFUSAL, Mood.GARBAGE, Mood.PAGE, Mood.SILENCE):
        order_id = f"order-pg-{mood}"
        caller.prepare(order_id)
        payment_key = world.authenticate(order_id)
        pg["v1"] = mood
        caller.confirm(payment_key, order_id)
        caller.ask("GET", f"/payments/orders/{order_id}")
        pg["v1"] = Mood.WELL
    caller.prepare("order-mismatch")
    payment_key = world.authenticate("order-mismatch")
    fault = {"operation": "confirm", "kind": "wrong_amount", "orderId": "order-mismatch"}
    world.sandbox.post("/sandbox/faults", json=fault).raise_for_status()
    pg["events"] = pg["alerts"] = Mood.ECHO
    caller.confirm(payment_key, "order-mismatch")
    until(lambda: world.neighbours.were_asked("events", Mood.ECHO))


def given_back_while_others_repeat(world: World, caller: Caller) -> None:
    """A virtual account that was paid into, and whose money goes back to an account of the buyer."""
    pg = world.neighbours.moods
    caller.prepare("order-account", method="VIRTUAL_ACCOUNT")
    payment_key = world.authenticate("order-account", method="VIRTUAL_ACCOUNT", holderName=HOLDER_AT_PG)
    caller.ask("POST", "/payments/confirm", own=True, json=confirm_body(payment_key, "order-account"))
    world.act(payment_key, "deposit")
    hint = {"eventType": "PAYMENT_STATUS_CHANGED", "data": {"paymentKey": payment_key, "orderId": "order-account"}}
    caller.ask("POST", "/webhook/toss", json=hint)
    until(lambda: caller.status("order-account") == "COMPLETED")
    account = {"bank": "88", "accountNumber": ACCOUNT, "holderName": HOLDER}
    refusals = {"INVALID_REFUND_ACCOUNT_INFO": 1_000, "NOT_CANCELABLE_PAYMENT": 1_001}
    pg["v1"] = Mood.REFUSAL
    for world.neighbours.refusal_code, amount in refusals.items():
        caller.cancel("order-account", own=False, cancelReason="x", cancelAmount=amount, refundReceiveAccount=account)
    for mood in (Mood.ECHO, Mood.GARBAGE, Mood.PAGE):
        pg["v1"] = mood
        caller.cancel("order-account", name="last", cancelAmount=5_000, refundReceiveAccount=account)
    pg["v1"] = Mood.WELL
    until(
        lambda: caller.cancel("order-account", name="last", cancelAmount=5_000, refundReceiveAccount=account).is_success
    )
    caller.ask("GET", "/payments/orders/order-account", own=True)
    caller.ask("GET", f"/payments/{payment_key}/events", own=True)


def told_by_webhooks(world: World, caller: Caller) -> None:
    world.neighbours.moods["v1"] = Mood.ECHO
    event = {"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": FREE_TEXT, "note": f"{HOLDER} {TOKEN}"}
    data = {"orderId": "order-pg-echo", "status": FREE_TEXT[:60], "secret": SIGNATURE, "card": canaries.CARD}
    caller.ask("POST", "/webhook/toss", json={**event, "data": data})
    caller.ask("POST", "/webhook/toss", json={"eventType": f"{EMAIL} {HOLDER}"})
    until(lambda: world.log_says("worker", "pg.answer_unknown"))
    until(lambda: world.log_says("worker", "alert.not_sent"))


def looked_after_by_commands(world: World) -> None:
    world.neighbours.are(Mood.ECHO)
    world.command("reconcile", "--date", "today")
    world.neighbours.are(Mood.WELL)


def looked_after_by_more_commands(world: World) -> None:
    for mood in (Mood.GARBAGE, Mood.PAGE, Mood.SILENCE, Mood.WELL):
        world.neighbours.are(mood)
        world.command("check-orders", "--date", "today")
        world.command("reconcile", "--date", "today", "--force")
        world.command("deliver")
    world.command("events", "replay")
    world.command("webhooks", "replay")
    world.command("discrepancies", "list", "--json")


def broken_by_a_bug(world: World, caller: Caller) -> None:
    """What the programs expect of their database is not so."""
    world.in_database("ALTER TABLE payments RENAME COLUMN next_check_at TO renamed")
    every_answer(caller)
    until(lambda: world.log_says("worker", "job.failed"))
    world.command("recover")
    world.in_database("ALTER TABLE payments RENAME COLUMN renamed TO next_check_at")


def without_a_database(world: World, caller: Caller) -> None:
    name = sql.Identifier(world.database_name)
    ended = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = {}"
    world.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    world.execute(sql.SQL(ended).format(sql.Literal(world.database_name)))
    every_answer(caller)
    until(lambda: world.log_says("worker", "job.waiting"))
    world.command("recover")
    world.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


def every_answer(caller: Caller) -> None:
    """One request of each kind, all of them well formed."""
    caller.prepare("order-unlucky")
    caller.confirm(UNKNOWN_KEY, "order-unlucky")
    caller.cancel("order-unlucky", own=False)
    caller.ask("POST", "/webhook/toss", json={"eventType": "PAYMENT_STATUS_CHANGED", "data": {"paymentKey": TOKEN}})
    for path in ("/payments/orders/order-unlucky", f"/payments/{UNKNOWN_KEY}", f"/payments/{UNKNOWN_KEY}/events"):
        caller.ask("GET", path)
    for path in ("/health/ready", "/metrics"):
        caller.ask("GET", path)
    caller.ask("GET", "/events", own=True)


def gather(world: World, log_of_server: Path, began_at: int) -> None:
    heard = world.heard
    for name in ("api", "worker", "sandbox"):
        heard.logs[name] = (world.folder / f"{name}.log").read_text(encoding="utf-8")
    with log_of_server.open("rb") as log:
        log.seek(began_at)
        heard.logs["PostgreSQL"] = log.read().decode(errors="replace")
    for table, column in columns(world):
        values = world.in_database(f'SELECT "{column}" FROM "{table}"')  # noqa: S608 - names of our own schema
        heard.rows[f"{table}.{column}"] = "\n".join(as_text(value) for (value,) in values)


def columns(world: World) -> Sequence[tuple[str, str]]:
    found = world.in_database(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    return [(str(table), str(column)) for table, column in found]


def as_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
