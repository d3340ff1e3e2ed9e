"""What a payment gateway (PG) can answer, as values. A lost answer is not a failure: it is `Unknown`."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol


class PgStatus(StrEnum):
    """The PG's own states of a payment (https://docs.tosspayments.com/reference, Payment object)."""

    READY = "READY"
    IN_PROGRESS = "IN_PROGRESS"
    WAITING_FOR_DEPOSIT = "WAITING_FOR_DEPOSIT"
    DONE = "DONE"
    CANCELED = "CANCELED"
    PARTIAL_CANCELED = "PARTIAL_CANCELED"
    ABORTED = "ABORTED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True)
class PgVirtualAccount:
    bank_code: str
    account_number: str = field(repr=False)
    holder_name: str = field(repr=False)
    due_at: datetime | None
    refund_status: str | None  # NONE, PENDING, FAILED, PARTIAL_FAILED, COMPLETED: how far a refund to an account got
    is_expired: bool = False  # the due date has passed, and the PG takes no deposit any more


@dataclass(frozen=True, slots=True)
class PgCancel:
    """One cancel of a payment, whole or in part, in whole won. The PG's list of them only grows."""

    transaction_key: str
    amount: int
    balance_after: int  # what was left when it was done
    reason: str = field(repr=False)
    cancelled_at: datetime | None
    is_done: bool  # False while a cancel abroad is under way, and when it was given up


@dataclass(frozen=True, slots=True)
class PgPayment:
    """A payment as the PG holds it.

    Amounts are whole won. `method` is the PG's own word (`카드`, `가상계좌`, ...) and None until the buyer has chosen.
    `cancels` is in the order in which the balance went down.
    """

    payment_key: str
    order_id: str
    status: PgStatus
    total_amount: int
    balance_amount: int
    currency: str
    method: str | None
    easy_pay: bool
    approved_at: datetime | None
    virtual_account: PgVirtualAccount | None
    secret: str | None = field(repr=False)  # proves a deposit callback; whoever knows it can forge one
    receipt_url: str | None
    failure_code: str | None
    failure_message: str | None
    last_transaction_key: str | None = None
    is_partial_cancelable: bool = True
    was_approved: bool = False  # the money came, whether or not it is still there; also where its time is unreadable
    cancels: tuple[PgCancel, ...] = ()
    merchant_id: str | None = None  # the shop at the PG that the payment belongs to


@dataclass(frozen=True, slots=True)
class PgTransaction:
    """One movement in the PG's books: an approval or a cancel. Those of one payment share its key."""

    transaction_key: str
    payment_key: str
    order_id: str
    status: PgStatus
    method: str | None  # the PG's own word
    amount: int  # won; of a cancel as well, whatever sign the PG gives it
    currency: str
    at: datetime


@dataclass(frozen=True, slots=True)
class TransactionPage:
    """Some of the movements that were asked for, in the PG's order."""

    rows: tuple[PgTransaction, ...]
    next_after: str | None  # where the next page goes on; None on the last one


class UnknownBecause(StrEnum):
    """Why we do not know what happened; each is a label of the metric `pg_answers_total`."""

    NOT_SENT = "not_sent"  # never left this machine: no connection, no free slot
    CIRCUIT_OPEN = "circuit_open"  # not sent either: the PG has been failing and is left alone for a while
    NO_ANSWER = "no_answer"  # sent, and no complete answer came back in time
    MALFORMED = "malformed"  # an answer that is not what the PG documents
    PG_ERROR = "pg_error"  # the PG says that something went wrong on its side, after or before the money moved
    ASK_AGAIN = "ask_again"  # too many requests, or the first request still runs
    MISCONFIGURED = "misconfigured"  # our key, contract or request is wrong; an operator must look
    UNLISTED = "unlisted"  # a code that the table does not know
    MISMATCH = "mismatch"  # the answer is about another payment, order or amount
    NOT_FOUND = "not_found"  # a look-up found nothing
    IN_PROGRESS = "in_progress"  # a look-up found the payment, not captured yet


# What a look-up says although it names no payment that could be recorded; everything else unknown is no answer.
TELLING: Final = frozenset({UnknownBecause.NOT_FOUND, UnknownBecause.IN_PROGRESS, UnknownBecause.MISMATCH})


@dataclass(frozen=True, slots=True)
class Approved:
    """The PG holds the money."""

    payment: PgPayment


@dataclass(frozen=True, slots=True)
class DepositAwaited:
    """The PG issued a virtual account; no money has come yet."""

    payment: PgPayment


@dataclass(frozen=True, slots=True)
class Declined:
    """The PG says that this attempt will never take money: a definite refusal, or an attempt aborted or expired."""

    code: str
    message: str
    payment: PgPayment | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The PG cancelled the payment and kept nothing of it."""

    payment: PgPayment


@dataclass(frozen=True, slots=True)
class Unknown:
    """We do not know. Nothing may be concluded from it except that the PG must be asked again."""

    because: UnknownBecause
    code: str | None = None
    message: str | None = None
    retry_after: timedelta | None = None
    payment: PgPayment | None = None  # what the PG showed, where it is about another payment or not finished

    @property
    def was_sent(self) -> bool:
        """Whether the PG may have seen the request."""
        return self.because not in {UnknownBecause.NOT_SENT, UnknownBecause.CIRCUIT_OPEN}

    @property
    def is_mismatch(self) -> bool:
        """Whether the PG showed something else than it was asked about."""
        return self.because is UnknownBecause.MISMATCH


Answer = Approved | DepositAwaited | Declined | Cancelled | Unknown


@dataclass(frozen=True, slots=True)
class RefundAccount:
    """Where the money of a virtual account goes back to. Belongs to the buyer: never stored, never logged."""

    bank: str = field(repr=False)  # the PG's code of the bank
    account_number: str = field(repr=False)
    holder_name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """A refund as it was promised; repeated with the same key and the same content, whatever happened before.

    `believed_balance` goes along as the PG's own lock: if another amount is left there, it gives nothing back.
    """

    order_id: str
    total_amount: int  # won that were captured
    amount: int  # won to give back; all that is left when it equals `believed_balance`
    believed_balance: int  # won
    tax_free_amount: int  # won of `amount` that were sold without tax
    reason: str = field(repr=False)  # in somebody's own words
    idempotency_key: str = field(repr=False)
    account: RefundAccount | None = field(default=None, repr=False)


class RefusedBecause(StrEnum):
    """Why the PG will not give money back, as far as the caller can act on it."""

    BALANCE_DIFFERS = "balance_differs"  # less, or something else, is left than we believe
    NOT_PARTIALLY = "not_partially"  # this payment goes back as a whole or not at all
    TOO_LATE = "too_late"  # the method's deadline for refunds has passed
    ACCOUNT = "account"  # the account to refund to is missing, wrong, or cannot be paid into
    NOT_NOW = "not_now"  # the bank is closed, or the last cancel was a moment ago: a new request later may do
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Refunded:
    """The PG gave this refund's money back, now or when it was first asked under the same key."""

    payment: PgPayment
    cancel: PgCancel


@dataclass(frozen=True, slots=True)
class RefundRefused:
    """The PG did nothing upon this request, and never will under this key.

    An earlier request under the same key, whose answer was lost, may have done it all the same: where there was one,
    only a look-up shows whether the refund failed.
    """

    because: RefusedBecause
    code: str
    message: str


RefundAnswer = Refunded | RefundRefused | Unknown
CancelAnswer = Cancelled | RefundRefused | Unknown


class PaymentGateway(Protocol):
    """What the use cases need of a PG. Its methods never raise for what the PG or the network does."""

    @property
    def is_available(self) -> bool:
        """False while the circuit of confirms is open: one that is asked for now would not be sent."""
        ...

    async def confirm(self, payment_key: str, *, order_id: str, amount: int, idempotency_key: str) -> Answer:
        """Ask for the capture of `amount` won. The same `idempotency_key` on every repetition of this intention."""
        ...

    async def cancel(
        self, payment_key: str, *, order_id: str, amount: int, reason: str, idempotency_key: str
    ) -> CancelAnswer:
        """Give up a virtual account before its deposit; `amount` won is what was to be paid."""
        ...

    async def refund(self, payment_key: str, order: RefundOrder) -> RefundAnswer:
        """Give captured money back. The same order with the same key on every repetition of this intention."""
        ...

    async def look_up(self, payment_key: str, *, order_id: str, amount: int) -> Answer:
        """Ask what happened to a payment; `order_id` and `amount` are what it must agree with."""
        ...

    async def look_up_order(self, order_id: str, *, amount: int) -> Answer:
        """Ask what happened to an order whose payment key is not known."""
        ...

    async def list_transactions(
        self, since: datetime, until: datetime, *, after: str | None
    ) -> TransactionPage | Unknown:
        """Ask for a page of the movements between two moments, from the one behind the transaction key `after`.

        Where the PG's clock knows whole seconds only, a row may lie less than one second outside.
        """
        ...
