from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.errors import (
    AmountMismatch,
    Conflict,
    PaymentKeyMismatch,
    RefundAlreadyDecided,
    RefundExceedsBalance,
    TaxFreeExceedsRefund,
    TransitionNotAllowed,
)
from payments.ids import new_id
from payments.models import (
    CHECK_DELAYS,
    DEPOSIT_GRACE,
    EXPIRES_AFTER,
    FIRST_DEPOSIT_CHECK,
    REVERSAL_WATCH,
    SESSION_LIFETIME,
    Move,
    Payment,
    Refund,
    VirtualAccount,
)
from payments.states import TRANSITIONS, Cause, PaymentMethod, PaymentStatus, RefundStatus
from tests.builders import (
    ACCOUNT,
    AT,
    LATER,
    LEASE,
    ORDER_ID,
    PAYMENT_KEY,
    WEBHOOK_SECRET,
    a_payment,
    columns,
    earlier_key,
)

S = PaymentStatus
Step = Callable[[Payment, PaymentStatus], None]


def _begin_confirm(payment: Payment, _: PaymentStatus) -> None:
    payment.begin_confirm("another-key", payment.amount, confirm_key="k", at=LATER, lease=LEASE)


def _refund(payment: Payment, target: PaymentStatus) -> None:
    left = payment.amount - payment.refunded_amount
    payment.refund(1 if target is S.PARTIALLY_REFUNDED else left, at=LATER, cause=Cause.API)


# How a story makes each move, by the name of the method; some methods lead to more than one status.
MOVES: Final[dict[str, Step]] = {
    "begin_confirm": _begin_confirm,
    "approve": lambda payment, _: payment.approve(PAYMENT_KEY, approved_at=AT, at=LATER, cause=Cause.API),
    "await_deposit": lambda payment, _: payment.await_deposit(ACCOUNT, at=LATER, cause=Cause.API),
    "complete": lambda payment, _: payment.complete(at=LATER, cause=Cause.API),
    "reverse_deposit": lambda payment, _: payment.reverse_deposit(at=LATER, cause=Cause.WEBHOOK),
    "fail": lambda payment, _: payment.fail("EXPIRED", "결제 시간이 만료되었습니다.", at=LATER, cause=Cause.API),
    "cancel": lambda payment, _: payment.cancel("changed my mind", at=LATER, cause=Cause.API),
    "refund": _refund,
    "retry": lambda payment, _: payment.retry(at=LATER),
}
ALLOWED: Final = [(start, end, method) for start, ends in TRANSITIONS.items() for end, method in ends.items()]
REFUSED: Final = [(start, method) for start in S for method in MOVES if method not in TRANSITIONS[start].values()]


def history(payment: Payment) -> Sequence[Move]:
    """What becomes of it rows of the history."""
    return payment.new_moves


def seconds_after(at: datetime, payment: Payment) -> float:
    assert payment.next_check_at is not None
    return (payment.next_check_at - at).total_seconds()


class TestPrepare:
    def test_sets_everything_before_the_first_flush(self) -> None:
        payment = Payment.prepare(
            ORDER_ID, 12_000, method=PaymentMethod.CARD, order_name="커피", customer_email="a@b.example", at=AT
        )

        assert (payment.status, payment.attempt) == (S.CREATED, 1)
        assert (payment.amount, payment.refunded_amount, payment.currency) == (12_000, 0, "KRW")
        assert (payment.created_at, payment.expires_at) == (AT, AT + SESSION_LIFETIME)
        assert (payment.payment_key, payment.confirm_key) == (None, None)
        assert payment.next_check_at == AT + EXPIRES_AFTER

    def test_begins_the_history(self) -> None:
        (event,) = history(a_payment(S.CREATED))

        assert (event.sequence, event.from_status, event.to_status, event.cause) == (1, None, S.CREATED, Cause.API)

    def test_again_gives_a_fresh_session_and_no_new_attempt(self) -> None:
        payment = a_payment(S.CREATED)

        payment.prepare_again(
            method=PaymentMethod.TRANSFER, order_name="차", customer_email="other@example.com", at=LATER
        )

        assert (payment.method, payment.order_name) == (PaymentMethod.TRANSFER, "차")
        assert (payment.expires_at, payment.attempt) == (LATER + SESSION_LIFETIME, 1)
        assert len(history(payment)) == 1


class TestMoves:
    @pytest.mark.parametrize(("start", "end", "method"), ALLOWED)
    def test_allowed_one_changes_the_status_with_one_row_of_history(
        self, start: PaymentStatus, end: PaymentStatus, method: str
    ) -> None:
        payment = a_payment(start)
        before = len(history(payment))

        MOVES[method](payment, end)

        *_, last = history(payment)
        assert payment.status is end
        assert len(history(payment)) == before + 1
        assert (last.from_status, last.to_status, last.sequence, last.at) == (start, end, before + 1, LATER)
        assert last.attempt == payment.attempt

    @pytest.mark.parametrize(("start", "method"), REFUSED)
    def test_any_other_is_refused_with_nothing_changed(self, start: PaymentStatus, method: str) -> None:
        payment = a_payment(start)
        stored, rows = columns(payment), len(history(payment))
        target = next(end for ends in TRANSITIONS.values() for end, name in ends.items() if name == method)

        with pytest.raises(TransitionNotAllowed):
            MOVES[method](payment, target)

        assert columns(payment) == stored
        assert len(history(payment)) == rows

    def test_a_refused_one_says_from_where_to_where(self) -> None:
        with pytest.raises(TransitionNotAllowed) as refused:
            a_payment(S.CREATED).complete(at=LATER, cause=Cause.API)

        assert (refused.value.start, refused.value.end) == (S.CREATED, S.COMPLETED)

    @given(st.lists(st.sampled_from(sorted(MOVES)), max_size=25), st.sampled_from(S))
    def test_whatever_is_tried_the_history_is_one_chain_without_gaps(
        self, methods: list[str], wanted: PaymentStatus
    ) -> None:
        payment = a_payment(S.CREATED)

        for method in methods:
            try:
                MOVES[method](payment, wanted)
            except Conflict:
                continue

        rows = history(payment)
        assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
        assert [row.from_status for row in rows] == [None, *(row.to_status for row in rows[:-1])]
        assert (rows[-1].to_status, payment.last_sequence) == (payment.status, len(rows))

    def test_keep_who_made_them_and_why(self) -> None:
        payment = a_payment(S.PENDING)

        payment.cancel("sold out", at=LATER, cause=Cause.OPERATOR, actor="kim")

        *_, last = history(payment)
        assert (last.cause, last.actor, last.message) == (Cause.OPERATOR, "kim", None)
        assert payment.cancel_reason == "sold out"  # not in the history, which nobody can erase from


class TestBeginConfirm:
    def test_keeps_the_keys_and_when_somebody_else_may_take_over(self) -> None:
        payment = a_payment(S.CREATED)

        payment.begin_confirm(PAYMENT_KEY, 12_000, confirm_key="key-1", at=AT, lease=LEASE)

        assert (payment.payment_key, payment.confirm_key) == (PAYMENT_KEY, "key-1")
        assert (payment.pending_since, payment.next_check_at, payment.check_count) == (AT, LATER, 0)
        assert history(payment)[-1].payment_key == PAYMENT_KEY

    @pytest.mark.parametrize("amount", [0, 11_999, 12_001, -12_000])
    def test_refuses_another_amount_with_nothing_changed(self, amount: int) -> None:
        payment = a_payment(S.CREATED, amount=12_000)
        stored = columns(payment)

        with pytest.raises(AmountMismatch):
            payment.begin_confirm(PAYMENT_KEY, amount, confirm_key="key-1", at=AT, lease=LEASE)

        assert columns(payment) == stored


class TestApprove:
    @pytest.mark.parametrize("start", [S.PENDING, S.WAITING_FOR_DEPOSIT, S.FAILED])
    def test_refuses_money_of_another_payment_key(self, start: PaymentStatus) -> None:
        payment = a_payment(start)
        stored = columns(payment)

        with pytest.raises(PaymentKeyMismatch):
            payment.approve("another-key", approved_at=AT, at=LATER, cause=Cause.API)

        assert columns(payment) == stored

    def test_stops_asking_the_pg(self) -> None:
        payment = a_payment(S.PENDING)
        payment.check_later(at=AT)

        payment.approve(PAYMENT_KEY, approved_at=AT, at=LATER, cause=Cause.RECOVERY)

        assert (payment.approved_at, payment.next_check_at, payment.check_count) == (AT, None, 0)

    def test_as_late_truth_takes_the_failure_back(self) -> None:
        payment = a_payment(S.FAILED)

        payment.approve(PAYMENT_KEY, approved_at=AT, at=LATER, cause=Cause.NIGHTLY)

        assert (payment.fail_code, payment.fail_reason) == (None, None)


class TestDeposits:
    def test_account_is_kept_and_the_deposit_looked_for_soon(self) -> None:
        payment = a_payment(S.WAITING_FOR_DEPOSIT)

        assert payment.virtual_account == ACCOUNT
        assert payment.next_check_at == AT + FIRST_DEPOSIT_CHECK

    def test_account_without_a_due_date_is_kept_all_the_same(self) -> None:
        payment = a_payment(S.PENDING)
        endless = VirtualAccount("20", "X1", "", None)

        payment.await_deposit(endless, at=LATER, cause=Cause.API)

        assert (payment.virtual_account, payment.next_check_at) == (endless, LATER + FIRST_DEPOSIT_CHECK)
        assert not payment.is_deposit_overdue(at=LATER + timedelta(days=365))

    def test_a_reversed_one_waits_at_the_same_account_with_no_proof_of_payment_left(self) -> None:
        payment = a_payment(S.WAITING_FOR_DEPOSIT)
        payment.approve(PAYMENT_KEY, approved_at=AT, at=AT, cause=Cause.WEBHOOK)
        payment.complete(at=AT, cause=Cause.WEBHOOK)

        payment.reverse_deposit(at=LATER, cause=Cause.WEBHOOK)

        assert (payment.approved_at, payment.completed_at, payment.reversed_at) == (None, None, LATER)
        assert (payment.virtual_account, payment.next_check_at) == (ACCOUNT, LATER + FIRST_DEPOSIT_CHECK)
        assert payment.refundable_amount == 0


class TestFail:
    def test_keeps_the_evidence_on_the_payment_as_in_the_history(self) -> None:
        payment = a_payment(S.PENDING)

        payment.fail("INVALID_STOPPED_CARD", "정지된 카드 입니다.", at=LATER, cause=Cause.API)

        assert (payment.fail_code, payment.fail_reason) == ("INVALID_STOPPED_CARD", "정지된 카드 입니다.")
        assert history(payment)[-1].pg_code == "INVALID_STOPPED_CARD"
        assert history(payment)[-1].message == "정지된 카드 입니다."
        assert payment.next_check_at is None


class TestCancel:
    @pytest.mark.parametrize("start", [S.CREATED, S.PENDING, S.WAITING_FOR_DEPOSIT])
    def test_notes_when_and_stops_asking_the_pg(self, start: PaymentStatus) -> None:
        payment = a_payment(start)

        payment.cancel("sold out", at=LATER, cause=Cause.API)

        assert (payment.cancelled_at, payment.next_check_at, payment.refundable_amount) == (LATER, None, 0)


class TestRetry:
    def test_is_a_new_attempt_with_a_fresh_session(self) -> None:
        payment = a_payment(S.FAILED)

        payment.retry(at=LATER)

        assert (payment.attempt, payment.expires_at) == (2, LATER + SESSION_LIFETIME)
        assert history(payment)[-1].attempt == 2

    def test_forgets_all_that_belonged_to_the_failed_attempt(self) -> None:
        payment = a_payment(S.WAITING_FOR_DEPOSIT)
        payment.learn(
            method=payment.method,
            receipt_url="https://receipt.example",
            webhook_secret=WEBHOOK_SECRET,
            is_partial_cancelable=False,
        )
        payment.fail("EXPIRED", "기한이 지났습니다.", at=AT, cause=Cause.EXPIRY)

        payment.retry(at=LATER)

        fresh = columns(a_payment(S.CREATED))
        kept = {"id", "attempt", "last_sequence", "prepared_at", "next_check_at"}
        assert {name for name, value in columns(payment).items() if value != fresh[name]} == kept

    def test_keeps_the_order_and_its_price(self) -> None:
        payment = a_payment(S.FAILED, amount=7_000)

        payment.retry(at=LATER)

        assert (payment.order_id, payment.amount, payment.created_at) == (ORDER_ID, 7_000, AT)

    def test_leaves_the_failed_attempts_key_in_the_history(self) -> None:
        payment = a_payment(S.PENDING, attempt=3)

        keys = [(row.attempt, row.payment_key) for row in history(payment) if row.payment_key]

        assert keys == [(1, earlier_key(1)), (2, earlier_key(2)), (3, PAYMENT_KEY)]


class TestRefundedAmount:
    @given(st.integers(1, 500), st.lists(st.integers(-20, 520), max_size=12))
    def test_never_exceeds_the_amount_whatever_is_asked_for(self, amount: int, asked: list[int]) -> None:
        payment = a_payment(S.COMPLETED, amount=amount)
        given_back = 0

        for part in asked:
            before = columns(payment)
            try:
                payment.refund(part, at=LATER, cause=Cause.API)
            except Conflict:
                assert columns(payment) == before
            else:
                given_back += part

            assert payment.refunded_amount == given_back <= amount
            assert (payment.status is S.REFUNDED) == (given_back == amount)
            assert (payment.status is S.COMPLETED) == (given_back == 0)

    @pytest.mark.parametrize("asked", [0, -1, 8_001, 12_000])
    def test_of_nothing_or_more_than_is_left_is_refused(self, asked: int) -> None:
        payment = a_payment(S.PARTIALLY_REFUNDED, amount=12_000)

        with pytest.raises(RefundExceedsBalance):
            payment.refund(asked, at=LATER, cause=Cause.API)

        assert payment.refundable_amount == 8_000

    @pytest.mark.parametrize("status", sorted(set(S) - {S.COMPLETED, S.PARTIALLY_REFUNDED}))
    def test_nothing_is_refundable_before_the_capture_or_after_the_last_won(self, status: PaymentStatus) -> None:
        assert a_payment(status).refundable_amount == 0


class TestCheckLater:
    def test_comes_quickly_at_first_then_every_five_minutes_a_little_spread(self) -> None:
        payment = a_payment(S.PENDING)
        waits = []

        for _ in range(len(CHECK_DELAYS) + 2):
            payment.check_later(at=AT)
            waits.append(seconds_after(AT, payment))

        for wait, planned in zip(waits, [2, 5, 15, 60, 300, 300, 300], strict=True):
            assert planned <= wait <= planned * 1.2

    def test_two_payments_of_one_outage_do_not_come_back_together(self) -> None:
        waits = set()
        for _ in range(20):
            payment = a_payment(S.PENDING)
            payment.check_later(at=AT)
            waits.add(seconds_after(AT, payment))

        assert len(waits) == 20

    def test_is_never_before_what_the_pg_asked_for(self) -> None:
        payment = a_payment(S.PENDING)

        payment.check_later(at=AT, not_before=timedelta(seconds=90))

        assert seconds_after(AT, payment) == 90

    def test_is_not_hurried_by_a_pg_that_asks_for_less(self) -> None:
        payment = a_payment(S.PENDING)

        payment.check_later(at=AT, not_before=timedelta())

        assert seconds_after(AT, payment) >= 2


class TestLearn:
    def test_a_later_answer_that_leaves_something_out_takes_nothing_away(self) -> None:
        payment = a_payment(S.PENDING)
        payment.learn(
            method=PaymentMethod.EASY_PAY,
            receipt_url="https://receipt.example",
            webhook_secret="s",
            is_partial_cancelable=True,
        )

        payment.learn(method=PaymentMethod.EASY_PAY, receipt_url=None, webhook_secret=None, is_partial_cancelable=True)

        assert (payment.receipt_url, payment.webhook_secret) == ("https://receipt.example", "s")


def a_refund(payment: Payment, amount: int = 5_000) -> Refund:
    return Refund.request(
        payment, amount, reason="too small", refund_key="key-1", at=AT, lease=LEASE, cause=Cause.API, actor="kim"
    )


class TestRefund:
    def test_requested_leaves_the_payment_as_it_is(self) -> None:
        payment = a_payment(S.COMPLETED, amount=12_000)

        refund = a_refund(payment)

        assert (refund.status, refund.amount, refund.believed_balance) == (RefundStatus.REQUESTED, 5_000, 12_000)
        assert (refund.payment_id, refund.next_check_at) == (payment.id, LATER)
        assert (payment.status, payment.refunded_amount) == (S.COMPLETED, 0)

    def test_believes_in_the_balance_that_earlier_refunds_left(self) -> None:
        refund = a_refund(a_payment(S.PARTIALLY_REFUNDED, amount=12_000), amount=8_000)

        assert refund.believed_balance == 8_000

    @pytest.mark.parametrize("amount", [0, -1, 12_001])
    def test_of_nothing_or_more_than_is_left_cannot_be_requested(self, amount: int) -> None:
        with pytest.raises(RefundExceedsBalance):
            a_refund(a_payment(S.COMPLETED, amount=12_000), amount)

    @pytest.mark.parametrize("status", sorted(set(S) - {S.COMPLETED, S.PARTIALLY_REFUNDED}))
    def test_cannot_be_requested_where_no_money_is(self, status: PaymentStatus) -> None:
        with pytest.raises(RefundExceedsBalance):
            a_refund(a_payment(status), 1)

    def test_succeeded_moves_the_payment_in_the_name_of_who_asked(self) -> None:
        payment = a_payment(S.COMPLETED, amount=12_000)
        refund = a_refund(payment)

        refund.succeed(payment, "transaction-1", at=LATER, cause=Cause.RECOVERY)

        assert (refund.status, refund.transaction_key) == (RefundStatus.SUCCEEDED, "transaction-1")
        assert (refund.completed_at, refund.next_check_at) == (LATER, None)
        assert (payment.status, payment.refunded_amount) == (S.PARTIALLY_REFUNDED, 5_000)
        assert (history(payment)[-1].actor, history(payment)[-1].cause) == ("kim", Cause.RECOVERY)

    def test_of_everything_leaves_the_payment_refunded(self) -> None:
        payment = a_payment(S.COMPLETED, amount=12_000)

        a_refund(payment, 12_000).succeed(payment, "transaction-1", at=LATER, cause=Cause.API)

        assert (payment.status, payment.refundable_amount) == (S.REFUNDED, 0)

    def test_failed_leaves_the_money_refundable(self) -> None:
        payment = a_payment(S.COMPLETED, amount=12_000)
        refund = a_refund(payment)

        refund.fail("NOT_CANCELABLE_AMOUNT", "취소 할 수 없는 금액 입니다.", because="balance_differs", at=LATER)

        assert (refund.status, refund.fail_code) == (RefundStatus.FAILED, "NOT_CANCELABLE_AMOUNT")
        assert (refund.completed_at, refund.next_check_at) == (LATER, None)
        assert (payment.status, payment.refundable_amount) == (S.COMPLETED, 12_000)

    @pytest.mark.parametrize("first", ["succeed", "fail"])
    @pytest.mark.parametrize("second", ["succeed", "fail"])
    def test_is_decided_once(self, first: str, second: str) -> None:
        payment = a_payment(S.COMPLETED)
        refund = a_refund(payment)
        _decide(refund, payment, first)
        decided, paid_back = columns(refund), columns(payment)

        with pytest.raises(RefundAlreadyDecided):
            _decide(refund, payment, second)

        assert columns(refund) == decided
        assert columns(payment) == paid_back

    def test_moves_its_own_payment_only(self) -> None:
        payment, other = a_payment(S.COMPLETED), a_payment(S.COMPLETED)
        refund = a_refund(payment)
        stored = columns(refund)

        with pytest.raises(ValueError, match="its own payment"):
            refund.succeed(other, "transaction-1", at=LATER, cause=Cause.API)

        assert (columns(refund), other.refunded_amount) == (stored, 0)

    @pytest.mark.parametrize(("tax_free", "is_taken"), [(0, True), (5_000, True), (5_001, False), (-1, False)])
    def test_is_sold_without_tax_in_a_part_of_itself(self, tax_free: int, *, is_taken: bool) -> None:
        payment = a_payment(S.COMPLETED)

        def request() -> Refund:
            return Refund.request(
                payment,
                5_000,
                tax_free_amount=tax_free,
                reason="too small",
                refund_key="key-1",
                at=AT,
                lease=LEASE,
                cause=Cause.API,
            )

        if is_taken:
            assert request().tax_free_amount == tax_free
        else:
            with pytest.raises(TaxFreeExceedsRefund) as refused:
                request()
            assert refused.value.field == "taxFreeAmount"

    def test_failed_keeps_the_pgs_words_and_what_they_mean(self) -> None:
        payment = a_payment(S.COMPLETED)
        refund = a_refund(payment)

        refund.fail("EXCEED_MAX_REFUND_DUE", "환불 기한이 지났습니다.", because="too_late", at=LATER)

        assert (refund.fail_reason, refund.fail_because) == ("환불 기한이 지났습니다.", "too_late")

    def test_is_asked_about_quickly_at_first_and_never_before_the_pg_wants_it(self) -> None:
        refund = a_refund(a_payment(S.COMPLETED))
        waits = []

        for not_before in (None, None, timedelta(minutes=2), timedelta(seconds=1)):
            refund.check_later(at=AT, not_before=not_before)
            assert refund.next_check_at is not None
            waits.append((refund.next_check_at - AT).total_seconds())

        for wait, planned in zip(waits, [2, 5, 120, 60], strict=True):
            assert planned <= wait <= planned * 1.2
        assert refund.check_count == 4


def _decide(refund: Refund, payment: Payment, how: str) -> None:
    if how == "succeed":
        refund.succeed(payment, "transaction-1", at=LATER, cause=Cause.API)
    else:
        refund.fail("NOT_CANCELABLE_AMOUNT", "취소 할 수 없는 금액 입니다.", because="balance_differs", at=LATER)


class TestAnotherKey:
    def test_is_taken_with_the_same_lock_and_a_plan(self) -> None:
        refund = a_refund(a_payment(S.COMPLETED))
        before = columns(refund)

        refund.ask_anew("key-2", at=LATER)

        changed = {name for name, value in columns(refund).items() if value != before[name]}
        assert changed == {"refund_key", "key_since", "next_check_at", "check_count"}
        assert (refund.refund_key, refund.key_since, refund.requested_at) == ("key-2", LATER, AT)

    @pytest.mark.parametrize("how", ["succeed", "fail"])
    def test_is_not_taken_for_what_is_decided(self, how: str) -> None:
        payment = a_payment(S.COMPLETED)
        refund = a_refund(payment)
        _decide(refund, payment, how)

        with pytest.raises(RefundAlreadyDecided):
            refund.ask_anew("key-2", at=LATER)

        assert refund.refund_key == "key-1"


class TestAdopt:
    def test_is_a_refund_that_is_done_and_moves_the_payment(self) -> None:
        payment = a_payment(S.COMPLETED, amount=12_000)

        refund = Refund.adopt(
            payment, 12_000, reason="관리자 취소", transaction_key="t-1", at=LATER, cause=Cause.NIGHTLY
        )

        assert (refund.status, refund.transaction_key, refund.next_check_at) == (RefundStatus.SUCCEEDED, "t-1", None)
        assert (payment.status, history(payment)[-1].cause) == (S.REFUNDED, Cause.NIGHTLY)
        assert refund.request_id is None

    @pytest.mark.parametrize("amount", [0, 8_001])
    def test_of_nothing_or_more_than_is_left_changes_nothing(self, amount: int) -> None:
        payment = a_payment(S.PARTIALLY_REFUNDED, amount=12_000)
        stored = columns(payment)

        with pytest.raises(RefundExceedsBalance):
            Refund.adopt(payment, amount, reason="?", transaction_key="t-1", at=LATER, cause=Cause.NIGHTLY)

        assert columns(payment) == stored


def begin_cancel(payment: Payment) -> None:
    payment.begin_cancel("sold out", cancel_key="cancel-1", request_id=new_id(), at=AT, lease=LEASE, actor="kim")


def a_cancel_under_way() -> Payment:
    payment = a_payment(S.WAITING_FOR_DEPOSIT)
    begin_cancel(payment)
    return payment


CANCEL_COLUMNS: Final = {"cancel_key", "cancel_reason", "cancel_actor", "cancel_request_id"}


class TestGivingUp:
    def test_is_promised_without_a_move(self) -> None:
        payment = a_cancel_under_way()

        assert (payment.status, payment.cancel_key, payment.cancel_reason) == (
            S.WAITING_FOR_DEPOSIT,
            "cancel-1",
            "sold out",
        )
        assert (payment.next_check_at, payment.check_count) == (LATER, 0)
        assert history(payment)[-1].to_status is S.WAITING_FOR_DEPOSIT

    @pytest.mark.parametrize("status", sorted(set(S) - {S.WAITING_FOR_DEPOSIT}))
    def test_is_promised_for_an_account_that_waits_only(self, status: PaymentStatus) -> None:
        payment = a_payment(status)
        stored = columns(payment)

        with pytest.raises(TransitionNotAllowed):
            begin_cancel(payment)

        assert columns(payment) == stored

    def test_that_the_pg_refused_leaves_no_trace_and_the_deposit_is_looked_for(self) -> None:
        payment = a_cancel_under_way()

        payment.drop_cancel(at=LATER)

        assert {name: getattr(payment, name) for name in CANCEL_COLUMNS} == dict.fromkeys(CANCEL_COLUMNS)
        assert payment.next_check_at == LATER + FIRST_DEPOSIT_CHECK

    def test_under_another_key_is_the_same_promise(self) -> None:
        payment = a_cancel_under_way()
        before = columns(payment)

        payment.renew_cancel("cancel-2", at=LATER)

        changed = {name for name, value in columns(payment).items() if value != before[name]}
        assert changed == {"cancel_key", "cancel_key_since", "next_check_at", "check_count"}
        assert (payment.cancel_asked_at, payment.cancel_key_since) == (AT, LATER)

    def test_done_keeps_which_request_it_was(self) -> None:
        payment = a_cancel_under_way()
        request_id = payment.cancel_request_id

        payment.cancel("sold out", at=LATER, cause=Cause.RECOVERY, actor=payment.cancel_actor)

        assert (payment.status, payment.cancel_key, payment.next_check_at) == (S.CANCELLED, None, None)
        assert payment.cancel_request_id == request_id is not None
        assert history(payment)[-1].actor == "kim"

    @pytest.mark.parametrize("end", ["deposit", "overdue"])
    def test_is_no_promise_any_more_once_the_account_has_another_end(self, end: str) -> None:
        payment = a_cancel_under_way()

        if end == "deposit":
            payment.approve(PAYMENT_KEY, approved_at=AT, at=LATER, cause=Cause.RECOVERY)
        else:
            payment.fail("DEPOSIT_OVERDUE", "입금 기한이 지났습니다.", at=LATER, cause=Cause.RECOVERY)

        assert (payment.cancel_key, payment.next_check_at) == (None, None)

    def test_of_a_failed_attempt_is_forgotten_by_the_next_one(self) -> None:
        payment = a_cancel_under_way()
        payment.fail("DEPOSIT_OVERDUE", "입금 기한이 지났습니다.", at=LATER, cause=Cause.RECOVERY)

        payment.retry(at=LATER)

        assert (payment.cancel_key, payment.cancel_reason, payment.cancel_actor) == (None, None, None)


def a_deposited_payment() -> Payment:
    payment = a_payment(S.WAITING_FOR_DEPOSIT)
    payment.approve(PAYMENT_KEY, approved_at=AT, at=AT, cause=Cause.RECOVERY)
    payment.complete(at=AT, cause=Cause.RECOVERY)
    return payment


EVERY: Final = timedelta(minutes=5)


class TestWatch:
    def test_an_account_that_waits_is_looked_at_again_at_the_operators_pace(self) -> None:
        payment = a_payment(S.WAITING_FOR_DEPOSIT)

        payment.watch(every=EVERY, at=LATER)

        assert payment.next_check_at == LATER + EVERY

    @pytest.mark.parametrize(
        ("after", "is_watched"),
        [(timedelta(0), True), (REVERSAL_WATCH - timedelta(seconds=1), True), (REVERSAL_WATCH, False)],
    )
    def test_a_deposit_is_watched_while_a_bank_may_take_it_back(self, after: timedelta, *, is_watched: bool) -> None:
        payment = a_deposited_payment()

        payment.watch(every=EVERY, at=AT + after)

        assert payment.next_check_at == (AT + after + EVERY if is_watched else None)

    @pytest.mark.parametrize("status", sorted(set(S) - {S.WAITING_FOR_DEPOSIT, S.PENDING}))
    def test_nothing_else_is_looked_at_again(self, status: PaymentStatus) -> None:
        payment = a_payment(status)

        payment.watch(every=EVERY, at=LATER)

        assert payment.next_check_at is None

    @pytest.mark.parametrize(
        ("after", "wait"),
        [(timedelta(0), EVERY), (timedelta(minutes=50), EVERY), (timedelta(days=2), timedelta(hours=4.8))],
    )
    def test_a_pay_out_is_looked_at_the_less_often_the_longer_it_takes(self, after: timedelta, wait: timedelta) -> None:
        payment = a_deposited_payment()
        payment.refund(12_000, at=AT, cause=Cause.API)

        payment.watch(every=EVERY, at=AT + after)

        assert payment.next_check_at == AT + after + wait

    @pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "PARTIAL_FAILED"])
    def test_a_pay_out_that_has_ended_is_not_looked_at_again(self, end: str) -> None:
        payment = a_deposited_payment()
        payment.refund(12_000, at=AT, cause=Cause.API)
        payment.follow_pay_out(end, at=LATER)

        payment.watch(every=EVERY, at=LATER)

        assert payment.next_check_at is None

    def test_what_could_not_even_be_asked_is_asked_soon_and_does_not_count(self) -> None:
        payment = a_payment(S.PENDING)

        payment.check_soon(at=AT)
        soon = payment.next_check_at
        payment.check_soon(at=AT, not_before=timedelta(seconds=30))

        assert soon is not None
        assert AT + CHECK_DELAYS[0] <= soon <= AT + CHECK_DELAYS[0] * 1.2
        assert payment.next_check_at == AT + timedelta(seconds=30)
        assert payment.check_count == 0


class TestPayOut:
    def test_of_a_card_is_nobodys_business(self) -> None:
        payment = a_payment(S.COMPLETED)

        payment.refund(12_000, at=LATER, cause=Cause.API)

        assert (payment.is_being_paid_out, payment.next_check_at) == (False, None)

    @pytest.mark.parametrize(
        ("said", "is_under_way", "has_failed"),
        [
            ("NONE", True, False),
            ("PENDING", True, False),
            ("COMPLETED", False, False),
            ("FAILED", False, True),
            ("PARTIAL_FAILED", False, True),
        ],
    )
    def test_is_under_way_until_the_pg_says_how_it_ended_and_its_failure_is_news_once(
        self,
        said: str,
        *,
        is_under_way: bool,
        has_failed: bool,
    ) -> None:
        payment = a_deposited_payment()
        payment.refund(5_000, at=LATER, cause=Cause.API)

        news = [payment.follow_pay_out(said, at=LATER) for _ in range(2)]

        assert (payment.is_being_paid_out, news) == (is_under_way, [has_failed, False])
        assert payment.pay_out_failed_at == (LATER if has_failed else None)

    def test_of_the_next_part_begins_anew(self) -> None:
        payment = a_deposited_payment()
        payment.refund(5_000, at=AT, cause=Cause.API)
        payment.follow_pay_out("COMPLETED", at=AT)

        payment.refund(5_000, at=LATER, cause=Cause.API)

        assert (payment.is_being_paid_out, payment.account_refund_asked_at) == (True, LATER)
        assert payment.next_check_at == LATER + FIRST_DEPOSIT_CHECK


class TestOverdue:
    @pytest.mark.parametrize(
        ("late", "is_overdue"), [(timedelta(0), False), (DEPOSIT_GRACE, False), (DEPOSIT_GRACE * 1.01, True)]
    )
    def test_is_an_account_only_when_nothing_can_be_on_its_way(self, late: timedelta, *, is_overdue: bool) -> None:
        payment = a_payment(S.WAITING_FOR_DEPOSIT)
        assert ACCOUNT.due_at is not None

        assert payment.is_deposit_overdue(at=ACCOUNT.due_at + late) == is_overdue
