"""Scenes: what several of our processes do to the same orders at the same time, in one process and on one database.

A story leads one order, one step after the other; what only goes wrong when two things happen at once is looked for
here. Beside our processes and the world, a scene may hold up one answer of the PG, or let deliveries fail.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast
from uuid import UUID

import httpx
from tests.acceptance.worker_world import Shop
from tests.integration.webhook_world import as_sent, signed, status_changed
from tests.integration.world import AMOUNT, REASON, confirm_body, prepare_body

from payments.gateways.pg import Answer, PaymentGateway
from payments.gateways.subscribers import Delivery, NotDelivered, Subscriber
from payments.resources import Resources
from proof.books import CANCEL, CONFIRM, PREPARE, WEBHOOK, Books, Told, read_books
from proof.house import Fitted, House, open_house
from proof.invariants import Violation, is_settled, violations
from proof.planted_stories import ends_as, more_violations
from proof.stories import ROUNDS_TO_SETTLE
from proof.world import WEBHOOK_SECRET, Case, World

ORDERS: Final = 2  # that a scene needs at the most
_AT_ONCE: Final = 3  # of each request
_WITHIN: Final = 50.0  # seconds; it takes one, and on a busy machine ten times as long
_TRIES: Final = 20  # while a busy machine says that nothing was done
_NOTHING_DONE: Final = 503
_LESS: Final = 1_000  # won that a buyer would rather pay


class CannotHappen(Exception):
    """A scene did not come as far as what it is about."""


class SlowPg:
    """The PG, whose answer to a confirm arrives when it is let through."""

    def __init__(self, pg: PaymentGateway) -> None:
        self._pg = pg
        self.is_there = asyncio.Event()
        self.let_through = asyncio.Event()

    @property
    def is_available(self) -> bool:
        return self._pg.is_available

    async def confirm(self, payment_key: str, *, order_id: str, amount: int, idempotency_key: str) -> Answer:
        answer = await self._pg.confirm(payment_key, order_id=order_id, amount=amount, idempotency_key=idempotency_key)
        self.is_there.set()
        await self.let_through.wait()
        return answer

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else the gateway has
        return getattr(self._pg, name)


class UnsteadySubscriber:
    """The shop, which does not take an event when it comes for the first time."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        self._seen: set[UUID] = set()

    async def deliver(self, message_id: UUID, body: bytes) -> Delivery:
        if message_id not in self._seen:
            self._seen.add(message_id)
            return NotDelivered("503")
        return await self._subscriber.deliver(message_id, body)


def _unsteady(held: Resources) -> Resources:
    return replace(held, subscriber=UnsteadySubscriber(held.subscriber)) if held.subscriber else held


@dataclass
class Scene:
    """Some orders, and who does something to them."""

    case: Case
    shop: Shop
    orders: list[str]  # that nobody has paid for yet
    chance: random.Random
    stack: AsyncExitStack
    order_ids: list[str] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    houses: list[House] = field(default_factory=list)

    async def open(self, fitted: Fitted = lambda held: held) -> House:
        """One more process of ours."""
        house = await self.stack.enter_async_context(open_house(self.case.settings, fitted=fitted))
        self.houses.append(house)
        return house

    def order(self) -> str:
        """One more of the orders that somebody has made."""
        order_id = self.orders.pop()
        self.order_ids.append(order_id)
        return order_id

    async def prepare(self, house: House, order_id: str, **changes: object) -> None:
        body = {**prepare_body(order_id), **changes}
        await self._insist(PREPARE, order_id, PREPARE, lambda: house.api.post("/payments/prepare", json=body))

    async def confirm(self, house: House, order_id: str, payment_key: str, amount: int = AMOUNT) -> None:
        body = confirm_body(payment_key, order_id, amount)
        await self._insist(CONFIRM, order_id, payment_key, lambda: house.api.post("/payments/confirm", json=body))

    async def cancel(self, house: House, order_id: str, name: str, amount: int | None = None) -> None:
        body = {"cancelReason": REASON, **({} if amount is None else {"cancelAmount": amount})}
        headers = {"idempotency-key": f"{order_id}-{name}"}
        url = f"/payments/orders/{order_id}/cancel"
        await self._insist(CANCEL, order_id, name, lambda: house.api.post(url, json=body, headers=headers))

    async def webhook(self, house: House, order_id: str, payment_key: str) -> None:
        """The PG tells of the payment as it stands there."""
        shown = next(one for one in self.case.pg.payments(order_id) if one["paymentKey"] == payment_key)
        body = as_sent(status_changed(shown))
        headers = {"content-type": "application/json", **signed(body, WEBHOOK_SECRET)}
        name = str(hash(body))
        await self._insist(
            WEBHOOK, order_id, name, lambda: house.api.post("/webhook/toss", content=body, headers=headers)
        )

    async def later(self) -> None:
        """Time passes, and every worker has its round at the same time."""
        await asyncio.to_thread(self.case.pass_time)
        await asyncio.gather(*(house.work() for house in self.houses))

    async def settle(self) -> list[Violation]:
        """Work until nothing is left to do, and compare everybody's books."""
        for _ in range(ROUNDS_TO_SETTLE):
            await self.later()
            if is_settled(books := self.books()):
                return [*violations(books), *self._more(books)]
        books = self.books()
        return [Violation("I13", "-", "a scene has not settled"), *violations(books), *self._more(books)]

    def books(self) -> Books:
        with self.case.connect() as connection:
            return read_books(connection, self.case.pg, self.shop, self.order_ids, told=self.told)

    def _more(self, books: Books) -> list[Violation]:
        calls = {order_id: self.case.pg.calls(order_id) for order_id in self.order_ids}
        return list(more_violations(books, calls, is_calm=True))

    async def _insist(self, what: str, order_id: str, name: str, ask: Callable[[], Awaitable[httpx.Response]]) -> None:
        """Ask until something was done."""
        for _ in range(_TRIES):
            answer = await ask()
            self.told.append(Told(what, order_id, name, answer.status_code, answer.json()))
            if answer.status_code != _NOTHING_DONE:
                break


async def two_windows(scene: Scene) -> None:
    """A buyer has paid in two windows for one order, and both pages are loaded several times at once."""
    houses = [await scene.open(), await scene.open()]
    order_id = scene.order()
    await scene.prepare(houses[0], order_id)
    keys = [scene.case.pg.authenticate(order_id) for _ in houses]
    pages = [(house, key) for house in houses for key in keys] * _AT_ONCE
    scene.chance.shuffle(pages)
    await asyncio.gather(*(scene.confirm(house, order_id, key) for house, key in pages))
    await scene.later()


async def two_orders(scene: Scene) -> None:
    """Two buyers pay at the same moment, and a part of each order goes back at the same moment."""
    houses = [await scene.open(), await scene.open()]
    keys = {}
    for _ in houses:
        order_id = scene.order()
        await scene.prepare(houses[0], order_id)
        keys[order_id] = scene.case.pg.authenticate(order_id)
    pages = [(house, order_id) for house in houses for order_id in keys] * _AT_ONCE
    scene.chance.shuffle(pages)
    await asyncio.gather(*(scene.confirm(house, order_id, keys[order_id]) for house, order_id in pages))
    await scene.later()
    await asyncio.gather(*(scene.cancel(house, order_id, "part", 4_000) for house, order_id in pages))
    await scene.later()


async def late_account(scene: Scene) -> None:
    """The answer with a virtual account takes so long that others have recorded it, and the deposit too."""
    slow: list[SlowPg] = []

    def _slow(held: Resources) -> Resources:
        slow.append(SlowPg(held.pg))
        return replace(held, pg=cast("PaymentGateway", slow[-1]))

    late = await scene.open(_slow)
    order_id = scene.order()
    await scene.prepare(late, order_id, method="VIRTUAL_ACCOUNT")
    key = scene.case.pg.authenticate(order_id, method="VIRTUAL_ACCOUNT")
    confirming = asyncio.create_task(scene.confirm(late, order_id, key))
    await _asked(slow[0], confirming)
    scene.houses.clear()  # whoever waits for the PG does nothing else
    try:
        quick = await scene.open()
        await scene.later()
        scene.case.pg.act(key, "deposit")
        await scene.webhook(quick, order_id, key)
        await scene.later()
    finally:  # or a scene that has failed would wait for it
        for one in slow:
            one.let_through.set()
    await confirming


async def _asked(slow: SlowPg, confirming: asyncio.Task[None]) -> None:
    """Until the PG has answered.

    Raises:
        CannotHappen: it was not asked at all.
    """
    answering = asyncio.create_task(slow.is_there.wait())
    await asyncio.wait({answering, confirming}, return_when=asyncio.FIRST_COMPLETED)
    answering.cancel()
    if not slow.is_there.is_set():
        await confirming  # says so if it has failed
        raise CannotHappen("a confirm has ended, and the PG was not asked")


async def second_attempt(scene: Scene) -> None:
    """The card is refused; then the buyer opens the payment window over another amount, and confirms that one."""
    house = await scene.open()
    order_id = scene.order()
    await scene.prepare(house, order_id)
    await scene.confirm(house, order_id, scene.case.pg.authenticate(order_id, refuseWith="REJECT_CARD_PAYMENT"))
    await scene.prepare(house, order_id)
    await scene.confirm(house, order_id, scene.case.pg.authenticate(order_id, _LESS), _LESS)
    await scene.later()


async def unsteady_shop(scene: Scene) -> None:
    """The shop does not take what it is told at first, while money goes back."""
    house = await scene.open(_unsteady)
    order_id = scene.order()
    await scene.prepare(house, order_id)
    await scene.confirm(house, order_id, scene.case.pg.authenticate(order_id))
    await house.work()  # the first event is not taken
    await scene.cancel(house, order_id, "part", 4_000)
    await house.work()
    await scene.cancel(house, order_id, "rest")
    await house.work()
    await scene.later()


SCENES: Final[Mapping[str, Callable[[Scene], Awaitable[None]]]] = {
    scene.__name__: scene for scene in (two_windows, two_orders, late_account, second_attempt, unsteady_shop)
}


# Where each order of a scene stands in the end: whoever takes nobody's money breaks no other promise.
ENDS: Final[Mapping[str, str]] = {
    "two_windows": "COMPLETED",
    "two_orders": "PARTIALLY_REFUNDED",
    "late_account": "COMPLETED",
    "second_attempt": "CREATED",
    "unsteady_shop": "REFUNDED",
}


def play_scene(world: World, name: str, seed: int, orders: Sequence[str]) -> list[Violation]:
    """Let a scene happen once, and compare the books; the seed mixes who comes first."""
    with world.case() as case:
        return asyncio.run(_play(name, case, world.town.shop, seed, list(orders)))


async def _play(name: str, case: Case, shop: Shop, seed: int, orders: list[str]) -> list[Violation]:
    async with asyncio.timeout(_WITHIN), AsyncExitStack() as stack:
        scene = Scene(case, shop, orders, random.Random(seed), stack)  # noqa: S311 - a seed, no secret
        await SCENES[name](scene)
        return [*await scene.settle(), *ends_as(scene.books(), {ENDS[name]})]
