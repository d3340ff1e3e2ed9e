"""The only way in which an answer of the PG changes a payment; confirm, webhooks and recovery all end here."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments import discrepancies
from payments.db import RACES
from payments.errors import ConcurrentUpdate, Unavailable
from payments.gateways.pg import (
    Answer,
    Approved,
    Cancelled,
    Declined,
    DepositAwaited,
    PgPayment,
    PgStatus,
    PgVirtualAccount,
    Unknown,
    UnknownBecause,
)
from payments.hot_path import Held, HotPath, copy_of
from payments.ids import new_id
from payments.leases import Lease
from payments.models import FIRST_DEPOSIT_CHECK, Payment, VirtualAccount
from payments.outbox import announce
from payments.queries import lock_holder_of, open_refund_of
from payments.records import DiscrepancyKind, EventType, Json
from payments.states import EVER_CAPTURED, Cause, PaymentMethod, PaymentStatus
from payments.usecases.give_back import give_back_later
from payments.usecases.refund_answers import adopt_cancels, as_theirs, has_lost_its_deposit

log = structlog.get_logger()

T = TypeVar("T")

# Toss answers in Korean whatever language the request was made in (https://docs.tosspayments.com/reference).
METHODS: Final[dict[str, PaymentMethod]] = {
    "카드": PaymentMethod.CARD,
    "가상계좌": PaymentMethod.VIRTUAL_ACCOUNT,
    "간편결제": PaymentMethod.EASY_PAY,
    "휴대폰": PaymentMethod.MOBILE_PHONE,
    "계좌이체": PaymentMethod.TRANSFER,
    "문화상품권": PaymentMethod.GIFT_CERTIFICATE,
    "도서문화상품권": PaymentMethod.GIFT_CERTIFICATE,
    "게임문화상품권": PaymentMethod.GIFT_CERTIFICATE,
}

# A deposit of which an answer tells may be back at the buyer's bank by now.
MAY_BE_UNPAID: Final = frozenset({PaymentStatus.WAITING_FOR_DEPOSIT, PaymentStatus.FAILED})

OPEN: Final = frozenset({PaymentStatus.PENDING, PaymentStatus.WAITING_FOR_DEPOSIT})

# An order that was given up, or is paid already: what else is captured for it goes back.
MUST_NOT_HOLD_MORE: Final = EVER_CAPTURED | {PaymentStatus.CANCELLED}

DEPOSIT_OVERDUE: Final = "DEPOSIT_OVERDUE"  # ours: Toss has no code for a due date that passed


@dataclass(frozen=True, slots=True)
class Question:
    """What the PG was asked about, and how the payment stood when it was asked."""

    payment_key: str
    version: int  # of the payment; as long as it has not changed, the answer is newer than all that we know


class Overtaken(Exception):
    """An answer tells of a deposit, and is older than what we know: the bank may have taken the money back since."""

    def __init__(self, version: int) -> None:
        super().__init__()
        self.version = version  # of the payment, as it stands now


async def record_anew(
    answer: Answer,
    question: Question,
    *,
    ask: Callable[[], Awaitable[Answer]],
    write: Callable[[Answer, Question], Awaitable[T]],
) -> T:
    """Have `write` record an answer; where others have overtaken it, ask the PG again, and have that recorded.

    Raises:
        ConcurrentUpdate: others were faster five times in a row.
    """
    for _ in range(RACES):
        try:
            return await write(answer, question)
        except Overtaken as overtaken:
            question = replace(question, version=overtaken.version)
            answer = await ask()
    raise ConcurrentUpdate


async def record(
    session: AsyncSession, payment: Payment, answer: Answer, *, question: Question, cause: Cause, at: datetime
) -> None:
    """Apply what the PG said about the attempt that was confirmed under `question.payment_key`.

    Recording the same answer again changes nothing. An answer about another key than that of the present attempt is
    noted as a discrepancy if there is money; it decides the present attempt only where nobody has been asked for money
    yet, because the order would be paid twice otherwise. An answer that others have overtaken still brings new truths
    (money came, money went back), and never takes one away: the PG is asked again instead.

    Raises:
        Overtaken: the PG must be asked again at once, because nobody else will; nothing has been changed.
    """
    payment_key = question.payment_key
    is_fresh = question.version == payment.version
    if payment_key != payment.payment_key:
        await _record_other_key(session, payment, answer, is_fresh=is_fresh, cause=cause, at=at)
        return
    match answer:
        case Approved(payment=held):
            await _record_held(session, payment, held, is_fresh=is_fresh, cause=cause, at=at)
        case DepositAwaited(payment=held):
            await _record_deposit_awaited(session, payment, held, is_fresh=is_fresh, cause=cause, at=at)
        case Declined():
            await _record_declined(session, payment, answer, is_fresh=is_fresh, cause=cause, at=at)
        case Cancelled(payment=held):
            await _record_cancelled(session, payment, held, is_fresh=is_fresh, cause=cause, at=at)
        case Unknown():
            await _record_unknown(session, payment, answer, is_fresh=is_fresh, at=at)


async def record_at_once(held: Held, answer: Answer, *, cause: Cause, hot: HotPath) -> Payment | None:
    """Apply what the PG said about a PENDING payment that this process holds, by one statement; the payment then.

    None if `record` has to do it, which finds out how the payment stands: the answer changes more than the payment
    itself, somebody else has changed it meanwhile, or the database did not say whether it was written.
    """
    payment, at = copy_of(held.payment), held.clock.now()
    told = _record_alone(payment, answer, cause=cause, at=at)
    with suppress(ConcurrentUpdate, Unavailable):
        if told is not None and await hot.write(payment, told, since=held, at=at):
            _log_told(payment, told, cause=cause)
            return payment
    return None


def _record_alone(payment: Payment, answer: Answer, *, cause: Cause, at: datetime) -> EventType | None:
    """What the order service is to be told then; None where the payment alone is not enough, and was not changed."""
    match answer:
        case Approved(payment=held) if held.virtual_account is None and _is_whole(payment, held):
            return _capture(payment, held, cause=cause, at=at)
        case DepositAwaited(payment=PgPayment(virtual_account=PgVirtualAccount()) as held):
            return _await_deposit(payment, held, cause=cause, at=at)
        case Declined():
            return _fail(payment, answer.code, answer.message, cause=cause, at=at)
        case _:
            return None


def _is_whole(payment: Payment, held: PgPayment) -> bool:
    return not held.cancels and held.balance_amount == payment.amount


async def _record_other_key(
    session: AsyncSession, payment: Payment, answer: Answer, *, is_fresh: bool, cause: Cause, at: datetime
) -> None:
    """Money, or the promise of it, under a key that this attempt did not confirm: a person has to look at it."""
    never_asked = payment.attempt == 1 and payment.payment_key is None
    is_new = payment.status is PaymentStatus.CREATED
    match answer:
        case Approved(payment=held) if payment.status is PaymentStatus.CANCELLED:
            kind = DiscrepancyKind.CAPTURED_AFTER_CANCEL
        case Approved(payment=held) if held.virtual_account and is_new and not is_fresh:
            raise Overtaken(payment.version)
        case Approved(payment=held) if never_asked:
            kind = DiscrepancyKind.CAPTURED_BUT_UNKNOWN_HERE
        case Approved(payment=held):
            kind = DiscrepancyKind.CAPTURED_BUT_FAILED_HERE
        case DepositAwaited(payment=held):
            kind = DiscrepancyKind.DEPOSIT_AWAITED_BUT_CLOSED_HERE
        # What is about another order altogether was asked for by somebody who made the key up.
        case Unknown(payment=PgPayment() as held) if answer.is_mismatch and held.order_id == payment.order_id:
            kind = DiscrepancyKind.AMOUNT_DIFFERS_AT_PG
        case _:
            return
    subject = f"{payment.order_id}/{held.payment_key}"
    await discrepancies.note(session, kind, payment, subject=subject, theirs=as_theirs(held), at=at)
    if isinstance(answer, Approved) and payment.status in MUST_NOT_HOLD_MORE:
        await give_back_later(session, payment, held, cause=cause, at=at)
    if isinstance(answer, Approved) and is_new and await _can_have(session, held.payment_key):
        # The PG holds the order's money: whoever comes back from the payment window now must not be charged again.
        never_sent = f"adopted-{new_id().hex}"
        payment.begin_confirm(
            held.payment_key, held.total_amount, confirm_key=never_sent, at=at, lease=Lease(timedelta()), cause=cause
        )
        await _record_held(session, payment, held, is_fresh=True, cause=cause, at=at)


async def _can_have(session: AsyncSession, payment_key: str) -> bool:
    """Whether the key that the PG shows for an order is free: nobody else confirmed it, or in vain.

    As long as it is not known what came of that confirm, the key stays where it is, and the PG is asked again later.
    """
    holder = await lock_holder_of(session, payment_key)
    if holder is None:
        return True
    if holder.status is not PaymentStatus.FAILED:
        return False
    holder.let_go_of_key()
    await session.flush()  # before another row takes it
    log.warning("payment.key_let_go", order_id=holder.order_id)
    return True


async def _record_held(
    session: AsyncSession, payment: Payment, held: PgPayment, *, is_fresh: bool, cause: Cause, at: datetime
) -> None:
    """The PG holds the money, or what cancels have left of it."""
    if payment.has_account and payment.status in MAY_BE_UNPAID and not is_fresh:
        raise Overtaken(payment.version)
    if payment.status not in EVER_CAPTURED:
        await _record_capture(session, payment, held, cause=cause, at=at)
    if payment.status in EVER_CAPTURED:
        await adopt_cancels(session, payment, held, is_fresh=is_fresh, cause=cause, at=at)


async def _record_capture(
    session: AsyncSession, payment: Payment, held: PgPayment, *, cause: Cause, at: datetime
) -> None:
    match payment.status:
        case PaymentStatus.CANCELLED:
            subject = f"{payment.order_id}/{held.payment_key}"
            await discrepancies.note(
                session,
                DiscrepancyKind.CAPTURED_AFTER_CANCEL,
                payment,
                subject=subject,
                theirs=as_theirs(held),
                at=at,
            )
            await give_back_later(session, payment, held, cause=cause, at=at)
            return
        case PaymentStatus.FAILED:  # late truth
            await discrepancies.note(
                session, DiscrepancyKind.CAPTURED_BUT_FAILED_HERE, payment, theirs=as_theirs(held), at=at
            )
        case PaymentStatus.PENDING | PaymentStatus.WAITING_FOR_DEPOSIT:
            pass
        case _:
            return  # somebody else recorded this capture before us
    await _tell(session, payment, _capture(payment, held, cause=cause, at=at), cause=cause, at=at)


def _capture(payment: Payment, held: PgPayment, *, cause: Cause, at: datetime) -> EventType:
    _learn(payment, held)
    if account := _account(held):
        payment.keep_account(account)
    payment.approve(held.payment_key, approved_at=held.approved_at or at, at=at, cause=cause)
    payment.complete(at=at, cause=cause)
    return EventType.COMPLETED


def _await_deposit(payment: Payment, held: PgPayment, *, cause: Cause, at: datetime) -> EventType | None:
    account = _account(held)
    if account is None:
        return None
    _learn(payment, held)
    payment.await_deposit(account, at=at, cause=cause)
    return EventType.WAITING_FOR_DEPOSIT


def _fail(payment: Payment, code: str, reason: str, *, cause: Cause, at: datetime) -> EventType:
    payment.fail(code, reason, at=at, cause=cause)
    return EventType.FAILED


async def _tell(session: AsyncSession, payment: Payment, event_type: EventType, *, cause: Cause, at: datetime) -> None:
    await announce(session, payment, event_type, at=at)
    _log_told(payment, event_type, cause=cause)


def _log_told(payment: Payment, event_type: EventType, *, cause: Cause) -> None:
    match event_type:
        case EventType.COMPLETED:
            log.info("payment.completed", order_id=payment.order_id, amount=payment.amount, cause=cause.value)
        case EventType.WAITING_FOR_DEPOSIT:
            log.info("payment.deposit_awaited", order_id=payment.order_id, cause=cause.value)
        case EventType.FAILED if payment.fail_code == DEPOSIT_OVERDUE:
            log.info("payment.deposit_overdue", order_id=payment.order_id, cause=cause.value)
        case EventType.FAILED:
            log.info("payment.failed", order_id=payment.order_id, pg_code=payment.fail_code, cause=cause.value)
        case EventType.CANCELLED:
            log.info("payment.cancelled", order_id=payment.order_id, cause=cause.value)
        case EventType.DEPOSIT_REVERSED:
            log.warning("payment.deposit_reversed", order_id=payment.order_id, cause=cause.value)
        case EventType.REFUNDED:
            pass  # the refund's own line says it


async def _record_deposit_awaited(
    session: AsyncSession, payment: Payment, held: PgPayment, *, is_fresh: bool, cause: Cause, at: datetime
) -> None:
    match payment.status:
        case PaymentStatus.PENDING:
            if told := _await_deposit(payment, held, cause=cause, at=at):
                await _tell(session, payment, told, cause=cause, at=at)
        case _ if not is_fresh:
            payment.check_at(at)  # asked before the deposit came, perhaps, and answered after it
        case PaymentStatus.WAITING_FOR_DEPOSIT if _is_overdue(payment, held, at=at):
            told = _fail(payment, DEPOSIT_OVERDUE, "입금 기한이 지났습니다.", cause=cause, at=at)
            await _tell(session, payment, told, cause=cause, at=at)
        case PaymentStatus.COMPLETED:
            await _record_reversal(session, payment, held, cause=cause, at=at)
        case PaymentStatus.PARTIALLY_REFUNDED | PaymentStatus.REFUNDED:
            await discrepancies.note(
                session, DiscrepancyKind.COMPLETED_HERE_NOT_AT_PG, payment, theirs=as_theirs(held), at=at
            )
        # Toss leaves an account that nobody paid into as it is, for ever.
        case PaymentStatus.FAILED | PaymentStatus.CANCELLED if not payment.is_deposit_overdue(at=at):
            await discrepancies.note(
                session, DiscrepancyKind.DEPOSIT_AWAITED_BUT_CLOSED_HERE, payment, theirs=as_theirs(held), at=at
            )


def _is_overdue(payment: Payment, held: PgPayment, *, at: datetime) -> bool:
    if account := _account(held):
        payment.keep_account(account)  # the PG may have moved the due date
    payment.deposited_amount = None  # whatever came has been taken back
    is_expired = held.virtual_account is not None and held.virtual_account.is_expired
    return is_expired or payment.is_deposit_overdue(at=at)


async def _record_reversal(
    session: AsyncSession, payment: Payment, held: PgPayment, *, cause: Cause, at: datetime
) -> None:
    """The bank took the deposit back, unless a refund is under way: then its outcome is waited for."""
    if await open_refund_of(session, payment.id) is not None:
        payment.check_at(at + FIRST_DEPOSIT_CHECK)
        return
    if not payment.has_account:  # only a deposit can be reversed
        kind = DiscrepancyKind.COMPLETED_HERE_NOT_AT_PG
        await discrepancies.note(session, kind, payment, theirs=as_theirs(held), at=at)
        return
    payment.reverse_deposit(at=at, cause=cause)
    await _tell(session, payment, EventType.DEPOSIT_REVERSED, cause=cause, at=at)


async def _record_declined(
    session: AsyncSession, payment: Payment, declined: Declined, *, is_fresh: bool, cause: Cause, at: datetime
) -> None:
    if payment.status is PaymentStatus.WAITING_FOR_DEPOSIT and not is_fresh:
        payment.check_at(at)  # from before the account was issued, perhaps
    elif payment.status in OPEN:
        told = _fail(payment, declined.code, declined.message, cause=cause, at=at)
        await _tell(session, payment, told, cause=cause, at=at)
    elif payment.status in EVER_CAPTURED:
        theirs: dict[str, Json] = {"code": declined.code}
        await discrepancies.note(session, DiscrepancyKind.COMPLETED_HERE_NOT_AT_PG, payment, theirs=theirs, at=at)


async def _record_cancelled(
    session: AsyncSession, payment: Payment, held: PgPayment, *, is_fresh: bool, cause: Cause, at: datetime
) -> None:
    if payment.status in OPEN and held.was_approved:
        # The money came and went before we heard of it: both are told, and a pay-out to an account is followed.
        await _record_capture(session, payment, held, cause=cause, at=at)
        await adopt_cancels(session, payment, held, is_fresh=is_fresh, cause=cause, at=at)
    elif payment.status in OPEN:
        reason = payment.cancel_reason or "cancelled at the PG"
        payment.cancel(reason, at=at, cause=cause, actor=payment.cancel_actor)
        await _tell(session, payment, EventType.CANCELLED, cause=cause, at=at)
    elif payment.status is PaymentStatus.COMPLETED and has_lost_its_deposit(payment, held):
        await _record_reversal(session, payment, held, cause=cause, at=at)
        if payment.status in OPEN:
            await _record_cancelled(session, payment, held, is_fresh=is_fresh, cause=cause, at=at)
    elif payment.status in EVER_CAPTURED:
        await adopt_cancels(session, payment, held, is_fresh=is_fresh, cause=cause, at=at)


async def _record_unknown(
    session: AsyncSession, payment: Payment, unknown: Unknown, *, is_fresh: bool, at: datetime
) -> None:
    if payment.status is PaymentStatus.PENDING:
        plan = payment.check_later if unknown.was_sent else payment.check_soon
        plan(at=at, not_before=unknown.retry_after)
        log.warning("payment.outcome_unknown", order_id=payment.order_id, because=unknown.because.value)
    if unknown.because is UnknownBecause.MISMATCH and unknown.payment is not None:
        await note_mismatch(session, payment, unknown.payment, at=at)
        if is_fresh and _is_deposit(payment, unknown.payment):
            payment.deposited_amount = unknown.payment.total_amount


def _is_deposit(payment: Payment, held: PgPayment) -> bool:
    return payment.status is PaymentStatus.WAITING_FOR_DEPOSIT and held.status is PgStatus.DONE


async def note_mismatch(session: AsyncSession, payment: Payment, held: PgPayment, *, at: datetime) -> None:
    """The PG showed another order, key or amount than it was asked about."""
    is_deposit = _is_deposit(payment, held)
    kind = DiscrepancyKind.DEPOSIT_AMOUNT_DIFFERS if is_deposit else DiscrepancyKind.AMOUNT_DIFFERS_AT_PG
    await discrepancies.note(session, kind, payment, theirs=as_theirs(held), at=at)


def _account(held: PgPayment) -> VirtualAccount | None:
    issued = held.virtual_account
    if issued is None:
        return None
    return VirtualAccount(issued.bank_code, issued.account_number, issued.holder_name, issued.due_at)


def _learn(payment: Payment, held: PgPayment) -> None:
    payment.learn(
        method=METHODS.get(held.method or "", payment.method),
        receipt_url=held.receipt_url,
        webhook_secret=held.secret,
        is_partial_cancelable=held.is_partial_cancelable,
    )
