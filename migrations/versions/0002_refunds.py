"""Refunds with a name of their own, promised cancels, pay-outs to accounts, and requests that are answered once.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
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
)


def upgrade() -> None:
    _extend_payments()
    _extend_refunds()
    _list_kinds(KINDS)
    op.create_table(
        "idempotent_requests",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("promised_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "octet_length(key_hash) = 32 AND octet_length(fingerprint) = 32",
            name=op.f("ck_idempotent_requests_hashes_are_sha256"),
        ),
        sa.CheckConstraint(
            "(status IS NULL) = (body IS NULL)", name=op.f("ck_idempotent_requests_answered_as_a_whole")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotent_requests")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_idempotent_requests_key_hash")),
    )
    op.create_index("ix_idempotent_requests_created_at", "idempotent_requests", ["created_at"], unique=False)


def _extend_payments() -> None:
    op.add_column("payments", sa.Column("account_refund_status", sa.String(length=20), nullable=True))
    op.add_column("payments", sa.Column("account_refund_asked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "payments", sa.Column("is_partial_cancelable", sa.Boolean(), nullable=False, server_default=sa.true())
    )
    op.alter_column("payments", "is_partial_cancelable", server_default=None)
    op.add_column("payments", sa.Column("cancel_key", sa.String(length=64), nullable=True))
    op.add_column("payments", sa.Column("cancel_reason", sa.String(length=200), nullable=True))
    op.add_column("payments", sa.Column("cancel_actor", sa.String(length=100), nullable=True))
    op.add_column("payments", sa.Column("cancel_asked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("payments", sa.Column("cancel_key_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("payments", sa.Column("cancel_request_id", sa.Uuid(), nullable=True))
    op.add_column("payments", sa.Column("deposited_amount", sa.BigInteger(), nullable=True))
    op.add_column("payments", sa.Column("pay_out_failed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("payments", sa.Column("reversed_at", sa.DateTime(timezone=True), nullable=True))
    # Accounts whose due date the PG did not say were never looked at again.
    op.execute(
        "UPDATE payments SET next_check_at = now() WHERE status = 'WAITING_FOR_DEPOSIT' AND next_check_at IS NULL"
    )
    op.create_check_constraint(
        op.f("ck_payments_deposit_is_looked_for"),
        "payments",
        "status <> 'WAITING_FOR_DEPOSIT' OR (payment_key IS NOT NULL AND next_check_at IS NOT NULL)",
    )
    op.create_check_constraint(
        op.f("ck_payments_cancel_has_reason"), "payments", "cancel_key IS NULL OR cancel_reason IS NOT NULL"
    )


def _extend_refunds() -> None:
    op.add_column("refunds", sa.Column("tax_free_amount", sa.BigInteger(), nullable=False, server_default="0"))
    op.alter_column("refunds", "tax_free_amount", server_default=None)
    op.add_column(
        "refunds", sa.Column("key_since", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())
    )
    op.alter_column("refunds", "key_since", server_default=None)
    op.add_column("refunds", sa.Column("request_id", sa.Uuid(), nullable=True))
    op.add_column("refunds", sa.Column("fail_because", sa.String(length=40), nullable=True))
    op.create_unique_constraint(op.f("uq_refunds_request_id"), "refunds", ["request_id"])
    op.create_check_constraint(
        op.f("ck_refunds_tax_free_within_amount"), "refunds", "tax_free_amount BETWEEN 0 AND amount"
    )
    op.create_check_constraint(
        op.f("ck_refunds_succeeded_has_proof"), "refunds", "status <> 'SUCCEEDED' OR transaction_key IS NOT NULL"
    )
    op.create_check_constraint(
        op.f("ck_refunds_requested_can_be_resolved"), "refunds", "status <> 'REQUESTED' OR next_check_at IS NOT NULL"
    )


def _list_kinds(kinds: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.drop_constraint(op.f("ck_discrepancies_kind_listed"), "discrepancies")
    op.create_check_constraint(op.f("ck_discrepancies_kind_listed"), "discrepancies", f"kind IN ({listed})")


def downgrade() -> None:
    op.drop_index("ix_idempotent_requests_created_at", table_name="idempotent_requests")
    op.drop_table("idempotent_requests")
    op.execute("DELETE FROM discrepancies WHERE kind = 'refund_not_paid_out'")
    _list_kinds(tuple(kind for kind in KINDS if kind != "refund_not_paid_out"))
    for name in ("requested_can_be_resolved", "succeeded_has_proof", "tax_free_within_amount"):
        op.drop_constraint(op.f(f"ck_refunds_{name}"), "refunds")
    op.drop_constraint(op.f("uq_refunds_request_id"), "refunds")
    for column in ("fail_because", "request_id", "key_since", "tax_free_amount"):
        op.drop_column("refunds", column)
    for name in ("cancel_has_reason", "deposit_is_looked_for"):
        op.drop_constraint(op.f(f"ck_payments_{name}"), "payments")
    for column in (
        "reversed_at",
        "pay_out_failed_at",
        "deposited_amount",
        "cancel_request_id",
        "cancel_key_since",
        "cancel_asked_at",
        "cancel_actor",
        "cancel_reason",
        "cancel_key",
        "is_partial_cancelable",
        "account_refund_asked_at",
        "account_refund_status",
    ):
        op.drop_column("payments", column)
