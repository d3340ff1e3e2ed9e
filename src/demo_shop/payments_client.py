"""The shop's server reads payments and gives them back through the payments API; each answer is a value."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final, Self

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from demo_shop.orders import ORDER_ID_PATTERN

# Long enough for a read from a database, short enough for a buyer who waits for a page.
_TIMEOUT: Final = httpx.Timeout(5.0, connect=2.0)
# Longer than the payments API itself waits for Toss, so that its answer can still arrive.
_CANCEL_TIMEOUT: Final = httpx.Timeout(60.0, connect=2.0)

# Problems that decide nothing: the very same request may be sent again. So it may after a 503.
_SAME_AGAIN: Final = {
    "concurrent_update",
    "idempotency_key_reused",  # as it was sent first, that is
    "payment_in_progress",
    "refund_in_progress",
    "request_in_progress",
}

# What the columns of our database hold.
Counted = Annotated[int, Field(ge=0, lt=2**63)]
_PaymentKey = Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]


class PaymentStatus(StrEnum):
    """States of a payment, as the payments API names them."""

    CREATED = "CREATED"
    PENDING = "PENDING"
    WAITING_FOR_DEPOSIT = "WAITING_FOR_DEPOSIT"
    APPROVED = "APPROVED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    REFUNDED = "REFUNDED"
    PARTIALLY_REFUNDED = "PARTIALLY_REFUNDED"


class Wire(BaseModel):
    """Tolerant of members that we do not know, strict about the types of those that we read."""

    model_config = ConfigDict(frozen=True, strict=True, alias_generator=to_camel)


class Failure(Wire):
    code: str | None = None
    message: str | None = None


class VirtualAccount(Wire):
    bank: str
    account_number: str
    holder: str | None = None
    due_date: AwareDatetime | None = Field(default=None, strict=False)
    refund_status: str | None = None


class Refund(Wire):
    """One refund. `status` may be a word that we do not know, which then means: not decided."""

    refund_id: str
    amount: int
    status: str
    reason: str = ""
    requested_at: AwareDatetime | None = Field(default=None, strict=False)
    completed_at: AwareDatetime | None = Field(default=None, strict=False)
    failure: Failure | None = None

    @property
    def is_undecided(self) -> bool:
        return self.status not in {"SUCCEEDED", "FAILED"}


class Payment(Wire):
    order_id: str = Field(pattern=ORDER_ID_PATTERN)
    payment_key: _PaymentKey | None
    status: PaymentStatus = Field(strict=False)
    amount: int
    refunded_amount: Counted
    currency: str
    version: Counted
    method: str | None = None
    failure: Failure | None = None
    virtual_account: VirtualAccount | None = None
    receipt_url: str | None = None
    completed_at: AwareDatetime | None = Field(default=None, strict=False)
    refunds: list[Refund] = []
    next_action: str | None = None

    @model_validator(mode="after")
    def _gives_back_what_there_is(self) -> Self:
        if self.refunded_amount > self.amount:
            raise ValueError("more was refunded than paid")
        return self

    def is_over(self, amount: int) -> bool:
        """Whether it is about this many won."""
        return (self.amount, self.currency) == (amount, "KRW")

    @property
    def refundable_amount(self) -> int:
        """Won that can still be given back."""
        has_money = self.status in {PaymentStatus.COMPLETED, PaymentStatus.PARTIALLY_REFUNDED}
        return self.amount - self.refunded_amount if has_money else 0

    def refund(self, refund_id: str | None) -> Refund | None:
        return next((refund for refund in self.refunds if refund.refund_id == refund_id), None)


@dataclass(frozen=True)
class Found:
    payment: Payment


@dataclass(frozen=True)
class NotPrepared:
    """The payments API has never heard of this order: nobody has begun to pay it."""


@dataclass(frozen=True)
class Unreadable:
    """We asked and do not know. `why` is for the log."""

    why: str


Answer = Found | NotPrepared | Unreadable


@dataclass(frozen=True, kw_only=True)
class RefundAccount:
    """Where the money of a virtual account goes back to. The buyer's own: handed on, and kept nowhere."""

    bank: str = field(repr=False)
    account_number: str = field(repr=False)
    holder_name: str = field(repr=False)


@dataclass(frozen=True)
class Accepted:
    """It is done. `refund` is None where nothing had been paid."""

    refund: Refund | None
    payment: Payment


@dataclass(frozen=True)
class NotKnownYet:
    """The payments API has taken it on and does not know the outcome; `payment` will show it."""

    refund: Refund | None
    payment: Payment


@dataclass(frozen=True)
class Refused:
    """Nothing was given back. `message` is Toss's own, in Korean, where Toss refused."""

    code: str
    message: str | None = None
    same_again: bool = False  # nothing was decided: the very same request may be sent again


@dataclass(frozen=True)
class Unreachable:
    """No usable answer, so we do not know what happened: only the very same request may be sent again."""

    why: str


CancelAnswer = Accepted | NotKnownYet | Refused | Unreachable


class _CancelBody(Wire):
    refund: Refund | None
    payment: Payment


class _Problem(Wire):
    code: str
    pg_message: str | None = None


def open_client(base_url: str, *, api_key: str) -> httpx.AsyncClient:
    """A client that shows our key, trusts no proxy setting of its surroundings and follows no redirect."""
    return httpx.AsyncClient(
        base_url=base_url,
        timeout=_TIMEOUT,
        trust_env=False,
        follow_redirects=False,
        headers={"Authorization": f"Bearer {api_key}"},
    )


async def read_payment(client: httpx.AsyncClient, order_id: str) -> Answer:
    """Ask for the payment of an order. `order_id` must have the alphabet of an order number."""
    try:
        response = await client.get(f"/payments/orders/{order_id}")
    except httpx.HTTPError as error:
        return Unreadable(type(error).__name__)
    if response.status_code == httpx.codes.NOT_FOUND:
        return _not_found(response)
    if response.status_code != httpx.codes.OK:
        return Unreadable(f"HTTP {response.status_code}")
    try:
        return Found(Payment.model_validate_json(response.content))
    except ValidationError as error:
        return Unreadable(f"not a payment: {error.error_count()} members are wrong")


async def cancel_payment(
    client: httpx.AsyncClient,
    order_id: str,
    *,
    key: str,
    reason: str,
    amount: int | None,
    account: RefundAccount | None,
) -> CancelAnswer:
    """Give `amount` won back, or all that is left when None; give up what has not been paid.

    One intention has one `key`: repeated with the same content it is carried out once, and answered alike.
    """
    body: dict[str, object] = {"cancelReason": reason}
    if amount is not None:
        body["cancelAmount"] = amount
    if account is not None:
        body["refundReceiveAccount"] = {
            "bank": account.bank,
            "accountNumber": account.account_number,
            "holderName": account.holder_name,
        }
    try:
        response = await client.post(
            f"/payments/orders/{order_id}/cancel",
            json=body,
            headers={"Idempotency-Key": key},
            timeout=_CANCEL_TIMEOUT,
        )
    except httpx.HTTPError as error:
        return Unreachable(type(error).__name__)
    return _cancel_answer(response)


def _cancel_answer(response: httpx.Response) -> CancelAnswer:
    try:
        match response.status_code:
            case httpx.codes.OK:
                body = _CancelBody.model_validate_json(response.content)
                return Accepted(body.refund, body.payment)
            case httpx.codes.ACCEPTED:
                body = _CancelBody.model_validate_json(response.content)
                return NotKnownYet(body.refund, body.payment)
            case status if _is_refusal(status):
                return _refused(response)
            case status:
                return Unreachable(f"HTTP {status}")
    except ValidationError as error:
        return Unreachable(f"HTTP {response.status_code} of another kind: {error.error_count()} members are wrong")


def _is_refusal(status: int) -> bool:
    # After any other 5xx something may have happened; 408 and 429 may come from a machine in between.
    is_of_the_request = status in range(400, 500) and status not in {
        httpx.codes.REQUEST_TIMEOUT,
        httpx.codes.TOO_MANY_REQUESTS,
    }
    return is_of_the_request or status == httpx.codes.SERVICE_UNAVAILABLE


def _refused(response: httpx.Response) -> Refused:
    problem = _Problem.model_validate_json(response.content)
    is_passing = response.status_code == httpx.codes.SERVICE_UNAVAILABLE
    return Refused(problem.code, problem.pg_message or None, same_again=is_passing or problem.code in _SAME_AGAIN)


def _not_found(response: httpx.Response) -> Answer:
    # A wrong address answers 404 as well; only the API's own problem says that there is no payment.
    try:
        problem = response.json()
    except ValueError:
        return Unreadable("HTTP 404 that is not a problem of the payments API")
    if isinstance(problem, dict) and problem.get("code") == "payment_not_found":
        return NotPrepared()
    return Unreadable("HTTP 404 of another kind")
