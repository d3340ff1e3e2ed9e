from datetime import datetime, timedelta
from itertools import pairwise

import httpx
import pytest

from demo_shop.catalogue import BY_SLUG
from demo_shop.orders import Order, OrderStatus, Sessions, create_order, follow_payment
from tests.shop.builders import AT


async def paid_orders(sessions: Sessions, count: int) -> list[str]:
    """Paid one minute after the other, the first at AT."""
    order_ids = []
    for minute in range(count):
        order = await create_order(sessions, BY_SLUG["drip-coffee"], quantity=1, at=AT)
        await pay(sessions, order, paid_at=AT + timedelta(minutes=minute))
        order_ids.append(order.order_id)
    return order_ids


async def pay(sessions: Sessions, order: Order, *, paid_at: datetime) -> None:
    async with sessions.begin() as session:
        await follow_payment(
            session,
            order.order_id,
            amount=order.amount,
            version=1,
            status=OrderStatus.PAID,
            refunded_amount=0,
            payment_key="key-1",
            paid_at=paid_at,
            at=AT,
        )


def order_ids_of(response: httpx.Response) -> list[str]:
    return [order["orderId"] for order in response.json()["orders"]]


class TestReadOrder:
    async def test_answers_what_the_payments_service_needs(self, program: httpx.AsyncClient, order: Order) -> None:
        response = await program.get(f"/api/orders/{order.order_id}")

        assert response.status_code == 200
        assert response.json() == {
            "orderId": order.order_id,
            "status": "CREATED",
            "amount": 24_000,
            "refundedAmount": 0,
            "currency": "KRW",
        }

    @pytest.mark.parametrize("order_id", ["order-of-nobody", "x", "a" * 65, "order%00id", "주문번호입니다"])
    async def test_order_that_is_not_there_is_a_404_problem(self, program: httpx.AsyncClient, order_id: str) -> None:
        response = await program.get(f"/api/orders/{order_id}")

        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "not_found"


class TestLookUp:
    async def test_answers_the_orders_that_exist(self, program: httpx.AsyncClient, order: Order) -> None:
        response = await program.post("/api/orders/lookup", json={"orderIds": [order.order_id, "order-of-nobody"]})

        assert response.status_code == 200
        assert order_ids_of(response) == [order.order_id]

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"orderIds": []},
            {"orderIds": "order-abcdef"},
            {"orderIds": [1]},
            {"orderIds": ["no/slash"]},
            {"orderIds": ["order-abcdef"], "more": True},
            {"orderIds": ["order-abcdef"] * 501},
        ],
    )
    async def test_malformed_body_is_refused(self, program: httpx.AsyncClient, body: dict[str, object]) -> None:
        response = await program.post("/api/orders/lookup", json=body)

        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"


class TestReadOrders:
    async def test_from_is_included_while_to_is_not(self, program: httpx.AsyncClient, sessions: Sessions) -> None:
        order_ids = await paid_orders(sessions, 4)

        response = await program.get(
            "/api/orders",
            params={
                "status": "PAID",
                "from": (AT + timedelta(minutes=1)).isoformat(),
                "to": (AT + timedelta(minutes=3)).isoformat(),
            },
        )

        assert order_ids_of(response) == order_ids[1:3]
        assert response.json()["nextCursor"] is None

    @pytest.mark.parametrize(
        ("paid_at", "day"),
        [
            ("2026-11-21T14:59:59.999999+00:00", "2026-11-21"),
            ("2026-11-21T15:00:00+00:00", "2026-11-22"),
            ("2026-11-22T14:59:59.999999+00:00", "2026-11-22"),
            ("2026-11-22T15:00:00+00:00", "2026-11-23"),
        ],
    )
    async def test_day_begins_at_midnight_in_seoul(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order, paid_at: str, day: str
    ) -> None:
        await pay(sessions, order, paid_at=datetime.fromisoformat(paid_at))

        found = []
        for begins, ends in pairwise(f"2026-11-{number}" for number in range(20, 26)):
            params = {"status": "PAID", "from": f"{begins}T00:00:00+09:00", "to": f"{ends}T00:00:00+09:00"}
            response = await program.get("/api/orders", params=params)
            found += [begins for order_id in order_ids_of(response) if order_id == order.order_id]

        assert found == [day]

    async def test_status_chooses(self, program: httpx.AsyncClient, sessions: Sessions, order: Order) -> None:
        await paid_orders(sessions, 1)

        response = await program.get("/api/orders", params={"status": "CREATED"})

        assert order_ids_of(response) == [order.order_id]

    async def test_pages_leave_nothing_out_and_repeat_nothing(
        self, program: httpx.AsyncClient, sessions: Sessions
    ) -> None:
        order_ids = await paid_orders(sessions, 5)

        seen: list[str] = []
        cursor = None
        while True:
            page = await program.get("/api/orders", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
            seen += order_ids_of(page)
            cursor = page.json()["nextCursor"]
            if cursor is None:
                break

        assert seen == order_ids

    @pytest.mark.parametrize(
        "params",
        [
            {"status": "LOST"},
            {"from": "2026-11-22T00:00:00"},  # which midnight?
            {"to": "yesterday"},
            {"cursor": "nonsense"},
            {"cursor": "MjAyNi0xMS0yMiBvcmRlcg=="},  # a time without a zone
            {"limit": "0"},
        ],
    )
    async def test_malformed_query_is_refused(self, program: httpx.AsyncClient, params: dict[str, str]) -> None:
        response = await program.get("/api/orders", params=params)

        assert response.status_code == 422
