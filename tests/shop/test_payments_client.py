from collections.abc import AsyncIterator

import httpx
import pytest
import respx

from demo_shop.payments_client import Found, NotPrepared, PaymentStatus, Unreadable, open_client, read_payment
from tests.shop.builders import Json, a_payment, not_prepared
from tests.shop.conftest import PAYMENTS

ORDER_ID = "order-aaaaaaaaaaaaaaaaaaaa"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(PAYMENTS) as opened:
        yield opened


class TestReadPayment:
    async def test_reads_the_payment_of_the_order(
        self, client: httpx.AsyncClient, payments_api: respx.MockRouter
    ) -> None:
        payments_api.get(f"/payments/orders/{ORDER_ID}").respond(json=a_payment(ORDER_ID))

        answer = await read_payment(client, ORDER_ID)

        assert isinstance(answer, Found)
        assert answer.payment.status is PaymentStatus.COMPLETED
        assert answer.payment.amount == 24_000

    async def test_reads_the_account_to_pay_into(
        self, client: httpx.AsyncClient, payments_api: respx.MockRouter
    ) -> None:
        account = {"bank": "20", "accountNumber": "X650", "holder": "", "dueDate": "2026-11-29T14:59:59Z"}
        payments_api.get(f"/payments/orders/{ORDER_ID}").respond(
            json=a_payment(ORDER_ID, status="WAITING_FOR_DEPOSIT", virtualAccount=account, completedAt=None)
        )

        answer = await read_payment(client, ORDER_ID)

        assert isinstance(answer, Found)
        assert answer.payment.virtual_account is not None
        assert answer.payment.virtual_account.account_number == "X650"

    async def test_order_that_nobody_began_to_pay(
        self, client: httpx.AsyncClient, payments_api: respx.MockRouter
    ) -> None:
        payments_api.get(f"/payments/orders/{ORDER_ID}").respond(404, json=not_prepared())

        assert await read_payment(client, ORDER_ID) == NotPrepared()

    @pytest.mark.parametrize(
        "error", [httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadTimeout, httpx.RemoteProtocolError]
    )
    async def test_lost_answer_says_nothing_about_the_payment(
        self, client: httpx.AsyncClient, payments_api: respx.MockRouter, error: type[httpx.HTTPError]
    ) -> None:
        payments_api.get(f"/payments/orders/{ORDER_ID}").mock(side_effect=error)

        assert await read_payment(client, ORDER_ID) == Unreadable(error.__name__)

    @pytest.mark.parametrize("status", [302, 401, 404, 429, 500, 503])
    async def test_other_status_says_nothing_about_the_payment(
        self, client: httpx.AsyncClient, payments_api: respx.MockRouter, status: int
    ) -> None:
        payments_api.get(f"/payments/orders/{ORDER_ID}").respond(
            status, text="?", headers={"location": "http://x.test"}
        )

        assert isinstance(await read_payment(client, ORDER_ID), Unreadable)

    @pytest.mark.parametrize(
        "damage",
        [
            {"amount": "24000"},
            {"amount": 24_000.5},
            {"amount": True},
            {"status": "DONE"},
            {"version": None},
            {"completedAt": "2026-11-22T03:00:00"},
        ],
    )
    async def test_what_is_no_payment_is_not_believed(
        self, client: httpx.AsyncClient, payments_api: respx.MockRouter, damage: Json
    ) -> None:
        payments_api.get(f"/payments/orders/{ORDER_ID}").respond(json=a_payment(ORDER_ID, **damage))

        assert isinstance(await read_payment(client, ORDER_ID), Unreadable)
