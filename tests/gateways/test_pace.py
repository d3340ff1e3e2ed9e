"""The pace by a clock that the story turns: nobody waits, and every moment is exact."""

import asyncio
import heapq
import math
from datetime import timedelta

import pytest

from payments.gateways.pace import NotInTime, Pace


class HandTime:
    """Seconds that pass when everybody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._asked = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        wakes = asyncio.Event()
        self._asked += 1
        heapq.heappush(self._sleepers, (self.now + seconds, self._asked, wakes))
        await wakes.wait()

    async def pass_by(self, seconds: float = math.inf) -> None:
        """Let time pass until nobody sleeps any more, but no longer than `seconds`."""
        end = self.now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self.now, _, wakes = heapq.heappop(self._sleepers)
            wakes.set()
            await settle()
        if end < math.inf:
            self.now = end


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def time() -> HandTime:
    return HandTime()


def paced(per_second: float, time: HandTime) -> Pace:
    return Pace(per_second, clock=time.clock, sleep=time.sleep)


async def going(pace: Pace, time: HandTime, count: int) -> list[float]:
    """When each of `count` requests goes that all want to go now; seconds from now."""
    began = time.now
    moments: list[float] = []

    async def go() -> None:
        await pace.wait()
        moments.append(time.now - began)

    async with asyncio.TaskGroup() as together:
        for _ in range(count):
            together.create_task(go())
        await time.pass_by()
    return moments


class TestPace:
    @pytest.mark.parametrize("per_second", [0, -1, -math.inf, math.nan])
    def test_that_lets_nothing_go_is_refused(self, per_second: float) -> None:
        with pytest.raises(ValueError, match="more than zero"):
            Pace(per_second)

    async def test_lets_one_second_go_at_once_and_the_rest_evenly(self, time: HandTime) -> None:
        moments = await going(paced(4, time), time, 8)

        assert moments == pytest.approx([0, 0, 0, 0, 0.25, 0.5, 0.75, 1.0])

    async def test_below_one_a_second_is_even_from_the_start(self, time: HandTime) -> None:
        assert await going(paced(0.5, time), time, 3) == pytest.approx([0, 2, 4])

    async def test_is_not_saved_up(self, time: HandTime) -> None:
        pace = paced(4, time)
        await going(pace, time, 4)

        await time.pass_by(3600)

        assert await going(pace, time, 6) == pytest.approx([0, 0, 0, 0, 0.25, 0.5])

    async def test_without_a_limit_lets_everything_go(self, time: HandTime) -> None:
        assert await going(paced(math.inf, time), time, 1_000) == [0] * 1_000

    async def test_answers_how_long_it_made_the_caller_wait(self, time: HandTime) -> None:
        pace = paced(1, time)
        first = await pace.wait()
        second = asyncio.create_task(pace.wait())
        await time.pass_by()

        assert (first, await second) == (timedelta(0), timedelta(seconds=1))

    async def test_a_wait_that_is_given_up_leaves_its_turn_unused(self, time: HandTime) -> None:
        pace = paced(1, time)
        await pace.wait()
        impatient = asyncio.create_task(pace.wait())
        await settle()

        impatient.cancel()
        await asyncio.wait([impatient])

        assert await going(pace, time, 1) == [2]


class TestPatience:
    async def test_a_turn_that_comes_too_late_is_not_taken(self, time: HandTime) -> None:
        pace = paced(1, time)
        await pace.wait()

        for _ in range(100):
            with pytest.raises(NotInTime) as far:
                await pace.wait(patience=timedelta(seconds=0.5))
            assert far.value.left == timedelta(seconds=1)

        assert await going(pace, time, 1) == [1]

    async def test_one_that_comes_in_time_is_waited_for(self, time: HandTime) -> None:
        pace = paced(1, time)
        await pace.wait()
        patient = asyncio.create_task(pace.wait(patience=timedelta(seconds=1)))
        await time.pass_by()

        assert await patient == timedelta(seconds=1)


class TestHold:
    async def test_nothing_goes_before_its_end_and_then_at_the_pace(self, time: HandTime) -> None:
        pace = paced(2, time)
        pace.hold(timedelta(seconds=30))

        assert await going(pace, time, 4) == pytest.approx([30, 30, 30.5, 31])

    async def test_reaches_those_who_wait_for_their_turn_already(self, time: HandTime) -> None:
        pace = paced(1, time)
        await pace.wait()
        waiting = asyncio.create_task(pace.wait())
        await settle()

        pace.hold(timedelta(seconds=10))
        await time.pass_by()

        assert await waiting == timedelta(seconds=10)

    async def test_the_longest_counts(self, time: HandTime) -> None:
        pace = paced(math.inf, time)
        pace.hold(timedelta(seconds=30))
        pace.hold(timedelta(seconds=5))

        assert await going(pace, time, 1) == [30]

    async def test_is_told_at_once_to_whoever_cannot_wait_for_its_end(self, time: HandTime) -> None:
        pace = paced(math.inf, time)
        pace.hold(timedelta(seconds=30))

        with pytest.raises(NotInTime) as far:
            await pace.wait(patience=timedelta(seconds=4))

        assert far.value.left == timedelta(seconds=30)

    async def test_that_begins_meanwhile_is_told_too(self, time: HandTime) -> None:
        pace = paced(1, time)
        await pace.wait()
        waiting = asyncio.create_task(pace.wait(patience=timedelta(seconds=4)))
        await settle()

        pace.hold(timedelta(seconds=30))
        await time.pass_by()

        with pytest.raises(NotInTime) as far:
            await waiting
        assert far.value.left == timedelta(seconds=29)

    async def test_concerns_the_hurried_no_longer_than_they_say(self, time: HandTime) -> None:
        pace = paced(math.inf, time)
        pace.hold(timedelta(minutes=5))
        hurried = asyncio.create_task(pace.wait(longest_hold=timedelta(seconds=1)))
        await time.pass_by(60)

        assert await hurried == timedelta(seconds=1)
