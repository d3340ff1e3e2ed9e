from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.gateways.retry_after import parse_retry_after

AT = datetime(2026, 1, 2, 5, 46, 59, tzinfo=UTC)
LONGEST = timedelta(minutes=5)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("0", 0),
            ("7", 7),
            ("299", 299),
            ("301", 300),
            ("999999999", 300),
            ("Fri, 02 Jan 2026 05:47:29 GMT", 30),
            ("Fri, 02 Jan 2026 05:47:29 -0000", 30),
            ("Fri, 02 Jan 2026 14:47:29 +0900", 30),
            ("Fri, 02 Jan 2026 05:46:29 GMT", 0),
            ("Fri, 02 Jan 2099 05:46:29 GMT", 300),
        ],
    )
    def test_seconds_or_a_date_are_read_and_capped(self, header: str, seconds: int) -> None:
        assert parse_retry_after(header, at=AT, longest=LONGEST) == timedelta(seconds=seconds)

    @pytest.mark.parametrize(
        "header", [None, "", "soon", "-1", "1.5", "9999999999", "\u0661", "Fri, 99 Jan 2026 05:47:29 GMT"]
    )
    def test_anything_else_is_no_wish(self, header: str | None) -> None:
        assert parse_retry_after(header, at=AT, longest=LONGEST) is None

    @given(st.text())
    def test_no_header_breaks_it(self, header: str) -> None:
        wait = parse_retry_after(header, at=AT, longest=LONGEST)

        assert wait is None or timedelta(0) <= wait <= LONGEST
