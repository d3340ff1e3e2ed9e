"""A payment as the sandbox keeps it, and the moves it can make."""

import secrets
import string
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from pydantic import TypeAdapter

from toss_sandbox.clock import KST
from toss_sandbox.errors import CODES, EXPIRED_MESSAGE, EXPIRED_PAYMENT, TossError

_ALPHANUMERIC: Final = string.ascii_letters + string.digits


class Status(StrEnum):
    """The statuses of a Toss payment."""

    READY = "READY"
    IN_PROGRESS = "IN_PROGRESS"
    WAITING_FOR_DEPOSIT = "WAITING_FOR_DEPOSIT"
    DONE = "DONE"
    CANCELED = "CANCELED"
    PARTIAL_CANCELED = "PARTIAL_CANCELED"
    ABORTED = "ABORTED"
    EXPIRED = "EXPIRED"


class RefundStatus(StrEnum):
    """How far a refund to the account of a virtual account's buyer has got."""

    NONE = "NONE"
    PENDING = "PENDING"
    FAILED = "FAILED"
    COMPLETED = "COMPLETED"


UNFINISHED: Final = frozenset({Status.READY, Status.IN_PROGRESS})
APPROVED: Final = frozenset({Status.DONE, Status.WAITING_FOR_DEPOSIT, Status.CANCELED, Status.PARTIAL_CANCELED})

TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    Status.READY: frozenset({Status.IN_PROGRESS, Status.EXPIRED, Status.ABORTED}),
    Status.IN_PROGRESS: frozenset({Status.DONE, Status.WAITING_FOR_DEPOSIT, Status.ABORTED, Status.EXPIRED}),
    Status.WAITING_FOR_DEPOSIT: frozenset({Status.DONE, Status.CANCELED}),
    Status.DONE: frozenset({Status.CANCELED, Status.PARTIAL_CANCELED, Status.WAITING_FOR_DEPOSIT}),
    Status.PARTIAL_CANCELED: frozenset({Status.PARTIAL_CANCELED}),
    Status.CANCELED: frozenset(),
    Status.ABORTED: frozenset(),
    Status.EXPIRED: frozenset(),
}
"""Toss's diagrams; a full balance taken back in parts stays PARTIAL_CANCELED."""

VIRTUAL_ACCOUNT: Final = "VIRTUAL_ACCOUNT"
METHOD_NAMES: Final = {
    "CARD": "카드",
    VIRTUAL_ACCOUNT: "가상계좌",
    "EASY_PAY": "간편결제",
    "MOBILE_PHONE": "휴대폰",
    "TRANSFER": "계좌이체",
    "GIFT_CERTIFICATE": "문화상품권",
    "CULTURE_GIFT_CERTIFICATE": "문화상품권",
    "BOOK_GIFT_CERTIFICATE": "도서문화상품권",
    "GAME_GIFT_CERTIFICATE": "게임문화상품권",
}
"""The methods a buyer may choose, as requested and as the Payment object calls them."""

_DEFAULT_BANK: Final = "88"  # 신한
_DEFAULT_WALLET: Final = "토스페이"


@dataclass(frozen=True, slots=True)
class Failure:
    code: str
    message: str

    @classmethod
    def of(cls, code: str) -> "Failure":
        """The failure that a code of Toss stands for.

        Raises:
            TossError: INVALID_TEST_CODE for a code Toss does not have.
        """
        if code not in CODES:
            raise TossError("INVALID_TEST_CODE")
        return cls(code, CODES[code][1])


@dataclass(frozen=True, slots=True)
class Means:
    """How the buyer pays, made up when the buyer authenticates.

    `method` is the requested name (CARD, ...), `number` the masked card, the account or the telephone, as it applies.
    """

    method: str
    number: str
    approve_no: str
    instalment_months: int = 0
    bank: str = _DEFAULT_BANK
    wallet: str = _DEFAULT_WALLET
    holder_name: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Money given back, or an account given up; amounts are won, `refundable_amount` is what it left to cancel."""

    transaction_key: str
    reason: str
    amount: int
    tax_free_amount: int
    tax_exemption_amount: int
    refundable_amount: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment; immutable, every change makes a new one. Amounts are won.

    `deposited` is the amount of a deposit that was forced to differ from `amount`, the one owed. A change that its
    status does not allow raises TossError, ALREADY_PROCESSED_PAYMENT.
    """

    payment_key: str
    order_id: str
    order_name: str
    amount: int
    requested_method: str
    flow: str
    client_key: str
    success_url: str
    fail_url: str
    secret: str
    requested_at: datetime
    customer_email: str | None = None
    customer_name: str | None = None
    tax_free_amount: int = 0
    tax_exemption_amount: int = 0
    use_escrow: bool = False
    is_partial_cancelable: bool = True
    status: Status = Status.READY
    means: Means | None = None
    authenticated_at: datetime | None = None
    approved_at: datetime | None = None
    due_at: datetime | None = None
    last_transaction_key: str | None = None
    refuse_with: str | None = None
    failure: Failure | None = None
    deposited: int | None = None
    cancels: tuple[Cancel, ...] = ()
    refund_status: RefundStatus = RefundStatus.NONE

    @property
    def method(self) -> str:
        """What the buyer chose to pay with, empty until then."""
        return self.means.method if self.means else ""

    @property
    def total(self) -> int:
        return self.amount if self.deposited is None else self.deposited

    @property
    def balance(self) -> int:
        """What can still be cancelled."""
        return self.total - sum(cancel.amount for cancel in self.cancels)

    @property
    def tax_free_left(self) -> int:
        return self._tax_free_part - sum(cancel.tax_free_amount for cancel in self.cancels)

    @property
    def tax_exemption_left(self) -> int:
        exempt = min(self.tax_exemption_amount, self.total - self._tax_free_part)
        return exempt - sum(cancel.tax_exemption_amount for cancel in self.cancels)

    @property
    def taxed_left(self) -> int:
        return self.balance - self.tax_free_left - self.tax_exemption_left

    @property
    def _tax_free_part(self) -> int:
        # A forced deposit may be less than what was sold without tax.
        return min(self.tax_free_amount, self.total)

    def is_past_due(self, at: datetime) -> bool:
        """Whether the bank takes no deposit any more."""
        return self.status is Status.WAITING_FOR_DEPOSIT and self.due_at is not None and at > self.due_at

    def expires_at(self, *, authentication: timedelta, confirm: timedelta) -> datetime:
        """When the running clock of an unfinished payment ends."""
        if self.authenticated_at is None:
            return self.requested_at + authentication
        return self.authenticated_at + confirm

    def begin(self, means: Means, *, refuse_with: str | None, at: datetime) -> "Payment":
        """The buyer has authenticated: the confirm clock starts."""
        moved = self._to(Status.IN_PROGRESS)
        return replace(moved, means=means, refuse_with=refuse_with, authenticated_at=at)

    def approve(self, *, at: datetime) -> "Payment":
        """The money moved."""
        return replace(self._to(Status.DONE), approved_at=at, last_transaction_key=new_transaction_key())

    def await_deposit(self, *, until: datetime) -> "Payment":
        """A virtual account has been issued; no money has moved yet."""
        moved = self._to(Status.WAITING_FOR_DEPOSIT)
        return replace(moved, due_at=until, last_transaction_key=new_transaction_key())

    def deposit(self, amount: int, *, at: datetime) -> "Payment":
        """The buyer's transfer arrived."""
        return replace(self.approve(at=at), deposited=None if amount == self.amount else amount)

    def reverse_deposit(self) -> "Payment":
        """The bank took the deposit back; the buyer has to transfer again."""
        moved = self._to(Status.WAITING_FOR_DEPOSIT)
        return replace(moved, approved_at=None, deposited=None, last_transaction_key=new_transaction_key())

    def cancel(self, cancel: Cancel) -> "Payment":
        """Everything goes back at once (CANCELED), or a part of it (PARTIAL_CANCELED, also when it is the last)."""
        is_whole = not self.cancels and cancel.refundable_amount == 0
        moved = self._to(Status.CANCELED if is_whole else Status.PARTIAL_CANCELED)
        return replace(moved, cancels=(*self.cancels, cancel), last_transaction_key=cancel.transaction_key)

    def abort(self, failure: Failure) -> "Payment":
        """The card company, the bank or the window refused."""
        return replace(self._to(Status.ABORTED), failure=failure, last_transaction_key=new_transaction_key())

    def expire(self) -> "Payment":
        """One of the two clocks ran out."""
        return replace(self._to(Status.EXPIRED), failure=Failure(EXPIRED_PAYMENT, EXPIRED_MESSAGE))

    def _to(self, status: Status) -> "Payment":
        if status not in TRANSITIONS[self.status]:
            raise TossError("ALREADY_PROCESSED_PAYMENT")
        return replace(self, status=status)


PAYMENT_JSON: Final = TypeAdapter(Payment)


def new_payment_key(merchant_id: str, *, at: datetime) -> str:
    """Five characters of the merchant, the Korean time and five random characters, as real keys are built."""
    return f"{merchant_id[:5]}{at.astimezone(KST):%Y%m%d%H%M%S}{_random(_ALPHANUMERIC, 5)}"


def new_transaction_key() -> str:
    return f"txrd_a01{_random(string.ascii_lowercase + string.digits, 23)}"


def new_secret() -> str:
    return f"ps_{_random(_ALPHANUMERIC, 28)}"


def make_means(
    method: str,
    *,
    instalment_months: int = 0,
    bank: str | None = None,
    wallet: str | None = None,
    holder_name: str | None = None,
) -> Means:
    """Invent the card, account or telephone of a test buyer."""
    return Means(
        method=method,
        number=_number_of(method),
        approve_no=_random(string.digits, 8),
        instalment_months=instalment_months,
        bank=bank or _DEFAULT_BANK,
        wallet=wallet or _DEFAULT_WALLET,
        holder_name=holder_name or "",
    )


def _number_of(method: str) -> str:
    if method == VIRTUAL_ACCOUNT:
        return f"X{_random(string.digits, 13)}"  # accounts of the test environment cannot be paid into
    if method == "MOBILE_PHONE":
        return "01000000000"
    return f"{_random(string.digits, 8)}****{_random(string.digits, 3)}*"


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
