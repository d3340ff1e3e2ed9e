"""What came of a refund or of giving an order up, in Korean: a sentence for every answer of the payments API."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from demo_shop.cancel_requests import CancelRequest, RequestState
from demo_shop.payments_client import Payment, PaymentStatus

Tone = Literal["good", "wait", "bad"]

_SAME_AGAIN: Final = "아래에서 같은 요청을 다시 보내 주세요. 두 번 환불되지 않습니다."

# The very same request may be sent again.
_NOT_DECIDED: Final = {
    "unreachable": "결제 서비스의 답을 받지 못해 처리되었는지 아직 모릅니다.",
    "request_in_progress": "같은 요청을 아직 처리하고 있습니다.",
    "refund_in_progress": "이 결제의 다른 환불을 처리하고 있습니다. 잠시 기다려 주세요.",
    "payment_in_progress": "이 주문의 결제를 확인하고 있습니다. 잠시 기다려 주세요.",
    "concurrent_update": "다른 처리와 겹쳤습니다.",
    "pg_unavailable": "지금은 결제사에 연결되지 않습니다. 잠시 기다려 주세요.",
    "database_unavailable": "결제 서비스에 잠시 문제가 생겼습니다. 잠시 기다려 주세요.",
    "idempotency_key_reused": "처음 보낸 요청과 내용이 다릅니다. 처음과 똑같은 계좌를 적어 주세요.",
}
_NOT_NOW: Final = "지금은 처리할 수 없습니다. 잠시 기다려 주세요."

_REFUSED: Final = {
    "already_refunded": "이미 전액 환불된 결제입니다.",
    "deposit_arrived": "그 사이에 입금이 확인되어 취소하지 않았습니다. 환불로 처리해 주세요.",
    "deposit_amount_differs": "주문 금액과 다른 금액이 입금되었습니다. 고객센터에서 확인한 뒤에 처리할 수 있습니다.",
    "request_overtaken": "이 요청은 처리되지 않고 끝났습니다. 주문 상태를 확인하고 새로 요청해 주세요.",
    "nothing_to_refund": "결제된 금액이 없어 환불할 것이 없습니다.",
    "order_moved_on": "그 사이에 결제가 진행되어 취소하지 않았습니다. 주문 상태를 확인해 주세요.",
    "partial_refund_not_allowed": "일부만 환불할 수 없는 결제입니다. 전액으로 환불해 주세요.",
    "payment_closed": "이미 취소되었거나 환불된 결제입니다.",
    "payment_key_mismatch": "이 주문의 결제가 그 사이에 바뀌었습니다. 주문 상태를 확인해 주세요.",
    "payment_not_found": "이 주문의 결제를 찾을 수 없습니다.",
    "refund_account_not_allowed": "결제하신 수단으로 환불되는 결제라 환불 계좌가 필요하지 않습니다.",
    "refund_account_refused": "환불 계좌로 보낼 수 없습니다. 은행, 계좌번호, 예금주를 확인해 주세요.",
    "refund_account_required": "가상계좌 결제는 환불받을 계좌가 필요합니다.",
    "refund_balance_differs": "결제사에 남아 있는 금액이 다릅니다. 금액을 다시 확인해 주세요.",
    "refund_deadline_passed": "이 결제수단으로 환불할 수 있는 기한이 지났습니다.",
    "refund_exceeds_balance": "남아 있는 금액보다 많이 환불할 수 없습니다.",
    "refund_not_now": "지금은 은행이 환불을 처리하지 않습니다. 잠시 뒤에 새로 요청해 주세요.",
    "refund_refused": "결제사가 환불을 거절했습니다.",
}
_OTHER_REFUSAL: Final = "결제 서비스가 요청을 받아들이지 않았습니다. 내용을 확인해 주세요."


@dataclass(frozen=True, kw_only=True)
class Notice:
    """What to say, and what may follow. `from_toss` is Toss's own message."""

    tone: Tone
    text: str
    from_toss: str | None = None
    may_send_again: bool = False
    is_waiting: bool = False  # the page finds out more by itself


def notice_of(request: CancelRequest, payment: Payment | None, *, at: datetime) -> Notice:
    """The newest that is known about a request. `payment` is None where it could not be read just now."""
    match request.state:
        case RequestState.ASKED:
            return _not_decided(request, at=at)
        case RequestState.TAKEN_ON:
            return _taken_on(request, payment)
        case RequestState.DONE:
            return _done(request)
        case RequestState.REFUSED:
            return _refused(request.code, request.message)


def _not_decided(request: CancelRequest, *, at: datetime) -> Notice:
    if request.is_under_way(at=at):
        return Notice(
            tone="wait", text="요청을 처리하고 있습니다. 이 페이지는 저절로 새로 고쳐집니다.", is_waiting=True
        )
    words = _NOT_DECIDED.get(request.code or "unreachable", _NOT_NOW)
    return Notice(tone="wait", text=f"{words} {_SAME_AGAIN}", from_toss=request.message, may_send_again=True)


def _taken_on(request: CancelRequest, payment: Payment | None) -> Notice:
    refund = payment.refund(request.refund_id) if payment else None
    if refund and refund.status == "SUCCEEDED":
        return _done(request)
    if refund and refund.status == "FAILED":
        return _refused("refund_refused", refund.failure.message if refund.failure else None)
    if request.refund_id is None and payment and payment.status is PaymentStatus.CANCELLED:
        return _done(request)
    if request.refund_id is None and payment and payment.refundable_amount:
        return _refused("deposit_arrived", None)
    return Notice(
        tone="wait",
        text="확인 중: 요청은 접수되었고 결제사에 결과를 확인하고 있습니다. 다시 요청하지 마세요.",
        is_waiting=True,
    )


def _done(request: CancelRequest) -> Notice:
    if request.refund_id is None:
        return Notice(tone="good", text="주문을 취소했습니다. 청구된 금액은 없습니다.")
    if request.amount is None:
        return Notice(tone="good", text="그 사이에 결제된 금액을 모두 환불하고 주문을 취소했습니다.")
    text = f"{request.amount:,}원을 환불했습니다."
    if request.to_account:
        text += " 은행이 계좌로 보내는 데 며칠이 걸릴 수 있습니다."
    return Notice(tone="good", text=text)


def _refused(code: str | None, message: str | None) -> Notice:
    return Notice(tone="bad", text=_REFUSED.get(code or "", _OTHER_REFUSAL), from_toss=message)
