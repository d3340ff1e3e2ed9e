"""Templates, always escaped, and how money and times are written in them."""

from datetime import datetime
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from fastapi.templating import Jinja2Templates
from jinja2 import Environment, PackageLoader, StrictUndefined

from demo_shop.banks import bank_name
from demo_shop.orders import OrderStatus

SEOUL: Final = ZoneInfo("Asia/Seoul")

_STATUS_IN_KOREAN: Final = {
    OrderStatus.CREATED: "결제 대기",
    OrderStatus.PAID: "결제 완료",
    OrderStatus.CANCELLED: "주문 취소",
    OrderStatus.REFUNDED: "환불 완료",
    OrderStatus.PARTIALLY_REFUNDED: "부분 환불",
}

_REFUND_STATUS_IN_KOREAN: Final = {"SUCCEEDED": "완료", "REQUESTED": "확인 중", "FAILED": "실패"}

# virtualAccount.refundStatus, in Toss's words: https://docs.tosspayments.com/reference
_PAYOUT_IN_KOREAN: Final = {
    "PENDING": "은행이 환불금을 보내고 있습니다.",
    "COMPLETED": "은행이 환불금을 보냈습니다.",
    "FAILED": "은행이 환불금을 보내지 못했습니다. 구매자에게 다른 계좌를 물어봐 주세요.",
    "PARTIAL_FAILED": "은행이 환불금의 일부를 보내지 못했습니다. 구매자에게 다른 계좌를 물어봐 주세요.",
}


def won(amount: int) -> str:
    return f"{amount:,}원"


def seoul_time(at: datetime) -> str:
    return at.astimezone(SEOUL).strftime("%Y-%m-%d %H:%M")


def status_in_korean(status: OrderStatus) -> str:
    return _STATUS_IN_KOREAN[status]


def refund_status_in_korean(status: str) -> str:
    """A word that we do not know is a refund that is not decided."""
    return _REFUND_STATUS_IN_KOREAN.get(status, "확인 중")


def payout_in_korean(refund_status: str | None) -> str | None:
    """How far the bank got with sending a refund to an account; None where there is nothing to say."""
    return _PAYOUT_IN_KOREAN.get(refund_status or "")


def web_link(url: str | None) -> str | None:
    """The URL if a browser may be sent there: escaping alone does not stop a `javascript:` link."""
    return url if url and urlsplit(url).scheme in {"http", "https"} else None


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("demo_shop"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bank_name": bank_name,
        "payout_in_korean": payout_in_korean,
        "refund_status_in_korean": refund_status_in_korean,
        "seoul_time": seoul_time,
        "status_in_korean": status_in_korean,
        "web_link": web_link,
        "won": won,
    }
    return environment


templates: Final = Jinja2Templates(env=_environment())
