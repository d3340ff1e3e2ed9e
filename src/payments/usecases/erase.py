"""Erase: what names a buyer goes when nobody needs it any more; amounts, states, history and keys stay."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments.db import Sessions, insist, transaction
from payments.erasure import (
    Place,
    count_still_needed,
    delete_messages,
    delete_old_parked_webhooks,
    delete_webhooks,
    due_for_erasure,
    erase_old_resolutions,
    erase_resolutions_of,
    still_open,
)
from payments.errors import StillNeeded
from payments.models import Payment
from payments.queries import get_payment_to_change, refunds_of

log = structlog.get_logger()

BATCH: Final = 100

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Erased:
    """What came of one run."""

    payments: int
    resolutions: int  # of discrepancies
    webhooks: int  # that had been given up
    still_needed: int  # payments that are as old, and have something open


async def erase(*, sessions: Sessions, older_than: timedelta, progress: Progress | None = None) -> Erased:
    """Erase the personal data of every payment at which nothing has moved for so long, and nothing is open.

    One payment in a transaction, under its lock; any number of workers may do this at once. `progress` is told how
    many payments have been erased so far.
    """
    payments = await _erase_payments(older_than, sessions=sessions, tell=progress or _tell_nobody)
    resolutions = webhooks = 0
    while some := await _erase_resolutions(older_than, sessions=sessions):
        resolutions += some
    while some := await _delete_webhooks(older_than, sessions=sessions):
        webhooks += some
    async with transaction(sessions) as session:
        still_needed = await count_still_needed(session, older_than=older_than)
    log.info("persons.erased", payments=payments, resolutions=resolutions, webhooks=webhooks, still_needed=still_needed)
    return Erased(payments, resolutions, webhooks, still_needed)


async def erase_order(order_id: str, *, sessions: Sessions) -> bool:
    """Erase the personal data of one payment now, because the person has asked for it; False if there were none.

    Raises:
        PaymentNotFound: there is no such payment.
        StillNeeded: something of it is open; nothing was erased.
    """

    async def _erase() -> bool:
        async with transaction(sessions) as session:
            payment, now = await get_payment_to_change(session, order_id)
            if payment.erased_at is not None:
                return False
            if found := await still_open(session, payment):
                raise StillNeeded(found)
            await _erase_person(session, payment, at=now)
            await delete_webhooks(session, payment)
            return True

    erased = await insist(_erase)
    if erased:
        log.info("payment.erased", order_id=order_id)
    return erased


async def _erase_payments(older_than: timedelta, *, sessions: Sessions, tell: Progress) -> int:
    erased = 0
    after: Place | None = None
    while True:
        async with transaction(sessions) as session:
            due = await due_for_erasure(session, older_than=older_than, after=after, limit=BATCH)
        if not due:
            return erased
        for one in due:
            erased += await insist(partial(_erase_due, one.order_id, sessions=sessions))
        after = due[-1].place
        tell(erased)


async def _erase_due(order_id: str, *, sessions: Sessions) -> bool:
    """Looked at again under the lock: somebody may deal with it again, or have erased it."""
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, order_id)
        if payment.erased_at is not None or await still_open(session, payment):
            return False
        await _erase_person(session, payment, at=now)
        return True


async def _erase_person(session: AsyncSession, payment: Payment, *, at: datetime) -> None:
    payment.erase_person(at=at)
    for refund in await refunds_of(session, payment.id):
        refund.erase_person()
    await erase_resolutions_of(session, payment)
    await delete_messages(session, payment)


async def _erase_resolutions(older_than: timedelta, *, sessions: Sessions) -> int:
    async with transaction(sessions) as session:
        return await erase_old_resolutions(session, older_than=older_than, limit=BATCH)


async def _delete_webhooks(older_than: timedelta, *, sessions: Sessions) -> int:
    async with transaction(sessions) as session:
        return await delete_old_parked_webhooks(session, older_than=older_than, limit=BATCH)


def _tell_nobody(_erased: int) -> None:
    """Nobody watches."""
