from datetime import timedelta

import httpx
import pytest
from sqlalchemy import func, select, update

from payments.db import transaction
from payments.models import Payment
from payments.resources import Resources
from tests.integration.world import (
    AMOUNT,
    Sandbox,
    confirm_body,
    discrepancy_kinds,
    prepared,
    read,
    recover_now,
)

MADE_UP = "tviva20260102144639Ab1Cd"


@pytest.fixture
async def stuck(api: httpx.AsyncClient, sandbox: Sandbox) -> str:
    """A payment key whose confirm got lost before the PG saw it, with the PG back again."""
    await prepared(api)
    payment_key = await sandbox.buyer_authenticates()
    await _confirm_unreached(api, sandbox, payment_key)
    return payment_key


class TestRecover:
    async def test_finishes_within_the_window_what_was_promised(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, stuck: str
    ) -> None:
        assert await recover_now(resources) == 1

        assert (await read(api))["status"] == "COMPLETED"
        assert await sandbox.captures() == [AMOUNT]
        assert len({call["idempotencyKey"] for call in await sandbox.confirms()}) == 1

    async def test_after_the_window_never_asks_for_the_money(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, stuck: str
    ) -> None:
        asked = len(await sandbox.confirms())
        await _age(resources, timedelta(minutes=11))

        assert await recover_now(resources) == 0

        assert len(await sandbox.confirms()) == asked
        assert (await read(api))["status"] == "PENDING"

    async def test_an_attempt_that_the_pg_calls_expired_has_failed(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, stuck: str
    ) -> None:
        await sandbox.advance(minutes=11)

        await recover_now(resources)

        assert (await read(api))["failure"]["code"] == "EXPIRED_PAYMENT"

    async def test_waits_until_nothing_can_come_of_a_key_that_the_pg_does_not_know(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        await _confirm_unreached(api, sandbox, MADE_UP)
        await recover_now(resources)
        young = (await read(api))["status"]
        await _age(resources, timedelta(minutes=16))

        await recover_now(resources)

        assert young == "PENDING"
        assert (await read(api))["failure"]["code"] == "NOT_FOUND_PAYMENT"
        assert (await prepared(api)).json()["attempt"] == 2

    async def test_calls_a_person_after_a_day_and_leaves_the_payment_as_it_is(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, stuck: str
    ) -> None:
        await sandbox.arm("lookup", "server_error", times=None)
        await _age(resources, timedelta(hours=25))

        await recover_now(resources)

        assert (await read(api))["status"] == "PENDING"
        assert await discrepancy_kinds(resources) == ["unresolved_24h"]

    async def test_backs_off_from_a_pg_that_answers_and_does_not_know(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, stuck: str
    ) -> None:
        await sandbox.arm("lookup", "server_error", times=None)
        waits = []
        for _ in range(4):
            await recover_now(resources)
            waits.append(await _wait(resources))

        assert waits == sorted(waits)
        assert waits[-1] > timedelta(seconds=50)

    async def test_obeys_the_pgs_retry_after(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, stuck: str
    ) -> None:
        await sandbox.arm("lookup", "too_many_requests", retryAfterSeconds=120)

        await recover_now(resources)

        assert await _wait(resources) > timedelta(seconds=110)


async def _confirm_unreached(api: httpx.AsyncClient, sandbox: Sandbox, payment_key: str) -> None:
    await sandbox.arm("any", "drop_before_effect", times=2)
    answer = await api.post("/payments/confirm", json=confirm_body(payment_key))
    assert answer.status_code == 202
    await sandbox.clear_faults()


async def _age(resources: Resources, by: timedelta) -> None:
    """Let the confirm have begun so much earlier."""
    async with transaction(resources.sessions) as session:
        await session.execute(update(Payment).values(pending_since=Payment.pending_since - by))


async def _wait(resources: Resources) -> timedelta:
    """How long until the PG is asked again."""
    async with transaction(resources.sessions) as session:
        due, now = (await session.execute(select(Payment.next_check_at, func.now()))).one()
    assert due is not None
    return due - now
