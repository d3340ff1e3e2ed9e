import asyncio
from datetime import timedelta

import pytest

from payments.background import Background, Crew
from payments.errors import PaymentNotFound

A_MOMENT = timedelta(milliseconds=10)
LONG = timedelta(seconds=10)


class Hands:
    """Work that is done when it may be."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.begun = 0
        self.ended = 0

    async def work(self) -> int:
        self.begun += 1
        await self.may_end.wait()
        self.ended += 1
        return self.ended


class TestBackground:
    async def test_work_goes_on_when_who_waits_for_it_goes_away(self) -> None:
        background, hands = Background(), Hands()
        waiting = asyncio.create_task(background.finish(hands.work()))
        await asyncio.sleep(0)

        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        hands.may_end.set()

        assert await background.drain(LONG) == 0
        assert hands.ended == 1

    async def test_draining_tells_how_much_would_not_end_in_time(self) -> None:
        background, hands = Background(), Hands()
        tasks = [background.start(hands.work()) for _ in range(3)]

        left = await background.drain(A_MOMENT)
        hands.may_end.set()
        await asyncio.gather(*tasks)

        assert (left, await background.drain(LONG)) == (3, 0)

    async def test_who_waits_hears_of_an_error(self) -> None:
        background = Background()

        async def refuse() -> None:
            raise PaymentNotFound

        with pytest.raises(PaymentNotFound):
            await background.finish(refuse())


class TestCrew:
    async def test_works_on_as_many_as_it_has_hands_and_knows_how_many_are_free(self) -> None:
        background, hands = Background(), Hands()
        crew = Crew(background, size=4)
        for _ in range(3):
            crew.start(hands.work())
        await asyncio.sleep(0)

        assert (hands.begun, crew.free) == (3, 1)
        await crew.until_free()  # a quarter is
        hands.may_end.set()
        await background.drain(LONG)
        assert (hands.ended, crew.free) == (3, 4)

    async def test_a_full_one_is_waited_for_until_a_part_of_it_is_free(self) -> None:
        slow, quick, crew = Hands(), Hands(), Crew(Background(), size=4)
        for hands in (slow, slow, slow, quick):
            crew.start(hands.work())
        waiting = asyncio.create_task(crew.until_free())
        await asyncio.sleep(0)
        was_waiting = not waiting.done()

        quick.may_end.set()
        await waiting

        assert (was_waiting, crew.free, slow.ended) == (True, 1, 0)
        slow.may_end.set()

    async def test_work_that_fails_frees_its_hand(self) -> None:
        crew = Crew(Background(), size=1)

        async def fail() -> None:
            raise ZeroDivisionError

        crew.start(fail())
        await crew.until_free()

        assert crew.free == 1
