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
        return await asyncio.shield(self.start(work))

    def start(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Begin `work` and do not wait for it."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

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


class Crew:
    """Works on many things at the same time, but never on more than `size`; a slow one holds up no other."""

    def __init__(self, background: Background, *, size: int) -> None:
        self._background = background
        self._size = size
        self._running: set[asyncio.Task[object]] = set()

    @property
    def free(self) -> int:
        """How many more can be begun now."""
        return self._size - len(self._running)

    def start(self, work: Coroutine[object, object, object]) -> None:
        task = self._background.start(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def until_free(self) -> None:
        """Wait until a good part of the crew is free, so that not each of them asks for work on its own."""
        while self._running and self.free < self._size / 4:
            await asyncio.wait(set(self._running), return_when=asyncio.FIRST_COMPLETED)
