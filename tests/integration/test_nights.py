import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from payments.business_day import moment_of
from payments.db import Sessions, transaction
from payments.errors import PgUnavailable
from payments.ids import new_id
from payments.leases import DEAD_AFTER
from payments.queries import say_alive
from payments.records import Discrepancy, Json, NightlyCheck, NightlyRun, Process
from payments.usecases.nights import CAUGHT_UP, HOURS, due_at, run_due_nights, run_night_by_hand
from tests.clocks import move_database_clock
from tests.integration.night_world import found, opened

NOON = moment_of(date(2026, 11, 3), 12)  # in Seoul
YESTERDAY = date(2026, 11, 2)
PG = NightlyCheck.PG
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.fixture
async def sessions(database: str) -> AsyncIterator[Sessions]:
    """A database in which it is noon in Seoul."""
    await set_clock(database, NOON)
    async with opened(database) as sessions:
        yield sessions


class Nights:
    """What would be compared; it notes which nights were run, and fails where the story wants it."""

    def __init__(self, *failing: date) -> None:
        self.run: list[date] = []
        self.failing = set(failing)
        self.is_held = False
        self.begun = asyncio.Event()
        self._goes_on = asyncio.Event()

    async def __call__(self, day: date) -> dict[str, Json]:
        self.run.append(day)
        self.begun.set()
        if self.is_held:
            await self._goes_on.wait()
        if day in self.failing:
            raise PgUnavailable
        return {"day": day.isoformat(), "times": len(self.run)}

    def go_on(self) -> None:
        self._goes_on.set()


class TestANight:
    async def test_is_run_the_first_time_for_yesterday_only(self, sessions: Sessions) -> None:
        nights = Nights()

        finished = await run_due_nights(PG, run=nights, sessions=sessions, holder=None)

        assert finished == nights.run == [YESTERDAY]
        assert (await _night(sessions)).report == {"day": "2026-11-02", "times": 1}

    async def test_is_run_once(self, sessions: Sessions) -> None:
        nights = Nights()

        for _ in range(3):
            await run_due_nights(PG, run=nights, sessions=sessions, holder=None)

        assert nights.run == [YESTERDAY]

    @pytest.mark.parametrize("kind", NightlyCheck)
    async def test_is_due_at_its_hour_in_seoul(self, database: str, kind: NightlyCheck) -> None:
        """By the database's clock; the machine's is somewhere else altogether."""
        hour = moment_of(YESTERDAY + DAY, HOURS[kind])
        finished = []
        async with opened(database) as sessions:
            for at in (hour - DAY, hour - timedelta(minutes=1), hour):
                await set_clock(database, at)
                finished.append(await run_due_nights(kind, run=Nights(), sessions=sessions, holder=None))

        assert finished == [[YESTERDAY - DAY], [], [YESTERDAY]]
        assert due_at(kind, YESTERDAY) == hour

    async def test_of_one_kind_says_nothing_about_the_other(self, sessions: Sessions) -> None:
        nights = Nights()

        for kind in NightlyCheck:
            await run_due_nights(kind, run=nights, sessions=sessions, holder=None)

        assert nights.run == [YESTERDAY, YESTERDAY]

    async def test_that_was_missed_is_caught_up_oldest_first(self, sessions: Sessions, database: str) -> None:
        nights = Nights()
        await run_due_nights(PG, run=nights, sessions=sessions, holder=None)
        await set_clock(database, NOON + 4 * DAY)

        finished = await run_due_nights(PG, run=nights, sessions=sessions, holder=None)

        assert finished == [YESTERDAY + number * DAY for number in (1, 2, 3, 4)]

    async def test_that_was_missed_too_long_ago_is_given_up(self, sessions: Sessions, database: str) -> None:
        nights = Nights()
        await run_due_nights(PG, run=nights, sessions=sessions, holder=None)
        await set_clock(database, NOON + 400 * DAY)

        finished = await run_due_nights(PG, run=nights, sessions=sessions, holder=None)

        assert finished == [YESTERDAY + number * DAY for number in range(401 - CAUGHT_UP, 401)]

    async def test_between_others_is_not_forgotten(self, sessions: Sessions, database: str) -> None:
        nights = Nights()
        await run_due_nights(PG, run=nights, sessions=sessions, holder=None)
        await set_clock(database, NOON + 3 * DAY)
        await run_night_by_hand(PG, YESTERDAY + 2 * DAY, run=nights, sessions=sessions)

        finished = await run_due_nights(PG, run=nights, sessions=sessions, holder=None)

        assert finished == [YESTERDAY + DAY, YESTERDAY + 3 * DAY]


class TestAFailedNight:
    async def test_stops_no_other(self, sessions: Sessions, database: str) -> None:
        nights = Nights(YESTERDAY + DAY)
        await run_due_nights(PG, run=nights, sessions=sessions, holder=None)
        await set_clock(database, NOON + 2 * DAY)

        finished = await run_due_nights(PG, run=nights, sessions=sessions, holder=None)

        assert finished == [YESTERDAY + 2 * DAY]
        assert (await _night(sessions, YESTERDAY + DAY)).last_error == "pg_unavailable"

    async def test_comes_back_later_and_later(self, sessions: Sessions, database: str) -> None:
        nights = Nights(YESTERDAY)
        waits = []
        for _ in range(14):
            await run_due_nights(PG, run=nights, sessions=sessions, holder=None)
            waits.append(await _wait(sessions))
            await run_due_nights(PG, run=nights, sessions=sessions, holder=None)  # not yet
            await _make_due(sessions)

        assert waits[:3] == [timedelta(minutes=minutes) for minutes in (5, 10, 15)]
        assert waits[-1] == timedelta(hours=1)
        assert len(nights.run) == 14

    async def test_is_finished_by_a_later_try(self, sessions: Sessions) -> None:
        nights = Nights(YESTERDAY)
        await run_due_nights(PG, run=nights, sessions=sessions, holder=None)
        nights.failing.clear()
        await _make_due(sessions)

        assert await run_due_nights(PG, run=nights, sessions=sessions, holder=None) == [YESTERDAY]

        night = await _night(sessions)
        assert (night.last_error, night.held_by, night.attempts) == (None, None, 2)

    async def test_that_cannot_be_finished_for_hours_calls_a_person_until_it_is(
        self, sessions: Sessions, database: str
    ) -> None:
        nights = Nights(YESTERDAY)
        noted = []
        for hours in (1, 4):
            await set_clock(database, due_at(PG, YESTERDAY) + timedelta(hours=hours))
            await run_due_nights(PG, run=nights, sessions=sessions, holder=None)
            noted.append(await found(sessions))
        nights.failing = set()
        await set_clock(database, due_at(PG, YESTERDAY) + timedelta(hours=8))
        await run_due_nights(PG, run=nights, sessions=sessions, holder=None)

        assert noted == [set(), {("night_not_finished", "reconcile/2026-11-02")}]
        async with transaction(sessions) as session:
            assert await session.scalar(select(Discrepancy.resolution)) == "finished after all"

    async def test_names_what_nobody_foresaw_and_no_more(self, sessions: Sessions) -> None:
        async def breaks(_: date) -> dict[str, Json]:
            raise ZeroDivisionError("with a secret in it")

        assert await run_due_nights(PG, run=breaks, sessions=sessions, holder=None) == []

        assert (await _night(sessions)).last_error == "ZeroDivisionError"


class TestSeveralWorkers:
    async def test_run_each_night_once(self, sessions: Sessions, database: str) -> None:
        await run_due_nights(PG, run=Nights(), sessions=sessions, holder=None)
        await set_clock(database, NOON + 8 * DAY)
        nights = Nights()
        workers = [await _worker(sessions) for _ in range(3)]

        finished = await asyncio.gather(
            *(run_due_nights(PG, run=nights, sessions=sessions, holder=holder) for holder in workers)
        )

        missed = [YESTERDAY + number * DAY for number in range(1, 9)]
        assert sorted(nights.run) == sorted(day for days in finished for day in days) == missed

    @pytest.mark.parametrize("silence", [DEAD_AFTER - 2 * SECOND, DEAD_AFTER + SECOND])
    async def test_take_over_what_a_dead_one_held(self, sessions: Sessions, silence: timedelta) -> None:
        holder, other = await _worker(sessions), await _worker(sessions)
        await _killed_at_work(sessions, holder)
        nights = Nights()
        async with transaction(sessions) as session:
            await session.execute(update(Process).where(Process.id == holder).values(seen_at=func.now() - silence))

        await run_due_nights(PG, run=nights, sessions=sessions, holder=other)

        is_dead = silence > DEAD_AFTER
        assert nights.run == ([YESTERDAY] if is_dead else [])

    async def test_take_over_what_nobody_can_watch_when_its_time_is_over(
        self, sessions: Sessions, database: str
    ) -> None:
        await _killed_at_work(sessions, None)
        nights = Nights()

        for minutes in (29, 31):
            await set_clock(database, NOON + timedelta(minutes=minutes))
            await run_due_nights(PG, run=nights, sessions=sessions, holder=None)

        assert nights.run == [YESTERDAY]
        assert (await _night(sessions)).attempts == 2

    async def test_go_on_when_the_one_that_they_took_over_from_fails(self, sessions: Sessions, database: str) -> None:
        first, second = Nights(YESTERDAY), Nights()
        overtaken = await _at_work(sessions, first)
        await set_clock(database, NOON + timedelta(minutes=31))
        taken_over = await _at_work(sessions, second)

        first.go_on()
        assert await overtaken == []
        night = await _night(sessions)
        assert (night.last_error, night.attempts) == (None, 2)

        second.go_on()
        assert await taken_over == [YESTERDAY]

    async def test_that_were_overtaken_still_finish_a_night(self, sessions: Sessions, database: str) -> None:
        slow = Nights()
        overtaken = await _at_work(sessions, slow)
        await set_clock(database, NOON + timedelta(minutes=31))
        await run_due_nights(PG, run=Nights(YESTERDAY), sessions=sessions, holder=None)

        slow.go_on()

        assert await overtaken == [YESTERDAY]
        night = await _night(sessions)
        assert (night.last_error, night.finished_at is not None) == (None, True)


class TestByHand:
    async def test_runs_a_night_whatever_was_done_before(self, sessions: Sessions) -> None:
        nights = Nights()
        await run_due_nights(PG, run=nights, sessions=sessions, holder=None)

        report = await run_night_by_hand(PG, YESTERDAY, run=nights, sessions=sessions)

        assert report == (await _night(sessions)).report == {"day": "2026-11-02", "times": 2}
        assert await run_due_nights(PG, run=nights, sessions=sessions, holder=None) == []

    async def test_of_a_day_before_the_first_night_starts_no_catching_up(self, sessions: Sessions) -> None:
        nights = Nights()

        await run_night_by_hand(PG, date(2020, 1, 1), run=nights, sessions=sessions)

        assert await run_due_nights(PG, run=nights, sessions=sessions, holder=None) == [YESTERDAY]

    async def test_ends_the_tries_of_a_night_that_failed(self, sessions: Sessions) -> None:
        await run_due_nights(PG, run=Nights(YESTERDAY), sessions=sessions, holder=None)

        await run_night_by_hand(PG, YESTERDAY, run=Nights(), sessions=sessions)

        night = await _night(sessions)
        assert (night.last_error, night.finished_at is not None) == (None, True)

    async def test_never_forestalls_the_night_of_a_day_that_is_not_over(
        self, sessions: Sessions, database: str
    ) -> None:
        nights = Nights()
        today = YESTERDAY + DAY
        await run_due_nights(PG, run=nights, sessions=sessions, holder=None)

        await run_night_by_hand(PG, today, run=nights, sessions=sessions)
        await set_clock(database, NOON + DAY)

        assert await run_due_nights(PG, run=nights, sessions=sessions, holder=None) == [today]

    async def test_leaves_the_night_as_it_was_when_it_fails(self, sessions: Sessions) -> None:
        await run_due_nights(PG, run=Nights(), sessions=sessions, holder=None)

        with pytest.raises(PgUnavailable):
            await run_night_by_hand(PG, YESTERDAY, run=Nights(YESTERDAY), sessions=sessions)

        assert (await _night(sessions)).finished_at is not None


async def set_clock(database: str, at: datetime) -> None:
    """Let it be about `at` in the database."""
    move_database_clock(database, at - datetime.now(at.tzinfo))


async def _worker(sessions: Sessions) -> UUID:
    holder = new_id()
    async with transaction(sessions) as session:
        await say_alive(session, holder, "worker")
    return holder


async def _at_work(sessions: Sessions, nights: Nights, *, holder: UUID | None = None) -> asyncio.Task[Sequence[date]]:
    """A worker that is in the middle of a night, until the story lets it go on."""
    nights.is_held = True
    work = asyncio.create_task(run_due_nights(PG, run=nights, sessions=sessions, holder=holder))
    await asyncio.wait_for(nights.begun.wait(), 10)
    return work


async def _killed_at_work(sessions: Sessions, holder: UUID | None) -> None:
    work = await _at_work(sessions, Nights(), holder=holder)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


async def _night(sessions: Sessions, day: date = YESTERDAY) -> NightlyRun:
    async with transaction(sessions) as session:
        return (await session.scalars(select(NightlyRun).where(NightlyRun.kind == PG, NightlyRun.day == day))).one()


async def _wait(sessions: Sessions) -> timedelta:
    """How long after the failure the night comes back, to the minute."""
    async with transaction(sessions) as session:
        due, now = (await session.execute(select(NightlyRun.next_attempt_at, func.now()))).one()
    return timedelta(minutes=round((due - now) / timedelta(minutes=1)))


async def _make_due(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await session.execute(update(NightlyRun).values(next_attempt_at=func.now()))
