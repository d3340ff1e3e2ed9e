"""What the payments service tells the shop of its own accord: believed if signed, and counted once."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import httpx
import pytest
import respx
from sqlalchemy import select, text

from demo_shop.app import create_shop
from demo_shop.catalogue import BY_SLUG
from demo_shop.event_api import LARGEST_BODY
from demo_shop.events import TYPES
from demo_shop.orders import Order, OrderStatus, Sessions, create_order, find_order, open_engine
from demo_shop.received_events import ReceivedEvent
from demo_shop.settings import ShopSettings
from payments.local.postgres import LocalPostgres
from tests.shop.builders import AT, Json, a_payment
from tests.shop.signed_events import OLD_SECRET, SECRET, SEQUENCE, an_event, as_body, headers_of, send

# A server that goes away between two statements: 57P01 is what it says when it is shut down.
GO_AWAY = "BEGIN RAISE 'terminating connection' USING ERRCODE = '57P01'; END"
ORDERS_CANNOT_BE_CHANGED = (
    f"CREATE FUNCTION go_away() RETURNS trigger AS $$ {GO_AWAY} $$ LANGUAGE plpgsql",
    "CREATE TRIGGER away BEFORE UPDATE ON orders EXECUTE FUNCTION go_away()",
)
OTHERS_SECRET = SECRET[:-4] + "AAA="
MALFORMED_HEADERS = [
    ("webhook-id", ""),
    ("webhook-id", "another"),
    ("webhook-timestamp", "0"),
    ("webhook-timestamp", "soon"),
    ("webhook-timestamp", "nan"),
    ("webhook-timestamp", "1e400"),
    ("webhook-timestamp", "9" * 5_000),
    ("webhook-signature", ""),
    ("webhook-signature", "v1"),
    ("webhook-signature", "v1,"),
    ("webhook-signature", "v1,a"),
    ("webhook-signature", "v1,b,c"),
    ("webhook-signature", "v2,AAAA v1a,AAAA"),
    ("webhook-signature", "서명"),
    ("webhook-signature", "v1,서명"),
    ("webhook-signature", "v1,AAAA " * 1_000),
]
NO_EVENTS = [
    b"",
    b"null",
    b"[]",
    b'"payment.completed"',
    b"{",
    b"[" * 100_000,
    b'{"type": 1}',
    b'{"type": "payment.completed"}',
    b'{"type": "payment.completed", "timestamp": "yesterday", "data": {}}',
]
IMPOSSIBLE: list[Json] = [
    {"status": "LOST"},
    {"amount": "24000"},
    {"amount": 24_000.5},
    {"refundedAmount": 24_001},
    {"refundedAmount": -1},
    {"version": -1},
    {"version": 2**63},
    {"version": None},
    {"orderId": "no\0order"},
    {"paymentKey": "k" * 201},
    {"paymentKey": "k\0"},
    {"completedAt": "2026-11-22T03:00:00"},  # where?
]


@pytest.fixture
def settings(settings: ShopSettings) -> ShopSettings:
    return replace(settings, events_secrets=(SECRET, OLD_SECRET))


async def reread(sessions: Sessions, order: Order) -> Order:
    found = await find_order(sessions, order.order_id)
    assert found is not None
    return found


async def received(sessions: Sessions) -> list[ReceivedEvent]:
    async with sessions() as session:
        return list(await session.scalars(select(ReceivedEvent)))


def moves(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if " is now " in record.getMessage()]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


class TestAcceptedEvent:
    @pytest.mark.parametrize(
        ("event_type", "payment", "status"),
        [
            ("payment.waiting_for_deposit", {"status": "WAITING_FOR_DEPOSIT", "completedAt": None}, "CREATED"),
            ("payment.completed", {"status": "COMPLETED"}, "PAID"),
            ("payment.failed", {"status": "FAILED", "completedAt": None}, "CREATED"),
            ("payment.cancelled", {"status": "CANCELLED", "completedAt": None}, "CANCELLED"),
            ("payment.refunded", {"status": "PARTIALLY_REFUNDED", "refundedAmount": 4_000}, "PARTIALLY_REFUNDED"),
            ("payment.refunded", {"status": "REFUNDED", "refundedAmount": 24_000}, "REFUNDED"),
        ],
    )
    async def test_moves_its_order(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order, event_type: str, payment: Json, status: str
    ) -> None:
        response = await send(program, an_event(order.order_id, event_type, **payment))

        moved = await reread(sessions, order)
        assert response.status_code == 204
        assert (moved.status, moved.payment_version) == (status, 3)
        assert moved.refunded_amount == payment.get("refundedAmount", 0)

    async def test_is_kept_with_what_it_was(self, program: httpx.AsyncClient, sessions: Sessions, order: Order) -> None:
        event_id = str(uuid4())

        await send(program, an_event(order.order_id), event_id=event_id)

        [kept] = await received(sessions)
        assert (kept.id, kept.type, kept.order_id, kept.sequence) == (
            event_id,
            "payment.completed",
            order.order_id,
            SEQUENCE,
        )

    async def test_reversed_deposit_makes_the_order_unpaid(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order
    ) -> None:
        await send(program, an_event(order.order_id, version=4))

        waiting = {"status": "WAITING_FOR_DEPOSIT", "completedAt": None, "version": 5}
        await send(program, an_event(order.order_id, "payment.deposit_reversed", **waiting))

        moved = await reread(sessions, order)
        assert (moved.status, moved.paid_at) == (OrderStatus.CREATED, None)
        assert moved.deposit_reversed_at is not None

    @pytest.mark.parametrize("secrets", [[SECRET], [OLD_SECRET], [SECRET, OLD_SECRET], [OTHERS_SECRET, OLD_SECRET]])
    async def test_any_live_secret_may_have_signed(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order, secrets: list[str]
    ) -> None:
        body = as_body(an_event(order.order_id))

        response = await program.post("/api/events", content=body, headers=headers_of(body, *secrets))

        assert response.status_code == 204
        assert (await reread(sessions, order)).status is OrderStatus.PAID

    async def test_may_have_grown(self, program: httpx.AsyncClient, sessions: Sessions, order: Order) -> None:
        event = an_event(order.order_id, loyaltyPoints=[1]) | {"specVersion": "2"}

        assert (await send(program, event)).status_code == 204

        assert (await reread(sessions, order)).status is OrderStatus.PAID


class TestRepeatedEvent:
    async def test_counts_once_in_a_hundred(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        event_id = str(uuid4())

        answers = [await send(program, an_event(order.order_id), event_id=event_id) for _ in range(100)]

        assert {answer.status_code for answer in answers} == {204}
        assert len(await received(sessions)) == len(moves(caplog)) == 1

    async def test_counts_once_among_many_at_the_same_moment(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        event_id = str(uuid4())

        answers = await asyncio.gather(*[send(program, an_event(order.order_id), event_id=event_id) for _ in range(12)])

        assert {answer.status_code for answer in answers} == {204}
        assert len(await received(sessions)) == len(moves(caplog)) == 1

    async def test_does_not_bring_back_what_it_told_of(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order
    ) -> None:
        paid = an_event(order.order_id, version=3)
        await send(program, paid, event_id="paid")
        refunded = an_event(order.order_id, "payment.refunded", status="REFUNDED", refundedAmount=24_000, version=4)
        await send(program, refunded, event_id="refunded")

        await send(program, paid, event_id="paid")
        await send(program, paid, event_id="paid-again")  # as if under another id

        assert (await reread(sessions, order)).status is OrderStatus.REFUNDED


class TestEventsOutOfOrder:
    async def test_newest_wins_whatever_came_first(self, program: httpx.AsyncClient, sessions: Sessions) -> None:
        for arrival in itertools.permutations(range(4)):
            order = await create_order(sessions, BY_SLUG["moon-mug"], quantity=1, at=AT)
            story = life_of(order)

            answers = [await send(program, story[number]) for number in arrival]

            moved = await reread(sessions, order)
            assert {answer.status_code for answer in answers} == {204}
            assert (moved.status, moved.refunded_amount) == (OrderStatus.REFUNDED, 24_000), arrival

    async def test_look_at_the_payment_that_was_faster_is_not_undone(
        self, program: httpx.AsyncClient, payments_api: respx.MockRouter, sessions: Sessions, order: Order
    ) -> None:
        payments_api.get(f"/payments/orders/{order.order_id}").respond(json=a_payment(order.order_id, version=5))
        await program.post(f"/orders/{order.order_id}/refresh")

        await send(program, an_event(order.order_id, "payment.failed", status="FAILED", version=4))

        assert (await reread(sessions, order)).status is OrderStatus.PAID


def life_of(order: Order) -> list[Json]:
    return [
        an_event(order.order_id, "payment.waiting_for_deposit", status="WAITING_FOR_DEPOSIT", version=2),
        an_event(order.order_id, "payment.completed", version=4),
        an_event(order.order_id, "payment.refunded", status="PARTIALLY_REFUNDED", refundedAmount=9_000, version=5),
        an_event(order.order_id, "payment.refunded", status="REFUNDED", refundedAmount=24_000, version=6),
    ]


class TestForgedEvent:
    async def test_malformed_header_is_401(self, program: httpx.AsyncClient, sessions: Sessions, order: Order) -> None:
        body = as_body(an_event(order.order_id))

        for name, value in MALFORMED_HEADERS:
            headers = headers_of(body)
            headers[name] = value
            response = await program.post("/api/events", content=body, headers=headers)
            await self.changed_nothing(response, sessions, order)

    @pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    async def test_missing_header_is_401(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order, missing: str
    ) -> None:
        body = as_body(an_event(order.order_id))
        headers = headers_of(body)
        del headers[missing]

        response = await program.post("/api/events", content=body, headers=headers)

        await self.changed_nothing(response, sessions, order)

    async def test_other_secret_is_401(self, program: httpx.AsyncClient, sessions: Sessions, order: Order) -> None:
        body = as_body(an_event(order.order_id))

        response = await program.post("/api/events", content=body, headers=headers_of(body, OTHERS_SECRET))

        await self.changed_nothing(response, sessions, order)

    @pytest.mark.parametrize("age_seconds", [310, -310])
    async def test_recorded_try_is_401_after_five_minutes(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order, age_seconds: int
    ) -> None:
        body = as_body(an_event(order.order_id))

        response = await program.post("/api/events", content=body, headers=headers_of(body, age_seconds=age_seconds))

        await self.changed_nothing(response, sessions, order)

    async def test_other_body_than_the_signed_one_is_401(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order
    ) -> None:
        signed = as_body(an_event(order.order_id))

        for sent in (b"", b"{}", b"\xff\xfe", b"\0", signed + b" ", signed.replace(b"24000", b"24001")):
            response = await program.post("/api/events", content=sent, headers=headers_of(signed))
            await self.changed_nothing(response, sessions, order)

    async def test_signed_bytes_that_are_no_text_are_401(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order
    ) -> None:
        response = await program.post("/api/events", content=b"\xff\xfe", headers=headers_of(b"\xff\xfe"))

        await self.changed_nothing(response, sessions, order)

    async def changed_nothing(self, response: httpx.Response, sessions: Sessions, order: Order) -> None:
        assert response.status_code == 401
        assert response.headers["content-type"] == "application/problem+json"
        assert (await reread(sessions, order)).payment_version == 0
        assert await received(sessions) == []


class TestLargeEvent:
    async def test_is_taken_up_to_the_limit(self, program: httpx.AsyncClient, order: Order) -> None:
        body = as_body(an_event(order.order_id))
        body += b" " * (LARGEST_BODY - len(body))

        assert (await program.post("/api/events", content=body, headers=headers_of(body))).status_code == 204

    async def test_is_413_beyond_it(self, program: httpx.AsyncClient, sessions: Sessions, order: Order) -> None:
        body = as_body(an_event(order.order_id))
        body += b" " * (LARGEST_BODY - len(body) + 1)

        response = await program.post("/api/events", content=body, headers=headers_of(body))

        assert response.status_code == 413
        assert await received(sessions) == []

    async def test_is_not_read_to_its_end(self, program: httpx.AsyncClient) -> None:
        sent = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 1024
                yield b" " * 1024

        response = await program.post("/api/events", content=endless())

        assert response.status_code == 413
        assert sent == LARGEST_BODY + 1024


class TestBodyThatIsNoEvent:
    async def test_is_400(self, program: httpx.AsyncClient) -> None:
        for body in NO_EVENTS:
            response = await program.post("/api/events", content=body, headers=headers_of(body))
            assert response.status_code == 400, body[:100]

    async def test_payment_that_cannot_be_is_400(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order
    ) -> None:
        for wrong in IMPOSSIBLE:
            response = await send(program, an_event(order.order_id, **wrong))
            assert response.status_code == 400, wrong

        assert (await reread(sessions, order)).payment_version == 0

    @pytest.mark.parametrize("event_id", ["i" * 201, "two words"])
    async def test_id_that_cannot_be_kept_is_400(self, program: httpx.AsyncClient, order: Order, event_id: str) -> None:
        response = await send(program, an_event(order.order_id), event_id=event_id)

        assert response.status_code == 400


class TestEventThatIsNotOurs:
    async def test_order_that_we_do_not_have_is_acknowledged(
        self, program: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        response = await send(program, an_event("order-of-nobody"))

        assert response.status_code == 204
        assert errors(caplog) == ["an event tells of order-of-nobody, which is no order of this shop: not followed"]

    @pytest.mark.parametrize("other", [{"amount": 23_999}, {"amount": 2**70}, {"currency": "USD"}], ids=repr)
    async def test_other_amount_is_acknowledged(
        self,
        program: httpx.AsyncClient,
        sessions: Sessions,
        order: Order,
        caplog: pytest.LogCaptureFixture,
        other: Json,
    ) -> None:
        response = await send(program, an_event(order.order_id, **other))

        assert response.status_code == 204
        assert errors(caplog) == [f"an event tells of another amount than that of {order.order_id}: not followed"]
        assert (await reread(sessions, order)).status is OrderStatus.CREATED

    async def test_counts_when_it_comes_again_and_the_order_is_there(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order
    ) -> None:
        event = an_event(order.order_id)
        await rename(sessions, order.order_id, to="order-elsewhere")
        await send(program, event, event_id="once")
        await rename(sessions, "order-elsewhere", to=order.order_id)

        await send(program, event, event_id="once")

        assert (await reread(sessions, order)).status is OrderStatus.PAID

    async def test_unknown_type_is_acknowledged(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order
    ) -> None:
        event = an_event(order.order_id, "payment.framed") | {"data": "whatever"}

        response = await send(program, event)

        assert response.status_code == 204
        assert await received(sessions) == []

    def test_types_are_those_that_were_agreed_upon(self) -> None:
        assert {name.removeprefix("payment.") for name in TYPES} == {
            "waiting_for_deposit",
            "completed",
            "failed",
            "cancelled",
            "refunded",
            "deposit_reversed",
        }


async def rename(sessions: Sessions, order_id: str, *, to: str) -> None:
    async with sessions.begin() as session:
        await session.execute(
            text("UPDATE orders SET order_id = :to WHERE order_id = :was"), {"was": order_id, "to": to}
        )


class TestDatabaseAway:
    async def test_event_is_503_until_it_can_be_kept(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order, postgres: LocalPostgres, empty_database: str
    ) -> None:
        event = an_event(order.order_id)

        async with closed(postgres, empty_database):
            away = await send(program, event, event_id="once")
        again = await send(program, event, event_id="once")

        assert (away.status_code, again.status_code) == (503, 204)
        assert (await reread(sessions, order)).status is OrderStatus.PAID

    async def test_event_that_could_not_move_its_order_counts_when_it_comes_again(
        self, program: httpx.AsyncClient, sessions: Sessions, order: Order
    ) -> None:
        await on_database(sessions, *ORDERS_CANNOT_BE_CHANGED)

        away = await send(program, an_event(order.order_id), event_id="once")
        kept = await received(sessions)
        await on_database(sessions, "DROP TRIGGER away ON orders")
        again = await send(program, an_event(order.order_id), event_id="once")

        assert (away.status_code, kept, again.status_code) == (503, [], 204)
        assert (await reread(sessions, order)).status is OrderStatus.PAID

    async def test_forged_event_is_not_even_looked_up(
        self, program: httpx.AsyncClient, order: Order, postgres: LocalPostgres, empty_database: str
    ) -> None:
        body = as_body(an_event(order.order_id))

        async with closed(postgres, empty_database):
            response = await program.post("/api/events", content=body, headers=headers_of(body, OTHERS_SECRET))

        assert response.status_code == 401


async def on_database(sessions: Sessions, *statements: str) -> None:
    async with sessions.begin() as session:
        for statement in statements:
            await session.execute(text(statement))


@asynccontextmanager
async def closed(postgres: LocalPostgres, url: str) -> AsyncIterator[None]:
    """Nobody gets into the database, and who was in it is thrown out."""
    name = url.rpartition("/")[2].partition("?")[0]
    engine = open_engine(postgres.url())
    server = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with server.connect() as connection:
        await connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        thrown_out = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = :name"
        await connection.execute(text(thrown_out), {"name": name})
        yield
        await connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    await engine.dispose()


class TestShopWithoutSecrets:
    @pytest.fixture
    def settings(self, settings: ShopSettings) -> ShopSettings:
        return replace(settings, events_secrets=())

    async def test_receives_nothing(self, program: httpx.AsyncClient, sessions: Sessions, order: Order) -> None:
        response = await send(program, an_event(order.order_id))

        assert response.status_code == 503
        assert response.json()["code"] == "not_configured"
        assert await received(sessions) == []

    async def test_says_so_when_it_starts(self, settings: ShopSettings, caplog: pytest.LogCaptureFixture) -> None:
        app = create_shop(settings)

        async with app.router.lifespan_context(app):
            assert "SHOP_EVENTS_SECRETS is not set" in caplog.text


class TestPagesAfterAnEvent:
    async def test_list_shows_it_without_asking_anybody(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order
    ) -> None:
        await send(buyer, an_event(order.order_id))

        page = await buyer.get("/orders")

        assert 'data-testid="order-row" data-status="PAID"' in page.text
        assert not payments_api.calls

    @pytest.mark.parametrize("status", ["PAID", "CANCELLED", "REFUNDED"])
    async def test_order_shows_it_while_the_payments_api_is_away(
        self, buyer: httpx.AsyncClient, payments_api: respx.MockRouter, order: Order, status: str
    ) -> None:
        payments_api.get(f"/payments/orders/{order.order_id}").mock(side_effect=httpx.ConnectError)
        told = {"PAID": "COMPLETED"}.get(status, status)
        await send(buyer, an_event(order.order_id, status=told, version=9))

        page = await buyer.get(f"/orders/{order.order_id}")
        state = await buyer.get(f"/orders/{order.order_id}/state")

        assert f'data-testid="order-status" data-status="{status}"' in page.text
        assert state.json() == {"paymentVersion": 9}

    async def test_state_of_an_unknown_order(self, program: httpx.AsyncClient) -> None:
        assert (await program.get("/orders/order-of-nobody/state")).status_code == 404
