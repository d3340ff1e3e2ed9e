"""Nights: each business day is compared once, by whichever worker is there; a missed night is caught up."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments import discrepancies
from payments.business_day import moment_of, yesterday
from payments.db import Sessions, insist, transaction
from payments.errors import PaymentError
from payments.nightly_queries import claim_night, fail_night, finish_night, is_watched, open_nights
from payments.queries import database_now
from payments.records import DiscrepancyKind, Json, NightlyCheck

log = structlog.get_logger()

# When a business day is compared: on the next one, at this hour in Seoul.
HOURS: Final[dict[NightlyCheck, int]] = {NightlyCheck.ORDERS: 3, NightlyCheck.PG: 4}
OVERDUE_AFTER: Final = timedelta(hours=3)  # then a person is told that a night cannot be finished
CAUGHT_UP: Final = 31  # days: what was missed longer ago is for a person to run

Run = Callable[[date], Awaitable[dict[str, Json]]]


def due_at(kind: NightlyCheck, day: date) -> datetime:
    """When a business day is to be compared."""
    return moment_of(day + timedelta(days=1), HOURS[kind])


def newest_due(kind: NightlyCheck, *, at: datetime) -> date:
    """The last business day that is to be compared by now."""
    last = yesterday(at)
    return last if at >= due_at(kind, last) else last - timedelta(days=1)


async def run_due_nights(kind: NightlyCheck, *, run: Run, sessions: Sessions, holder: UUID | None) -> Sequence[date]:
    """Run the nights that are due and not finished, oldest first, by the database's clock; answers those finished.

    The first time ever that is yesterday only; later on every night since then, at most `CAUGHT_UP`. Any number of
    workers may do this at once: each night is held by one of them, and taken over when that one dies. A night that
    fails is due again a while later, and the others go on.
    """
    async with transaction(sessions) as session:
        newest = newest_due(kind, at=await database_now(session))
        waiting = await open_nights(session, kind, newest=newest, at_most=CAUGHT_UP)
    return [day for day in waiting if await _run_if_free(kind, day, run=run, sessions=sessions, holder=holder)]


async def run_night_by_hand(kind: NightlyCheck, day: date, *, run: Run, sessions: Sessions) -> dict[str, Json]:
    """Run a night now, whatever was done about it before, and keep its report.

    Of a day that is not due yet nothing is kept: its own night is still to come.

    Raises:
        PaymentError: what `run` raised; the night stays as it was.
    """
    report = await run(day)
    async with transaction(sessions) as session:
        now = await database_now(session)
        # What lies before the first night is not kept either: it would have the worker catch up all nights since.
        if now >= due_at(kind, day) and await is_watched(session, kind, day):
            await finish_night(session, kind, day, report=report, now=now)
    return report


async def _run_if_free(kind: NightlyCheck, day: date, *, run: Run, sessions: Sessions, holder: UUID | None) -> bool:
    async with transaction(sessions) as session:
        now = await database_now(session)
        attempt = await claim_night(session, kind, day, holder=holder, now=now)
    if attempt is None:
        return False
    log.info("night.started", kind=kind.value, day=day.isoformat(), attempt=attempt)
    (outcome,) = await asyncio.gather(run(day), return_exceptions=True)
    if isinstance(outcome, BaseException):
        await insist(lambda: _fail(kind, day, outcome, attempt=attempt, sessions=sessions))
        return False
    await insist(lambda: _finish(kind, day, outcome, sessions=sessions))
    return True


async def _finish(kind: NightlyCheck, day: date, report: dict[str, Json], *, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        now = await database_now(session)
        await finish_night(session, kind, day, report=report, now=now)
        await discrepancies.settle(session, _subject(kind, day), by="nightly", resolution="finished after all", at=now)
    log.info("night.finished", kind=kind.value, day=day.isoformat(), report=report)


async def _fail(kind: NightlyCheck, day: date, error: BaseException, *, attempt: int, sessions: Sessions) -> None:
    name = error.code if isinstance(error, PaymentError) else type(error).__name__
    async with transaction(sessions) as session:
        now = await database_now(session)
        await fail_night(session, kind, day, attempt=attempt, error=name, now=now)
        if now >= due_at(kind, day) + OVERDUE_AFTER:
            await _call_a_person(session, kind, day, error=name, at=now)
    is_ours = not isinstance(error, PaymentError)
    log.error("night.failed", kind=kind.value, day=day.isoformat(), error=name, exc_info=error if is_ours else None)


async def _call_a_person(session: AsyncSession, kind: NightlyCheck, day: date, *, error: str, at: datetime) -> None:
    await discrepancies.note_subject(
        session,
        DiscrepancyKind.NIGHT_NOT_FINISHED,
        _subject(kind, day),
        payment_id=None,
        ours={"day": day.isoformat()},
        theirs={"error": error},
        at=at,
    )


def _subject(kind: NightlyCheck, day: date) -> str:
    return f"{kind.value}/{day.isoformat()}"
