"""That a process is alive, said every second, so that others take over what it held when it dies."""

import asyncio
import contextlib
import os
import socket
import time
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from payments.db import Sessions, transaction
from payments.errors import PaymentError
from payments.ids import new_id
from payments.leases import BEAT_EVERY
from payments.queries import say_alive, say_goodbye

log = structlog.get_logger()

LONGEST_NAME: Final = 100


def here(role: str) -> str:
    """What the names of this machine's processes in a role begin with."""
    return f"{role} {socket.gethostname()}"


class Presence:
    """One running process, as the others see it. Several in one process do not disturb each other."""

    def __init__(self, role: str, *, sessions: Sessions) -> None:
        self._id = new_id()
        self._name = f"{here(role)}:{os.getpid()}"[:LONGEST_NAME]
        self._sessions = sessions
        self._beating: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._is_known = False
        self._heard_at = time.monotonic()

    @property
    def silence(self) -> timedelta:
        """How long nothing of this process has been written down; it tries every second."""
        return timedelta(seconds=time.monotonic() - self._heard_at)

    @property
    def holder(self) -> UUID | None:
        """Who holds what this process works on; None until the others know of it, or they would take it for dead."""
        return self._id if self._is_known else None

    def start(self) -> None:
        """Begin to say so, once the database can be reached."""
        self._beating = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """Say that it is over: what is still held here is free at once."""
        if self._beating is None:
            return
        self._stopping.set()
        await self._beating  # cancelled in the middle of a beat, it would leave its connection open
        if self._is_known:
            with contextlib.suppress(PaymentError):  # the database is away; the others notice the silence
                async with transaction(self._sessions) as session:
                    await say_goodbye(session, self._id)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            next_beat = loop.time() + BEAT_EVERY.total_seconds()
            await self._say_alive()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(next_beat):
                    await self._stopping.wait()

    async def _say_alive(self) -> None:
        try:
            async with transaction(self._sessions) as session:
                await say_alive(session, self._id, self._name)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next second may be better
            if self._is_known:
                log.warning("presence.unheard", error=type(error).__name__)
            self._is_known = False
        else:
            self._is_known = True
            self._heard_at = time.monotonic()
