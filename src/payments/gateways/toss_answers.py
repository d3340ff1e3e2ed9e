"""From one HTTP answer of Toss Payments to a value: what it says about exactly the payment that was asked about."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from payments.gateways.pg import (
    Answer,
    Approved,
    Cancelled,
    Declined,
    DepositAwaited,
    PgPayment,
    PgStatus,
    Unknown,
    UnknownBecause,
)
from payments.gateways.toss_codes import CodeClass, classify, why_look_up_failed
from payments.gateways.toss_wire import MalformedAnswer, TossError, read_error, read_payment

LONGEST_RETRY_AFTER: Final = timedelta(minutes=5)  # recovery would ask again by then in any case
_CURRENCY: Final = "KRW"
_OK: Final = 200
_FIRST_ERROR: Final = 400
_SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer must agree with. The payment key is None when the question named only the order."""

    payment_key: str | None
    order_id: str
    amount: int  # won


@dataclass(frozen=True, slots=True)
class Reply:
    """One complete HTTP answer."""

    status: int
    body: bytes
    retry_after: timedelta | None = None


def read_confirm(reply: Reply, asked: Asked) -> Answer:
    if reply.status < _FIRST_ERROR:
        return _read_success(reply, asked)
    error = read_error(reply.body)
    code = error.code if error else None
    match classify(reply.status, code):
        case CodeClass.REFUSED if error:
            return Declined(code=error.code, message=error.message)
        case CodeClass.AMBIGUOUS:
            because = UnknownBecause.PG_ERROR
        case CodeClass.ASK_AGAIN:
            because = UnknownBecause.ASK_AGAIN
        case CodeClass.OURS:
            because = UnknownBecause.MISCONFIGURED
        case _:
            because = UnknownBecause.UNLISTED if error else UnknownBecause.MALFORMED
    return _unknown(because, reply, error)


def read_look_up(reply: Reply, asked: Asked) -> Answer:
    if reply.status < _FIRST_ERROR:
        return _read_success(reply, asked)
    error = read_error(reply.body)
    return _unknown(why_look_up_failed(reply.status, error.code if error else None), reply, error)


def parse_retry_after(header: str | None, *, at: datetime) -> timedelta | None:
    """Read a Retry-After of seconds or of an HTTP date, between zero and `LONGEST_RETRY_AFTER`; None if unreadable."""
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
    return min(max(wait, timedelta(0)), LONGEST_RETRY_AFTER)


def _unknown(because: UnknownBecause, reply: Reply, error: TossError | None) -> Unknown:
    return Unknown(
        because,
        code=error.code if error else None,
        message=error.message if error else f"HTTP {reply.status} without an error body",
        retry_after=reply.retry_after,
    )


def _read_success(reply: Reply, asked: Asked) -> Answer:
    # Toss answers with 200 alone. A redirect is never followed: it would carry our key to wherever it points.
    if reply.status != _OK:
        return Unknown(UnknownBecause.MALFORMED, message=f"HTTP {reply.status}")
    try:
        payment = read_payment(reply.body)
    except MalformedAnswer as malformed:
        return Unknown(UnknownBecause.MALFORMED, message=str(malformed))
    return _judge(payment, asked)


def _judge(payment: PgPayment, asked: Asked) -> Answer:
    differing = _differences(payment, asked)
    if differing:
        return Unknown(UnknownBecause.MISMATCH, message=f"differs in {', '.join(differing)}", payment=payment)
    match payment.status:
        case PgStatus.DONE | PgStatus.PARTIAL_CANCELED:
            return Approved(payment)
        case PgStatus.WAITING_FOR_DEPOSIT:
            return _awaiting(payment)
        case PgStatus.CANCELED:
            return Cancelled(payment)
        case PgStatus.ABORTED | PgStatus.EXPIRED:
            return _ended(payment)
        case PgStatus.READY | PgStatus.IN_PROGRESS:
            return Unknown(UnknownBecause.IN_PROGRESS, message=payment.status.value, payment=payment)


def _differences(payment: PgPayment, asked: Asked) -> list[str]:
    """Name what of the answer is not what was asked.

    Where nothing was taken and nothing is promised, only the subject must agree: a payment that was aborted over
    another amount is aborted all the same.
    """
    by_key = asked.payment_key is not None
    agreements = {
        "paymentKey": not by_key or payment.payment_key == asked.payment_key,
        "orderId": payment.order_id == asked.order_id,
        "totalAmount": payment.total_amount == asked.amount,
        "currency": payment.currency == _CURRENCY,
        "balanceAmount": _balance_fits(payment),
    }
    claims_nothing = {PgStatus.READY, PgStatus.IN_PROGRESS, PgStatus.ABORTED, PgStatus.EXPIRED}
    if payment.status in claims_nothing:
        agreements = {name: agreements[name] for name in ("paymentKey" if by_key else "orderId",)}
    return [name for name, agrees in agreements.items() if not agrees]


def _balance_fits(payment: PgPayment) -> bool:
    """Whether the balance is what the status promises; a payment that contradicts itself is for a person to judge."""
    match payment.status:
        case PgStatus.DONE:
            return payment.balance_amount == payment.total_amount
        case PgStatus.PARTIAL_CANCELED:
            # Cancelled in parts down to nothing keeps this status, with a balance of zero.
            return payment.balance_amount < payment.total_amount
        case PgStatus.CANCELED:
            return payment.balance_amount == 0
        case _:
            return True


def _awaiting(payment: PgPayment) -> DepositAwaited | Unknown:
    if payment.virtual_account is None:
        return Unknown(UnknownBecause.MALFORMED, message="virtualAccount: missing", payment=payment)
    return DepositAwaited(payment)


def _ended(payment: PgPayment) -> Declined:
    expired = payment.status is PgStatus.EXPIRED
    told = "결제 시간이 만료되었습니다." if expired else "결제가 중단되었습니다."
    return Declined(
        code=payment.failure_code or payment.status.value,
        message=payment.failure_message or told,
        payment=payment,
    )
