"""The PG, the order service and the network: what calls do when they arrive, and what happens by itself."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from proof.model.state import (
    DEAD,
    PART,
    Age,
    Ask,
    At,
    AtPg,
    Cancel,
    Job,
    Kind,
    Reply,
    Request,
    Said,
    Setup,
    Step,
    Task,
    Window,
    World,
)

IDLE: Final = Task()
SHOWS: Final = {
    AtPg.ABSENT: Said.NOT_FOUND,
    AtPg.IN_PROGRESS: Said.IN_PROGRESS,
    AtPg.WAITING: Said.WAITING,
    AtPg.DONE: Said.HELD,
    AtPg.ABORTED: Said.DECLINED,
    AtPg.EXPIRED: Said.DECLINED,
    AtPg.CANCELED: Said.CANCELLED,
}


class Effect(NamedTuple):
    """What one call did, and what it is answered with."""

    name: str
    world: World
    reply: Reply
    kind: Kind = Kind.PROGRESS


def window_of(world: World, key: int) -> Window:
    return world.windows[key - 1]


def with_window(world: World, key: int, window: Window) -> World:
    return world._replace(windows=(*world.windows[: key - 1], window, *world.windows[key:]))


def with_webhook(world: World, key: int, setup: Setup) -> World:
    """The PG sends a webhook about a key that has changed, if it sends any."""
    return hinted(world, key, setup) if setup.has_webhooks else world


def hinted(world: World, key: int, setup: Setup, *, claim: AtPg | None = None) -> World:
    """A hint waits to be worked on; what it claims is forgotten where nobody believes it anyway."""
    said = AtPg.DONE if setup.layers.asks_about_webhooks else claim or window_of(world, key).status
    return world._replace(hints=(*world.hints[: key - 1], said, *world.hints[key:]))


def effects(world: World, request: Request, setup: Setup) -> Iterator[Effect]:
    """All that can happen when a call arrives."""
    match request.ask:
        case Ask.LOOK:
            yield from _look(world, request.key)
        case Ask.EVENT:
            taken = _applied(world, request.number, setup)
            yield Effect("order service takes the message", taken, Reply(Said.TAKEN))
        case _:
            yield from _effects_once(world, request, setup)


def newest_key(world: World) -> int:
    """The payment that the PG shows for the order; 0 if the buyer has never paid."""
    return max((key for key, one in enumerate(world.windows, 1) if one.status is not AtPg.ABSENT), default=0)


def _look(world: World, asked: int) -> Iterator[Effect]:
    key = asked or newest_key(world)
    if not key:
        yield Effect("PG finds nothing", world, Reply(Said.NOT_FOUND))
        return
    window = window_of(world, key)
    said = SHOWS[window.status]
    yield Effect(f"PG shows key {key}: {window.status.name}", world, Reply(said, window.shown, key=key))
    if window.status is AtPg.EXPIRED:
        yield Effect(f"PG has lost key {key}", world, Reply(Said.NOT_FOUND))
    elif window.status is not AtPg.ABSENT and window.age is not Age.LONG_OVER and world.troubles:
        behind = world._replace(troubles=world.troubles - 1)
        yield Effect(f"PG does not find key {key} yet", behind, Reply(Said.NOT_FOUND), Kind.FAULT)


def _effects_once(world: World, request: Request, setup: Setup) -> Iterator[Effect]:
    """A call under an idempotency key: the first answer is given again."""
    window = window_of(world, request.key)
    first = dict(window.answers).get(request.idem)
    if request.idem and first is not None:
        yield Effect(f"PG repeats its answer: {first.said.name}", world, first)
        return
    for effect in _carried_out(world, request, setup):
        yield effect._replace(world=_remembering(effect.world, request, effect.reply))
    if world.troubles:
        weaker = world._replace(troubles=world.troubles - 1)
        fault = Reply(Said.FAULT)
        yield Effect("PG answers with a fault of its own", _remembering(weaker, request, fault), fault, Kind.FAULT)


def _remembering(world: World, request: Request, reply: Reply) -> World:
    if not request.idem:
        return world
    window = window_of(world, request.key)
    return with_window(world, request.key, window._replace(answers=(*window.answers, (request.idem, reply))))


def _carried_out(world: World, request: Request, setup: Setup) -> Iterator[Effect]:
    match request.ask:
        case Ask.CONFIRM:
            yield from _confirmed(world, request.key, setup)
        case Ask.REFUND:
            yield _refunded(world, request, setup)
        case _:
            yield _closed(world, request.key, setup)


def _confirmed(world: World, key: int, setup: Setup) -> Iterator[Effect]:
    window = window_of(world, key)
    if window.status is AtPg.IN_PROGRESS:
        yield _captured(world, key, setup)
        if setup.declines:
            ended = with_window(world, key, window._replace(status=AtPg.ABORTED))
            yield Effect(f"PG refuses key {key}", with_webhook(ended, key, setup), Reply(Said.DECLINED))
    elif window.status in DEAD:
        yield Effect(f"PG refuses key {key}, which is over", world, Reply(Said.DECLINED))
    elif setup.layers.pg_refuses_twice or window.status is AtPg.WAITING:
        yield Effect(f"PG has processed key {key} already", world, Reply(Said.PROCESSED))
    else:
        yield _captured(world, key, setup)


def _captured(world: World, key: int, setup: Setup) -> Effect:
    window = window_of(world, key)
    if setup.is_account:
        window, said = window._replace(status=AtPg.WAITING), Said.WAITING
    else:
        window, said = window._replace(status=AtPg.DONE, ours=window.ours + 1), Said.HELD
    world = with_webhook(with_window(world, key, window), key, setup)
    return Effect(f"PG confirms key {key}: {said.name}", world, Reply(said, window.shown))


def _refunded(world: World, request: Request, setup: Setup) -> Effect:
    window = window_of(world, request.key)
    if setup.layers.sends_balance and window.balance != request.believed:
        return Effect("PG refuses the refund: the balance differs", world, Reply(Said.BALANCE_DIFFERS))
    if request.amount > window.balance:
        return Effect("PG refuses the refund: not so much is left", world, Reply(Said.BALANCE_DIFFERS))
    given = with_cancel(window, request.amount, request.name)
    reply = Reply(Said.REFUNDED, given.shown, len(given.cancels) - 1)
    world = with_webhook(with_window(world, request.key, given), request.key, setup)
    return Effect("PG gives the refund", world, reply)


def with_cancel(window: Window, amount: int, name: str) -> Window:
    return window._replace(cancels=(*window.cancels, Cancel(amount, window.balance - amount, name)))


def _closed(world: World, key: int, setup: Setup) -> Effect:
    window = window_of(world, key)
    if window.status is not AtPg.WAITING:
        return Effect("PG refuses to close the account", world, Reply(Said.REFUSED, window.shown))
    window = window._replace(status=AtPg.CANCELED)
    closed = with_webhook(with_window(world, key, window), key, setup)
    return Effect("PG closes the account", closed, Reply(Said.CANCELLED, window.shown))


def _applied(world: World, number: int, setup: Setup) -> World:
    if number == world.applied + 1:
        return world._replace(applied=number)
    if number <= world.applied and setup.layers.shop_knows_ids:
        return world
    flaw = "I6: a message is applied twice" if number <= world.applied else "I6: a message is applied out of order"
    return world._replace(flaws=(*world.flaws, flaw))


def own_steps(world: World, setup: Setup) -> Iterator[Step]:
    """What happens without any process of ours: time passes, calls arrive late, others act at the PG."""
    yield from _late(world, setup)
    for key in setup.keys:
        yield from _time(world, key)
        yield from _webhook_steps(world, key, setup)
        yield from _buyer(world, key, setup)
        if world.tricks:
            yield from _tricks(world._replace(tricks=world.tricks - 1), key, setup)


def _late(world: World, setup: Setup) -> Iterator[Step]:
    for place, request in enumerate(world.late):
        rest = world._replace(late=(*world.late[:place], *world.late[place + 1 :]))
        for effect in effects(rest, request, setup):
            yield Step(f"a late {request.ask.name} arrives: {effect.name}", effect.world, IDLE, effect.kind)


def _time(world: World, key: int) -> Iterator[Step]:
    """The margin is long enough for whatever was under way when the window closed."""
    window = window_of(world, key)
    match window.status, window.age:
        case (AtPg.IN_PROGRESS | AtPg.WAITING, Age.YOUNG):
            yield Step(f"the time of key {key} is over", with_window(world, key, window._replace(age=Age.OVER)), IDLE)
        case (AtPg.IN_PROGRESS, Age.OVER):
            ended = with_window(world, key, window._replace(status=AtPg.EXPIRED))
            yield Step(f"PG lets key {key} expire", ended, IDLE)
        case (AtPg.EXPIRED, Age.OVER):
            later = with_window(world, key, window._replace(age=Age.LONG_OVER))
            yield Step(f"the margin of key {key} is over", later, IDLE)
        case _:
            pass


def _webhook_steps(world: World, key: int, setup: Setup) -> Iterator[Step]:
    window = window_of(world, key)
    if world.hints[key - 1] is not None:
        lost = world._replace(hints=(*world.hints[: key - 1], None, *world.hints[key:]))
        yield Step(f"the webhook about key {key} is lost", lost, IDLE, Kind.FAULT)
    elif setup.has_webhooks and world.troubles and window.status is not AtPg.ABSENT:
        forged = hinted(world._replace(troubles=world.troubles - 1), key, setup, claim=AtPg.DONE)
        yield Step(f"a forged or repeated webhook about key {key}", forged, IDLE, Kind.FAULT)


def _buyer(world: World, key: int, setup: Setup) -> Iterator[Step]:
    """Authenticates in the payment window; pays into the account, before its due date."""
    window = window_of(world, key)
    if window.status is AtPg.ABSENT:
        paid = with_window(world, key, window._replace(status=AtPg.IN_PROGRESS))
        yield Step(f"the buyer authenticates key {key}", paid, IDLE, Kind.CHOICE)
    elif window.status is AtPg.WAITING and window.age is Age.YOUNG:
        paid = with_window(world, key, window._replace(status=AtPg.DONE, ours=1))
        yield Step("the deposit arrives", with_webhook(paid, key, setup), IDLE, Kind.CHOICE)


def _tricks(world: World, key: int, setup: Setup) -> Iterator[Step]:
    """What others do at the PG, and what it says although it said otherwise."""
    window = window_of(world, key)
    for name, changed in _tricked(window, setup):
        tricked = with_webhook(with_window(world, key, changed), key, setup)
        yield Step(f"{name}, key {key}", tricked, IDLE, Kind.CHOICE)


def _tricked(window: Window, setup: Setup) -> Iterator[tuple[str, Window]]:
    match window.status:
        case AtPg.DONE if setup.is_account and not window.cancels:
            yield "the bank takes the deposit back", _without_deposit(window)
        case AtPg.DONE if window.balance and not setup.is_account:
            yield "a part is cancelled in the console", with_cancel(window, PART, "")
        case AtPg.IN_PROGRESS:
            if not setup.is_account:
                yield "somebody else confirms", window._replace(status=AtPg.DONE, foreign=1)
            yield "the console cancels what was not confirmed", window._replace(status=AtPg.CANCELED)
        case AtPg.ABORTED:
            yield "PG takes its refusal back", window._replace(status=AtPg.DONE, foreign=1, is_contradicted=True)
        case _:
            pass


def _without_deposit(window: Window) -> Window:
    return window._replace(status=AtPg.WAITING, ours=0, reversals=window.reversals + 1)


def sent_steps(world: World, task: Task, setup: Setup) -> Iterator[Step]:
    """The call arrives and is answered; or it is lost, or its answer is."""
    request = task.request
    for effect in effects(world, request, setup):
        kind = Kind.WAIT if _decides_nothing(effect, task) else effect.kind
        yield Step(effect.name, effect.world, answered(task, effect.reply), kind)
    if not world.troubles:
        return
    weaker, lost = world._replace(troubles=world.troubles - 1), answered(task, Reply(Said.LOST))
    yield Step(f"the {request.ask.name} is lost", weaker, lost, Kind.FAULT)
    if request.ask is not Ask.LOOK:
        yield Step(f"nobody waits longer for the {request.ask.name}", overdue(weaker, request), lost, Kind.FAULT)


def answered(task: Task, reply: Reply) -> Task:
    return task._replace(at=At.ANSWERED, reply=reply)


def overdue(world: World, request: Request) -> World:
    """It is under way still, and nobody waits for its answer."""
    late = sorted((*world.late, request), key=lambda one: (one.ask.value, *one[1:]))
    return world._replace(late=tuple(late))


def _decides_nothing(effect: Effect, task: Task) -> bool:
    """Whether there is nothing to do but to ask again, until time has passed at the PG or for a key."""
    said = effect.reply.said
    if effect.kind is not Kind.PROGRESS:
        return False
    match task.job:
        case Job.RECOVER:
            return _waits_for_time(effect, task)
        case Job.HINT:  # it is tried for a day, then parked
            return said is Said.NOT_FOUND
        case Job.REFUND:
            return said is Said.FAULT and _is_repeated(effect.world, task)
        case _:
            return False


def _waits_for_time(effect: Effect, task: Task) -> bool:
    match effect.reply.said:
        case Said.IN_PROGRESS:
            return task.age is not Age.YOUNG
        case Said.NOT_FOUND:
            return task.age is not Age.LONG_OVER
        case Said.FAULT:
            return window_of(effect.world, task.request.key).status is AtPg.IN_PROGRESS
        case _:
            return False


def _is_repeated(world: World, task: Task) -> bool:
    """It goes on under a new key, unless the balance is another one by now, or it has done so."""
    refund, request = world.refunds[task.promise], task.request
    is_renewed = window_of(world, request.key).balance == request.believed
    return refund.name == request.name and not is_renewed and not refund.is_old
