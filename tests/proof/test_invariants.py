"""Each invariant sees what breaks it, and says nothing of books that agree."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

import pytest
from proof.books import CANCEL, CONFIRM, PREPARE, WEBHOOK, Books, OrderBooks, Told
from proof.invariants import SETTLED, in_motion, is_settled, violations

from tests.integration.world import REASON

ORDER: Final = "order-000001"
KEY: Final = "key-of-the-attempt"

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
REQUEST: Final = UUID(int=9)


def walked(*walk: str | None) -> tuple[dict[str, Any], ...]:
    """The history of a payment that went this way, under one key."""
    return tuple(
        {
            "sequence": number,
            "from_status": start,
            "to_status": end,
            "payment_key": KEY if end == "PENDING" else None,
            "pg_code": "REFUSED" if end == "FAILED" else None,
        }
        for number, (start, end) in enumerate(pairwise(walk), start=1)
    )


HISTORY: Final = walked(*WALK)
REFUND: Final = {
    "id": UUID(int=7),
    "status": "SUCCEEDED",
    "amount": 5_000,
    "reason": REASON,
    "transaction_key": "cancel-1",
    "refund_key": "key-of-the-refund",
    "request_id": REQUEST,
    "fail_code": None,
}
ADOPTED: Final = {
    **REFUND,
    "id": UUID(int=6),
    "transaction_key": "cancel-2",
    "refund_key": "adopted-1",
    "request_id": None,
}
GIVEN: Final = {"transactionKey": "cancel-1", "cancelAmount": 5_000, "cancelReason": REASON}
SHOWN: Final = {
    "paymentKey": KEY,
    "status": "PARTIAL_CANCELED",
    "totalAmount": 15_000,
    "balanceAmount": 10_000,
    "failure": None,
    "cancels": (GIVEN,),
}
CAPTURE: Final = {"paymentKey": KEY, "orderId": ORDER, "amount": 15_000, "transactionKey": "capture-1"}
CANCELLED: Final = {"paymentKey": KEY, "orderId": ORDER, "amount": 5_000, "transactionKey": "cancel-1"}
REVERSAL: Final = {"paymentKey": KEY, "orderId": ORDER, "amount": 15_000, "transactionKey": "reversal-1"}
STRAY: Final = {"payment_key": "another", "status": "SUCCEEDED"}
ANSWER: Final = {
    "orderId": ORDER,
    "paymentKey": KEY,
    "status": "COMPLETED",
    "amount": 15_000,
    "approvedAt": "2026-11-02T03:04:05Z",
}
REFUNDED: Final = {
    "refund": {"refundId": str(REFUND["id"]), "amount": 5_000, "status": "SUCCEEDED"},
    "payment": {"status": "PARTIALLY_REFUNDED"},
}
GIVEN_UP: Final = {"refund": None, "payment": {"status": "CANCELLED"}}
PAYLOAD: Final = {"data": {"payment": {"amount": 15_000, "refundedAmount": 0, "refundableAmount": 15_000}}}


def heard_of(*told: tuple[int, str]) -> dict[str, Any]:
    """Messages of these changes, which the shop took."""
    ids = {at: UUID(int=at) for at, _ in told}
    return {
        "messages": tuple(
            {"id": ids[at], "sequence": at, "type": f"payment.{kind}", "delivered_at": 1, "payload": PAYLOAD}
            for at, kind in told
        ),
        "events": tuple({"id": str(ids[at]), "sequence": at} for at, _ in told),
    }


AGREEING: Final = OrderBooks(
    ORDER,
    PAYMENT,
    history=HISTORY,
    refunds=(REFUND,),
    captures=(CAPTURE,),
    cancels=(CANCELLED,),
    shown=(SHOWN,),
    order={"status": "PARTIALLY_REFUNDED", "refunded_amount": 5_000, "amount": 15_000},
    told=(
        Told(PREPARE, ORDER, PREPARE, 201, {"amount": 15_000}),
        Told(CONFIRM, ORDER, KEY, 200, ANSWER),
        Told(CANCEL, ORDER, "refund-1", 200, REFUNDED),
    ),
    **heard_of((4, "completed"), (5, "refunded")),
)


DEPOSITED: Final = (None, "CREATED", "PENDING", "WAITING_FOR_DEPOSIT", "APPROVED", "COMPLETED")
DONE: Final = {**SHOWN, "status": "DONE", "balanceAmount": 15_000, "cancels": None}
# A virtual account that waits again, after the bank has taken its deposit back.
REVERSED: Final = OrderBooks(
    ORDER,
    {**PAYMENT, "status": "WAITING_FOR_DEPOSIT", "refunded_amount": 0},
    history=walked(*DEPOSITED, "WAITING_FOR_DEPOSIT"),
    captures=(CAPTURE,),
    reversals=(REVERSAL,),
    shown=({**DONE, "status": "WAITING_FOR_DEPOSIT"},),
    order={"status": "CREATED", "refunded_amount": 0, "amount": 15_000},
    **heard_of((3, "waiting_for_deposit"), (5, "completed"), (6, "deposit_reversed")),
)
# The same when another deposit has come.
DEPOSITED_AGAIN: Final = OrderBooks(
    ORDER,
    {**PAYMENT, "status": "COMPLETED", "refunded_amount": 0},
    history=walked(*DEPOSITED, *DEPOSITED[3:]),
    captures=(CAPTURE, CAPTURE),
    reversals=(REVERSAL,),
    shown=(DONE,),
    order={"status": "PAID", "refunded_amount": 0, "amount": 15_000},
    told=tuple(
        Told(CONFIRM, ORDER, KEY, 200, {**ANSWER, "status": status, "approvedAt": at})
        for status, at in (("COMPLETED", "2026-11-02T03:04:05Z"), ("WAITING_FOR_DEPOSIT", None))
    ),
    **heard_of((3, "waiting_for_deposit"), (5, "completed"), (6, "deposit_reversed"), (8, "completed")),
)
# An order that was given up, while it waited for the deposit.
ABANDONED: Final = OrderBooks(
    ORDER,
    {**PAYMENT, "status": "CANCELLED", "refunded_amount": 0},
    history=walked(*DEPOSITED[:4], "CANCELLED"),
    shown=({**SHOWN, "status": "CANCELED", "balanceAmount": 0, "cancels": ({**GIVEN, "cancelAmount": 15_000},)},),
    order={"status": "CANCELLED", "refunded_amount": 0, "amount": 15_000},
    told=(Told(CANCEL, ORDER, "give-up", 200, GIVEN_UP),),
    **heard_of((3, "waiting_for_deposit"), (4, "cancelled")),
)
# One of which the PG said no, and nobody has tried again.
FAILED: Final = OrderBooks(
    ORDER,
    {**PAYMENT, "status": "FAILED", "refunded_amount": 0},
    history=walked(None, "CREATED", "PENDING", "FAILED"),
    calls=({"orderId": ORDER, "paymentKey": KEY, "code": "REFUSED"},),
    shown=({**DONE, "status": "IN_PROGRESS"},),
    order={"status": "CREATED", "refunded_amount": 0, "amount": 15_000},
    **heard_of((3, "failed")),
)
LATE: Final = {"kind": "captured_after_cancel", "subject": f"{ORDER}/{KEY}", "resolved_at": None}
KEPT: Final = {"captures": (CAPTURE,), "shown": (DONE,)}


def with_payment(**changes: object) -> dict[str, Any]:
    return {"payment": {**PAYMENT, **changes}}


def told(what: str, name: str, status: int, body: object) -> dict[str, Any]:
    """That somebody was told this as well."""
    return {"told": (*AGREEING.told, Told(what, ORDER, name, status, body))}


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
    ("I2", {"order": {**(AGREEING.order or {}), "amount": 16_000}}),
    ("I3", {"cancels": (CANCELLED, {**CANCELLED, "amount": 15_000})}),
    ("I3", {"cancels": ()}),
    ("I3", {"refunds": ()}),
    ("I3", {"refunds": (REFUND, {**REFUND, "status": "FAILED", "fail_code": "REFUSED"})}),
    ("I3", {"refunds": ({**REFUND, "request_id": None},)}),
    ("I3", {"refunds": ({**REFUND, "request_id": UUID(int=8)},), "told": ()}),
    ("I3", {"refunds": ({**REFUND, "refund_key": "adopted-1"},), "told": ()}),
    ("I3", {"shown": ({**SHOWN, "cancels": (GIVEN, GIVEN)},)}),
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
    ("I6", {"order": {"status": "PAID", "refunded_amount": 5_000, "amount": 15_000}}),
    ("I6", {"order": {"status": "PARTIALLY_REFUNDED", "refunded_amount": 0, "amount": 15_000}}),
    ("I6", {"order": None}),
    ("I7", {"history": HISTORY[:-1]}),
    ("I7", {"history": (*HISTORY[:2], *HISTORY[3:])}),
    ("I7", {"history": (*HISTORY[:-1], {**HISTORY[-1], "sequence": 9})}),
    ("I7", {"history": ()}),
    ("I8", {"payment": None, "captures": ()}),
    ("I8", {"history": HISTORY[:3]}),
    ("I8", {"history": HISTORY[:1], "told": (Told(CONFIRM, ORDER, KEY, 202, {**ANSWER, "status": "CREATED"}),)}),
    ("I8", {"refunds": (), "told": (Told(CANCEL, ORDER, "refund-1", 202, REFUNDED),)}),
    ("I8", told(CANCEL, "give-up", 200, GIVEN_UP)),
    ("I8", {"refunds": ({**REFUND, "status": "FAILED", "fail_code": "REFUSED"},)}),
    ("I9", {"history": (*HISTORY[:2], {**HISTORY[2], "from_status": "PENDING", "to_status": "FAILED"})}),
    ("I9", with_payment(status="FAILED")),
    ("I9", {"refunds": ({**REFUND, "status": "FAILED"},)}),
    ("I9", {"refunds": ({**REFUND, "status": "FAILED", "fail_code": "NEVER_SAID"},)}),
    ("I9", {"refunds": ({**REFUND, "status": "FAILED", "fail_code": "DEPOSIT_REVERSED"},)}),
    ("I9", {"refunds": ({**REFUND, "status": "FAILED", "fail_code": "NOT_REFUNDED"}, ADOPTED)}),
    ("I10", told(CONFIRM, KEY, 402, {"code": "payment_declined"})),
    ("I10", told(CONFIRM, KEY, 200, {**ANSWER, "amount": 15_001})),
    ("I10", told(CONFIRM, KEY, 200, {**ANSWER, "paymentKey": "another"})),
    ("I10", told(CONFIRM, KEY, 200, {**ANSWER, "orderId": "order-000002"})),
    ("I10", told(CANCEL, "refund-1", 200, {**REFUNDED, "payment": {"status": "COMPLETED"}})),
    ("I10", told(CANCEL, "refund-1", 409, {"code": "nothing_to_refund"})),
    ("I12", {"told": (Told(CONFIRM, ORDER, KEY, 200, {**ANSWER, "amount": 15_000.0}),)}),
    ("I12", {"told": (Told(CONFIRM, ORDER, KEY, 200, {**ANSWER, "refunds": [{"amount": True}]}),)}),
    ("I12", with_payment(refunded_amount=15_001)),
    ("I12", {"messages": tuple({**row, "payload": {"data": {"amount": 1.5}}} for row in AGREEING.messages)}),
]
# The same of other books.
BROKEN_OTHERWISE: Final[list[tuple[str, OrderBooks, dict[str, Any]]]] = [
    ("I1", DEPOSITED_AGAIN, {"captures": (CAPTURE,) * 3}),
    ("I1", DEPOSITED_AGAIN, {"captures": (CAPTURE,), "taken": (CAPTURE,) * 3}),
    ("I1", ABANDONED, KEPT),
    ("I1", ABANDONED, {**KEPT, "cancels": (CANCELLED,)}),
    ("I1", ABANDONED, {**KEPT, "discrepancies": ({**LATE, "resolved_at": 1},)}),
    ("I1", ABANDONED, {**KEPT, "discrepancies": ({**LATE, "subject": f"{ORDER}/another"},)}),
    ("I5", REVERSED, {"reversals": ()}),
    ("I5", REVERSED, {"captures": ()}),
    ("I5", DEPOSITED_AGAIN, {"captures": (CAPTURE,)}),
    ("I5", REVERSED, {"captures": ({**CAPTURE, "paymentKey": "another"},)}),
    ("I5", REVERSED, {"reversals": ({**REVERSAL, "paymentKey": "another"},)}),
    ("I5", REVERSED, {"shown": ({**REVERSED.shown[0], "totalAmount": 14_000},)}),
    ("I6", REVERSED, {"reversals": ()}),
    ("I8", ABANDONED, {"history": ABANDONED.history[:-1]}),
    ("I9", FAILED, {"calls": ({**FAILED.calls[0], "code": None},)}),
    ("I9", FAILED, {"strays": ({"payment_key": "another", "status": "FAILED", "fail_code": "NEVER_SAID"},)}),
]


def asked(one: OrderBooks) -> Books:
    """These books, and the request under which a refund was asked for."""
    return Books([one], requests=({"id": REQUEST, "is_locked": False},))


def broken_by(books: Books, *, canaries: Sequence[str] = ()) -> set[str]:
    return {violation.invariant for violation in violations(books, canaries=canaries)}


class TestInvariants:
    @pytest.mark.parametrize("one", [AGREEING, REVERSED, DEPOSITED_AGAIN, ABANDONED, FAILED])
    def test_have_nothing_to_say_of_books_that_agree(self, one: OrderBooks) -> None:
        books = asked(one)

        assert violations(books) == []
        assert in_motion(books) == []
        assert is_settled(books)

    @pytest.mark.parametrize(("invariant", "changes"), BROKEN)
    def test_see_what_breaks_them(self, invariant: str, changes: dict[str, Any]) -> None:
        assert invariant in broken_by(asked(replace(AGREEING, **changes)))

    @pytest.mark.parametrize(("invariant", "sound", "changes"), BROKEN_OTHERWISE)
    def test_see_what_breaks_them_elsewhere(self, invariant: str, sound: OrderBooks, changes: dict[str, Any]) -> None:
        assert invariant in broken_by(asked(replace(sound, **changes)))

    def test_are_each_shown_to_be_broken(self) -> None:
        assert {invariant for invariant, _ in BROKEN} == {invariant for invariant, _ in SETTLED}

    @pytest.mark.parametrize(
        ("sound", "changes"),
        [
            (AGREEING, told(CONFIRM, KEY, 200, {**ANSWER, "status": "PARTIALLY_REFUNDED", "refundedAmount": 5_000})),
            (AGREEING, {"told": (Told(CONFIRM, ORDER, KEY, 202, {**ANSWER, "status": "PENDING"}), *AGREEING.told)}),
            (ABANDONED, {**KEPT, "discrepancies": (LATE,)}),
            (ABANDONED, {**KEPT, "reversals": (REVERSAL,)}),
            (REVERSED, {"captures": (), "taken": (CAPTURE,)}),
            (FAILED, {"calls": (), "shown": ({**FAILED.shown[0], "failure": {"code": "REFUSED", "message": ""}},)}),
            (FAILED, {"calls": (), "history": (*FAILED.history[:-1], {**FAILED.history[-1], "pg_code": "expired"})}),
        ],
    )
    def test_say_nothing_of_what_may_be(self, sound: OrderBooks, changes: dict[str, Any]) -> None:
        assert violations(asked(replace(sound, **changes))) == []

    def test_let_a_client_have_asked_that_got_no_answer(self) -> None:
        assert violations(asked(replace(AGREEING, told=AGREEING.told[:-1]))) == []

    def test_let_an_amount_differ_of_which_a_person_was_told(self) -> None:
        told_of = {"kind": "amount_differs_at_pg", "subject": ORDER, "resolved_at": None}
        shown = ({**REVERSED.shown[0], "totalAmount": 14_000},)

        assert violations(asked(replace(REVERSED, shown=shown, discrepancies=(told_of,)))) == []

    def test_let_an_event_be_given_up_of_which_a_person_was_told(self) -> None:
        event = {"id": UUID(int=5), "order_id": ORDER, "processed_at": None, "parked_at": 1}
        told_of = {"kind": "webhook_not_processed", "subject": ORDER, "ours": {"webhooks": [str(event["id"])]}}

        books = asked(replace(AGREEING, discrepancies=(told_of,)))

        assert violations(replace(books, webhooks=(event,))) == []
        assert broken_by(replace(asked(AGREEING), webhooks=(event,))) == {"I4"}

    def test_let_a_second_capture_be_that_went_back(self) -> None:
        books = replace(
            AGREEING,
            captures=(CAPTURE, {**CAPTURE, "paymentKey": "another"}),
            cancels=(CANCELLED, {**CANCELLED, "paymentKey": "another", "amount": 15_000, "transactionKey": "cancel-2"}),
            strays=(STRAY,),
        )

        assert violations(asked(books)) == []

    @pytest.mark.parametrize(
        ("invariant", "changes"),
        [
            ("I4", {"webhooks": ({"order_id": ORDER, "processed_at": None, "parked_at": None},)}),
            ("I11", {"log": '{"event": "secret"}'}),
        ],
    )
    def test_see_what_is_no_single_orders(self, invariant: str, changes: dict[str, Any]) -> None:
        assert broken_by(replace(asked(AGREEING), **changes), canaries=["secret"]) == {invariant}

    def test_see_a_request_that_is_held(self) -> None:
        assert broken_by(Books([AGREEING], requests=({"id": REQUEST, "is_locked": True},))) == {"I4"}

    @pytest.mark.parametrize(
        "changes",
        [
            {"messages": tuple({**row, "payload": {**PAYLOAD, "to": "secret"}} for row in AGREEING.messages)},
            {"told": (Told(CONFIRM, ORDER, KEY, 200, {**ANSWER, "key": "secret"}),)},
        ],
    )
    def test_see_what_nobody_may_read(self, changes: dict[str, Any]) -> None:
        assert broken_by(asked(replace(AGREEING, **changes)), canaries=["secret"]) == {"I11"}

    def test_miss_a_webhook_that_was_acknowledged(self) -> None:
        told = (*AGREEING.told, Told(WEBHOOK, ORDER, "event-1", 200, {"status": "stored"}))

        assert broken_by(asked(replace(AGREEING, told=told))) == {"I8"}


class TestBusyAnswers:
    @pytest.mark.parametrize("status", [202, 409, 503])
    def test_decide_nothing(self, status: int) -> None:
        """Whoever is told to come again is told something else when it has been decided."""
        body = REFUNDED if status == 202 else {"code": "refund_in_progress"}
        told = (Told(CANCEL, ORDER, "refund-1", status, body), *AGREEING.told)

        assert violations(asked(replace(AGREEING, told=told))) == []
