"""Receive a webhook: check where it comes from, keep it, and leave everything else to the workers."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments import inbox
from payments.card_numbers import mask_json
from payments.db import Sessions, transaction
from payments.errors import WebhookNotGenuine
from payments.hot_path import HotPath
from payments.inbox import Incoming, VerifiedBy
from payments.signing import is_same, is_signed_by, is_signed_by_toss

log = structlog.get_logger()

# The types that a payment may have to follow
# (https://docs.tosspayments.com/reference/using-api/webhook-events; REFUND_STATUS_CHANGED is our own relays').
ACTED_ON: Final = frozenset(
    {"PAYMENT_STATUS_CHANGED", "DEPOSIT_CALLBACK", "CANCEL_STATUS_CHANGED", "REFUND_STATUS_CHANGED"}
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One transmission of an event: its raw body, and every line of the headers that prove something."""

    body: bytes = field(repr=False)
    signatures: Sequence[str] = field(default=(), repr=False)  # Toss-Signature
    toss_signatures: Sequence[str] = field(default=(), repr=False)  # tosspayments-webhook-signature
    transmission_times: Sequence[str] = ()
    transmission_id: str | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe. Any of the secrets may have signed, so that one can replace another."""

    secrets: Sequence[str] = field(repr=False)
    takes_hints: bool  # an event that proves nothing is worth a question to the PG


class PgEvent(Protocol):
    """What an event claims."""

    @property
    def event_type(self) -> str: ...
    @property
    def order_id(self) -> str | None: ...
    @property
    def payment_key(self) -> str | None: ...
    @property
    def transaction_key(self) -> str | None: ...
    @property
    def status(self) -> str | None: ...
    @property
    def secret(self) -> str | None: ...
    @property
    def created_at(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Received:
    """What became of a delivery; the sender is told nothing of it."""

    event_type: str
    verified_by: VerifiedBy
    is_new: bool


async def receive_webhook(
    delivery: Delivery,
    *,
    read: Callable[[bytes], PgEvent],
    trust: Trust,
    at: datetime,
    sessions: Sessions,
    hot: HotPath | None,
) -> Received:
    """Store an event once, whether or not it is about a payment of ours; it is there when this returns.

    Nobody is asked and no payment is touched. `read` may raise what it likes for a body that is no event; `at` is now,
    by the clock of this process, for signatures that grow old.

    Raises:
        WebhookNotGenuine: a signature is there and wrong, or nothing proves the event and hints are not taken.
        DatabaseUnavailable: it may not be stored; the sender will come again.
    """
    signed = is_signed(delivery, trust, at=at)
    event = read(delivery.body)
    if hot is not None:
        received = await _store(event, delivery, signed=signed, trust=trust, books=hot)
    else:
        async with transaction(sessions) as session:
            received = await _store(event, delivery, signed=signed, trust=trust, books=_PlainBooks(session))
    # By names of ours alone: whoever sends a hint may write what they like for its type.
    shown = event.event_type if event.event_type in ACTED_ON else "other"
    log.info("webhook.received", type=shown, verified_by=received.verified_by.value, is_new=received.is_new)
    return received


class _Books(Protocol):
    """Where it is looked up what proves an event, and where the event is kept."""

    async def webhook_secret(self, *, order_id: str | None, payment_key: str | None) -> str | None: ...
    async def store(self, event: Incoming) -> bool: ...


@dataclass(frozen=True, slots=True)
class _PlainBooks:
    session: AsyncSession

    async def webhook_secret(self, *, order_id: str | None, payment_key: str | None) -> str | None:
        return await inbox.webhook_secret(self.session, order_id=order_id, payment_key=payment_key)

    async def store(self, event: Incoming) -> bool:
        return await inbox.store(self.session, event)


async def _store(event: PgEvent, delivery: Delivery, *, signed: bool, trust: Trust, books: _Books) -> Received:
    verified_by = VerifiedBy.SIGNATURE if signed else await _proof(event, books)
    if verified_by is VerifiedBy.LOOKUP and not trust.takes_hints:
        raise WebhookNotGenuine
    is_new = await books.store(_incoming(event, delivery, verified_by))
    return Received(event.event_type, verified_by, is_new)


def is_signed(delivery: Delivery, trust: Trust, *, at: datetime) -> bool:
    """Whether there is a signature. One that is wrong is refused, whatever else is right.

    Raises:
        WebhookNotGenuine: there is one that is wrong.
    """
    if max(map(len, (delivery.signatures, delivery.toss_signatures, delivery.transmission_times))) > 1:
        raise WebhookNotGenuine  # which of two lines counts is not for the sender to guess
    for header in delivery.signatures:
        if not is_signed_by(header, delivery.body, trust.secrets):
            raise WebhookNotGenuine
    sent_at = "".join(delivery.transmission_times)
    for header in delivery.toss_signatures:
        if not is_signed_by_toss(header, sent_at, delivery.body, trust.secrets, at=at):
            raise WebhookNotGenuine
    return bool(delivery.signatures or delivery.toss_signatures)


async def _proof(event: PgEvent, books: _Books) -> VerifiedBy:
    if not event.secret:
        return VerifiedBy.LOOKUP
    stored = await books.webhook_secret(order_id=event.order_id, payment_key=event.payment_key)
    # Compared also where there is none, so that the time of an answer does not tell whether there is.
    knows_it = is_same(event.secret, stored or "")
    return VerifiedBy.SECRET if knows_it and stored else VerifiedBy.LOOKUP


def _incoming(event: PgEvent, delivery: Delivery, verified_by: VerifiedBy) -> Incoming:
    return Incoming(
        dedupe_key=_dedupe_key(event, delivery.body),
        event_type=event.event_type,
        order_id=event.order_id,
        payment_key=event.payment_key,
        transaction_key=event.transaction_key,
        status=event.status,
        transmission_id=delivery.transmission_id,
        verified_by=verified_by,
        body=mask_json(delivery.body),
    )


def _dedupe_key(event: PgEvent, body: bytes) -> str:
    """What happened, not how it was told: a resend has a new time and number, and perhaps its members in another order.

    An event that we do not know, or that does not say when it was made, is the same only if every byte is.
    """
    subject = (event.order_id, event.payment_key, event.transaction_key)
    if event.event_type in ACTED_ON and event.created_at and any(subject):
        body = json.dumps([*subject, event.status, event.created_at]).encode()
    return hashlib.sha256(body).hexdigest()
