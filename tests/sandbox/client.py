"""A merchant's view of the sandbox, for tests: the Toss API and the control API in a few words."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

ORDER = "order-000001"
SECRET_KEY = "test_sk_sandbox0000000000000000000000"
WIDGET_CLIENT_KEY = "test_gck_sandbox0000000000000000000000"
WIDGET_SECRET_KEY = "test_gsk_sandbox0000000000000000000000"
API_KEY = httpx.BasicAuth(SECRET_KEY, "")
WIDGET_KEY = httpx.BasicAuth(WIDGET_SECRET_KEY, "")


@dataclass(frozen=True)
class Toss:
    """Wraps an HTTP client whose base URL is the sandbox."""

    http: httpx.AsyncClient

    async def pay(self, order_id: str = ORDER, amount: int = 15_000, **more: object) -> str:
        """Do what a buyer does in the window; returns the payment key."""
        answer = await self.http.post("/sandbox/payments", json={"orderId": order_id, "amount": amount, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["paymentKey"])

    async def confirm(
        self,
        payment_key: str,
        order_id: str = ORDER,
        *,
        amount: object = 15_000,
        key: str | None = None,
        test_code: str | None = None,
        auth: httpx.Auth = API_KEY,
    ) -> httpx.Response:
        given = {"idempotency-key": key, "tosspayments-test-code": test_code}
        return await self.http.post(
            "/v1/payments/confirm",
            json={"paymentKey": payment_key, "orderId": order_id, "amount": amount},
            headers={name: value for name, value in given.items() if value is not None},
            auth=auth,
        )

    async def paid(self, order_id: str = ORDER, amount: int = 15_000, **more: object) -> str:
        """Take the money of an order, by deposit for a virtual account; returns the payment key."""
        payment_key = await self.pay(order_id, amount, **more)
        confirmed = await self.confirm(payment_key, order_id, amount=amount)
        assert confirmed.status_code == 200, confirmed.text
        if confirmed.json()["status"] == "WAITING_FOR_DEPOSIT":
            await self.control(payment_key, "deposit")
        return payment_key

    async def cancel(
        self,
        payment_key: str,
        members: Mapping[str, object] | None = None,
        *,
        key: str | None = None,
        test_code: str | None = None,
        auth: httpx.Auth = API_KEY,
        **more: object,
    ) -> httpx.Response:
        """Cancel by the Toss API; the body has a reason unless it is given another."""
        given = {"idempotency-key": key, "tosspayments-test-code": test_code}
        return await self.http.post(
            f"/v1/payments/{payment_key}/cancel",
            json={"cancelReason": "구매자 변심", **(members or {}), **more},
            headers={name: value for name, value in given.items() if value is not None},
            auth=auth,
        )

    async def control(self, payment_key: str, verb: str, **body: object) -> dict[str, Any]:
        """Do what the control API can do to a payment; returns the Payment object."""
        answer = await self.ask_control(payment_key, verb, **body)
        assert answer.status_code == 200, answer.text
        payment: dict[str, Any] = answer.json()
        return payment

    async def ask_control(self, payment_key: str, verb: str, **body: object) -> httpx.Response:
        return await self.http.post(f"/sandbox/payments/{payment_key}/{verb}", json=body)

    async def look_up(self, payment_key: str) -> httpx.Response:
        return await self.http.get(f"/v1/payments/{payment_key}", auth=API_KEY)

    async def look_up_order(self, order_id: str = ORDER) -> httpx.Response:
        return await self.http.get(f"/v1/payments/orders/{order_id}", auth=API_KEY)

    async def move_clock(self, **duration: int) -> None:
        seconds = {"seconds": 1, "minutes": 60, "days": 86_400}
        advance = sum(seconds[unit] * number for unit, number in duration.items())
        answer = await self.http.post("/sandbox/clock", json={"advanceSeconds": advance})
        assert answer.status_code == 200, answer.text

    async def arm(self, kind: str, operation: str = "confirm", **more: object) -> int:
        """Arm a fault; returns its id."""
        answer = await self.http.post("/sandbox/faults", json={"operation": operation, "kind": kind, **more})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    async def payment(self, payment_key: str) -> dict[str, Any]:
        """The Payment object of a look-up."""
        answer = await self.look_up(payment_key)
        assert answer.status_code == 200, answer.text
        payment: dict[str, Any] = answer.json()
        return payment

    async def ledger(self, order_id: str = ORDER) -> dict[str, list[int]]:
        """The amounts that moved for an order: captures, reversals and cancels."""
        kinds = (await self.http.get("/sandbox/ledger", params={"orderId": order_id})).json()
        return {kind: [movement["amount"] for movement in movements] for kind, movements in kinds.items()}

    async def held(self, order_id: str = ORDER) -> int:
        """Won that the shop holds for an order, by the ledger."""
        moved = await self.ledger(order_id)
        return sum(moved["captures"]) - sum(moved["reversals"]) - sum(moved["cancels"])

    async def captured(self, order_id: str = ORDER) -> int:
        """Won taken for an order, by the ledger."""
        captures = (await self.http.get("/sandbox/ledger", params={"orderId": order_id})).json()["captures"]
        return sum(capture["amount"] for capture in captures)

    async def calls(self, order_id: str = ORDER) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = (await self.http.get("/sandbox/calls", params={"orderId": order_id})).json()[
            "calls"
        ]
        return calls


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """The status and the Toss code of an error answer."""
    assert set(answer.json()) == {"code", "message"}
    return answer.status_code, answer.json()["code"]


async def until(ask: Callable[[], Awaitable[object]]) -> None:
    """Ask until the answer is a true one; for what another process or task is about to do."""
    async with asyncio.timeout(10):
        while not await ask():  # noqa: ASYNC110 - nobody there could set an event of ours
            await asyncio.sleep(0.005)
