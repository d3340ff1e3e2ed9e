"""Crash points: every failpoint, every action, every order of two of them; then recovery, and the books."""

import asyncio
import gc
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, count, cycle, islice, pairwise, product
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from fastapi import FastAPI
from tests.statements import share_statements

from proof.failpoints import Action, Fault, is_commit, site_of, sites
from proof.findings import BadReplay, Failure, Figure, Findings, Options, Say
from proof.house import build_app, warm_up
from proof.invariants import Violation
from proof.lanes import Lanes
from proof.lives import LifeFailed
from proof.planted_stories import MORE_STORIES, STORY_ENDS, ends_as, more_violations
from proof.stories import FATES, STORIES, Fate, Teller
from proof.world import Case, World

Pair = tuple[str, str]
Cell = tuple[str, Action]  # a point, and what is to happen there

_NUMBERS: Final = count(1)
_TURNS: Final = 3  # a point that is come by often is struck at one of the first times
_DRAWS: Final = 10  # of each point with each action
_ROUNDS: Final = 5  # for what has not struck yet
_QUICK_CHAINS: Final = 120
_ALL: Final = 1_000_000
_LONGEST_CHAIN: Final = 5  # faults of one run
_CANDIDATES: Final = 12  # that are looked at to make it longer
_AT_ONCE: Final = 400  # runs, before it is looked again what is left
_TRIPLES: Final = 300
_QUICK_TRIPLES: Final = 50
_SAY_EVERY: Final = 250
_MANY: Final = 3
_MOSTLY: Final = 0.7
_HALF: Final = 0.5
_SHORTEST: Final = 4
_LONGEST_STEP: Final = 12  # points, from the first of a step to its last

_HOT: Final = "hot"
_PLAIN: Final = "plain"

EVERY_STORY: Final = {**STORIES, **MORE_STORIES}  # the others are for the hunt of planted defects

# What has commits or calls of its own and is no step of a payment, and why nothing is made to happen there.
OF_NO_STORY: Final[Mapping[str, str]] = {
    "keys.create_key": "an operator's command; a key that is not committed opens nothing",
    "keys.list_keys": "an operator's command; reads",
    "keys.revoke_key": "an operator's command",
    "erase": "forgets persons, moves no money",
    "forget": "forgets what nobody repeats any more",
    "alert": "tells people",
    "cancel.order_of_key": "reads",
    "prepare._check_owner": "reads, where buyers are known",
    "recover.recover_all": "an operator's command; it ends in the same `_resolve`",
    "refund.resolve_refunds": "an operator's command; it ends in the same `carry_out`",
    "nights.run_night_by_hand": "an operator's command; it ends in the same checks",
    "work_webhooks.replay_webhooks": "an operator's command",
    "reconcile._call_a_person": "where a night would repair far too much",
    "reconcile._meet": "tells people of what the PG holds for an order that nobody prepared here",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: a story, the path that ours goes, what the PG does, and what strikes whom."""

    story: str
    hot: bool
    fate: Fate
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        path = _HOT if self.hot else _PLAIN
        return "/".join([self.story, path, self.fate.value, "+".join(map(str, self.faults))])

    @classmethod
    def read(cls, text: str) -> "Plan":
        """What `str` wrote.

        Raises:
            BadReplay: it did not.
        """
        try:
            story, path, fate, faults = text.split("/")
            plan = cls(story, path == _HOT, Fate(fate), tuple(Fault.read(one) for one in faults.split("+") if one))
        except ValueError:
            plan = None
        if plan is None or plan.story not in EVERY_STORY or str(plan) != text:
            raise BadReplay("a run is story/hot or plain/what the PG does/point@turn=action+...")
        return plan


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a run."""

    plan: Plan
    points: Sequence[str]  # as they were come by
    struck: Sequence[Fault]  # those of the plan that happened
    struck_at: Sequence[int] = ()  # where among the points
    fates: int = 0  # calls to the PG that met the fate of the plan
    violations: Sequence[Violation] = ()

    @property
    def happened(self) -> Plan:
        """The plan without the faults that there was no occasion for."""
        return self._up_to(len(self.struck))

    def legs(self) -> Iterator[tuple[Plan, Sequence[str]]]:
        """What was come by until the first fault, between that and the next, and so on, and what led to it."""
        ends = [0, *(at + 1 for at in self.struck_at), len(self.points)]
        for number, (begins, ends_at) in enumerate(pairwise(ends)):
            yield self._up_to(number), self.points[begins:ends_at]

    def _up_to(self, number: int) -> Plan:
        return replace(self.plan, faults=self.plan.faults[:number])


@dataclass
class Stage:
    """Where runs are played, one after the other."""

    world: World
    _apps: dict[str, FastAPI] = field(default_factory=dict)

    def play(self, plan: Plan) -> Played:
        """Lead one order through one story."""
        order_id = f"proof-{next(_NUMBERS):07}"
        log = Path(self.world.home, f"{order_id}.log")
        self.world.town.shop.take_orders([order_id])
        with self.world.case() as case:
            if case.database not in self._apps:
                self._apps[case.database] = _warm_app(case, log=Path(self.world.home, "warm-up.log"))
            teller = Teller(case, self.world.town.shop, self._apps[case.database], order_id, log, hot=plan.hot)
            teller.fate, teller.faults = plan.fate, list(plan.faults)
            fates = 0
            try:
                EVERY_STORY[plan.story](teller)
                found = teller.settle()
                fates = teller.fates()
                found += _more(teller, plan, fates)
            except LifeFailed as error:
                found = [Violation("I14", order_id, str(error))]
            except Exception as error:  # noqa: BLE001 - a run that could not be played is no run that held
                found = [Violation("I14", order_id, f"it could not be played: {error!r}")]
            finally:
                teller.close()
        if not found:
            log.unlink(missing_ok=True)
        return Played(plan, tuple(teller.points), tuple(teller.struck), tuple(teller.struck_at), fates, found)


def _more(teller: Teller, plan: Plan, fates: int) -> Iterator[Violation]:
    """What has to hold besides: of the story, and of what the PG was asked and said."""
    books, is_calm = teller.books(), not plan.faults
    calls = {teller.order_id: teller.case.pg.calls(teller.order_id)}
    yield from more_violations(books, calls, is_calm=is_calm)
    if is_calm:
        yield from ends_as(books, {end for end, stories in STORY_ENDS.items() if plan.story in stories})
        if plan.fate is not Fate.SOUND and not fates:
            yield Violation("I14", teller.order_id, f"the PG's part in it did not happen: {plan.fate}")


def _warm_app(case: Case, *, log: Path) -> FastAPI:
    """The API, with all that would be done anew in each forked process done before."""
    share_statements()
    app = build_app(case.settings)
    with log.open("a", encoding="utf-8") as output:
        # Not as our programs do it, whose loggers keep for ever what they were told first: each life is told anew.
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(output))
        for hot in (True, False):
            asyncio.run(warm_up(case.settings, app, hot=hot))
    structlog.reset_defaults()
    case.clear()
    gc.collect()
    gc.freeze()  # a forked process that looks through all of it would copy it
    return app


def do_plans(world: World) -> Callable[[Plan], Played]:
    """What a lane does."""
    return Stage(world).play


@dataclass
class Census:
    """Which points each story comes by, in which order: undisturbed, or after the last of its faults."""

    walks: Mapping[Plan, Sequence[str]]

    @cached_property
    def times(self) -> Mapping[Plan, Counter[str]]:
        """How often each story comes by each point."""
        return {plan: Counter(walk) for plan, walk in self.walks.items()}

    @cached_property
    def places(self) -> Mapping[str, Sequence[Plan]]:
        """By point, the stories that come by it."""
        found: dict[str, list[Plan]] = defaultdict(list)
        for plan, points in self.times.items():
            for point in points:
                found[point].append(plan)
        return dict(sorted(found.items()))

    def single(self, point: str, action: Action, chance: random.Random) -> Plan:
        """A story in which this happens at this point, at one of the first times."""
        return chance.choice(self._ways(point, action))

    def singles(self, point: str, action: Action, number: int, chance: random.Random) -> Iterator[Plan]:
        """So many of them, none twice before all have been."""
        ways = self._ways(point, action)
        return islice(cycle(chance.sample(ways, len(ways))), number)

    def _ways(self, point: str, action: Action) -> list[Plan]:
        kinds = (True, False) if action is Action.RAISE and is_commit(point) else (True,)
        return [
            replace(plan, faults=(*plan.faults, Fault(point, action, turn, is_outage=is_outage)))
            for plan in self.places[point]
            for turn in range(1, min(_TURNS, self.times[plan][point]) + 1)
            for is_outage in kinds
        ]

    def several(self, points: Sequence[str], chance: random.Random) -> Plan | None:
        """A story in which these points are struck, one after the other; None if there is none."""
        shared = self._leading(points)
        if not shared:
            return None
        actions = [Action.KILL if chance.random() < _MOSTLY else chance.choice(list(Action)) for _ in points]
        both = zip(points, actions, strict=True)
        faults = tuple(Fault(*one, is_outage=chance.random() < _HALF) for one in both)
        return replace(chance.choice(shared), faults=faults)

    def pairs(self) -> Iterator[Pair]:
        """Every two points of which the second can strike after the first."""
        for first, second in product(self.places, repeat=2):
            if self._leading((first, second)):
                yield first, second

    def chain(self, pair: Pair, untried: set[Pair], chance: random.Random) -> Plan | None:
        """A story with as many untried pairs as few faults can make, this one among them."""
        points = list(pair)
        while len(points) < _LONGEST_CHAIN:
            gains = Counter({one: sum((before, one) in untried for before in points) for one in self.places})
            more = [one for one, gain in gains.most_common(_CANDIDATES) if gain and self._leading([*points, one])]
            if not more:
                break
            points.append(more[0])
        return self.several(points, chance)

    def _leading(self, points: Sequence[str]) -> Sequence[Plan]:
        """The stories that come by these points, one after the other; only the shorter ones."""
        found = [plan for plan in self.places[points[0]] if self._can_follow(plan, points)]
        # What the points have to do with each other is the same in all of them.
        return sorted(found, key=lambda plan: len(self.walks[plan]))[:_SHORTEST]

    def _can_follow(self, plan: Plan, points: Sequence[str]) -> bool:
        """Whether a story may come by each point after the one before: a step that was cut is begun anew."""
        return all(self._comes_after(plan, *pair) for pair in pairwise(points))

    def _comes_after(self, plan: Plan, first: str, second: str) -> bool:
        ends = self._ends[plan]
        return first in ends and second in ends and ends[second].last > ends[first].first - _LONGEST_STEP

    @cached_property
    def _ends(self) -> Mapping[Plan, Mapping[str, "Ends"]]:
        return {plan: _ends_of(walk) for plan, walk in self.walks.items()}


class Ends(NamedTuple):
    """Where on the walk of a story a point is come by for the first and for the last time."""

    first: int
    last: int


def _ends_of(walk: Sequence[str]) -> dict[str, Ends]:
    last = {point: at for at, point in enumerate(walk)}
    return {point: Ends(len(walk) - 1 - at, last[point]) for at, point in enumerate(reversed(walk))}


@dataclass
class Tally:
    """What all runs came to."""

    say: Say
    runs: int = 0
    struck: Counter[Cell] = field(default_factory=Counter)
    fates: Counter[Fate] = field(default_factory=Counter)  # calls to the PG that met them
    points: set[str] = field(default_factory=set)  # that any run came by
    census: Census = field(default_factory=lambda: Census({}))  # of the undisturbed stories
    elsewhere: dict[Plan, Sequence[str]] = field(default_factory=dict)  # walks by points that it does not know
    pairs: set[Pair] = field(default_factory=set)  # that it knows
    both: set[Pair] = field(default_factory=set)  # that were struck, one after the other, whether it knows them or not
    alone: set[Pair] = field(default_factory=set)  # played with nothing else, and the second was not come by any more
    triples: int = 0
    whole_triples: int = 0  # of which all three were struck
    many: int = 0  # runs in which three or more were struck
    failures: list[Failure] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def take(self, plans: Sequence[Plan], lanes: Lanes[Plan, Played], name: str) -> list[Played]:
        """Play these, and say how far it has come."""
        self.say(f"crashes: {len(plans):,} runs, {name}")
        before = len(self.failures)
        taken = []
        for number, played in enumerate(lanes.map(plans), start=1):
            self.note(played)
            taken.append(played)
            if number % _SAY_EVERY == 0:
                self.say(f"crashes: {number:,} of {len(plans):,} after {self.seconds:.0f} s")
        self.say(f"crashes: {name}: {len(self.failures) - before} failures after {self.seconds:.0f} s")
        return taken

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def note(self, played: Played) -> None:
        """Count what happened in a run."""
        self.runs += 1
        self.points.update(played.points)
        self.struck.update((fault.point, fault.action) for fault in played.struck)
        self.fates[played.plan.fate] += played.fates
        for plan, points in played.legs():
            before = self.elsewhere.get(plan, ())
            if unknown := [point for point in points if point not in self.census.places and point not in before]:
                self.elsewhere[plan] = [*before, *unknown]
        self.both |= set(combinations([fault.point for fault in played.struck], 2))
        self.many += len(played.struck) >= _MANY
        for violation in played.violations:
            failure = Failure(f"{violation} in {played.plan}", str(played.happened))
            self.failures.append(failure)
            self.say(f"crashes: {failure.what}")

    def left(self) -> Iterator[Cell]:
        """What has not struck anywhere where it could."""
        return (cell for cell in product(sorted(self.points), Action) if not self.struck[cell])


def run(options: Options, say: Say) -> Findings:
    """Play everything: each story undisturbed, each point with each action, pairs and triples of points."""
    tally = Tally(say)
    if options.replay is not None:
        _replay(Plan.read(options.replay), tally)
        return Findings(_figures(tally), tally.failures)
    chance = random.Random(options.seed)  # noqa: S311 - a seed, no secret
    with Lanes(do_plans) as lanes:
        tally.take(calm_plans(), lanes, "undisturbed")
        tally.census, tally.elsewhere = Census(tally.elsewhere), {}
        draws = _DRAWS if options.is_full else 1
        tally.take(list(_singles(tally, draws, chance)), lanes, "one fault")
        _try_pairs(tally, lanes, chance, options)
        _try_triples(tally, lanes, chance, _TRIPLES if options.is_full else _QUICK_TRIPLES)
        _strike_the_rest(tally, lanes, chance, draws)
    tally.failures += not_covered(tally, options)
    return Findings(_figures(tally), tally.failures)


def _replay(plan: Plan, tally: Tally) -> None:
    with Lanes(do_plans, lanes=1) as lanes:
        (played,) = tally.take([plan], lanes, "replayed")
    for fault in plan.faults[len(played.struck) :]:
        tally.failures.append(Failure(f"I14: {fault} did not strike", str(plan)))


def calm_plans() -> list[Plan]:
    """Every story on both paths with every fate, and nothing of ours that dies."""
    return [
        Plan(story, hot, fate) for story in STORIES for hot in (True, False) for fate in FATES.get(story, (Fate.SOUND,))
    ]


def _singles(tally: Tally, draws: int, chance: random.Random) -> Iterator[Plan]:
    """Each point with each action, so many draws, as far as that has not struck yet."""
    elsewhere = Census(tally.elsewhere)
    for point, action in tally.left():
        census = tally.census if point in tally.census.places else elsewhere
        yield from census.singles(point, action, draws, chance)


def _try_pairs(tally: Tally, lanes: Lanes[Plan, Played], chance: random.Random, options: Options) -> None:
    """Try every ordered pair: several with one run first, and alone those of which that did not strike both."""
    tally.pairs = set(tally.census.pairs())
    untried, most = set(tally.pairs), _ALL if options.is_full else _QUICK_CHAINS
    while untried and most > 0:
        plans = list(islice(_chains(tally.census, untried, chance), min(most, _AT_ONCE)))
        most -= len(plans)
        for played in tally.take(plans, lanes, f"several faults, {len(untried):,} pairs left"):
            untried -= set(chained(played))
    for _ in range(_ROUNDS if options.is_full else 0):
        if not (alone := sorted(tally.pairs - tally.both - tally.alone)):
            break
        plans = [plan for pair in alone if (plan := tally.census.several(pair, chance)) is not None]
        for played in tally.take(plans, lanes, "two faults"):
            first, second = played.plan.faults
            if list(played.struck) == [first]:
                tally.alone.add((first.point, second.point))


def _chains(census: Census, untried: set[Pair], chance: random.Random) -> Iterator[Plan]:
    """Plans for the pairs, each of which counts as struck for the others until it has been played."""
    left = set(untried)
    for pair in chance.sample(sorted(untried), len(untried)):
        if pair in left and (plan := census.chain(pair, left, chance)) is not None:
            left -= set(combinations([fault.point for fault in plan.faults], 2))
            yield plan


def chained(played: Played) -> Iterator[Pair]:
    """The pairs that no further chain is made for: of the faults that struck and of the next, or of the first two."""
    points = [fault.point for fault in played.plan.faults]
    yield from combinations(points[: max(len(played.struck), 1) + 1], 2)


def _try_triples(tally: Tally, lanes: Lanes[Plan, Played], chance: random.Random, number: int) -> None:
    points, plans = list(tally.census.places), list[Plan]()
    while len(plans) < number:
        if (plan := tally.census.several(chance.sample(points, k=3), chance)) is not None:
            plans.append(plan)
    taken = tally.take(plans, lanes, "three faults")
    tally.triples = len(taken)
    tally.whole_triples = sum(len(played.struck) == len(played.plan.faults) for played in taken)


def _strike_the_rest(tally: Tally, lanes: Lanes[Plan, Played], chance: random.Random, draws: int) -> None:
    """Strike where others came by only after a fault, which may lead by more of them; and where nothing has struck."""
    for _ in range(_ROUNDS):
        if not (plans := list(_singles(tally, draws, chance))):
            break
        tally.take(plans, lanes, "where nothing has struck yet")


def not_covered(tally: Tally, options: Options) -> Iterator[Failure]:
    """What was meant to happen and did not."""
    chance = random.Random(options.seed)  # noqa: S311 - a seed, no secret
    again = f".venv/bin/python -m proof --only crashes --seed {options.seed}{' --full' if options.is_full else ''}"
    yield from (Failure(f"{what} (all of it once more: {again})", "") for what in _missed(tally))
    for plan in _singles(tally, 1, chance):
        yield Failure(f"no {plan.faults[-1].action} has struck at {plan.faults[-1].point}", str(plan))
    for first, second in sorted(tally.pairs - tally.both - tally.alone) if options.is_full else ():
        both = tally.census.several((first, second), chance)
        yield Failure(f"nothing has struck at {first} with {second} to follow", str(both) if both else "")


def _missed(tally: Tally) -> Iterator[str]:
    """Of this, what no single run can show."""
    reached = {site_of(point) for point in tally.points}
    for site in sorted(sites()):
        is_excused = not names_of(site).isdisjoint(OF_NO_STORY)
        if site not in reached and not is_excused:
            yield f"no run has come by {site}"
        if site in reached and is_excused:
            yield f"{site} is said to be of no story, and one has come by it"
    for fate in Fate:
        if fate is not Fate.SOUND and not tally.fates[fate]:
            yield f"the PG's part has never been {fate}"
    if not tally.whole_triples:
        yield "no triple of points was struck"


def names_of(site: str) -> set[str]:
    """The module of a site, and the function in it."""
    module, function, *_ = site.split(".")
    return {module, f"{module}.{function}"}


def _figures(tally: Tally) -> list[Figure]:
    struck: Counter[Action] = Counter()
    for (_, action), times in tally.struck.items():
        struck[action] += times
    both, after = tally.pairs & tally.both, tally.points - set(tally.census.places)
    return [
        Figure("failpoints", len(tally.points)),
        Figure("of these come by only after a fault", len(after) if tally.census.places else 0),
        Figure("commits and outside calls in the source that they cover", len({site_of(one) for one in tally.points})),
        Figure("runs", tally.runs),
        Figure("processes killed", struck[Action.KILL]),
        Figure("errors raised", struck[Action.RAISE]),
        Figure("tasks cancelled", struck[Action.CANCEL]),
        Figure("processes frozen until their leases were over", struck[Action.FREEZE]),
        Figure("calls that the PG did not receive", tally.fates[Fate.NOT_RECEIVED]),
        Figure("calls that the PG carried out without being heard", tally.fates[Fate.REPLY_LOST]),
        Figure("calls that the PG refused", tally.fates[Fate.REFUSED]),
        Figure("calls that the PG carried out and called failed", tally.fates[Fate.FAULT_OF_PG]),
        Figure("ordered pairs of points of which the second can strike after the first", len(tally.pairs)),
        Figure("of these struck both, one after the other", len(both)),
        Figure("of these tried alone as well, where the second was not come by any more", len(tally.alone - both)),
        Figure("triples of points", tally.triples),
        Figure("of these struck all three, one after the other", tally.whole_triples),
        Figure("runs in which three or more points were struck", tally.many),
        Figure("seconds", round(tally.seconds)),
    ]
