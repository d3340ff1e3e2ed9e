"""Check orders: what was paid and given back on a business day is compared with the orders, and the other way round."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from payments import discrepancies
from payments.business_day import bounds
from payments.db import Sessions, transaction
from payments.errors import OrdersUnavailable
from payments.gateways.orders import LOOK_UP_LIMIT, Order, OrderPage, OrderService, OrdersUnreachable
from payments.models import Payment
from payments.nightly_queries import Move, moves_between, payments_of_orders, payments_with_moves, send_again
from payments.queries import database_now
from payments.records import DiscrepancyKind, Json, Severity
from payments.states import CAPTURED, EVER_CAPTURED, Cause, PaymentStatus

log = structlog.get_logger()

# What moved so short a time ago is on its way to the order. By 03:00 that is nothing of the day before.
ON_ITS_WAY: Final = timedelta(minutes=10)

# The order service's words for an order whose money came, wherever it is now (design: its status is one of these).
PAID: Final = "PAID"
EXPECTED: Final[dict[PaymentStatus, str]] = {
    PaymentStatus.COMPLETED: PAID,
    PaymentStatus.PARTIALLY_REFUNDED: "PARTIALLY_REFUNDED",
    PaymentStatus.REFUNDED: "REFUNDED",
}
SHIPPABLE: Final = frozenset({PAID, "PARTIALLY_REFUNDED"})

# What an order shows that merely missed an event.
MISSED: Final = frozenset(
    {
        DiscrepancyKind.ORDER_NOT_PAID,
        DiscrepancyKind.REFUND_NOT_REFLECTED,
        DiscrepancyKind.ORDER_PAID_WITHOUT_PAYMENT,
    }
)

Deliver = Callable[[Sequence[UUID]], Awaitable[None]]
Progress = Callable[[str, int], None]  # what was compared, and how many so far


@dataclass(frozen=True, slots=True)
class OrdersReport:
    """What came of one night's comparison."""

    day: date
    payments: int  # of the day, compared with their orders
    orders: int  # that call themselves paid on the day, compared with their payments
    repaired: int  # orders that had missed an event, and took it when they got it again
    found: Mapping[DiscrepancyKind, int]
    seconds: int

    def as_json(self) -> dict[str, Json]:
        found: dict[str, Json] = {kind.value: count for kind, count in sorted(self.found.items())}
        return {
            "day": self.day.isoformat(),
            "payments": self.payments,
            "orders": self.orders,
            "repaired": self.repaired,
            "found": found,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    kind: DiscrepancyKind
    severity: Severity


@dataclass(frozen=True, slots=True)
class Ours:
    """A payment as it stood when it was read; amounts in won."""

    payment_id: UUID
    order_id: str
    status: PaymentStatus
    amount: int
    refunded_amount: int


async def check_orders(
    day: date,
    *,
    sessions: Sessions,
    orders: OrderService,
    cause: Cause,
    deliver: Deliver | None,
    progress: Progress | None = None,
) -> OrdersReport:
    """Compare a business day's payments with their orders, and its paid orders with their payments.

    An order that merely missed an event gets it once more, by `deliver`, which sends the messages that it is given
    now; without it nothing is sent. What differs all the same is noted as a discrepancy. Doing it again changes
    nothing. `progress` is told how many payments, then how many orders have been compared so far.

    Raises:
        OrdersUnavailable: the order service could not be asked. What was found by then is noted, and nothing else.
    """
    started = time.monotonic()
    check = _Check(*bounds(day), sessions, orders, deliver, progress)
    await check.compare_payments()
    await check.compare_orders()
    report = OrdersReport(
        day=day,
        payments=len(check.payments),
        orders=len(check.paid_orders),
        repaired=len(check.repaired),
        found=Counter(kind for kind, _ in check.found),
        seconds=round(time.monotonic() - started),
    )
    log.info("orders.checked", cause=cause.value, **report.as_json())
    return report


def differences(ours: Ours, order: Order | None) -> list[Difference]:
    """Name what of an order does not fit its payment; critical where money and goods differ."""
    holds_money = ours.status in CAPTURED
    by_money = Severity.CRITICAL if holds_money else Severity.WARNING
    if order is None:
        return [Difference(DiscrepancyKind.ORDER_MISSING, by_money)]
    found = []
    if order.amount != ours.amount:
        found.append(Difference(DiscrepancyKind.ORDER_AMOUNT_DIFFERS, by_money))
    if ours.status not in EVER_CAPTURED:
        if order.status in SHIPPABLE:
            found.append(Difference(DiscrepancyKind.ORDER_PAID_WITHOUT_PAYMENT, Severity.CRITICAL))
    elif not _says_paid(ours, order):
        found.append(Difference(DiscrepancyKind.ORDER_NOT_PAID, by_money))
    elif order.status != EXPECTED[ours.status] or order.refunded_amount not in {None, ours.refunded_amount}:
        found.append(Difference(DiscrepancyKind.REFUND_NOT_REFLECTED, Severity.CRITICAL))
    return found


def _says_paid(ours: Ours, order: Order) -> bool:
    if ours.status is PaymentStatus.COMPLETED:
        return order.status == PAID
    return order.status in EXPECTED.values()


@dataclass(slots=True)
class _Check:
    """One run: what it compares, and what it has come upon so far."""

    since: datetime
    until: datetime
    sessions: Sessions
    orders: OrderService
    deliver: Deliver | None
    progress: Progress | None
    payments: set[UUID] = field(default_factory=set)
    paid_orders: set[str] = field(default_factory=set)
    repaired: set[str] = field(default_factory=set)
    found: set[tuple[DiscrepancyKind, str]] = field(default_factory=set)

    async def compare_payments(self) -> None:
        after: Move | None = None
        while True:
            async with transaction(self.sessions) as session:
                page = await moves_between(session, self.since, self.until, after=after, limit=LOOK_UP_LIMIT)
                # Completed and given back on one day, a payment stands in the list twice.
                new = {move.payment_id for move in page} - self.payments
                settled = await self._settled(session, await payments_with_moves(session, new))
            if not page:
                return
            after = page[-1]
            self.payments |= new
            await self._judge(settled)
            self._tell("payments", len(self.payments))

    async def compare_orders(self) -> None:
        cursor: str | None = None
        while True:
            page = await self.orders.paid_between(self.since, self.until, cursor=cursor)
            if isinstance(page, OrdersUnreachable):
                raise OrdersUnavailable
            new = [order.order_id for order in page.orders if order.order_id not in self.paid_orders]
            self.paid_orders |= set(new)
            for start in range(0, len(new), LOOK_UP_LIMIT):
                await self._judge_orders(new[start : start + LOOK_UP_LIMIT])
            self._tell("orders", len(self.paid_orders))
            if self._is_last(page, new):
                return
            cursor = page.next_cursor

    @staticmethod
    def _is_last(page: OrderPage, new: Sequence[str]) -> bool:
        if page.next_cursor is not None and not new:
            log.error("orders.pages_repeated")  # following them might never end
            raise OrdersUnavailable
        return page.next_cursor is None

    async def _judge(self, page: Sequence[Ours]) -> None:
        held = await self._look_up(page)
        suspects = {one: found for one in page if (found := differences(one, held.get(one.order_id)))}
        if not suspects:
            return
        missed = [one for one, found in suspects.items() if {difference.kind for difference in found} <= MISSED]
        got_again = await self._send_again(missed)
        # Both are read again: they may have moved while the run went on, and the event may have mended the order.
        held = await self._look_up(list(suspects))
        async with transaction(self.sessions) as session:
            now = await database_now(session)
            for payment, _ in await payments_with_moves(session, [one.payment_id for one in suspects]):
                one = _ours(payment)
                if one not in suspects:
                    continue  # it has just moved; the night of that day judges it
                await self._note(session, payment, held.get(one.order_id), at=now)
                if one in got_again and not differences(one, held.get(one.order_id)):
                    self.repaired.add(one.order_id)

    async def _send_again(self, missed: Sequence[Ours]) -> set[Ours]:
        if self.deliver is None or not missed:
            return set()
        async with transaction(self.sessions) as session:
            now = await database_now(session)
            message_ids = await send_again(session, [one.payment_id for one in missed], at=now)
        if not message_ids:
            return set()
        log.warning("orders.missed_events", orders=len(missed), messages=len(message_ids))
        await self.deliver(message_ids)
        return set(missed)

    async def _note(self, session: AsyncSession, payment: Payment, order: Order | None, *, at: datetime) -> None:
        for difference in differences(_ours(payment), order):
            await discrepancies.note(
                session,
                difference.kind,
                payment,
                theirs=_theirs(order),
                at=at,
                severity=difference.severity,
            )
            self.found.add((difference.kind, payment.order_id))

    async def _judge_orders(self, order_ids: Sequence[str]) -> None:
        """Orders that call themselves paid; what is captured here was compared on the night of its own day."""
        async with transaction(self.sessions) as session:
            known = await payments_of_orders(session, order_ids)
            unpaid = [(payment, at) for payment, at in known if payment.status not in EVER_CAPTURED]
            settled = await self._settled(session, unpaid)
        await self._judge(settled)
        without = set(order_ids) - {payment.order_id for payment, _ in known}
        if without:
            await self._judge_without_payment(sorted(without))

    async def _judge_without_payment(self, order_ids: Sequence[str]) -> None:
        again = await self._ask(order_ids)
        async with transaction(self.sessions) as session:
            now = await database_now(session)
            known = {payment.order_id for payment, _ in await payments_of_orders(session, order_ids)}
            for order_id, order in again.items():
                if order_id in known or order.status not in SHIPPABLE:
                    continue
                kind = DiscrepancyKind.ORDER_PAID_WITHOUT_PAYMENT
                ours: dict[str, Json] = {"status": None}
                await discrepancies.note_subject(
                    session, kind, order_id, payment_id=None, ours=ours, theirs=_theirs(order), at=now
                )
                self.found.add((kind, order_id))

    async def _settled(self, session: AsyncSession, page: Iterable[tuple[Payment, datetime]]) -> list[Ours]:
        now = await database_now(session)
        return [_ours(payment) for payment, at in page if at <= now - ON_ITS_WAY]

    async def _look_up(self, page: Sequence[Ours]) -> Mapping[str, Order]:
        return await self._ask([one.order_id for one in page])

    async def _ask(self, order_ids: Sequence[str]) -> Mapping[str, Order]:
        if not order_ids:
            return {}
        held = await self.orders.look_up(order_ids)
        if isinstance(held, OrdersUnreachable):
            raise OrdersUnavailable
        return held

    def _tell(self, what: str, count: int) -> None:
        if self.progress is not None:
            self.progress(what, count)


def _ours(payment: Payment) -> Ours:
    return Ours(payment.id, payment.order_id, payment.status, payment.amount, payment.refunded_amount)


def _theirs(order: Order | None) -> dict[str, Json]:
    if order is None:
        return {"status": None}
    return {"status": order.status, "amount": order.amount, "refundedAmount": order.refunded_amount}
