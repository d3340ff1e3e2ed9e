"""What the parts share that run our house inside this process: its log, and the clients that come to it."""

import logging
import sys
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import structlog
from tests.integration.webhook_world import as_sent, signed, status_changed
from tests.integration.world import REASON, confirm_body, prepare_body

from payments.gateways.breaker import Breaker
from payments.gateways.toss import TossClient
from payments.observability import configure_logging
from payments.resources import BUYERS_CALLS, Resources
from payments.settings import LogFormat
from proof.books import CANCEL, CONFIRM, PREPARE, WEBHOOK, OrderBooks, Told
from proof.house import House
from proof.world import WEBHOOK_SECRET, Pg

_NEVER: Final = 1_000_000  # failures in a row

T = TypeVar("T")


@dataclass(slots=True)
class Log:
    """What our programs say in this process."""

    path: Path
    _marked: int = 0  # bytes

    def mark(self) -> None:
        """Forget what has been said so far."""
        self._marked = self.path.stat().st_size

    def said(self) -> str:
        """What has been said since the mark."""
        with self.path.open("rb") as written:
            written.seek(self._marked)
            return written.read().decode(errors="replace")


@contextmanager
def logged(path: Path, *, secrets: Iterable[str]) -> Iterator[Log]:
    """Have it written to a file, as in production, until the block ends."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    with path.open("w", encoding="utf-8", buffering=1) as written:
        configure_logging(LogFormat.JSON, to=written, secrets=secrets)
        structlog.configure(cache_logger_on_first_use=False)  # or what is cached would outlive the file
        try:
            yield Log(path)
        finally:
            structlog.configure(**before)
            root.handlers[:] = handlers
            root.setLevel(level)
            sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


@dataclass(slots=True)
class Clients:
    """Buyers, a back office and the PG's webhooks, who note what they are told."""

    house: House
    pg: httpx.AsyncClient
    told: list[Told] = field(default_factory=list)

    async def prepare(self, order_id: str) -> Told:
        answer = await self.house.api.post("/payments/prepare", json=prepare_body(order_id))
        told = self._note(PREPARE, order_id, order_id, answer)
        told.body.pop("customerEmail", None)  # nobody else's business, and the payment window needs it
        return told

    async def window(self, order_id: str, amount: int) -> str:
        """The buyer goes through the payment window; the payment key of the redirect."""
        answer = await self.pg.post("/sandbox/payments", json={"orderId": order_id, "amount": amount})
        return str(answer.raise_for_status().json()["paymentKey"])

    async def confirm(self, order_id: str, payment_key: str) -> Told:
        answer = await self.house.api.post("/payments/confirm", json=confirm_body(payment_key, order_id))
        return self._note(CONFIRM, order_id, payment_key, answer)

    async def cancel(self, order_id: str, name: str) -> Told:
        """The back office gives everything back; `name` is its idempotency key."""
        headers = {"idempotency-key": name}
        url = f"/payments/orders/{order_id}/cancel"
        answer = await self.house.api.post(url, json={"cancelReason": REASON}, headers=headers)
        return self._note(CANCEL, order_id, name, answer)

    async def event(self, order_id: str) -> bytes:
        """What the PG has to tell of the order's payment as it stands there."""
        shown = (await self.pg.get("/sandbox/payments", params={"orderId": order_id})).raise_for_status().json()
        return as_sent(status_changed(shown[0]))

    async def webhook(self, order_id: str, event: bytes) -> Told:
        headers = {"content-type": "application/json", **signed(event, WEBHOOK_SECRET)}
        answer = await self.house.api.post("/webhook/toss", content=event, headers=headers)
        return self._note(WEBHOOK, order_id, event.hex(), answer)

    def _note(self, what: str, order_id: str, name: str, answer: httpx.Response) -> Told:
        told = Told(what, order_id, name, answer.status_code, _body(answer))
        self.told.append(told)
        return told


def _body(answer: httpx.Response) -> Any:  # noqa: ANN401 - whatever JSON it is
    return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text


@asynccontextmanager
async def clients_of(house: House, pg: Pg) -> AsyncIterator[Clients]:
    async with httpx.AsyncClient(base_url=pg.url, trust_env=False, timeout=30) as http:
        yield Clients(house, http)


@dataclass(frozen=True, slots=True)
class Patient:
    """Clients of the PG whose circuits stay closed: many cuts in a row would open them, and nothing would be asked."""

    clients: list[TossClient] = field(default_factory=list)

    def fit(self, held: Resources) -> Resources:
        told = held.settings
        never = [Breaker(failures=_NEVER, pause=timedelta(seconds=1)) for _ in range(3)]
        client = TossClient(
            base_url=told.toss_api_url,
            secret_key=told.toss_secret_key.get_secret_value(),
            read_timeout=told.toss_read_timeout,
            max_concurrent=BUYERS_CALLS,
            breaker=never[0],
            look_up_breaker=never[1],
            cancel_breaker=never[2],
        )
        self.clients.append(client)
        return replace(held, pg=client)

    @asynccontextmanager
    async def closing(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for client in self.clients:
                await client.aclose()


Keys = Mapping[tuple[str, str], set[str]]  # by order and verb


def keys_asked_with(pg: Pg) -> Keys:
    """Under which idempotency keys the PG was asked for each order's money, or to give it back."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for call in pg.calls():
        if call["method"] == "POST":
            found[call["orderId"], call["path"].rsplit("/", 1)[1]].add(call["idempotencyKey"])
    return found


def under_other_keys(books: OrderBooks, asked: Keys) -> Iterator[str]:
    """What the PG was asked for and nobody had written down; for payments of one attempt that were not refused."""
    promised = {
        "confirm": {books.payment["confirm_key"]} if books.payment else set(),
        "cancel": {refund["refund_key"] for refund in books.refunds},
    }
    for verb, keys in promised.items():
        if not asked.get((books.order_id, verb), set()) <= keys:
            yield f"the PG was asked to {verb} under a key that is not written down"


def parts(all_of_them: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The same in the same order, so many at a time."""
    for at in range(0, len(all_of_them), size):
        yield all_of_them[at : at + size]
