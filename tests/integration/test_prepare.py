from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import httpx
import pytest
from fastapi import FastAPI

from payments.db import create_engine, create_sessions, transaction
from payments.errors import (
    OrderAmountMismatch,
    OrderNotFound,
    OrderNotPayable,
    OrdersUnavailable,
    PaymentError,
    PaymentNotFound,
)
from payments.gateways.orders import NoSuchOrder, Order, OrderAnswer, OrderPage, OrdersUnreachable
from payments.hot_path import HotPath
from payments.queries import get_payment
from payments.reserve import Reserve
from payments.resources import Resources
from payments.states import PaymentMethod, PaymentStatus
from payments.usecases.prepare import Prepared, PrepareRequest, prepare
from tests.integration.world import AMOUNT, CLIENT_KEY, ORDER, SHOP, Sandbox, confirm_body, prepare_body, prepared, read


class TestPrepare:
    async def test_answers_all_that_the_payment_window_needs(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/payments/prepare", json=prepare_body())

        body = answer.json()
        assert answer.status_code == 201
        assert body.pop("expiresAt").endswith("Z")
        assert body == {
            "orderId": ORDER,
            "status": "CREATED",
            "attempt": 1,
            "amount": AMOUNT,
            "currency": "KRW",
            "orderName": "토스 티셔츠 외 1건",
            "method": "CARD",
            "customerEmail": "buyer@example.com",
            "clientKey": CLIENT_KEY,
            "successUrl": f"{SHOP}/success",
            "failUrl": f"{SHOP}/fail",
        }

    async def test_again_finds_the_same_payment(self, api: httpx.AsyncClient) -> None:
        await prepared(api)

        again = await api.post("/payments/prepare", json=prepare_body())

        assert (again.status_code, again.json()["attempt"]) == (200, 1)

    async def test_again_takes_the_method_that_the_buyer_changed_to(self, api: httpx.AsyncClient) -> None:
        await prepared(api, method="CARD")

        await prepared(api, method="TRANSFER")

        assert (await read(api))["method"] == "TRANSFER"

    async def test_another_amount_is_a_conflict(self, api: httpx.AsyncClient) -> None:
        await prepared(api)

        answer = await api.post("/payments/prepare", json=prepare_body(amount=AMOUNT + 1))

        assert (answer.status_code, answer.json()["code"]) == (409, "amount_mismatch")
        assert (await read(api))["amount"] == AMOUNT

    async def test_a_paid_order_is_a_conflict(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        await api.post("/payments/confirm", json=confirm_body(await sandbox.buyer_authenticates()))

        answer = await api.post("/payments/prepare", json=prepare_body())

        assert (answer.status_code, answer.json()["code"]) == (409, "already_paid")

    async def test_an_order_waiting_for_a_deposit_is_a_conflict(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates(method="VIRTUAL_ACCOUNT")
        await api.post("/payments/confirm", json=confirm_body(payment_key))

        answer = await api.post("/payments/prepare", json=prepare_body())

        assert (answer.status_code, answer.json()["code"]) == (409, "awaiting_deposit")

    async def test_without_a_name_the_order_id_is_shown(self, api: httpx.AsyncClient) -> None:
        body = prepare_body()
        del body["orderName"]

        answer = await api.post("/payments/prepare", json=body)

        assert answer.json()["orderName"] == ORDER

    @pytest.mark.parametrize(
        ("method", "amount"), [("TRANSFER", 199), ("TRANSFER", 10_000_001), ("VIRTUAL_ACCOUNT", 199)]
    )
    async def test_an_amount_that_the_method_cannot_take(
        self, api: httpx.AsyncClient, method: str, amount: int
    ) -> None:
        answer = await api.post("/payments/prepare", json=prepare_body(method=method, amount=amount))

        assert (answer.status_code, answer.json()["code"]) == (422, "amount_out_of_range")


class TestRedirects:
    @pytest.mark.parametrize(
        "url",
        [
            "https://shop.example.evil.example/success",
            "https://shop.example@evil.example/success",
            "https://evil.example/https://shop.example/",
            "http://shop.example/success",
            "https://shop.example:8443/success",
            "//shop.example/success",
            "javascript:alert(1)//https://shop.example/",
            "data:text/html,https://shop.example/",
            "https://shop.example\\@evil.example/",
            "https://shop.example/\r\nset-cookie: a=b",
            "https://shop.example/ success",
            "https://SHOP.example/success",
            "https://xn--shop-example/success",
        ],
    )
    @pytest.mark.parametrize("field", ["successUrl", "failUrl"])
    async def test_lead_nowhere_but_to_the_shop(self, api: httpx.AsyncClient, field: str, url: str) -> None:
        answer = await api.post("/payments/prepare", json={**prepare_body(), field: url})

        assert (answer.status_code, answer.json()["code"]) == (422, "redirect_not_allowed")
        assert answer.json()["errors"][0]["field"] == field
        assert url not in answer.text

    @pytest.mark.parametrize("url", [f"{SHOP}/", f"{SHOP}/orders/1?x=%20y#z", f"{SHOP}?order=1"])
    async def test_any_page_of_the_shop_will_do(self, api: httpx.AsyncClient, url: str) -> None:
        assert (await api.post("/payments/prepare", json=prepare_body(successUrl=url))).status_code == 201


@dataclass
class OrderBook:
    """An order service that holds one answer."""

    answer: OrderAnswer
    asked: list[str] = field(default_factory=list)

    async def find(self, order_id: str) -> OrderAnswer:
        self.asked.append(order_id)
        return self.answer

    async def look_up(self, order_ids: Sequence[str]) -> Mapping[str, Order] | OrdersUnreachable:
        raise NotImplementedError

    async def paid_between(
        self, since: datetime, until: datetime, *, cursor: str | None
    ) -> OrderPage | OrdersUnreachable:
        raise NotImplementedError


class TestOrderService:
    """Where one is configured, the amount never comes from the browser alone."""

    async def test_agreeing_lets_the_payment_be_made(self, resources: Resources) -> None:
        orders = OrderBook(Order(ORDER, "CREATED", AMOUNT))

        made = await _prepare(resources, orders)

        assert made.is_new
        assert made.payment.status is PaymentStatus.CREATED
        assert orders.asked == [ORDER]

    @pytest.mark.parametrize(
        ("answer", "refusal"),
        [
            (NoSuchOrder(), OrderNotFound),
            (OrdersUnreachable("down"), OrdersUnavailable),
            (Order(ORDER, "CREATED", AMOUNT + 1), OrderAmountMismatch),
            (Order(ORDER, "PAID", AMOUNT), OrderNotPayable),
            (Order(ORDER, "CANCELLED", AMOUNT), OrderNotPayable),
        ],
    )
    async def test_otherwise_nothing_is_made(
        self, resources: Resources, answer: OrderAnswer, refusal: type[PaymentError]
    ) -> None:
        with pytest.raises(refusal):
            await _prepare(resources, OrderBook(answer))

        async with transaction(resources.sessions) as session:
            with pytest.raises(PaymentNotFound):
                await get_payment(session, ORDER)


class TestWithoutADatabase:
    @pytest.fixture
    async def adrift(self, app: FastAPI, resources: Resources) -> AsyncIterator[httpx.AsyncClient]:
        """The API with its database out of reach."""
        app.state.resources = _without_database(resources)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api") as client:
            yield client
        app.state.resources = resources

    @pytest.mark.parametrize("path", ["/payments/prepare", "/payments/confirm"])
    async def test_says_503_and_when_to_come_back(self, adrift: httpx.AsyncClient, sandbox: Sandbox, path: str) -> None:
        body = prepare_body() if path.endswith("prepare") else confirm_body("tviva20260102144639Ab1Cd")

        answer = await adrift.post(path, json=body)

        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert await sandbox.calls() == []


def _without_database(resources: Resources) -> Resources:
    nowhere = "postgresql+psycopg://postgres@127.0.0.1:1/nowhere"
    engine = create_engine(nowhere)
    return replace(resources, engine=engine, sessions=create_sessions(engine), hot=HotPath(Reserve(nowhere)))


async def _prepare(resources: Resources, orders: OrderBook) -> Prepared:
    asked = PrepareRequest(
        order_id=ORDER,
        amount=AMOUNT,
        method=PaymentMethod.CARD,
        customer_email="buyer@example.com",
        order_name="토스 티셔츠",
        success_url=f"{SHOP}/success",
        fail_url=f"{SHOP}/fail",
    )
    return await prepare(asked, sessions=resources.sessions, hot=resources.hot, orders=orders, allowed_origins=(SHOP,))
