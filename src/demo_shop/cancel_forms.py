"""The forms on an order's page that give money back or give the order up, and what is wrong with what was typed."""

import re
import secrets
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from demo_shop.banks import BANKS
from demo_shop.cancel_requests import KEY_PATTERN, CancelRequest
from demo_shop.cancelling import Wish
from demo_shop.payments_client import RefundAccount

GIVEN_UP_BECAUSE: Final = "구매자 요청"
KEY_IS_TAKEN: Final = "이 양식은 이미 다른 내용으로 보냈습니다. 아래 내용을 확인하고, 새로 요청하려면 다시 보내 주세요."

# As the payments API takes them.
_MAX_REASON: Final = 200
_MAX_HOLDER: Final = 60
_AMOUNT: Final = re.compile(r"[0-9]{1,12}")
_ACCOUNT_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_KEY: Final = re.compile(KEY_PATTERN)


def new_key() -> str:
    """A name for the one request that a page just drawn can make, however often it is sent."""
    return secrets.token_urlsafe(18)


def is_key(text: str) -> bool:
    return _KEY.fullmatch(text) is not None


class CancelForm(BaseModel):
    """What was typed, as text. `amount` is empty where the order is given up, the account where none is asked for."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    key: str = ""
    amount: str = ""
    reason: str = ""
    bank: str = Field(default="", repr=False)
    account_number: str = Field(default="", alias="accountNumber", repr=False)
    holder_name: str = Field(default="", alias="holderName", repr=False)

    @classmethod
    def drawn(cls, *, amount: int | None, reason: str) -> "CancelForm":
        """A new form is a new request."""
        return cls(key=new_key(), amount="" if amount is None else str(amount), reason=reason)

    @classmethod
    def again(cls, request: CancelRequest) -> "CancelForm":
        """The form of a request that is to be sent again; its account, if it has one, must be typed again."""
        return cls(key=request.key, amount=str(request.amount or ""), reason=request.reason)

    def under_new_key(self) -> "CancelForm":
        return self.model_copy(update={"key": new_key()})

    @property
    def has_account(self) -> bool:
        return any((self.bank, self.account_number, self.holder_name))

    def problems(self, *, asks_for_account: bool) -> dict[str, str]:
        """What is wrong, in Korean, by the name of the field."""
        found = {}
        if not is_key(self.key):
            found["key"] = "잘못된 양식입니다. 아래 내용을 확인하고 다시 보내 주세요."
        if not _is_readable(self.reason, longest=_MAX_REASON):
            found["reason"] = f"사유를 {_MAX_REASON}자 안으로 적어 주세요."
        if asks_for_account:
            found |= self._problems_of_account()
        return found

    def problem_of_amount(self) -> dict[str, str]:
        is_amount = _AMOUNT.fullmatch(self.amount) and int(self.amount) > 0
        return {} if is_amount else {"amount": "환불할 금액을 1원 이상의 숫자로 적어 주세요."}

    def wish(self) -> Wish:
        """What a form without problems asks for."""
        account = RefundAccount(
            bank=self.bank, account_number=self.account_number, holder_name=self.holder_name.strip()
        )
        return Wish(
            key=self.key,
            amount=int(self.amount) if self.amount else None,
            reason=self.reason.strip(),
            account=account if self.has_account else None,
        )

    def _problems_of_account(self) -> dict[str, str]:
        found = {}
        if self.bank not in BANKS:
            found["bank"] = "은행을 골라 주세요."
        if not _ACCOUNT_NUMBER.fullmatch(self.account_number):
            found["account_number"] = "계좌번호는 하이픈 없이 숫자로만, 20자리까지 적어 주세요."
        if not _is_readable(self.holder_name, longest=_MAX_HOLDER):
            found["holder_name"] = f"예금주를 {_MAX_HOLDER}자 안으로 적어 주세요."
        return found


def _is_readable(text: str, *, longest: int) -> bool:
    stripped = text.strip()
    return bool(stripped) and stripped.isprintable() and len(stripped) <= longest
