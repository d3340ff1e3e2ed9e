"""The sending of webhooks in numbers: the headers, the signature and the ladder of retries."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from toss_sandbox.clock import toss_time
from toss_sandbox.events import SIGNED
from toss_sandbox.settings import Settings

# https://docs.tosspayments.com/guides/v2/webhook: seven retries within 3 days and 19 hours, then it has failed.
RETRIES: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 4, 16, 64, 256, 1_024, 4_096))

_PREFIX: Final = "tosspayments-webhook"
_RECEIVED: Final = 200  # the one status that Toss's staff calls safe


class WebhookState(StrEnum):
    """How far a webhook has got."""

    WAITING = "WAITING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send a webhook: the status that was answered, or why there was none."""

    at: str
    status: int | None
    error: str | None

    @property
    def is_received(self) -> bool:
        return self.status == _RECEIVED


@dataclass(frozen=True, slots=True)
class Webhook:
    """An event on its way to the shop.

    Attributes:
        id: Its number.
        transmission_id: What names it in the headers of every try.
        event_type: What kind of event it is.
        order_id: The order it is about.
        payment_key: The payment it is about.
        status: The status it tells.
        created_at: When it came into being, as its body says.
        body: The exact text that is sent.
        state: How far it has got.
        next_attempt_at: When it is tried next, in seconds since 1970 of the sandbox's clock; None when it is not.
        retried: How many retries lie before the next try, or the last one.
        copies: How often it still has to be received.
        schedule: Which run of tries this is; every resend begins a new one.
        fault: The fault that struck it.
        attempts: What was tried, oldest first.
        headers: Those of the last try; empty before the first.
    """

    id: int
    transmission_id: str
    event_type: str
    order_id: str | None
    payment_key: str | None
    status: str | None
    created_at: str
    body: str
    state: WebhookState = WebhookState.WAITING
    next_attempt_at: float | None = None
    retried: int = 0
    copies: int = 1
    schedule: int = 1
    fault: str | None = None
    attempts: tuple[Attempt, ...] = ()
    headers: dict[str, str] | None = None


def new_transmission_id() -> str:
    """In the form of a real one; hexadecimal, as every change of a payment waits for it."""
    return f"whtrans_a01{secrets.token_hex(12)[:23]}"


def headers_of(webhook: Webhook, settings: Settings, *, at: datetime) -> dict[str, str]:
    """The headers of a try at this moment; only events about payouts and sellers are signed."""
    time = toss_time(at)
    headers = {
        "content-type": "application/json",
        f"{_PREFIX}-transmission-id": webhook.transmission_id,
        f"{_PREFIX}-transmission-time": time,
        f"{_PREFIX}-transmission-retried-count": str(webhook.retried),
    }
    if webhook.event_type in SIGNED and settings.security_keys:
        headers[f"{_PREFIX}-signature"] = _signature(webhook.body, time, settings)
    return headers


def after(webhook: Webhook, attempt: Attempt, *, at: datetime) -> Webhook:
    """Where a webhook stands once a try that began at `at` has ended."""
    tried = replace(webhook, attempts=(*webhook.attempts, attempt))
    if attempt.is_received:
        if webhook.copies > 1:
            return replace(tried, copies=webhook.copies - 1, retried=0, next_attempt_at=at.timestamp())
        return replace(tried, state=WebhookState.DELIVERED, next_attempt_at=None)
    if webhook.retried == len(RETRIES):
        return replace(tried, state=WebhookState.FAILED, next_attempt_at=None)
    next_attempt_at = at + RETRIES[webhook.retried]
    return replace(tried, retried=webhook.retried + 1, next_attempt_at=next_attempt_at.timestamp())


def _signature(body: str, time: str, settings: Settings) -> str:
    message = f"{body}:{time}".encode()
    macs = [hmac.digest(key, message, hashlib.sha256) for key in _key_bytes(settings)]
    return ",".join(f"v1:{base64.b64encode(mac).decode()}" for mac in macs)


def _key_bytes(settings: Settings) -> list[bytes]:
    if settings.security_key_is_text:
        return [key.encode() for key in settings.security_keys]
    return [bytes.fromhex(key) for key in settings.security_keys]
