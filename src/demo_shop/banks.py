"""Names of the banks that give out virtual accounts, by the two-digit code that Toss answers with."""

from typing import Final

# https://docs.tosspayments.com/reference/codes
BANKS: Final = {
    "02": "산업은행",
    "03": "기업은행",
    "06": "국민은행",
    "07": "수협은행",
    "11": "농협은행",
    "20": "우리은행",
    "23": "SC제일은행",
    "27": "씨티은행",
    "31": "iM뱅크",
    "32": "부산은행",
    "34": "광주은행",
    "35": "제주은행",
    "37": "전북은행",
    "39": "경남은행",
    "45": "새마을금고",
    "48": "신협",
    "50": "저축은행",
    "64": "산림조합",
    "71": "우체국",
    "81": "하나은행",
    "88": "신한은행",
    "89": "케이뱅크",
    "90": "카카오뱅크",
    "92": "토스뱅크",
}


def bank_name(code: str) -> str:
    """The bank's name, or the code itself where we have no name for it."""
    return BANKS.get(code, code)
