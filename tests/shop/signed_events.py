"""Events as the payments service sends them, signed by the standard's own words rather than by a library.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
import json
import time
from uuid import uuid4

import httpx

from tests.shop.builders import Json, a_payment

SECRET = "whsec_" + base64.b64encode(b"the newer of two live secrets").decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"the older of two live secrets").decode()

SEQUENCE = 7


def an_event(order_id: str, event_type: str = "payment.completed", /, **payment: object) -> Json:
    return {
        "type": event_type,
        "timestamp": "2026-11-22T03:00:00Z",
        "data": {"sequence": SEQUENCE, "payment": a_payment(order_id, **payment)},
    }


def as_body(event: Json) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def signature(body: bytes, *, event_id: str, timestamp: str, secret: str) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def headers_of(body: bytes, *secrets: str, event_id: str | None = None, age_seconds: int = 0) -> httpx.Headers:
    """Headers of a try that was sent so long ago; signed by each of the secrets."""
    event_id, timestamp = event_id or str(uuid4()), str(int(time.time()) - age_seconds)
    signatures = [
        signature(body, event_id=event_id, timestamp=timestamp, secret=secret) for secret in secrets or (SECRET,)
    ]
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
        "content-type": "application/json",
    }
    return httpx.Headers(headers, encoding="utf-8")


async def send(client: httpx.AsyncClient, event: Json, *, event_id: str | None = None) -> httpx.Response:
    body = as_body(event)
    return await client.post("/api/events", content=body, headers=headers_of(body, event_id=event_id))
