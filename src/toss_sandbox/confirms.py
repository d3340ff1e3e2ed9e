"""What a confirm needs, and what Toss refuses once it is asked for the money."""

from dataclasses import dataclass
from typing import Final

from toss_sandbox.payments import VIRTUAL_ACCOUNT, Failure, Payment

_CARD_MINIMUM: Final = 100
_ACCOUNT_MINIMUM: Final = 200
_TRANSFER_MAXIMUM: Final = 10_000_000
_ACCOUNT_METHODS: Final = frozenset({"TRANSFER", VIRTUAL_ACCOUNT})


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    """The body of a confirm; the amount is won."""

    payment_key: str
    order_id: str
    amount: int


def refusal_of(payment: Payment) -> Failure | None:
    """Why a confirm of an authenticated payment takes no money, if it takes none."""
    if payment.refuse_with is not None:
        return Failure.of(payment.refuse_with)
    if payment.amount < (_ACCOUNT_MINIMUM if payment.method in _ACCOUNT_METHODS else _CARD_MINIMUM):
        return Failure.of("BELOW_MINIMUM_AMOUNT")
    if payment.method == "TRANSFER" and payment.amount > _TRANSFER_MAXIMUM:
        return Failure.of("EXCEEDS_TRANSFER_AMOUNT_MAXIMUM")
    return None
