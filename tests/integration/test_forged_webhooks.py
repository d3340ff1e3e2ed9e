"""What a forger gets from the real application: nothing is believed or kept, nothing breaks, and Toss is spared."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import func, text, update

from payments.api.app import create_app
from payments.card_numbers import has_card_number
from payments.db import transaction
from payments.gateways.toss import TossClient
from payments.gateways.toss_events import read_event
from payments.records import ReceivedWebhook
from payments.resources import WEBHOOKS_AT_ONCE, Resources
from payments.settings import Settings, Unsigned
from payments.usecases.forget import KEPT_FOR, forget
from payments.usecases.receive_webhook import Delivery, Trust, receive_webhook
from payments.usecases.work_webhooks import work_webhooks
from tests.fuzz.forgeries import (
    FORGERIES,
    HEX_SECRET,
    TEXT_SECRET,
    VARIANTS,
    Arriving,
    Forger,
    changed,
    genuine_deliveries,
    toss_value,
)
from tests.integration.webhook_world import (
    Event,
    a_hint,
    as_sent,
    created_now,
    look_ups,
    outcomes,
    signed,
    signed_as_toss,
    status_changed,
    stored,
    transmitted,
)
from tests.integration.world import (
    ORDER,
    SECRET_KEY,
    Sandbox,
    announced,
    confirm_body,
    discrepancy_kinds,
    paid,
    prepared,
    read,
    settings_for,
    until,
)

SEEDS: Final = (20261122, 20261123, 20261124, 20261125)
IN_ALL: Final = 300
IN_ALL_WITH_PROOF: Final = 20_000
CARD: Final = "4111 1111 1111 1111"
MASKED: Final = "**** **** **** 1111"
SIGNATURE: Final = "toss-signature"
TOSS_SIGNATURE: Final = "tosspayments-webhook-signature"
TOSS_TIME: Final = "tosspayments-webhook-transmission-time"
# What changes in the moment of arrival cannot be sent.
FORGED: Final = {name: change for name, change in FORGERIES.items() if name != "too_late_or_too_early"}


@pytest.fixture
def settings(database: str, sandbox_url: str) -> Settings:
    secrets = (SecretStr(HEX_SECRET), SecretStr(TEXT_SECRET))
    return settings_for(database, sandbox_url).model_copy(update={"toss_webhook_secrets": secrets})


@pytest.fixture
async def strict(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The same API, where `TOSS_WEBHOOK_UNSIGNED=reject`."""
    async with an_api(settings.model_copy(update={"toss_webhook_unsigned": Unsigned.REJECT})) as client:
        yield client


@asynccontextmanager
async def an_api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api") as client,
    ):
        yield client


async def sent(api: httpx.AsyncClient, arriving: Arriving) -> httpx.Response:
    told = arriving.delivery
    named = ((SIGNATURE, told.signatures), (TOSS_SIGNATURE, told.toss_signatures), (TOSS_TIME, told.transmission_times))
    lines = [(name, line.encode("utf-8", "surrogatepass")) for name, found in named for line in found]
    head = [(b"content-type", b"application/json"), *((name.encode(), line) for name, line in lines)]
    return await api.post("/webhook/toss", content=told.body, headers=head)


async def drained(resources: Resources) -> None:
    while await work_webhooks(sessions=resources.sessions, pg=resources.pg):
        pass


def a_forger(seed: int) -> Forger:
    chance = random.Random(seed)
    return Forger(chance, genuine_deliveries(chance, 60, at=datetime.now(UTC)))


class TestForged:
    @pytest.mark.parametrize("seed", SEEDS)
    async def test_is_refused_and_leaves_nothing(
        self,
        seed: int,
        strict: httpx.AsyncClient,
        resources: Resources,
        pytestconfig: pytest.Config,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        in_proof = bool(pytestconfig.getoption("--proof"))
        count = (IN_ALL_WITH_PROOF if in_proof else IN_ALL) // len(SEEDS)
        forgeries = changed(a_forger(seed), FORGED)

        began = time.perf_counter()
        statuses = Counter([(await sent(strict, next(forgeries)[1])).status_code for _ in range(count)])
        took = time.perf_counter() - began

        assert set(statuses) <= {400, 401, 413, 415}
        assert await stored(resources) == []
        if in_proof:
            figures = f"{count:,} forged webhooks, {dict(sorted(statuses.items()))}, {count / took:,.0f}/s"
            with capsys.disabled():
                print(f"\nseed {seed}: {figures}")  # noqa: T201 - the proof shows its figures

    async def test_is_all_that_is_refused(self, strict: httpx.AsyncClient, resources: Resources) -> None:
        variants = changed(a_forger(SEEDS[0]), VARIANTS)

        statuses = Counter([(await sent(strict, next(variants)[1])).status_code for _ in range(60)])

        assert statuses == {200: 60}
        assert {one.verified_by for one in await stored(resources)} == {"signature"}

    async def test_costs_a_question_and_changes_nothing_where_hints_are_taken(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, pytestconfig: pytest.Config
    ) -> None:
        count = 5_000 if pytestconfig.getoption("--proof") else 200
        payment_key = await paid(api, sandbox)
        before = await read(api)
        forgeries = hints_about(await sandbox.shown(payment_key), count)

        statuses = Counter([(await transmitted(api, body)).status_code for body in forgeries])
        await drained(resources)

        assert set(statuses) == {200, 400}
        assert await read(api) == before
        assert await announced(resources) == ["payment.completed"]
        assert await discrepancy_kinds(resources) == []
        assert 1 <= await look_ups(sandbox, ORDER) <= 2
        assert {call["method"] for call in await sandbox.calls(ORDER)} == {"POST", "GET"}


def hints_about(shown: Event, count: int) -> list[bytes]:
    """Unsigned events about a payment, each after a change; most of them still name it."""
    chance = random.Random(SEEDS[0])
    statuses = ("DONE", "CANCELED", "PARTIAL_CANCELED", "ABORTED", "EXPIRED", "WAITING_FOR_DEPOSIT", "READY", "x", None)
    events = [status_changed(shown, status=status, balanceAmount=chance.randint(0, 10**6)) for status in statuses]
    forger = Forger(chance, [Arriving(Delivery(as_sent(event))) for event in events])
    bodies = changed(forger, {name: change for name, change in FORGERIES.items() if name.startswith("body_")})
    return [*(as_sent(event) for event in events), *(next(bodies)[1].body for _ in range(count))]


BODY: Final = as_sent({**a_hint(ORDER), "createdAt": "2026-11-02T12:00:00.000001"})
REFUSED_HEADERS: Final[dict[str, list[tuple[str, bytes]]]] = {
    "an empty one": [(SIGNATURE, b"")],
    "of nothing but zeros": [(SIGNATURE, b"0" * 64)],
    "of 10 kB": [(SIGNATURE, b"a" * 10_000)],
    "not ASCII": [(SIGNATURE, "서명".encode())],
    "not UTF-8": [(SIGNATURE, b"\xff\xfe\x80")],
    "of Latin letters": [(SIGNATURE, b"\xe9" * 64)],
    "Toss's of 10 kB": [(TOSS_SIGNATURE, b"v1:" + b"A" * 10_000), (TOSS_TIME, b"2026-01-02T14:46:59+09:00")],
    "Toss's of 1,000 values": [(TOSS_SIGNATURE, b",".join([b"v1:AAAA"] * 1_000)), (TOSS_TIME, b"2026-01-02T00:00:00Z")],
    "Toss's, not ASCII": [(TOSS_SIGNATURE, "v1:서명".encode()), (TOSS_TIME, "지금".encode())],
    "Toss's, not UTF-8": [(TOSS_SIGNATURE, b"v1:\xff"), (TOSS_TIME, b"\xff")],
    "Toss's, no base64": [(TOSS_SIGNATURE, b"v1:!!!!"), (TOSS_TIME, b"2026-01-02T14:46:59+09:00")],
}
REFUSED_TIMES: Final = (
    *("", "soon", "0", "1767332819", "2026-01-02", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+23:59"),
    *("9999-12-31T23:59:59-23:59", "2026-13-45T99:99:99+09:00", "-2026-01-02T00:00:00Z"),
)


class TestRefused:
    async def test_looks_the_same_whatever_is_wrong(self, api: httpx.AsyncClient, resources: Resources) -> None:
        answers = [await posted(api, lines) for lines in REFUSED_HEADERS.values()]

        assert {answer.status_code for answer in answers} == {401}
        assert len({shape(answer) for answer in answers}) == 1
        assert await stored(resources) == []

    @pytest.mark.parametrize("sent_at", REFUSED_TIMES)
    async def test_is_a_time_that_proves_nothing_though_it_is_signed(
        self, sent_at: str, api: httpx.AsyncClient
    ) -> None:
        value = toss_value(BODY, sent_at, TEXT_SECRET.encode())

        answer = await posted(api, [(TOSS_SIGNATURE, value.encode()), (TOSS_TIME, sent_at.encode())])

        assert answer.status_code == 401

    async def test_is_a_time_without_an_offset(self, api: httpx.AsyncClient) -> None:
        sent_at = datetime.now(UTC).replace(tzinfo=None).isoformat()
        value = toss_value(BODY, sent_at, TEXT_SECRET.encode())

        answer = await posted(api, [(TOSS_SIGNATURE, value.encode()), (TOSS_TIME, sent_at.encode())])

        assert answer.status_code == 401

    @pytest.mark.parametrize("sign", [signed, signed_as_toss], ids=["a relay", "Toss"])
    async def test_is_a_body_that_was_written_anew(
        self, sign: Callable[[bytes], dict[str, str]], api: httpx.AsyncClient
    ) -> None:
        event = json.loads(BODY)
        anew = (
            json.dumps(event, indent=2).encode(),
            json.dumps(event, separators=(",", ":")).encode(),
            json.dumps(dict(reversed(event.items()))).encode(),
            BODY + b"\n",
            b" " + BODY,
        )

        answers = [await transmitted(api, body, sign(BODY)) for body in anew]

        assert {answer.status_code for answer in answers} == {401}

    async def test_is_the_secret_of_another_payment_or_nearly_the_right_one(
        self, api: httpx.AsyncClient, strict: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        shown = await sandbox.shown(await paid(api, sandbox, method="VIRTUAL_ACCOUNT"))
        other = await sandbox.shown(await paid(api, sandbox, "order-000002", method="VIRTUAL_ACCOUNT"))
        secret = shown["secret"]

        answers = [
            await transmitted(strict, as_sent(status_changed(shown, secret=wrong)))
            for wrong in (other["secret"], secret[:-1], secret + "x", "", None, "x" * 10_000, secret.swapcase())
        ]

        assert {answer.status_code for answer in answers} == {401}
        assert len({shape(answer) for answer in answers}) == 1


def shape(answer: httpx.Response) -> str:
    """All that could tell one refusal from another."""
    problem = answer.json()
    request_id = problem["requestId"]
    headers = sorted((name, value) for name, value in answer.headers.items() if name != "x-request-id")
    return f"{answer.status_code} {answer.text.replace(request_id, '')} {headers}"


async def posted(api: httpx.AsyncClient, lines: Sequence[tuple[str, bytes]], body: bytes = BODY) -> httpx.Response:
    head = [(b"content-type", b"application/json"), *((name.encode(), line) for name, line in lines)]
    return await api.post("/webhook/toss", content=body, headers=head)


class TestReplayed:
    async def test_changes_nothing_within_the_tolerance_also_after_a_restart(
        self, api: httpx.AsyncClient, sandbox: Sandbox, settings: Settings, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        body = as_sent(status_changed(await sandbox.act(payment_key, "cancel", amount=5_000)))
        headers = signed_as_toss(body)
        first = await transmitted(api, body, headers)
        await drained(resources)
        before = (await read(api), await announced(resources))

        again = await transmitted(api, body, headers)
        async with an_api(settings) as started_anew:
            afterwards = await transmitted(started_anew, body, headers)
        await drained(resources)

        assert {answer.status_code for answer in (first, again, afterwards)} == {200}
        assert len({answer.text for answer in (first, again, afterwards)}) == 1
        assert await outcomes(resources) == ["recorded"]
        assert (await read(api), await announced(resources)) == before
        assert await look_ups(sandbox, ORDER) == 1

    async def test_is_refused_outside_it(self, api: httpx.AsyncClient, resources: Resources) -> None:
        body = as_sent(a_hint(ORDER))

        answers = [
            await transmitted(api, body, signed_as_toss(body, TEXT_SECRET, age=timedelta(seconds=seconds)))
            for seconds in (310, -310, 86_400)
        ]

        assert {answer.status_code for answer in answers} == {401}
        assert await stored(resources) == []

    async def test_counts_by_its_transmission_and_not_by_the_event(self, api: httpx.AsyncClient) -> None:
        """Toss repeats an event for almost four days."""
        body = as_sent({**a_hint(ORDER), "createdAt": "2020-01-01T00:00:00.000000"})

        assert (await transmitted(api, body, signed_as_toss(body))).status_code == 200


TRAVERSALS: Final[tuple[object, ...]] = (
    *(
        "../settlements",
        "..",
        ".",
        "a/cancel",
        "/v1/payments",
        "?",
        "a?x=1",
        "#",
        "a#x",
        "k" * 201,
        "%2e%2e%2f",
        "a\\b",
    ),
    *(
        "",
        " ",
        "a b",
        "key\n",
        "결제키",
        "\uff4b\uff45\uff59",
        "a@evil.example",
        "//evil.example",
        "https://evil.example/",
        "a;b",
    ),
    *(None, 7, 1.5, True, [], ["key"], {}, {"key": "k"}),
)


class TestKeys:
    async def test_that_cannot_be_keys_are_kept_as_events_and_never_asked_about(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        for key in TRAVERSALS:
            data = {"paymentKey": key, "orderId": key, "lastTransactionKey": key, "status": "DONE"}
            event = {"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": created_now(), "data": data}
            assert (await transmitted(api, as_sent(event))).status_code == 200
        await drained(resources)

        assert set(await outcomes(resources)) == {"orphan"}
        assert {(one.payment_key, one.order_id) for one in await stored(resources)} == {(None, None)}
        assert await calls(sandbox) == []

    async def test_beside_an_order_of_ours_lead_to_its_own_key_alone(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        for key in TRAVERSALS:
            event = a_hint(ORDER)
            event["data"]["paymentKey"] = key
            assert (await transmitted(api, as_sent(event))).status_code == 200
        await drained(resources)

        asked = [call["path"] for call in await sandbox.calls(ORDER) if call["method"] == "GET"]
        assert asked == [f"/v1/payments/{payment_key}"]


async def calls(sandbox: Sandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await sandbox.http.get("/sandbox/calls")).json()["calls"]
    return found


class TestFlood:
    async def test_of_unknown_keys_asks_nobody_and_is_forgotten(self, sandbox: Sandbox, resources: Resources) -> None:
        for number in range(1_000):
            hint = a_hint(f"order-of-nobody-{number}", f"key-of-nobody-{number}")
            await received(hint, resources)
        await drained(resources)
        kept = len(await stored(resources))
        async with transaction(resources.sessions) as session:
            age = KEPT_FOR["received_webhooks"] + timedelta(hours=1)
            await session.execute(update(ReceivedWebhook).values(received_at=func.now() - age))

        gone = await forget(sessions=resources.sessions)

        assert (kept, gone["received_webhooks"]) == (1_000, 1_000)
        assert await stored(resources) == []
        assert await calls(sandbox) == []

    async def test_leaves_the_buyers_half_of_the_connections(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)

        async with transaction(resources.sessions) as session:
            await session.execute(text("LOCK TABLE received_webhooks IN EXCLUSIVE MODE"))
            flood = [asyncio.create_task(transmitted(api, as_sent(a_hint(ORDER)))) for _ in range(40)]
            await until(lambda: some_wait(resources))
            meanwhile = await read(api)
        answers = await asyncio.gather(*flood)

        assert meanwhile["status"] == "COMPLETED"
        assert {answer.status_code for answer in answers} == {200}
        assert len(await stored(resources)) == 40


async def received(event: Event, resources: Resources) -> None:
    trust = Trust((), takes_hints=True)
    await receive_webhook(
        Delivery(as_sent(event)),
        read=read_event,
        trust=trust,
        at=datetime.now(UTC),
        sessions=resources.sessions,
        hot=resources.hot,
    )


async def some_wait(resources: Resources) -> bool:
    """Whether as many wait for the lock as may store at the same time, and no more do."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'received_webhooks'::regclass")
    async with transaction(resources.sessions) as session:
        return bool(await session.scalar(waiting) == WEBHOOKS_AT_ONCE)


@asynccontextmanager
async def a_toss_that_refuses(told: str) -> AsyncIterator[TossClient]:
    """Every confirm is refused in these words."""

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json={"code": "REJECT_CARD_PAYMENT", "message": told})

    async with TossClient(
        base_url="http://toss.example", secret_key=SECRET_KEY, transport=httpx.MockTransport(answer)
    ) as pg:
        yield pg


class TestCardNumbers:
    async def test_in_the_words_of_the_pg_are_masked_wherever_they_are_kept_and_shown(
        self, app: FastAPI, api: httpx.AsyncClient, resources: Resources
    ) -> None:
        await prepared(api)
        async with a_toss_that_refuses(f"{CARD} 한도초과") as pg:
            app.state.resources = replace(resources, pg=pg)
            refused = await api.post("/payments/confirm", json=confirm_body("payment-key-1"))
            app.state.resources = resources

        payment = await read(api)
        events = (await api.get("/payments/payment-key-1/events")).json()["events"]
        feed = (await api.get("/events")).text
        assert (refused.status_code, refused.json()["pgMessage"]) == (402, f"{MASKED} 한도초과")
        assert payment["failure"] == {"code": "REJECT_CARD_PAYMENT", "message": f"{MASKED} 한도초과"}
        assert events[-1]["message"] == f"{MASKED} 한도초과"
        assert "4111" not in feed

    async def test_in_an_event_are_masked_before_it_is_kept(self, api: httpx.AsyncClient, resources: Resources) -> None:
        event = {**a_hint(ORDER, status=CARD), "eventType": f"CARD {CARD}", CARD: {"number": 4111111111111111}}
        escaped = as_sent({**a_hint(ORDER), "x": "CARD"}).replace(b"CARD", rb"\u0034111111111111111")

        answers = [
            await transmitted(api, as_sent(event), {"tosspayments-webhook-transmission-id": "4111111111111111"}),
            await transmitted(api, escaped),
        ]

        assert {answer.status_code for answer in answers} == {200}
        first, second = await stored(resources)
        assert (first.event_type, first.status) == (f"CARD {MASKED}", MASKED)
        assert first.transmission_id == "************1111"
        for one in (first, second):
            assert not has_card_number(one.body.decode())
            assert "4111" not in json.dumps(json.loads(one.body))
        assert json.loads(first.body)["data"]["orderId"] == ORDER

    async def test_that_toss_has_masked_stay_as_they_are(self, api: httpx.AsyncClient, resources: Resources) -> None:
        body = as_sent({**a_hint(ORDER), "card": {"number": "12345678****123*", "approveNo": "00000000"}})

        await transmitted(api, body)

        assert [one.body for one in await stored(resources)] == [body]
