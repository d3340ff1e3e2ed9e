"""The clock of the sandbox, which runs like the real one and can be moved forward."""

from datetime import UTC, datetime, timedelta, timezone

KST = timezone(timedelta(hours=9), "KST")


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
            ValueError: `by` is negative; what has expired would be alive again.
        """
        if by < timedelta():
            raise ValueError("the clock moves forward only")
        self.offset += by


def toss_time(at: datetime) -> str:
    """Write a moment as Toss does: Korean time, whole seconds, with the offset."""
    return at.astimezone(KST).isoformat(timespec="seconds")
