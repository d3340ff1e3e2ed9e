"""The words in which the stories of webhooks are told: events as Toss builds them, and lives of payments recorded."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

import httpx
from sqlalchemy import func, select, update

from payments.db import transaction
from payments.gateways.pg import PaymentGateway
from payments.gateways.toss import TossClient
from payments.records import ReceivedWebhook
from payments.resources import Resources
from payments.usecases.work_webhooks import work_webhooks
from tests.integration.world import SECRET_KEY, Sandbox

NEW_SECRET: Final = "new-secret-of-the-webhooks"
OLD_SECRET: Final = "1f" * 32  # as Toss's security keys are written
RETIRED_SECRET: Final = "secret-that-was-retired"

Event = dict[str, Any]

_microseconds = count(1)


def created_now() -> str:
    """As Toss writes it: in Seoul, without saying so; never twice the same."""
    return f"2026-11-02T12:00:00.{next(_microseconds):06d}"


def status_changed(shown: Event, **changes: object) -> Event:
    """The event of envelope A about a payment as Toss shows it; `changes` are what a forger makes of it."""
    return {"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": created_now(), "data": {**shown, **changes}}


def deposit_callback(shown: Event) -> Event:
    """The flat event of envelope B, which has no payment key."""
    return {
        "createdAt": created_now(),
        "secret": shown["secret"],
        "status": shown["status"],
        "transactionKey": shown["lastTransactionKey"],
        "orderId": shown["orderId"],
    }


def cancel_changed(cancel: Event) -> Event:
    """The event about one cancel, which names neither order nor payment."""
    return {"eventType": "CANCEL_STATUS_CHANGED", "createdAt": created_now(), "data": cancel}


def a_hint(order_id: str, payment_key: str | None = None, status: str = "DONE") -> Event:
    """What anybody can send who has seen an order id."""
    data = {"orderId": order_id, "paymentKey": payment_key, "status": status}
    return {"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": created_now(), "data": data}


def as_sent(event: Event) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def signed(body: bytes, secret: str = NEW_SECRET) -> dict[str, str]:
    """The header of a relay of ours."""
    return {"toss-signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


def signed_as_toss(body: bytes, secret: str = NEW_SECRET, *, age: timedelta = timedelta()) -> dict[str, str]:
    """The headers by which Toss signs payouts and sellers."""
    sent_at = (datetime.now(UTC) - age).isoformat(timespec="seconds")
    mac = hmac.new(secret.encode(), body + b":" + sent_at.encode(), hashlib.sha256).digest()
    return {
        "tosspayments-webhook-signature": f"v1:{base64.b64encode(mac).decode()}",
        "tosspayments-webhook-transmission-time": sent_at,
    }


Headers = dict[str, str] | list[tuple[str, str]]


async def transmitted(api: httpx.AsyncClient, body: bytes, headers: Headers | None = None) -> httpx.Response:
    """Exactly these bytes arrive."""
    lines = [*(headers.items() if isinstance(headers, dict) else headers or ())]
    return await api.post("/webhook/toss", content=body, headers=[("content-type", "application/json"), *lines])


async def delivered(api: httpx.AsyncClient, *events: Event) -> None:
    """These arrive, unsigned, one after the other."""
    for event in events:
        answer = await transmitted(api, as_sent(event))
        assert (answer.status_code, answer.json()) == (200, {"status": "stored"})


async def stored(resources: Resources) -> Sequence[ReceivedWebhook]:
    """What the inbox holds, oldest first."""
    async with transaction(resources.sessions) as session:
        return (await session.scalars(select(ReceivedWebhook).order_by(ReceivedWebhook.id))).all()


async def outcomes(resources: Resources) -> list[str | None]:
    return [one.outcome.value if one.outcome else None for one in await stored(resources)]


async def let_time_pass(resources: Resources) -> None:
    """Every pause is over, and the last question to the PG long ago."""
    a_minute_ago = ReceivedWebhook.looked_up_at - timedelta(minutes=1)
    async with transaction(resources.sessions) as session:
        await session.execute(update(ReceivedWebhook).values(next_attempt_at=func.now(), looked_up_at=a_minute_ago))


async def work_now(resources: Resources, *, pg: PaymentGateway | None = None) -> None:
    """The worker works until nothing is due."""
    await let_time_pass(resources)
    while await work_webhooks(sessions=resources.sessions, pg=pg or resources.pg):
        pass


async def look_ups(sandbox: Sandbox, order_id: str) -> int:
    """How often Toss was asked about a payment."""
    return sum(call["method"] == "GET" for call in await sandbox.calls(order_id))


@dataclass
class Tale:
    """One payment that lives a life recorded earlier; Toss shows the stage that it has come to."""

    number: int
    sequence: Sequence[int]  # of the stages whose events arrive, in their order
    life: Sequence[Event] = field(repr=False)
    stage: int = 0

    @property
    def order_id(self) -> str:
        return f"order-of-tale-{self.number:06d}"

    @property
    def payment_key(self) -> str:
        return f"tviva20261102120000{self.number:06d}"

    def shown(self, stage: int) -> Event:
        """The recorded payment under this tale's names."""
        recorded = self.life[stage]
        text = json.dumps(recorded).replace(recorded["orderId"], self.order_id)
        text = text.replace(recorded["paymentKey"], self.payment_key)
        keys = {recorded["lastTransactionKey"], *(one["transactionKey"] for one in recorded["cancels"] or ())}
        for key in keys:
            text = text.replace(key, f"{key[:40]}_{self.number:06d}")
        renamed: Event = json.loads(text)
        return renamed

    @property
    def last_news(self) -> int:
        """The step at which an event arrives for the first time, and after which none does."""
        return max(self.sequence.index(stage) for stage in self.sequence)

    def events(self, stage: int, created_at: str) -> list[Event]:
        """What Toss sends when the payment comes to a stage; of a virtual account the one, the other or both."""
        told = [status_changed(self.shown(stage)), deposit_callback(self.shown(stage))]
        registered = slice(*((0, 1), (1, 2), (0, 2))[self.number % 3]) if self.life[0]["virtualAccount"] else slice(1)
        return [{**event, "createdAt": created_at} for event in told[registered]]


def recorded_toss(tales: Sequence[Tale]) -> TossClient:
    """The client of Toss, on a wire at whose other end these lives are played back."""
    by_key = {tale.payment_key: tale for tale in tales}

    def answer(request: httpx.Request) -> httpx.Response:
        tale = by_key[request.url.path.rpartition("/")[2]]
        return httpx.Response(200, json=tale.shown(tale.stage))

    return TossClient(base_url="http://recorded.example", secret_key=SECRET_KEY, transport=httpx.MockTransport(answer))
