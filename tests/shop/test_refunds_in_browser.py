"""The back office in a real browser: money is given back once, however it is clicked."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import respx
from playwright.async_api import Page, expect

from demo_shop.app import create_shop
from demo_shop.orders import Order
from demo_shop.settings import ShopSettings
from tests.browser import serving
from tests.shop.builders import a_virtual_account
from tests.shop.payment_books import PaymentBooks, no_answer, problem

pytestmark = pytest.mark.browser


@pytest.fixture
async def shop(settings: ShopSettings) -> AsyncIterator[str]:
    async with serving(create_shop(settings)) as origin:
        yield origin


@pytest.fixture
def books(order: Order, payments_api: respx.MockRouter) -> PaymentBooks:
    """A payment of 24,000 won that was made."""
    books = PaymentBooks(order)
    books.becomes("COMPLETED")
    books.listen(payments_api)
    return books


@dataclass
class Office:
    page: Page
    url: str

    async def opens(self) -> None:
        await self.page.goto(self.url)

    async def fills(self, *, amount: str | None = None, reason: str = "단순 변심") -> None:
        if amount is not None:
            await self.page.get_by_test_id("refund-amount").fill(amount)
        await self.page.get_by_test_id("refund-reason").fill(reason)

    async def fills_in_account(self, number: str = "110123456789") -> None:
        await self.page.get_by_test_id("refund-bank").select_option("88")
        await self.page.get_by_test_id("refund-account-number").fill(number)
        await self.page.get_by_test_id("refund-holder").fill("김온돌")

    async def clicks(self, what: str = "refund") -> None:
        await self.page.get_by_test_id(what).click()

    async def reads(self, words: str) -> None:
        await expect(self.page.get_by_test_id("cancel-notice")).to_contain_text(words)

    async def sees(self, status: str) -> None:
        await expect(self.page.get_by_test_id("order-status")).to_have_attribute("data-status", status)


@pytest.fixture
def office(browser_page: Page, shop: str, books: PaymentBooks, order: Order) -> Office:
    return Office(browser_page, f"{shop}/orders/{order.order_id}")


@pytest.fixture
async def plain_office(office: Office) -> AsyncIterator[Office]:
    """The same in a browser without JavaScript."""
    browser = office.page.context.browser
    assert browser is not None
    context = await browser.new_context(java_script_enabled=False, locale="ko-KR")
    yield Office(await context.new_page(), office.url)
    await context.close()


class TestRefund:
    async def test_part_and_then_the_rest_go_back_without_a_script(
        self, plain_office: Office, books: PaymentBooks
    ) -> None:
        await plain_office.opens()
        await plain_office.fills(amount="5000")
        await plain_office.clicks()
        await plain_office.reads("5,000원을 환불했습니다.")
        await plain_office.sees("PARTIALLY_REFUNDED")

        await plain_office.fills(reason="나머지도 변심")
        await plain_office.clicks()

        await plain_office.reads("19,000원을 환불했습니다.")
        await plain_office.sees("REFUNDED")
        await expect(plain_office.page.get_by_test_id("refund-row")).to_have_count(2)
        await expect(plain_office.page.get_by_test_id("refund-form")).to_have_count(0)
        assert books.refunded == [5_000, 19_000]
        assert len(books.keys) == 2

    async def test_double_click_is_one_refund(self, office: Office, books: PaymentBooks) -> None:
        await office.opens()
        await office.fills(amount="5000")

        await office.page.get_by_test_id("refund").dblclick()

        await office.reads("5,000원을 환불했습니다.")
        assert len(books.keys) == 1
        assert books.refunded == [5_000]

    async def test_second_click_while_the_first_is_under_way_is_the_same_refund(
        self, office: Office, books: PaymentBooks, payments_api: respx.MockRouter, order: Order
    ) -> None:
        second_has_come = asyncio.Event()

        async def keep_the_first_waiting(request: httpx.Request) -> httpx.Response:
            answer = books.answer_cancel(request)
            if len(books.asked) == 1:
                await second_has_come.wait()
                return answer
            second_has_come.set()
            return problem(409, "request_in_progress")(request)

        payments_api.post(f"/payments/orders/{order.order_id}/cancel").mock(side_effect=keep_the_first_waiting)
        await office.opens()
        await office.fills(amount="5000")

        # By the page itself: Playwright would not click while the first answer is awaited.
        await office.page.get_by_test_id("refund").evaluate(
            "button => { button.click(); setTimeout(() => button.click(), 200); }"
        )

        await office.reads("5,000원을 환불했습니다.")
        assert len(books.asked) == 2
        assert len(books.keys) == 1
        assert books.refunded == [5_000]

    async def test_reloading_or_going_back_is_no_second_refund(self, office: Office, books: PaymentBooks) -> None:
        await office.opens()
        await office.fills(amount="5000")
        await office.clicks()
        await office.reads("5,000원을 환불했습니다.")

        await office.page.reload()
        await office.page.go_back()
        await office.page.go_forward()

        await office.reads("5,000원을 환불했습니다.")
        assert books.refunded == [5_000]

    async def test_more_than_is_left_cannot_be_sent(self, office: Office, books: PaymentBooks) -> None:
        await office.opens()
        await office.fills(amount="24001")
        await office.clicks()

        is_valid = await office.page.get_by_test_id("refund-amount").evaluate("field => field.validity.valid")
        assert not is_valid
        assert books.asked == []

    async def test_lost_answer_ends_in_one_refund(self, office: Office, books: PaymentBooks) -> None:
        books.on_cancel(books.lose_answer)
        await office.opens()
        await office.fills(amount="5000")
        await office.clicks()
        await office.reads("처리되었는지 아직 모릅니다")

        await office.clicks()

        await office.reads("5,000원을 환불했습니다.")
        assert books.refunded == [5_000]
        assert len(books.keys) == 1

    async def test_outcome_that_is_not_known_yet_shows_by_itself(self, office: Office, books: PaymentBooks) -> None:
        books.on_cancel(books.take_on)
        await office.opens()
        await office.fills(amount="5000")
        await office.clicks()
        await office.reads("확인 중")

        books.decide("SUCCEEDED", completedAt="2026-11-22T03:12:00Z")

        await office.reads("5,000원을 환불했습니다.")


class TestRefundOfADeposit:
    @pytest.fixture(autouse=True)
    def paid_by_deposit(self, books: PaymentBooks) -> None:
        books.becomes("COMPLETED", method="VIRTUAL_ACCOUNT", virtualAccount=a_virtual_account())

    async def test_money_goes_to_the_account_that_was_typed(self, office: Office, books: PaymentBooks) -> None:
        await office.opens()
        await office.fills()
        await office.fills_in_account()
        await office.clicks()

        await office.reads("24,000원을 환불했습니다.")
        assert books.asked[0][1]["refundReceiveAccount"] == {
            "bank": "88",
            "accountNumber": "110123456789",
            "holderName": "김온돌",
        }

    async def test_account_with_hyphens_is_not_sent(self, office: Office, books: PaymentBooks) -> None:
        await office.opens()
        await office.fills()
        await office.fills_in_account("110-123-456789")
        await office.clicks()

        number = office.page.get_by_test_id("refund-account-number")
        assert await number.evaluate("field => field.validity.patternMismatch")
        assert books.asked == []

    async def test_wrong_account_can_be_mended(self, office: Office, books: PaymentBooks) -> None:
        words = "환불 계좌번호와 예금주명이 일치하지 않습니다."
        books.on_cancel(problem(422, "refund_account_refused", pgMessage=words))
        await office.opens()
        await office.fills(amount="5000")
        await office.fills_in_account("999")
        await office.clicks()
        await office.reads(words)
        assert "999" not in office.page.url

        await office.fills_in_account()
        await office.clicks()

        await office.reads("5,000원을 환불했습니다.")
        assert books.refunded == [5_000]
        assert len(books.keys) == 2


class TestAbandon:
    async def test_waiting_account_is_given_up(self, office: Office, books: PaymentBooks) -> None:
        books.becomes("WAITING_FOR_DEPOSIT", completedAt=None, virtualAccount=a_virtual_account())
        await office.opens()

        await office.clicks("abandon")

        await office.reads("주문을 취소했습니다.")
        await office.sees("CANCELLED")

    async def test_request_that_did_not_arrive_is_sent_again(self, office: Office, books: PaymentBooks) -> None:
        books.becomes("CREATED", completedAt=None)
        books.on_cancel(no_answer)
        await office.opens()
        await office.clicks("abandon")
        await office.reads("아직 모릅니다")

        await office.clicks("abandon")

        await office.sees("CANCELLED")
        assert len(books.keys) == 1
