"""A payment as the dashboard lists it: read from its Payment object, with the acts that make sense in its state."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from toss_sandbox.browser.choices import bank_name
from toss_sandbox.payments import UNFINISHED, Status

_PAYMENTS_PATH: Final = "/sandbox/dashboard/payments"
_PAID: Final = frozenset({Status.DONE, Status.PARTIAL_CANCELED})
_OVER: Final = frozenset({Status.CANCELED, Status.ABORTED, Status.EXPIRED})


class Act(StrEnum):
    """What a tester can do to a payment; each is a button, and the last part of the address it posts to."""

    DEPOSIT = "deposit"
    DEPOSIT_OTHER = "deposit-other"
    FORCE_DEPOSIT = "force-deposit"
    REVERSE_DEPOSIT = "reverse-deposit"
    PASS_DUE_DATE = "pass-due-date"  # noqa: S105 - no password
    CANCEL = "cancel"
    CANCEL_AMOUNT = "cancel-amount"
    REFUND_PAID = "refund-paid"
    REFUND_FAILED = "refund-failed"
    EXPIRE = "expire"


class _Part(BaseModel):
    """A part of a Payment object; members that nobody shows are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class _Failure(_Part):
    code: str
    message: str


class _Card(_Part):
    installment_plan_months: int


class _EasyPay(_Part):
    provider: str


class _Transfer(_Part):
    bank_code: str


class _Telephone(_Part):
    customer_mobile_phone: str


class _VirtualAccount(_Part):
    account_number: str
    bank_code: str
    customer_name: str
    due_date: str | None
    expired: bool
    refund_status: str


class _Cancel(_Part):
    cancel_amount: int
    cancel_reason: str
    canceled_at: str


class ListedPayment(_Part):
    """A payment as the dashboard lists it; amounts are won."""

    payment_key: str
    order_id: str
    order_name: str
    status: Status
    method: str | None
    total_amount: int
    balance_amount: int
    tax_exemption_amount: int
    requested_at: str
    is_partial_cancelable: bool
    use_escrow: bool | None
    failure: _Failure | None
    cancels: list[_Cancel] | None
    card: _Card | None
    easy_pay: _EasyPay | None
    transfer: _Transfer | None
    mobile_phone: _Telephone | None
    virtual_account: _VirtualAccount | None

    @property
    def mood(self) -> str:
        """How the status is coloured."""
        if self.status is Status.DONE:
            return "good"
        return "bad" if self.status in _OVER else "wait"

    @property
    def means(self) -> str:
        """How the buyer pays, in one line."""
        return " · ".join(filter(None, (self.method, self._detail)))

    @property
    def acts(self) -> frozenset[Act]:
        """What makes sense in this state; anything else Toss or the bank would refuse."""
        return frozenset((*self._acts_of_the_buyer(), *self._acts_of_the_bank(), *self._acts_of_the_console()))

    def path(self, act: Act) -> str:
        """Where the button of an act posts to."""
        return f"{_PAYMENTS_PATH}/{quote(self.payment_key, safe='')}/{act}"

    @property
    def _detail(self) -> str | None:
        if self.card is not None:
            months = self.card.installment_plan_months
            return f"{months}개월 할부" if months else "일시불"
        if self.easy_pay is not None:
            return self.easy_pay.provider
        if self.transfer is not None:
            return bank_name(self.transfer.bank_code)
        return self.mobile_phone.customer_mobile_phone if self.mobile_phone is not None else None

    def _acts_of_the_buyer(self) -> Iterator[Act]:
        if self.status in UNFINISHED:
            yield Act.EXPIRE

    def _acts_of_the_bank(self) -> Iterator[Act]:
        account = self.virtual_account
        if account is None:
            return
        if self.status is Status.WAITING_FOR_DEPOSIT:
            yield Act.FORCE_DEPOSIT
            if not account.expired:
                yield from (Act.DEPOSIT, Act.DEPOSIT_OTHER, Act.PASS_DUE_DATE)
        if self.status is Status.DONE and not self.cancels:
            yield Act.REVERSE_DEPOSIT
        if account.refund_status == "PENDING":
            yield from (Act.REFUND_PAID, Act.REFUND_FAILED)

    def _acts_of_the_console(self) -> Iterator[Act]:
        if self.status is Status.WAITING_FOR_DEPOSIT:
            yield Act.CANCEL
        if self.status in _PAID and self.balance_amount > 0:
            yield Act.CANCEL
            if self._is_divisible:
                yield Act.CANCEL_AMOUNT

    @property
    def _is_divisible(self) -> bool:
        # Escrow and a card payment with a tax exemption are given back whole or not at all.
        is_exempt = self.card is not None and self.tax_exemption_amount > 0
        return self.is_partial_cancelable and not self.use_escrow and not is_exempt
