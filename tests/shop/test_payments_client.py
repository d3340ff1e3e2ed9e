import json
from collections.abc import AsyncIterator

import httpx
import pytest
import respx

from demo_shop.payments_client import (
    Accepted,
    CancelAnswer,
    Found,
    NotKnownYet,
    NotPrepared,
    PaymentStatus,
    RefundAccount,
    Refused,
    Unreachable,
    Unreadable,
    cancel_payment,
    open_client,
    read_payment,
)
from tests.shop.builders import Json, a_payment, a_problem, a_refund, a_virtual_account, not_prepared
from tests.shop.conftest import PAYMENTS

ORDER_ID = "order-aaaaaaaaaaaaaaaaaaaa"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(PAYMENTS, api_key="payk_of_the_shop") as opened:
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

    async def test_words_that_are_not_known_yet_do_not_hide_the_payment(
        self, client: httpx.AsyncClient, payments_api: respx.MockRouter
    ) -> None:
        payments_api.get(f"/payments/orders/{ORDER_ID}").respond(
            json=a_payment(
                ORDER_ID,
                refunds=[a_refund(1_000, status="LOOKED_INTO", somethingNew=1)],
                virtualAccount=a_virtual_account(refundStatus="ON_A_SHIP"),
                nextAction="dance",
            )
        )

        answer = await read_payment(client, ORDER_ID)

        assert isinstance(answer, Found)
        assert answer.payment.refunds[0].is_undecided

    async def test_payment_of_an_older_api_has_no_refunds(
        self, client: httpx.AsyncClient, payments_api: respx.MockRouter
    ) -> None:
        older = a_payment(ORDER_ID)
        del older["refunds"]
        payments_api.get(f"/payments/orders/{ORDER_ID}").respond(json=older)

        answer = await read_payment(client, ORDER_ID)

        assert isinstance(answer, Found)
        assert answer.payment.refunds == []


class TestCancelPayment:
    async def cancel(
        self, client: httpx.AsyncClient, *, amount: int | None = 1_000, account: RefundAccount | None = None
    ) -> CancelAnswer:
        return await cancel_payment(client, ORDER_ID, key="key-1", reason="단순 변심", amount=amount, account=account)

    @pytest.fixture
    def route(self, payments_api: respx.MockRouter) -> respx.Route:
        return payments_api.post(f"/payments/orders/{ORDER_ID}/cancel")

    async def test_part_goes_back_under_the_key(self, client: httpx.AsyncClient, route: respx.Route) -> None:
        route.respond(json={"refund": a_refund(1_000), "payment": a_payment(ORDER_ID)})

        answer = await self.cancel(client)

        sent = route.calls.last.request
        assert isinstance(answer, Accepted)
        assert sent.headers["idempotency-key"] == "key-1"
        assert json.loads(sent.content) == {"cancelReason": "단순 변심", "cancelAmount": 1_000}

    async def test_all_that_is_left_has_no_amount(self, client: httpx.AsyncClient, route: respx.Route) -> None:
        route.respond(json={"refund": None, "payment": a_payment(ORDER_ID, status="CANCELLED")})

        answer = await self.cancel(client, amount=None)

        assert isinstance(answer, Accepted)
        assert answer.refund is None
        assert json.loads(route.calls.last.request.content) == {"cancelReason": "단순 변심"}

    async def test_account_is_handed_on(self, client: httpx.AsyncClient, route: respx.Route) -> None:
        route.respond(json={"refund": a_refund(1_000), "payment": a_payment(ORDER_ID)})

        await self.cancel(client, account=RefundAccount(bank="88", account_number="110123", holder_name="김온돌"))

        assert json.loads(route.calls.last.request.content)["refundReceiveAccount"] == {
            "bank": "88",
            "accountNumber": "110123",
            "holderName": "김온돌",
        }

    def test_account_does_not_show_itself(self) -> None:
        account = RefundAccount(bank="88", account_number="110123", holder_name="김온돌")

        assert repr(account) == "RefundAccount()"

    async def test_outcome_that_is_not_known_yet(self, client: httpx.AsyncClient, route: respx.Route) -> None:
        refund = a_refund(1_000, status="REQUESTED", completedAt=None)
        route.respond(202, json={"refund": refund, "payment": a_payment(ORDER_ID)}, headers={"retry-after": "2"})

        answer = await self.cancel(client)

        assert isinstance(answer, NotKnownYet)
        assert answer.refund is not None
        assert answer.refund.is_undecided

    async def test_refusal_carries_tosss_own_words(self, client: httpx.AsyncClient, route: respx.Route) -> None:
        words = "환불 가능한 기간이 지났습니다."
        route.respond(409, json=a_problem("refund_deadline_passed", pgCode="EXCEED_MAX_REFUND_DUE", pgMessage=words))

        assert await self.cancel(client) == Refused("refund_deadline_passed", words)

    @pytest.mark.parametrize(
        ("status", "code", "same_again"),
        [
            (404, "payment_not_found", False),
            (409, "refund_exceeds_balance", False),
            (409, "refund_in_progress", True),
            (409, "payment_in_progress", True),
            (409, "request_in_progress", True),
            (422, "idempotency_key_reused", True),
            (422, "refund_account_required", False),
            (409, "refund_not_now", False),
            (503, "pg_unavailable", True),
            (503, "database_unavailable", True),
        ],
    )
    async def test_only_what_decides_nothing_may_be_sent_again(
        self, client: httpx.AsyncClient, route: respx.Route, status: int, code: str, *, same_again: bool
    ) -> None:
        route.respond(status, json=a_problem(code))

        assert await self.cancel(client) == Refused(code, same_again=same_again)

    @pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
    async def test_lost_answer_is_no_refusal(
        self, client: httpx.AsyncClient, route: respx.Route, error: type[httpx.HTTPError]
    ) -> None:
        route.mock(side_effect=error)

        assert await self.cancel(client) == Unreachable(error.__name__)

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, b"{}"),
            (200, b'{"refund": null, "payment": nul'),
            (200, b"\xff"),
            (201, b"{}"),
            (302, b""),
            (404, b"<h1>nginx</h1>"),
            (408, b'{"code": "timeout"}'),
            (429, b'{"code": "slow_down"}'),
            (500, b'{"code": "internal_error"}'),
            (502, b""),
            (503, b"away"),
        ],
    )
    async def test_answer_that_cannot_be_read_is_no_refusal(
        self, client: httpx.AsyncClient, route: respx.Route, status: int, body: bytes
    ) -> None:
        route.respond(status, content=body, headers={"location": "http://x.test"})

        assert isinstance(await self.cancel(client), Unreachable)
