"""The webhooks that the sandbox owes: noted with the change that causes them, kept until they are received."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import JsonValue

from toss_sandbox.errors import TossError
from toss_sandbox.events import (
    DEPOSIT_CALLBACK,
    DEPOSIT_STATUSES,
    PAYMENT_STATUS_CHANGED,
    PAYMENT_STATUSES,
    Event,
    contrary_payment,
    deposit_event,
    hand_made_event,
    payment_event,
)
from toss_sandbox.payments import VIRTUAL_ACCOUNT, Payment
from toss_sandbox.settings import Settings, check_webhook_url
from toss_sandbox.store import Store
from toss_sandbox.transmissions import Attempt, Webhook, WebhookState, after, headers_of
from toss_sandbox.webhook_faults import CONTRADICTION_GAP, WebhookFault, WebhookFaultKind, WebhookFaultOrder
from toss_sandbox.webhook_store import WebhookStore


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """What the merchant has registered in Toss's developer centre, and whether Toss sends at all.

    Attributes:
        url: Where webhooks go; None has them noted and never sent.
        enabled: Whether anything is sent; what is due meanwhile waits.
        payment_events: Whether PAYMENT_STATUS_CHANGED is registered.
        deposit_callbacks: Whether DEPOSIT_CALLBACK is registered.
    """

    url: str | None
    enabled: bool = True
    payment_events: bool = True
    deposit_callbacks: bool = True

    @property
    def is_sending(self) -> bool:
        return self.enabled and self.url is not None


class Webhooks:
    """Notes events, and says what is to be sent; sending is left to whoever is told by `on_due`."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        show: Callable[[Payment], dict[str, JsonValue]],
        now: Callable[[], datetime],
    ) -> None:
        self._rows = WebhookStore(store)
        self._settings = settings
        self._show = show
        self._now = now
        self._chance = random.Random()  # noqa: S311 - it decides about faults, not about secrets
        self._early: set[int] = set()
        self.settings = self._read_settings()
        self.on_due: Callable[[], None] = _nobody

    def record(self, payment: Payment, *, at: datetime) -> None:
        """Note what Toss tells about a changed payment; belongs into the transaction that changes it."""
        if self.settings.payment_events and payment.status in PAYMENT_STATUSES:
            self._note(PAYMENT_STATUS_CHANGED, payment, at=at)
        is_account = payment.method == VIRTUAL_ACCOUNT and payment.status in DEPOSIT_STATUSES
        if self.settings.deposit_callbacks and is_account:
            self._note(DEPOSIT_CALLBACK, payment, at=at)

    def send(self, event_type: str, data: Mapping[str, JsonValue] | None) -> Webhook:
        """Send an event that nothing caused; neither faults nor the registered kinds touch it."""
        at = self._now()
        event = hand_made_event(event_type, data, at=at)
        webhook_id = self._rows.add(event, next_attempt_at=at.timestamp() if self.settings.url else None)
        self.on_due()
        return self._webhook(webhook_id)

    def webhooks(
        self, order_id: str | None = None, payment_key: str | None = None, *, limit: int | None = None
    ) -> list[Webhook]:
        """Everything that was noted, oldest first; a limit keeps the newest."""
        return self._rows.webhooks(order_id=order_id, payment_key=payment_key, limit=limit)

    def resend(self, webhook_id: int) -> Webhook:
        """Begin a new first attempt, whatever became of the others.

        Raises:
            TossError: NOT_FOUND, or SANDBOX_NO_WEBHOOK_URL.
        """
        self._webhook(webhook_id)
        if self.settings.url is None:
            raise TossError("SANDBOX_NO_WEBHOOK_URL")
        self._rows.restart(webhook_id, at=self._now().timestamp())
        self.on_due()
        return self._webhook(webhook_id)

    def change_settings(self, changes: Mapping[str, JsonValue]) -> WebhookSettings:
        """Set some of the settings, by their names, until the next reset.

        Raises:
            ValueError: The URL is none that a webhook could be sent to; nothing has changed.
        """
        url = changes.get("url")
        if isinstance(url, str):
            check_webhook_url(url)
        for name, value in changes.items():
            self._rows.set_switch(name, value)
        self.settings = self._read_settings()
        self.on_due()
        return self.settings

    def forget(self) -> None:
        """Begin anew after the store has been emptied."""
        self._early.clear()
        self.settings = self._read_settings()

    # What the sender asks

    def due(self, until: datetime, *, limit: int) -> list[Webhook]:
        """What is to be tried by then, as far as anything is sent."""
        return self._rows.due(until.timestamp(), limit) if self.settings.is_sending else []

    @property
    def has_early(self) -> bool:
        """Whether an answer has to wait for a webhook."""
        return bool(self._early)

    def take_early(self) -> list[Webhook]:
        """The webhooks that have to be tried before the answer of the call that caused them."""
        found = [self._rows.webhook(webhook_id) for webhook_id in sorted(self._early)]
        self._early.clear()
        if not self.settings.is_sending:
            return []
        return [webhook for webhook in found if webhook and webhook.next_attempt_at and not webhook.attempts]

    def headers(self, webhook: Webhook, *, at: datetime) -> dict[str, str]:
        """The headers of a try at this moment."""
        return headers_of(webhook, self._settings, at=at)

    def end_attempt(self, webhook: Webhook, attempt: Attempt, headers: dict[str, str], *, at: datetime) -> None:
        """Note a try that began at `at`, and let go what had to wait for it."""
        self._rows.end_attempt(after(webhook, attempt, at=at), headers)
        if webhook.payment_key is not None:
            self._rows.release(webhook.payment_key, before=webhook.id, at=at.timestamp())

    # Faults

    def arm_fault(self, order: WebhookFaultOrder) -> WebhookFault:
        return self._rows.add_fault(order)

    def faults(self) -> list[WebhookFault]:
        """What is still armed, oldest first."""
        return self._rows.faults()

    def clear_fault(self, fault_id: int) -> None:
        self._rows.drop_fault(fault_id)

    def clear_faults(self) -> None:
        self._rows.drop_faults()

    # Rules

    def _note(self, event_type: str, payment: Payment, *, at: datetime) -> None:
        event = self._event(event_type, payment, at=at)
        if self.settings.url is None:
            self._rows.add(event)  # and nothing else, so that it costs no more than this
            return
        kind, due = self._take_fault(payment.order_id), at.timestamp()
        match kind:
            case WebhookFaultKind.LOSE:
                self._rows.add(event, state=WebhookState.LOST, fault=kind)
            case WebhookFaultKind.REORDER:
                self._rows.add(event, fault=kind)
            case WebhookFaultKind.DUPLICATE:
                self._rows.add(event, next_attempt_at=due, copies=2, fault=kind)
            case WebhookFaultKind.EARLY:
                self._early.add(self._rows.add(event, next_attempt_at=due, fault=kind))
            case WebhookFaultKind.CONTRADICT:
                self._rows.add(event, next_attempt_at=due, fault=kind)
                later = at + CONTRADICTION_GAP
                contrary = self._event(event_type, contrary_payment(payment, event_type, at=at), at=later)
                self._rows.add(contrary, next_attempt_at=later.timestamp(), fault=kind)
            case None:
                self._rows.add(event, next_attempt_at=due)
        self.on_due()

    def _event(self, event_type: str, payment: Payment, *, at: datetime) -> Event:
        if event_type == DEPOSIT_CALLBACK:
            return deposit_event(payment, at=at)
        return payment_event(payment, self._show(payment), at=at)

    def _take_fault(self, order_id: str) -> WebhookFaultKind | None:
        for fault in self._rows.faults():
            if fault.order.order_id in {None, order_id} and self._chance.random() < fault.order.probability:
                self._rows.use_up(fault)
                return fault.order.kind
        return None

    def _webhook(self, webhook_id: int) -> Webhook:
        webhook = self._rows.webhook(webhook_id)
        if webhook is None:
            raise TossError("NOT_FOUND")
        return webhook

    def _read_settings(self) -> WebhookSettings:
        return replace(WebhookSettings(self._settings.webhook_url), **self._rows.switches())


def _nobody() -> None:
    """Nobody sends in a sandbox without a server or a caller that asks for it."""
