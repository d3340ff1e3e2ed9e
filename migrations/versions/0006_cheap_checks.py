"""Checks that cost little: PostgreSQL reads the text of each anew for every statement that writes a row.

Revision: 0006, after 0005. The same rows are allowed as before: how long a key may be is its column's own bound.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

AS_WORDS = (
    "coalesce(from_status, '') || '>' || to_status = ANY (CAST('{"
    ">CREATED,CREATED>PENDING,CREATED>CANCELLED,CREATED>FAILED,PENDING>APPROVED,PENDING>WAITING_FOR_DEPOSIT,"
    "PENDING>FAILED,PENDING>CANCELLED,WAITING_FOR_DEPOSIT>APPROVED,WAITING_FOR_DEPOSIT>CANCELLED,"
    "WAITING_FOR_DEPOSIT>FAILED,APPROVED>COMPLETED,COMPLETED>WAITING_FOR_DEPOSIT,COMPLETED>PARTIALLY_REFUNDED,"
    "COMPLETED>REFUNDED,PARTIALLY_REFUNDED>PARTIALLY_REFUNDED,PARTIALLY_REFUNDED>REFUNDED,FAILED>CREATED,"
    "FAILED>APPROVED}' AS text[]))"
)
AS_PAIRS = "CASE WHEN from_status IS NULL THEN to_status = 'CREATED' ELSE (from_status, to_status) IN (('CREATED', 'PENDING'), ('CREATED', 'CANCELLED'), ('CREATED', 'FAILED'), ('PENDING', 'APPROVED'), ('PENDING', 'WAITING_FOR_DEPOSIT'), ('PENDING', 'FAILED'), ('PENDING', 'CANCELLED'), ('WAITING_FOR_DEPOSIT', 'APPROVED'), ('WAITING_FOR_DEPOSIT', 'CANCELLED'), ('WAITING_FOR_DEPOSIT', 'FAILED'), ('APPROVED', 'COMPLETED'), ('COMPLETED', 'WAITING_FOR_DEPOSIT'), ('COMPLETED', 'PARTIALLY_REFUNDED'), ('COMPLETED', 'REFUNDED'), ('PARTIALLY_REFUNDED', 'PARTIALLY_REFUNDED'), ('PARTIALLY_REFUNDED', 'REFUNDED'), ('FAILED', 'CREATED'), ('FAILED', 'APPROVED')) END"


KEY = "'^[A-Za-z0-9_-]+$'"
BOUNDED_KEY = "'^[A-Za-z0-9_-]{1,64}$'"
BOUNDED_PAYMENT_KEY = "payment_key ~ '^[A-Za-z0-9_-]{1,200}$'"

# By table and name: the check from now on, and the one before.
CHECKS = {
    ("payment_events", "edge_allowed"): (AS_WORDS, AS_PAIRS),
    ("payment_events", "payment_key_alphabet"): (f"payment_key ~ {KEY}", BOUNDED_PAYMENT_KEY),
    ("payments", "order_id_alphabet"): (
        f"length(order_id) >= 6 AND order_id ~ {KEY}",
        "order_id ~ '^[A-Za-z0-9_-]{6,64}$'",
    ),
    ("payments", "payment_key_alphabet"): (f"payment_key ~ {KEY}", BOUNDED_PAYMENT_KEY),
    ("payments", "confirm_key_alphabet"): (f"confirm_key ~ {KEY}", f"confirm_key ~ {BOUNDED_KEY}"),
    ("payments", "cancel_key_alphabet"): (f"cancel_key ~ {KEY}", f"cancel_key ~ {BOUNDED_KEY}"),
    ("refunds", "refund_key_alphabet"): (f"refund_key ~ {KEY}", f"refund_key ~ {BOUNDED_KEY}"),
    ("stray_captures", "payment_key_alphabet"): (f"payment_key ~ {KEY}", BOUNDED_PAYMENT_KEY),
    ("stray_captures", "refund_key_alphabet"): (f"refund_key ~ {KEY}", f"refund_key ~ {BOUNDED_KEY}"),
    ("received_webhooks", "order_id_alphabet"): (
        "length(order_id) >= 6 AND order_id ~ '^[A-Za-z0-9_=-]+$'",
        "order_id ~ '^[A-Za-z0-9_=-]{6,64}$'",
    ),
    ("received_webhooks", "payment_key_alphabet"): (f"payment_key ~ {KEY}", BOUNDED_PAYMENT_KEY),
    ("received_webhooks", "transaction_key_alphabet"): (
        "transaction_key ~ '^[!-~]+$'",
        "transaction_key ~ '^[!-~]{1,64}$'",
    ),
}


def upgrade() -> None:
    _replace({place: check for place, (check, _) in CHECKS.items()})


def downgrade() -> None:
    _replace({place: check for place, (_, check) in CHECKS.items()})


def _replace(checks: dict[tuple[str, str], str]) -> None:
    """Have new rows looked at by these checks, and then the rows that are there, without keeping writers out.

    A table at a time, each for a moment, in a transaction of its own: whoever writes takes several, in an order of its
    own, and would meet this in a deadlock.
    """
    with op.get_context().autocommit_block():
        for table in sorted({table for table, _ in checks}):
            names = [name for of, name in checks if of == table]
            changes = [
                f"DROP CONSTRAINT ck_{table}_{name}, ADD CONSTRAINT ck_{table}_{name} CHECK ({checks[table, name]}) NOT VALID"
                for name in names
            ]
            op.execute(f"ALTER TABLE {table} {', '.join(changes)}")
            for name in names:
                op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_{name}")
