"""What every column holds of persons, for what, for how long, and what erases it: pure data, printed in the docs."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a column says about a person."""

    PLAIN = "not personal"
    PERSONAL = "personal"
    SECRET = "secret"  # noqa: S105 - the word for it


class Gone(StrEnum):
    """What takes it away."""

    ERASE = "`payments erase`"  # `PERSONAL_DATA_KEPT` after the payment's last move, or when the person asks
    FORGET = "`payments forget`"  # with its row
    NEVER = "nothing"


@dataclass(frozen=True, slots=True)
class Holds:
    """What one column holds."""

    kind: Kind
    whose: str = ""
    purpose: str = ""
    gone: Gone = Gone.NEVER


BUYER: Final = "the buyer"
STAFF: Final = "staff or client of the shop"
OURS: Final = "nobody: it is ours or the gateway's"

_ACTED: Final = Holds(Kind.PERSONAL, STAFF, "who did it, for the books")
_PG_KEY: Final = Holds(Kind.SECRET, OURS, "the gateway's idempotency key: whoever repeats it asks in our name")

Columns = dict[str, Holds]


def _plain(*columns: str) -> Columns:
    return dict.fromkeys(columns, Holds(Kind.PLAIN))


def _of_buyer(purpose: str, gone: Gone = Gone.ERASE) -> Holds:
    return Holds(Kind.PERSONAL, BUYER, purpose, gone)


# Order ids and keys of the gateway are no names: only the shop's books and the gateway's say whose they are. They tie
# our amounts to theirs for as long as the amounts are kept. The gateway's sentences about failures are the same for
# everybody who meets them.
INVENTORY: Final[dict[str, Columns]] = {
    "payments": {
        **_plain("id", "order_id", "payment_key", "status", "method", "amount", "refunded_amount", "currency"),
        "order_name": _of_buyer("what was bought: shown in the payment window and to whoever reads the payment"),
        "customer_email": _of_buyer("given to the payment window, which sends the receipt there"),
        "owner": _of_buyer("the identity provider's name of the buyer: nobody else sees the payment"),
        **_plain("fail_code", "fail_reason", "attempt"),
        "confirm_key": _PG_KEY,
        "webhook_secret": Holds(Kind.SECRET, OURS, "proves that a deposit callback is the gateway's", Gone.ERASE),
        # A bank's code is no person; it says for good that there was an account, which refunds have to know.
        **_plain("account_bank"),
        "account_number": _of_buyer("where the buyer pays"),
        "account_holder": _of_buyer("in whose name the account was issued"),
        **_plain("account_due_at", "account_refund_status", "account_refund_asked_at", "is_partial_cancelable"),
        "cancel_key": _PG_KEY,
        "cancel_reason": _of_buyer("why it was given up, in the words of whoever did"),
        "cancel_actor": _ACTED,
        **_plain("cancel_asked_at", "cancel_key_since", "cancel_request_id"),
        "receipt_url": _of_buyer("leads to the receipt at the gateway"),
        **_plain("next_check_at", "held_by", "check_count", "last_sequence", "created_at", "prepared_at"),
        **_plain("pending_since", "approved_at", "completed_at", "deposited_amount", "pay_out_failed_at"),
        **_plain("reversed_at", "cancelled_at", "erased_at", "version"),
    },
    "payment_events": {
        **_plain("payment_id", "sequence", "from_status", "to_status", "cause"),
        "actor": _ACTED,
        **_plain("attempt", "payment_key", "pg_code", "message", "at"),
    },
    "refunds": {
        **_plain("id", "payment_id", "amount", "tax_free_amount", "believed_balance", "status"),
        "reason": _of_buyer("why the money went back, in the words of whoever asked; shown to the buyer"),
        "refund_key": _PG_KEY,
        **_plain("key_since", "request_id", "transaction_key", "cause"),
        "actor": _ACTED,
        **_plain("fail_code", "fail_reason", "fail_because", "requested_at", "completed_at"),
        **_plain("next_check_at", "held_by", "check_count", "version"),
    },
    "stray_captures": {
        **_plain("id", "payment_id", "payment_key", "total_amount", "amount", "status"),
        "refund_key": _PG_KEY,
        **_plain("key_since", "cause", "fail_code", "fail_reason", "found_at", "completed_at"),
        **_plain("next_check_at", "held_by", "check_count", "version"),
    },
    "outbox_messages": {
        **_plain("id", "payment_id", "sequence", "type"),
        "payload": _of_buyer("tells the order service of the payment as it stood", Gone.FORGET),
        **_plain("created_at", "transaction_id", "attempts", "first_attempt_at", "next_attempt_at", "held_until"),
        **_plain("awaits_receiver", "delivered_at", "resent_at", "parked_at", "last_error"),
    },
    "received_webhooks": {
        **_plain("id", "dedupe_key", "event_type", "order_id", "payment_key", "transaction_key", "status"),
        **_plain("transmission_id", "verified_by"),
        "body": _of_buyer("the gateway's event as it came, to be looked at when something is wrong", Gone.FORGET),
        **_plain("received_at", "attempts", "next_attempt_at", "looked_up_at", "processed_at", "outcome", "parked_at"),
        **_plain("last_error"),
    },
    "idempotent_requests": {
        **_plain("id"),
        "key_hash": Holds(Kind.SECRET, OURS, "tells which request it is", Gone.FORGET),
        "fingerprint": Holds(Kind.SECRET, OURS, "tells whether it is asked again as before", Gone.FORGET),
        **_plain("created_at", "locked_until", "promised_at", "status", "headers"),
        "body": _of_buyer("the answer, to be given once more to whoever repeats the request", Gone.FORGET),
    },
    "discrepancies": {
        **_plain("id", "kind", "subject", "severity", "payment_id", "ours", "theirs", "first_seen_at", "last_seen_at"),
        **_plain("alerted_at", "next_alert_at", "resolved_at"),
        "resolved_by": _ACTED,
        "resolution": _of_buyer("what came of it, in the words of whoever resolved it"),
    },
    "api_keys": {
        **_plain("id"),
        "name": Holds(Kind.PERSONAL, STAFF, "whose key it is: stands in histories"),
        **_plain("prefix"),
        "key_hash": Holds(Kind.SECRET, OURS, "tells whether a key is the one"),
        **_plain("scopes", "refund_limit", "created_at"),
        "created_by": _ACTED,
        **_plain("expires_at", "revoked_at"),
        "revoked_by": _ACTED,
    },
    "processes": _plain("id", "name", "started_at", "seen_at"),
    "job_runs": _plain("name", "last_success_at", "last_failure_at", "last_error"),
    "nightly_runs": _plain(
        *("kind", "day", "held_by", "next_attempt_at", "attempts", "started_at", "finished_at", "report", "last_error")
    ),
}


def columns_of(table: str, kind: Kind) -> tuple[str, ...]:
    """The columns of a table that hold such a thing."""
    return tuple(name for name, holds in INVENTORY[table].items() if holds.kind is kind)


def as_markdown() -> str:
    """The inventory without what is not personal, as a table: what the docs show."""
    lines = ["| Column | Is | Whose | What for | What erases it |", "|---|---|---|---|---|"]
    for table, columns in INVENTORY.items():
        lines += [
            f"| `{table}.{name}` | {holds.kind} | {holds.whose} | {holds.purpose} | {holds.gone} |"
            for name, holds in columns.items()
            if holds.kind is not Kind.PLAIN
        ]
    return "\n".join(lines)
