"""The dashboard's section on webhooks: what was noted and how it went, the switches, the faults."""

from typing import Annotated, Final

from fastapi import APIRouter, Path
from fastapi.responses import RedirectResponse

from toss_sandbox.browser.forms import Fields, attempt
from toss_sandbox.clock import toss_time_of
from toss_sandbox.control import LARGEST_ID
from toss_sandbox.engine import Sandbox
from toss_sandbox.transmissions import Webhook, WebhookState
from toss_sandbox.webhook_control import WebhookFaultBody, WebhookSettingsBody
from toss_sandbox.webhook_faults import WebhookFault, WebhookFaultKind

_SHOWN: Final = 50
_PLACE: Final = "webhooks-title"
_MOODS: Final = {WebhookState.DELIVERED: "good", WebhookState.WAITING: "wait"}


class WebhookSection:
    """What the page shows of the webhooks."""

    shown = _SHOWN
    kinds = tuple(WebhookFaultKind)

    def __init__(self, sandbox: Sandbox) -> None:
        settings = sandbox.webhooks.settings
        self.url = settings.url
        self.switches = (
            ("enabled", "보내기", "sending", settings.enabled),
            ("paymentEvents", "PAYMENT_STATUS_CHANGED", "registered", settings.payment_events),
            ("depositCallbacks", "DEPOSIT_CALLBACK", "registered", settings.deposit_callbacks),
        )
        self.newest = sandbox.webhooks.webhooks(limit=_SHOWN)[::-1]
        self.faults = [(fault.order, _conditions(fault)) for fault in sandbox.webhooks.faults()]

    def mood(self, webhook: Webhook) -> str:
        """How the state is coloured."""
        return _MOODS.get(webhook.state, "bad")

    def next_attempt(self, webhook: Webhook) -> str | None:
        return None if webhook.next_attempt_at is None else toss_time_of(webhook.next_attempt_at)


def create_webhook_forms_router(sandbox: Sandbox) -> APIRouter:
    """What the forms of the section post to."""
    router = APIRouter(prefix="/sandbox/dashboard")
    webhooks = sandbox.webhooks

    @router.post("/webhooks/settings")
    async def switch(fields: Fields) -> RedirectResponse:
        changes = WebhookSettingsBody.model_validate
        return attempt(lambda: webhooks.change_settings(changes(fields).changes()), place=_PLACE)

    @router.post("/webhooks/url")
    async def change_url(fields: Fields) -> RedirectResponse:
        # An empty field takes the address away.
        changes = WebhookSettingsBody.model_validate
        return attempt(lambda: webhooks.change_settings(changes({"url": None} | fields).changes()), place=_PLACE)

    @router.post("/webhooks/{webhook_id}/resend")
    async def resend(webhook_id: Annotated[int, Path(ge=1, le=LARGEST_ID)]) -> RedirectResponse:
        return attempt(lambda: webhooks.resend(webhook_id), place=_PLACE)

    @router.post("/webhook-faults")
    async def arm_fault(fields: Fields) -> RedirectResponse:
        # Without a number of times a fault stays until it is cleared.
        order = WebhookFaultBody.model_validate
        return attempt(lambda: webhooks.arm_fault(order({"times": None} | fields).order()), place=_PLACE)

    @router.post("/webhook-faults/clear")
    async def clear_faults() -> RedirectResponse:
        return attempt(webhooks.clear_faults, place=_PLACE)

    return router


def _conditions(fault: WebhookFault) -> str:
    order = fault.order
    conditions = {
        "orderId": order.order_id,
        "probability": None if order.probability == 1 else order.probability,
    }
    return ", ".join(f"{name} {value}" for name, value in conditions.items() if value is not None)
