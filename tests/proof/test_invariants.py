"""Each invariant sees what breaks it, and says nothing of books that agree."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import pytest
from proof.books import CANCEL, CONFIRM, PREPARE, WEBHOOK, Books, OrderBooks, Told
from proof.invariants import SETTLED, in_motion, is_settled, violations

ORDER: Final = "order-000001"
KEY: Final = "key-of-the-attempt"
FIRST, SECOND = UUID(int=1), UUID(int=2)

PAYMENT: Final = {
    "order_id": ORDER,
    "payment_key": KEY,
    "status": "PARTIALLY_REFUNDED",
    "amount": 15_000,
    "refunded_amount": 5_000,
    "currency": "KRW",
    "cancel_key": None,
}
WALK: Final = (None, "CREATED", "PENDING", "APPROVED", "COMPLETED", "PARTIALLY_REFUNDED")
HISTORY: Final = tuple(
    {"sequence": number, "from_status": start, "to_status": end, "pg_code": None}
    for number, (start, end) in enumerate(pairwise(WALK), start=1)
)
REFUND: Final = {
    "status": "SUCCEEDED",
    "amount": 5_000,
    "transaction_key": "cancel-1",
    "request_id": UUID(int=9),
    "fail_code": None,
}
SHOWN: Final = {"paymentKey": KEY, "status": "PARTIAL_CANCELED", "balanceAmount": 10_000}
CAPTURE: Final = {"paymentKey": KEY, "orderId": ORDER, "amount": 15_000, "transactionKey": "capture-1"}
CANCELLED: Final = {"paymentKey": KEY, "orderId": ORDER, "amount": 5_000, "transactionKey": "cancel-1"}
STRAY: Final = {"payment_key": "another", "status": "SUCCEEDED"}
ANSWER: Final = {"status": "COMPLETED", "amount": 15_000}
REFUNDED: Final = {"refund": {"amount": 5_000, "status": "SUCCEEDED"}}

AGREEING: Final = OrderBooks(
    ORDER,
    PAYMENT,
    history=HISTORY,
    refunds=(REFUND,),
    messages=tuple(
        {"id": one, "sequence": at, "delivered_at": 1, "payload": {"type": "told"}}
        for one, at in ((FIRST, 4), (SECOND, 5))
    ),
    captures=(CAPTURE,),
    cancels=(CANCELLED,),
    shown=(SHOWN,),
    order={"status": "PARTIALLY_REFUNDED", "refunded_amount": 5_000},
    events=tuple({"id": str(one), "sequence": at} for one, at in ((FIRST, 4), (SECOND, 5))),
    told=(
        Told(PREPARE, ORDER, PREPARE, 201, {"amount": 15_000}),
        Told(CONFIRM, ORDER, KEY, 200, ANSWER),
        Told(CANCEL, ORDER, "refund-1", 200, REFUNDED),
    ),
)


def with_payment(**changes: object) -> dict[str, Any]:
    return {"payment": {**PAYMENT, **changes}}


# Of each invariant, books that break it.
BROKEN: Final[list[tuple[str, dict[str, Any]]]] = [
    ("I1", {"captures": (CAPTURE, CAPTURE)}),
    ("I1", {"captures": (CAPTURE, {**CAPTURE, "paymentKey": "another"})}),
    (
        "I1",
        {
            "captures": ({**CAPTURE, "paymentKey": "another"},),
            "strays": ({"payment_key": "another", "status": "SUCCEEDED"},),
        },
    ),
    ("I2", {"captures": ({**CAPTURE, "amount": 15_001},)}),
    ("I2", {"payment": None}),
    ("I2", with_payment(currency="USD")),
    ("I3", {"cancels": (CANCELLED, {**CANCELLED, "amount": 15_000})}),
    ("I3", {"cancels": ()}),
    ("I3", {"refunds": ()}),
    ("I3", {"refunds": (REFUND, {**REFUND, "status": "FAILED", "fail_code": "REFUSED"})}),
    ("I4", with_payment(status="PENDING")),
    ("I4", with_payment(status="WAITING_FOR_DEPOSIT", cancel_key="cancel")),
    ("I4", {"refunds": (REFUND, {**REFUND, "status": "REQUESTED", "request_id": UUID(int=8)})}),
    ("I4", {"strays": ({"payment_key": "another", "status": "REQUESTED"},)}),
    ("I5", {"shown": ({**SHOWN, "status": "DONE"},)}),
    ("I5", {"shown": ({**SHOWN, "balanceAmount": 9_000},)}),
    ("I5", {"shown": ()}),
    ("I6", {"messages": AGREEING.messages[:1]}),
    ("I6", {"events": AGREEING.events[:1]}),
    ("I6", {"events": AGREEING.events[::-1]}),
    ("I6", {"order": {"status": "PAID", "refunded_amount": 5_000}}),
    ("I6", {"order": {"status": "PARTIALLY_REFUNDED", "refunded_amount": 0}}),
    ("I7", {"history": HISTORY[:-1]}),
    ("I7", {"history": (*HISTORY[:2], *HISTORY[3:])}),
    ("I7", {"history": (*HISTORY[:-1], {**HISTORY[-1], "sequence": 9})}),
    ("I7", {"history": ()}),
    ("I8", {"payment": None, "captures": ()}),
    ("I8", {"history": HISTORY[:3]}),
    ("I8", {"refunds": ({**REFUND, "status": "FAILED", "fail_code": "REFUSED"},)}),
    ("I9", {"history": (*HISTORY[:2], {**HISTORY[2], "from_status": "PENDING", "to_status": "FAILED"})}),
    ("I9", with_payment(status="FAILED")),
    ("I9", {"refunds": ({**REFUND, "status": "FAILED"},)}),
    ("I10", {"told": (*AGREEING.told, Told(CONFIRM, ORDER, KEY, 402, {"code": "payment_declined"}))}),
    ("I10", {"told": (*AGREEING.told, Told(CANCEL, ORDER, "refund-1", 200, {"refund": {"amount": 5_000}}))}),
    ("I12", {"told": (Told(CONFIRM, ORDER, KEY, 200, {**ANSWER, "amount": 15_000.0}),)}),
    ("I12", {"told": (Told(CONFIRM, ORDER, KEY, 200, {**ANSWER, "refunds": [{"amount": True}]}),)}),
    ("I12", with_payment(refunded_amount=15_001)),
]


def broken_by(books: Books, *, canaries: Sequence[str] = ()) -> set[str]:
    return {violation.invariant for violation in violations(books, canaries=canaries)}


class TestInvariants:
    def test_have_nothing_to_say_of_books_that_agree(self) -> None:
        books = Books([AGREEING])

        assert violations(books) == []
        assert in_motion(books) == []
        assert is_settled(books)

    @pytest.mark.parametrize(("invariant", "changes"), BROKEN)
    def test_see_what_breaks_them(self, invariant: str, changes: dict[str, Any]) -> None:
        assert invariant in broken_by(Books([replace(AGREEING, **changes)]))

    def test_are_each_shown_to_be_broken(self) -> None:
        assert {invariant for invariant, _ in BROKEN} == set(SETTLED)

    def test_let_a_second_capture_be_that_went_back(self) -> None:
        books = replace(
            AGREEING,
            captures=(CAPTURE, {**CAPTURE, "paymentKey": "another"}),
            cancels=(CANCELLED, {**CANCELLED, "paymentKey": "another", "amount": 15_000, "transactionKey": "cancel-2"}),
            strays=(STRAY,),
        )

        assert violations(Books([books])) == []

    @pytest.mark.parametrize(
        ("invariant", "changes"),
        [
            ("I4", {"webhooks": ({"order_id": ORDER, "processed_at": None, "parked_at": None},)}),
            ("I4", {"requests": ({"is_locked": True},)}),
            ("I11", {"log": '{"event": "secret"}'}),
        ],
    )
    def test_see_what_is_no_single_orders(self, invariant: str, changes: dict[str, Any]) -> None:
        assert broken_by(Books([AGREEING], **changes), canaries=["secret"]) == {invariant}

    @pytest.mark.parametrize(
        "changes",
        [
            {"messages": tuple({**row, "payload": {"to": "secret"}} for row in AGREEING.messages)},
            {"told": (Told(CONFIRM, ORDER, KEY, 200, {**ANSWER, "key": "secret"}),)},
        ],
    )
    def test_see_what_nobody_may_read(self, changes: dict[str, Any]) -> None:
        assert broken_by(Books([replace(AGREEING, **changes)]), canaries=["secret"]) == {"I11"}

    def test_miss_a_webhook_that_was_acknowledged(self) -> None:
        told = (*AGREEING.told, Told(WEBHOOK, ORDER, "event-1", 200, {"status": "stored"}))

        assert broken_by(Books([replace(AGREEING, told=told)])) == {"I8"}


class TestBusyAnswers:
    @pytest.mark.parametrize("status", [202, 409, 503])
    def test_decide_nothing(self, status: int) -> None:
        """Whoever is told to come again is told something else when it has been decided."""
        told = (Told(CANCEL, ORDER, "refund-1", status, {"code": "refund_in_progress"}), *AGREEING.told)

        assert violations(Books([replace(AGREEING, told=told)])) == []
