"""A business day in three books, ours, the PG's and the shop's, and what a night makes of them."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select, update

from payments.business_day import day_of
from payments.db import Sessions, create_engine, create_sessions, transaction
from payments.gateways.orders import Order, OrderAnswer, OrderPage, OrdersUnreachable
from payments.gateways.pg import (
    Answer,
    CancelAnswer,
    PgCancel,
    PgPayment,
    PgStatus,
    PgTransaction,
    RefundAnswer,
    RefundOrder,
    TransactionPage,
    Unknown,
    UnknownBecause,
)
from payments.gateways.subscribers import Delivered, Delivery
from payments.gateways.toss_answers import Asked, _judge
from payments.ids import new_id
from payments.models import Payment, Refund, StrayCapture
from payments.records import Discrepancy, EventType, OutboxMessage
from payments.snapshots import iso, snapshot
from payments.states import Cause, PaymentStatus
from tests.builders import AT, a_held_payment, a_payment

DAY: Final = day_of(AT)
PAID_WORDS: Final = {"COMPLETED": "PAID", "PARTIALLY_REFUNDED": "PARTIALLY_REFUNDED", "REFUNDED": "REFUNDED"}
TOLD: Final = {
    PaymentStatus.COMPLETED: EventType.COMPLETED,
    PaymentStatus.PARTIALLY_REFUNDED: EventType.REFUNDED,
    PaymentStatus.REFUNDED: EventType.REFUNDED,
    PaymentStatus.FAILED: EventType.FAILED,
}


def order_of(number: int) -> str:
    return f"order-{number:06}"


def key_of(number: int) -> str:
    return f"payment-key-{number:06}"


def amount_of(number: int) -> int:
    return 1_000 + number


def refund_key_of(number: int) -> str:
    return f"refund-{number:06}"


@dataclass
class OurBooks:
    """Payments and refunds that were made on the day, to be stored at once."""

    payments: dict[int, Payment] = field(default_factory=dict)
    refunds: dict[int, Refund] = field(default_factory=dict)

    def hold(self, number: int, status: PaymentStatus = PaymentStatus.COMPLETED) -> None:
        """A payment in `status`; given back in part or wholly by a refund of its own."""
        given_back = {PaymentStatus.PARTIALLY_REFUNDED: 300, PaymentStatus.REFUNDED: amount_of(number)}.get(status)
        start = PaymentStatus.COMPLETED if given_back else status
        payment = a_payment(start, amount_of(number), order_id=order_of(number), payment_key=key_of(number))
        self.payments[number] = payment
        if given_back:
            key = refund_key_of(number)
            self.refunds[number] = Refund.adopt(
                payment, given_back, reason="고객 변심", transaction_key=key, at=AT, cause=Cause.API
            )

    async def store(self, sessions: Sessions) -> None:
        async with transaction(sessions) as session:
            session.add_all(self.payments.values())
            await session.flush()  # refunds and messages point to them
            session.add_all(self.refunds.values())
            session.add_all(self._message(number) for number, one in self.payments.items() if one.status in TOLD)

    def _message(self, number: int) -> OutboxMessage:
        """What the order service was told last, and took."""
        payment = self.payments[number]
        refunds = [self.refunds[number]] if number in self.refunds else []
        return OutboxMessage(
            id=new_id(),
            payment_id=payment.id,
            sequence=payment.last_sequence,
            type=TOLD[payment.status],
            payload={
                "type": TOLD[payment.status].value,
                "timestamp": iso(AT),
                "data": {"sequence": payment.last_sequence, "payment": snapshot(payment, refunds)},
            },
            created_at=AT,
            attempts=1,
            first_attempt_at=AT,
            next_attempt_at=AT,
            awaits_receiver=False,
            delivered_at=AT,
        )


@dataclass
class ShopBooks:
    """An order service with its own books; what it is told it writes down, unless it is deaf to that order."""

    orders: dict[str, Order] = field(default_factory=dict)
    deaf_to: set[str] = field(default_factory=set)
    told: list[UUID] = field(default_factory=list)
    questions: int = 0
    answers_until: int | None = None  # then it is away
    paid_at: datetime = AT  # all of them
    page: int = 70

    def hold(self, number: int, status: str = "PAID", *, amount: int | None = None, refunded: int | None = 0) -> None:
        order_id = order_of(number)
        self.orders[order_id] = Order(order_id, status, amount_of(number) if amount is None else amount, refunded)

    async def find(self, order_id: str) -> OrderAnswer:
        raise AssertionError("a night asks for many orders at once")

    async def look_up(self, order_ids: Sequence[str]) -> Mapping[str, Order] | OrdersUnreachable:
        if self._is_away():
            return OrdersUnreachable("away")
        return {order_id: self.orders[order_id] for order_id in order_ids if order_id in self.orders}

    async def paid_between(
        self, since: datetime, until: datetime, *, cursor: str | None
    ) -> OrderPage | OrdersUnreachable:
        """The cursor is the last order of the page before."""
        if self._is_away():
            return OrdersUnreachable("away")
        paid = sorted(order_id for order_id, order in self.orders.items() if order.status == "PAID")
        paid = [order_id for order_id in paid if since <= self.paid_at < until and order_id > (cursor or "")]
        shown = paid[: self.page]
        return OrderPage(
            tuple(self.orders[order_id] for order_id in shown), shown[-1] if len(paid) > len(shown) else None
        )

    async def deliver(self, message_id: UUID, body: bytes) -> Delivery:
        self.told.append(message_id)
        payment = json.loads(body)["data"]["payment"]
        order_id = payment["orderId"]
        if order_id in self.orders and order_id not in self.deaf_to:
            status = PAID_WORDS.get(payment["status"], "CREATED")
            self.orders[order_id] = replace(
                self.orders[order_id], status=status, refunded_amount=payment["refundedAmount"]
            )
        return Delivered()

    def _is_away(self) -> bool:
        self.questions += 1
        return self.answers_until is not None and self.questions > self.answers_until


@dataclass
class PgBooks:
    """A PG with its own books, which judges them as the real client does."""

    payments: dict[str, PgPayment] = field(default_factory=dict)
    rows: dict[str, PgTransaction] = field(default_factory=dict)
    silent_about: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    pages: int = 0
    lists_until_page: int | None = None  # then it does not answer
    page: int = 300
    is_available: bool = True

    def hold(self, number: int, *, order_id: str | None = None, amount: int | None = None, at: datetime = AT) -> None:
        """A payment that was captured, and its row in the list."""
        order_id = order_id or order_of(number)
        amount = amount_of(number) if amount is None else amount
        held = a_held_payment(PgStatus.DONE, amount, order_id=order_id, payment_key=key_of(number))
        self.payments[key_of(number)] = replace(held, was_approved=True)
        self._list(f"capture-{number:06}", key_of(number), PgStatus.DONE, amount, at)

    def give_back(self, number: int, amount: int, *, key: str | None = None, at: datetime = AT) -> None:
        held = self.payments[key_of(number)]
        key = key or refund_key_of(number)
        left = held.balance_amount - amount
        cancel = PgCancel(key, amount, left, "고객 변심", at, is_done=True)
        status = PgStatus.PARTIAL_CANCELED if left or held.cancels else PgStatus.CANCELED
        self.payments[held.payment_key] = replace(
            held, status=status, balance_amount=left, cancels=(*held.cancels, cancel), last_transaction_key=key
        )
        self._list(key, held.payment_key, status, amount, at)

    def _list(self, key: str, payment_key: str, status: PgStatus, amount: int, at: datetime) -> None:
        order_id = self.payments[payment_key].order_id
        self.rows[key] = PgTransaction(key, payment_key, order_id, status, "카드", amount, "KRW", at)

    async def look_up(self, payment_key: str, *, order_id: str, amount: int) -> Answer:
        self.asked.append(payment_key)
        if payment_key in self.silent_about:
            return Unknown(UnknownBecause.NO_ANSWER)
        held = self.payments.get(payment_key)
        if held is None:
            return Unknown(UnknownBecause.NOT_FOUND, code="NOT_FOUND_PAYMENT")
        return _judge(held, Asked(payment_key, order_id, amount))

    async def list_transactions(
        self, since: datetime, until: datetime, *, after: str | None
    ) -> TransactionPage | Unknown:
        self.pages += 1
        if self.lists_until_page is not None and self.pages > self.lists_until_page:
            return Unknown(UnknownBecause.NO_ANSWER)
        rows = sorted(self.rows.values(), key=lambda row: (row.at, row.transaction_key))
        rows = [row for row in rows if since <= row.at < until]
        keys = [row.transaction_key for row in rows]
        start = keys.index(after) + 1 if after else 0
        shown = tuple(rows[start : start + self.page])
        return TransactionPage(shown, shown[-1].transaction_key if len(shown) == self.page else None)

    async def confirm(self, payment_key: str, *, order_id: str, amount: int, idempotency_key: str) -> Answer:
        raise AssertionError("a night takes no money")

    async def cancel(
        self, payment_key: str, *, order_id: str, amount: int, reason: str, idempotency_key: str
    ) -> CancelAnswer:
        raise AssertionError("a night gives nothing up")

    async def refund(self, payment_key: str, order: RefundOrder) -> RefundAnswer:
        raise AssertionError("a night gives no money back")

    async def look_up_order(self, order_id: str, *, amount: int) -> Answer:
        raise AssertionError("a night knows what it asks about")


async def completed_earlier(sessions: Sessions, by: timedelta) -> None:
    """Let every payment have been completed so much earlier; what was given back stays on its day."""
    async with transaction(sessions) as session:
        await session.execute(update(Payment).values(completed_at=Payment.completed_at - by))


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[Sessions]:
    engine = create_engine(database_url)
    try:
        yield create_sessions(engine)
    finally:
        await engine.dispose()


async def found(sessions: Sessions) -> set[tuple[str, str]]:
    """Every discrepancy that is noted: its kind and its subject."""
    async with transaction(sessions) as session:
        rows = await session.execute(select(Discrepancy.kind, Discrepancy.subject))
        return {(kind.value, subject) for kind, subject in rows}


async def everything(sessions: Sessions) -> dict[str, list[tuple[object, ...]]]:
    """All that is stored of payments, refunds, messages and discrepancies, but when these were last seen."""
    async with transaction(sessions) as session:
        return {
            entity.__tablename__: [
                tuple(row)
                for row in await session.execute(
                    select(*(column for column in entity.__table__.c if column.name != "last_seen_at")).order_by(
                        entity.id
                    )
                )
            ]
            for entity in (Payment, Refund, StrayCapture, OutboxMessage, Discrepancy)
        }
