"""Rows without rules of their own: what came in, what must go out, and what does not agree."""

from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
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
        Index(
            "ix_outbox_messages_next_attempt_at",
            "next_attempt_at",
            postgresql_where=text("delivered_at IS NULL AND parked_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)  # the webhook id: stable over retries
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    sequence: Mapped[int]  # of the history row that it tells of; deliveries of one payment follow it
    type: Mapped[EventType] = mapped_column(listed(EventType, "type_listed"))
    payload: Mapped[dict[str, Json]] = mapped_column(JSONB)
    created_at: Mapped[datetime]
    attempts: Mapped[int]
    next_attempt_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]
    parked_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)


class ReceivedWebhook(Base):
    """An event of the PG as it came in: stored once, answered, and worked on later."""

    __tablename__ = "received_webhooks"
    __table_args__ = (
        Index(
            "ix_received_webhooks_next_attempt_at",
            "next_attempt_at",
            postgresql_where=text("processed_at IS NULL AND parked_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dedupe_key: Mapped[str] = mapped_column(String(128), unique=True)  # the business fact, not the delivery
    event_type: Mapped[str] = mapped_column(String(64))
    order_id: Mapped[str | None] = mapped_column(String(64))
    payment_key: Mapped[str | None] = mapped_column(String(200))
    transmission_id: Mapped[str | None] = mapped_column(String(100))
    verified_by: Mapped[str] = mapped_column(String(20))  # signature, secret, or lookup: only a hint
    body: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[datetime]
    attempts: Mapped[int]
    next_attempt_at: Mapped[datetime]
    processed_at: Mapped[datetime | None]
    parked_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)


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
    UNRESOLVED_24H = "unresolved_24h"


class Severity(StrEnum):
    WARNING = "warning"
    CRITICAL = "critical"  # money is where our books do not show it


class Discrepancy(Base):
    """A named difference between orders, payments and the PG; one row for each kind and subject, however often seen."""

    __tablename__ = "discrepancies"
    __table_args__ = (
        UniqueConstraint("kind", "subject"),
        Index("ix_discrepancies_open", "first_seen_at", postgresql_where=text("resolved_at IS NULL")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[DiscrepancyKind] = mapped_column(listed(DiscrepancyKind, "kind_listed"))
    subject: Mapped[str] = mapped_column(String(265))  # the order id, or `order id/payment key`
    severity: Mapped[Severity] = mapped_column(listed(Severity, "severity_listed"))
    payment_id: Mapped[UUID | None] = mapped_column(ForeignKey("payments.id"))
    ours: Mapped[dict[str, Json]] = mapped_column(JSONB)
    theirs: Mapped[dict[str, Json]] = mapped_column(JSONB)
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    alerted_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[str | None] = mapped_column(String(100))
    resolution: Mapped[str | None] = mapped_column(Text)
