import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
import respx

from demo_shop.orders import Order, OrderStatus, Sessions
from demo_shop.payments_client import PaymentStatus, open_client
from demo_shop.refresh import ORDER_STATUS, Knowledge, Refreshed, refresh_if_open, refresh_order
from tests.shop.builders import AT, Json, a_payment, not_prepared
from tests.shop.conftest import PAYMENTS


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(PAYMENTS, api_key="payk_of_the_shop") as opened:
        yield opened


class Story:
    """One order and what the payments API says about it."""

    def __init__(
        self, order: Order, sessions: Sessions, client: httpx.AsyncClient, payments_api: respx.MockRouter
    ) -> None:
        self.order = order
        self._sessions = sessions
        self._client = client
        self.route = payments_api.get(f"/payments/orders/{order.order_id}")

    def payment_is(self, **overrides: object) -> None:
        self.route.respond(json=a_payment(self.order.order_id, **overrides))

    async def refresh(self) -> Refreshed:
        return await refresh_order(self._sessions, self._client, self.order.order_id, at=AT)

    async def look(self) -> Refreshed:
        return await refresh_if_open(self._sessions, self._client, self.order.order_id, at=AT)


@pytest.fixture
def story(order: Order, sessions: Sessions, client: httpx.AsyncClient, payments_api: respx.MockRouter) -> Story:
    return Story(order, sessions, client, payments_api)


class TestRefreshOrder:
    async def test_completed_payment_pays_the_order(self, story: Story) -> None:
        story.payment_is(status="COMPLETED", completedAt="2026-11-22T02:59:30Z")

        refreshed = await story.refresh()

        assert refreshed.order.status is OrderStatus.PAID
        assert refreshed.order.paid_at == datetime(2026, 11, 22, 2, 59, 30, tzinfo=UTC)

    @pytest.mark.parametrize("status", ["CREATED", "PENDING", "WAITING_FOR_DEPOSIT", "APPROVED", "FAILED"])
    async def test_undecided_or_failed_payment_leaves_the_order_unpaid(self, story: Story, status: str) -> None:
        story.payment_is(status=status, completedAt=None)

        refreshed = await story.refresh()

        assert refreshed.order.status is OrderStatus.CREATED
        assert refreshed.knowledge is Knowledge.KNOWN

    @pytest.mark.parametrize("wrong", [{"amount": 23_999}, {"orderId": "order-of-nobody"}, {"currency": "USD"}])
    async def test_payment_of_something_else_is_not_followed(self, story: Story, wrong: Json) -> None:
        story.payment_is(**wrong)

        refreshed = await story.refresh()

        assert refreshed.knowledge is Knowledge.MISMATCH
        assert refreshed.order.status is OrderStatus.CREATED

    async def test_refund_is_followed(self, story: Story) -> None:
        story.payment_is(status="PARTIALLY_REFUNDED", refundedAmount=4_000)

        refreshed = await story.refresh()

        assert refreshed.order.status is OrderStatus.PARTIALLY_REFUNDED
        assert refreshed.order.refunded_amount == 4_000

    async def test_deposit_that_the_bank_took_back_makes_the_order_unpaid(self, story: Story) -> None:
        story.payment_is(status="COMPLETED", version=4)
        await story.refresh()
        story.payment_is(status="WAITING_FOR_DEPOSIT", version=5, completedAt=None)

        refreshed = await story.refresh()

        assert refreshed.order.status is OrderStatus.CREATED
        assert refreshed.order.paid_at is None

    async def test_silence_changes_nothing(self, story: Story) -> None:
        story.payment_is(status="COMPLETED")
        await story.refresh()
        story.route.mock(side_effect=httpx.ReadTimeout)

        refreshed = await story.refresh()

        assert refreshed.knowledge is Knowledge.UNKNOWN
        assert refreshed.order.status is OrderStatus.PAID

    async def test_payment_that_nobody_began_is_known_not_to_be(self, story: Story) -> None:
        story.route.respond(404, json=not_prepared())

        refreshed = await story.refresh()

        assert refreshed.knowledge is Knowledge.NOT_PREPARED

    async def test_many_at_once_end_in_one_paid_order(self, story: Story) -> None:
        story.payment_is(status="COMPLETED")

        many = await asyncio.gather(*[story.refresh() for _ in range(8)])

        assert {refreshed.order.status for refreshed in many} == {OrderStatus.PAID}

    async def test_unknown_order(self, sessions: Sessions, client: httpx.AsyncClient) -> None:
        with pytest.raises(LookupError):
            await refresh_order(sessions, client, "order-of-nobody", at=AT)

    def test_every_status_of_a_payment_has_its_order_status(self) -> None:
        assert set(ORDER_STATUS) == set(PaymentStatus)


class TestOverdue:
    @pytest.mark.parametrize(
        ("status", "due", "is_overdue"),
        [
            ("WAITING_FOR_DEPOSIT", "2026-11-22T03:00:00Z", True),  # AT
            ("WAITING_FOR_DEPOSIT", "2026-11-22T03:00:01Z", False),
            ("WAITING_FOR_DEPOSIT", None, False),
            ("COMPLETED", "2026-11-22T02:59:59Z", False),
        ],
    )
    async def test_account_takes_no_deposit_from_its_due_date_on(
        self, story: Story, status: str, due: str | None, *, is_overdue: bool
    ) -> None:
        story.payment_is(status=status, virtualAccount={"bank": "88", "accountNumber": "X650", "dueDate": due})

        refreshed = await story.refresh()

        assert refreshed.is_overdue(at=AT) is is_overdue


class TestRefreshIfOpen:
    async def test_refunded_order_is_not_asked_about_again(self, story: Story) -> None:
        story.payment_is(status="REFUNDED", refundedAmount=24_000)
        await story.look()

        refreshed = await story.look()

        assert refreshed.order.status is OrderStatus.REFUNDED
        assert story.route.call_count == 1
