"""What a confirm asks of the database: its two statements, with a value for each placeholder, as pgbench has them."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Final

from bench.orders import AMOUNT, NAME, order_id_sql, payment_key_sql
from bench.pgbench import NUMBER, Step
from payments.hot_path import BEGIN_CONFIRM, WRITE
from payments.leases import Lease
from payments.models import Payment
from payments.outbox import payload_of
from payments.records import EventType
from payments.states import Cause, PaymentMethod

_LEASE: Final = timedelta(seconds=60)
_BEGUN: Final = "begun_"  # how the columns that the first statement answers are called in the second one
_CHANGES: Final = (
    "status",
    "last_sequence",
    "next_check_at",
    "held_by",
    "approved_at",
    "completed_at",
    "receipt_url",
    "webhook_secret",
)


def steps(series: str) -> list[Step]:
    """Begin and write, over the orders of a series."""
    order, key = order_id_sql(series, NUMBER), payment_key_sql(series, NUMBER)
    begin = {
        "order_id": order,
        "payment_key": key,
        "amount": str(AMOUNT),
        "buyer": "NULL",
        "confirm_key": f"md5({NUMBER}::text)",
        "lease": f"interval '{_LEASE.total_seconds():.0f} seconds'",
        "holder": "'019a0000-0000-7000-8000-000000000000'::uuid",
    }
    return [Step(BEGIN_CONFIRM, begin, answers_as=_BEGUN), Step(WRITE, _written())]


def _written() -> dict[str, str]:
    """The same for every payment but for its names, and as long as they are."""
    at = datetime.now(UTC)
    payment = _completed(at)
    values = {name: getattr(payment, name) for name in _CHANGES}
    moves = [asdict(move) for move in payment.new_moves[-2:]]
    return {
        "id": f":{_BEGUN}id::uuid",
        "version": f":{_BEGUN}version::bigint",
        "changes": _literal(json.dumps(values, default=str)),
        "moves": _literal(json.dumps(moves, default=str)),
        "message_id": "uuidv7()",
        "sequence": str(payment.last_sequence),
        "type": _literal(EventType.COMPLETED.value),
        "payload": _literal(json.dumps(payload_of(payment, (), EventType.COMPLETED, at=at))),
        "at": "now()",
    }


def _completed(at: datetime) -> Payment:
    key, email = "bench-s0000-00000000", "buyer@example.com"
    payment = Payment.prepare(
        "s0000-00000000", AMOUNT, method=PaymentMethod.CARD, order_name=NAME, customer_email=email, at=at
    )
    payment.begin_confirm(key, AMOUNT, confirm_key="c" * 43, at=at, lease=Lease(_LEASE))
    payment.learn(
        method=PaymentMethod.CARD,
        receipt_url=f"https://dashboard.tosspayments.com/receipt/redirection?transactionId={key}&ref=PX",
        webhook_secret="ps_" + 28 * "s",
        is_partial_cancelable=True,
    )
    payment.approve(key, approved_at=at, at=at, cause=Cause.API)
    payment.complete(at=at, cause=Cause.API)
    payment.version = 3
    return payment


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
