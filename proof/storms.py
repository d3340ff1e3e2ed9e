"""Storms: hundreds of requests about the same orders become whole at one moment, while the PG fails now and then."""

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import httpx
import psycopg
from tests.acceptance.worker_world import numbered
from tests.integration.world import AMOUNT

from payments.errors import DatabaseUnavailable
from proof.books import CANCEL, CONFIRM, PREPARE, WEBHOOK, Books, OrderBooks, Row, Told, read_books
from proof.buyers import CONSOLE, FORGED, READ, Asked, Buyer
from proof.findings import BadReplay, Failure, Figure, Findings, Options, Say
from proof.house import open_house
from proof.inside import logged
from proof.invariants import is_settled, violations
from proof.lives import Answer
from proof.places import InProcess, Place, programs, told_in
from proof.stories import is_decided
from proof.world import Case, Pg, World, open_world

CONFIRMS: Final = "confirms"
MIXED: Final = "mixed"
REFUNDS: Final = "refunds"
PLAIN: Final = "plain"  # as `mixed`, in this process and on the plain path
_CONFIRMS_AT_ONCE: Final = 200
_REFUNDS_AT_ONCE: Final = 100
_PART: Final = 10_000  # won; the payment is ten times as much
_SAME_REFUNDS: Final = 50
# Seconds until every client has been told what became of a request: longer than one may be held.
_TOLD_WITHIN: Final = 150.0
_ORDERS_AT_ONCE: Final = 8
_LOOKS: Final = 60  # at whether all is settled
_LOOKS_IN_REAL_TIME: Final = 10
_SHOWN: Final = 10  # of what does not hold in one storm, while it is played; all of it is counted
# Answers under which nothing has gone wrong. 503 says that nothing was done, or is not known yet: the PG keeps failing,
# or so many ask at once that the connections to the database do not go round.
_ALLOWED: Final[dict[str, frozenset[int]]] = {
    PREPARE: frozenset({200, 201, 409, 503}),
    CONFIRM: frozenset({200, 202, 402, 409, 503}),
    CANCEL: frozenset({200, 202, 409, 503}),
    WEBHOOK: frozenset({200, 503}),
    FORGED: frozenset({401, 503}),
    READ: frozenset({200, 503}),
    CONSOLE: frozenset({200, 400, 403, 404, 409}),
}
_NEVER_REPEATED: Final = frozenset({READ, FORGED, CONSOLE})
# How often the PG fails in which way: about every fourth call. In strong weather five times as often, so that its
# circuits open and close.
_FAULTS: Final = {
    "drop_reply": 0.06,
    "drop_before_effect": 0.05,
    "server_error": 0.05,
    "server_error_after_effect": 0.05,
    "delay": 0.1,
}
_STRENGTHS: Final = (1, 5, 1)
_DELAY_SECONDS: Final = 0.3
# Shares of the orders: whose first card is refused, that are paid for before the storm, that somebody gives up in it,
# of which somebody at the PG's console cancels a part.
_REFUSED: Final = 0.15
_PAID: Final = 0.5
_GIVEN_UP: Final = 0.3
_AT_THE_CONSOLE: Final = 0.4

_Same = tuple[str, str, str]  # what, of which order, under which name


def code_of(answer: Answer) -> str:
    """Why a request was refused; empty where it was not."""
    return str(answer.body.get("code", "")) if isinstance(answer.body, dict) else ""


@dataclass
class Tally:
    """What all storms came to."""

    say: Say
    orders: int = 0
    requests: int = 0
    at_once: int = 0  # the most
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)  # of refusals
    whole: int = 0  # orders all of whose identical confirms were let in
    captures: int = 0
    cancels: int = 0
    events: int = 0  # that the shop took
    calls: int = 0  # of the PG
    struck: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def fail(self, replay: str, wrong: Sequence[str]) -> None:
        self.failures += [Failure(what, replay) for what in wrong]
        for what in wrong[:_SHOWN]:
            self.say(f"storms: {replay}: {what}")
        if len(wrong) > _SHOWN:
            self.say(f"storms: {replay}: {len(wrong) - _SHOWN} more")

    def note(self, asked: Asked, answer: Answer) -> None:
        self.answers[asked.what, answer.status or 0] += 1
        if code := code_of(answer):
            self.codes[code] += 1

    def note_calls(self, pg: Pg) -> None:
        for call in pg.calls():
            self.calls += 1
            self.struck.update(str(call["fault"]).split("+") if call["fault"] else ())

    def note_books(self, books: Books) -> None:
        self.orders += len(books.orders)
        self.captures += sum(len(one.captures) for one in books.orders)
        self.cancels += sum(len(one.cancels) for one in books.orders)
        self.events += sum(len(one.events) for one in books.orders)


@dataclass
class Storm:
    """One storm on some orders: who asked for what, and what they were told."""

    place: Place
    case: Case
    world: World
    tally: Tally
    told: list[Told] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _undecided: dict[_Same, Asked] = field(default_factory=dict)
    _decided: dict[_Same, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    _again: dict[_Same, Asked] = field(default_factory=dict)  # what changes nothing any more when it is repeated

    async def buyers(self, story: str, amount: int, *, each: int = AMOUNT) -> list[Buyer]:
        """So many buyers whose orders are prepared, and who have not been to the payment window yet."""
        buyers = [Buyer(order_id, each) for order_id in numbered(story, amount)]
        await asyncio.to_thread(_take_orders, self.world, buyers)
        await self.rage([buyer.prepare() for buyer in buyers])
        await self.insist()
        return buyers

    async def window(self, buyer: Buyer, **more: str) -> Buyer:
        """The buyer comes back from one more payment window."""
        key = await asyncio.to_thread(self.case.pg.authenticate, buyer.order_id, buyer.amount, **more)
        return replace(buyer, windows=(*buyer.windows, key))

    async def rage(self, asked: Sequence[Asked]) -> None:
        """Ask all of these at one moment, and note what is answered."""
        self.tally.requests += len(asked)
        self.tally.at_once = max(self.tally.at_once, len(asked))
        for one, answer in zip(asked, await self.place.ask(asked), strict=True):
            if answer is None or answer.status is None:
                self.wrong.append(f"{one.what} of {one.order_id} got no answer")
            else:
                self._hear(one, answer, answer.status)

    async def insist(self) -> None:
        """Everybody who was not told what became of a request comes again, all at one moment, until they are."""
        ends = time.monotonic() + _TOLD_WITHIN
        while self._undecided and time.monotonic() < ends:
            await self.place.work()
            await self.rage(list(self._undecided.values()))
        self.wrong += [f"{what} {name} of {order_id} stays undecided" for what, order_id, name in self._undecided]

    async def settle(self, buyers: Sequence[Buyer]) -> Books:
        """The weather clears; everybody comes again and the PG tells of all payments, until nothing is left to do.

        What does not hold then is `wrong`. In the end everything is asked once more that was decided.
        """
        await asyncio.to_thread(self.case.pg.clear_faults)
        await self.insist()
        order_ids = [buyer.order_id for buyer in buyers]
        await self._wait(order_ids)
        for buyer in buyers:
            shown = await asyncio.to_thread(self.case.pg.payments, buyer.order_id)
            await self.rage([buyer.webhook(one) for one in shown])
        await self._wait(order_ids)
        await self.rage(list(self._again.values()))
        books = await asyncio.to_thread(self._books, order_ids)
        self.wrong = [*map(str, violations(books)), *self._answered_in_two_ways(), *self.wrong]
        self.tally.note_books(books)
        return books

    async def _wait(self, order_ids: Sequence[str]) -> None:
        for number in range(_LOOKS):
            if is_settled(await asyncio.to_thread(self._books, order_ids)):
                return
            if number >= _LOOKS_IN_REAL_TIME:
                with suppress(
                    psycopg.errors.DeadlockDetected
                ):  # our programs write meanwhile; the next look tries again
                    await asyncio.to_thread(self.case.pass_time)
            await self.place.work()
        self.wrong.append("I13: has not settled")

    def _books(self, order_ids: Sequence[str]) -> Books:
        with self.case.connect() as connection:
            return read_books(connection, self.case.pg, self.world.town.shop, order_ids, told=self.told)

    def _hear(self, asked: Asked, answer: Answer, status: int) -> None:
        self.tally.note(asked, answer)
        if status not in _ALLOWED[asked.what]:
            self.wrong.append(f"{asked.what} of {asked.order_id} was answered {status}: {code_of(answer)}")
        if asked.what in _NEVER_REPEATED:
            return
        self.told.append(Told(asked.what, asked.order_id, asked.name, status, answer.body))
        same = (asked.what, asked.order_id, asked.name)
        if is_decided(answer):
            self._decided[same].append(answer)
            self._undecided.pop(same, None)
            if asked.what == CANCEL or (asked.what == CONFIRM and status in {200, 402}):
                self._again[same] = asked
        elif same not in self._decided:
            self._undecided[same] = asked

    def _answered_in_two_ways(self) -> Iterator[str]:
        """Of cancels each answer that decides is kept, refusals too."""
        for (what, order_id, name), answers in self._decided.items():
            if what == CANCEL and any(answer != answers[0] for answer in answers):
                yield f"I10 {order_id}: cancel {name} was answered in two ways"


def _take_orders(world: World, buyers: Sequence[Buyer]) -> None:
    shop = world.town.shop
    shop.take_orders([buyer.order_id for buyer in buyers])
    with psycopg.connect(shop.database.replace("+psycopg", "", 1)) as connection:
        for buyer in buyers:
            if buyer.amount != AMOUNT:  # which is what the shop's orders are worth without a word
                change = "UPDATE orders SET amount = %s WHERE order_id = %s"
                connection.execute(change, [buyer.amount, buyer.order_id])


async def confirms(storm: Storm, *, orders: int, at_once: int = _CONFIRMS_AT_ONCE) -> None:
    """On each of some orders so many identical confirms at one moment: one takes the money, all are told the same."""
    buyers = [await storm.window(buyer) for buyer in await storm.buyers("same", orders)]
    for buyer in buyers:
        await storm.rage([buyer.confirm()] * at_once)
    books = await storm.settle(buyers)
    for one in books.orders:
        calls = await asyncio.to_thread(storm.case.pg.calls, one.order_id)
        storm.wrong += [f"{one.order_id}: {says}" for says in _not_once(one, calls)]
    whole = sum(not any(map(_is_shed, one.told)) for one in books.orders)
    storm.tally.whole += whole
    if not whole:
        storm.wrong.append("this machine is too slow: of no order were all confirms let in")


def _is_shed(told: Told) -> bool:
    """Whether a process had more to do than it could: nobody gets a connection to the database within two seconds."""
    return told.status == 503 and told.body["code"] == DatabaseUnavailable.code


def _not_once(one: OrderBooks, calls: Sequence[Row]) -> Iterator[str]:
    told = [each for each in one.told if each.what == CONFIRM and not _is_shed(each)]
    if strange := Counter(each.status for each in told if each.status not in {200, 202}):
        yield f"confirms were answered {dict(strange)}"
    if len({json.dumps(each.body, sort_keys=True) for each in told if each.status == 200}) != 1:
        yield "the buyers were not told the same"
    keys = {call["idempotencyKey"] for call in calls if call["path"].endswith("/confirm")}
    completed = [message for message in one.messages if message["type"] == "payment.completed"]
    for name, found in {
        "captures": one.captures,
        "keys of confirms at the PG": keys,
        "messages payment.completed": completed,
        "events at the shop": one.events,
    }.items():
        if len(found) != 1:
            yield f"{len(found)} {name}"


async def mixed(storm: Storm, seed: int, *, orders: int) -> None:
    """Everything at once about many orders, some of them paid for already, while the PG fails now and then.

    First about a few orders, so that most is worked on at the same time; then about all of them, so that the programs
    have to refuse some of it, and what was asked before is repeated.
    """
    chance = random.Random(seed)  # noqa: S311 - a seed, no secret
    buyers = []
    for buyer in await storm.buyers("mixed", orders):
        refused = {"refuseWith": "REJECT_CARD_PAYMENT"} if chance.random() < _REFUSED else {}
        buyers.append(await storm.window(await storm.window(buyer, **refused)))
    await storm.rage([buyer.confirm() for buyer in buyers if chance.random() < _PAID])
    await storm.insist()
    await asyncio.to_thread(arm, storm.case.pg, _STRENGTHS[seed % len(_STRENGTHS)])
    everything: list[Asked] = []
    for first in range(0, orders, _ORDERS_AT_ONCE):
        some: list[Asked] = []
        for buyer in buyers[first : first + _ORDERS_AT_ONCE]:
            shown = await asyncio.to_thread(storm.case.pg.payments, buyer.order_id)
            some += _everything(buyer, shown, chance)
        chance.shuffle(some)
        await storm.rage(some)
        everything += some
    chance.shuffle(everything)
    await storm.rage(everything)
    await storm.settle(buyers)


def _everything(buyer: Buyer, shown: Sequence[dict[str, Any]], chance: random.Random) -> list[Asked]:
    """What is asked about one order at the same moment. The refunds together are more than was paid."""
    asked = [*[buyer.confirm()] * 4, *[buyer.confirm(1)] * 2, *[buyer.prepare()] * 2, *[buyer.read()] * 2]
    asked += [buyer.cancel("same", 4_000)] * 3
    asked += [buyer.cancel(f"own-{number}", chance.choice((3_000, 6_000))) for number in range(4)]
    asked += [*[buyer.webhook(chance.choice(shown), status="DONE")] * 3, buyer.hint(), buyer.forgery()]
    if chance.random() < _GIVEN_UP:
        asked += [buyer.cancel("all")] * 6
    if chance.random() < _AT_THE_CONSOLE:
        asked.append(buyer.cancel_in_console(1_000))
    return asked


def arm(pg: Pg, strength: int) -> None:
    """Let the PG fail now and then, until that is cleared."""
    for operation in ("confirm", "cancel", "lookup"):
        for kind, probability in _FAULTS.items():
            delay = {"delaySeconds": _DELAY_SECONDS} if kind == "delay" else {}
            pg.arm(operation, kind, times=None, probability=strength * probability, **delay)


async def refunds(storm: Storm, *, orders: int) -> None:
    """A hundred refunds of a tenth each at one moment, of which ten are carried out; and one that is asked for often.

    Of every second order the PG fails now and then meanwhile.
    """
    buyers = [await storm.window(buyer) for buyer in await storm.buyers("refunds", 2 * orders, each=10 * _PART)]
    await storm.rage([buyer.confirm() for buyer in buyers])
    await storm.insist()
    for number, buyer in enumerate(buyers):
        if number // 2 % 2:
            await asyncio.to_thread(arm, storm.case.pg, 1)
        parts = [buyer.cancel(f"part-{part}", _PART) for part in range(_REFUNDS_AT_ONCE)]
        await storm.rage([buyer.cancel("same", _PART)] * _SAME_REFUNDS if number % 2 else parts)
        await storm.insist()
        await asyncio.to_thread(storm.case.pg.clear_faults)
    books = await storm.settle(buyers)
    for number, one in enumerate(books.orders):
        wanted = [_PART] * (1 if number % 2 else 10)
        if [cancel["amount"] for cancel in one.cancels] != wanted:
            storm.wrong.append(f"{one.order_id}: {len(one.cancels)} refunds were carried out")
        succeeded = {told.name for told in one.told if told.what == CANCEL and told.status == 200}
        if len(succeeded) != len(wanted):
            storm.wrong.append(f"{one.order_id}: {len(succeeded)} refunds were answered with 200")


def run(options: Options, say: Say) -> Findings:
    """All storms, or the one that a failure has named: `mixed:3` is the mixed storm of the seed 3.

    Raises:
        BadReplay: there is no such storm.
    """
    tally = Tally(say)
    words = [_named(options.replay)] if options.replay else _words(options)
    spread = 0.0
    with open_world() as world:
        if loud := [word for word in words if not word.startswith(PLAIN)]:
            with world.case("storms") as case, programs(world, case) as running:
                seen: set[str] = set()
                for word in loud:
                    asyncio.run(_one(word, running.place, case, world, tally, is_full=options.is_full))
                    tally.fail(word, [what for what in running.wrong() if what not in seen])
                    seen.update(running.wrong())
                tally.note_calls(case.pg)
                spread = running.place.spread_seconds
        if plain := [word for word in words if word.startswith(PLAIN)]:
            with world.case("plain") as case:
                for word in plain:
                    asyncio.run(_on_plain_path(word, case, world, tally, is_full=options.is_full))
                tally.note_calls(case.pg)
    if not options.replay:
        tally.fail("", list(_nothing_happened(tally)))
    return Findings(
        [*_figures(tally), Figure("longest between two last bytes", round(1000 * spread), "ms")], tally.failures
    )


def _named(word: str) -> str:
    kind, _, seed = word.partition(":")
    if kind not in {CONFIRMS, REFUNDS, MIXED, PLAIN} or not seed.isdecimal():
        raise BadReplay("a storm is called like mixed:3")
    return word


def _words(options: Options) -> list[str]:
    mixed_rounds, plain_rounds = (16, 4) if options.is_full else (4, 1)
    seeds = range(options.seed, options.seed + mixed_rounds)
    return [
        f"{CONFIRMS}:{options.seed}",
        f"{REFUNDS}:{options.seed}",
        *(f"{MIXED}:{seed}" for seed in seeds),
        *(f"{PLAIN}:{seed}" for seed in seeds[:plain_rounds]),
    ]


async def _one(word: str, place: Place, case: Case, world: World, tally: Tally, *, is_full: bool) -> None:
    storm = Storm(place, case, world, tally)
    try:
        await _rage(word, storm, is_full=is_full)
    except (OSError, httpx.HTTPError) as error:  # also a request that nobody has answered in time
        storm.wrong.append(f"ended before its time: {error!r}")
    tally.fail(word, storm.wrong)
    tally.say(f"storms: {word}: {tally.requests:,} requests, {len(tally.failures)} failures, {tally.seconds:.0f} s")


async def _rage(word: str, storm: Storm, *, is_full: bool) -> None:
    kind, _, seed = word.partition(":")
    if kind == CONFIRMS:
        await confirms(storm, orders=50 if is_full else 8)
    elif kind == REFUNDS:
        await refunds(storm, orders=10 if is_full else 2)
    else:
        await mixed(storm, int(seed), orders=40 if is_full else 25)


async def _on_plain_path(word: str, case: Case, world: World, tally: Tally, *, is_full: bool) -> None:
    log = world.home / f"{PLAIN}.log"
    afresh = httpx.Limits(max_keepalive_connections=0)  # one that idles is closed just when this busy process takes it
    with logged(log, secrets=case.settings.secrets()):
        async with (
            open_house(case.settings, hot=False) as house,
            httpx.AsyncClient(base_url=case.pg.url, trust_env=False, timeout=30, limits=afresh) as pg,
        ):
            await _one(word, InProcess(house, pg), case, world, tally, is_full=is_full)
    tally.fail(word, list(told_in(log)))


def _nothing_happened(tally: Tally) -> Iterator[str]:
    yield from (f"the PG's fault {kind} has never struck" for kind in _FAULTS if not tally.struck[kind])
    for what, statuses in {CONFIRM: (200, 202, 402, 409), CANCEL: (200, 409), CONSOLE: (200,)}.items():
        yield from (f"no {what} was answered {status}" for status in statuses if not tally.answers[what, status])


def _figures(tally: Tally) -> list[Figure]:
    answers = Counter[int]()
    for (_, status), number in tally.answers.items():
        answers[status] += number
    return [
        Figure("orders", tally.orders),
        Figure("of which all identical confirms were answered with 200 or 202", tally.whole),
        Figure("requests", tally.requests),
        Figure("requests at the same moment, at most", tally.at_once),
        *(Figure(f"answers with {status}", number) for status, number in sorted(answers.items())),
        *(Figure(f"refusals with {code}", number) for code, number in tally.codes.most_common()),
        Figure("captures", tally.captures),
        Figure("refunds carried out", tally.cancels),
        Figure("events that the shop took", tally.events),
        Figure("calls to the PG", tally.calls),
        *(Figure(f"of which met {kind}", number) for kind, number in sorted(tally.struck.items())),
        Figure("seconds", round(tally.seconds)),
    ]
