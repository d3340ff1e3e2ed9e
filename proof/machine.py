"""Stateful: programs that nobody wrote down, made up by Hypothesis and compared with a pure model at every step.

A program that does not hold is made as short as it gets, by leaving steps out; as text it is the word that replays it.
"""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from inspect import signature
from itertools import count
from pathlib import Path
from typing import ClassVar, Final

from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from proof.findings import BadReplay, Failure, Figure, Findings, Options, Say
from proof.house import build_app
from proof.invariants import Violation
from proof.lanes import Lanes
from proof.players import ALL, BY_NIGHTS, BY_WEBHOOKS, HOT, PLAIN, REJECTED, Broken, Player, Program, Step
from proof.reference import ACCOUNT
from proof.world import World

CARD: Final = "CARD"
_NUMBERS: Final = count(1)
_SHORTEN_FOR: Final = timedelta(seconds=60)

# What brings a process by most of the points where it can be killed, told once before anything is made up.
CALM: Final = (
    (
        "1:hot:webhooks/prepare:0:CARD/window:0:CARD:sound/confirm:0:0/confirm:0:0/webhook:0:0:signed/work"
        "/cancel:0:5000/repeat:0:0/rephrase:0:0/console:0:0:1000/webhook:0:-1:unsigned/wait:70/work/cancel:0:all/night"
    ),
    (
        "1:plain:nights/prepare:0:CARD/window:0:CARD:sound/confirm:0:0/confirm:0:0/work/cancel:0:5000/repeat:0:0"
        "/console:0:0:1000/webhook:0:-1:unsigned/wait:70/work/fault:0:cancel:drop_reply:1"
        "/fault:0:lookup:drop_before_effect:2/cancel:0:all/wait:70/work/night"
    ),
    (
        "1:hot:webhooks/prepare:0:VIRTUAL_ACCOUNT/window:0:VIRTUAL_ACCOUNT:sound/confirm:0:0/deposit:0:0"
        "/webhook:0:-1:callback/wait:70/work/reverse:0:0/webhook:0:-1:signed/wait:70/work/cancel:0:all/wait:70/work"
    ),
    (
        "1:hot:webhooks/prepare:0:CARD/window:0:CARD:sound/fault:0:confirm:drop_reply:1"
        "/fault:0:lookup:drop_before_effect:2/confirm:0:0/cancel:0:all/wait:70/work/cancel:0:all"
    ),
    (
        "1:plain:nights/prepare:0:CARD/window:0:CARD:sound/fault:0:confirm:drop_before_effect:1"
        "/fault:0:lookup:drop_before_effect:2/confirm:0:0/wait:70/work/work"
    ),
    "1:plain:webhooks/prepare:0:CARD/cancel:0:all/elsewhere:0/webhook:0:-1:signed/wait:70/work/wait:70/work",
    "1:hot:webhooks/prepare:0:CARD/window:0:CARD:refused/wait:2700/work/confirm:0:0/prepare:0:CARD",
    # Found by chance once: another order's payment key, which the PG has captured already; an account that is overdue
    # here, and closed in the console.
    "3:plain:nights/prepare:0:CARD/elsewhere:0/prepare:1:CARD/stolen:1:0:-1/wait:70/work",
    (
        "3:hot:webhooks/prepare:0:VIRTUAL_ACCOUNT/window:0:VIRTUAL_ACCOUNT:sound/confirm:0:-1/wait:1382400/night"
        "/work/console:0:-1:15000"
    ),
)
# Confirms that are refused for good, and cancels; what else the PG can do wrong with any of its calls.
FAULTS: Final[Mapping[str, Sequence[str]]] = {
    "confirm": (REJECTED, "PROVIDER_ERROR", "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING"),
    "cancel": ("NOT_CANCELABLE_PAYMENT", "PROVIDER_ERROR", "FORBIDDEN_CONSECUTIVE_REQUEST"),
    "lookup": ("PROVIDER_ERROR",),
}
_ANYWHERE: Final = (
    *("drop_before_effect", "drop_reply", "server_error", "server_error_after_effect", "too_many_requests", "html"),
    *("reset", "reset_after_effect", "truncated_json", "wrong_json", "wrong_amount", "wrong_order"),
)
# A lease; the time to confirm; a session; a day; the life of an idempotency key.
WAITS: Final = (70, 660, 2_700, 90_000, 1_382_400)

_BUY: Final = "prepare:{o}:CARD/window:{o}:CARD:sound/confirm:{o}:-1"
_ISSUE: Final = "prepare:{o}:VIRTUAL_ACCOUNT/window:{o}:VIRTUAL_ACCOUNT:sound/confirm:{o}:-1"
_LOSE: Final = "fault:{o}:{operation}:drop_reply:1/fault:{o}:lookup:drop_before_effect:2"
_LOSE_CONFIRM: Final = _LOSE.replace("{operation}", "confirm")
_LOSE_CANCEL: Final = _LOSE.replace("{operation}", "cancel")
_LATER: Final = "wait:70/work"
# By the beginning of a point: what is done with an order of its own until a process comes by it, and what it does then.
SCENES: Final[Mapping[str, tuple[str, str]]] = {
    "prepare": ("", _BUY),
    "confirm._record": (_LOSE_CONFIRM, _BUY),
    "confirm._look_up": (_LOSE_CONFIRM, _BUY),
    "confirm": ("", _BUY),
    "cancel._look_up": (f"{_LOSE_CONFIRM}/{_BUY}", "cancel:{o}:all"),
    "cancel._record": (f"{_LOSE_CONFIRM}/{_BUY}", "cancel:{o}:all"),
    "cancel>give_up": (_ISSUE, "cancel:{o}:all"),
    "cancel>refund._show": (f"{_BUY}/{_LOSE_CANCEL}", "cancel:{o}:5000"),
    "cancel": (_BUY, "cancel:{o}:5000"),
    "idempotency._release": (_BUY, "cancel:{o}:all/repeat:{o}:0"),
    "idempotency": (_BUY, "cancel:{o}:all"),
    "receive_webhook": (_BUY, "webhook:{o}:-1:unsigned"),
    "work_webhooks": (f"{_BUY}/webhook:{{o}}:-1:signed/wait:70", "work"),
    "expire": ("prepare:{o}:CARD/wait:2700", "work"),
    "give_back": ("prepare:{o}:CARD/cancel:{o}:all/elsewhere:{o}/webhook:{o}:-1:signed/wait:70/work", "work"),
    "recover._record_watched": (f"{_ISSUE}/wait:660", "work"),
    "recover.claim_due_watches": (f"{_ISSUE}/wait:660", "work"),
    "recover": (f"{_LOSE_CONFIRM}/{_BUY}", _LATER),
    "refund": (f"{_BUY}/{_LOSE_CANCEL}/cancel:{{o}}:5000", _LATER),
    "check_orders": (_BUY, "night"),
    "nights": (_BUY, "night"),
    "reconcile": (_BUY, "night"),
    "": (_BUY, _LATER),
}
# How far an order has come when a program begins.
HEAD_STARTS: Final[Mapping[str, str]] = {
    "none": "",
    "prepared": "prepare:{o}:CARD/window:{o}:CARD:sound",
    "bought": _BUY,
    "refunded": f"{_BUY}/cancel:{{o}}:5000",
    "issued": _ISSUE,
    "deposited": f"{_ISSUE}/deposit:{{o}}:-1/webhook:{{o}}:-1:signed/{_LATER}",
    "reversed": f"{_ISSUE}/deposit:{{o}}:-1/webhook:{{o}}:-1:signed/{_LATER}/reverse:{{o}}:-1",
}
_AFTER_FAULT: Final[Mapping[str, str]] = {
    "confirm": _BUY,
    "cancel": "cancel:{o}:1000",
    "lookup": f"webhook:{{o}}:-1:signed/{_LATER}",
}
_SPARE: Final = 3  # orders that are begun only when something needs one of its own

# What has to have happened, and how often in a hundred programs at least: the word that a step was counted under.
HAPPENED: Final[Mapping[str, int]] = {
    "prepare: 201": 50,
    "prepare: 200": 1,
    "confirm: 200": 20,
    "confirm: 202": 2,
    "confirm: 402": 2,
    "confirm: 409": 2,
    "wrong: 409": 2,
    "stolen: 202": 1,
    "stolen: 409": 2,
    "read: 200": 5,
    "cancel: 200": 10,
    "cancel: 202": 1,
    "cancel: 409": 2,
    "repeat: 200": 3,
    "rephrase: 422": 2,
    "console: taken": 2,
    "deposit: taken": 3,
    "reverse: taken": 1,
    "elsewhere: taken": 1,
    "webhook: genuine": 5,
    "webhook: stale": 2,
    "webhook: again": 2,
    "forge: signed": 1,
    "forge: unsigned": 1,
    "forge: stranger": 1,
    "work: done": 20,
    "night: done": 3,
    "crash: armed": 20,
    "crash: struck": 20,
    "restart: hot": 3,
    "restart: plain": 3,
    "PG faults that struck": 50,
    **{f"wait: {seconds}": 1 for seconds in WAITS},
}

NUMBER: Final = st.integers(0, 2)
NEWEST: Final = st.sampled_from([-1, -1, -1, -2, -3, 0, 1])  # of those that there are, mostly the newest
METHOD: Final = st.sampled_from([CARD, CARD, ACCOUNT])
FATE: Final = st.sampled_from(["sound", "sound", "sound", "refused"])
PATH: Final = st.sampled_from([HOT, PLAIN])
WON: Final[st.SearchStrategy[int | str]] = st.sampled_from([1_000, 5_000, 10_000, 15_000, 15_001, ALL, ALL])
FAULT: Final = st.sampled_from([(one, kind) for one, codes in FAULTS.items() for kind in (*codes, *_ANYWHERE)])


@dataclass(frozen=True, slots=True)
class Size:
    """How much is made up: so many seeds, so many programs of each, of so many steps."""

    tasks: int
    examples: int
    steps: int

    @property
    def programs(self) -> int:
        return self.tasks * self.examples


_QUICK: Final = Size(10, 6, 25)
_FULL: Final = Size(66, 6, 40)


@dataclass(frozen=True, slots=True)
class Task:
    """These programs, or so many that are made up from a seed."""

    programs: Sequence[Program] = ()
    seed: int = 0
    examples: int = 0
    steps: int = 0
    points: Sequence[str] = ()  # where a process can be killed


@dataclass(slots=True)
class Outcome:
    """What came of a task."""

    tally: Counter[str] = field(default_factory=Counter)
    points: set[str] = field(default_factory=set)
    programs: int = 0
    steps: int = 0
    broken: list[tuple[Program, str]] = field(default_factory=list)


@dataclass
class Stage:
    """Where programs are played, one after the other."""

    world: World
    outcome: Outcome = field(default_factory=Outcome)
    _apps: dict[str, FastAPI] = field(default_factory=dict)

    def do(self, task: Task) -> Outcome:
        """Do a task."""
        self.outcome = Outcome()
        for program in task.programs:
            self._replay(program)
        if task.examples:
            self._make_up(task)
        return self.outcome

    def play(self, program: Program) -> Sequence[Violation]:
        """Play a whole program; what does not hold."""
        player = self.begin(program)
        try:
            for step in program.steps:
                player.do(step)
            player.settle()
        except Broken as broken:
            return broken.found
        finally:
            player.close()
        return ()

    def begin(self, program: Program) -> Player:
        """The beginning of a program, without any of its steps. Whoever begins it closes it."""
        order_ids = [f"proof-{next(_NUMBERS):07}" for _ in range(program.orders)]
        self.world.town.shop.take_orders(order_ids)
        log = Path(self.world.home, f"{order_ids[0]}.log")
        left = ExitStack()
        case = left.enter_context(self.world.case())
        left.callback(log.unlink, missing_ok=True)
        if case.database not in self._apps:
            self._apps[case.database] = build_app(case.settings)
            gc.freeze()  # a forked process that looks through all of it would copy it
        app, begun = self._apps[case.database], replace(program, steps=())
        outcome = self.outcome
        return Player(case, self.world.town.shop, app, order_ids, log, begun, outcome.tally, outcome.points, left)

    def note(self, program: Program) -> None:
        """A program was played to its end."""
        self.outcome.programs += 1
        self.outcome.steps += len(program.steps)

    def _replay(self, program: Program) -> None:
        found = self.play(program)
        self.note(program)
        if found:
            self.outcome.broken.append((program, "; ".join(map(str, found))))

    def _make_up(self, task: Task) -> None:
        """Let Hypothesis make programs up until one does not hold, and make that one shorter."""
        broken: list[tuple[Program, Sequence[Violation]]] = []

        @seed(task.seed)
        class Machine(Orders):
            stage = self
            points = task.points
            found = broken

        told = settings(
            max_examples=task.examples,
            stateful_step_count=task.steps,
            phases=[Phase.generate],  # it is made shorter here, within a time, and though it may not fail each time
            database=None,
            deadline=None,
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(Machine, settings=told)
        except Exception:
            if not broken:
                raise
        if broken:
            happened, self.outcome = self.outcome, Outcome()  # what is only repeated does not count
            program, found = self._shorten(*broken[0])
            self.outcome = happened
            self.outcome.broken.append((program, "; ".join(map(str, found))))

    def _shorten(self, program: Program, found: Sequence[Violation]) -> tuple[Program, Sequence[Violation]]:
        """Leave out whatever is not needed for the same promise to be broken."""
        over = time.monotonic() + _SHORTEN_FOR.total_seconds()
        wanted = {one.invariant for one in found}
        is_shorter = True
        while is_shorter:
            is_shorter = False
            for shorter in _shorter(program):
                if time.monotonic() > over:
                    return program, found
                again = self.play(shorter)
                if wanted & {one.invariant for one in again}:
                    program, found, is_shorter = shorter, again, True
                    break
        return program, found


def _shorter(program: Program) -> Iterator[Program]:
    """The same without one of its orders, or without some steps in a row: first the longest that can be left out."""
    steps = program.steps
    for order in range(program.orders):
        others = tuple(step for step in steps if step.arguments[:1] != (order,))
        if len(others) < len(steps):
            yield replace(program, steps=others)
    size = len(steps) // 2
    while size:
        for start in range(len(steps) - size, -1, -size):
            yield replace(program, steps=steps[:start] + steps[start + size :])
        size //= 2


class Orders(RuleBasedStateMachine):
    """One or two orders and some to spare, and everybody who may do something to them.

    What is drawn never depends on what was answered: a number stands for one of those that there are by then.
    """

    stage: ClassVar[Stage]
    points: ClassVar[Sequence[str]]
    found: ClassVar[list[tuple[Program, Sequence[Violation]]]]

    def __init__(self) -> None:
        super().__init__()
        self._is_broken = False
        self._player: Player | None = None
        self._orders = 1
        self._spare = 1

    @initialize(
        head_starts=st.lists(st.sampled_from(list(HEAD_STARTS)), min_size=1, max_size=2),
        path=PATH,
        ending=st.sampled_from([BY_WEBHOOKS, BY_NIGHTS]),
    )
    def begin(self, head_starts: list[str], path: str, ending: str) -> None:
        self._spare = self._orders = len(head_starts)
        self._player = self.stage.begin(Program(self._orders + _SPARE, path, ending))
        for order, start in enumerate(head_starts):
            self._play(HEAD_STARTS[start], order)

    @rule(order=NUMBER, method=METHOD)
    def prepare(self, order: int, method: str) -> None:
        self._do("prepare", self._of(order), method)

    @rule(order=NUMBER, method=METHOD, fate=FATE)
    def window(self, order: int, method: str, fate: str) -> None:
        self._do("window", self._of(order), method, fate)

    @rule(order=NUMBER, method=METHOD, fate=FATE)
    def buy(self, order: int, method: str, fate: str) -> None:
        """Prepare, pay, confirm."""
        self._buy(self._of(order) if fate == "sound" else self._one_of_its_own(), method, fate)

    @rule(order=NUMBER, window=NEWEST)
    def confirm(self, order: int, window: int) -> None:
        self._do("confirm", self._of(order), window)

    @rule(order=NUMBER, window=NEWEST)
    def confirm_wrong_amount(self, order: int, window: int) -> None:
        self._do("wrong", self._of(order), window)

    @rule(other=NUMBER, window=NEWEST)
    def confirm_key_of_another(self, other: int, window: int) -> None:
        order = self._one_of_its_own()
        self._do("prepare", order, CARD)
        self._do("stolen", order, self._of(other), window)

    @rule(order=NUMBER)
    def read(self, order: int) -> None:
        self._do("read", self._of(order))

    @rule(order=NUMBER, amount=WON)
    def cancel(self, order: int, amount: int | str) -> None:
        self._do("cancel", self._of(order), amount)

    @rule(order=NUMBER, number=NEWEST)
    def repeat(self, order: int, number: int) -> None:
        self._do("repeat", self._of(order), number)

    @rule(order=NUMBER, number=NEWEST)
    def rephrase(self, order: int, number: int) -> None:
        self._do("rephrase", self._of(order), number)

    @rule(order=NUMBER, window=NEWEST, amount=WON)
    def cancel_in_console(self, order: int, window: int, amount: int | str) -> None:
        self._do("console", self._of(order), window, amount)

    @rule(order=NUMBER, window=NEWEST)
    def deposit(self, order: int, window: int) -> None:
        self._do("deposit", self._of(order), window)

    @rule(order=NUMBER, window=NEWEST)
    def reverse_deposit(self, order: int, window: int) -> None:
        self._do("reverse", self._of(order), window)

    @rule(order=NUMBER, is_wanted=st.sampled_from([False, False, False, True]))
    def capture_elsewhere(self, order: int, *, is_wanted: bool) -> None:
        """Seldom, because nothing is as it was after that."""
        self._do("elsewhere" if is_wanted else "read", self._of(order))

    @rule(order=NUMBER, number=NEWEST, how=st.sampled_from(["signed", "unsigned", "callback"]))
    def webhook(self, order: int, number: int, how: str) -> None:
        self._do("webhook", self._of(order), number, how)

    @rule(order=NUMBER, window=NEWEST, how=st.sampled_from(["signed", "unsigned", "stranger"]))
    def forge(self, order: int, window: int, how: str) -> None:
        self._do("forge", self._of(order), window, how)

    @rule(order=NUMBER, fault=FAULT, times=st.integers(1, 2))
    def fault(self, order: int, fault: tuple[str, str], times: int) -> None:
        """A call to the PG goes wrong: that of a new order, or the next one that comes."""
        operation, kind = fault
        order = self._one_of_its_own() if operation == "confirm" else self._of(order)
        self._do("fault", order, operation, kind, times)
        self._play(_AFTER_FAULT[operation], order)

    @rule(is_cancel=st.booleans())
    def lose(self, *, is_cancel: bool) -> None:
        """What came of a call is not heard, and cannot be looked up."""
        before = f"{_BUY}/{_LOSE_CANCEL}/cancel:{{o}}:5000" if is_cancel else f"{_LOSE_CONFIRM}/{_BUY}"
        self._play(before, self._one_of_its_own())

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: int) -> None:
        self._do("wait", seconds)

    @rule()
    def work(self) -> None:
        self._do("work")

    @rule()
    def later(self) -> None:
        """A lease's time passes, and the worker has its rounds."""
        self._do("wait", WAITS[0])
        self._do("work")

    @rule()
    def night(self) -> None:
        self._do("night")

    @rule(path=PATH)
    def restart(self, path: str) -> None:
        self._do("restart", path)

    @rule(point=st.integers(0, 9_999), turn=st.sampled_from([1, 1, 1, 2]), path=PATH)
    def crash(self, point: int, turn: int, path: str) -> None:
        """The process dies at a point that it is led by."""
        chosen = self.points[point % len(self.points)]
        before, then = scene_of(chosen)
        order = self._one_of_its_own()
        self._play(before, order)
        self._do("crash", chosen, turn, path)
        self._play(then, order)

    def teardown(self) -> None:
        if self._player is None:
            return
        try:
            if not self._is_broken:
                self._watched(self._player.settle)
                self.stage.note(self._player.program)
        finally:
            self._player.close()

    def _buy(self, order: int, method: str, fate: str) -> None:
        self._play(f"prepare:{{o}}:{method}/window:{{o}}:{method}:{fate}/confirm:{{o}}:-1", order)

    def _of(self, order: int) -> int:
        return order % self._orders

    def _one_of_its_own(self) -> int:
        """An order that nobody has touched yet, as long as there is one."""
        self._orders = min(self._orders + 1, self._spare + _SPARE)
        return self._orders - 1

    def _play(self, steps: str, order: int) -> None:
        for step in filter(None, steps.format(o=order).split("/")):
            found = Step.read(step)
            self._do(found.verb, *found.arguments)

    def _do(self, verb: str, *arguments: int | str) -> None:
        player = self._player
        if player is not None:
            self._watched(lambda: player.do(Step(verb, arguments)))

    def _watched(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Broken as broken:
            self._is_broken = True
            if self._player is not None:
                self.found.append((self._player.program, broken.found))
            raise


def scene_of(point: str) -> tuple[str, str]:
    """What leads a process by a point: what is done before, and what it is told to do then."""
    job = point.removeprefix("jobs>")
    return next(scene for beginning, scene in SCENES.items() if job.startswith(beginning))


@dataclass
class Sum:
    """What all tasks came to."""

    say: Say
    outcome: Outcome = field(default_factory=Outcome)
    _began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def take(self, outcome: Outcome) -> None:
        """Add what came of one task."""
        mine = self.outcome
        mine.tally += outcome.tally
        mine.points |= outcome.points
        mine.programs += outcome.programs
        mine.steps += outcome.steps
        mine.broken += outcome.broken
        self.say(f"stateful: {mine.programs:,} programs, {mine.steps:,} steps after {self.seconds:.0f} s")
        for program, found in outcome.broken:
            self.say(f"stateful: {found}")
            self.say("\n    ".join(["stateful: the shortest program:", *str(program).split("/")]))


def run(options: Options, say: Say) -> Findings:
    """Make programs up and play them; a failure's replay word is the program itself.

    Raises:
        BadReplay: it is no program.
    """
    total = Sum(say)
    if options.replay:
        program = named(options.replay)
        with Lanes(do_tasks, lanes=1) as lanes:
            total.take(next(lanes.map([Task([program])])))
        return Findings(_figures(total), _failures(total))
    with Lanes(do_tasks) as lanes:
        for outcome in lanes.map([Task([Program.read(text)]) for text in CALM]):
            total.take(outcome)
        for outcome in lanes.map(_tasks(options, sorted(total.outcome.points))):
            total.take(outcome)
    return Findings(_figures(total), [*_failures(total), *_never_happened(total, options)])


def named(word: str) -> Program:
    """The program that a failure has named.

    Raises:
        BadReplay: it is none.
    """
    try:
        program = Program.read(word)
        asked = [signature(getattr(Player, f"_{step.verb}")).bind(None, *step.arguments) for step in program.steps]
    except (ValueError, AttributeError, TypeError) as error:
        raise BadReplay(str(error)) from error
    if program.path not in {HOT, PLAIN} or program.ending not in {BY_WEBHOOKS, BY_NIGHTS}:
        raise BadReplay("a program begins like 1:hot:webhooks")
    if program.orders < 1 or any(one.arguments.get("order", 0) not in range(program.orders) for one in asked):
        raise BadReplay(f"there are only {program.orders} orders in it")
    return program


def do_tasks(world: World) -> Callable[[Task], Outcome]:
    """What a lane does."""
    return Stage(world).do


def _tasks(options: Options, points: Sequence[str]) -> Iterator[Task]:
    """Several seeds, one after the other: a seed ends with its first failure, and the others still find theirs."""
    size = _FULL if options.is_full else _QUICK
    for number in range(size.tasks):
        yield Task(seed=options.seed * 1_000 + number, examples=size.examples, steps=size.steps, points=points)


def _failures(total: Sum) -> list[Failure]:
    return [Failure(found, str(program)) for program, found in total.outcome.broken]


def _never_happened(total: Sum, options: Options) -> Iterator[Failure]:
    """Nothing that was meant to happen may have failed to happen."""
    size = _FULL if options.is_full else _QUICK
    for word, in_a_hundred in HAPPENED.items():
        wanted = max(1, in_a_hundred * size.programs // 100)
        if (times := total.outcome.tally[word]) < wanted:
            yield Failure(f"{word!r} happened {times} times, and not {wanted}", "")


def _figures(total: Sum) -> list[Figure]:
    outcome, tally = total.outcome, total.outcome.tally
    return [
        Figure("programs", outcome.programs),
        Figure("steps", outcome.steps),
        Figure("steps a second", round(outcome.steps / total.seconds)),
        Figure("points at which processes were killed or could have been", len(outcome.points)),
        Figure("processes killed", tally["crash: struck"]),
        Figure("calls to the PG that went wrong", tally["PG faults that struck"]),
        Figure("webhooks that were stale or came again", tally["webhook: stale"] + tally["webhook: again"]),
        Figure("seconds", round(total.seconds)),
    ]
