"""Processes that are watched, jobs and nights that are accounted for, webhooks that are worked on, a feed in its order.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KINDS = (
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
    "refund_not_paid_out",
    "unresolved_24h",
    "event_not_delivered",
    "webhook_not_processed",
    "too_many_repairs",
    "night_not_finished",
    "stray_not_given_back",
)
NEW_KINDS = (
    "event_not_delivered",
    "webhook_not_processed",
    "too_many_repairs",
    "night_not_finished",
    "stray_not_given_back",
)


def upgrade() -> None:
    _watch_holders()
    _extend_outbox()
    _extend_inbox()
    _extend_discrepancies()
    _give_strays_back()
    op.create_table(
        "processes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
    )
    op.create_table(
        "job_runs",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("last_success_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_failure_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_runs")),
    )
    op.create_table(
        "nightly_runs",
        sa.Column(
            "kind",
            sa.Enum(
                "check_orders",
                "reconcile",
                name=op.f("ck_nightly_runs_kind_listed"),
                native_enum=False,
                length=40,
                create_constraint=True,
            ),
            nullable=False,
        ),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("held_by", sa.Uuid(), nullable=True),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("report", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("kind", "day", name=op.f("pk_nightly_runs")),
    )


def _watch_holders() -> None:
    for table in ("payments", "refunds"):
        op.add_column(table, sa.Column("held_by", sa.Uuid(), nullable=True))
        op.create_check_constraint(
            op.f(f"ck_{table}_held_until"), table, "held_by IS NULL OR next_check_at IS NOT NULL"
        )
        op.create_index(
            f"ix_{table}_held_by", table, ["held_by"], unique=False, postgresql_where=sa.text("held_by IS NOT NULL")
        )
        op.create_index(
            f"ix_{table}_completed_at",
            table,
            ["completed_at"],
            unique=False,
            postgresql_where=sa.text("completed_at IS NOT NULL"),
        )
    op.create_index(
        "ix_payments_reversed_at",
        "payments",
        ["reversed_at"],
        unique=False,
        postgresql_where=sa.text("reversed_at IS NOT NULL"),
    )
    # Sessions that ended before anybody looked: 45 minutes after their last prepare, as from now on.
    op.execute("UPDATE payments SET next_check_at = prepared_at + interval '45 minutes' WHERE status = 'CREATED'")
    op.create_check_constraint(
        op.f("ck_payments_created_expires"), "payments", "status <> 'CREATED' OR next_check_at IS NOT NULL"
    )


def _give_strays_back() -> None:
    status = ("REQUESTED", "SUCCEEDED", "FAILED")
    cause = ("api", "webhook", "recovery", "nightly", "operator", "expiry")
    op.create_table(
        "stray_captures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("payment_key", sa.String(length=200), nullable=False),
        sa.Column("total_amount", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("refund_key", sa.String(length=64), nullable=False),
        sa.Column("key_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("cause", sa.String(length=40), nullable=False),
        sa.Column("fail_code", sa.String(length=100), nullable=True),
        sa.Column("fail_reason", sa.String(length=510), nullable=True),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_check_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("held_by", sa.Uuid(), nullable=True),
        sa.Column("check_count", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(f"status IN {status}", name=op.f("ck_stray_captures_status_listed")),
        sa.CheckConstraint(f"cause IN {cause}", name=op.f("ck_stray_captures_cause_listed")),
        sa.CheckConstraint("amount > 0 AND amount <= total_amount", name=op.f("ck_stray_captures_amount_within_total")),
        sa.CheckConstraint(
            "status <> 'FAILED' OR fail_code IS NOT NULL", name=op.f("ck_stray_captures_failed_has_evidence")
        ),
        sa.CheckConstraint(
            "status <> 'REQUESTED' OR next_check_at IS NOT NULL",
            name=op.f("ck_stray_captures_requested_can_be_resolved"),
        ),
        sa.CheckConstraint("held_by IS NULL OR next_check_at IS NOT NULL", name=op.f("ck_stray_captures_held_until")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_stray_captures_payment_id_payments")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stray_captures")),
        sa.UniqueConstraint("payment_key", name=op.f("uq_stray_captures_payment_key")),
        sa.UniqueConstraint("refund_key", name=op.f("uq_stray_captures_refund_key")),
    )
    op.create_index(
        "ix_stray_captures_next_check_at",
        "stray_captures",
        ["next_check_at"],
        unique=False,
        postgresql_where=sa.text("next_check_at IS NOT NULL"),
    )
    op.create_index("ix_stray_captures_payment_id", "stray_captures", ["payment_id"], unique=False)


def _extend_outbox() -> None:
    op.add_column("outbox_messages", sa.Column("held_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "outbox_messages", sa.Column("awaits_receiver", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.alter_column("outbox_messages", "awaits_receiver", server_default=None)
    op.add_column("outbox_messages", sa.Column("first_attempt_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("outbox_messages", sa.Column("resent_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "outbox_messages",
        sa.Column(
            "transaction_id",
            sa.BigInteger(),
            nullable=False,
            server_default=sa.text("(pg_current_xact_id()::text)::bigint"),
        ),
    )
    op.create_index(
        "ix_outbox_messages_undelivered",
        "outbox_messages",
        ["payment_id", "sequence"],
        unique=False,
        postgresql_where=sa.text("delivered_at IS NULL AND parked_at IS NULL"),
    )
    op.create_index("ix_outbox_messages_feed", "outbox_messages", ["transaction_id", "sequence", "id"], unique=False)
    op.create_index("ix_outbox_messages_created_at", "outbox_messages", ["created_at"], unique=False)
    # Nothing was ever sent in the old shape.
    op.execute(
        """
        UPDATE outbox_messages SET payload = jsonb_build_object(
            'type', payload->'type',
            'timestamp', to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'data', jsonb_build_object('sequence', payload->'sequence', 'payment', payload->'payment'))
        WHERE payload ? 'payment'
        """
    )


def _extend_inbox() -> None:
    op.add_column("received_webhooks", sa.Column("transaction_key", sa.String(length=64), nullable=True))
    op.add_column("received_webhooks", sa.Column("status", sa.String(length=64), nullable=True))
    op.add_column("received_webhooks", sa.Column("looked_up_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("received_webhooks", sa.Column("outcome", sa.String(length=40), nullable=True))
    op.create_check_constraint(
        op.f("ck_received_webhooks_outcome_listed"),
        "received_webhooks",
        "outcome IN ('recorded', 'orphan', 'ignored')",
    )
    op.create_index(
        "ix_received_webhooks_looked_up_at",
        "received_webhooks",
        ["order_id", "looked_up_at"],
        unique=False,
        postgresql_where=sa.text("looked_up_at IS NOT NULL"),
    )
    op.create_index("ix_received_webhooks_received_at", "received_webhooks", ["received_at"], unique=False)


def _extend_discrepancies() -> None:
    op.add_column(
        "discrepancies",
        sa.Column("next_alert_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.alter_column("discrepancies", "next_alert_at", server_default=None)
    op.create_index("ix_discrepancies_payment_id", "discrepancies", ["payment_id"], unique=False)
    op.create_index(
        "ix_discrepancies_next_alert_at",
        "discrepancies",
        ["next_alert_at"],
        unique=False,
        postgresql_where=sa.text("alerted_at IS NULL AND resolved_at IS NULL"),
    )
    _list_kinds(KINDS)


def _list_kinds(kinds: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.drop_constraint(op.f("ck_discrepancies_kind_listed"), "discrepancies")
    op.create_check_constraint(op.f("ck_discrepancies_kind_listed"), "discrepancies", f"kind IN ({listed})")


def downgrade() -> None:
    for table in ("nightly_runs", "job_runs", "processes", "stray_captures"):
        op.drop_table(table)
    listed = ", ".join(f"'{kind}'" for kind in NEW_KINDS)
    op.execute(f"DELETE FROM discrepancies WHERE kind IN ({listed})")  # noqa: S608 - our own words
    _list_kinds(tuple(kind for kind in KINDS if kind not in NEW_KINDS))
    op.drop_index("ix_discrepancies_next_alert_at", table_name="discrepancies")
    op.drop_index("ix_discrepancies_payment_id", table_name="discrepancies")
    op.drop_column("discrepancies", "next_alert_at")
    for index in ("received_at", "looked_up_at"):
        op.drop_index(f"ix_received_webhooks_{index}", table_name="received_webhooks")
    op.drop_constraint(op.f("ck_received_webhooks_outcome_listed"), "received_webhooks")
    for column in ("outcome", "looked_up_at", "status", "transaction_key"):
        op.drop_column("received_webhooks", column)
    for index in ("created_at", "feed", "undelivered"):
        op.drop_index(f"ix_outbox_messages_{index}", table_name="outbox_messages")
    op.execute(
        """
        UPDATE outbox_messages SET payload = jsonb_build_object(
            'type', payload->'type', 'sequence', payload->'data'->'sequence', 'payment', payload->'data'->'payment')
        """
    )
    op.drop_column("outbox_messages", "transaction_id")
    op.drop_column("outbox_messages", "resent_at")
    for column in ("first_attempt_at", "awaits_receiver", "held_until"):
        op.drop_column("outbox_messages", column)
    op.drop_constraint(op.f("ck_payments_created_expires"), "payments")
    op.execute("UPDATE payments SET next_check_at = NULL, held_by = NULL WHERE status = 'CREATED'")
    op.drop_index("ix_payments_reversed_at", table_name="payments")
    for table in ("refunds", "payments"):
        for index in ("completed_at", "held_by"):
            op.drop_index(f"ix_{table}_{index}", table_name=table)
        op.drop_constraint(op.f(f"ck_{table}_held_until"), table)
        op.drop_column(table, "held_by")
