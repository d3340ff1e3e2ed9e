from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from payments.api.app import create_app
from payments.db import transaction
from payments.explanations import EXPLANATIONS
from payments.models import Payment
from payments.resources import Resources
from payments.states import PaymentStatus
from tests.builders import CONFIRM_KEY, PAYMENT_KEY, WEBHOOK_SECRET, a_payment, earlier_key
from tests.integration.world import (
    AMOUNT,
    ORDER,
    SECRET_KEY,
    Sandbox,
    confirm_body,
    discrepancy_kinds,
    prepared,
    read,
    settings_for,
)
from tests.keys import AUTHORIZATION

DEAD = "postgresql+psycopg://nobody:kanarienvogel@127.0.0.1:1/nothing"


async def stored(resources: Resources, *payments: Payment) -> None:
    async with transaction(resources.sessions) as session:
        session.add_all(payments)


def order_in(status: PaymentStatus) -> str:
    return f"order-{status}"


def a_payment_in_each_status() -> list[Payment]:
    return [
        a_payment(status, AMOUNT, order_id=order_in(status), payment_key=f"key-{status}") for status in PaymentStatus
    ]


async def refused_then_paid(api: httpx.AsyncClient, sandbox: Sandbox) -> tuple[str, str]:
    """Two attempts at one order: a card that is refused, and one that pays; their payment keys."""
    await prepared(api)
    refused = await sandbox.buyer_authenticates(refuseWith="INVALID_STOPPED_CARD")
    await api.post("/payments/confirm", json=confirm_body(refused))
    await prepared(api)
    paid = await sandbox.buyer_authenticates()
    await api.post("/payments/confirm", json=confirm_body(paid))
    return refused, paid


@asynccontextmanager
async def api_on(database: str, sandbox_url: str) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings_for(database, sandbox_url))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api", headers=AUTHORIZATION) as client,
    ):
        yield client


class TestReadPayment:
    async def test_of_an_order_shows_where_it_stands(self, api: httpx.AsyncClient) -> None:
        await prepared(api)

        payment = await read(api)

        assert (payment["orderId"], payment["status"], payment["amount"]) == (ORDER, "CREATED", AMOUNT)
        assert (payment["paymentKey"], payment["failure"], payment["refunds"]) == (None, None, [])
        assert payment["createdAt"].endswith("Z")

    async def test_by_payment_key_is_the_same_as_by_order(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        _, paid = await refused_then_paid(api, sandbox)

        answer = await api.get(f"/payments/{paid}")

        assert answer.status_code == 200
        assert answer.json() == await read(api)

    async def test_by_the_key_of_an_earlier_attempt_is_the_payment_as_it_stands_now(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        refused, paid = await refused_then_paid(api, sandbox)

        payment = (await api.get(f"/payments/{refused}")).json()

        assert (payment["paymentKey"], payment["status"], payment["attempt"]) == (paid, "COMPLETED", 2)

    async def test_is_what_confirm_answered(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)

        confirmed = await api.post("/payments/confirm", json=confirm_body(await sandbox.buyer_authenticates()))

        assert confirmed.json() == await read(api)

    async def test_in_any_status_explains_itself(self, api: httpx.AsyncClient, resources: Resources) -> None:
        await stored(resources, *a_payment_in_each_status())

        for status in PaymentStatus:
            payment = await read(api, order_in(status))
            explanation = EXPLANATIONS[status]
            assert payment["status"] == status
            assert (payment["reason"], payment["nextAction"]) == (explanation.reason, explanation.next_action)
            assert (payment["failure"] is not None) == (status is PaymentStatus.FAILED)
            assert payment["refundedAmount"] + payment["refundableAmount"] in {0, AMOUNT}

    async def test_in_any_status_keeps_secrets_and_the_buyers_address_to_itself(
        self, api: httpx.AsyncClient, resources: Resources
    ) -> None:
        payments = a_payment_in_each_status()
        for payment in payments:
            payment.webhook_secret = WEBHOOK_SECRET
        await stored(resources, *payments)

        shown = "".join([(await api.get(f"/payments/orders/{order_in(status)}")).text for status in PaymentStatus])

        assert not [
            hidden for hidden in (CONFIRM_KEY, WEBHOOK_SECRET, SECRET_KEY, "buyer@example.com") if hidden in shown
        ]

    async def test_changes_nothing(self, api: httpx.AsyncClient, resources: Resources) -> None:
        await stored(resources, a_payment(PaymentStatus.PENDING, order_id=ORDER))
        first = await read(api)

        again = await read(api)

        assert again == first
        assert await discrepancy_kinds(resources) == []

    @pytest.mark.parametrize(
        "address", ["/payments/orders/order-000009", "/payments/unknown-key", "/payments/unknown-key/events"]
    )
    async def test_that_nobody_prepared_is_not_found(self, api: httpx.AsyncClient, address: str) -> None:
        answer = await api.get(address)

        assert (answer.status_code, answer.json()["code"]) == (404, "payment_not_found")
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_of_an_order_that_was_not_confirmed_is_found_by_no_key(self, api: httpx.AsyncClient) -> None:
        await prepared(api)

        assert (await api.get(f"/payments/{ORDER}")).status_code == 404


class TestTimeline:
    async def test_tells_every_move_over_all_attempts(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        _, paid = await refused_then_paid(api, sandbox)

        events = (await api.get(f"/payments/{paid}/events")).json()["events"]

        assert [(event["from"], event["to"], event["attempt"]) for event in events] == [
            (None, "CREATED", 1),
            ("CREATED", "PENDING", 1),
            ("PENDING", "FAILED", 1),
            ("FAILED", "CREATED", 2),
            ("CREATED", "PENDING", 2),
            ("PENDING", "APPROVED", 2),
            ("APPROVED", "COMPLETED", 2),
        ]
        assert [event["sequence"] for event in events] == [1, 2, 3, 4, 5, 6, 7]
        assert {event["cause"] for event in events} == {"api"}
        assert [event["at"] for event in events] == sorted(event["at"] for event in events)

    async def test_shows_the_pgs_evidence_where_it_refused(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        _, paid = await refused_then_paid(api, sandbox)

        events = (await api.get(f"/payments/{paid}/events")).json()["events"]

        evidence = {event["to"]: (event["pgCode"], event["message"]) for event in events if event["pgCode"]}
        assert evidence == {"FAILED": ("INVALID_STOPPED_CARD", "정지된 카드 입니다.")}

    async def test_is_found_by_the_key_of_any_attempt(self, api: httpx.AsyncClient, resources: Resources) -> None:
        await stored(resources, a_payment(PaymentStatus.COMPLETED, attempt=3))

        timelines = [
            (await api.get(f"/payments/{key}/events")).json() for key in (PAYMENT_KEY, earlier_key(1), earlier_key(2))
        ]

        assert timelines[0] == timelines[1] == timelines[2]
        assert len(timelines[0]["events"]) == 10


class TestHealth:
    async def test_live_needs_nothing(self, sandbox_url: str) -> None:
        async with api_on(DEAD, sandbox_url) as api:
            answer = await api.get("/health/live")

        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    async def test_ready_is_green_on_a_migrated_database(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/health/ready")

        assert answer.status_code == 200
        assert answer.json() == {"status": "ok", "checks": {"database": "ok", "schema": "ok", "jobs": "ok"}}

    async def test_ready_is_red_before_the_migrations(self, empty_database: str, sandbox_url: str) -> None:
        async with api_on(empty_database, sandbox_url) as api:
            answer = await api.get("/health/ready")

        checks: dict[str, Any] = answer.json()["checks"]
        assert (answer.status_code, checks["database"]) == (503, "ok")
        assert "payments migrate" in checks["schema"]

    async def test_ready_is_red_and_silent_about_where_while_the_database_is_away(self, sandbox_url: str) -> None:
        async with api_on(DEAD, sandbox_url) as api:
            answer = await api.get("/health/ready")

        assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "away")
        assert "kanarienvogel" not in answer.text


class TestWithoutTheDatabase:
    @pytest.mark.parametrize("address", [f"/payments/orders/{ORDER}", "/payments/any-key", "/payments/any-key/events"])
    async def test_reading_says_when_to_come_back(self, sandbox_url: str, address: str) -> None:
        async with api_on(DEAD, sandbox_url) as api:
            answer = await api.get(address)

        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) >= 1

    async def test_confirming_never_reaches_the_pg(self, sandbox_url: str, sandbox: Sandbox) -> None:
        payment_key = await sandbox.buyer_authenticates()

        async with api_on(DEAD, sandbox_url) as api:
            answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert await sandbox.calls() == []

    async def test_on_an_empty_one_a_bug_is_no_more_than_a_request_id(
        self, empty_database: str, sandbox_url: str
    ) -> None:
        async with api_on(empty_database, sandbox_url) as api:
            answer = await api.get(f"/payments/orders/{ORDER}")

        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (500, "internal_error")
        assert problem["requestId"] == answer.headers["x-request-id"]
        assert "payments" not in problem["detail"]
        assert not any(word in answer.text.lower() for word in ("select", "relation", "traceback", "sqlalchemy"))


class TestMetrics:
    async def test_count_what_the_pg_answered_and_how_long_a_confirm_took(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await api.post("/payments/confirm", json=confirm_body(payment_key))

        answer = await api.get("/metrics")

        assert answer.headers["content-type"].startswith("text/plain")
        assert 'pg_answers_total{call="confirm",kind="approved"}' in answer.text
        assert 'payments_confirm_seconds_count{outcome="completed"}' in answer.text

    async def test_name_no_order_no_key_and_no_secret(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await api.post("/payments/confirm", json=confirm_body(payment_key))

        shown = (await api.get("/metrics")).text

        for hidden in (ORDER, payment_key, SECRET_KEY, "buyer@example.com"):
            assert hidden not in shown
