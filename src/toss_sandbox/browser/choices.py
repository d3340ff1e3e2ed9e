"""What a test buyer can choose in the payment window."""

from typing import Final

APPROVE: Final = "approve"

METHODS: Final = {
    "CARD": "Card",
    "EASY_PAY": "Easy pay",
    "TRANSFER": "Bank transfer",
    "VIRTUAL_ACCOUNT": "Virtual account",
    "MOBILE_PHONE": "Mobile phone",
    "CULTURE_GIFT_CERTIFICATE": "Culture gift card",
    "BOOK_GIFT_CERTIFICATE": "Book gift card",
    "GAME_GIFT_CERTIFICATE": "Game gift card",
    "GIFT_CERTIFICATE": "Gift card",
}
"""The methods of `requestPayment` with their English names.

EASY_PAY is a card window that names a wallet, GIFT_CERTIFICATE what the control API calls the culture one.
"""

WIDGET_METHODS: Final = tuple(method for method in METHODS if method != "GIFT_CERTIFICATE")
"""The methods between which the buyer of a widget chooses."""

CARD_METHODS: Final = ("CARD", "EASY_PAY")
"""A window for cards offers the wallets too."""

REFUSALS: Final = (
    "REJECT_CARD_PAYMENT",
    "REJECT_CARD_COMPANY",
    "INVALID_STOPPED_CARD",
    "INVALID_CARD_LOST_OR_STOLEN",
    "INVALID_REJECT_CARD",
    "INVALID_CARD_EXPIRATION",
    "INVALID_PASSWORD",
    "NOT_SUPPORTED_INSTALLMENT_PLAN_CARD_OR_MERCHANT",
    "EXCEED_MAX_AMOUNT",
    "EXCEED_MAX_DAILY_PAYMENT_COUNT",
    "REJECT_ACCOUNT_PAYMENT",
    "NOT_AVAILABLE_BANK",
    "FDS_ERROR",
)
"""Codes with which the later confirm can refuse a payment whose buyer has authenticated."""

ABORTS: Final = ("PAY_PROCESS_ABORTED", "REJECT_CARD_COMPANY")
"""Codes that reach `failUrl` from within the window; closing it has a code of its own."""

_AT_ONCE: Final = (0,)
_INSTALMENTS: Final = (*_AT_ONCE, *range(2, 13))

INSTALMENT_MINIMUM: Final = 50_000
"""Won; a smaller sum is paid at once. Toss states it for key-in payments."""


def instalments_for(amount: int) -> tuple[int, ...]:
    """The months among which a card's buyer chooses for an amount of won; 0 pays at once."""
    return _INSTALMENTS if amount >= INSTALMENT_MINIMUM else _AT_ONCE


BANKS: Final = {
    "88": "신한은행",
    "06": "KB국민은행",
    "20": "우리은행",
    "81": "하나은행",
    "11": "NH농협은행",
    "03": "IBK기업은행",
    "90": "카카오뱅크",
    "92": "토스뱅크",
    "89": "케이뱅크",
    "23": "SC제일은행",
    "27": "씨티은행",
    "02": "KDB산업은행",
    "07": "Sh수협은행",
    "31": "iM뱅크",
    "32": "부산은행",
    "39": "경남은행",
    "34": "광주은행",
    "37": "전북은행",
    "35": "제주은행",
    "71": "우체국",
    "45": "새마을금고",
    "48": "신협",
    "12": "단위농협",
    "64": "산림조합",
    "50": "저축은행중앙회",
    "54": "홍콩상하이은행",
}
"""Toss's two-digit codes of the banks (https://docs.tosspayments.com/reference/codes)."""


def bank_name(code: str) -> str:
    """The bank with its code, or the bare code of one that is not on the list."""
    return f"{BANKS[code]} ({code})" if code in BANKS else code


WALLETS: Final = {
    "TOSSPAY": "토스페이",
    "NAVERPAY": "네이버페이",
    "KAKAOPAY": "카카오페이",
    "SAMSUNGPAY": "삼성페이",
    "APPLEPAY": "애플페이",
    "PAYCO": "페이코",
    "LPAY": "엘페이",
    "SSG": "SSG페이",
    "PINPAY": "핀페이",
}
"""Wallets: the code that the SDK uses and the name that a Payment object carries."""
