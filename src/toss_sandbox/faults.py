"""The faults that can be armed: what kinds there are, and where in a call each of them strikes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Operation(StrEnum):
    """What a fault waits for."""

    CONFIRM = "confirm"
    CANCEL = "cancel"
    LOOKUP = "lookup"
    LIST = "list"
    ANY = "any"


class FaultKind(StrEnum):
    """What goes wrong."""

    ERROR_BEFORE_EFFECT = "error_before_effect"
    SERVER_ERROR = "server_error"
    SERVER_ERROR_AFTER_EFFECT = "server_error_after_effect"
    TOO_MANY_REQUESTS = "too_many_requests"
    HTML = "html"
    DROP_BEFORE_EFFECT = "drop_before_effect"
    RESET = "reset"
    DELAY = "delay"
    DELAY_REPLY = "delay_reply"
    DROP_REPLY = "drop_reply"
    RESET_AFTER_EFFECT = "reset_after_effect"
    TRUNCATED_JSON = "truncated_json"
    WRONG_JSON = "wrong_json"
    WRONG_AMOUNT = "wrong_amount"
    WRONG_ORDER = "wrong_order"


class Stage(StrEnum):
    """Where in a call a fault strikes, in this order; each stage takes at most one fault a call."""

    EDGE = "edge"
    DELAY = "delay"
    EXECUTION = "execution"
    OUTCOME = "outcome"
    REPLY_DELAY = "reply_delay"
    REPLY = "reply"


KINDS_AT: Final[dict[Stage, frozenset[FaultKind]]] = {
    # Gateways and networks fail before Toss knows of an idempotency key: nothing is remembered.
    Stage.EDGE: frozenset({FaultKind.TOO_MANY_REQUESTS, FaultKind.HTML, FaultKind.DROP_BEFORE_EFFECT, FaultKind.RESET}),
    Stage.DELAY: frozenset({FaultKind.DELAY}),
    Stage.EXECUTION: frozenset({FaultKind.ERROR_BEFORE_EFFECT, FaultKind.SERVER_ERROR}),
    # The effect stands, and the error is the first answer under the call's idempotency key.
    Stage.OUTCOME: frozenset({FaultKind.SERVER_ERROR_AFTER_EFFECT}),
    Stage.REPLY_DELAY: frozenset({FaultKind.DELAY_REPLY}),
    # The true answer is remembered; only this reply of it is damaged.
    Stage.REPLY: frozenset(
        {
            FaultKind.DROP_REPLY,
            FaultKind.RESET_AFTER_EFFECT,
            FaultKind.TRUNCATED_JSON,
            FaultKind.WRONG_JSON,
            FaultKind.WRONG_AMOUNT,
            FaultKind.WRONG_ORDER,
        }
    ),
}

DEFAULT_RETRY_AFTER_SECONDS: Final = 1
DEFAULT_DELAY_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class FaultOrder:
    """A fault as it is armed.

    Attributes:
        operation: The calls it waits for.
        kind: What it does.
        times: How many calls it strikes; None until it is cleared.
        probability: The chance that it strikes a call it waits for, 0 to 1.
        order_id: Only calls about this order.
        payment_key: Only calls about this payment.
        delay_seconds: Real seconds that `delay` and `delay_reply` wait, a day at most.
        status: The HTTP status of an error fault instead of its usual one.
        code: The Toss code of an error fault instead of its usual one.
        retry_after_seconds: What `too_many_requests` says in `Retry-After`, a day at most.
    """

    operation: Operation
    kind: FaultKind
    times: int | None = 1
    probability: float = 1.0
    order_id: str | None = None
    payment_key: str | None = None
    delay_seconds: float | None = None
    status: int | None = None
    code: str | None = None
    retry_after_seconds: int | None = None

    def __post_init__(self) -> None:
        """Refuse what could never strike.

        Raises:
            ValueError: A number is out of its range, or an error fault names no code.
        """
        if self.times is not None and self.times < 1:
            raise ValueError("times has to be at least 1, or null")
        if not 0 < self.probability <= 1:
            raise ValueError("probability has to be above 0 and at most 1")
        if self.delay_seconds is not None and not 0 <= self.delay_seconds <= _LONGEST_SECONDS:
            raise ValueError(f"delaySeconds has to be 0 to {_LONGEST_SECONDS}")
        if self.retry_after_seconds is not None and not 0 <= self.retry_after_seconds <= _LONGEST_SECONDS:
            raise ValueError(f"retryAfterSeconds has to be 0 to {_LONGEST_SECONDS}")
        if self.status is not None and not 400 <= self.status <= 599:  # noqa: PLR2004 - HTTP's errors
            raise ValueError("status has to be that of an error, 400 to 599")
        if self.kind is FaultKind.ERROR_BEFORE_EFFECT and not self.code:
            raise ValueError("error_before_effect needs a code")


@dataclass(frozen=True, slots=True)
class Subject:
    """What a call is about, as far as the request says."""

    operation: Operation
    order_id: str | None = None
    payment_key: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """An armed fault; `order.times` is what is left of it."""

    id: int
    order: FaultOrder

    def waits_for(self, subject: Subject, kinds: frozenset[FaultKind]) -> bool:
        order = self.order
        return (
            order.kind in kinds
            and order.operation in {subject.operation, Operation.ANY}
            and order.order_id in {None, subject.order_id}
            and order.payment_key in {None, subject.payment_key}
        )


PAYMENT_ANSWERS_ONLY: Final = frozenset({FaultKind.WRONG_AMOUNT, FaultKind.WRONG_ORDER})
"""Kinds that need a Payment in the answer; they wait for a call that has one."""
