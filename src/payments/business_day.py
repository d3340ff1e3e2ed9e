"""The business day: from midnight to midnight in Seoul, wherever the machines and the database stand."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

SEOUL: Final = ZoneInfo("Asia/Seoul")


def day_of(at: datetime) -> date:
    """The business day that a moment belongs to."""
    return at.astimezone(SEOUL).date()


def moment_of(day: date, hour: int) -> datetime:
    """When it strikes `hour` in Seoul on that day, in UTC."""
    return datetime.combine(day, time(hour), SEOUL).astimezone(UTC)


def bounds(day: date) -> tuple[datetime, datetime]:
    """When a business day begins, and when the next one does, in UTC: the first is part of it, the second is not."""
    return moment_of(day, 0), moment_of(day + timedelta(days=1), 0)


def yesterday(at: datetime) -> date:
    """The business day before the one that a moment belongs to."""
    return day_of(at) - timedelta(days=1)
