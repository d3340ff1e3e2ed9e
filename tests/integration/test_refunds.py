"""Refunds that are not decided at once: who asks again, under which key, how long, and what nobody ever does twice."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx
import pytest
from sqlalchemy import select, text

from payments.db import Sessions, transaction
from payments.gateways.pg import PaymentGateway, RefundAnswer, RefundOrder, RefundRefused, RefusedBecause
from payments.leases import Lease
from payments.models import Refund
from payments.queries import claim_refunds, database_now, open_refunds
from payments.records import Discrepancy, IdempotentRequest
from payments.resources import Resources
from payments.states import Cause
from payments.usecases import refund
from payments.usecases.idempotency import Begun, KeptAnswer, Name, begin, keep
from payments.usecases.promises import OpenRefund, open_refund
from payments.usecases.refund import resolve_due_refunds, resolve_refunds
from tests.integration.world import (
    ACCOUNT,
    AMOUNT,
    CLIENT_KEY,
    ORDER,
    SECRET_KEY,
    Sandbox,
    announced,
    cancelling,
    confirm_body,
    deposited,
    discrepancy_kinds,
    paid,
    prepared,
    read,
    recover_now,
    resolve_now,
    until,
    watch_now,
)
from tests.sandbox.conftest import running_sandbox
from toss_sandbox.settings import Settings as SandboxSettings

LEASE: Final = Lease(timedelta(minutes=1))
VIRTUAL: Final = "VIRTUAL_ACCOUNT"


async def change(resources: Resources, statement: str) -> None:
    """Let time pass, or something break, where only the database can know of it."""
    async with transaction(resources.sessions) as session:
        await session.execute(text(statement))


async def age(resources: Resources, interval: str) -> None:
    """Let every refund have been asked for, and its key taken, that much earlier."""
    await change(
        resources,
        f"UPDATE refunds SET requested_at = requested_at - interval '{interval}', "  # noqa: S608 - an interval
        f"key_since = key_since - interval '{interval}'",
    )


async def resolve_due(resources: Resources) -> int:
    """The worker's turn, when the time until the next question is over."""
    await change(resources, "UPDATE refunds SET next_check_at = now() WHERE status = 'REQUESTED'")
    return await resolve_due_refunds(sessions=resources.sessions, pg=resources.pg, lease=LEASE)


async def lost(
    api: httpx.AsyncClient,
    sandbox: Sandbox,
    amount: int | None = 1000,
    *,
    fault: str = "drop_before_effect",
    **more: dict[str, str],
) -> httpx.Response:
    """A refund whose outcome is not known: its answer was lost, and so was that of the look-up after it."""
    await sandbox.arm("cancel", fault)
    await sandbox.arm("lookup", "drop_before_effect")
    answer = await cancelling(api, amount, order_id=ORDER, key="one", **more)
    assert answer.status_code == 202
    return answer


async def keys_of(sandbox: Sandbox, payment_key: str) -> list[str]:
    """The PG keys under which a payment was to be cancelled, in the order of their first use."""
    return list(dict.fromkeys(call["idempotencyKey"] for call in await sandbox.cancels(payment_key)))


async def states(api: httpx.AsyncClient, order_id: str = ORDER) -> list[str]:
    return [one["status"] for one in (await read(api, order_id))["refunds"]]


class TestOldKey:
    """Toss forgets a key, and would then take the same request for a new one."""

    @pytest.mark.parametrize("interval", ["14 days", "400 days"])
    async def test_is_never_asked_under_again_and_what_is_not_there_never_happened(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, interval: str
    ) -> None:
        payment_key = await paid(api, sandbox)
        await lost(api, sandbox)
        asked = len(await sandbox.cancels(payment_key))
        await age(resources, interval)

        assert await resolve_due(resources) == 1

        told = await cancelling(api, 1000, key="one")
        assert len(await sandbox.cancels(payment_key)) == asked
        assert (told.status_code, told.json()["code"]) == (409, "refund_refused")
        assert (await cancelling(api, 1000, key="two")).status_code == 200
        assert await sandbox.cancelled() == [1000]

    async def test_finds_what_was_carried_out_before_anybody_heard_of_it(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await lost(api, sandbox, fault="drop_reply")
        await age(resources, "15 days")

        assert await resolve_now(resources) == ["SUCCEEDED"]

        assert len(await sandbox.cancels(payment_key)) == 1
        assert (await cancelling(api, 1000, key="one")).status_code == 200
        assert (await read(api))["refundedAmount"] == 1000

    async def test_beside_the_same_amount_from_the_console_tells_the_two_apart(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await lost(api, sandbox)
        await sandbox.act(payment_key, "cancel", amount=1000)
        await age(resources, "15 days")

        assert await resolve_now(resources) == ["FAILED"]

        assert sorted(await states(api)) == ["FAILED", "SUCCEEDED"]
        assert (await read(api))["refundedAmount"] == 1000

    async def test_decides_nothing_while_the_pg_shows_nothing(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await lost(api, sandbox)
        asked = len(await sandbox.cancels(payment_key))
        await age(resources, "15 days")
        await sandbox.arm("lookup", "server_error")

        assert await resolve_due(resources) == 0

        assert (await states(api), len(await sandbox.cancels(payment_key))) == (["REQUESTED"], asked)

    async def test_is_asked_under_until_then(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await lost(api, sandbox)
        await age(resources, "13 days 23 hours")

        assert await resolve_due(resources) == 1

        assert (await sandbox.cancelled(), len(await keys_of(sandbox, payment_key))) == ([1000], 1)

    async def test_is_as_old_as_itself_and_not_as_the_refund(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await lost(api, sandbox)
        await change(resources, "UPDATE refunds SET requested_at = requested_at - interval '20 days'")

        assert await resolve_due(resources) == 1

        assert await sandbox.cancelled() == [1000]

    async def test_of_a_repetition_by_the_client_is_not_asked_under_either(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await lost(api, sandbox)
        asked = len(await sandbox.cancels(payment_key))
        await age(resources, "15 days")
        await change(resources, "UPDATE refunds SET next_check_at = now()")

        told = await cancelling(api, 1000, key="one")

        assert (told.status_code, told.json()["code"]) == (409, "refund_refused")
        assert len(await sandbox.cancels(payment_key)) == asked


class TestUnresolved:
    async def test_for_a_day_is_told_to_a_person_once_and_goes_on(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        refund_id = (await lost(api, sandbox)).json()["refund"]["refundId"]
        await age(resources, "24 hours")
        await sandbox.arm("cancel", "drop_before_effect", times=2)

        assert [await resolve_due(resources) for _ in range(2)] == [0, 0]

        async with transaction(resources.sessions) as session:
            noted = (await session.scalars(select(Discrepancy))).all()
        assert [(one.kind, one.subject) for one in noted] == [("unresolved_24h", f"{ORDER}/{refund_id}")]
        assert noted[0].last_seen_at > noted[0].first_seen_at
        assert await states(api) == ["REQUESTED"]
        assert (await resolve_due(resources), await sandbox.cancelled()) == (1, [1000])

    async def test_for_less_than_a_day_is_nobodys_business(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await lost(api, sandbox)
        await age(resources, "23 hours")
        await sandbox.arm("cancel", "drop_before_effect")

        await resolve_due(resources)

        assert await discrepancy_kinds(resources) == []

    async def test_account_that_cannot_be_given_up_for_a_day_is_told_to_a_person_too(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox, method=VIRTUAL)
        await lost(api, sandbox, None)
        await change(resources, "UPDATE payments SET cancel_asked_at = cancel_asked_at - interval '24 hours'")
        await sandbox.arm("cancel", "drop_before_effect")

        await watch_now(resources)

        assert await discrepancy_kinds(resources) == ["unresolved_24h"]
        await watch_now(resources)
        assert (await read(api))["status"] == "CANCELLED"


class TestRepeatedFault:
    """A PG that remembers its own faults under a key, as it remembers refusals."""

    @pytest.fixture(scope="class")
    @classmethod
    def sandbox_url(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
        data: Path = tmp_path_factory.mktemp("stubborn") / "sandbox.sqlite3"
        stubborn = SandboxSettings(data=data, client_key=CLIENT_KEY, secret_key=SECRET_KEY, replays_server_errors=True)
        with running_sandbox(stubborn) as url:
            yield url

    async def test_is_left_behind_with_its_key_and_the_money_goes_back_once(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await sandbox.arm("cancel", "server_error")
        first = await cancelling(api, 1000, key="one")
        at_once = await resolve_now(resources)
        keys_at_once = await keys_of(sandbox, payment_key)
        await age(resources, "1 minute")

        after_a_minute = [*await resolve_now(resources), *await resolve_now(resources)]

        assert (first.status_code, at_once, len(keys_at_once)) == (202, ["REQUESTED"], 1)
        assert after_a_minute == ["REQUESTED", "SUCCEEDED"]
        assert len(await keys_of(sandbox, payment_key)) == 2
        decided = await cancelling(api, 1000, key="one")
        assert (decided.status_code, await sandbox.cancelled()) == (200, [1000])

    async def test_keeps_its_key_while_the_pg_does_not_show_what_is_left(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await sandbox.arm("cancel", "server_error")
        await cancelling(api, 1000, key="one")
        await age(resources, "1 hour")
        await sandbox.arm("lookup", "drop_before_effect")

        await resolve_now(resources)
        await resolve_now(resources)

        assert len(await keys_of(sandbox, payment_key)) == 1

    async def test_after_the_effect_is_seen_through(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await lost(api, sandbox, fault="server_error_after_effect")
        await age(resources, "1 hour")

        assert await resolve_now(resources) == ["SUCCEEDED"]

        assert (await sandbox.cancelled(), len(await keys_of(sandbox, payment_key))) == ([1000], 1)

    async def test_beside_a_cancel_in_the_console_keeps_its_key_until_the_books_agree(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await sandbox.arm("cancel", "server_error")
        await cancelling(api, 1000, key="one")
        await sandbox.act(payment_key, "cancel", amount=3000)
        await age(resources, "1 hour")

        for _ in range(3):
            await resolve_now(resources)

        payment = await read(api)
        assert payment["refundableAmount"] == (await sandbox.shown(payment_key))["balanceAmount"] == AMOUNT - 3000
        assert (await sandbox.cancelled(), "REQUESTED" in await states(api)) == ([3000], False)

    async def test_does_not_keep_an_account_from_being_given_up(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.arm("cancel", "server_error")
        unknown = await cancelling(api, key="one")
        await watch_now(resources)
        keys_at_once = await keys_of(sandbox, payment_key)
        await change(resources, "UPDATE payments SET cancel_key_since = cancel_key_since - interval '1 minute'")

        await watch_now(resources)
        await watch_now(resources)

        assert (unknown.status_code, len(keys_at_once)) == (202, 1)
        assert (await sandbox.shown(payment_key))["status"] == "CANCELED"
        decided = await cancelling(api, key="one")
        assert (decided.status_code, decided.json()["payment"]["status"]) == (200, "CANCELLED")
        assert len(await keys_of(sandbox, payment_key)) == 2


class TestKeyThatWasGivenUp:
    async def held(self, resources: Resources) -> OpenRefund:
        """The refund as somebody holds it who is about to ask."""
        async with transaction(resources.sessions) as session:
            ((found, payment),) = await open_refunds(session, order_id=ORDER, limit=1)
            return open_refund(payment, found, now=await database_now(session))

    async def take_another_key(self, resources: Resources) -> None:
        async with transaction(resources.sessions) as session:
            one = (await session.scalars(select(Refund))).one()
            one.ask_anew("the-key-that-counts-now", at=await database_now(session))

    async def test_refused_under_it_decides_nothing(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await lost(api, sandbox)
        slow = await self.held(resources)
        await self.take_another_key(resources)
        await sandbox.arm("cancel", "error_before_effect", code="REFUND_REJECTED", status=400)

        _, refused = await refund.carry_out(slow, cause=Cause.RECOVERY, sessions=resources.sessions, pg=resources.pg)

        assert refused.status == "REQUESTED"
        assert await resolve_now(resources) == ["SUCCEEDED"]
        assert await sandbox.cancelled() == [1000]
        assert (await keys_of(sandbox, payment_key))[-1] == "the-key-that-counts-now"

    async def test_carried_out_under_it_is_carried_out(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await lost(api, sandbox)
        slow = await self.held(resources)
        await self.take_another_key(resources)

        _, done = await refund.carry_out(slow, cause=Cause.RECOVERY, sessions=resources.sessions, pg=resources.pg)

        assert done.status == "SUCCEEDED"
        assert (await resolve_now(resources), await sandbox.cancelled()) == ([], [1000])

    async def test_asked_under_both_at_once_moves_the_money_once(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await lost(api, sandbox, None)
        slow = await self.held(resources)
        await self.take_another_key(resources)
        quick = await self.held(resources)

        outcomes = await asyncio.gather(
            *(
                refund.carry_out(one, cause=Cause.RECOVERY, sessions=resources.sessions, pg=resources.pg)
                for one in (slow, quick)
            )
        )
        await resolve_now(resources)

        assert {str(one.status) for _, one in outcomes} <= {"SUCCEEDED", "REQUESTED"}
        assert (await states(api), await sandbox.cancelled()) == (["SUCCEEDED"], [AMOUNT])
        assert (await announced(resources)).count("payment.refunded") == 1


class TestOthers:
    async def test_are_resolved_beside_one_that_cannot_be(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        orders = [f"order-00000{number}" for number in range(3)]
        await sandbox.arm("cancel", "drop_before_effect", times=3)
        for order_id in orders:
            await paid(api, sandbox, order_id)
            await cancelling(api, 1000, order_id=order_id)
        await change(resources, "ALTER TABLE refunds DROP CONSTRAINT ck_refunds_reason_readable")
        await change(
            resources, "UPDATE refunds SET reason = '' WHERE id = (SELECT id FROM refunds ORDER BY id LIMIT 1)"
        )

        by_hand = await resolve_refunds(sessions=resources.sessions, pg=resources.pg)

        assert [(one.order_id, one.status.value, one.code) for one in by_hand] == [
            (orders[0], "REQUESTED", "ValueError"),
            (orders[1], "SUCCEEDED", None),
            (orders[2], "SUCCEEDED", None),
        ]
        assert await resolve_due(resources) == 0

    async def test_of_other_orders_are_left_alone_by_an_operator_who_names_one(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        orders = ["order-000001", "order-000002"]
        await sandbox.arm("cancel", "drop_before_effect", times=2)
        for order_id in orders:
            await paid(api, sandbox, order_id)
            await cancelling(api, 1000, order_id=order_id)

        asked = await resolve_refunds(sessions=resources.sessions, pg=resources.pg, order_id=orders[1])

        assert [one.order_id for one in asked] == [orders[1]]
        assert [await states(api, order_id) for order_id in orders] == [["REQUESTED"], ["SUCCEEDED"]]


async def three_open(api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> None:
    """Three refunds that are due, that of the last order longest."""
    await sandbox.arm("cancel", "drop_before_effect", times=3)
    for number in (1, 2, 3):
        await paid(api, sandbox, f"order-00000{number}")
        await cancelling(api, 1000, order_id=f"order-00000{number}")
        await change(
            resources,
            f"UPDATE refunds SET next_check_at = now() - interval '{number} hours' WHERE id = "  # noqa: S608 - a number
            "(SELECT id FROM refunds ORDER BY id DESC LIMIT 1)",
        )


async def claim(sessions: Sessions, limit: int = 50) -> list[str]:
    """What a worker takes, by order."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        return [payment.order_id for _, payment in await claim_refunds(session, now=now, lease=LEASE, limit=limit)]


class TestLease:
    async def test_gives_the_longest_due_first_and_each_to_one_worker(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await three_open(api, sandbox, resources)

        async with transaction(resources.sessions) as busy:
            now = await database_now(busy)
            held = [one.order_id for _, one in await claim_refunds(busy, now=now, lease=LEASE, limit=2)]
            beside = await claim(resources.sessions)

        assert (held, beside) == (["order-000003", "order-000002"], ["order-000001"])
        assert await claim(resources.sessions) == []

    async def test_of_a_worker_that_died_ends(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await three_open(api, sandbox, resources)
        await claim(resources.sessions, limit=1)
        await change(resources, "UPDATE refunds SET next_check_at = next_check_at - interval '61 seconds'")

        assert sorted(await claim(resources.sessions)) == ["order-000001", "order-000002", "order-000003"]

    async def test_is_respected_by_the_client_that_repeats_its_request(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await lost(api, sandbox)
        await change(resources, "UPDATE refunds SET next_check_at = now()")
        await claim(resources.sessions)
        asked = len(await sandbox.cancels(payment_key))

        held = await cancelling(api, 1000, key="one")
        asked_while_held = len(await sandbox.cancels(payment_key))
        await change(resources, "UPDATE refunds SET next_check_at = now()")
        decided = await cancelling(api, 1000, key="one")

        assert (held.status_code, asked_while_held) == (202, asked)
        assert (decided.status_code, await sandbox.cancelled()) == (200, [1000])

    async def test_of_a_refund_whose_payment_is_being_changed_is_not_waited_for(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await three_open(api, sandbox, resources)

        async with transaction(resources.sessions) as busy:
            await busy.execute(text("SELECT 1 FROM payments WHERE order_id = 'order-000002' FOR UPDATE"))
            taken = await claim(resources.sessions)

        assert taken == ["order-000003", "order-000001"]


async def die_before_answering(resources: Resources, *, locked_for: str) -> None:
    """Let it be as if the process had been killed after all that it committed, and before it kept its answer."""
    await change(
        resources,
        "UPDATE idempotent_requests SET status = NULL, headers = NULL, body = NULL, "  # noqa: S608 - an interval
        f"locked_until = now() + interval '{locked_for}'",
    )


async def lock_ends(resources: Resources) -> None:
    await change(resources, "UPDATE idempotent_requests SET locked_until = now()")


class TestRequestWhoseProcessDied:
    async def test_is_still_held_for_a_while_and_then_goes_on_with_the_same_refund(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await lost(api, sandbox)
        await die_before_answering(resources, locked_for="1 minute")
        asked = len(await sandbox.cancels(payment_key))

        held = await cancelling(api, 1000, key="one")
        asked_while_held = len(await sandbox.cancels(payment_key))
        await lock_ends(resources)
        await change(resources, "UPDATE refunds SET next_check_at = now()")
        decided = await cancelling(api, 1000, key="one")

        assert (held.status_code, held.json()["code"]) == (409, "request_in_progress")
        assert held.headers["retry-after"]
        assert asked_while_held == asked
        assert decided.status_code == 200
        assert (await states(api), await sandbox.cancelled()) == (["SUCCEEDED"], [1000])
        assert len(await keys_of(sandbox, payment_key)) == 1

    async def test_before_it_promised_anything_begins_anew(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await cancelling(api, 1000, key="one")  # there is no such payment yet
        await paid(api, sandbox)
        await die_before_answering(resources, locked_for="1 minute")

        held = await cancelling(api, 1000, key="one")
        await lock_ends(resources)
        decided = await cancelling(api, 1000, key="one")

        assert (held.status_code, decided.status_code) == (409, 200)
        assert await sandbox.cancelled() == [1000]

    async def test_after_the_money_went_back_finds_it(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        done = await cancelling(api, 1000, key="one")
        await die_before_answering(resources, locked_for="-1 seconds")

        again = await cancelling(api, 1000, key="one")

        assert (again.status_code, again.json()["refund"]) == (200, done.json()["refund"])
        assert len(await sandbox.cancels(payment_key)) == 1

    async def test_after_the_refusal_was_recorded_finds_that(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await sandbox.arm("cancel", "error_before_effect", code="EXCEED_MAX_REFUND_DUE", status=403)
        refused = await cancelling(api, 1000, key="one")
        await die_before_answering(resources, locked_for="-1 seconds")

        again = await cancelling(api, 1000, key="one")

        assert [answer.json()["code"] for answer in (refused, again)] == ["refund_deadline_passed"] * 2
        assert again.json()["pgCode"] == refused.json()["pgCode"]
        assert (await states(api), len(await sandbox.cancels(payment_key))) == (["FAILED"], 1)

    @pytest.mark.parametrize("method", ["CARD", VIRTUAL])
    async def test_after_the_payment_was_given_up_finds_that(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, method: str
    ) -> None:
        if method == VIRTUAL:
            await paid(api, sandbox, method=VIRTUAL)
        else:
            await prepared(api)
        given_up = await cancelling(api, key="one")
        await die_before_answering(resources, locked_for="-1 seconds")

        again = await cancelling(api, key="one")

        assert (given_up.status_code, again.status_code) == (200, 200)
        assert again.json()["payment"]["status"] == "CANCELLED"
        assert (await announced(resources)).count("payment.cancelled") == 1

    async def test_with_a_buyers_account_goes_on_although_a_worker_holds_it(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await deposited(api, sandbox, resources)
        await lost(api, sandbox, refundReceiveAccount=ACCOUNT)
        await die_before_answering(resources, locked_for="-1 seconds")
        await change(resources, "UPDATE refunds SET next_check_at = now() + interval '1 minute'")

        decided = await cancelling(api, 1000, key="one", refundReceiveAccount=ACCOUNT)

        assert (decided.status_code, await sandbox.cancelled()) == (200, [1000])


@asynccontextmanager
async def answers_cannot_be_kept(resources: Resources) -> AsyncIterator[None]:
    """The database goes away whenever an answer is to be written."""
    await change(
        resources,
        "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'going away' USING ERRCODE = '57P01'; END $$",
    )
    await change(
        resources,
        "CREATE TRIGGER away BEFORE UPDATE ON idempotent_requests FOR EACH ROW WHEN (NEW.status IS NOT NULL) "
        "EXECUTE FUNCTION away()",
    )
    yield
    await change(resources, "DROP TRIGGER away ON idempotent_requests")


class TestAnswer:
    async def test_that_could_not_be_kept_is_found_again_when_the_request_is_free(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)

        async with answers_cannot_be_kept(resources):
            away = await cancelling(api, 1000, key="one")
        held = await cancelling(api, 1000, key="one")
        await lock_ends(resources)
        decided = await cancelling(api, 1000, key="one")

        assert (away.status_code, away.json()["code"]) == (503, "database_unavailable")
        assert (held.status_code, held.json()["code"]) == (409, "request_in_progress")
        assert (decided.status_code, decided.json()["refund"]["status"]) == (200, "SUCCEEDED")
        assert (await sandbox.cancelled(), len(await sandbox.cancels(payment_key))) == ([1000], 1)

    async def test_that_was_kept_first_stays_when_somebody_taken_for_dead_comes_back(
        self, resources: Resources
    ) -> None:
        name = Name.of("client", "key", content="cancel")
        slow = await self.taken_up(name, resources)
        quick = await self.taken_up(name, resources)
        await keep(quick.request_id, KeptAnswer(200, {}, b"the answer"), sessions=resources.sessions)

        await keep(slow.request_id, KeptAnswer(202, {}, b"not known yet"), sessions=resources.sessions)

        found = await begin(name, sessions=resources.sessions, lease=LEASE.length)
        assert found == KeptAnswer(200, {}, b"the answer")

    async def test_stays_the_same_although_the_buyer_has_begun_another_attempt(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepared(api)
        failed = await sandbox.buyer_authenticates(refuseWith="REJECT_CARD_PAYMENT")
        await api.post("/payments/confirm", json=confirm_body(failed))
        first = await self.by_key(api, failed)
        await paid(api, sandbox)

        again = await self.by_key(api, failed)

        assert (first.status_code, first.json()["code"]) == (409, "nothing_to_refund")
        assert again.content == first.content

    async def test_is_kept_without_the_clients_key(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await cancelling(api, 1000, key="a-very-secret-key")

        async with transaction(resources.sessions) as session:
            (row,) = await session.scalars(select(IdempotentRequest))
        assert b"a-very-secret-key" not in row.key_hash + row.fingerprint + (row.body or b"")
        assert row.key_hash != hashlib.sha256(b"a-very-secret-key").digest()

    async def taken_up(self, name: Name, resources: Resources) -> Begun:
        """Taken up by somebody who is taken for dead at once."""
        begun = await begin(name, sessions=resources.sessions, lease=timedelta())
        assert isinstance(begun, Begun)
        return begun

    async def by_key(self, api: httpx.AsyncClient, payment_key: str) -> httpx.Response:
        return await api.post(
            f"/payments/{payment_key}/cancel", json={"cancelReason": "품절"}, headers={"idempotency-key": "one"}
        )


class TestTwoKeys:
    @pytest.mark.parametrize("second", ["one", "two"])
    async def test_name_no_request(self, api: httpx.AsyncClient, sandbox: Sandbox, second: str) -> None:
        await paid(api, sandbox)
        headers = [("idempotency-key", "one"), ("idempotency-key", second)]

        answer = await api.post(f"/payments/orders/{ORDER}/cancel", json={"cancelReason": "품절"}, headers=headers)

        assert (answer.status_code, answer.json().get("code")) == (400, "idempotency_key_malformed")
        assert await sandbox.cancelled() == []


class TestGivingUp:
    """A virtual account, when more happens to it than being given up."""

    async def unknown(self, api: httpx.AsyncClient, sandbox: Sandbox) -> str:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await lost(api, sandbox, None)
        return payment_key

    async def test_after_the_due_date_passed_gave_nothing_back(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await self.unknown(api, sandbox)
        await sandbox.act(payment_key, "pass-due-date")
        await sandbox.arm("cancel", "drop_before_effect")
        await watch_now(resources)

        decided = await cancelling(api, key="one")

        assert (await read(api))["status"] == "FAILED"
        assert (decided.status_code, decided.json()["code"]) == (409, "nothing_to_refund")

    async def test_never_reaches_a_later_attempt(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await self.unknown(api, sandbox)
        await sandbox.act(payment_key, "pass-due-date")
        await sandbox.arm("cancel", "drop_before_effect")
        await watch_now(resources)
        await prepared(api)

        decided = await cancelling(api, key="one")

        assert (decided.status_code, decided.json().get("code")) == (409, "request_overtaken")
        assert (await read(api))["status"] == "CREATED"

    async def test_before_a_deposit_that_the_bank_took_back_has_an_end(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await self.unknown(api, sandbox)
        await sandbox.act(payment_key, "deposit")
        await watch_now(resources)
        await sandbox.act(payment_key, "reverse-deposit")
        await watch_now(resources)
        await change(resources, "UPDATE payments SET next_check_at = now()")

        decided = await cancelling(api, key="one")

        assert (decided.status_code, decided.json().get("code")) in {(200, None), (409, "deposit_arrived")}

    async def test_refused_while_others_looked_at_it_tells_of_the_deposit(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.act(payment_key, "deposit")
        await sandbox.arm("lookup", "delay_reply", delaySeconds=0.5)
        giving_up = asyncio.create_task(cancelling(api, key="one"))
        await until(lambda: sandbox.cancels(payment_key))
        await change(resources, "UPDATE payments SET version = version + 1")

        told = await giving_up

        assert (told.status_code, told.json().get("code")) in {(409, "deposit_arrived"), (202, None)}

    async def test_and_a_deposit_looked_for_at_the_same_time_leave_one_truth(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)

        told, *_ = await asyncio.gather(
            cancelling(api, key="one"),
            watch_now(resources),
            sandbox.http.post(f"/sandbox/payments/{payment_key}/deposit", json={}),
            watch_now(resources),
        )
        await watch_now(resources)
        await watch_now(resources)
        decided = await cancelling(api, key="one")

        shown = (await sandbox.shown(payment_key))["status"]
        here = (await read(api))["status"]
        assert (shown, here) in {("CANCELED", "CANCELLED"), ("DONE", "COMPLETED")}
        assert told.json().get("code") in {None, "deposit_arrived", "refund_account_required"}
        assert (decided.status_code == 200) == (here == "CANCELLED")
        assert await discrepancy_kinds(resources) == []


class TestPayOut:
    """What Toss says of a refund to an account right after the cancel is NONE."""

    async def test_is_followed_however_long_ago_the_deposit_was(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)
        await change(
            resources,
            "UPDATE payments SET completed_at = completed_at - interval '1 day', approved_at = approved_at - "
            "interval '1 day', next_check_at = NULL",
        )
        await cancelling(api, refundReceiveAccount=ACCOUNT)
        await sandbox.act(payment_key, "finish-account-refund", succeeded=False)

        await watch_now(resources)

        assert (await read(api))["nextAction"] == "ask_for_account"
        assert await discrepancy_kinds(resources) == ["refund_not_paid_out"]

    async def test_of_a_second_part_is_followed_too(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)
        await cancelling(api, 5000, refundReceiveAccount=ACCOUNT)
        await watch_now(resources)
        await sandbox.act(payment_key, "finish-account-refund", succeeded=True)
        await watch_now(resources)
        await cancelling(api, 5000, refundReceiveAccount=ACCOUNT)
        await sandbox.act(payment_key, "finish-account-refund", succeeded=False)

        await watch_now(resources)

        assert (await read(api))["nextAction"] == "ask_for_account"


class AccountFirst:
    """A PG that looks at the account before it looks at the balance; which of them Toss does is not documented."""

    is_available = True

    def __init__(self, pg: PaymentGateway) -> None:
        self.confirm, self.cancel, self.look_up, self.look_up_order, self.list_transactions = (
            pg.confirm,
            pg.cancel,
            pg.look_up,
            pg.look_up_order,
            pg.list_transactions,
        )

    async def refund(self, payment_key: str, order: RefundOrder) -> RefundAnswer:
        assert order.account is None
        return RefundRefused(
            RefusedBecause.ACCOUNT, "INVALID_REFUND_ACCOUNT_INFO", "환불 계좌 정보가 올바르지 않습니다."
        )


class TestAccountThatNobodyNamesAgain:
    async def test_does_not_make_a_refund_fail_that_was_carried_out(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await deposited(api, sandbox, resources)
        await lost(api, sandbox, 5000, fault="server_error_after_effect", refundReceiveAccount=ACCOUNT)
        await age(resources, "11 minutes")

        (resolved,) = await resolve_refunds(sessions=resources.sessions, pg=AccountFirst(resources.pg))

        assert (resolved.status, resolved.code) == ("SUCCEEDED", None)
        assert ((await read(api))["refundedAmount"], await sandbox.cancelled()) == (5000, [5000])


class TestReversedDeposit:
    async def test_is_not_given_up_by_closing_a_refund_that_nobody_asks_for_again(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)
        await lost(api, sandbox, None, refundReceiveAccount=ACCOUNT)
        await sandbox.act(payment_key, "reverse-deposit")
        await age(resources, "11 minutes")

        await resolve_now(resources)
        await watch_now(resources)

        assert (await states(api), (await read(api))["status"]) == (["FAILED"], "WAITING_FOR_DEPOSIT")
        assert (await sandbox.shown(payment_key))["status"] == "WAITING_FOR_DEPOSIT"

    async def test_waits_until_the_refund_that_was_asked_for_is_decided(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)
        await lost(api, sandbox, refundReceiveAccount=ACCOUNT)
        await sandbox.act(payment_key, "reverse-deposit")

        await watch_now(resources)
        meanwhile = (await read(api))["status"]
        await age(resources, "11 minutes")
        closed = await resolve_now(resources)
        await watch_now(resources)

        assert (meanwhile, closed) == ("COMPLETED", ["FAILED"])
        assert (await read(api))["status"] == "WAITING_FOR_DEPOSIT"
        assert (await announced(resources))[-1] == "payment.deposit_reversed"


class TestInterleaving:
    async def test_of_confirm_recovery_and_two_refunds_is_one_capture_and_one_refund(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "delay_reply", delaySeconds=0.5)

        confirmed, *_ = await asyncio.gather(
            api.post("/payments/confirm", json=confirm_body(payment_key)),
            self.until_decided(api, "one"),
            self.until_decided(api, "two"),
            self.recover_twice(resources),
        )

        assert confirmed.status_code == 200
        assert (await sandbox.captures(), await sandbox.cancelled()) == ([AMOUNT], [AMOUNT])
        assert (await read(api))["status"] == "REFUNDED"
        assert await announced(resources) == ["payment.completed", "payment.refunded"]
        assert await discrepancy_kinds(resources) == []

    async def test_of_giving_up_before_the_confirm_takes_no_money(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()

        confirmed, cancelled = await asyncio.gather(
            api.post("/payments/confirm", json=confirm_body(payment_key)), cancelling(api, key="one")
        )
        if cancelled.status_code == 409:
            cancelled = await self.until_decided(api, "one")

        here = await read(api)
        assert cancelled.status_code == 200
        assert sum(await sandbox.captures()) == sum(await sandbox.cancelled())
        assert (here["status"], confirmed.status_code) in {("CANCELLED", 409), ("REFUNDED", 200)}

    async def test_of_watch_resolve_and_client_is_one_refund_to_the_account(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)
        await lost(api, sandbox, 5000, fault="drop_reply", refundReceiveAccount=ACCOUNT)

        await asyncio.gather(
            watch_now(resources),
            resolve_due(resources),
            resolve_now(resources),
            cancelling(api, 5000, key="one", refundReceiveAccount=ACCOUNT),
            watch_now(resources),
        )

        assert (await states(api), await sandbox.cancelled()) == (["SUCCEEDED"], [5000])
        assert (await announced(resources)).count("payment.refunded") == 1
        assert len(await keys_of(sandbox, payment_key)) == 1
        assert await discrepancy_kinds(resources) == []

    async def until_decided(self, api: httpx.AsyncClient, key: str) -> httpx.Response:
        answers: list[httpx.Response] = []

        async def is_decided() -> bool:
            answers.append(await cancelling(api, key=key))
            return "retry-after" not in answers[-1].headers

        await until(is_decided)
        return answers[-1]

    async def recover_twice(self, resources: Resources) -> None:
        for _ in range(2):
            await recover_now(resources)
