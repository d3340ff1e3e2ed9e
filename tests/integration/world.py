"""The words in which the stories are told."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import httpx
from pydantic import SecretStr
from sqlalchemy import func, select, update

from payments.db import transaction
from payments.models import Payment, Refund
from payments.records import Discrepancy, OutboxMessage
from payments.resources import Resources
from payments.settings import Environment, Rate, Settings
from payments.states import RefundStatus
from payments.usecases.recover import recover, watch
from payments.usecases.refund import resolve_refunds

SHOP: Final = "https://shop.example"
UNLIMITED: Final = Rate(1_000_000, 1.0)
CLIENT_KEY: Final = "test_ck_sandbox0000000000000000000000"
SECRET_KEY: Final = "test_sk_sandbox0000000000000000000000"
ORDER: Final = "order-000001"
AMOUNT: Final = 15_000
REASON: Final = "고객 변심"
ACCOUNT: Final = {"bank": "88", "accountNumber": "110123456789", "holderName": "김토스"}


def settings_for(database: str, sandbox_url: str) -> Settings:
    return Settings(
        environment=Environment.LOCAL,
        database_url=SecretStr(database),
        toss_api_url=sandbox_url,
        toss_client_key=CLIENT_KEY,
        toss_secret_key=SecretStr(SECRET_KEY),
        allowed_origins=(SHOP,),
        toss_worker_rate=10_000,  # the sandbox has no limit
        rate_limit_buyers=UNLIMITED,  # a story's buyers all come from one address
        rate_limit_webhooks=UNLIMITED,
        rate_limit_clients=UNLIMITED,
        rate_limit_failures=UNLIMITED,
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

    async def act(self, payment_key: str, verb: str, **more: object) -> dict[str, Any]:
        """A buyer, a bank or somebody in Toss's console does something to a payment; how Toss shows it then."""
        answer = await self.http.post(f"/sandbox/payments/{payment_key}/{verb}", json=more)
        answer.raise_for_status()
        shown: dict[str, Any] = answer.json()
        return shown

    async def shown(self, payment_key: str) -> dict[str, Any]:
        """The payment as Toss shows it, without a fault in between."""
        payments = (await self.http.get("/sandbox/payments")).json()
        return next(payment for payment in payments if payment["paymentKey"] == payment_key)

    async def cancelled(self, order_id: str = ORDER) -> list[int]:
        """The amounts that the PG gave back for an order: its books, not its answers."""
        ledger = (await self.http.get("/sandbox/ledger", params={"orderId": order_id})).json()
        return [cancel["amount"] for cancel in ledger["cancels"]]

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

    async def cancels(self, payment_key: str) -> list[dict[str, Any]]:
        """The requests to cancel a payment that reached the PG, whatever became of them."""
        path = f"/v1/payments/{payment_key}/cancel"
        calls = (await self.http.get("/sandbox/calls", params={"paymentKey": payment_key})).json()["calls"]
        return [call for call in calls if call["path"] == path]


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
        await session.execute(
            update(Payment).where(Payment.next_check_at.is_not(None)).values(next_check_at=func.now())
        )


async def recover_now(resources: Resources) -> int:
    await make_due(resources)
    return await recover(sessions=resources.sessions, hot=resources.hot, pg=resources.pg, lease=resources.pg_lease)


async def watch_now(resources: Resources) -> int:
    """The worker looks at every payment that may have changed at the PG by itself."""
    await make_due(resources)
    every = timedelta(minutes=5)
    return await watch(sessions=resources.sessions, pg=resources.pg, lease=resources.pg_lease, every=every)


async def resolve_now(resources: Resources) -> list[RefundStatus]:
    """An operator has every undecided refund asked about."""
    return [one.status for one in await resolve_refunds(sessions=resources.sessions, pg=resources.pg)]


async def paid(
    api: httpx.AsyncClient,
    sandbox: Sandbox,
    order_id: str = ORDER,
    amount: int = AMOUNT,
    *,
    method: str = "CARD",
    **more: object,
) -> str:
    """A payment that was prepared and confirmed; its payment key. COMPLETED, or waiting for a deposit."""
    await prepared(api, order_id, amount=amount, method=method)
    payment_key = await sandbox.buyer_authenticates(order_id, amount, method=method, **more)
    (await api.post("/payments/confirm", json=confirm_body(payment_key, order_id, amount))).raise_for_status()
    return payment_key


async def deposited(api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> str:
    """A virtual account that was paid into, and whose deposit we have seen; its payment key."""
    payment_key = await paid(api, sandbox, method="VIRTUAL_ACCOUNT")
    await sandbox.act(payment_key, "deposit")
    await watch_now(resources)
    return payment_key


async def cancelling(
    api: httpx.AsyncClient, amount: int | None = None, *, order_id: str = ORDER, key: str | None = None, **more: object
) -> httpx.Response:
    """The back office gives a payment up, or money back; under a new key unless one is named."""
    body = {"cancelReason": REASON, **({} if amount is None else {"cancelAmount": amount}), **more}
    headers = {"idempotency-key": key or secrets.token_hex(16)}
    return await api.post(f"/payments/orders/{order_id}/cancel", json=body, headers=headers)


async def until(happened: Callable[[], Awaitable[object]]) -> None:
    """Wait for another process to get somewhere; fails after 20 s."""
    async with asyncio.timeout(20):
        while not await happened():  # noqa: ASYNC110 - another process sets no event here
            await asyncio.sleep(0.02)


async def make_refunds_due(resources: Resources) -> None:
    """The same as `make_due` for refunds."""
    due = update(Refund).where(Refund.next_check_at.is_not(None)).values(next_check_at=func.now())
    async with transaction(resources.sessions) as session:
        await session.execute(due)
