"""The JSON that goes in and out: camelCase, strict, amounts in whole won."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from payments.access import Client
from payments.card_numbers import has_card_number
from payments.explanations import NextAction, explain, next_check_at
from payments.gateways.pg import RefundAccount
from payments.models import Payment, PaymentEvent, Refund
from payments.records import EventType, OutboxMessage
from payments.snapshots import iso, refund_snapshot, snapshot
from payments.states import Cause, PaymentMethod, PaymentStatus, RefundStatus
from payments.usecases.cancel import CancelOutcome, CancelRequest
from payments.usecases.confirm import ConfirmRequest
from payments.usecases.prepare import Prepared, PrepareRequest

# Far above what any method can take, far below where a client's 32-bit integer ends.
MAX_AMOUNT: Final = 1_000_000_000
MIN_AMOUNT: Final = 100  # https://docs.tosspayments.com/reference/error-codes, BELOW_MINIMUM_AMOUNT


def _readable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("must be readable text, without control or formatting characters")
    return _without_card_number(text)


def _without_card_number(text: str) -> str:
    if has_card_number(text):
        raise ValueError("must not contain a card number")
    return text


# https://docs.tosspayments.com/reference#결제-승인: 6 to 64 letters, digits, `-` and `_`.
OrderId = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{6,64}$"),
    Field(
        description="The shop's order number: 6 to 64 letters, digits, `-` and `_`.", examples=["order-20261122-0001"]
    ),
]
PaymentKey = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,200}$"),
    Field(description="The PG's key of this attempt, from the redirect.", examples=["tviva20260102144639Ab1Cd"]),
]
Email = Annotated[
    str,
    StringConstraints(
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+$", max_length=100
    ),
    AfterValidator(_without_card_number),
    Field(examples=["buyer@example.com"]),
]
OrderName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100),
    AfterValidator(_readable),
    Field(description="What the buyer sees in the payment window.", examples=["토스 티셔츠 외 2건"]),
]
Url = Annotated[str, StringConstraints(min_length=8, max_length=2000)]
Amount = Annotated[int, Field(ge=MIN_AMOUNT, le=MAX_AMOUNT, description="Whole won.", examples=[15000])]


class Body(BaseModel):
    """What a caller sends: nothing coerced, nothing unknown, nothing changed afterwards."""

    model_config = ConfigDict(
        alias_generator=to_camel, strict=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )


class Answer(BaseModel):
    """What we answer."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class PrepareBody(Body):
    order_id: OrderId
    amount: Amount
    method: Annotated[PaymentMethod, Field(strict=False)]
    customer_email: Annotated[Email, Field(repr=False)]
    order_name: OrderName | None = None
    success_url: Annotated[Url, Field(repr=False, examples=["https://shop.example/success"])]
    fail_url: Annotated[Url, Field(repr=False, examples=["https://shop.example/fail"])]

    def request(self, *, buyer: str | None) -> PrepareRequest:
        return PrepareRequest(
            order_id=self.order_id,
            amount=self.amount,
            method=self.method,
            customer_email=self.customer_email,
            order_name=self.order_name or self.order_id,
            success_url=self.success_url,
            fail_url=self.fail_url,
            buyer=buyer,
        )


class ConfirmBody(Body):
    payment_key: PaymentKey
    order_id: OrderId
    amount: Amount

    def request(self, *, buyer: str | None) -> ConfirmRequest:
        return ConfirmRequest(self.payment_key, self.order_id, self.amount, buyer)


class RefundReceiveAccount(Body):
    """Where the money of a paid virtual account goes back to. Passed on to the PG, and kept nowhere."""

    bank: Annotated[
        str,
        StringConstraints(pattern=r"^[0-9A-Z]{2,3}$"),
        Field(repr=False, description="The PG's code of the bank (은행 코드).", examples=["88"]),
    ]
    account_number: Annotated[
        str,
        StringConstraints(pattern=r"^[0-9]{1,20}$"),
        Field(repr=False, description="Digits only.", examples=["110123456789"]),
    ]
    holder_name: Annotated[
        str,
        StringConstraints(min_length=1, max_length=60),
        AfterValidator(_readable),
        Field(repr=False, examples=["김토스"]),
    ]

    def account(self) -> RefundAccount:
        return RefundAccount(self.bank, self.account_number, self.holder_name)


class CancelBody(Body):
    cancel_reason: Annotated[
        str,
        StringConstraints(min_length=1, max_length=200),
        AfterValidator(_readable),
        Field(repr=False, description="Kept, and shown to the buyer by the PG.", examples=["고객 변심"]),
    ]
    cancel_amount: Annotated[
        int | None,
        Field(ge=1, le=MAX_AMOUNT, description="Whole won. Left out: everything that is left.", examples=[5000]),
    ] = None
    tax_free_amount: Annotated[
        int,
        Field(
            ge=0,
            le=MAX_AMOUNT,
            description="The part of `cancelAmount` that was sold without tax (면세), in whole won.",
            examples=[0],
        ),
    ] = 0
    refund_receive_account: RefundReceiveAccount | None = None

    def request(self, order_id: str, *, request_id: UUID, client: Client) -> CancelRequest:
        account = self.refund_receive_account
        return CancelRequest(
            order_id=order_id,
            reason=self.cancel_reason,
            request_id=request_id,
            actor=client.name,
            limit=client.refund_limit,
            amount=self.cancel_amount,
            tax_free_amount=self.tax_free_amount,
            account=account.account() if account else None,
        )


class PreparedAnswer(Answer):
    """All that the payment window needs."""

    order_id: str
    status: PaymentStatus
    attempt: int
    amount: int
    currency: str
    order_name: str
    method: PaymentMethod
    customer_email: str = Field(repr=False)
    client_key: str
    success_url: str
    fail_url: str
    expires_at: str

    @classmethod
    def of(cls, prepared: Prepared, asked: PrepareBody, *, client_key: str) -> "PreparedAnswer":
        payment = prepared.payment
        return cls(
            order_id=payment.order_id,
            status=payment.status,
            attempt=payment.attempt,
            amount=payment.amount,
            currency=payment.currency,
            order_name=payment.order_name,
            method=payment.method,
            customer_email=asked.customer_email,
            client_key=client_key,
            success_url=asked.success_url,
            fail_url=asked.fail_url,
            expires_at=iso(payment.expires_at) or "",
        )


class FailureAnswer(Answer):
    code: str
    message: str | None


class VirtualAccountAnswer(Answer):
    bank: str
    account_number: str = Field(repr=False)
    holder: str = Field(repr=False)
    due_date: datetime | None
    refund_status: Annotated[
        str | None,
        Field(description="How far the bank got with a refund: NONE, PENDING, FAILED, PARTIAL_FAILED or COMPLETED."),
    ]


class RefundAnswer(Answer):
    refund_id: str
    amount: int
    tax_free_amount: int
    reason: str
    status: RefundStatus
    requested_at: datetime
    completed_at: datetime | None
    failure: FailureAnswer | None
    next_check_at: datetime | None


class PaymentAnswer(Answer):
    """A payment as it stands. Amounts in whole won, times in UTC."""

    order_id: str
    payment_key: str | None
    status: PaymentStatus
    method: PaymentMethod
    amount: int
    refunded_amount: int
    refundable_amount: int
    currency: str
    order_name: str
    attempt: int
    failure: FailureAnswer | None
    virtual_account: VirtualAccountAnswer | None
    receipt_url: str | None
    reason: str
    next_action: NextAction
    next_check_at: datetime | None
    created_at: datetime
    approved_at: datetime | None
    completed_at: datetime | None
    cancelled_at: datetime | None
    refunds: list[RefundAnswer]
    version: int


class StatusAnswer(Answer):
    """Where a payment stands, for whoever knows its order number: no amount, no key, nothing of anybody."""

    model_config = ConfigDict(extra="forbid")  # so that the description tells it from a whole payment

    order_id: str
    status: PaymentStatus
    reason: str
    next_action: NextAction
    next_check_at: datetime | None


class EventAnswer(Answer):
    """One move of a payment, `from` null for the first."""

    sequence: int
    from_: Annotated[PaymentStatus | None, Field(alias="from")]
    to: PaymentStatus
    cause: Cause
    actor: str | None
    attempt: int
    pg_code: str | None
    message: str | None
    at: datetime

    @classmethod
    def of(cls, event: PaymentEvent, payment: Payment) -> "EventAnswer":
        # Why a payment was given up stands with the payment, where it can be erased.
        is_given_up = event.to_status is PaymentStatus.CANCELLED
        return cls(
            sequence=event.sequence,
            from_=event.from_status,
            to=event.to_status,
            cause=event.cause,
            actor=event.actor,
            attempt=event.attempt,
            pg_code=event.pg_code,
            message=payment.cancel_reason if is_given_up else event.message,
            at=event.at,
        )


class EventsAnswer(Answer):
    events: list[EventAnswer]


class FeedData(Answer):
    """What an event tells; `payment` is the payment right after the change."""

    sequence: int
    payment: dict[str, object]


class FeedEvent(Answer):
    """An event as it is also pushed; `id` is the `webhook-id` under which it is sent."""

    id: UUID
    type: EventType
    timestamp: datetime
    data: FeedData

    @classmethod
    def of(cls, message: OutboxMessage) -> "FeedEvent":
        return cls.model_validate({"id": message.id, **message.payload})


class FeedAnswer(Answer):
    events: list[FeedEvent]
    next: str | None


class CancelAnswer(Answer):
    """What became of a cancel; `refund` is null where nothing had been paid."""

    refund: RefundAnswer | None
    payment: PaymentAnswer

    @classmethod
    def of(cls, outcome: CancelOutcome) -> "CancelAnswer":
        refund = outcome.refund
        return cls(
            refund=RefundAnswer.model_validate(refund_snapshot(refund)) if refund else None,
            payment=payment_answer(outcome.payment, outcome.refunds),
        )


def payment_answer(payment: Payment, refunds: Sequence[Refund] = ()) -> PaymentAnswer:
    """The payment with the words that explain it."""
    explanation = explain(payment, refunds)
    return PaymentAnswer.model_validate(
        {
            **snapshot(payment, refunds),
            "reason": explanation.reason,
            "nextAction": explanation.next_action,
            "nextCheckAt": next_check_at(payment, refunds),
        }
    )


def status_answer(payment: Payment, refunds: Sequence[Refund] = ()) -> StatusAnswer:
    """The same for whoever may see no more than that."""
    explanation = explain(payment, refunds)
    return StatusAnswer(
        order_id=payment.order_id,
        status=payment.status,
        reason=explanation.reason,
        next_action=explanation.next_action,
        next_check_at=next_check_at(payment, refunds),
    )
