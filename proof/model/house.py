"""Our processes, step by step: the API, the workers and who delivers messages; what can befall them; the night."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from payments.states import EVER_CAPTURED, PaymentStatus, RefundStatus
from proof.model.begins import Begin, Steps, Who, courier, office, tab, worker
from proof.model.books import (
    MUST_NOT_HOLD_MORE,
    OPEN,
    Rules,
    open_refund,
    released,
    unrecorded,
    with_refund,
    with_stray,
)
from proof.model.endings import ANSWERED
from proof.model.pg import IDLE, hinted, overdue, own_steps, sent_steps, window_of
from proof.model.state import NOBODY, Ask, At, AtPg, Job, Kind, Reply, Said, Setup, Step, Task, World


@dataclass(frozen=True, slots=True)
class Process:
    """One process of ours, or the world around them: what it can begin when it is idle."""

    name: str
    who: Who
    begin: Begin
    visits: int = 0

    def steps(self, world: World, task: Task) -> Steps:
        """Everything that this process can do next, and everything that can befall it."""
        if task.at is At.IDLE:
            yield from self.begin(self.who, world, task)
            return
        yield from self._going_on(world, task)
        if world.crashes:
            yield Step("is killed", _orphaned(self.who, world, task), Task(visits=task.visits), Kind.FAULT)

    def _going_on(self, world: World, task: Task) -> Steps:
        match task.at:
            case At.SENDING:
                yield Step(f"sends the {task.request.ask.name}", world, task._replace(at=At.SENT))
                if world.troubles:
                    unsent = task._replace(at=At.ANSWERED, reply=Reply(Said.NOT_SENT))
                    yield Step("cannot connect", world._replace(troubles=world.troubles - 1), unsent, Kind.FAULT)
            case At.SENT:
                yield from sent_steps(world, task, self.who.rules.setup)
            case _:
                yield ANSWERED[task.job](self.who, world, task)


def processes(setup: Setup, rules: Rules) -> Sequence[Process]:
    """Everybody in this world; the last one is what happens by itself."""
    begins: list[tuple[str, Begin, int]] = [
        *((f"tab {number} (key {key})", tab(key), setup.visits) for number, key in enumerate(setup.tabs, 1)),
        *((f"back office {one.request}", office(one), one.visits) for one in setup.offices),
        *((f"worker {number}", worker, 0) for number in range(1, setup.workers + 1)),
        ("courier", courier, 0),
        ("world", _world, 0),
    ]
    return [Process(name, Who(number, rules), begin, visits) for number, (name, begin, visits) in enumerate(begins)]


def _orphaned(who: Who, world: World, task: Task) -> World:
    """What a dead process held is free; a call of its own may still arrive."""
    world = world._replace(crashes=world.crashes - 1, fresh=world.fresh - {who.number})
    if task.at is At.SENT and task.request.ask is not Ask.LOOK:
        world = overdue(world, task.request)
    if task.job is Job.HINT:
        world = hinted(world, task.request.key, who.rules.setup)
    return _freed(world, lambda holder: holder == who.number)


def _freed(world: World, is_free: Callable[[int], bool]) -> World:
    """Whoever held something of this kind holds it no longer."""
    if world.row.holder != NOBODY and is_free(world.row.holder):
        world = released(world)
    for index, refund in enumerate(world.refunds):
        if refund.holder != NOBODY and is_free(refund.holder):
            world = with_refund(world, index, refund._replace(holder=NOBODY))
    for index, stray in enumerate(world.strays):
        if stray.holder != NOBODY and is_free(stray.holder):
            world = with_stray(world, index, stray._replace(holder=NOBODY))
    return world


def _world(who: Who, world: World, _: Task) -> Steps:
    setup = who.rules.setup
    yield from own_steps(world, setup)
    yield from _ageing(world)
    if world.troubles:
        frozen = _freed(world._replace(troubles=world.troubles - 1), lambda _: True)
        if frozen != world._replace(troubles=world.troubles - 1):
            yield Step("a lease ends although its holder lives", frozen, IDLE, Kind.FAULT)
    if setup.layers.compares_nightly:
        for key in setup.keys:
            if world.hints[key - 1] is None and _differs(world, key):
                yield Step(f"the night finds key {key}", hinted(world, key, setup), IDLE)


def _ageing(world: World) -> Steps:
    """After two weeks nothing is asked for under a key; it matters where the PG repeats a fault under it for ever."""
    for index, refund in enumerate(world.refunds):
        answer = dict(window_of(world, refund.key).answers).get(refund.name)
        is_stuck = answer is not None and answer.said is Said.FAULT
        if is_stuck and refund.status is RefundStatus.REQUESTED and not refund.is_old:
            yield Step("the refund's key gets old", with_refund(world, index, refund._replace(is_old=True)), IDLE)


def _differs(world: World, key: int) -> bool:
    """Whether the PG's list shows money under this key that our books do not."""
    window, row = window_of(world, key), world.row
    if window.status is not AtPg.DONE or open_refund(world) is not None or row.status in OPEN:
        return False
    if key == row.key and row.status in EVER_CAPTURED:
        return bool(unrecorded(window, world.refunds)) and key not in world.noted
    if not window.balance or any(one.key == key for one in world.strays):
        return False
    is_ours_to_say = row.status in MUST_NOT_HOLD_MORE | {PaymentStatus.CREATED} or key == row.key
    return is_ours_to_say or key not in world.noted
