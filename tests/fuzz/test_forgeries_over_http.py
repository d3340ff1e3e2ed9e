"""Forged webhooks against the real server, over a real connection."""

import time
from collections import Counter
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.acceptance.worker_world import environment_for
from tests.fuzz.forgeries import HEX_SECRET, TEXT_SECRET, changed
from tests.integration.test_forged_webhooks import FORGED, IN_ALL, IN_ALL_WITH_PROOF, SEEDS, a_forger, sent
from tests.programs import server


class TestForged:
    async def test_over_http_are_refused_and_leave_nothing(
        self, database: str, tmp_path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
    ) -> None:
        in_proof = bool(pytestconfig.getoption("--proof"))
        count = IN_ALL_WITH_PROOF if in_proof else IN_ALL
        secrets = f"{HEX_SECRET},{TEXT_SECRET}"
        environment = environment_for(
            database, "http://127.0.0.1:1", TOSS_WEBHOOK_SECRETS=secrets, TOSS_WEBHOOK_UNSIGNED="reject"
        )

        with server("payments", "api", environment=environment, log=tmp_path / "log") as (url, _):
            statuses, rate = await send(url, count)

        assert set(statuses) <= {400, 401, 413, 415, 431}
        with psycopg.connect(database.replace("+psycopg", "", 1)) as connection:
            assert connection.execute("SELECT count(*) FROM received_webhooks").fetchone() == (0,)
        if in_proof:
            with capsys.disabled():
                print(f"\n{count:,} forged webhooks over HTTP, {dict(sorted(statuses.items()))}, {rate:,.0f}/s")  # noqa: T201


async def send(url: str, count: int) -> tuple[Counter[int], float]:
    """So many as HTTP can carry; their answers, and how many a second."""
    statuses: Counter[int] = Counter()
    began = time.perf_counter()
    # Less than the server keeps a connection that is idle.
    limits = httpx.Limits(keepalive_expiry=1)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30, limits=limits) as api:
        for _, forgery in changed(a_forger(SEEDS[0]), FORGED):
            try:
                statuses[(await sent(api, forgery)).status_code] += 1
            except httpx.LocalProtocolError:  # a line break in a header, say: the client would not send it
                continue
            if statuses.total() == count:
                break
    return statuses, count / (time.perf_counter() - began)
