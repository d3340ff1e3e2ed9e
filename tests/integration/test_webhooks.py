import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any, Final

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, text, update

from payments import inbox
from payments.api.app import create_app
from payments.db import DatabaseRefused, transaction
from payments.gateways.toss_events import read_event
from payments.inbox import Incoming, VerifiedBy
from payments.leases import Lease
from payments.models import Payment
from payments.records import DiscrepancyKind, OutboxMessage, ReceivedWebhook
from payments.resources import Resources
from payments.settings import Settings, Unsigned
from payments.states import PaymentMethod, PaymentStatus
from payments.usecases.receive_webhook import Delivery, Trust, receive_webhook
from payments.usecases.work_webhooks import (
    LEASE,
    MOST_QUESTIONS,
    PACE_OF_HINTS,
    PACE_OF_PROVEN,
    PAUSES,
    replay_webhooks,
    work_webhooks,
)
from tests.integration.webhook_world import (
    NEW_SECRET,
    OLD_SECRET,
    RETIRED_SECRET,
    Event,
    Headers,
    Tale,
    a_hint,
    as_sent,
    cancel_changed,
    created_now,
    delivered,
    deposit_callback,
    look_ups,
    outcomes,
    recorded_toss,
    signed,
    signed_as_toss,
    status_changed,
    stored,
    transmitted,
    work_now,
)
from tests.integration.world import (
    AMOUNT,
    ORDER,
    Sandbox,
    announced,
    cancelling,
    confirm_body,
    deposited,
    discrepancy_kinds,
    paid,
    prepared,
    read,
    settings_for,
    until,
)
from tests.keys import AUTHORIZATION
from tests.programs import free_port

OTHER_ORDER: Final = "order-000002"
FOREIGN_KEY: Final = "tviva20261102120000Zz9Zz"
PAYOUT: Final = {
    "eventType": "payout.changed",
    "createdAt": "2026-11-02T12:00:00+09:00",
    "version": "2022-11-16",
    "eventId": "event-1",
    "entityType": "payout",
    "entityBody": {"id": "FPA_12345", "status": "COMPLETED", "amount": {"currency": "KRW", "value": 5000.0}},
}


@pytest.fixture
def settings(database: str, sandbox_url: str) -> Settings:
    """Two live secrets, as while one replaces the other."""
    secrets = (SecretStr(OLD_SECRET), SecretStr(NEW_SECRET))
    return settings_for(database, sandbox_url).model_copy(update={"toss_webhook_secrets": secrets})


@asynccontextmanager
async def an_api(settings: Settings, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    """A second API on the same database, set up in another way."""
    app = create_app(settings.model_copy(update=changes))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://api", headers=AUTHORIZATION
        ) as client,
    ):
        yield client


def two_lines(headers: dict[str, str]) -> list[tuple[str, str]]:
    return [*headers.items(), *headers.items()]


HEADERS: Final[dict[str, tuple[Callable[[bytes], Headers], int]]] = {
    "a relay's": (signed, 200),
    "a relay's, under the older secret": (lambda body: signed(body, OLD_SECRET), 200),
    "a relay's, under a retired secret": (lambda body: signed(body, RETIRED_SECRET), 401),
    "a relay's, of the body written anew": (lambda body: signed(body + b"\n"), 401),
    "a relay's, cut short": (lambda body: {"toss-signature": signed(body)["toss-signature"][:-1]}, 401),
    "an empty one": (lambda _: {"toss-signature": ""}, 401),
    "a relay's, in two lines": (lambda body: two_lines(signed(body)), 401),
    "Toss's": (signed_as_toss, 200),
    "Toss's, under the older secret": (lambda body: signed_as_toss(body, OLD_SECRET), 200),
    "Toss's, under a retired secret": (lambda body: signed_as_toss(body, RETIRED_SECRET), 401),
    "Toss's, of ten minutes ago": (lambda body: signed_as_toss(body, age=timedelta(minutes=10)), 401),
    "Toss's, of ten minutes to come": (lambda body: signed_as_toss(body, age=timedelta(minutes=-10)), 401),
    "Toss's, without its time": (
        lambda body: [line for line in signed_as_toss(body).items() if line[0].endswith("signature")],
        401,
    ),
    "Toss's, in two lines": (lambda body: two_lines(signed_as_toss(body)), 401),
    "both": (lambda body: {**signed(body), **signed_as_toss(body)}, 200),
    "a right one of ours, a wrong one of Toss": (
        lambda body: {**signed(body), **signed_as_toss(body, RETIRED_SECRET)},
        401,
    ),
    "a wrong one of ours, a right one of Toss": (
        lambda body: {**signed(body, RETIRED_SECRET), **signed_as_toss(body)},
        401,
    ),
    "none": (lambda _: {}, 200),
}


class TestGenuine:
    async def test_is_what_its_signature_proves(self, api: httpx.AsyncClient, resources: Resources) -> None:
        answers = {}
        for name, (headers, _) in HEADERS.items():
            body = as_sent(a_hint(ORDER))
            answers[name] = await transmitted(api, body, headers(body))

        assert {name: answer.status_code for name, answer in answers.items()} == {
            name: status for name, (_, status) in HEADERS.items()
        }
        refused = [answer.json()["code"] for answer in answers.values() if answer.status_code != 200]
        assert set(refused) == {"webhook_not_genuine"}
        assert Counter(one.verified_by for one in await stored(resources)) == {"signature": 5, "lookup": 1}

    async def test_nothing_is_signed_where_no_secret_is_configured(self, settings: Settings) -> None:
        body = as_sent(PAYOUT)
        async with an_api(settings, toss_webhook_secrets=()) as api:
            answers = [await transmitted(api, body, headers) for headers in (signed(body, ""), signed_as_toss(body))]

        assert [answer.status_code for answer in answers] == [401, 401]

    async def test_a_byte_that_changed_is_noticed(self, api: httpx.AsyncClient, resources: Resources) -> None:
        body = as_sent(a_hint(ORDER, FOREIGN_KEY))
        headers = signed(body)
        chance = random.Random(20261102)
        changed = {bytes([*body[:at], body[at] ^ (1 << bit), *body[at + 1 :]]) for at, bit in some_bits(body, chance)}

        statuses = Counter([(await transmitted(api, one, headers)).status_code for one in changed])

        assert set(statuses) <= {400, 401}  # 400: it is no JSON any more
        assert await stored(resources) == []

    async def test_its_secret_is_noticed(self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> None:
        shown = await sandbox.shown(await paid(api, sandbox, method="VIRTUAL_ACCOUNT"))

        await delivered(api, status_changed(shown), deposit_callback(shown), status_changed(shown, secret="ps_wrong"))

        assert [one.verified_by for one in await stored(resources)] == ["secret", "secret", "lookup"]


def some_bits(body: bytes, chance: random.Random) -> list[tuple[int, int]]:
    return [(chance.randrange(len(body)), chance.randrange(8)) for _ in range(150)]


class TestWithoutHints:
    """`TOSS_WEBHOOK_UNSIGNED=reject`."""

    async def test_only_the_payments_own_secret_opens(
        self, api: httpx.AsyncClient, sandbox: Sandbox, settings: Settings, resources: Resources
    ) -> None:
        shown = await sandbox.shown(await paid(api, sandbox, method="VIRTUAL_ACCOUNT"))
        other = await sandbox.shown(await paid(api, sandbox, OTHER_ORDER, method="VIRTUAL_ACCOUNT"))
        right = str(shown["secret"])
        wrong = [
            *(None, "", " ", right[:-1], right + "0", f" {right}", right.upper(), right.swapcase(), right[::-1]),
            *(other["secret"], "비밀", "ps_" + "가" * 25, "x" * 10_000, "\x7f", "null", "None", "ps_"),
            *(0, 1, True, False, [right], {"secret": right}, -1, [], {}, [[right]]),
        ]

        async with an_api(settings, toss_webhook_unsigned=Unsigned.REJECT) as strict:
            refused = [await transmitted(strict, as_sent(status_changed(shown, secret=one))) for one in wrong]
            unknown = await transmitted(strict, as_sent(a_hint("order-of-nobody")))
            without_secret = await transmitted(strict, as_sent(a_hint(ORDER)))
            opened = await transmitted(strict, as_sent(deposit_callback(shown)))

        assert {answer.status_code for answer in (*refused, unknown, without_secret)} == {401}
        assert opened.status_code == 200
        assert [one.verified_by for one in await stored(resources)] == ["secret"]

    async def test_a_payment_without_a_secret_is_opened_by_none(
        self, api: httpx.AsyncClient, settings: Settings
    ) -> None:
        await prepared(api)  # never confirmed: there is no secret yet

        async with an_api(settings, toss_webhook_unsigned=Unsigned.REJECT) as strict:
            answers = [
                await transmitted(strict, as_sent({**a_hint(ORDER), "data": {"orderId": ORDER, "secret": secret}}))
                for secret in ("", None, "None")
            ]

        assert {answer.status_code for answer in answers} == {401}

    async def test_a_signature_opens(self, settings: Settings) -> None:
        body = as_sent(a_hint(ORDER))
        async with an_api(settings, toss_webhook_unsigned=Unsigned.REJECT) as strict:
            assert (await transmitted(strict, body, signed(body))).status_code == 200


BODIES: Final = {
    "no event": (b"{}", 400),
    "a list": (b"[]", 400),
    "cut short": (b'{"eventType":"PAYMENT_STATUS_CHANGED"', 400),
    "a repeated key": (b'{"eventType":"X","eventType":"Y","data":{}}', 400),
    "not a number": (b'{"eventType":"X","data":NaN}', 400),
    "a NUL": (rb'{"eventType":"X","data":{"secret":"\u0000"}}', 400),
    "deep": (b'{"eventType":"X","data":' + b"[" * 1000 + b"]" * 1000 + b"}", 400),
    "a type that is none": (b'{"eventType":7,"data":{}}', 400),
    "a whole payment": (b'{"eventType":"X","data":"' + b"x" * 200_000 + b'"}', 200),
    "too large": (b'{"eventType":"X","data":"' + b"x" * 300_000 + b'"}', 413),
}


class TestStored:
    async def test_only_what_is_an_event(self, api: httpx.AsyncClient, resources: Resources) -> None:
        statuses = {name: (await transmitted(api, body)).status_code for name, (body, _) in BODIES.items()}

        assert statuses == {name: status for name, (_, status) in BODIES.items()}
        assert len(await stored(resources)) == list(statuses.values()).count(200)

    async def test_once_for_three_hundred_deliveries(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        event = status_changed(await sandbox.shown(await paid(api, sandbox)))
        bodies = [as_sent(event), as_sent(dict(reversed(event.items())))]  # what happened, not how it is written

        answers = []
        for start in range(0, 300, 20):  # so many at the same time
            headers = [{"tosspayments-webhook-transmission-id": f"whtrans_{start + one}"} for one in range(20)]
            deliveries = (transmitted(api, bodies[one % 2], lines) for one, lines in enumerate(headers))
            answers += await asyncio.gather(*deliveries)
            await drained(resources)

        assert {(answer.status_code, answer.text) for answer in answers} == {(200, '{"status":"stored"}')}
        assert await outcomes(resources) == ["recorded"]
        assert await look_ups(sandbox, ORDER) == 1
        assert await announced(resources) == ["payment.completed"]

    async def test_once_for_five_hundred_inserts(self, resources: Resources, pytestconfig: pytest.Config) -> None:
        times = 10_000 if pytestconfig.getoption("--proof") else 500
        event = an_incoming()

        async with transaction(resources.sessions) as session:
            are_new = [await inbox.store(session, event) for _ in range(times)]

        assert (are_new[0], set(are_new[1:])) == (True, {False})
        assert len(await stored(resources)) == 1

    async def test_apart_where_something_else_happened(self, api: httpx.AsyncClient, resources: Resources) -> None:
        event = a_hint(ORDER, FOREIGN_KEY)
        others = [
            {**event, "createdAt": created_now()},
            {**event, "data": {**event["data"], "status": "CANCELED"}},
            {**event, "data": {**event["data"], "orderId": OTHER_ORDER}},
            {**event, "data": {**event["data"], "paymentKey": "other-key"}},
            {**event, "data": {**event["data"], "lastTransactionKey": "txrd_1"}},
            {**PAYOUT, "entityBody": {"id": "1", "status": "COMPLETED"}},
            {**PAYOUT, "entityBody": {"id": "2", "status": "COMPLETED"}},
        ]

        await delivered(api, event, *others)

        assert len(await stored(resources)) == 1 + len(others)

    async def test_as_it_came(self, api: httpx.AsyncClient, resources: Resources) -> None:
        event = a_hint(ORDER, FOREIGN_KEY)
        body = as_sent(event)

        await transmitted(api, body, {"tosspayments-webhook-transmission-id": "whtrans_a01"})

        (one,) = await stored(resources)
        assert (one.body, one.transmission_id, one.event_type) == (body, "whtrans_a01", "PAYMENT_STATUS_CHANGED")
        assert (one.order_id, one.payment_key, one.status) == (ORDER, FOREIGN_KEY, "DONE")

    async def test_not_answered_while_the_database_is_away(self, settings: Settings) -> None:
        nowhere = SecretStr(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing")
        async with an_api(settings, database_url=nowhere) as api:
            answer = await transmitted(api, as_sent(a_hint(ORDER)))

        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) >= 1

    async def test_counted(self, api: httpx.AsyncClient) -> None:
        before = (await api.get("/metrics")).text
        event = {**PAYOUT, "eventId": "counted"}
        await delivered(api, event, event)
        await transmitted(api, as_sent(event), {"toss-signature": "wrong"})
        after = (await api.get("/metrics")).text

        grown = {series: value - counts(before).get(series, 0) for series, value in counts(after).items()}
        assert {series: growth for series, growth in grown.items() if growth} == {
            'webhooks_received_total{result="stored",type="other",verified_by="lookup"}': 1,
            'webhooks_received_total{result="known",type="other",verified_by="lookup"}': 1,
            'webhooks_received_total{result="refused",type="unknown",verified_by="nothing"}': 1,
        }

    @pytest.mark.parametrize(
        ("column", "value"), [("outcome", "'believed'"), ("dedupe_key", "NULL"), ("dedupe_key", "'first'")]
    )
    async def test_only_as_the_database_allows(self, column: str, value: str, resources: Resources) -> None:
        async with transaction(resources.sessions) as session:
            await inbox.store(session, an_incoming("first"))
            await inbox.store(session, an_incoming("second"))

        with pytest.raises(DatabaseRefused):
            await change_second(resources, f"{column} = {value}")


async def change_second(resources: Resources, change: str) -> None:
    statement = text(f"UPDATE received_webhooks SET {change} WHERE dedupe_key = 'second'")  # noqa: S608 - our own words
    async with transaction(resources.sessions) as session:
        await session.execute(statement)


def an_incoming(dedupe_key: str = "one and the same", payment_key: str | None = None) -> Incoming:
    return Incoming(
        dedupe_key=dedupe_key,
        event_type="PAYMENT_STATUS_CHANGED",
        order_id=ORDER,
        payment_key=payment_key,
        transaction_key=None,
        status="DONE",
        transmission_id=None,
        verified_by=VerifiedBy.LOOKUP,
        body=b"{}",
    )


def counts(metrics: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in metrics.splitlines() if line.startswith("webhooks_received_total")]
    return {series: float(value) for series, _, value in lines}


class TestForged:
    async def test_done_for_an_order_that_was_only_prepared_changes_nothing(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        await delivered(api, a_hint(ORDER), a_hint(ORDER, FOREIGN_KEY))
        await work_now(resources)
        payment_key = await sandbox.buyer_authenticates()
        await delivered(api, a_hint(ORDER), a_hint(ORDER, payment_key))
        while None in await outcomes(resources):
            await work_now(resources)

        assert (await read(api))["status"] == "CREATED"
        assert await announced(resources) == []
        assert await discrepancy_kinds(resources) == []
        assert None not in await outcomes(resources)

    async def test_done_for_a_payment_that_is_being_confirmed_changes_nothing(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await pending(api, sandbox)
        before = await read(api)

        await delivered(api, a_hint(ORDER), a_hint(ORDER, payment_key))
        await work_now(resources)

        assert await read(api) == before
        assert await outcomes(resources) == ["recorded", "recorded"]

    async def test_the_end_of_a_completed_payment_changes_nothing(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        shown = await sandbox.shown(await paid(api, sandbox))
        before = await read(api)

        for status in ("CANCELED", "ABORTED", "EXPIRED", "WAITING_FOR_DEPOSIT", "PARTIAL_CANCELED"):
            await delivered(api, status_changed(shown, status=status, balanceAmount=0, mId="another"))
            await work_now(resources)

        assert await read(api) == before
        assert await announced(resources) == ["payment.completed"]

    async def test_a_key_of_another_merchant_changes_nothing(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        shown = await sandbox.shown(await paid(api, sandbox))
        before = await read(api)

        await delivered(api, status_changed(shown, paymentKey=FOREIGN_KEY, status="CANCELED", mId="another"))
        await work_now(resources)

        assert await read(api) == before
        assert await outcomes(resources) == ["orphan"]

    async def test_what_mixes_two_payments_up_asks_nobody(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        other_key = await paid(api, sandbox, OTHER_ORDER)

        await delivered(api, a_hint(ORDER, other_key))
        await work_now(resources)

        assert await outcomes(resources) == ["orphan"]
        assert await look_ups(sandbox, ORDER) + await look_ups(sandbox, OTHER_ORDER) == 0

    async def test_what_nobody_knows_asks_nobody_and_is_answered_alike(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        known = await sandbox.shown(await paid(api, sandbox))
        answers = [await transmitted(api, as_sent(status_changed(known)))]
        for number in range(100):
            hint = a_hint(f"order-of-nobody-{number}", f"key-of-nobody-{number}")
            answers.append(await transmitted(api, as_sent(hint)))
        await work_now(resources)

        assert {(one.status_code, one.text, *headers_of(one)) for one in answers} == {
            (200, '{"status":"stored"}', *headers_of(answers[0]))
        }
        assert Counter(await outcomes(resources)) == {"orphan": 100, "recorded": 1}
        assert len([call for call in await all_calls(sandbox) if call["method"] == "GET"]) == 1
        async with transaction(resources.sessions) as session:
            assert await session.scalar(select(func.count()).select_from(Payment)) == 1

    async def test_a_flood_about_one_payment_is_worth_two_questions(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await paid(api, sandbox, OTHER_ORDER)
        for start in range(0, 300, 100):
            async with transaction(resources.sessions) as session:
                for hint in range(start, start + 100):
                    named = payment_key if hint % 2 else None
                    await inbox.store(session, an_incoming(f"hint-{hint}", payment_key=named))
            await drained(resources)
        await delivered(api, a_hint(OTHER_ORDER))
        await drained(resources)

        assert 1 <= await look_ups(sandbox, ORDER) <= 2
        assert await look_ups(sandbox, OTHER_ORDER) == 1  # the others flow

    async def test_a_flood_of_keys_does_not_keep_the_true_event_waiting(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await delivered(api, *(a_hint(ORDER, f"made-up-{number}") for number in range(30)))
        shown = await sandbox.act(payment_key, "cancel")
        await delivered(api, status_changed(shown))

        await drained(resources)

        assert (await read(api))["status"] == "REFUNDED"
        assert await look_ups(sandbox, ORDER) == 1

    @pytest.mark.parametrize(("proven", "pace"), [(False, PACE_OF_HINTS), (True, PACE_OF_PROVEN)])
    async def test_what_comes_too_early_waits_for_its_turn(
        self, *, proven: bool, pace: timedelta, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        for _ in range(2):
            body = as_sent(a_hint(ORDER))
            await transmitted(api, body, signed(body) if proven else None)
            await drained(resources)

        first, second = await stored(resources)
        assert first.looked_up_at is not None
        assert (first.processed_at is not None, second.processed_at) == (True, None)
        assert second.next_attempt_at == first.looked_up_at + pace
        await work_now(resources)
        assert await outcomes(resources) == ["recorded", "recorded"]


def headers_of(answer: httpx.Response) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in answer.headers.items() if name.startswith("content-"))


async def all_calls(sandbox: Sandbox) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = (await sandbox.http.get("/sandbox/calls")).json()["calls"]
    return calls


async def pending(api: httpx.AsyncClient, sandbox: Sandbox) -> str:
    """A confirm that never reached Toss's books: nothing is known yet; its payment key."""
    await prepared(api)
    payment_key = await sandbox.buyer_authenticates()
    await sandbox.arm("confirm", "drop_before_effect", times=2)
    await api.post("/payments/confirm", json=confirm_body(payment_key))
    await sandbox.clear_faults()
    assert (await read(api))["status"] == "PENDING"
    return payment_key


async def drained(resources: Resources) -> None:
    """The worker works on what is due at this moment."""
    while await work_webhooks(sessions=resources.sessions, pg=resources.pg):
        pass


class TestFollowed:
    async def test_a_webhook_that_is_faster_than_the_answer_to_the_confirm(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "delay_reply", delaySeconds=1.5)
        confirming = asyncio.create_task(api.post("/payments/confirm", json=confirm_body(payment_key)))
        await until(sandbox.captures)

        await delivered(api, status_changed(await sandbox.shown(payment_key)))
        await work_now(resources)
        meanwhile = await read(api)
        answer = await confirming

        assert meanwhile["status"] == "COMPLETED"
        assert (answer.status_code, answer.json()["status"]) == (200, "COMPLETED")
        assert await causes(api, payment_key) == ["api", "api", "webhook", "webhook"]
        assert await announced(resources) == ["payment.completed"]
        assert await sandbox.captures() == [AMOUNT]

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    async def test_two_events_of_one_deposit_have_one_effect(
        self, order: tuple[int, int], api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        shown = await sandbox.act(await paid(api, sandbox, method="VIRTUAL_ACCOUNT"), "deposit")
        events = [status_changed(shown), deposit_callback(shown)]

        await delivered(api, *(events[number] for number in order))
        await work_now(resources)

        assert (await read(api))["status"] == "COMPLETED"
        assert await announced(resources) == ["payment.waiting_for_deposit", "payment.completed"]
        assert await look_ups(sandbox, ORDER) == 1

    async def test_a_deposit_that_the_bank_takes_back(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)

        await delivered(api, deposit_callback(await sandbox.act(payment_key, "reverse-deposit")))
        await work_now(resources)

        assert (await read(api))["status"] == "WAITING_FOR_DEPOSIT"
        assert (await announced(resources))[-1] == "payment.deposit_reversed"

    async def test_another_amount_than_the_one_owed_is_no_deposit(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method="VIRTUAL_ACCOUNT")

        shown = await sandbox.act(payment_key, "deposit", amount=AMOUNT - 1, force=True)
        await delivered(api, deposit_callback(shown))
        await work_now(resources)

        assert (await read(api))["status"] == "WAITING_FOR_DEPOSIT"
        assert await discrepancy_kinds(resources) == ["deposit_amount_differs"]
        assert await outcomes(resources) == ["recorded"]

    async def test_a_cancel_in_tosss_console(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)

        await delivered(api, status_changed(await sandbox.act(payment_key, "cancel", amount=5_000)))
        await work_now(resources)

        payment = await read(api)
        assert (payment["status"], payment["refundedAmount"]) == ("PARTIALLY_REFUNDED", 5_000)
        assert (await causes(api, payment_key))[-1] == "webhook"

    async def test_a_cancel_that_is_told_of_by_its_own_key_alone(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await cancelling(api, 1_000)
        (ours,) = (await sandbox.shown(payment_key))["cancels"]
        await sandbox.act(payment_key, "cancel", amount=5_000)

        await delivered(api, cancel_changed(ours))
        await work_now(resources)

        assert (await read(api))["refundedAmount"] == 6_000
        assert [one.order_id for one in await stored(resources)] == [ORDER]

    async def test_a_refund_of_ours_that_is_still_under_way(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await sandbox.arm("cancel", "delay_reply", delaySeconds=1.5)
        refunding = asyncio.create_task(cancelling(api, 5_000))
        await until(sandbox.cancelled)

        await delivered(api, status_changed(await sandbox.shown(payment_key)))
        await work_now(resources)
        answer = await refunding

        assert answer.json()["refund"]["status"] == "SUCCEEDED"
        assert (await read(api))["refundedAmount"] == 5_000
        assert await announced(resources) == ["payment.completed", "payment.refunded"]

    async def test_an_event_of_the_past_brings_the_present(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        past = status_changed(await sandbox.shown(payment_key))
        await sandbox.act(payment_key, "cancel")

        await delivered(api, past)  # DONE, says the event
        await work_now(resources)

        assert (await read(api))["status"] == "REFUNDED"

    async def test_an_event_of_an_earlier_attempt_leaves_the_present_one_alone(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        refused = await sandbox.buyer_authenticates(refuseWith="INVALID_STOPPED_CARD")
        await api.post("/payments/confirm", json=confirm_body(refused))
        await prepared(api)
        before = await read(api)

        aborted = status_changed(await sandbox.shown(refused))
        await delivered(api, aborted, {**aborted, "data": {"paymentKey": refused, "status": "DONE"}})
        await work_now(resources)

        assert await read(api) == before
        assert await outcomes(resources) == ["recorded", "recorded"]

    @pytest.mark.parametrize("pair", [("DONE", "ABORTED"), ("ABORTED", "DONE")])
    async def test_a_pair_that_contradicts_itself_about_a_confirm_whose_answer_was_lost(
        self, pair: tuple[str, str], api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        """Toss was seen creating DONE and ABORTED for one payment 45 ms apart."""
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "drop_reply")
        await sandbox.arm("lookup", "server_error")
        unknown = await api.post("/payments/confirm", json=confirm_body(payment_key))
        shown = await sandbox.shown(payment_key)

        await delivered(api, *(status_changed(shown, status=status) for status in pair))
        await work_now(resources)

        assert unknown.status_code == 202
        assert (await read(api))["status"] == "COMPLETED"
        assert await announced(resources) == ["payment.completed"]

    async def test_types_that_nothing_follows_from_are_kept_and_left_alone(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        events: list[Event] = [
            PAYOUT,
            {"eventType": "BILLING_DELETED", "createdAt": created_now(), "data": {"billingKey": "k", "reason": None}},
            {"eventType": "brand.new", "createdAt": None, "data": {"orderId": ORDER, "new": [1.5, None]}},
            {"eventType": "NO_DATA_AT_ALL"},
        ]

        await delivered(api, *events)
        await work_now(resources)

        assert await outcomes(resources) == ["ignored"] * 4
        assert await look_ups(sandbox, ORDER) == 0


async def causes(api: httpx.AsyncClient, payment_key: str) -> list[str]:
    events = (await api.get(f"/payments/{payment_key}/events")).json()["events"]
    return [event["cause"] for event in events]


class TestWork:
    async def test_goes_on_when_toss_is_back(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        shown = await sandbox.act(await paid(api, sandbox, method="VIRTUAL_ACCOUNT"), "deposit")
        await delivered(api, deposit_callback(shown))
        await sandbox.arm("lookup", "server_error", times=3)

        for attempt in range(1, 4):
            await work_now(resources)
            (one,) = await stored(resources)
            assert (one.attempts, one.processed_at, one.last_error) == (attempt, None, "unknown: pg_error")
            pause = one.next_attempt_at - (one.looked_up_at or one.received_at)
            assert PAUSES[attempt - 1] <= pause <= 1.2 * PAUSES[attempt - 1] + timedelta(seconds=2)
        await work_now(resources)

        assert (await read(api))["status"] == "COMPLETED"
        assert await outcomes(resources) == ["recorded"]

    async def test_waits_as_long_as_toss_asks_it_to(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await delivered(api, a_hint(ORDER))
        await sandbox.arm("lookup", "too_many_requests", retryAfterSeconds=90)

        await work_now(resources)

        (one,) = await stored(resources)
        assert one.next_attempt_at - (one.looked_up_at or one.received_at) >= timedelta(seconds=90)

    async def test_asks_for_a_day_and_then_calls_a_person(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        shown = await sandbox.act(payment_key, "cancel")
        await delivered(api, status_changed(shown))
        await set_attempts(resources, MOST_QUESTIONS - 1)
        await sandbox.arm("lookup", "server_error")

        await work_now(resources)
        await work_now(resources)
        (parked,) = await stored(resources)
        kinds = await discrepancy_kinds(resources)
        replayed = await replay_webhooks(sessions=resources.sessions, webhook_id=None, parked_only=True)
        await work_now(resources)

        assert sum(PAUSES, timedelta()) > timedelta(hours=24)
        assert (parked.parked_at is not None, parked.processed_at) == (True, None)
        assert kinds == [DiscrepancyKind.WEBHOOK_NOT_PROCESSED.value]
        assert replayed == 1
        assert await outcomes(resources) == ["recorded"]
        assert (await read(api))["status"] == "REFUNDED"

    async def test_parks_what_always_fails_while_the_others_flow(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await paid(api, sandbox, OTHER_ORDER)
        await delivered(api, a_hint(ORDER, "poison"), a_hint(ORDER), a_hint(OTHER_ORDER))
        async with transaction(resources.sessions) as session:  # what neither front door nor database would let in
            check = "ck_received_webhooks_payment_key_alphabet"
            await session.execute(text(f"ALTER TABLE received_webhooks DROP CONSTRAINT {check}"))
            poison = update(ReceivedWebhook).where(ReceivedWebhook.payment_key == "poison")
            await session.execute(poison.values(payment_key="../settlements"))

        for _ in range(12):
            await work_now(resources)

        assert await outcomes(resources) == [None, "recorded", "recorded"]
        parked = (await stored(resources))[0]
        assert (parked.attempts, parked.last_error) == (10, "ValueError")
        assert parked.parked_at is not None
        assert await discrepancy_kinds(resources) == ["webhook_not_processed"]

    async def test_is_taken_over_when_a_worker_dies(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        shown = await sandbox.act(await paid(api, sandbox, method="VIRTUAL_ACCOUNT"), "deposit")
        await delivered(api, deposit_callback(shown))
        await sandbox.arm("lookup", "delay", delaySeconds=30)
        working = asyncio.create_task(work_webhooks(sessions=resources.sessions, pg=resources.pg))
        await until(lambda: is_held(resources))
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

        (left,) = await stored(resources)
        early = await work_webhooks(sessions=resources.sessions, pg=resources.pg)
        await sandbox.clear_faults()
        await work_now(resources)

        assert left.looked_up_at is not None
        assert left.next_attempt_at == left.looked_up_at + LEASE
        assert early == 0
        assert (await read(api))["status"] == "COMPLETED"
        assert await announced(resources) == ["payment.waiting_for_deposit", "payment.completed"]

    async def test_is_shared_by_any_number_of_workers(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        orders = [f"order-shared-{number}" for number in range(5)]
        for order_id in orders:
            await paid(api, sandbox, order_id)
        await delivered(api, *(a_hint(order_id) for order_id in orders for _ in range(5)))

        while None in await outcomes(resources):
            rounds = (work_webhooks(sessions=resources.sessions, pg=resources.pg, limit=2) for _ in range(6))
            await asyncio.gather(*rounds)

        assert [await look_ups(sandbox, order_id) for order_id in orders] == [1] * 5

    async def test_is_claimed_by_one_worker_after_the_other(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await delivered(api, a_hint(ORDER))

        async with transaction(resources.sessions) as session:
            is_mine = await inbox.take_turn(session)
            meanwhile = await work_webhooks(sessions=resources.sessions, pg=resources.pg)
        afterwards = await work_webhooks(sessions=resources.sessions, pg=resources.pg)

        assert (is_mine, meanwhile, afterwards) == (True, 0, 1)

    async def test_can_be_asked_for_once_more(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await delivered(api, a_hint(ORDER), a_hint("order-of-nobody"))
        await work_now(resources)
        first, _ = await stored(resources)
        await sandbox.act(payment_key, "cancel")

        nothing = await replay_webhooks(sessions=resources.sessions, webhook_id=first.id, parked_only=True)
        replayed = await replay_webhooks(sessions=resources.sessions, webhook_id=first.id, parked_only=False)
        await work_now(resources)

        assert (nothing, replayed) == (0, 1)
        assert (await read(api))["status"] == "REFUNDED"


async def is_held(resources: Resources) -> bool:
    return any(one.looked_up_at for one in await stored(resources))


async def set_attempts(resources: Resources, attempts: int) -> None:
    async with transaction(resources.sessions) as session:
        await session.execute(update(ReceivedWebhook).values(attempts=attempts))


CARD_EVENTS: Final = 3
ACCOUNT_EVENTS: Final = 5
LIVES_AT_ONCE: Final = 8  # as many as the pool has connections


@pytest.fixture
async def card_life(api: httpx.AsyncClient, sandbox: Sandbox) -> list[Event]:
    """DONE, and two cancels of a part each."""
    payment_key = await paid(api, sandbox)
    life = [await sandbox.shown(payment_key)]
    for amount in (5_000, 4_000):
        await sandbox.act(payment_key, "cancel", amount=amount)
        life.append(await sandbox.shown(payment_key))
    assert [shown["status"] for shown in life] == ["DONE", "PARTIAL_CANCELED", "PARTIAL_CANCELED"]
    return life


@pytest.fixture
async def account_life(api: httpx.AsyncClient, sandbox: Sandbox) -> list[Event]:
    """An account that is issued, paid into, robbed of its deposit, paid into again, and given back."""
    payment_key = await paid(api, sandbox, method="VIRTUAL_ACCOUNT")
    life = [await sandbox.shown(payment_key)]
    for verb in ("deposit", "reverse-deposit", "deposit", "cancel"):
        await sandbox.act(payment_key, verb)
        life.append(await sandbox.shown(payment_key))
    assert [one["status"] for one in life] == ["WAITING_FOR_DEPOSIT", "DONE", "WAITING_FOR_DEPOSIT", "DONE", "CANCELED"]
    return life


class TestEveryOrder:
    """All orders of all events of a life, some of them lost and some told again, each for a payment of its own."""

    async def test_of_a_card_payment_ends_as_toss_has_it(
        self, card_life: list[Event], resources: Resources, pytestconfig: pytest.Config
    ) -> None:
        repeats = 40 if pytestconfig.getoption("--proof") else 5
        tales = all_tales(card_life, repeats=repeats)

        await told(tales, resources)

        assert len(tales) == 6 * repeats
        for payment in await ended(resources):
            assert (payment.status, payment.refundable_amount) == (PaymentStatus.PARTIALLY_REFUNDED, AMOUNT - 9_000)
        assert await announcements(resources) == {"payment.completed": {1}, "payment.refunded": {2}}
        assert await discrepancy_kinds(resources) == []

    async def test_of_a_virtual_account_ends_as_toss_has_it(
        self, account_life: list[Event], resources: Resources, pytestconfig: pytest.Config
    ) -> None:
        repeats = 3 if pytestconfig.getoption("--proof") else 1
        tales = all_tales(account_life, repeats=repeats)

        await told(tales, resources)

        assert len(tales) == 120 * repeats
        for payment in await ended(resources):
            assert (payment.status, payment.refundable_amount) == (PaymentStatus.REFUNDED, 0)
        assert (await announcements(resources))["payment.refunded"] == {1}
        assert await discrepancy_kinds(resources) == []


def all_tales(life: Sequence[Event], *, repeats: int) -> list[Tale]:
    """For each order of the events. In one of three all arrive once, in the others some are lost or come again."""
    chance = random.Random(20261102)
    orders = [order for order in permutations(range(len(life))) for _ in range(repeats)]
    return [
        Tale(number, order if number % 3 == 0 else damaged(order, chance), life) for number, order in enumerate(orders)
    ]


def damaged(order: Sequence[int], chance: random.Random) -> Sequence[int]:
    times = {event: chance.choice((0, 1, 2)) for event in order}
    times[chance.choice(order)] = 1  # one at least arrives; what is wholly lost is recovery's
    arriving = [event for event in order if times[event]]
    for event in [event for event in order if times[event] == 2]:
        arriving.insert(chance.randint(arriving.index(event) + 1, len(arriving)), event)
    return arriving


async def told(tales: Sequence[Tale], resources: Resources) -> None:
    """The events arrive step by step; Toss is never behind one, and has come to its end before the last new one."""
    await begin_confirms(tales, resources)
    async with recorded_toss(tales) as pg:
        for step in range(max(len(tale.sequence) for tale in tales)):
            arriving = [tale for tale in tales if step < len(tale.sequence)]
            for start in range(0, len(arriving), LIVES_AT_ONCE):
                batch = arriving[start : start + LIVES_AT_ONCE]
                await asyncio.gather(*(arrives(tale, step, resources) for tale in batch))
            await work_now(resources, pg=pg)


async def begin_confirms(tales: Sequence[Tale], resources: Resources) -> None:
    """Every payment is promised to be confirmed, and whoever promised it has died."""
    now = datetime.now(UTC)
    method = PaymentMethod.VIRTUAL_ACCOUNT if tales[0].life[0]["virtualAccount"] else PaymentMethod.CARD
    async with transaction(resources.sessions) as session:
        for tale in tales:
            payment = Payment.prepare(
                tale.order_id, AMOUNT, method=method, order_name="티셔츠", customer_email="buyer@example.com", at=now
            )
            key = f"confirm-{tale.number}"
            payment.begin_confirm(tale.payment_key, AMOUNT, confirm_key=key, at=now, lease=Lease(timedelta(hours=1)))
            session.add(payment)


async def arrives(tale: Tale, step: int, resources: Resources) -> None:
    stage = tale.sequence[step]
    tale.stage = len(tale.life) - 1 if step >= tale.last_news else max(tale.stage, stage)
    for event in tale.events(stage, created_at=f"2026-11-02T12:00:00.{stage:06d}"):
        await receive_webhook(
            Delivery(as_sent(event)),
            read=read_event,
            trust=Trust((), takes_hints=True),
            at=datetime.now(UTC),
            sessions=resources.sessions,
            hot=resources.hot,
        )


async def ended(resources: Resources) -> Sequence[Payment]:
    async with transaction(resources.sessions) as session:
        of_tales = select(Payment).where(Payment.order_id.startswith("order-of-tale-"))
        return (await session.scalars(of_tales)).all()


async def announcements(resources: Resources) -> dict[str, set[int]]:
    """How often the order service is told each thing about one payment; every number that occurs."""
    of_tales = select(Payment.id).where(Payment.order_id.startswith("order-of-tale-"))
    async with transaction(resources.sessions) as session:
        rows = await session.execute(
            select(OutboxMessage.type, func.count())
            .where(OutboxMessage.payment_id.in_(of_tales))
            .group_by(OutboxMessage.payment_id, OutboxMessage.type)
        )
        found: dict[str, set[int]] = {}
        for kind, times in rows:
            found.setdefault(kind.value, set()).add(times)
    return found
