"""Recover: what is not decided, and what may change at the PG by itself, is asked about until the PG has said it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments import discrepancies
from payments.db import Sessions, race, transaction
from payments.gateways.pg import TELLING, Answer, Declined, PaymentGateway, Unknown, UnknownBecause
from payments.hot_path import Held, HotPath
from payments.leases import Lease
from payments.models import Payment
from payments.queries import claim_pending, claim_unresolved, claim_watched, database_now, get_payment_to_change
from payments.records import DiscrepancyKind, Json
from payments.states import Cause, PaymentStatus
from payments.usecases import give_up
from payments.usecases.answers import Question, record, record_anew, record_at_once
from payments.usecases.promises import GIVE_UP_AFTER, OpenCancel, open_cancel

log = structlog.get_logger()

# How long Toss keeps an authenticated payment confirmable
# (https://docs.tosspayments.com/reference/using-api/webhook-events).
CONFIRM_WINDOW: Final = timedelta(minutes=10)
ABSENCE_MARGIN: Final = timedelta(minutes=5)  # what may still be under way when the window closes
KEY_OF_ANOTHER_ORDER: Final = "KEY_OF_ANOTHER_ORDER"  # ours: Toss has no code for a payment key that others confirmed
AT_ONCE: Final = 20  # by one command; fewer than the calls that the PG's client lets through


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A payment that this worker holds until its lease ends; what is needed to ask about it."""

    order_id: str
    payment_key: str
    confirm_key: str = field(repr=False)
    amount: int
    age: timedelta  # since the confirm began, by the database's clock
    version: int
    held: Held | None = None  # where the hot path claimed it

    @property
    def question(self) -> Question:
        return Question(self.payment_key, self.version)


@dataclass(frozen=True, slots=True)
class Watched:
    """A payment that is not PENDING and is looked at all the same; held by this worker until its lease ends."""

    order_id: str
    payment_key: str
    amount: int
    version: int
    cancel: OpenCancel | None


Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What came of asking about one payment; the amount in won."""

    order_id: str
    amount: int
    status: PaymentStatus
    code: str | None  # of the PG's refusal, or of what went wrong here
    age: timedelta  # since the confirm began


async def claim_due(*, sessions: Sessions, hot: HotPath | None, lease: Lease, limit: int) -> Sequence[Unresolved]:
    """Take up to `limit` payments whose outcome is due to be asked for, away from every other worker.

    `lease` must be longer than the PG's deadlines for a look-up and a confirm together.
    """
    if hot is not None:
        claimed = await hot.claim_unresolved(lease=lease, limit=limit)
        return [_unresolved(held.payment, now=held.clock.told, held=held) for held in claimed]
    async with transaction(sessions) as session:
        now = await database_now(session)
        due = await claim_unresolved(session, now=now, lease=lease, limit=limit)
        return [_unresolved(payment, now=now) for payment in due]


async def claim_due_watches(*, sessions: Sessions, lease: Lease, limit: int) -> Sequence[Watched]:
    """The same for payments that are decided and may change at the PG by themselves."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        due = await claim_watched(session, now=now, lease=lease, limit=limit)
        return [_watched(payment) for payment in due]


async def recover(*, sessions: Sessions, hot: HotPath | None, pg: PaymentGateway, lease: Lease, limit: int = 50) -> int:
    """Ask about the payments that are due, at most `limit`; answers how many were decided.

    Any number of workers may do this at once. A worker that dies gives its payments back.
    """
    claimed = await claim_due(sessions=sessions, hot=hot, lease=lease, limit=limit)
    outcomes = await asyncio.gather(*(resolve(one, sessions=sessions, hot=hot, pg=pg) for one in claimed))
    return sum(outcome.status is not PaymentStatus.PENDING for outcome in outcomes)


async def recover_all(
    *, sessions: Sessions, pg: PaymentGateway, lease: Lease, limit: int, progress: Progress | None = None
) -> Sequence[Recovered]:
    """Ask about every payment whose outcome is unknown, now, for an operator; at most `limit`, oldest first.

    What somebody else is working on at this moment is left to them. `progress` is told how many of how many have been
    asked about.
    """
    async with transaction(sessions) as session:
        now = await database_now(session)
        claimed = [_unresolved(one, now=now) for one in await claim_pending(session, now=now, lease=lease, limit=limit)]
    recovered: list[Recovered] = []
    for start in range(0, len(claimed), AT_ONCE):
        batch = claimed[start : start + AT_ONCE]
        recovered += await asyncio.gather(*(resolve(one, sessions=sessions, hot=None, pg=pg) for one in batch))
        if progress is not None:
            progress(len(recovered), len(claimed))
    return recovered


async def watch(*, sessions: Sessions, pg: PaymentGateway, lease: Lease, every: timedelta, limit: int = 50) -> int:
    """Look at the virtual accounts that may have been paid into, or whose money the bank took or sent back.

    Each is looked at again after `every`, until nothing can change any more. Keeps promises to give accounts up that
    are still open. Answers how many were looked at. Any number of workers may do this at once.
    """
    claimed = await claim_due_watches(sessions=sessions, lease=lease, limit=limit)
    await asyncio.gather(*(look_at(one, every=every, sessions=sessions, pg=pg) for one in claimed))
    return len(claimed)


async def look_at(one: Watched, *, every: timedelta, sessions: Sessions, pg: PaymentGateway) -> None:
    """Look at one payment that was claimed. Never raises: it comes back when its lease ends."""
    try:
        await _look_at(one, every=every, sessions=sessions, pg=pg)
    except Exception as error:  # one bad row never stops the others
        log.exception("recovery.failed", order_id=one.order_id, error=type(error).__name__)


async def resolve(one: Unresolved, *, sessions: Sessions, hot: HotPath | None, pg: PaymentGateway) -> Recovered:
    """Ask about one payment that was claimed. Never raises: it comes back when its lease ends."""
    try:
        payment = await _resolve(one, sessions=sessions, hot=hot, pg=pg)
    except Exception as error:  # one bad row never stops the others
        log.exception("recovery.failed", order_id=one.order_id, error=type(error).__name__)
        return Recovered(one.order_id, one.amount, PaymentStatus.PENDING, type(error).__name__, one.age)
    return Recovered(one.order_id, one.amount, payment.status, payment.fail_code, one.age)


async def _look_at(one: Watched, *, every: timedelta, sessions: Sessions, pg: PaymentGateway) -> None:
    if one.cancel is not None:
        await give_up.carry_out(one.cancel, cause=Cause.RECOVERY, sessions=sessions, pg=pg)
        return
    await record_anew(
        await _look_up(one, pg=pg),
        Question(one.payment_key, one.version),
        ask=lambda: _look_up(one, pg=pg),
        write=lambda answer, question: race(
            lambda: _record_watched(one, answer, question, every=every, sessions=sessions)
        ),
    )


async def _record_watched(
    one: Watched, answer: Answer, question: Question, *, every: timedelta, sessions: Sessions
) -> None:
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, one.order_id)
        payment.watch(every=every, at=now)  # first, so that what the answer plans stands
        await record(session, payment, answer, question=question, cause=Cause.RECOVERY, at=now)
        if isinstance(answer, Unknown) and answer.because not in TELLING and payment.next_check_at is None:
            payment.check_later(at=now, not_before=answer.retry_after)  # somebody wanted to know it


async def _resolve(one: Unresolved, *, sessions: Sessions, hot: HotPath | None, pg: PaymentGateway) -> Payment:
    answer = await _ask(one, pg=pg)
    if hot and one.held and (at_once := await record_at_once(one.held, answer, cause=Cause.RECOVERY, hot=hot)):
        return at_once
    return await record_anew(
        answer,
        one.question,
        ask=lambda: _look_up(one, pg=pg),
        write=lambda answer, question: race(lambda: _record(one, answer, question, sessions=sessions)),
    )


async def _look_up(one: Unresolved | Watched, *, pg: PaymentGateway) -> Answer:
    return await pg.look_up(one.payment_key, order_id=one.order_id, amount=one.amount)


async def _record(one: Unresolved, answer: Answer, question: Question, *, sessions: Sessions) -> Payment:
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, one.order_id)
        await record(session, payment, answer, question=question, cause=Cause.RECOVERY, at=now)
        if payment.status is PaymentStatus.PENDING and one.age >= GIVE_UP_AFTER:
            await _call_a_person(session, payment, at=now)
    return payment


async def _ask(one: Unresolved, *, pg: PaymentGateway) -> Answer:
    answer = await _look_up(one, pg=pg)
    if not isinstance(answer, Unknown):
        return answer
    if answer.because is UnknownBecause.IN_PROGRESS and one.age < CONFIRM_WINDOW:
        # The buyer authenticated and we promised to confirm: the same key makes sure that it happens once.
        return await pg.confirm(
            one.payment_key, order_id=one.order_id, amount=one.amount, idempotency_key=one.confirm_key
        )
    if one.age < CONFIRM_WINDOW + ABSENCE_MARGIN:
        return answer
    if answer.because is UnknownBecause.NOT_FOUND:
        # Nothing that the PG does not know any more, or never knew, can be captured under this key.
        return Declined(answer.code or "NOT_FOUND_PAYMENT", answer.message or "존재하지 않는 결제 정보 입니다.")
    if _shows_another_order(answer, one) and await _took_nothing(one, pg=pg):
        return Declined(KEY_OF_ANOTHER_ORDER, "다른 주문의 결제입니다.")
    return answer


def _shows_another_order(answer: Unknown, one: Unresolved) -> bool:
    """Whether the PG says of this payment key, which belongs to one order for good, that it is another one's."""
    shown = answer.payment
    return shown is not None and shown.payment_key == one.payment_key and shown.order_id != one.order_id


async def _took_nothing(one: Unresolved, *, pg: PaymentGateway) -> bool:
    """Whether the PG, asked for the order itself, does not show it under this payment key: two answers that agree."""
    answer = await pg.look_up_order(one.order_id, amount=one.amount)
    if isinstance(answer, Unknown) and answer.because is not UnknownBecause.IN_PROGRESS:
        return answer.because is UnknownBecause.NOT_FOUND
    return answer.payment is not None and answer.payment.payment_key != one.payment_key


async def _call_a_person(session: AsyncSession, payment: Payment, *, at: datetime) -> None:
    theirs: dict[str, Json] = {"answer": "unknown"}
    await discrepancies.note(session, DiscrepancyKind.UNRESOLVED_24H, payment, theirs=theirs, at=at)


def _unresolved(payment: Payment, *, now: datetime, held: Held | None = None) -> Unresolved:
    if payment.payment_key is None or payment.confirm_key is None or payment.pending_since is None:
        raise AssertionError("a PENDING payment has its keys; the database checks it")
    return Unresolved(
        order_id=payment.order_id,
        payment_key=payment.payment_key,
        confirm_key=payment.confirm_key,
        amount=payment.amount,
        age=now - payment.pending_since,
        version=payment.version,
        held=held,
    )


def _watched(payment: Payment) -> Watched:
    if payment.payment_key is None:
        raise AssertionError("what is watched at the PG has its key")
    return Watched(payment.order_id, payment.payment_key, payment.amount, payment.version, open_cancel(payment))
