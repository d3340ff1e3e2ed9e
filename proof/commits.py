"""Commits are lost, each in its turn: the database has carried one out and never says so, or has never heard of it.

First every step of a payment's life is listened to, so that all of its commits are known; then each of them is lost,
on either path. The client repeats what was not answered, the worker finds out about the rest, and the books must agree.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from http import HTTPStatus
from itertools import groupby
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import SecretStr
from sqlalchemy import make_url
from tests.acceptance.worker_world import numbered
from tests.integration.world import AMOUNT

from proof.books import Books, OrderBooks, Told, read_books
from proof.findings import BadReplay, Failure, Figure, Findings, Options, Say
from proof.house import open_house
from proof.inside import Clients, Log, Patient, clients_of, keys_asked_with, logged, parts, under_other_keys
from proof.invariants import is_settled, violations
from proof.pg_wire import Armed, Loss, PgLine, pg_line
from proof.stories import CANARIES
from proof.wire import HOST, Cut, Direction, Ending, HttpLine, http_line
from proof.world import LEASES_ARE_OVER, Case, World, open_world

_DATABASE: Final = "commits"
_NOISE: Final = frozenset({"processes", "job_runs"})  # what our programs write by themselves
_ROUNDS: Final = 3
_ROUNDS_IN_FULL: Final = 11
_PER_CASE: Final = 60
_TRIES: Final = 6  # of a client until it goes home
_ROUNDS_TO_SETTLE: Final = 3
# Longer than a confirm is held; and so short that a client's tries all fall into the PG's ten minutes.
_A_WHILE: Final = timedelta(seconds=65)
_MOST_SKIPPED: Final = 3
_EXPECTED: Final = frozenset({200, 201, 202, 409, 503})  # while commits get lost


class Step(StrEnum):
    """What is under way when a commit is lost."""

    PREPARE = "prepare"
    CONFIRM = "confirm"
    FOUND = "found"  # the worker finds out that the PG has the money
    PROMISED = "promised"  # the worker finds out that the confirm never reached the PG
    WEBHOOK = "webhook"
    EVENT = "event"  # the worker looks into a webhook
    OUTBOX = "outbox"
    GIVE_UP = "give-up"
    REFUND = "refund"
    REFUND_FOUND = "refund-found"
    REFUND_PROMISED = "refund-promised"

    @property
    def leaves(self) -> str:
        """Where the payment stands in the end."""
        if self is Step.GIVE_UP:
            return "CANCELLED"
        return "REFUNDED" if self in _GIVES_BACK else "COMPLETED"


_GIVES_BACK: Final = frozenset({Step.REFUND, Step.REFUND_FOUND, Step.REFUND_PROMISED})
# What the line to the PG does before the worker is to find out.
_CUTS: Final[Mapping[Step, Direction]] = {
    Step.FOUND: Direction.RESPONSE,
    Step.EVENT: Direction.RESPONSE,
    Step.PROMISED: Direction.REQUEST,
    Step.REFUND_FOUND: Direction.RESPONSE,
    Step.REFUND_PROMISED: Direction.REQUEST,
}


@dataclass(frozen=True, slots=True)
class Spot:
    """One commit of one step that is lost; and perhaps a second one, so many commits after it."""

    step: Step
    number: int  # of the commits of the step, from 1
    hot: bool
    loss: Loss
    then: tuple[Loss, int] | None = None

    def __str__(self) -> str:
        """The word that has it tried once more."""
        then = "" if self.then is None else f":{self.then[0]}:{self.then[1]}"
        return f"commit:{self.step}:{self.number}:{_path(hot=self.hot)}:{self.loss}{then}"

    @classmethod
    def named(cls, word: str) -> Self:
        """The spot that a failure has named.

        Raises:
            BadReplay: there is none of this name.
        """
        try:
            _, step, number, path, loss, *then = word.split(":")
            second = (Loss(then[0]), int(then[1])) if then else None
            spot = cls(Step(step), int(number), path == "hot", Loss(loss), second)
        except (ValueError, IndexError) as error:
            raise BadReplay(str(error)) from error
        if str(spot) != word:
            raise BadReplay(f"it would be called {spot}")
        return spot


def _path(*, hot: bool) -> str:
    return "hot" if hot else "plain"


Known = Mapping[tuple[Step, bool], Sequence[str]]  # the names of the commits of each step, on each path


def spots(known: Known, options: Options) -> Iterator[Spot]:
    """Every commit in both ways, several times: at first alone, then with a second one of chance."""
    for number in range(_ROUNDS_IN_FULL if options.is_full else _ROUNDS):
        for (step, hot), names in known.items():
            for at in range(1, len(names) + 1):
                for loss in Loss:
                    chance = random.Random(f"{options.seed} {number} {step} {hot} {at} {loss}")  # noqa: S311 - a seed, no secret
                    second = (chance.choice(list(Loss)), chance.randint(0, _MOST_SKIPPED))
                    yield Spot(step, at, hot, loss, second if number else None)


@dataclass(slots=True)
class _Tally:
    """What has come of everything so far."""

    say: Say
    seconds: float = 0.0
    known: dict[tuple[Step, bool], list[str]] = field(default_factory=dict)
    losses: Counter[tuple[Step, int, bool, Loss]] = field(default_factory=Counter)
    second: Counter[Loss] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def fail(self, spot: Spot, what: str) -> None:
        self.failures.append(Failure(f"{what} (after {spot})", str(spot)))

    def findings(self) -> Findings:
        return Findings(list(self._figures()), self.failures)

    def lost(self, loss: Loss) -> int:
        first = sum(count for (_, _, _, how), count in self.losses.items() if how is loss)
        return first + self.second[loss]

    def _figures(self) -> Iterator[Figure]:
        yield Figure("commits carried out whose reply was lost", self.lost(Loss.LOST))
        yield Figure("commits that never arrived", self.lost(Loss.NEVER))
        yield Figure("of both, a second one of the same order", self.second.total())
        for step in Step:
            lost = sum(count for (where, *_, how), count in self.losses.items() if (where, how) == (step, Loss.LOST))
            yield Figure(f"{step}: replies lost, of any of its commits", lost)
        for status, answers in sorted(self.answers.items()):
            yield Figure(f"the request whose commit was lost was answered {status}", answers)
        yield Figure("losing commits took", round(self.seconds, 1), "s")


@dataclass(slots=True)
class _Tale:
    """One order, and what its clients have to know to come again."""

    order_id: str
    step: Step
    payment_key: str = ""
    event: bytes = b""


@dataclass(frozen=True, slots=True)
class _Stage:
    """A house on a fresh database, with both lines in our hands: to the database and to the PG."""

    world: World
    case: Case
    database: PgLine
    pg: HttpLine
    clients: Clients
    log: Log

    async def begin(self, step: Step) -> _Tale:
        """An order that has come as far as the step."""
        tale = _Tale(numbered("commit", 1)[0], step)
        self.world.town.shop.take_orders([tale.order_id])
        if step is Step.PREPARE:
            return tale
        await self.clients.prepare(tale.order_id)
        if step is Step.GIVE_UP:
            return tale
        tale.payment_key = await self.clients.window(tale.order_id, AMOUNT)
        if step in {Step.FOUND, Step.PROMISED, Step.EVENT}:
            await self._in_vain(tale, "/confirm")
        elif step not in {Step.CONFIRM, Step.WEBHOOK}:
            await self.confirm(tale)
        if step in _GIVES_BACK:
            await self.clients.house.work()
        if step in {Step.REFUND_FOUND, Step.REFUND_PROMISED}:
            await self._in_vain(tale, "/cancel")
        if step in {Step.WEBHOOK, Step.EVENT}:
            tale.event = await self.clients.event(tale.order_id)
        if step is Step.EVENT:
            await self.clients.webhook(tale.order_id, tale.event)
        return tale

    async def do(self, tale: _Tale) -> Told | None:
        """The step itself; what a client is told, where one asks."""
        match tale.step:
            case Step.PREPARE:
                return await self.clients.prepare(tale.order_id)
            case Step.CONFIRM:
                return await self.confirm(tale)
            case Step.GIVE_UP | Step.REFUND:
                return await self.cancel(tale)
            case Step.WEBHOOK:
                return await self.clients.webhook(tale.order_id, tale.event)
            case Step.EVENT | Step.OUTBOX:
                await self.clients.house.work()
            case Step.FOUND | Step.PROMISED | Step.REFUND_FOUND | Step.REFUND_PROMISED:
                await self.later(tale)
        return None

    async def finish(self, tale: _Tale) -> Told:
        """The clients come again until everything is decided, and the worker has its rounds; the last answer."""
        if not tale.payment_key and tale.step is Step.PREPARE:
            await self._insist(tale, lambda: self.clients.prepare(tale.order_id))
            tale.payment_key = await self.clients.window(tale.order_id, AMOUNT)
        if tale.event:
            await self._insist(tale, lambda: self.clients.webhook(tale.order_id, tale.event))
        is_cancel = tale.step is Step.GIVE_UP or tale.step in _GIVES_BACK
        return await self._insist(tale, lambda: self.cancel(tale) if is_cancel else self.confirm(tale))

    async def later(self, tale: _Tale) -> None:
        """Whoever may still be at it has had the time, and the worker has a round."""
        is_request = tale.step is Step.GIVE_UP or tale.step in _GIVES_BACK
        self.case.pass_time(LEASES_ARE_OVER if is_request else _A_WHILE)
        await self.clients.house.work()

    async def confirm(self, tale: _Tale) -> Told:
        return await self.clients.confirm(tale.order_id, tale.payment_key)

    async def cancel(self, tale: _Tale) -> Told:
        return await self.clients.cancel(tale.order_id, f"all-of-{tale.order_id}")

    def books(self, orders: Sequence[str]) -> Books:
        told = [one for one in self.clients.told if one.order_id in orders]
        with self.case.connect() as connection:
            return read_books(connection, self.case.pg, self.world.town.shop, orders, told=told, log=self.log.said())

    async def _insist(self, tale: _Tale, ask: Callable[[], Awaitable[Told]]) -> Told:
        for number in range(_TRIES):
            told = await ask()
            if told.status in {HTTPStatus.OK, HTTPStatus.CREATED}:
                break
            if number:  # at first at once
                await self.later(tale)
        return told

    async def _in_vain(self, tale: _Tale, target: str) -> None:
        """Ask for it while the line to the PG is dead, from a byte that depends on what is to be found out."""
        self.pg.arm(tale.payment_key, target, Cut(_CUTS[tale.step], 0, Ending.FIN, stays=True))
        await (self.confirm(tale) if target == "/confirm" else self.cancel(tale))
        self.pg.mend(tale.payment_key)


def run(options: Options, say: Say) -> Findings:
    """Lose every commit; or, with `options.replay`, one once more."""
    tally = _Tally(say)
    with open_world() as world:
        secrets = world.settings(world.postgres.url()).secrets()
        with logged(world.home / "commits.log", secrets=secrets) as log:
            asyncio.run(_lose_all(world, options, tally, log))
    return tally.findings()


async def _lose_all(world: World, options: Options, tally: _Tally, log: Log) -> None:
    for hot in (True, False):
        await _listen(world, tally, log, hot=hot)
    chosen = [Spot.named(options.replay)] if options.replay else list(spots(tally.known, options))
    for spot in chosen:
        if spot.number not in range(1, len(tally.known[spot.step, spot.hot]) + 1):
            raise BadReplay(f"a {spot.step} has only {len(tally.known[spot.step, spot.hot])} commits there")
    began = time.monotonic()
    for hot, on_path in groupby(sorted(chosen, key=lambda spot: not spot.hot), key=lambda spot: spot.hot):
        all_of_them = list(on_path)
        for number, some in enumerate(parts(all_of_them, _PER_CASE)):
            await _lose(world, some, tally, log, hot=hot)
            done = min(len(all_of_them), (number + 1) * _PER_CASE)
            path, failures = _path(hot=hot), len(tally.failures)
            tally.say(f"commits: {done} of {len(all_of_them)} lost on the {path} path, {failures} failures")
    tally.seconds = time.monotonic() - began


async def _listen(world: World, tally: _Tally, log: Log, *, hot: bool) -> None:
    """What commits each step has, when nothing goes wrong."""
    async with _open_stage(world, log, hot=hot) as stage:
        for step in Step:
            tale = await stage.begin(step)
            stage.database.commits.clear()
            await stage.do(tale)
            names = [commit.name for commit in stage.database.commits]
            # The worker tells the shop in the same round, which is a step of its own.
            tally.known[step, hot] = [name for name in names if step is Step.OUTBOX or not _tells(name)]
            if not tally.known[step, hot]:
                tally.fail(Spot(step, 1, hot, Loss.LOST), "nothing was committed")
            for number, name in enumerate(tally.known[step, hot], start=1):
                tally.say(f"commits: {step} {number}, {_path(hot=hot)}: {name}")
            await stage.finish(tale)
            await stage.later(tale)


def _tells(name: str) -> bool:
    return name.startswith("UPDATE outbox_messages")


async def _lose(world: World, spots: Sequence[Spot], tally: _Tally, log: Log, *, hot: bool) -> None:
    log.mark()
    spot_of: dict[str, Spot] = {}
    async with _open_stage(world, log, hot=hot) as stage:
        for spot in spots:
            tale = await stage.begin(spot.step)
            spot_of[tale.order_id] = spot
            await _lose_one(stage, tale, spot, tally)
        for _ in range(_ROUNDS_TO_SETTLE):
            if is_settled(books := stage.books(list(spot_of))):
                break
            stage.case.pass_time()
            await stage.clients.house.work()
        for violation in violations(books, canaries=CANARIES):
            tally.fail(spot_of.get(violation.order_id, spots[0]), str(violation))
        asked = keys_asked_with(stage.case.pg)
        for one in books.orders:
            _check(one, spot_of[one.order_id], tally)
            for what in under_other_keys(one, asked):
                tally.fail(spot_of[one.order_id], what)


async def _lose_one(stage: _Stage, tale: _Tale, spot: Spot, tally: _Tally) -> None:
    names = tally.known[spot.step, spot.hot]
    name = names[spot.number - 1]
    first = stage.database.arm(name, spot.loss, skips=names[: spot.number - 1].count(name))
    told = await stage.do(tale)
    if told is not None:
        tally.answers[told.status] += 1
    if first.struck is None:
        tally.fail(spot, f"the commit of {name} was never lost")
    tally.losses[spot.step, spot.number, spot.hot, spot.loss] += first.struck is not None
    if spot.step is Step.CONFIRM and spot.number == 1:
        _check_not_asked(stage.case, tale, spot, tally)
    second = stage.database.arm(None, spot.then[0], skips=spot.then[1]) if spot.then else None
    await _find_out(stage, tale, spot, tally, second=second)


async def _find_out(stage: _Stage, tale: _Tale, spot: Spot, tally: _Tally, *, second: Armed | None) -> None:
    await stage.finish(tale)
    await stage.later(tale)
    stage.database.armed.clear()
    if second is not None and second.struck is not None:
        tally.second[second.loss] += 1
        await stage.later(tale)
    told = await stage.finish(tale)
    if told.status != HTTPStatus.OK:
        tally.fail(spot, f"in the end the client was told {told.status}: {told.body}")
    for one in stage.clients.told:
        if one.order_id == tale.order_id and one.status not in _EXPECTED:
            tally.fail(spot, f"a client was told {one.status}: {one.body}")


def _check_not_asked(case: Case, tale: _Tale, spot: Spot, tally: _Tally) -> None:
    """Nobody may ask for money before it is certain that this is written down."""
    if asked := [call["path"] for call in case.pg.calls(tale.order_id)]:
        tally.fail(spot, f"the PG was asked {asked}, and nobody knows whether it is written down")


def _check(books: OrderBooks, spot: Spot, tally: _Tally) -> None:
    """The PG has refused nothing, so nothing may have failed."""
    payment, step = books.payment, spot.step
    if payment is None or payment["status"] != step.leaves:
        tally.fail(spot, f"the payment is {payment and payment['status']}")
    is_paid, is_given_back = step is not Step.GIVE_UP, step in _GIVES_BACK
    if (len(books.captures), len(books.cancels), len(books.refunds)) != (is_paid, is_given_back, is_given_back):
        tally.fail(spot, f"{len(books.captures)} captures, {len(books.cancels)} cancels, {len(books.refunds)} refunds")


@asynccontextmanager
async def _open_stage(world: World, log: Log, *, hot: bool) -> AsyncIterator[_Stage]:
    pg = urlsplit(world.pg.url)
    sockets = make_url(world.postgres.url()).query["host"]
    async with http_line((HOST, pg.port or 80)) as line, pg_line(str(sockets), ignored=_NOISE) as database:
        with world.case(_DATABASE) as case:
            urls = {"toss_api_url": line.url, "database_url": SecretStr(database.url(_DATABASE))}
            patient = Patient()
            async with (
                patient.closing(),
                open_house(case.settings.model_copy(update=urls), hot=hot, fitted=patient.fit) as house,
                clients_of(house, case.pg) as clients,
            ):
                yield _Stage(world, case, database, line, clients, log)
