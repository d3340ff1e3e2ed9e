"""Rows without rules of their own: what came in, what must go out, and what does not agree."""

from datetime import date, datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from payments.db import Base, listed

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"  # no float: money is whole won


class EventType(StrEnum):
    """What the order service is told, one message for each change it must know of."""

    WAITING_FOR_DEPOSIT = "payment.waiting_for_deposit"
    COMPLETED = "payment.completed"
    FAILED = "payment.failed"
    CANCELLED = "payment.cancelled"
    REFUNDED = "payment.refunded"
    DEPOSIT_REVERSED = "payment.deposit_reversed"


class OutboxMessage(Base):
    """A message to the order service, written in the transaction of the change that it tells of."""

    __tablename__ = "outbox_messages"
    __table_args__ = (
        UniqueConstraint("payment_id", "sequence"),
        CheckConstraint("sequence > 0 AND attempts >= 0 AND transaction_id > 0", name="counters_count"),
        CheckConstraint("jsonb_typeof(payload) = 'object'", name="payload_is_object"),
        Index(
            "ix_outbox_messages_next_attempt_at",
            "next_attempt_at",
            postgresql_where=text("delivered_at IS NULL AND parked_at IS NULL"),
        ),
        # What was not delivered of one payment, in its order: the first of them is sent first.
        Index(
            "ix_outbox_messages_undelivered",
            "payment_id",
            "sequence",
            postgresql_where=text("delivered_at IS NULL AND parked_at IS NULL"),
        ),
        Index("ix_outbox_messages_feed", "transaction_id", "sequence", "id"),
        Index("ix_outbox_messages_created_at", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)  # the webhook id: stable over retries
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    sequence: Mapped[int]  # of the history row that it tells of; deliveries of one payment follow it
    type: Mapped[EventType] = mapped_column(listed(EventType, "type_listed"))
    payload: Mapped[dict[str, Json]] = mapped_column(JSONB)
    created_at: Mapped[datetime]
    # The database's own, or of an earlier message of the payment if that is higher: it orders the feed, so that a
    # message of a lower one is never seen later.
    transaction_id: Mapped[int] = mapped_column(server_default=text("(pg_current_xact_id()::text)::bigint"))
    attempts: Mapped[int]
    first_attempt_at: Mapped[datetime | None]  # since when it is tried
    next_attempt_at: Mapped[datetime]
    held_until: Mapped[datetime | None]  # while somebody is sending it; then it is taken for not sent
    awaits_receiver: Mapped[bool]  # it was not answered, and is sent at once when the receiver is back
    delivered_at: Mapped[datetime | None]
    resent_at: Mapped[datetime | None]  # when the nightly check sent it once more
    parked_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)

    @property
    def order_id(self) -> str:
        """Of the payment that it tells of."""
        data = self.payload["data"]
        payment = data["payment"] if isinstance(data, dict) else None
        return str(payment["orderId"]) if isinstance(payment, dict) else ""


class WebhookOutcome(StrEnum):
    """What came of an event of the PG."""

    RECORDED = "recorded"  # the PG was asked, and its answer recorded; which may have changed nothing
    ORPHAN = "orphan"  # about no payment of ours
    IGNORED = "ignored"  # of a type that nothing follows from


class ReceivedWebhook(Base):
    """An event of the PG as it came in: stored once, answered, and worked on later."""

    __tablename__ = "received_webhooks"
    __table_args__ = (
        CheckConstraint("attempts >= 0", name="counters_count"),
        CheckConstraint("octet_length(body) <= 262144", name="body_bounded"),  # as the API takes
        # How long they are is the columns' own bound. = as Toss's own order ids may have.
        CheckConstraint("length(order_id) >= 6 AND order_id ~ '^[A-Za-z0-9_=-]+$'", name="order_id_alphabet"),
        CheckConstraint("payment_key ~ '^[A-Za-z0-9_-]+$'", name="payment_key_alphabet"),
        CheckConstraint("transaction_key ~ '^[!-~]+$'", name="transaction_key_alphabet"),
        CheckConstraint("verified_by IN ('signature', 'secret', 'lookup')", name="verified_by_listed"),
        Index(
            "ix_received_webhooks_next_attempt_at",
            "next_attempt_at",
            postgresql_where=text("processed_at IS NULL AND parked_at IS NULL"),
        ),
        Index(
            "ix_received_webhooks_looked_up_at",
            "order_id",
            "looked_up_at",
            postgresql_where=text("looked_up_at IS NOT NULL"),
        ),
        Index("ix_received_webhooks_received_at", "received_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dedupe_key: Mapped[str] = mapped_column(String(128), unique=True)  # the business fact, not the delivery
    event_type: Mapped[str] = mapped_column(String(64))
    order_id: Mapped[str | None] = mapped_column(String(64))
    payment_key: Mapped[str | None] = mapped_column(String(200))
    transaction_key: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str | None] = mapped_column(String(64))  # that it tells of: a hint, never the truth
    transmission_id: Mapped[str | None] = mapped_column(String(100))
    verified_by: Mapped[str] = mapped_column(String(20))  # signature, secret, or lookup: only a hint
    body: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[datetime]
    attempts: Mapped[int]
    next_attempt_at: Mapped[datetime]
    looked_up_at: Mapped[datetime | None]  # when the PG was asked because of it
    processed_at: Mapped[datetime | None]
    outcome: Mapped[WebhookOutcome | None] = mapped_column(listed(WebhookOutcome, "outcome_listed"))
    parked_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)


class IdempotentRequest(Base):
    """A request that must not happen twice, and its answer.

    Neither the client's key nor the body is kept, only what tells two of them apart: a body can hold a bank account.
    """

    __tablename__ = "idempotent_requests"
    __table_args__ = (
        CheckConstraint("octet_length(key_hash) = 32 AND octet_length(fingerprint) = 32", name="hashes_are_sha256"),
        CheckConstraint("(status IS NULL) = (body IS NULL)", name="answered_as_a_whole"),
        CheckConstraint("status BETWEEN 200 AND 599", name="status_of_http"),
        Index("ix_idempotent_requests_created_at", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)  # of the client and its key
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)  # of what is asked, under the key
    created_at: Mapped[datetime]
    locked_until: Mapped[datetime]  # while it is worked on; then whoever worked on it is taken for dead
    promised_at: Mapped[datetime | None]  # once it has given a payment up, it never begins anything else
    status: Mapped[int | None]  # of HTTP; 202 is provisional, everything else is the answer for good
    headers: Mapped[dict[str, Json] | None] = mapped_column(JSONB)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)


class DiscrepancyKind(StrEnum):
    """How orders, payments and the PG can disagree."""

    ORDER_MISSING = "order_missing"
    ORDER_NOT_PAID = "order_not_paid"
    ORDER_AMOUNT_DIFFERS = "order_amount_differs"
    ORDER_PAID_WITHOUT_PAYMENT = "order_paid_without_payment"
    REFUND_NOT_REFLECTED = "refund_not_reflected"
    CAPTURED_BUT_FAILED_HERE = "captured_but_failed_here"
    CAPTURED_BUT_UNKNOWN_HERE = "captured_but_unknown_here"
    COMPLETED_HERE_NOT_AT_PG = "completed_here_not_at_pg"
    AMOUNT_DIFFERS_AT_PG = "amount_differs_at_pg"
    REFUND_DIFFERS_AT_PG = "refund_differs_at_pg"
    CAPTURED_AFTER_CANCEL = "captured_after_cancel"
    DEPOSIT_AWAITED_BUT_CLOSED_HERE = "deposit_awaited_but_closed_here"
    DEPOSIT_AMOUNT_DIFFERS = "deposit_amount_differs"
    REFUND_NOT_PAID_OUT = "refund_not_paid_out"
    UNRESOLVED_24H = "unresolved_24h"
    EVENT_NOT_DELIVERED = "event_not_delivered"
    WEBHOOK_NOT_PROCESSED = "webhook_not_processed"
    TOO_MANY_REPAIRS = "too_many_repairs"
    NIGHT_NOT_FINISHED = "night_not_finished"
    STRAY_NOT_GIVEN_BACK = "stray_not_given_back"


class Severity(StrEnum):
    WARNING = "warning"
    CRITICAL = "critical"  # money is where our books do not show it


class Discrepancy(Base):
    """A named difference between orders, payments and the PG; one row for each kind and subject, however often seen."""

    __tablename__ = "discrepancies"
    __table_args__ = (
        UniqueConstraint("kind", "subject"),
        CheckConstraint("subject <> ''", name="subject_named"),
        CheckConstraint("(resolved_at IS NULL) = (resolved_by IS NULL)", name="resolved_by_somebody"),
        CheckConstraint("resolution IS NULL OR resolved_at IS NOT NULL", name="resolution_of_resolved"),
        Index("ix_discrepancies_payment_id", "payment_id"),
        Index("ix_discrepancies_open", "first_seen_at", postgresql_where=text("resolved_at IS NULL")),
        Index("ix_discrepancies_unerased", "resolved_at", postgresql_where=text("resolution IS NOT NULL")),
        Index(
            "ix_discrepancies_next_alert_at",
            "next_alert_at",
            postgresql_where=text("alerted_at IS NULL AND resolved_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[DiscrepancyKind] = mapped_column(listed(DiscrepancyKind, "kind_listed"))
    subject: Mapped[str] = mapped_column(String(265))  # the order id, or with `/` and a payment key or refund id
    severity: Mapped[Severity] = mapped_column(listed(Severity, "severity_listed"))
    payment_id: Mapped[UUID | None] = mapped_column(ForeignKey("payments.id"))
    ours: Mapped[dict[str, Json]] = mapped_column(JSONB)
    theirs: Mapped[dict[str, Json]] = mapped_column(JSONB)
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    alerted_at: Mapped[datetime | None]
    next_alert_at: Mapped[datetime]  # until it is alerted: when that is tried (again)
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[str | None] = mapped_column(String(100))
    resolution: Mapped[str | None] = mapped_column(Text)


class ApiKey(Base):
    """What a client shows to be let in. The key itself is shown once, to whoever made it, and is not kept."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("octet_length(key_hash) = 32", name="hash_is_sha256"),
        CheckConstraint(
            "cardinality(scopes) > 0 AND scopes <@ ARRAY['pay', 'read', 'refund']::varchar[]", name="scopes_listed"
        ),
        CheckConstraint("prefix ~ '^[A-Za-z0-9]{8}$'", name="prefix_alphabet"),
        CheckConstraint("refund_limit > 0", name="refund_limit_positive"),
        CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked_by_somebody"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))  # of the client; it may have two keys while one replaces the other
    prefix: Mapped[str] = mapped_column(String(8), unique=True)  # the part of the key that may be seen
    key_hash: Mapped[bytes] = mapped_column(LargeBinary)  # SHA-256: a key is random, so that nothing can be guessed
    refund_limit: Mapped[int | None]  # won, of one payment in all
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(20)))
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(100))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    revoked_by: Mapped[str | None] = mapped_column(String(100))


class Process(Base):
    """An API or a worker that runs, or ran: who is silent for `leases.DEAD_AFTER` is taken for dead."""

    __tablename__ = "processes"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))  # role, host and process number, for people
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class JobRun(Base):
    """How a job of the workers is getting on; one row for each job, whichever worker ran it last."""

    __tablename__ = "job_runs"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    last_success_at: Mapped[datetime | None]
    last_failure_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(String(200))


class NightlyCheck(StrEnum):
    """What is compared each night, for the business day before."""

    ORDERS = "check_orders"
    PG = "reconcile"


class NightlyRun(Base):
    """One night's comparison of one business day, done once however many workers there are."""

    __tablename__ = "nightly_runs"
    __table_args__ = (CheckConstraint("attempts > 0", name="attempts_positive"),)

    kind: Mapped[NightlyCheck] = mapped_column(listed(NightlyCheck, "kind_listed"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)  # in Asia/Seoul
    held_by: Mapped[UUID | None]
    next_attempt_at: Mapped[datetime]  # while it is held: when that ends at the latest
    attempts: Mapped[int]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    report: Mapped[dict[str, Json] | None] = mapped_column(JSONB)
    last_error: Mapped[str | None] = mapped_column(Text)


class Job(StrEnum):
    """What the workers do, each over and over again."""

    TAKE_BACK = "take_back"
    RECOVER = "recover"
    SAFETY_NET = "safety_net"
    WATCH = "watch"
    REFUNDS = "refunds"
    STRAYS = "strays"
    EXPIRE = "expire"
    WEBHOOKS = "webhooks"
    EVENTS = "events"
    ALERTS = "alerts"
    CHECK_ORDERS = "check_orders"
    RECONCILE = "reconcile"
    FORGET = "forget"
    ERASE = "erase"
