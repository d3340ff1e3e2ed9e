"""What a bank does with a virtual account: it takes the deposit, takes it back, and pays refunds out."""

from dataclasses import replace
from datetime import datetime, timedelta

from toss_sandbox.errors import TossError
from toss_sandbox.payments import VIRTUAL_ACCOUNT, Payment, RefundStatus, Status


def check_deposit(payment: Payment, amount: int, *, at: datetime) -> None:
    """Let pass what a bank takes: the amount that is owed, until the due date.

    Raises:
        TossError: SANDBOX_DEPOSIT_TOO_LATE or SANDBOX_DEPOSIT_AMOUNT_DIFFERS.
    """
    if payment.is_past_due(at):
        raise TossError("SANDBOX_DEPOSIT_TOO_LATE")
    if amount != payment.amount:
        raise TossError("SANDBOX_DEPOSIT_AMOUNT_DIFFERS")


def check_waiting(payment: Payment) -> None:
    """Let pass a payment for which a deposit is awaited.

    Raises:
        TossError: SANDBOX_NOT_WAITING_FOR_DEPOSIT.
    """
    if payment.status is not Status.WAITING_FOR_DEPOSIT:
        raise TossError("SANDBOX_NOT_WAITING_FOR_DEPOSIT")


def reverse(payment: Payment) -> Payment:
    """Take the deposit back.

    Raises:
        TossError: SANDBOX_NO_DEPOSIT_TO_REVERSE.
    """
    if payment.method != VIRTUAL_ACCOUNT or payment.status is not Status.DONE:
        raise TossError("SANDBOX_NO_DEPOSIT_TO_REVERSE")
    return payment.reverse_deposit()


def pass_due_date(payment: Payment, *, at: datetime) -> Payment:
    """Let the due date lie in the past, where it does not already.

    Raises:
        TossError: SANDBOX_NOT_WAITING_FOR_DEPOSIT.
    """
    check_waiting(payment)
    return payment if payment.is_past_due(at) else replace(payment, due_at=at - timedelta(seconds=1))


def finish_refund(payment: Payment, end: RefundStatus) -> Payment:
    """End the refund that is on its way to the buyer's account.

    Raises:
        TossError: SANDBOX_NO_ACCOUNT_REFUND.
    """
    if payment.refund_status is not RefundStatus.PENDING:
        raise TossError("SANDBOX_NO_ACCOUNT_REFUND")
    return replace(payment, refund_status=end)
