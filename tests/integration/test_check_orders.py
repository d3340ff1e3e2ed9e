import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update

from payments.db import Sessions, transaction
from payments.errors import OrdersUnavailable
from payments.gateways.orders import Order, OrderPage, OrdersUnreachable
from payments.local.postgres import LocalPostgres
from payments.models import Payment
from payments.records import Discrepancy, OutboxMessage
from payments.states import Cause, PaymentStatus
from payments.usecases.check_orders import Deliver, OrdersReport, check_orders
from payments.usecases.deliver import deliver_now
from tests.builders import AT
from tests.conftest import TEMPLATE
from tests.integration.night_world import (
    DAY,
    PAID_WORDS,
    OurBooks,
    ShopBooks,
    amount_of,
    completed_earlier,
    everything,
    found,
    opened,
    order_of,
)

BUSY = 2_000
STATUSES = (*[PaymentStatus.COMPLETED] * 8, PaymentStatus.PARTIALLY_REFUNDED, PaymentStatus.REFUNDED)
# Which payments of the busy day are broken, and how: 60 of them.
GONE = range(0, 80, 10)
OTHER_AMOUNT = range(1, 81, 10)
DEAF_TO_CAPTURE = range(2, 82, 10)
DEAF_TO_REFUND = range(8, 88, 10)
MISSED_CAPTURE = range(3, 83, 10)
MISSED_REFUND = range(109, 189, 10)
FAILED_HERE = range(BUSY, BUSY + 6)
UNKNOWN_HERE = range(BUSY + 6, BUSY + 12)
TO_FIND = {
    *(("order_missing", order_of(number)) for number in GONE),
    *(("order_amount_differs", order_of(number)) for number in OTHER_AMOUNT),
    *(("order_not_paid", order_of(number)) for number in DEAF_TO_CAPTURE),
    *(("refund_not_reflected", order_of(number)) for number in DEAF_TO_REFUND),
    *(("order_paid_without_payment", order_of(number)) for number in (*FAILED_HERE, *UNKNOWN_HERE)),
}


@pytest.fixture(scope="module")
def busy_day(postgres: LocalPostgres) -> Iterator[str]:
    """The name of a database that holds the payments of a busy day; to be copied."""
    name = f"busy_{uuid4().hex}"
    postgres.create_database(name, template=TEMPLATE)
    ours = OurBooks()
    for number in range(BUSY):
        ours.hold(number, STATUSES[number % len(STATUSES)])
    for number in FAILED_HERE:
        ours.hold(number, PaymentStatus.FAILED)

    async def store() -> None:
        async with opened(postgres.url(name)) as sessions:
            await ours.store(sessions)

    asyncio.run(store())
    yield name
    postgres.drop_database(name)


@pytest.fixture
async def busy(postgres: LocalPostgres, busy_day: str) -> AsyncIterator[Sessions]:
    name = f"night_{uuid4().hex}"
    postgres.create_database(name, template=busy_day)
    async with opened(postgres.url(name)) as sessions:
        yield sessions
    postgres.drop_database(name)


@pytest.fixture
async def sessions(database: str) -> AsyncIterator[Sessions]:
    async with opened(database) as sessions:
        yield sessions


def busy_shop() -> ShopBooks:
    """A shop whose orders fit the payments of the busy day, but for those that are broken."""
    shop = ShopBooks(deaf_to={order_of(number) for number in (*DEAF_TO_CAPTURE, *DEAF_TO_REFUND)})
    for number in range(BUSY):
        status = STATUSES[number % len(STATUSES)]
        refunded = {PaymentStatus.PARTIALLY_REFUNDED: 300, PaymentStatus.REFUNDED: amount_of(number)}.get(status, 0)
        shop.hold(number, PAID_WORDS[status.value], refunded=refunded)
    for number in GONE:
        del shop.orders[order_of(number)]
    for number in OTHER_AMOUNT:
        shop.hold(number, amount=amount_of(number) - 1)
    for number in (*DEAF_TO_CAPTURE, *MISSED_CAPTURE):
        shop.hold(number, "CREATED")
    for number in (*DEAF_TO_REFUND, *MISSED_REFUND, *FAILED_HERE, *UNKNOWN_HERE):
        shop.hold(number, "PAID")
    shop.deaf_to |= {order_of(number) for number in FAILED_HERE}
    return shop


def delivering(shop: ShopBooks, sessions: Sessions) -> Deliver:
    async def deliver(message_ids: Sequence[UUID]) -> None:
        await deliver_now(sessions=sessions, subscriber=shop, message_ids=message_ids)

    return deliver


async def check(sessions: Sessions, shop: ShopBooks) -> OrdersReport:
    return await check_orders(
        DAY, sessions=sessions, orders=shop, cause=Cause.NIGHTLY, deliver=delivering(shop, sessions)
    )


class TestBusyDay:
    async def test_finds_every_break_and_no_other_however_often(self, busy: Sessions) -> None:
        shop = busy_shop()

        report = await check(busy, shop)

        assert await found(busy) == TO_FIND
        assert report.found == Counter(kind for kind, _ in TO_FIND)
        assert (report.payments, report.repaired) == (BUSY, len(MISSED_CAPTURE) + len(MISSED_REFUND))
        mended = [shop.orders[order_of(number)].status for number in (*MISSED_CAPTURE, *MISSED_REFUND)]
        assert mended == ["PAID"] * len(MISSED_CAPTURE) + ["REFUNDED"] * len(MISSED_REFUND)

        # One message for each order that may have missed it, and none where another would not help.
        missed = (*MISSED_CAPTURE, *MISSED_REFUND, *DEAF_TO_CAPTURE, *DEAF_TO_REFUND, *FAILED_HERE)
        assert len(shop.told) == len(missed)

        before, told = await everything(busy), len(shop.told)
        second = await check(busy, shop)

        assert await everything(busy) == before
        assert len(shop.told) == told
        assert (second.found, second.repaired) == (report.found, 0)

    @pytest.mark.parametrize("stopped_at", [("payments", 100), ("orders", 700)])
    async def test_ends_alike_when_it_was_killed_on_the_way(self, busy: Sessions, stopped_at: tuple[str, int]) -> None:
        shop = busy_shop()

        def kill(what: str, count: int) -> None:
            if what == stopped_at[0] and count >= stopped_at[1]:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await check_orders(
                DAY,
                sessions=busy,
                orders=shop,
                cause=Cause.NIGHTLY,
                deliver=delivering(shop, busy),
                progress=kill,
            )
        await check(busy, shop)

        assert await found(busy) == TO_FIND
        assert len(shop.told) == len(set(shop.told))
        assert {shop.orders[order_of(number)].status for number in MISSED_REFUND} == {"REFUNDED"}

    @pytest.mark.parametrize("answers_until", [2, 45])
    async def test_says_so_when_the_order_service_goes_away_and_notes_nothing_wrong(
        self, busy: Sessions, answers_until: int
    ) -> None:
        shop = busy_shop()
        shop.answers_until = answers_until

        with pytest.raises(OrdersUnavailable):
            await check(busy, shop)

        assert await found(busy) <= TO_FIND
        shop.answers_until = None
        await check(busy, shop)
        assert await found(busy) == TO_FIND


class TestOneOrder:
    async def test_gets_a_missed_event_once_only(self, sessions: Sessions) -> None:
        shop = await _one(sessions, PaymentStatus.COMPLETED, "CREATED")
        shop.deaf_to = {order_of(1)}

        await check(sessions, shop)
        shop.deaf_to = set()
        await check(sessions, shop)

        assert len(shop.told) == 1
        assert await found(sessions) == {("order_not_paid", order_of(1))}

    async def test_is_told_what_was_given_up_before(self, sessions: Sessions) -> None:
        shop = await _one(sessions, PaymentStatus.COMPLETED, "CREATED")
        async with transaction(sessions) as session:
            await session.execute(update(OutboxMessage).values(delivered_at=None, parked_at=AT, attempts=20))

        report = await check(sessions, shop)

        assert (report.repaired, await found(sessions)) == (1, set())

    async def test_is_never_told_where_nobody_listens(self, sessions: Sessions) -> None:
        shop = await _one(sessions, PaymentStatus.COMPLETED, "CREATED")
        before = (await everything(sessions))["outbox_messages"]

        await check_orders(DAY, sessions=sessions, orders=shop, cause=Cause.OPERATOR, deliver=None)

        assert (await everything(sessions))["outbox_messages"] == before
        assert await found(sessions) == {("order_not_paid", order_of(1))}

    async def test_is_compared_with_its_payment_as_it_is_by_then(self, sessions: Sessions) -> None:
        shop = await _one(sessions, PaymentStatus.COMPLETED, "CREATED")

        async def takes_money_back(message_ids: Sequence[UUID]) -> None:
            async with transaction(sessions) as session:
                payment = (await session.scalars(select(Payment))).one()
                payment.refund(payment.amount, at=AT, cause=Cause.API)

        await check_orders(DAY, sessions=sessions, orders=shop, cause=Cause.NIGHTLY, deliver=takes_money_back)

        assert await found(sessions) == set()  # the refund's own night compares it

    async def test_has_ten_minutes_to_hear_of_what_happened_after_the_day(self, sessions: Sessions) -> None:
        shop = await _one(sessions, PaymentStatus.COMPLETED, "PAID")
        async with transaction(sessions) as session:
            payment, now = (await session.execute(select(Payment, func.now()))).one()
            payment.refund(100, at=now, cause=Cause.API)
        moved_now = await check(sessions, shop)

        async with transaction(sessions) as session:
            await session.execute(update(Payment).values(last_sequence=Payment.last_sequence - 1))
        moved_long_ago = await check(sessions, shop)

        assert (dict(moved_now.found), sum(moved_long_ago.found.values())) == ({}, 1)

    async def test_that_is_paid_by_a_deposit_which_the_bank_took_back_is_told_of_it(self, sessions: Sessions) -> None:
        shop = await _one(sessions, PaymentStatus.COMPLETED, "PAID")
        async with transaction(sessions) as session:
            payment = (await session.scalars(select(Payment))).one()
            payment.reverse_deposit(at=AT + timedelta(hours=1), cause=Cause.WEBHOOK)
        shop.deaf_to = {order_of(1)}

        report = await check(sessions, shop)

        assert await found(sessions) == {("order_paid_without_payment", order_of(1))}
        assert sum(report.found.values()) == 1  # although the payment and the order were both on the list

    async def test_is_compared_on_the_day_on_which_the_bank_took_its_deposit_back(self, sessions: Sessions) -> None:
        shop = await _one(sessions, PaymentStatus.COMPLETED, "PAID")
        shop.paid_at = AT - timedelta(days=2)
        async with transaction(sessions) as session:
            payment = (await session.scalars(select(Payment))).one()
            payment.reverse_deposit(at=AT + timedelta(hours=1), cause=Cause.WEBHOOK)

        await check(sessions, shop)

        assert await found(sessions) == {("order_paid_without_payment", order_of(1))}

    async def test_is_compared_on_the_day_on_which_money_went_back(self, sessions: Sessions) -> None:
        shop = await _one(sessions, PaymentStatus.PARTIALLY_REFUNDED, "PAID")
        shop.paid_at = AT - timedelta(days=2)
        shop.deaf_to = {order_of(1)}
        await completed_earlier(sessions, timedelta(days=2))

        await check(sessions, shop)

        assert await found(sessions) == {("refund_not_reflected", order_of(1))}

    async def test_that_mended_itself_was_not_repaired(self, sessions: Sessions) -> None:
        shop = await _one(sessions, PaymentStatus.COMPLETED, "CREATED")

        report = await check_orders(
            DAY, sessions=sessions, orders=LateShop(shop.orders), cause=Cause.NIGHTLY, deliver=None
        )

        assert (dict(report.found), report.repaired) == ({}, 0)

    @pytest.mark.parametrize(
        ("status", "order", "severity"),
        [
            (PaymentStatus.COMPLETED, "CREATED", "critical"),
            (PaymentStatus.PARTIALLY_REFUNDED, "PAID", "critical"),
            (PaymentStatus.REFUNDED, "PAID", "critical"),  # the goods may go although the money went back
            (PaymentStatus.REFUNDED, "CREATED", "warning"),
            (PaymentStatus.REFUNDED, None, "warning"),
            (PaymentStatus.COMPLETED, None, "critical"),
        ],
    )
    async def test_is_critical_where_money_and_goods_differ(
        self, sessions: Sessions, status: PaymentStatus, order: str | None, severity: str
    ) -> None:
        shop = await _one(sessions, status, order or "CREATED")
        shop.deaf_to = {order_of(1)}
        if order is None:
            shop.orders.clear()

        await check(sessions, shop)

        async with transaction(sessions) as session:
            assert [one.severity.value for one in await session.scalars(select(Discrepancy))] == [severity]

    @pytest.mark.parametrize(
        ("status", "order", "refunded"),
        [
            (PaymentStatus.COMPLETED, "PAID", 0),
            (PaymentStatus.PARTIALLY_REFUNDED, "PARTIALLY_REFUNDED", 300),
            (PaymentStatus.PARTIALLY_REFUNDED, "PARTIALLY_REFUNDED", None),  # a shop that keeps no amounts
            (PaymentStatus.REFUNDED, "REFUNDED", amount_of(1)),
        ],
    )
    async def test_that_agrees_is_left_alone(
        self, sessions: Sessions, status: PaymentStatus, order: str, refunded: int | None
    ) -> None:
        shop = await _one(sessions, status, order, refunded=refunded)

        report = await check(sessions, shop)

        assert (dict(report.found), report.repaired, shop.told) == ({}, 0, [])

    @pytest.mark.parametrize(
        ("status", "order", "refunded", "kind"),
        [
            (PaymentStatus.COMPLETED, "PAID", 300, "refund_not_reflected"),
            (PaymentStatus.COMPLETED, "REFUNDED", amount_of(1), "order_not_paid"),
            (PaymentStatus.PARTIALLY_REFUNDED, "PARTIALLY_REFUNDED", 299, "refund_not_reflected"),
            (PaymentStatus.PARTIALLY_REFUNDED, "REFUNDED", 300, "refund_not_reflected"),
            (PaymentStatus.PARTIALLY_REFUNDED, "CANCELLED", 0, "order_not_paid"),
        ],
    )
    async def test_that_shows_another_refund_differs(
        self, sessions: Sessions, status: PaymentStatus, order: str, refunded: int, kind: str
    ) -> None:
        shop = await _one(sessions, status, order, refunded=refunded)
        shop.deaf_to = {order_of(1)}

        await check(sessions, shop)

        assert await found(sessions) == {(kind, order_of(1))}

    async def test_is_not_paid_before_its_money_came(self, sessions: Sessions) -> None:
        shop = await _one(sessions, PaymentStatus.WAITING_FOR_DEPOSIT, "PAID")

        await check(sessions, shop)

        assert await found(sessions) == {("order_paid_without_payment", order_of(1))}


class TestPages:
    async def test_that_repeat_themselves_are_no_answer(self, sessions: Sessions) -> None:
        shop = CirclingShop()
        shop.hold(1)
        shop.hold(2)

        with pytest.raises(OrdersUnavailable):
            await check(sessions, shop)


class LateShop(ShopBooks):
    """It hears of the payment by itself, a moment after it was first asked."""

    async def look_up(self, order_ids: Sequence[str]) -> Mapping[str, Order] | OrdersUnreachable:
        held = await super().look_up(order_ids)
        self.hold(1, "PAID")
        return held


class CirclingShop(ShopBooks):
    """Its cursors lead from the first page to the first page."""

    async def paid_between(
        self, since: datetime, until: datetime, *, cursor: str | None
    ) -> OrderPage | OrdersUnreachable:
        return OrderPage(tuple(self.orders.values()), f"{cursor} again")


async def _one(sessions: Sessions, status: PaymentStatus, order: str, *, refunded: int | None = 0) -> ShopBooks:
    """One payment, and its order as the shop holds it."""
    ours = OurBooks()
    ours.hold(1, status)
    await ours.store(sessions)
    shop = ShopBooks()
    shop.hold(1, order, refunded=refunded)
    return shop
