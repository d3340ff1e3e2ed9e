"""Random lives of one order from payment to refund, with everything going wrong at once; the books must agree."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import func, or_, select, text

from payments.db import transaction
from payments.models import Payment, Refund
from payments.resources import WORKER, Resources, open_resources
from payments.states import RefundStatus
from tests.integration.world import (
    ACCOUNT,
    AMOUNT,
    ORDER,
    Sandbox,
    announced,
    cancelling,
    confirm_body,
    discrepancy_kinds,
    prepare_body,
    prepared,
    read,
    recover_now,
    resolve_now,
    watch_now,
)

FAULTS = (
    *("drop_before_effect", "drop_reply", "reset", "reset_after_effect", "server_error", "server_error_after_effect"),
    *("too_many_requests", "truncated_json", "wrong_json", "html"),
)
SEEDS = 5
SEEDS_IN_PROOF = 100
ROUNDS_TO_SETTLE = 12
CAPTURED = {"COMPLETED", "PARTIALLY_REFUNDED", "REFUNDED"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        seeds = SEEDS_IN_PROOF if metafunc.config.getoption("--proof") else SEEDS
        metafunc.parametrize("seed", range(seeds))


class Storm:
    """Buyers, a bank, a back office, Toss's console, workers and a PG that fails, all on one order."""

    def __init__(self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, *, seed: int) -> None:
        self._api, self._sandbox, self._resources = api, sandbox, resources
        self._random = random.Random(seed)
        self._method = self._random.choice(["CARD", "VIRTUAL_ACCOUNT"])
        self._keys: list[str] = []
        self._requests: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[httpx.Response] = []
        self.by_key: dict[str, set[bytes]] = {}

    async def begin(self) -> None:
        """A buyer who mostly pays, with whatever can go wrong with that."""
        await prepared(self._api, method=self._method)
        await self._authenticate()
        if self._random.random() < 0.3:
            await self._arm()
        await self._confirm()
        if self._random.random() < 0.7:
            await self._deposit()
            await self._watch()

    async def rage(self) -> None:
        weights = {
            self._arm: 3,
            self._prepare: 1,
            self._authenticate: 1,
            self._confirm: 2,
            self._recover: 2,
            self._cancel: 5,
            self._again: 4,
            self._console: 1,
            self._deposit: 2,
            self._reverse: 1,
            self._watch: 3,
            self._resolve: 2,
        }
        moves = list(weights)
        for _ in range(self._random.randint(4, 9)):
            chosen = self._random.choices(moves, weights=list(weights.values()), k=self._random.randint(1, 7))
            await asyncio.gather(*(self._make(move) for move in chosen))

    async def settle(self) -> None:
        """The weather clears; a fresh worker, whose circuits are closed, goes on until nothing is open any more."""
        await self._sandbox.clear_faults()
        async with open_resources(self._resources.settings, role=WORKER) as worker:
            await _let_patience_end(worker)
            for _ in range(ROUNDS_TO_SETTLE):
                await self._sandbox.advance(minutes=11)
                await recover_now(worker)
                await watch_now(worker)
                await resolve_now(worker)
                if not await _is_anything_open(worker):
                    break
            await watch_now(worker)  # a refund may have found out that the bank took the deposit back
        await self._meet_the_console()

    async def _meet_the_console(self) -> None:
        """A cancel in Toss's console shows with the next refund; webhooks and the nightly check are not here."""
        payment = await read(self._api)
        if payment["refundableAmount"]:
            account = {"refundReceiveAccount": ACCOUNT} if self._method == "VIRTUAL_ACCOUNT" else {}
            await self._ask(f"last-{ORDER}", {"cancelAmount": 1, **account})
            await _let_patience_end(self._resources)
            await resolve_now(self._resources)

    async def _make(self, move: Callable[[], Awaitable[None]]) -> None:
        await move()

    async def _arm(self) -> None:
        operation = self._random.choice(["confirm", "lookup", "cancel", "cancel", "any"])
        await self._sandbox.arm(operation, self._random.choice(FAULTS), times=self._random.randint(1, 3))

    async def _prepare(self) -> None:
        self.answers.append(await self._api.post("/payments/prepare", json=prepare_body(method=self._method)))

    async def _authenticate(self) -> None:
        self._keys.append(await self._sandbox.buyer_authenticates(method=self._method))

    async def _confirm(self) -> None:
        if self._keys:
            body = confirm_body(self._random.choice(self._keys))
            self.answers.append(await self._api.post("/payments/confirm", json=body))

    async def _cancel(self) -> None:
        body = self._body(self._random.choice([None, 1, 1000, 5000, 5000, AMOUNT]))
        self._requests.append((f"request-{len(self._requests)}", body))
        await self._ask(*self._requests[-1])

    async def _again(self) -> None:
        if self._requests:
            await self._ask(*self._random.choice(self._requests))

    async def _ask(self, key: str, body: dict[str, Any]) -> None:
        answer = await cancelling(self._api, key=key, **body)
        self.answers.append(answer)
        if answer.status_code == 200:
            self.by_key.setdefault(key, set()).add(answer.content)

    def _body(self, amount: int | None) -> dict[str, Any]:
        is_to_account = self._method == "VIRTUAL_ACCOUNT" and self._random.random() < 0.8
        return {
            **({} if amount is None else {"cancelAmount": amount}),
            **({"refundReceiveAccount": ACCOUNT} if is_to_account else {}),
        }

    async def _console(self) -> None:
        await self._at_the_pg("cancel", amount=self._random.choice([1, 1000]))

    async def _deposit(self) -> None:
        await self._at_the_pg("deposit")

    async def _reverse(self) -> None:
        await self._at_the_pg("reverse-deposit")

    async def _at_the_pg(self, verb: str, **more: object) -> None:
        if self._keys:
            key = self._random.choice(self._keys)
            await self._sandbox.http.post(f"/sandbox/payments/{key}/{verb}", json=more)  # refused is fine

    async def _recover(self) -> None:
        await recover_now(self._resources)

    async def _watch(self) -> None:
        await watch_now(self._resources)

    async def _resolve(self) -> None:
        await resolve_now(self._resources)


async def _let_patience_end(resources: Resources) -> None:
    """No client comes back with the account of a refund any more."""
    async with transaction(resources.sessions) as session:
        await session.execute(text("UPDATE refunds SET requested_at = requested_at - interval '11 minutes'"))


async def _is_anything_open(resources: Resources) -> bool:
    async with transaction(resources.sessions) as session:
        undecided = select(func.count()).select_from(Refund).where(Refund.status == RefundStatus.REQUESTED)
        unknown = (
            select(func.count())
            .select_from(Payment)
            .where(or_(Payment.status == "PENDING", Payment.cancel_key.is_not(None)))
        )
        return bool(await session.scalar(undecided)) or bool(await session.scalar(unknown))


class TestStorm:
    async def test_leaves_all_books_in_agreement(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, seed: int
    ) -> None:
        storm = Storm(api, sandbox, resources, seed=seed)

        await storm.begin()
        await storm.rage()
        await storm.settle()

        payment = await read(api)
        ledger = (await sandbox.http.get("/sandbox/ledger", params={"orderId": ORDER})).json()
        held = {name: sum(movement["amount"] for movement in rows) for name, rows in ledger.items()}
        assert {answer.status_code for answer in storm.answers} <= {200, 201, 202, 402, 409, 422, 503}
        assert all(len(contents) == 1 for contents in storm.by_key.values())
        assert held["captures"] - held["reversals"] in {0, AMOUNT}
        assert (payment["status"] in CAPTURED) == (held["captures"] - held["reversals"] == AMOUNT)
        assert payment["refundedAmount"] == held["cancels"]
        given_back = [refund["amount"] for refund in payment["refunds"] if refund["status"] == "SUCCEEDED"]
        assert sorted(given_back) == sorted(cancel["amount"] for cancel in ledger["cancels"])
        assert (await announced(resources)).count("payment.refunded") == len(given_back)
        assert await discrepancy_kinds(resources) == []
