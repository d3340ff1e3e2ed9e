"""A payment as the sandbox keeps it, and the Payment object that Toss would show of it."""

import secrets
import string
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from pydantic import JsonValue, TypeAdapter

from toss_sandbox.clock import KST, toss_time
from toss_sandbox.errors import EXPIRED_MESSAGE, EXPIRED_PAYMENT, TossError
from toss_sandbox.settings import Settings

API_VERSION: Final = "2022-11-16"
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

METHOD_NAMES: Final = {
    "CARD": "카드",
    "VIRTUAL_ACCOUNT": "가상계좌",
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
class Payment:
    """One payment; immutable, every change makes a new one. Amounts are won.

    A change that its status does not allow raises TossError, ALREADY_PROCESSED_PAYMENT.
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
    balance: int
    customer_email: str | None = None
    customer_name: str | None = None
    status: Status = Status.READY
    means: Means | None = None
    authenticated_at: datetime | None = None
    approved_at: datetime | None = None
    due_at: datetime | None = None
    last_transaction_key: str | None = None
    refuse_with: str | None = None
    failure: Failure | None = None

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


def payment_object(payment: Payment, settings: Settings, *, at: datetime) -> dict[str, JsonValue]:
    """The Payment object in the field set and order of a real answer (API version 2022-11-16).

    `transactionKey` is left out except on an EXPIRED payment, as in the real answers that became public.
    """
    approved = payment.status in APPROVED
    expired = payment.status is Status.EXPIRED
    vat = vat_of(payment.balance)
    return {
        "mId": settings.merchant_id,
        "lastTransactionKey": payment.last_transaction_key,
        **({"transactionKey": None} if expired else {}),
        "paymentKey": payment.payment_key,
        "orderId": payment.order_id,
        "orderName": payment.order_name,
        "taxExemptionAmount": 0,
        "status": payment.status.value,
        "requestedAt": toss_time(payment.requested_at),
        "approvedAt": toss_time(payment.approved_at) if payment.approved_at else None,
        "useEscrow": None if expired else False,
        "cultureExpense": False,
        **_means_objects(payment, settings, at=at),
        "discount": None,
        "cancels": None,
        "secret": payment.secret if approved else None,
        "type": "NORMAL",
        "easyPay": _easy_pay(payment) if approved else None,
        "country": "KR",
        "failure": {"code": payment.failure.code, "message": payment.failure.message} if payment.failure else None,
        "isPartialCancelable": True,
        "receipt": {"url": settings.receipt_url.format(payment_key=payment.payment_key)} if approved else None,
        "checkout": {"url": f"{settings.public_url}/v1/payments/{payment.payment_key}/checkout"},
        "currency": "KRW",
        "totalAmount": payment.amount,
        "balanceAmount": payment.balance,
        "suppliedAmount": payment.balance - vat,
        "vat": vat,
        "taxFreeAmount": 0,
        "method": METHOD_NAMES[payment.means.method] if payment.means and not expired else None,
        "version": API_VERSION,
        "metadata": None,
    }


def vat_of(taxed: int) -> int:
    """The tax in an amount of won that includes it: an eleventh, rounded half up."""
    return (2 * taxed + 11) // 22


def _means_objects(payment: Payment, settings: Settings, *, at: datetime) -> dict[str, JsonValue]:
    objects: dict[str, JsonValue] = dict.fromkeys(
        ("card", "virtualAccount", "transfer", "mobilePhone", "giftCertificate", "cashReceipt", "cashReceipts")
    )
    means = payment.means
    if means is None or payment.status not in APPROVED:
        return objects
    match means.method:
        case "CARD":
            objects["card"] = _card(payment, means)
        case "VIRTUAL_ACCOUNT":
            objects["virtualAccount"] = _virtual_account(payment, means, at=at)
        case "TRANSFER":
            objects["transfer"] = {"bankCode": means.bank, "settlementStatus": "INCOMPLETED"}
        case "MOBILE_PHONE":
            receipt_url = settings.receipt_url.format(payment_key=payment.payment_key)
            objects["mobilePhone"] = {
                "customerMobilePhone": means.number,
                "settlementStatus": "INCOMPLETED",
                "receiptUrl": receipt_url,
            }
        case method if method.endswith("GIFT_CERTIFICATE"):
            objects["giftCertificate"] = {"approveNo": means.approve_no, "settlementStatus": "INCOMPLETED"}
    return objects


def _card(payment: Payment, means: Means) -> dict[str, JsonValue]:
    return {
        "issuerCode": "61",
        "acquirerCode": "31",
        "number": means.number,
        "installmentPlanMonths": means.instalment_months,
        "isInterestFree": False,
        "interestPayer": None,
        "approveNo": means.approve_no,
        "useCardPoint": False,
        "cardType": "신용",
        "ownerType": "개인",
        "acquireStatus": "READY",
        "amount": payment.amount,
    }


def _virtual_account(payment: Payment, means: Means, *, at: datetime) -> dict[str, JsonValue]:
    return {
        "accountNumber": means.number,
        "accountType": "일반",
        "bankCode": means.bank,
        "customerName": means.holder_name or payment.customer_name or "",
        "depositorName": None,
        "dueDate": toss_time(payment.due_at) if payment.due_at else None,
        "expired": payment.status is Status.WAITING_FOR_DEPOSIT and payment.due_at is not None and at > payment.due_at,
        "settlementStatus": "INCOMPLETED",
        "refundStatus": "NONE",
        "refundReceiveAccount": None,
    }


def _easy_pay(payment: Payment) -> JsonValue:
    if payment.means is None or payment.means.method != "EASY_PAY":
        return None
    return {"provider": payment.means.wallet, "amount": payment.amount, "discountAmount": 0}


def _number_of(method: str) -> str:
    if method == "VIRTUAL_ACCOUNT":
        return f"X{_random(string.digits, 13)}"  # accounts of the test environment cannot be paid into
    if method == "MOBILE_PHONE":
        return "01000000000"
    return f"{_random(string.digits, 8)}****{_random(string.digits, 3)}*"


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
