"""The worker: a scheduler that fires, and use cases that work."""

import asyncio
import signal
from collections.abc import Coroutine
from datetime import timedelta
from typing import Final

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from payments.errors import Unavailable
from payments.resources import Resources, open_resources
from payments.settings import Settings
from payments.usecases.recover import recover, watch
from payments.usecases.refund import resolve_due_refunds

log = structlog.get_logger()

SEOUL: Final = "Asia/Seoul"  # the business day
RECOVER_EVERY: Final = timedelta(seconds=1)
DRAIN_LIMIT: Final = timedelta(seconds=10)


async def work(settings: Settings) -> None:
    """Run the jobs until SIGTERM or SIGINT, then finish what is held."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with open_resources(settings) as resources:
        scheduler = AsyncIOScheduler(timezone=SEOUL)
        for job in (recover_due, watch_due, resolve_due):
            scheduler.add_job(
                job,
                "interval",
                seconds=RECOVER_EVERY.total_seconds(),
                args=[resources],
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,  # late is better than never
            )
        scheduler.start()
        log.info("worker.started", toss=settings.toss_api_url)
        await stopping.wait()
        scheduler.pause()
        left = await resources.background.drain(DRAIN_LIMIT)
        scheduler.shutdown(wait=False)
        log.info("worker.stopped", left_to_others=left)


async def recover_due(resources: Resources) -> None:
    """Ask the PG about every payment whose outcome is unknown and due."""
    await _finish(resources, recover(sessions=resources.sessions, pg=resources.pg, lease=resources.confirm_lease))


async def watch_due(resources: Resources) -> None:
    """Look at the virtual accounts that are due."""
    every = resources.settings.toss_deposit_check
    await _finish(
        resources, watch(sessions=resources.sessions, pg=resources.pg, lease=resources.confirm_lease, every=every)
    )


async def resolve_due(resources: Resources) -> None:
    """Ask the PG about every refund whose outcome is unknown and due."""
    await _finish(
        resources, resolve_due_refunds(sessions=resources.sessions, pg=resources.pg, lease=resources.confirm_lease)
    )


async def _finish(resources: Resources, work: Coroutine[object, object, int]) -> None:
    try:
        await resources.background.finish(work)
    except Unavailable as error:
        log.warning("worker.waiting", code=error.code)
