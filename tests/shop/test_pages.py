import re

import httpx
import pytest
import respx

from demo_shop.orders import Order, Sessions, find_order
from tests.shop.builders import Json, a_payment, not_prepared


def state_of(page: httpx.Response) -> str:
    found = re.search(r'data-testid="result" data-state="(\w+)"', page.text)
    assert found, page.text
    return found[1]


def status_of(page: httpx.Response) -> str:
    found = re.search(r'data-testid="order-status" data-status="(\w+)"', page.text)
    assert found, page.text
    return found[1]


def payment_is(payments_api: respx.MockRouter, order: Order, **overrides: object) -> respx.Route:
    return payments_api.get(f"/payments/orders/{order.order_id}").respond(json=a_payment(order.order_id, **overrides))


def nobody_began_to_pay(payments_api: respx.MockRouter, order: Order) -> None:
    payments_api.get(f"/payments/orders/{order.order_id}").respond(404, json=not_prepared())


class TestProducts:
    async def test_every_product_has_its_button(self, buyer: httpx.AsyncClient) -> None:
        page = await buyer.get("/")

        assert re.findall(r'data-testid="buy-([\w-]+)"', page.text) == ["drip-coffee", "moon-mug", "tea-blanket"]

    async def test_page_may_talk_to_the_sdk_or_the_payments_api_and_nobody_else(self, buyer: httpx.AsyncClient) -> None:
        page = await buyer.get("/")

        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self' http://sdk.test;" in policy
        assert "connect-src 'self' http://pay.shop.test http://sdk.test;" in policy
        assert "unsafe" not in policy


class TestPlaceOrder:
    async def test_leads_to_the_checkout_of_a_new_order(self, buyer: httpx.AsyncClient, sessions: Sessions) -> None:
        response = await buyer.post("/orders", data={"product": "tea-blanket", "quantity": "2", "amount": "1"})

        assert response.status_code == 303
        order = await find_order(sessions, response.headers["location"].split("/")[2])
        assert order is not None
        assert order.amount == 116_000

    @pytest.mark.parametrize(
        ("form", "status"),
        [
            ({"product": "yacht"}, 404),
            ({"product": "moon-mug", "quantity": "0"}, 422),
            ({"product": "moon-mug", "quantity": "10"}, 422),
            ({}, 422),
        ],
    )
    async def test_what_is_not_sold_is_refused(
        self, buyer: httpx.AsyncClient, form: dict[str, str], status: int
    ) -> None:
        response = await buyer.post("/orders", data=form)

        assert response.status_code == status


class TestCheckout:
    async def test_offers_every_method(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        nobody_began_to_pay(payments_api, order)

        page = await buyer.get(f"/orders/{order.order_id}/checkout")

        assert page.status_code == 200
        assert re.findall(r'data-testid="method-(\w+)"', page.text) == [
            "CARD",
            "EASY_PAY",
            "TRANSFER",
            "VIRTUAL_ACCOUNT",
            "MOBILE_PHONE",
            "GIFT_CERTIFICATE",
        ]

    async def test_buyer_comes_back_to_this_shop(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        nobody_began_to_pay(payments_api, order)

        page = await buyer.get(f"/orders/{order.order_id}/checkout")

        assert f'data-success-url="http://shop.test/orders/{order.order_id}/success"' in page.text
        assert f'data-fail-url="http://shop.test/orders/{order.order_id}/fail"' in page.text

    @pytest.mark.parametrize("status", ["PENDING", "APPROVED", "WAITING_FOR_DEPOSIT", "COMPLETED", "CANCELLED"])
    async def test_order_that_cannot_be_paid_now_shows_itself_instead(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order, status: str
    ) -> None:
        payment_is(payments_api, order, status=status)

        response = await buyer.get(f"/orders/{order.order_id}/checkout")

        assert response.status_code == 303
        assert response.headers["location"] == f"/orders/{order.order_id}"

    async def test_failed_payment_may_be_tried_again(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        payment_is(payments_api, order, status="FAILED", failure={"code": "REJECT_CARD_COMPANY", "message": "거절"})

        page = await buyer.get(f"/orders/{order.order_id}/checkout")

        assert page.status_code == 200


class TestSuccess:
    async def test_page_confirms_what_it_was_given(self, buyer: httpx.AsyncClient, order: Order) -> None:
        page = await buyer.get(
            f"/orders/{order.order_id}/success",
            params={"paymentKey": "key-1", "orderId": order.order_id, "amount": "24000", "paymentType": "NORMAL"},
        )

        assert page.status_code == 200
        assert state_of(page) == "pending"
        assert 'data-payment-key="key-1"' in page.text
        assert "success.js" in page.text

    @pytest.mark.parametrize(
        "altered", [{"amount": "1"}, {"amount": "24000.0"}, {"orderId": "order-of-nobody"}, {"paymentKey": ""}]
    )
    async def test_altered_redirect_is_never_confirmed(
        self, buyer: httpx.AsyncClient, order: Order, altered: dict[str, str]
    ) -> None:
        given = {"paymentKey": "key-1", "orderId": order.order_id, "amount": "24000"}

        page = await buyer.get(f"/orders/{order.order_id}/success", params=given | altered)

        assert page.status_code == 400
        assert state_of(page) == "error"
        assert "success.js" not in page.text

    async def test_nothing_of_the_url_becomes_markup(self, buyer: httpx.AsyncClient, order: Order) -> None:
        attack = '"><script>alert(1)</script>'

        page = await buyer.get(
            f"/orders/{order.order_id}/success",
            params={"paymentKey": attack, "orderId": order.order_id, "amount": "24000"},
        )

        assert "<script>alert" not in page.text


class TestFail:
    async def test_closed_window_charged_nothing(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        payment_is(payments_api, order, status="CREATED", completedAt=None)

        page = await buyer.get(f"/orders/{order.order_id}/fail", params={"code": "PAY_PROCESS_CANCELED"})

        assert state_of(page) == "refused"
        assert "결제를 취소하셨습니다" in page.text
        assert "청구된 금액은 없습니다" in page.text
        assert 'data-testid="try-again"' in page.text

    @pytest.mark.parametrize(
        ("status", "state"),
        [
            ("PENDING", "pending"),
            ("APPROVED", "pending"),
            ("WAITING_FOR_DEPOSIT", "waiting"),
            ("COMPLETED", "completed"),
            ("CANCELLED", "error"),
        ],
    )
    async def test_buyer_is_not_told_that_nothing_was_charged_unless_that_is_known(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order, status: str, state: str
    ) -> None:
        payment_is(payments_api, order, status=status)

        page = await buyer.get(f"/orders/{order.order_id}/fail", params={"code": "REJECT_CARD_COMPANY"})

        assert state_of(page) == state
        assert "청구된 금액은 없습니다" not in page.text
        assert 'data-testid="try-again"' not in page.text

    async def test_silence_of_the_payments_api_is_no_knowledge(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        payments_api.get(f"/payments/orders/{order.order_id}").mock(side_effect=httpx.ConnectError)

        page = await buyer.get(f"/orders/{order.order_id}/fail", params={"code": "PAY_PROCESS_ABORTED"})

        assert state_of(page) == "error"
        assert "청구된 금액은 없습니다" not in page.text

    async def test_message_of_the_url_is_not_repeated(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        payment_is(payments_api, order, status="CREATED", completedAt=None)

        page = await buyer.get(f"/orders/{order.order_id}/fail", params={"code": "MADE_UP", "message": "call 1234"})

        assert "1234" not in page.text

    async def test_redirect_of_another_order_is_refused(self, buyer: httpx.AsyncClient, order: Order) -> None:
        page = await buyer.get(f"/orders/{order.order_id}/fail", params={"orderId": "order-of-nobody"})

        assert page.status_code == 400


class TestOrderPage:
    async def test_payment_completed_after_the_browser_was_closed_shows(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        payment_is(payments_api, order, status="COMPLETED")

        page = await buyer.get(f"/orders/{order.order_id}")

        assert status_of(page) == "PAID"
        assert "https://receipt.test/1" in page.text

    async def test_shows_what_is_stored_while_the_payments_api_is_away(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        payments_api.get(f"/payments/orders/{order.order_id}").respond(503)

        page = await buyer.get(f"/orders/{order.order_id}")

        assert status_of(page) == "CREATED"
        assert "go-to-checkout" not in page.text

    async def test_account_to_pay_into_is_shown_with_the_banks_name(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        account: Json = {"bank": "20", "accountNumber": "X650", "holder": "온돌", "dueDate": "2026-11-29T14:59:59Z"}
        payment_is(payments_api, order, status="WAITING_FOR_DEPOSIT", virtualAccount=account)

        page = await buyer.get(f"/orders/{order.order_id}")

        assert "우리은행" in page.text
        assert "2026-11-29 23:59" in page.text

    async def test_receipt_that_is_no_web_link_is_not_offered(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        payment_is(payments_api, order, receiptUrl="javascript:alert(1)")

        page = await buyer.get(f"/orders/{order.order_id}")

        assert "javascript:" not in page.text

    @pytest.mark.parametrize("order_id", ["order-of-nobody", "x", "a.b.c.d"])
    async def test_order_that_is_not_there_is_a_page_that_says_so(
        self, buyer: httpx.AsyncClient, order_id: str
    ) -> None:
        page = await buyer.get(f"/orders/{order_id}")

        assert page.status_code == 404
        assert "찾으시는 페이지나 주문이 없습니다" in page.text

    async def test_recent_orders_are_listed(self, buyer: httpx.AsyncClient, order: Order) -> None:
        page = await buyer.get("/orders")

        assert f'href="/orders/{order.order_id}"' in page.text


class TestCallsOfThePages:
    async def test_refresh_asks_the_payments_api_rather_than_the_browser(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        payment_is(payments_api, order, status="PENDING", completedAt=None)

        response = await buyer.post(f"/orders/{order.order_id}/refresh", json={"status": "COMPLETED"})

        assert response.json() == {
            "orderId": order.order_id,
            "orderStatus": "CREATED",
            "knowledge": "KNOWN",
            "paymentVersion": 3,
            "paymentStatus": "PENDING",
            "depositReversed": False,
            "dueDatePassed": False,
            "needsSupport": False,
            "receiptUrl": "https://receipt.test/1",
        }

    async def test_refresh_of_an_unknown_order(self, program: httpx.AsyncClient) -> None:
        response = await program.post("/orders/order-of-nobody/refresh")

        assert response.status_code == 404

    async def test_email_is_kept_with_the_order(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order
    ) -> None:
        response = await program.put(f"/orders/{order.order_id}/email", json={"customerEmail": "a.b+c@shop.example"})

        found = await find_order(sessions, order.order_id)
        assert response.status_code == 204
        assert found is not None
        assert found.customer_email == "a.b+c@shop.example"

    @pytest.mark.parametrize(
        "email", ["", "a", "a@b", "a b@c.kr", "a@b.kr\n", "a\0@b.kr", "한글@b.kr", "a@b." + "k" * 99]
    )
    async def test_what_is_no_address_is_refused(self, program: httpx.AsyncClient, order: Order, email: str) -> None:
        response = await program.put(f"/orders/{order.order_id}/email", json={"customerEmail": email})

        assert response.status_code == 422

    async def test_email_of_a_paid_order_stays(
        self, program: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        payment_is(payments_api, order, status="COMPLETED")
        await program.post(f"/orders/{order.order_id}/refresh")

        response = await program.put(f"/orders/{order.order_id}/email", json={"customerEmail": "late@shop.example"})

        assert response.status_code == 409


class TestHealth:
    async def test_shop_lives(self, program: httpx.AsyncClient) -> None:
        response = await program.get("/health/live")

        assert response.json() == {"status": "ok"}
