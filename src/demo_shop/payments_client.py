"""The shop's server asks the payments API where a payment stands; each answer is a value."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import httpx
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

# Long enough for a read from a database, short enough for a buyer who waits for a page.
_TIMEOUT: Final = httpx.Timeout(5.0, connect=2.0)


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


class _Wire(BaseModel):
    """Tolerant of members that we do not know, strict about the types of those that we read."""

    model_config = ConfigDict(frozen=True, strict=True, alias_generator=to_camel)


class Failure(_Wire):
    code: str | None = None
    message: str | None = None


class VirtualAccount(_Wire):
    bank: str
    account_number: str
    holder: str | None = None
    due_date: AwareDatetime | None = Field(default=None, strict=False)


class Payment(_Wire):
    order_id: str
    payment_key: str | None
    status: PaymentStatus = Field(strict=False)
    amount: int
    refunded_amount: int
    currency: str
    version: int
    failure: Failure | None = None
    virtual_account: VirtualAccount | None = None
    receipt_url: str | None = None
    completed_at: AwareDatetime | None = Field(default=None, strict=False)


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


def open_client(base_url: str) -> httpx.AsyncClient:
    """A client that trusts no proxy setting of its surroundings and follows no redirect."""
    return httpx.AsyncClient(base_url=base_url, timeout=_TIMEOUT, trust_env=False, follow_redirects=False)


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


def _not_found(response: httpx.Response) -> Answer:
    # A wrong address answers 404 as well; only the API's own problem says that there is no payment.
    try:
        problem = response.json()
    except ValueError:
        return Unreadable("HTTP 404 that is not a problem of the payments API")
    if isinstance(problem, dict) and problem.get("code") == "payment_not_found":
        return NotPrepared()
    return Unreadable("HTTP 404 of another kind")
