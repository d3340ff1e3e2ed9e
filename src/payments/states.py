"""The states of a payment and of a refund, and every move that is allowed between them: pure data."""

from enum import StrEnum
from typing import Final


class PaymentStatus(StrEnum):
    """Where a payment stands. The words are explained in the README's glossary."""

    CREATED = "CREATED"
    PENDING = "PENDING"
    WAITING_FOR_DEPOSIT = "WAITING_FOR_DEPOSIT"
    APPROVED = "APPROVED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    REFUNDED = "REFUNDED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"


class RefundStatus(StrEnum):
    """Where a refund stands. An unknown outcome stays REQUESTED."""

    REQUESTED = "REQUESTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class PaymentMethod(StrEnum):
    """How the buyer pays, in our API's words; Toss's own are Korean."""

    CARD = "CARD"
    VIRTUAL_ACCOUNT = "VIRTUAL_ACCOUNT"
    TRANSFER = "TRANSFER"
    MOBILE_PHONE = "MOBILE_PHONE"
    EASY_PAY = "EASY_PAY"
    GIFT_CERTIFICATE = "GIFT_CERTIFICATE"


class Cause(StrEnum):
    """Who or what moved a payment."""

    API = "api"
    WEBHOOK = "webhook"
    RECOVERY = "recovery"
    NIGHTLY = "nightly"
    OPERATOR = "operator"
    EXPIRY = "expiry"


S = PaymentStatus

# The only moves there are: from → to → the method of `Payment` that makes the move.
# The database repeats this table as a CHECK on the history, and the README draws it.
TRANSITIONS: Final[dict[PaymentStatus, dict[PaymentStatus, str]]] = {
    S.CREATED: {S.PENDING: "begin_confirm", S.CANCELLED: "cancel", S.FAILED: "fail"},
    S.PENDING: {
        S.APPROVED: "approve",
        S.WAITING_FOR_DEPOSIT: "await_deposit",
        S.FAILED: "fail",
        S.CANCELLED: "cancel",
    },
    S.WAITING_FOR_DEPOSIT: {S.APPROVED: "approve", S.CANCELLED: "cancel", S.FAILED: "fail"},
    S.APPROVED: {S.COMPLETED: "complete"},
    S.COMPLETED: {
        S.WAITING_FOR_DEPOSIT: "reverse_deposit",
        S.PARTIALLY_REFUNDED: "refund",
        S.REFUNDED: "refund",
    },
    S.PARTIALLY_REFUNDED: {S.PARTIALLY_REFUNDED: "refund", S.REFUNDED: "refund"},
    S.FAILED: {S.CREATED: "retry", S.APPROVED: "approve"},
    S.CANCELLED: {},
    S.REFUNDED: {},
}

REFUND_TRANSITIONS: Final[dict[RefundStatus, frozenset[RefundStatus]]] = {
    RefundStatus.REQUESTED: frozenset({RefundStatus.SUCCEEDED, RefundStatus.FAILED}),
    RefundStatus.SUCCEEDED: frozenset(),
    RefundStatus.FAILED: frozenset(),
}

# The PG has taken the money, and at least some of it is still with the shop.
CAPTURED: Final = frozenset({S.COMPLETED, S.PARTIALLY_REFUNDED})

# The PG has taken the money, wherever it is now.
EVER_CAPTURED: Final = CAPTURED | {S.REFUNDED}


def allowed_edges() -> list[tuple[PaymentStatus | None, PaymentStatus]]:
    """Every edge that a row of the history may show, prepare (from nothing) first."""
    return [(None, S.CREATED), *((start, end) for start, ends in TRANSITIONS.items() for end in ends)]


def mermaid() -> str:
    """The state machine as a Mermaid diagram: what the README shows."""
    lines = ["stateDiagram-v2", "    [*] --> CREATED: prepare"]
    lines += [f"    {start} --> {end}: {method}" for start, ends in TRANSITIONS.items() for end, method in ends.items()]
    return "\n".join(lines)
