"""Many refunds of one payment at the same time, from many clients, processes and workers."""

import asyncio
import secrets
from collections import Counter

import httpx
import pytest
from sqlalchemy import text

from payments.db import transaction
from payments.resources import WORKER, Resources, open_resources
from payments.usecases.refund import resolve_due_refunds, resolve_refunds
from tests.integration.world import ORDER, Sandbox, announced, cancelling, discrepancy_kinds, paid, read

HUNDRED_THOUSAND = 100_000
ROUNDS_IN_PROOF = 20
MOST_ROUNDS = 100


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A race that is run once may be won by luck."""
    metafunc.fixturenames.append("round_number")
    metafunc.parametrize("round_number", range(ROUNDS_IN_PROOF if metafunc.config.getoption("--proof") else 1))


async def until_decided(api: httpx.AsyncClient, *amounts: int | None, key: str | None = None) -> list[httpx.Response]:
    """Clients that ask at the same moment, and come back together with the same keys while they are told to."""
    waiting = [(amount, key or secrets.token_hex(16)) for amount in amounts]
    decided: list[httpx.Response] = []
    for _ in range(MOST_ROUNDS):
        answers = await asyncio.gather(*(cancelling(api, amount, key=key) for amount, key in waiting))
        told = list(zip(waiting, answers, strict=True))
        decided += [answer for _, answer in told if not _is_to_come_back(answer)]
        waiting = [request for request, answer in told if _is_to_come_back(answer)]
        if not waiting:
            return decided
    raise AssertionError("told to come back for ever")


def _is_to_come_back(answer: httpx.Response) -> bool:
    return answer.status_code != 200 and "retry-after" in answer.headers


class TestSimultaneously:
    async def test_a_hundred_parts_of_a_tenth_each_are_ten_refunds(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, amount=HUNDRED_THOUSAND)

        answers = await until_decided(api, *[10_000] * 100)

        assert Counter(answer.status_code for answer in answers) == {200: 10, 409: 90}
        refusals = {answer.json()["code"] for answer in answers if answer.status_code == 409}
        assert refusals <= {"already_refunded", "refund_exceeds_balance"}
        assert await sandbox.cancelled() == [10_000] * 10
        payment = await read(api)
        assert (payment["status"], payment["refundedAmount"]) == ("REFUNDED", HUNDRED_THOUSAND)
        assert (await sandbox.shown(payment_key))["balanceAmount"] == 0
        assert (await announced(resources)).count("payment.refunded") == 10

    async def test_a_whole_and_many_parts_never_give_back_more_than_was_taken(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await paid(api, sandbox, amount=HUNDRED_THOUSAND)

        await until_decided(api, None, 30_000, 30_000, 60_000, None)

        payment = await read(api)
        assert sum(await sandbox.cancelled()) == payment["refundedAmount"] == HUNDRED_THOUSAND

    async def test_one_key_from_fifty_clients_is_one_refund_and_one_answer(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        payment_key = await paid(api, sandbox)

        answers = await until_decided(api, *[1000] * 50, key="one")

        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert await sandbox.cancelled() == [1000]
        assert len(await sandbox.cancels(payment_key)) == 1

    async def test_a_refund_of_unknown_outcome_is_resolved_once_by_workers_operators_and_its_client(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await sandbox.arm("cancel", "drop_before_effect")
        await cancelling(api, 1000, key="one")
        async with transaction(resources.sessions) as session:
            await session.execute(text("UPDATE refunds SET next_check_at = now()"))

        async with open_resources(resources.settings, role=WORKER) as other:
            await asyncio.gather(
                *(
                    resolve_due_refunds(sessions=held.sessions, pg=held.pg, lease=held.pg_lease)
                    for held in (resources, other, resources, other)
                ),
                *(resolve_refunds(sessions=held.sessions, pg=held.pg) for held in (resources, other)),
                *(cancelling(api, 1000, key="one") for _ in range(4)),
            )
        (answer,) = await until_decided(api, 1000, key="one")

        assert answer.status_code == 200
        assert await sandbox.cancelled() == [1000]
        assert len({call["idempotencyKey"] for call in await sandbox.cancels(payment_key)}) == 1
        assert (await announced(resources)).count("payment.refunded") == 1
        assert await discrepancy_kinds(resources) == []

    async def test_a_deposit_and_giving_the_account_up_leave_one_truth(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        payment_key = await paid(api, sandbox, method="VIRTUAL_ACCOUNT")

        (cancelled,), deposit = await asyncio.gather(
            until_decided(api, None), sandbox.http.post(f"/sandbox/payments/{payment_key}/deposit", json={})
        )

        status = (await read(api, ORDER))["status"]
        assert (cancelled.status_code, deposit.status_code == 200, status) in {
            (200, False, "CANCELLED"),
            (409, True, "COMPLETED"),
        }
