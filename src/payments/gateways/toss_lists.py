"""Toss's list of transactions (https://docs.tosspayments.com/reference, transactions): how to ask, what came back."""

from datetime import datetime, timedelta, timezone
from typing import Final

from payments.gateways.pg import TransactionPage, Unknown, UnknownBecause
from payments.gateways.toss_answers import Reply, read_unknown
from payments.gateways.toss_codes import why_look_up_failed
from payments.gateways.toss_wire import MalformedAnswer, is_transaction_key, read_error, read_transactions

TRANSACTIONS_LIMIT: Final = 1_000  # rows of a page; Toss allows 5,000, and a smaller page is sooner there
_KST: Final = timezone(timedelta(hours=9), "KST")  # written without an offset, so it is the time of Korea
_ONE_SECOND: Final = timedelta(seconds=1)
_OK: Final = 200
_FIRST_ERROR: Final = 400
# In the general list of codes, without a word on which call has them. Whoever asks in the same way gets them again;
# the first is what a real shop was told about a cursor outside the dates.
_BADLY_ASKED: Final = frozenset(
    {
        "INVALID_TRANSACTION_KEY",
        "INVALID_PAGING_KEY",
        "EXCEED_MAX_QUERY_LIMIT",
        "INVALID_ISO_DATE_FORMAT",
        "INVALID_DATE",
    }
)


def transactions_query(since: datetime, until: datetime, *, after: str | None) -> dict[str, str]:
    """Say what is asked for. Whole seconds: `since` is rounded down and `until` up, so that nothing is left out.

    Raises:
        ValueError: A time has no offset, the times are in the wrong order, or `after` is not a transaction key.
    """
    if since.tzinfo is None or until.tzinfo is None or since > until:
        raise ValueError("Transactions are asked for between two times with an offset, the earlier one first.")
    if after is not None and not is_transaction_key(after):
        raise ValueError("not a transaction key")
    end = until if until.microsecond == 0 else until + _ONE_SECOND
    query = {"startDate": _seconds(since), "endDate": _seconds(end), "limit": str(TRANSACTIONS_LIMIT)}
    return query if after is None else {**query, "startingAfter": after}


def read_page(reply: Reply, *, after: str | None) -> TransactionPage | Unknown:
    """Read one page. One row that cannot be read makes the page unknown: a list with gaps proves nothing."""
    if reply.status >= _FIRST_ERROR:
        return _read_refusal(reply)
    if reply.status != _OK:  # as for payments: a redirect is never followed
        return Unknown(UnknownBecause.MALFORMED, message=f"HTTP {reply.status}")
    try:
        rows = read_transactions(reply.body)
    except MalformedAnswer as malformed:
        return Unknown(UnknownBecause.MALFORMED, message=str(malformed))
    next_after = rows[-1].transaction_key if len(rows) >= TRANSACTIONS_LIMIT else None
    if next_after is not None and next_after == after:
        return Unknown(UnknownBecause.MALFORMED, message="the page ends where it was to begin")
    return TransactionPage(rows, next_after)


def _read_refusal(reply: Reply) -> Unknown:
    error = read_error(reply.body)
    if error and error.code in _BADLY_ASKED:
        return read_unknown(UnknownBecause.MISCONFIGURED, reply, error)
    return read_unknown(why_look_up_failed(reply.status, error.code if error else None), reply, error)


def _seconds(moment: datetime) -> str:
    return moment.astimezone(_KST).strftime("%Y-%m-%dT%H:%M:%S")
