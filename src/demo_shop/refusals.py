"""Korean words for the codes with which the payment window sends a buyer to the fail page.

The window also sends a message in the URL. It is not shown: anybody can write a URL, and our page would say it for
them. A refusal at confirm is another matter; its message comes from the payments API.
"""

from typing import Final

_UNKNOWN: Final = "결제가 완료되지 않았습니다. 잠시 후 다시 시도하거나 다른 결제수단을 이용해 주세요."

# Codes: https://docs.tosspayments.com/reference/error-codes
_REASONS: Final = {
    "PAY_PROCESS_CANCELED": "결제창을 닫아 결제를 취소하셨습니다.",
    "USER_CANCEL": "결제창을 닫아 결제를 취소하셨습니다.",
    "PAY_PROCESS_ABORTED": "결제 도중 문제가 생겨 결제가 중단되었습니다.",
    "REJECT_CARD_COMPANY": "카드사가 결제를 거절했습니다. 카드 정보를 확인하거나 다른 카드를 이용해 주세요.",
    "REJECT_CARD_PAYMENT": "카드 한도를 넘었거나 잔액이 부족합니다.",
    "REJECT_ACCOUNT_PAYMENT": "계좌의 잔액이 부족합니다.",
    "REJECT_TOSSPAY_INVALID_ACCOUNT": "고르신 계좌는 출금 등록이 되어 있지 않습니다.",
    "INVALID_CARD_NUMBER": "카드 번호가 올바르지 않습니다.",
    "INVALID_CARD_EXPIRATION": "카드 유효기간이 올바르지 않습니다.",
    "INVALID_STOPPED_CARD": "사용이 정지된 카드입니다.",
    "INVALID_REJECT_CARD": "사용할 수 없는 카드입니다. 카드사에 문의해 주세요.",
    "INVALID_CARD_LOST_OR_STOLEN": "분실 또는 도난으로 신고된 카드입니다.",
    "INVALID_PASSWORD": "결제 비밀번호가 맞지 않습니다.",
    "INVALID_CARD_INSTALLMENT_PLAN": "고르신 할부 개월 수로는 결제할 수 없습니다.",
    "EXCEED_MAX_CARD_INSTALLMENT_PLAN": "할부 개월 수가 너무 깁니다.",
    "NOT_SUPPORTED_INSTALLMENT_PLAN_CARD_OR_MERCHANT": "이 카드로는 할부 결제를 할 수 없습니다.",
    "NOT_SUPPORTED_MONTHLY_INSTALLMENT_PLAN": "이 카드로는 할부 결제를 할 수 없습니다.",
    "EXCEED_MAX_AMOUNT": "결제 한도를 넘는 금액입니다.",
    "EXCEED_MAX_PAYMENT_AMOUNT": "오늘의 결제 한도를 넘었습니다.",
    "EXCEED_MAX_DAILY_PAYMENT_COUNT": "오늘 결제할 수 있는 횟수를 넘었습니다.",
    "EXCEED_MAX_ONE_DAY_AMOUNT": "오늘의 이용 한도를 넘었습니다.",
    "EXCEED_MAX_ONE_DAY_WITHDRAW_AMOUNT": "오늘의 출금 한도를 넘었습니다.",
    "EXCEED_MAX_ONE_TIME_WITHDRAW_AMOUNT": "한 번에 출금할 수 있는 한도를 넘었습니다.",
    "EXCEED_MAX_MONTHLY_PAYMENT_AMOUNT": "이번 달 결제 한도를 넘었습니다.",
    "EXCEED_MAX_AUTH_COUNT": "인증을 시도할 수 있는 횟수를 넘었습니다.",
    "BELOW_MINIMUM_AMOUNT": "이 결제수단으로 결제하기에는 금액이 너무 적습니다.",
    "NOT_AVAILABLE_PAYMENT": "지금은 결제할 수 없는 시간입니다.",
    "NOT_AVAILABLE_BANK": "지금은 은행이 쉬는 시간입니다.",
    "FDS_ERROR": "안전을 위해 결제가 제한되었습니다.",
    "NOT_FOUND_PAYMENT_SESSION": "결제 시간이 지나 결제가 종료되었습니다.",
}


def reason_in_korean(code: str) -> str:
    """What to tell the buyer. Any code is allowed, since the URL it came in may be anybody's."""
    return _REASONS.get(code, _UNKNOWN)
