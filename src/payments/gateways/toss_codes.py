"""What every error code of Toss Payments means for the money; a code that is not listed here means nothing is known."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from payments.gateways.pg import RefusedBecause, UnknownBecause


class CodeClass(StrEnum):
    REFUSED = "refused"  # of a confirm: this payment key will never take money
    AMBIGUOUS = "ambiguous"  # money may have moved: look the payment up
    ASK_AGAIN = "ask_again"  # too many requests, or an earlier one still runs
    OURS = "ours"  # our key, contract or request is wrong


# Codes and statuses: https://docs.tosspayments.com/reference/error-codes, the table of the confirm call. The classes
# are our judgement: a wrong REFUSED sells the same order twice, a wrong AMBIGUOUS costs one look-up. So whatever
# leaves a doubt is not REFUSED.
_REFUSED = (
    "BELOW_MINIMUM_AMOUNT",
    "EXCEED_MAX_AMOUNT",
    "EXCEED_MAX_AUTH_COUNT",
    "EXCEED_MAX_CARD_INSTALLMENT_PLAN",
    "EXCEED_MAX_DAILY_PAYMENT_COUNT",
    "EXCEED_MAX_MONTHLY_PAYMENT_AMOUNT",
    "EXCEED_MAX_ONE_DAY_AMOUNT",
    "EXCEED_MAX_ONE_DAY_WITHDRAW_AMOUNT",
    "EXCEED_MAX_ONE_TIME_WITHDRAW_AMOUNT",
    "EXCEED_MAX_PAYMENT_AMOUNT",
    "FDS_ERROR",
    "INVALID_ACCOUNT_INFO_RE_REGISTER",
    "INVALID_CARD_EXPIRATION",
    "INVALID_CARD_INSTALLMENT_PLAN",
    "INVALID_CARD_LOST_OR_STOLEN",
    "INVALID_CARD_NUMBER",
    "INVALID_PASSWORD",
    "INVALID_REJECT_CARD",
    "INVALID_STOPPED_CARD",
    "NOT_ALLOWED_POINT_USE",
    "NOT_AVAILABLE_BANK",
    "NOT_AVAILABLE_PAYMENT",
    "NOT_FOUND_PAYMENT",
    "NOT_FOUND_PAYMENT_SESSION",
    "NOT_SUPPORTED_INSTALLMENT_PLAN_CARD_OR_MERCHANT",
    "NOT_SUPPORTED_MONTHLY_INSTALLMENT_PLAN",
    "REJECT_ACCOUNT_PAYMENT",
    "REJECT_CARD_COMPANY",
    "REJECT_CARD_PAYMENT",
    "REJECT_TOSSPAY_INVALID_ACCOUNT",
    "RESTRICTED_TRANSFER_ACCOUNT",
    # Only in the general list, but a plain limit like its siblings above, checked before any money moves.
    "EXCEEDS_TRANSFER_AMOUNT_MAXIMUM",
)
_AMBIGUOUS = (
    "ALREADY_PROCESSED_PAYMENT",  # very likely by our own earlier request, whose answer was lost
    "CARD_PROCESSING_ERROR",
    "FAILED_INTERNAL_SYSTEM_PROCESSING",
    "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING",  # also the answer to a second confirm while the first still runs
    "PROVIDER_ERROR",
    "UNKNOWN_PAYMENT_ERROR",
    # From here on: in the general list, not in the table of confirm.
    "ALREADY_COMPLETED_PAYMENT",  # as ALREADY_PROCESSED_PAYMENT
    "COMMON_ERROR",
    "DUPLICATED_ORDER_ID",  # the order was approved or cancelled before: perhaps our own capture
    "DUPLICATED_REQUEST",  # the other request may have captured
    "FAILED_DB_PROCESSING",
    "FAILED_METHOD_HANDLING",
    "MAINTAINED_METHOD",  # nothing says at which step the maintenance was noticed
    "PAY_PROCESS_ABORTED",  # words of the payment window; a look-up shows ABORTED if it is true
    "PAY_PROCESS_CANCELED",  # the same
    "UNKNOWN_ERROR",
)
_ASK_AGAIN = (
    "FORBIDDEN_CONSECUTIVE_REQUEST",  # documented for look-ups and cancels: asked too quickly
    "IDEMPOTENT_REQUEST_PROCESSING",
)
_OURS = (
    "FORBIDDEN_REQUEST",
    "INCORRECT_BASIC_AUTH_FORMAT",
    "INVALID_API_KEY",
    "INVALID_AUTHORIZE_AUTH",
    "INVALID_REQUEST",
    "INVALID_UNREGISTERED_SUBMALL",
    "NOT_FOUND_TERMINAL_ID",
    "NOT_REGISTERED_BUSINESS",
    "UNAPPROVED_ORDER_ID",
    "UNAUTHORIZED_KEY",
    # From here on: in the general list, not in the table of confirm. All say that the request was not understood or
    # not allowed, which is for an operator to mend; the payment itself is untouched and stays open.
    "API_VERSION_UPDATE_NEEDED",
    "INSECURE_KEY_USAGE",
    "INVALID_CURRENCY",
    "INVALID_IDEMPOTENCY_KEY",
    "INVALID_ORDER_ID",
    "INVALID_PAYMENT_KEY",
    "INVALID_REQUIRED_PARAM",
    "INVALID_TEST_CODE",
    "NOT_FOUND_HTTP_METHOD",
    "NOT_SUPPORTED_METHOD",
    "REQUIRED_AMOUNT",
)

CODES: Final = MappingProxyType(
    dict.fromkeys(_REFUSED, CodeClass.REFUSED)
    | dict.fromkeys(_AMBIGUOUS, CodeClass.AMBIGUOUS)
    | dict.fromkeys(_ASK_AGAIN, CodeClass.ASK_AGAIN)
    | dict.fromkeys(_OURS, CodeClass.OURS)
)

# The table of the cancel call, and of the general list what could come from it. A wrong refusal closes a refund whose
# money went back all the same; a wrong AMBIGUOUS keeps one open until a look-up shows what is left. So a refusal is a
# code that says something about this refund, and never one about the way there.
BADLY_ASKED: Final = frozenset(
    # Very likely our own fault. Refused all the same: received, not carried out, and remembered under our key.
    {"BELOW_ZERO_AMOUNT", "INVALID_CURRENCY", "INVALID_REQUEST", "INVALID_REQUIRED_PARAM", "REQUIRED_AMOUNT"}
)
_REFUND_REFUSED: Final = {
    # Perhaps because our own earlier request, whose answer was lost, took it: a look-up tells.
    RefusedBecause.BALANCE_DIFFERS: (
        "ALREADY_CANCELED_PAYMENT",
        "ALREADY_REFUND_PAYMENT",
        "NOT_CANCELABLE_AMOUNT",
        "NOT_MATCHES_REFUNDABLE_AMOUNT",
        "INVALID_REFUND_AMOUNT",  # only in the general list; says no more than NOT_CANCELABLE_AMOUNT
    ),
    RefusedBecause.NOT_PARTIALLY: (
        "EXCEED_CANCEL_AMOUNT_DISCOUNT_AMOUNT",  # a part above the discount would do, and the whole always does
        "NOT_ALLOWED_PARTIAL_REFUND",
        "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT",  # of what we hold to be paid: the bank took the deposit back
    ),
    RefusedBecause.TOO_LATE: ("EXCEED_MAX_REFUND_DUE",),
    RefusedBecause.ACCOUNT: (
        "FORBIDDEN_BANK_REFUND_REQUEST",  # "the customer's account cannot be paid into"
        "INVALID_BANK",
        "INVALID_REFUND_ACCOUNT_INFO",
        "INVALID_REFUND_ACCOUNT_NUMBER",
        # Only in the general list, without a word on which call has them; here there is only one account they can mean.
        "INVALID_ACCOUNT_NOT_CORRECT_BANK",
        "INVALID_ACCOUNT_NUMBER",
        "INVALID_ACCOUNT_NUMBER_OR_UNAVAILABLE",
        "NOT_ALLOWED_REFUND_BANK",
    ),
    RefusedBecause.NOT_NOW: (
        "FORBIDDEN_CONSECUTIVE_REQUEST",  # of two cancels within a second only the first is carried out
        "NOT_AVAILABLE_BANK",
    ),
    RefusedBecause.OTHER: (
        "EXCEED_CANCEL_LIMIT",  # the shop's own limit: it does not end in a moment, so this is not NOT_NOW
        "EXCEED_MAX_REFUND_AMOUNT",  # the same by day or month; only in the general list
        "NOT_CANCELABLE_PAYMENT",  # undocumented why; some shops saw it for a payment that was already cancelled
        "NOT_CANCELABLE_PAYMENT_FOR_DORMANT_USER",
        "NOT_SUPPORTED_REFUND",  # "not a shop that can refund"; only in the general list
        "REFUND_REJECTED",
        *sorted(BADLY_ASKED),
    ),
}
_CANCEL_AMBIGUOUS = (
    "COMMON_ERROR",
    "FAILED_INTERNAL_SYSTEM_PROCESSING",
    "FAILED_METHOD_HANDLING_CANCEL",
    "FAILED_PARTIAL_REFUND",
    "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING",
    "FAILED_REFUND_PROCESS",  # "the bank was slow, or failed for a moment": a slow bank may still pay
    "PROVIDER_ERROR",  # though a 400: the bank or card company failed, at whatever step
    # From here on: in the general list, not in the table of cancel.
    "ALREADY_REFUNDING_PAYMENT",  # very likely by our own earlier request
    "DUPLICATED_REQUEST",  # the other request may have refunded
    "FAILED_DB_PROCESSING",
    "FAILED_METHOD_HANDLING",
    "MAINTAINED_METHOD",  # nothing says at which step the maintenance was noticed
    "UNKNOWN_ERROR",
)
_CANCEL_ASK_AGAIN = ("IDEMPOTENT_REQUEST_PROCESSING",)
_CANCEL_OURS = (
    "FORBIDDEN_REQUEST",  # Toss uses it for keys that do not belong together, so it says nothing about the refund
    "INCORRECT_BASIC_AUTH_FORMAT",
    "NOT_FOUND_PAYMENT",  # we hold this payment, so we ask with the key of another shop
    "UNAUTHORIZED_KEY",
    # From here on: in the general list, not in the table of cancel.
    "API_VERSION_UPDATE_NEEDED",
    "INSECURE_KEY_USAGE",
    "INVALID_API_KEY",
    "INVALID_IDEMPOTENCY_KEY",  # ours is never that long, so something between us and Toss changed it
    "INVALID_PAYMENT_KEY",  # as NOT_FOUND_PAYMENT
    "INVALID_TEST_CODE",
    "NOT_FOUND",  # as NOT_FOUND_PAYMENT
    "NOT_FOUND_HTTP_METHOD",
)

CANCEL_CODES: Final[Mapping[str, CodeClass | RefusedBecause]] = MappingProxyType(
    {code: because for because, codes in _REFUND_REFUSED.items() for code in codes}
    | dict.fromkeys(_CANCEL_AMBIGUOUS, CodeClass.AMBIGUOUS)
    | dict.fromkeys(_CANCEL_ASK_AGAIN, CodeClass.ASK_AGAIN)
    | dict.fromkeys(_CANCEL_OURS, CodeClass.OURS)
)
# Whoever gets one of these will get it for every payment.
KEY_FAULTS: Final = frozenset(
    {"INCORRECT_BASIC_AUTH_FORMAT", "INSECURE_KEY_USAGE", "INVALID_API_KEY", "UNAUTHORIZED_KEY"}
)

_UNAUTHORIZED = 401
_NOT_FOUND = 404
_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = 500
# Toss documents its refusals with these alone. The same code with another status was not written by the confirm call.
_REFUSING_STATUSES = frozenset({400, 403, 404})
_CANCEL_REFUSING_STATUSES = frozenset({400, 403})


def classify(http_status: int, code: str | None) -> CodeClass | None:
    """Sort an error answer to a confirm.

    Args:
        http_status: 400 or more.
        code: None where the body had none; the status alone then decides.

    Returns:
        None if neither the code nor the status is known.
    """
    told_by_status = _told_by_status(http_status)
    if told_by_status is not None:
        return told_by_status
    known = CODES.get(code or "")
    if known is CodeClass.REFUSED and http_status not in _REFUSING_STATUSES:
        return None
    return known


def classify_cancel(http_status: int, code: str | None) -> CodeClass | RefusedBecause | None:
    """Sort an error answer to a cancel, arguments as for `classify`.

    Toss remembers an answer of 4xx under its idempotency key for 15 days, so whatever was refused stays refused under
    that key.

    Returns:
        Why the refund was refused, never `CodeClass.REFUSED`; None if neither the code nor the status is known.
    """
    told_by_status = _told_by_status(http_status)
    if told_by_status is not None:
        return told_by_status
    known = CANCEL_CODES.get(code or "")
    if isinstance(known, RefusedBecause) and http_status not in _CANCEL_REFUSING_STATUSES:
        return None
    return known


def _told_by_status(http_status: int) -> CodeClass | None:
    if http_status == _TOO_MANY_REQUESTS:
        return CodeClass.ASK_AGAIN
    if http_status >= _SERVER_ERRORS:
        return CodeClass.AMBIGUOUS
    if http_status == _UNAUTHORIZED:
        return CodeClass.OURS
    return None


def why_look_up_failed(http_status: int, code: str | None) -> UnknownBecause:
    """Sort an error answer to a look-up. It only says that we were not told; it never says that a payment failed."""
    if http_status == _NOT_FOUND and code in {"NOT_FOUND", "NOT_FOUND_PAYMENT"}:
        return UnknownBecause.NOT_FOUND
    match classify(http_status, code):
        case CodeClass.ASK_AGAIN:
            return UnknownBecause.ASK_AGAIN
        case CodeClass.AMBIGUOUS:
            return UnknownBecause.PG_ERROR
        case CodeClass.OURS:
            return UnknownBecause.MISCONFIGURED
        case CodeClass.REFUSED | None:
            return UnknownBecause.UNLISTED if code else UnknownBecause.MALFORMED
