"""Give up: a virtual account that nobody has paid into is closed at the PG."""

import secrets
from dataclasses import dataclass
from datetime import datetime

import structlog

from payments import discrepancies
from payments.db import Sessions, insist, transaction
from payments.gateways.pg import Answer, Cancelled, DepositAwaited, PaymentGateway, RefundRefused, Unknown
from payments.models import Payment
from payments.queries import get_payment_to_change
from payments.records import DiscrepancyKind, Json
from payments.states import Cause, PaymentStatus
from payments.usecases.answers import Question, record, record_anew
from payments.usecases.promises import GIVE_UP_AFTER, SETTLED_AFTER, OpenCancel

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GivenUp:
    """How the payment stands after the PG was asked, and its refusal if there was one."""

    payment: Payment
    refused: RefundRefused | None


async def carry_out(one: OpenCancel, *, cause: Cause, sessions: Sessions, pg: PaymentGateway) -> GivenUp:
    """Ask the PG to close the account, and record what it says.

    Where it refuses, a look-up tells why: mostly because the deposit was faster.

    Raises:
        ConcurrentUpdate, Unavailable: the answer could not be recorded; the promise stands, and is kept later.
    """
    answer = await pg.cancel(
        one.payment_key, order_id=one.order_id, amount=one.amount, reason=one.reason, idempotency_key=one.cancel_key
    )
    refused = answer if isinstance(answer, RefundRefused) else None
    payment = await record_anew(
        answer if isinstance(answer, Cancelled) else await _look_up(one, pg=pg),
        Question(one.payment_key, one.version),
        ask=lambda: _look_up(one, pg=pg),
        write=lambda shown, question: insist(
            lambda: _record(one, shown, refused, question=question, cause=cause, sessions=sessions)
        ),
    )
    return GivenUp(payment, refused)


async def _look_up(one: OpenCancel, *, pg: PaymentGateway) -> Answer:
    return await pg.look_up(one.payment_key, order_id=one.order_id, amount=one.amount)


async def _record(
    one: OpenCancel,
    shown: Answer,
    refused: RefundRefused | None,
    *,
    question: Question,
    cause: Cause,
    sessions: Sessions,
) -> Payment:
    async with transaction(sessions) as session:
        payment, now = await get_payment_to_change(session, one.order_id)
        await record(session, payment, shown, question=question, cause=cause, at=now)
        if payment.status is not PaymentStatus.WAITING_FOR_DEPOSIT or payment.cancel_key != one.cancel_key:
            return payment
        is_waiting = isinstance(shown, DepositAwaited)
        if (refused is not None and is_waiting) or payment.deposited_amount is not None:
            payment.drop_cancel(at=now)
            log.warning("cancel.refused", order_id=one.order_id, pg_code=refused and refused.code)
        elif is_waiting and _is_to_be_renewed(payment, at=now):
            payment.renew_cancel(secrets.token_urlsafe(32), at=now)
            log.warning("cancel.asked_anew", order_id=one.order_id)
        else:
            payment.check_later(at=now, not_before=shown.retry_after if isinstance(shown, Unknown) else None)
            log.warning("cancel.outcome_unknown", order_id=one.order_id)
        if payment.cancel_asked_at is not None and now >= payment.cancel_asked_at + GIVE_UP_AFTER:
            theirs: dict[str, Json] = {"answer": "unknown", "asked": "cancel"}
            await discrepancies.note(session, DiscrepancyKind.UNRESOLVED_24H, payment, theirs=theirs, at=now)
    return payment


def _is_to_be_renewed(payment: Payment, *, at: datetime) -> bool:
    """The account still waits although it was given up a while ago: the PG may only be repeating its first answer."""
    return payment.cancel_key_since is not None and at >= payment.cancel_key_since + SETTLED_AFTER
