"""Buyers, and all that is asked about their orders: by them, by the back office, by the PG, by somebody who forges."""

from dataclasses import dataclass
from typing import Any, Final

from tests.integration.webhook_world import a_hint, as_sent, signed, status_changed
from tests.integration.world import REASON, confirm_body, prepare_body

from proof.books import CANCEL, CONFIRM, PREPARE, WEBHOOK
from proof.lives import Http
from proof.world import WEBHOOK_SECRET

READ: Final = "read"
CONSOLE: Final = "console"  # a cancel in the PG's own console, past us
FORGED: Final = "forged webhook"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request about an order, and what makes two of them the same."""

    what: str
    order_id: str
    name: str
    request: Http


@dataclass(frozen=True, slots=True)
class Buyer:
    """Somebody's order, and the payment windows that were opened for it: perhaps a second one in another tab."""

    order_id: str
    amount: int
    windows: tuple[str, ...] = ()  # their payment keys

    def prepare(self) -> Asked:
        body = prepare_body(self.order_id, self.amount)
        return Asked(PREPARE, self.order_id, PREPARE, Http("POST", "/payments/prepare", body))

    def confirm(self, window: int = 0) -> Asked:
        key = self.windows[window]
        body = confirm_body(key, self.order_id, self.amount)
        return Asked(CONFIRM, self.order_id, key, Http("POST", "/payments/confirm", body))

    def cancel(self, name: str, amount: int | None = None) -> Asked:
        body = {"cancelReason": REASON, **({} if amount is None else {"cancelAmount": amount})}
        headers = (("idempotency-key", f"{self.order_id}-{name}"),)
        request = Http("POST", f"/payments/orders/{self.order_id}/cancel", body, headers)
        return Asked(CANCEL, self.order_id, name, request)

    def cancel_in_console(self, amount: int) -> Asked:
        request = Http("POST", f"/sandbox/payments/{self.windows[0]}/cancel", {"amount": amount})
        return Asked(CONSOLE, self.order_id, CONSOLE, request)

    def read(self) -> Asked:
        return Asked(READ, self.order_id, READ, Http("GET", f"/payments/orders/{self.order_id}"))

    def hint(self) -> Asked:
        """Somebody who has seen the order id says that it is paid, and proves nothing."""
        body = as_sent(a_hint(self.order_id))
        return Asked(WEBHOOK, self.order_id, str(hash(body)), Http("POST", "/webhook/toss", body))

    def forgery(self) -> Asked:
        """The same, with a signature that somebody made up."""
        body = as_sent(a_hint(self.order_id))
        lines = tuple(signed(body, "a-secret-of-somebody-else").items())
        return Asked(FORGED, self.order_id, FORGED, Http("POST", "/webhook/toss", body, lines))

    def webhook(self, shown: dict[str, Any], **changes: object) -> Asked:
        """The PG tells of a payment as it stands there, or will in a moment."""
        body = as_sent(status_changed(shown, **changes))
        lines = tuple(signed(body, WEBHOOK_SECRET).items())
        return Asked(WEBHOOK, self.order_id, str(hash(body)), Http("POST", "/webhook/toss", body, lines))
