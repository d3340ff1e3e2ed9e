"""From one HTTP answer of Toss Payments to a value: what it says about exactly the payment that was asked about."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from payments.gateways.pg import (
    Answer,
    Approved,
    CancelAnswer,
    Cancelled,
    Declined,
    DepositAwaited,
    PgCancel,
    PgPayment,
    PgStatus,
    RefundAccount,
    RefundAnswer,
    Refunded,
    RefundOrder,
    RefundRefused,
    RefusedBecause,
    Unknown,
    UnknownBecause,
)
from payments.gateways.toss_codes import CodeClass, classify, classify_cancel, why_look_up_failed
from payments.gateways.toss_wire import MAX_MESSAGE_LENGTH, MalformedAnswer, TossError, read_error, read_payment
from payments.redaction import MASK

LONGEST_RETRY_AFTER: Final = timedelta(minutes=5)  # recovery would ask again by then in any case
_CURRENCY: Final = "KRW"
_OK: Final = 200
_FIRST_ERROR: Final = 400
# What takes nothing and promises nothing.
_CLAIMS_NOTHING = frozenset({PgStatus.READY, PgStatus.IN_PROGRESS, PgStatus.ABORTED, PgStatus.EXPIRED})
_WHY_UNKNOWN = MappingProxyType(
    {
        CodeClass.AMBIGUOUS: UnknownBecause.PG_ERROR,
        CodeClass.ASK_AGAIN: UnknownBecause.ASK_AGAIN,
        CodeClass.OURS: UnknownBecause.MISCONFIGURED,
    }
)


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
    body: bytes = field(repr=False)
    retry_after: timedelta | None = None


def read_confirm(reply: Reply, asked: Asked) -> Answer:
    if reply.status < _FIRST_ERROR:
        return _read_success(reply, asked)
    error = read_error(reply.body)
    kind = classify(reply.status, error.code if error else None)
    if kind is CodeClass.REFUSED and error:
        return Declined(code=error.code, message=error.message)
    return read_unknown(_why_unknown(kind, error), reply, error)


def read_look_up(reply: Reply, asked: Asked) -> Answer:
    if reply.status < _FIRST_ERROR:
        return _read_success(reply, asked)
    error = read_error(reply.body)
    return read_unknown(why_look_up_failed(reply.status, error.code if error else None), reply, error)


def read_refund(reply: Reply, asked: Asked, order: RefundOrder) -> RefundAnswer:
    """Read the answer to a cancel of captured money; `asked` names the payment, `order` the refund."""
    if reply.status >= _FIRST_ERROR:
        return _without_account(_read_refusal(reply), order.account)
    payment = _read_payment(reply)
    return payment if isinstance(payment, Unknown) else _judge_refund(payment, asked, order)


def read_cancel(reply: Reply, asked: Asked) -> CancelAnswer:
    """Read the answer to a cancel of a virtual account that nobody had paid into."""
    if reply.status >= _FIRST_ERROR:
        return _read_refusal(reply)
    payment = _read_payment(reply)
    if isinstance(payment, Unknown):
        return payment
    differing = _differences(payment, asked)
    if payment.status is not PgStatus.CANCELED:
        differing.append("status")
    return _mismatch(payment, differing) if differing else Cancelled(payment)


def read_unknown(because: UnknownBecause, reply: Reply, error: TossError | None) -> Unknown:
    """Keep what an error answer tells, beside our judgement of it."""
    return Unknown(
        because,
        code=error.code if error else None,
        message=error.message if error else f"HTTP {reply.status} without an error body",
        retry_after=reply.retry_after,
    )


def _read_refusal(reply: Reply) -> RefundRefused | Unknown:
    error = read_error(reply.body)
    kind = classify_cancel(reply.status, error.code if error else None)
    if error and isinstance(kind, RefusedBecause):
        return RefundRefused(kind, code=error.code, message=error.message)
    return read_unknown(_why_unknown(kind, error), reply, error)


def _without_account(answer: RefundRefused | Unknown, account: RefundAccount | None) -> RefundRefused | Unknown:
    """The PG may name the account that it refuses; of it nothing is kept, and a holder's name has no looks."""
    if account is None or not answer.message:
        return answer
    message = answer.message.replace(account.account_number, MASK).replace(account.holder_name, MASK)
    return replace(answer, message=message[:MAX_MESSAGE_LENGTH])


def _why_unknown(kind: CodeClass | RefusedBecause | None, error: TossError | None) -> UnknownBecause:
    if isinstance(kind, CodeClass) and kind in _WHY_UNKNOWN:
        return _WHY_UNKNOWN[kind]
    return UnknownBecause.UNLISTED if error else UnknownBecause.MALFORMED


def _read_success(reply: Reply, asked: Asked) -> Answer:
    payment = _read_payment(reply)
    return payment if isinstance(payment, Unknown) else _judge(payment, asked)


def _read_payment(reply: Reply) -> PgPayment | Unknown:
    # Toss answers with 200 alone. A redirect is never followed: it would carry our key to wherever it points.
    if reply.status != _OK:
        return Unknown(UnknownBecause.MALFORMED, message=f"HTTP {reply.status}")
    try:
        return read_payment(reply.body)
    except MalformedAnswer as malformed:
        return Unknown(UnknownBecause.MALFORMED, message=str(malformed))


def _mismatch(payment: PgPayment, differing: list[str]) -> Unknown:
    return Unknown(UnknownBecause.MISMATCH, message=f"differs in {', '.join(differing)}", payment=payment)


def _judge(payment: PgPayment, asked: Asked) -> Answer:
    differing = _differences(payment, asked)
    if differing:
        return _mismatch(payment, differing)
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


def _judge_refund(payment: PgPayment, asked: Asked, order: RefundOrder) -> RefundAnswer:
    cancel = _newest_cancel(payment)
    differing = _differences(payment, asked)
    if cancel is None or cancel.amount != order.amount:
        return _mismatch(payment, [*differing, "cancelAmount"])
    if not cancel.is_done and not _other_subject(payment, asked):
        # When the balance of such a payment goes down is not documented, so its books need not fit.
        return Unknown(UnknownBecause.IN_PROGRESS, message="the cancel is not done", payment=payment)
    if payment.status not in {PgStatus.CANCELED, PgStatus.PARTIAL_CANCELED}:
        differing.append("status")
    if not cancel.balance_after == payment.balance_amount == order.believed_balance - order.amount:
        differing.append("refundableAmount")
    return _mismatch(payment, differing) if differing else Refunded(payment, cancel)


def _newest_cancel(payment: PgPayment) -> PgCancel | None:
    if payment.last_transaction_key is None:
        return payment.cancels[-1] if payment.cancels else None
    return next((one for one in payment.cancels if one.transaction_key == payment.last_transaction_key), None)


def _differences(payment: PgPayment, asked: Asked) -> list[str]:
    """Name what of the answer is not what was asked, or contradicts the rest of it.

    Where nothing was taken and nothing is promised, only the subject must agree: a payment that was aborted over
    another amount is aborted all the same.
    """
    differing = _other_subject(payment, asked)
    if payment.status in _CLAIMS_NOTHING:
        by = "orderId" if asked.payment_key is None else "paymentKey"
        differing = [name for name in differing if name == by]
    if not _balance_fits(payment):
        differing.append("balanceAmount")
    if not _cancels_fit(payment):
        differing.append("cancels")
    return differing


def _other_subject(payment: PgPayment, asked: Asked) -> list[str]:
    agreements = {
        "paymentKey": asked.payment_key in {None, payment.payment_key},
        "orderId": payment.order_id == asked.order_id,
        "totalAmount": payment.total_amount == asked.amount,
        "currency": payment.currency == _CURRENCY,
    }
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


def _cancels_fit(payment: PgPayment) -> bool:
    """Whether the cancels add up to what is gone. No list at all says nothing, and the balance stands for itself."""
    if not payment.cancels:
        return True
    given_back = [cancel for cancel in payment.cancels if cancel.is_done]
    if payment.status in _CLAIMS_NOTHING:
        return not given_back
    if len({cancel.transaction_key for cancel in payment.cancels}) < len(payment.cancels):
        return False
    return payment.total_amount - sum(cancel.amount for cancel in given_back) == payment.balance_amount


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
