"""Work that goes on when its caller goes away: what was asked of the PG must be recorded."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import TypeVar

import structlog

from payments.errors import PaymentError

log = structlog.get_logger()

T = TypeVar("T")


class Background:
    """Runs coroutines to their end, whatever happens to the request that asked for them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()

    async def finish(self, work: Coroutine[object, object, T]) -> T:
        """Wait for `work`. If the waiting is cancelled (client gone, shutdown), the work itself still ends."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def drain(self, limit: timedelta) -> int:
        """Wait until everything has ended, but no longer than `limit`; answers how many were still running."""
        if not self._running:
            return 0
        _, left = await asyncio.wait(set(self._running), timeout=limit.total_seconds())
        return len(left)

    def _ended(self, task: asyncio.Task[T]) -> None:
        self._running.discard(task)
        # Looked at even when the waiting request is gone, so that an error is never lost without a word. A refusal is
        # none: it is an answer, and the request's own line carries its code.
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, PaymentError):
            log.info("background.ended_with_error", error=type(error).__name__)
