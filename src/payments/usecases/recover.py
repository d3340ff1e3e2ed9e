"""Recover: payments whose outcome is unknown are asked about until the PG says what happened."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from payments.background import Clock
from payments.db import Sessions, transaction
from payments.errors import ConcurrentUpdate
from payments.gateways.pg import Answer, PaymentGateway, Unknown, UnknownBecause
from payments.models import Payment
from payments.queries import claim_unresolved, get_payment_to_change
from payments.states import Cause, PaymentStatus
from payments.usecases.answers import record

log = structlog.get_logger()

# How long Toss keeps an authenticated payment confirmable
# (https://docs.tosspayments.com/reference/using-api/webhook-events).
CONFIRM_WINDOW: Final = timedelta(minutes=10)
RACES: Final = 5  # how often a lost race is read again before the payment is left for the next round


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A payment that this worker holds until its lease ends; what is needed to ask about it."""

    order_id: str
    payment_key: str
    confirm_key: str
    amount: int
    pending_since: datetime


async def recover(*, sessions: Sessions, pg: PaymentGateway, clock: Clock, lease: timedelta, limit: int = 50) -> int:
    """Ask about the payments that are due, at most `limit`; answers how many were decided.

    Any number of workers may do this at once: each payment is claimed for `lease`, which must be longer than the PG's
    deadlines for a look-up and a confirm together. A worker that dies gives its payments back when their leases end.
    """
    if not pg.is_available:
        return 0
    async with transaction(sessions) as session:
        claimed = [_unresolved(payment) for payment in await claim_unresolved(session, lease=lease, limit=limit)]
    outcomes = await asyncio.gather(
        *(_resolve(one, sessions=sessions, pg=pg, clock=clock) for one in claimed), return_exceptions=True
    )
    for one, outcome in zip(claimed, outcomes, strict=True):
        if isinstance(outcome, BaseException):  # one bad row never stops the others; its lease ends, and it comes back
            log.error("recovery.failed", order_id=one.order_id, error=type(outcome).__name__, exc_info=outcome)
    return sum(outcome is True for outcome in outcomes)


async def _resolve(one: Unresolved, *, sessions: Sessions, pg: PaymentGateway, clock: Clock) -> bool:
    answer = await _ask(one, pg=pg, clock=clock)
    for _ in range(RACES):
        try:
            async with transaction(sessions) as session:
                payment = await get_payment_to_change(session, one.order_id)
                await record(session, payment, answer, payment_key=one.payment_key, cause=Cause.RECOVERY, at=clock())
        except ConcurrentUpdate:
            continue
        return payment.status is not PaymentStatus.PENDING
    raise ConcurrentUpdate


async def _ask(one: Unresolved, *, pg: PaymentGateway, clock: Clock) -> Answer:
    answer = await pg.look_up(one.payment_key, order_id=one.order_id, amount=one.amount)
    unfinished = isinstance(answer, Unknown) and answer.because is UnknownBecause.IN_PROGRESS
    if not unfinished or clock() - one.pending_since >= CONFIRM_WINDOW:
        return answer
    # The buyer authenticated and we promised to confirm: the same key makes sure that it happens once.
    return await pg.confirm(one.payment_key, order_id=one.order_id, amount=one.amount, idempotency_key=one.confirm_key)


def _unresolved(payment: Payment) -> Unresolved:
    if payment.payment_key is None or payment.confirm_key is None or payment.pending_since is None:
        raise AssertionError("a PENDING payment has its keys; the database checks it")
    return Unresolved(payment.order_id, payment.payment_key, payment.confirm_key, payment.amount, payment.pending_since)
