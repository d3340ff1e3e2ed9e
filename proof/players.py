"""Players: they carry a program out against the real thing, step by step, and compare it with the model each time."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg
from fastapi import FastAPI
from psycopg.rows import dict_row
from tests.acceptance.worker_world import Shop
from tests.integration.webhook_world import a_hint, as_sent, deposit_callback, signed, status_changed
from tests.integration.world import ACCOUNT as REFUND_ACCOUNT
from tests.integration.world import AMOUNT, REASON, confirm_body, prepare_body

from payments.business_day import day_of
from proof.books import CANCEL, CONFIRM, PREPARE, WEBHOOK, Books, OrderBooks, Row, Told, read_books
from proof.failpoints import Action, Fault
from proof.invariants import Violation, in_motion, is_settled, violations
from proof.lives import Answer, Http, Life, LifeFailed, Night, Stopped, Work
from proof.lives import Order as Errand
from proof.reference import At, Order, Says, Stands, Truth, books_of
from proof.stories import CANARIES, TRIES, is_decided
from proof.world import LEASES_ARE_OVER, WEBHOOK_SECRET, Case

HOT: Final = "hot"
PLAIN: Final = "plain"
BY_WEBHOOKS: Final = "webhooks"  # how the PG is heard of at last: its retries come through, or the nights look
BY_NIGHTS: Final = "nights"
ALL: Final = "all"
NOTHING: Final = "nothing to do"
REJECTED: Final = "REJECT_CARD_PAYMENT"
_MODEL: Final = "model"
_WRONG_BY: Final = 1_000  # won
_PAUSES: Final = (*(LEASES_ARE_OVER,) * 2, *(timedelta(minutes=6),) * 2, *(timedelta(minutes=16),) * 6)
# What waits for a deposit is looked at more seldom the longer it has waited, and nobody tells when it was given up.
_LOOKED_AT_AGAIN: Final = timedelta(hours=25)
_TOLD_A_PERSON: Final = frozenset({"captured_but_failed_here", "captured_but_unknown_here", "captured_after_cancel"})

_OURS: Final = """
SELECT p.order_id, row_to_json(p) AS payment,
    (SELECT coalesce(json_agg(e ORDER BY e.sequence), '[]') FROM payment_events e WHERE e.payment_id = p.id) AS history,
    (SELECT coalesce(json_agg(r), '[]') FROM refunds r WHERE r.payment_id = p.id) AS refunds,
    (SELECT coalesce(json_agg(s), '[]') FROM stray_captures s WHERE s.payment_id = p.id) AS strays
FROM payments p
"""

Known = Mapping[str, Truth]  # the PG's books about one order, by payment key
Judge = Callable[[Known], Says]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done, and with what."""

    verb: str
    arguments: tuple[int | str, ...] = ()

    def __str__(self) -> str:
        return ":".join([self.verb, *map(str, self.arguments)])

    @classmethod
    def read(cls, text: str) -> "Step":
        """What `str` wrote."""
        verb, *words = text.split(":")
        return cls(verb, tuple(int(word) if word.lstrip("-").isdigit() else word for word in words))


@dataclass(frozen=True, slots=True)
class Program:
    """What is done to some orders, one thing after the other. As text it says all that is needed to do it again."""

    orders: int
    path: str  # HOT or PLAIN, of the first life
    ending: str  # BY_WEBHOOKS or BY_NIGHTS
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return "/".join([f"{self.orders}:{self.path}:{self.ending}", *map(str, self.steps)])

    @classmethod
    def read(cls, text: str) -> "Program":
        """What `str` wrote."""
        head, *steps = text.split("/")
        orders, path, ending = head.split(":")
        return cls(int(orders), path, ending, tuple(map(Step.read, steps)))


@dataclass(frozen=True, slots=True)
class Event:
    """What the PG had to tell at some moment, and what was true then."""

    shown: Mapping[str, Any]
    truth: Truth
    body: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a step, in a word, and what is to be said about it once the PG's books are open."""

    outcome: str
    order: int = 0
    judge: Judge | None = None


class Broken(Exception):
    """Something does not hold."""

    def __init__(self, found: Sequence[Violation]) -> None:
        super().__init__("; ".join(map(str, found)))
        self.found = found


def nothing(_: Known) -> Says:
    """Whatever is in the books is right."""
    yield from ()


@dataclass
class Player:
    """The world around our processes, for as long as one program goes on."""

    case: Case
    shop: Shop
    app: FastAPI
    order_ids: Sequence[str]
    log: Path
    program: Program
    tally: Counter[str]
    points: set[str] = field(default_factory=set)
    left: ExitStack = field(default_factory=ExitStack)  # what is left to be tidied up when it is closed
    told: list[Told] = field(default_factory=list)
    _at: timedelta = timedelta()  # since the beginning, by the clock that can be moved
    _life: Life | None = None
    _connection: psycopg.Connection | None = None

    def __post_init__(self) -> None:
        self._orders = [Order(AMOUNT) for _ in self.order_ids]
        self._events: list[list[Event]] = [[] for _ in self.order_ids]
        self._bodies: list[dict[str, dict[str, object]]] = [{} for _ in self.order_ids]
        self._heard: set[bytes] = set()
        self._path = self.program.path
        self._verbs: Mapping[str, Callable[..., Done]] = {
            verb.__name__.strip("_"): verb
            for verb in (
                *(self._prepare, self._window, self._confirm, self._wrong, self._stolen, self._read, self._cancel),
                *(self._repeat, self._rephrase, self._console, self._deposit, self._reverse, self._elsewhere),
                *(self._webhook, self._forge, self._fault, self._wait, self._work, self._night),
                *(self._crash, self._restart),
            )
        }

    def do(self, step: Step) -> None:
        """Do it, note it as a part of the program, and compare.

        Raises:
            Broken: something does not hold.
        """
        self.program = replace(self.program, steps=(*self.program.steps, step))
        self._do(step)

    def settle(self) -> None:
        """Faults are over: work until nothing is left to do, repeat every question, and compare everybody's books.

        Raises:
            Broken: something does not hold.
        """
        self.tally["PG faults that struck"] += sum(call["fault"] is not None for call in self.case.pg.calls())
        self.case.pg.clear_faults()
        self._restart(HOT)
        self._until_settled()
        self._hear_of_the_pg()
        self._pass(_LOOKED_AT_AGAIN)
        self._do(Step("work"))
        self._until_settled()
        self._ask_again()
        books = self._until_settled()
        found = [] if is_settled(books) else [Violation("I13", "-", "has not settled")]
        found += violations(replace(books, orders=list(map(self._known, books.orders))), canaries=CANARIES)
        found += [Violation(_MODEL, self.order_ids[number], says) for number, says in self._differences(books)]
        if found:
            raise Broken(found)

    def close(self) -> None:
        """End whatever still runs."""
        self._end_life()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.left.close()

    # The verbs

    def _prepare(self, order: int, method: str) -> Done:
        body = prepare_body(self.order_ids[order], method=method)
        answer = self._ask(PREPARE, order, PREPARE, Http("POST", "/payments/prepare", body))
        status = answer.status if answer else None
        self._orders[order].is_prepared |= status in {200, 201}

        def _judge(_: Known) -> Says:
            if status not in {200, 201, 409, 503, None}:
                yield f"a prepare was answered {status}"

        return Done(_word(status), order, _judge)

    def _window(self, order: int, method: str, fate: str) -> Done:
        """The buyer authenticates; the card company will agree or refuse once it is asked."""
        more = {"refuseWith": REJECTED} if fate == "refused" else {}
        key = self.case.pg.authenticate(self.order_ids[order], AMOUNT, method=method, **more)
        self._orders[order].opened(key, method=method, is_refused=bool(more), at=self._at)
        return Done(fate)

    def _confirm(self, order: int, window: int) -> Done:
        if (key := self._key(order, window)) is None:
            return Done(NOTHING)
        return self._confirm_with(order, key)

    def _confirm_with(self, order: int, key: str) -> Done:
        model = self._orders[order]
        before = model.asks(key)
        answer = self._ask_to_confirm(order, key, AMOUNT)
        status = answer.status if answer else None
        stands_as = answer.body["status"] if answer and status == 200 else ""
        return Done(_word(status), order, lambda books: model.confirmed(key, status, stands_as, books, before=before))

    def _wrong(self, order: int, window: int) -> Done:
        """The amount was changed on the way back from the payment window."""
        if (key := self._key(order, window)) is None:
            return Done(NOTHING)
        before = len(self.case.pg.calls(self.order_ids[order]))
        answer = self._ask_to_confirm(order, key, AMOUNT - _WRONG_BY)
        calls = len(self.case.pg.calls(self.order_ids[order])) - before
        status = answer.status if answer else None
        return Done(_word(status), order, lambda _: self._orders[order].refuses_amount(status, calls))

    def _stolen(self, order: int, other: int, window: int) -> Done:
        """The payment key of another order comes back."""
        key = self._key(other, window) if other != order else None
        return Done(NOTHING) if key is None else self._confirm_with(order, key)

    def _read(self, order: int) -> Done:
        answer = self._tell(Http("GET", f"/payments/orders/{self.order_ids[order]}"))
        status = answer.status if answer else None
        model = self._orders[order]

        def _judge(_: Known) -> Says:
            if answer is not None and status == 200:
                body = answer.body
                yield from model.contradicts(Stands(body["status"], body["paymentKey"], body["refundedAmount"]))
            elif status not in {404, 503, None} or (status == 404 and model.is_prepared):
                yield f"a read was answered {status}"

        return Done(_word(status), order, _judge)

    def _cancel(self, order: int, amount: int | str) -> Done:
        """The back office gives up, or gives back, under a new idempotency key.

        It names an account as soon as the buyer has paid into one; each third time it has not heard of that yet.
        """
        won = None if amount == ALL else int(amount)
        number = len(self._bodies[order])
        name = f"key{number}"
        body: dict[str, object] = {"cancelReason": REASON}
        if won is not None:
            body["cancelAmount"] = won
        is_paid = any(window.is_account and window.truth.holds for window in self._orders[order].windows.values())
        if is_paid and (order + number) % 3 != 2:
            body["refundReceiveAccount"] = REFUND_ACCOUNT
        self._bodies[order][name] = body
        self._orders[order].requested(name, won)
        return self._cancel_as(order, name)

    def _repeat(self, order: int, number: int) -> Done:
        """The same request under the same key."""
        names = list(self._bodies[order])
        return self._cancel_as(order, names[number % len(names)]) if names else Done(NOTHING)

    def _cancel_as(self, order: int, name: str) -> Done:
        model, body = self._orders[order], self._bodies[order][name]
        answer = self._ask_to_cancel(order, name, body)
        status = answer.status if answer else None
        refund = answer.body.get("refund") if answer and status == 200 else None
        refunded = refund["amount"] if refund else None
        decided = answer is not None and status != 404 and is_decided(answer)
        return Done(
            _word(status), order, lambda books: model.cancelled(name, status, refunded, books, is_decided=decided)
        )

    def _rephrase(self, order: int, number: int) -> Done:
        """Another request under the same key."""
        names = [name for name, one in self._orders[order].requests.items() if one.status is not None]
        if not names:
            return Done(NOTHING)
        name = names[number % len(names)]
        body = {**self._bodies[order][name], "cancelReason": f"{REASON}."}
        headers = (("idempotency-key", f"{self.order_ids[order]}-{name}"),)
        answer = self._tell(Http("POST", self._cancel_url(order), body, headers))
        status = answer.status if answer else None

        def _judge(_: Known) -> Says:
            if status not in {422, None}:
                yield f"another request under the same key was answered {status}"

        return Done(_word(status), order, _judge)

    def _console(self, order: int, window: int, amount: int | str) -> Done:
        """Somebody cancels in the PG's console."""
        if (key := self._key(order, window)) is None:
            return Done(NOTHING)
        won = None if amount == ALL else int(amount)
        more = {} if won is None else {"amount": won}
        return self._act(order, key, "cancel", self._orders[order].cancel_by_hand(key, won), more)

    def _deposit(self, order: int, window: int) -> Done:
        if (key := self._key(order, window)) is None:
            return Done(NOTHING)
        return self._act(order, key, "deposit", self._orders[order].deposit(key, at=self._at))

    def _reverse(self, order: int, window: int) -> Done:
        if (key := self._key(order, window)) is None:
            return Done(NOTHING)
        return self._act(order, key, "reverse-deposit", self._orders[order].reverse(key))

    def _act(self, order: int, key: str, verb: str, expected: bool, more: Mapping[str, int] | None = None) -> Done:  # noqa: FBT001 - what the model said
        answer = self.case.pg.http.post(f"/sandbox/payments/{key}/{verb}", json=more or None)

        def _judge(_: Known) -> Says:
            if answer.is_success != expected:
                yield f"the PG answers {answer.status_code} to {verb}, and the model says {expected}"

        return Done("taken" if answer.is_success else "refused", order, _judge)

    def _elsewhere(self, order: int) -> Done:
        """Somebody captures money for the order at the PG itself."""
        if not self._orders[order].is_prepared:
            return Done(NOTHING)
        body = {"payments": [{"orderId": self.order_ids[order], "amount": AMOUNT}]}
        answer = self.case.pg.http.post("/sandbox/import", json=body).raise_for_status()
        self._orders[order].captured_elsewhere(answer.json()["payments"][0]["paymentKey"], at=self._at)
        return Done("taken")

    def _webhook(self, order: int, number: int, how: str) -> Done:
        """The PG tells what it had to tell at some moment: of now, or of long ago."""
        events = self._events[order]
        if not events:
            return Done(NOTHING)
        event = events[number % len(events)]
        is_stale = event.truth != self._orders[order].windows[event.shown["paymentKey"]].truth
        is_callback = how == "callback" and event.shown["secret"] is not None
        body = as_sent(deposit_callback(dict(event.shown))) if is_callback else event.body
        word = "again" if body in self._heard else "stale" if is_stale else "genuine"
        self._heard.add(body)
        return self._deliver(order, body, signed(body, WEBHOOK_SECRET) if how == "signed" else {}, word=word)

    def _forge(self, order: int, window: int, how: str) -> Done:
        """Somebody says that a payment is done, and it may not be."""
        key = self._key(order, window)
        body = as_sent(a_hint(self.order_ids[order], key if how != "stranger" else "nobody-knows-this-key"))
        headers = signed(body, "not-the-secret-of-anybody") if how == "signed" else {}
        return self._deliver(order, body, headers, word=how, expected=401 if headers else 200)

    def _deliver(self, order: int, body: bytes, proof: Mapping[str, str], *, word: str, expected: int = 200) -> Done:
        lines = (("content-type", "application/json"), *proof.items())
        answer = self._ask(WEBHOOK, order, str(hash(body)), Http("POST", "/webhook/toss", body, lines))
        status = answer.status if answer else None

        def _judge(_: Known) -> Says:
            if status not in {expected, None}:
                yield f"a webhook was answered {status}"

        return Done(word, order, _judge)

    def _fault(self, order: int, operation: str, kind: str, times: int) -> Done:
        """The next calls of this sort go wrong; a kind in capitals is a code that the PG answers."""
        more: dict[str, object] = {"code": kind} if kind.isupper() else {}
        name = "error_before_effect" if more else kind
        self.case.pg.arm(operation, name, orderId=self.order_ids[order], times=times, **more)
        return Done("armed")

    def _wait(self, seconds: int) -> Done:
        self._pass(timedelta(seconds=seconds))
        return Done(str(seconds))

    def _work(self) -> Done:
        return Done("done" if self._tell(Work()) else "died")

    def _night(self) -> Done:
        """The checks of a night, about the PG's present day."""
        return Done("done" if self._check(day_of(datetime.now(UTC) + self._at)) else "died")

    def _crash(self, point: str, turn: int, path: str) -> Done:
        """The process is replaced by one that will die at this point."""
        self._restart(path, Fault(point, Action.KILL, turn))
        return Done("armed")

    def _restart(self, path: str, fault: Fault | None = None) -> Done:
        self._end_life()
        self._path = path
        self._begin(fault)
        return Done(path)

    # What they are made of

    def _do(self, step: Step) -> None:
        try:
            done = self._verbs[step.verb](*step.arguments)
        except LifeFailed as error:
            raise Broken([Violation("I13", "-", str(error))]) from error
        self.tally[f"{step.verb}: {done.outcome}"] += 1
        found = list(self._compare(done))
        if found:
            raise Broken(found)

    def _compare(self, done: Done) -> Iterator[Violation]:
        shown: list[dict[str, Any]] = self.case.pg.http.get("/sandbox/payments").raise_for_status().json()
        books = books_of(shown, self.case.pg.ledger())
        if done.judge is not None:
            for says in done.judge(books.get(self.order_ids[done.order], {})):
                yield Violation(_MODEL, self.order_ids[done.order], says)
        for number, order_id in enumerate(self.order_ids):
            self._note_events(number, books.get(order_id, {}), [one for one in shown if one["orderId"] == order_id])
            for says in self._orders[number].moved(books.get(order_id, {}), at=self._at):
                yield Violation(_MODEL, order_id, says)
        yield from self._compare_ours()

    def _compare_ours(self) -> Iterator[Violation]:
        ours = {row["order_id"]: row for row in self._query(_OURS)}
        orders = []
        for number, order_id in enumerate(self.order_ids):
            row = ours.get(order_id)
            model = self._orders[number]
            for says in model.contradicts(_stands(row["payment"], row["strays"]) if row else Stands()):
                yield Violation(_MODEL, order_id, says)
            orders.append(self._in_motion(order_id, row or {}, model))
        yield from in_motion(Books(orders))

    def _in_motion(self, order_id: str, row: Row, model: Order) -> OrderBooks:
        """Of what happened past us we may not have heard yet."""
        held = [one for one in model.windows.values() if one.truth.holds and not one.is_imported]
        captures = [{"paymentKey": one.key, "amount": AMOUNT} for one in held]
        told = [one for one in self.told if one.order_id == order_id]
        history, refunds = row.get("history", []), row.get("refunds", [])
        return OrderBooks(order_id, row.get("payment"), history, refunds, captures=captures, told=told)

    def _note_events(self, order: int, books: Known, shown: Sequence[Mapping[str, Any]]) -> None:
        for one in shown:
            window = self._orders[order].windows[one["paymentKey"]]
            truth = books[window.key]
            last = next(
                (event.truth for event in reversed(self._events[order]) if event.shown["paymentKey"] == window.key),
                None,
            )
            if truth != last and truth.status is not At.IN_PROGRESS:
                self._events[order].append(Event(one, truth, as_sent(status_changed(dict(one)))))

    def _key(self, order: int, window: int) -> str | None:
        keys = list(self._orders[order].windows)
        return keys[window % len(keys)] if keys else None

    def _cancel_url(self, order: int) -> str:
        return f"/payments/orders/{self.order_ids[order]}/cancel"

    def _ask_to_confirm(self, order: int, key: str, amount: int) -> Answer | None:
        answer = self._tell(Http("POST", "/payments/confirm", confirm_body(key, self.order_ids[order], amount)))
        window = self._orders[order].windows.get(key)
        # An account is paid into, and the bank takes the money back: the same question is answered as it stands then.
        stands_as = _status_in(answer) if window is not None and window.is_account else ""
        self._note(CONFIRM, order, " ".join([key, str(amount), stands_as]), answer)
        return answer

    def _ask_to_cancel(self, order: int, name: str, body: Mapping[str, object]) -> Answer | None:
        headers = (("idempotency-key", f"{self.order_ids[order]}-{name}"),)
        return self._ask(CANCEL, order, name, Http("POST", self._cancel_url(order), body, headers))

    def _ask(self, what: str, order: int, name: str, request: Http) -> Answer | None:
        """Ask over HTTP, once."""
        answer = self._tell(request)
        self._note(what, order, name, answer)
        return answer

    def _note(self, what: str, order: int, name: str, answer: Answer | None) -> None:
        """Whoever is told that there is no such payment has learned nothing."""
        if answer is not None and answer.status is not None and answer.status != 404:
            body = answer.body
            if what == PREPARE:  # it repeats for the payment window what the buyer has typed
                body = {name: value for name, value in body.items() if name != "customerEmail"}
            self.told.append(Told(what, self.order_ids[order], name, answer.status, body))

    def _tell(self, errand: Errand) -> Answer | None:
        """Have a life of ours do something; None if it died of it."""
        life = self._life or self._begin(None)
        outcome = life.tell(errand)
        self.points.update(life.points)
        life.points.clear()
        if not isinstance(outcome, Stopped):
            return outcome
        self.tally["crash: struck"] += 1
        self._end_life()
        return None

    def _begin(self, fault: Fault | None) -> Life:
        self._life = Life(
            self.case.settings, self.app, log=self.log, hot=self._path == HOT, faults=[fault] if fault else []
        )
        return self._life

    def _end_life(self) -> None:
        if self._life is not None:
            self._life.end()
            self._life = None

    def _pass(self, by: timedelta) -> None:
        self.case.pass_time(by)
        self._at += by

    def _check(self, day: date) -> bool:
        """Another night: what was checked before is as long ago as it takes."""
        self._execute("DELETE FROM nightly_runs")
        return self._tell(Night(day)) is not None

    def _query(self, query: str) -> list[Row]:
        with self._connected().cursor(row_factory=dict_row) as cursor:
            return list(cursor.execute(query.encode()).fetchall())

    def _execute(self, query: str) -> None:
        self._connected().execute(query.encode())

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = self.case.connect()
        return self._connection

    # The end

    def _until_settled(self) -> Books:
        for pause in _PAUSES:
            self._pass(pause)
            self._do(Step("work"))
            if is_settled(books := self._books()):
                break
        return books

    def _books(self) -> Books:
        log = self.log.read_text(errors="replace") if self.log.exists() else ""
        pg, connection = self.case.pg, self._connected()
        return read_books(connection, pg, self.shop, self.order_ids, told=self.told, log=log)

    def _hear_of_the_pg(self) -> None:
        if self.program.ending == BY_WEBHOOKS:
            for order in range(len(self.order_ids)):
                for number in range(len(self._events[order])):
                    self._do(Step("webhook", (order, number, "signed")))
            return
        moved = self.case.pg.ledger()
        for day in sorted({str(one["at"])[:10] for found in moved.values() for one in found}):
            self._check(date.fromisoformat(day))

    def _ask_again(self) -> None:
        """Whoever asked for something asks until it is decided."""
        for order, model in enumerate(self._orders):
            for key in [window.key for window in model.windows.values() if window.is_asked]:
                self._until_decided(order, key, self._confirm_with)
            for name in list(self._bodies[order]):
                self._until_decided(order, name, self._cancel_as)

    def _until_decided(self, order: int, name: str, ask: Callable[[int, str], Done]) -> None:
        for _ in range(TRIES):
            found = list(self._compare(ask(order, name)))
            if found:
                raise Broken(found)
            told = [one for one in self.told if one.order_id == self.order_ids[order] and one.name.split()[0] == name]
            if not told or is_decided(Answer(told[-1].status, told[-1].body)):
                return
            self._pass(LEASES_ARE_OVER)
            self._do(Step("work"))

    def _differences(self, books: Books) -> Iterator[tuple[int, str]]:
        for number, one in enumerate(books.orders):
            stands = _stands(one.payment, one.strays) if one.payment else Stands()
            yield from ((number, says) for says in self._orders[number].differs(stands))

    def _known(self, one: OrderBooks) -> OrderBooks:
        """Without the deposits that the bank took back, and without what is none of ours."""
        windows = self._orders[self.order_ids.index(one.order_id)].windows
        gone = self._none_of_ours(one)
        kept: list[Row] = []
        back = Counter({key: window.truth.reversals for key, window in windows.items()})
        for capture in one.captures:
            key = capture["paymentKey"]
            if key not in gone and not back[key]:
                kept.append(capture)
            back[key] -= 1 if back[key] else 0
        cancels = [cancel for cancel in one.cancels if cancel["paymentKey"] not in gone]
        return replace(one, captures=kept, cancels=cancels)

    def _none_of_ours(self, one: OrderBooks) -> set[str]:
        """Keys of what was captured past us that a person was told of, or that somebody gave back as well."""
        windows = self._orders[self.order_ids.index(one.order_id)].windows.values()
        subjects = {row["subject"] for row in one.discrepancies if row["kind"] in _TOLD_A_PERSON}
        strays = {row["payment_key"] for row in one.strays}
        ours = one.payment["payment_key"] if one.payment else None
        past_us = [window for window in windows if window.is_imported and window.key not in {ours, *strays}]
        return {
            window.key
            for window in past_us
            if {one.order_id, f"{one.order_id}/{window.key}"} & subjects or not window.truth.balance(AMOUNT)
        }


def _stands(payment: Row, strays: Sequence[Row]) -> Stands:
    keys = frozenset(row["payment_key"] for row in strays)
    return Stands(payment["status"], payment["payment_key"], payment["refunded_amount"], keys)


def _status_in(answer: Answer | None) -> str:
    found = answer.body.get("status") if answer is not None and isinstance(answer.body, dict) else None
    return str(found or "")


def _word(status: int | None) -> str:
    return "died" if status is None else str(status)
