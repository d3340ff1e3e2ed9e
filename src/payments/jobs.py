"""The worker: a scheduler that fires, and use cases that work. Claims, leases and due times live in the database."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from payments.background import Crew
from payments.business_day import SEOUL
from payments.db import Sessions, transaction
from payments.due import due_jobs
from payments.errors import Unavailable
from payments.leases import Lease
from payments.nightly import check_orders_of, reconcile_day
from payments.queries import database_now, note_job, pull_forward, take_back
from payments.records import Job, Json, NightlyCheck
from payments.resources import WORKER, Resources, open_resources
from payments.roles import warn_of_power
from payments.settings import Environment, Settings
from payments.states import Cause
from payments.usecases import expire as expiry
from payments.usecases import give_back, recover, refund
from payments.usecases.alert import alert_new
from payments.usecases.deliver import deliver_due
from payments.usecases.erase import erase
from payments.usecases.forget import forget
from payments.usecases.nights import run_due_nights
from payments.usecases.work_webhooks import work_webhooks

log = structlog.get_logger()

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

DRAIN_LIMIT: Final = timedelta(seconds=10)
AT_ONCE: Final = 50  # questions to the PG under way in each of the crews, at the most
FEWEST_AT_ONCE: Final = 2
TAKEN_BACK_AT_ONCE: Final = 500
LOOK_EVERY: Final = timedelta(milliseconds=500)  # more often than the most frequent job comes
# How often it is written down that a job goes well; when it begins or ceases to, at once.
NOTE_EVERY: Final = timedelta(seconds=10)

Run = Callable[["Worker"], Awaitable[object]]


class Claim(Protocol[T_co]):
    """Takes up to `limit` pieces of due work away from every other worker."""

    def __call__(self, *, sessions: Sessions, lease: Lease, limit: int) -> Awaitable[Sequence[T_co]]: ...


class Worker:
    """One process that does what nobody waits for."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.noted: dict[Job, tuple[float, str | None]] = {}
        self.is_stopping = False  # then nothing more is claimed
        self._crews: dict[Job, Crew] = {}
        self._due: frozenset[Job] = frozenset()
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    def crew(self, job: Job) -> Crew:
        return self._crews.setdefault(job, Crew(self.resources.background, size=self._hands))

    async def has_work(self, job: Job) -> bool:
        """Whether anything is due for a job; all jobs of a moment share one look."""
        async with self._looking:
            if time.monotonic() > self._looked_at + LOOK_EVERY.total_seconds():
                async with transaction(self.resources.sessions) as session:
                    self._due = await due_jobs(session)
                self._looked_at = time.monotonic()
        return job in self._due

    @property
    def _hands(self) -> int:
        """As many as get their turn at the PG before long; to claim more would only keep it from other workers."""
        return max(FEWEST_AT_ONCE, min(AT_ONCE, round(2 * self.resources.settings.toss_worker_rate)))


async def work(settings: Settings) -> None:
    """Run the jobs until SIGTERM or SIGINT, then finish what is held and give back the rest."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with open_resources(settings, role=WORKER) as resources:
        worker = Worker(resources)
        scheduler = schedule(worker)
        scheduler.start()
        _log_start(settings)
        if settings.environment is Environment.PRODUCTION:
            resources.background.start(warn_of_power(resources.sessions))
        await stopping.wait()
        worker.is_stopping = True
        scheduler.pause()
        left = await resources.background.drain(DRAIN_LIMIT)
        scheduler.shutdown(wait=False)
        log.info("worker.stopped", left_to_others=left)


def schedule(worker: Worker) -> AsyncIOScheduler:
    """The jobs of one worker; any number of workers may run them against one database."""
    scheduler = AsyncIOScheduler(timezone=SEOUL)
    for job, (every, run) in JOBS.items():
        scheduler.add_job(
            perform,
            "interval",
            seconds=every.total_seconds(),
            args=[worker, job, run],
            id=job.value,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,  # late is better than never
        )
    return scheduler


async def perform(worker: Worker, job: Job, run: Run) -> None:
    """Run a job once, and write down how it went. One that fails disturbs no other, and is tried again."""
    try:
        await run(worker)
    except Unavailable as error:
        if worker.noted.get(job, (0, None))[1] != error.code:  # once, and not each second of an outage
            log.warning("job.waiting", job=job.value, code=error.code)
        await _note(worker, job, error=error.code)
    except Exception as error:  # the worker's own loop: a bug in one job must not end the others
        log.exception("job.failed", job=job.value, error=type(error).__name__)
        await _note(worker, job, error=type(error).__name__)
    else:
        await _note(worker, job, error=None)


async def _note(worker: Worker, job: Job, *, error: str | None) -> None:
    noted_at, before = worker.noted.get(job, (float("-inf"), None))
    if error == before and time.monotonic() < noted_at + NOTE_EVERY.total_seconds():
        return
    worker.noted[job] = (time.monotonic(), error)
    with contextlib.suppress(Unavailable):  # then it is overdue, which is the truth
        async with transaction(worker.resources.sessions) as session:
            await note_job(session, job.value, error=error)


async def _keep_busy(
    worker: Worker,
    job: Job,
    claim: Claim[T],
    do: Callable[[T], Coroutine[object, object, object]],
) -> None:
    """Claim and begin as much as the job's crew has hands for, until nothing is due any more."""
    crew, held = worker.crew(job), worker.resources
    while not worker.is_stopping:
        await crew.until_free()
        if not crew.free:
            return
        claimed = await claim(sessions=held.sessions, lease=held.pg_lease, limit=crew.free)
        for one in claimed:
            crew.start(do(one))
        if not claimed:
            return


async def _recover(worker: Worker) -> None:
    held = worker.resources
    await _keep_busy(
        worker,
        Job.RECOVER,
        partial(recover.claim_due, hot=held.hot),
        lambda one: recover.resolve(one, sessions=held.sessions, hot=held.hot, pg=held.pg),
    )


async def _watch(worker: Worker) -> None:
    held, every = worker.resources, worker.resources.settings.toss_deposit_check
    await _keep_busy(
        worker,
        Job.WATCH,
        recover.claim_due_watches,
        lambda one: recover.look_at(one, every=every, sessions=held.sessions, pg=held.pg),
    )


async def _resolve_refunds(worker: Worker) -> None:
    held = worker.resources
    await _keep_busy(
        worker,
        Job.REFUNDS,
        refund.claim_due_refunds,
        lambda one: refund.resolve_refund(one, cause=Cause.RECOVERY, sessions=held.sessions, pg=held.pg),
    )


async def _give_back(worker: Worker) -> None:
    held = worker.resources
    await _keep_busy(
        worker,
        Job.STRAYS,
        give_back.claim_due_strays,
        lambda one: give_back.give_back(one, sessions=held.sessions, pg=held.pg),
    )


async def _expire(worker: Worker) -> None:
    held = worker.resources
    await _keep_busy(
        worker,
        Job.EXPIRE,
        expiry.claim_due_expiries,
        lambda one: expiry.expire(one, sessions=held.sessions, pg=held.pg),
    )


async def _work_webhooks(worker: Worker) -> None:
    held = worker.resources
    await held.background.finish(_until_none(worker, lambda: work_webhooks(sessions=held.sessions, pg=held.pg)))


async def _deliver(worker: Worker) -> None:
    held = worker.resources
    if held.subscriber is None:
        return
    subscriber = held.subscriber

    async def _round() -> int:
        return sum(one.delivered for one in await deliver_due(sessions=held.sessions, subscriber=subscriber))

    await held.background.finish(_until_none(worker, _round))


async def _until_none(worker: Worker, work_some: Callable[[], Awaitable[int]]) -> None:
    while not worker.is_stopping and await work_some():
        pass


async def _take_back(worker: Worker) -> None:
    async with transaction(worker.resources.sessions) as session:
        now = await database_now(session)
        freed = await take_back(session, now=now, limit=TAKEN_BACK_AT_ONCE)
    if freed:
        log.warning("work.taken_back", from_dead_processes=freed)


async def _pull_forward(worker: Worker) -> None:
    async with transaction(worker.resources.sessions) as session:
        now = await database_now(session)
        found = await pull_forward(session, now=now, limit=TAKEN_BACK_AT_ONCE)
    if found:
        log.warning("safety_net.caught", payments=found)


async def _alert(worker: Worker) -> None:
    held = worker.resources
    if held.alerts is not None:
        await held.background.finish(alert_new(sessions=held.sessions, alerts=held.alerts))


async def _check_orders(worker: Worker) -> None:
    held = worker.resources
    if held.orders is None:
        return
    await _run_nights(held, NightlyCheck.ORDERS, partial(check_orders_of, held))


async def _reconcile(worker: Worker) -> None:
    held = worker.resources
    await _run_nights(held, NightlyCheck.PG, partial(reconcile_day, held))


async def _run_nights(held: Resources, kind: NightlyCheck, run: Callable[[date], Awaitable[dict[str, Json]]]) -> None:
    nights = run_due_nights(kind, run=run, sessions=held.sessions, holder=held.presence.holder)
    await held.background.finish(nights)


async def _forget(worker: Worker) -> None:
    await forget(sessions=worker.resources.sessions)


async def _erase(worker: Worker) -> None:
    held = worker.resources
    await erase(sessions=held.sessions, older_than=held.settings.personal_data_kept)


def _if_due(job: Job, run: Run) -> Run:
    """Do not even begin while nothing is due."""

    async def _run(worker: Worker) -> None:
        if await worker.has_work(job):
            await run(worker)

    return _run


# The first ones are only begun when something is due; the others look for themselves, or come seldom.
JOBS: Final[dict[Job, tuple[timedelta, Run]]] = {
    **{
        job: (every, _if_due(job, run))
        for job, every, run in (
            (Job.TAKE_BACK, timedelta(seconds=1), _take_back),
            (Job.RECOVER, timedelta(seconds=1), _recover),
            (Job.WATCH, timedelta(seconds=1), _watch),
            (Job.REFUNDS, timedelta(seconds=1), _resolve_refunds),
            (Job.STRAYS, timedelta(seconds=1), _give_back),
            (Job.WEBHOOKS, timedelta(seconds=1), _work_webhooks),
            (Job.EVENTS, timedelta(seconds=1), _deliver),
            (Job.ALERTS, timedelta(seconds=5), _alert),
            (Job.EXPIRE, timedelta(seconds=10), _expire),
        )
    },
    Job.SAFETY_NET: (timedelta(minutes=5), _pull_forward),
    Job.CHECK_ORDERS: (timedelta(seconds=20), _check_orders),
    Job.RECONCILE: (timedelta(seconds=20), _reconcile),
    Job.FORGET: (timedelta(hours=1), _forget),
    Job.ERASE: (timedelta(hours=1), _erase),
}


def _log_start(settings: Settings) -> None:
    log.info("worker.started", toss=settings.toss_api_url)
    if settings.events_url is None:
        log.warning("worker.events_wait", hint="set EVENTS_URL and EVENTS_SECRETS, or the order service is not told")
    if settings.orders_url is None:
        log.warning("worker.orders_not_checked", hint="set ORDERS_URL, or nobody compares orders with payments")
    if not settings.alert_urls:
        log.warning("worker.alerts_nobody", hint="set ALERT_URLS, or discrepancies only stand in the log and the list")
