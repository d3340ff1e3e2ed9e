"""The control API of webhooks: what was noted and how it went, the switches, the faults, sending by hand."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, JsonValue

from toss_sandbox.clock import toss_time_of
from toss_sandbox.control import CAMEL, LARGEST_ID, Limit, OrderId, PaymentKey
from toss_sandbox.engine import Sandbox
from toss_sandbox.sender import Sender
from toss_sandbox.transmissions import Attempt, Webhook
from toss_sandbox.webhook_faults import WebhookFault, WebhookFaultKind, WebhookFaultOrder
from toss_sandbox.webhooks import WebhookSettings

RowId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
_Url = Annotated[str, Field(min_length=1, max_length=2_000)]


class WebhookSettingsBody(BaseModel):
    """What to change; members that are left out stay as they are."""

    model_config = CAMEL

    url: _Url | None = None
    enabled: bool = True
    payment_events: bool = True
    deposit_callbacks: bool = True

    def changes(self) -> dict[str, JsonValue]:
        return self.model_dump(exclude_unset=True)


class WebhookFaultBody(BaseModel):
    """A fault to arm."""

    model_config = CAMEL

    kind: WebhookFaultKind
    times: Annotated[int, Field(le=LARGEST_ID)] | None = 1
    probability: float = 1.0
    order_id: str | None = None

    def order(self) -> WebhookFaultOrder:
        return WebhookFaultOrder(**self.model_dump())


class EventBody(BaseModel):
    """An event to send by hand; without data it is a sample, where there is one."""

    model_config = CAMEL

    event_type: Annotated[str, Field(min_length=1, max_length=64)]
    data: dict[str, JsonValue] | None = None


def create_webhook_router(sandbox: Sandbox, sender: Sender) -> APIRouter:
    """The routes of `/sandbox/webhooks` and `/sandbox/webhook-faults`."""
    router = APIRouter(prefix="/sandbox")
    _add_webhooks(router, sandbox, sender)
    _add_settings(router, sandbox)
    _add_faults(router, sandbox)
    return router


def _add_webhooks(router: APIRouter, sandbox: Sandbox, sender: Sender) -> None:
    webhooks = sandbox.webhooks

    @router.get("/webhooks")
    async def list_webhooks(
        order_id: OrderId = None, payment_key: PaymentKey = None, limit: Limit | None = None
    ) -> dict[str, list[dict[str, JsonValue]]]:
        """Everything that was noted, or the newest `limit` of it; oldest first either way."""
        found = webhooks.webhooks(order_id, payment_key, limit=limit)
        return {"webhooks": [_webhook(sandbox, webhook) for webhook in found]}

    @router.post("/webhooks/deliver")
    async def deliver() -> dict[str, int]:
        """Try everything that is due now, and answer when it has been tried."""
        delivery = await sender.deliver()
        return {"tried": delivery.tried, "delivered": delivery.delivered}

    @router.post("/webhooks/send", status_code=HTTPStatus.CREATED)
    async def send(body: EventBody) -> JSONResponse:
        """Send an event that nothing caused."""
        return JSONResponse(_webhook(sandbox, webhooks.send(body.event_type, body.data)), HTTPStatus.CREATED)

    @router.post("/webhooks/{webhook_id}/resend")
    async def resend(webhook_id: RowId) -> dict[str, JsonValue]:
        """Begin a new first attempt at once; the schedule that was running ends."""
        return _webhook(sandbox, webhooks.resend(webhook_id))


def _add_settings(router: APIRouter, sandbox: Sandbox) -> None:
    @router.get("/webhooks/settings")
    async def settings() -> dict[str, JsonValue]:
        """Where webhooks go, whether they do, and which events of payments are registered."""
        return _settings(sandbox.webhooks.settings)

    @router.put("/webhooks/settings")
    async def change_settings(body: WebhookSettingsBody) -> dict[str, JsonValue]:
        """Change what is named, until the next reset."""
        try:
            return _settings(sandbox.webhooks.change_settings(body.changes()))
        except ValueError as error:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error


def _add_faults(router: APIRouter, sandbox: Sandbox) -> None:
    webhooks = sandbox.webhooks

    @router.get("/webhook-faults")
    async def faults() -> dict[str, list[dict[str, JsonValue]]]:
        """What is still armed, oldest first."""
        return {"faults": [_fault(fault) for fault in webhooks.faults()]}

    @router.post("/webhook-faults", status_code=HTTPStatus.CREATED)
    async def arm_fault(body: WebhookFaultBody) -> dict[str, JsonValue]:
        """Arm a fault for events to come."""
        try:
            return _fault(webhooks.arm_fault(body.order()))
        except ValueError as error:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error

    @router.delete("/webhook-faults", status_code=HTTPStatus.NO_CONTENT)
    async def clear_faults() -> None:
        """Disarm everything."""
        webhooks.clear_faults()

    @router.delete("/webhook-faults/{fault_id}", status_code=HTTPStatus.NO_CONTENT)
    async def clear_fault(fault_id: RowId) -> None:
        """Disarm one fault; one that is gone already is no mistake."""
        webhooks.clear_fault(fault_id)


def _webhook(sandbox: Sandbox, webhook: Webhook) -> dict[str, JsonValue]:
    due = webhook.next_attempt_at
    headers = webhook.headers or sandbox.webhooks.headers(webhook, at=sandbox.now())
    return {
        "id": webhook.id,
        "eventType": webhook.event_type,
        "orderId": webhook.order_id,
        "paymentKey": webhook.payment_key,
        "status": webhook.status,
        "createdAt": webhook.created_at,
        "body": webhook.body,
        "headers": dict(headers),
        "state": webhook.state.value,
        "nextAttemptAt": None if due is None else toss_time_of(due),
        "attempts": [_attempt(attempt) for attempt in webhook.attempts],
        "fault": webhook.fault,
    }


def _attempt(attempt: Attempt) -> dict[str, JsonValue]:
    return {"at": attempt.at, "status": attempt.status, "error": attempt.error}


def _settings(settings: WebhookSettings) -> dict[str, JsonValue]:
    return {
        "url": settings.url,
        "enabled": settings.enabled,
        "paymentEvents": settings.payment_events,
        "depositCallbacks": settings.deposit_callbacks,
    }


def _fault(fault: WebhookFault) -> dict[str, JsonValue]:
    order = fault.order
    return {
        "id": fault.id,
        "kind": order.kind.value,
        "times": order.times,
        "probability": order.probability,
        "orderId": order.order_id,
    }
