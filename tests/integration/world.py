"""The words in which the stories are told."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx
from pydantic import SecretStr
from sqlalchemy import func, select, update

from payments.db import transaction
from payments.models import Payment
from payments.records import Discrepancy, OutboxMessage
from payments.resources import Resources
from payments.settings import Environment, Settings
from payments.usecases.recover import recover

SHOP: Final = "https://shop.example"
CLIENT_KEY: Final = "test_ck_sandbox0000000000000000000000"
SECRET_KEY: Final = "test_sk_sandbox0000000000000000000000"
ORDER: Final = "order-000001"
AMOUNT: Final = 15_000


def settings_for(database: str, sandbox_url: str) -> Settings:
    return Settings(
        environment=Environment.LOCAL,
        database_url=SecretStr(database),
        toss_api_url=sandbox_url,
        toss_client_key=CLIENT_KEY,
        toss_secret_key=SecretStr(SECRET_KEY),
        allowed_origins=(SHOP,),
    )


def prepare_body(order_id: str = ORDER, amount: int = AMOUNT, **changes: object) -> dict[str, object]:
    return {
        "orderId": order_id,
        "amount": amount,
        "method": "CARD",
        "customerEmail": "buyer@example.com",
        "orderName": "토스 티셔츠 외 1건",
        "successUrl": f"{SHOP}/success",
        "failUrl": f"{SHOP}/fail",
        **changes,
    }


def confirm_body(payment_key: str, order_id: str = ORDER, amount: int = AMOUNT) -> dict[str, object]:
    return {"paymentKey": payment_key, "orderId": order_id, "amount": amount}


@dataclass(frozen=True)
class Sandbox:
    """What a story can do to, and ask of, the PG."""

    http: httpx.AsyncClient

    async def reset(self) -> None:
        (await self.http.post("/sandbox/reset")).raise_for_status()

    async def buyer_authenticates(self, order_id: str = ORDER, amount: int = AMOUNT, **more: object) -> str:
        """A buyer goes through the payment window; the payment key that comes back in the redirect."""
        asked = {"orderId": order_id, "amount": amount, **more}
        answer = await self.http.post("/sandbox/payments", json=asked)
        answer.raise_for_status()
        payment_key: str = answer.json()["paymentKey"]
        return payment_key

    async def arm(self, operation: str, kind: str, **more: object) -> None:
        fault = {"operation": operation, "kind": kind, **more}
        (await self.http.post("/sandbox/faults", json=fault)).raise_for_status()

    async def clear_faults(self) -> None:
        (await self.http.delete("/sandbox/faults")).raise_for_status()

    async def advance(self, *, minutes: int) -> None:
        (await self.http.post("/sandbox/clock", json={"advanceSeconds": minutes * 60})).raise_for_status()

    async def captures(self, order_id: str = ORDER) -> list[int]:
        """The amounts that the PG took for an order: its books, not its answers."""
        ledger = (await self.http.get("/sandbox/ledger", params={"orderId": order_id})).json()
        return [capture["amount"] for capture in ledger["captures"]]

    async def calls(self, order_id: str = ORDER) -> list[dict[str, Any]]:
        """Every request that reached the PG about an order."""
        calls: list[dict[str, Any]] = (await self.http.get("/sandbox/calls", params={"orderId": order_id})).json()[
            "calls"
        ]
        return calls

    async def confirms(self, order_id: str = ORDER) -> list[dict[str, Any]]:
        return [call for call in await self.calls(order_id) if call["path"].endswith("/confirm")]


async def prepared(api: httpx.AsyncClient, order_id: str = ORDER, **changes: object) -> httpx.Response:
    answer = await api.post("/payments/prepare", json={**prepare_body(order_id), **changes})
    answer.raise_for_status()
    return answer


async def read(api: httpx.AsyncClient, order_id: str = ORDER) -> dict[str, Any]:
    answer = await api.get(f"/payments/orders/{order_id}")
    answer.raise_for_status()
    payment: dict[str, Any] = answer.json()
    return payment


async def discrepancy_kinds(resources: Resources) -> list[str]:
    async with transaction(resources.sessions) as session:
        return [kind.value for kind in await session.scalars(select(Discrepancy.kind).order_by(Discrepancy.kind))]


async def announced(resources: Resources) -> list[str]:
    """The types of the messages that wait for the order service, oldest first."""
    async with transaction(resources.sessions) as session:
        return [row.value for row in await session.scalars(select(OutboxMessage.type).order_by(OutboxMessage.id))]


async def make_due(resources: Resources) -> None:
    """Let the time until the next question to the PG be over."""
    async with transaction(resources.sessions) as session:
        await session.execute(update(Payment).values(next_check_at=func.now()))


async def recover_now(resources: Resources) -> int:
    await make_due(resources)
    return await recover(sessions=resources.sessions, pg=resources.pg, lease=resources.confirm_lease)


async def until(happened: Callable[[], Awaitable[object]]) -> None:
    """Wait for another process to get somewhere; fails after 20 s."""
    async with asyncio.timeout(20):
        while not await happened():  # noqa: ASYNC110 - another process sets no event here
            await asyncio.sleep(0.01)
