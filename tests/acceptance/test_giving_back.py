import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from payments.business_day import day_of
from tests.acceptance.buyer import Buyer
from tests.acceptance.local_run import LocalRun
from tests.programs import BARE_ENVIRONMENT

PRICE = 12_900
IN_LOOP_OF_FILE = pytest.mark.asyncio(loop_scope="module")


def command(everything: LocalRun, words: str) -> subprocess.CompletedProcess[str]:
    """What an operator types in another terminal."""
    script = f". {everything.data}/environment.sh && {sys.executable} -m payments {words}"
    return subprocess.run(
        ["/bin/sh", "-c", script], env=BARE_ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )


class BackOffice:
    """Somebody of the shop at the page of an order, and somebody else at Toss's dashboard, in another tab."""

    def __init__(self, buyer: Buyer, dashboard: Page) -> None:
        self.buyer = buyer
        self._dashboard = dashboard

    @property
    def page(self) -> Page:
        return self.buyer.page

    async def at_toss(self, act: str) -> None:
        """Click a button of the payment in the sandbox's dashboard."""
        key = self.buyer.payment()["paymentKey"]
        await self._dashboard.goto(self.buyer.run.url(100, "/"))
        await self._dashboard.get_by_test_id(f"{act}-{key}").click()
        await expect(self._dashboard.get_by_test_id(f"payment-{key}")).to_be_visible()

    async def opens_the_order(self) -> None:
        await self.page.goto(self.buyer.run.url(200, "/orders"))
        await self.page.locator(f"a[href='/orders/{self.buyer.order_id}']").first.click()
        await expect(self.page.get_by_test_id("order-status")).to_be_visible()

    async def refunds(self, amount: int, *, to_account: bool = False) -> None:
        await self.page.get_by_test_id("refund-amount").fill(str(amount))
        await self.page.get_by_test_id("refund-reason").fill("단순 변심")
        if to_account:
            await self.page.get_by_test_id("refund-bank").select_option("88")
            await self.page.get_by_test_id("refund-account-number").fill("110123456789")
            await self.page.get_by_test_id("refund-holder").fill("김토스")
        await self.page.get_by_test_id("refund").click()
        await expect(self.page.get_by_test_id("cancel-notice")).to_be_visible()

    def given_back(self) -> list[int]:
        """The cancels in the PG's books."""
        ledger = self.buyer.sandbox.get("/sandbox/ledger", params={"orderId": self.buyer.order_id}).json()
        return [cancel["amount"] for cancel in ledger["cancels"]]


@pytest_asyncio.fixture(loop_scope="module")
async def office(buyer: Buyer) -> AsyncIterator[BackOffice]:
    dashboard = await buyer.page.context.new_page()
    yield BackOffice(buyer, dashboard)
    await dashboard.close()


@IN_LOOP_OF_FILE
class TestCard:
    async def test_goes_back_in_part_and_then_wholly(self, office: BackOffice) -> None:
        await office.buyer.orders()
        await office.buyer.opens_the_window()
        await office.buyer.pays()
        await office.buyer.sees("completed")

        await office.opens_the_order()
        await office.refunds(2_900)
        assert office.buyer.order_status() == "PARTIALLY_REFUNDED"
        await office.refunds(10_000)

        assert office.given_back() == [2_900, 10_000]
        assert (office.buyer.payment()["status"], office.buyer.order_status()) == ("REFUNDED", "REFUNDED")

    async def test_lost_answer_is_resolved_while_the_page_says_so(self, office: BackOffice) -> None:
        await office.buyer.orders()
        await office.buyer.opens_the_window()
        await office.buyer.pays()
        await office.buyer.sees("completed")
        office.buyer.arm("cancel", "drop_reply")
        office.buyer.arm("lookup", "drop_before_effect")

        await office.opens_the_order()
        await office.refunds(PRICE)
        async with office.page.expect_navigation():
            await office.page.reload()
        await office.buyer.until(lambda: office.buyer.payment()["status"] == "REFUNDED")

        assert office.given_back() == [PRICE]

    async def test_cancelled_in_the_console_of_toss_shows_at_the_shop_by_itself(self, office: BackOffice) -> None:
        await office.buyer.orders()
        await office.buyer.opens_the_window()
        await office.buyer.pays()
        await office.buyer.sees("completed")
        await office.opens_the_order()

        await office.at_toss("cancel")

        await expect(office.page.get_by_test_id("order-status")).to_have_attribute("data-status", "REFUNDED")
        assert (office.buyer.payment()["status"], office.given_back()) == ("REFUNDED", [PRICE])

    @pytest.mark.usefixtures("without_webhooks")
    async def test_cancelled_in_the_console_without_a_webhook_is_found_at_night(
        self, office: BackOffice, everything: LocalRun
    ) -> None:
        await office.buyer.orders()
        await office.buyer.opens_the_window()
        await office.buyer.pays()
        await office.buyer.sees("completed")
        await office.at_toss("cancel")
        assert office.buyer.payment()["status"] == "COMPLETED"

        today = day_of(datetime.now(UTC)).isoformat()
        report = command(everything, f"reconcile --date {today} --json")

        assert (report.returncode, json.loads(report.stdout)["repaired"]) == (0, 1)
        await office.buyer.until(lambda: office.buyer.order_status() == "REFUNDED")

    async def test_unpaid_order_is_given_up(self, office: BackOffice) -> None:
        await office.buyer.orders()
        await office.buyer.opens_the_window()

        await office.opens_the_order()
        await office.page.get_by_test_id("refund-reason").fill("잘못 주문")
        await office.page.get_by_test_id("abandon").click()
        await expect(office.page.get_by_test_id("cancel-notice")).to_be_visible()

        assert (office.buyer.payment()["status"], office.buyer.order_status()) == ("CANCELLED", "CANCELLED")


@IN_LOOP_OF_FILE
class TestVirtualAccount:
    async def test_is_paid_into_taken_back_paid_again_and_refunded_to_an_account(self, office: BackOffice) -> None:
        await office.buyer.orders()
        await office.buyer.opens_the_window("VIRTUAL_ACCOUNT")
        await office.buyer.pays()
        await office.buyer.sees("waiting")

        await office.at_toss("deposit")
        await office.buyer.sees("completed")
        assert office.buyer.order_status() == "PAID"

        await office.at_toss("reverse-deposit")
        await office.buyer.sees("waiting")
        assert office.buyer.order_status() == "CREATED"

        await office.at_toss("deposit")
        await office.buyer.sees("completed")

        await office.opens_the_order()
        await office.refunds(5_000, to_account=True)
        assert office.given_back() == [5_000]
        assert office.buyer.order_status() == "PARTIALLY_REFUNDED"
        await office.buyer.until(lambda: office.buyer.payment()["virtualAccount"]["refundStatus"] == "PENDING")

        await office.at_toss("refund-paid")
        await office.buyer.until(lambda: office.buyer.payment()["virtualAccount"]["refundStatus"] == "COMPLETED")

    async def test_nobody_paid_into_is_given_up(self, office: BackOffice) -> None:
        await office.buyer.orders()
        await office.buyer.opens_the_window("VIRTUAL_ACCOUNT")
        await office.buyer.pays()
        await office.buyer.sees("waiting")

        await office.opens_the_order()
        await office.page.get_by_test_id("refund-reason").fill("품절")
        await office.page.get_by_test_id("abandon").click()
        await expect(office.page.get_by_test_id("cancel-notice")).to_be_visible()

        assert (office.buyer.payment()["status"], office.buyer.order_status()) == ("CANCELLED", "CANCELLED")
        assert office.given_back() == []


class TestOperator:
    def test_takes_over_the_environment_of_the_run_and_resolves_refunds(self, everything: LocalRun) -> None:
        run = command(everything, "refunds resolve")

        assert (run.returncode, run.stdout, run.stderr) == (0, "Every refund is decided.\n", "")
        assert (everything.data / "environment.sh").stat().st_mode & 0o077 == 0
