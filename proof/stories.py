"""Stories: what can become of an order, told so that each step may be repeated by whoever got no answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import psycopg
from fastapi import FastAPI
from tests.acceptance.worker_world import Shop
from tests.integration.webhook_world import a_hint, as_sent, signed, status_changed
from tests.integration.world import ACCOUNT, AMOUNT, REASON, confirm_body, prepare_body

from payments.business_day import day_of
from payments.errors import Busy
from payments.records import NightlyCheck
from proof.books import CANCEL, CONFIRM, PREPARE, WEBHOOK, Books, Told, read_books
from proof.failpoints import Fault
from proof.invariants import Violation, is_settled, violations
from proof.lives import Answer, Disarm, Http, Life, Night, Order, Stopped, Work
from proof.world import LEASES_ARE_OVER, WEBHOOK_SECRET, Case

TRIES: Final = 6  # of a client until it goes home
ROUNDS_TO_SETTLE: Final = 8
ON_ITS_WAY: Final = timedelta(minutes=12)  # longer than the night gives an event time to arrive
A_NIGHTS_PAUSE: Final = timedelta(minutes=21)  # longer than a night that failed a few times waits
NOTHING_CAN_COME: Final = timedelta(minutes=16)  # of a confirm that was asked for before
SESSION_IS_OVER: Final = timedelta(minutes=50)
CANARIES: Final = ("test_sk_sandbox", WEBHOOK_SECRET, "buyer@example.com", ACCOUNT["accountNumber"], "k" * 43)
_BUSY: Final = frozenset(kind.code for kind in (Busy, *Busy.__subclasses__()) if hasattr(kind, "code"))


class Fate(StrEnum):
    """What becomes of the one call to the PG that a story is about."""

    SOUND = "sound"
    NOT_RECEIVED = "not_received"
    REPLY_LOST = "reply_lost"
    REFUSED = "refused"
    FAULT_OF_PG = "fault_of_pg"  # it did what was asked, and says that something went wrong


_KINDS: Final[Mapping[Fate, str]] = {
    Fate.NOT_RECEIVED: "drop_before_effect",
    Fate.REPLY_LOST: "drop_reply",
    Fate.REFUSED: "error_before_effect",
    Fate.FAULT_OF_PG: "server_error_after_effect",
}
_REFUSALS: Final[Mapping[str, str]] = {"confirm": "REJECT_CARD_PAYMENT", "cancel": "NOT_CANCELABLE_PAYMENT"}


@dataclass(slots=True)
class Teller:
    """Leads one order through one story, whatever dies under way: the world around our processes."""

    case: Case
    shop: Shop
    app: FastAPI
    order_id: str
    log: Path
    hot: bool = True
    fate: Fate = Fate.SOUND
    faults: list[Fault] = field(default_factory=list)  # one after the other, whichever life they meet
    told: list[Told] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    struck: list[Fault] = field(default_factory=list)
    struck_at: list[int] = field(default_factory=list)  # where among the points
    _life: Life | None = None
    _lives: list[Life] = field(default_factory=list)

    def tell(self, order: Order) -> Answer | None:
        """Have a life of ours do something; None if it died of it."""
        life = self._life or self._begin()
        outcome = life.tell(order)
        while outcome is Stopped.FROZEN:
            outcome = self._overtake(life)
        self._note(life)
        if isinstance(outcome, Answer):
            return outcome
        self._end(life)
        return None

    def ask(self, what: str, name: str, request: Http, *, tries: int = TRIES) -> Answer | None:
        """Ask over HTTP, and come again as long as nothing is decided; the last answer."""
        answer = None
        for number in range(tries):
            answer = self.tell(request)
            if answer is not None and answer.status is not None:
                self.told.append(Told(what, self.order_id, name, answer.status, answer.body))
                if is_decided(answer):
                    break
            if number:  # at first at once, then when whoever may still be at it has had the time
                self.later()
        return answer

    def pass_time(self, by: timedelta) -> None:
        """Time passes, and only the life that is led now lives on."""
        self.case.pass_time(by, alive=[self._life.pid] if self._life else [])

    def later(self, by: timedelta = LEASES_ARE_OVER) -> None:
        """Time passes, and the worker has its rounds."""
        self.pass_time(by)
        self.tell(Work())

    def settle(self) -> list[Violation]:
        """Faults are over; work until nothing is left to do, and compare everybody's books."""
        self.faults.clear()
        if self._life is not None and self._life.is_armed:
            self.tell(Disarm())
        self.case.pg.clear_faults()
        for _ in range(ROUNDS_TO_SETTLE):
            self.later()
            if is_settled(books := self.books()):
                return self._violations(books)
        return [Violation("I13", self.order_id, "has not settled"), *self._violations(self.books())]

    def _violations(self, books: Books) -> list[Violation]:
        found = violations(books, canaries=CANARIES)
        is_prepared = any(one.payment is not None for one in books.orders)  # otherwise there is nothing to tell
        if is_prepared and self.order_id not in books.log:
            found.append(Violation("I14", self.order_id, "no log tells of it: nobody saw what logs may not show"))
        return found

    def books(self) -> Books:
        with self.case.connect() as connection:
            log = self.log.read_text(errors="replace") if self.log.exists() else ""
            return read_books(connection, self.case.pg, self.shop, [self.order_id], told=self.told, log=log)

    def close(self) -> None:
        """End whatever still runs."""
        for life in self._lives:
            self._note(life)  # what it had come by when it failed
            life.end()
        self._lives.clear()
        self._life = None

    def prepare(self, **changes: str) -> Answer | None:
        body = {**prepare_body(self.order_id), **changes}
        return self.ask(PREPARE, PREPARE, Http("POST", "/payments/prepare", body))

    def window(self, **more: str) -> str:
        """The buyer goes through the payment window; the payment key of the redirect."""
        return self.case.pg.authenticate(self.order_id, AMOUNT, **more)

    def confirm(self, payment_key: str, *, tries: int = TRIES) -> Answer | None:
        request = Http("POST", "/payments/confirm", confirm_body(payment_key, self.order_id))
        return self.ask(CONFIRM, payment_key, request, tries=tries)

    def confirm_and_not_hear(self, *, tries: int = TRIES) -> str:
        """Prepare, pay, confirm, and nobody here learns what came of it; the payment key."""
        self.prepare()
        payment_key = self.window()
        self.lose("confirm")
        self.confirm(payment_key, tries=tries)
        return payment_key

    def buy(self, *, strikes: bool = True, **more: str) -> str:
        """Prepare, pay, confirm; a buyer who is refused tries again. The payment key."""
        self.prepare(**more)
        payment_key = self.window(**more)
        if strikes:
            self.strike("confirm")
        answer = self.confirm(payment_key)
        if answer is not None and answer.status == 402:
            self.prepare(**more)
            payment_key = self.window(**more)
            self.confirm(payment_key)
        return payment_key

    def cancel(self, name: str, amount: int | None = None, **more: object) -> Answer | None:
        """The back office gives up, or gives back; `name` is its idempotency key."""
        body = {"cancelReason": REASON, **({} if amount is None else {"cancelAmount": amount}), **more}
        headers = (("idempotency-key", f"{self.order_id}-{name}"),)
        return self.ask(CANCEL, name, Http("POST", f"/payments/orders/{self.order_id}/cancel", body, headers))

    def webhook(self, payment_key: str) -> None:
        """The PG tells of the payment as it stands there, until it has been heard."""
        shown = next(one for one in self._shown() if one["paymentKey"] == payment_key)
        body = as_sent(status_changed(shown))
        lines = {"content-type": "application/json", **signed(body, WEBHOOK_SECRET)}
        self.ask(WEBHOOK, str(hash(body)), Http("POST", "/webhook/toss", body, tuple(lines.items())))

    def lose(self, operation: str) -> None:
        """The same, and what came of it cannot be looked up either, for a while."""
        self.case.pg.arm("lookup", "drop_before_effect", orderId=self.order_id, times=2)
        self.strike(operation)

    def hint(self) -> None:
        """Somebody tells of the order, and proves nothing."""
        body = as_sent(a_hint(self.order_id))
        self.ask(WEBHOOK, str(hash(body)), Http("POST", "/webhook/toss", body, (("content-type", "application/json"),)))

    def at_pg(self, payment_key: str, verb: str, *, when: str, **more: object) -> None:
        """Something happens to a payment at the PG once it stands there as it has to."""
        for _ in range(TRIES):
            if any(one["status"] == when and one["paymentKey"] == payment_key for one in self._shown()):
                self.case.pg.act(payment_key, verb, **more)
                return
            self.later()

    def captured_elsewhere(self, order_id: str | None = None) -> str:
        """Somebody captures money for the order, or another one, at the PG itself; its payment key."""
        body = {"payments": [{"orderId": order_id or self.order_id, "amount": AMOUNT}]}
        answer = self.case.pg.http.post("/sandbox/import", json=body).raise_for_status()
        return str(answer.json()["payments"][0]["paymentKey"])

    def shop_forgets(self) -> None:
        """The shop is put back to a day on which it had not heard of the payment."""
        with psycopg.connect(self.shop.database.replace("+psycopg", "", 1)) as connection:
            connection.execute("DELETE FROM received_events WHERE order_id = %s", [self.order_id])
            connection.execute(
                "UPDATE orders SET status = 'CREATED', paid_at = NULL, refunded_amount = 0, payment_version = 0,"
                " payment_key = NULL WHERE order_id = %s",
                [self.order_id],
            )

    def night(self) -> None:
        """The checks of a night, about today, until both are done; one that failed comes again after a while."""
        for _ in range(TRIES):
            self.tell(Night(day_of(datetime.now(UTC))))
            if self._is_night_over():
                break
            self.pass_time(A_NIGHTS_PAUSE)

    def strike(self, operation: str) -> None:
        """The fate of the story meets the next such call to the PG."""
        if self.fate is not Fate.SOUND:
            code = {"code": _REFUSALS[operation]} if self.fate is Fate.REFUSED else {}
            self.case.pg.arm(operation, _KINDS[self.fate], orderId=self.order_id, **code)

    def fates(self) -> int:
        """How many calls to the PG the fate has met; lookups, which no story is about, left out."""
        asked = [call for call in self.case.pg.calls(self.order_id) if call["method"] == "POST"]
        return sum(_KINDS.get(self.fate) in (call["fault"] or "").split("+") for call in asked)

    def _shown(self) -> list[dict[str, Any]]:
        return self.case.pg.payments(self.order_id)

    def _is_night_over(self) -> bool:
        with self.case.connect() as connection:
            over = connection.execute("SELECT FROM nightly_runs WHERE finished_at IS NOT NULL").fetchall()
        return len(over) == len(NightlyCheck)

    def _begin(self) -> Life:
        self._life = Life(self.case.settings, self.app, log=self.log, hot=self.hot, faults=self.faults)
        self._lives.append(self._life)
        return self._life

    def _overtake(self, frozen: Life) -> Answer | Stopped:
        """While it is frozen its leases end, and others do its work; then it comes back and goes on."""
        self._note(frozen)
        self._life = None
        left = len(self.faults)
        self.later()
        self._end(self._life)
        self._life = frozen
        frozen.thaw(left - len(self.faults))
        return frozen.wait()

    def _note(self, life: Life) -> None:
        new = len(life.struck_at)
        self.struck_at += [len(self.points) + at for at in life.struck_at]
        self.struck += self.faults[:new]
        del self.faults[:new]
        self.points += life.points
        life.forget()

    def _end(self, life: Life | None) -> None:
        if life is not None:
            life.end()
        if life is self._life:
            self._life = None


def is_decided(answer: Answer) -> bool:
    """Whether a client has no reason to come again."""
    if answer.status is None or answer.status in {202, 429} or answer.status >= 500:
        return False
    code = answer.body.get("code") if isinstance(answer.body, dict) else None
    return not (answer.status == 409 and code in _BUSY)


ACCOUNT_METHOD: Final = "VIRTUAL_ACCOUNT"


def bought(t: Teller) -> None:
    """Paid by card; a part goes back from the back office, another from the PG's console; the night agrees."""
    key = t.buy()
    t.webhook(key)
    t.tell(Work())
    t.cancel("part", 5_000)
    t.at_pg(key, "cancel", when="PARTIAL_CANCELED", amount=1_000)
    t.webhook(key)
    t.later()
    t.night()


def refunded(t: Teller) -> None:
    """All of it goes back, in two parts; the PG's part in the first of them is the story's."""
    t.buy(strikes=False)
    t.strike("cancel")
    t.cancel("first", 4_000)
    t.later()
    t.cancel("rest")
    t.later()


def lost(t: Teller) -> None:
    """What came of the confirm is not heard, nor can it be looked up: the worker finds out."""
    key = t.confirm_and_not_hear()
    t.later()
    t.webhook(key)
    t.later()


def cancelled_while_unknown(t: Teller) -> None:
    """The back office gives the money back before anybody knows that it was taken."""
    t.confirm_and_not_hear(tries=1)
    t.cancel("all")
    t.later()
    t.cancel("all")


def refund_lost(t: Teller) -> None:
    """What came of the refund is not heard, nor can it be looked up: the worker finds out."""
    t.buy(strikes=False)
    t.lose("cancel")
    t.cancel("all")
    t.later()
    t.later()


def deposited(t: Teller) -> None:
    """A virtual account is paid into, and a part of it goes back to the buyer's bank."""
    key = t.buy(method=ACCOUNT_METHOD)
    t.at_pg(key, "deposit", when="WAITING_FOR_DEPOSIT")
    t.webhook(key)
    t.later()
    t.cancel("part", 5_000, refundReceiveAccount=ACCOUNT)
    t.later()


def reversed_deposit(t: Teller) -> None:
    """The bank takes a deposit back, and the account waits again; then it is given up."""
    key = t.buy(method=ACCOUNT_METHOD, strikes=False)
    t.at_pg(key, "deposit", when="WAITING_FOR_DEPOSIT")
    t.webhook(key)
    t.later()
    t.at_pg(key, "reverse-deposit", when="DONE")
    t.webhook(key)
    t.later()
    t.strike("cancel")
    t.cancel("all")
    t.later()


def given_up(t: Teller) -> None:
    """A virtual account is given up before anybody pays into it."""
    t.buy(method=ACCOUNT_METHOD, strikes=False)
    t.strike("cancel")
    t.cancel("all")
    t.later()


def stray(t: Teller) -> None:
    """The order was given up, and somebody captured money for it all the same: it goes back."""
    t.prepare()
    t.cancel("all")
    key = t.captured_elsewhere()
    t.strike("cancel")
    t.webhook(key)
    t.later()
    t.later()


def never_confirmed(t: Teller) -> None:
    """The buyer never comes back from the payment window."""
    t.prepare()
    t.window()
    t.hint()
    t.later(SESSION_IS_OVER)
    t.later()


def found_at_night(t: Teller) -> None:
    """The PG took money that nobody here has asked for: the night finds it."""
    t.prepare()
    t.captured_elsewhere()
    t.night()
    t.later()


def forgotten_by_the_shop(t: Teller) -> None:
    """The shop has lost what it was told: the night tells it once more."""
    t.buy(strikes=False)
    t.later(ON_ITS_WAY)
    t.shop_forgets()
    t.night()
    t.later()


def stolen(t: Teller) -> None:
    """The payment key of another order is confirmed for this one; that one's money is with the PG already."""
    t.prepare()
    t.confirm(t.captured_elsewhere(f"{t.order_id}-of-another"))
    t.later(NOTHING_CAN_COME)
    t.later()


STORIES: Final[Mapping[str, Callable[[Teller], None]]] = {
    story.__name__: story
    for story in (
        *(bought, refunded, lost, cancelled_while_unknown, refund_lost, deposited, reversed_deposit, given_up),
        *(stray, never_confirmed, found_at_night, forgotten_by_the_shop, stolen),
    )
}
# What the PG's part in a story may be; in the others it has none of its own.
FATES: Final[Mapping[str, Sequence[Fate]]] = {
    "bought": tuple(Fate),
    "refunded": tuple(Fate),
    "lost": (Fate.NOT_RECEIVED, Fate.REPLY_LOST),
    "cancelled_while_unknown": (Fate.NOT_RECEIVED, Fate.REPLY_LOST),
    "refund_lost": (Fate.NOT_RECEIVED, Fate.REPLY_LOST),
    "deposited": (Fate.SOUND, Fate.NOT_RECEIVED, Fate.REPLY_LOST),
    "reversed_deposit": (Fate.SOUND, Fate.NOT_RECEIVED, Fate.REPLY_LOST),
    "given_up": tuple(Fate),
    "stray": tuple(Fate),
}
