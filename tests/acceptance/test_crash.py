"""Real processes, killed at the worst moment."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.integration.world import (
    AMOUNT,
    CLIENT_KEY,
    ORDER,
    SECRET_KEY,
    SHOP,
    confirm_body,
    prepare_body,
)
from tests.local.processes import eventually, kill
from tests.programs import program, sandbox_server, server


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
    return {
        "ENVIRONMENT": "local",
        "DATABASE_URL": database,
        "TOSS_API_URL": str(pg.base_url),
        "TOSS_CLIENT_KEY": CLIENT_KEY,
        "TOSS_SECRET_KEY": SECRET_KEY,
        "ALLOWED_ORIGINS": SHOP,
    }


def captures(pg: httpx.Client) -> list[int]:
    ledger = pg.get("/sandbox/ledger", params={"orderId": ORDER}).json()
    return [capture["amount"] for capture in ledger["captures"]]


def confirms(pg: httpx.Client) -> int:
    calls = pg.get("/sandbox/calls", params={"orderId": ORDER}).json()["calls"]
    return sum(call["path"].endswith("/confirm") for call in calls)


class Api:
    """What a browser asks of the API."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def prepare(self) -> None:
        self._http.post("/payments/prepare", json=prepare_body()).raise_for_status()

    def confirm_and_never_hear(self, payment_key: str) -> None:
        """Send the request and hang up: the process that answers it will not live."""
        with pytest.raises(httpx.HTTPError):
            self._http.post("/payments/confirm", json=confirm_body(payment_key), timeout=1)

    def status(self) -> str:
        return str(self._http.get(f"/payments/orders/{ORDER}").json()["status"])


@contextmanager
def serving_api(environment: dict[str, str]) -> Iterator[tuple[Api, subprocess.Popen[bytes]]]:
    with (
        server("payments", "api", environment=environment) as (url, process),
        httpx.Client(base_url=url, trust_env=False, timeout=30) as http,
    ):
        yield Api(http), process


def authenticate(pg: httpx.Client) -> str:
    answer = pg.post("/sandbox/payments", json={"orderId": ORDER, "amount": AMOUNT})
    return str(answer.json()["paymentKey"])


def make_due(database: str) -> None:
    """Let the lease of the confirm that died be over."""
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE payments SET next_check_at = now()")


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
