"""What a process does with an answer: ask once more, or record it in the second transaction and be free."""

from collections.abc import Callable, Mapping
from typing import Final

from payments.states import CAPTURED, EVER_CAPTURED, PaymentStatus
from proof.model.begins import Who, confirm_of, looking, then
from proof.model.books import OPEN, Rules, adopted, failed, record, record_refund, record_stray, released, written
from proof.model.pg import hinted
from proof.model.state import (
    NOBODY,
    REFUSALS,
    Age,
    Ask,
    At,
    Job,
    Reply,
    Request,
    Said,
    Step,
    Task,
    Window,
    World,
)

S: Final = PaymentStatus
DECIDES: Final = frozenset({Said.HELD, Said.WAITING, Said.DECLINED, Said.CANCELLED})


def _done(who: Who, name: str, before: World, after: World, task: Task) -> Step:
    """The answer is recorded, and the process is free."""
    after = after._replace(fresh=after.fresh - {who.number})
    idle = Task(visits=task.visits)
    if who.rules.setup.layers.tells_with_change or len(after.told) == len(before.told):
        return Step(name, after, idle)
    unsaid = after.told[len(before.told) :]
    telling = Task(At.ANSWERED, Job.TELL, visits=task.visits, message="|".join(unsaid))
    return Step(name, after._replace(told=before.told), telling)


def _tell(_: Who, world: World, task: Task) -> Step:
    told = (*world.told, *task.message.split("|"))
    return Step("writes the message", world._replace(told=told), Task(visits=task.visits))


def _record(who: Who, world: World, task: Task, reply: Reply) -> Step:
    is_fresh = who.number in world.fresh
    seen = world if task.row is None else world._replace(row=task.row)  # as it was: a blind write
    after = record(seen, task.request.key, reply, is_fresh=is_fresh, rules=who.rules)
    return _done(who, f"records {reply.said.name}", world, after, task)


def _reply(task: Task) -> Reply:
    if task.reply is None:
        raise AssertionError("it was answered")
    return task.reply


def _confirm_answered(who: Who, world: World, task: Task) -> Step:
    reply = _reply(task)
    if task.request.ask is Ask.CONFIRM and reply.said not in DECIDES | {Said.NOT_SENT}:
        if not who.rules.setup.layers.timeout_is_unknown:
            return _record(who, world, task, reply)
        return Step("looks what became of it", world, then(task, Request(Ask.LOOK, task.request.key)))
    return _record(who, world, task, reply)


def _recover_answered(who: Who, world: World, task: Task) -> Step:
    reply, layers = _reply(task), who.rules.setup.layers
    if task.request.ask is Ask.CONFIRM:
        return _record(who, world, task, reply)
    is_missing = reply.said is Said.NOT_FOUND
    if (is_missing and task.age is Age.LONG_OVER) or (
        not layers.young_is_left_open and (is_missing or reply.said is Said.IN_PROGRESS)
    ):
        return _record(who, world, task, Reply(Said.DECLINED))
    if reply.said is Said.IN_PROGRESS and task.age is Age.YOUNG:
        return Step("confirms what was promised", world, then(task, confirm_of(task.request.key, who.rules)))
    return _record(who, world, task, reply)


def _watch_answered(who: Who, world: World, task: Task) -> Step:
    step = _record(who, world, task, _reply(task))
    is_held = step.world.row.holder == who.number
    return step._replace(world=released(step.world)) if is_held else step


def _expire_answered(who: Who, world: World, task: Task) -> Step:
    reply, rules = _reply(task), who.rules
    if who.number not in world.fresh or world.row.status is not S.CREATED:
        return _done(who, "leaves it: others were faster", world, world, task)
    if reply.said in {Said.DECLINED, Said.NOT_FOUND, Said.CANCELLED} or _is_given_back(reply):
        return _done(who, "lets the session expire", world, failed(world, rules), task)
    after = released(world)
    if reply.said is Said.HELD:
        after = record(after, reply.key, reply, is_fresh=True, rules=rules)
    return _done(who, f"records {reply.said.name}", world, after, task)


def _is_given_back(reply: Reply) -> bool:
    return reply.said is Said.HELD and reply.shown is not None and not reply.shown.balance


def _hint_answered(who: Who, world: World, task: Task) -> Step:
    reply, key = _reply(task), task.request.key
    if reply.said in DECIDES:
        return _record(who, world, task, reply)
    is_asked_for = key == world.row.key and world.row.status in OPEN | EVER_CAPTURED
    is_settled = reply.said is Said.IN_PROGRESS or (reply.said is Said.NOT_FOUND and not is_asked_for)
    after = world if is_settled else hinted(world, key, who.rules.setup)
    return _done(who, "is done with the webhook" if is_settled else "keeps the webhook", world, after, task)


def _resolve_answered(who: Who, world: World, task: Task) -> Step:
    if _reply(task).said not in DECIDES:
        return _done(who, "answers that it is not known yet", world, world, task)
    return _record(who, world, task._replace(visits=task.visits + 1), _reply(task))


def _refund_answered(who: Who, world: World, task: Task) -> Step:
    reply, rules = _reply(task), who.rules
    if task.promise == NOBODY:
        return _done(who, "keeps what came of the refund", world, _kept(world, reply, rules), task)
    if task.first is None:
        is_doubtful = reply.said in REFUSALS and rules.setup.layers.doubts_refusals
        if is_doubtful or reply.said in {Said.FAULT, Said.LOST, Said.PROCESSED}:
            return Step("looks at the cancels", world, looking(task, reply))
        return _recorded_refund(who, world, task, reply, None)
    shown = reply.shown if reply.said in DECIDES else None
    may_be_done = task.message != "first" or task.first.said is Said.BALANCE_DIFFERS
    answer = task.first
    if answer.said in REFUSALS and shown is None and may_be_done:
        answer = Reply(Said.LOST)
    return _recorded_refund(who, world, task, answer, shown)


def _recorded_refund(who: Who, world: World, task: Task, answer: Reply, shown: Window | None) -> Step:
    after = record_refund(world, task.promise, answer, shown, name=task.request.name, rules=who.rules)
    return _done(who, f"records the refund: {answer.said.name}", world, after, task)


def _kept(world: World, reply: Reply, rules: Rules) -> World:
    """Without a promise, only an answer that came tells of a refund."""
    if reply.said is not Said.REFUNDED or reply.shown is None or world.row.status not in CAPTURED:
        return world
    return adopted(world, reply.shown, rules)


def _stray_answered(who: Who, world: World, task: Task) -> Step:
    reply = _reply(task)
    if task.first is None and reply.said is not Said.REFUNDED:
        return Step("looks at the stray capture", world, looking(task, reply))
    answer = task.first or reply
    shown = reply.shown if task.first is not None and reply.said is Said.HELD else None
    after = record_stray(world, task.promise, answer, shown, who.rules)
    return _done(who, f"records the stray: {answer.said.name}", world, after, task)


def _give_up_answered(who: Who, world: World, task: Task) -> Step:
    reply = _reply(task)
    if task.first is None and reply.said is not Said.CANCELLED:
        return Step("looks at the account", world, looking(task, reply))
    answer = task.first or reply
    is_fresh = who.number in world.fresh
    after = record(world, task.request.key, reply, is_fresh=is_fresh, rules=who.rules)
    if after.row.status is S.WAITING_FOR_DEPOSIT and after.row.given_up == task.request.idem:
        after = _still_open(after, answer, reply)
    return _done(who, f"records the cancel: {answer.said.name}, {reply.said.name}", world, after, task)


def _still_open(world: World, answer: Reply, shown: Reply) -> World:
    row = world.row._replace(holder=NOBODY)
    if shown.said is Said.WAITING and answer.said in REFUSALS:
        row = row._replace(given_up="")
    elif shown.said is Said.WAITING and answer.said is Said.FAULT:
        name, generation = row.given_up.split(".")
        row = row._replace(given_up=f"{name}.{int(generation) + 1}")
    return written(world, row)


def _event_answered(who: Who, world: World, task: Task) -> Step:
    taken = _reply(task).said is Said.TAKEN
    delivered = max(world.delivered, task.request.number) if taken else world.delivered
    return _done(who, "marks the message" if taken else "keeps it", world, world._replace(delivered=delivered), task)


ANSWERED: Final[Mapping[Job, Callable[[Who, World, Task], Step]]] = {
    Job.CONFIRM: _confirm_answered,
    Job.RECOVER: _recover_answered,
    Job.WATCH: _watch_answered,
    Job.EXPIRE: _expire_answered,
    Job.HINT: _hint_answered,
    Job.RESOLVE: _resolve_answered,
    Job.REFUND: _refund_answered,
    Job.STRAY: _stray_answered,
    Job.GIVE_UP: _give_up_answered,
    Job.DELIVER: _event_answered,
    Job.TELL: _tell,
}
