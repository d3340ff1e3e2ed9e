import asyncio
import base64
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import update
from standardwebhooks import Webhook

from payments.db import Sessions, transaction
from payments.gateways.subscribers import Delivery, NotDelivered, SubscriberClient
from payments.outbox import announce, claim_messages, replay
from payments.queries import database_now, get_payment_to_change
from payments.records import EventType, OutboxMessage
from payments.resources import Resources
from payments.states import Cause
from payments.usecases.deliver import LEASE, PARK_AFTER, deliver_due, deliver_now
from tests.gateways.loopback import Loopback, loopback, plain_transport
from tests.integration.events_world import (
    AWAY,
    BROKEN,
    REFUSED,
    Shop,
    Told,
    deliver_all,
    gave_back,
    let_pass,
    lived,
    message_of,
    messages,
    noted,
    pause_of,
    takes,
)
from tests.integration.night_world import opened
from tests.integration.world import ORDER, Sandbox, paid, read

OTHER: Final = "order-000002"
THIRD: Final = "order-000003"
SECRETS: Final = tuple("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"a", b"b"))
AN_HOUR: Final = timedelta(hours=1)
NO_PLACES: Final[list[dict[str, str]]] = [
    {"after": ""},
    {"after": "1"},
    {"after": "1." + "0" * 31},
    {"after": "-1." + "0" * 32},
    {"after": "9" * 19 + "." + "0" * 32},
    {"after": "1." + "G" * 32},
    {"after": "1." + "0" * 32 + "\n"},
    {"after": "\u0661." + "0" * 32},
    {"limit": "0"},
    {"limit": "501"},
]


@pytest.fixture
async def sessions(database: str) -> AsyncIterator[Sessions]:
    async with opened(database) as sessions:
        yield sessions


@pytest.fixture
def shop() -> Shop:
    return Shop()


def answers(delivery: Delivery, *, to: str) -> Callable[[Told], Delivery]:
    """How a shop answers that takes everything but what is about one order."""
    return lambda told: delivery if told.order_id == to else takes(told)


async def send_again(
    sessions: Sessions, *, order_id: str | None = None, message_id: UUID | None = None, parked_only: bool = False
) -> int:
    """What `payments events replay` does."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        return await replay(session, order_id=order_id, message_id=message_id, parked_only=parked_only, at=now)


def told_of_each(shop: Shop, order_ids: Sequence[str]) -> dict[str, list[int]]:
    return {order_id: shop.told_of(order_id) for order_id in order_ids}


async def let_one_pass(sessions: Sessions, order_id: str, time: timedelta) -> None:
    """So much time goes by for what is to be told of one order."""
    ids = [message.id for message in await messages(sessions) if message.order_id == order_id]
    due = OutboxMessage.next_attempt_at - time
    async with transaction(sessions) as session:
        await session.execute(update(OutboxMessage).where(OutboxMessage.id.in_(ids)).values(next_attempt_at=due))


def one_in_three() -> Callable[[], bool]:
    """Bad luck, the same in each run."""
    luck = random.Random(20261102)
    return lambda: luck.random() < 1 / 3


async def give_back_and_fail(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, ORDER)
        payment.refund(1, at=now, cause=Cause.API)
        await announce(session, payment, EventType.REFUNDED, at=now)
        await session.flush()
        raise ZeroDivisionError


class TestAnnouncement:
    async def test_of_a_change_that_was_rolled_back_nothing_is_sent(self, sessions: Sessions, shop: Shop) -> None:
        await lived(sessions, ORDER)
        with pytest.raises(ZeroDivisionError):
            await give_back_and_fail(sessions)

        await deliver_all(sessions, shop)

        assert [told.type for told in shop.tries] == ["payment.completed"]


class TestOverHttp:
    async def test_the_shop_can_verify_each_try_and_reads_what_the_api_would_answer(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        received: list[tuple[dict[str, str], bytes]] = []
        async with loopback(lambda *streams: receive(server, received, *streams)) as server:
            await paid(api, sandbox)
            shown = await read(api)
            client = SubscriberClient(f"{server.url}/api/events", secrets=SECRETS, transport=plain_transport())
            async with client:
                (first,) = await deliver_due(sessions=resources.sessions, subscriber=client)
                await let_pass(resources.sessions, AN_HOUR)
                (second,) = await deliver_due(sessions=resources.sessions, subscriber=client)

        assert (first.delivered, first.error, second.delivered) == (False, "status 503", True)
        bodies: list[dict[str, Any]] = []
        for headers, body in received:
            assert len(headers["webhook-signature"].split(" ")) == len(SECRETS)
            bodies += [Webhook(secret).verify(body, headers) for secret in SECRETS]
        assert {headers["webhook-id"] for headers, _ in received} == {str(first.message_id)}
        explained = {"reason", "nextAction", "nextCheckAt"}
        for event in bodies:
            assert event["type"] == "payment.completed"
            assert event["data"]["sequence"] == 4
            assert event["data"]["payment"] == {name: shown[name] for name in shown.keys() - explained}


async def receive(
    server: Loopback,
    received: list[tuple[dict[str, str], bytes]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    """Be away at first, and take what comes after that."""
    lines = server.requests[-1].decode().split("\r\n")[1:]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
    received.append((headers, await reader.readexactly(int(headers["content-length"]))))
    status = b"503 Service Unavailable" if len(received) == 1 else b"204 No Content"
    writer.write(b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
    await writer.drain()


class TestDelivery:
    async def test_a_lost_answer_is_followed_by_the_same_id_and_acted_on_once(
        self, sessions: Sessions, shop: Shop
    ) -> None:
        await lived(sessions, ORDER)
        shop.answers_lost = 1

        await deliver_all(sessions, shop)
        await let_pass(sessions, timedelta(seconds=2))
        await deliver_all(sessions, shop)
        await deliver_all(sessions, shop)

        assert [told.message_id for told in shop.tries] == [(await message_of(sessions, ORDER)).id] * 2
        assert shop.told_of(ORDER) == [4]

    async def test_a_payment_whose_message_is_not_taken_waits_in_order_and_holds_up_no_other(
        self, sessions: Sessions, shop: Shop
    ) -> None:
        await lived(sessions, ORDER, OTHER, THIRD, events=3)
        shop.expect(await messages(sessions))
        shop.answer = answers(BROKEN, to=OTHER)

        await deliver_all(sessions, shop)
        meanwhile = {order_id: shop.told_of(order_id) for order_id in (ORDER, OTHER, THIRD)}
        shop.answer = takes
        await let_pass(sessions, AN_HOUR)
        await deliver_all(sessions, shop)

        assert meanwhile == {ORDER: [4, 5, 6], OTHER: [], THIRD: [4, 5, 6]}
        assert shop.told_of(OTHER) == [4, 5, 6]
        assert shop.came_early == []

    async def test_pauses_grow_to_an_hour(self, sessions: Sessions) -> None:
        await lived(sessions, ORDER)
        shop = Shop(lambda _: AWAY)
        pauses = []
        for _ in range(9):
            await deliver_due(sessions=sessions, subscriber=shop)
            pauses.append(await pause_of(sessions, ORDER))
            await let_pass(sessions, AN_HOUR)

        assert pauses[0] < timedelta(seconds=2)
        assert pauses[:-1] == sorted(pauses[:-1])
        assert timedelta(minutes=29) < pauses[-1] <= AN_HOUR

    async def test_asked_to_wait_it_waits(self, sessions: Sessions) -> None:
        await lived(sessions, ORDER)
        shop = Shop(lambda _: NotDelivered("status 429", retry_after=timedelta(minutes=40)))

        await deliver_all(sessions, shop)
        await let_pass(sessions, timedelta(minutes=39))
        await deliver_all(sessions, shop)

        assert len(shop.tries) == 1
        assert await noted(sessions) == []

    async def test_a_refusal_is_told_at_once_and_the_shop_is_not_hammered(self, sessions: Sessions) -> None:
        await lived(sessions, ORDER, OTHER, events=2)
        shop = Shop(answers(REFUSED, to=ORDER))

        for _ in range(10):
            await deliver_all(sessions, shop)
            await let_pass(sessions, timedelta(minutes=2))

        (found,) = await noted(sessions)
        assert (found.kind.value, found.theirs) == ("event_not_delivered", {"answer": "status 400"})
        assert Counter(told.order_id for told in shop.tries) == {ORDER: 1, OTHER: 2}

    async def test_what_was_refused_and_is_taken_after_all_needs_nobody_any_more(
        self, sessions: Sessions, shop: Shop
    ) -> None:
        await lived(sessions, ORDER)
        shop.answer = answers(REFUSED, to=ORDER)
        await deliver_all(sessions, shop)
        shop.answer = takes
        await let_pass(sessions, AN_HOUR)

        await deliver_all(sessions, shop)

        (found,) = await noted(sessions)
        assert (found.resolved_by, found.resolution) == ("delivery", "delivered after all")

    async def test_who_dies_while_sending_leaves_it_to_others_when_the_lease_ends(
        self, sessions: Sessions, shop: Shop
    ) -> None:
        await lived(sessions, ORDER)
        async with transaction(sessions) as session:
            now = await database_now(session)
            assert len(await claim_messages(session, now=now, until=now + LEASE, limit=50)) == 1

        await deliver_all(sessions, shop)
        before = len(shop.tries)
        await let_pass(sessions, LEASE)
        await deliver_all(sessions, shop)

        assert (before, shop.told_of(ORDER)) == (0, [4])

    @pytest.mark.parametrize("workers", [2, 5])
    async def test_workers_beside_each_other_send_everything_and_nothing_early(
        self, sessions: Sessions, workers: int
    ) -> None:
        orders = [f"order-{number:06}" for number in range(8)]
        await lived(sessions, *orders, events=5)
        fails = one_in_three()
        shop = Shop(lambda told: AWAY if fails() else takes(told))
        shop.expect(await messages(sessions))

        for _ in range(50):
            await asyncio.gather(*(deliver_all(sessions, shop) for _ in range(workers)))
            if all(one.delivered_at for one in await messages(sessions)):
                break
            await let_pass(sessions, AN_HOUR)

        assert shop.came_early == []
        assert told_of_each(shop, orders) == {order_id: [4, 5, 6, 7, 8] for order_id in orders}

    async def test_after_an_outage_everything_arrives_in_order_and_is_acted_on_once(self, sessions: Sessions) -> None:
        orders = [f"order-{number:06}" for number in range(50)]
        await lived(sessions, *orders)
        shop = Shop(lambda _: AWAY)
        await deliver_all(sessions, shop)
        for _ in range(3):
            await gave_back(sessions, *orders)
        await let_pass(sessions, timedelta(seconds=1))
        await deliver_all(sessions, shop)
        shop.expect(everything := await messages(sessions))
        taken_before = len(shop.acted_on)
        shop.answer = takes
        await let_one_pass(sessions, orders[0], AN_HOUR)

        await asyncio.gather(*(deliver_all(sessions, shop) for _ in range(2)))
        await deliver_all(sessions, shop)

        assert (len(everything), taken_before, len(shop.acted_on)) == (200, 0, 200)
        assert shop.came_early == []
        assert told_of_each(shop, orders) == {order_id: [4, 5, 6, 7] for order_id in orders}

    async def test_a_shop_that_is_back_is_told_the_rest_without_their_pauses(self, sessions: Sessions) -> None:
        await lived(sessions, ORDER, OTHER, THIRD)
        shop = Shop(lambda _: AWAY)
        for _ in range(6):
            await deliver_all(sessions, shop)
            await let_pass(sessions, AN_HOUR)
        await deliver_all(sessions, shop)
        shop.answer = takes
        await let_one_pass(sessions, ORDER, AN_HOUR)

        await deliver_all(sessions, shop)

        assert {told.order_id for told in shop.acted_on.values()} == {ORDER, OTHER, THIRD}

    async def test_a_shop_that_is_back_is_not_asked_again_for_what_it_refused(self, sessions: Sessions) -> None:
        await lived(sessions, ORDER)
        shop = Shop(answers(REFUSED, to=ORDER))
        await deliver_all(sessions, shop)

        for number in range(5):
            await lived(sessions, f"order-later-{number}")
            shop.answer = lambda _: AWAY
            await deliver_all(sessions, shop)
            shop.answer = answers(REFUSED, to=ORDER)
            await let_pass(sessions, timedelta(seconds=5))
            await deliver_all(sessions, shop)

        assert sum(told.order_id == ORDER for told in shop.tries) == 1

    async def test_a_shop_that_is_back_gets_nothing_twice_that_is_on_its_way(self, sessions: Sessions) -> None:
        await lived(sessions, ORDER, OTHER)
        shop = Shop(lambda _: AWAY)
        await deliver_all(sessions, shop)
        shop.answer = takes
        await let_pass(sessions, timedelta(seconds=5))
        async with transaction(sessions) as session:
            now = await database_now(session)
            (held,) = await claim_messages(session, now=now, until=now + LEASE, limit=1)

        await deliver_all(sessions, shop)
        await deliver_all(sessions, shop)

        (other,) = {ORDER, OTHER} - {held.order_id}
        assert [told.order_id for told in shop.acted_on.values()] == [other]


class TestParked:
    async def test_after_three_days_a_person_is_called_and_the_shop_left_alone(self, sessions: Sessions) -> None:
        await lived(sessions, ORDER)
        shop = Shop(lambda _: BROKEN)
        await deliver_all(sessions, shop)
        await let_pass(sessions, PARK_AFTER - AN_HOUR)
        await deliver_all(sessions, shop)
        before = await noted(sessions)

        await let_pass(sessions, AN_HOUR)
        await deliver_all(sessions, shop)
        await let_pass(sessions, PARK_AFTER)
        await deliver_all(sessions, shop)

        message = await message_of(sessions, ORDER)
        assert (before, len(shop.tries), message.attempts) == ([], 3, 3)
        assert message.parked_at is not None
        (found,) = await noted(sessions)
        assert (found.kind.value, found.subject) == ("event_not_delivered", f"{ORDER}/{message.id}")
        assert (found.resolved_at, found.theirs) == (None, {"answer": "status 500"})

    async def test_what_happened_after_it_is_told_meanwhile_and_it_is_sent_once_more_from_there(
        self, sessions: Sessions
    ) -> None:
        await lived(sessions, ORDER, events=2)
        shop = Shop(lambda told: BROKEN if told.sequence == 4 else takes(told))
        await deliver_all(sessions, shop)
        await let_pass(sessions, PARK_AFTER)
        await deliver_all(sessions, shop)
        await deliver_all(sessions, shop)
        meanwhile = shop.told_of(ORDER)
        shop.answer = takes

        count = await send_again(sessions, parked_only=True)
        await deliver_all(sessions, shop)

        parked, _ = await messages(sessions)
        (found,) = await noted(sessions)
        assert found.resolution == "delivered after all"
        assert (count, meanwhile, shop.told_of(ORDER)) == (1, [5], [5, 4])
        assert (parked.parked_at, parked.id) == (None, shop.tries[0].message_id)


class TestReplay:
    async def test_of_an_order_sends_all_of_it_in_order_under_the_ids_of_before(
        self, sessions: Sessions, shop: Shop
    ) -> None:
        await lived(sessions, ORDER, OTHER, events=3)
        await deliver_all(sessions, shop)
        before = len(shop.tries)

        count = await send_again(sessions, order_id=ORDER)
        await deliver_all(sessions, shop)

        again = shop.tries[before:]
        assert (count, [(told.order_id, told.sequence) for told in again]) == (3, [(ORDER, 4), (ORDER, 5), (ORDER, 6)])
        assert len(shop.acted_on) == 6

    async def test_of_one_message_sends_that_one_alone(self, sessions: Sessions, shop: Shop) -> None:
        await lived(sessions, ORDER, events=3)
        await deliver_all(sessions, shop)
        middle = (await messages(sessions))[1]

        count = await send_again(sessions, message_id=middle.id)
        await deliver_all(sessions, shop)

        assert (count, shop.tries[-1].message_id, len(shop.tries)) == (1, middle.id, 4)
        assert await send_again(sessions, message_id=uuid4()) == 0


class TestByHand:
    async def test_everything_is_tried_due_or_not_and_what_stands_behind_a_failure_is_left_alone(
        self, sessions: Sessions, shop: Shop
    ) -> None:
        await lived(sessions, ORDER, OTHER, THIRD, events=3)
        shop.answer = answers(REFUSED, to=OTHER)
        await deliver_due(sessions=sessions, subscriber=Shop(lambda _: AWAY))
        progress: list[tuple[int, int]] = []

        sent = await deliver_now(
            sessions=sessions, subscriber=shop, progress=lambda done, of: progress.append((done, of))
        )

        assert [shop.told_of(order_id) for order_id in (ORDER, OTHER, THIRD)] == [[4, 5, 6], [], [4, 5, 6]]
        assert [(one.order_id, one.sequence, one.error) for one in sent if not one.delivered] == [
            (OTHER, 4, "status 400")
        ]
        assert progress[-1] == (7, 10)

    async def test_what_somebody_else_is_sending_is_waited_for_and_not_sent_twice(
        self, sessions: Sessions, shop: Shop
    ) -> None:
        await lived(sessions, ORDER)
        sending, answered = asyncio.Event(), asyncio.Event()

        class Slow(Shop):
            async def deliver(self, message_id: UUID, body: bytes) -> Delivery:
                sending.set()
                await answered.wait()
                return await shop.deliver(message_id, body)

        worker = asyncio.create_task(deliver_due(sessions=sessions, subscriber=Slow()))
        await sending.wait()
        by_hand = asyncio.create_task(deliver_now(sessions=sessions, subscriber=shop))
        await asyncio.sleep(0)
        answered.set()

        assert [one.delivered for one in await worker] == [True]
        assert await by_hand == []
        assert len(shop.tries) == 1

    async def test_only_the_messages_that_are_named_are_sent(self, sessions: Sessions, shop: Shop) -> None:
        await lived(sessions, ORDER, OTHER)
        named = await message_of(sessions, OTHER)

        await deliver_now(sessions=sessions, subscriber=shop, message_ids=[named.id])

        assert [told.message_id for told in shop.tries] == [named.id]


async def read_feed(api: httpx.AsyncClient, after: str | None = None, **query: int) -> tuple[list[Any], str | None]:
    asked: dict[str, str | int] = {**query, **({"after": after} if after else {})}
    answer = await api.get("/events", params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()["events"], answer.json()["next"]


def places(events: list[Any]) -> list[tuple[str, int]]:
    return [(event["data"]["payment"]["orderId"], event["data"]["sequence"]) for event in events]


class TestFeed:
    async def test_nothing_is_missed_of_what_commits_after_something_later_was_read(
        self, api: httpx.AsyncClient, resources: Resources
    ) -> None:
        sessions = resources.sessions
        await lived(sessions, ORDER, OTHER)
        first, place = await read_feed(api)
        async with transaction(sessions) as slow:
            payment, now = await get_payment_to_change(slow, ORDER)
            payment.refund(1, at=now, cause=Cause.API)
            await announce(slow, payment, EventType.REFUNDED, at=now)
            await slow.flush()
            await gave_back(sessions, OTHER)
            meanwhile, still = await read_feed(api, place)
        await gave_back(sessions, ORDER)

        rest, _ = await read_feed(api, still)

        assert sorted(places(first)) == [(ORDER, 4), (OTHER, 4)]
        assert (meanwhile, still) == ([], place)
        assert places(rest) == [(ORDER, 5), (OTHER, 5), (ORDER, 6)]

    async def test_a_reader_beside_many_writers_reads_each_event_once_and_in_order(
        self, api: httpx.AsyncClient, resources: Resources
    ) -> None:
        orders = [f"order-{number:06}" for number in range(6)]
        await lived(resources.sessions, *orders)
        writing = asyncio.gather(*(write(resources.sessions, order_id) for order_id in orders))
        found: list[Any] = []
        place: str | None = None
        while not writing.done():
            events, place = await read_feed(api, place, limit=7)
            found += events
        await writing
        while len(more := await read_feed(api, place, limit=7)) and more[0]:
            found, place = [*found, *more[0]], more[1]

        assert len({event["id"] for event in found}) == len(found) == 6 * 9
        for order_id in orders:
            assert [number for order, number in places(found) if order == order_id] == [*range(4, 13)]

    async def test_a_place_stays_a_place(self, api: httpx.AsyncClient, resources: Resources) -> None:
        await lived(resources.sessions, ORDER, events=4)
        start, place = await read_feed(api, limit=2)
        await deliver_all(resources.sessions, Shop())
        await gave_back(resources.sessions, ORDER)

        again, _ = await read_feed(api, limit=2)
        rest, end = await read_feed(api, place)

        assert again == start
        assert places(start + rest) == [(ORDER, number) for number in range(4, 9)]
        assert await read_feed(api, end) == ([], end)
        assert {event["id"] for event in rest} < {str(one.id) for one in await messages(resources.sessions)}

    async def test_what_is_no_place_is_refused(self, api: httpx.AsyncClient) -> None:
        for query in NO_PLACES:
            answer = await api.get("/events", params=query)

            assert answer.status_code in {400, 422}, query
            assert answer.headers["content-type"] == "application/problem+json"


async def write(sessions: Sessions, order_id: str) -> None:
    for _ in range(8):
        await gave_back(sessions, order_id)
