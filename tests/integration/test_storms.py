"""Random lives of one order, with everything going wrong at once; in the end the books must agree."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import httpx
import pytest
from sqlalchemy import select

from payments.db import transaction
from payments.models import PaymentEvent
from payments.resources import WORKER, Resources, open_resources
from payments.states import PaymentStatus, allowed_edges
from tests.integration.world import (
    AMOUNT,
    Sandbox,
    announced,
    confirm_body,
    discrepancy_kinds,
    prepare_body,
    prepared,
    read,
    recover_now,
)

pytestmark = pytest.mark.usefixtures("path")
FAULTS = (
    "drop_before_effect",
    "drop_reply",
    "reset",
    "reset_after_effect",
    "server_error",
    "server_error_after_effect",
    "too_many_requests",
    "truncated_json",
    "wrong_json",
    "html",
)
REFUSALS = (None, None, None, "REJECT_CARD_PAYMENT", "INVALID_STOPPED_CARD")
SEEDS = 5
SEEDS_IN_PROOF = 300
ROUNDS_TO_SETTLE = 10


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        seeds = SEEDS_IN_PROOF if metafunc.config.getoption("--proof") else SEEDS
        metafunc.parametrize("seed", range(seeds))


class Storm:
    """Buyers in several tabs, workers, a PG that fails, all on one order."""

    def __init__(self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, *, seed: int) -> None:
        self._api = api
        self._sandbox = sandbox
        self._resources = resources
        self._random = random.Random(seed)
        self._keys: list[str] = []
        self.answers: list[httpx.Response] = []

    async def rage(self) -> None:
        for _ in range(self._random.randint(3, 8)):
            moves = self._random.choices(
                [self._arm, self._prepare, self._authenticate, self._confirm, self._recover, self._wait],
                weights=[3, 3, 3, 6, 3, 1],
                k=self._random.randint(1, 8),
            )
            await asyncio.gather(*(self._make(move) for move in moves))

    async def settle(self) -> None:
        """The weather clears; a fresh worker, whose circuit is closed, goes on until nothing is open any more."""
        await self._sandbox.clear_faults()
        async with open_resources(self._resources.settings, role=WORKER) as worker:
            on_path = worker if self._resources.hot else replace(worker, hot=None)
            for _ in range(ROUNDS_TO_SETTLE):
                await self._sandbox.advance(minutes=11)
                await recover_now(on_path)
                if (await read(self._api))["status"] != "PENDING":
                    return

    async def _make(self, move: Callable[[], Awaitable[None]]) -> None:
        await move()

    async def _arm(self) -> None:
        operation = self._random.choice(["confirm", "lookup", "any"])
        await self._sandbox.arm(operation, self._random.choice(FAULTS), times=self._random.randint(1, 3))

    async def _prepare(self) -> None:
        self.answers.append(await self._api.post("/payments/prepare", json=prepare_body()))

    async def _authenticate(self) -> None:
        self._keys.append(await self._sandbox.buyer_authenticates(refuseWith=self._random.choice(REFUSALS)))

    async def _confirm(self) -> None:
        if self._keys:
            body = confirm_body(self._random.choice(self._keys))
            self.answers.append(await self._api.post("/payments/confirm", json=body))

    async def _recover(self) -> None:
        await recover_now(self._resources)

    async def _wait(self) -> None:
        await self._sandbox.advance(minutes=self._random.choice([1, 11]))


class TestStorm:
    async def test_leaves_all_books_in_agreement(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, seed: int
    ) -> None:
        await prepared(api)
        storm = Storm(api, sandbox, resources, seed=seed)

        await storm.rage()
        await storm.settle()

        payment = await read(api)
        captures = await sandbox.captures()
        assert {answer.status_code for answer in storm.answers} <= {200, 201, 202, 402, 409, 503}
        assert captures in ([], [AMOUNT])
        assert (payment["status"] == "COMPLETED") == (captures == [AMOUNT])
        assert payment["status"] in {"CREATED", "FAILED", "COMPLETED"}
        assert (await announced(resources)).count("payment.completed") == len(captures)
        assert await discrepancy_kinds(resources) == []
        await _check_history(resources, payment["status"])


async def _check_history(resources: Resources, status: str) -> None:
    """Without gaps, only allowed moves, each beginning where the last one ended, failures with evidence."""
    async with transaction(resources.sessions) as session:
        events = (await session.scalars(select(PaymentEvent).order_by(PaymentEvent.sequence))).all()
    edges = [(event.from_status, event.to_status) for event in events]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert set(edges) <= set(allowed_edges())
    assert [end for _, end in edges[:-1]] == [start for start, _ in edges[1:]]
    assert edges[-1][1] == status
    assert all(event.pg_code for event in events if event.to_status is PaymentStatus.FAILED)
