"""Every exchange with the PG is cut at every byte, of the request and of the answer, and then found out about.

Nothing here is left to chance but how the line ends and whether it stays dead for a while. Whatever the cut, the PG
refuses nothing, so that every payment has to end COMPLETED with one capture, every refund SUCCEEDED with one cancel.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

from tests.acceptance.worker_world import numbered
from tests.integration.world import AMOUNT

from proof.books import Books, OrderBooks, Told, read_books
from proof.findings import BadReplay, Failure, Figure, Findings, Options, Say
from proof.house import open_house
from proof.inside import Clients, Log, Patient, clients_of, keys_asked_with, logged, parts, under_other_keys
from proof.invariants import is_settled, violations
from proof.stories import CANARIES
from proof.wire import HOST, Cut, Direction, Ending, Exchange, HttpLine, http_line
from proof.world import Case, World, open_world

_EVERY: Final = 8  # bytes between two cuts, in a hurry
_ENDS: Final = 40  # bytes at each end of which none is left out
_BATCH: Final = 50  # orders that are cut before the worker looks at them together
_PER_CASE: Final = 500
_AT_ONCE: Final = 12  # fewer than there are connections to the database
_MEASURED: Final = 20
_ROUNDS_TO_SETTLE: Final = 3  # so that no confirm is repeated after the PG's ten minutes

S = TypeVar("S")
T = TypeVar("T")


class Operation(StrEnum):
    """Which exchange is cut."""

    CONFIRM = "confirm"
    REFUND = "refund"

    @property
    def target(self) -> str:
        """The end of its path at the PG."""
        return "/confirm" if self is Operation.CONFIRM else "/cancel"


@dataclass(frozen=True, slots=True)
class Spot:
    """One cut."""

    operation: Operation
    cut: Cut
    hot: bool

    def __str__(self) -> str:
        """The word that has it tried once more."""
        cut = self.cut
        path, length = "hot" if self.hot else "plain", "dead" if cut.stays else "once"
        return f"{self.operation}:{cut.direction}:{cut.offset}:{path}:{cut.ending}:{length}"

    @classmethod
    def named(cls, word: str) -> Self:
        """The spot that a failure has named.

        Raises:
            BadReplay: there is none of this name.
        """
        try:
            operation, direction, offset, path, ending, length = word.split(":")
            cut = Cut(Direction(direction), int(offset), Ending(ending), stays=length == "dead")
            spot = cls(Operation(operation), cut, hot=path == "hot")
        except ValueError as error:
            raise BadReplay(str(error)) from error
        if str(spot) != word:
            raise BadReplay(f"it would be called {spot}")
        return spot


def spots(operation: Operation, size: Exchange, options: Options) -> Iterator[Spot]:
    """All cuts of one exchange, or those that there is time for. Both paths take turns."""
    lengths = ((Direction.REQUEST, size.request), (Direction.RESPONSE, size.response or 0))
    offsets = [(direction, offset) for direction, length in lengths for offset in _offsets(length, options)]
    for number, (direction, offset) in enumerate(offsets):
        chance = random.Random(f"{options.seed} {operation} {direction} {offset}")  # noqa: S311 - a seed, no secret
        cut = Cut(direction, offset, chance.choice(list(Ending)), stays=chance.choice([True, False]))
        yield Spot(operation, cut, hot=(number + options.seed) % 2 == 0)


def _offsets(length: int, options: Options) -> Iterator[int]:
    for offset in range(length + 1):
        is_at_an_end = not _ENDS <= offset <= length - _ENDS
        if options.is_full or is_at_an_end or (offset + options.seed) % _EVERY == 0:
            yield offset


@dataclass(slots=True)
class _Tally:
    """What has come of all cuts so far."""

    say: Say
    seconds: float = 0.0  # since the first
    sizes: dict[Operation, Exchange] = field(default_factory=dict)
    cuts: Counter[tuple[Operation, Direction]] = field(default_factory=Counter)
    answers: Counter[tuple[Operation, int]] = field(default_factory=Counter)
    found_out_by: Counter[tuple[Operation, str]] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def fail(self, spot: Spot, what: str) -> None:
        self.failures.append(Failure(f"{what} (cut of {spot})", str(spot)))

    def findings(self) -> Findings:
        return Findings(list(self._figures()), self.failures)

    def _figures(self) -> Iterator[Figure]:
        yield Figure("exchanges cut", self.cuts.total())
        for operation, size in self.sizes.items():
            yield Figure(f"{operation}: request", size.request, "bytes")
            yield Figure(f"{operation}: answer", size.response or 0, "bytes")
        for (operation, direction), cuts in sorted(self.cuts.items()):
            yield Figure(f"{operation}: cuts of the {direction}", cuts)
        for (operation, status), answers in sorted(self.answers.items()):
            yield Figure(f"{operation}: answered {status}", answers)
        for (operation, cause), found in sorted(self.found_out_by.items()):
            yield Figure(f"{operation}: found out by {cause}", found)
        yield Figure("cuts took", round(self.seconds, 1), "s")


@dataclass(frozen=True, slots=True)
class _Purchase:
    """An order whose exchange with the PG is cut."""

    spot: Spot
    order_id: str
    payment_key: str

    async def ask(self, clients: Clients) -> Told:
        if self.spot.operation is Operation.CONFIRM:
            return await clients.confirm(self.order_id, self.payment_key)
        return await clients.cancel(self.order_id, f"all-of-{self.order_id}")


@dataclass(frozen=True, slots=True)
class _Stage:
    """A house on a fresh database, with the line to the PG in our hands."""

    world: World
    case: Case
    line: HttpLine
    clients: Clients
    log: Log

    async def begin(self, spots: Sequence[Spot]) -> list[_Purchase]:
        """An order for each cut, as far as the exchange that is to be cut."""
        orders = numbered("cut", len(spots))
        self.world.town.shop.take_orders(orders)
        return await _each(zip(spots, orders, strict=True), self._begin)

    async def _begin(self, one: tuple[Spot, str]) -> _Purchase:
        spot, order_id = one
        await self.clients.prepare(order_id)
        payment_key = await self.clients.window(order_id, AMOUNT)
        if spot.operation is Operation.REFUND:
            await self.clients.confirm(order_id, payment_key)
        return _Purchase(spot, order_id, payment_key)

    async def cut(self, purchase: _Purchase, tally: _Tally) -> None:
        """Ask, with the cut; afterwards the line is whole again."""
        spot = purchase.spot
        self.line.arm(purchase.payment_key, spot.operation.target, spot.cut)
        told = await purchase.ask(self.clients)
        size = self.line.mend(purchase.payment_key)
        tally.answers[spot.operation, told.status] += 1
        tally.cuts[spot.operation, spot.cut.direction] += size is not None
        expected = tally.sizes.get(spot.operation)
        if size is None:
            tally.fail(spot, "the cut never happened")
        elif expected is not None and size not in {expected, replace(expected, response=None)}:
            tally.fail(spot, f"the exchange was {size}, measured was {expected}")
        if told.status not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            tally.fail(spot, f"the client was told {told.status}: {told.body}")

    async def settle(self, purchases: Sequence[_Purchase]) -> tuple[list[Told], Books]:
        """The worker finds out what came of them, and the clients come again; what they are told then."""
        for _ in range(_ROUNDS_TO_SETTLE):
            self.case.pass_time()
            await self.clients.house.work()
            again = await _each(purchases, lambda purchase: purchase.ask(self.clients))
            if is_settled(books := self._books([purchase.order_id for purchase in purchases])):
                break
        return again, books

    def _books(self, orders: Sequence[str]) -> Books:
        told = [one for one in self.clients.told if one.order_id in orders]
        with self.case.connect() as connection:
            return read_books(connection, self.case.pg, self.world.town.shop, orders, told=told, log=self.log.said())


def run(options: Options, say: Say) -> Findings:
    """Cut every exchange that moves money at every byte; or, with `options.replay`, one once more."""
    tally = _Tally(say)
    with open_world() as world:
        secrets = world.settings(world.postgres.url()).secrets()
        with logged(world.home / "cuts.log", secrets=secrets) as log:
            asyncio.run(_cut_all(world, options, tally, log))
    return tally.findings()


async def _cut_all(world: World, options: Options, tally: _Tally, log: Log) -> None:
    chosen = [Spot.named(options.replay)] if options.replay else await _all_spots(world, options, tally, log)
    began = time.monotonic()
    for hot in (True, False):
        on_path = [spot for spot in chosen if spot.hot is hot]
        for number, some in enumerate(parts(on_path, _PER_CASE)):
            async with _open_stage(world, log, hot=hot) as stage:
                for batch in parts(some, _BATCH):
                    await _cut_batch(stage, batch, tally)
            done = min(len(on_path), (number + 1) * _PER_CASE)
            path = "hot" if hot else "plain"
            tally.say(f"cuts: {done} of {len(on_path)} on the {path} path, {len(tally.failures)} failures")
    tally.seconds = time.monotonic() - began
    if not options.replay:
        _check_coverage(chosen, tally)


async def _all_spots(world: World, options: Options, tally: _Tally, log: Log) -> list[Spot]:
    async with _open_stage(world, log, hot=True) as stage:
        for operation in Operation:
            tally.sizes[operation] = await _measure(stage, operation, tally)
    return [spot for operation, size in tally.sizes.items() for spot in spots(operation, size, options)]


async def _measure(stage: _Stage, operation: Operation, tally: _Tally) -> Exchange:
    """How long an exchange is, which must not depend on the order."""
    spot = Spot(operation, Cut(Direction.REQUEST, 0, Ending.FIN), hot=True)
    found = set()
    for purchase in await stage.begin([spot] * _MEASURED):
        stage.line.exchanges.clear()
        await purchase.ask(stage.clients)
        found.add(stage.line.exchanges[0])
    if len(found) > 1:
        tally.fail(spot, f"the exchange has several lengths: {found}")
    return max(found, key=lambda size: (size.request, size.response))


async def _cut_batch(stage: _Stage, spots: Sequence[Spot], tally: _Tally) -> None:
    stage.log.mark()
    purchases = await stage.begin(spots)
    await _each(purchases, lambda purchase: stage.cut(purchase, tally))
    again, books = await stage.settle(purchases)
    spot_of = {purchase.order_id: purchase.spot for purchase in purchases}
    for told in again:
        if told.status != HTTPStatus.OK:
            tally.fail(spot_of[told.order_id], f"in the end the client was told {told.status}: {told.body}")
    asked = keys_asked_with(stage.case.pg)
    for one in books.orders:
        _check(one, spot_of[one.order_id], tally)
        for what in under_other_keys(one, asked):
            tally.fail(spot_of[one.order_id], what)
    for violation in violations(books, canaries=CANARIES):
        tally.fail(spot_of.get(violation.order_id, spots[0]), str(violation))


def _check(books: OrderBooks, spot: Spot, tally: _Tally) -> None:
    """The PG has refused nothing, so nothing may have failed."""
    is_refund = spot.operation is Operation.REFUND
    payment, decided = books.payment, "REFUNDED" if is_refund else "COMPLETED"
    if payment is None or payment["status"] != decided:
        tally.fail(spot, f"the payment is {payment and payment['status']}")
    if len(books.captures) != 1:
        tally.fail(spot, f"the PG took the money {len(books.captures)} times")
    if len(books.cancels) != is_refund:
        tally.fail(spot, f"the PG gave the money back {len(books.cancels)} times")
    if [refund["status"] for refund in books.refunds] != ["SUCCEEDED"] * is_refund:
        tally.fail(spot, f"the refunds are {[refund['status'] for refund in books.refunds]}")
    for row in books.history:
        if row["to_status"] == decided:
            tally.found_out_by[spot.operation, row["cause"]] += 1


def _check_coverage(chosen: Sequence[Spot], tally: _Tally) -> None:
    """Something must have been left for the worker, or nothing of what it does was tried."""
    for spot in {spot.operation: spot for spot in chosen}.values():
        for cause in ("api", "recovery"):
            if not tally.found_out_by[spot.operation, cause]:
                tally.fail(spot, f"no {spot.operation} was found out by {cause}")


@asynccontextmanager
async def _open_stage(world: World, log: Log, *, hot: bool) -> AsyncIterator[_Stage]:
    pg = urlsplit(world.pg.url)
    async with http_line((HOST, pg.port or 80)) as line:
        with world.case("cuts") as case:
            settings = case.settings.model_copy(update={"toss_api_url": line.url})
            patient = Patient()
            async with (
                patient.closing(),
                open_house(settings, hot=hot, fitted=patient.fit) as house,
                clients_of(house, case.pg) as clients,
            ):
                yield _Stage(world, case, line, clients, log)


async def _each(things: Iterable[S], do: Callable[[S], Awaitable[T]]) -> list[T]:
    """Do something with each, some at the same time."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def _do(one: S) -> T:
        async with turns:
            return await do(one)

    return list(await asyncio.gather(*map(_do, things)))
