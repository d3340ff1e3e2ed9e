"""What a webhook of Toss claims: bytes become a `TossEvent` or `MalformedEvent`. A claim proves nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from payments.card_numbers import mask
from payments.gateways.toss_wire import (
    MalformedAnswer,
    clean_text,
    is_order_id,
    is_payment_key,
    is_transaction_key,
    parse_json,
)

DEPOSIT_CALLBACK: Final = "DEPOSIT_CALLBACK"
_MAX_WORD_LENGTH: Final = 64
# The one envelope that does not say what it is carries these (webhook-events, DEPOSIT_CALLBACK).
_MARKS_OF_DEPOSIT_CALLBACK: Final = frozenset({"orderId", "status"})


class MalformedEvent(ValueError):
    """It is not an event of Toss. The text names the place and never the content."""


@dataclass(frozen=True, slots=True)
class TossEvent:
    """What stands in an event, of whatever kind (https://docs.tosspayments.com/reference/using-api/webhook-events).

    What is missing, null or cannot be what its name says is None.
    """

    event_type: str  # one that we do not know too: Toss adds them without notice
    order_id: str | None
    payment_key: str | None
    transaction_key: str | None  # of the cancel, or the newest of the payment
    status: str | None  # of what the event is about: a payment, a cancel, a payout, ...
    secret: str | None = field(repr=False)  # "" where something is there that is no text: nobody's secret
    created_at: str  # as it is written, "" where it is missing; only some kinds have an offset


def read_event(body: bytes) -> TossEvent:
    """Read the raw body of a webhook.

    Raises:
        MalformedEvent: It is not a JSON object, or does not say what kind of event it is.
    """
    try:
        event = parse_json(body)
    except MalformedAnswer:
        raise MalformedEvent("body: not JSON") from None
    if not isinstance(event, dict):
        raise MalformedEvent("body: not an object")
    content = _content(event)
    return TossEvent(
        event_type=_event_type(event),
        order_id=_checked(content.get("orderId"), is_order_id),
        payment_key=_checked(content.get("paymentKey"), is_payment_key),
        transaction_key=_checked(content.get("lastTransactionKey"), is_transaction_key)
        or _checked(content.get("transactionKey"), is_transaction_key),
        status=_word(content.get("status")) or _word(content.get("cancelStatus")),
        secret=_secret(content.get("secret")),
        created_at=_created_at(event.get("createdAt")),
    )


def _content(event: Mapping[str, object]) -> Mapping[str, object]:
    """Where an envelope keeps what happened: in `data`, in `entityBody`, or beside the rest."""
    for name in ("data", "entityBody"):
        if name in event:
            inner = event[name]
            return inner if isinstance(inner, dict) else {}
    return event


def _event_type(event: Mapping[str, object]) -> str:
    told = event.get("eventType")
    if told is None:
        if event.keys() >= _MARKS_OF_DEPOSIT_CALLBACK:
            return DEPOSIT_CALLBACK
        raise MalformedEvent("eventType: missing")
    word = _word(told)
    if word is None:
        raise MalformedEvent("eventType: not a word")
    return word


def _is_word(text: str) -> bool:
    return 0 < len(text) <= _MAX_WORD_LENGTH and text.isprintable()


def _word(value: object) -> str | None:
    word = _checked(value, _is_word)
    return None if word is None else mask(word)


def _checked(value: object, is_right: Callable[[str], bool]) -> str | None:
    return value if isinstance(value, str) and is_right(value) else None


def _secret(value: object) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else ""


def _created_at(value: object) -> str:
    return clean_text(value, longest=_MAX_WORD_LENGTH) if isinstance(value, str) else ""
