"""What Toss's books show a merchant: the list of transactions and the settlements, read from the ledger."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Final

from pydantic import JsonValue

from toss_sandbox.clock import KST, toss_time
from toss_sandbox.errors import TossError
from toss_sandbox.listings import DateType, SettlementsQuery, TransactionsQuery
from toss_sandbox.payment_object import cancel_object, payment_object
from toss_sandbox.payments import METHOD_NAMES, VIRTUAL_ACCOUNT, Payment, Status
from toss_sandbox.settings import Settings
from toss_sandbox.store import Movement, Store

# A settlement that a merchant made public: of 64,601 won a fee of 1,356 with 136 of tax, paid out after four days.
_FEE_PER_MILLE: Final = 21
_ACCOUNT_FEE: Final = 400  # won; issuing an account has a price of its own
_PAID_OUT_AFTER: Final = timedelta(days=4)
_SATURDAY: Final = 5
_DAY: Final = timedelta(days=1)
_FIRST_DAY: Final = date(2000, 1, 1)  # nothing is older; far from where the calendar begins

_MEANS: Final = ("card", "easyPay", "giftCertificate", "mobilePhone", "transfer", "virtualAccount")
_CANCEL_MEMBERS: Final = (
    *("cancelAmount", "cancelReason", "taxFreeAmount", "taxExemptionAmount", "refundableAmount"),
    *("easyPayDiscountAmount", "canceledAt", "transactionKey", "receiptKey"),
)


def transactions(store: Store, settings: Settings, query: TransactionsQuery) -> list[JsonValue]:
    """One row for each time money moved, by time: an approval, a cancel, or a deposit that was taken back.

    Raises:
        TossError: `settings.paging_key_code` for a page after a key that the asked time does not have.
    """
    since, until = toss_time(query.since), toss_time(query.until)
    place = ("", 0)
    if query.starting_after is not None:
        found = store.place_of(query.starting_after)
        if found is None or not since <= found[0] <= until:
            raise TossError(settings.paging_key_code)
        place = found
    entries = store.entries(since, until, after=place, limit=query.limit)
    return [_transaction(moved, payment, settings) for moved, payment in entries]


def settlements(store: Store, settings: Settings, query: SettlementsQuery, *, at: datetime) -> list[JsonValue]:
    """What is paid out for approvals and cancels; a payment appears on the day after it.

    A deposit that was taken back is in none of them.
    """
    first, last = _sold_days(query)
    last = min(last, at.astimezone(KST).date() - _DAY)
    if not settings.fills_settlements or first > last:
        return []
    entries = store.settled_entries(
        f"{first}T00:00:00+09:00", f"{last}T23:59:59+09:00", limit=query.size, offset=(query.page - 1) * query.size
    )
    return [_settlement(moved, payment, settings, at=at) for moved, payment in entries]


def _transaction(moved: Movement, payment: Payment, settings: Settings) -> dict[str, JsonValue]:
    return {
        "mId": settings.merchant_id,
        "transactionKey": moved.transaction_key,
        "paymentKey": payment.payment_key,
        "orderId": payment.order_id,
        "method": METHOD_NAMES[payment.method],
        "customerKey": None,
        "useEscrow": payment.use_escrow,
        "receiptUrl": settings.receipt_url.format(payment_key=payment.payment_key),
        "status": _status_after(moved, payment).value,
        "transactionAt": moved.at,
        "currency": "KRW",
        "amount": _sign(moved, settings) * moved.amount,
    }


def _status_after(moved: Movement, payment: Payment) -> Status:
    if moved.kind == "capture":
        return Status.DONE
    if moved.kind == "reversal":
        return Status.WAITING_FOR_DEPOSIT
    first = payment.cancels[0]
    is_whole = first.transaction_key == moved.transaction_key and first.refundable_amount == 0
    return Status.CANCELED if is_whole else Status.PARTIAL_CANCELED


def _settlement(moved: Movement, payment: Payment, settings: Settings, *, at: datetime) -> dict[str, JsonValue]:
    sign = _sign(moved, settings)
    supply = _ACCOUNT_FEE if payment.method == VIRTUAL_ACCOUNT else moved.amount * _FEE_PER_MILLE // 1_000
    vat = (supply + 5) // 10  # a tenth of it, rounded half up
    fee = supply + vat
    sold = date.fromisoformat(moved.at[:10])
    cancels = {cancel.transaction_key: cancel for cancel in payment.cancels}
    cancel = cancels.get(moved.transaction_key)
    return {
        "mId": settings.merchant_id,
        "paymentKey": payment.payment_key,
        "transactionKey": moved.transaction_key,
        "orderId": payment.order_id,
        "currency": "KRW",
        "method": METHOD_NAMES[payment.method],
        "amount": sign * moved.amount,
        "interestFee": 0,
        "fees": [{"type": "BASE", "fee": sign * fee}],
        "fee": sign * fee,
        "supplyAmount": sign * supply,
        "vat": sign * vat,
        "payOutAmount": sign * (moved.amount - fee),
        "approvedAt": toss_time(payment.approved_at) if payment.approved_at else None,
        "soldDate": sold.isoformat(),
        "paidOutDate": _paid_out(sold).isoformat(),
        **_members(payment_object(payment, settings, at=at), _MEANS),
        "cancel": _members(cancel_object(cancel), _CANCEL_MEMBERS) if cancel else None,
    }


def _members(shown: dict[str, JsonValue], names: Iterable[str]) -> dict[str, JsonValue]:
    return {name: shown[name] for name in names}


def _sign(moved: Movement, settings: Settings) -> int:
    return -1 if settings.negative_cancel_amounts and moved.kind != "capture" else 1


def _paid_out(sold: date) -> date:
    paid_out = sold + _PAID_OUT_AFTER
    while paid_out.weekday() >= _SATURDAY:  # no bank pays on a weekend
        paid_out += _DAY
    return paid_out


def _sold_days(query: SettlementsQuery) -> tuple[date, date]:
    """The first and the last day whose sales are asked for."""
    since, until = max(query.since, _FIRST_DAY), max(query.until, _FIRST_DAY)
    if query.date_type is DateType.SOLD:
        return since, until
    # A weekend adds two days at most, so that one of three days is the one.
    earliest, latest = since - _PAID_OUT_AFTER, until - _PAID_OUT_AFTER
    first = next(day for day in (earliest - 2 * _DAY, earliest - _DAY, earliest) if _paid_out(day) >= since)
    last = next(day for day in (latest, latest - _DAY, latest - 2 * _DAY) if _paid_out(day) <= until)
    return first, last
