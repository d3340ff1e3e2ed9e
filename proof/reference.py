"""The pure model beside the real thing: what Toss does by itself, what was asked of us, and what may follow from it.

It does nothing and asks nobody. Whoever plays tells it what was done and what was answered, and shows it the PG's
books; it says what nobody has asked for, what contradicts an answer, and what the end must look like. Amounts are won.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from payments.states import EVER_CAPTURED, PaymentStatus

Says = Iterator[str]

ACCOUNT: Final = "VIRTUAL_ACCOUNT"
CONFIRM_WINDOW: Final = timedelta(minutes=10)
DEPOSIT_WINDOW: Final = timedelta(hours=168)
_REAL_TIME: Final = timedelta(minutes=1)  # more than a program takes while its own clock stands still
_CONFIRM_STATUSES: Final = frozenset({200, 202, 402, 404, 409, 503})
_CANCEL_STATUSES: Final = frozenset({200, 202, 404, 409, 422, 503})
_EVER_CAPTURED: Final = frozenset(status.value for status in EVER_CAPTURED)


class At(StrEnum):
    """The statuses of a Toss payment."""

    IN_PROGRESS = "IN_PROGRESS"
    WAITING = "WAITING_FOR_DEPOSIT"
    DONE = "DONE"
    PARTIAL = "PARTIAL_CANCELED"
    CANCELED = "CANCELED"
    ABORTED = "ABORTED"
    EXPIRED = "EXPIRED"


_UNPAID: Final = frozenset({At.IN_PROGRESS, At.ABORTED, At.EXPIRED})
_GIVING: Final = frozenset({At.DONE, At.PARTIAL})


@dataclass(frozen=True, slots=True)
class Truth:
    """What the PG's books hold under one payment key."""

    status: At
    captures: int = 0  # how often money came
    cancels: tuple[int, ...] = ()  # money that went back, in order
    reversals: int = 0

    @property
    def holds(self) -> bool:
        """Whether money came and was not taken back by the bank."""
        return self.captures > self.reversals

    def balance(self, amount: int) -> int:
        """What is left of the order's amount."""
        return amount - sum(self.cancels) if self.holds else 0

    def cancelled(self, by: int, *, amount: int) -> "Truth":
        """The same after so much went back: the last of several parts is still called a part."""
        is_whole = not self.cancels and by == amount
        return replace(self, status=At.CANCELED if is_whole else At.PARTIAL, cancels=(*self.cancels, by))


@dataclass(slots=True)
class Window:
    """One payment key: what the buyer did in the payment window, and what has become of it at the PG."""

    key: str
    method: str
    is_refused: bool  # the card company will say no
    opened_at: timedelta
    truth: Truth = Truth(At.IN_PROGRESS)
    is_asked: bool = False  # somebody of ours may be asking for its money
    is_declined: bool = False  # and the buyer was told so
    is_imported: bool = False  # captured at the PG itself, past all of us
    issued_at: timedelta | None = None
    by_hand: list[int] = field(default_factory=list)  # given back in the PG's console

    @property
    def is_account(self) -> bool:
        return self.method == ACCOUNT


@dataclass(slots=True)
class Request:
    """A cancel under one idempotency key, and the last that was heard of it."""

    name: str
    amount: int | None  # None for all that is left
    status: int | None = None
    is_decided: bool = False
    refunded: int | None = None  # as was answered
    is_done: bool = False  # seen in the PG's books

    @property
    def may_follow(self) -> bool:
        """Whether it may still be carried out, or just was."""
        return not self.is_done and (not self.is_decided or self.status == 200)

    @property
    def has_given_up(self) -> bool:
        """Whether the answer was that nothing had been paid and nothing will be."""
        return self.status == 200 and self.refunded is None

    def takes(self, cancel: int, left: int) -> bool:
        """Whether it can have made this cancel, which left so much."""
        return cancel == self.amount or (self.amount is None and left == 0)


@dataclass(frozen=True, slots=True)
class Stands:
    """How the order's payment stands in our books; no status if there is none."""

    status: str | None = None
    payment_key: str | None = None
    refunded: int = 0
    strays: frozenset[str] = frozenset()  # payment keys whose money has to go back, or went


@dataclass(slots=True)
class Order:
    """One order: its payment windows, and what was asked about it."""

    amount: int
    windows: dict[str, Window] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    is_prepared: bool = False  # and the buyer was told so

    # What the world does to it. Each answers whether the PG takes it.

    def opened(self, key: str, *, method: str, is_refused: bool, at: timedelta) -> None:
        """A buyer went through a payment window."""
        self.windows[key] = Window(key, method, is_refused, at)

    def captured_elsewhere(self, key: str, *, at: timedelta) -> None:
        """Somebody captured money for the order at the PG itself."""
        done = Truth(At.DONE, captures=1)
        self.windows[key] = Window(key, "CARD", is_refused=False, opened_at=at, truth=done, is_imported=True)

    def deposit(self, key: str, *, at: timedelta) -> bool:
        """The buyer pays into the virtual account."""
        window = self.windows[key]
        is_late = window.issued_at is None or at > window.issued_at + DEPOSIT_WINDOW
        if window.truth.status is not At.WAITING or is_late:
            return False
        window.truth = replace(window.truth, status=At.DONE, captures=window.truth.captures + 1)
        return True

    def reverse(self, key: str) -> bool:
        """The bank takes the deposit back."""
        window = self.windows[key]
        if not window.is_account or window.truth.status is not At.DONE:
            return False
        window.truth = replace(window.truth, status=At.WAITING, reversals=window.truth.reversals + 1)
        return True

    def cancel_by_hand(self, key: str, amount: int | None) -> bool:
        """Somebody cancels in the PG's console."""
        window = self.windows[key]
        if window.truth.status is At.WAITING:
            if amount not in {None, self.amount}:
                return False
            window.truth = replace(window.truth, status=At.CANCELED)
            return True
        left = window.truth.balance(self.amount)
        given = left if amount is None else amount
        if window.truth.status not in _GIVING or not 0 < given <= left:
            return False
        window.truth = window.truth.cancelled(given, amount=self.amount)
        window.by_hand.append(given)
        return True

    # What was asked of us, and what was answered.

    def asks(self, key: str) -> bool:
        """A buyer brings a payment key back; whether that key was asked for before."""
        window = self.windows.get(key)
        before = window is not None and window.is_asked
        if window is not None:
            window.is_asked = True
        return before

    def confirmed(
        self, key: str, status: int | None, stands_as: str, books: Mapping[str, Truth], *, before: bool
    ) -> Says:
        """What is wrong with an answer to a confirm; `before` as `asks` said."""
        window = self.windows.get(key)
        truth = books.get(key, Truth(At.EXPIRED))
        if status not in {*_CONFIRM_STATUSES, None}:
            yield f"a confirm was answered {status}"
        if window is not None and status in {404, 409} and not before:
            window.is_asked = False
        if window is not None and status == 402:
            window.is_declined = True
        if status == 404 and self.is_prepared:
            yield "prepared for the buyer, and not found"
        if status == 402 and truth.holds:
            yield "the buyer was told that it was refused, and the PG has the money"
        if status == 200 and window is None:
            yield "a confirm with the payment key of another order was answered 200"
        if status == 200:
            yield from _is_held(stands_as, truth)

    def refuses_amount(self, status: int | None, calls: int) -> Says:
        """What is wrong with the answer to a confirm of a wrong amount, and so many calls to the PG in between."""
        if status not in {404, 409, None}:
            yield f"a wrong amount was answered {status}"
        if calls:
            yield f"the PG was asked {calls} times about a wrong amount"

    def requested(self, name: str, amount: int | None) -> Request:
        """A back office asks for a cancel, for the first time or again."""
        return self.requests.setdefault(name, Request(name, amount))

    def cancelled(
        self, name: str, status: int | None, refunded: int | None, books: Mapping[str, Truth], *, is_decided: bool
    ) -> Says:
        """What is wrong with an answer to a cancel."""
        request = self.requests[name]
        if status not in {*_CANCEL_STATUSES, None}:
            yield f"a cancel was answered {status}"
        if status is None:
            return
        is_first = request.status != 200
        request.status, request.is_decided, request.refunded = status, is_decided, refunded
        if status == 200 and refunded is not None:
            yield from self._is_given_back(refunded, books)
        if is_first and request.has_given_up and any(self._was_taken(key, truth) for key, truth in books.items()):
            yield "given up, and the PG has the money"

    def _is_given_back(self, refunded: int, books: Mapping[str, Truth]) -> Says:
        promised = sum(one.refunded == refunded for one in self.requests.values() if one.status == 200)
        given = sum(truth.cancels.count(refunded) for truth in books.values())
        by_hand = sum(window.by_hand.count(refunded) for window in self.windows.values())
        if promised > given - by_hand:
            yield f"{promised} refunds of {refunded} won were answered, the PG made {given - by_hand}"

    def _was_taken(self, key: str, truth: Truth) -> bool:
        return not self.windows[key].is_imported and truth.balance(self.amount) > 0

    # What the PG's books show.

    def moved(self, books: Mapping[str, Truth], *, at: timedelta) -> Says:
        """Learn what is in the PG's books now; what there is that nobody has asked for."""
        for key, truth in books.items():
            window = self.windows[key]
            if truth != window.truth:
                yield from (
                    f"{says} ({window.truth.status} -> {truth.status})" for says in self._moved(window, truth, at)
                )
                window.truth = truth

    def _moved(self, window: Window, truth: Truth, at: timedelta) -> Says:
        before = window.truth
        if truth.captures > before.captures:
            yield from self._captured(window, truth)
        elif truth.status is At.WAITING and before.status is At.IN_PROGRESS:
            window.issued_at = at
            if not window.is_asked or not window.is_account:
                yield "an account was issued that nobody asked for"
        elif truth.status is At.ABORTED and not (window.is_asked and window.is_refused):
            yield "a payment was refused that nobody asked for"
        elif truth.status is At.EXPIRED and at + _REAL_TIME < window.opened_at + CONFIRM_WINDOW:
            yield "a payment expired before its time"
        if truth.reversals != before.reversals or truth.captures < before.captures:
            yield "the PG's model and the PG differ"
        yield from self._gone_back(window, truth)

    def _captured(self, window: Window, truth: Truth) -> Says:
        if not window.is_asked or window.is_refused or window.is_declined or window.is_account:
            yield "money was taken that nobody asked for"
        if truth.captures > 1:
            yield f"money was taken {truth.captures} times"
        if any(other.truth.holds for other in self.windows.values() if other is not window):
            yield "money was taken on top of another payment of the order"

    def _gone_back(self, window: Window, truth: Truth) -> Says:
        before = window.truth
        known = len(before.cancels)
        if truth.cancels[:known] != before.cancels:
            yield "the PG forgot a cancel"
        for number in range(known, len(truth.cancels)):
            left = self.amount - sum(truth.cancels[: number + 1])
            yield from self._given_back(window, truth.cancels[number], left)
        if before.status is At.WAITING and truth.status is At.CANCELED and not self._may_be_given_up():
            yield "an account was given up that nobody wanted given up"

    def _given_back(self, window: Window, cancel: int, left: int) -> Says:
        # Amounts by themselves first, so that whoever wants all that is left is not taken for them.
        requests = sorted(self.requests.values(), key=lambda one: (one.amount is None, one.status != 200))
        for request in requests:
            if request.may_follow and request.takes(cancel, left):
                request.is_done = True
                return
        if left or not self._may_be_stray(window):
            yield f"{cancel} won went back that nobody asked for"

    def _may_be_given_up(self) -> bool:
        return any(one.amount in {None, self.amount} and one.may_follow for one in self.requests.values())

    def _may_be_stray(self, window: Window) -> bool:
        """Whether the order is paid under another key, or was given up: here, or in the PG's console."""
        others = [other.truth for other in self.windows.values() if other is not window]
        is_paid_or_closed = any(truth.captures or truth.status is At.CANCELED for truth in others)
        return is_paid_or_closed or any(one.has_given_up or not one.is_decided for one in self.requests.values())

    # How it has to look.

    def contradicts(self, stands: Stands) -> Says:
        """What our books say at any moment that the PG's do not bear out."""
        window = self.windows.get(stands.payment_key or "")
        truth = window.truth if window else Truth(At.EXPIRED)
        yield from _is_held(stands.status or "", truth)
        if stands.refunded > sum(truth.cancels):
            yield f"{stands.refunded} won went back in our books, {sum(truth.cancels)} at the PG"
        if stands.status is None and self.is_prepared:
            yield "prepared for the buyer, and not in our books"

    def differs(self, stands: Stands) -> Says:
        """What is not as it must be, once everything has settled and every question was repeated until decided."""
        yield from self.contradicts(stands)
        for window in self.windows.values():
            yield from self._differs(window, stands)
        yield from self._refunds_differ(stands)
        has_given_up = any(one.has_given_up for one in self.requests.values())
        if has_given_up and stands.status != PaymentStatus.CANCELLED:
            yield f"given up, as was answered, and {stands.status}"
        is_closed = has_given_up or any(window.truth.status is At.CANCELED for window in self.windows.values())
        if stands.status == PaymentStatus.CANCELLED and not is_closed:
            yield "CANCELLED, and nobody gave it up"

    def _differs(self, window: Window, stands: Stands) -> Says:
        truth, is_ours = window.truth, window.key == stands.payment_key
        if is_ours and (truth.holds or truth.status is At.WAITING):
            allowed = self._may_stand(truth)
            if stands.status not in allowed:
                yield f"{truth.status} at the PG after {truth.cancels}, {stands.status} instead of {sorted(allowed)}"
        elif truth.balance(self.amount) and not window.is_imported:
            yield f"the PG holds {truth.balance(self.amount)} won under a key that is not the payment's"

    def _may_stand(self, truth: Truth) -> set[str]:
        if truth.status is At.WAITING:  # Toss leaves an account that nobody paid into as it is
            return {PaymentStatus.WAITING_FOR_DEPOSIT, PaymentStatus.FAILED}
        if not truth.cancels:
            return {PaymentStatus.COMPLETED}
        is_all = not truth.balance(self.amount)
        # An order that was given up stays so, and what came for it went back.
        return {PaymentStatus.REFUNDED, PaymentStatus.CANCELLED} if is_all else {PaymentStatus.PARTIALLY_REFUNDED}

    def _refunds_differ(self, stands: Stands) -> Says:
        answered = Counter(one.refunded for one in self.requests.values() if one.status == 200 and one.refunded)
        given: Counter[int | None] = Counter()
        for window in self.windows.values():
            if window.key not in stands.strays:
                given += Counter(window.truth.cancels)
                given -= Counter(window.by_hand)
        if answered != given:
            yield f"refunds were answered {dict(answered)}, the PG made {dict(given)}"


def _is_held(stands_as: str, truth: Truth) -> Says:
    if stands_as in _EVER_CAPTURED and not truth.captures:
        yield f"{stands_as}, and the PG never had the money"
    if stands_as == PaymentStatus.WAITING_FOR_DEPOSIT and truth.status in _UNPAID:
        yield f"an account is waited for, and the payment is {truth.status} at the PG"


def books_of(
    shown: Iterable[Mapping[str, Any]], ledger: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, dict[str, Truth]]:
    """The PG's books by order and payment key, from what it shows and from the money that moved."""
    moved: dict[str, dict[str, list[int]]] = {kind: {} for kind in ("captures", "cancels", "reversals")}
    for kind, found in moved.items():
        for movement in ledger[kind]:
            found.setdefault(movement["paymentKey"], []).append(movement["amount"])
    books: dict[str, dict[str, Truth]] = {}
    for one in shown:
        key = one["paymentKey"]
        amounts = {kind: found.get(key, []) for kind, found in moved.items()}
        truth = Truth(At(one["status"]), len(amounts["captures"]), tuple(amounts["cancels"]), len(amounts["reversals"]))
        books.setdefault(one["orderId"], {})[key] = truth
    return books
