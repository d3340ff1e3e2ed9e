"""Reconcile: a business day in the PG's books is compared with ours, and only what the PG proves is mended."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments import discrepancies
from payments.business_day import bounds
from payments.db import Sessions, insist, transaction
from payments.errors import PgUnavailable
from payments.gateways.pg import (
    TELLING,
    Answer,
    Approved,
    Cancelled,
    Declined,
    DepositAwaited,
    PaymentGateway,
    PgPayment,
    PgStatus,
    PgTransaction,
    Unknown,
    UnknownBecause,
)
from payments.models import CURRENCY, Payment, Refund
from payments.nightly_queries import (
    Move,
    moves_between,
    noted_at,
    payments_of_keys,
    payments_of_orders,
    payments_with_moves,
    refunds_of_payments,
    strays_among,
)
from payments.queries import database_now, get_payment_to_change
from payments.records import DiscrepancyKind, Json
from payments.states import EVER_CAPTURED, Cause, PaymentStatus, RefundStatus
from payments.usecases.answers import MUST_NOT_HOLD_MORE, OPEN, Question, record, record_anew
from payments.usecases.refund_answers import as_theirs

log = structlog.get_logger()

# Our clock and the PG's, and the time between a capture and its recording, move what happens about midnight.
OVERLAP: Final = timedelta(hours=1)
PAGE: Final = 500  # payments that are compared at once
ASKED_AT_ONCE: Final = 10  # fewer than the calls that the PG's client lets through, so that buyers come first
RECORDED_AT_ONCE: Final = 4  # half of the database connections of a process

KEPT: Final = frozenset({PgStatus.DONE, PgStatus.PARTIAL_CANCELED})
MONEY: Final = KEPT | {PgStatus.CANCELED}
CONCERNING: Final = KEPT | {PgStatus.WAITING_FOR_DEPOSIT}  # there is money, or there may be soon

Listed = dict[str, list[PgTransaction]]  # by payment key, oldest first
Progress = Callable[[str, int], None]  # what was read, compared or asked about, and how many so far


@dataclass(frozen=True, slots=True)
class Cap:
    """How many payments one night may change; whatever would change more of them is more likely wrong than they are."""

    payments: int
    percent: int

    def of(self, compared: int) -> int:
        return max(self.payments, compared * self.percent // 100)


USUAL_CAP: Final = Cap(payments=20, percent=1)


@dataclass(frozen=True, slots=True)
class PgReport:
    """What came of one night's comparison."""

    day: date
    transactions: int  # of the day, in the PG's list
    compared: int  # payments, theirs and ours
    asked: int  # payments that were looked up, because the list and our books differ
    changes: int  # payments that what the PG proved would move, or give money back for
    repaired: int  # payments that it changed
    found: Mapping[DiscrepancyKind, int]
    stopped: bool  # it would have changed too many: nothing was changed and nothing noted
    seconds: int

    def as_json(self) -> dict[str, Json]:
        found: dict[str, Json] = {kind.value: count for kind, count in sorted(self.found.items())}
        return {
            "day": self.day.isoformat(),
            "transactions": self.transactions,
            "compared": self.compared,
            "asked": self.asked,
            "changes": self.changes,
            "repaired": self.repaired,
            "found": found,
            "stopped": self.stopped,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Suspect:
    """A payment of ours with which the PG's list does not agree, as it stood when they were compared."""

    order_id: str
    payment_key: str  # that the PG is asked about: ours, or another one under which the list shows this order
    amount: int  # won
    version: int
    status: PaymentStatus
    is_ours: bool  # whether the payment key is the one of the present attempt
    has_account: bool
    refund_keys: frozenset[str]
    is_given_back: bool  # what the PG holds under this key goes back already, as a stray
    rows: tuple[PgTransaction, ...]  # of the day, in the PG's list

    @property
    def question(self) -> Question:
        return Question(self.payment_key, self.version)


@dataclass(frozen=True, slots=True)
class Stranger:
    """What the PG captured for an order of which we know nothing."""

    order_id: str
    payment_key: str
    rows: tuple[PgTransaction, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of one suspect."""

    found: Counter[DiscrepancyKind]
    is_changed: bool


async def reconcile(
    day: date,
    *,
    sessions: Sessions,
    pg: PaymentGateway,
    cause: Cause,
    cap: Cap | None = USUAL_CAP,
    progress: Progress | None = None,
) -> PgReport:
    """Compare a business day in the PG's list with our payments and refunds, and the other way round.

    About whatever differs the PG is asked again, and that answer is recorded: the only repair there is. Doing it again
    changes nothing. When more than `cap` payments would be changed, nothing is: the report says `stopped`.

    Raises:
        PgUnavailable: the list could not be read to its end, so that nothing was done; or the PG did not answer about
            some payments, and what it said about the others is recorded.
    """
    started = time.monotonic()
    tell = progress or _tell_nobody
    since, until = bounds(day)
    listed = await _read_list(since - OVERLAP, until + OVERLAP, pg=pg, tell=tell)
    comparison = _Comparison(since, until, sessions, listed, tell)
    await comparison.compare_theirs()
    await comparison.compare_ours()
    asked = await _ask(list(comparison.suspects.values()), pg=pg, tell=tell)
    changes = sum(would_change(suspect, answer) for suspect, answer in asked)
    most = cap.of(len(comparison.compared)) if cap else len(asked)
    recorded: list[Recorded] = []
    if changes > most:
        await _call_a_person(day, changes=changes, most=most, sessions=sessions)
    else:
        recorded = await _record_all(
            asked, comparison.strangers, room=most - changes, cause=cause, sessions=sessions, pg=pg
        )
    report = PgReport(
        day=day,
        transactions=comparison.transactions,
        compared=len(comparison.compared),
        asked=len(asked),
        changes=changes,
        repaired=sum(one.is_changed for one in recorded),
        found=sum((one.found for one in recorded), Counter()),
        stopped=changes > most,
        seconds=round(time.monotonic() - started),
    )
    log.info("pg.reconciled", cause=cause.value, **report.as_json())
    return report


async def _call_a_person(day: date, *, changes: int, most: int, sessions: Sessions) -> None:
    """Either the PG's list or our books are wrong as a whole, which nobody can tell from inside."""
    async with transaction(sessions) as session:
        await discrepancies.note_subject(
            session,
            DiscrepancyKind.TOO_MANY_REPAIRS,
            f"reconcile/{day.isoformat()}",
            payment_id=None,
            ours={"most": most},
            theirs={"changes": changes},
            at=await database_now(session),
        )
    log.critical("reconcile.stopped", day=day.isoformat(), changes=changes, most=most)


def is_told(answer: Answer) -> bool:
    """Whether the PG has said how a payment stands, or that it does not know it."""
    return not isinstance(answer, Unknown) or answer.because in TELLING


def would_change(suspect: Suspect, answer: Answer) -> bool:
    """Whether recording this answer moves the payment or gives money back, as far as can be told before."""
    if isinstance(answer, Approved):
        return _adds_capture(suspect, answer.payment)
    return suspect.is_ours and _moves(suspect, answer)


def _adds_capture(suspect: Suspect, held: PgPayment) -> bool:
    if suspect.is_ours and suspect.status in EVER_CAPTURED:
        return _has_new_cancels(suspect, held)
    if suspect.status in MUST_NOT_HOLD_MORE:
        return not suspect.is_given_back and held.virtual_account is None and held.balance_amount > 0
    return suspect.is_ours or suspect.status is PaymentStatus.CREATED


def _moves(suspect: Suspect, answer: Answer) -> bool:
    is_open = suspect.status in OPEN
    match answer:
        case Cancelled(payment=held):
            is_reversal = suspect.has_account and not held.was_approved
            return is_open or (suspect.status in EVER_CAPTURED and (is_reversal or _has_new_cancels(suspect, held)))
        case DepositAwaited():
            return is_open or (suspect.status is PaymentStatus.COMPLETED and suspect.has_account)
        case _:
            return is_open and isinstance(answer, Declined)


def _has_new_cancels(suspect: Suspect, held: PgPayment) -> bool:
    return any(cancel.is_done and cancel.transaction_key not in suspect.refund_keys for cancel in held.cancels)


async def _read_list(since: datetime, until: datetime, *, pg: PaymentGateway, tell: Progress) -> Listed:
    """Read the PG's list to its end; a row that shows on two pages counts once."""
    rows: dict[str, PgTransaction] = {}
    after: str | None = None
    cursors: set[str] = set()
    while True:
        page = await pg.list_transactions(since, until, after=after)
        if isinstance(page, Unknown):
            log.error("reconcile.list_unread", because=page.because.value, pg_code=page.code)
            raise PgUnavailable
        rows |= {row.transaction_key: row for row in page.rows}
        tell("transactions", len(rows))
        after = page.next_after
        if after is None:
            break
        if after in cursors:  # following it would never end
            log.error("reconcile.list_repeated")
            raise PgUnavailable
        cursors.add(after)
    listed: Listed = {}
    for row in sorted(rows.values(), key=lambda row: row.at):
        listed.setdefault(row.payment_key, []).append(row)
    return listed


class _Comparison:
    """The PG's list of a day beside our books; what does not agree is a suspect, which nothing is concluded from."""

    def __init__(self, since: datetime, until: datetime, sessions: Sessions, listed: Listed, tell: Progress) -> None:
        self._since, self._until = since, until
        self._sessions = sessions
        self._listed = listed
        self._tell = tell
        # The hours around the day belong to other nights.
        rows_of_day = {key: tuple(row for row in rows if self._is_of_day(row.at)) for key, rows in listed.items()}
        self._rows = {key: rows for key, rows in rows_of_day.items() if rows}
        self._shown = {row.transaction_key for rows in listed.values() for row in rows}
        self.transactions = sum(len(rows) for rows in self._rows.values())
        self.compared: set[str] = set()
        self.suspects: dict[tuple[str, str], Suspect] = {}
        self.strangers: list[Stranger] = []

    async def compare_theirs(self) -> None:
        """What the PG shows, against what we hold."""
        keys = list(self._rows)
        for start in range(0, len(keys), PAGE):
            await self._compare_keys(keys[start : start + PAGE])
            self._tell("payments", len(self.compared))

    async def compare_ours(self) -> None:
        """What we completed and gave back, against what the PG shows."""
        after: Move | None = None
        while True:
            async with transaction(self._sessions) as session:
                page = await moves_between(session, self._since, self._until, after=after, limit=PAGE)
                payments = [
                    payment for payment, _ in await payments_with_moves(session, {one.payment_id for one in page})
                ]
                refunds = await refunds_of_payments(session, [payment.id for payment in payments])
                for payment in payments:
                    self._compare_payment(payment, refunds.get(payment.id, []))
            if not page:
                return
            after = page[-1]
            self._tell("payments", len(self.compared))

    async def _compare_keys(self, keys: Sequence[str]) -> None:
        async with transaction(self._sessions) as session:
            by_key = await payments_of_keys(session, keys)
            of_orders = await payments_of_orders(session, {self._rows[key][0].order_id for key in keys})
            by_order = {payment.order_id: payment for payment, _ in of_orders}
            refunds = await refunds_of_payments(
                session, {payment.id for payment in (*by_key.values(), *by_order.values())}
            )
            strays = await strays_among(session, keys)
            for key in keys:
                concerned = _concerned(by_key.get(key), by_order.get(self._rows[key][0].order_id))
                for payment in concerned:
                    self._compare_rows(payment, key, refunds.get(payment.id, []), is_given_back=key in strays)
                if not concerned:
                    self._meet_stranger(key)
        self.compared |= set(keys)

    def _meet_stranger(self, key: str) -> None:
        rows = self._rows[key]
        # What was cancelled wholly, or never paid, took nothing from anybody.
        if any(row.status in KEPT for row in rows):
            self.strangers.append(Stranger(rows[-1].order_id, key, rows))

    def _compare_rows(self, payment: Payment, key: str, refunds: Sequence[Refund], *, is_given_back: bool) -> None:
        rows = self._rows[key]
        if payment.payment_key != key:
            agrees = not any(row.status in CONCERNING for row in rows)
        elif payment.status in EVER_CAPTURED:
            agrees = all(_agrees(row, payment, refunds) for row in rows) and not self._is_taken_back(payment, key)
        elif payment.status in OPEN:
            agrees = payment.status.value == rows[-1].status.value  # both wait for the deposit
        else:
            agrees = not any(row.status in CONCERNING for row in rows)
        if not agrees:
            self._suspect(payment, key, refunds, is_given_back=is_given_back)

    def _compare_payment(self, payment: Payment, refunds: Sequence[Refund]) -> None:
        if payment.status not in EVER_CAPTURED or payment.payment_key is None or payment.completed_at is None:
            return
        self.compared.add(payment.payment_key)
        shows_capture = any(row.status in MONEY for row in self._listed.get(payment.payment_key, ()))
        is_missing = self._is_of_day(payment.completed_at) and not shows_capture
        if is_missing or any(self._is_missing(refund) for refund in refunds):
            self._suspect(payment, payment.payment_key, refunds, is_given_back=False)

    def _is_missing(self, refund: Refund) -> bool:
        is_of_day = refund.completed_at is not None and self._is_of_day(refund.completed_at)
        return refund.status is RefundStatus.SUCCEEDED and is_of_day and refund.transaction_key not in self._shown

    def _is_taken_back(self, payment: Payment, key: str) -> bool:
        """Whether the account waits again, although we saw its deposit before that."""
        newest = self._listed[key][-1]
        is_waiting = newest.status is PgStatus.WAITING_FOR_DEPOSIT
        return is_waiting and (payment.approved_at is None or newest.at > payment.approved_at)

    def _is_of_day(self, at: datetime) -> bool:
        return self._since <= at < self._until

    def _suspect(self, payment: Payment, key: str, refunds: Sequence[Refund], *, is_given_back: bool) -> None:
        self.suspects[payment.order_id, key] = Suspect(
            order_id=payment.order_id,
            payment_key=key,
            amount=payment.amount,
            version=payment.version,
            status=payment.status,
            is_ours=payment.payment_key == key,
            has_account=payment.has_account,
            refund_keys=frozenset(refund.transaction_key for refund in refunds if refund.transaction_key),
            is_given_back=is_given_back,
            rows=self._rows.get(key, ()),
        )


def _concerned(holder: Payment | None, owner: Payment | None) -> list[Payment]:
    """Whose books a payment key in the list must agree with: of who has, or had, it here, and the order that it shows.

    Who had another order's key confirmed, in vain, has nothing to do with what comes of it.
    """
    if holder is not None and owner is not None and holder is not owner and holder.status not in OPEN | EVER_CAPTURED:
        return [owner]
    return list(dict.fromkeys(one for one in (holder, owner) if one is not None))


def _agrees(row: PgTransaction, payment: Payment, refunds: Sequence[Refund]) -> bool:
    """Whether a row about a captured payment is exactly what we have recorded."""
    if row.status not in MONEY:
        return True
    known = {refund.transaction_key: refund.amount for refund in refunds}
    is_capture = row.status is PgStatus.DONE and row.amount == payment.amount
    is_known = known[row.transaction_key] == row.amount if row.transaction_key in known else is_capture
    return is_known and row.order_id == payment.order_id and row.currency == CURRENCY


async def _ask(suspects: Sequence[Suspect], *, pg: PaymentGateway, tell: Progress) -> list[tuple[Suspect, Answer]]:
    answers: list[Answer] = []
    for start in range(0, len(suspects), ASKED_AT_ONCE):
        some = suspects[start : start + ASKED_AT_ONCE]
        answers += await asyncio.gather(*(_look_up(one, pg=pg) for one in some))
        tell("differences", len(answers))
    return list(zip(suspects, answers, strict=True))


async def _look_up(one: Suspect, *, pg: PaymentGateway) -> Answer:
    return await pg.look_up(one.payment_key, order_id=one.order_id, amount=one.amount)


async def _record_all(
    asked: Sequence[tuple[Suspect, Answer]],
    strangers: Sequence[Stranger],
    *,
    room: int,
    cause: Cause,
    sessions: Sessions,
    pg: PaymentGateway,
) -> list[Recorded]:
    """Record what the PG said, and what it holds for strangers; `room` more payments may be changed.

    Raises:
        PgUnavailable: the PG did not answer about some; if these could be too many, nothing is recorded.
    """
    told = [(suspect, answer) for suspect, answer in asked if is_told(answer)]
    unanswered = len(asked) - len(told)
    recorded: list[Recorded] = []
    if unanswered <= room:
        works: list[Callable[[], Awaitable[Recorded]]] = [
            partial(_record_answer, suspect, answer, cause=cause, sessions=sessions, pg=pg) for suspect, answer in told
        ]
        works += [partial(_meet, stranger, sessions=sessions) for stranger in strangers]
        recorded = await _do_all(works)
    if unanswered:
        log.error("reconcile.unanswered", payments=unanswered)
        raise PgUnavailable
    return recorded


async def _do_all(works: Sequence[Callable[[], Awaitable[Recorded]]]) -> list[Recorded]:
    """Do everything, a few at a time; one that fails does not stop the others.

    Raises:
        Exception: the first one of what went wrong, when all is done.
    """
    outcomes: list[Recorded | BaseException] = []
    for start in range(0, len(works), RECORDED_AT_ONCE):
        batch = works[start : start + RECORDED_AT_ONCE]
        outcomes += await asyncio.gather(*(insist(work) for work in batch), return_exceptions=True)
    recorded = [outcome for outcome in outcomes if isinstance(outcome, Recorded)]
    for failure in outcomes:
        if isinstance(failure, BaseException):
            log.error("reconcile.not_recorded", payments=len(outcomes) - len(recorded), error=type(failure).__name__)
            raise failure
    return recorded


async def _record_answer(
    suspect: Suspect, answer: Answer, *, cause: Cause, sessions: Sessions, pg: PaymentGateway
) -> Recorded:
    return await record_anew(
        answer,
        suspect.question,
        ask=lambda: _look_up(suspect, pg=pg),
        write=lambda answer, question: _record(suspect, answer, question, cause=cause, sessions=sessions),
    )


async def _record(
    suspect: Suspect, answer: Answer, question: Question, *, cause: Cause, sessions: Sessions
) -> Recorded:
    if not is_told(answer):
        raise PgUnavailable  # when it was asked once more
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, suspect.order_id)
        before = await _stand(session, payment, suspect)
        if not isinstance(answer, Unknown) or answer.because is UnknownBecause.MISMATCH:
            await record(session, payment, answer, question=question, cause=cause, at=now)
        await _note_rest(session, payment, suspect, answer, at=now)
        found = await noted_at(session, payment.id, now)
        return Recorded(found, is_changed=await _stand(session, payment, suspect) != before)


async def _stand(session: AsyncSession, payment: Payment, suspect: Suspect) -> tuple[PaymentStatus, int, bool]:
    is_given_back = bool(await strays_among(session, [suspect.payment_key]))
    return payment.status, payment.refunded_amount, is_given_back


async def _note_rest(
    session: AsyncSession, payment: Payment, suspect: Suspect, answer: Answer, *, at: datetime
) -> None:
    """What `record` cannot know: that the PG's list says otherwise than its look-up, or than our books."""
    is_ours = payment.payment_key == suspect.payment_key
    subject = payment.order_id if is_ours else f"{payment.order_id}/{suspect.payment_key}"
    kind, theirs = DiscrepancyKind.AMOUNT_DIFFERS_AT_PG, _listed(suspect.rows)
    match answer:
        case Unknown(because=UnknownBecause.MISMATCH, payment=PgPayment() as held) if not is_ours:
            theirs = as_theirs(held)
        case Unknown(because=UnknownBecause.NOT_FOUND | UnknownBecause.IN_PROGRESS, payment=held, code=code):
            was_captured = is_ours and suspect.status in EVER_CAPTURED and payment.status in EVER_CAPTURED
            if not was_captured and not any(row.status in KEPT for row in suspect.rows):
                return
            kind = (
                DiscrepancyKind.COMPLETED_HERE_NOT_AT_PG if was_captured else DiscrepancyKind.CAPTURED_BUT_UNKNOWN_HERE
            )
            subject = payment.order_id if was_captured else f"{payment.order_id}/{suspect.payment_key}"
            theirs = {"answer": code or "unknown", **(as_theirs(held) if held else {}), **theirs}
        case Approved(payment=held) | Cancelled(payment=held) if not _fits(suspect.rows, held):
            theirs = {**as_theirs(held), **theirs}
        case _:
            return
    await discrepancies.note(session, kind, payment, subject=subject, theirs=theirs, at=at)


def _fits(rows: Sequence[PgTransaction], held: PgPayment) -> bool:
    """Whether the PG's list shows the amounts that its look-up does."""
    given_back = {cancel.transaction_key: cancel.amount for cancel in held.cancels}
    return all(
        row.amount == given_back.get(row.transaction_key, held.total_amount) and row.currency == held.currency
        for row in rows
        if row.status in MONEY
    )


def _listed(rows: Sequence[PgTransaction]) -> dict[str, Json]:
    listed: list[Json] = [
        {"orderId": row.order_id, "status": row.status.value, "amount": row.amount, "currency": row.currency}
        for row in rows
    ]
    return {"listed": listed}


async def _meet(stranger: Stranger, *, sessions: Sessions) -> Recorded:
    async with transaction(sessions) as session:
        now = await database_now(session)
        known = await payments_of_keys(session, [stranger.payment_key])
        if known or await payments_of_orders(session, [stranger.order_id]):
            return Recorded(Counter(), is_changed=False)  # it was prepared here in the meantime
        kind = DiscrepancyKind.CAPTURED_BUT_UNKNOWN_HERE
        subject = f"{stranger.order_id}/{stranger.payment_key}"
        ours: dict[str, Json] = {"status": None}
        theirs = _listed(stranger.rows)
        await discrepancies.note_subject(session, kind, subject, payment_id=None, ours=ours, theirs=theirs, at=now)
        return Recorded(Counter([kind]), is_changed=False)


def _tell_nobody(_what: str, _count: int) -> None:
    """Nobody watches."""
