"""Refunds and abandoned orders without a script: every form is sent as a browser without JavaScript sends it."""

import asyncio
import re
from datetime import timedelta

import httpx
import pytest
import respx
from sqlalchemy import text

from demo_shop.cancel_requests import CancelRequest, RequestState, note_answer, write_down
from demo_shop.catalogue import BY_SLUG
from demo_shop.orders import Order, OrderStatus, Sessions, create_order, find_order
from demo_shop.shop import now
from tests.shop.builders import AT, a_refund, a_virtual_account
from tests.shop.payment_books import Answer, PaymentBooks, no_answer, problem

ACCOUNT = {"bank": "88", "accountNumber": "110123456789", "holderName": "김온돌"}


@pytest.fixture
def books(order: Order, payments_api: respx.MockRouter) -> PaymentBooks:
    """A payment of 24,000 won that was made."""
    books = PaymentBooks(order)
    books.becomes("COMPLETED")
    books.listen(payments_api)
    return books


class Office:
    """Somebody at the shop with a browser that knows no JavaScript."""

    def __init__(self, client: httpx.AsyncClient, order: Order) -> None:
        self.client = client
        self.url = f"/orders/{order.order_id}"

    async def opens(self, url: str = "") -> httpx.Response:
        return await self.client.get(url or self.url)

    async def sends(self, page: httpx.Response, **typed: str) -> httpx.Response:
        """Fill in the form of a page and send it."""
        action = re.search(r'<form method="post" action="([^"]+)"', page.text)
        assert action, page.text
        fields = dict(re.findall(r'<input[^>]* name="(\w+)" value="([^"]*)"', page.text))
        return await self.client.post(action[1], data=fields | typed)

    async def asks(self, **typed: str) -> httpx.Response:
        """Open the order, send its form, and see where that leads."""
        sent = await self.sends(await self.opens(), **{"reason": "단순 변심"} | typed)
        assert sent.status_code == 303, sent.text
        return await self.opens(sent.headers["location"])


@pytest.fixture
def office(buyer: httpx.AsyncClient, order: Order) -> Office:
    return Office(buyer, order)


def key_on(page: httpx.Response) -> str:
    found = re.search(r'name="key" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def notice_on(page: httpx.Response) -> str:
    found = re.search(r'data-testid="cancel-notice"[^>]*>(.*?)</div>', page.text, re.DOTALL)
    assert found, page.text
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def rows_on(page: httpx.Response) -> list[str]:
    return re.findall(r'data-testid="refund-row" data-status="(\w+)"', page.text)


async def status_of(sessions: Sessions, order: Order) -> OrderStatus:
    found = await find_order(sessions, order.order_id)
    assert found is not None
    return found.status


class TestOrders:
    async def test_list_says_what_a_shop_wants_to_know(self, office: Office, books: PaymentBooks, order: Order) -> None:
        await office.asks(amount="5000")

        page = await office.opens("/orders")

        for words in (
            order.order_id,
            "달항아리 머그잔",
            "24,000원",
            "환불 5,000원",
            "부분 환불",
            f'href="{office.url}"',
        ):
            assert words in page.text

    async def test_list_says_whose_view_it_is(self, office: Office) -> None:
        page = await office.opens("/orders")

        assert "상점 관리자 화면입니다" in page.text
        assert "로그인이 없어" in page.text


class TestRefund:
    async def test_part_goes_back(self, office: Office, books: PaymentBooks, sessions: Sessions, order: Order) -> None:
        page = await office.asks(amount="5000")

        assert notice_on(page) == "5,000원을 환불했습니다."
        assert rows_on(page) == ["SUCCEEDED"]
        assert 'data-testid="refundable" data-amount="19000"' in page.text
        assert books.refunded == [5_000]
        assert await status_of(sessions, order) is OrderStatus.PARTIALLY_REFUNDED

    async def test_everything_goes_back_if_nothing_is_changed(
        self, office: Office, books: PaymentBooks, sessions: Sessions, order: Order
    ) -> None:
        page = await office.asks()

        assert books.refunded == [24_000]
        assert await status_of(sessions, order) is OrderStatus.REFUNDED
        assert "refund-form" not in page.text

    async def test_rest_goes_back_after_a_part(self, office: Office, books: PaymentBooks) -> None:
        await office.asks(amount="5000")
        await office.asks()

        assert books.refunded == [5_000, 19_000]
        assert len(books.keys) == 2

    async def test_form_sent_twice_is_one_refund(self, office: Office, books: PaymentBooks) -> None:
        page = await office.opens()

        first = await office.sends(page, amount="5000", reason="변심")
        second = await office.sends(page, amount="5000", reason="변심")

        assert first.headers["location"] == second.headers["location"]
        assert books.refunded == [5_000]
        assert len(books.keys) == 1

    async def test_decided_request_is_not_asked_about_again(self, office: Office, books: PaymentBooks) -> None:
        page = await office.opens()
        await office.sends(page, amount="5000", reason="변심")

        await office.sends(page, amount="5000", reason="변심")

        assert len(books.asked) == 1

    async def test_order_follows_the_answer_before_anybody_looks(
        self, office: Office, books: PaymentBooks, sessions: Sessions, order: Order
    ) -> None:
        await office.sends(await office.opens(), amount="5000", reason="변심")

        assert await status_of(sessions, order) is OrderStatus.PARTIALLY_REFUNDED

    async def test_double_click_is_one_refund(self, office: Office, books: PaymentBooks) -> None:
        page = await office.opens()

        clicks = await asyncio.gather(*[office.sends(page, amount="5000", reason="변심") for _ in range(2)])

        assert {click.status_code for click in clicks} == {303}
        assert books.refunded == [5_000]
        assert len(books.keys) == 1

    async def test_page_drawn_anew_is_a_new_refund(self, office: Office, books: PaymentBooks) -> None:
        await office.asks(amount="5000")
        await office.asks(amount="5000")

        assert books.refunded == [5_000, 5_000]

    async def test_page_gone_back_to_does_not_pass_another_amount_for_the_first(
        self, office: Office, books: PaymentBooks
    ) -> None:
        page = await office.opens()
        await office.sends(page, amount="5000", reason="변심")

        answer = await office.sends(page, amount="7000", reason="변심")

        assert answer.status_code == 422
        assert "이미 다른 내용으로 보냈습니다" in answer.text
        assert key_on(answer) != key_on(page)
        assert books.refunded == [5_000]

    @pytest.mark.parametrize("amount", ["", "0", "-1", "1.5", "오천", "1e3", "9" * 13, "1 000"])
    async def test_what_is_no_amount_is_not_sent(self, office: Office, books: PaymentBooks, amount: str) -> None:
        answer = await office.sends(await office.opens(), amount=amount, reason="변심")

        assert answer.status_code == 422
        assert "problem-amount" in answer.text
        assert books.asked == []

    @pytest.mark.parametrize("reason", ["", "   ", "변" * 201, "변심\x00", "변\u202e심"])
    async def test_what_is_no_reason_is_not_sent(self, office: Office, books: PaymentBooks, reason: str) -> None:
        answer = await office.sends(await office.opens(), amount="5000", reason=reason)

        assert answer.status_code == 422
        assert "problem-reason" in answer.text
        assert books.asked == []

    @pytest.mark.parametrize("key", ["", "short", "a/b" * 10, "가" * 30])
    async def test_form_without_a_key_of_ours_is_not_sent(self, office: Office, books: PaymentBooks, key: str) -> None:
        answer = await office.sends(await office.opens(), amount="5000", reason="변심", key=key)

        assert answer.status_code == 422
        assert len(key_on(answer)) >= 20
        assert books.asked == []

    async def test_form_of_another_site_is_not_taken(self, office: Office, books: PaymentBooks) -> None:
        page = await office.opens()
        office.client.headers["sec-fetch-site"] = "cross-site"

        answer = await office.sends(page, amount="5000", reason="변심")

        assert answer.status_code == 403
        assert books.asked == []

    async def test_key_of_another_orders_request_shows_nothing_of_it(
        self, office: Office, books: PaymentBooks, sessions: Sessions, payments_api: respx.MockRouter
    ) -> None:
        other = await create_order(sessions, BY_SLUG["tea-blanket"], quantity=1, at=AT)
        PaymentBooks(other).listen(payments_api)
        await office.asks(amount="5000")
        key = next(iter(books.keys))

        page = await office.opens(f"/orders/{other.order_id}?request={key}")

        assert "cancel-notice" not in page.text

    @pytest.mark.parametrize("key", ["x", "%00", "%00" * 24, "key-of-nobody-at-all-0000"])
    async def test_request_that_nobody_made_is_no_error(self, office: Office, books: PaymentBooks, key: str) -> None:
        page = await office.opens(f"{office.url}?request={key}")

        assert page.status_code == 200
        assert "cancel-notice" not in page.text

    async def test_unknown_order(self, office: Office) -> None:
        answer = await office.client.post("/orders/order-of-nobody/refund", data={"key": "k" * 24, "amount": "1"})

        assert answer.status_code == 404

    async def test_nothing_typed_becomes_markup(self, office: Office, books: PaymentBooks) -> None:
        page = await office.asks(amount="5000", reason='"><script>alert(1)</script>')

        assert "<script>alert" not in page.text


class TestOutcome:
    """Every answer of the cancel API in words for whoever asked."""

    @pytest.mark.parametrize(
        ("status", "code", "words"),
        [
            (404, "payment_not_found", "이 주문의 결제를 찾을 수 없습니다."),
            (409, "refund_exceeds_balance", "남아 있는 금액보다 많이 환불할 수 없습니다."),
            (409, "refund_balance_differs", "결제사에 남아 있는 금액이 다릅니다."),
            (409, "nothing_to_refund", "결제된 금액이 없어 환불할 것이 없습니다."),
            (409, "payment_closed", "이미 취소되었거나 환불된 결제입니다."),
            (409, "already_refunded", "이미 전액 환불된 결제입니다."),
            (409, "partial_refund_not_allowed", "전액으로 환불해 주세요."),
            (409, "refund_deadline_passed", "환불할 수 있는 기한이 지났습니다."),
            (409, "refund_refused", "결제사가 환불을 거절했습니다."),
            (409, "deposit_arrived", "그 사이에 입금이 확인되어 취소하지 않았습니다."),
            (409, "payment_key_mismatch", "결제가 그 사이에 바뀌었습니다."),
            (422, "refund_account_required", "환불받을 계좌가 필요합니다."),
            (422, "refund_account_not_allowed", "환불 계좌가 필요하지 않습니다."),
            (422, "refund_account_refused", "은행, 계좌번호, 예금주를 확인해 주세요."),
            (422, "tax_free_exceeds_refund", "결제 서비스가 요청을 받아들이지 않았습니다."),
            (422, "invalid_request", "결제 서비스가 요청을 받아들이지 않았습니다."),
            (400, "idempotency_key_malformed", "결제 서비스가 요청을 받아들이지 않았습니다."),
            (409, "refund_not_now", "지금은 은행이 환불을 처리하지 않습니다."),
        ],
    )
    async def test_refusal_is_explained_with_a_new_form_to_mend_it(
        self, office: Office, books: PaymentBooks, status: int, code: str, words: str
    ) -> None:
        books.on_cancel(problem(status, code))

        page = await office.asks(amount="5000")

        assert words in notice_on(page)
        assert key_on(page) not in books.keys
        assert 'name="amount" value="5000"' in page.text
        assert 'name="reason" value="단순 변심"' in page.text

    async def test_tosss_own_words_are_shown(self, office: Office, books: PaymentBooks) -> None:
        books.on_cancel(problem(409, "refund_refused", pgMessage="환불이 거절됐습니다. 결제사에 문의 부탁드립니다."))

        page = await office.asks(amount="5000")

        assert "결제사 안내: 환불이 거절됐습니다. 결제사에 문의 부탁드립니다." in notice_on(page)

    @pytest.mark.parametrize(
        ("status", "code", "words"),
        [
            (409, "refund_in_progress", "다른 환불을 처리하고 있습니다."),
            (409, "payment_in_progress", "결제를 확인하고 있습니다."),
            (409, "concurrent_update", "다른 처리와 겹쳤습니다."),
            (422, "idempotency_key_reused", "처음과 똑같은 계좌를 적어 주세요."),
            (503, "pg_unavailable", "지금은 결제사에 연결되지 않습니다."),
            (503, "database_unavailable", "결제 서비스에 잠시 문제가 생겼습니다."),
            (503, "something_new", "지금은 처리할 수 없습니다."),
        ],
    )
    async def test_same_request_can_be_sent_again_where_nothing_was_decided(
        self, office: Office, books: PaymentBooks, status: int, code: str, words: str
    ) -> None:
        books.on_cancel(problem(status, code))
        page = await office.asks(amount="5000")
        assert words in notice_on(page)

        sent = await office.sends(page)

        assert notice_on(await office.opens(sent.headers["location"])) == "5,000원을 환불했습니다."
        assert len(books.keys) == 1
        assert books.refunded == [5_000]

    async def test_lost_answer_of_a_refund_that_was_made_is_found_by_the_same_request(
        self, office: Office, books: PaymentBooks
    ) -> None:
        books.on_cancel(books.lose_answer)
        page = await office.asks(amount="5000")
        assert "처리되었는지 아직 모릅니다" in notice_on(page)

        sent = await office.sends(page)

        assert notice_on(await office.opens(sent.headers["location"])) == "5,000원을 환불했습니다."
        assert books.refunded == [5_000]

    async def test_request_without_an_answer_is_found_again_after_the_browser_was_closed(
        self, office: Office, books: PaymentBooks
    ) -> None:
        books.on_cancel(no_answer)
        await office.asks(amount="5000")

        page = await office.opens()
        assert "그 요청을 먼저 이어서 처리해 주세요" in page.text
        link = re.search(r'href="([^"]+)" data-testid="continue"', page.text)
        assert link, page.text
        sent = await office.sends(await office.opens(link[1]))

        assert sent.status_code == 303
        assert len(books.keys) == 1
        assert books.refunded == [5_000]

    async def test_outcome_that_is_not_known_yet_is_waited_for(self, office: Office, books: PaymentBooks) -> None:
        books.on_cancel(books.take_on)

        page = await office.asks(amount="5000")

        assert "확인 중" in notice_on(page)
        assert rows_on(page) == ["REQUESTED"]
        assert 'http-equiv="refresh"' in page.text
        assert "refund-form" not in page.text

    async def test_outcome_found_out_later_is_said(self, office: Office, books: PaymentBooks) -> None:
        books.on_cancel(books.take_on)
        page = await office.asks(amount="5000")
        books.decide("SUCCEEDED", completedAt="2026-11-22T03:12:00Z")

        page = await office.opens(str(page.url))

        assert notice_on(page) == "5,000원을 환불했습니다."
        assert 'http-equiv="refresh"' not in page.text

    async def test_refusal_found_out_later_is_said_with_its_reason(self, office: Office, books: PaymentBooks) -> None:
        books.on_cancel(books.take_on)
        page = await office.asks(amount="5000")
        failure = {"code": "REFUND_REJECTED", "message": "환불이 거절됐습니다."}
        books.decide("FAILED", failure=failure)

        page = await office.opens(str(page.url))

        assert notice_on(page) == "결제사가 환불을 거절했습니다. 결제사 안내: 환불이 거절됐습니다."
        assert rows_on(page) == ["FAILED"]
        assert 'data-testid="refund-failure">환불이 거절됐습니다.' in page.text
        assert "refund-form" in page.text

    async def test_no_form_is_offered_while_the_payments_api_is_away(
        self, office: Office, books: PaymentBooks, order: Order, payments_api: respx.MockRouter
    ) -> None:
        payments_api.get(f"/payments/orders/{order.order_id}").respond(503)

        page = await office.opens()

        assert "<form" not in page.text

    async def test_request_that_is_still_under_way_is_waited_for(
        self, office: Office, books: PaymentBooks, sessions: Sessions, order: Order
    ) -> None:
        await write_down(sessions, a_request(order, asked_at=now()))

        page = await office.opens(f"{office.url}?request={'k' * 24}")

        assert "요청을 처리하고 있습니다" in notice_on(page)
        assert 'http-equiv="refresh"' in page.text

    async def test_request_during_which_the_shop_stopped_can_be_sent_again(
        self, office: Office, books: PaymentBooks, sessions: Sessions, order: Order
    ) -> None:
        await write_down(sessions, a_request(order, asked_at=now() - timedelta(minutes=2)))

        page = await office.opens(f"{office.url}?request={'k' * 24}")
        await office.sends(page)

        assert books.keys == {"k" * 24}
        assert books.refunded == [5_000]


def a_request(order: Order, **overrides: object) -> CancelRequest:
    known = {"key": "k" * 24, "amount": 5_000, "reason": "변심", "to_account": False, "asked_at": AT}
    return CancelRequest.of(order.order_id, **(known | overrides))  # type: ignore[arg-type]  # a story's overrides


class TestNoteAnswer:
    @pytest.mark.parametrize(
        ("first", "second", "stays"),
        [
            (RequestState.DONE, RequestState.ASKED, RequestState.DONE),
            (RequestState.DONE, RequestState.REFUSED, RequestState.DONE),
            (RequestState.REFUSED, RequestState.TAKEN_ON, RequestState.REFUSED),
            (RequestState.TAKEN_ON, RequestState.ASKED, RequestState.TAKEN_ON),
            (RequestState.TAKEN_ON, RequestState.DONE, RequestState.DONE),
            (RequestState.ASKED, RequestState.TAKEN_ON, RequestState.TAKEN_ON),
        ],
    )
    async def test_answer_that_says_more_stays(
        self, sessions: Sessions, order: Order, first: RequestState, second: RequestState, stays: RequestState
    ) -> None:
        await write_down(sessions, a_request(order))
        await note_answer(sessions, "k" * 24, state=first)

        await note_answer(sessions, "k" * 24, state=second)

        assert (await write_down(sessions, a_request(order))).state is stays


class TestRefundAccount:
    @pytest.fixture(autouse=True)
    def paid_by_deposit(self, books: PaymentBooks) -> None:
        books.becomes("COMPLETED", method="VIRTUAL_ACCOUNT", virtualAccount=a_virtual_account())

    async def test_account_is_asked_for_where_a_deposit_was_made(self, office: Office) -> None:
        page = await office.opens()

        for name in ("bank", "accountNumber", "holderName"):
            assert f'name="{name}"' in page.text

    async def test_account_is_handed_on(self, office: Office, books: PaymentBooks) -> None:
        page = await office.asks(amount="5000", **ACCOUNT)

        assert books.asked[0][1]["refundReceiveAccount"] == ACCOUNT
        assert "은행이 계좌로 보내는 데 며칠이 걸릴 수 있습니다." in notice_on(page)

    @pytest.mark.parametrize(
        ("wrong", "problem_of"),
        [
            ({"accountNumber": "110-123-456789"}, "account_number"),
            ({"accountNumber": "\uff11\uff11"}, "account_number"),
            ({"accountNumber": "1" * 21}, "account_number"),
            ({"accountNumber": ""}, "account_number"),
            ({"bank": "00"}, "bank"),
            ({"holderName": " "}, "holder_name"),
            ({"holderName": "김" * 61}, "holder_name"),
        ],
    )
    async def test_what_is_no_account_is_not_sent(
        self, office: Office, books: PaymentBooks, wrong: dict[str, str], problem_of: str
    ) -> None:
        answer = await office.sends(await office.opens(), amount="5000", reason="변심", **ACCOUNT | wrong)

        assert answer.status_code == 422
        assert re.findall(r'data-testid="problem-(\w+)"', answer.text) == [problem_of]
        assert books.asked == []

    @pytest.mark.parametrize(
        "answer",
        [
            no_answer,
            problem(422, "refund_account_refused", pgMessage="110123456789 계좌는 없는 계좌입니다."),
            problem(500, "internal_error"),
        ],
        ids=["lost", "refused", "crashed"],
    )
    async def test_account_number_stays_nowhere(
        self,
        office: Office,
        books: PaymentBooks,
        sessions: Sessions,
        answer: Answer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        books.on_cancel(answer)

        page = await office.asks(amount="5000", **ACCOUNT)

        async with sessions() as session:
            kept = [
                tuple(row)
                for row in await session.execute(text("SELECT * FROM cancel_requests JOIN orders USING (order_id)"))
            ]
        assert len(kept) == 1
        for place in (str(kept), str(page.url), caplog.text, page.text):
            assert ACCOUNT["accountNumber"] not in place
            assert ACCOUNT["holderName"] not in place

    async def test_same_request_asks_for_the_account_again(self, office: Office, books: PaymentBooks) -> None:
        books.on_cancel(books.lose_answer)
        page = await office.asks(amount="5000", **ACCOUNT)

        sent = await office.sends(page, **ACCOUNT)

        assert notice_on(await office.opens(sent.headers["location"])).startswith("5,000원을 환불했습니다.")
        assert books.refunded == [5_000]

    async def test_typing_mistake_when_sending_again_keeps_the_request(
        self, office: Office, books: PaymentBooks
    ) -> None:
        books.on_cancel(no_answer)
        page = await office.asks(amount="5000", **ACCOUNT)

        answer = await office.sends(page, **ACCOUNT | {"accountNumber": "110-123"})

        assert answer.status_code == 422
        assert key_on(answer) == key_on(page)
        assert "data-again" in answer.text

    @pytest.mark.parametrize(
        ("refund_status", "words"),
        [
            ("PENDING", "은행이 환불금을 보내고 있습니다."),
            ("COMPLETED", "은행이 환불금을 보냈습니다."),
            ("FAILED", "구매자에게 다른 계좌를 물어봐 주세요."),
        ],
    )
    async def test_page_says_how_far_the_bank_got(
        self, office: Office, books: PaymentBooks, refund_status: str, words: str
    ) -> None:
        account = a_virtual_account(refundStatus=refund_status)
        books.becomes("REFUNDED", refundedAmount=24_000, refunds=[a_refund(24_000)], virtualAccount=account)
        await office.opens()  # from now on the order is over

        page = await office.opens()

        assert words in page.text


class TestAbandon:
    async def test_order_that_nobody_began_to_pay_is_cancelled(
        self, office: Office, books: PaymentBooks, sessions: Sessions, order: Order
    ) -> None:
        books.payment = None

        page = await office.asks()

        assert notice_on(page) == "주문을 취소했습니다. 청구된 금액은 없습니다."
        assert await status_of(sessions, order) is OrderStatus.CANCELLED
        assert "<form" not in page.text

    @pytest.mark.parametrize("status", ["CREATED", "WAITING_FOR_DEPOSIT"])
    async def test_payment_that_was_begun_is_given_up(
        self, office: Office, books: PaymentBooks, sessions: Sessions, order: Order, status: str
    ) -> None:
        books.becomes(status, completedAt=None, virtualAccount=a_virtual_account())

        page = await office.asks()

        assert notice_on(page) == "주문을 취소했습니다. 청구된 금액은 없습니다."
        assert books.asked[0][1] == {"cancelReason": "단순 변심"}
        assert await status_of(sessions, order) is OrderStatus.CANCELLED

    async def test_failed_payment_needs_no_giving_up(
        self, office: Office, books: PaymentBooks, sessions: Sessions, order: Order
    ) -> None:
        books.becomes("FAILED", completedAt=None, failure={"code": "REJECT_CARD_PAYMENT", "message": "잔액 부족"})

        page = await office.asks()

        assert notice_on(page) == "주문을 취소했습니다. 청구된 금액은 없습니다."
        assert await status_of(sessions, order) is OrderStatus.CANCELLED

    async def test_cancelled_order_that_was_paid_all_the_same_is_a_paid_order(
        self, office: Office, books: PaymentBooks, sessions: Sessions, order: Order
    ) -> None:
        books.becomes("FAILED", completedAt=None, failure={"code": "REJECT_CARD_PAYMENT", "message": "잔액 부족"})
        await office.asks()
        books.becomes("COMPLETED", completedAt="2026-11-22T03:20:00Z")

        await office.opens()

        assert await status_of(sessions, order) is OrderStatus.PAID

    async def test_order_is_not_cancelled_behind_a_payment_that_has_just_been_begun(
        self, office: Office, books: PaymentBooks, sessions: Sessions, order: Order
    ) -> None:
        def somebody_begins(request: httpx.Request) -> httpx.Response:
            books.becomes("CREATED", completedAt=None)
            return problem(404, "payment_not_found")(request)

        books.payment = None
        books.on_cancel(somebody_begins)

        page = await office.asks()

        assert "그 사이에 결제가 진행되어 취소하지 않았습니다." in notice_on(page)
        assert await status_of(sessions, order) is OrderStatus.CREATED

    async def test_deposit_that_was_faster_is_to_be_refunded(self, office: Office, books: PaymentBooks) -> None:
        def deposit_comes(request: httpx.Request) -> httpx.Response:
            books.becomes("COMPLETED", completedAt="2026-11-22T03:20:00Z")
            return problem(409, "deposit_arrived")(request)

        books.becomes("WAITING_FOR_DEPOSIT", completedAt=None, virtualAccount=a_virtual_account())
        books.on_cancel(deposit_comes)

        page = await office.asks()

        assert "그 사이에 입금이 확인되어 취소하지 않았습니다." in notice_on(page)
        assert "refund-form" in page.text

    async def test_giving_up_whose_outcome_is_not_known_yet_ends_as_the_payment_does(
        self, office: Office, books: PaymentBooks
    ) -> None:
        books.becomes("WAITING_FOR_DEPOSIT", completedAt=None, virtualAccount=a_virtual_account())
        books.on_cancel(lambda _: httpx.Response(202, json={"refund": None, "payment": books.payment}))
        page = await office.asks()
        assert "확인 중" in notice_on(page)
        books.becomes("CANCELLED")

        page = await office.opens(str(page.url))

        assert notice_on(page) == "주문을 취소했습니다. 청구된 금액은 없습니다."

    async def test_lost_answer_keeps_the_key(self, office: Office, books: PaymentBooks) -> None:
        books.becomes("CREATED", completedAt=None)
        books.on_cancel(books.lose_answer)
        page = await office.asks()

        sent = await office.sends(page)

        assert notice_on(await office.opens(sent.headers["location"])).startswith("주문을 취소했습니다.")
        assert len(books.keys) == 1

    @pytest.mark.parametrize("status", ["PENDING", "APPROVED"])
    async def test_payment_that_is_being_decided_is_left_alone(
        self, office: Office, books: PaymentBooks, status: str
    ) -> None:
        books.becomes(status, completedAt=None)

        page = await office.opens()

        assert "<form" not in page.text


class TestDeposit:
    async def test_account_with_amount_and_due_date_is_shown(self, office: Office, books: PaymentBooks) -> None:
        books.becomes("WAITING_FOR_DEPOSIT", completedAt=None, virtualAccount=a_virtual_account())

        page = await office.opens()

        for words in ("신한은행", "X6505636518308", "온돌", "24,000원", "2099-11-29 23:59"):
            assert words in page.text

    async def test_deposit_that_the_bank_took_back_is_explained(self, office: Office, books: PaymentBooks) -> None:
        books.becomes("COMPLETED", virtualAccount=a_virtual_account())
        await office.opens()
        books.becomes("WAITING_FOR_DEPOSIT", completedAt=None)

        page = await office.opens()

        assert "은행이 입금을 되돌려" in page.text

    async def test_account_whose_due_date_has_passed_takes_no_deposit(
        self, office: Office, books: PaymentBooks
    ) -> None:
        account = a_virtual_account(dueDate="2026-11-22T00:00:00Z")
        books.becomes("WAITING_FOR_DEPOSIT", completedAt=None, virtualAccount=account)

        page = await office.opens()

        assert "입금 기한이 지났습니다" in page.text
        assert "X6505636518308" not in page.text
