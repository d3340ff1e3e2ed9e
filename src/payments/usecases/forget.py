"""Forget: rows that nobody needs any more are deleted; payments, their history and refunds stay."""

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from payments.db import Sessions, transaction
from payments.queries import FORGETTABLE, forget_some

log = structlog.get_logger()

# A client may repeat a request for 15 days, Toss a webhook for 4; the feed of events is read again after an accident.
KEPT_FOR: Final[dict[str, timedelta]] = {
    "idempotent_requests": timedelta(days=16),
    "received_webhooks": timedelta(days=30),
    "outbox_messages": timedelta(days=90),
    "processes": timedelta(days=1),
}
BATCH: Final = 1000


async def forget(*, sessions: Sessions, progress: Callable[[str, int], None] | None = None) -> dict[str, int]:
    """Delete what is older than it has to be, in short transactions; answers how many rows of each table.

    Nothing is deleted that still waits for something. `progress` is told a table and how many of its rows are gone.
    """
    gone = dict.fromkeys(KEPT_FOR, 0)
    for table, age in KEPT_FOR.items():
        while deleted := await _forget_some(table, age, sessions=sessions):
            gone[table] += deleted
            if progress is not None:
                progress(table, gone[table])
    log.info("rows.forgotten", **gone)
    return gone


async def _forget_some(table: str, age: timedelta, *, sessions: Sessions) -> int:
    async with transaction(sessions) as session:
        return await forget_some(session, FORGETTABLE[table], older_than=age, limit=BATCH)
