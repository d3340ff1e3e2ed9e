"""What a test buyer can choose in the payment window."""

from typing import Final

APPROVE: Final = "approve"

METHODS: Final = {
    "CARD": "Card",
    "EASY_PAY": "Easy pay",
    "TRANSFER": "Bank transfer",
    "VIRTUAL_ACCOUNT": "Virtual account",
    "MOBILE_PHONE": "Mobile phone",
    "CULTURE_GIFT_CERTIFICATE": "Gift certificate",
    "BOOK_GIFT_CERTIFICATE": "Book gift certificate",
    "GAME_GIFT_CERTIFICATE": "Game gift certificate",
}
"""The methods of `requestPayment` with their English names; EASY_PAY is a card window that names a wallet."""

WIDGET_METHODS: Final = tuple(method for method in METHODS if not method.startswith(("BOOK", "GAME")))
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

INSTALMENTS: Final = (0, 2, 3, 6, 12)
"""Months; 0 pays at once."""

BANKS: Final = {
    "88": "신한은행",
    "06": "KB국민은행",
    "20": "우리은행",
    "81": "하나은행",
    "11": "NH농협은행",
    "03": "IBK기업은행",
    "90": "카카오뱅크",
    "92": "토스뱅크",
}
"""Toss's two-digit codes of some banks."""

WALLETS: Final = {
    "TOSSPAY": "토스페이",
    "NAVERPAY": "네이버페이",
    "KAKAOPAY": "카카오페이",
    "SAMSUNGPAY": "삼성페이",
    "APPLEPAY": "애플페이",
}
"""Wallets: the code that the SDK uses and the name that a Payment object carries."""
