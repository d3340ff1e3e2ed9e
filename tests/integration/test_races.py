import asyncio
from collections import Counter

import httpx
import pytest
from sqlalchemy import func, select

from payments.db import transaction
from payments.models import Payment
from payments.resources import Resources
from payments.usecases.recover import recover
from tests.integration.world import (
    AMOUNT,
    Sandbox,
    announced,
    confirm_body,
    make_due,
    prepare_body,
    prepared,
    read,
    until,
)

pytestmark = pytest.mark.usefixtures("path")
ROUNDS_IN_PROOF = 20


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A race that is run once may be won by luck."""
    metafunc.fixturenames.append("round_number")
    metafunc.parametrize("round_number", range(ROUNDS_IN_PROOF if metafunc.config.getoption("--proof") else 1))


class TestSimultaneously:
    async def test_fifty_confirms_of_one_order_make_one_capture(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        body = confirm_body(await sandbox.buyer_authenticates())

        answers = await asyncio.gather(*(api.post("/payments/confirm", json=body) for _ in range(50)))

        assert {answer.status_code for answer in answers} <= {200, 202}
        assert {answer.json()["paymentKey"] for answer in answers} == {body["paymentKey"]}
        assert await sandbox.captures() == [AMOUNT]
        assert len(await sandbox.confirms()) == 1
        assert await announced(resources) == ["payment.completed"]

    async def test_confirms_from_two_payment_windows_make_one_capture(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepared(api)
        keys = [await sandbox.buyer_authenticates() for _ in range(2)]

        answers = await asyncio.gather(
            *(api.post("/payments/confirm", json=confirm_body(key)) for key in keys for _ in range(10))
        )

        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) <= {200, 202, 409}
        assert statuses[409] == 10
        assert await sandbox.captures() == [AMOUNT]

    async def test_first_prepares_of_one_order_make_one_payment(
        self, api: httpx.AsyncClient, resources: Resources
    ) -> None:
        answers = await asyncio.gather(*(api.post("/payments/prepare", json=prepare_body()) for _ in range(30)))

        statuses = Counter(answer.status_code for answer in answers)
        assert statuses[201] == 1
        assert set(statuses) <= {200, 201, 409}
        async with transaction(resources.sessions) as session:
            assert await session.scalar(select(func.count()).select_from(Payment)) == 1

    async def test_a_retry_is_opened_once(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        refused = await sandbox.buyer_authenticates(refuseWith="INVALID_STOPPED_CARD")
        await api.post("/payments/confirm", json=confirm_body(refused))

        await asyncio.gather(*(api.post("/payments/prepare", json=prepare_body()) for _ in range(20)))

        assert (await read(api))["attempt"] == 2

    async def test_prepares_beside_a_confirm_never_undo_it(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        body = confirm_body(await sandbox.buyer_authenticates())

        answers = await asyncio.gather(
            api.post("/payments/confirm", json=body),
            *(api.post("/payments/prepare", json=prepare_body()) for _ in range(20)),
        )

        assert answers[0].status_code == 200
        assert (await read(api))["status"] == "COMPLETED"
        assert await sandbox.captures() == [AMOUNT]


class TestRecoveryBesideOthers:
    async def test_a_confirm_under_way_is_not_taken_over(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "delay", delaySeconds=0.5)
        confirm = asyncio.create_task(api.post("/payments/confirm", json=confirm_body(payment_key)))
        await until(sandbox.confirms)

        decided = await _recover(resources)

        assert decided == 0
        assert (await confirm).status_code == 200
        assert len(await sandbox.calls()) == 1

    async def test_many_workers_decide_each_payment_once(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        orders = [f"order-{number:06}" for number in range(30)]
        # At once, because Toss's busy answer is waited out before the look-up.
        await asyncio.gather(*(_leave_unknown(api, sandbox, order_id) for order_id in orders))
        await make_due(resources)

        decided = await asyncio.gather(*(_recover(resources) for _ in range(6)))

        assert sum(decided) == len(orders)
        assert [await sandbox.captures(order_id) for order_id in orders] == [[AMOUNT]] * len(orders)
        assert len(await announced(resources)) == len(orders)

    async def test_both_finding_the_same_capture_record_it_once(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "drop_reply")
        await sandbox.arm("lookup", "delay", delaySeconds=0.5)
        confirm = asyncio.create_task(api.post("/payments/confirm", json=confirm_body(payment_key)))
        await until(sandbox.captures)
        await make_due(resources)

        await asyncio.gather(_recover(resources), _recover(resources))

        assert (await confirm).json()["status"] == "COMPLETED"
        assert await announced(resources) == ["payment.completed"]


async def _leave_unknown(api: httpx.AsyncClient, sandbox: Sandbox, order_id: str) -> None:
    await prepared(api, order_id)
    key = await sandbox.buyer_authenticates(order_id)
    for operation in ("confirm", "lookup"):
        await sandbox.arm(operation, "too_many_requests", orderId=order_id)
    answer = await api.post("/payments/confirm", json=confirm_body(key, order_id))
    assert answer.status_code == 202


async def _recover(resources: Resources) -> int:
    return await recover(
        sessions=resources.sessions, hot=resources.hot, pg=resources.pg, lease=resources.pg_lease, limit=7
    )
