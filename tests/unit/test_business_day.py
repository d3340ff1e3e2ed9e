from datetime import UTC, date, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from payments.business_day import SEOUL, bounds, day_of, moment_of, yesterday

# Summer time was last tried in Korea in 1988.
FIRST, LAST = datetime(1990, 1, 1), datetime(2100, 1, 1)  # noqa: DTZ001 - the bounds of a strategy are naive
MOMENTS = st.datetimes(FIRST, LAST, timezones=st.timezones())
DAYS = st.dates(FIRST.date(), LAST.date())
TICK = timedelta(microseconds=1)


class TestBusinessDay:
    @given(MOMENTS)
    def test_holds_the_moment_that_belongs_to_it(self, at: datetime) -> None:
        begin, end = bounds(day_of(at))

        assert begin <= at.astimezone(UTC) < end

    @given(DAYS)
    def test_begins_with_its_first_moment_and_ends_before_the_next_one(self, day: date) -> None:
        begin, end = bounds(day)

        assert [day_of(begin - TICK), day_of(begin), day_of(end - TICK), day_of(end)] == [
            day - timedelta(days=1),
            day,
            day,
            day + timedelta(days=1),
        ]

    @given(DAYS)
    def test_lies_seamlessly_between_its_neighbours(self, day: date) -> None:
        begin, end = bounds(day)

        assert bounds(day - timedelta(days=1))[1] == begin
        assert end - begin == timedelta(hours=24)

    @given(DAYS, st.integers(0, 23))
    def test_strikes_each_hour_in_seoul(self, day: date, hour: int) -> None:
        at = moment_of(day, hour)

        assert at.tzinfo is UTC
        assert at.astimezone(SEOUL).replace(tzinfo=None) == datetime(day.year, day.month, day.day, hour)  # noqa: DTZ001 - Seoul's

    @given(MOMENTS)
    def test_does_not_depend_on_the_zone_in_which_a_moment_is_told(self, at: datetime) -> None:
        elsewhere = at.astimezone(timezone(timedelta(hours=-11)))

        assert day_of(elsewhere) == day_of(at)
        assert yesterday(elsewhere) == day_of(at) - timedelta(days=1)

    def test_begins_at_three_in_the_afternoon_of_utc(self) -> None:
        assert bounds(date(2026, 11, 22)) == (
            datetime(2026, 11, 21, 15, tzinfo=UTC),
            datetime(2026, 11, 22, 15, tzinfo=UTC),
        )
