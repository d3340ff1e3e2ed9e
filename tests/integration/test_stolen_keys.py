"""The payment key of one order is confirmed for another one: it belongs to the order that the PG shows."""

from datetime import timedelta

import httpx
from sqlalchemy import update

from payments.db import transaction
from payments.models import EXPIRES_AFTER, Payment
from payments.resources import Resources
from tests.integration.test_expiry import expire_due
from tests.integration.test_strays import captured_elsewhere, given_back, reconciled
from tests.integration.webhook_world import delivered, outcomes, status_changed, work_now
from tests.integration.world import (
    AMOUNT,
    ORDER,
    Sandbox,
    cancelling,
    confirm_body,
    discrepancy_kinds,
    prepared,
    read,
    recover_now,
)

THIEF = "order-of-a-thief"


async def stolen(api: httpx.AsyncClient, payment_key: str) -> httpx.Response:
    """Somebody confirms another order's payment key for an order of the same amount."""
    await prepared(api, THIEF)
    return await api.post("/payments/confirm", json=confirm_body(payment_key, THIEF))


async def let_pass(resources: Resources, time: timedelta, order_id: str) -> None:
    earlier = {
        "prepared_at": Payment.prepared_at - time,
        "pending_since": Payment.pending_since - time,
        "next_check_at": Payment.next_check_at - time,
    }
    async with transaction(resources.sessions) as session:
        await session.execute(update(Payment).where(Payment.order_id == order_id).values(earlier))


class TestWhoeverConfirmsIt:
    async def test_has_failed_once_the_pg_says_that_it_is_another_orders(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        answer = await stolen(api, await captured_elsewhere(sandbox))
        await recover_now(resources)
        young = (await read(api, THIEF))["status"]
        await let_pass(resources, timedelta(minutes=16), THIEF)

        await recover_now(resources)

        assert (answer.status_code, young) == (202, "PENDING")
        assert (await read(api, THIEF))["failure"]["code"] == "KEY_OF_ANOTHER_ORDER"
        assert (await prepared(api, THIEF)).json()["attempt"] == 2

    async def test_stays_pending_while_the_pg_shows_the_order_itself_under_it(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        """A look-up that names a wrong order is a fault of the PG: the order has been paid."""
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "drop_reply")
        await sandbox.arm("lookup", "wrong_order", times=2)
        await api.post("/payments/confirm", json=confirm_body(payment_key))
        await let_pass(resources, timedelta(minutes=16), ORDER)

        await recover_now(resources)
        doubted = (await read(api))["status"]
        await recover_now(resources)

        assert (doubted, (await read(api))["status"]) == ("PENDING", "COMPLETED")
        assert await sandbox.captures() == [AMOUNT]

    async def test_stays_pending_while_the_pg_does_not_say_what_it_has_for_the_order(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        await stolen(api, await captured_elsewhere(sandbox))
        await let_pass(resources, timedelta(minutes=16), THIEF)
        await sandbox.arm("lookup", "server_error", times=None, orderId=THIEF)

        await recover_now(resources)

        assert (await read(api, THIEF))["status"] == "PENDING"


class TestWhoseItIs:
    async def test_is_paid_by_it_when_the_other_one_has_failed(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        payment_key = await captured_elsewhere(sandbox)
        await stolen(api, payment_key)
        await let_pass(resources, EXPIRES_AFTER + timedelta(seconds=1), ORDER)
        await expire_due(resources)
        meanwhile = (await read(api))["status"]
        told_meanwhile = await discrepancy_kinds(resources)
        await let_pass(resources, timedelta(minutes=16), THIEF)
        await recover_now(resources)
        await let_pass(resources, timedelta(hours=1), ORDER)

        await expire_due(resources)

        assert meanwhile == "CREATED"
        assert "captured_but_unknown_here" in told_meanwhile
        paid = await read(api)
        assert (paid["status"], paid["paymentKey"]) == ("COMPLETED", payment_key)
        thief = await read(api, THIEF)
        assert (thief["status"], thief["paymentKey"]) == ("FAILED", None)

    async def test_gets_its_money_back_if_it_was_given_up(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        """Whoever holds the key here, the night goes by the order that the PG's list shows."""
        await prepared(api)
        (await cancelling(api)).raise_for_status()
        await stolen(api, await captured_elsewhere(sandbox))

        await reconciled(resources)
        await given_back(resources)

        assert await sandbox.cancelled() == [AMOUNT]

    async def test_is_asked_about_when_the_pg_tells_of_it(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        (await cancelling(api)).raise_for_status()
        payment_key = await captured_elsewhere(sandbox)
        await stolen(api, payment_key)

        await delivered(api, status_changed(await sandbox.shown(payment_key)))
        await work_now(resources)
        await given_back(resources)

        assert await outcomes(resources) == ["recorded"]
        assert await sandbox.cancelled() == [AMOUNT]
