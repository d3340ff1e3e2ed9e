import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
import respx

from payments.gateways.orders import NoSuchOrder, Order, OrdersClient, OrdersUnreachable
from tests.gateways.loopback import loopback

BASE = "http://orders.example/api"
ORDER = "order-000001"
GOOD = {"orderId": ORDER, "status": "CREATED", "amount": 15_000, "currency": "KRW", "anythingNew": [1]}


@pytest.fixture
async def orders() -> AsyncIterator[OrdersClient]:
    async with OrdersClient(BASE, deadline=timedelta(seconds=2)) as client:
        yield client


class TestFind:
    @respx.mock
    async def test_asks_for_the_order_and_reads_it(self, orders: OrdersClient) -> None:
        asked = respx.get(f"{BASE}/orders/{ORDER}").respond(json=GOOD)

        assert await orders.find(ORDER) == Order(ORDER, "CREATED", 15_000)
        assert asked.call_count == 1

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


class TestIsPayable:
    @pytest.mark.parametrize("status", ["PAID", "CANCELLED", "CANCELED", "REFUNDED", "EXPIRED", "created", ""])
    def test_not_once_it_is_anything_else(self, status: str) -> None:
        assert not Order(ORDER, status, 1).is_payable

    def test_while_it_waits_for_its_payment(self) -> None:
        assert Order(ORDER, "CREATED", 1).is_payable
