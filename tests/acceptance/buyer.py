"""What a buyer does in the browser, and what the books say afterwards."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.async_api import Page, expect

from payments.local.plan import KEY_FILE
from tests.acceptance.local_run import LocalRun
from tests.keys import headers_of

APPROVE = "approve"


@dataclass
class Buyer:
    page: Page
    run: LocalRun
    sandbox: httpx.Client
    order_id: str = field(default="", init=False)

    async def orders(self, product: str = "drip-coffee") -> None:
        """Choose a product and come to the checkout page."""
        await self.page.goto(self.run.url(200, "/"))
        await self.page.get_by_test_id(f"buy-{product}").click()
        await self.page.wait_for_url("**/checkout*")
        self.order_id = urlsplit(self.page.url).path.split("/")[2]

    async def opens_the_window(self, method: str = "CARD") -> None:
        """Fill in the checkout page and click pay."""
        await self.page.get_by_test_id("email").fill("buyer@example.com")
        await self.page.get_by_test_id(f"method-{method}").click()
        await self.page.get_by_test_id("pay").click()
        await expect(self.page.get_by_test_id("order-name")).to_be_visible()

    async def pays(self, *, outcome: str | None = None) -> None:
        """Click pay in the payment window; `outcome` is the refusal that the later confirm meets."""
        if outcome is not None:
            await self.page.get_by_test_id("outcome").select_option(outcome)
        await self.page.get_by_test_id("pay").click()

    async def sees(self, state: str) -> None:
        """The result page says so, sooner or later."""
        await expect(self.page.get_by_test_id("result")).to_have_attribute("data-state", state, timeout=30_000)

    async def is_charged(self) -> None:
        """The PG has taken the money, whatever the page says."""
        await self.until(lambda: bool(self.captures()))

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait for another program to get somewhere; fails after 30 s."""
        async with asyncio.timeout(30):
            while not happened():  # noqa: ASYNC110 - another process sets no event here
                await asyncio.sleep(0.05)

    def payment(self) -> dict[str, Any]:
        """The payment in our books, as the back office reads it."""
        headers = headers_of((self.run.data / KEY_FILE).read_text())
        answer = httpx.get(self.run.url(0, f"/payments/orders/{self.order_id}"), headers=headers, trust_env=False)
        payment: dict[str, Any] = answer.json()
        return payment

    def order_status(self) -> str:
        """The order in the shop's books."""
        answer = httpx.get(self.run.url(200, f"/api/orders/{self.order_id}"), trust_env=False)
        return str(answer.json()["status"])

    def captures(self) -> list[int]:
        """The captures in the PG's books."""
        ledger = self.sandbox.get("/sandbox/ledger", params={"orderId": self.order_id}).json()
        return [capture["amount"] for capture in ledger["captures"]]

    def confirms(self) -> int:
        """How often the PG was asked for the money."""
        calls = self.sandbox.get("/sandbox/calls", params={"orderId": self.order_id}).json()["calls"]
        return sum(call["path"].endswith("/confirm") for call in calls)

    def arm(self, operation: str, kind: str, **more: object) -> None:
        fault = {"operation": operation, "kind": kind, "orderId": self.order_id, **more}
        self.sandbox.post("/sandbox/faults", json=fault).raise_for_status()
