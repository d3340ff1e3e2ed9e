"""Real processes, killed at the worst moment."""

import json
import subprocess
import sys
from collections.abc import Iterator

import httpx
import psycopg
import pytest

from payments.local.postgres import LocalPostgres
from tests.acceptance.worker_world import Api, environment_for, numbered, serving_api, until
from tests.conftest import TEMPLATE
from tests.integration.world import AMOUNT, CLIENT_KEY, SECRET_KEY
from tests.local.processes import kill
from tests.programs import BARE_ENVIRONMENT, program, sandbox_server


@pytest.fixture(scope="module")
def pg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The PG, with its control API."""
    books = tmp_path_factory.mktemp("pg") / "sandbox.sqlite3"
    with (
        sandbox_server(books, client_key=CLIENT_KEY, secret_key=SECRET_KEY) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def database(postgres: LocalPostgres) -> Iterator[str]:
    postgres.create_database("crash", template=TEMPLATE)
    yield postgres.url("crash")
    postgres.drop_database("crash")


@pytest.fixture(scope="module")
def environment(database: str, pg: httpx.Client) -> dict[str, str]:
    return environment_for(database, str(pg.base_url))


@pytest.fixture(scope="module")
def api(environment: dict[str, str]) -> Iterator[Api]:
    """Another process, which lives: whom clients come to when one is gone."""
    with serving_api(environment) as (api, _):
        yield api


@pytest.fixture
def order_id() -> str:
    return numbered("crash", 1)[0]


def captures(pg: httpx.Client, order_id: str) -> list[int]:
    ledger = pg.get("/sandbox/ledger", params={"orderId": order_id}).json()
    return [capture["amount"] for capture in ledger["captures"]]


def cancelled(pg: httpx.Client, order_id: str) -> list[int]:
    ledger = pg.get("/sandbox/ledger", params={"orderId": order_id}).json()
    return [cancel["amount"] for cancel in ledger["cancels"]]


def confirms(pg: httpx.Client, order_id: str) -> int:
    calls = pg.get("/sandbox/calls", params={"orderId": order_id}).json()["calls"]
    return sum(call["path"].endswith("/confirm") for call in calls)


def cancels(pg: httpx.Client, payment_key: str) -> int:
    calls = pg.get("/sandbox/calls", params={"paymentKey": payment_key}).json()["calls"]
    return sum(call["path"].endswith("/cancel") for call in calls)


def authenticate(pg: httpx.Client, order_id: str) -> str:
    answer = pg.post("/sandbox/payments", json={"orderId": order_id, "amount": AMOUNT})
    return str(answer.json()["paymentKey"])


def make_due(database: str) -> None:
    """Let the lease of the confirm that died be over."""
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE payments SET next_check_at = now() WHERE next_check_at IS NOT NULL")
        connection.execute("UPDATE refunds SET next_check_at = now() WHERE next_check_at IS NOT NULL")
        connection.execute("UPDATE idempotent_requests SET locked_until = now()")


def resolve_by_hand(environment: dict[str, str]) -> dict[str, object]:
    """An operator runs the command; what it reports about the one refund there is."""
    command = [sys.executable, "-m", "payments", "refunds", "resolve", "--json"]
    run = subprocess.run(
        command, env={**BARE_ENVIRONMENT, **environment}, capture_output=True, text=True, check=True, timeout=60
    )
    assert "asked about 1 of 1 refunds" in run.stderr
    (report,) = json.loads(run.stdout)
    return {name: report[name] for name in ("orderId", "amount", "status")}


class TestKilledApi:
    @pytest.mark.parametrize(
        ("fault", "captured_at_death"),
        [("delay_reply", [AMOUNT]), ("delay", [])],
        ids=["after the capture", "before the capture"],
    )
    def test_a_worker_finishes_what_was_promised(
        self,
        pg: httpx.Client,
        api: Api,
        environment: dict[str, str],
        database: str,
        order_id: str,
        fault: str,
        captured_at_death: list[int],
    ) -> None:
        with serving_api(environment) as (dying, process):
            dying.prepare(order_id)
            payment_key = authenticate(pg, order_id)
            pg.post("/sandbox/faults", json={"operation": "confirm", "kind": fault, "delaySeconds": 3})
            dying.confirm_and_never_hear(payment_key, order_id)
            until(lambda: confirms(pg, order_id) == 1)
            kill(process.pid)
        assert captures(pg, order_id) == captured_at_death
        make_due(database)

        with program("payments", "worker", environment=environment):
            until(lambda: api.status(order_id) == "COMPLETED")

        assert captures(pg, order_id) == [AMOUNT]

    @pytest.mark.parametrize(
        ("fault", "given_back_at_death"),
        [("delay_reply", [5000]), ("delay", [])],
        ids=["after the money went back", "before the money went back"],
    )
    def test_a_refund_is_carried_out_once_by_hand_and_its_client_hears_of_it(
        self,
        pg: httpx.Client,
        api: Api,
        environment: dict[str, str],
        database: str,
        order_id: str,
        fault: str,
        given_back_at_death: list[int],
    ) -> None:
        api.prepare(order_id)
        payment_key = authenticate(pg, order_id)
        api.confirm(payment_key, order_id)
        with serving_api(environment) as (dying, process):
            pg.post("/sandbox/faults", json={"operation": "cancel", "kind": fault, "delaySeconds": 3})
            dying.refund_and_never_hear(5000, key=order_id, order_id=order_id)
            until(lambda: cancels(pg, payment_key) == 1)
            kill(process.pid)
        assert cancelled(pg, order_id) == given_back_at_death
        until(lambda: cancelled(pg, order_id) == [5000])  # Toss carries on with what it was asked

        report = resolve_by_hand(environment)

        make_due(database)
        told = api.refund(5000, key=order_id, order_id=order_id)
        assert api.status(order_id) == "PARTIALLY_REFUNDED"
        assert report == {"orderId": order_id, "amount": 5000, "status": "SUCCEEDED"}
        assert (told.status_code, told.json()["refund"]["status"]) == (200, "SUCCEEDED")
        assert cancelled(pg, order_id) == [5000]
