"""What the payments service tells of its own accord: whether it is really from there, and what it says."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from demo_shop.payments_client import Counted, Payment, Wire

TYPES: Final = {
    "payment.waiting_for_deposit",
    "payment.completed",
    "payment.failed",
    "payment.cancelled",
    "payment.refunded",
    "payment.deposit_reversed",
}


class NotAnEvent(Exception):
    """The body is none of the events that were agreed upon."""


class _Envelope(Wire):
    type: Annotated[str, Field(min_length=1)]


class EventData(Wire):
    """`payment` is where it stood at the change. `sequence` counts the events of one payment."""

    sequence: Counted
    payment: Payment


class Event(_Envelope):
    timestamp: AwareDatetime = Field(strict=False)  # of the change
    data: EventData


def is_signed(body: bytes, headers: Mapping[str, str], *, secrets: Sequence[str]) -> bool:
    """Whether one of the secrets signed this very body within the last five minutes."""
    return any(_is_signed_with(secret, body, headers) for secret in secrets)


def _is_signed_with(secret: str, body: bytes, headers: Mapping[str, str]) -> bool:
    try:
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):  # the latter, bare, for headers and bodies that are malformed
        return False
    return True


def read_event(body: bytes) -> Event | None:
    """The event, or None for one of a type that we do not know, whatever it carries.

    Raises:
        NotAnEvent: it must be sent again once somebody has found out why.
    """
    try:
        if _Envelope.model_validate_json(body).type not in TYPES:
            return None
        return Event.model_validate_json(body)
    except ValidationError as error:
        raise NotAnEvent(f"{error.error_count()} members are wrong") from error
