"""The words in which the stories are told."""

from dataclasses import dataclass
from typing import Any, Final

import httpx
from pydantic import SecretStr

from payments.settings import Environment, Settings

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
