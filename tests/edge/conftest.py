"""The API as a process of its own. It needs no database to refuse what never gets that far."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.integration.world import CLIENT_KEY, SECRET_KEY, SHOP
from tests.programs import server, server_with_ops

NOWHERE: Final = "postgresql+psycopg://nobody@127.0.0.1:1/nowhere"
LOCAL: Final = {
    "ENVIRONMENT": "local",
    "DATABASE_URL": NOWHERE,
    "TOSS_CLIENT_KEY": CLIENT_KEY,
    "TOSS_SECRET_KEY": SECRET_KEY,
    "ALLOWED_ORIGINS": SHOP,
}
PRODUCTION: Final = {
    **LOCAL,
    "ENVIRONMENT": "production",
    "DATABASE_URL": "postgresql+psycopg://nobody:of-no-account-at-all@127.0.0.1:1/nothing",
    "TOSS_CLIENT_KEY": "live_ck_of_nobody_in_particular",
    "TOSS_SECRET_KEY": "live_sk_of_nobody_in_particular",
}


@pytest.fixture(scope="session")
def port() -> Iterator[int]:
    """The port of a running API, in the local environment."""
    with server("payments", "api", environment=LOCAL) as (url, _):
        yield urlsplit(url).port or 0


@dataclass(frozen=True)
class Running:
    """An API with a port for probes and monitoring, and what it logs."""

    port: int
    ops_port: int
    log: Path

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines about this event; the last one may be written only half."""
        lines = self.log.read_text(encoding="utf-8").splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return [one for one in events if one["event"] == event]


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running API in production."""
    log = tmp_path_factory.mktemp("edge") / "log"
    with server_with_ops("payments", "api", environment=PRODUCTION, log=log) as (port, ops_port, _):
        yield Running(port, ops_port, log)
