"""The route that Toss calls: parse, store, answer; what follows from an event is the workers' business."""

import re
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client import Counter

from payments.api.deps import FromResources
from payments.api.documented import refusals
from payments.api.problems import http_problem
from payments.card_numbers import mask
from payments.errors import DatabaseUnavailable, TooManyRequests, WebhookNotGenuine
from payments.gateways.toss_events import MalformedEvent, read_event
from payments.resources import Resources
from payments.settings import Settings, Unsigned
from payments.usecases.receive_webhook import ACTED_ON, Delivery, Received, Trust, receive_webhook

router = APIRouter(prefix="/webhook", tags=["webhooks"])

# The headers of Toss (https://docs.tosspayments.com/reference/using-api/webhook-events), after the one of relays of
# our own: Toss itself never sends it, and signs payouts and sellers alone.
SIGNATURE: Final = "toss-signature"
TOSS_SIGNATURE: Final = "tosspayments-webhook-signature"
TRANSMISSION_TIME: Final = "tosspayments-webhook-transmission-time"
TRANSMISSION_ID: Final = "tosspayments-webhook-transmission-id"
_TRANSMISSION_ID: Final = re.compile(r"[!-~]{1,100}")

_REFUSED: Final = ("unknown", "nothing", "refused")
_received = Counter(
    "webhooks_received",
    "Webhooks that came in; a type that nothing follows from counts as `other`",
    ["type", "verified_by", "result"],
)

BODY: Final[dict[str, object]] = {
    "requestBody": {
        "required": True,
        "description": "An event as Toss sends it, at most 256 kB. Members that are not known are passed over.",
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "example": {
                    "eventType": "PAYMENT_STATUS_CHANGED",
                    "createdAt": "2026-01-02T14:46:59.653270",
                    "data": {"paymentKey": "tviva20260102144639Ab1Cd", "orderId": "order-000001", "status": "DONE"},
                },
            }
        },
    },
    "parameters": [
        {
            "name": "Toss-Signature",
            "in": "header",
            "required": False,
            "description": "Hexadecimal HMAC-SHA256 of the raw body, from relays of your own. Toss does not send it.",
            "schema": {"type": "string"},
        },
        {
            "name": TOSS_SIGNATURE,
            "in": "header",
            "required": False,
            "description": "As Toss signs payouts and sellers; needs the transmission time beside it.",
            "schema": {"type": "string"},
        },
    ],
}


@router.post(
    "/toss",
    summary="Take an event of Toss",
    response_model=dict[str, str],
    responses=refusals(WebhookNotGenuine, TooManyRequests, DatabaseUnavailable),
    openapi_extra=BODY,
)
async def receive_toss_webhook(request: Request, resources: FromResources) -> dict[str, str] | Response:
    """Store an event and answer at once; the same for a new one, a known one, and one about nobody's payment.

    Nothing that stands in an event is believed: it makes a worker ask Toss, and what Toss says then is recorded.
    """
    delivery = _delivery(request, await request.body())
    try:
        received = await _receive_in_turn(delivery, resources)
    except MalformedEvent as error:
        _received.labels(*_REFUSED).inc()
        return http_problem(400, detail=f"Not an event of Toss: {error}.")
    except WebhookNotGenuine:
        _received.labels(*_REFUSED).inc()
        raise
    _count(received)
    return {"status": "stored"}


async def _receive_in_turn(delivery: Delivery, resources: Resources) -> Received:
    trust, now = _trust(resources.settings), datetime.now(UTC)
    async with resources.webhook_turns:
        return await receive_webhook(
            delivery, read=read_event, trust=trust, at=now, sessions=resources.sessions, hot=resources.hot
        )


def _delivery(request: Request, body: bytes) -> Delivery:
    headers = request.headers
    transmission_id = headers.get(TRANSMISSION_ID, "")
    return Delivery(
        body,
        signatures=headers.getlist(SIGNATURE),
        toss_signatures=headers.getlist(TOSS_SIGNATURE),
        transmission_times=headers.getlist(TRANSMISSION_TIME),
        transmission_id=mask(transmission_id) if _TRANSMISSION_ID.fullmatch(transmission_id) else None,
    )


def _trust(settings: Settings) -> Trust:
    secrets = [secret.get_secret_value() for secret in settings.toss_webhook_secrets]
    return Trust(secrets, takes_hints=settings.toss_webhook_unsigned is Unsigned.LOOKUP)


def _count(received: Received) -> None:
    # By names of ours alone: whoever sends events could make up a million types.
    event_type = received.event_type if received.event_type in ACTED_ON else "other"
    _received.labels(event_type, received.verified_by.value, "stored" if received.is_new else "known").inc()
