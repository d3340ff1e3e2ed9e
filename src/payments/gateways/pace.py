"""An even pace for the requests to one remote service, which it can hold back when it says that it has too many."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

_BURST_SECONDS: Final = 1.0


class NotInTime(Exception):
    """The turn would not come before the patience of the caller ends; `left` is how long it would take."""

    def __init__(self, left: timedelta) -> None:
        super().__init__("no turn in time")
        self.left = left


class Pace:
    """Lets requests go one after another, `per_second` in the long run (infinite: as they come).

    After a pause, the requests of one second may go at once, and no more than that: the pace is not saved up. Turns
    are given in the order of asking. Not thread safe: it belongs to one event loop.

    Args:
        per_second: Requests per second, more than zero; below one they are spaced evenly.
        clock: Monotonic seconds.
        sleep: Waits for that many of its seconds.

    Raises:
        ValueError: A pace at which nothing would ever go.
    """

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not per_second > 0:  # written so that it refuses NaN as well
            raise ValueError("A pace is more than zero requests per second.")
        self._interval = 1 / per_second
        self._burst = max(0.0, _BURST_SECONDS - self._interval)
        self._clock = clock
        self._sleep = sleep
        self._next = clock()  # the turn that an even row would give to the next request
        self._held_until = clock()

    def hold(self, pause: timedelta) -> None:
        """Let nothing go for `pause` from now on, nor before an earlier hold ends."""
        self._held_until = max(self._held_until, self._clock() + pause.total_seconds())

    async def wait(self, *, patience: timedelta = timedelta.max, longest_hold: timedelta = timedelta.max) -> timedelta:
        """Wait for a turn; answers how long that took. A wait that is cancelled leaves its turn unused.

        Args:
            patience: The longest wait. A turn that is known to come later is not taken.
            longest_hold: How much of a hold concerns this caller, counted from now.

        Raises:
            NotInTime: The turn would come later than `patience` allows.
        """
        began = self._clock()
        if not self._interval and self._held_until <= began:  # as they come, and nobody has asked for quiet
            return timedelta()
        ends_at = began + patience.total_seconds()
        heeds_until = began + longest_hold.total_seconds()
        while True:
            # First the hold, then a turn: turns that were given during a hold would all come at its end.
            await self._sleep_until(min(self._held_until, heeds_until), ends_at)
            await self._sleep_until(self._take_turn(ends_at), ends_at)
            if min(self._held_until, heeds_until) <= self._clock():
                return timedelta(seconds=self._clock() - began)

    def _take_turn(self, ends_at: float) -> float:
        in_row = max(self._next, self._clock())
        turn = in_row - self._burst
        self._check(turn, ends_at)  # before it is taken, or those who give up would slow the others down
        self._next = in_row + self._interval
        return turn

    async def _sleep_until(self, moment: float, ends_at: float) -> None:
        self._check(moment, ends_at)
        while (left := moment - self._clock()) > 0:  # a sleep may end a little early
            await self._sleep(left)

    def _check(self, moment: float, ends_at: float) -> None:
        if moment > max(ends_at, self._clock()):
            raise NotInTime(timedelta(seconds=moment - self._clock()))
