"""What a process of ours begins when it is idle: the first transaction, which commits what the PG will be asked for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from payments.states import PaymentStatus, RefundStatus
from proof.model.books import Rules, abandoned, open_refund, record, refundable, with_refund, with_stray, written
from proof.model.pg import window_of
from proof.model.state import (
    NOBODY,
    Age,
    Ask,
    At,
    AtPg,
    Job,
    Kind,
    Office,
    Promise,
    Reply,
    Request,
    Row,
    Said,
    Step,
    Task,
    Window,
    World,
)

S: Final = PaymentStatus
MOST_ATTEMPTS: Final = 2
CLAIMS: Final = {AtPg.DONE: Said.HELD, AtPg.ABORTED: Said.DECLINED, AtPg.CANCELED: Said.CANCELLED}


@dataclass(frozen=True, slots=True)
class Who:
    """One process, by its number, and the rules it obeys."""

    number: int
    rules: Rules


Steps = Iterator[Step]
Begin = Callable[[Who, World, Task], Steps]


def asking(job: Job, request: Request, task: Task) -> Task:
    """About to ask; a look-up changes nothing at the PG, so that its sending is no step of its own."""
    at = At.SENT if request.ask is Ask.LOOK else At.SENDING
    return Task(at, job, request, visits=task.visits)


def then(task: Task, request: Request) -> Task:
    """The next call of the same job."""
    return asking(task.job, request, task)._replace(
        age=task.age, promise=task.promise, row=task.row, message=task.message
    )


def looking(task: Task, first: Reply) -> Task:
    """The look-up after an answer that is not believed, or did not come; it keeps under which key that was."""
    return then(task, task.request._replace(ask=Ask.LOOK))._replace(first=first)


def confirm_of(key: int, rules: Rules) -> Request:
    """The confirm of a key, the same each time."""
    return Request(Ask.CONFIRM, key, f"confirm.{key}" if rules.setup.layers.confirm_key else "")


def tab(key: int) -> Begin:
    """A browser that comes back from the payment window with this key."""

    def begin(who: Who, world: World, task: Task) -> Steps:
        if task.visits and window_of(world, key).status is not AtPg.ABSENT and key not in world.row.failed:
            yield from _prepares_again(who, world, task)
            yield from _promises_confirm(who, world, task, key)

    return begin


def _prepares_again(who: Who, world: World, task: Task) -> Steps:
    row = world.row
    if row.status is S.FAILED and row.attempt < MOST_ATTEMPTS:
        again = who.rules.move(row, S.CREATED, by="retry")
        again = again._replace(attempt=row.attempt + 1, key=0, has_account=False, holder=NOBODY)
        yield Step("prepares again", written(world, again), task, Kind.CHOICE)


def _promises_confirm(who: Who, world: World, task: Task, key: int) -> Steps:
    row = world.row
    if row.status is S.CREATED:
        row = who.rules.move(row, S.PENDING, by="begin_confirm")
    elif row.status is not S.PENDING or who.rules.setup.layers.claims_pending:
        return
    row = row._replace(key=key, holder=who.number)
    confirming = asking(Job.CONFIRM, confirm_of(key, who.rules), task)._replace(visits=task.visits - 1)
    yield Step("promises to confirm", _mine(who, world, row), _carrying(who, confirming, row), Kind.CHOICE)


def _mine(who: Who, world: World, row: Row) -> World:
    """The row as this process has just written it: its question is about this one."""
    return world._replace(row=row, fresh=frozenset({who.number}))


def _carrying(who: Who, task: Task, row: Row) -> Task:
    return task if who.rules.setup.layers.reads_again else task._replace(row=row)


def office(one: Office) -> Begin:
    """A back office that wants the money back, or the payment given up; it repeats itself under the same key."""

    def begin(who: Who, world: World, task: Task) -> Steps:
        if task.visits:
            task = task._replace(visits=task.visits - 1)
            index = _refund_of(who, world, one)
            yield from _decides(who, world, task, one) if index is None else _asks_again(who, world, task, index)

    return begin


def _refund_of(who: Who, world: World, one: Office) -> int | None:
    if not who.rules.setup.layers.one_refund_a_request:
        return None
    return next((place for place, refund in enumerate(world.refunds) if refund.request == one.request), None)


def _asks_again(who: Who, world: World, task: Task, index: int) -> Steps:
    if _is_free(world.refunds[index]):
        yield _takes_refund(who, world, task, index)._replace(kind=Kind.CHOICE)


def _is_free(promise: Promise) -> bool:
    return promise.status is RefundStatus.REQUESTED and promise.holder == NOBODY


def _decides(who: Who, world: World, task: Task, one: Office) -> Steps:
    match world.row.status:
        case S.COMPLETED | S.PARTIALLY_REFUNDED if not who.rules.setup.is_account:
            yield from _promises_refund(who, world, task, one)
        case S.CREATED if one.amount is None:
            yield Step("gives the payment up", abandoned(world, who.rules), task, Kind.CHOICE)
        case S.PENDING:
            look = asking(Job.RESOLVE, Request(Ask.LOOK, world.row.key), task)
            asked = world._replace(fresh=world.fresh | {who.number})
            yield Step("asks what became of the payment", asked, look, Kind.CHOICE)
        case S.WAITING_FOR_DEPOSIT if one.amount is None:
            yield from _promises_cancel(who, world, task, one)
        case _:
            pass


def _promises_refund(who: Who, world: World, task: Task, one: Office) -> Steps:
    left = refundable(world.row)
    amount = one.amount or left
    if open_refund(world) is not None or amount > left:
        return
    promise = Promise(amount, left, world.row.key, _name_of(world, one), holder=who.number)
    if who.rules.setup.layers.promises_refunds:
        index, world = len(world.refunds), world._replace(refunds=(*world.refunds, promise))
    else:
        index, promise = NOBODY, promise._replace(generation=task.visits)  # a random key, which nobody keeps
    refunding = asking(Job.REFUND, refund_request(promise, who.rules), task)
    refunding = refunding._replace(promise=index, message="first")
    yield Step(f"promises a refund of {amount}", world, refunding, Kind.CHOICE)


def _name_of(world: World, one: Office) -> str:
    """Where the same request may be carried out twice, its refunds still have keys of their own at the PG."""
    is_same = any(refund.request == one.request for refund in world.refunds)
    return one.request + "'" * is_same


def refund_request(promise: Promise, rules: Rules) -> Request:
    """What the PG is asked for, the same each time."""
    idem = promise.name if rules.setup.layers.refund_key else ""
    return Request(Ask.REFUND, promise.key, idem, promise.name, promise.amount, promise.believed)


def _promises_cancel(who: Who, world: World, task: Task, one: Office) -> Steps:
    row = world.row
    if row.given_up and row.holder != NOBODY:
        return
    row = row._replace(given_up=row.given_up or f"{one.request}.0", holder=who.number)
    closing = asking(Job.GIVE_UP, Request(Ask.CANCEL, row.key, row.given_up), task)
    yield Step("promises to give the account up", _mine(who, world, row), closing, Kind.CHOICE)


def worker(who: Who, world: World, task: Task) -> Steps:
    """Takes whatever is due, away from every other worker."""
    yield from _takes_payment(who, world, task)
    if who.rules.setup.layers.recovers:
        for index, refund in enumerate(world.refunds):
            if _is_free(refund):
                yield _takes_refund(who, world, task, index)
        for index, stray in enumerate(world.strays):
            if _is_free(stray):
                taken = with_stray(world, index, stray._replace(holder=who.number))
                giving = asking(Job.STRAY, refund_request(stray, who.rules), task)._replace(promise=index)
                yield Step("takes the stray capture", taken, giving)
    for key in who.rules.setup.keys:
        if world.hints[key - 1] is not None:
            yield _takes_webhook(who, world, task, key)


def _takes_payment(who: Who, world: World, task: Task) -> Steps:
    row, layers = world.row, who.rules.setup.layers
    if row.holder != NOBODY and (layers.respects_leases or row.status is not S.PENDING):
        return
    taken = _mine(who, world, row._replace(holder=who.number))
    match row.status:
        case S.PENDING if layers.recovers:
            look = asking(Job.RECOVER, Request(Ask.LOOK, row.key), task)
            look = look._replace(age=window_of(world, row.key).age)
            yield Step("takes the payment", taken, _carrying(who, look, row))
        case S.CREATED if all(window.status is not AtPg.IN_PROGRESS for window in world.windows):
            yield Step("takes the ended session", taken, asking(Job.EXPIRE, Request(Ask.LOOK), task))
        case S.WAITING_FOR_DEPOSIT if row.given_up:
            closing = asking(Job.GIVE_UP, Request(Ask.CANCEL, row.key, row.given_up), task)
            yield Step("takes the given-up account", taken, closing)
        case S.WAITING_FOR_DEPOSIT | S.COMPLETED if row.has_account:
            kind = Kind.PROGRESS if _has_changed(world) else Kind.CHOICE
            yield Step("looks at the account", taken, asking(Job.WATCH, Request(Ask.LOOK, row.key), task), kind)
        case _:
            pass


def _has_changed(world: World) -> bool:
    """Whether a look would find something new; the looks that find nothing are nobody's progress."""
    window = window_of(world, world.row.key)
    if world.row.status is S.COMPLETED:
        return window.status is not AtPg.DONE
    return window.status is not AtPg.WAITING or window.age is not Age.YOUNG


def _takes_refund(who: Who, world: World, task: Task, index: int) -> Step:
    refund = world.refunds[index]._replace(holder=who.number)
    refunding = asking(Job.REFUND, refund_request(refund, who.rules), task)._replace(promise=index)
    if refund.is_old:  # what the PG does not show by now never happened
        refunding = looking(refunding, Reply(Said.REFUSED))
    return Step("takes the refund", with_refund(world, index, refund), refunding)


def _takes_webhook(who: Who, world: World, task: Task, key: int) -> Step:
    claim = world.hints[key - 1]
    hints = (*world.hints[: key - 1], None, *world.hints[key:])
    taken = world._replace(hints=hints, fresh=world.fresh | {who.number})
    if who.rules.setup.layers.asks_about_webhooks:
        return Step(f"takes the webhook about key {key}", taken, asking(Job.HINT, Request(Ask.LOOK, key), task))
    said = CLAIMS.get(claim, Said.IN_PROGRESS) if claim is not None else Said.IN_PROGRESS
    believed = Reply(said, Window(AtPg.DONE, ours=1))
    return Step("believes the webhook", record(taken, key, believed, is_fresh=True, rules=who.rules), task)


def courier(who: Who, world: World, task: Task) -> Steps:
    """Sends the first message that was not delivered, until the order service has taken it."""
    layers, last = who.rules.setup.layers, len(world.told)
    if layers.tells_in_order:
        last = min(world.delivered + 1, last)
    for message in range(world.delivered + 1, last + 1):
        taken = world if layers.marks_after_answer else world._replace(delivered=message)
        yield Step(f"takes message {message}", taken, asking(Job.DELIVER, Request(Ask.EVENT, number=message), task))
