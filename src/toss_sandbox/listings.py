"""The queries of the two lists: what can be read out of them, and which error says that it cannot."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from toss_sandbox.clock import KST
from toss_sandbox.errors import TossError

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SECOND: Final = re.compile(rf"{_DAY.pattern}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_DEFAULT_ROWS: Final = 100
_MOST_ROWS: Final = 5_000


class DateType(StrEnum):
    """Which date of a settlement is asked for."""

    SOLD = "soldDate"
    PAID_OUT = "paidOutDate"


@dataclass(frozen=True, slots=True)
class TransactionsQuery:
    """What `GET /v1/transactions` is asked; both moments are Korean time, and belong to what is asked for."""

    since: datetime
    until: datetime
    starting_after: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class SettlementsQuery:
    """What `GET /v1/settlements` is asked; both days belong to what is asked for, the first page is 1."""

    since: date
    until: date
    date_type: DateType
    page: int
    size: int


def read_transactions_query(query: Mapping[str, str], *, has_specific_codes: bool) -> TransactionsQuery:
    """Check the query of the list of transactions.

    Raises:
        TossError: INVALID_ISO_DATE_FORMAT, INVALID_DATE, EXCEED_MAX_QUERY_LIMIT, or INVALID_REQUEST.
    """
    since, until = (
        _moment(_required(query, name, has_specific_codes=has_specific_codes)) for name in ("startDate", "endDate")
    )
    if since > until:
        raise TossError("INVALID_DATE")
    return TransactionsQuery(since, until, query.get("startingAfter") or None, _rows(query, "limit"))


def read_settlements_query(query: Mapping[str, str], *, has_specific_codes: bool) -> SettlementsQuery:
    """Check the query of the settlements.

    Raises:
        TossError: INVALID_ISO_DATE_FORMAT, INVALID_DATE, EXCEED_MAX_QUERY_LIMIT, or INVALID_REQUEST.
    """
    since, until = (
        _day(_required(query, name, has_specific_codes=has_specific_codes)) for name in ("startDate", "endDate")
    )
    if since > until:
        raise TossError("INVALID_DATE")
    try:
        date_type = DateType(query.get("dateType") or DateType.SOLD)
    except ValueError:
        raise TossError("INVALID_REQUEST") from None
    return SettlementsQuery(since, until, date_type, _number(query, "page", 1), _rows(query, "size"))


def _required(query: Mapping[str, str], name: str, *, has_specific_codes: bool) -> str:
    text = query.get(name)
    if not text:
        raise TossError("INVALID_REQUIRED_PARAM" if has_specific_codes else "INVALID_REQUEST")
    return text


def _moment(text: str) -> datetime:
    if not (_DAY.fullmatch(text) or _SECOND.fullmatch(text)):
        raise TossError("INVALID_ISO_DATE_FORMAT")
    return _parsed(text)


def _day(text: str) -> date:
    if not _DAY.fullmatch(text):
        raise TossError("INVALID_ISO_DATE_FORMAT")
    return _parsed(text).date()


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=KST)
    except ValueError:
        raise TossError("INVALID_DATE") from None


def _rows(query: Mapping[str, str], name: str) -> int:
    rows = _number(query, name, _DEFAULT_ROWS)
    if rows > _MOST_ROWS:
        raise TossError("EXCEED_MAX_QUERY_LIMIT")
    return rows


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name) or str(default)
    if not _NUMBER.fullmatch(text) or int(text) < 1:
        raise TossError("INVALID_REQUEST")
    return int(text)
