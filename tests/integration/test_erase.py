"""Who paid is known for as long as it is needed, and then by no column of any table; the money stays to the won."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

import httpx
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from payments import commands, discrepancies
from payments.business_day import day_of
from payments.commands import CANNOT, DONE
from payments.db import Base, Sessions, transaction
from payments.erasure import StillOpen
from payments.errors import PaymentNotFound, StillNeeded
from payments.ids import new_id
from payments.models import ERASED, Payment, PaymentEvent, Refund, StrayCapture
from payments.outbox import announce
from payments.queries import database_now, get_payment_to_change
from payments.records import Discrepancy, DiscrepancyKind, EventType, IdempotentRequest, OutboxMessage, ReceivedWebhook
from payments.resources import Resources
from payments.settings import Settings
from payments.states import Cause, PaymentMethod, PaymentStatus
from payments.usecases.erase import BATCH, Erased, erase, erase_order
from payments.usecases.forget import forget
from payments.usecases.prepare import PrepareRequest, prepare
from payments.usecases.reconcile import reconcile
from tests.builders import AT, LEASE, PAYMENT_KEY, a_payment, columns
from tests.integration.events_world import Shop, deliver_all
from tests.integration.night_world import opened
from tests.integration.webhook_world import delivered, deposit_callback, status_changed, work_now
from tests.integration.world import (
    ACCOUNT,
    AMOUNT,
    ORDER,
    REASON,
    SHOP,
    Sandbox,
    cancelling,
    confirm_body,
    read,
    watch_now,
)

MARGIN: Final = timedelta(hours=1)
OTHER: Final = "order-000002"
VIRTUAL: Final = "VIRTUAL_ACCOUNT"
NOTHING: Final = Erased(0, 0, 0, 0)
# What a person would find themselves by, besides what the PG has made up.
EMAIL: Final = "kim.canary@example.com"
BUYER: Final = "identity|kim-canary"
THINGS: Final = "canary cage"
HOLDER: Final = "Kim Canary"
WHY: Final = "Kim Canary has changed her mind"
NOTE: Final = "spoke to Kim Canary"


@pytest.fixture
async def sessions(database: str) -> AsyncIterator[Sessions]:
    async with opened(database) as sessions:
        yield sessions


async def everything(sessions: Sessions) -> dict[tuple[str, str], str]:
    """All that is stored, as text, by table and column."""
    async with transaction(sessions) as session:
        return {
            (table.name, column.name): "\n".join(_as_text(value) for value in await session.scalars(select(column)))
            for table in Base.metadata.sorted_tables
            for column in table.columns
        }


def _as_text(value: object) -> str:
    match value:
        case bytes():
            return value.decode(errors="replace")
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


async def places_of(canaries: Iterable[str], sessions: Sessions) -> dict[str, set[tuple[str, str]]]:
    """Where each of these stands."""
    stored = await everything(sessions)
    return {canary: {place for place, text in stored.items() if canary in text} for canary in canaries}


async def money(sessions: Sessions) -> list[object]:
    """Every value of payments, history and refunds that no erasing may touch."""
    touched = {"order_name", "customer_email", "owner", "account_number", "account_holder", "receipt_url"} | {
        *("webhook_secret", "cancel_reason", "reason", "erased_at", "version")
    }
    async with transaction(sessions) as session:
        return [
            {name: value for name, value in columns(row).items() if name not in touched}
            for entity in (Payment, Refund, PaymentEvent)
            for row in await session.scalars(select(entity).order_by(*entity.__table__.primary_key))
        ]


async def prepared_by_kim(resources: Resources) -> None:
    """A payment of somebody whom the identity provider knows."""
    asked = PrepareRequest(
        order_id=ORDER,
        amount=AMOUNT,
        method=PaymentMethod.VIRTUAL_ACCOUNT,
        customer_email=EMAIL,
        order_name=THINGS,
        success_url=f"{SHOP}/success",
        fail_url=f"{SHOP}/fail",
        buyer=BUYER,
    )
    await prepare(asked, sessions=resources.sessions, hot=resources.hot, orders=None, allowed_origins=(SHOP,))


async def bought_by_kim(api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> str:
    """A whole life: an account, a deposit, webhooks, a refund to another account, a difference; the payment key."""
    await prepared_by_kim(resources)
    payment_key = await sandbox.buyer_authenticates(method=VIRTUAL, bank="20", holderName=HOLDER)
    (await api.post("/payments/confirm", json=confirm_body(payment_key))).raise_for_status()
    paid_in = await sandbox.act(payment_key, "deposit")
    await delivered(api, status_changed(paid_in), deposit_callback(paid_in))
    await work_now(resources)
    account = {**ACCOUNT, "holderName": HOLDER}
    (await cancelling(api, 5_000, cancelReason=WHY, refundReceiveAccount=account)).raise_for_status()
    await _look_into(resources)
    return payment_key


async def _look_into(resources: Resources) -> None:
    """Somebody resolves a difference of the payment, in their own words."""
    async with transaction(resources.sessions) as session:
        payment, now = await get_payment_to_change(session, ORDER)
        await discrepancies.note(session, DiscrepancyKind.ORDER_NOT_PAID, payment, theirs={"status": "OPEN"}, at=now)
        await session.execute(update(Discrepancy).values(resolved_at=now, resolved_by="lee", resolution=NOTE))


async def close_all(sandbox: Sandbox, resources: Resources, payment_key: str) -> None:
    """Let everything that is open come to its end: the pay-out, the events, the time in which requests are repeated."""
    await sandbox.advance(minutes=60 * 24 * 10)
    await watch_now(resources)
    await deliver_all(resources.sessions, Shop())
    async with transaction(resources.sessions) as session:
        await session.execute(update(Payment).values(next_check_at=None, held_by=None))
        earlier = IdempotentRequest.created_at - timedelta(days=20)
        await session.execute(update(IdempotentRequest).values(created_at=earlier))
    await forget(sessions=resources.sessions)


async def canaries(resources: Resources) -> Sequence[str]:
    """Ours, and those that the PG made up for this payment."""
    async with transaction(resources.sessions) as session:
        payment, _ = await get_payment_to_change(session, ORDER)
        made_up = [payment.account_number, payment.webhook_secret, payment.receipt_url]
    assert all(made_up)
    return [EMAIL, BUYER, THINGS, HOLDER, WHY, NOTE, *(one for one in made_up if one)]


class TestWholeLife:
    async def test_ends_without_a_trace_of_the_buyer_and_with_every_won(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await bought_by_kim(api, sandbox, resources)
        names = await canaries(resources)
        before = await places_of(names, resources.sessions)
        await close_all(sandbox, resources, payment_key)
        books = await money(resources.sessions)

        await erase_order(ORDER, sessions=resources.sessions)

        assert all(before.values())  # each was there, or nothing is shown by its absence
        assert ("received_webhooks", "body") in before[HOLDER]
        assert ("outbox_messages", "payload") in before[HOLDER]
        assert ("idempotent_requests", "body") in before[WHY]
        assert await places_of(names, resources.sessions) == {name: set() for name in names}
        assert await money(resources.sessions) == books

    async def test_is_read_and_given_back_afterwards_as_any_other(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await bought_by_kim(api, sandbox, resources)
        before = await read(api)
        await close_all(sandbox, resources, payment_key)
        await erase_order(ORDER, sessions=resources.sessions)

        after = await read(api)
        given_back = await cancelling(api, refundReceiveAccount=ACCOUNT)

        (refund,) = after["refunds"]
        assert (after["orderName"], after["virtualAccount"], after["receiptUrl"]) == (ORDER, None, None)
        assert (refund["reason"], refund["amount"], refund["status"]) == (ERASED, 5_000, "SUCCEEDED")
        same = {"status", "amount", "refundedAmount", "refundableAmount", "paymentKey", "approvedAt", "completedAt"}
        assert {name: after[name] for name in same} == {name: before[name] for name in same}
        assert given_back.status_code == 200
        assert await sandbox.cancelled() == [5_000, AMOUNT - 5_000]
        assert (await read(api))["status"] == "REFUNDED"

    async def test_comes_back_with_nothing_that_the_pg_says_later(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await bought_by_kim(api, sandbox, resources)
        names = await canaries(resources)
        await close_all(sandbox, resources, payment_key)
        await erase_order(ORDER, sessions=resources.sessions)
        shown = await sandbox.shown(payment_key)

        await delivered(api, status_changed(shown), deposit_callback(shown))
        await work_now(resources)
        async with transaction(resources.sessions) as session:
            today = day_of(await database_now(session))
        report = await reconcile(today, sessions=resources.sessions, pg=resources.pg, cause=Cause.NIGHTLY)
        await watch_now(resources)

        assert report.found == {}
        came = {place for places in (await places_of(names, resources.sessions)).values() for place in places}
        assert came == {("received_webhooks", "body")}  # as it came in; forgotten in its time


class TestReasonOfACancel:
    async def test_stands_in_the_timeline_until_it_is_erased(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared_by_kim(resources)
        (await cancelling(api, cancelReason=WHY)).raise_for_status()
        async with transaction(resources.sessions) as session:
            payment, _ = await get_payment_to_change(session, ORDER)
            payment.payment_key = PAYMENT_KEY  # the timeline is asked for by it
        before = await _timeline(api)
        await close_all(sandbox, resources, PAYMENT_KEY)

        await erase_order(ORDER, sessions=resources.sessions)

        after = await _timeline(api)
        assert [event["message"] for event in before] == [None, WHY]
        assert after == [*before[:-1], {**before[-1], "message": None}]


async def _timeline(api: httpx.AsyncClient) -> list[dict[str, object]]:
    events: list[dict[str, object]] = (await api.get(f"/payments/{PAYMENT_KEY}/events")).json()["events"]
    return events


Story = Callable[[AsyncSession, Payment, datetime], Awaitable[None]]


async def _nothing(_session: AsyncSession, _payment: Payment, _now: datetime) -> None:
    """It is as `a_payment` left it."""


async def _watched(_: AsyncSession, payment: Payment, now: datetime) -> None:
    payment.check_at(now)


async def _refunding(session: AsyncSession, payment: Payment, now: datetime) -> None:
    session.add(Refund.request(payment, 1_000, reason=REASON, refund_key="key-1", at=AT, lease=LEASE, cause=Cause.API))


async def _stray(session: AsyncSession, payment: Payment, now: datetime) -> None:
    session.add(
        StrayCapture.find(
            payment, "a-second-key", total_amount=1_000, amount=1_000, refund_key="key-2", at=now, cause=Cause.NIGHTLY
        )
    )


async def _differing(session: AsyncSession, payment: Payment, now: datetime) -> None:
    await discrepancies.note(session, DiscrepancyKind.ORDER_NOT_PAID, payment, theirs={}, at=now)


async def _untold(session: AsyncSession, payment: Payment, now: datetime) -> None:
    await announce(session, payment, EventType.COMPLETED, at=now)


def _request(now: datetime) -> IdempotentRequest:
    name = new_id().bytes * 2
    return IdempotentRequest(id=new_id(), key_hash=name, fingerprint=name, created_at=now, locked_until=now)


async def _repeatable(session: AsyncSession, payment: Payment, now: datetime) -> None:
    request = _request(now)
    session.add(request)
    payment.cancel_request_id = request.id


async def _refund_repeatable(session: AsyncSession, payment: Payment, now: datetime) -> None:
    request = _request(now)
    refund = Refund.request(
        *(payment, 1_000),
        reason=REASON,
        refund_key="key-1",
        at=AT,
        lease=LEASE,
        cause=Cause.API,
        request_id=request.id,
    )
    refund.fail("NOT_CANCELABLE_PAYMENT", "취소 할 수 없는 결제 입니다.", because="other", at=AT)
    session.add_all([request, refund])


OPEN: Final[dict[StillOpen, tuple[PaymentStatus, Story]]] = {
    StillOpen.UNDECIDED: (PaymentStatus.APPROVED, _nothing),
    StillOpen.WATCHED: (PaymentStatus.COMPLETED, _watched),
    StillOpen.REFUND: (PaymentStatus.COMPLETED, _refunding),
    StillOpen.STRAY: (PaymentStatus.CANCELLED, _stray),
    StillOpen.DISCREPANCY: (PaymentStatus.COMPLETED, _differing),
    StillOpen.EVENT: (PaymentStatus.FAILED, _untold),
    StillOpen.CANCEL_REQUEST: (PaymentStatus.CANCELLED, _repeatable),
    StillOpen.REFUND_REQUEST: (PaymentStatus.COMPLETED, _refund_repeatable),
}


async def stored(
    sessions: Sessions,
    *order_ids: str,
    status: PaymentStatus = PaymentStatus.COMPLETED,
    story: Story = _nothing,
) -> None:
    """Payments at which nothing has moved since AT, but for what the story says."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        for order_id in order_ids or (ORDER,):
            payment = a_payment(status, order_id=order_id, payment_key=f"key-of-{order_id}")
            session.add(payment)
            await session.flush()
            await story(session, payment, now)


async def since_at(sessions: Sessions, *, and_more: timedelta = timedelta()) -> timedelta:
    """How old what happened at AT is."""
    async with transaction(sessions) as session:
        return await database_now(session) - AT + and_more


async def erased(sessions: Sessions) -> set[str]:
    """The orders whose buyers are not known any more."""
    async with transaction(sessions) as session:
        return set(await session.scalars(select(Payment.order_id).where(Payment.erased_at.is_not(None))))


async def erase_old(sessions: Sessions) -> Erased:
    """Erase what has not moved since shortly after AT."""
    return await erase(sessions=sessions, older_than=await since_at(sessions, and_more=-MARGIN))


class TestErase:
    @pytest.mark.parametrize(
        "status",
        [
            *(PaymentStatus.COMPLETED, PaymentStatus.PARTIALLY_REFUNDED, PaymentStatus.REFUNDED),
            *(PaymentStatus.FAILED, PaymentStatus.CANCELLED),
        ],
    )
    async def test_takes_every_payment_that_is_at_rest(self, sessions: Sessions, status: PaymentStatus) -> None:
        await stored(sessions, status=status)

        assert await erase_old(sessions) == Erased(payments=1, resolutions=0, webhooks=0, still_needed=0)
        assert await erased(sessions) == {ORDER}

    async def test_leaves_what_is_younger(self, sessions: Sessions) -> None:
        await stored(sessions)
        older = await since_at(sessions, and_more=MARGIN)

        assert await erase(sessions=sessions, older_than=older) == NOTHING

    async def test_counts_from_the_last_thing_that_happened(self, sessions: Sessions) -> None:
        async def given_back(_: AsyncSession, payment: Payment, now: datetime) -> None:
            payment.refund(1_000, at=now, cause=Cause.OPERATOR)

        await stored(sessions, story=given_back)

        assert await erase_old(sessions) == NOTHING

    async def test_counts_a_refund_that_failed(self, sessions: Sessions) -> None:
        async def refused(session: AsyncSession, payment: Payment, now: datetime) -> None:
            await _refunding(session, payment, now)
            (refund,) = [one for one in session.new if isinstance(one, Refund)]
            refund.fail("NOT_CANCELABLE_PAYMENT", "취소 할 수 없는 결제 입니다.", because="other", at=now)

        await stored(sessions, story=refused)

        assert await erase_old(sessions) == NOTHING

    @pytest.mark.parametrize("what", StillOpen)
    async def test_leaves_what_is_open_and_says_how_many(self, sessions: Sessions, what: StillOpen) -> None:
        status, story = OPEN[what]
        await stored(sessions, status=status, story=story)

        assert await erase_old(sessions) == Erased(payments=0, resolutions=0, webhooks=0, still_needed=1)
        assert await erased(sessions) == set()

    async def test_takes_what_stands_behind_what_is_open(self, sessions: Sessions) -> None:
        await stored(sessions, *(f"order-open-{number:03}" for number in range(BATCH)), story=_watched)
        await stored(sessions, ORDER)

        assert (await erase_old(sessions)).payments == 1

    async def test_done_again_changes_nothing(self, sessions: Sessions) -> None:
        await stored(sessions)
        await erase_old(sessions)
        before = await everything(sessions)

        assert await erase_old(sessions) == NOTHING
        assert await everything(sessions) == before

    async def test_more_than_a_batch_goes_in_several_and_each_is_told_of(self, sessions: Sessions) -> None:
        await stored(sessions, *(f"order-{number:06}" for number in range(BATCH + 1)))
        told: list[int] = []

        await erase(sessions=sessions, older_than=await since_at(sessions, and_more=-MARGIN), progress=told.append)

        assert told == [BATCH, BATCH + 1]

    async def test_by_several_workers_at_once_takes_each_payment_once(self, sessions: Sessions) -> None:
        await stored(sessions, *(f"order-{number:06}" for number in range(10)))

        runs = await asyncio.gather(*(erase_old(sessions) for _ in range(3)))

        assert sum(run.payments for run in runs) == 10
        async with transaction(sessions) as session:
            assert set(await session.scalars(select(Payment.version))) == {2}

    async def test_takes_an_event_that_was_given_up_for_good(self, sessions: Sessions) -> None:
        async def parked(session: AsyncSession, payment: Payment, now: datetime) -> None:
            await _untold(session, payment, now)
            await session.flush()
            await session.execute(update(OutboxMessage).values(parked_at=now))
            await _differing(session, payment, now)

        await stored(sessions, story=parked)
        before = await erase_old(sessions)
        async with transaction(sessions) as session:
            await session.execute(update(Discrepancy).values(resolved_at=func.now(), resolved_by="lee"))

        after = await erase_old(sessions)

        assert (before.still_needed, after.payments) == (1, 1)
        async with transaction(sessions) as session:
            assert (await session.scalars(select(OutboxMessage))).all() == []

    async def test_takes_what_people_wrote_about_orders_without_a_payment(self, sessions: Sessions) -> None:
        async with transaction(sessions) as session:
            await discrepancies.note_subject(
                session,
                DiscrepancyKind.ORDER_PAID_WITHOUT_PAYMENT,
                ORDER,
                payment_id=None,
                ours={"status": None},
                theirs={"status": "PAID"},
                at=AT,
            )
            await session.execute(update(Discrepancy).values(resolved_at=AT, resolved_by="lee", resolution=NOTE))

        assert (await erase_old(sessions)).resolutions == 1
        assert (await places_of([NOTE], sessions))[NOTE] == set()

    async def test_takes_webhooks_that_were_given_up(self, sessions: Sessions) -> None:
        def webhook(received_at: datetime, parked_at: datetime | None) -> ReceivedWebhook:
            return ReceivedWebhook(
                id=new_id(),
                dedupe_key=new_id().hex,
                event_type="PAYMENT_STATUS_CHANGED",
                verified_by="lookup",
                body=HOLDER.encode(),
                received_at=received_at,
                attempts=30,
                next_attempt_at=AT,
                parked_at=parked_at,
            )

        async with transaction(sessions) as session:
            now = await database_now(session)
            session.add_all([webhook(AT, AT), webhook(AT, None), webhook(now, now)])

        assert (await erase_old(sessions)).webhooks == 1


class TestEraseOrder:
    async def test_does_not_wait_until_the_time_is_over(self, sessions: Sessions) -> None:
        await stored(sessions, ORDER, OTHER)

        assert await erase_order(ORDER, sessions=sessions)

        assert await erased(sessions) == {ORDER}

    async def test_asked_for_again_says_that_there_was_nothing(self, sessions: Sessions) -> None:
        await stored(sessions)
        await erase_order(ORDER, sessions=sessions)

        assert not await erase_order(ORDER, sessions=sessions)

    @pytest.mark.parametrize("what", StillOpen)
    async def test_refuses_while_something_is_open_and_says_what(self, sessions: Sessions, what: StillOpen) -> None:
        status, story = OPEN[what]
        await stored(sessions, status=status, story=story)
        before = await everything(sessions)

        with pytest.raises(StillNeeded) as refused:
            await erase_order(ORDER, sessions=sessions)

        assert refused.value.because == (what,)
        assert await everything(sessions) == before

    async def test_of_an_order_that_nobody_prepared_finds_nothing(self, sessions: Sessions) -> None:
        with pytest.raises(PaymentNotFound):
            await erase_order(ORDER, sessions=sessions)

    async def test_that_meets_a_refund_lets_one_of_the_two_be_first(self, sessions: Sessions) -> None:
        """Whichever it is: no refund is promised whose reason outlives it unseen."""
        await stored(sessions)

        async def promise() -> None:
            async with transaction(sessions) as session:
                payment, now = await get_payment_to_change(session, ORDER)
                await _refunding(session, payment, now)

        outcomes = await asyncio.gather(erase_order(ORDER, sessions=sessions), promise(), return_exceptions=True)

        assert outcomes[1] is None
        assert outcomes[0] is True or isinstance(outcomes[0], StillNeeded)
        assert await erased(sessions) == set()


class TestCommand:
    async def test_says_how_much_was_erased_and_how_much_is_still_needed(
        self, settings: Settings, sessions: Sessions, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await commands.erase_now(settings) == DONE

        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        counted = [line for line in lines if line[0] in {"payments", "resolutions", "webhooks", "stillNeeded"}]
        assert counted == [["payments", "0"], ["resolutions", "0"], ["webhooks", "0"], ["stillNeeded", "0"]]

    async def test_of_one_order_says_why_it_cannot(
        self, settings: Settings, sessions: Sessions, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await stored(sessions, story=_refunding)

        assert await commands.erase_order_now(settings, ORDER) == CANNOT
        assert "Nothing was erased: a refund is not decided." in capsys.readouterr().err

    async def test_of_one_order_says_that_it_is_done(
        self, settings: Settings, sessions: Sessions, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await stored(sessions)

        assert await commands.erase_order_now(settings, ORDER) == DONE
        assert "It is not known any more who paid." in capsys.readouterr().out
