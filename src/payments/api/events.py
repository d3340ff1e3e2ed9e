"""The feed: the events that are also pushed to the order service, to be read again or by who cannot be pushed to."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query

from payments.api.access import FromReader
from payments.api.deps import FromResources
from payments.api.documented import GUARDED, refusals
from payments.api.schemas import FeedAnswer, FeedEvent
from payments.db import transaction
from payments.errors import DatabaseUnavailable
from payments.outbox import Place, feed

router = APIRouter(tags=["events"])

MOST_AT_ONCE: Final = 500
# A transaction number of the database, a sequence and a message id; callers take it as it is.
PLACE: Final = r"^[0-9]{1,18}\.[0-9]{1,18}\.[0-9a-f]{32}$"

After = Annotated[
    str | None,
    Query(pattern=PLACE, description="`next` of the last answer; without it the oldest events that are kept"),
]
Limit = Annotated[int, Query(ge=1, le=MOST_AT_ONCE)]


@router.get("/events", summary="Read the events", responses=refusals(*GUARDED, DatabaseUnavailable))
async def read_events(resources: FromResources, _: FromReader, after: After = None, limit: Limit = 100) -> FeedAnswer:
    """The events behind a place, at most `limit`, in an order in which none ever appears before what was read.

    Of one payment they come in the order of their sequence. Ask again with `next` for what follows, also after an empty
    answer. Events are kept for 90 days, and for as long as they are not delivered.
    """
    place = _place(after) if after is not None else None
    async with transaction(resources.sessions) as session:
        messages = await feed(session, place, limit=limit)
    events = [FeedEvent.of(message) for message in messages]
    last = messages[-1] if messages else None
    return FeedAnswer(events=events, next=f"{last.transaction_id}.{last.sequence}.{last.id.hex}" if last else after)


def _place(after: str) -> Place:
    transaction_id, sequence, message_id = after.split(".")
    return Place(int(transaction_id), int(sequence), UUID(message_id))
