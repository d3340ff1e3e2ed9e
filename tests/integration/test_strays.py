from datetime import date

import httpx
import pytest
from sqlalchemy import func, select, update

from payments.business_day import day_of
from payments.db import transaction
from payments.models import StrayCapture
from payments.nightly import reconcile_day
from payments.queries import database_now
from payments.records import Discrepancy
from payments.resources import Resources
from payments.states import PaymentStatus
from payments.usecases.give_back import claim_due_strays, give_back
from tests.integration.world import AMOUNT, ORDER, Sandbox, announced, cancelling, paid, prepared, read, recover_now


async def captured_elsewhere(sandbox: Sandbox, *, method: str = "CARD") -> str:
    """Somebody captured money for the order at the PG itself; its payment key."""
    body = {"payments": [{"orderId": ORDER, "amount": AMOUNT, "method": method}]}
    answer = await sandbox.http.post("/sandbox/import", json=body)
    answer.raise_for_status()
    payment_key: str = answer.json()["payments"][0]["paymentKey"]
    return payment_key


async def today(resources: Resources) -> date:
    async with transaction(resources.sessions) as session:
        return day_of(await database_now(session))


async def reconciled(resources: Resources) -> None:
    """The nightly comparison with the PG, of today."""
    await reconcile_day(resources, await today(resources))


async def given_back(resources: Resources) -> int:
    """A worker gives back what was found; how many captures it asked about."""
    due = await claim_due_strays(sessions=resources.sessions, lease=resources.pg_lease, limit=10)
    for one in due:
        await give_back(one, sessions=resources.sessions, pg=resources.pg)
    return len(due)


async def strays_are_due(resources: Resources) -> None:
    """The pause until the next try is over."""
    async with transaction(resources.sessions) as session:
        await session.execute(update(StrayCapture).values(next_check_at=func.now()))


async def open_discrepancies(resources: Resources) -> list[str]:
    async with transaction(resources.sessions) as session:
        found = await session.scalars(select(Discrepancy.kind).where(Discrepancy.resolved_at.is_(None)))
        return [kind.value for kind in found]


class TestSecondCapture:
    """An order that is paid keeps one capture, whoever made the other one."""

    async def test_goes_back_by_itself_and_the_order_stays_paid(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await captured_elsewhere(sandbox)

        await reconciled(resources)
        await given_back(resources)

        assert (await sandbox.captures(), await sandbox.cancelled()) == ([AMOUNT, AMOUNT], [AMOUNT])
        assert (await read(api))["status"] == PaymentStatus.COMPLETED
        assert await open_discrepancies(resources) == []
        assert await announced(resources) == ["payment.completed"]

    async def test_goes_back_once_however_often_it_is_found(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await captured_elsewhere(sandbox)

        for _ in range(3):
            await reconciled(resources)
            await given_back(resources)

        assert await sandbox.cancelled() == [AMOUNT]

    @pytest.mark.parametrize("fault", ["drop_reply", "server_error_after_effect", "truncated_json"])
    async def test_goes_back_once_although_the_answer_was_lost(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, fault: str
    ) -> None:
        await paid(api, sandbox)
        payment_key = await captured_elsewhere(sandbox)
        await reconciled(resources)
        await sandbox.arm("cancel", fault, paymentKey=payment_key)

        await given_back(resources)
        again = await given_back(resources)

        assert again == 0
        assert await sandbox.cancelled() == [AMOUNT]
        assert await open_discrepancies(resources) == []

    async def test_goes_back_although_the_pg_says_not_now(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        payment_key = await captured_elsewhere(sandbox)
        await reconciled(resources)
        refusal = {"status": 403, "code": "FORBIDDEN_CONSECUTIVE_REQUEST", "paymentKey": payment_key}
        await sandbox.arm("cancel", "error_before_effect", **refusal)

        await given_back(resources)
        refused = await sandbox.cancelled()
        await strays_are_due(resources)
        await given_back(resources)

        assert (refused, await sandbox.cancelled()) == ([], [AMOUNT])

    async def test_goes_back_as_far_as_somebody_has_not_given_it_back_before(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        payment_key = await captured_elsewhere(sandbox)
        await reconciled(resources)
        await sandbox.act(payment_key, "cancel", amount=5000)

        await given_back(resources)
        await strays_are_due(resources)
        await given_back(resources)

        assert await sandbox.cancelled() == [5000, AMOUNT - 5000]
        assert await open_discrepancies(resources) == []

    async def test_that_the_pg_will_never_give_back_calls_a_person_again(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        payment_key = await captured_elsewhere(sandbox)
        await reconciled(resources)
        refusal = {"status": 403, "code": "NOT_CANCELABLE_PAYMENT", "paymentKey": payment_key}
        await sandbox.arm("cancel", "error_before_effect", **refusal)

        await given_back(resources)

        assert await given_back(resources) == 0
        assert sorted(await open_discrepancies(resources)) == ["captured_but_failed_here", "stray_not_given_back"]

    async def test_that_a_bank_took_in_is_left_to_a_person_who_can_ask_for_an_account(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await captured_elsewhere(sandbox, method="VIRTUAL_ACCOUNT")

        await reconciled(resources)

        assert await given_back(resources) == 0
        assert await open_discrepancies(resources) == ["captured_but_failed_here"]


class TestCaptureOfACancelledOrder:
    async def test_goes_back_by_itself(self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> None:
        await prepared(api)
        (await cancelling(api)).raise_for_status()
        await captured_elsewhere(sandbox)

        await reconciled(resources)
        await given_back(resources)

        assert (await sandbox.captures(), await sandbox.cancelled()) == ([AMOUNT], [AMOUNT])
        assert (await read(api))["status"] == PaymentStatus.CANCELLED
        assert await open_discrepancies(resources) == []


class TestCaptureOfAnOrderNobodyConfirmed:
    async def test_pays_the_order_and_a_person_is_told(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        payment_key = await captured_elsewhere(sandbox)

        await reconciled(resources)

        payment = await read(api)
        assert (payment["status"], payment["paymentKey"]) == (PaymentStatus.COMPLETED, payment_key)
        assert await open_discrepancies(resources) == ["captured_but_unknown_here"]
        assert (await recover_now(resources), await sandbox.captures()) == (0, [AMOUNT])
