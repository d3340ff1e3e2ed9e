"""Expire: a session that ended without a confirm is closed, after the PG was asked whether it knows better."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments.db import Sessions, transaction
from payments.gateways.pg import (
    Answer,
    Approved,
    Cancelled,
    Declined,
    DepositAwaited,
    PaymentGateway,
    PgPayment,
    Unknown,
    UnknownBecause,
)
from payments.leases import Lease
from payments.models import Payment
from payments.outbox import announce
from payments.queries import claim_expired, database_now, get_payment_to_change
from payments.records import EventType
from payments.states import Cause, PaymentStatus
from payments.usecases.answers import Question, record

log = structlog.get_logger()

EXPIRED: Final = "expired"  # ours: the PG was never asked for the money
LOOK_AGAIN_AFTER: Final = timedelta(minutes=5)
# By then what the PG still shows as open has no running session any more, whatever clock it keeps.
WAIT_AT_MOST: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Unpaid:
    """A payment whose session ended without a confirm; held by this worker until its lease ends."""

    order_id: str
    amount: int  # won
    version: int
    age: timedelta  # since it was last prepared


async def claim_due_expiries(*, sessions: Sessions, lease: Lease, limit: int) -> Sequence[Unpaid]:
    """Take up to `limit` sessions that have ended, away from every other worker."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        due = await claim_expired(session, now=now, lease=lease, limit=limit)
        return [Unpaid(one.order_id, one.amount, one.version, now - one.prepared_at) for one in due]


async def expire(one: Unpaid, *, sessions: Sessions, pg: PaymentGateway) -> None:
    """Ask the PG about one session that was claimed. Never raises: it comes back when its lease ends.

    A confirm that comes at the same moment wins; the order can be prepared again in any case.
    """
    try:
        answer = await pg.look_up_order(one.order_id, amount=one.amount)
        async with transaction(sessions) as session:
            payment, now = await get_payment_to_change(session, one.order_id)
            if payment.version == one.version:
                await _record(session, payment, answer, age=one.age, at=now)
    except Exception as error:  # one bad row never stops the others
        log.exception("expiry.failed", order_id=one.order_id, error=type(error).__name__)


async def _record(session: AsyncSession, payment: Payment, answer: Answer, *, age: timedelta, at: datetime) -> None:
    pause = max(LOOK_AGAIN_AFTER, age / 10)
    payment.check_at(at + pause)
    match answer:
        case Declined(code=code):
            await _expire(session, payment, pg_says=code, at=at)
        case Unknown(because=UnknownBecause.NOT_FOUND, code=code):
            await _expire(session, payment, pg_says=code or "NOT_FOUND_PAYMENT", at=at)
        case Cancelled():  # whatever came has gone back, without us
            await _expire(session, payment, pg_says="CANCELED", at=at)
        case Unknown(because=UnknownBecause.IN_PROGRESS) if age >= WAIT_AT_MOST:
            await _expire(session, payment, pg_says="UNFINISHED", at=at)
        case Approved(payment=held) | DepositAwaited(payment=held) | Unknown(payment=PgPayment() as held):
            # Money, or the promise of it, that we never asked for; or of another amount, which a person is told of.
            question = Question(held.payment_key, payment.version)
            await record(session, payment, answer, question=question, cause=Cause.EXPIRY, at=at)
        case Unknown(retry_after=retry_after):
            payment.check_at(at + max(pause, retry_after or timedelta()))


async def _expire(session: AsyncSession, payment: Payment, *, pg_says: str, at: datetime) -> None:
    if payment.status is not PaymentStatus.CREATED:
        return
    payment.fail(EXPIRED, f"결제 시간이 지났습니다. ({pg_says})", at=at, cause=Cause.EXPIRY)
    await announce(session, payment, EventType.FAILED, at=at)
    log.info("payment.expired", order_id=payment.order_id, pg_code=pg_says)
