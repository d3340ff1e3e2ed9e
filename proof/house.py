"""Our API and our worker on one database, in this process: everything of ours but the sockets of the buyers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Final

import httpx
from fastapi import FastAPI
from tests.integration.world import SHOP, confirm_body, prepare_body
from tests.keys import AUTHORIZATION

from payments.api.app import create_app
from payments.business_day import day_of
from payments.jobs import JOBS, Worker, perform
from payments.nightly import check_orders_of, reconcile_day
from payments.records import Job, Json, NightlyCheck
from payments.resources import WORKER, Resources, open_resources
from payments.settings import Settings
from payments.usecases.nights import run_due_nights

# Each second's work, in an order in which what one finds the next can finish; the nights have their own way in.
ROUND: Final = (
    (Job.TAKE_BACK, Job.SAFETY_NET),
    (Job.RECOVER, Job.WATCH, Job.WEBHOOKS, Job.REFUNDS, Job.STRAYS, Job.EXPIRE),
    (Job.EVENTS,),
)
_KNOWN_WITHIN: Final = 10.0  # seconds until the others know of a process
_DRAINED_WITHIN: Final = timedelta(seconds=60)

Fitted = Callable[[Resources], Resources]  # what is put between us and the world, if anything


@dataclass(frozen=True, slots=True)
class House:
    """One process's API and worker."""

    api: httpx.AsyncClient  # the shop's page and its back office in one
    resources: Resources  # the API's
    worker: Resources
    noted: dict[Job, tuple[float, str | None]] = field(default_factory=dict)  # how its jobs went last

    async def work(self) -> None:
        """One round of every job, each to its end."""
        for jobs in ROUND:
            worker = Worker(self.worker)  # a new one, which has not looked for half a second what is due
            worker.noted = self.noted
            for job in jobs:
                await perform(worker, job, JOBS[job][1])
                await self.worker.background.drain(_DRAINED_WITHIN)

    async def night(self, day: date) -> None:
        """Both checks of the night that is due by the database's clock; what they compare is `day`."""
        held = self.worker
        for kind in NightlyCheck:
            compare = partial(_compare, kind, day, held)
            await run_due_nights(kind, run=compare, sessions=held.sessions, holder=held.presence.holder)


async def _compare(kind: NightlyCheck, day: date, held: Resources, _due: date) -> dict[str, Json]:
    if kind is NightlyCheck.ORDERS:
        return await check_orders_of(held, day)
    return await reconcile_day(held, day)


def build_app(settings: Settings) -> FastAPI:
    """The API, not open yet: made once, before the processes that serve it are forked."""
    return create_app(settings)


@asynccontextmanager
async def open_house(
    settings: Settings, *, app: FastAPI | None = None, hot: bool = True, fitted: Fitted = lambda held: held
) -> AsyncIterator[House]:
    """Open both; without `hot` everything goes the plain path. `fitted` may put something between us and the world."""
    app = app or build_app(settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        worker = await stack.enter_async_context(open_resources(settings, role=WORKER))
        api = app.state.resources
        await _until_known(api, worker)
        app.state.resources = api = fitted(api if hot else replace(api, hot=None))
        worker = fitted(worker if hot else replace(worker, hot=None))
        headers = {"origin": SHOP, **AUTHORIZATION}
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers)
        yield House(await stack.enter_async_context(client), api, worker)


async def _until_known(*held: Resources) -> None:
    """Until the others can see whether we are alive: what nobody can watch is only left when its lease ends."""
    async with asyncio.timeout(_KNOWN_WITHIN):
        while any(one.presence.holder is None for one in held):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)


async def warm_up(settings: Settings, app: FastAPI, *, hot: bool) -> None:
    """Have it do a little of everything once, so that what it learns then is known to whoever is forked later."""
    async with open_house(settings, app=app, hot=hot) as house:
        key = f"warm-up-{hot}"
        await house.api.post("/payments/prepare", json=prepare_body(key))
        await house.api.post("/payments/confirm", json=confirm_body(key, key))
        await house.api.post(
            f"/payments/orders/{key}/cancel", json={"cancelReason": "-"}, headers={"idempotency-key": key}
        )
        await house.work()
        await house.night(day_of(datetime.now(UTC)))
