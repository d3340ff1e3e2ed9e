"""What the pages' scripts do with every answer of the payments API, in a real browser."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

import httpx
import pytest
import respx
from playwright.async_api import Page, Route, expect

from demo_shop.app import create_shop
from demo_shop.orders import Order, OrderStatus, Sessions, find_order
from demo_shop.settings import ShopSettings
from tests.browser import PATIENCE_MILLISECONDS, serving
from tests.shop.builders import Json, a_payment, a_virtual_account, not_prepared
from tests.shop.signed_events import SECRET, an_event, as_body, headers_of

pytestmark = pytest.mark.browser

PAYMENTS = "http://127.0.0.1:9"  # nothing listens there: the browser's calls are answered by the test

Answer = tuple[int, Json] | None  # None: the connection breaks and no answer comes
Step = Callable[[], Answer]  # what the API does with a request, and what it then answers

ACCOUNT = {"bank": "88", "accountNumber": "X6505636518308", "holder": "온돌", "dueDate": "2026-11-29T14:59:59Z"}


@dataclass
class PaymentsApi:
    """The payments API as the browser and the shop's server meet it, for one order."""

    order: Order
    payment: Json | None = None
    confirms: list[Step] = field(default_factory=list)
    prepares: list[Step] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    taken: int = 0  # how often the money was asked for, repetitions of what is recorded left out

    def becomes(self, status: str, **overrides: object) -> Json:
        """The payment moves on; a version higher each time."""
        version = int(str((self.payment or {}).get("version", 0))) + 1
        self.payment = a_payment(self.order.order_id, status=status, version=version) | overrides
        return self.payment

    def on_confirm(self, *steps: Step) -> None:
        """One step for each request to come; the last one stays."""
        self.confirms = list(steps)

    def on_prepare(self, *steps: Step) -> None:
        self.prepares = list(steps)

    async def answer_browser(self, route: Route) -> None:
        method, path = route.request.method, httpx.URL(route.request.url).path
        self.asked.append(f"{method} {path}")
        answer = self._answer_of(method, path)
        if answer is None:
            await route.abort("connectionreset")
            return
        await route.fulfill(
            status=answer[0],
            body=json.dumps(answer[1]),
            headers={"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"},
        )

    def answer_shop(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=self.payment) if self.payment else httpx.Response(404, json=not_prepared())

    def count(self, path: str) -> int:
        return self.asked.count(f"POST {path}")

    def _answer_of(self, method: str, path: str) -> Answer:
        if method == "OPTIONS":
            return 204, {}
        if path == "/payments/confirm":
            return self._record() or self._take()
        if path == "/payments/prepare":
            return _next(self.prepares)
        return (200, self._status()) if self.payment else (404, not_prepared())

    def _take(self) -> Answer:
        self.taken += 1
        return _next(self.confirms)

    def _record(self) -> Answer:
        """What is answered again when the payment is decided."""
        payment = self.payment or {"status": "CREATED"}
        if payment["status"] in {"CREATED", "PENDING"}:
            return None
        if payment["status"] == "FAILED":
            failure = payment.get("failure") or {}
            assert isinstance(failure, dict)
            return problem(402, "payment_declined", pgMessage=failure.get("message"))
        return problem(409, "payment_closed") if payment["status"] == "CANCELLED" else (200, payment)

    def _status(self) -> Json:
        """What the API tells whoever asks without a key."""
        payment = self.payment or {}
        return {"orderId": payment["orderId"], "status": payment["status"], "reason": "", "nextAction": "NONE"}


def _next(steps: list[Step]) -> Answer:
    return (steps.pop(0) if len(steps) > 1 else steps[0])()


def problem(status: int, code: str, **more: object) -> Answer:
    return status, {"type": "about:blank", "status": status, "code": code} | more


def no_answer() -> Answer:
    return None


@pytest.fixture
async def payments(order: Order, payments_api: respx.MockRouter, browser_page: Page) -> AsyncIterator[PaymentsApi]:
    """A payment that is prepared: the buyer has been in the payment window."""
    api = PaymentsApi(order)
    api.becomes("CREATED", completedAt=None, receiptUrl=None)
    payments_api.get(f"/payments/orders/{order.order_id}").mock(side_effect=api.answer_shop)
    await browser_page.route(f"{PAYMENTS}/**", api.answer_browser)
    yield api
    await browser_page.unroute_all(behavior="ignoreErrors")


@pytest.fixture
async def shop(settings: ShopSettings) -> AsyncIterator[str]:
    async with serving(create_shop(replace(settings, payments_public_url=PAYMENTS))) as origin:
        yield origin


class SuccessPage:
    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    async def open(self) -> None:
        await self.page.goto(self.url)

    async def shows(self, state: str) -> None:
        await expect(self.page.get_by_test_id("result")).to_have_attribute("data-state", state)

    async def says(self, words: str) -> None:
        await expect(self.page.get_by_test_id("result")).to_contain_text(words)


@pytest.fixture
def success(browser_page: Page, shop: str, payments: PaymentsApi, order: Order) -> SuccessPage:
    query = f"paymentKey=key-1&orderId={order.order_id}&amount=24000"
    return SuccessPage(browser_page, f"{shop}/orders/{order.order_id}/success?{query}")


class TestSuccessPage:
    async def test_payment_is_confirmed_once_however_often_the_page_is_loaded(
        self, success: SuccessPage, payments: PaymentsApi
    ) -> None:
        payments.on_confirm(lambda: (200, payments.becomes("COMPLETED")))

        await success.open()
        await success.shows("completed")
        await success.page.reload()
        await success.shows("completed")
        await success.page.goto("about:blank")
        await success.page.go_back()
        await success.shows("completed")

        assert payments.taken == 1

    async def test_order_is_paid_when_the_page_says_so(self, success: SuccessPage, payments: PaymentsApi) -> None:
        payments.on_confirm(lambda: (200, payments.becomes("COMPLETED")))

        await success.open()
        await success.says("결제가 완료되었습니다")
        await success.page.get_by_test_id("order-link").click()

        await expect(success.page.get_by_test_id("order-status")).to_have_attribute("data-status", "PAID")

    async def test_outcome_that_is_not_known_yet_is_waited_for(
        self, success: SuccessPage, payments: PaymentsApi
    ) -> None:
        asked = asyncio.Event()

        def not_yet() -> Answer:
            asked.set()
            return 202, payments.becomes("PENDING", completedAt=None)

        payments.on_confirm(not_yet)

        await success.open()
        await asked.wait()
        await success.says("결제를 확인하고 있습니다")
        payments.becomes("COMPLETED")

        await success.shows("completed")
        assert payments.taken == 1

    async def test_lost_answer_of_a_payment_that_was_made_is_no_failure(
        self, success: SuccessPage, payments: PaymentsApi
    ) -> None:
        def pay_and_break() -> Answer:
            payments.becomes("COMPLETED")
            return None

        payments.on_confirm(pay_and_break)

        await success.open()

        await success.shows("completed")
        assert payments.taken == 1

    async def test_confirm_that_did_not_arrive_is_sent_again(self, success: SuccessPage, payments: PaymentsApi) -> None:
        payments.on_confirm(
            no_answer,
            lambda: problem(503, "pg_unavailable"),
            lambda: (200, payments.becomes("COMPLETED")),
        )

        await success.open()
        await success.shows("pending")

        await success.shows("completed")
        assert payments.taken == 3

    async def test_refusal_is_shown_in_korean_with_a_way_to_try_another_card(
        self, success: SuccessPage, payments: PaymentsApi
    ) -> None:
        def refuse() -> Answer:
            failure = {"code": "REJECT_CARD_PAYMENT", "message": "잔액이 부족합니다."}
            payments.becomes("FAILED", failure=failure, completedAt=None)
            return problem(402, "payment_declined", pgCode=failure["code"], pgMessage=failure["message"])

        payments.on_confirm(refuse)

        await success.open()
        await success.shows("refused")
        await expect(success.page.get_by_test_id("refusal-reason")).to_have_text("잔액이 부족합니다.")
        await success.page.get_by_test_id("try-again").click()

        await expect(success.page.get_by_test_id("pay")).to_be_enabled()

    async def test_account_of_a_deposit_is_shown(self, success: SuccessPage, payments: PaymentsApi) -> None:
        payments.on_confirm(
            lambda: (200, payments.becomes("WAITING_FOR_DEPOSIT", virtualAccount=ACCOUNT, completedAt=None))
        )

        await success.open()

        await success.shows("waiting")
        for words in ("신한은행", "X6505636518308", "온돌", "2026-11-29 23:59"):
            await success.says(words)

    async def test_conflict_is_an_error_that_is_not_tried_again(
        self, success: SuccessPage, payments: PaymentsApi
    ) -> None:
        payments.on_confirm(lambda: problem(409, "amount_mismatch"))

        await success.open()

        await success.shows("error")
        assert payments.taken == 1

    async def test_conflict_with_another_tab_shows_what_came_of_it(
        self, success: SuccessPage, payments: PaymentsApi
    ) -> None:
        def other_tab_was_faster() -> Answer:
            payments.becomes("COMPLETED")
            return problem(409, "payment_key_mismatch")

        payments.on_confirm(other_tab_was_faster)

        await success.open()

        await success.shows("completed")

    async def test_payment_of_another_amount_is_not_believed(self, success: SuccessPage, payments: PaymentsApi) -> None:
        payments.becomes("COMPLETED", amount=100)

        await success.open()

        await success.shows("error")


class TestDeposit:
    @pytest.fixture(autouse=True)
    def account_is_issued(self, payments: PaymentsApi) -> None:
        payments.becomes("WAITING_FOR_DEPOSIT", virtualAccount=a_virtual_account(), completedAt=None)

    async def test_page_turns_to_paid_by_itself(
        self, success: SuccessPage, payments: PaymentsApi, sessions: Sessions
    ) -> None:
        await success.open()
        await success.shows("waiting")
        for words in ("신한은행", "X6505636518308", "온돌", "24,000원", "2099-11-29 23:59"):
            await success.says(words)

        payments.becomes("COMPLETED", virtualAccount=a_virtual_account())

        await success.shows("completed")
        await expect(success.page.get_by_test_id("deposit-account")).to_be_hidden()
        order = await find_order(sessions, payments.order.order_id)
        assert order is not None
        assert order.status is OrderStatus.PAID

    async def test_page_asks_our_own_server(self, success: SuccessPage, payments: PaymentsApi) -> None:
        await success.open()
        await success.shows("waiting")
        asked_before = list(payments.asked)

        payments.becomes("COMPLETED", virtualAccount=a_virtual_account())
        await success.shows("completed")

        assert payments.asked == asked_before

    async def test_deposit_that_the_bank_took_back_is_waited_for_again(
        self, success: SuccessPage, payments: PaymentsApi
    ) -> None:
        await success.open()
        payments.becomes("COMPLETED", virtualAccount=a_virtual_account())
        await success.shows("completed")

        payments.becomes("WAITING_FOR_DEPOSIT", virtualAccount=a_virtual_account(), completedAt=None)

        await success.shows("waiting")
        await success.says("은행이 입금을 되돌려 보냈습니다.")
        await success.says("X6505636518308")
        payments.becomes("COMPLETED", virtualAccount=a_virtual_account())
        await success.shows("completed")

    async def test_reversal_is_explained_on_a_page_that_is_opened_later(
        self, success: SuccessPage, payments: PaymentsApi
    ) -> None:
        payments.becomes("COMPLETED", virtualAccount=a_virtual_account())
        await success.open()
        await success.shows("completed")
        payments.becomes("WAITING_FOR_DEPOSIT", virtualAccount=a_virtual_account(), completedAt=None)
        await success.shows("waiting")

        await success.page.reload()

        await success.says("은행이 입금을 되돌려 보냈습니다.")

    async def test_account_whose_due_date_has_passed_is_not_shown(
        self, success: SuccessPage, payments: PaymentsApi
    ) -> None:
        await success.open()
        await success.shows("waiting")

        account = a_virtual_account(dueDate="2026-11-22T00:00:00Z")
        payments.becomes("WAITING_FOR_DEPOSIT", virtualAccount=account, completedAt=None)

        await success.shows("overdue")
        await success.says("입금 기한이 지났습니다")
        await expect(success.page.get_by_test_id("deposit-account")).to_be_hidden()

    async def test_payment_that_ended_without_a_deposit_can_be_made_again(
        self, success: SuccessPage, payments: PaymentsApi
    ) -> None:
        await success.open()
        await success.shows("waiting")

        payments.becomes("FAILED", failure={"code": "EXPIRED", "message": "기한 만료"}, completedAt=None)

        await success.shows("refused")
        await expect(success.page.get_by_test_id("try-again")).to_be_visible()

    async def test_order_given_up_meanwhile_takes_no_deposit(self, success: SuccessPage, payments: PaymentsApi) -> None:
        await success.open()
        await success.shows("waiting")

        payments.becomes("CANCELLED", completedAt=None)

        await success.shows("error")
        await success.says("이 계좌로 입금하지 마세요.")

    async def test_nobody_is_asked_while_nobody_looks(self, success: SuccessPage, payments: PaymentsApi) -> None:
        page = success.page
        looks = looks_of(page, "/refresh")
        await page.clock.install()
        await success.open()
        await success.shows("waiting")

        await becomes(page, "hidden")
        await page.clock.run_for(60_000)
        looks.clear()
        payments.becomes("COMPLETED", virtualAccount=a_virtual_account())
        await page.clock.run_for(600_000)
        assert looks == []

        await becomes(page, "visible")
        await success.shows("completed")


async def becomes(page: Page, visibility: str) -> None:
    """What a browser tells a page when its tab is left or come back to."""
    await page.evaluate(
        """(visibility) => {
            Object.defineProperty(document, "visibilityState", { value: visibility, configurable: true });
            Object.defineProperty(document, "hidden", { value: visibility === "hidden", configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        visibility,
    )


@dataclass
class EventsToTheShop:
    """The payments service as it tells the shop where a payment stands."""

    page: Page
    shop: str
    payments: PaymentsApi

    async def tell(self, event_type: str) -> None:
        body = as_body(an_event(self.payments.order.order_id, event_type, **self.payments.payment or {}))
        sent = await self.page.request.post(f"{self.shop}/api/events", data=body, headers=dict(headers_of(body)))
        assert sent.status == 204


@pytest.fixture
def events(browser_page: Page, shop: str, payments: PaymentsApi) -> EventsToTheShop:
    return EventsToTheShop(browser_page, shop, payments)


class TestDepositThatAnEventTellsOf:
    @pytest.fixture
    def settings(self, settings: ShopSettings) -> ShopSettings:
        return replace(settings, events_secrets=(SECRET,))

    @pytest.fixture(autouse=True)
    def account_is_issued(self, payments: PaymentsApi) -> None:
        payments.becomes("WAITING_FOR_DEPOSIT", virtualAccount=a_virtual_account(), completedAt=None)

    async def test_page_turns_to_paid_while_the_payments_api_is_away(
        self, success: SuccessPage, payments: PaymentsApi, payments_api: respx.MockRouter, events: EventsToTheShop
    ) -> None:
        await success.open()
        await success.shows("waiting")
        payments_api.get(f"/payments/orders/{payments.order.order_id}").mock(side_effect=httpx.ConnectError)

        payments.becomes("COMPLETED", virtualAccount=a_virtual_account())
        await events.tell("payment.completed")

        await success.shows("completed")

    async def test_payments_api_is_asked_only_when_there_is_news(
        self, success: SuccessPage, payments: PaymentsApi, payments_api: respx.MockRouter, events: EventsToTheShop
    ) -> None:
        looks = looks_of(success.page, "/state")
        await success.page.clock.install()
        await success.open()
        await success.shows("waiting")
        await time_passes_until(success.page, lambda: len(looks) == 3)
        asked_before = payments_api.calls.call_count

        payments.becomes("COMPLETED", virtualAccount=a_virtual_account())
        await events.tell("payment.completed")
        await time_passes_until(success.page, lambda: payments_api.calls.call_count > asked_before)

        await success.shows("completed")
        assert (asked_before, payments_api.calls.call_count) == (1, 2)

    async def test_what_no_event_tells_is_found_all_the_same(
        self, success: SuccessPage, payments: PaymentsApi, payments_api: respx.MockRouter
    ) -> None:
        await success.page.clock.install()
        await success.open()
        await success.shows("waiting")

        asked_before = payments_api.calls.call_count

        account = a_virtual_account(dueDate="2026-11-22T00:00:00Z")
        payments.payment = (payments.payment or {}) | {"virtualAccount": account}
        await time_passes_until(success.page, lambda: payments_api.calls.call_count > asked_before)

        await success.shows("overdue")


class TestOrderPage:
    @pytest.fixture
    def settings(self, settings: ShopSettings) -> ShopSettings:
        return replace(settings, events_secrets=(SECRET,))

    async def test_cancel_in_the_console_shows_by_itself(
        self, browser_page: Page, shop: str, payments: PaymentsApi, events: EventsToTheShop
    ) -> None:
        payments.becomes("COMPLETED")
        await browser_page.goto(f"{shop}/orders/{payments.order.order_id}")
        await expect(browser_page.get_by_test_id("order-status")).to_have_attribute("data-status", "PAID")

        payments.becomes("REFUNDED", refundedAmount=24_000)
        await events.tell("payment.refunded")

        await expect(browser_page.get_by_test_id("order-status")).to_have_attribute("data-status", "REFUNDED")

    async def test_news_does_not_wipe_out_what_is_being_typed(
        self, browser_page: Page, shop: str, payments: PaymentsApi, events: EventsToTheShop
    ) -> None:
        payments.becomes("COMPLETED")
        await browser_page.clock.install()
        await browser_page.goto(f"{shop}/orders/{payments.order.order_id}")
        await browser_page.get_by_test_id("refund-reason").fill("단순 변심")
        looks = looks_of(browser_page, "/state")

        payments.becomes("PARTIALLY_REFUNDED", refundedAmount=1_000)
        await events.tell("payment.refunded")
        await browser_page.clock.run_for(60_000)

        assert looks == []
        await expect(browser_page.get_by_test_id("refund-reason")).to_have_value("단순 변심")


def looks_of(page: Page, at: str) -> list[str]:
    """What the page asks from now on of addresses with that end."""
    looks: list[str] = []
    page.on("request", lambda request: looks.append(request.url) if request.url.endswith(at) else None)
    return looks


async def time_passes_until(page: Page, holds: Callable[[], bool]) -> None:
    """Let the clock of a page run fast until it has asked for something."""
    async with asyncio.timeout(PATIENCE_MILLISECONDS / 1000):
        while not holds():
            await page.clock.run_for(1_000)


class TestCheckoutPage:
    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (problem(409, "already_paid"), "이미 결제된 주문입니다."),
            (problem(422, "amount_out_of_range"), "다른 결제수단을 골라 주세요."),
            (problem(503, "orders_unavailable"), "잠시 뒤에 다시 시도해 주세요."),
            (None, "잠시 뒤에 다시 시도해 주세요."),
        ],
    )
    async def test_refusal_is_said_in_korean_while_the_button_stays_usable(
        self, browser_page: Page, shop: str, payments: PaymentsApi, answer: Answer, words: str
    ) -> None:
        payments.on_prepare(lambda: answer)

        await browser_page.goto(f"{shop}/orders/{payments.order.order_id}/checkout")
        await browser_page.get_by_test_id("email").fill("buyer@shop.example")
        await browser_page.get_by_test_id("pay").click()

        await expect(browser_page.get_by_test_id("checkout-error")).to_contain_text(words)
        await expect(browser_page.get_by_test_id("pay")).to_be_enabled()
