"""What a payment, its history and its refunds are, and the only moves they can make."""

import random
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Final, Self
from uuid import UUID

from sqlalchemy import DDL, CheckConstraint, ForeignKey, Index, String, event, text
from sqlalchemy.orm import Mapped, Session, UOWTransaction, WriteOnlyMapped, mapped_column, relationship

from payments.db import Base, listed, readable
from payments.errors import (
    AmountMismatch,
    PaymentKeyMismatch,
    RefundAlreadyDecided,
    RefundExceedsBalance,
    TaxFreeExceedsRefund,
    TransitionNotAllowed,
)
from payments.ids import new_id
from payments.leases import Lease
from payments.states import (
    CAPTURED,
    REFUND_TRANSITIONS,
    TRANSITIONS,
    Cause,
    PaymentMethod,
    PaymentStatus,
    RefundStatus,
    allowed_edges,
)

CURRENCY: Final = "KRW"

# What the API lets in, repeated by the database for whoever comes another way. What the PG says is bounded where it is
# read, and by types here: an answer about money must never be refused for its form.
MOST: Final = 1_000_000_000  # won
_MOST_AT_PG: Final = 2**53 - 1  # won; beyond it JSON numbers stop being exact
# How long they are at the most is the columns' own bound: one in the pattern makes it many times as slow, and every
# CHECK is looked at for every change of a row.
_KEY: Final = "^[A-Za-z0-9_-]+$"
_EMAIL: Final = r"^[!-?A-~]+@[!-?A-~]+\.[!-?A-~]+$"  # loosely: visible ASCII and one @

# Toss lets the buyer take 30 minutes in the payment window, and the shop 10 more until it confirms
# (https://docs.tosspayments.com/reference/using-api/webhook-events).
SESSION_LIFETIME: Final = timedelta(minutes=40)
EXPIRES_AFTER: Final = SESSION_LIFETIME + timedelta(minutes=5)  # what may be under way when the session ends

# How long after an unknown answer the PG is asked again: quickly at first, because a buyer is waiting.
CHECK_DELAYS: Final = (
    timedelta(seconds=2),
    timedelta(seconds=5),
    timedelta(seconds=15),
    timedelta(minutes=1),
    timedelta(minutes=5),
)


# A deposit is looked for soon after the account was issued, and a reversal soon after the deposit; from then on at
# the pace that the operator has set.
FIRST_DEPOSIT_CHECK: Final = timedelta(seconds=5)
# A deposit of the last minute is still on its way when the due date passes.
DEPOSIT_GRACE: Final = timedelta(minutes=10)
# Banks take most deposits that they take back within two minutes (Toss's staff in its developers' community).
REVERSAL_WATCH: Final = timedelta(minutes=15)
# What a bank has not paid out yet is asked about the less often the longer it takes; it may take nine days
# (https://docs.tosspayments.com/guides/v2/cancel-payment).
_PAY_OUT_PACE: Final = 10
_DEPOSIT_PACE: Final = 100  # a deposit is looked for less and less often, too: after a day every quarter of an hour

# What stands where somebody gave a reason, once that has been erased.
ERASED: Final = "(erased)"

# How a refund to an account gets on, in the PG's words (https://docs.tosspayments.com/reference, virtualAccount).
PAID_OUT: Final = "COMPLETED"
NOT_PAID_OUT: Final = frozenset({"FAILED", "PARTIAL_FAILED"})


class AskedAbout:
    """What the PG is asked about until it has said what happened, by one process at a time."""

    next_check_at: Mapped[datetime | None]  # when it is to be asked (again); while somebody holds it, until when
    held_by: Mapped[UUID | None]  # the process that is working on it, whose death ends that at once
    check_count: Mapped[int]

    def hold(self, lease: Lease, *, at: datetime) -> None:
        """From now on somebody is working on it; others leave it alone until the lease ends."""
        self.next_check_at = at + lease.length
        self.held_by = lease.holder

    def check_at(self, moment: datetime) -> None:
        """Whoever held it is done; the PG is to be asked from `moment` on."""
        self.next_check_at = moment
        self.held_by = None

    def check_later(self, *, at: datetime, not_before: timedelta | None = None) -> None:
        """Plan the next question to the PG, after `not_before` at the earliest (its Retry-After)."""
        self.check_at(at + _next_delay(self.check_count, not_before))
        self.check_count += 1


class GoesBack(AskedAbout):
    """Money that is promised to go back, under a PG key of its own, until the PG has said that it did or never will."""

    status: Mapped[RefundStatus] = mapped_column(listed(RefundStatus, "status_listed"))
    refund_key: Mapped[str] = mapped_column(String(64), unique=True)  # the PG idempotency key
    key_since: Mapped[datetime]  # when it was taken: the PG forgets keys
    cause: Mapped[Cause] = mapped_column(listed(Cause, "cause_listed"))
    fail_code: Mapped[str | None] = mapped_column(String(100))
    fail_reason: Mapped[str | None] = mapped_column(String(510))
    completed_at: Mapped[datetime | None]

    def ask_anew(self, refund_key: str, *, at: datetime) -> None:
        """Go on under a new PG key, because the PG repeats a fault of its own under the old one.

        Safe although the old request might still be carried out: both carry the same believed balance, and the PG
        gives back only while that is what is left.

        Raises:
            RefundAlreadyDecided: there is nothing to go on with.
        """
        if self.status is not RefundStatus.REQUESTED:
            raise RefundAlreadyDecided
        self.refund_key = refund_key
        self.key_since = at
        self.check_later(at=at)

    def _move_to(self, target: RefundStatus, *, at: datetime) -> None:
        if target not in REFUND_TRANSITIONS[self.status]:
            raise RefundAlreadyDecided
        self.status = target
        self.completed_at = at
        self.next_check_at = self.held_by = None


@dataclass(frozen=True, slots=True)
class VirtualAccount:
    """Where the buyer is to send the money. `due_at` is None where the PG did not say."""

    bank: str
    account_number: str = field(repr=False)
    holder: str = field(repr=False)
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a payment, before it becomes a row of the history (`PaymentEvent`, where each field is described)."""

    sequence: int
    from_status: PaymentStatus | None
    to_status: PaymentStatus
    cause: Cause
    actor: str | None
    attempt: int
    payment_key: str | None
    pg_code: str | None
    message: str | None
    at: datetime


class Payment(AskedAbout, Base):
    """One order's payment, from prepare to its final state.

    Build it with `prepare` only. Every change of state goes through a method named in `states.TRANSITIONS` and leaves
    a `Move`, which becomes a `PaymentEvent` when the change is written. `version` makes a writer that read an older
    state fail at commit (`ConcurrentUpdate`).
    """

    __tablename__ = "payments"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint(f"amount <= {MOST}", name="amount_bounded"),
        CheckConstraint(f"deposited_amount BETWEEN 0 AND {_MOST_AT_PG}", name="deposited_amount_bounded"),
        CheckConstraint("refunded_amount BETWEEN 0 AND amount", name="refunded_within_amount"),
        CheckConstraint(f"currency = '{CURRENCY}'", name="currency_won"),
        CheckConstraint("attempt > 0", name="attempt_positive"),
        CheckConstraint(f"length(order_id) >= 6 AND order_id ~ '{_KEY}'", name="order_id_alphabet"),
        CheckConstraint(f"payment_key ~ '{_KEY}'", name="payment_key_alphabet"),
        CheckConstraint(f"confirm_key ~ '{_KEY}'", name="confirm_key_alphabet"),
        CheckConstraint(f"cancel_key ~ '{_KEY}'", name="cancel_key_alphabet"),
        CheckConstraint(readable("order_name"), name="order_name_readable"),
        CheckConstraint(readable("cancel_reason"), name="cancel_reason_readable"),
        CheckConstraint(f"customer_email ~ '{_EMAIL}'", name="customer_email_shape"),
        CheckConstraint("last_sequence > 0 AND check_count >= 0 AND version > 0", name="counters_count"),
        CheckConstraint(
            "account_bank IS NOT NULL OR (account_number IS NULL AND account_holder IS NULL)", name="account_has_bank"
        ),
        CheckConstraint(
            "erased_at IS NULL OR (order_name = order_id AND num_nonnulls(customer_email, owner, account_number, "
            "account_holder, receipt_url, webhook_secret, cancel_reason) = 0)",
            name="erased_names_nobody",
        ),
        CheckConstraint(
            "status <> 'PENDING' OR (payment_key IS NOT NULL AND confirm_key IS NOT NULL "
            "AND pending_since IS NOT NULL AND next_check_at IS NOT NULL)",
            name="pending_can_be_resolved",
        ),
        CheckConstraint(
            "status <> 'WAITING_FOR_DEPOSIT' OR (payment_key IS NOT NULL AND next_check_at IS NOT NULL)",
            name="deposit_is_looked_for",
        ),
        CheckConstraint("status <> 'CREATED' OR next_check_at IS NOT NULL", name="created_expires"),
        CheckConstraint("held_by IS NULL OR next_check_at IS NOT NULL", name="held_until"),
        CheckConstraint("cancel_key IS NULL OR cancel_reason IS NOT NULL", name="cancel_has_reason"),
        CheckConstraint("status <> 'FAILED' OR fail_code IS NOT NULL", name="failed_has_evidence"),
        CheckConstraint(
            "status NOT IN ('COMPLETED', 'PARTIALLY_REFUNDED', 'REFUNDED') "
            "OR (payment_key IS NOT NULL AND approved_at IS NOT NULL AND completed_at IS NOT NULL)",
            name="completed_has_proof",
        ),
        CheckConstraint(
            "CASE status WHEN 'REFUNDED' THEN refunded_amount = amount "
            "WHEN 'PARTIALLY_REFUNDED' THEN refunded_amount > 0 AND refunded_amount < amount "
            "ELSE refunded_amount = 0 END",
            name="refunded_fits_status",
        ),
        Index("ix_payments_next_check_at", "next_check_at", postgresql_where=text("next_check_at IS NOT NULL")),
        Index("ix_payments_held_by", "held_by", postgresql_where=text("held_by IS NOT NULL")),
        Index("ix_payments_completed_at", "completed_at", postgresql_where=text("completed_at IS NOT NULL")),
        Index("ix_payments_reversed_at", "reversed_at", postgresql_where=text("reversed_at IS NOT NULL")),
        Index("ix_payments_unerased", "prepared_at", "id", postgresql_where=text("erased_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(String(64), unique=True)
    payment_key: Mapped[str | None] = mapped_column(String(200), unique=True)
    status: Mapped[PaymentStatus] = mapped_column(listed(PaymentStatus, "status_listed"))
    method: Mapped[PaymentMethod] = mapped_column(listed(PaymentMethod, "method_listed"))
    amount: Mapped[int]  # won
    refunded_amount: Mapped[int]  # won
    currency: Mapped[str] = mapped_column(String(3))
    order_name: Mapped[str] = mapped_column(String(100))
    customer_email: Mapped[str | None] = mapped_column(String(100))  # None: erased
    owner: Mapped[str | None] = mapped_column(String(255))  # the buyer, by the identity provider's name (`sub`)
    fail_code: Mapped[str | None] = mapped_column(String(100))
    fail_reason: Mapped[str | None] = mapped_column(String(510))  # as long as the PG's messages can be
    attempt: Mapped[int]
    confirm_key: Mapped[str | None] = mapped_column(String(64))  # the PG idempotency key of this attempt
    webhook_secret: Mapped[str | None] = mapped_column(String(50))
    account_bank: Mapped[str | None] = mapped_column(String(20))
    account_number: Mapped[str | None] = mapped_column(String(20))
    account_holder: Mapped[str | None] = mapped_column(String(100))
    account_due_at: Mapped[datetime | None]
    account_refund_status: Mapped[str | None] = mapped_column(String(20))  # the PG's word
    account_refund_asked_at: Mapped[datetime | None]
    is_partial_cancelable: Mapped[bool]
    cancel_key: Mapped[str | None] = mapped_column(String(64))  # the PG idempotency key of a cancel that is promised
    cancel_reason: Mapped[str | None] = mapped_column(String(200))
    cancel_actor: Mapped[str | None] = mapped_column(String(100))
    cancel_asked_at: Mapped[datetime | None]
    cancel_key_since: Mapped[datetime | None]
    cancel_request_id: Mapped[UUID | None]  # the request that gave the payment up
    receipt_url: Mapped[str | None] = mapped_column(String(500))
    last_sequence: Mapped[int]  # of the history
    created_at: Mapped[datetime]
    prepared_at: Mapped[datetime]  # of this attempt; its session lives `SESSION_LIFETIME` from here
    pending_since: Mapped[datetime | None]
    approved_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    deposited_amount: Mapped[int | None]  # won; only when it is not the amount that is owed
    pay_out_failed_at: Mapped[datetime | None]  # a bank could not pay a refund out, which nobody has mended yet
    reversed_at: Mapped[datetime | None]  # when the bank took a deposit back, until another one comes
    cancelled_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]  # since when it holds nothing personal; a new attempt or refund ends that
    version: Mapped[int] = mapped_column()

    events: WriteOnlyMapped["PaymentEvent"] = relationship(order_by="PaymentEvent.sequence", passive_deletes=True)

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it while the class is built

    @classmethod
    def prepare(
        cls,
        order_id: str,
        amount: int,
        *,
        method: PaymentMethod,
        order_name: str,
        customer_email: str,
        at: datetime,
        owner: str | None = None,
        cause: Cause = Cause.API,
    ) -> Self:
        """The first attempt at paying `amount` won for an order. `order_id` and `amount` have been validated."""
        payment = cls(
            id=new_id(),
            order_id=order_id,
            amount=amount,
            method=method,
            order_name=order_name,
            customer_email=customer_email,
            owner=owner,
            currency=CURRENCY,
            refunded_amount=0,
            is_partial_cancelable=True,
            attempt=1,
            check_count=0,
            last_sequence=0,
            created_at=at,
            prepared_at=at,
        )
        payment._note(None, PaymentStatus.CREATED, at=at, cause=cause)
        payment.status = PaymentStatus.CREATED
        payment.check_at(at + EXPIRES_AFTER)
        return payment

    @property
    def new_moves(self) -> list[Move]:
        """What has been done to it since it was read or written, oldest first."""
        # Not mapped: a relationship builds a query for each row that is added, which takes longer than all the rest.
        moves: list[Move] = self.__dict__.setdefault("_new_moves", [])
        return moves

    @property
    def refundable_amount(self) -> int:
        """What can still be given back, in won."""
        return self.amount - self.refunded_amount if self.status in CAPTURED else 0

    @property
    def expires_at(self) -> datetime:
        """When the session of this attempt ends, if the buyer has not paid by then."""
        return self.prepared_at + SESSION_LIFETIME

    @property
    def has_account(self) -> bool:
        """Whether the PG issued a virtual account for this attempt; true also when its number has been erased."""
        return self.account_bank is not None

    @property
    def virtual_account(self) -> VirtualAccount | None:
        """The account that waits, or waited, for a deposit; None as well when it has been erased."""
        if self.account_bank is None or self.account_number is None:
            return None
        return VirtualAccount(self.account_bank, self.account_number, self.account_holder or "", self.account_due_at)

    def is_hidden_from(self, buyer: str | None) -> bool:
        """Whether it is none of this buyer's business; None is somebody who is not asked who they are."""
        return buyer is not None and self.owner != buyer

    def prepare_again(self, *, method: PaymentMethod, order_name: str, customer_email: str, at: datetime) -> None:
        """The buyer opens the payment window once more: no new attempt, but a fresh session."""
        self.method = method
        self.order_name = order_name
        self.customer_email = customer_email
        self.erased_at = None
        self.prepared_at = at
        self.check_at(at + EXPIRES_AFTER)

    def retry(self, *, at: datetime, cause: Cause = Cause.API) -> None:
        """Reopen a failed payment as a new attempt; the keys of the failed one stay in the history."""
        self._require(PaymentStatus.CREATED, by="retry")
        self.attempt += 1
        self._move_to(PaymentStatus.CREATED, by="retry", at=at, cause=cause)
        self.payment_key = self.confirm_key = self.webhook_secret = self.receipt_url = None
        self.account_bank = self.account_number = self.account_holder = self.account_due_at = None
        self.account_refund_status = self.account_refund_asked_at = self.reversed_at = self.deposited_amount = None
        self.is_partial_cancelable = True
        self.cancel_reason = self.cancel_actor = self.cancel_request_id = None
        self.fail_code = self.fail_reason = self.pending_since = None
        self.prepared_at = at
        self.check_at(at + EXPIRES_AFTER)

    def begin_confirm(
        self,
        payment_key: str,
        amount: int,
        *,
        confirm_key: str,
        at: datetime,
        lease: Lease,
        cause: Cause = Cause.API,
    ) -> None:
        """Promise to ask the PG for the money. Must be committed before the PG is asked.

        When `lease` ends someone else may conclude that this confirm died, and take it over.

        Raises:
            AmountMismatch: `amount` is not what was prepared.
            TransitionNotAllowed: this payment is not waiting to be confirmed.
        """
        if amount != self.amount:
            raise AmountMismatch
        self._move_to(PaymentStatus.PENDING, by="begin_confirm", at=at, cause=cause, payment_key=payment_key)
        self.payment_key = payment_key
        self.confirm_key = confirm_key
        self.pending_since = at
        self.hold(lease, at=at)
        self.check_count = 0

    def approve(
        self,
        payment_key: str,
        *,
        approved_at: datetime,
        at: datetime,
        cause: Cause,
    ) -> None:
        """The PG holds the money.

        Raises:
            PaymentKeyMismatch: the money came under another payment key than the one this attempt confirmed.
            TransitionNotAllowed: this payment was not waiting for money.
        """
        self._require(PaymentStatus.APPROVED, by="approve")
        if payment_key != self.payment_key:
            raise PaymentKeyMismatch
        self._move_to(PaymentStatus.APPROVED, by="approve", at=at, cause=cause)
        self.approved_at = approved_at
        self.reversed_at = self.deposited_amount = None
        self.fail_code = self.fail_reason = None
        self.cancel_key = None  # the deposit was faster than the cancel
        self._stop_checking()

    def complete(self, *, at: datetime, cause: Cause) -> None:
        """The capture is done; with Toss this is the same moment as the approval."""
        self._move_to(PaymentStatus.COMPLETED, by="complete", at=at, cause=cause)
        self.completed_at = at
        if self.has_account:
            self.check_at(at + FIRST_DEPOSIT_CHECK)  # a bank may still take a deposit back

    def await_deposit(self, account: VirtualAccount, *, at: datetime, cause: Cause) -> None:
        """The PG issued a virtual account, and the deposit is looked for from now on."""
        self._move_to(PaymentStatus.WAITING_FOR_DEPOSIT, by="await_deposit", at=at, cause=cause)
        self.keep_account(account)
        self.check_at(at + FIRST_DEPOSIT_CHECK)
        self.check_count = 0

    def keep_account(self, account: VirtualAccount) -> None:
        """The account that the PG issued for this attempt. What was erased does not come back with it."""
        self.account_bank = account.bank
        self.account_due_at = account.due_at
        if self.erased_at is None:
            self.account_number = account.account_number
            self.account_holder = account.holder

    def reverse_deposit(self, *, at: datetime, cause: Cause) -> None:
        """The bank took a deposit back; the same account waits again."""
        self._move_to(PaymentStatus.WAITING_FOR_DEPOSIT, by="reverse_deposit", at=at, cause=cause)
        self.approved_at = self.completed_at = None
        self.reversed_at = at
        self.check_at(at + FIRST_DEPOSIT_CHECK)

    def fail(self, code: str, reason: str, *, at: datetime, cause: Cause) -> None:
        """This attempt will never take money. `code` and `reason` are the evidence: the PG's, or `expired`."""
        self._move_to(PaymentStatus.FAILED, by="fail", at=at, cause=cause, pg_code=code, message=reason)
        self.fail_code = code
        self.fail_reason = reason
        self.cancel_key = None
        self._stop_checking()

    def let_go_of_key(self) -> None:
        """The payment key is another order's, as the PG shows it; the history keeps that it was confirmed here.

        Raises:
            TransitionNotAllowed: something may still come of the confirm under it.
        """
        self._require(PaymentStatus.CREATED, by="retry")  # whose attempt is over for good
        self.payment_key = None

    def begin_cancel(
        self,
        reason: str,
        *,
        cancel_key: str,
        request_id: UUID,
        at: datetime,
        lease: Lease,
        actor: str | None = None,
    ) -> None:
        """Promise to give the virtual account up. Must be committed before the PG is asked.

        Raises:
            TransitionNotAllowed: no deposit is awaited.
        """
        if self.status is not PaymentStatus.WAITING_FOR_DEPOSIT:
            raise TransitionNotAllowed(self.status, PaymentStatus.CANCELLED)
        self.cancel_key = cancel_key
        self.cancel_asked_at = self.cancel_key_since = at
        self._note_cancel_reason(reason)
        self.cancel_actor = actor
        self.cancel_request_id = request_id
        self.hold(lease, at=at)
        self.check_count = 0

    def renew_cancel(self, cancel_key: str, *, at: datetime) -> None:
        """Go on under a new PG key; harmless, because an account can be given up once only."""
        self.cancel_key = cancel_key
        self.cancel_key_since = at
        self.check_later(at=at)

    def drop_cancel(self, *, at: datetime) -> None:
        """The PG will not give the virtual account up; the deposit is awaited as before."""
        self.cancel_key = self.cancel_reason = self.cancel_actor = self.cancel_request_id = None
        self.check_at(at + FIRST_DEPOSIT_CHECK)

    def cancel(
        self, reason: str, *, at: datetime, cause: Cause, actor: str | None = None, request_id: UUID | None = None
    ) -> None:
        """Given up before any money was kept."""
        self._move_to(PaymentStatus.CANCELLED, by="cancel", at=at, cause=cause, actor=actor)
        self._note_cancel_reason(reason)
        self.cancelled_at = at
        self.cancel_key = None
        self.cancel_request_id = request_id or self.cancel_request_id
        self._stop_checking()

    def refund(self, amount: int, *, at: datetime, cause: Cause, actor: str | None = None) -> None:
        """`amount` won went back to the buyer.

        Raises:
            RefundExceedsBalance: more than is left, or nothing.
            TransitionNotAllowed: no money of this payment is with the shop.
        """
        self._require(PaymentStatus.REFUNDED, by="refund")  # wherever a part can go back, the whole can
        left = self.amount - self.refunded_amount
        if not 0 < amount <= left:
            raise RefundExceedsBalance
        target = PaymentStatus.REFUNDED if amount == left else PaymentStatus.PARTIALLY_REFUNDED
        self._move_to(target, by="refund", at=at, cause=cause, actor=actor)
        self.refunded_amount += amount
        if self.has_account:  # a bank has to pay it out, which the PG tells of later
            self.account_refund_asked_at = at
            self.account_refund_status = None
            self.check_at(at + FIRST_DEPOSIT_CHECK)

    def check_soon(self, *, at: datetime, not_before: timedelta | None = None) -> None:
        """Plan the question that could not even be sent; it does not count as asked."""
        self.check_at(at + max(CHECK_DELAYS[0] * (1 + _jitter()), not_before or timedelta()))

    def is_deposit_overdue(self, *, at: datetime) -> bool:
        """Whether the due date has passed for so long that nothing can be on its way any more."""
        return self.account_due_at is not None and at > self.account_due_at + DEPOSIT_GRACE

    def watch(self, *, every: timedelta, at: datetime) -> None:
        """Plan the next look at a payment that is not PENDING and may still change at the PG by itself.

        A virtual account waits for its deposit, a bank may take one back, and a refund to an account takes days.
        """
        if self.status is PaymentStatus.WAITING_FOR_DEPOSIT and self.pending_since is not None:
            self.check_at(at + max(every, (at - self.pending_since) / _DEPOSIT_PACE))
        elif self.is_being_paid_out and self.account_refund_asked_at is not None:
            self.check_at(at + max(every, (at - self.account_refund_asked_at) / _PAY_OUT_PACE))
        elif self._may_be_reversed(at=at):
            self.check_at(at + every)
        else:
            self._stop_checking()

    def learn(
        self,
        *,
        method: PaymentMethod,
        receipt_url: str | None,
        webhook_secret: str | None,
        is_partial_cancelable: bool,
    ) -> None:
        """Keep what the PG says about this attempt; a later answer that leaves something out takes nothing away."""
        self.method = method
        self.is_partial_cancelable = is_partial_cancelable
        if self.erased_at is None:  # what was erased does not come back with a late answer
            self.receipt_url = receipt_url or self.receipt_url
            self.webhook_secret = webhook_secret or self.webhook_secret

    def follow_pay_out(self, refund_status: str, *, at: datetime) -> bool:
        """Keep how far the bank got with a refund to an account; answers whether it has just failed."""
        before, self.account_refund_status = self.account_refund_status, refund_status
        has_just_failed = refund_status in NOT_PAID_OUT and refund_status != before
        if has_just_failed:
            self.pay_out_failed_at = at
        return has_just_failed

    def erase_person(self, *, at: datetime) -> None:
        """Let nothing here say any more who paid, and for what; amounts, states and keys stay.

        The caller has made sure that nothing is open, and erases the refunds along with it.
        """
        self.order_name = self.order_id  # as where the shop gave it no name
        self.customer_email = self.owner = None
        self.account_number = self.account_holder = None
        self.receipt_url = self.webhook_secret = self.cancel_reason = None
        self.erased_at = at

    def hold_person_again(self) -> None:
        """Somebody deals with it again, in words that may name a person: it is due to be erased once more."""
        self.erased_at = None

    def _note_cancel_reason(self, reason: str) -> None:
        """Here and not in the history, which nobody can erase from: people give reasons in words of their own."""
        self.hold_person_again()
        self.cancel_reason = reason

    @property
    def is_being_paid_out(self) -> bool:
        """Whether money is on its way to the buyer's account, as far as the PG has said."""
        is_over = self.account_refund_status in {PAID_OUT, *NOT_PAID_OUT}
        return self.account_refund_asked_at is not None and not is_over

    def _may_be_reversed(self, *, at: datetime) -> bool:
        is_deposit = self.status is PaymentStatus.COMPLETED and self.has_account
        return is_deposit and self.completed_at is not None and at < self.completed_at + REVERSAL_WATCH

    def _stop_checking(self) -> None:
        self.next_check_at = self.held_by = None
        self.check_count = 0

    def _require(self, target: PaymentStatus, *, by: str) -> None:
        # By the method too: a deposit is awaited from PENDING and reversed from COMPLETED, and both end alike.
        if TRANSITIONS[self.status].get(target) != by:
            raise TransitionNotAllowed(self.status, target)

    def _move_to(
        self,
        target: PaymentStatus,
        *,
        by: str,
        at: datetime,
        cause: Cause,
        actor: str | None = None,
        payment_key: str | None = None,
        pg_code: str | None = None,
        message: str | None = None,
    ) -> None:
        self._require(target, by=by)
        self._note(
            self.status,
            target,
            at=at,
            cause=cause,
            actor=actor,
            payment_key=payment_key,
            pg_code=pg_code,
            message=message,
        )
        self.status = target

    def _note(
        self,
        start: PaymentStatus | None,
        end: PaymentStatus,
        *,
        at: datetime,
        cause: Cause,
        actor: str | None = None,
        payment_key: str | None = None,
        pg_code: str | None = None,
        message: str | None = None,
    ) -> None:
        self.last_sequence += 1
        self.new_moves.append(
            Move(
                sequence=self.last_sequence,
                from_status=start,
                to_status=end,
                cause=cause,
                actor=actor,
                attempt=self.attempt,
                payment_key=payment_key,
                pg_code=pg_code,
                message=message,
                at=at,
            )
        )


def _next_delay(asked_before: int, not_before: timedelta | None) -> timedelta:
    delay = CHECK_DELAYS[min(asked_before, len(CHECK_DELAYS) - 1)]
    return max(delay * (1 + _jitter()), not_before or timedelta())


def _jitter() -> float:
    """Up to a fifth more, so that a thousand payments of one outage do not come back in one second."""
    return random.random() / 5  # noqa: S311 - spreads load, guards nothing


def _edge_check() -> str:
    # As one list of words: PostgreSQL reads the text of every CHECK anew for each statement that writes a row, and
    # comparing pairs took a fifth of a confirm.
    edges = ",".join(f"{start or ''}>{end}" for start, end in allowed_edges())
    return f"coalesce(from_status, '') || '>' || to_status = ANY (CAST('{{{edges}}}' AS text[]))"


class PaymentEvent(Base):
    """One move of a payment. The history is append-only: a trigger refuses UPDATE, DELETE and TRUNCATE."""

    __tablename__ = "payment_events"
    __table_args__ = (
        CheckConstraint(_edge_check(), name="edge_allowed"),
        CheckConstraint("(sequence = 1) = (from_status IS NULL)", name="first_is_prepare"),
        CheckConstraint("sequence > 0 AND attempt > 0", name="counters_count"),
        CheckConstraint(f"payment_key ~ '{_KEY}'", name="payment_key_alphabet"),
        CheckConstraint("message IS NULL OR to_status = 'FAILED'", name="message_of_failure"),
        Index("ix_payment_events_payment_key", "payment_key", postgresql_where=text("payment_key IS NOT NULL")),
    )

    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)  # 1, 2, ... for each payment
    from_status: Mapped[PaymentStatus | None] = mapped_column(listed(PaymentStatus, "from_status_listed"))
    to_status: Mapped[PaymentStatus] = mapped_column(listed(PaymentStatus, "to_status_listed"))
    cause: Mapped[Cause] = mapped_column(listed(Cause, "cause_listed"))
    actor: Mapped[str | None] = mapped_column(String(100))  # the operator's or client's name
    attempt: Mapped[int]
    payment_key: Mapped[str | None] = mapped_column(String(200))  # on the move to PENDING: the key of that attempt
    pg_code: Mapped[str | None] = mapped_column(String(100))
    # The PG's sentence about a failure, the same for everybody: nothing can be erased from here.
    message: Mapped[str | None] = mapped_column(String(510))
    at: Mapped[datetime]


@event.listens_for(Session, "before_flush")
def _write_moves(session: Session, _: UOWTransaction, __: object) -> None:
    """No session changes a payment without its history."""
    for payment in [one for one in (*session.new, *session.dirty) if isinstance(one, Payment)]:
        for move in payment.new_moves:
            columns = {field.name: getattr(move, field.name) for field in fields(move)}
            payment.events.add(PaymentEvent(payment_id=payment.id, **columns))
        payment.new_moves.clear()


class Refund(GoesBack, Base):
    """Money that goes, or went, back. Committed as REQUESTED before the PG is asked."""

    __tablename__ = "refunds"
    __table_args__ = (
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("amount <= believed_balance", name="amount_within_balance"),
        CheckConstraint(f"believed_balance <= {MOST}", name="balance_bounded"),
        CheckConstraint(f"refund_key ~ '{_KEY}'", name="refund_key_alphabet"),
        # Reasons that were given at the PG are the PG's to bound.
        CheckConstraint(f"request_id IS NULL OR ({readable('reason')})", name="reason_readable"),
        CheckConstraint("check_count >= 0 AND version > 0", name="counters_count"),
        CheckConstraint("tax_free_amount BETWEEN 0 AND amount", name="tax_free_within_amount"),
        CheckConstraint("status <> 'FAILED' OR fail_code IS NOT NULL", name="failed_has_evidence"),
        CheckConstraint("status <> 'SUCCEEDED' OR transaction_key IS NOT NULL", name="succeeded_has_proof"),
        CheckConstraint("status <> 'REQUESTED' OR next_check_at IS NOT NULL", name="requested_can_be_resolved"),
        # Two refunds of one payment never run at the same time.
        Index(
            "uq_refunds_payment_id_requested",
            "payment_id",
            unique=True,
            postgresql_where=text("status = 'REQUESTED'"),
        ),
        Index("ix_refunds_payment_id", "payment_id"),
        CheckConstraint("held_by IS NULL OR next_check_at IS NOT NULL", name="held_until"),
        Index("ix_refunds_next_check_at", "next_check_at", postgresql_where=text("next_check_at IS NOT NULL")),
        Index("ix_refunds_held_by", "held_by", postgresql_where=text("held_by IS NOT NULL")),
        Index("ix_refunds_completed_at", "completed_at", postgresql_where=text("completed_at IS NOT NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    amount: Mapped[int]  # won
    tax_free_amount: Mapped[int]  # won of `amount`
    believed_balance: Mapped[int]  # won left before this refund; sent as Toss's own lock `refundableAmount`
    reason: Mapped[str] = mapped_column(String(200))
    request_id: Mapped[UUID | None] = mapped_column(unique=True)  # the request that asked for it
    transaction_key: Mapped[str | None] = mapped_column(String(64), unique=True)  # the PG's name for it
    actor: Mapped[str | None] = mapped_column(String(100))
    fail_because: Mapped[str | None] = mapped_column(String(40))  # `gateways.pg.RefusedBecause`
    requested_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it while the class is built

    @classmethod
    def request(
        cls,
        payment: Payment,
        amount: int,
        *,
        reason: str,
        refund_key: str,
        at: datetime,
        lease: Lease,
        cause: Cause,
        tax_free_amount: int = 0,
        actor: str | None = None,
        request_id: UUID | None = None,
    ) -> Self:
        """Promise to give `amount` won back. Must be committed before the PG is asked.

        When `lease` ends someone else may conclude that whoever asks the PG died, and take the refund over.

        Raises:
            RefundExceedsBalance: more than is left of the payment, or nothing.
            TaxFreeExceedsRefund: the tax-free share is more than the amount.
        """
        if not 0 < amount <= payment.refundable_amount:
            raise RefundExceedsBalance
        if not 0 <= tax_free_amount <= amount:
            raise TaxFreeExceedsRefund("taxFreeAmount")
        payment.hold_person_again()
        return cls(
            id=new_id(),
            payment_id=payment.id,
            amount=amount,
            tax_free_amount=tax_free_amount,
            believed_balance=payment.refundable_amount,
            reason=reason,
            status=RefundStatus.REQUESTED,
            refund_key=refund_key,
            key_since=at,
            request_id=request_id,
            cause=cause,
            actor=actor,
            next_check_at=at + lease.length,
            held_by=lease.holder,
            check_count=0,
            requested_at=at,
        )

    @classmethod
    def adopt(
        cls, payment: Payment, amount: int, *, reason: str, transaction_key: str, at: datetime, cause: Cause
    ) -> Self:
        """A refund that somebody made at the PG itself; the payment moves with it.

        Raises:
            RefundExceedsBalance: more than is left of the payment, or nothing.
        """
        key = f"adopted-{new_id().hex}"  # never sent: it only keeps the place
        nobody = Lease(timedelta())
        refund = cls.request(payment, amount, reason=reason, refund_key=key, at=at, lease=nobody, cause=cause)
        refund.succeed(payment, transaction_key, at=at, cause=cause)
        return refund

    def succeed(self, payment: Payment, transaction_key: str, *, at: datetime, cause: Cause) -> None:
        """The PG gave the money back; the payment moves with it.

        Raises:
            ValueError: it is another payment's refund.
            RefundAlreadyDecided: it succeeded or failed before.
        """
        if payment.id != self.payment_id:
            raise ValueError("a refund moves its own payment only")
        self._move_to(RefundStatus.SUCCEEDED, at=at)
        self.transaction_key = transaction_key
        payment.refund(self.amount, at=at, cause=cause, actor=self.actor)

    def fail(self, code: str, reason: str, *, because: str, at: datetime) -> None:
        """The PG said that this refund will not happen. `because` sorts its code for those who have to act."""
        self._move_to(RefundStatus.FAILED, at=at)
        self.fail_code = code
        self.fail_reason = reason
        self.fail_because = because

    def erase_person(self) -> None:
        """The reason was given in somebody's own words, and may name the buyer."""
        self.reason = ERASED


class StrayCapture(GoesBack, Base):
    """Money that the PG holds for an order which must not have it: given up, or paid under another key already.

    It goes back by itself, under a key of its own, and moves no payment: none of ours has ever had it.
    """

    __tablename__ = "stray_captures"
    __table_args__ = (
        CheckConstraint("amount > 0 AND amount <= total_amount", name="amount_within_total"),
        CheckConstraint(f"total_amount <= {_MOST_AT_PG}", name="total_bounded"),
        CheckConstraint(f"payment_key ~ '{_KEY}'", name="payment_key_alphabet"),
        CheckConstraint(f"refund_key ~ '{_KEY}'", name="refund_key_alphabet"),
        CheckConstraint("check_count >= 0 AND version > 0", name="counters_count"),
        CheckConstraint("status <> 'FAILED' OR fail_code IS NOT NULL", name="failed_has_evidence"),
        CheckConstraint("status <> 'REQUESTED' OR next_check_at IS NOT NULL", name="requested_can_be_resolved"),
        CheckConstraint("held_by IS NULL OR next_check_at IS NOT NULL", name="held_until"),
        Index("ix_stray_captures_next_check_at", "next_check_at", postgresql_where=text("next_check_at IS NOT NULL")),
        Index("ix_stray_captures_payment_id", "payment_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))  # of the order that it was taken for
    payment_key: Mapped[str] = mapped_column(String(200), unique=True)
    total_amount: Mapped[int]  # won that were captured
    amount: Mapped[int]  # won that were left of it when it was found: what goes back
    found_at: Mapped[datetime]
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it while the class is built

    @classmethod
    def find(
        cls,
        payment: Payment,
        payment_key: str,
        *,
        total_amount: int,
        amount: int,
        refund_key: str,
        at: datetime,
        cause: Cause,
    ) -> Self:
        """Promise to give back what is left of a capture. Must be committed before the PG is asked."""
        return cls(
            id=new_id(),
            payment_id=payment.id,
            payment_key=payment_key,
            total_amount=total_amount,
            amount=amount,
            status=RefundStatus.REQUESTED,
            refund_key=refund_key,
            key_since=at,
            cause=cause,
            found_at=at,
            next_check_at=at,
            check_count=0,
        )

    def succeed(self, *, at: datetime) -> None:
        """The PG holds nothing of it any more."""
        self._move_to(RefundStatus.SUCCEEDED, at=at)

    def fail(self, code: str, reason: str, *, at: datetime) -> None:
        """The PG will not give it back; a person has to."""
        self._move_to(RefundStatus.FAILED, at=at)
        self.fail_code = code
        self.fail_reason = reason


# Created with the table, so that a database made from the models is as strict as a migrated one.
APPEND_ONLY: Final = (
    """
CREATE FUNCTION payment_events_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'payment_events is append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$
""",
    """
CREATE TRIGGER payment_events_append_only BEFORE UPDATE OR DELETE ON payment_events
FOR EACH ROW EXECUTE FUNCTION payment_events_append_only()
""",
    """
CREATE TRIGGER payment_events_never_emptied BEFORE TRUNCATE ON payment_events
FOR EACH STATEMENT EXECUTE FUNCTION payment_events_append_only()
""",
)
for statement in APPEND_ONLY:
    event.listen(PaymentEvent.__table__, "after_create", DDL(statement))  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
