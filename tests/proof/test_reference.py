"""The model beside the real thing: what it lets pass, and what it says that nobody has asked for."""

from datetime import timedelta

import pytest
from proof.machine import CALM
from proof.players import Program
from proof.reference import ACCOUNT, At, Order, Stands, Truth, books_of

AMOUNT = 15_000
KEY = "key-1"
OTHER = "key-2"
START = timedelta()
DONE = Truth(At.DONE, captures=1)
WAITING = Truth(At.WAITING)


def an_order(*, method: str = "CARD", is_refused: bool = False, keys: tuple[str, ...] = (KEY,)) -> Order:
    """An order that was prepared, and whose buyer went through these payment windows."""
    order = Order(AMOUNT, is_prepared=True)
    for key in keys:
        order.opened(key, method=method, is_refused=is_refused, at=START)
    return order


def bought(truth: Truth = DONE, *, method: str = "CARD") -> Order:
    """An order whose confirm was asked for and carried out."""
    order = an_order(method=method)
    order.asks(KEY)
    assert list(order.moved({KEY: truth}, at=START)) == []
    return order


class TestTaken:
    def test_what_was_asked_for_may_be_taken(self) -> None:
        order = an_order()

        before = order.asks(KEY)

        assert list(order.confirmed(KEY, 200, "COMPLETED", {KEY: DONE}, before=before)) == []
        assert list(order.moved({KEY: DONE}, at=START)) == []

    def test_what_nobody_asked_for_may_not(self) -> None:
        assert "nobody asked for" in next(an_order().moved({KEY: DONE}, at=START))

    def test_a_second_key_may_not_be_taken_on_top(self) -> None:
        order = an_order(keys=(KEY, OTHER))
        order.asks(KEY)
        order.asks(OTHER)
        assert list(order.moved({KEY: DONE}, at=START)) == []

        assert "on top of" in next(order.moved({KEY: DONE, OTHER: DONE}, at=START))

    def test_one_key_may_not_be_taken_twice(self) -> None:
        assert "2 times" in next(bought().moved({KEY: Truth(At.DONE, captures=2)}, at=START))

    def test_what_was_refused_before_the_pg_was_asked_may_not(self) -> None:
        order = an_order()
        before = order.asks(KEY)

        assert list(order.confirmed(KEY, 409, "", {KEY: Truth(At.IN_PROGRESS)}, before=before)) == []

        assert "nobody asked for" in next(order.moved({KEY: DONE}, at=START))

    def test_what_the_buyer_was_told_is_refused_may_not(self) -> None:
        order = an_order()
        before = order.asks(KEY)

        assert list(order.confirmed(KEY, 402, "", {KEY: Truth(At.IN_PROGRESS)}, before=before)) == []

        assert "nobody asked for" in next(order.moved({KEY: DONE}, at=START))

    def test_a_payment_expires_when_its_time_is_over(self) -> None:
        gone = {KEY: Truth(At.EXPIRED)}

        assert list(an_order().moved(gone, at=timedelta(minutes=10))) == []
        assert "before its time" in next(an_order().moved(gone, at=timedelta(minutes=5)))


class TestAnswered:
    def test_a_success_without_money_is_no_success(self) -> None:
        order = an_order()

        says = order.confirmed(KEY, 200, "COMPLETED", {KEY: Truth(At.IN_PROGRESS)}, before=order.asks(KEY))

        assert "never had the money" in next(says)

    def test_a_refusal_that_took_money_is_none(self) -> None:
        order = an_order()

        assert "has the money" in next(order.confirmed(KEY, 402, "", {KEY: DONE}, before=order.asks(KEY)))

    def test_the_key_of_another_order_never_succeeds(self) -> None:
        order = an_order()

        says = list(order.confirmed(OTHER, 200, "COMPLETED", {KEY: Truth(At.IN_PROGRESS)}, before=order.asks(OTHER)))

        assert "another order" in says[0]

    @pytest.mark.parametrize(("status", "calls"), [(200, 0), (202, 0), (409, 1), (500, 0)])
    def test_a_wrong_amount_is_refused_without_the_pg(self, status: int, calls: int) -> None:
        assert list(an_order().refuses_amount(status, calls))
        assert list(an_order().refuses_amount(409, 0)) == []

    def test_a_refund_that_was_answered_is_in_the_pgs_books(self) -> None:
        order = bought()
        order.requested("a", 5_000)

        assert "the PG made 0" in next(order.cancelled("a", 200, 5_000, {KEY: DONE}, is_decided=True))


class TestGivenBack:
    def test_one_request_is_carried_out_once(self) -> None:
        order = bought()
        order.requested("a", 5_000)
        once, twice = Truth(At.PARTIAL, 1, (5_000,)), Truth(At.PARTIAL, 1, (5_000, 5_000))

        assert list(order.moved({KEY: once}, at=START)) == []
        assert list(order.cancelled("a", 200, 5_000, {KEY: once}, is_decided=True)) == []

        assert "5000 won went back" in next(order.moved({KEY: twice}, at=START))

    def test_what_was_refused_is_not_carried_out_later(self) -> None:
        order = bought()
        order.requested("a", 5_000)
        assert list(order.cancelled("a", 409, None, {KEY: DONE}, is_decided=True)) == []

        assert "nobody asked for" in next(order.moved({KEY: Truth(At.PARTIAL, 1, (5_000,))}, at=START))

    def test_what_nobody_knows_may_be_carried_out_later(self) -> None:
        order = bought()
        order.requested("all", None)
        assert list(order.cancelled("all", 202, None, {KEY: DONE}, is_decided=False)) == []

        assert list(order.moved({KEY: Truth(At.CANCELED, 1, (AMOUNT,))}, at=START)) == []

    def test_what_came_for_a_given_up_order_goes_back_whole(self) -> None:
        order = an_order()
        order.requested("all", None)
        assert list(order.cancelled("all", 200, None, {KEY: Truth(At.IN_PROGRESS)}, is_decided=True)) == []
        order.requests["all"].is_done = True
        order.captured_elsewhere(OTHER, at=START)

        books = {KEY: Truth(At.IN_PROGRESS), OTHER: Truth(At.CANCELED, 1, (AMOUNT,))}

        assert list(order.moved(books, at=START)) == []

    def test_the_console_is_not_taken_for_a_request(self) -> None:
        order = bought()

        assert order.cancel_by_hand(KEY, 1_000)
        assert not order.cancel_by_hand(KEY, AMOUNT)

        assert list(order.moved({KEY: Truth(At.PARTIAL, 1, (1_000,))}, at=START)) == []
        stands = Stands("PARTIALLY_REFUNDED", KEY, 1_000)
        assert list(order.differs(stands)) == []


class TestDeposited:
    def test_a_bank_takes_a_deposit_until_the_due_date_and_takes_it_back(self) -> None:
        order = bought(WAITING, method=ACCOUNT)

        assert not order.reverse(KEY)
        assert order.deposit(KEY, at=timedelta(days=6))
        assert not order.deposit(KEY, at=timedelta(days=6))
        assert order.reverse(KEY)
        assert not order.deposit(KEY, at=timedelta(days=8))

        assert list(order.moved({KEY: Truth(At.WAITING, captures=1, reversals=1)}, at=timedelta(days=8))) == []

    def test_an_account_is_given_up_only_when_somebody_wants_that(self) -> None:
        gone = {KEY: Truth(At.CANCELED)}
        wanted = bought(WAITING, method=ACCOUNT)
        wanted.requested("all", None)

        assert list(wanted.moved(gone, at=START)) == []
        assert "nobody wanted" in next(bought(WAITING, method=ACCOUNT).moved(gone, at=START))


class TestInTheEnd:
    @pytest.mark.parametrize("status", ["PENDING", "FAILED", "REFUNDED", "CANCELLED"])
    def test_what_was_taken_is_completed(self, status: str) -> None:
        assert list(bought().differs(Stands("COMPLETED", KEY))) == []
        assert list(bought().differs(Stands(status, KEY)))

    def test_money_under_another_key_is_seen(self) -> None:
        assert any("not the payment's" in says for says in bought().differs(Stands("FAILED", OTHER)))

    def test_a_refund_that_only_we_know_of_is_seen(self) -> None:
        assert any("5000 won" in says for says in bought().differs(Stands("PARTIALLY_REFUNDED", KEY, 5_000)))

    def test_an_answered_refund_is_there(self) -> None:
        order = bought()
        order.requested("a", 5_000)
        order.requests["a"].status, order.requests["a"].refunded = 200, 5_000

        assert any("refunds were answered" in says for says in order.differs(Stands("COMPLETED", KEY)))

    def test_given_up_stays_given_up(self) -> None:
        order = an_order()
        order.requested("all", None)
        list(order.cancelled("all", 200, None, {KEY: Truth(At.EXPIRED)}, is_decided=True))

        assert list(order.differs(Stands("CANCELLED"))) == []
        assert any("given up" in says for says in order.differs(Stands("FAILED")))


class TestBooks:
    def test_they_come_from_what_the_pg_shows_and_from_the_money_that_moved(self) -> None:
        moved = {"paymentKey": KEY, "orderId": "order", "amount": AMOUNT}
        shown = [{"paymentKey": KEY, "orderId": "order", "status": "CANCELED"}]

        books = books_of(shown, {"captures": [moved], "cancels": [moved], "reversals": []})

        assert books == {"order": {KEY: Truth(At.CANCELED, 1, (AMOUNT,))}}


class TestPrograms:
    @pytest.mark.parametrize("text", CALM)
    def test_a_program_as_text_says_all_of_it(self, text: str) -> None:
        assert str(Program.read(text)) == text
