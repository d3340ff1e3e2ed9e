"""How long prepare, confirm and read take, over HTTP, with everything on this machine: `python -m bench.confirm`.

The load generator (httpx), the API (one process), the sandbox and PostgreSQL (fsync on) share the machine's cores, so
the figures are lower bounds, and only good for comparing one state of the code with another on the same machine.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
from tests.keys import AUTHORIZATION, let_in

from payments.local.postgres import LocalPostgres
from payments.schema import migrate

SHOP = "http://shop.example"
CLIENT_KEY = "test_ck_sandbox0000000000000000000000"
SECRET_KEY = "test_sk_sandbox0000000000000000000000"  # noqa: S105 - the sandbox's public test key
API_PORT, SANDBOX_PORT = 28_000, 28_100
AMOUNT = 15_000
CLIENTS = (1, 16)
MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class Measured:
    what: str
    clients: int
    seconds: list[float]
    wall: float

    def row(self) -> str:
        ordered = sorted(self.seconds)
        p50 = statistics.median(ordered) * MILLISECONDS
        p99 = ordered[int(len(ordered) * 0.99)] * MILLISECONDS
        return f"{self.what:<22} {self.clients:>7} {len(ordered) / self.wall:>8.0f}/s {p50:>8.1f} ms {p99:>8.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.confirm", description=__doc__)
    parser.add_argument("--orders", type=int, default=300, help="how many payments each measurement makes")
    orders: int = parser.parse_args().orders
    with tempfile.TemporaryDirectory(prefix="payments-bench-") as home, LocalPostgres(Path(home, "pg")) as postgres:
        postgres.create_database("bench")
        migrate(postgres.url("bench"))
        let_in(postgres.url("bench"))
        with _servers(Path(home), postgres.url("bench")):
            asyncio.run(_measure_all(orders))


@contextmanager
def _servers(home: Path, database: str) -> Iterator[None]:
    environment = {
        **os.environ,
        "ENVIRONMENT": "local",
        "DATABASE_URL": database,
        "TOSS_API_URL": f"http://127.0.0.1:{SANDBOX_PORT}",
        "TOSS_CLIENT_KEY": CLIENT_KEY,
        "TOSS_SECRET_KEY": SECRET_KEY,
        "ALLOWED_ORIGINS": SHOP,
        "RATE_LIMIT_BUYERS": "1000000/second",
        "RATE_LIMIT_CLIENTS": "1000000/second",
    }
    sandbox = ["toss_sandbox", "serve", "--port", str(SANDBOX_PORT), "--data", str(home / "sandbox.sqlite3")]
    api = ["payments", "api", "--port", str(API_PORT)]
    with (
        Path(home, "log").open("wb") as log,
        subprocess.Popen([sys.executable, "-m", *sandbox], env=environment, stdout=log) as first,  # noqa: S603 - ours
        subprocess.Popen([sys.executable, "-m", *api], env=environment, stdout=log) as second,  # noqa: S603 - ours
    ):
        try:
            yield
        finally:
            first.terminate()
            second.terminate()


async def _measure_all(orders: int) -> None:
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(trust_env=False, timeout=60, limits=limits, headers=AUTHORIZATION) as http:
        await _until_live(http, API_PORT)
        await _until_live(http, SANDBOX_PORT)
        print(f"{'':<22} {'clients':>7} {'rate':>10} {'p50':>11} {'p99':>11}")
        for clients in CLIENTS:
            await _measure_with(http, clients, [f"bench-{clients:02}-{number:06}" for number in range(orders)])


async def _measure_with(http: httpx.AsyncClient, clients: int, ids: Sequence[str]) -> None:
    ours = {order: await _authenticate(http, order) for order in ids}
    theirs = {order: await _authenticate(http, f"pg-{order}") for order in ids}
    calls = {
        "prepare": partial(_prepare, http),
        "confirm": partial(_confirm, http, ours),
        "read": partial(_read, http),
        "the PG by itself": partial(_pg, http, theirs),
    }
    for what, call in calls.items():
        print((await _measure(what, clients, ids, call)).row())


async def _measure(
    what: str, clients: int, orders: Sequence[str], call: Callable[[str], Awaitable[httpx.Response]]
) -> Measured:
    left = list(reversed(orders))
    seconds: list[float] = []

    async def client() -> None:
        while left:
            order, began = left.pop(), time.perf_counter()
            (await call(order)).raise_for_status()
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Measured(what, clients, seconds, time.perf_counter() - began)


async def _prepare(http: httpx.AsyncClient, order: str) -> httpx.Response:
    body = {
        "orderId": order,
        "amount": AMOUNT,
        "method": "CARD",
        "customerEmail": "bench@example.com",
        "successUrl": f"{SHOP}/success",
        "failUrl": f"{SHOP}/fail",
    }
    return await http.post(f"http://127.0.0.1:{API_PORT}/payments/prepare", json=body)


async def _confirm(http: httpx.AsyncClient, keys: Mapping[str, str], order: str) -> httpx.Response:
    body = {"paymentKey": keys[order], "orderId": order, "amount": AMOUNT}
    return await http.post(f"http://127.0.0.1:{API_PORT}/payments/confirm", json=body)


async def _read(http: httpx.AsyncClient, order: str) -> httpx.Response:
    return await http.get(f"http://127.0.0.1:{API_PORT}/payments/orders/{order}")


async def _pg(http: httpx.AsyncClient, keys: Mapping[str, str], order: str) -> httpx.Response:
    body = {"paymentKey": keys[order], "orderId": f"pg-{order}", "amount": AMOUNT}
    url = f"http://127.0.0.1:{SANDBOX_PORT}/v1/payments/confirm"
    return await http.post(url, json=body, auth=(SECRET_KEY, ""), headers={"idempotency-key": order})


async def _authenticate(http: httpx.AsyncClient, order: str) -> str:
    body = {"orderId": order, "amount": AMOUNT}
    answer = await http.post(f"http://127.0.0.1:{SANDBOX_PORT}/sandbox/payments", json=body)
    payment_key: str = answer.json()["paymentKey"]
    return payment_key


async def _until_live(http: httpx.AsyncClient, port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await http.get(f"http://127.0.0.1:{port}/health/live")
            except httpx.ConnectError:
                await asyncio.sleep(0.1)
            else:
                return


if __name__ == "__main__":
    main()
