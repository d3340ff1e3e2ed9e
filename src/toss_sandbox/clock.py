"""The clock of the sandbox, which runs like the real one and can be moved forward."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

KST = timezone(timedelta(hours=9), "KST")

FARTHEST: Final = timedelta(days=36_500)
"""How far the clock can be ahead; dates end with the year 9999."""


class MovableClock:
    """Real time plus an offset that only grows."""

    def __init__(self, offset: timedelta = timedelta()) -> None:
        self.offset = offset

    def now(self) -> datetime:
        """The sandbox's present, aware, in UTC."""
        return datetime.now(UTC) + self.offset

    def advance(self, by: timedelta) -> None:
        """Move forward.

        Raises:
            ValueError: `by` is negative, and what has expired would be alive again; or it leads too far.
        """
        if by < timedelta():
            raise ValueError("the clock moves forward only")
        if by > FARTHEST - self.offset:
            raise ValueError(f"the clock can be at most {FARTHEST.days} days ahead")
        self.offset += by


def toss_time(at: datetime) -> str:
    """Write a moment as Toss does: Korean time, whole seconds, with the offset."""
    return at.astimezone(KST).isoformat(timespec="seconds")


def toss_time_of(seconds: float) -> str:
    """The same for a moment in seconds since 1970."""
    return toss_time(datetime.fromtimestamp(seconds, UTC))
