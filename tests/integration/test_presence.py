import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select, update

from payments.db import Sessions, transaction
from payments.gateways.pg import Answer
from payments.ids import new_id
from payments.leases import DEAD_AFTER, Lease
from payments.models import Payment, Refund
from payments.presence import Presence, here
from payments.queries import (
    SAFETY_NET_AFTER,
    claim_refunds,
    claim_unresolved,
    database_now,
    is_alive,
    pull_forward,
    say_alive,
    take_back,
)
from payments.records import Process
from payments.resources import Resources
from payments.states import Cause, PaymentStatus
from payments.usecases.recover import claim_due, recover, resolve
from payments.usecases.refund import claim_due_refunds, resolve_due_refunds, resolve_refund
from tests.builders import a_payment
from tests.integration.night_world import opened
from tests.integration.world import (
    AMOUNT,
    ORDER,
    Sandbox,
    announced,
    cancelling,
    confirm_body,
    discrepancy_kinds,
    make_due,
    make_refunds_due,
    paid,
    prepared,
    read,
    until,
)

LONG: Final = timedelta(hours=1)
JUST_DEAD: Final = DEAD_AFTER + timedelta(seconds=1)
STILL_ALIVE: Final = DEAD_AFTER - timedelta(seconds=2)
NOWHERE: Final = "postgresql+psycopg://nobody@127.0.0.1:1/nowhere"


@pytest.fixture
async def sessions(database: str) -> AsyncIterator[Sessions]:
    async with opened(database) as sessions:
        yield sessions


async def a_process(sessions: Sessions, *, silent_for: timedelta = timedelta()) -> UUID:
    """A process that has been silent for so long."""
    process = new_id()
    async with transaction(sessions) as session:
        await say_alive(session, process, "worker elsewhere:1")
    await fall_silent(sessions, process, silent_for)
    return process


async def fall_silent(sessions: Sessions, process: UUID | None, time: timedelta) -> None:
    """A process has not been heard of for so long."""
    async with transaction(sessions) as session:
        await session.execute(update(Process).where(Process.id == process).values(seen_at=func.now() - time))


async def pending(sessions: Sessions, *order_ids: str) -> None:
    """Payments whose outcome is unknown and due to be asked for."""
    async with transaction(sessions) as session:
        for order_id in order_ids:
            payment = a_payment(PaymentStatus.PENDING, order_id=order_id, payment_key=f"key-of-{order_id}")
            session.add(payment)


async def hold_one(sessions: Sessions, holder: UUID | None) -> str:
    """A worker takes the payment that has waited longest; its order."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        (payment,) = await claim_unresolved(session, now=now, lease=Lease(LONG, holder), limit=1)
        return payment.order_id


async def freed(sessions: Sessions) -> int:
    """How much another worker takes back from the dead."""
    async with transaction(sessions) as session:
        return await take_back(session, now=await database_now(session), limit=500)


async def due_now(sessions: Sessions) -> set[str]:
    async with transaction(sessions) as session:
        return set(await session.scalars(select(Payment.order_id).where(Payment.next_check_at <= func.now())))


class TestHolding:
    async def test_what_the_living_hold_is_left_alone_and_what_the_dead_held_is_due_at_once(
        self, sessions: Sessions
    ) -> None:
        await pending(sessions, *(f"order-{number:06}" for number in range(5)))
        living = await hold_one(sessions, await a_process(sessions, silent_for=STILL_ALIVE))
        dead = await hold_one(sessions, await a_process(sessions, silent_for=JUST_DEAD))
        gone = await hold_one(sessions, new_id())
        unwatched = await hold_one(sessions, None)
        before = await due_now(sessions)

        count = await freed(sessions)

        assert count == 2
        assert await due_now(sessions) - before == {dead, gone}
        assert not {living, unwatched} & await due_now(sessions)
        assert await freed(sessions) == 0

    async def test_a_refund_of_the_dead_is_free_too(self, sessions: Sessions) -> None:
        async with transaction(sessions) as session:
            now = await database_now(session)
            payment = a_payment()
            session.add(payment)
            await session.flush()
            session.add(a_refund(payment, holder=await a_process(sessions, silent_for=JUST_DEAD), at=now))

        assert await freed(sessions) == 1

        async with transaction(sessions) as session:
            now = await database_now(session)
            assert len(await claim_refunds(session, now=now, lease=Lease(LONG), limit=9)) == 1

    async def test_a_confirm_under_way_is_held_by_its_api_until_it_is_over(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await until(lambda: is_known(resources.presence))
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "delay", delaySeconds=0.4)
        confirm = asyncio.create_task(api.post("/payments/confirm", json=confirm_body(payment_key)))
        await until(sandbox.confirms)

        count, holder = await freed(resources.sessions), await holder_of(resources, ORDER)

        assert (count, holder) == (0, resources.presence.holder)
        assert (await confirm).json()["status"] == "COMPLETED"
        assert await holder_of(resources, ORDER) is None


class TestFrozen:
    """A process that is taken for dead comes back in the middle of what it did."""

    async def test_in_a_confirm_it_asks_under_the_same_key_and_changes_nothing(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await lost_confirm(api, sandbox)
        await make_due(resources)
        frozen = await a_process(resources.sessions)
        (one,) = await claim_due(sessions=resources.sessions, hot=resources.hot, lease=Lease(LONG, frozen), limit=9)
        assert await freed(resources.sessions) == 0

        async def others_take_over() -> None:
            await fall_silent(resources.sessions, frozen, JUST_DEAD)
            assert await freed(resources.sessions) == 1
            assert (
                await recover(sessions=resources.sessions, hot=resources.hot, pg=resources.pg, lease=resources.pg_lease)
                == 1
            )

        await resolve(one, sessions=resources.sessions, hot=resources.hot, pg=Freezing(resources.pg, others_take_over))

        assert (await read(api))["status"] == "COMPLETED"
        assert await sandbox.captures() == [AMOUNT]
        assert len({call["idempotencyKey"] for call in await sandbox.confirms()}) == 1
        assert await announced(resources) == ["payment.completed"]
        assert await discrepancy_kinds(resources) == []

    async def test_in_a_refund_it_gives_nothing_back_twice(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await sandbox.arm("cancel", "drop_before_effect", times=2)
        await sandbox.arm("lookup", "server_error")
        assert (await cancelling(api, 5000)).status_code == 202
        await sandbox.clear_faults()
        await make_refunds_due(resources)
        frozen = await a_process(resources.sessions)
        (one,) = await claim_due_refunds(sessions=resources.sessions, lease=Lease(LONG, frozen), limit=9)
        await fall_silent(resources.sessions, frozen, JUST_DEAD)
        assert await freed(resources.sessions) == 1
        lease = resources.pg_lease
        assert await resolve_due_refunds(sessions=resources.sessions, pg=resources.pg, lease=lease) == 1

        await resolve_refund(one, cause=Cause.RECOVERY, sessions=resources.sessions, pg=resources.pg)

        assert await sandbox.cancelled() == [5000]
        assert (await read(api))["refundedAmount"] == 5000
        assert await announced(resources) == ["payment.completed", "payment.refunded"]
        assert await discrepancy_kinds(resources) == []


class TestPresence:
    async def test_is_known_to_the_others_from_its_first_word_to_its_goodbye(self, sessions: Sessions) -> None:
        presence = Presence("worker", sessions=sessions)
        unsaid = presence.holder
        presence.start()
        await until(lambda: is_known(presence))
        await pending(sessions, ORDER)
        await hold_one(sessions, presence.holder)
        alive, while_alive = await alive_here(sessions), await freed(sessions)

        await presence.stop()

        assert (unsaid, alive, while_alive) == (None, True, 0)
        assert (await alive_here(sessions), await freed(sessions)) == (False, 1)

    async def test_where_the_database_is_away_it_holds_nothing_and_ends_all_the_same(self) -> None:
        async with opened(NOWHERE) as sessions:
            presence = Presence("worker", sessions=sessions)
            presence.start()
            await asyncio.sleep(0)

            await presence.stop()

            assert presence.holder is None

    async def test_never_begun_it_ends_without_a_word(self, sessions: Sessions) -> None:
        await Presence("command", sessions=sessions).stop()

        assert not await alive_here(sessions)


class TestSafetyNet:
    async def test_brings_back_what_was_planned_too_late_and_leaves_the_rest(self, sessions: Sessions) -> None:
        orders = lost, young, soon = "order-of-long-ago", "order-of-today", "order-that-is-due"
        await pending(sessions, *orders)
        await plan(sessions, lost, since=2 * SAFETY_NET_AFTER, check_in=timedelta(days=1))
        await plan(sessions, young, since=SAFETY_NET_AFTER / 2, check_in=timedelta(days=1))
        await plan(sessions, soon, since=2 * SAFETY_NET_AFTER, check_in=timedelta(minutes=6))

        async with transaction(sessions) as session:
            count = await pull_forward(session, now=await database_now(session), limit=500)

        assert (count, await due_now(sessions)) == (1, {lost})


class Freezing:
    """A PG whose look-up answers only after others have done the work."""

    def __init__(self, pg: Any, meanwhile: Callable[[], Any]) -> None:  # noqa: ANN401 - a PG, of which a part is used
        self._pg = pg
        self._meanwhile = meanwhile

    async def look_up(self, payment_key: str, *, order_id: str, amount: int) -> Answer:
        answer: Answer = await self._pg.look_up(payment_key, order_id=order_id, amount=amount)
        await self._meanwhile()
        return answer

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - everything else is the PG's own
        return getattr(self._pg, name)


def a_refund(payment: Payment, *, holder: UUID, at: Any) -> Refund:  # noqa: ANN401 - a time
    return Refund.request(
        payment,
        1000,
        reason="고객 변심",
        refund_key="refund-key",
        at=at,
        lease=Lease(LONG, holder),
        cause=Cause.API,
    )


async def is_known(presence: Presence) -> bool:
    return presence.holder is not None


async def alive_here(sessions: Sessions) -> bool:
    async with transaction(sessions) as session:
        return await is_alive(session, name_begins=f"{here('worker')}:")


async def holder_of(resources: Resources, order_id: str) -> UUID | None:
    async with transaction(resources.sessions) as session:
        return await session.scalar(select(Payment.held_by).where(Payment.order_id == order_id))


async def lost_confirm(api: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """A confirm that never reached the PG, which is back again."""
    await prepared(api)
    payment_key = await sandbox.buyer_authenticates()
    await sandbox.arm("any", "drop_before_effect", times=2)
    assert (await api.post("/payments/confirm", json=confirm_body(payment_key))).status_code == 202
    await sandbox.clear_faults()


async def plan(sessions: Sessions, order_id: str, *, since: timedelta, check_in: timedelta) -> None:
    """A payment has been unknown for so long, and is to be asked about in so long."""
    times = {"pending_since": func.now() - since, "next_check_at": func.now() + check_in}
    async with transaction(sessions) as session:
        await session.execute(update(Payment).where(Payment.order_id == order_id).values(times))
