"""What must hold in every state, and what must hold at the end. The numbers are those of the proof's invariants."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from payments.states import EVER_CAPTURED, PaymentStatus, RefundStatus
from proof.model.books import MUST_NOT_HOLD_MORE, message_of
from proof.model.pg import window_of
from proof.model.state import AMOUNT, DEAD, NOBODY, Age, AtPg, Promise, Setup, World

S: Final = PaymentStatus
DECIDED: Final = EVER_CAPTURED | {S.FAILED, S.CANCELLED}


def violation(world: World, setup: Setup) -> str | None:
    """The first thing that does not hold, whatever is still under way."""
    return next(_violations(world, setup), None)


def unsettled(world: World) -> str | None:
    """Why nothing may end like this."""
    return next(_loose_ends(world), None)


def _violations(world: World, setup: Setup) -> Iterator[str]:
    yield from world.flaws
    if sum(window.ours for window in world.windows) > 1:
        yield "I1: the order's money was captured twice by us"
    row = world.row
    if row.status in EVER_CAPTURED and not setup.is_account and window_of(world, row.key).status is not AtPg.DONE:
        yield f"I5: {row.status} although the PG holds no capture"
    yield from _refund_violations(world)
    deposits = [message for message in world.told if message == f"{S.WAITING_FOR_DEPOSIT}:0"]
    if len(deposits) > sum(1 + window.reversals for window in world.windows):
        yield "I5: a deposit was taken back here that the bank did not take back"
    for key in row.failed:
        window = window_of(world, key)
        is_overdue = window.status is AtPg.WAITING and window.age is not Age.YOUNG
        if not (window.status in DEAD or is_overdue or window.is_contradicted):
            yield f"I9: FAILED although the PG shows {window.status.name}"
    if row.refunded != sum(one.amount for one in world.refunds if one.status is RefundStatus.SUCCEEDED):
        yield "I12: the payment says another refunded amount than its refunds"
    if (row.status is S.REFUNDED) != (row.refunded == AMOUNT):
        yield "I12: the status does not fit the refunded amount"


def _refund_violations(world: World) -> Iterator[str]:
    """I3: never more than was captured, each accepted request once, none that was not accepted."""
    names = Counter(cancel.name for window in world.windows for cancel in window.cancels if cancel.name)
    requests = Counter(name.split(".")[0].rstrip("'") for name in names.elements() if not name.startswith("stray"))
    if any(count > 1 for count in requests.values()) or any(count > 1 for count in names.values()):
        yield "I3: a refund was carried out twice"
    if any(_is_of(name, one) for name in names for one in world.refunds if one.status is RefundStatus.FAILED):
        yield "I3: a refund was carried out that is FAILED here"
    if any(_is_by_another(world, one) for one in world.refunds if one.request and one.cancel != NOBODY):
        yield "I3: a refund SUCCEEDED here by somebody else's cancel"
    if world.row.key and world.row.refunded > sum(one.amount for one in window_of(world, world.row.key).cancels):
        yield "I3: a refund SUCCEEDED here that the PG did not make"
    if sum(one.status is RefundStatus.REQUESTED for one in world.refunds) > 1:
        yield "I3: two refunds are under way"


def _is_of(name: str, promise: Promise) -> bool:
    return name.rsplit(".", 1)[0] == f"{promise.request}.{promise.key}"


def _is_by_another(world: World, promise: Promise) -> bool:
    return not _is_of(window_of(world, promise.key).cancels[promise.cancel].name, promise)


def _loose_ends(world: World) -> Iterator[str]:
    if world.row.status not in DECIDED:
        yield f"I4: the payment stays {world.row.status}"
    if any(one.status is RefundStatus.REQUESTED for one in (*world.refunds, *world.strays)):
        yield "I4: a promise of money stays open"
    if world.row.given_up:
        yield "I4: an account that was given up stays open"
    if not world.told or world.told[-1] != message_of(world.row):
        yield "I6: a change was never told"
    if not world.delivered == world.applied == len(world.told):
        yield "I6: the order service does not know"
    for key in range(1, len(world.windows) + 1):
        if not _is_balanced(world, key):
            yield f"I5: the PG keeps {window_of(world, key).balance} under key {key}, and our books say otherwise"


def _is_balanced(world: World, key: int) -> bool:
    """Whether our books say the same, or a person was told of money that only a person may decide about."""
    window, row = window_of(world, key), world.row
    if key == row.key and row.status in EVER_CAPTURED:
        return window.balance == AMOUNT - row.refunded or key in world.noted
    is_for_a_person = key in world.noted and row.status not in MUST_NOT_HOLD_MORE
    is_refused = any(one.key == key and one.status is RefundStatus.FAILED for one in world.strays)
    return not window.balance or is_for_a_person or is_refused
