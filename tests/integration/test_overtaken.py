"""An answer about a deposit arrives when others have changed the payment: the PG is asked again; nothing is lost."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from payments.db import transaction
from payments.gateways.pg import Answer, Declined, Unknown, UnknownBecause
from payments.models import Payment
from payments.resources import Resources
from payments.states import Cause
from payments.usecases.answers import Question, record
from payments.usecases.reconcile import USUAL_CAP, reconcile
from payments.usecases.recover import claim_due_watches, look_at
from tests.integration.test_strays import today
from tests.integration.webhook_world import delivered, outcomes, status_changed, work_now
from tests.integration.world import (
    AMOUNT,
    Sandbox,
    confirm_body,
    discrepancy_kinds,
    make_due,
    paid,
    prepared,
    read,
)

ACCOUNT = "VIRTUAL_ACCOUNT"


@dataclass
class Overtaking:
    """A PG; before each of its first answers about a payment is recorded, something else happens."""

    pg: Any
    meanwhile: Callable[[], Awaitable[object]]
    times: int = 1

    async def look_up(self, payment_key: str, *, order_id: str, amount: int) -> Answer:
        answer: Answer = await self.pg.look_up(payment_key, order_id=order_id, amount=amount)
        if self.times:
            self.times -= 1
            await self.meanwhile()
        return answer

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - everything else is the PG's own
        return getattr(self.pg, name)


@dataclass
class Silent:
    """A PG that does not answer look-ups."""

    async def look_up(self, payment_key: str, *, order_id: str, amount: int) -> Answer:
        return Unknown(UnknownBecause.NO_ANSWER)


@pytest.fixture
async def late_deposit(api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> str:
    """The payment key of an account that was closed here, and paid into after the buyer has begun another attempt."""
    payment_key = await paid(api, sandbox, method=ACCOUNT)
    await closed(resources, payment_key)
    await prepared(api, method="CARD")
    await sandbox.act(payment_key, "deposit")
    return payment_key


async def closed(resources: Resources, payment_key: str) -> None:
    async with transaction(resources.sessions) as session:
        payment = (await session.scalars(select(Payment))).one()
        question = Question(payment_key, payment.version)
        told = Declined("EXPIRED", "closed")
        await record(session, payment, told, question=question, cause=Cause.RECOVERY, at=payment.created_at)


class TestWebhook:
    async def test_pays_the_order_although_the_buyer_reloads_the_page_meanwhile(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, late_deposit: str
    ) -> None:
        await delivered(api, status_changed(await sandbox.shown(late_deposit)))

        await work_now(resources, pg=Overtaking(resources.pg, lambda: prepared(api, method="CARD")))

        assert (await read(api))["status"] == "COMPLETED"
        assert await discrepancy_kinds(resources) == ["captured_but_failed_here"]
        again = await api.post("/payments/confirm", json=confirm_body(await sandbox.buyer_authenticates()))
        assert (again.status_code, await sandbox.captures()) == (409, [AMOUNT])

    async def test_comes_again_if_others_are_always_faster(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, late_deposit: str
    ) -> None:
        await delivered(api, status_changed(await sandbox.shown(late_deposit)))

        await work_now(resources, pg=Overtaking(resources.pg, lambda: prepared(api, method="CARD"), times=5))
        left = await outcomes(resources)
        await work_now(resources)

        assert (left, await outcomes(resources)) == ([None], ["recorded"])
        assert (await read(api))["status"] == "COMPLETED"

    async def test_believes_no_deposit_that_the_bank_took_back_meanwhile(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, late_deposit: str
    ) -> None:
        await delivered(api, status_changed(await sandbox.shown(late_deposit)))

        async def taken_back() -> None:
            await sandbox.act(late_deposit, "reverse-deposit")
            await prepared(api, method="CARD")

        await work_now(resources, pg=Overtaking(resources.pg, taken_back))

        assert (await read(api))["status"] == "CREATED"


class TestNight:
    async def test_pays_the_order_although_the_buyer_reloads_the_page_meanwhile(
        self, api: httpx.AsyncClient, resources: Resources, late_deposit: str
    ) -> None:
        pg = Overtaking(resources.pg, lambda: prepared(api, method="CARD"))

        report = await reconcile(
            await today(resources), sessions=resources.sessions, pg=pg, cause=Cause.NIGHTLY, cap=USUAL_CAP
        )

        assert (report.repaired, dict(report.found)) == (1, {"captured_but_failed_here": 1})
        assert (await read(api))["status"] == "COMPLETED"


class TestWatch:
    async def test_of_a_closed_account_goes_on_until_the_pg_answers(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=ACCOUNT)
        await closed(resources, payment_key)
        await sandbox.act(payment_key, "deposit")
        async with transaction(resources.sessions) as session:
            payment = (await session.scalars(select(Payment))).one()
            payment.check_at(payment.created_at)  # somebody has seen an answer that others had overtaken

        await looked_at(resources, Silent())
        unanswered = await read(api)
        await make_due(resources)
        await looked_at(resources, resources.pg)

        assert unanswered["status"] == "FAILED"
        assert (await read(api))["status"] == "COMPLETED"


async def looked_at(resources: Resources, pg: Any) -> None:  # noqa: ANN401 - a part of a PG is enough
    every = timedelta(minutes=5)
    for one in await claim_due_watches(sessions=resources.sessions, lease=resources.pg_lease, limit=9):
        await look_at(one, every=every, sessions=resources.sessions, pg=pg)
