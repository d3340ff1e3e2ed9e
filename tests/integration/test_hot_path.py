"""The hot path leaves the same rows as the plain one, says the same, and asks the PG the same."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from payments.access import Client, KeyText, Scope
from payments.db import Sessions, transaction
from payments.errors import CredentialsInvalid, DatabaseUnavailable, PaymentKeyMismatch, WebhookNotGenuine
from payments.gateways.pg import Answer, Approved, PgCancel
from payments.gateways.toss_events import read_event
from payments.hot_path import PREPARE, WRITE, Held, HotPath, copy_of
from payments.leases import Lease
from payments.local.postgres import LocalPostgres
from payments.models import Move, Payment, PaymentEvent
from payments.queries import database_now, get_payment, get_payment_to_change, history
from payments.records import EventType, OutboxMessage, ReceivedWebhook
from payments.reserve import Reserve, Row
from payments.resources import Resources
from payments.roles import FROZEN
from payments.states import Cause, PaymentMethod, PaymentStatus
from payments.usecases.answers import Question
from payments.usecases.confirm import ConfirmRequest, confirm
from payments.usecases.keys import find_client
from payments.usecases.receive_webhook import Delivery, Received, Trust, receive_webhook
from payments.usecases.recover import claim_due, recover
from tests.builders import columns
from tests.conftest import TEMPLATE
from tests.integration.conftest import HOT, PLAIN
from tests.integration.two_paths import Story, World, left_by, living, meddled
from tests.integration.webhook_world import NEW_SECRET, Event, a_hint, as_sent, deposit_callback, signed, status_changed
from tests.integration.world import (
    AMOUNT,
    ORDER,
    Sandbox,
    announced,
    cancelling,
    confirm_body,
    prepared,
    read,
    recover_now,
    settings_for,
)
from tests.keys import as_key, let_in

OTHER_ORDER: Final = "order-000002"
MADE_UP: Final = "tviva20260102144639Ab1Cd"
CONFIRM_KEY: Final = "confirm-key-of-this-attempt"
A_MINUTE: Final = Lease(timedelta(minutes=1))
SAID_AT: Final = "2026-11-02T12:00:00.000000"  # what an event says of itself

BEFORE_EFFECT: Final = ("drop_before_effect", "reset", "server_error")
AFTER_EFFECT: Final = ("drop_reply", "reset_after_effect", "server_error_after_effect", "truncated_json", "wrong_json")


def captured(method: str) -> Story:
    async def story(world: World) -> None:
        await world.prepare()
        await world.confirm(await world.sandbox.buyer_authenticates(method=method))

    return story


def declined(code: str) -> Story:
    async def story(world: World) -> None:
        await world.prepare()
        await world.confirm(await world.sandbox.buyer_authenticates(refuseWith=code))

    return story


async def prepared_again(world: World) -> None:
    await world.prepare(orderName="토스 티셔츠")
    await world.prepare(method="EASY_PAY", orderName="토스 바지", customerEmail="other@example.com")


async def prepared_for_another_amount(world: World) -> None:
    await world.prepare()
    await world.prepare(ok=False, amount=AMOUNT + 1)


async def prepared_in_vain(world: World) -> None:
    await captured("CARD")(world)
    await world.prepare(ok=False)


async def account_issued(world: World) -> None:
    await world.prepare(method="VIRTUAL_ACCOUNT")
    await world.confirm(await world.sandbox.buyer_authenticates(method="VIRTUAL_ACCOUNT"))


async def session_expired(world: World) -> None:
    await world.prepare()
    payment_key = await world.sandbox.buyer_authenticates()
    await world.sandbox.advance(minutes=11)
    await world.confirm(payment_key)


def confirmed_by(asking: str | None, *, owner: str | None) -> Story:
    async def story(world: World) -> None:
        await world.prepare_for(owner)
        await world.confirm_for(asking, await world.sandbox.buyer_authenticates())

    return story


async def another_amount(world: World) -> None:
    await world.prepare()
    await world.confirm(await world.sandbox.buyer_authenticates(), amount=AMOUNT - 1)


async def order_that_was_never_prepared(world: World) -> None:
    await world.prepare()
    await world.confirm(MADE_UP, OTHER_ORDER)


async def another_key_after_the_capture(world: World) -> None:
    await captured("CARD")(world)
    await world.confirm(await world.sandbox.buyer_authenticates())


async def key_of_another_order(world: World) -> None:
    await world.prepare(OTHER_ORDER)
    payment_key = await world.sandbox.buyer_authenticates(OTHER_ORDER)
    await world.confirm(payment_key, OTHER_ORDER)
    await world.prepare()
    await world.confirm(payment_key)


async def given_up(world: World) -> None:
    await account_issued(world)
    (await cancelling(world.api)).raise_for_status()
    await world.confirm(await world.sandbox.buyer_authenticates())


async def failed_and_not_prepared_again(world: World) -> None:
    await declined("INVALID_STOPPED_CARD")(world)
    await world.confirm(await world.sandbox.buyer_authenticates())


async def second_attempt(world: World) -> None:
    await declined("INVALID_STOPPED_CARD")(world)
    await world.prepare()
    await world.confirm(await world.sandbox.buyer_authenticates())


async def second_attempt_declined(world: World) -> None:
    await declined("INVALID_STOPPED_CARD")(world)
    await world.prepare()
    await world.confirm(await world.sandbox.buyer_authenticates(refuseWith="REJECT_CARD_PAYMENT"))


async def key_of_the_attempt_that_failed(world: World) -> None:
    await world.prepare()
    refused = await world.sandbox.buyer_authenticates(refuseWith="INVALID_STOPPED_CARD")
    await world.confirm(refused)
    await world.prepare()
    await world.confirm(refused)


async def repeated(world: World) -> None:
    await world.prepare()
    payment_key = await world.sandbox.buyer_authenticates()
    await world.confirm(payment_key)
    await world.confirm(payment_key)
    assert len(await world.sandbox.confirms()) == 1


async def repeated_refusal(world: World) -> None:
    await world.prepare()
    payment_key = await world.sandbox.buyer_authenticates(refuseWith="REJECT_CARD_COMPANY")
    await world.confirm(payment_key)
    await world.confirm(payment_key)
    assert len(await world.sandbox.confirms()) == 1


async def circuit_open(world: World) -> None:
    await world.sandbox.arm("confirm", "reset", times=None)
    await world.sandbox.arm("lookup", "server_error", times=None)
    for number in range(5):  # failures in a row
        await world.prepare(f"order-00001{number}")
        await world.confirm(await world.sandbox.buyer_authenticates(f"order-00001{number}"), f"order-00001{number}")
    await world.prepare()
    await world.confirm(await world.sandbox.buyer_authenticates())


async def capture_with_a_cancel_in_it(world: World) -> None:
    async def gave_some_back(answer: Answer) -> Answer:
        assert isinstance(answer, Approved)
        left = AMOUNT - 4_000
        cancel = PgCancel("txrd_in_the_console", 4_000, left, "고객 변심", answer.payment.approved_at, is_done=True)
        return Approved(replace(answer.payment, balance_amount=left, cancels=(cancel,)))

    await world.prepare()
    payment_key = await world.sandbox.buyer_authenticates()
    await world.confirm_for(None, payment_key, pg=meddled(world.resources.pg, gave_some_back))


async def capture_with_another_balance(world: World) -> None:
    async def lost_some(answer: Answer) -> Answer:
        assert isinstance(answer, Approved)
        return Approved(replace(answer.payment, balance_amount=AMOUNT - 1))

    await world.prepare()
    payment_key = await world.sandbox.buyer_authenticates()
    await world.confirm_for(None, payment_key, pg=meddled(world.resources.pg, lost_some))


def found_at_once_after(kind: str) -> Story:
    async def story(world: World) -> None:
        await world.prepare()
        payment_key = await world.sandbox.buyer_authenticates()
        await world.sandbox.arm("confirm", kind)
        await world.confirm(payment_key)

    return story


async def _confirm_into_the_dark(world: World, kind: str, **chosen: object) -> None:
    """The answer is lost, or the question was, and nobody can be asked what became of it."""
    await world.prepare()
    payment_key = await world.sandbox.buyer_authenticates(**chosen)  # type: ignore[arg-type]  # passed on as JSON
    await world.sandbox.arm("confirm", kind)
    await world.sandbox.arm("lookup", "server_error", times=None)
    await world.confirm(payment_key)
    await world.sandbox.clear_faults()


def recovered_after(kind: str, **chosen: object) -> Story:
    async def story(world: World) -> None:
        await _confirm_into_the_dark(world, kind, **chosen)
        await world.recover()

    return story


async def recovered_as_expired(world: World) -> None:
    await _confirm_into_the_dark(world, "drop_before_effect")
    await world.sandbox.advance(minutes=11)
    await world.recover()


async def recovered_as_given_back(world: World) -> None:
    await _confirm_into_the_dark(world, "drop_reply")
    (shown,) = (await world.sandbox.http.get("/sandbox/payments")).json()
    await world.sandbox.act(shown["paymentKey"], "cancel")
    await world.recover()


async def recovered_in_a_second_attempt(world: World) -> None:
    await declined("INVALID_STOPPED_CARD")(world)
    await _confirm_into_the_dark(world, "drop_reply")
    await world.recover()


async def key_that_the_pg_does_not_know(world: World) -> None:
    await world.prepare()
    await world.confirm(MADE_UP)


async def not_found_and_young(world: World) -> None:
    await world.prepare()
    await world.sandbox.arm("any", "drop_before_effect", times=2)
    await world.confirm(MADE_UP)
    await world.sandbox.clear_faults()
    await world.recover()


async def not_found_and_old(world: World) -> None:
    await not_found_and_young(world)
    await world.age(timedelta(minutes=16))
    await world.recover()


async def unknown_for_a_day(world: World) -> None:
    await _confirm_into_the_dark(world, "drop_reply")
    await world.sandbox.arm("lookup", "server_error", times=None)
    await world.age(timedelta(hours=25))
    await world.recover()


def about_something_else(kind: str) -> Story:
    async def story(world: World) -> None:
        await world.prepare()
        payment_key = await world.sandbox.buyer_authenticates()
        await world.sandbox.arm("confirm", kind)
        await world.confirm(payment_key)

    return story


async def recovery_was_faster(world: World) -> None:
    """Somebody else takes the payment over and records what the PG says, while our own answer is under way."""

    async def recovery(answer: Answer) -> Answer:
        await world.recover()
        return answer

    await world.prepare()
    payment_key = await world.sandbox.buyer_authenticates()
    await world.confirm_for(None, payment_key, pg=meddled(world.resources.pg, recovery))


async def somebody_took_it_over(world: World) -> None:
    """The payment has been changed and is still PENDING: our answer is not that of its version, and is recorded."""

    async def take_over(answer: Answer) -> Answer:
        async with transaction(world.resources.sessions) as session:
            payment, now = await get_payment_to_change(session, ORDER)
            payment.hold(A_MINUTE, at=now)
        return answer

    await world.prepare()
    payment_key = await world.sandbox.buyer_authenticates()
    await world.confirm_for(None, payment_key, pg=meddled(world.resources.pg, take_over))


async def decided_against_and_paid_all_the_same(world: World) -> None:
    """Others believed that the attempt had failed, and then comes the answer: a late truth, and a discrepancy."""

    async def give_it_up(answer: Answer) -> Answer:
        async with transaction(world.resources.sessions) as session:
            payment, now = await get_payment_to_change(session, ORDER)
            payment.fail("NOT_FOUND_PAYMENT", "존재하지 않는 결제 정보 입니다.", at=now, cause=Cause.RECOVERY)
        return answer

    await world.prepare()
    payment_key = await world.sandbox.buyer_authenticates()
    await world.confirm_for(None, payment_key, pg=meddled(world.resources.pg, give_it_up))


async def webhooks_of_an_account(world: World) -> None:
    await account_issued(world)
    (shown,) = (await world.sandbox.http.get("/sandbox/payments")).json()
    for event in (status_changed(shown), deposit_callback(shown), status_changed(shown, secret="ps_wrong")):
        await world.deliver({**event, "createdAt": SAID_AT})


# The story, and how the order's payment stands in the end.
STORIES: Final[dict[str, tuple[Story, str]]] = {
    **{f"captured by {method}": (captured(method), "COMPLETED") for method in ("CARD", "EASY_PAY", "TRANSFER")},
    **{f"captured by {method}": (captured(method), "COMPLETED") for method in ("MOBILE_PHONE", "GIFT_CERTIFICATE")},
    **{
        f"declined with {code}": (declined(code), "FAILED")
        for code in ("REJECT_CARD_PAYMENT", "REJECT_CARD_COMPANY", "INVALID_STOPPED_CARD")
    },
    "prepared again": (prepared_again, "CREATED"),
    "prepared for another amount": (prepared_for_another_amount, "CREATED"),
    "prepared when it is paid": (prepared_in_vain, "COMPLETED"),
    "an account issued": (account_issued, "WAITING_FOR_DEPOSIT"),
    "a session that expired": (session_expired, "FAILED"),
    "a buyer's own": (confirmed_by("buyer-1", owner="buyer-1"), "COMPLETED"),
    "another buyer's": (confirmed_by("buyer-2", owner="buyer-1"), "CREATED"),
    "nobody's, by a buyer": (confirmed_by("buyer-1", owner=None), "CREATED"),
    "a buyer's, by the shop": (confirmed_by(None, owner="buyer-1"), "COMPLETED"),
    "another amount": (another_amount, "CREATED"),
    "an order that was never prepared": (order_that_was_never_prepared, "CREATED"),
    "another key after the capture": (another_key_after_the_capture, "COMPLETED"),
    "the key of another order": (key_of_another_order, "CREATED"),
    "an order that was given up": (given_up, "CANCELLED"),
    "failed, and not prepared again": (failed_and_not_prepared_again, "FAILED"),
    "a second attempt": (second_attempt, "COMPLETED"),
    "a second attempt that is declined": (second_attempt_declined, "FAILED"),
    "the key of the attempt that failed": (key_of_the_attempt_that_failed, "CREATED"),
    "repeated": (repeated, "COMPLETED"),
    "repeated after a refusal": (repeated_refusal, "FAILED"),
    "while the PG is left alone": (circuit_open, "CREATED"),
    "a capture with a cancel in it": (capture_with_a_cancel_in_it, "PARTIALLY_REFUNDED"),
    "a capture with another balance": (capture_with_another_balance, "COMPLETED"),
    **{f"found at once after {kind}": (found_at_once_after(kind), "COMPLETED") for kind in AFTER_EFFECT},
    **{f"recovered after {kind}": (recovered_after(kind), "COMPLETED") for kind in (*BEFORE_EFFECT, *AFTER_EFFECT)},
    "recovered as aborted": (recovered_after("drop_reply", refuseWith="REJECT_CARD_PAYMENT"), "FAILED"),
    "recovered as waiting": (recovered_after("drop_reply", method="VIRTUAL_ACCOUNT"), "WAITING_FOR_DEPOSIT"),
    "recovered as expired": (recovered_as_expired, "FAILED"),
    "recovered as given back": (recovered_as_given_back, "REFUNDED"),
    "recovered in a second attempt": (recovered_in_a_second_attempt, "COMPLETED"),
    "a key that the PG does not know": (key_that_the_pg_does_not_know, "FAILED"),
    "not found, and young": (not_found_and_young, "PENDING"),
    "not found, and old": (not_found_and_old, "FAILED"),
    "unknown for a day": (unknown_for_a_day, "PENDING"),
    **{
        f"an answer with a {kind}": (about_something_else(kind), "COMPLETED")
        for kind in ("wrong_amount", "wrong_order")
    },
    "recovery was faster": (recovery_was_faster, "COMPLETED"),
    "somebody took it over": (somebody_took_it_over, "COMPLETED"),
    "given up by others, and paid": (decided_against_and_paid_all_the_same, "COMPLETED"),
    "webhooks of an account": (webhooks_of_an_account, "WAITING_FOR_DEPOSIT"),
}


@pytest.fixture
def databases(postgres: LocalPostgres) -> Iterator[dict[str, str]]:
    """One for each path."""
    names = {path: f"{path}_{uuid4().hex}" for path in (HOT, PLAIN)}
    for name in names.values():
        postgres.create_database(name, template=TEMPLATE)
    yield {path: postgres.url(name) for path, name in names.items()}
    for name in names.values():
        postgres.drop_database(name)


class TestBothPaths:
    @pytest.mark.parametrize(("story", "ends"), STORIES.values(), ids=STORIES.keys())
    async def test_leave_the_same(
        self, databases: dict[str, str], sandbox_url: str, sandbox: Sandbox, story: Story, ends: str
    ) -> None:
        left = {}
        for path, database in databases.items():
            async with living(settings_for(database, sandbox_url), sandbox, path) as world:
                await story(world)

                shown = await read(world.api)
                world.told.append(shown)
                left[path] = await left_by(world)
                assert shown["status"] == ends

        assert left[HOT] == left[PLAIN]


class _NoSession(AsyncSession):
    def __init__(self, *_: object, **__: object) -> None:
        raise AssertionError("the plain path was taken")


NO_SESSIONS: Final[Sessions] = async_sessionmaker(class_=_NoSession)


@pytest.fixture
def hot(app: FastAPI) -> HotPath:
    """The hot path of an API that has no other one."""
    held: Resources = app.state.resources
    app.state.resources = replace(held, sessions=NO_SESSIONS)
    assert held.hot is not None
    return held.hot


@pytest.mark.usefixtures("hot")
class TestTheUsual:
    """Needs no session at all."""

    async def test_purchase(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert (answer.status_code, answer.json()["status"]) == (200, "COMPLETED")

    async def test_refusal(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates(refuseWith="REJECT_CARD_PAYMENT")

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert (answer.status_code, answer.json()["pgCode"]) == (402, "REJECT_CARD_PAYMENT")

    async def test_account(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api, method="VIRTUAL_ACCOUNT")
        payment_key = await sandbox.buyer_authenticates(method="VIRTUAL_ACCOUNT")

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert (answer.status_code, answer.json()["status"]) == (200, "WAITING_FOR_DEPOSIT")

    async def test_webhook(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/webhook/toss", json=a_hint(ORDER, MADE_UP))

        assert (answer.status_code, answer.json()) == (200, {"status": "stored"})

    async def test_recovery(self, api: httpx.AsyncClient, app: FastAPI, sandbox: Sandbox, database: str) -> None:
        held: Resources = app.state.resources
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        begun = await _begun(held, payment_key, lease=Lease(timedelta()))

        decided = await recover(sessions=NO_SESSIONS, hot=held.hot, pg=held.pg, lease=held.pg_lease)

        assert begun is not None
        assert decided == 1
        assert await sandbox.captures() == [AMOUNT]

    async def test_and_nothing_else(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        """Else the sessions that nobody may open would prove nothing."""
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await api.post("/payments/confirm", json=confirm_body(payment_key))

        again = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert again.status_code == 500


async def _begun(held: Resources, payment_key: str, *, lease: Lease = A_MINUTE, order_id: str = ORDER) -> Held | None:
    assert held.hot is not None
    return await held.hot.begin_confirm(order_id, payment_key, AMOUNT, buyer=None, confirm_key=CONFIRM_KEY, lease=lease)


def _columns_of(payment: Payment) -> dict[str, object]:
    return {column.name: getattr(payment, column.name) for column in Payment.__table__.columns}


class TestStatements:
    def test_write_every_column_that_is_not_frozen(self) -> None:
        listed = re.search(r"version = version \+ 1, \(([a-z_, ]+)\) =", WRITE)

        assert listed is not None
        changeable = {column.name for column in Payment.__table__.columns} - FROZEN["payments"] - {"version"}
        assert sorted(listed[1].split(", ")) == sorted(changeable)

    def test_write_all_of_a_move(self) -> None:
        history_has = {column.name for column in PaymentEvent.__table__.columns}

        assert {"payment_id", *(field.name for field in fields(Move))} == history_has

    def test_leave_out_of_a_message_only_what_comes_later(self) -> None:
        listed = re.search(r"INSERT INTO outbox_messages\s+\(([a-z_, ]+)\)", WRITE)

        assert listed is not None
        left_out = [one for one in OutboxMessage.__table__.columns if one.name not in listed[1].split(", ")]
        assert {one.name for one in left_out if not one.nullable} == set()

    async def test_hand_on_what_they_have_committed(self, api: httpx.AsyncClient, resources: Resources) -> None:
        await prepared(api)

        held = await _begun(resources, MADE_UP)

        assert held is not None
        async with transaction(resources.sessions) as session:
            stored = _columns_of(await get_payment(session, ORDER))
        assert _columns_of(held.payment) == stored
        assert [type(stored[name]) for name in ("status", "method")] == [PaymentStatus, PaymentMethod]

    async def test_begin_a_confirm_as_the_payment_itself_does(
        self, api: httpx.AsyncClient, resources: Resources
    ) -> None:
        await prepared(api)
        await prepared(api, OTHER_ORDER)

        await _begun(resources, MADE_UP)
        async with transaction(resources.sessions) as session:
            payment, now = await get_payment_to_change(session, OTHER_ORDER)
            payment.begin_confirm(f"{MADE_UP}2", AMOUNT, confirm_key=CONFIRM_KEY, at=now, lease=A_MINUTE)

        async with transaction(resources.sessions) as session:
            hot, plain = [await get_payment(session, order_id) for order_id in (ORDER, OTHER_ORDER)]
            moves = [[columns(one) for one in await history(session, payment.id)] for payment in (hot, plain)]
        own = {"id", "order_id", "payment_key", "created_at", "prepared_at", "pending_since", "next_check_at"}
        assert _without(columns(hot), own) == _without(columns(plain), own)
        assert [
            one.next_check_at - one.pending_since for one in (hot, plain) if one.next_check_at and one.pending_since
        ] == [A_MINUTE.length] * 2
        assert [_without(one, {"payment_id", "payment_key", "at"}) for one in moves[0]] == [
            _without(one, {"payment_id", "payment_key", "at"}) for one in moves[1]
        ]
        assert [events[-1]["at"] for events in moves] == [hot.pending_since, plain.pending_since]

    async def test_refuse_a_key_that_another_order_has(self, api: httpx.AsyncClient, resources: Resources) -> None:
        await prepared(api)
        await prepared(api, OTHER_ORDER)
        await _begun(resources, MADE_UP)

        with pytest.raises(PaymentKeyMismatch):
            await _begun(resources, MADE_UP, order_id=OTHER_ORDER)

        assert (await read(api, OTHER_ORDER))["status"] == "CREATED"

    async def test_write_nothing_over_what_somebody_has_changed(
        self, api: httpx.AsyncClient, resources: Resources
    ) -> None:
        await prepared(api)
        held = await _begun(resources, MADE_UP)
        assert held is not None
        assert resources.hot is not None
        async with transaction(resources.sessions) as session:
            payment, now = await get_payment_to_change(session, ORDER)
            payment.hold(A_MINUTE, at=now)
        ours = copy_of(held.payment)
        ours.fail("REJECT_CARD_PAYMENT", "한도초과", at=held.clock.now(), cause=Cause.API)

        written = await resources.hot.write(ours, EventType.FAILED, since=held, at=held.clock.now())

        assert not written
        assert held.payment.status is PaymentStatus.PENDING
        assert await announced(resources) == []
        async with transaction(resources.sessions) as session:
            (stored,) = await session.scalars(select(Payment))
            assert [one.to_status for one in await history(session, stored.id)] == ["CREATED", "PENDING"]
            assert (stored.status, stored.version) == ("PENDING", held.payment.version + 1)


def _without(row: dict[str, object], names: set[str]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name not in names}


class TestAnAnswerThatIsOvertaken:
    @pytest.mark.usefixtures("path")
    async def test_is_recorded_once(self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> None:
        async def recovery(answer: Answer) -> Answer:
            assert await recover_now(resources) == 1
            return answer

        await prepared(api)
        asked = ConfirmRequest(await sandbox.buyer_authenticates(), ORDER, AMOUNT)

        confirmed = await confirm(
            asked,
            sessions=resources.sessions,
            hot=resources.hot,
            pg=meddled(resources.pg, recovery),
            background=resources.background,
            lease=resources.pg_lease,
        )

        assert confirmed.payment.status is PaymentStatus.COMPLETED
        assert await announced(resources) == ["payment.completed"]
        async with transaction(resources.sessions) as session:
            moves = [(one.to_status, one.cause) for one in await history(session, confirmed.payment.id)]
        assert moves == [
            ("CREATED", "api"),
            ("PENDING", "api"),
            ("APPROVED", "recovery"),
            ("COMPLETED", "recovery"),
        ]


class Forgetful(Reserve):
    """A database that does what it is told, and does not say so."""

    async def run_all(self, statement: LiteralString, parameters: Mapping[str, Any]) -> list[Row]:
        rows = await super().run_all(statement, parameters)
        if statement == WRITE:
            raise DatabaseUnavailable
        return rows


class Away(Reserve):
    """One that is away when it matters."""

    async def run_all(self, statement: LiteralString, parameters: Mapping[str, Any]) -> list[Row]:
        if statement == WRITE:
            raise DatabaseUnavailable
        return await super().run_all(statement, parameters)


class TestADatabaseThatDoesNotAnswer:
    @pytest.mark.parametrize("kind", [Forgetful, Away])
    @pytest.mark.parametrize(
        ("refuse_with", "told"), [(None, "payment.completed"), ("REJECT_CARD_PAYMENT", "payment.failed")]
    )
    async def test_has_the_answer_recorded_once(
        self,
        api: httpx.AsyncClient,
        app: FastAPI,
        sandbox: Sandbox,
        database: str,
        kind: type[Reserve],
        refuse_with: str | None,
        told: str,
    ) -> None:
        reserve = kind(database)
        held = app.state.resources = replace(app.state.resources, hot=HotPath(reserve))
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates(refuseWith=refuse_with)

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        await reserve.aclose()
        assert answer.status_code == (402 if refuse_with else 200)
        assert await announced(held) == [told]
        assert len(await sandbox.confirms()) == 1
        async with transaction(held.sessions) as session:
            payment = await get_payment(session, ORDER)
            moves = [one.to_status for one in await history(session, payment.id)]
        assert moves == (
            ["CREATED", "PENDING", "FAILED"] if refuse_with else ["CREATED", "PENDING", "APPROVED", "COMPLETED"]
        )
        assert payment.version == 3


class TestPrepare:
    async def test_writes_every_column(self) -> None:
        listed = re.search(r"INSERT INTO payments \(([a-z_, ]+)\)", PREPARE)

        assert listed is not None
        assert listed[1].split(", ") == [column.name for column in Payment.__table__.columns]

    async def test_leaves_a_payment_that_is_there_alone(self, api: httpx.AsyncClient, resources: Resources) -> None:
        await prepared(api)
        assert resources.hot is not None
        async with transaction(resources.sessions) as session:
            before = columns(await get_payment(session, ORDER))
            now = await database_now(session)
        another = Payment.prepare(
            ORDER, AMOUNT, method=PaymentMethod.CARD, order_name="토스", customer_email="b@example.com", at=now
        )

        made = await resources.hot.prepare(another)

        assert not made
        async with transaction(resources.sessions) as session:
            payment = await get_payment(session, ORDER)
            assert columns(payment) == before
            assert len(await history(session, payment.id)) == 1

    async def test_knows_the_time_of_the_database(self, resources: Resources) -> None:
        assert resources.hot is not None
        async with transaction(resources.sessions) as session:
            before = await database_now(session)

        first, second = await resources.hot.now(), await resources.hot.now()

        async with transaction(resources.sessions) as session:
            after = await database_now(session)
        assert before <= first <= second <= after


class TestKeys:
    @pytest.mark.parametrize(
        ("shown", "is_valid"), [("valid", True), ("revoked", False), ("expired", False), ("other", False)]
    )
    async def test_open_the_same(self, resources: Resources, database: str, *, shown: str, is_valid: bool) -> None:
        texts = {name: f"payk_{name:0<8}_{'x' * 43}" for name in ("valid", "revoked", "expired", "other")}
        let_in(database, texts["valid"], name="valid", scopes=(Scope.PAY, Scope.READ), refund_limit=5_000)
        let_in(database, texts["revoked"], is_revoked=True)
        let_in(database, texts["expired"], has_expired=True)
        key = as_key(texts[shown])

        found = [await _client(key, resources, hot=hot) for hot in (resources.hot, None)]

        expected = Client("valid", "client valid", frozenset({Scope.PAY, Scope.READ}), 5_000) if is_valid else None
        assert found == [expected, expected]


async def _client(key: KeyText, held: Resources, *, hot: HotPath | None) -> Client | None:
    try:
        return await find_client(key, sessions=held.sessions, hot=hot)
    except CredentialsInvalid:
        return None


MANY: Final = 60


@pytest.fixture
async def due(resources: Resources) -> set[str]:
    """The orders of many payments that nobody works on and whose outcome is unknown."""
    orders = {f"order-{number:06}" for number in range(MANY)}
    async with transaction(resources.sessions) as session:
        now = await database_now(session)
        for order_id in sorted(orders):
            payment = Payment.prepare(
                order_id, AMOUNT, method=PaymentMethod.CARD, order_name="토스", customer_email="a@example.com", at=now
            )
            key = f"key-of-{order_id}"
            payment.begin_confirm(key, AMOUNT, confirm_key=key, at=now, lease=Lease(timedelta()))
            session.add(payment)
    return orders


class TestClaims:
    async def test_never_overlap(self, resources: Resources, due: set[str]) -> None:
        plain = replace(resources, hot=None)
        claimed: list[str] = []

        while batch := await asyncio.gather(*(_claimed(one) for one in (resources, plain) * 4)):
            claimed += [order_id for orders in batch for order_id in orders]
            if not any(batch):
                break

        assert sorted(claimed) == sorted(due)

    async def test_leave_what_somebody_has_locked(self, resources: Resources, due: set[str]) -> None:
        async with transaction(resources.sessions) as session:
            locked = select(Payment.order_id).order_by(Payment.order_id).limit(10).with_for_update()
            held = set(await session.scalars(locked))

            claimed = await _claimed(resources, limit=MANY)

        assert set(claimed) == due - held

    async def test_take_the_longest_due_first(self, resources: Resources, due: set[str]) -> None:
        waited = sorted(due)[:7]
        earlier = Payment.next_check_at - timedelta(minutes=1)
        async with transaction(resources.sessions) as session:
            await session.execute(update(Payment).where(Payment.order_id.in_(waited)).values(next_check_at=earlier))

        claimed = await _claimed(resources, limit=7)

        assert sorted(claimed) == waited

    async def test_take_nothing_that_is_not_due(self, resources: Resources, due: set[str]) -> None:
        async with transaction(resources.sessions) as session:
            later = func.now() + timedelta(minutes=1)
            await session.execute(update(Payment).values(next_check_at=later))

        assert await _claimed(resources, limit=MANY) == []

    @pytest.mark.usefixtures("path")
    async def test_say_until_when_and_by_whom(self, resources: Resources, due: set[str]) -> None:
        (one,) = await claim_due(sessions=resources.sessions, hot=resources.hot, lease=resources.pg_lease, limit=1)

        async with transaction(resources.sessions) as session:
            payment = await get_payment(session, one.order_id)
        assert one.question == Question(f"key-of-{one.order_id}", payment.version)
        assert (payment.version, payment.held_by) == (2, resources.presence.holder)
        assert payment.next_check_at is not None
        assert payment.pending_since is not None
        assert payment.next_check_at == payment.pending_since + one.age + resources.pg_lease.length


async def _claimed(held: Resources, *, limit: int = 7) -> list[str]:
    claimed = await claim_due(sessions=held.sessions, hot=held.hot, lease=A_MINUTE, limit=limit)
    return [one.order_id for one in claimed]


SECRET: Final = "ps_0123456789abcdefghijklmnopqr"
BELIEVING: Final = Trust([NEW_SECRET], takes_hints=True)
DOUBTING: Final = Trust([NEW_SECRET], takes_hints=False)
HINT: Final = {**a_hint(ORDER, MADE_UP), "createdAt": SAID_AT}
PAYOUT: Final = {"eventType": "payout.changed", "createdAt": SAID_AT, "entityBody": {"id": "FPA_1", "status": "DONE"}}


def _knowing(secret: str, **names: str | None) -> Event:
    return {"createdAt": SAID_AT, "eventType": "PAYMENT_STATUS_CHANGED", "data": {**names, "secret": secret}}


# What is sent, whom it is believed by, whether it is signed (and how), and why it is let in; None: it is not.
DELIVERIES: Final[dict[str, tuple[Event, Trust, str | None, str | None]]] = {
    "signed": (HINT, BELIEVING, NEW_SECRET, "signature"),
    "signed, where hints count for nothing": (HINT, DOUBTING, NEW_SECRET, "signature"),
    "signed by somebody else": (HINT, BELIEVING, "another secret", None),
    "with the secret, by its order": (_knowing(SECRET, orderId=ORDER), DOUBTING, None, "secret"),
    "with the secret, by its key": (_knowing(SECRET, paymentKey=MADE_UP), DOUBTING, None, "secret"),
    "with the secret, of another order": (_knowing(SECRET, orderId=OTHER_ORDER), BELIEVING, None, "lookup"),
    "with the secret, of an unknown key": (_knowing(SECRET, paymentKey="unknown"), DOUBTING, None, None),
    "with the secret, of nothing": (_knowing(SECRET), BELIEVING, None, "lookup"),
    "with a wrong secret": (_knowing(SECRET[:-1], orderId=ORDER), BELIEVING, None, "lookup"),
    "with a wrong secret, where hints count for nothing": (_knowing(SECRET[:-1], orderId=ORDER), DOUBTING, None, None),
    "a hint": (HINT, BELIEVING, None, "lookup"),
    "a hint, where they count for nothing": (HINT, DOUBTING, None, None),
    "about something else": (PAYOUT, BELIEVING, None, "lookup"),
}


class TestWebhooks:
    @pytest.mark.parametrize(("event", "trust", "secret", "let_in_by"), DELIVERIES.values(), ids=DELIVERIES.keys())
    async def test_are_kept_alike(
        self, resources: Resources, event: Event, trust: Trust, secret: str | None, let_in_by: str | None
    ) -> None:
        await _with_secret(resources)
        body = as_sent(event)
        delivery = Delivery(
            body, signatures=[*signed(body, secret).values()] if secret else (), transmission_id="transmission-1"
        )

        outcomes = {}
        for path, hot in ((HOT, resources.hot), (PLAIN, None)):
            told = [await _received(delivery, trust, resources, hot=hot) for _ in range(2)]
            outcomes[path] = told, await _kept(resources)

        assert outcomes[HOT] == outcomes[PLAIN]
        told, kept = outcomes[HOT]
        assert [one and (one.verified_by, one.is_new) for one in told] == (
            [(let_in_by, True), (let_in_by, False)] if let_in_by else [None, None]
        )
        assert len(kept) == (1 if let_in_by else 0)


async def _with_secret(resources: Resources) -> None:
    async with transaction(resources.sessions) as session:
        now = await database_now(session)
        payment = Payment.prepare(
            ORDER, AMOUNT, method=PaymentMethod.CARD, order_name="토스", customer_email="a@example.com", at=now
        )
        payment.begin_confirm(MADE_UP, AMOUNT, confirm_key=CONFIRM_KEY, at=now, lease=A_MINUTE)
        payment.webhook_secret = SECRET
        session.add(payment)


async def _received(delivery: Delivery, trust: Trust, held: Resources, *, hot: HotPath | None) -> Received | None:
    now = datetime.now(UTC)
    try:
        return await receive_webhook(delivery, read=read_event, trust=trust, at=now, sessions=held.sessions, hot=hot)
    except WebhookNotGenuine:
        return None


async def _kept(resources: Resources) -> list[dict[str, object]]:
    """What the inbox holds, which is empty then; due from the moment in which it came in."""
    async with transaction(resources.sessions) as session:
        rows = [columns(one) for one in await session.scalars(select(ReceivedWebhook))]
        await session.execute(delete(ReceivedWebhook))
    assert all(row["received_at"] == row["next_attempt_at"] for row in rows)
    return [_without(row, {"id", "received_at", "next_attempt_at"}) for row in rows]
