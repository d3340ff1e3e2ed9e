"""Work on webhooks: what the PG itself says about the payment of an event is recorded, never what the event says."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments import discrepancies, inbox
from payments.db import Sessions, race, transaction
from payments.errors import ConcurrentUpdate, Unavailable
from payments.gateways.pg import Answer, PaymentGateway, Unknown, UnknownBecause
from payments.inbox import Due, Held, Subject
from payments.queries import database_now, get_payment_to_change
from payments.records import DiscrepancyKind, WebhookOutcome
from payments.states import EVER_CAPTURED, Cause
from payments.usecases.answers import OPEN, Question, record, record_anew
from payments.usecases.receive_webhook import ACTED_ON

log = structlog.get_logger()

# So many are looked through in one round that a flood of them about one payment costs one question to the PG.
WINDOW: Final = 5_000
LEASE: Final = timedelta(seconds=30)  # longer than a look-up takes

# How often the PG is asked about one payment because of webhooks: anybody can send one that proves nothing.
PACE_OF_HINTS: Final = timedelta(seconds=3)
PACE_OF_PROVEN: Final = timedelta(seconds=1)

# When the PG is asked again that did not answer; together a little more than a day.
PAUSES: Final = (
    *(timedelta(seconds=2), timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15)),
    *(timedelta(hours=1),) * 24,
)
MOST_QUESTIONS: Final = len(PAUSES) + 1
MOST_FAILURES: Final = 10  # of our own, which more tries will hardly mend


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One question to the PG, and the events that ask it."""

    subject: Subject  # as it stood before the PG is asked
    payment_key: str | None  # None: nobody has named one yet
    webhook_ids: Sequence[UUID]
    is_verified: bool

    @property
    def is_about_present_key(self) -> bool:
        return self.payment_key == self.subject.payment_key

    @property
    def must_be_known_to_pg(self) -> bool:
        """Whether the PG has shown this payment before, or was asked for its money."""
        is_asked_for = self.subject.status in OPEN | EVER_CAPTURED
        return self.payment_key is not None and self.is_about_present_key and is_asked_for

    @property
    def pace(self) -> timedelta:
        return PACE_OF_PROVEN if self.is_verified else PACE_OF_HINTS


@dataclass(frozen=True, slots=True)
class Claim:
    """What one worker has taken in one round."""

    inquiries: Sequence[Inquiry]
    asked_at: datetime
    dismissed: int  # events that the PG need not be asked about


async def work_webhooks(*, sessions: Sessions, pg: PaymentGateway, limit: int = 50) -> int:
    """Work on the events that are due, with at most `limit` questions to the PG; answers how many events were taken.

    Any number of workers may do this at once. Events about the same payment and key share one question, and no
    payment is asked about more often than its pace allows: what comes earlier waits. A worker that dies gives its
    events back when their lease ends.
    """
    claim = await _claim(sessions=sessions, limit=limit)
    outcomes = await asyncio.gather(
        *(_work(one, asked_at=claim.asked_at, sessions=sessions, pg=pg) for one in claim.inquiries),
        return_exceptions=True,
    )
    for one, outcome in zip(claim.inquiries, outcomes, strict=True):
        if isinstance(outcome, BaseException):  # one that fails never stops the others; its lease ends, and it is back
            log.error("webhook.left", order_id=one.subject.order_id, error=type(outcome).__name__, exc_info=outcome)
    return claim.dismissed + sum(len(one.webhook_ids) for one in claim.inquiries)


async def replay_webhooks(*, sessions: Sessions, webhook_id: UUID | None, parked_only: bool) -> int:
    """Let one event, or all, be worked on once more, whatever came of them; answers how many.

    Harmless however often it is done: what the PG says now is recorded, not what the events say.
    """
    async with transaction(sessions) as session:
        replayed = await inbox.replay(session, webhook_id, parked_only=parked_only)
    log.info("webhook.replayed", count=replayed)
    return replayed


async def _claim(*, sessions: Sessions, limit: int) -> Claim:
    async with transaction(sessions) as session:
        now = await database_now(session)
        if not await inbox.take_turn(session):
            return Claim((), now, dismissed=0)  # another worker is at it
        waiting = await inbox.due(session, now=now, limit=WINDOW)
        about_ours = await _dismiss_others(session, waiting, at=now)
        inquiries = await _inquiries(session, about_ours)
        taken = await _take(session, inquiries, limit=limit, now=now)
        return Claim(taken, now, dismissed=len(waiting) - len(about_ours))


async def _dismiss_others(session: AsyncSession, waiting: Sequence[Due], *, at: datetime) -> Sequence[Due]:
    """Be done with what nothing follows from; what is left is about payments of ours."""
    ignored = [one for one in waiting if one.event_type not in ACTED_ON]
    orphans = [one for one in waiting if one.event_type in ACTED_ON and one.payment_id is None]
    for outcome, found in ((WebhookOutcome.IGNORED, ignored), (WebhookOutcome.ORPHAN, orphans)):
        if found:
            await inbox.dismiss(session, [one.webhook_id for one in found], outcome, at=at)
    for one in orphans:
        if one.contradicts_itself:
            log.warning("webhook.contradicts_itself", webhook_id=str(one.webhook_id))
    if orphans:
        log.warning("webhook.orphaned", count=len(orphans))
    return [one for one in waiting if one.event_type in ACTED_ON and one.payment_id is not None]


async def _inquiries(session: AsyncSession, about_ours: Sequence[Due]) -> Mapping[str, Sequence[Inquiry]]:
    """What there is to ask, by order, in the order in which it is to be asked."""
    subjects = await inbox.subjects(session, {one.payment_id for one in about_ours if one.payment_id is not None})
    grouped: dict[tuple[UUID, str | None], list[Due]] = defaultdict(list)
    for one in about_ours:
        if one.payment_id is not None and (subject := subjects.get(one.payment_id)):
            grouped[subject.payment_id, one.payment_key or subject.payment_key].append(one)
    found: dict[str, list[Inquiry]] = defaultdict(list)
    for (payment_id, payment_key), events in grouped.items():
        ids = [one.webhook_id for one in events]
        is_verified = any(one.is_verified for one in events)
        inquiry = Inquiry(subjects[payment_id], payment_key, ids, is_verified)
        found[inquiry.subject.order_id].append(inquiry)
    return {order_id: sorted(inquiries, key=_precedence) for order_id, inquiries in found.items()}


def _precedence(inquiry: Inquiry) -> tuple[bool, bool]:
    """Who sends hints about keys that nobody knows does not keep the others waiting."""
    return not inquiry.is_verified, not inquiry.is_about_present_key


async def _take(
    session: AsyncSession, inquiries: Mapping[str, Sequence[Inquiry]], *, limit: int, now: datetime
) -> Sequence[Inquiry]:
    """Hold what is asked now, one question about each payment at most, and give the others their time."""
    last = await inbox.looked_up(session, inquiries.keys(), since=now - PACE_OF_HINTS)
    taken: list[Inquiry] = []
    for order_id, waiting in inquiries.items():
        is_free = order_id not in last or last[order_id] + waiting[0].pace <= now
        if is_free and len(taken) == limit:
            continue  # due as before, in the next round
        if is_free:
            held = Held(order_id, asked_at=now)
            await inbox.hold(session, waiting[0].webhook_ids, held, until=now + LEASE)
            taken.append(waiting[0])
        later, since = (waiting[1:], now) if is_free else (waiting, last[order_id])
        for number, one in enumerate(later, start=1):  # one after the other, so that they do not all come back together
            await inbox.postpone(session, one.webhook_ids, until=since + number * waiting[0].pace)
    return taken


async def _work(one: Inquiry, *, asked_at: datetime, sessions: Sessions, pg: PaymentGateway) -> None:
    held = Held(one.subject.order_id, asked_at)
    try:
        answer = await _ask(one.subject, one.payment_key, pg=pg)
        question = Question(one.payment_key or _key_of(answer), one.subject.version)
        await record_anew(
            answer,
            question,
            ask=lambda: _ask(one.subject, question.payment_key, pg=pg),
            write=lambda answer, question: race(lambda: _record(one, answer, held, question, sessions=sessions)),
        )
    except (ConcurrentUpdate, Unavailable):
        raise  # nothing is wrong with it
    except Exception as error:
        log.exception("webhook.failed", order_id=one.subject.order_id, error=type(error).__name__)
        async with transaction(sessions) as session:
            await _try_again(session, one, held, error=type(error).__name__, most=MOST_FAILURES)


async def _ask(subject: Subject, payment_key: str | None, *, pg: PaymentGateway) -> Answer:
    if payment_key is None:
        return await pg.look_up_order(subject.order_id, amount=subject.amount)
    return await pg.look_up(payment_key, order_id=subject.order_id, amount=subject.amount)


async def _record(one: Inquiry, answer: Answer, held: Held, question: Question, *, sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await _apply(session, one, answer, held, question=question)


async def _apply(session: AsyncSession, one: Inquiry, answer: Answer, held: Held, *, question: Question) -> None:
    """What is unknown stays with the confirm or the recovery that owns the payment: they plan their own questions."""
    order_id = one.subject.order_id
    match answer:
        case Unknown(because=UnknownBecause.IN_PROGRESS):
            await _settle(session, held, WebhookOutcome.RECORDED)
        case Unknown(because=UnknownBecause.NOT_FOUND) if not one.must_be_known_to_pg:
            log.warning("webhook.key_unknown_to_pg", order_id=order_id)  # forged, or meant for another merchant
            await _settle(session, held, WebhookOutcome.ORPHAN)
        case Unknown(because=because, retry_after=retry_after) if because is not UnknownBecause.MISMATCH:
            error = f"unknown: {because.value}"
            await _try_again(session, one, held, error=error, most=MOST_QUESTIONS, retry_after=retry_after)
        case _:
            payment, now = await get_payment_to_change(session, order_id)
            await record(session, payment, answer, question=question, cause=Cause.WEBHOOK, at=now)
            await inbox.settle(session, held, WebhookOutcome.RECORDED, at=now)
            log.info("webhook.recorded", order_id=order_id, events=len(one.webhook_ids))


def _key_of(answer: Answer) -> str:
    """The payment that the PG showed when it was asked about the order alone."""
    return answer.payment.payment_key if answer.payment else ""


async def _settle(session: AsyncSession, held: Held, outcome: WebhookOutcome) -> None:
    await inbox.settle(session, held, outcome, at=await database_now(session))


async def _try_again(
    session: AsyncSession, one: Inquiry, held: Held, *, error: str, most: int, retry_after: timedelta | None = None
) -> None:
    now = await database_now(session)
    spread = 1 + random.random() / 5  # noqa: S311 - a thousand events of one outage do not come back in one second
    pauses = [pause * spread for pause in PAUSES]
    not_before = retry_after or timedelta()
    parked = await inbox.try_again(session, held, error=error, pauses=pauses, not_before=not_before, most=most, at=now)
    log.warning("webhook.not_processed", order_id=held.order_id, error=error, parked=len(parked))
    if parked:
        await discrepancies.note_subject(
            session,
            DiscrepancyKind.WEBHOOK_NOT_PROCESSED,
            f"{held.order_id}/{parked[0]}",
            payment_id=one.subject.payment_id,
            ours={"webhooks": [str(webhook_id) for webhook_id in parked]},
            theirs={"error": error},
            at=now,
        )
