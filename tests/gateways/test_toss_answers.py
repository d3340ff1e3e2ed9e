"""What one HTTP answer means for exactly the payment that was asked about."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from payments.gateways.pg import (
    Answer,
    Approved,
    CancelAnswer,
    Cancelled,
    Declined,
    DepositAwaited,
    PgStatus,
    RefundAnswer,
    Refunded,
    RefundOrder,
    RefundRefused,
    RefusedBecause,
    Unknown,
    UnknownBecause,
)
from payments.gateways.toss_answers import (
    Asked,
    Reply,
    read_cancel,
    read_confirm,
    read_look_up,
    read_refund,
)
from tests.gateways.toss_builders import (
    AMOUNT,
    ASKED,
    ASKED_BY_ORDER,
    ORDER_ID,
    PAYMENT_KEY,
    VIRTUAL_ACCOUNT,
    a_cancel,
    a_payment,
    a_refunded_payment,
    a_virtual_account_payment,
    an_order,
    as_bytes,
)

Reader = Callable[[Reply, Asked], Answer]

# How fast a busy machine is says nothing about the answers.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
either = pytest.mark.parametrize("read", [read_confirm, read_look_up])


def ok(body: object) -> Reply:
    return Reply(200, as_bytes(body))


def because(answer: Answer | RefundAnswer | CancelAnswer) -> UnknownBecause:
    assert isinstance(answer, Unknown), answer
    return answer.because


def mismatch(answer: Answer | RefundAnswer | CancelAnswer) -> str | None:
    """What a contradicting answer is said to differ in; the payment must be there for a person to see."""
    assert isinstance(answer, Unknown), answer
    assert answer.because is UnknownBecause.MISMATCH
    assert answer.payment is not None
    return answer.message


@either
class TestStatus:
    def test_done_is_approved(self, read: Reader) -> None:
        answer = read(ok(a_payment()), ASKED)

        assert isinstance(answer, Approved)
        assert answer.payment.payment_key == PAYMENT_KEY

    def test_waiting_for_deposit_is_awaited(self, read: Reader) -> None:
        answer = read(ok(a_virtual_account_payment()), ASKED)

        assert isinstance(answer, DepositAwaited)
        assert answer.payment.virtual_account is not None
        assert answer.payment.virtual_account.account_number == "X6505636518308"

    def test_waiting_without_an_account_to_pay_into_is_malformed(self, read: Reader) -> None:
        answer = read(ok(a_virtual_account_payment(virtualAccount=None)), ASKED)

        assert because(answer) is UnknownBecause.MALFORMED

    @pytest.mark.parametrize("balance", [0, 1, AMOUNT - 1])
    def test_partly_cancelled_was_captured(self, read: Reader, balance: int) -> None:
        answer = read(ok(a_payment(status="PARTIAL_CANCELED", balanceAmount=balance)), ASKED)

        assert isinstance(answer, Approved)
        assert answer.payment.balance_amount == balance

    def test_cancelled_keeps_nothing(self, read: Reader) -> None:
        answer = read(ok(a_payment(status="CANCELED", balanceAmount=0)), ASKED)

        assert isinstance(answer, Cancelled)

    @pytest.mark.parametrize(
        ("status", "balance"),
        [
            ("DONE", 0),
            ("DONE", AMOUNT - 1),
            ("DONE", AMOUNT + 1),
            ("PARTIAL_CANCELED", AMOUNT),
            ("PARTIAL_CANCELED", AMOUNT + 1),
            ("CANCELED", 1),
            ("CANCELED", AMOUNT),
        ],
    )
    def test_a_balance_that_contradicts_the_status_is_for_a_person(
        self, read: Reader, status: str, balance: int
    ) -> None:
        answer = read(ok(a_payment(status=status, balanceAmount=balance)), ASKED)

        assert isinstance(answer, Unknown)
        assert answer.because is UnknownBecause.MISMATCH
        assert answer.payment is not None
        assert answer.message == "differs in balanceAmount"

    @pytest.mark.parametrize("status", ["ABORTED", "EXPIRED"])
    def test_ended_with_a_reason_is_declined_with_it(self, read: Reader, status: str) -> None:
        failure = {"code": "REJECT_CARD_COMPANY", "message": "결제 승인이 거절되었습니다."}

        answer = read(ok(a_payment(status=status, failure=failure, approvedAt=None)), ASKED)

        assert isinstance(answer, Declined)
        assert (answer.code, answer.message) == ("REJECT_CARD_COMPANY", "결제 승인이 거절되었습니다.")
        assert answer.payment is not None

    @pytest.mark.parametrize("status", ["ABORTED", "EXPIRED"])
    def test_ended_without_a_reason_is_declined_with_its_status(self, read: Reader, status: str) -> None:
        answer = read(ok(a_payment(status=status)), ASKED)

        assert isinstance(answer, Declined)
        assert answer.code == status
        assert answer.message

    @pytest.mark.parametrize("status", ["READY", "IN_PROGRESS"])
    def test_not_captured_yet_is_in_progress(self, read: Reader, status: str) -> None:
        answer = read(ok(a_payment(status=status, approvedAt=None, method=None)), ASKED)

        assert isinstance(answer, Unknown)
        assert answer.because is UnknownBecause.IN_PROGRESS
        assert answer.payment is not None

    def test_a_status_of_the_future_is_malformed(self, read: Reader) -> None:
        assert because(read(ok(a_payment(status="ALMOST_DONE")), ASKED)) is UnknownBecause.MALFORMED


CLAIMS = {
    "captured": a_payment(),
    "awaiting its deposit": a_virtual_account_payment(),
    "partly cancelled": a_payment(status="PARTIAL_CANCELED", balanceAmount=5_000),
    "cancelled": a_payment(status="CANCELED", balanceAmount=0),
}


@either
class TestIdentity:
    @pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS.keys())
    @pytest.mark.parametrize(
        ("name", "other"),
        [
            ("paymentKey", "tviva20260102144639Zz9Zz"),
            ("paymentKey", PAYMENT_KEY.lower()),
            ("orderId", "order-000002"),
            ("orderId", "ORDER-000001"),
            ("currency", "USD"),
            ("currency", "krw"),
        ],
    )
    def test_another_subject_is_a_mismatch(
        self, read: Reader, claim: dict[str, object], name: str, other: object
    ) -> None:
        answer = read(ok({**claim, name: other}), ASKED)

        assert isinstance(answer, Unknown)
        assert answer.because is UnknownBecause.MISMATCH
        assert answer.payment is not None
        assert answer.message == f"differs in {name}"

    @pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS.keys())
    @pytest.mark.parametrize("amount", [0, 1, AMOUNT - 1, AMOUNT + 1, AMOUNT * 100])
    def test_another_amount_is_a_mismatch(self, read: Reader, claim: dict[str, object], amount: int) -> None:
        assert because(read(ok({**claim, "totalAmount": amount}), ASKED)) is UnknownBecause.MISMATCH

    def test_asked_by_order_any_payment_key_will_do(self, read: Reader) -> None:
        answer = read(ok(a_payment(paymentKey="another-key")), ASKED_BY_ORDER)

        assert isinstance(answer, Approved)
        assert answer.payment.payment_key == "another-key"

    @pytest.mark.parametrize("status", ["ABORTED", "EXPIRED"])
    def test_what_took_nothing_needs_only_the_same_payment_key(self, read: Reader, status: str) -> None:
        other = {"orderId": "order-000002", "totalAmount": 1, "currency": "USD"}

        assert isinstance(read(ok(a_payment(status=status, **other)), ASKED), Declined)

    @pytest.mark.parametrize("status", ["ABORTED", "EXPIRED", "READY", "IN_PROGRESS"])
    def test_another_payment_key_says_nothing_about_ours(self, read: Reader, status: str) -> None:
        answer = read(ok(a_payment(status=status, paymentKey="another-key")), ASKED)

        assert because(answer) is UnknownBecause.MISMATCH

    @pytest.mark.parametrize("status", ["ABORTED", "EXPIRED", "READY", "IN_PROGRESS"])
    def test_asked_by_order_another_order_says_nothing_about_ours(self, read: Reader, status: str) -> None:
        answer = read(ok(a_payment(status=status, orderId="order-000002")), ASKED_BY_ORDER)

        assert because(answer) is UnknownBecause.MISMATCH


def called_off(amount: int, balance_after: int, status: str = "IN_PROGRESS") -> dict[str, object]:
    """A cancel that is not done: under way abroad, or given up."""
    return a_cancel(amount, balance_after, transactionKey=f"{status}-{balance_after}", cancelStatus=status)


@either
class TestBooks:
    """Where cancels are listed, they have to add up to what is gone."""

    @pytest.mark.parametrize("amounts", [(1,), (5_000,), (5_000, 1_000), (5_000, 1_000, 9_000), (AMOUNT - 1, 1)])
    def test_parts_that_add_up_are_believed(self, read: Reader, amounts: tuple[int, ...]) -> None:
        answer = read(ok(a_refunded_payment(*amounts)), ASKED)

        assert isinstance(answer, Approved)
        assert [cancel.amount for cancel in answer.payment.cancels] == list(amounts)

    def test_a_whole_that_adds_up_is_believed(self, read: Reader) -> None:
        assert isinstance(read(ok(a_refunded_payment()), ASKED), Cancelled)

    def test_what_is_not_done_gave_nothing_back(self, read: Reader) -> None:
        cancels = [a_cancel(5_000, 10_000), called_off(4_000, 6_000, "ABORTED")]

        answer = read(ok(a_refunded_payment(5_000, cancels=cancels)), ASKED)

        assert isinstance(answer, Approved)

    def test_a_captured_payment_may_list_a_cancel_that_was_given_up(self, read: Reader) -> None:
        assert isinstance(read(ok(a_payment(cancels=[called_off(AMOUNT, 0, "ABORTED")])), ASKED), Approved)

    @pytest.mark.parametrize(
        ("payment", "differing"),
        [
            (a_payment(cancels=[a_cancel(5_000, 10_000)]), "cancels"),
            (a_refunded_payment(5_000, balanceAmount=10_001), "cancels"),
            (a_refunded_payment(5_000, balanceAmount=9_999), "cancels"),
            (a_refunded_payment(5_000, 1_000, cancels=[a_cancel(1_000, 9_000)]), "cancels"),
            (a_refunded_payment(5_000, cancels=[called_off(5_000, 10_000)]), "cancels"),
            (a_refunded_payment(5_000, 1_000, cancels=[a_cancel(3_000, 10_000), a_cancel(3_000, 10_000)]), "cancels"),
            (a_refunded_payment(cancels=[a_cancel(AMOUNT - 1, 1)]), "cancels"),
            (a_refunded_payment(5_000, status="CANCELED"), "balanceAmount"),
            (a_refunded_payment(5_000, status="DONE"), "balanceAmount"),
            (a_virtual_account_payment(cancels=[a_cancel(5_000, 10_000)]), "cancels"),
            (a_payment(status="ABORTED", cancels=[a_cancel(5_000, 10_000)]), "cancels"),
            (a_payment(status="EXPIRED", cancels=[a_cancel(AMOUNT, 0)], balanceAmount=0), "cancels"),
            (a_payment(status="READY", cancels=[a_cancel(AMOUNT, 0)], balanceAmount=0), "cancels"),
        ],
        ids=[
            "captured and partly given back",
            "too much is left",
            "too little is left",
            "one is missing",
            "not done, and gone all the same",
            "the same transaction twice",
            "cancelled without giving all back",
            "cancelled with a balance",
            "captured without all of its balance",
            "given back before the deposit",
            "aborted and given back",
            "expired and given back",
            "not captured and given back",
        ],
    )
    def test_a_contradiction_is_for_a_person(self, read: Reader, payment: dict[str, object], differing: str) -> None:
        assert mismatch(read(ok(payment), ASKED)) == f"differs in {differing}"


@either
class TestHttpStatus:
    @pytest.mark.parametrize("status", [201, 202, 204, 206, 301, 302, 303, 304, 307, 308])
    def test_only_200_is_believed(self, read: Reader, status: int) -> None:
        assert because(read(Reply(status, as_bytes(a_payment())), ASKED)) is UnknownBecause.MALFORMED

    @pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
    @pytest.mark.parametrize("body", [b"", b"<html>", as_bytes(a_payment()), b'{"code": 5}'])
    def test_an_error_without_a_code_is_malformed(self, read: Reader, status: int, body: bytes) -> None:
        assert because(read(Reply(status, body), ASKED)) is UnknownBecause.MALFORMED

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    @pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", as_bytes(a_payment()), b'{"code": "NEW"}'])
    def test_a_server_error_is_the_pgs_whatever_it_says(self, read: Reader, status: int, body: bytes) -> None:
        assert because(read(Reply(status, body), ASKED)) is UnknownBecause.PG_ERROR

    def test_an_unlisted_code_is_unlisted(self, read: Reader) -> None:
        answer = read(Reply(400, as_bytes({"code": "BRAND_NEW", "message": "새 오류"})), ASKED)

        assert answer == Unknown(UnknownBecause.UNLISTED, code="BRAND_NEW", message="새 오류")

    def test_the_wait_that_the_pg_asks_for_is_passed_on(self, read: Reader) -> None:
        answer = read(Reply(429, b"", timedelta(seconds=7)), ASKED)

        assert isinstance(answer, Unknown)
        assert (answer.because, answer.retry_after) == (UnknownBecause.ASK_AGAIN, timedelta(seconds=7))


def refused_to(answer: RefundAnswer | CancelAnswer) -> RefusedBecause:
    assert isinstance(answer, RefundRefused), answer
    return answer.because


PART = an_order(4_000, believed_balance=10_000)
AFTER_PART = a_refunded_payment(5_000, 4_000)
UNDER_WAY = a_refunded_payment(
    5_000, cancels=[a_cancel(5_000, 10_000), called_off(4_000, 6_000)], lastTransactionKey=None
)


class TestRefund:
    def test_everything(self) -> None:
        answer = read_refund(ok(a_refunded_payment()), ASKED, an_order())

        assert isinstance(answer, Refunded)
        assert (answer.cancel.amount, answer.cancel.balance_after) == (AMOUNT, 0)
        assert answer.payment.status is PgStatus.CANCELED

    def test_a_part_after_another(self) -> None:
        answer = read_refund(ok(AFTER_PART), ASKED, PART)

        assert isinstance(answer, Refunded)
        assert (answer.cancel.transaction_key, answer.cancel.amount) == ("cancel-down-to-6000", 4_000)

    def test_the_rest_keeps_the_status_of_a_part(self) -> None:
        answer = read_refund(ok(a_refunded_payment(5_000, 10_000)), ASKED, an_order(10_000, believed_balance=10_000))

        assert isinstance(answer, Refunded)
        assert answer.payment.status is PgStatus.PARTIAL_CANCELED
        assert answer.payment.balance_amount == 0

    def test_the_order_of_the_list_does_not_matter(self) -> None:
        backwards = [a_cancel(4_000, 6_000), a_cancel(5_000, 10_000)]

        assert isinstance(read_refund(ok({**AFTER_PART, "cancels": backwards}), ASKED, PART), Refunded)

    @pytest.mark.parametrize("absent", [None, "", "a b", 7])
    def test_without_a_last_transaction_the_newest_is_the_one_that_left_least(self, absent: object) -> None:
        answer = read_refund(ok({**AFTER_PART, "lastTransactionKey": absent}), ASKED, PART)

        assert isinstance(answer, Refunded)
        assert answer.cancel.balance_after == 6_000

    def test_equal_parts_are_told_apart_by_what_they_left(self) -> None:
        twice = a_refunded_payment(4_000, 4_000)

        assert isinstance(read_refund(ok(twice), ASKED, an_order(4_000, believed_balance=11_000)), Refunded)
        assert mismatch(read_refund(ok(twice), ASKED, an_order(4_000))) == "differs in refundableAmount"

    @pytest.mark.parametrize(
        ("name", "other"),
        [("paymentKey", "another-key"), ("orderId", "order-000002"), ("totalAmount", AMOUNT + 1), ("currency", "USD")],
    )
    @pytest.mark.parametrize("claim", [AFTER_PART, UNDER_WAY], ids=["done", "under way"])
    def test_another_subject_is_a_mismatch(self, claim: dict[str, object], name: str, other: object) -> None:
        told = mismatch(read_refund(ok({**claim, name: other}), ASKED, PART))

        assert told is not None
        assert name in told

    @pytest.mark.parametrize(
        ("payment", "differing"),
        [
            (a_payment(), "cancelAmount"),
            (a_payment(status="PARTIAL_CANCELED", balanceAmount=6_000), "cancelAmount"),
            (a_refunded_payment(5_000), "cancelAmount"),
            (a_refunded_payment(5_000, 4_001), "cancelAmount"),
            (a_refunded_payment(5_000, 4_000, lastTransactionKey="another"), "cancelAmount"),
            (a_refunded_payment(5_000, 4_000, lastTransactionKey="cancel-down-to-10000"), "cancelAmount"),
            (a_refunded_payment(6_000, 4_000), "refundableAmount"),
            (a_refunded_payment(5_000, 4_000, 1_000, lastTransactionKey="cancel-down-to-6000"), "refundableAmount"),
            (a_refunded_payment(5_000, 4_000, status="ABORTED"), "cancels, status"),
            (a_refunded_payment(5_000, 4_000, status="READY"), "cancels, status"),
            (a_refunded_payment(5_000, 4_000, status="WAITING_FOR_DEPOSIT"), "status"),
            (a_refunded_payment(5_000, 4_000, status="DONE"), "balanceAmount, status"),
            (a_refunded_payment(5_000, 4_000, status="CANCELED"), "balanceAmount"),
            (a_refunded_payment(5_000, 4_000, cancels=[a_cancel(4_000, 6_000)]), "cancels"),
            (a_refunded_payment(5_000, 4_000, balanceAmount=10_000), "cancels, refundableAmount"),
            (
                {
                    **AFTER_PART,
                    "cancels": [a_cancel(5_000, 11_000), a_cancel(4_000, 7_000)],
                    "lastTransactionKey": None,
                },
                "refundableAmount",
            ),
        ],
        ids=[
            "nothing cancelled",
            "no list",
            "only the one before",
            "another amount",
            "the last transaction is none of the cancels",
            "the last transaction is an earlier cancel",
            "another balance before",
            "something came after it",
            "aborted",
            "not captured",
            "waiting",
            "captured",
            "cancelled with a balance",
            "the one before is missing",
            "the balance did not go down",
            "the cancel left something else than the payment has",
        ],
    )
    def test_a_cancel_that_is_not_the_one_asked_for_is_for_a_person(
        self, payment: dict[str, object], differing: str
    ) -> None:
        assert mismatch(read_refund(ok(payment), ASKED, PART)) == f"differs in {differing}"

    @pytest.mark.parametrize("status", ["IN_PROGRESS", "ABORTED", "A_WORD_OF_THE_FUTURE"])
    @pytest.mark.parametrize("balance", [10_000, 6_000])
    def test_a_cancel_that_is_not_done_is_in_progress(self, status: str, balance: int) -> None:
        """Whether the balance goes down at once is not documented."""
        cancel = called_off(4_000, 6_000, status)
        payment = a_refunded_payment(
            5_000,
            cancels=[a_cancel(5_000, 10_000), cancel],
            lastTransactionKey=cancel["transactionKey"],
            balanceAmount=balance,
        )

        answer = read_refund(ok(payment), ASKED, PART)

        assert isinstance(answer, Unknown)
        assert answer.because is UnknownBecause.IN_PROGRESS
        assert answer.payment is not None

    def test_another_amount_under_way_is_a_mismatch(self) -> None:
        cancel = called_off(4_001, 5_999)
        payment = a_refunded_payment(5_000, cancels=[cancel], lastTransactionKey=cancel["transactionKey"])

        assert because(read_refund(ok(payment), ASKED, PART)) is UnknownBecause.MISMATCH

    def test_a_cancel_that_cannot_be_read_is_malformed(self) -> None:
        payment = a_refunded_payment(5_000, 4_000, cancels=[a_cancel(4_000, 6_000, transactionKey=None)])

        assert because(read_refund(ok(payment), ASKED, PART)) is UnknownBecause.MALFORMED


GIVEN_UP = a_virtual_account_payment(
    status="CANCELED", balanceAmount=0, cancels=[a_cancel(AMOUNT, 0)], lastTransactionKey="cancel-down-to-0"
)


class TestCancelOfAVirtualAccount:
    @pytest.mark.parametrize("cancels", [GIVEN_UP["cancels"], None])
    def test_nothing_left_is_cancelled(self, cancels: object) -> None:
        answer = read_cancel(ok({**GIVEN_UP, "cancels": cancels}), ASKED)

        assert isinstance(answer, Cancelled)
        assert answer.payment.balance_amount == 0

    @pytest.mark.parametrize(
        ("name", "other"),
        [("paymentKey", "another-key"), ("orderId", "order-000002"), ("totalAmount", AMOUNT + 1), ("currency", "USD")],
    )
    def test_another_subject_is_a_mismatch(self, name: str, other: object) -> None:
        told = mismatch(read_cancel(ok({**GIVEN_UP, name: other}), ASKED))

        assert told is not None
        assert name in told

    @pytest.mark.parametrize(
        ("payment", "differing"),
        [
            (a_virtual_account_payment(), "status"),
            (a_virtual_account_payment(status="DONE", approvedAt="2026-01-02T14:46:59+09:00"), "status"),
            (a_refunded_payment(5_000, method="가상계좌"), "status"),
            (a_refunded_payment(5_000, 10_000, method="가상계좌"), "status"),
            (a_virtual_account_payment(status="READY"), "status"),
            (a_virtual_account_payment(status="EXPIRED"), "status"),
            ({**GIVEN_UP, "balanceAmount": AMOUNT}, "balanceAmount, cancels"),
            ({**GIVEN_UP, "cancels": [called_off(AMOUNT, 0)]}, "cancels"),
        ],
        ids=["waiting", "paid", "a part", "all in parts", "ready", "expired", "something left", "not done"],
    )
    def test_anything_else_is_for_a_person(self, payment: dict[str, object], differing: str) -> None:
        assert mismatch(read_cancel(ok(payment), ASKED)) == f"differs in {differing}"


def _read_refund(reply: Reply) -> RefundAnswer:
    return read_refund(reply, ASKED, PART)


def _read_cancel(reply: Reply) -> CancelAnswer:
    return read_cancel(reply, ASKED)


CancelReader = Callable[[Reply], RefundAnswer | CancelAnswer]


@pytest.mark.parametrize("read", [_read_refund, _read_cancel], ids=["refund", "cancel"])
class TestRefusal:
    def test_a_refusal_keeps_the_pgs_words(self, read: CancelReader) -> None:
        body = as_bytes({"code": "EXCEED_MAX_REFUND_DUE", "message": "환불 가능한 기간이 지났습니다."})

        answer = read(Reply(403, body))

        assert answer == RefundRefused(
            RefusedBecause.TOO_LATE, code="EXCEED_MAX_REFUND_DUE", message="환불 가능한 기간이 지났습니다."
        )

    @pytest.mark.parametrize("status", [201, 202, 204, 301, 302, 307, 308])
    def test_only_200_is_believed(self, read: CancelReader, status: int) -> None:
        bodies_of_success = [as_bytes(AFTER_PART), as_bytes(GIVEN_UP)]

        for body in bodies_of_success:
            assert because(read(Reply(status, body))) is UnknownBecause.MALFORMED

    @pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
    @pytest.mark.parametrize("body", [b"", b"<html>", as_bytes(AFTER_PART), b'{"code": 5}'])
    def test_an_error_without_a_code_is_malformed(self, read: CancelReader, status: int, body: bytes) -> None:
        assert because(read(Reply(status, body))) is UnknownBecause.MALFORMED

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    @pytest.mark.parametrize("body", [b"", b"<html>", as_bytes(AFTER_PART), b'{"code": "NOT_CANCELABLE_AMOUNT"}'])
    def test_a_server_error_is_the_pgs_whatever_it_says(self, read: CancelReader, status: int, body: bytes) -> None:
        assert because(read(Reply(status, body))) is UnknownBecause.PG_ERROR

    def test_an_unlisted_code_is_unlisted(self, read: CancelReader) -> None:
        answer = read(Reply(400, as_bytes({"code": "BRAND_NEW", "message": "새 오류"})))

        assert answer == Unknown(UnknownBecause.UNLISTED, code="BRAND_NEW", message="새 오류")

    def test_the_wait_that_the_pg_asks_for_is_passed_on(self, read: CancelReader) -> None:
        answer = read(Reply(429, b"", timedelta(seconds=7)))

        assert isinstance(answer, Unknown)
        assert (answer.because, answer.retry_after) == (UnknownBecause.ASK_AGAIN, timedelta(seconds=7))

    def test_a_payment_that_we_hold_and_the_pg_does_not_is_for_an_operator(self, read: CancelReader) -> None:
        body = as_bytes({"code": "NOT_FOUND_PAYMENT", "message": "존재하지 않는 결제 정보 입니다."})

        assert because(read(Reply(404, body))) is UnknownBecause.MISCONFIGURED


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
near_cancels = st.fixed_dictionaries(
    {
        "transactionKey": st.sampled_from(["first", "second"]) | json_values,
        "cancelAmount": st.sampled_from([AMOUNT, 4_000, 5_000, 0]) | json_values,
        "refundableAmount": st.sampled_from([0, 6_000, 10_000, AMOUNT]) | json_values,
    },
    optional={
        "cancelStatus": st.sampled_from(["DONE", "IN_PROGRESS", "ABORTED"]) | json_values,
        "cancelReason": json_values,
        "canceledAt": json_values,
    },
)
# Near misses: a payment of which any field may be anything, or what would be right for another.
near_payments = st.fixed_dictionaries(
    {},
    optional={
        "paymentKey": st.sampled_from([PAYMENT_KEY, "another-key", ""]) | json_values,
        "orderId": st.sampled_from([ORDER_ID, "order-000002"]) | json_values,
        "status": st.sampled_from([status.value for status in PgStatus]) | json_values,
        "totalAmount": st.sampled_from([AMOUNT, float(AMOUNT), str(AMOUNT), AMOUNT + 0.5]) | json_values,
        "balanceAmount": st.sampled_from([AMOUNT, 0, 1, 6_000, 10_000]) | json_values,
        "currency": st.sampled_from(["KRW", "USD"]) | json_values,
        "virtualAccount": st.just(VIRTUAL_ACCOUNT) | json_values,
        "failure": st.fixed_dictionaries({"code": json_values, "message": json_values}) | json_values,
        "receipt": st.fixed_dictionaries({"url": json_values}) | json_values,
        "method": json_values,
        "approvedAt": json_values,
        "secret": json_values,
        "cancels": st.lists(near_cancels, max_size=3) | json_values,
        "lastTransactionKey": st.sampled_from(["first", "second"]) | json_values,
        "isPartialCancelable": json_values,
    },
).map(lambda changes: a_payment(**changes))
bodies = (
    st.binary()
    | json_values.map(lambda value: json.dumps(value).encode())
    | near_payments.map(lambda value: json.dumps(value).encode())
    | near_payments.map(lambda value: json.dumps({**value, "paymentKey": PAYMENT_KEY, "orderId": ORDER_ID}).encode())
)

# Likely answers to a refund of 4,000 won of the 10,000 that were left, right but for one thing or two.
near_refunds = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["PARTIAL_CANCELED", "CANCELED", "DONE"]),
        "balanceAmount": st.sampled_from([6_000, 10_000, 0]),
        "lastTransactionKey": st.sampled_from(["first", "second", None]),
        "cancels": st.permutations(
            [a_cancel(5_000, 10_000, transactionKey="first"), a_cancel(4_000, 6_000, transactionKey="second")]
        ).flatmap(lambda cancels: st.sampled_from([cancels, cancels[:1], cancels + cancels[:1], []])),
    },
    optional={"totalAmount": st.just(AMOUNT + 1), "orderId": st.just("order-000002"), "paymentKey": st.just("another")},
).map(lambda changes: json.dumps(a_payment(**changes)).encode())


class TestAnyAnswer:
    @unhurried
    @given(body=bodies, status=st.sampled_from([200, 201, 302, 400, 401, 403, 404, 409, 429, 500, 503]))
    def test_never_raises_and_claims_money_only_for_what_was_asked(self, body: bytes, status: int) -> None:
        for read in (read_confirm, read_look_up):
            for asked in (ASKED, ASKED_BY_ORDER):
                assert_honest(read(Reply(status, body), asked), status=status, body=body, asked=asked)

    @unhurried
    @given(body=bodies | near_refunds, status=st.sampled_from([200, 201, 302, 400, 401, 403, 404, 409, 429, 500, 503]))
    def test_a_refund_never_raises_and_is_believed_only_if_it_is_the_one_asked_for(
        self, body: bytes, status: int
    ) -> None:
        for order in (PART, an_order()):
            assert_carried_out(read_refund(Reply(status, body), ASKED, order), status=status, body=body, order=order)

    @unhurried
    @given(body=bodies | near_refunds, status=st.sampled_from([200, 201, 302, 400, 401, 403, 404, 409, 429, 500, 503]))
    def test_a_cancel_never_raises_and_is_believed_only_if_nothing_is_left(self, body: bytes, status: int) -> None:
        answer = read_cancel(Reply(status, body), ASKED)

        if isinstance(answer, Cancelled):
            told = json.loads(body)
            assert status == 200
            assert (told["paymentKey"], told["orderId"]) == (PAYMENT_KEY, ORDER_ID)
            assert (told["status"], told["totalAmount"], told["balanceAmount"]) == ("CANCELED", AMOUNT, 0)

    @unhurried
    @given(body=bodies, status=st.integers(min_value=400, max_value=599))
    def test_an_error_to_a_look_up_never_declines(self, body: bytes, status: int) -> None:
        assert isinstance(read_look_up(Reply(status, body), ASKED), Unknown)

    @unhurried
    @given(code=st.text(min_size=1), message=st.text(), status=st.integers(min_value=500, max_value=599))
    def test_a_server_error_never_declines(self, code: str, message: str, status: int) -> None:
        body = json.dumps({"code": code, "message": message}).encode()

        assert because(read_confirm(Reply(status, body), ASKED)) is UnknownBecause.PG_ERROR


def assert_honest(answer: Answer, *, status: int, body: bytes, asked: Asked) -> None:
    match answer:
        case Approved() | DepositAwaited() | Cancelled():
            told = json.loads(body)
            assert status == 200
            assert told["orderId"] == answer.payment.order_id == asked.order_id
            assert told["totalAmount"] == answer.payment.total_amount == asked.amount
            assert told["currency"] == answer.payment.currency == "KRW"
            assert asked.payment_key in {None, told["paymentKey"]}
        case Declined(payment=payment) if payment is not None:
            assert payment.status in {PgStatus.ABORTED, PgStatus.EXPIRED}
        case Declined():
            assert status in {400, 403, 404}
        case Unknown():
            assert answer.because not in {UnknownBecause.NOT_SENT, UnknownBecause.CIRCUIT_OPEN}


def assert_carried_out(answer: RefundAnswer, *, status: int, body: bytes, order: RefundOrder) -> None:
    match answer:
        case Refunded(payment=payment, cancel=cancel):
            told = json.loads(body)
            assert status == 200
            assert (told["paymentKey"], told["orderId"]) == (PAYMENT_KEY, ORDER_ID)
            assert (told["totalAmount"], told["currency"]) == (AMOUNT, "KRW")
            assert told["balanceAmount"] == payment.balance_amount == order.believed_balance - order.amount
            assert (cancel.amount, cancel.balance_after) == (order.amount, payment.balance_amount)
            assert sum(one["cancelAmount"] for one in told["cancels"] if one.get("cancelStatus") in {None, "DONE"}) == (
                AMOUNT - payment.balance_amount
            )
        case RefundRefused():
            assert status in {400, 403}
        case Unknown():
            assert answer.because not in {UnknownBecause.NOT_SENT, UnknownBecause.CIRCUIT_OPEN}
