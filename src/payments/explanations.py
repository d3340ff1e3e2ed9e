"""Why a payment stands where it stands, and what happens next, in words for a person and a code for a program."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from payments.models import Payment, Refund
from payments.states import PaymentStatus, RefundStatus


class NextAction(StrEnum):
    """Who has to do something."""

    OPEN_PAYMENT_WINDOW = "open_payment_window"  # the buyer
    WAIT = "wait"  # nobody: the PG will be asked at nextCheckAt
    DEPOSIT = "deposit"  # the buyer, at a bank
    PREPARE_AGAIN = "prepare_again"  # the buyer, with another card
    CALL_SUPPORT = "call_support"  # the shop, and the PG's support: a person has to look at the money
    ASK_FOR_ACCOUNT = "ask_for_account"  # the shop: the bank could not pay the buyer's refund out
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Explanation:
    reason: str
    next_action: NextAction


EXPLANATIONS: Final[dict[PaymentStatus, Explanation]] = {
    PaymentStatus.CREATED: Explanation(
        "Prepared, and not confirmed yet: the buyer has not come back from the payment window.",
        NextAction.OPEN_PAYMENT_WINDOW,
    ),
    PaymentStatus.PENDING: Explanation(
        "The payment gateway was asked for the money and the outcome is not known yet.", NextAction.WAIT
    ),
    PaymentStatus.WAITING_FOR_DEPOSIT: Explanation(
        "A virtual account was issued; the deposit has not arrived.", NextAction.DEPOSIT
    ),
    PaymentStatus.APPROVED: Explanation(
        "The payment gateway approved; the capture is being recorded.", NextAction.WAIT
    ),
    PaymentStatus.COMPLETED: Explanation("The money was captured.", NextAction.NONE),
    PaymentStatus.FAILED: Explanation(
        "This attempt failed and no money was taken; the order can be paid in a new attempt.",
        NextAction.PREPARE_AGAIN,
    ),
    PaymentStatus.CANCELLED: Explanation("Cancelled before any money was kept.", NextAction.NONE),
    PaymentStatus.REFUNDED: Explanation("The whole amount was given back.", NextAction.NONE),
    PaymentStatus.PARTIALLY_REFUNDED: Explanation("A part of the amount was given back.", NextAction.NONE),
}


REFUND_UNKNOWN: Final = Explanation(
    "A refund was asked for, and the payment gateway has not said yet whether it gave the money back.", NextAction.WAIT
)
CANCEL_UNKNOWN: Final = Explanation(
    "The virtual account is being given up, and the payment gateway has not said yet whether it is.", NextAction.WAIT
)
PAYING_OUT_EXPLAINED: Final = Explanation(
    "The money is on its way to the buyer's account; a bank takes about two business days.", NextAction.WAIT
)
NOT_PAID_OUT_EXPLAINED: Final = Explanation(
    "The bank could not pay a refund into the buyer's account: the payment gateway still holds that money. "
    "Ask the buyer for another account, and give it to the gateway's support.",
    NextAction.ASK_FOR_ACCOUNT,
)
ANOTHER_AMOUNT: Final = Explanation(
    "Another amount than the one owed was deposited, so the payment was not completed. A person must look at it.",
    NextAction.CALL_SUPPORT,
)
REVERSED: Final = Explanation(
    "The bank took the deposit back, so that the virtual account waits for it again.", NextAction.DEPOSIT
)


def explain(payment: Payment, refunds: Sequence[Refund] = ()) -> Explanation:
    """Why the payment stands where it does, and whose turn it is. `refunds` are all of the payment's."""
    if any(refund.status is RefundStatus.REQUESTED for refund in refunds):
        return REFUND_UNKNOWN
    if payment.status is PaymentStatus.WAITING_FOR_DEPOSIT:
        return _explain_waiting(payment)
    if payment.pay_out_failed_at is not None:
        return NOT_PAID_OUT_EXPLAINED
    if payment.is_being_paid_out:
        return PAYING_OUT_EXPLAINED
    return EXPLANATIONS[payment.status]


def _explain_waiting(payment: Payment) -> Explanation:
    if payment.deposited_amount is not None:
        return ANOTHER_AMOUNT
    if payment.cancel_key is not None:
        return CANCEL_UNKNOWN
    return REVERSED if payment.reversed_at is not None else EXPLANATIONS[payment.status]


def next_check_at(payment: Payment, refunds: Sequence[Refund] = ()) -> datetime | None:
    """When the PG is asked next about anything of this payment; None if nothing is expected to change."""
    waiting = [refund.next_check_at for refund in refunds if refund.status is RefundStatus.REQUESTED]
    return min((at for at in (*waiting, payment.next_check_at) if at is not None), default=None)
