import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import func, select, update

from payments.db import transaction
from payments.gateways.pg import Answer, Cancelled, PgStatus, Unknown, UnknownBecause
from payments.gateways.toss_answers import Asked, _judge
from payments.models import EXPIRES_AFTER, Payment
from payments.resources import Resources
from payments.usecases.expire import WAIT_AT_MOST, Unpaid, claim_due_expiries, expire
from tests.builders import a_held_payment
from tests.integration.world import (
    AMOUNT,
    ORDER,
    SECRET_KEY,
    Sandbox,
    announced,
    cancelling,
    confirm_body,
    discrepancy_kinds,
    prepare_body,
    prepared,
    read,
)

PASSED: Final = EXPIRES_AFTER + timedelta(seconds=1)


@dataclass
class AskedBefore:
    """A PG whose answer was asked for at one time and arrives at another: `meanwhile` happens in between."""

    pg: Any
    meanwhile: Callable[[], Awaitable[object]]
    happened: list[object] = field(default_factory=list)

    async def look_up_order(self, order_id: str, *, amount: int) -> Answer:
        answer: Answer = await self.pg.look_up_order(order_id, amount=amount)
        self.happened.append(await self.meanwhile())
        return answer

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - everything else is the PG's own
        return getattr(self.pg, name)


@dataclass
class Showing:
    """A PG that shows one thing."""

    answer: Answer

    async def look_up_order(self, order_id: str, *, amount: int) -> Answer:
        return self.answer


async def let_pass(resources: Resources, time: timedelta) -> None:
    """So much time goes by for every payment."""
    later = {"prepared_at": Payment.prepared_at - time, "next_check_at": Payment.next_check_at - time}
    async with transaction(resources.sessions) as session:
        await session.execute(update(Payment).values(later))


async def claimed(resources: Resources) -> Sequence[Unpaid]:
    return await claim_due_expiries(sessions=resources.sessions, lease=resources.pg_lease, limit=50)


async def expire_due(resources: Resources, pg: Any = None) -> int:  # noqa: ANN401 - a part of a PG is enough
    """A worker's round; how many sessions had ended."""
    due = await claimed(resources)
    await asyncio.gather(*(expire(one, sessions=resources.sessions, pg=pg or resources.pg) for one in due))
    return len(due)


async def wait_of(resources: Resources) -> timedelta:
    """How long until the only payment is looked at again."""
    async with transaction(resources.sessions) as session:
        due, now = (await session.execute(select(Payment.next_check_at, func.now()))).one()
    assert due is not None
    return due - now


async def capture_without_us(sandbox: Sandbox) -> str:
    """Somebody else with the shop's key confirms; the payment key."""
    payment_key = await sandbox.buyer_authenticates()
    answer = await sandbox.http.post(
        "/v1/payments/confirm", json=confirm_body(payment_key), auth=httpx.BasicAuth(SECRET_KEY, "")
    )
    answer.raise_for_status()
    return payment_key


def confirming(api: httpx.AsyncClient, payment_key: str) -> Callable[[], Awaitable[httpx.Response]]:
    return lambda: api.post("/payments/confirm", json=confirm_body(payment_key))


class TestEnd:
    async def test_of_a_session_that_the_pg_knows_nothing_of_closes_it_until_it_is_prepared_again(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        early = await expire_due(resources)
        await let_pass(resources, PASSED)

        assert (early, await expire_due(resources), await expire_due(resources)) == (0, 1, 0)

        payment = await read(api)
        assert (payment["status"], payment["failure"]["code"]) == ("FAILED", "expired")
        assert await announced(resources) == ["payment.failed"]
        again = await api.post("/payments/prepare", json=prepare_body())
        assert (again.status_code, again.json()["attempt"]) == (200, 2)
        assert (await read(api))["status"] == "CREATED"
        assert await expire_due(resources) == 0

    async def test_of_a_session_that_the_buyer_left_after_authenticating_closes_it(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        await sandbox.buyer_authenticates()
        await sandbox.advance(minutes=45)
        await let_pass(resources, PASSED)

        await expire_due(resources)

        assert (await read(api))["failure"]["code"] == "expired"
        assert await sandbox.captures() == []

    async def test_prepared_again_it_lives_on(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        await let_pass(resources, PASSED)

        await expire_due(resources, AskedBefore(resources.pg, lambda: prepared(api)))

        assert (await read(api))["status"] == "CREATED"
        assert await wait_of(resources) > timedelta(minutes=44)

    async def test_given_up_meanwhile_it_stays_given_up(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        await let_pass(resources, PASSED)

        await expire_due(resources, AskedBefore(resources.pg, lambda: cancelling(api)))

        assert (await read(api))["status"] == "CANCELLED"
        assert await announced(resources) == ["payment.cancelled"]

    async def test_many_workers_close_each_session_once(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        orders = [f"order-{number:06}" for number in range(12)]
        await asyncio.gather(*(prepared(api, order_id) for order_id in orders))
        await let_pass(resources, PASSED)

        counts = await asyncio.gather(*(expire_due(resources) for _ in range(4)))

        assert sum(counts) == len(orders)
        assert await announced(resources) == ["payment.failed"] * len(orders)

    async def test_of_a_session_whose_money_came_and_went_without_us_closes_it(
        self, api: httpx.AsyncClient, resources: Resources
    ) -> None:
        await prepared(api)
        await let_pass(resources, PASSED)
        gone = replace(a_held_payment(PgStatus.CANCELED, AMOUNT, order_id=ORDER, balance=0), was_approved=True)

        await expire_due(resources, Showing(Cancelled(gone)))

        assert (await read(api))["failure"]["code"] == "expired"

    async def test_never_comes_while_the_pg_holds_another_amount_and_a_person_is_told(
        self, api: httpx.AsyncClient, resources: Resources
    ) -> None:
        await prepared(api)
        other = a_held_payment(PgStatus.DONE, AMOUNT + 1000, order_id=ORDER)
        pg = Showing(_judge(other, Asked(None, ORDER, AMOUNT)))

        for _ in range(3):
            await let_pass(resources, PASSED + WAIT_AT_MOST)
            await expire_due(resources, pg)

        assert (await read(api))["status"] == "CREATED"
        assert await discrepancy_kinds(resources) == ["amount_differs_at_pg"]


class TestLookAgain:
    @pytest.mark.parametrize(
        ("answer", "at_least"),
        [
            (Unknown(UnknownBecause.NO_ANSWER), timedelta(minutes=4)),
            (Unknown(UnknownBecause.CIRCUIT_OPEN), timedelta(minutes=4)),
            (Unknown(UnknownBecause.ASK_AGAIN, retry_after=timedelta(minutes=20)), timedelta(minutes=19)),
            (_judge(a_held_payment(PgStatus.READY, AMOUNT), Asked(None, ORDER, AMOUNT)), timedelta(minutes=4)),
        ],
        ids=["the PG is away", "the PG is failing", "the PG asks for time", "the window is open"],
    )
    async def test_later_while_nothing_is_known(
        self, api: httpx.AsyncClient, resources: Resources, answer: Answer, at_least: timedelta
    ) -> None:
        await prepared(api)
        await let_pass(resources, PASSED)

        await expire_due(resources, Showing(answer))

        assert (await read(api))["status"] == "CREATED"
        assert await wait_of(resources) > at_least

    async def test_until_a_day_has_passed_where_the_pg_shows_what_nobody_finishes(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        await sandbox.buyer_authenticates()
        await let_pass(resources, PASSED)
        await expire_due(resources)
        young = (await read(api))["status"]
        await let_pass(resources, WAIT_AT_MOST)

        await expire_due(resources)

        assert (young, (await read(api))["failure"]["code"]) == ("CREATED", "expired")

    async def test_at_an_account_that_was_issued_without_us_and_its_deposit_is_recorded(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api, method="VIRTUAL_ACCOUNT")
        payment_key = await sandbox.buyer_authenticates(method="VIRTUAL_ACCOUNT")
        asked = {"json": confirm_body(payment_key), "auth": httpx.BasicAuth(SECRET_KEY, "")}
        (await sandbox.http.post("/v1/payments/confirm", **asked)).raise_for_status()  # type: ignore[arg-type]  # two kinds of values
        await let_pass(resources, PASSED)
        await expire_due(resources)
        before = (await read(api))["status"], await discrepancy_kinds(resources)
        await sandbox.act(payment_key, "deposit")
        await let_pass(resources, timedelta(minutes=6))

        await expire_due(resources)

        assert before == ("CREATED", ["deposit_awaited_but_closed_here"])
        assert (await read(api))["status"] == "COMPLETED"


class TestCapturedWithoutUs:
    async def test_is_adopted_and_told_and_the_buyer_who_comes_back_is_not_charged_again(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        payment_key = await capture_without_us(sandbox)
        other_window = await sandbox.buyer_authenticates()
        await let_pass(resources, PASSED)
        held = _judge(
            a_held_payment(PgStatus.DONE, AMOUNT, order_id=ORDER, payment_key=payment_key), Asked(None, ORDER, AMOUNT)
        )

        await expire_due(resources, Showing(held))

        assert (await read(api))["status"] == "COMPLETED"
        assert await discrepancy_kinds(resources) == ["captured_but_unknown_here"]
        assert await announced(resources) == ["payment.completed"]
        assert (await confirming(api, payment_key)()).status_code == 200
        assert (await confirming(api, other_window)()).status_code == 409
        assert await sandbox.captures() == [AMOUNT]

    async def test_in_an_earlier_attempt_is_named_so(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        await let_pass(resources, PASSED)
        await expire_due(resources)
        await prepared(api)
        await capture_without_us(sandbox)
        await let_pass(resources, PASSED)

        await expire_due(resources)

        assert (await read(api))["status"] == "COMPLETED"
        assert await discrepancy_kinds(resources) == ["captured_but_failed_here"]
        assert await announced(resources) == ["payment.failed", "payment.completed"]


class TestBesideAConfirm:
    """The buyer comes back at the very moment at which the session is closed."""

    @pytest.fixture
    async def payment_key(self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> str:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await let_pass(resources, PASSED)
        return payment_key

    async def test_confirmed_before_the_claim(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, payment_key: str
    ) -> None:
        assert (await confirming(api, payment_key)()).status_code == 200

        assert await expire_due(resources) == 0
        await self._is_paid_once(api, sandbox, resources)

    async def test_confirmed_between_the_claim_and_the_question(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, payment_key: str
    ) -> None:
        (one,) = await claimed(resources)
        assert (await confirming(api, payment_key)()).status_code == 200

        await expire(one, sessions=resources.sessions, pg=resources.pg)

        await self._is_paid_once(api, sandbox, resources)

    @pytest.mark.parametrize("shown", [None, PgStatus.EXPIRED], ids=["as it is", "expired"])
    async def test_confirmed_between_the_question_and_its_answer(
        self,
        api: httpx.AsyncClient,
        sandbox: Sandbox,
        resources: Resources,
        payment_key: str,
        shown: PgStatus | None,
    ) -> None:
        stale = shown and Showing(_judge(a_held_payment(shown, AMOUNT), Asked(None, ORDER, AMOUNT)))

        await expire_due(resources, AskedBefore(stale or resources.pg, confirming(api, payment_key)))

        await self._is_paid_once(api, sandbox, resources)

    async def test_promised_before_the_answer_and_lost_is_left_to_recovery(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, payment_key: str
    ) -> None:
        await sandbox.arm("confirm", "drop_reply")
        await sandbox.arm("lookup", "server_error", times=None)
        gone = Showing(Unknown(UnknownBecause.NOT_FOUND))

        await expire_due(resources, AskedBefore(gone, confirming(api, payment_key)))

        assert (await read(api))["status"] == "PENDING"
        assert await announced(resources) == []
        assert await sandbox.captures() == [AMOUNT]

    async def test_closed_before_the_confirm_the_pg_is_not_asked_for_money(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, payment_key: str
    ) -> None:
        await expire_due(resources, Showing(Unknown(UnknownBecause.NOT_FOUND)))

        answer = await confirming(api, payment_key)()

        assert answer.status_code == 409
        assert await sandbox.confirms() == []
        assert (await prepared(api)).json()["attempt"] == 2
        assert (await confirming(api, payment_key)()).status_code == 200
        assert await sandbox.captures() == [AMOUNT]

    async def _is_paid_once(self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> None:
        assert (await read(api))["status"] == "COMPLETED"
        assert await announced(resources) == ["payment.completed"]
        assert await discrepancy_kinds(resources) == []
        assert await sandbox.captures() == [AMOUNT]
