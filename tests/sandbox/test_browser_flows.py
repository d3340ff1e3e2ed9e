"""What a shop's page and its buyer go through, in a real browser and over two origins."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.async_api import Browser, Page, expect

from tests.browser import driving, fresh_page, serving
from tests.sandbox.client import until
from tests.sandbox.receiver import receiving
from toss_sandbox.app import create_sandbox
from toss_sandbox.settings import Settings

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

SETTINGS: Final = Settings()
ORDER: Final = {"orderId": "order-000001", "orderName": "토스 티셔츠 외 2건"}
AMOUNT: Final = {"currency": "KRW", "value": 15_000}

# What comes back from a script: the value it ended with, or the error that it was refused with.
_SETTLED: Final = """
    async ([script, values]) => {
        const run = new Function(...Object.keys(values), `return (async () => { ${script} })()`);
        try {
            return { value: (await run(...Object.values(values))) ?? null };
        } catch (error) {
            return { code: error.code, message: error.message };
        }
    }
"""


@dataclass
class Shop:
    """A merchant's page on an origin of its own, open in the browser with the SDK loaded."""

    page: Page
    origin: str
    sandbox: str

    async def settle(self, script: str, **values: object) -> dict[str, Any]:
        """Run a script of the merchant that stays on the page."""
        answer: dict[str, Any] = await self.page.evaluate(_SETTLED, [script, self._known() | values])
        return answer

    async def start(self, script: str, **values: object) -> None:
        """Run a script of the merchant without waiting for its end; `window.outcome` becomes what came of it."""
        await self.page.evaluate(
            f"(given) => {{ window.outcome = ({_SETTLED})(given); }}", [script, self._known() | values]
        )

    async def outcome(self) -> dict[str, Any]:
        answer: dict[str, Any] = await self.page.evaluate("() => window.outcome")
        return answer

    async def landed_on(self, path: str) -> dict[str, str]:
        """Wait for the buyer's return; the query the shop is told."""
        await self.page.wait_for_url(f"{self.origin}{path}?*")
        return dict(parse_qsl(urlsplit(self.page.url).query))

    async def confirm(self, result: dict[str, Any], secret_key: str = SETTINGS.secret_key) -> httpx.Response:
        body = {"paymentKey": result["paymentKey"], "orderId": result["orderId"], "amount": int(result["amount"])}
        async with httpx.AsyncClient(base_url=self.sandbox) as client:
            return await client.post("/v1/payments/confirm", json=body, auth=(secret_key, ""))

    async def make_account(self, order_id: str) -> str:
        """A virtual account that waits for its deposit; its payment key."""
        made = await self.ask("POST", "/payments", orderId=order_id, amount=15_000, method="VIRTUAL_ACCOUNT")
        await self.confirm(made)
        return str(made["paymentKey"])

    async def has_tried_a_webhook(self) -> bool:
        return any(webhook["attempts"] for webhook in (await self.ask("GET", "/webhooks"))["webhooks"])

    async def ask(self, method: str, path: str, /, **body: object) -> Any:  # noqa: ANN401 - JSON of the control API
        async with httpx.AsyncClient(base_url=self.sandbox) as client:
            return (await client.request(method, f"/sandbox{path}", json=body or None)).json()

    def _known(self) -> dict[str, object]:
        return {
            "order": ORDER,
            "amount": AMOUNT,
            "urls": {"successUrl": f"{self.origin}/success", "failUrl": f"{self.origin}/fail?from=window"},
            "clientKey": SETTINGS.client_key,
            "widgetKey": SETTINGS.widget_client_key,
        }


def create_shop(sandbox: str) -> FastAPI:
    app = FastAPI()

    @app.get("/{path:path}")
    async def show(path: str) -> HTMLResponse:
        # A shop may be strict about scripts and styles: what the SDK draws has to stand that.
        policy = f"default-src 'none'; script-src 'unsafe-eval' {sandbox}; connect-src {sandbox}; frame-src {sandbox}"
        markup = f"""
            <!doctype html><html lang="ko"><link rel="icon" href="data:,">
            <script src="{sandbox}/v2/standard"></script>
            <h1>/{path}</h1><div id="methods"></div><div id="agreement"></div></html>
        """
        return HTMLResponse(markup, headers={"Content-Security-Policy": f"{policy}; img-src data:"})

    return app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with driving(chromium) as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def origins() -> AsyncIterator[tuple[str, str]]:
    """Where the sandbox is, and where the shop is."""
    async with serving(create_sandbox(SETTINGS)) as sandbox, serving(create_shop(sandbox)) as origin:
        yield sandbox, origin


@pytest_asyncio.fixture(loop_scope="module")
async def shop(browser: Browser, origins: tuple[str, str]) -> AsyncIterator[Shop]:
    sandbox, origin = origins
    async with httpx.AsyncClient(base_url=sandbox) as control, fresh_page(browser) as page:
        (await control.post("/sandbox/reset")).raise_for_status()
        await page.goto(f"{origin}/cart")
        yield Shop(page, origin, sandbox)


PAYMENT: Final = "const payment = TossPayments(clientKey).payment({ customerKey: TossPayments.ANONYMOUS });"
PAY_BY_CARD: Final = f"{PAYMENT} return payment.requestPayment({{ method: 'CARD', amount, ...order, ...urls }});"
PAY_IN_PAGE: Final = f"{PAYMENT} return payment.requestPayment({{ method: 'CARD', amount, ...order }});"
WIDGETS: Final = "const widgets = TossPayments(widgetKey).widgets({ customerKey: 'customer-1' });"
RENDERED: Final = f"""
    {WIDGETS}
    await widgets.setAmount(amount);
    const methods = await widgets.renderPaymentMethods({{ selector: '#methods' }});
    const agreement = await widgets.renderAgreement({{ selector: '#agreement' }});
    Object.assign(window, {{ widgets, methods, agreement }});
"""


class TestPaymentWindow:
    async def test_paid_card_lands_on_success_url(self, shop: Shop) -> None:
        await shop.start(PAY_BY_CARD)

        await expect(shop.page.get_by_test_id("amount")).to_have_text("15,000원")
        await shop.page.get_by_test_id("pay").click()

        query = await shop.landed_on("/success")
        assert query.keys() == {"paymentKey", "orderId", "amount"}
        assert (query["orderId"], query["amount"]) == ("order-000001", "15000")
        assert (await shop.confirm(query)).json()["status"] == "DONE"

    async def test_double_click_pays_once(self, shop: Shop) -> None:
        await shop.start(PAY_BY_CARD)

        await shop.page.get_by_test_id("pay").dblclick()

        await shop.landed_on("/success")
        assert [payment["status"] for payment in await shop.ask("GET", "/payments")] == ["IN_PROGRESS"]

    async def test_closing_lands_on_fail_url_without_the_order(self, shop: Shop) -> None:
        await shop.start(PAY_BY_CARD)

        await shop.page.get_by_test_id("close").click()

        query = await shop.landed_on("/fail")
        assert query.keys() == {"from", "code", "message"}
        assert query["code"] == "PAY_PROCESS_CANCELED"

    async def test_refusal_is_the_answer_of_confirm(self, shop: Shop) -> None:
        await shop.start(PAY_BY_CARD)

        await shop.page.get_by_test_id("outcome").select_option("REJECT_CARD_PAYMENT")
        await shop.page.get_by_test_id("pay").click()

        answer = await shop.confirm(await shop.landed_on("/success"))
        assert (answer.status_code, answer.json()["code"]) == (403, "REJECT_CARD_PAYMENT")

    async def test_failure_in_the_window_lands_on_fail_url_with_the_order(self, shop: Shop) -> None:
        await shop.start(PAY_BY_CARD)

        await shop.page.get_by_test_id("abort-code").select_option("REJECT_CARD_COMPANY")
        await shop.page.get_by_test_id("abort").click()

        query = await shop.landed_on("/fail")
        assert (query["code"], query["orderId"]) == ("REJECT_CARD_COMPANY", "order-000001")

    async def test_virtual_account_waits_for_its_deposit(self, shop: Shop) -> None:
        await shop.start(PAY_BY_CARD.replace("CARD", "VIRTUAL_ACCOUNT"))

        await shop.page.get_by_test_id("bank").select_option("06")
        await shop.page.get_by_test_id("holder-name").fill("김토스")
        await shop.page.get_by_test_id("pay").click()

        payment = (await shop.confirm(await shop.landed_on("/success"))).json()
        assert payment["status"] == "WAITING_FOR_DEPOSIT"
        assert (payment["virtualAccount"]["bankCode"], payment["virtualAccount"]["customerName"]) == ("06", "김토스")

    async def test_card_is_paid_in_instalments(self, shop: Shop) -> None:
        await shop.start(PAY_BY_CARD, amount={"currency": "KRW", "value": 50_000})

        await shop.page.get_by_test_id("instalment-months").select_option("12")
        await shop.page.get_by_test_id("pay").click()

        payment = (await shop.confirm(await shop.landed_on("/success"))).json()
        assert (payment["method"], payment["card"]["installmentPlanMonths"]) == ("카드", 12)

    async def test_wallet_of_the_request_is_chosen_already(self, shop: Shop) -> None:
        wallet = "card: { flowMode: 'DIRECT', easyPay: 'NAVERPAY' }"
        await shop.start(PAY_BY_CARD.replace("amount,", f"amount, {wallet},"))

        await shop.page.get_by_test_id("pay").click()

        payment = (await shop.confirm(await shop.landed_on("/success"))).json()
        assert payment["easyPay"]["provider"] == "네이버페이"

    async def test_buyer_who_is_too_late_finds_the_way_back(self, shop: Shop) -> None:
        await shop.start(PAY_BY_CARD)
        await shop.page.get_by_test_id("pay").wait_for()
        await shop.ask("POST", "/clock", advanceSeconds=31 * 60)

        await shop.page.get_by_test_id("pay").click()
        await expect(shop.page.get_by_test_id("notice")).to_have_text("결제 시간이 만료되었습니다.")
        await shop.page.get_by_test_id("back").click()

        assert (await shop.landed_on("/fail"))["code"] == "PAY_PROCESS_CANCELED"

    async def test_going_back_does_not_offer_to_pay_again(self, shop: Shop) -> None:
        await shop.start(PAY_BY_CARD)
        await shop.page.get_by_test_id("pay").click()
        await shop.landed_on("/success")

        await shop.page.go_back()

        await expect(shop.page.get_by_test_id("notice")).to_have_text("이미 인증을 마친 결제입니다.")

    async def test_frame_gives_way_to_the_shop_when_it_is_done(self, shop: Shop) -> None:
        await shop.start(PAY_BY_CARD.replace("...urls", "...urls, windowTarget: 'iframe'"))

        await shop.page.frame_locator("iframe").get_by_test_id("pay").click()

        assert (await shop.landed_on("/success"))["orderId"] == "order-000001"


class TestPromise:
    async def test_resolves_with_what_confirm_needs(self, shop: Shop) -> None:
        await shop.start(PAY_IN_PAGE)

        await shop.page.frame_locator("iframe").get_by_test_id("pay").click()

        result = (await shop.outcome())["value"]
        assert result == {"paymentKey": result["paymentKey"], "orderId": "order-000001", "amount": AMOUNT}
        assert (await shop.confirm(result | {"amount": AMOUNT["value"]})).json()["status"] == "DONE"
        await expect(shop.page.get_by_test_id("payment-overlay")).to_have_count(0)

    async def test_closed_window_rejects(self, shop: Shop) -> None:
        await shop.start(PAY_IN_PAGE)

        await shop.page.frame_locator("iframe").get_by_test_id("close").click()

        assert await shop.outcome() == {"code": "USER_CANCEL", "message": "취소되었습니다."}

    async def test_failure_in_the_window_rejects_with_its_code(self, shop: Shop) -> None:
        await shop.start(PAY_IN_PAGE)

        await shop.page.frame_locator("iframe").get_by_test_id("abort").click()

        assert (await shop.outcome())["code"] == "PAY_PROCESS_ABORTED"

    async def test_second_request_is_refused_while_the_window_is_open(self, shop: Shop) -> None:
        await shop.start(PAY_IN_PAGE)
        await shop.page.frame_locator("iframe").get_by_test_id("pay").wait_for()

        second = await shop.settle(PAY_IN_PAGE)

        assert second["code"] == "INVALID_METHOD_TRANSACTION"

    async def test_message_of_another_page_settles_nothing(self, shop: Shop) -> None:
        await shop.start(PAY_IN_PAGE)
        await shop.page.frame_locator("iframe").get_by_test_id("pay").wait_for()

        forged = "postMessage({ type: 'toss-sandbox.result', result: { paymentKey: 'forged' } }, '*');"
        await shop.settle(forged)
        await shop.page.frame_locator("iframe").get_by_test_id("pay").click()

        assert (await shop.outcome())["value"]["paymentKey"] != "forged"


class TestWidgets:
    async def test_success_url_carries_the_payment_type(self, shop: Shop) -> None:
        await shop.settle(RENDERED)
        await shop.page.get_by_test_id("widget-agreement").check()

        await shop.start("return widgets.requestPayment({ ...order, ...urls });")
        await shop.page.get_by_test_id("pay").click()

        query = await shop.landed_on("/success")
        assert query.keys() == {"paymentType", "paymentKey", "orderId", "amount"}
        assert query["paymentType"] == "NORMAL"

    async def test_choice_in_the_page_is_chosen_in_the_window(self, shop: Shop) -> None:
        await shop.settle(RENDERED)
        await shop.page.get_by_test_id("widget-KAKAOPAY").check()
        await shop.page.get_by_test_id("widget-agreement").check()

        await shop.start("return widgets.requestPayment({ ...order, ...urls });")

        await expect(shop.page.get_by_test_id("method-EASY_PAY")).to_be_checked()
        await expect(shop.page.get_by_test_id("easy-pay-provider")).to_have_value("카카오페이")

    async def test_window_asks_for_what_belongs_to_the_method(self, shop: Shop) -> None:
        fields = ["instalment-months", "easy-pay-provider", "bank", "holder-name"]
        asked: dict[str, list[str]] = {}
        await shop.settle(RENDERED)
        await shop.page.get_by_test_id("widget-agreement").check()
        await shop.start("return widgets.requestPayment({ ...order, ...urls });")

        for method in ("CARD", "EASY_PAY", "TRANSFER", "VIRTUAL_ACCOUNT", "MOBILE_PHONE", "BOOK_GIFT_CERTIFICATE"):
            await shop.page.get_by_test_id(f"method-{method}").check()
            asked[method] = [field for field in fields if await shop.page.get_by_test_id(field).is_visible()]

        assert asked == {
            "CARD": ["instalment-months"],
            "EASY_PAY": ["easy-pay-provider"],
            "TRANSFER": ["bank"],
            "VIRTUAL_ACCOUNT": ["bank", "holder-name"],
            "MOBILE_PHONE": [],
            "BOOK_GIFT_CERTIFICATE": [],
        }

    async def test_gift_card_chosen_in_the_page_pays(self, shop: Shop) -> None:
        await shop.settle(RENDERED)
        await shop.page.get_by_test_id("widget-GAME_GIFT_CERTIFICATE").check()
        await shop.page.get_by_test_id("widget-agreement").check()

        await shop.start("return widgets.requestPayment({ ...order, ...urls });")
        await shop.page.get_by_test_id("pay").click()

        answer = await shop.confirm(await shop.landed_on("/success"), SETTINGS.widget_secret_key)
        assert (answer.json()["method"], answer.json()["status"]) == ("게임문화상품권", "DONE")

    async def test_shop_hears_what_the_buyer_does(self, shop: Shop) -> None:
        await shop.settle(RENDERED)
        await shop.settle("""
            window.heard = [];
            methods.on('paymentMethodSelect', ({ code }) => heard.push(code));
            agreement.on('agreementStatusChange', ({ agreedRequiredTerms }) => heard.push(agreedRequiredTerms));
        """)

        await shop.page.get_by_test_id("widget-TRANSFER").check()
        await shop.page.get_by_test_id("widget-agreement").check()
        await shop.page.get_by_test_id("widget-agreement").uncheck()

        assert await shop.settle("return heard;") == {"value": ["TRANSFER", True, False]}
        assert await shop.settle("return methods.getSelectedPaymentMethod();") == {"value": {"code": "TRANSFER"}}

    async def test_can_be_drawn_again_after_it_was_destroyed(self, shop: Shop) -> None:
        await shop.settle(RENDERED)

        await shop.settle("await methods.destroy(); await agreement.destroy();")
        again = await shop.settle("""
            await widgets.renderPaymentMethods({ selector: '#methods' });
            await widgets.renderAgreement({ selector: '#agreement' });
        """)

        assert again == {"value": None}
        await expect(shop.page.get_by_test_id("widget-CARD")).to_have_count(1)


REFUSALS: Final = {
    "a widget key for a window": ("TossPayments(widgetKey).payment({ customerKey: 'me' })", "NOT_SUPPORTED_WIDGET_KEY"),
    "an API key for widgets": (
        "TossPayments(clientKey).widgets({ customerKey: 'me' })",
        "NOT_SUPPORTED_API_INDIVIDUAL_KEY",
    ),
    "a live key": ("TossPayments('live_ck_0000')", "INVALID_CLIENT_KEY"),
    "a secret key": ("TossPayments('test_sk_0000')", "INVALID_CLIENT_KEY"),
    "a secret customer": ("TossPayments(clientKey).payment({ customerKey: 'test_sk_0000' })", "INSECURE_KEY_USAGE"),
    "no customer": ("TossPayments(clientKey).payment()", "INVALID_CUSTOMER_KEY"),
    "a key of another shop": (
        PAY_BY_CARD.replace("TossPayments(clientKey)", "TossPayments('test_ck_other')"),
        "UNAUTHORIZED_KEY",
    ),
    "no success address": (PAY_BY_CARD.replace("...urls", "failUrl: urls.failUrl"), "INCORRECT_SUCCESS_URL_FORMAT"),
    "a script as success address": (
        PAY_BY_CARD.replace("...urls", "...urls, successUrl: 'javascript:alert(1)'"),
        "INCORRECT_SUCCESS_URL_FORMAT",
    ),
    "a fail address without origin": (
        PAY_BY_CARD.replace("...urls", "...urls, failUrl: '/fail'"),
        "INCORRECT_FAIL_URL_FORMAT",
    ),
    "a wallet as method": (PAY_BY_CARD.replace("CARD", "EASY_PAY"), "NOT_SUPPORTED_METHOD"),
    "a short order id": (PAY_BY_CARD.replace("...order,", "...order, orderId: 'short',"), "INVALID_PARAMETERS"),
    "no order": (PAY_BY_CARD.replace("...order,", ""), "INVALID_PARAMETERS"),
    "a sum in dollars": (
        PAY_BY_CARD.replace("amount,", "amount: { currency: 'USD', value: 10 },"),
        "INVALID_AMOUNT_CURRENCY",
    ),
    "a sum in words": (
        PAY_BY_CARD.replace("amount,", "amount: { currency: 'KRW', value: '10' },"),
        "INVALID_AMOUNT_VALUE",
    ),
    "nothing to pay": (PAY_BY_CARD.replace("amount,", "amount: { currency: 'KRW', value: 0 },"), "BELOW_ZERO_AMOUNT"),
    "methods before an amount": (
        f"{WIDGETS} await widgets.renderPaymentMethods({{ selector: '#methods' }})",
        "NOT_SETUP_AMOUNT",
    ),
    "no such place": (
        f"{WIDGETS} await widgets.setAmount(amount); await widgets.renderPaymentMethods({{ selector: '#nowhere' }})",
        "INVALID_SELECTOR",
    ),
    "methods twice": (
        f"{RENDERED} await widgets.renderPaymentMethods({{ selector: '#methods' }})",
        "PAYMENT_METHODS_WIDGET_ALREADY_RENDERED",
    ),
    "an agreement twice": (
        f"{RENDERED} await widgets.renderAgreement({{ selector: '#agreement' }})",
        "AGREEMENT_WIDGET_ALREADY_RENDERED",
    ),
    "a request before methods": (
        f"{WIDGETS} await widgets.setAmount(amount); await widgets.requestPayment({{ ...order, ...urls }})",
        "NOT_SELECTED_PAYMENT_METHOD",
    ),
    "a request without agreement": (
        f"{RENDERED} await widgets.requestPayment({{ ...order, ...urls }})",
        "NEED_AGREEMENT_WITH_REQUIRED_TERMS",
    ),
    "an unknown event": (f"{RENDERED} methods.on('click', () => 0)", "INVALID_PARAMETER"),
    "no listener": (f"{RENDERED} methods.on('paymentMethodSelect')", "INVALID_PARAMETER"),
}


class TestRefusals:
    async def test_every_misuse_has_the_code_of_the_real_sdk(self, shop: Shop) -> None:
        """One browser for all: each refusal leaves the page as it was, once it is loaded anew."""
        given: dict[str, str | None] = {}
        for misuse, (script, _) in REFUSALS.items():
            await shop.page.reload()
            given[misuse] = (await shop.settle(script)).get("code")

        assert given == {misuse: code for misuse, (_, code) in REFUSALS.items()}

    async def test_telephone_needs_redirects(self, shop: Shop) -> None:
        await shop.settle("Object.defineProperty(navigator, 'userAgent', { value: 'Mozilla/5.0 (Android; Mobile)' });")

        assert (await shop.settle(PAY_IN_PAGE))["code"] == "NOT_SUPPORTED_PROMISE"


class TestDashboard:
    async def test_shows_a_payment_and_lets_it_expire(self, shop: Shop) -> None:
        made = await shop.ask("POST", "/payments", orderId="order-000007", amount=1_234)

        await shop.page.goto(shop.sandbox)
        await expect(shop.page.get_by_test_id("payments")).to_contain_text("1,234원")
        await shop.page.get_by_test_id(f"expire-{made['paymentKey']}").click()

        await expect(shop.page.get_by_test_id("payments")).to_contain_text("EXPIRED")
        await expect(shop.page.get_by_test_id(f"expire-{made['paymentKey']}")).to_have_count(0)

    async def test_deposit_reaches_the_account_without_a_reload(self, shop: Shop) -> None:
        payment_key = await shop.make_account("order-000010")
        await shop.page.goto(shop.sandbox)
        await shop.page.get_by_test_id("fault-order").fill("half-typed")

        await shop.page.get_by_test_id(f"deposit-{payment_key}").click()

        await expect(shop.page.get_by_test_id(f"status-{payment_key}")).to_have_text("DONE")
        await expect(shop.page.get_by_test_id(f"deposit-{payment_key}")).to_have_count(0)
        await expect(shop.page.get_by_test_id(f"reverse-deposit-{payment_key}")).to_be_visible()
        await expect(shop.page.get_by_test_id("fault-order")).to_have_value("half-typed")

    async def test_another_amount_is_refused_until_it_is_forced(self, shop: Shop) -> None:
        payment_key = await shop.make_account("order-000011")
        await shop.page.goto(shop.sandbox)

        await shop.page.get_by_test_id(f"amount-deposit-other-{payment_key}").fill("14000")
        await shop.page.get_by_test_id(f"deposit-other-{payment_key}").click()
        await expect(shop.page.get_by_role("alert")).to_contain_text("SANDBOX_DEPOSIT_AMOUNT_DIFFERS")
        await shop.page.get_by_test_id(f"force-deposit-{payment_key}").click()

        await expect(shop.page.get_by_test_id(f"balance-{payment_key}")).to_have_text("14,000원")
        await expect(shop.page.get_by_role("alert")).to_have_count(0)

    async def test_part_of_a_payment_is_cancelled_from_the_console(self, shop: Shop) -> None:
        made = await shop.ask("POST", "/payments", orderId="order-000012", amount=15_000)
        await shop.confirm(made)
        payment_key = made["paymentKey"]
        await shop.page.goto(shop.sandbox)

        await shop.page.get_by_test_id(f"amount-cancel-amount-{payment_key}").fill("5000")
        await shop.page.get_by_test_id(f"cancel-amount-{payment_key}").click()
        await expect(shop.page.get_by_test_id(f"balance-{payment_key}")).to_have_text("10,000원")
        await shop.page.get_by_test_id(f"cancel-{payment_key}").click()

        await expect(shop.page.get_by_test_id(f"balance-{payment_key}")).to_have_text("0원")
        await expect(shop.page.get_by_test_id(f"cancels-{payment_key}").get_by_role("listitem")).to_have_count(2)
        await expect(shop.page.get_by_test_id(f"cancel-{payment_key}")).to_have_count(0)

    async def test_works_without_scripts(self, shop: Shop) -> None:
        payment_key = await shop.make_account("order-000013")
        browser = shop.page.context.browser
        assert browser is not None
        page = await browser.new_page(java_script_enabled=False)
        await page.goto(shop.sandbox)

        await page.get_by_test_id(f"deposit-{payment_key}").click()
        await expect(page.get_by_test_id(f"status-{payment_key}")).to_have_text("DONE")
        await page.get_by_test_id(f"amount-cancel-amount-{payment_key}").fill("5000")
        await page.get_by_test_id(f"cancel-amount-{payment_key}").click()
        await expect(page.get_by_test_id(f"balance-{payment_key}")).to_have_text("10,000원")
        await page.reload()

        await expect(page.get_by_test_id(f"balance-{payment_key}")).to_have_text("10,000원")
        await expect(page.get_by_test_id("offset")).to_have_text("0초")

    async def test_says_when_the_sandbox_is_gone(self, shop: Shop) -> None:
        await shop.page.goto(shop.sandbox)
        await shop.page.route(f"{shop.sandbox}/sandbox/dashboard/**", lambda route: route.abort("connectionrefused"))

        await shop.page.get_by_test_id("advance-60").click()

        await expect(shop.page.get_by_role("alert")).to_contain_text("샌드박스가 응답하지 않습니다.")

    async def test_moves_the_clock(self, shop: Shop) -> None:
        await shop.page.goto(shop.sandbox)

        await shop.page.get_by_test_id("advance-600").click()
        await expect(shop.page.get_by_test_id("offset")).to_have_text("10분")
        await shop.page.get_by_test_id("advance-60").click()

        await expect(shop.page.get_by_test_id("offset")).to_have_text("11분")
        assert (await shop.ask("GET", "/clock"))["offsetSeconds"] == 660

    async def test_arms_and_clears_faults(self, shop: Shop) -> None:
        await shop.page.goto(shop.sandbox)

        await shop.page.get_by_test_id("fault-kind").select_option("delay")
        await shop.page.get_by_test_id("fault-delay").fill("0.5")
        await shop.page.get_by_test_id("fault-times").fill("")
        await shop.page.get_by_test_id("arm-fault").click()
        await expect(shop.page.get_by_test_id("faults")).to_contain_text("delaySeconds 0.5")
        [fault] = (await shop.ask("GET", "/faults"))["faults"]
        await shop.page.get_by_test_id("clear-faults").click()

        await expect(shop.page.get_by_test_id("faults")).to_contain_text("걸려 있는 장애가 없습니다.")
        assert (fault["operation"], fault["kind"], fault["times"]) == ("confirm", "delay", None)

    async def test_refused_fault_is_explained(self, shop: Shop) -> None:
        await shop.page.goto(shop.sandbox)

        await shop.page.get_by_test_id("arm-fault").click()

        await expect(shop.page.get_by_role("alert")).to_contain_text("needs a code")

    async def test_webhook_is_sent_again(self, shop: Shop) -> None:
        async with receiving() as receiver:
            receiver.status = 500
            await shop.ask("PUT", "/webhooks/settings", url=receiver.url)
            await shop.confirm(await shop.ask("POST", "/payments", orderId="order-000015", amount=AMOUNT["value"]))
            await until(shop.has_tried_a_webhook)
            await shop.page.goto(shop.sandbox)
            [webhook] = (await shop.ask("GET", "/webhooks"))["webhooks"]
            await expect(shop.page.get_by_test_id(f"webhook-attempts-{webhook['id']}")).to_have_text("1 (500)")
            receiver.status = 200

            await shop.page.get_by_test_id(f"resend-{webhook['id']}").click()

            await expect(shop.page.get_by_test_id(f"webhook-state-{webhook['id']}")).to_have_text("DELIVERED")
        assert receiver.statuses == ["DONE", "DONE"]

    async def test_webhooks_are_switched_off_and_lost(self, shop: Shop) -> None:
        await shop.page.goto(shop.sandbox)

        await shop.page.get_by_test_id("switch-enabled").click()
        await expect(shop.page.get_by_test_id("switch-enabled")).to_contain_text("꺼짐")
        await shop.page.get_by_test_id("webhook-fault-order").fill("order-000016")
        await shop.page.get_by_test_id("arm-webhook-fault").click()

        await expect(shop.page.get_by_test_id("webhook-faults")).to_contain_text("orderId order-000016")
        assert not (await shop.ask("GET", "/webhooks/settings"))["enabled"]

    async def test_keeps_what_is_typed_while_it_refreshes(self, shop: Shop) -> None:
        payment_key = await shop.make_account("order-000014")
        await shop.page.goto(shop.sandbox)
        await shop.page.get_by_test_id("fault-order").fill("half-typed")
        await shop.page.get_by_test_id(f"amount-deposit-other-{payment_key}").fill("7")

        await shop.ask("POST", "/payments", orderId="order-000008", amount=5_000)

        await expect(shop.page.get_by_test_id("payments")).to_contain_text("order-000008")
        await expect(shop.page.get_by_test_id("fault-order")).to_have_value("half-typed")
        await expect(shop.page.get_by_test_id(f"amount-deposit-other-{payment_key}")).to_have_value("7")

    async def test_lists_the_calls_of_the_api(self, shop: Shop) -> None:
        made = await shop.ask("POST", "/payments", orderId="order-000009", amount=AMOUNT["value"])
        await shop.ask("POST", "/faults", operation="confirm", kind="server_error")
        await shop.confirm(made)

        await shop.page.goto(shop.sandbox)

        calls = shop.page.get_by_test_id("calls")
        await expect(calls).to_contain_text("POST /v1/payments/confirm")
        await expect(calls).to_contain_text("server_error")
