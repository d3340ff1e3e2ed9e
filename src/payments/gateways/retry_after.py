"""How long somebody who answered with `Retry-After` wants to be left alone."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(r"[0-9]{1,9}")


def parse_retry_after(header: str | None, *, at: datetime, longest: timedelta) -> timedelta | None:
    """Read seconds or an HTTP date (RFC 9110, 10.2.3), between zero and `longest`; None if unreadable."""
    if header is None:
        return None
    if _SECONDS.fullmatch(header):
        wait = timedelta(seconds=int(header))
    else:
        try:
            until = parsedate_to_datetime(header)
        except (ValueError, OverflowError, TypeError):  # what the parser makes of absurd years and zones
            return None
        wait = (until if until.tzinfo else until.replace(tzinfo=UTC)) - at
    return min(max(wait, timedelta(0)), longest)
