from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Final

import httpx
import pytest
from sqlalchemy import select, update

from payments import discrepancies
from payments.db import transaction
from payments.errors import DatabaseUnavailable, PgUnavailable
from payments.figures import read_figures
from payments.jobs import JOBS, Worker, perform, schedule
from payments.queries import OVERDUE_AFTER, database_now, note_job, overdue_jobs
from payments.records import DiscrepancyKind, Job, JobRun, NightlyCheck, NightlyRun, OutboxMessage, Severity
from payments.resources import Resources
from tests.integration.events_world import lived
from tests.integration.night_world import opened
from tests.integration.world import (
    Sandbox,
    cancelling,
    confirm_body,
    make_due,
    make_refunds_due,
    paid,
    prepared,
    read,
)

NOWHERE: Final = "postgresql+psycopg://nobody@127.0.0.1:1/nowhere"
HOURS: Final = timedelta(hours=5)  # a worker could have been seen to run for so long


@pytest.fixture
def worker(resources: Resources) -> Worker:
    return Worker(resources)


def raising(error: Exception) -> Callable[[Worker], Awaitable[object]]:
    async def run(_: Worker) -> None:
        raise error

    return run


async def go_well(_: Worker) -> None:
    """Nothing was due."""


async def run_of(resources: Resources, job: Job) -> JobRun:
    async with transaction(resources.sessions) as session:
        return (await session.scalars(select(JobRun).where(JobRun.name == job.value))).one()


async def every_job_went_well(resources: Resources) -> None:
    async with transaction(resources.sessions) as session:
        for job in Job:
            await note_job(session, job.value, error=None)


async def let_pass(resources: Resources, time: timedelta) -> None:
    """So much time goes by since the jobs were last noted."""
    earlier = {
        "last_success_at": JobRun.last_success_at - time,
        "last_failure_at": JobRun.last_failure_at - time,
    }
    async with transaction(resources.sessions) as session:
        await session.execute(update(JobRun).values(earlier))


async def overdue(resources: Resources, *, patience: timedelta = HOURS) -> list[str]:
    async with transaction(resources.sessions) as session:
        return await overdue_jobs(session, patience=patience)


async def metrics(api: httpx.AsyncClient) -> dict[str, float]:
    answer = await api.get("/metrics")
    lines = [line.rpartition(" ") for line in answer.text.splitlines() if line.startswith("payments_")]
    return {name: float(value) for name, _, value in lines}


class TestPerform:
    async def test_one_that_raises_stops_no_other_and_shows_as_overdue(
        self, resources: Resources, worker: Worker
    ) -> None:
        await every_job_went_well(resources)
        await let_pass(resources, max(OVERDUE_AFTER.values()))
        for job in Job:
            await perform(worker, job, raising(ZeroDivisionError()) if job is Job.EXPIRE else go_well)

        assert await overdue(resources) == ["expire"]
        run = await run_of(resources, Job.EXPIRE)
        assert run.last_error == "ZeroDivisionError"
        assert run.last_failure_at is not None

    async def test_what_is_away_is_noted_by_its_code_and_forgotten_when_it_is_back(
        self, resources: Resources, worker: Worker
    ) -> None:
        await perform(worker, Job.RECOVER, go_well)
        await perform(worker, Job.RECOVER, raising(PgUnavailable()))
        failed = await run_of(resources, Job.RECOVER)

        await perform(worker, Job.RECOVER, go_well)

        well = await run_of(resources, Job.RECOVER)
        assert (failed.last_error, well.last_error) == (PgUnavailable.code, None)
        assert failed.last_failure_at is not None
        assert failed.last_success_at is not None
        assert well.last_success_at is not None
        assert well.last_success_at > failed.last_success_at

    async def test_what_fails_from_the_first_is_noted_too(self, resources: Resources, worker: Worker) -> None:
        await perform(worker, Job.RECOVER, raising(ZeroDivisionError()))

        run = await run_of(resources, Job.RECOVER)
        assert (run.last_error, run.last_success_at) == ("ZeroDivisionError", None)

    async def test_what_cannot_be_written_down_ends_no_worker(self, resources: Resources) -> None:
        async with opened(NOWHERE) as sessions:
            worker = Worker(replace(resources, sessions=sessions))

            await perform(worker, Job.RECOVER, raising(DatabaseUnavailable()))

        assert Job.RECOVER.value in await overdue(resources)

    async def test_that_it_goes_well_is_written_down_now_and_then_and_not_each_second(
        self, resources: Resources, worker: Worker
    ) -> None:
        await perform(worker, Job.RECOVER, go_well)
        first = await run_of(resources, Job.RECOVER)
        for _ in range(3):
            await perform(worker, Job.RECOVER, go_well)

        assert (await run_of(resources, Job.RECOVER)).last_success_at == first.last_success_at


class TestSchedule:
    async def test_has_every_job_never_beside_itself_and_late_rather_than_never(self, worker: Worker) -> None:
        jobs = schedule(worker).get_jobs()

        assert {job.id for job in jobs} == {job.value for job in Job} == {job.value for job in JOBS}
        assert {(job.max_instances, job.coalesce, job.misfire_grace_time) for job in jobs} == {(1, True, None)}

    async def test_every_job_goes_well_where_there_is_nothing_to_do(
        self, sandbox: Sandbox, resources: Resources, worker: Worker
    ) -> None:
        for job, (_, run) in JOBS.items():
            await perform(worker, job, run)

        async with transaction(resources.sessions) as session:
            noted = {run.name: run.last_error for run in await session.scalars(select(JobRun))}
        assert noted == dict.fromkeys(noted)
        assert len(noted) == len(Job)

    async def test_the_crews_finish_what_hangs(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, worker: Worker
    ) -> None:
        await prepared(api, "order-of-no-return")
        await paid(api, sandbox, "order-with-refund")
        await self._lose_a_refund(api, sandbox)
        await self._lose_a_confirm(api, sandbox)
        await make_due(resources)
        await make_refunds_due(resources)

        for job in (Job.RECOVER, Job.REFUNDS, Job.EXPIRE, Job.WATCH, Job.EVENTS):
            await perform(worker, job, JOBS[job][1])
        assert await resources.background.drain(timedelta(seconds=10)) == 0

        assert (await read(api, "order-of-no-return"))["failure"]["code"] == "expired"
        assert (await read(api, "order-with-refund"))["refundedAmount"] == 5000
        assert (await read(api, "order-confirmed"))["status"] == "COMPLETED"

    async def test_a_slow_pg_holds_up_no_other_job(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, worker: Worker
    ) -> None:
        await self._lose_a_confirm(api, sandbox)
        await make_due(resources)
        await sandbox.arm("lookup", "delay", delaySeconds=0.5)
        idle = worker.crew(Job.RECOVER).free

        await perform(worker, Job.RECOVER, JOBS[Job.RECOVER][1])
        await perform(worker, Job.RECOVER, JOBS[Job.RECOVER][1])

        assert worker.crew(Job.RECOVER).free == idle - 1  # it is asked about once, and nobody waits for that
        assert await resources.background.drain(timedelta(seconds=10)) == 0
        assert (await read(api, "order-confirmed"))["status"] == "COMPLETED"

    async def _lose_a_confirm(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api, "order-confirmed")
        key = await sandbox.buyer_authenticates("order-confirmed")
        await sandbox.arm("any", "drop_before_effect", times=2)
        answer = await api.post("/payments/confirm", json=confirm_body(key, "order-confirmed"))
        assert answer.status_code == 202
        await sandbox.clear_faults()

    async def _lose_a_refund(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await sandbox.arm("cancel", "drop_before_effect", times=2)
        await sandbox.arm("lookup", "server_error")
        assert (await cancelling(api, 5000, order_id="order-with-refund")).status_code == 202
        await sandbox.clear_faults()


class TestFigures:
    async def test_show_what_waits_and_for_how_long(self, api: httpx.AsyncClient, resources: Resources) -> None:
        sessions = resources.sessions
        await lived(sessions, "order-000001", "order-000002", events=2)
        async with transaction(sessions) as session:
            now = await database_now(session)
            waits = OutboxMessage.created_at - timedelta(minutes=10)
            parked = update(OutboxMessage).where(OutboxMessage.sequence == 5).values(parked_at=now)
            await session.execute(update(OutboxMessage).values(created_at=waits))
            await session.execute(parked)
            await discrepancies.note_subject(
                session, DiscrepancyKind.ORDER_MISSING, "order", payment_id=None, ours={}, theirs={}, at=now
            )
        await every_job_went_well(resources)

        shown = await metrics(api)

        assert shown['payments_waiting{what="undelivered_events"}'] == 2
        assert 600 <= shown['payments_oldest_seconds{what="undelivered_events"}'] < 700
        assert shown['payments_parked{what="events"}'] == 2
        assert shown['payments_discrepancies_open{severity="critical"}'] == 1
        assert shown['payments_waiting{what="pending_payments"}'] == 0
        assert shown['payments_oldest_seconds{what="pending_payments"}'] == 0
        assert 0 <= shown['payments_job_last_success_seconds{job="recover"}'] < 60

    async def test_count_payments_and_refunds_that_hang(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await sandbox.arm("any", "server_error", times=None)
        assert (await cancelling(api, 5000)).status_code == 202
        await sandbox.clear_faults()
        await prepared(api, "order-000002")
        key = await sandbox.buyer_authenticates("order-000002")
        await sandbox.arm("any", "drop_before_effect", times=2)
        await api.post("/payments/confirm", json=confirm_body(key, "order-000002"))

        async with transaction(resources.sessions) as session:
            figures = await read_figures(session)

        assert {name: queue.count for name, queue in figures.queues.items()} == {
            "pending_payments": 1,
            "requested_refunds": 1,
            "undelivered_events": 1,
            "received_webhooks": 0,
        }
        assert figures.discrepancies == {severity.value: 0 for severity in Severity}


class TestHealth:
    async def test_is_ready_while_the_jobs_are_young_or_go_well(
        self, api: httpx.AsyncClient, resources: Resources
    ) -> None:
        young = await overdue(resources, patience=timedelta(seconds=59))
        never_ran = await overdue(resources)
        await every_job_went_well(resources)

        assert (young, set(never_ran)) == ([], {job.value for job in Job})
        assert await overdue(resources) == []
        assert (await api.get("/health/ready")).status_code == 200

    async def test_takes_payments_although_a_night_cannot_be_finished(
        self, api: httpx.AsyncClient, resources: Resources
    ) -> None:
        await every_job_went_well(resources)
        async with transaction(resources.sessions) as session:
            now = await database_now(session)
            night = {"kind": NightlyCheck.ORDERS, "day": date(2026, 11, 2), "attempts": 3, "next_attempt_at": now}
            session.add(NightlyRun(**night, started_at=now - timedelta(hours=4)))

        assert (await api.get("/health/ready")).status_code == 200
