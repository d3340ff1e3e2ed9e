import asyncio
import re
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from demo_shop.catalogue import BY_SLUG
from demo_shop.orders import (
    ORDER_ID_PATTERN,
    Order,
    OrderStatus,
    Sessions,
    close_unpaid,
    create_order,
    create_tables,
    find_order,
    find_orders,
    follow_payment,
    list_orders,
    note_email,
    open_engine,
    open_sessions,
    recent_orders,
)
from tests.shop.builders import AT

MUG = BY_SLUG["moon-mug"]


async def pay(sessions: Sessions, order: Order, *, version: int = 1, amount: int | None = None) -> bool:
    async with sessions.begin() as session:
        return await follow_payment(
            session,
            order.order_id,
            amount=amount or order.amount,
            version=version,
            status=OrderStatus.PAID,
            refunded_amount=0,
            payment_key="key",
            paid_at=AT,
            at=AT,
        )


async def unpay(sessions: Sessions, order: Order, *, version: int, at: datetime) -> bool:
    async with sessions.begin() as session:
        return await follow_payment(
            session,
            order.order_id,
            amount=order.amount,
            version=version,
            status=OrderStatus.CREATED,
            refunded_amount=0,
            payment_key="key",
            paid_at=None,
            at=at,
        )


async def reversed_at(sessions: Sessions, order: Order) -> datetime | None:
    found = await find_order(sessions, order.order_id)
    assert found is not None
    return found.deposit_reversed_at


class TestCreateOrder:
    async def test_price_is_the_catalogues(self, sessions: Sessions) -> None:
        order = await create_order(sessions, MUG, quantity=3, at=AT)

        assert order.amount == 3 * MUG.price
        assert order.status is OrderStatus.CREATED

    async def test_number_is_one_that_toss_takes(self, sessions: Sessions) -> None:
        order = await create_order(sessions, MUG, quantity=1, at=AT)

        assert re.fullmatch(ORDER_ID_PATTERN, order.order_id)
        assert re.fullmatch(r"order-.{20}", order.order_id)

    async def test_order_is_there_for_others(self, sessions: Sessions) -> None:
        order = await create_order(sessions, MUG, quantity=1, at=AT)

        found = await find_order(sessions, order.order_id)

        assert found is not None
        assert found.created_at == AT

    @pytest.mark.parametrize(
        "damage",
        [
            "amount = 0",
            "quantity = 0",
            "refunded_amount = amount + 1",
            "refunded_amount = -1",
            "status = 'LOST'",
            "status = 'PAID'",  # without a time of payment
        ],
    )
    @pytest.mark.usefixtures("order")
    async def test_database_refuses_what_no_order_can_be(self, sessions: Sessions, damage: str) -> None:
        with pytest.raises(IntegrityError):
            async with sessions.begin() as session:
                await session.execute(text(f"UPDATE orders SET {damage}"))  # noqa: S608 - the parameters above


class TestCreateTables:
    async def test_several_shops_may_start_at_once(self, empty_database: str) -> None:
        engine = open_engine(empty_database)

        await asyncio.gather(*[create_tables(engine) for _ in range(4)])

        await engine.dispose()

    async def test_database_of_an_older_shop_gets_what_it_lacks(self, empty_database: str, order: Order) -> None:
        engine = open_engine(empty_database)
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE orders DROP COLUMN deposit_reversed_at"))

        await create_tables(engine)

        assert await reversed_at(open_sessions(engine), order) is None
        await engine.dispose()


class TestFollowPayment:
    async def test_order_becomes_paid(self, sessions: Sessions, order: Order) -> None:
        assert await pay(sessions, order)

        found = await find_order(sessions, order.order_id)
        assert found is not None
        assert (found.status, found.payment_key, found.paid_at) == (OrderStatus.PAID, "key", AT)

    async def test_repeating_it_changes_nothing(self, sessions: Sessions, order: Order) -> None:
        await pay(sessions, order)

        assert not await pay(sessions, order)

    async def test_of_many_at_once_one_changes_the_order(self, sessions: Sessions, order: Order) -> None:
        changed = await asyncio.gather(*[pay(sessions, order) for _ in range(8)])

        assert changed.count(True) == 1

    async def test_older_version_that_comes_late_is_ignored(self, sessions: Sessions, order: Order) -> None:
        await pay(sessions, order, version=5)

        late = await unpay(sessions, order, version=4, at=AT)

        found = await find_order(sessions, order.order_id)
        assert not late
        assert found is not None
        assert found.status is OrderStatus.PAID

    async def test_another_amount_never_pays_an_order(self, sessions: Sessions, order: Order) -> None:
        assert not await pay(sessions, order, amount=order.amount - 1)

        found = await find_order(sessions, order.order_id)
        assert found is not None
        assert found.status is OrderStatus.CREATED

    async def test_unknown_order_is_no_order(self, sessions: Sessions, order: Order) -> None:
        stranger = Order(order_id="order-of-nobody", amount=order.amount)

        assert not await pay(sessions, stranger)


class TestReversedDeposit:
    async def test_paid_order_that_becomes_unpaid_remembers_why(self, sessions: Sessions, order: Order) -> None:
        await pay(sessions, order, version=1)

        await unpay(sessions, order, version=2, at=AT + timedelta(minutes=2))

        assert await reversed_at(sessions, order) == AT + timedelta(minutes=2)

    async def test_order_that_was_never_paid_has_nothing_to_remember(self, sessions: Sessions, order: Order) -> None:
        await unpay(sessions, order, version=1, at=AT)

        assert await reversed_at(sessions, order) is None

    async def test_news_of_the_waiting_payment_change_nothing(self, sessions: Sessions, order: Order) -> None:
        await pay(sessions, order, version=1)
        await unpay(sessions, order, version=2, at=AT)

        await unpay(sessions, order, version=3, at=AT + timedelta(minutes=2))

        assert await reversed_at(sessions, order) == AT

    async def test_next_deposit_ends_it(self, sessions: Sessions, order: Order) -> None:
        await pay(sessions, order, version=1)
        await unpay(sessions, order, version=2, at=AT)

        await pay(sessions, order, version=3)

        assert await reversed_at(sessions, order) is None


class TestCloseUnpaid:
    async def test_unpaid_order_is_cancelled(self, sessions: Sessions, order: Order) -> None:
        assert await close_unpaid(sessions, order.order_id, version=0)

        found = await find_order(sessions, order.order_id)
        assert found is not None
        assert found.status is OrderStatus.CANCELLED

    async def test_order_that_was_paid_meanwhile_stays(self, sessions: Sessions, order: Order) -> None:
        await pay(sessions, order)

        assert not await close_unpaid(sessions, order.order_id, version=0)


class TestNoteEmail:
    async def test_address_is_kept(self, sessions: Sessions, order: Order) -> None:
        assert await note_email(sessions, order.order_id, email="buyer@example.com")

        found = await find_order(sessions, order.order_id)
        assert found is not None
        assert found.customer_email == "buyer@example.com"

    async def test_paid_order_keeps_the_address_it_was_paid_with(self, sessions: Sessions, order: Order) -> None:
        await pay(sessions, order)

        assert not await note_email(sessions, order.order_id, email="other@example.com")


class TestLists:
    async def test_recent_orders_come_newest_first(self, sessions: Sessions) -> None:
        first = await create_order(sessions, MUG, quantity=1, at=AT)
        second = await create_order(sessions, MUG, quantity=1, at=AT + timedelta(seconds=1))

        recent = await recent_orders(sessions, limit=5)

        assert [order.order_id for order in recent] == [second.order_id, first.order_id]

    async def test_orders_that_do_not_exist_are_left_out(self, sessions: Sessions, order: Order) -> None:
        found = await find_orders(sessions, ["order-of-nobody", order.order_id])

        assert [order.order_id for order in found] == [order.order_id]

    async def test_paid_order_is_listed_by_the_time_of_payment(self, sessions: Sessions) -> None:
        yesterday = await create_order(sessions, MUG, quantity=1, at=AT - timedelta(days=1))
        await pay(sessions, yesterday)  # at AT

        today = await list_orders(
            sessions, status=OrderStatus.PAID, since=AT, until=AT + timedelta(seconds=1), after=None, limit=10
        )
        before = await list_orders(
            sessions, status=OrderStatus.PAID, since=AT - timedelta(days=2), until=AT, after=None, limit=10
        )

        assert [order.order_id for order in today] == [yesterday.order_id]
        assert before == []
