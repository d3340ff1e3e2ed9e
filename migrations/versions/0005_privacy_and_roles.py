"""Payments that can be erased, a history without words of persons, and the API's bounds in the database.

Revision: 0005, after 0004. The rights of the roles are no part of it: `payments migrate` grants them anew each time.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = "'^[A-Za-z0-9_-]{1,64}$'"
PAYMENT_KEY = "payment_key ~ '^[A-Za-z0-9_-]{1,200}$'"


def readable(column: str) -> str:
    return rf"{column} ~ '\S' AND {column} !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]'"


CHECKS = {
    "payments": {
        "amount_bounded": "amount <= 1000000000",
        "deposited_amount_bounded": "deposited_amount BETWEEN 0 AND 9007199254740991",
        "confirm_key_alphabet": f"confirm_key ~ {KEY}",
        "cancel_key_alphabet": f"cancel_key ~ {KEY}",
        "order_name_readable": readable("order_name"),
        "cancel_reason_readable": readable("cancel_reason"),
        "customer_email_shape": r"customer_email ~ '^[!-?A-~]+@[!-?A-~]+\.[!-?A-~]+$'",
        "counters_count": "last_sequence > 0 AND check_count >= 0 AND version > 0",
        "account_has_bank": "account_bank IS NOT NULL OR (account_number IS NULL AND account_holder IS NULL)",
        "erased_names_nobody": (
            "erased_at IS NULL OR (order_name = order_id AND num_nonnulls(customer_email, owner, account_number, "
            "account_holder, receipt_url, webhook_secret, cancel_reason) = 0)"
        ),
    },
    "payment_events": {
        "counters_count": "sequence > 0 AND attempt > 0",
        "payment_key_alphabet": PAYMENT_KEY,
        "message_of_failure": "message IS NULL OR to_status = 'FAILED'",
    },
    "refunds": {
        "balance_bounded": "believed_balance <= 1000000000",
        "refund_key_alphabet": f"refund_key ~ {KEY}",
        "reason_readable": f"request_id IS NULL OR ({readable('reason')})",
        "counters_count": "check_count >= 0 AND version > 0",
    },
    "stray_captures": {
        "total_bounded": "total_amount <= 9007199254740991",
        "payment_key_alphabet": PAYMENT_KEY,
        "refund_key_alphabet": f"refund_key ~ {KEY}",
        "counters_count": "check_count >= 0 AND version > 0",
    },
    "outbox_messages": {
        "counters_count": "sequence > 0 AND attempts >= 0 AND transaction_id > 0",
        "payload_is_object": "jsonb_typeof(payload) = 'object'",
    },
    "received_webhooks": {
        "counters_count": "attempts >= 0",
        "body_bounded": "octet_length(body) <= 262144",
        "order_id_alphabet": "order_id ~ '^[A-Za-z0-9_=-]{6,64}$'",
        "payment_key_alphabet": PAYMENT_KEY,
        "transaction_key_alphabet": "transaction_key ~ '^[!-~]{1,64}$'",
        "verified_by_listed": "verified_by IN ('signature', 'secret', 'lookup')",
    },
    "idempotent_requests": {"status_of_http": "status BETWEEN 200 AND 599"},
    "discrepancies": {
        "subject_named": "subject <> ''",
        "resolved_by_somebody": "(resolved_at IS NULL) = (resolved_by IS NULL)",
        "resolution_of_resolved": "resolution IS NULL OR resolved_at IS NOT NULL",
    },
    "nightly_runs": {"attempts_positive": "attempts > 0"},
}


def upgrade() -> None:
    op.add_column("payments", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.alter_column("payments", "customer_email", existing_type=sa.String(length=100), nullable=True)
    op.create_index(
        "ix_payments_unerased",
        "payments",
        ["prepared_at", "id"],
        unique=False,
        postgresql_where=sa.text("erased_at IS NULL"),
    )
    op.create_index(
        "ix_discrepancies_unerased",
        "discrepancies",
        ["resolved_at"],
        unique=False,
        postgresql_where=sa.text("resolution IS NOT NULL"),
    )
    _move_reasons_out_of_the_history()
    for table, checks in CHECKS.items():
        for name, condition in checks.items():
            op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)


def _move_reasons_out_of_the_history() -> None:
    """Why a payment was given up is somebody's own words, and the history is never changed: nor by this, from now on."""
    op.execute(
        """
        UPDATE payments SET cancel_reason = left(payment_events.message, 200) FROM payment_events
        WHERE payment_events.payment_id = payments.id AND payment_events.to_status = 'CANCELLED'
            AND payments.cancel_reason IS NULL
        """
    )
    _rewrite_history("UPDATE payment_events SET message = NULL WHERE to_status = 'CANCELLED'")


def _rewrite_history(statement: str) -> None:
    # Only the owner can, and nobody else sees the table meanwhile.
    op.execute("ALTER TABLE payment_events DISABLE TRIGGER payment_events_append_only")
    op.execute(statement)
    op.execute("ALTER TABLE payment_events ENABLE TRIGGER payment_events_append_only")


def downgrade() -> None:
    for table, checks in CHECKS.items():
        for name in checks:
            op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
    _rewrite_history(
        """
        UPDATE payment_events SET message = payments.cancel_reason FROM payments
        WHERE payments.id = payment_events.payment_id AND payment_events.to_status = 'CANCELLED'
        """
    )
    op.drop_index("ix_discrepancies_unerased", table_name="discrepancies")
    op.drop_index("ix_payments_unerased", table_name="payments")
    op.execute("UPDATE payments SET customer_email = '' WHERE customer_email IS NULL")
    op.alter_column("payments", "customer_email", existing_type=sa.String(length=100), nullable=False)
    op.drop_column("payments", "erased_at")
