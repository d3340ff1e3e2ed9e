"""Where the payments service sends its events: `POST /api/events`, signed as Standard Webhooks are.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import logging
import re
from typing import Final

from fastapi import APIRouter, HTTPException, Request
from starlette.requests import ClientDisconnect

from demo_shop.events import NotAnEvent, is_signed, read_event
from demo_shop.problems import NotConfigured
from demo_shop.received_events import EVENT_ID_PATTERN, receive
from demo_shop.shop import InShop, now

router = APIRouter(prefix="/api")
log = logging.getLogger(__name__)

LARGEST_BODY: Final = 256 * 1024  # bytes; an event has a few thousand
_EVENT_ID: Final = re.compile(EVENT_ID_PATTERN)


@router.post("/events", status_code=204)
async def receive_event(request: Request, shop: InShop) -> None:
    """Take an event in. 2xx says that it need not be sent again, also where it told nothing new."""
    if not shop.settings.hears_events:
        raise NotConfigured
    body = await _read(request)
    if not is_signed(body, request.headers, secrets=shop.settings.events_secrets):
        log.warning("an event without a valid signature was refused")
        raise HTTPException(401)
    try:
        event = read_event(body)
    except NotAnEvent as error:
        log.error("a signed event cannot be read: %s", error)  # noqa: TRY400 - the trace would hold the body
        raise HTTPException(400) from error
    if event is not None:
        await receive(shop.sessions, _event_id(request), event=event, at=now())


async def _read(request: Request) -> bytes:
    """The raw body, as it was signed; never more of it in memory than we take."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BODY:
                raise HTTPException(413)
    except ClientDisconnect as error:
        raise HTTPException(400) from error
    return bytes(body)


def _event_id(request: Request) -> str:
    event_id = request.headers["webhook-id"]
    if not _EVENT_ID.fullmatch(event_id):
        raise HTTPException(400)
    return event_id
