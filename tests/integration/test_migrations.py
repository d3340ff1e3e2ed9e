"""The schema: the same from the models and from the migrations, and as strict as the entities."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from typing import Final

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from psycopg import errors
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from payments.db import Base
from payments.ids import new_id
from payments.models import Payment, Refund
from payments.records import IdempotentRequest
from payments.schema import HEAD, alembic_config, migrate
from payments.states import Cause, PaymentStatus, RefundStatus, allowed_edges
from tests.builders import AT, LEASE, PAYMENT_KEY, a_payment

# What PostgreSQL itself says about everything of ours in a database, one kind of thing a query.
CATALOGUE: Final = {
    "columns": """
        SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
               pg_get_expr(adbin, adrelid)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, contype::text, condeferrable, convalidated,
               pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    """,
    "indexes": "SELECT indrelid::regclass::text, pg_get_indexdef(indexrelid), indisvalid FROM pg_index "
    "JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = 'public'::regnamespace",
    "triggers": "SELECT tgrelid::regclass::text, tgenabled::text, pg_get_triggerdef(oid) "
    "FROM pg_trigger WHERE NOT tgisinternal",
    "functions": "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "others": "SELECT relname, relkind::text FROM pg_class "
    "WHERE relnamespace = 'public'::regnamespace AND relkind NOT IN ('r', 'i')",
}
OVERWRITING: Final = (
    "INSERT INTO payment_events TABLE payment_events ON CONFLICT (payment_id, sequence) DO UPDATE SET attempt = 2"
)
GIVEN_UP: Final = """
    INSERT INTO payments (id, order_id, status, method, amount, refunded_amount, currency, order_name, customer_email,
        attempt, is_partial_cancelable, check_count, last_sequence, created_at, prepared_at, version)
    VALUES (gen_random_uuid(), 'order-000001', 'CANCELLED', 'CARD', 15000, 0, 'KRW', 'T-shirt', 'kim@example.com',
        1, true, 0, 2, now(), now(), 2)
"""
GIVEN_UP_WORDS: Final = """
    INSERT INTO payment_events (payment_id, sequence, from_status, to_status, cause, attempt, message, at)
    SELECT id, 1, NULL, 'CREATED', 'api', 1, NULL, now() FROM payments UNION ALL
    SELECT id, 2, 'CREATED', 'CANCELLED', 'api', 1, 'Kim has changed her mind', now() FROM payments
"""
WORDS: Final = """
    SELECT cancel_reason, started.message, ended.message FROM payments
    JOIN payment_events started ON started.payment_id = payments.id AND started.sequence = 1
    JOIN payment_events ended ON ended.payment_id = payments.id AND ended.sequence = 2
"""
ALEMBICS_OWN: Final = "alembic_version"

# For each CHECK of `payments`: a status, and the change to such a payment that breaks it.
BREAKS: Final = {
    "account_has_bank": (PaymentStatus.WAITING_FOR_DEPOSIT, "account_bank = NULL"),
    "amount_bounded": (PaymentStatus.CREATED, "amount = 1000000001"),
    "amount_positive": (PaymentStatus.CREATED, "amount = 0"),
    "attempt_positive": (PaymentStatus.CREATED, "attempt = 0"),
    "cancel_has_reason": (PaymentStatus.WAITING_FOR_DEPOSIT, "cancel_key = 'key-1'"),
    "cancel_key_alphabet": (PaymentStatus.CREATED, "cancel_key = ''"),
    "cancel_reason_readable": (PaymentStatus.CREATED, "cancel_reason = E'sold\\nout'"),
    "confirm_key_alphabet": (PaymentStatus.CREATED, "confirm_key = 'a key'"),
    "counters_count": (PaymentStatus.CREATED, "version = 0"),
    "created_expires": (PaymentStatus.CREATED, "next_check_at = NULL"),
    "customer_email_shape": (PaymentStatus.CREATED, "customer_email = 'buyer'"),
    "deposited_amount_bounded": (PaymentStatus.CREATED, "deposited_amount = -1"),
    "erased_names_nobody": (PaymentStatus.COMPLETED, "erased_at = now()"),
    "held_until": (PaymentStatus.COMPLETED, "held_by = gen_random_uuid(), next_check_at = NULL"),
    "deposit_is_looked_for": (PaymentStatus.WAITING_FOR_DEPOSIT, "next_check_at = NULL"),
    "currency_won": (PaymentStatus.CREATED, "currency = 'USD'"),
    "completed_has_proof": (PaymentStatus.COMPLETED, "completed_at = NULL"),
    "failed_has_evidence": (PaymentStatus.FAILED, "fail_code = NULL"),
    "method_listed": (PaymentStatus.CREATED, "method = 'CASH'"),
    "order_name_readable": (PaymentStatus.CREATED, "order_name = ' '"),
    "order_id_alphabet": (PaymentStatus.CREATED, "order_id = E'order-000001\\n'"),
    "payment_key_alphabet": (PaymentStatus.PENDING, "payment_key = '../settlements'"),
    "pending_can_be_resolved": (PaymentStatus.PENDING, "next_check_at = NULL"),
    "refunded_fits_status": (PaymentStatus.COMPLETED, "refunded_amount = 1"),
    "refunded_within_amount": (PaymentStatus.REFUNDED, "refunded_amount = amount + 1"),
    "status_listed": (PaymentStatus.CREATED, "status = 'PAID'"),
}


# The same for `refunds`, by the status of the refund.
REFUND_BREAKS: Final = {
    "amount_positive": (RefundStatus.REQUESTED, "amount = 0"),
    "amount_within_balance": (RefundStatus.REQUESTED, "amount = believed_balance + 1"),
    "balance_bounded": (RefundStatus.REQUESTED, "believed_balance = 1000000001"),
    "counters_count": (RefundStatus.REQUESTED, "check_count = -1"),
    "cause_listed": (RefundStatus.REQUESTED, "cause = 'nobody'"),
    "failed_has_evidence": (RefundStatus.FAILED, "fail_code = NULL"),
    "held_until": (RefundStatus.FAILED, "held_by = gen_random_uuid(), next_check_at = NULL"),
    "reason_readable": (RefundStatus.REQUESTED, "reason = ''"),
    "refund_key_alphabet": (RefundStatus.REQUESTED, "refund_key = 'a key'"),
    "requested_can_be_resolved": (RefundStatus.REQUESTED, "next_check_at = NULL"),
    "status_listed": (RefundStatus.REQUESTED, "status = 'DONE'"),
    "succeeded_has_proof": (RefundStatus.SUCCEEDED, "transaction_key = NULL"),
    "tax_free_within_amount": (RefundStatus.REQUESTED, "tax_free_amount = amount + 1"),
}
# And for `idempotent_requests`, of an answered one.
REQUEST_BREAKS: Final = [
    ("answered_as_a_whole", "body = NULL"),
    ("answered_as_a_whole", "status = NULL"),
    ("hashes_are_sha256", "key_hash = substring(key_hash FOR 31)"),
    ("hashes_are_sha256", "fingerprint = fingerprint || fingerprint"),
    ("status_of_http", "status = 600"),
]


def engine_of(url: str) -> Engine:
    return create_engine(url, poolclass=NullPool)


def catalogue(url: str) -> dict[str, set[tuple[object, ...]]]:
    engine = engine_of(url)
    with engine.connect() as connection:
        return {kind: _rows(connection, query) for kind, query in CATALOGUE.items()}


def _rows(connection: Connection, query: str) -> set[tuple[object, ...]]:
    rows = {tuple(row) for row in connection.execute(text(query))}
    return {row for row in rows if ALEMBICS_OWN not in str(row)}


def revisions() -> list[Script]:
    """Every migration, the first one first."""
    return list(ScriptDirectory.from_config(alembic_config()).walk_revisions())[::-1]


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection]:
    """Whoever has the database's password, without the entities between."""
    with psycopg.connect(database.replace("+psycopg", "", 1), autocommit=True) as connection:
        yield connection


def stored(database: str, *entities: Base) -> None:
    with Session(engine_of(database)) as session:
        session.add_all(entities)
        session.commit()


def _wait_for_whoever_waits(connection: psycopg.Connection) -> None:
    """Until somebody waits for a table that this connection has locked."""
    waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
    while not (connection.execute(waits).fetchone() or (False,))[0]:
        pass


class TestMigrations:
    def test_build_what_the_models_describe(self, database: str, empty_database: str) -> None:
        Base.metadata.create_all(engine_of(empty_database))

        migrated, described = catalogue(database), catalogue(empty_database)

        for kind in CATALOGUE:
            assert migrated[kind] == described[kind], kind
        assert all(described[kind] for kind in ("columns", "constraints", "indexes", "triggers", "functions"))

    @pytest.mark.parametrize(
        "change",
        [
            "ALTER TABLE payments ALTER amount DROP NOT NULL",
            "ALTER TABLE payments ALTER amount SET DEFAULT 0",
            "ALTER TABLE payments ALTER order_name TYPE text",
            "ALTER TABLE payments DROP CONSTRAINT ck_payments_amount_positive",
            "ALTER TABLE payment_events DISABLE TRIGGER payment_events_append_only",
            "DROP TRIGGER payment_events_never_emptied ON payment_events",
            "DROP INDEX ix_payments_next_check_at",
            "ALTER FUNCTION payment_events_append_only STABLE",
            "CREATE SEQUENCE numbers",
        ],
    )
    def test_are_compared_closely_enough_to_see(
        self, database: str, connection: psycopg.Connection, change: str
    ) -> None:
        before = catalogue(database)

        connection.execute(change.encode())

        assert catalogue(database) != before

    def test_leave_nothing_for_alembic_to_find(self, database: str) -> None:
        with engine_of(database).connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )

            assert compare_metadata(context, Base.metadata) == []

    @pytest.mark.parametrize("revision", revisions(), ids=lambda script: script.revision)
    def test_go_up_down_and_up_again(self, empty_database: str, revision: Script) -> None:
        config = alembic_config(empty_database)
        before = revision.down_revision or "base"
        if revision.down_revision:
            command.upgrade(config, str(before))
        below = catalogue(empty_database)

        command.upgrade(config, revision.revision)
        above = catalogue(empty_database)
        command.downgrade(config, str(before))
        assert catalogue(empty_database) == below
        command.upgrade(config, revision.revision)

        assert catalogue(empty_database) == above != below

    def test_of_checks_meet_no_writer_in_a_deadlock(self, empty_database: str) -> None:
        """Whoever changes a payment locks it first, and adds to its history then."""
        config = alembic_config(empty_database)
        command.upgrade(config, "0005")
        with psycopg.connect(empty_database.replace("+psycopg", "")) as writer, ThreadPoolExecutor() as others:
            writer.execute(GIVEN_UP)
            writer.commit()
            (payment_id,) = writer.execute("UPDATE payments SET check_count = 1 RETURNING id").fetchone() or (None,)
            migrating = others.submit(command.upgrade, config, "0006")
            _wait_for_whoever_waits(writer)

            writer.execute(
                "INSERT INTO payment_events (payment_id, sequence, to_status, cause, attempt, at)"
                " VALUES (%s, 1, 'CREATED', 'api', 1, now())",
                [payment_id],
            )
            writer.commit()

            migrating.result(timeout=30)

    def test_are_one_line_without_branches(self) -> None:
        below = [script.down_revision for script in revisions()]

        assert below == [None, *(script.revision for script in revisions()[:-1])]
        assert revisions()[-1].revision == HEAD

    def test_run_again_change_nothing(self, database: str) -> None:
        before = catalogue(database)

        migrate(database)

        assert catalogue(database) == before


class TestReasonsInTheHistory:
    """Release 0004 wrote there why a payment was given up; a person's own words, which nobody could erase again."""

    def test_move_to_the_payment_and_back(self, empty_database: str) -> None:
        config = alembic_config(empty_database)
        command.upgrade(config, "0004")
        with psycopg.connect(empty_database.replace("+psycopg", "", 1), autocommit=True) as connection:
            connection.execute(GIVEN_UP)
            connection.execute(GIVEN_UP_WORDS)

            command.upgrade(config, "head")
            above = connection.execute(WORDS).fetchall()
            with pytest.raises(errors.IntegrityConstraintViolation, match="append-only"):
                connection.execute("UPDATE payment_events SET message = NULL")
            command.downgrade(config, "0004")
            below = connection.execute(WORDS).fetchall()

        assert above == [("Kim has changed her mind", None, None)]
        assert below == [("Kim has changed her mind", None, "Kim has changed her mind")]


class TestHistory:
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE payment_events SET message = 'never happened'",
            "UPDATE payment_events SET at = at",
            "DELETE FROM payment_events",
            "TRUNCATE payment_events",
            "TRUNCATE payments CASCADE",
            OVERWRITING,
        ],
    )
    def test_is_append_only(self, database: str, connection: psycopg.Connection, statement: str) -> None:
        stored(database, a_payment(PaymentStatus.COMPLETED))

        with pytest.raises(errors.IntegrityConstraintViolation, match="append-only"):
            connection.execute(statement.encode())

        kept = connection.execute("SELECT to_status, message FROM payment_events ORDER BY sequence").fetchall()
        assert kept == [(status, None) for status in ("CREATED", "PENDING", "APPROVED", "COMPLETED")]

    def test_keeps_its_payment(self, database: str, connection: psycopg.Connection) -> None:
        stored(database, a_payment(PaymentStatus.CREATED))

        with pytest.raises(errors.ForeignKeyViolation):
            connection.execute("DELETE FROM payments")

    def test_takes_exactly_the_moves_that_there_are(self, database: str, connection: psycopg.Connection) -> None:
        stored(database, a_payment(PaymentStatus.CREATED))
        _copy_payment_without_history(connection)
        tried = list(product([None, *PaymentStatus], PaymentStatus))

        taken = {(start, end) for start, end in tried if _is_taken(connection, start, end)}

        assert taken == set(allowed_edges())

    def test_has_one_row_for_each_place(self, database: str, connection: psycopg.Connection) -> None:
        stored(database, a_payment(PaymentStatus.PENDING))

        with pytest.raises(errors.UniqueViolation):
            connection.execute("INSERT INTO payment_events SELECT * FROM payment_events WHERE sequence = 2")


def _copy_payment_without_history(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TEMPORARY TABLE copied AS SELECT * FROM payments")
    connection.execute("UPDATE copied SET id = gen_random_uuid(), order_id = 'order-without-history'")
    connection.execute("INSERT INTO payments SELECT * FROM copied")


def _is_taken(connection: psycopg.Connection, start: PaymentStatus | None, end: PaymentStatus) -> bool:
    """Whether the database takes a row of this move; it is rolled back again."""
    row = (
        "INSERT INTO payment_events (payment_id, sequence, from_status, to_status, cause, attempt, at) "
        "SELECT id, %s, %s, %s, 'api', 1, now() FROM copied"
    )
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(row, [2 if start else 1, start, end])
    except errors.CheckViolation:
        return False
    return True


class TestPayments:
    def test_have_a_story_for_each_check(self, connection: psycopg.Connection) -> None:
        assert set(_checks(connection, "payments")) == {f"ck_payments_{name}" for name in BREAKS}

    @pytest.mark.parametrize(("check", "start", "change"), [(name, *story) for name, story in BREAKS.items()])
    def test_refuse_a_row_that_breaks_it_with_no_other_check_to_help(
        self, database: str, connection: psycopg.Connection, check: str, start: PaymentStatus, change: str
    ) -> None:
        stored(database, a_payment(start))

        with _alone(connection, "payments", check), pytest.raises(errors.CheckViolation, match=f"ck_payments_{check}"):
            connection.execute(f"UPDATE payments SET {change}".encode())  # noqa: S608 - a table above

    @pytest.mark.parametrize("status", PaymentStatus)
    def test_take_every_status_that_legal_moves_lead_to(
        self, database: str, connection: psycopg.Connection, status: PaymentStatus
    ) -> None:
        stored(database, a_payment(status))

        assert connection.execute("SELECT status, version FROM payments").fetchall() == [(status, 1)]

    @pytest.mark.parametrize(
        ("order_id", "payment_key", "constraint"),
        [
            ("order-000001", "another-key", "uq_payments_order_id"),
            ("order-000002", PAYMENT_KEY, "uq_payments_payment_key"),
        ],
    )
    def test_share_no_order_and_no_payment_key(
        self, database: str, order_id: str, payment_key: str, constraint: str
    ) -> None:
        stored(database, a_payment(order_id="order-000001", payment_key=PAYMENT_KEY))

        with pytest.raises(DBAPIError, match=constraint):
            stored(database, a_payment(order_id=order_id, payment_key=payment_key))


def _checks(connection: psycopg.Connection, table: str) -> list[str]:
    found = connection.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'", [table]
    )
    return [name for (name,) in found]


@contextmanager
def _alone(connection: psycopg.Connection, table: str, check: str) -> Iterator[None]:
    """With no other check to help; all of them are there again afterwards."""
    with connection.transaction(force_rollback=True):
        for other in set(_checks(connection, table)) - {f"ck_{table}_{check}"}:
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {other}".encode())
        yield


class TestRefunds:
    def test_of_one_payment_run_one_at_a_time(self, database: str) -> None:
        payment = a_payment(PaymentStatus.COMPLETED)
        first, second = _refund(payment, "refund-1"), _refund(payment, "refund-2")
        stored(database, payment, first)

        with pytest.raises(DBAPIError, match="uq_refunds_payment_id_requested"):
            stored(database, second)

    def test_of_one_payment_follow_each_other(self, database: str, connection: psycopg.Connection) -> None:
        payment = a_payment(PaymentStatus.COMPLETED)
        first, second = _refund(payment, "refund-1"), _refund(payment, "refund-2")
        first.fail("NOT_CANCELABLE_AMOUNT", "취소 할 수 없는 금액 입니다.", because="balance_differs", at=AT)

        stored(database, payment, first, second)

        assert connection.execute("SELECT count(*) FROM refunds").fetchone() == (2,)

    def test_have_a_story_for_each_check(self, connection: psycopg.Connection) -> None:
        assert set(_checks(connection, "refunds")) == {f"ck_refunds_{name}" for name in REFUND_BREAKS}

    @pytest.mark.parametrize(("check", "status", "change"), [(name, *story) for name, story in REFUND_BREAKS.items()])
    def test_refuse_a_row_that_breaks_it_with_no_other_check_to_help(
        self, database: str, connection: psycopg.Connection, check: str, status: RefundStatus, change: str
    ) -> None:
        payment = a_payment(PaymentStatus.COMPLETED)
        stored(database, payment, _refund(payment, "refund-1", status))

        with _alone(connection, "refunds", check), pytest.raises(errors.CheckViolation, match=f"ck_refunds_{check}"):
            connection.execute(f"UPDATE refunds SET {change}".encode())  # noqa: S608 - a table above

    @pytest.mark.parametrize(
        ("change", "constraint"),
        [
            ("refund_key = 'refund-1'", "uq_refunds_refund_key"),
            ("request_id = (SELECT request_id FROM refunds WHERE refund_key = 'refund-1')", "uq_refunds_request_id"),
            ("transaction_key = 'transaction-of-refund-1'", "uq_refunds_transaction_key"),
        ],
    )
    def test_share_no_key_no_request_and_no_cancel_of_the_pg(
        self, database: str, connection: psycopg.Connection, change: str, constraint: str
    ) -> None:
        payment = a_payment(PaymentStatus.COMPLETED)
        first = _refund(payment, "refund-1", RefundStatus.SUCCEEDED)
        second = _refund(payment, "refund-2", RefundStatus.SUCCEEDED)
        stored(database, payment, first, second)

        with pytest.raises(errors.UniqueViolation, match=constraint):
            connection.execute(f"UPDATE refunds SET {change} WHERE refund_key = 'refund-2'".encode())  # noqa: S608 - a table above


def _refund(payment: Payment, refund_key: str, status: RefundStatus = RefundStatus.REQUESTED) -> Refund:
    refund = Refund.request(
        payment,
        1_000,
        reason="too small",
        refund_key=refund_key,
        at=AT,
        lease=LEASE,
        cause=Cause.API,
        request_id=new_id(),
    )
    if status is RefundStatus.SUCCEEDED:
        refund.succeed(payment, f"transaction-of-{refund_key}", at=AT, cause=Cause.API)
    if status is RefundStatus.FAILED:
        refund.fail("NOT_CANCELABLE_AMOUNT", "취소 할 수 없는 금액 입니다.", because="balance_differs", at=AT)
    return refund


class TestRequests:
    def test_have_a_story_for_each_check(self, connection: psycopg.Connection) -> None:
        told = {f"ck_idempotent_requests_{name}" for name, _ in REQUEST_BREAKS}

        assert set(_checks(connection, "idempotent_requests")) == told

    @pytest.mark.parametrize(("check", "change"), REQUEST_BREAKS)
    def test_refuse_a_row_that_breaks_it_with_no_other_check_to_help(
        self, database: str, connection: psycopg.Connection, check: str, change: str
    ) -> None:
        stored(database, _answered(b"k" * 32))

        with (
            _alone(connection, "idempotent_requests", check),
            pytest.raises(errors.CheckViolation, match=f"ck_idempotent_requests_{check}"),
        ):
            connection.execute(f"UPDATE idempotent_requests SET {change}".encode())  # noqa: S608 - a table above

    def test_share_no_key(self, database: str) -> None:
        stored(database, _answered(b"k" * 32))

        with pytest.raises(DBAPIError, match="uq_idempotent_requests_key_hash"):
            stored(database, _answered(b"k" * 32))


def _answered(key_hash: bytes) -> IdempotentRequest:
    return IdempotentRequest(
        id=new_id(),
        key_hash=key_hash,
        fingerprint=b"f" * 32,
        created_at=AT,
        locked_until=AT,
        status=200,
        headers={},
        body=b"{}",
    )
