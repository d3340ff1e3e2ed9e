"""What Toss lets be cancelled: the rules of its cancel API, checked in the order in which they stand here."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from toss_sandbox.clock import KST
from toss_sandbox.errors import TossError
from toss_sandbox.payments import VIRTUAL_ACCOUNT, Cancel, Payment, Status, new_transaction_key
from toss_sandbox.settings import Settings

CURRENCY: Final = "KRW"

# Toss's two-digit codes of the banks and post offices that an account can be with.
BANKS: Final = frozenset(
    "02 03 06 07 11 12 20 23 27 30 31 32 34 35 37 39 45 48 50 54 64 71 81 88 89 90 92".split()  # noqa: SIM905 - a table
)
_ACCOUNT_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_HOLDER_NAME_LENGTH: Final = 60


@dataclass(frozen=True, slots=True)
class RefundAccount:
    """The account a buyer wants the money on, as sent: a member that is no text is None. It is never stored."""

    bank: str | None = field(repr=False)
    account_number: str | None = field(repr=False)
    holder_name: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """What a cancel asks for; amounts are won.

    Attributes:
        payment_key: The payment.
        reason: Why, in the merchant's words.
        amount: How much; None for everything left.
        tax_free_amount: How much of it was sold without tax. Everything left takes what is left of it along.
        tax_exemption_amount: The same for what is exempt.
        refundable_amount: What the caller believes is left; None to cancel whatever is.
        account: Where the money of a virtual account goes.
    """

    payment_key: str
    reason: str
    amount: int | None = None
    tax_free_amount: int = 0
    tax_exemption_amount: int = 0
    refundable_amount: int | None = None
    account: RefundAccount | None = None


def check_cancel(payment: Payment, request: CancelRequest, settings: Settings, *, at: datetime) -> None:
    """Let pass what Toss would cancel now, wherever it was asked.

    Raises:
        TossError: It would not.
    """
    if _is_too_soon(payment, settings, at=at):
        raise TossError("FORBIDDEN_CONSECUTIVE_REQUEST")
    if payment.status is Status.CANCELED:
        raise TossError("ALREADY_CANCELED_PAYMENT")
    if payment.status not in {Status.DONE, Status.PARTIAL_CANCELED, Status.WAITING_FOR_DEPOSIT}:
        raise TossError("NOT_CANCELABLE_PAYMENT")
    if request.refundable_amount not in {None, payment.balance}:
        raise TossError("NOT_MATCHES_REFUNDABLE_AMOUNT")
    if _is_too_late(payment, settings, at=at):
        raise TossError("EXCEED_MAX_REFUND_DUE")
    amount = _amount(payment, request)
    if not 0 < amount <= payment.balance:
        raise TossError("NOT_CANCELABLE_AMOUNT")
    if amount < payment.balance:
        _check_partial(payment, request, amount)


def check_account(payment: Payment, account: RefundAccount | None, settings: Settings) -> None:
    """Let pass a cancel that names an account where one is needed, and none where none is.

    Raises:
        TossError: The account is missing, needless or wrong.
    """
    is_needed = payment.method == VIRTUAL_ACCOUNT and payment.status is not Status.WAITING_FOR_DEPOSIT
    if account is None:
        if is_needed:
            raise TossError(settings.missing_account_code)
        return
    if not is_needed:
        raise TossError(settings.needless_account_code)
    if (account.bank or "") not in BANKS:
        raise TossError("INVALID_BANK")
    if not _ACCOUNT_NUMBER.fullmatch(account.account_number or ""):
        raise TossError("INVALID_REFUND_ACCOUNT_NUMBER")
    if not 0 < len((account.holder_name or "").strip()) <= _HOLDER_NAME_LENGTH:
        raise TossError("INVALID_REFUND_ACCOUNT_INFO")


def make_cancel(payment: Payment, request: CancelRequest, *, at: datetime) -> Cancel:
    """The entry that a cancel which passed the checks adds to the payment."""
    amount = _amount(payment, request)
    takes_all = amount == payment.balance
    return Cancel(
        transaction_key=new_transaction_key(),
        reason=request.reason,
        amount=amount,
        tax_free_amount=payment.tax_free_left if takes_all else request.tax_free_amount,
        tax_exemption_amount=payment.tax_exemption_left if takes_all else request.tax_exemption_amount,
        refundable_amount=payment.balance - amount,
        at=at,
    )


def _amount(payment: Payment, request: CancelRequest) -> int:
    return payment.balance if request.amount is None else request.amount


def _check_partial(payment: Payment, request: CancelRequest, amount: int) -> None:
    if payment.status is Status.WAITING_FOR_DEPOSIT:
        raise TossError("NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT")
    is_exempt_card = payment.method == "CARD" and payment.tax_exemption_amount > 0
    if payment.use_escrow or is_exempt_card or not payment.is_partial_cancelable:
        raise TossError("NOT_ALLOWED_PARTIAL_REFUND")
    tax_free, exempt = request.tax_free_amount, request.tax_exemption_amount
    fits = tax_free <= payment.tax_free_left and exempt <= payment.tax_exemption_left
    if not fits or not 0 <= amount - tax_free - exempt <= payment.taxed_left:
        raise TossError("NOT_CANCELABLE_AMOUNT")


def _is_too_soon(payment: Payment, settings: Settings, *, at: datetime) -> bool:
    return bool(payment.cancels) and at - payment.cancels[-1].at < settings.cancel_spacing


def _is_too_late(payment: Payment, settings: Settings, *, at: datetime) -> bool:
    if payment.approved_at is None:
        return False
    if payment.method == "MOBILE_PHONE" and settings.phone_refunds_end_with_month:
        return _month(at) > _month(payment.approved_at)
    windows: dict[str, timedelta] = {
        "TRANSFER": settings.transfer_refund_window,
        VIRTUAL_ACCOUNT: settings.deposit_refund_window,
    }
    return payment.method in windows and at > payment.approved_at + windows[payment.method]


def _month(at: datetime) -> tuple[int, int]:
    korean = at.astimezone(KST)
    return korean.year, korean.month
