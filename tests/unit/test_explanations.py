"""Every state that a payment can be in has its own words, and one who has to do something."""

from datetime import timedelta
from typing import Final

import pytest

from payments.explanations import (
    ANOTHER_AMOUNT,
    CANCEL_UNKNOWN,
    EXPLANATIONS,
    NOT_PAID_OUT_EXPLAINED,
    PAYING_OUT_EXPLAINED,
    REFUND_UNKNOWN,
    REVERSED,
    NextAction,
    explain,
    next_check_at,
)
from payments.ids import new_id
from payments.models import Payment, Refund
from payments.states import Cause, PaymentStatus
from tests.builders import AT, LATER, LEASE, PAYMENT_KEY, a_payment

S = PaymentStatus
SPECIAL: Final = (
    REFUND_UNKNOWN,
    CANCEL_UNKNOWN,
    PAYING_OUT_EXPLAINED,
    NOT_PAID_OUT_EXPLAINED,
    REVERSED,
    ANOTHER_AMOUNT,
)


def a_deposited_payment() -> Payment:
    payment = a_payment(S.WAITING_FOR_DEPOSIT)
    payment.approve(PAYMENT_KEY, approved_at=AT, at=AT, cause=Cause.RECOVERY)
    payment.complete(at=AT, cause=Cause.RECOVERY)
    return payment


def refunded_to_an_account(amount: int = 12_000, *said: str) -> Payment:
    """The bank has said so much of the refund."""
    payment = a_deposited_payment()
    payment.refund(amount, at=AT, cause=Cause.API)
    for word in said:
        payment.follow_pay_out(word, at=LATER)
    return payment


def a_refund(payment: Payment) -> Refund:
    """A refund of which the PG has said nothing yet."""
    return Refund.request(payment, 1_000, reason="품절", refund_key="k", at=AT, lease=LEASE, cause=Cause.API)


def begin_cancel(payment: Payment) -> Payment:
    payment.begin_cancel("품절", cancel_key="cancel-1", request_id=new_id(), at=AT, lease=LEASE)
    return payment


class TestExplanations:
    @pytest.mark.parametrize("status", S)
    def test_tell_of_every_status(self, status: PaymentStatus) -> None:
        assert explain(a_payment(status)) == EXPLANATIONS[status]

    def test_are_all_different_sentences(self) -> None:
        reasons = [one.reason for one in (*EXPLANATIONS.values(), *SPECIAL)]

        assert len(set(reasons)) == len(reasons)
        assert all(reason.endswith(".") and reason[0].isupper() for reason in reasons)

    def test_name_every_next_action_somewhere(self) -> None:
        assert {one.next_action for one in (*EXPLANATIONS.values(), *SPECIAL)} == set(NextAction)

    @pytest.mark.parametrize("status", [S.COMPLETED, S.PARTIALLY_REFUNDED])
    def test_put_a_refund_of_unknown_outcome_first(self, status: PaymentStatus) -> None:
        payment = a_payment(status)

        assert explain(payment, [a_refund(payment)]) == REFUND_UNKNOWN

    @pytest.mark.parametrize("end", ["succeed", "fail"])
    def test_say_nothing_more_of_a_refund_that_is_decided(self, end: str) -> None:
        payment = a_payment(S.COMPLETED)
        refund = a_refund(payment)
        if end == "succeed":
            refund.succeed(payment, "t-1", at=LATER, cause=Cause.API)
        else:
            refund.fail("REFUND_REJECTED", "거절", because="other", at=LATER)

        assert explain(payment, [refund]) == EXPLANATIONS[payment.status]

    def test_tell_of_an_account_that_is_being_given_up(self) -> None:
        assert explain(begin_cancel(a_payment(S.WAITING_FOR_DEPOSIT))) == CANCEL_UNKNOWN

    def test_tell_of_a_deposit_that_was_taken_back_until_another_comes(self) -> None:
        payment = a_deposited_payment()
        payment.reverse_deposit(at=LATER, cause=Cause.RECOVERY)
        reversed_once = explain(payment)
        given_up = explain(begin_cancel(payment))
        payment.approve(PAYMENT_KEY, approved_at=LATER, at=LATER, cause=Cause.RECOVERY)
        payment.complete(at=LATER, cause=Cause.RECOVERY)

        assert (reversed_once, given_up) == (REVERSED, CANCEL_UNKNOWN)
        assert explain(payment) == EXPLANATIONS[S.COMPLETED]

    def test_tell_of_a_deposit_of_another_amount(self) -> None:
        payment = a_payment(S.WAITING_FOR_DEPOSIT)
        payment.deposited_amount = 11_999

        assert explain(payment) == ANOTHER_AMOUNT

    @pytest.mark.parametrize("amount", [5_000, 12_000])
    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ((), PAYING_OUT_EXPLAINED),
            (("NONE",), PAYING_OUT_EXPLAINED),
            (("NONE", "PENDING"), PAYING_OUT_EXPLAINED),
            (("PENDING", "FAILED"), NOT_PAID_OUT_EXPLAINED),
            (("PENDING", "PARTIAL_FAILED"), NOT_PAID_OUT_EXPLAINED),
            (("PENDING", "COMPLETED"), None),
            # It may be another refund that was paid out since; nobody but a person can tell.
            (("PENDING", "FAILED", "COMPLETED"), NOT_PAID_OUT_EXPLAINED),
        ],
    )
    def test_follow_a_refund_to_an_account(self, amount: int, said: tuple[str, ...], expected: object) -> None:
        payment = refunded_to_an_account(amount, *said)

        assert explain(payment) == (expected or EXPLANATIONS[payment.status])

    def test_say_nothing_of_a_pay_out_where_the_money_went_back_to_a_card(self) -> None:
        assert explain(a_payment(S.REFUNDED)).next_action is NextAction.NONE


class TestNextCheck:
    def test_is_the_first_of_the_payments_and_its_refunds(self) -> None:
        payment = a_deposited_payment()
        refund = a_refund(payment)
        payment.next_check_at = LATER + timedelta(seconds=1)

        assert next_check_at(payment, [refund]) == LATER
        assert next_check_at(payment, []) == LATER + timedelta(seconds=1)

    def test_is_none_where_nothing_is_expected_to_change(self) -> None:
        payment = a_payment(S.COMPLETED)
        refund = a_refund(payment)
        refund.fail("REFUND_REJECTED", "거절", because="other", at=LATER)

        assert next_check_at(payment, [refund]) is None

    @pytest.mark.parametrize("status", [S.PENDING, S.WAITING_FOR_DEPOSIT])
    def test_is_there_where_one_has_to_wait(self, status: PaymentStatus) -> None:
        assert next_check_at(a_payment(status)) is not None

    def test_is_there_where_a_buyer_waits_for_the_bank(self) -> None:
        assert next_check_at(refunded_to_an_account()) is not None
