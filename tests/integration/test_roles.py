"""Roles of the database: each may do what its program does, and nothing else."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import date, timedelta
from functools import partial
from typing import Any, Final

import httpx
import psycopg
import pytest
import structlog
from psycopg import errors
from pydantic import SecretStr
from sqlalchemy import func, select, update
from structlog.testing import capture_logs

from payments import commands
from payments.alerts import Alert
from payments.api.app import create_app
from payments.business_day import day_of
from payments.cli import main
from payments.db import Base, transaction
from payments.jobs import JOBS, Worker, perform
from payments.local.postgres import LocalPostgres
from payments.models import StrayCapture
from payments.nightly import reconcile_day
from payments.privacy import INVENTORY, Kind
from payments.queries import database_now
from payments.records import IdempotentRequest, Job, JobRun, NightlyCheck, OutboxMessage, ReceivedWebhook
from payments.resources import WORKER as AS_WORKER
from payments.resources import Resources, open_resources
from payments.roles import API, FROZEN, READ, RIGHTS, ROLES, WORKER, rights_of, warn_of_power
from payments.schema import migrate
from payments.settings import Environment, Settings
from payments.states import Cause
from payments.usecases.alert import alert_new
from payments.usecases.check_orders import check_orders
from payments.usecases.erase import erase, erase_order
from payments.usecases.forget import forget
from payments.usecases.nights import run_night_by_hand
from tests.integration.events_world import Shop, deliver_all
from tests.integration.night_world import ShopBooks, opened
from tests.integration.roles_world import OWNER, SplitDatabase, create, split_database
from tests.integration.test_strays import captured_elsewhere
from tests.integration.webhook_world import delivered, let_time_pass, status_changed
from tests.integration.world import (
    AMOUNT,
    CLIENT_KEY,
    ORDER,
    SECRET_KEY,
    SHOP,
    Sandbox,
    cancelling,
    confirm_body,
    make_due,
    make_refunds_due,
    paid,
    prepared,
    read,
    settings_for,
)
from tests.keys import AUTHORIZATION, let_in

SECOND: Final = "order-000002"
THIRD: Final = "order-000003"
FOURTH: Final = "order-000004"
FIFTH: Final = "order-000005"
PATIENCE: Final = timedelta(seconds=20)
LOCAL: Final = {
    "ENVIRONMENT": "local",
    "TOSS_CLIENT_KEY": CLIENT_KEY,
    "TOSS_SECRET_KEY": SECRET_KEY,
}
PRODUCTION: Final[dict[str, Any]] = {
    "toss_client_key": "live_gck_of_nobody",
    "toss_secret_key": SecretStr("live_gsk_of_nobody_in_particular"),
    "allowed_origins": (SHOP,),
}
TEST_KEYS: Final = {**PRODUCTION, "toss_client_key": CLIENT_KEY, "toss_secret_key": SecretStr(SECRET_KEY)}
FORGETTABLE_SINCE: Final = {
    IdempotentRequest: "created_at",
    ReceivedWebhook: "received_at",
    OutboxMessage: "created_at",
}
VERBS: Final = ("SELECT", "INSERT", "UPDATE")
WHOLE_TABLE: Final = ("DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN")
TABLES: Final = [table.name for table in Base.metadata.sorted_tables]


@pytest.fixture(scope="module")
def split(postgres: LocalPostgres) -> Iterator[SplitDatabase]:
    with split_database(postgres) as database:
        let_in(database.url(OWNER))
        yield database


@pytest.fixture
def owner(split: SplitDatabase) -> Iterator[psycopg.Connection]:
    with split.connect(OWNER) as connection:
        yield connection


class TestRights:
    def test_have_a_line_for_every_table_and_role(self) -> None:
        assert set(RIGHTS) == set(TABLES)
        assert all(set(line) == {API, WORKER} for line in RIGHTS.values())  # the reader's follow from the inventory
        assert all(FROZEN[table] < {column.name for column in Base.metadata.tables[table].columns} for table in FROZEN)

    @pytest.mark.parametrize("role", ROLES)
    def test_are_what_the_database_says(self, owner: psycopg.Connection, role: str) -> None:
        wanted = {(table, verb): rights_of(role, table).get(verb, frozenset()) for table in TABLES for verb in VERBS}

        assert _granted_columns(owner, role) == wanted
        assert _granted_tables(owner, role) == {
            (table, verb) for table in TABLES for verb in WHOLE_TABLE if verb in rights_of(role, table)
        }

    def test_leave_nothing_to_everybody(self, owner: psycopg.Connection) -> None:
        acls = owner.execute("SELECT relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchall()
        may_create = owner.execute("SELECT has_schema_privilege('public', 'public', 'CREATE')").fetchone()

        assert [acl for (acl,) in acls if acl is not None and ("{=" in acl or ",=" in acl)] == []
        assert may_create == (False,)

    def test_are_few(self) -> None:
        """What the reviewer of a change to the table has to see broken."""
        deletes = {(role, table) for table, line in RIGHTS.items() for role, verbs in line.items() if "DELETE" in verbs}
        forgotten = {"outbox_messages", "received_webhooks", "idempotent_requests", "processes"}

        assert deletes == {(API, "processes"), *((WORKER, table) for table in forgotten)}
        assert RIGHTS["payment_events"] == {API: {"SELECT", "INSERT"}, WORKER: {"SELECT", "INSERT"}}
        assert RIGHTS["api_keys"] == {API: {"SELECT"}, WORKER: frozenset()}
        assert RIGHTS["job_runs"][API] == {"SELECT"}
        assert RIGHTS["nightly_runs"][API] == frozenset()

    def test_granted_again_are_the_same(self, split: SplitDatabase, owner: psycopg.Connection) -> None:
        before = {role: _granted_columns(owner, role) for role in ROLES}

        assert migrate(split.url(OWNER)) == sorted(ROLES)

        assert {role: _granted_columns(owner, role) for role in ROLES} == before

    def test_that_somebody_added_by_hand_are_gone_after_the_next_migrate(
        self, split: SplitDatabase, owner: psycopg.Connection
    ) -> None:
        owner.execute(f"GRANT UPDATE, DELETE, TRUNCATE ON payment_events, api_keys TO {API}, {READ}")

        migrate(split.url(OWNER))

        assert ("payment_events", "DELETE") not in _granted_tables(owner, API)
        assert _granted_columns(owner, READ)["api_keys", "UPDATE"] == frozenset()

    def test_come_to_roles_that_were_made_later(self, split: SplitDatabase, postgres: LocalPostgres) -> None:
        later = SplitDatabase(postgres, f"{split.name}_later")
        create(later)
        migrate(later.url(OWNER))
        try:
            with later.connect(API) as connection:
                assert connection.execute("SELECT count(*) FROM payments").fetchone() == (0,)
        finally:
            postgres.drop_database(later.name)


def _granted_columns(connection: psycopg.Connection, role: str) -> dict[tuple[str, str], frozenset[str]]:
    rows = connection.execute(
        "SELECT relname, verb, array_agg(attname::text) "
        "FILTER (WHERE has_column_privilege(%s, pg_class.oid, attnum, verb)) "
        "FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid, unnest(%s::text[]) verb "
        "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped "
        "AND relname <> 'alembic_version' GROUP BY relname, verb",
        [role, list(VERBS)],
    )
    return {(table, verb): frozenset(columns or ()) for table, verb, columns in rows}


def _granted_tables(connection: psycopg.Connection, role: str) -> set[tuple[str, str]]:
    rows = connection.execute(
        "SELECT relname, verb FROM pg_class, unnest(%s::text[]) verb "
        "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND has_table_privilege(%s, pg_class.oid, verb)",
        [list(WHOLE_TABLE), role],
    )
    return {(table, verb) for table, verb in rows}


class TestProgram:
    @pytest.mark.parametrize("role", ROLES)
    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE TABLE mine ()",
            "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "ALTER TABLE payments ADD COLUMN mine int",
            "ALTER TABLE payment_events DISABLE TRIGGER ALL",
            "DROP TABLE payment_events",
            "DROP INDEX ix_payments_unerased",
            "TRUNCATE payment_events",
            "TRUNCATE payments CASCADE",
            "UPDATE payment_events SET message = NULL",
            "DELETE FROM payment_events",
            "DELETE FROM payments",
            "DELETE FROM refunds",
            "UPDATE payments SET amount = 1",
            "UPDATE payments SET order_id = 'order-000009'",
            "UPDATE refunds SET amount = 1",
            "UPDATE outbox_messages SET payload = '{}'",
            "INSERT INTO api_keys (id) VALUES (gen_random_uuid())",
            "UPDATE api_keys SET revoked_at = NULL",
            "UPDATE alembic_version SET version_num = '0001'",
            f"SET ROLE {OWNER}",
            "SET session_replication_role = replica",
            "COPY payments TO PROGRAM 'cat'",
            "CREATE ROLE mine SUPERUSER",
            "SELECT rolpassword FROM pg_authid",
        ],
    )
    def test_may_not(self, split: SplitDatabase, role: str, statement: str) -> None:
        with split.connect(role) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())

    def test_of_the_workers_sees_no_api_key(self, split: SplitDatabase) -> None:
        with split.connect(WORKER) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT name FROM api_keys")

    def test_of_the_api_writes_down_no_job_and_no_night(self, split: SplitDatabase) -> None:
        with split.connect(API) as connection:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("INSERT INTO job_runs (name) VALUES ('forget')")
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("UPDATE nightly_runs SET finished_at = now()")


class TestReader:
    def test_sees_what_is_neither_personal_nor_secret(self, split: SplitDatabase) -> None:
        with split.connect(READ) as connection:
            for table, columns in INVENTORY.items():
                plain = [name for name, holds in columns.items() if holds.kind is Kind.PLAIN]
                connection.execute(f"SELECT {', '.join(plain)} FROM {table}".encode())  # noqa: S608 - our own names
            assert connection.execute("SELECT version_num FROM alembic_version").fetchone() is not None

    @pytest.mark.parametrize(
        "column",
        [
            f"{table}.{name}"
            for table, columns in INVENTORY.items()
            for name, holds in columns.items()
            if holds.kind is not Kind.PLAIN
        ],
    )
    def test_sees_nothing_else(self, split: SplitDatabase, column: str) -> None:
        table, _, name = column.partition(".")

        with split.connect(READ) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(f"SELECT {name} FROM {table}".encode())  # noqa: S608 - our own names


@pytest.fixture
async def owning(split: SplitDatabase, sandbox_url: str) -> AsyncIterator[Resources]:
    """Whoever owns everything: makes keys, and lets time pass."""
    async with open_resources(settings_for(split.url(OWNER), sandbox_url), role="owner") as resources:
        yield resources


@pytest.fixture
async def api(split: SplitDatabase, sandbox_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API as it runs in production, which may do everything."""
    app = create_app(settings_for(split.url(API), sandbox_url))
    transport = httpx.ASGITransport(app=app)
    headers = {"origin": SHOP, **AUTHORIZATION}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client,
    ):
        yield client


@pytest.fixture
async def worker(split: SplitDatabase, sandbox_url: str) -> AsyncIterator[Worker]:
    async with open_resources(settings_for(split.url(WORKER), sandbox_url), role=AS_WORKER) as resources:
        yield Worker(resources)


async def work(worker: Worker) -> None:
    """Every job once, and to its end."""
    for job, (_, run) in JOBS.items():
        worker._looked_at = float("-inf")  # what the job before has made due is due
        await perform(worker, job, run)
        assert await worker.resources.background.drain(PATIENCE) == 0


async def bought(api: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """What buyers, the back office and the PG have the API do, with answers that are lost on the way."""
    await paid(api, sandbox)
    assert (await cancelling(api, 5_000)).status_code == 200
    await _undecided(api, sandbox, SECOND)
    payment_key = await paid(api, sandbox, THIRD, method="VIRTUAL_ACCOUNT")
    await delivered(api, status_changed(await sandbox.act(payment_key, "deposit")))
    await prepared(api, FOURTH)
    assert (await cancelling(api, order_id=FOURTH)).status_code == 200
    await prepared(api, FIFTH)
    await sandbox.arm("cancel", "server_error", times=None)
    assert (await cancelling(api, 1_000)).status_code == 202
    await sandbox.clear_faults()


async def _undecided(api: httpx.AsyncClient, sandbox: Sandbox, order_id: str) -> None:
    await prepared(api, order_id)
    payment_key = await sandbox.buyer_authenticates(order_id)
    await sandbox.arm("any", "server_error", times=None)
    confirmed = await api.post("/payments/confirm", json=confirm_body(payment_key, order_id))
    await sandbox.clear_faults()
    assert confirmed.status_code == 202


async def statuses(api: httpx.AsyncClient) -> dict[str, str]:
    return {order_id: (await read(api, order_id))["status"] for order_id in (ORDER, SECOND, THIRD, FOURTH, FIFTH)}


async def let_everything_be_due(owning: Resources) -> None:
    await make_due(owning)
    await make_refunds_due(owning)
    await let_time_pass(owning)


class Told:
    """Whoever is alarmed, and hears it."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []

    async def send(self, alert: Alert) -> bool:
        self.alerts.append(alert)
        return True


class TestTheSet:
    async def test_does_all_its_work_with_the_rights_that_it_has(
        self, api: httpx.AsyncClient, worker: Worker, owning: Resources, sandbox: Sandbox
    ) -> None:
        with capture_logs() as logs:
            await bought(api, sandbox)
            await let_everything_be_due(owning)
            await work(worker)
            decided = await statuses(api)
            await self._look_at_the_night(worker, sandbox, api)
            await self._forget_and_erase(worker, owning)
            ready = await api.get("/health/ready")
            metrics = await api.get("/metrics")

        assert decided == {
            ORDER: "PARTIALLY_REFUNDED",
            SECOND: "COMPLETED",
            THIRD: "COMPLETED",
            FOURTH: "CANCELLED",
            FIFTH: "FAILED",
        }
        assert [refund["status"] for refund in (await read(api))["refunds"]] == ["SUCCEEDED", "SUCCEEDED"]
        assert (await api.get("/events")).json()["events"] == []  # forgotten
        assert (ready.status_code, metrics.status_code) == (200, 200)
        assert [entry for entry in logs if "DatabaseRefused" in repr(entry) or "Insufficient" in repr(entry)] == []
        async with transaction(owning.sessions) as session:
            errors_of_jobs = {run.name: run.last_error for run in await session.scalars(select(JobRun))}
        assert errors_of_jobs == {job.value: None for job in Job}

    async def _look_at_the_night(self, worker: Worker, sandbox: Sandbox, api: httpx.AsyncClient) -> None:
        """A capture that somebody made elsewhere goes back, and what differs is noted, told and sent."""
        held, alerts = worker.resources, Told()
        async with transaction(held.sessions) as session:
            today = day_of(await database_now(session))
        await captured_elsewhere(sandbox)
        await reconcile_day(held, today)
        await work(worker)
        assert await sandbox.cancelled() == [5_000, 1_000, AMOUNT]
        await check_orders(today, sessions=held.sessions, orders=ShopBooks(), cause=Cause.NIGHTLY, deliver=None)
        async with transaction(held.sessions) as session:
            assert await session.scalar(select(func.count()).select_from(StrayCapture)) == 1
        await run_night_by_hand(NightlyCheck.PG, today, run=partial(reconcile_day, held), sessions=held.sessions)
        await alert_new(sessions=held.sessions, alerts=alerts)
        await deliver_all(held.sessions, Shop())
        assert (await api.get("/events")).json()["events"] != []

    async def _forget_and_erase(self, worker: Worker, owning: Resources) -> None:
        """Everything that may be forgotten is old enough, and somebody wants to be."""
        long_ago = timedelta(days=365)
        async with transaction(owning.sessions) as session:
            for entity, since in FORGETTABLE_SINCE.items():
                await session.execute(update(entity).values({since: getattr(entity, since) - long_ago}))
        gone = await forget(sessions=worker.resources.sessions)
        assert all(gone[table] > 0 for table in ("idempotent_requests", "received_webhooks", "outbox_messages"))
        assert await erase_order(FOURTH, sessions=worker.resources.sessions)
        await erase(sessions=worker.resources.sessions, older_than=timedelta())


@pytest.fixture
def comes_as(split: SplitDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Commands run as this role."""

    def become(role: str) -> None:
        for name, value in {**LOCAL, "DATABASE_URL": split.url(role)}.items():
            monkeypatch.setenv(name, value)

    yield become
    structlog.reset_defaults()  # a command configures the logs of its process


Command = Callable[[Settings], Awaitable[int]]

EVERY_DAY: Final[dict[str, Command]] = {
    "recover": partial(commands.recover_now, limit=10, in_json=True),
    "refunds resolve": partial(commands.resolve_refunds_now, order_id=None, limit=10, in_json=True),
    "reconcile": partial(commands.reconcile_now, day=date(2026, 11, 2), cap=None, in_json=True),
    "events replay": partial(commands.replay_events, order_id=None, message_id=None),
    "webhooks replay": partial(commands.replay_webhooks_now, webhook_id=None),
    "discrepancies list": partial(commands.list_discrepancies, kind=None, resolved_too=True, limit=10, in_json=True),
    "forget": commands.forget_now,
    "erase": commands.erase_now,
    "health worker": commands.check_worker,
}


class TestCommands:
    @pytest.mark.parametrize("command", EVERY_DAY.values(), ids=EVERY_DAY)
    async def test_of_every_day_run_as_the_worker(
        self, split: SplitDatabase, sandbox_url: str, sandbox: Sandbox, command: Command
    ) -> None:
        assert await command(settings_for(split.url(WORKER), sandbox_url)) in {commands.DONE, commands.WRONG}

    @pytest.mark.parametrize("role", [WORKER, READ])
    def test_that_need_another_role_say_so(
        self, comes_as: Callable[[str], None], capsys: pytest.CaptureFixture[str], role: str
    ) -> None:
        comes_as(role)

        assert main(["keys", "list"]) == 2

        assert "the role of DATABASE_URL may not do this" in capsys.readouterr().err


class TestMigrate:
    def test_by_a_role_that_does_not_own_the_tables_says_so(
        self, comes_as: Callable[[str], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        comes_as(WORKER)

        assert main(["migrate"]) == 2

        assert "migrate as their owner" in capsys.readouterr().err

    def test_says_which_roles_have_their_rights(
        self, comes_as: Callable[[str], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        comes_as(OWNER)

        assert main(["migrate"]) == 0

        assert "Roles that have their rights: payments_api, payments_read, payments_worker." in capsys.readouterr().out


class TestReadiness:
    async def test_is_red_for_a_role_that_may_not_do_its_work(self, split: SplitDatabase) -> None:
        with split.connect(OWNER) as owner:
            owner.execute("REVOKE SELECT ON job_runs FROM payments_read")
        settings = Settings(**TEST_KEYS, database_url=SecretStr(split.url(READ)), environment=Environment.LOCAL)
        app = create_app(settings)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api") as client,
        ):
            ready, metrics = await client.get("/health/ready"), await client.get("/metrics")
        with split.connect(OWNER) as owner:
            owner.execute("GRANT SELECT ON job_runs TO payments_read")

        assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "away")
        assert metrics.status_code == 200


class TestPower:
    @pytest.mark.parametrize(("role", "warns"), [("postgres", 1), (OWNER, 1), (API, 0), (WORKER, 0)])
    async def test_that_no_program_needs_is_told_of_at_its_start(
        self, split: SplitDatabase, role: str, warns: int
    ) -> None:
        async with opened(split.url(role)) as sessions:
            with capture_logs() as logs:
                await warn_of_power(sessions)

        assert [entry["event"] for entry in logs] == ["database.role_owns_tables"] * warns

    async def test_is_no_question_worth_waiting_for(self) -> None:
        async with opened("postgresql+psycopg://nobody@127.0.0.1:1/nowhere") as sessions:
            with capture_logs() as logs:
                await warn_of_power(sessions)

        assert [entry["event"] for entry in logs] == ["database.role_not_looked_at"]

    @pytest.mark.parametrize(("environment", "told"), [("production", 1), ("local", 0)])
    async def test_is_told_of_by_the_api_in_production_alone(
        self, split: SplitDatabase, environment: str, told: int
    ) -> None:
        keys = PRODUCTION if environment == "production" else TEST_KEYS
        settings = Settings(**keys, database_url=SecretStr(split.url(OWNER)), environment=Environment(environment))
        with capture_logs() as logs:
            app = create_app(settings)
            async with app.router.lifespan_context(app):
                """It has started; its last words are heard when it stops."""

        assert sum(entry["event"] == "database.role_owns_tables" for entry in logs) == told
