"""Payments, their history, refunds, the outbox, the webhook inbox and discrepancies.

Revision: 0001, the first.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# Frozen here as it was when this revision was made; `models.APPEND_ONLY` is the present text.
APPEND_ONLY = (
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


def upgrade() -> None:
    op.create_table(
        "payments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=False),
        sa.Column("payment_key", sa.String(length=200), nullable=True),
        sa.Column(
            "status",
            sa.Enum(
                "CREATED",
                "PENDING",
                "WAITING_FOR_DEPOSIT",
                "APPROVED",
                "COMPLETED",
                "FAILED",
                "CANCELLED",
                "REFUNDED",
                "PARTIALLY_REFUNDED",
                name="status_listed",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column(
            "method",
            sa.Enum(
                "CARD",
                "VIRTUAL_ACCOUNT",
                "TRANSFER",
                "MOBILE_PHONE",
                "EASY_PAY",
                "GIFT_CERTIFICATE",
                name="method_listed",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("refunded_amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("order_name", sa.String(length=100), nullable=False),
        sa.Column("customer_email", sa.String(length=100), nullable=False),
        sa.Column("fail_code", sa.String(length=100), nullable=True),
        sa.Column("fail_reason", sa.String(length=510), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("confirm_key", sa.String(length=64), nullable=True),
        sa.Column("webhook_secret", sa.String(length=50), nullable=True),
        sa.Column("account_bank", sa.String(length=20), nullable=True),
        sa.Column("account_number", sa.String(length=20), nullable=True),
        sa.Column("account_holder", sa.String(length=100), nullable=True),
        sa.Column("account_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("receipt_url", sa.String(length=500), nullable=True),
        sa.Column("next_check_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("check_count", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("prepared_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("pending_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "CASE status WHEN 'REFUNDED' THEN refunded_amount = amount WHEN 'PARTIALLY_REFUNDED' THEN refunded_amount > 0 AND refunded_amount < amount ELSE refunded_amount = 0 END",
            name=op.f("ck_payments_refunded_fits_status"),
        ),
        sa.CheckConstraint("currency = 'KRW'", name=op.f("ck_payments_currency_won")),
        sa.CheckConstraint("order_id ~ '^[A-Za-z0-9_-]{6,64}$'", name=op.f("ck_payments_order_id_alphabet")),
        sa.CheckConstraint("payment_key ~ '^[A-Za-z0-9_-]{1,200}$'", name=op.f("ck_payments_payment_key_alphabet")),
        sa.CheckConstraint("status <> 'FAILED' OR fail_code IS NOT NULL", name=op.f("ck_payments_failed_has_evidence")),
        sa.CheckConstraint(
            "status <> 'PENDING' OR (payment_key IS NOT NULL AND confirm_key IS NOT NULL AND pending_since IS NOT NULL AND next_check_at IS NOT NULL)",
            name=op.f("ck_payments_pending_can_be_resolved"),
        ),
        sa.CheckConstraint(
            "status NOT IN ('COMPLETED', 'PARTIALLY_REFUNDED', 'REFUNDED') OR (payment_key IS NOT NULL AND approved_at IS NOT NULL AND completed_at IS NOT NULL)",
            name=op.f("ck_payments_completed_has_proof"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payments_amount_positive")),
        sa.CheckConstraint("attempt > 0", name=op.f("ck_payments_attempt_positive")),
        sa.CheckConstraint("refunded_amount BETWEEN 0 AND amount", name=op.f("ck_payments_refunded_within_amount")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint("order_id", name=op.f("uq_payments_order_id")),
        sa.UniqueConstraint("payment_key", name=op.f("uq_payments_payment_key")),
    )
    op.create_index(
        "ix_payments_next_check_at",
        "payments",
        ["next_check_at"],
        unique=False,
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.create_table(
        "received_webhooks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dedupe_key", sa.String(length=128), nullable=False),
        sa.Column("event_type", sa.String(length=64), nullable=False),
        sa.Column("order_id", sa.String(length=64), nullable=True),
        sa.Column("payment_key", sa.String(length=200), nullable=True),
        sa.Column("transmission_id", sa.String(length=100), nullable=True),
        sa.Column("verified_by", sa.String(length=20), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_received_webhooks")),
        sa.UniqueConstraint("dedupe_key", name=op.f("uq_received_webhooks_dedupe_key")),
    )
    op.create_index(
        "ix_received_webhooks_next_attempt_at",
        "received_webhooks",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("processed_at IS NULL AND parked_at IS NULL"),
    )
    op.create_table(
        "discrepancies",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "order_missing",
                "order_not_paid",
                "order_amount_differs",
                "order_paid_without_payment",
                "refund_not_reflected",
                "captured_but_failed_here",
                "captured_but_unknown_here",
                "completed_here_not_at_pg",
                "amount_differs_at_pg",
                "refund_differs_at_pg",
                "captured_after_cancel",
                "deposit_awaited_but_closed_here",
                "deposit_amount_differs",
                "unresolved_24h",
                name="kind_listed",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("subject", sa.String(length=265), nullable=False),
        sa.Column(
            "severity",
            sa.Enum(
                "warning", "critical", name="severity_listed", native_enum=False, create_constraint=True, length=40
            ),
            nullable=False,
        ),
        sa.Column("payment_id", sa.Uuid(), nullable=True),
        sa.Column("ours", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("theirs", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("alerted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_by", sa.String(length=100), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_discrepancies_payment_id_payments")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_discrepancies")),
        sa.UniqueConstraint("kind", "subject", name=op.f("uq_discrepancies_kind_subject")),
    )
    op.create_index(
        "ix_discrepancies_open",
        "discrepancies",
        ["first_seen_at"],
        unique=False,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "outbox_messages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column(
            "type",
            sa.Enum(
                "payment.waiting_for_deposit",
                "payment.completed",
                "payment.failed",
                "payment.cancelled",
                "payment.refunded",
                "payment.deposit_reversed",
                name="type_listed",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_outbox_messages_payment_id_payments")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_messages")),
        sa.UniqueConstraint("payment_id", "sequence", name=op.f("uq_outbox_messages_payment_id_sequence")),
    )
    op.create_index(
        "ix_outbox_messages_next_attempt_at",
        "outbox_messages",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("delivered_at IS NULL AND parked_at IS NULL"),
    )
    op.create_table(
        "payment_events",
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column(
            "from_status",
            sa.Enum(
                "CREATED",
                "PENDING",
                "WAITING_FOR_DEPOSIT",
                "APPROVED",
                "COMPLETED",
                "FAILED",
                "CANCELLED",
                "REFUNDED",
                "PARTIALLY_REFUNDED",
                name="from_status_listed",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=True,
        ),
        sa.Column(
            "to_status",
            sa.Enum(
                "CREATED",
                "PENDING",
                "WAITING_FOR_DEPOSIT",
                "APPROVED",
                "COMPLETED",
                "FAILED",
                "CANCELLED",
                "REFUNDED",
                "PARTIALLY_REFUNDED",
                name="to_status_listed",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column(
            "cause",
            sa.Enum(
                "api",
                "webhook",
                "recovery",
                "nightly",
                "operator",
                "expiry",
                name="cause_listed",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("actor", sa.String(length=100), nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("payment_key", sa.String(length=200), nullable=True),
        sa.Column("pg_code", sa.String(length=100), nullable=True),
        sa.Column("message", sa.String(length=510), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "CASE WHEN from_status IS NULL THEN to_status = 'CREATED' ELSE (from_status, to_status) IN (('CREATED', 'PENDING'), ('CREATED', 'CANCELLED'), ('CREATED', 'FAILED'), ('PENDING', 'APPROVED'), ('PENDING', 'WAITING_FOR_DEPOSIT'), ('PENDING', 'FAILED'), ('PENDING', 'CANCELLED'), ('WAITING_FOR_DEPOSIT', 'APPROVED'), ('WAITING_FOR_DEPOSIT', 'CANCELLED'), ('WAITING_FOR_DEPOSIT', 'FAILED'), ('APPROVED', 'COMPLETED'), ('COMPLETED', 'WAITING_FOR_DEPOSIT'), ('COMPLETED', 'PARTIALLY_REFUNDED'), ('COMPLETED', 'REFUNDED'), ('PARTIALLY_REFUNDED', 'PARTIALLY_REFUNDED'), ('PARTIALLY_REFUNDED', 'REFUNDED'), ('FAILED', 'CREATED'), ('FAILED', 'APPROVED')) END",
            name=op.f("ck_payment_events_edge_allowed"),
        ),
        sa.CheckConstraint("(sequence = 1) = (from_status IS NULL)", name=op.f("ck_payment_events_first_is_prepare")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_payment_events_payment_id_payments")),
        sa.PrimaryKeyConstraint("payment_id", "sequence", name=op.f("pk_payment_events")),
    )
    op.create_index(
        "ix_payment_events_payment_key",
        "payment_events",
        ["payment_key"],
        unique=False,
        postgresql_where=sa.text("payment_key IS NOT NULL"),
    )
    op.create_table(
        "refunds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("believed_balance", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "REQUESTED",
                "SUCCEEDED",
                "FAILED",
                name="status_listed",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("refund_key", sa.String(length=64), nullable=False),
        sa.Column("transaction_key", sa.String(length=64), nullable=True),
        sa.Column(
            "cause",
            sa.Enum(
                "api",
                "webhook",
                "recovery",
                "nightly",
                "operator",
                "expiry",
                name="cause_listed",
                native_enum=False,
                create_constraint=True,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("actor", sa.String(length=100), nullable=True),
        sa.Column("fail_code", sa.String(length=100), nullable=True),
        sa.Column("fail_reason", sa.String(length=510), nullable=True),
        sa.Column("next_check_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("check_count", sa.BigInteger(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status <> 'FAILED' OR fail_code IS NOT NULL", name=op.f("ck_refunds_failed_has_evidence")),
        sa.CheckConstraint("amount <= believed_balance", name=op.f("ck_refunds_amount_within_balance")),
        sa.CheckConstraint("amount > 0", name=op.f("ck_refunds_amount_positive")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_refunds_payment_id_payments")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
        sa.UniqueConstraint("refund_key", name=op.f("uq_refunds_refund_key")),
        sa.UniqueConstraint("transaction_key", name=op.f("uq_refunds_transaction_key")),
    )
    op.create_index(
        "ix_refunds_next_check_at",
        "refunds",
        ["next_check_at"],
        unique=False,
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.create_index("ix_refunds_payment_id", "refunds", ["payment_id"], unique=False)
    op.create_index(
        "uq_refunds_payment_id_requested",
        "refunds",
        ["payment_id"],
        unique=True,
        postgresql_where=sa.text("status = 'REQUESTED'"),
    )

    for statement in APPEND_ONLY:
        op.execute(statement)


def downgrade() -> None:
    op.drop_index(
        "uq_refunds_payment_id_requested", table_name="refunds", postgresql_where=sa.text("status = 'REQUESTED'")
    )
    op.drop_index("ix_refunds_payment_id", table_name="refunds")
    op.drop_index(
        "ix_refunds_next_check_at", table_name="refunds", postgresql_where=sa.text("next_check_at IS NOT NULL")
    )
    op.drop_table("refunds")
    op.drop_index(
        "ix_payment_events_payment_key",
        table_name="payment_events",
        postgresql_where=sa.text("payment_key IS NOT NULL"),
    )
    op.drop_table("payment_events")
    op.drop_index(
        "ix_outbox_messages_next_attempt_at",
        table_name="outbox_messages",
        postgresql_where=sa.text("delivered_at IS NULL AND parked_at IS NULL"),
    )
    op.drop_table("outbox_messages")
    op.drop_index("ix_discrepancies_open", table_name="discrepancies", postgresql_where=sa.text("resolved_at IS NULL"))
    op.drop_table("discrepancies")
    op.drop_index(
        "ix_received_webhooks_next_attempt_at",
        table_name="received_webhooks",
        postgresql_where=sa.text("processed_at IS NULL AND parked_at IS NULL"),
    )
    op.drop_table("received_webhooks")
    op.drop_index(
        "ix_payments_next_check_at", table_name="payments", postgresql_where=sa.text("next_check_at IS NOT NULL")
    )
    op.drop_table("payments")
    op.execute("DROP FUNCTION payment_events_append_only()")
