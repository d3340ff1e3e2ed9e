"""Real processes, killed at the worst moment."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.acceptance.worker_world import environment_for, serving_api
from tests.integration.world import AMOUNT, CLIENT_KEY, ORDER, SECRET_KEY
from tests.local.processes import eventually, kill
from tests.programs import BARE_ENVIRONMENT, program, sandbox_server


@pytest.fixture
def pg(tmp_path: Path) -> Iterator[httpx.Client]:
    """The PG, with its control API."""
    with (
        sandbox_server(tmp_path / "sandbox.sqlite3", client_key=CLIENT_KEY, secret_key=SECRET_KEY) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as client,
    ):
        yield client


@pytest.fixture
def environment(database: str, pg: httpx.Client) -> dict[str, str]:
    return environment_for(database, str(pg.base_url))


def captures(pg: httpx.Client) -> list[int]:
    ledger = pg.get("/sandbox/ledger", params={"orderId": ORDER}).json()
    return [capture["amount"] for capture in ledger["captures"]]


def cancelled(pg: httpx.Client) -> list[int]:
    ledger = pg.get("/sandbox/ledger", params={"orderId": ORDER}).json()
    return [cancel["amount"] for cancel in ledger["cancels"]]


def confirms(pg: httpx.Client) -> int:
    calls = pg.get("/sandbox/calls", params={"orderId": ORDER}).json()["calls"]
    return sum(call["path"].endswith("/confirm") for call in calls)


def cancels(pg: httpx.Client, payment_key: str) -> int:
    calls = pg.get("/sandbox/calls", params={"paymentKey": payment_key}).json()["calls"]
    return sum(call["path"].endswith("/cancel") for call in calls)


def authenticate(pg: httpx.Client) -> str:
    answer = pg.post("/sandbox/payments", json={"orderId": ORDER, "amount": AMOUNT})
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
        self, pg: httpx.Client, environment: dict[str, str], database: str, fault: str, captured_at_death: list[int]
    ) -> None:
        with serving_api(environment) as (api, process):
            api.prepare()
            payment_key = authenticate(pg)
            pg.post("/sandbox/faults", json={"operation": "confirm", "kind": fault, "delaySeconds": 3})
            api.confirm_and_never_hear(payment_key)
            eventually(lambda: confirms(pg) == 1)
            kill(process.pid)
        assert captures(pg) == captured_at_death
        make_due(database)

        with (
            program("payments", "worker", environment=environment),
            serving_api(environment) as (api, _),
        ):
            eventually(lambda: api.status() == "COMPLETED")

        assert captures(pg) == [AMOUNT]

    @pytest.mark.parametrize(
        ("fault", "given_back_at_death"),
        [("delay_reply", [5000]), ("delay", [])],
        ids=["after the money went back", "before the money went back"],
    )
    def test_a_refund_is_carried_out_once_by_hand_and_its_client_hears_of_it(
        self, pg: httpx.Client, environment: dict[str, str], database: str, fault: str, given_back_at_death: list[int]
    ) -> None:
        with serving_api(environment) as (api, process):
            api.prepare()
            payment_key = authenticate(pg)
            api.confirm(payment_key)
            pg.post("/sandbox/faults", json={"operation": "cancel", "kind": fault, "delaySeconds": 3})
            api.refund_and_never_hear(5000, key="one")
            eventually(lambda: cancels(pg, payment_key) == 1)
            kill(process.pid)
        assert cancelled(pg) == given_back_at_death
        eventually(lambda: cancelled(pg) == [5000])  # Toss carries on with what it was asked

        report = resolve_by_hand(environment)

        make_due(database)
        with serving_api(environment) as (api, _):
            told = api.refund(5000, key="one")
            assert api.status() == "PARTIALLY_REFUNDED"
        assert report == {"orderId": ORDER, "amount": 5000, "status": "SUCCEEDED"}
        assert (told.status_code, told.json()["refund"]["status"]) == (200, "SUCCEEDED")
        assert cancelled(pg) == [5000]
