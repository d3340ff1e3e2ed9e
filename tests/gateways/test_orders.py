import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta, timezone

import httpx
import pytest
import respx

from payments.gateways.orders import (
    LOOK_UP_LIMIT,
    MAX_LIST_BYTES,
    NoSuchOrder,
    Order,
    OrderPage,
    OrdersClient,
    OrdersUnreachable,
)
from tests.gateways.loopback import loopback, never_answering, plain_transport

BASE = "http://orders.example/api"
ORDER = "order-000001"
MIDNIGHT = datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=9)))
GOOD = {"orderId": ORDER, "status": "CREATED", "amount": 15_000, "currency": "KRW", "anythingNew": [1]}


@pytest.fixture
async def orders() -> AsyncIterator[OrdersClient]:
    async with OrdersClient(BASE, deadline=timedelta(seconds=2), transport=plain_transport()) as client:
        yield client


class TestFind:
    @respx.mock
    async def test_asks_for_the_order_and_reads_it(self, orders: OrdersClient) -> None:
        asked = respx.get(f"{BASE}/orders/{ORDER}").respond(json=GOOD)

        assert await orders.find(ORDER) == Order(ORDER, "CREATED", 15_000)
        assert asked.call_count == 1

    @respx.mock
    async def test_a_card_number_in_a_status_is_masked(self, orders: OrdersClient) -> None:
        respx.get(f"{BASE}/orders/{ORDER}").respond(json={**GOOD, "status": "PAID BY 4111 1111 1111 1111"})

        assert await orders.find(ORDER) == Order(ORDER, "PAID BY **** **** **** 1111", 15_000)

    @respx.mock
    @pytest.mark.parametrize(
        "order_id",
        ["", "short", "../orders/x", "order/00001", "order?x=1", "order#0001", "order 0001", "x" * 65, "주문"],
    )
    async def test_what_is_no_order_id_never_enters_a_url(self, orders: OrdersClient, order_id: str) -> None:
        with pytest.raises(ValueError, match="not an order id"):
            await orders.find(order_id)

    @respx.mock
    async def test_an_unknown_order_is_an_answer(self, orders: OrdersClient) -> None:
        respx.get(f"{BASE}/orders/{ORDER}").respond(404, json={"code": "order_not_found"})

        assert await orders.find(ORDER) == NoSuchOrder()

    @respx.mock
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"[]",
            b'{"orderId":"order-000001","status":"CREATED"}',
            b'{"orderId":"order-000001","status":"CREATED","amount":"15000"}',
            b'{"orderId":"order-000001","status":"CREATED","amount":15000.5}',
            b'{"orderId":"order-000001","status":"CREATED","amount":true}',
            b'{"orderId":"order-000001","status":"CREATED","amount":-1}',
            b'{"orderId":"order-000001","status":null,"amount":1}',
            b'{"orderId":"order-000001","status":"\\ud800","amount":NaN}',
            b'{"orderId":"order-000002","status":"CREATED","amount":15000}',
            b"\xff\xfe{}",
            b" " * 100_000 + b"{}",
        ],
    )
    async def test_an_answer_that_is_not_this_order_is_no_answer(self, orders: OrdersClient, body: bytes) -> None:
        respx.get(f"{BASE}/orders/{ORDER}").respond(200, content=body)

        assert isinstance(await orders.find(ORDER), OrdersUnreachable)

    @respx.mock
    @pytest.mark.parametrize("status", [204, 301, 302, 400, 401, 403, 429, 500, 502, 503])
    async def test_any_other_status_is_no_answer(self, orders: OrdersClient, status: int) -> None:
        respx.get(f"{BASE}/orders/{ORDER}").respond(
            status, json=GOOD, headers={"location": "http://elsewhere.example/"}
        )

        assert isinstance(await orders.find(ORDER), OrdersUnreachable)

    @respx.mock
    @pytest.mark.parametrize(
        "error",
        [httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError],
    )
    async def test_a_broken_connection_is_no_answer(
        self, orders: OrdersClient, error: type[httpx.TransportError]
    ) -> None:
        respx.get(f"{BASE}/orders/{ORDER}").mock(side_effect=error)

        assert isinstance(await orders.find(ORDER), OrdersUnreachable)

    async def test_a_dripping_answer_ends_at_the_deadline(self) -> None:
        async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)

        async with (
            loopback(drip) as server,
            OrdersClient(server.url, deadline=timedelta(seconds=0.2)) as orders,
        ):
            assert isinstance(await orders.find(ORDER), OrdersUnreachable)


class TestLookUp:
    @respx.mock
    async def test_asks_for_all_at_once_and_tells_them_by_id(self, orders: OrdersClient) -> None:
        asked = respx.post(f"{BASE}/orders/lookup").respond(
            json={"orders": [{**GOOD, "status": "PAID", "refundedAmount": 0}, {**GOOD, "orderId": "order-000003"}]}
        )

        found = await orders.look_up([ORDER, "order-000002", "order-000003", ORDER])

        assert json.loads(asked.calls.last.request.content) == {"orderIds": [ORDER, "order-000002", "order-000003"]}
        assert found == {
            ORDER: Order(ORDER, "PAID", 15_000, refunded_amount=0),
            "order-000003": Order("order-000003", "CREATED", 15_000, refunded_amount=None),
        }

    @respx.mock
    async def test_of_nothing_asks_nobody(self, orders: OrdersClient) -> None:
        assert await orders.look_up([]) == {}
        assert respx.calls.call_count == 0

    async def test_of_more_than_agreed_is_refused(self, orders: OrdersClient) -> None:
        with pytest.raises(ValueError, match="100 orders"):
            await orders.look_up([f"order-{number:06}" for number in range(LOOK_UP_LIMIT + 1)])

    @respx.mock
    @pytest.mark.parametrize(
        ("listed", "reason"),
        [
            ([{**GOOD, "orderId": "order-000009"}], "another order"),
            ([GOOD, {**GOOD, "orderId": "order-000009"}], "another order"),
            ([GOOD, {**GOOD, "status": "PAID"}], "an order twice"),
            ([GOOD, {"orderId": "order-000002"}], "not orders"),
            ([{**GOOD, "refundedAmount": -1}], "not orders"),
            ([{**GOOD, "refundedAmount": "0"}], "not orders"),
            (None, "not orders"),
            ({ORDER: GOOD}, "not orders"),
        ],
    )
    async def test_an_answer_with_anything_else_in_it_is_no_answer(
        self, orders: OrdersClient, *, listed: object, reason: str
    ) -> None:
        respx.post(f"{BASE}/orders/lookup").respond(json={"orders": listed})

        assert await orders.look_up([ORDER, "order-000002"]) == OrdersUnreachable(reason)


class TestPaidBetween:
    @respx.mock
    async def test_asks_for_the_paid_ones_of_a_time_from_a_place(self, orders: OrdersClient) -> None:
        paid = {**GOOD, "status": "PAID", "refundedAmount": None}
        asked = respx.get(f"{BASE}/orders").respond(json={"orders": [paid], "nextCursor": "next+/="})

        page = await orders.paid_between(MIDNIGHT, MIDNIGHT + timedelta(days=1), cursor="here+/=")

        assert page == OrderPage((Order(ORDER, "PAID", 15_000),), "next+/=")
        assert dict(asked.calls.last.request.url.params) == {
            "status": "PAID",
            "from": "2026-01-01T15:00:00+00:00",
            "to": "2026-01-02T15:00:00+00:00",
            "limit": "100",
            "cursor": "here+/=",
        }

    @respx.mock
    @pytest.mark.parametrize("last", [{"orders": []}, {"orders": [], "nextCursor": None}])
    async def test_the_last_page_leads_nowhere(self, orders: OrdersClient, last: dict[str, object]) -> None:
        asked = respx.get(f"{BASE}/orders").respond(json=last)

        assert await orders.paid_between(MIDNIGHT, MIDNIGHT, cursor=None) == OrderPage((), None)
        assert "cursor" not in asked.calls.last.request.url.params

    @respx.mock
    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ({"orders": [{**GOOD, "status": "REFUNDED"}]}, "another order"),
            ({"orders": [{**GOOD, "status": "PAID"}] * 2}, "an order twice"),
            ({"orders": [], "nextCursor": "here"}, "the same page again"),
            ({"orders": [], "nextCursor": ""}, "not orders"),
            ({"orders": [], "nextCursor": 2}, "not orders"),
            ({}, "not orders"),
            ([], "not orders"),
        ],
    )
    async def test_a_page_that_was_not_asked_for_is_no_answer(
        self, orders: OrdersClient, *, body: object, reason: str
    ) -> None:
        respx.get(f"{BASE}/orders").respond(json=body)

        answer = await orders.paid_between(MIDNIGHT, MIDNIGHT + timedelta(days=1), cursor="here")

        assert answer == OrdersUnreachable(reason)

    async def test_a_time_that_could_be_anywhere_is_refused(self, orders: OrdersClient) -> None:
        with pytest.raises(ValueError, match="offset"):
            await orders.paid_between(MIDNIGHT.replace(tzinfo=None), MIDNIGHT, cursor=None)


Ask = Callable[[OrdersClient], Awaitable[object]]


async def look_up(orders: OrdersClient) -> object:
    return await orders.look_up([ORDER])


async def list_paid(orders: OrdersClient) -> object:
    return await orders.paid_between(MIDNIGHT, MIDNIGHT + timedelta(days=1), cursor=None)


@pytest.mark.parametrize("ask", [look_up, list_paid])
class TestLists:
    @respx.mock
    @pytest.mark.parametrize("status", [204, 302, 401, 404, 422, 429, 503])
    async def test_any_other_status_is_no_answer(self, orders: OrdersClient, *, status: int, ask: Ask) -> None:
        respx.route().respond(status, json={"orders": []}, headers={"location": "http://elsewhere.example/"})

        assert await ask(orders) == OrdersUnreachable(f"status {status}")

    @respx.mock
    @pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, ssl.SSLError, httpx.RemoteProtocolError])
    async def test_a_broken_connection_is_no_answer(
        self, orders: OrdersClient, *, error: type[Exception], ask: Ask
    ) -> None:
        respx.route().mock(side_effect=error("lost"))

        assert await ask(orders) == OrdersUnreachable(error.__name__)

    @respx.mock
    @pytest.mark.parametrize(("size", "is_read"), [(MAX_LIST_BYTES, True), (MAX_LIST_BYTES + 1, False)])
    async def test_the_cap_is_exact(self, orders: OrdersClient, *, size: int, is_read: bool, ask: Ask) -> None:
        respx.route().respond(content=b'{"orders":[]}'.ljust(size))

        assert isinstance(await ask(orders), OrdersUnreachable) is not is_read

    async def test_silence_ends_at_the_deadline(self, ask: Ask) -> None:
        async with (
            loopback(never_answering) as server,
            OrdersClient(server.url, list_deadline=timedelta(seconds=0.2)) as orders,
        ):
            assert await ask(orders) == OrdersUnreachable("TimeoutError")


class TestIsPayable:
    @pytest.mark.parametrize("status", ["PAID", "CANCELLED", "CANCELED", "REFUNDED", "EXPIRED", "created", ""])
    def test_not_once_it_is_anything_else(self, status: str) -> None:
        assert not Order(ORDER, status, 1).is_payable

    def test_while_it_waits_for_its_payment(self) -> None:
        assert Order(ORDER, "CREATED", 1).is_payable
