"""The worker: a scheduler that fires, and use cases that work."""

import asyncio
import signal
from datetime import timedelta
from typing import Final

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from payments.errors import Unavailable
from payments.resources import Resources, open_resources
from payments.settings import Settings
from payments.usecases.recover import recover

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
        scheduler.add_job(
            recover_due,
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
    try:
        await resources.background.finish(
            recover(
                sessions=resources.sessions,
                pg=resources.pg,
                lease=resources.confirm_lease,
            )
        )
    except Unavailable as error:
        log.warning("worker.waiting", code=error.code)
