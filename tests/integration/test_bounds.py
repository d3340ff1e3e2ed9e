"""What the API lets in, repeated by the database: for each bound the last value inside it, and the first beyond."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from payments.api.front_door import LARGER_BODIES
from payments.api.schemas import MAX_AMOUNT
from payments.db import Base
from payments.ids import new_id
from payments.inbox import VerifiedBy
from payments.models import MOST, Payment, Refund, StrayCapture
from payments.records import (
    Discrepancy,
    DiscrepancyKind,
    EventType,
    IdempotentRequest,
    NightlyCheck,
    NightlyRun,
    OutboxMessage,
    ReceivedWebhook,
    Severity,
)
from payments.states import Cause, PaymentStatus
from tests.builders import AT, LEASE, a_payment

Refusal = type[psycopg.Error]
Bounds = dict[str, tuple[Sequence[object], Sequence[tuple[object, Refusal]]]]  # by column: what is taken, what is not
Check: Final = errors.CheckViolation
TooLong: Final = errors.StringDataRightTruncation

LARGEST_IN_JSON: Final = 2**53 - 1
LARGEST_BIGINT: Final = 2**63 - 1
MOST_OF_A_BODY: Final = LARGER_BODIES["/webhook/toss"]

# Of a payment that is CREATED; of the others one row each.
PAYMENT: Final[Bounds] = {
    "amount": (
        [1, 99, MOST],  # what the PG's minimum is, is not the database's to know
        [(0, Check), (-1, Check), (MOST + 1, Check), (2**31, Check), (LARGEST_BIGINT, Check)],
    ),
    "currency": (
        ["KRW"],
        [("krw", Check), ("USD", Check), ("KR", Check), ("KRWX", TooLong), (None, errors.NotNullViolation)],
    ),
    "attempt": ([1, 1_000], [(0, Check), (-1, Check)]),
    "version": ([1, LARGEST_BIGINT], [(0, Check), (-1, Check)]),
    "check_count": ([0, 1_000], [(-1, Check)]),
    "last_sequence": ([1, 1_000], [(0, Check)]),
    "refunded_amount": ([0], [(-1, Check), (1, Check), (MOST + 1, Check)]),
    "deposited_amount": ([None, 0, LARGEST_IN_JSON], [(-1, Check), (LARGEST_IN_JSON + 1, Check)]),
    "order_id": (
        ["a" * 6, "a" * 64, "A-z_09"],
        [
            *(
                (text, Check)
                for text in (
                    "a" * 5,
                    "",
                    "order 1",
                    "주문-000001",
                    "order-1\n",
                    "../../etc",
                    "order-🎁",
                    "order-\uff11",
                )
            ),
            ("a" * 65, TooLong),
        ],
    ),
    "payment_key": (
        [None, "a", "a" * 200],
        [
            *((text, Check) for text in ("", "../settlements", "a/cancel", "a?b", "a#b", "a\n", "a b")),
            ("a" * 201, TooLong),
        ],
    ),
    "confirm_key": ([None, "a", "a" * 64], [("", Check), ("a b", Check), ("키", Check), ("a" * 65, TooLong)]),
    "cancel_key": ([None], [("", Check), ("a\n", Check)]),
    "order_name": (
        ["1", "가" * 100, "토스 티셔츠 외 2건", "'; DROP TABLE payments; --", "100%_", "<b>🎁</b>"],
        [
            *(
                (text, Check)
                for text in ("", " ", "a\nb", "a\tb", "a\x1b[31m", "a\x7f", "a\x85b", "a\u2028b", "a\u2029b")
            ),
            ("가" * 101, TooLong),
        ],
    ),
    "cancel_reason": ([None, "고객 변심", "가" * 200], [("", Check), ("a\r\nb", Check), ("가" * 201, TooLong)]),
    "customer_email": (
        [None, "a@b.c", "o'brien+tag@mail.example.com", f"{'a' * 64}@{'b' * 31}.kr"],
        [
            *(
                (text, Check)
                for text in ("", "a", "a@b", "@b.c", "a@@b.c", "a b@c.d", "a@b.c\n", "김@b.c", "a@b.c, d@e.f")
            ),
            (f"{'a' * 98}@b.c", TooLong),
        ],
    ),
    "account_holder": ([None], [("박토스", Check)]),  # without a bank
    "account_number": ([None], [("X6505636518308", Check)]),
    "method": (["CARD", "VIRTUAL_ACCOUNT"], [("CASH", Check), ("card", Check), ("", Check)]),
}
REFUND: Final[Bounds] = {
    "amount": ([1, 12_000], [(0, Check), (-1, Check), (12_001, Check)]),  # of a balance of 12,000
    "tax_free_amount": ([0, 1_000], [(-1, Check), (1_001, Check)]),
    "believed_balance": ([1_000, MOST], [(999, Check), (MOST + 1, Check)]),
    "reason": (["고객 변심", "가" * 200], [("", Check), (" ", Check), ("a\nb", Check), ("가" * 201, TooLong)]),
    "refund_key": (["a" * 64], [("", Check), ("a b", Check), ("a" * 65, TooLong)]),
    "version": ([1], [(0, Check)]),
    "check_count": ([0], [(-1, Check)]),
}
STRAY: Final[Bounds] = {
    "amount": ([1, 1_000], [(0, Check), (1_001, Check)]),
    "total_amount": ([1_000, LARGEST_IN_JSON], [(999, Check), (LARGEST_IN_JSON + 1, Check)]),
    "payment_key": (["a"], [("", Check), ("../x", Check)]),
    "refund_key": (["a"], [("", Check), ("a b", Check)]),
    "version": ([1], [(0, Check)]),
    "check_count": ([0], [(-1, Check)]),
}
MESSAGE: Final[Bounds] = {
    "sequence": ([1], [(0, Check)]),
    "attempts": ([0], [(-1, Check)]),
    "transaction_id": ([1], [(0, Check)]),
    "payload": (["{}"], [("[]", Check), ('"text"', Check), ("null", Check)]),
    "type": (["payment.refunded"], [("payment.paid", Check)]),
}
WEBHOOK: Final[Bounds] = {
    "attempts": ([0], [(-1, Check)]),
    "body": ([b"", b"x" * MOST_OF_A_BODY], [(b"x" * (MOST_OF_A_BODY + 1), Check)]),
    "order_id": ([None, "a" * 6, "order=1"], [("a" * 5, Check), ("order 1", Check)]),
    "payment_key": ([None, "a"], [("../x", Check), ("", Check)]),
    "transaction_key": ([None, "txrd_a01", "!" * 64], [("", Check), ("a b", Check), ("키", Check)]),
    "verified_by": (["secret"], [("nobody", Check), ("", Check)]),
}
REQUEST: Final[Bounds] = {
    "status": ([200, 599], [(199, Check), (600, Check), (None, Check)]),
    "key_hash": ([b"k" * 32], [(b"k" * 31, Check), (b"k" * 33, Check)]),
}
DIFFERENCE: Final[Bounds] = {
    "subject": (["order-000001"], [("", Check)]),
    "resolved_by": ([None], [("lee", Check)]),
    "resolution": ([None], [("refunded by telephone", Check)]),
}
NIGHT: Final[Bounds] = {"attempts": ([1], [(0, Check)])}


def a_refund(payment: Payment) -> Refund:
    return Refund.request(
        *(payment, 1_000),
        reason="고객 변심",
        refund_key="key-1",
        at=AT,
        lease=LEASE,
        cause=Cause.API,
        request_id=new_id(),
    )


def a_stray(payment: Payment) -> StrayCapture:
    return StrayCapture.find(
        payment, "a-second-key", total_amount=1_000, amount=1_000, refund_key="key-2", at=AT, cause=Cause.NIGHTLY
    )


def a_message(payment: Payment) -> OutboxMessage:
    return OutboxMessage(
        id=new_id(),
        payment_id=payment.id,
        sequence=1,
        type=EventType.COMPLETED,
        payload={},
        created_at=AT,
        attempts=0,
        next_attempt_at=AT,
        awaits_receiver=False,
    )


def a_webhook(_: Payment) -> ReceivedWebhook:
    return ReceivedWebhook(
        id=new_id(),
        dedupe_key=new_id().hex,
        event_type="PAYMENT_STATUS_CHANGED",
        verified_by=VerifiedBy.LOOKUP,
        body=b"{}",
        received_at=AT,
        attempts=0,
        next_attempt_at=AT,
    )


def a_request(_: Payment) -> IdempotentRequest:
    return IdempotentRequest(
        id=new_id(),
        key_hash=b"k" * 32,
        fingerprint=b"f" * 32,
        created_at=AT,
        locked_until=AT,
        status=200,
        headers={},
        body=b"{}",
    )


def a_difference(payment: Payment) -> Discrepancy:
    return Discrepancy(
        id=new_id(),
        kind=DiscrepancyKind.ORDER_NOT_PAID,
        subject=payment.order_id,
        severity=Severity.WARNING,
        ours={},
        theirs={},
        first_seen_at=AT,
        last_seen_at=AT,
        next_alert_at=AT,
    )


def a_night(_: Payment) -> NightlyRun:
    return NightlyRun(kind=NightlyCheck.PG, day=AT.date(), next_attempt_at=AT, attempts=1, started_at=AT)


TABLES: Final[dict[str, tuple[Callable[[Payment], Base] | None, Bounds]]] = {
    "payments": (None, PAYMENT),
    "refunds": (a_refund, REFUND),
    "stray_captures": (a_stray, STRAY),
    "outbox_messages": (a_message, MESSAGE),
    "received_webhooks": (a_webhook, WEBHOOK),
    "idempotent_requests": (a_request, REQUEST),
    "discrepancies": (a_difference, DIFFERENCE),
    "nightly_runs": (a_night, NIGHT),
}


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.replace("+psycopg", "", 1)) as connection:
        yield connection
        connection.rollback()


def stored(database: str, table: str) -> None:
    """One row of the table, and the payment that it is about."""
    make, _ = TABLES[table]
    payment = a_payment(PaymentStatus.COMPLETED if make else PaymentStatus.CREATED)
    with Session(create_engine(database, poolclass=NullPool)) as session:
        session.add(payment)
        session.flush()
        if make:
            session.add(make(payment))
        session.commit()


def outcome(connection: psycopg.Connection, table: str, column: str, value: object) -> Refusal | None:
    """How the database refuses such a value; None when it takes it. The row is as it was afterwards."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"UPDATE {table} SET {column} = %s".encode(), [value])  # noqa: S608 - tables above
    except psycopg.Error as error:
        return type(error)
    return None


class TestBounds:
    @pytest.mark.parametrize("table", TABLES)
    def test_are_walked_on_both_sides(self, database: str, connection: psycopg.Connection, table: str) -> None:
        stored(database, table)
        _, bounds = TABLES[table]
        wanted = {
            **{(column, repr(value)): None for column, (taken, _) in bounds.items() for value in taken},
            **{(column, repr(value)): how for column, (_, refused) in bounds.items() for value, how in refused},
        }
        tried = [(column, value) for column, (taken, _) in bounds.items() for value in taken]
        tried += [(column, value) for column, (_, refused) in bounds.items() for value, _ in refused]

        outcomes = {(column, repr(value)): outcome(connection, table, column, value) for column, value in tried}

        assert outcomes == wanted

    def test_of_amounts_are_those_of_the_api(self) -> None:
        assert MOST == MAX_AMOUNT

    def test_of_an_erased_payment_let_nobody_back_in(self, database: str, connection: psycopg.Connection) -> None:
        stored(database, "payments")
        connection.execute(
            "UPDATE payments SET erased_at = now(), order_name = order_id, customer_email = NULL, account_bank = '20'"
        )
        names = {
            "order_name": "a cage",
            "customer_email": "kim@example.com",
            "owner": "auth0|kim",
            "account_number": "X6505636518308",
            "account_holder": "Kim",
            "receipt_url": "https://dashboard.tosspayments.com/receipt",
            "webhook_secret": "ps_0123456789",
            "cancel_reason": "Kim has changed her mind",
        }

        outcomes = {column: outcome(connection, "payments", column, value) for column, value in names.items()}

        assert outcomes == dict.fromkeys(names, Check)


class TestHistory:
    @pytest.mark.parametrize(
        "values", ["2, 'CREATED', 'FAILED', 1, 'a sentence of the PG'", "2, 'CREATED', 'CANCELLED', 1, NULL"]
    )
    def test_takes_the_words_of_the_pg(self, database: str, connection: psycopg.Connection, values: str) -> None:
        stored(database, "payments")

        connection.execute(history_row(values))

    @pytest.mark.parametrize(
        "values",
        [
            "2, 'CREATED', 'CANCELLED', 1, 'Kim has changed her mind'",  # it could never be erased
            "2, 'CREATED', 'FAILED', 0, NULL",
            "-1, 'CREATED', 'FAILED', 1, NULL",
        ],
    )
    def test_takes_no_words_of_people(self, database: str, connection: psycopg.Connection, values: str) -> None:
        stored(database, "payments")

        with pytest.raises(Check):
            connection.execute(history_row(values))


def history_row(values: str) -> bytes:
    columns = "payment_id, cause, at, sequence, from_status, to_status, attempt, message"
    return f"INSERT INTO payment_events ({columns}) SELECT id, 'api', now(), {values} FROM payments".encode()  # noqa: S608 - values above
