"""One story, lived once on the hot path and once on the plain one, and everything that it leaves behind."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, cast
from uuid import UUID

import httpx
import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy import update

from payments.api.app import create_app
from payments.db import transaction
from payments.errors import PaymentError
from payments.gateways.pg import Answer, PaymentGateway
from payments.models import FIRST_DEPOSIT_CHECK, Payment
from payments.resources import Resources
from payments.settings import Settings
from payments.states import PaymentMethod
from payments.usecases.confirm import ConfirmRequest, confirm
from payments.usecases.prepare import PrepareRequest, prepare
from tests.integration.conftest import HOT
from tests.integration.webhook_world import Event, Headers, as_sent, transmitted
from tests.integration.world import AMOUNT, ORDER, SHOP, Sandbox, confirm_body, prepare_body, recover_now
from tests.keys import AUTHORIZATION

# What the stories write to, each in an order that does not depend on chance.
TABLES: Final = {
    "payments": ("order_id",),
    "payment_events": ("payment_id", "sequence"),
    "outbox_messages": ("payment_id", "sequence"),
    "refunds": ("requested_at", "id"),
    "stray_captures": ("found_at", "id"),
    "discrepancies": ("first_seen_at", "kind"),
    "received_webhooks": ("id",),
}
# What chance makes anew for each life: as our columns call it, and as Toss and our answers do.
BY_CHANCE: Final = frozenset(
    {
        *("payment_key", "confirm_key", "webhook_secret", "receipt_url", "account_number", "dedupe_key"),
        *("transaction_key", "refund_key", "paymentKey", "receiptUrl", "accountNumber", "transactionKey"),
        *("lastTransactionKey", "secret", "idempotencyKey", "url"),
    }
)
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d)")
_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Row = dict[str, Any]
Books = dict[str, list[Row]]


class Names:
    """The same name for the same value, in the order in which values are met: what is equal stays equal."""

    def __init__(self) -> None:
        self._given: dict[object, str] = {}

    def learn(self, told: object) -> None:
        """Name what chance has made."""
        if isinstance(told, Mapping):
            for name, value in told.items():
                if name in BY_CHANCE and isinstance(value, str) and value:
                    self._name(value)
                self.learn(value)
        elif isinstance(told, list | tuple):
            for one in told:
                self.learn(one)

    def of(self, value: object) -> object:
        match value:
            case Mapping():
                return {str(name): self.of(inner) for name, inner in value.items()}
            case list() | tuple():
                return [self.of(inner) for inner in value]
            case UUID() | datetime():
                return self._name(value)
            case str():
                return self._of_text(value)
            case _:
                return value

    def _name(self, value: object) -> str:
        return self._given.setdefault(value, f"<{type(value).__name__} {len(self._given)}>")

    def _of_text(self, text: str) -> str:
        if _MOMENT.fullmatch(text):
            return self._name(datetime.fromisoformat(text))
        if _ID.fullmatch(text):
            return self._name(UUID(text))
        for value, name in self._given.items():
            if isinstance(value, str | UUID):
                text = text.replace(str(value), name)
        return text


@dataclass
class World:
    """One of the two ways to live, on a database of its own."""

    api: httpx.AsyncClient
    sandbox: Sandbox
    resources: Resources
    url: str  # of the database, as psycopg takes it
    told: list[object] = field(default_factory=list)  # what the story was answered

    async def prepare(self, order_id: str = ORDER, *, ok: bool = True, **changes: object) -> None:
        answer = await self.api.post("/payments/prepare", json={**prepare_body(order_id), **changes})
        assert answer.is_success is ok
        self._note(answer)

    async def prepare_for(self, buyer: str | None) -> None:
        """The use case itself, for whom the API would have to be told of by a token."""
        held, page = self.resources, f"{SHOP}/page"
        asked = PrepareRequest(ORDER, AMOUNT, PaymentMethod.CARD, "buyer@example.com", "토스 티셔츠", page, page, buyer)
        await prepare(asked, sessions=held.sessions, hot=held.hot, orders=None, allowed_origins=[SHOP])

    async def confirm(self, payment_key: str, order_id: str = ORDER, amount: int = AMOUNT) -> None:
        body = confirm_body(payment_key, order_id, amount)
        self._note(await self.api.post("/payments/confirm", json=body))

    async def confirm_for(self, buyer: str | None, payment_key: str, *, pg: PaymentGateway | None = None) -> None:
        """The use case itself."""
        held = self.resources
        asked = ConfirmRequest(payment_key, ORDER, AMOUNT, buyer)
        try:
            confirmed = await confirm(
                asked,
                sessions=held.sessions,
                hot=held.hot,
                pg=pg or held.pg,
                background=held.background,
                lease=held.pg_lease,
            )
        except PaymentError as error:
            self.told.append((error.code, error.detail))
        else:
            self.told.append((confirmed.payment.status.value, len(confirmed.refunds)))

    async def deliver(self, event: Event, headers: Headers | None = None) -> None:
        self._note(await transmitted(self.api, as_sent(event), headers))

    async def recover(self) -> None:
        self.told.append(("recovered", await recover_now(self.resources)))

    async def age(self, by: timedelta) -> None:
        """Let the confirm have begun so much earlier."""
        async with transaction(self.resources.sessions) as session:
            await session.execute(update(Payment).values(pending_since=Payment.pending_since - by))

    def _note(self, answer: httpx.Response) -> None:
        headers = {name: answer.headers.get(name) for name in ("content-type", "retry-after")}
        self.told.append((answer.status_code, answer.json(), headers))


Story = Callable[[World], Awaitable[None]]


@asynccontextmanager
async def living(settings: Settings, sandbox: Sandbox, path: str) -> AsyncIterator[World]:
    """The API on one of the paths."""
    await sandbox.reset()
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        if path != HOT:
            app.state.resources = replace(app.state.resources, hot=None)
        headers = {"origin": SHOP, "x-request-id": "story", **AUTHORIZATION}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://api", headers=headers
        ) as api:
            url = settings.database_url.get_secret_value().replace("+psycopg", "", 1)
            yield World(api, sandbox, app.state.resources, url)


async def left_by(world: World) -> list[str]:
    """Everything that is to be the same: what was answered, what is in the books, what the PG was asked."""
    books = books_of(world)
    calls = [
        {name: call[name] for name in ("method", "path", "idempotencyKey")} for call in await world.sandbox.calls(ORDER)
    ]
    names = Names()
    names.learn([*books.values(), world.told, calls])
    return [*_lines(names.of({**books, "told": world.told, "asked": calls}))]


def _lines(value: object, place: str = "") -> Iterator[str]:
    """One for each value, so that a difference is seen at once."""
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from _lines(one, f"{place}.{name}")
    if not inner:
        yield f"{place} = {value!r}"


def books_of(world: World) -> Books:
    """All rows, each column of them; checked to be in the order in which things happened."""
    with psycopg.connect(world.url, row_factory=dict_row) as connection:
        books = {table: connection.execute(_all_of(table, order)).fetchall() for table, order in TABLES.items()}
    _check_times(books)
    for payment in books["payments"]:
        payment["checked_after"] = _plan(world, payment, books["payment_events"])
    for message in books["outbox_messages"]:
        assert message.pop("transaction_id") > 0  # a number of this database's
    for webhook in books["received_webhooks"]:
        webhook["body"] = json.loads(webhook["body"])
    return books


def _all_of(table: str, order: Sequence[str]) -> sql.Composed:
    by = sql.SQL(", ").join(map(sql.Identifier, order))
    return sql.SQL("SELECT * FROM {} ORDER BY {}").format(sql.Identifier(table), by)


def _check_times(books: Books) -> None:
    """Names only tell which times are equal; these are their order."""
    for before, after in pairwise(books["payment_events"]):
        assert before["payment_id"] != after["payment_id"] or before["at"] <= after["at"]
    happened = {(event["payment_id"], event["sequence"]): event["at"] for event in books["payment_events"]}
    for message in books["outbox_messages"]:
        at = happened[message["payment_id"], message["sequence"]]
        assert (message["created_at"], message["next_attempt_at"]) == (at, at)
        assert datetime.fromisoformat(message["payload"]["timestamp"]) == at


def _plan(world: World, payment: Row, events: Sequence[Row]) -> str | None:
    """When the PG is to be asked again: the pauses that are exact; the others have a share of chance in them."""
    if payment["next_check_at"] is None:
        return None
    last = max(event["at"] for event in events if event["payment_id"] == payment["id"])
    pause = payment["next_check_at"] - last
    return str(pause) if pause in {FIRST_DEPOSIT_CHECK, world.resources.pg_lease.length} else "some time"


class _Meddled:
    def __init__(self, pg: PaymentGateway, meddle: Callable[[Answer], Awaitable[Answer]]) -> None:
        self._pg = pg
        self._meddle = meddle

    def __getattr__(self, name: str) -> object:
        return getattr(self._pg, name)

    async def confirm(self, payment_key: str, *, order_id: str, amount: int, idempotency_key: str) -> Answer:
        answer = await self._pg.confirm(payment_key, order_id=order_id, amount=amount, idempotency_key=idempotency_key)
        return await self._meddle(answer)


def meddled(pg: PaymentGateway, meddle: Callable[[Answer], Awaitable[Answer]]) -> PaymentGateway:
    """The PG, but something happens before its answer to a confirm is heard."""
    return cast("PaymentGateway", _Meddled(pg, meddle))
