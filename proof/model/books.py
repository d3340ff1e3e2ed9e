"""Our transactions: what an answer of the PG does to our rows. The rules of `usecases/answers`, `refund_answers`."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from payments.states import CAPTURED, EVER_CAPTURED, REFUND_TRANSITIONS, TRANSITIONS, PaymentStatus, RefundStatus
from proof.model.pg import window_of
from proof.model.state import (
    AMOUNT,
    NOBODY,
    REFUSALS,
    Age,
    Cancel,
    Promise,
    Reply,
    Row,
    Said,
    Setup,
    Window,
    World,
)

S: Final = PaymentStatus
OPEN: Final = frozenset({S.PENDING, S.WAITING_FOR_DEPOSIT})
MUST_NOT_HOLD_MORE: Final = EVER_CAPTURED | {S.CANCELLED}


class MoveNotAllowed(Exception):
    """The model tried what the code may not: the model is wrong, or TRANSITIONS has changed."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The only way in which anything moves, by the code's own tables; keeps which moves were made."""

    setup: Setup
    taken: set[tuple[PaymentStatus, PaymentStatus]] = field(default_factory=set)

    def move(self, row: Row, target: PaymentStatus, *, by: str) -> Row:
        """The row after the move that the method `by` makes.

        Raises:
            MoveNotAllowed: TRANSITIONS has no such move.
        """
        if TRANSITIONS[row.status].get(target) != by:
            raise MoveNotAllowed(f"{row.status} to {target} by {by}")
        self.taken.add((row.status, target))
        return row._replace(status=target)

    def decide(self, promise: Promise, target: RefundStatus, *, cancel: int = NOBODY) -> Promise:
        """The promise after it was kept, or turned out to be impossible.

        Raises:
            MoveNotAllowed: REFUND_TRANSITIONS has no such move.
        """
        if target not in REFUND_TRANSITIONS[promise.status]:
            raise MoveNotAllowed(f"{promise.status} to {target}")
        return promise._replace(status=target, cancel=cancel, holder=NOBODY)


def written(world: World, row: Row) -> World:
    """The row as it is written: whatever was asked before is about an older one."""
    return world._replace(row=row, fresh=frozenset())


def released(world: World) -> World:
    """Nobody holds it, and the PG is to be asked again."""
    return written(world, world.row._replace(holder=NOBODY))


def announced(world: World, row: Row) -> World:
    """The change and the message that tells of it, in one transaction."""
    return written(world._replace(told=(*world.told, message_of(row))), row)


def message_of(row: Row) -> str:
    """What the order service is told about a payment that stands so."""
    return f"{row.status}:{row.refunded}"


def refundable(row: Row) -> int:
    return AMOUNT - row.refunded if row.status in CAPTURED else 0


def open_refund(world: World) -> Promise | None:
    return next((one for one in world.refunds if one.status is RefundStatus.REQUESTED), None)


def with_refund(world: World, index: int, promise: Promise) -> World:
    return world._replace(refunds=(*world.refunds[:index], promise, *world.refunds[index + 1 :]))


def with_stray(world: World, index: int, promise: Promise) -> World:
    return world._replace(strays=(*world.strays[:index], promise, *world.strays[index + 1 :]))


def record(world: World, key: int, reply: Reply, *, is_fresh: bool, rules: Rules) -> World:
    """`answers.record`: the only way in which an answer of the PG changes the payment."""
    is_fresh = is_fresh or not rules.setup.layers.checks_freshness
    if key != world.row.key:
        return _other_key(world, key, reply, is_fresh=is_fresh, rules=rules)
    match reply.said:
        case Said.HELD:
            return _held(world, _shown(reply), is_fresh=is_fresh, rules=rules)
        case Said.WAITING:
            return _waiting(world, is_fresh=is_fresh, rules=rules)
        case Said.DECLINED:
            return _declined(world, is_fresh=is_fresh, rules=rules)
        case Said.CANCELLED:
            return _cancelled(world, rules)
        case _:
            return _unknown(world, reply, rules)


def _shown(reply: Reply) -> Window:
    if reply.shown is None:
        raise AssertionError("who says that there is money shows it")
    return reply.shown


def _held(world: World, shown: Window, *, is_fresh: bool, rules: Rules) -> World:
    may_be_late = world.row.status is S.FAILED and world.row.has_account and rules.setup.layers.doubts_late_money
    if (world.row.status is S.WAITING_FOR_DEPOSIT or may_be_late) and not is_fresh:
        return released(world)
    if shown.balance == 0 and world.row.status not in OPEN | EVER_CAPTURED:
        return world  # whatever came has gone back
    if world.row.status not in EVER_CAPTURED:
        world = _capture_found(world, shown, rules)
    return adopted(world, shown, rules) if world.row.status in EVER_CAPTURED else world


def _capture_found(world: World, shown: Window, rules: Rules) -> World:
    if world.row.status is S.CANCELLED:
        return _given_back_later(noted(world, world.row.key), world.row.key, shown, rules)
    if world.row.status is S.FAILED:
        world = noted(world, world.row.key)
    elif world.row.status not in OPEN:
        return world
    row = rules.move(world.row, S.APPROVED, by="approve")
    row = rules.move(row, S.COMPLETED, by="complete")
    has_account = row.has_account or rules.setup.is_account
    return announced(world, row._replace(holder=NOBODY, given_up="", has_account=has_account))


def _waiting(world: World, *, is_fresh: bool, rules: Rules) -> World:
    row = world.row
    if row.status is S.PENDING:
        row = rules.move(row, S.WAITING_FOR_DEPOSIT, by="await_deposit")
        return announced(world, row._replace(holder=NOBODY, has_account=True))
    if not is_fresh:
        return released(world)
    if row.status is S.WAITING_FOR_DEPOSIT:
        is_overdue = window_of(world, row.key).age is not Age.YOUNG
        return failed(world, rules) if is_overdue else released(world)
    return _reversed(world, rules) if row.status is S.COMPLETED else noted(world, row.key)


def _reversed(world: World, rules: Rules) -> World:
    if open_refund(world) is not None:
        return released(world)
    if not world.row.has_account:
        return noted(world, world.row.key)
    row = rules.move(world.row, S.WAITING_FOR_DEPOSIT, by="reverse_deposit")
    return announced(world, row._replace(holder=NOBODY))


def _declined(world: World, *, is_fresh: bool, rules: Rules) -> World:
    if world.row.status is S.WAITING_FOR_DEPOSIT and not is_fresh:
        return released(world)
    if world.row.status in OPEN:
        return failed(world, rules)
    return noted(world, world.row.key) if world.row.status in EVER_CAPTURED else world


def failed(world: World, rules: Rules) -> World:
    """This attempt never takes money; its key stays in the history."""
    row = rules.move(world.row, S.FAILED, by="fail")
    keys = row.failed | {row.key} if row.key else row.failed
    return announced(world, row._replace(holder=NOBODY, failed=keys, given_up=""))


def _cancelled(world: World, rules: Rules) -> World:
    """The PG cancelled what never held money."""
    if world.row.status is S.COMPLETED and world.row.has_account:
        world = _reversed(world, rules)
    if world.row.status in OPEN:
        return abandoned(world, rules)
    return noted(world, world.row.key) if world.row.status in EVER_CAPTURED else world


def abandoned(world: World, rules: Rules) -> World:
    """Given up before any money was kept."""
    row = rules.move(world.row, S.CANCELLED, by="cancel")
    return announced(world, row._replace(holder=NOBODY, given_up=""))


def _unknown(world: World, reply: Reply, rules: Rules) -> World:
    if world.row.status is not S.PENDING:
        return world
    if reply.said is Said.LOST and not rules.setup.layers.timeout_is_unknown:
        return failed(world, rules)
    return released(world)


def _other_key(world: World, key: int, reply: Reply, *, is_fresh: bool, rules: Rules) -> World:
    if reply.said is Said.WAITING:
        return noted(world, key)
    if reply.said is not Said.HELD or not _shown(reply).balance:
        return world
    world = noted(world, key)
    if world.row.status in MUST_NOT_HOLD_MORE:
        return _given_back_later(world, key, _shown(reply), rules)
    may_be_late = rules.setup.is_account and not is_fresh and rules.setup.layers.doubts_late_money
    if world.row.status is not S.CREATED or may_be_late:
        return world
    row = rules.move(world.row, S.PENDING, by="begin_confirm")  # nobody may be charged on top of this
    return _held(written(world, row._replace(key=key)), _shown(reply), is_fresh=True, rules=rules)


def noted(world: World, key: int) -> World:
    """A person is told."""
    return world._replace(noted=world.noted | {key})


def _given_back_later(world: World, key: int, shown: Window, rules: Rules) -> World:
    if rules.setup.is_account or not shown.balance or any(one.key == key for one in world.strays):
        return world
    if not rules.setup.layers.gives_strays_back:
        return world
    return world._replace(strays=(*world.strays, Promise(shown.balance, shown.balance, key, "")))


def adopted(world: World, shown: Window, rules: Rules) -> World:
    """Cancels that we did not ask for become refunds; one that may be the open refund is left to that."""
    waiting = open_refund(world)
    for place, cancel in unrecorded(shown, world.refunds):
        if rules.setup.layers.leaves_open_refund and waiting is not None and fits(cancel, waiting):
            continue
        if cancel.amount > refundable(world.row):
            return noted(world, world.row.key)
        promise = Promise(cancel.amount, refundable(world.row), world.row.key, "")
        kept = rules.decide(promise, RefundStatus.SUCCEEDED, cancel=place)
        world = _refunded(world._replace(refunds=(*world.refunds, kept)), cancel.amount, rules)
    return world


def _refunded(world: World, amount: int, rules: Rules) -> World:
    left = AMOUNT - world.row.refunded
    if amount > left:
        return world._replace(flaws=(*world.flaws, "I3: a refund of more than is left was recorded"))
    row = rules.move(world.row, S.REFUNDED if amount == left else S.PARTIALLY_REFUNDED, by="refund")
    return announced(world, row._replace(refunded=row.refunded + amount))


def unrecorded(shown: Window, refunds: Collection[Promise]) -> list[tuple[int, Cancel]]:
    """The PG's cancels that are none of our refunds yet, with their places in its list."""
    known = {refund.cancel for refund in refunds}
    return [(place, cancel) for place, cancel in enumerate(shown.cancels) if place not in known]


def fits(cancel: Cancel, promise: Promise) -> bool:
    """Whether the amount, and the balance that went along as the PG's lock, are those of the promise."""
    return cancel.amount == promise.amount and cancel.balance_after == promise.believed - promise.amount


def record_refund(world: World, index: int, answer: Reply, shown: Window | None, *, name: str, rules: Rules) -> World:
    """`refund_answers.record_refund`: what the PG said, and showed afterwards, about a refund that was promised."""
    refund = world.refunds[index]
    if answer.said in REFUSALS and refund.name != name:
        answer = Reply(Said.LOST)  # refused under a key that has been given up since
    shown = shown or (answer.shown if answer.said is Said.REFUNDED else None)
    if refund.status is RefundStatus.REQUESTED:
        place = _carried_out(world, refund, answer, shown, rules)
        if place is None:
            world = with_refund(world, index, _not_found(world, refund, answer, shown, rules))
        else:
            world = _succeeded(world, index, place, rules)
    return adopted(world, shown, rules) if shown is not None and world.row.status in EVER_CAPTURED else world


def _carried_out(world: World, refund: Promise, answer: Reply, shown: Window | None, rules: Rules) -> int | None:
    if answer.said is Said.REFUNDED:
        return answer.cancel
    if shown is None:
        return None
    is_any_ours = not rules.setup.layers.compares_reasons
    fitting = (
        place
        for place, cancel in unrecorded(shown, world.refunds)
        if fits(cancel, refund) and (cancel.name or is_any_ours)  # the console's have another reason
    )
    return next(fitting, None)


def _succeeded(world: World, index: int, place: int, rules: Rules) -> World:
    refund = world.refunds[index]
    if any(one.cancel == place for one in world.refunds):
        return with_refund(world, index, rules.decide(refund, RefundStatus.FAILED))
    kept = rules.decide(refund, RefundStatus.SUCCEEDED, cancel=place)
    return _refunded(with_refund(world, index, kept), refund.amount, rules)


def _not_found(world: World, refund: Promise, answer: Reply, shown: Window | None, rules: Rules) -> Promise:
    if answer.said in REFUSALS or _is_overtaken(world, refund, shown):
        return rules.decide(refund, RefundStatus.FAILED)
    nothing_done = shown is not None and shown.balance == refund.believed
    if answer.said is Said.FAULT and nothing_done and rules.setup.layers.renews_key:
        return refund._replace(generation=refund.generation + 1, holder=NOBODY)
    return refund._replace(holder=NOBODY)


def _is_overtaken(world: World, refund: Promise, shown: Window | None) -> bool:
    if shown is None or not shown.cancels or shown.balance >= refund.believed:
        return False
    return not any(fits(cancel, refund) for _, cancel in unrecorded(shown, world.refunds))


def record_stray(world: World, index: int, answer: Reply, shown: Window | None, rules: Rules) -> World:
    """`give_back`: what the PG said about a capture that is to go back."""
    stray = world.strays[index]
    if stray.status is not RefundStatus.REQUESTED:
        return world
    if answer.said is Said.REFUNDED or (shown is not None and shown.balance == 0):
        return with_stray(world, index, rules.decide(stray, RefundStatus.SUCCEEDED))
    if shown is not None and shown.balance < stray.amount:
        left = stray._replace(amount=shown.balance, believed=shown.balance)
        return with_stray(world, index, left._replace(generation=stray.generation + 1, holder=NOBODY))
    if answer.said in REFUSALS and shown is not None:
        return with_stray(noted(world, stray.key), index, rules.decide(stray, RefundStatus.FAILED))
    if answer.said is Said.FAULT and shown is not None:
        return with_stray(world, index, stray._replace(generation=stray.generation + 1, holder=NOBODY))
    return with_stray(world, index, stray._replace(holder=NOBODY))
