"""Why a payment stands where it stands, and what happens next, in words for a person and a code for a program."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from payments.models import Payment
from payments.states import PaymentStatus


class NextAction(StrEnum):
    """Who has to do something."""

    OPEN_PAYMENT_WINDOW = "open_payment_window"  # the buyer
    WAIT = "wait"  # nobody: the PG will be asked at nextCheckAt
    DEPOSIT = "deposit"  # the buyer, at a bank
    PREPARE_AGAIN = "prepare_again"  # the buyer, with another card
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


def explain(payment: Payment) -> Explanation:
    return EXPLANATIONS[payment.status]
