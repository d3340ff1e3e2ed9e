"""Payments and answers of the PG as a story needs them; a payment gets where it stands by legal moves only."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from payments.db import Base
from payments.gateways.pg import PgCancel, PgPayment, PgStatus, PgVirtualAccount
from payments.leases import Lease
from payments.models import Payment, Refund, VirtualAccount
from payments.states import Cause, PaymentMethod, PaymentStatus

AT: Final = datetime(2026, 11, 2, 3, 0, tzinfo=UTC)
LATER: Final = AT + timedelta(minutes=1)
LEASE: Final = Lease(LATER - AT)
ORDER_ID: Final = "order-000001"
PAYMENT_KEY: Final = "tviva20261102120000Ab1Cd"
CONFIRM_KEY: Final = "confirm-key-of-this-attempt"
WEBHOOK_SECRET: Final = "ps_0123456789abcdefghijklmnopqr"
GIVEN_BACK: Final = "txrd_given_back"  # the PG's key of the one cancel there is
ACCOUNT: Final = VirtualAccount("20", "X6505636518308", "박토스", AT + timedelta(days=3))


def a_payment(
    status: PaymentStatus = PaymentStatus.COMPLETED,
    amount: int = 12_000,
    *,
    order_id: str = ORDER_ID,
    payment_key: str = PAYMENT_KEY,
    method: PaymentMethod = PaymentMethod.CARD,
    attempt: int = 1,
) -> Payment:
    """A payment in `status`, confirmed under `payment_key` unless it is CREATED; never flushed.

    With `attempt` above 1 the earlier attempts failed under `earlier_key(1)`, `earlier_key(2)`, ...
    """
    payment = Payment.prepare(
        order_id, amount, method=method, order_name="토스 티셔츠 외 1건", customer_email="buyer@example.com", at=AT
    )
    for number in range(1, attempt):
        _begin_confirm(payment, earlier_key(number))
        payment.fail("REJECT_CARD_COMPANY", "결제 승인이 거절되었습니다.", at=AT, cause=Cause.API)
        payment.retry(at=AT)
    _walk_to(payment, status, payment_key)
    return payment


def earlier_key(attempt: int) -> str:
    """The payment key under which an earlier attempt failed."""
    return f"earlier-key-of-attempt-{attempt}"


def a_held_payment(
    status: PgStatus = PgStatus.DONE,
    amount: int = 12_000,
    *,
    order_id: str = ORDER_ID,
    payment_key: str = PAYMENT_KEY,
    balance: int | None = None,
) -> PgPayment:
    """A payment as the PG holds it, consistent with its status; the balance is the whole amount unless said."""
    held = PgPayment(
        payment_key=payment_key,
        order_id=order_id,
        status=status,
        total_amount=amount,
        balance_amount=amount if balance is None else balance,
        currency="KRW",
        method="카드",
        easy_pay=False,
        approved_at=AT if status is PgStatus.DONE else None,
        virtual_account=None,
        secret=WEBHOOK_SECRET,
        receipt_url="https://dashboard.tosspayments.com/receipt",
        failure_code=None,
        failure_message=None,
    )
    if status in {PgStatus.CANCELED, PgStatus.PARTIAL_CANCELED} and held.balance_amount < amount:
        held = replace(held, cancels=(a_cancel(amount - held.balance_amount, balance_after=held.balance_amount),))
    if status is PgStatus.WAITING_FOR_DEPOSIT:
        issued = PgVirtualAccount(ACCOUNT.bank, ACCOUNT.account_number, ACCOUNT.holder, ACCOUNT.due_at, "NONE")
        return replace(held, method="가상계좌", virtual_account=issued)
    return held


def a_cancel(amount: int, *, balance_after: int, key: str = GIVEN_BACK, reason: str = "고객 변심") -> PgCancel:
    """Money that the PG gave back, or was never paid."""
    return PgCancel(key, amount, balance_after, reason, AT, is_done=True)


def given_back(payment: Payment) -> list[Refund]:
    """The refund by which a payment of `a_payment` got where it stands; none where nothing went back."""
    if payment.refunded_amount == 0:
        return []
    before = a_payment(PaymentStatus.COMPLETED, payment.amount)
    refund = Refund.adopt(
        before, payment.refunded_amount, reason="고객 변심", transaction_key=GIVEN_BACK, at=AT, cause=Cause.API
    )
    refund.payment_id = payment.id
    return [refund]


def columns(entity: Base) -> dict[str, object]:
    """All that would be stored of an entity."""
    return {column.key: getattr(entity, column.key) for column in entity.__mapper__.column_attrs}


def _begin_confirm(payment: Payment, payment_key: str) -> None:
    payment.begin_confirm(payment_key, payment.amount, confirm_key=CONFIRM_KEY, at=AT, lease=LEASE)


def _walk_to(payment: Payment, status: PaymentStatus, payment_key: str) -> None:
    if status is PaymentStatus.CREATED:
        return
    _begin_confirm(payment, payment_key)
    match status:
        case PaymentStatus.PENDING:
            return
        case PaymentStatus.WAITING_FOR_DEPOSIT:
            payment.await_deposit(ACCOUNT, at=AT, cause=Cause.API)
        case PaymentStatus.FAILED:
            payment.fail(
                "REJECT_CARD_PAYMENT", "한도초과 혹은 잔액부족으로 결제에 실패했습니다.", at=AT, cause=Cause.API
            )
        case PaymentStatus.CANCELLED:
            payment.cancel("cancelled at the PG", at=AT, cause=Cause.API)
        case _:
            _capture(payment, status)


def _capture(payment: Payment, status: PaymentStatus) -> None:
    payment.approve(payment.payment_key or "", approved_at=AT, at=AT, cause=Cause.API)
    if status is PaymentStatus.APPROVED:
        return
    payment.complete(at=AT, cause=Cause.API)
    if status is PaymentStatus.PARTIALLY_REFUNDED:
        payment.refund(payment.amount // 3, at=AT, cause=Cause.API)
    if status is PaymentStatus.REFUNDED:
        payment.refund(payment.amount, at=AT, cause=Cause.API)
