"""Webhooks in the sandbox's file: what is to be sent and how it went, the faults armed against it, the switches."""

import json
from dataclasses import replace
from typing import Any, Final

from pydantic import JsonValue, TypeAdapter

from toss_sandbox.events import Event
from toss_sandbox.store import NO_LIMIT, Store
from toss_sandbox.transmissions import Attempt, Webhook, WebhookState, new_transmission_id
from toss_sandbox.webhook_faults import WebhookFault, WebhookFaultKind, WebhookFaultOrder

_COLUMNS: Final = (
    "id, transmission_id, event_type, order_id, payment_key, status, created_at, body, state, next_attempt_at,"
    " retried, copies, schedule, fault, attempts, headers"
)
_ATTEMPTS_JSON: Final = TypeAdapter(tuple[Attempt, ...])
_FAULT_JSON: Final = TypeAdapter(WebhookFaultOrder)


class WebhookStore:
    """Reads and writes of webhooks; what is written belongs into the store's open transaction, where there is one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self,
        event: Event,
        *,
        state: WebhookState = WebhookState.WAITING,
        next_attempt_at: float | None = None,
        copies: int = 1,
        fault: WebhookFaultKind | None = None,
    ) -> int:
        """Note an event in the transaction of its change; returns the webhook's id."""
        return self._store.write(
            "INSERT INTO webhooks (transmission_id, event_type, order_id, payment_key, status, created_at, body,"
            " state, next_attempt_at, copies, fault) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            new_transmission_id(),
            event.event_type,
            event.order_id,
            event.payment_key,
            event.status,
            event.created_at,
            event.body,
            state.value,
            next_attempt_at,
            copies,
            fault,
        )

    def webhook(self, webhook_id: int) -> Webhook | None:
        return next(iter(self._webhooks("WHERE id = ?", webhook_id)), None)

    def webhooks(self, *, order_id: str | None, payment_key: str | None, limit: int | None) -> list[Webhook]:
        """Oldest first; a limit keeps the newest."""
        newest = self._webhooks(
            "WHERE (? IS NULL OR order_id = ?) AND (? IS NULL OR payment_key = ?) ORDER BY id DESC LIMIT ?",
            order_id,
            order_id,
            payment_key,
            payment_key,
            NO_LIMIT if limit is None else limit,
        )
        return newest[::-1]

    def due(self, until: float, limit: int) -> list[Webhook]:
        """Those to be tried by then, the longest due first."""
        return self._webhooks(
            "WHERE state = 'WAITING' AND next_attempt_at <= ? ORDER BY next_attempt_at, id LIMIT ?", until, limit
        )

    def end_attempt(self, webhook: Webhook, headers: dict[str, str]) -> None:
        """Write down how a try ended; of a run that a resend has ended only the try itself."""
        attempts = _ATTEMPTS_JSON.dump_json(webhook.attempts[-1:]).decode()
        self._store.write(
            "UPDATE webhooks SET attempts = json_insert(attempts, '$[#]', json_extract(?, '$[0]')), headers = ?"
            " WHERE id = ?",
            attempts,
            json.dumps(headers),
            webhook.id,
        )
        self._store.write(
            "UPDATE webhooks SET state = ?, next_attempt_at = ?, retried = ?, copies = ? WHERE id = ? AND schedule = ?",
            webhook.state.value,
            webhook.next_attempt_at,
            webhook.retried,
            webhook.copies,
            webhook.id,
            webhook.schedule,
        )

    def release(self, payment_key: str, *, before: int, at: float) -> None:
        """Let go what was held back until a later event of its payment had been sent."""
        self._store.write(
            "UPDATE webhooks SET next_attempt_at = ? WHERE payment_key = ? AND id < ? AND state = 'WAITING'"
            " AND fault = 'reorder' AND next_attempt_at IS NULL",
            at,
            payment_key,
            before,
        )

    def restart(self, webhook_id: int, *, at: float) -> None:
        """Begin a new run of tries."""
        self._store.write(
            "UPDATE webhooks SET state = 'WAITING', next_attempt_at = ?, retried = 0, copies = 1,"
            " schedule = schedule + 1 WHERE id = ?",
            at,
            webhook_id,
        )

    def add_fault(self, order: WebhookFaultOrder) -> WebhookFault:
        document = _FAULT_JSON.dump_json(order).decode()
        return WebhookFault(self._store.write("INSERT INTO webhook_faults (document) VALUES (?)", document), order)

    def faults(self) -> list[WebhookFault]:
        """Oldest first."""
        rows = self._store.read("SELECT id, document FROM webhook_faults ORDER BY id")
        return [WebhookFault(fault_id, _FAULT_JSON.validate_json(document)) for fault_id, document in rows]

    def use_up(self, fault: WebhookFault) -> None:
        """Count one strike; the last one clears the fault."""
        if fault.order.times is None:
            return
        if fault.order.times == 1:
            self.drop_fault(fault.id)
            return
        left = _FAULT_JSON.dump_json(replace(fault.order, times=fault.order.times - 1)).decode()
        self._store.write("UPDATE webhook_faults SET document = ? WHERE id = ?", left, fault.id)

    def drop_fault(self, fault_id: int) -> None:
        self._store.write("DELETE FROM webhook_faults WHERE id = ?", fault_id)

    def drop_faults(self) -> None:
        self._store.write("DELETE FROM webhook_faults")

    def switches(self) -> dict[str, Any]:
        """What was set since the last reset, by name."""
        return {name: json.loads(value) for name, value in self._store.read("SELECT name, value FROM webhook_switches")}

    def set_switch(self, name: str, value: JsonValue) -> None:
        self._store.write("INSERT OR REPLACE INTO webhook_switches VALUES (?, ?)", name, json.dumps(value))

    def _webhooks(self, clause: str, *values: object) -> list[Webhook]:
        rows = self._store.read(f"SELECT {_COLUMNS} FROM webhooks {clause}", *values)  # noqa: S608 - our own clauses
        return [_read(row) for row in rows]


def _read(row: tuple[Any, ...]) -> Webhook:
    *columns, attempts, headers = row
    webhook = Webhook(*columns)
    return replace(
        webhook,
        state=WebhookState(webhook.state),
        attempts=_ATTEMPTS_JSON.validate_json(attempts),
        headers=json.loads(headers) if headers else None,
    )
