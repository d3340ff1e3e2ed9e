"""What is done to a payment becomes its history when a session writes it, once."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from payments.db import transaction
from payments.models import Move, Payment, PaymentEvent
from payments.queries import get_payment_to_change
from payments.resources import Resources
from payments.states import Cause, PaymentStatus
from tests.builders import AT, CONFIRM_KEY, LATER, LEASE, ORDER_ID, PAYMENT_KEY, a_payment

C, P, F = PaymentStatus.CREATED, PaymentStatus.PENDING, PaymentStatus.FAILED


async def written(session: AsyncSession) -> list[tuple[int, PaymentStatus | None, PaymentStatus]]:
    rows = await session.scalars(select(PaymentEvent).order_by(PaymentEvent.payment_id, PaymentEvent.sequence))
    return [(row.sequence, row.from_status, row.to_status) for row in rows]


def begin(payment: Payment) -> None:
    payment.begin_confirm(PAYMENT_KEY, payment.amount, confirm_key=CONFIRM_KEY, at=LATER, lease=LEASE)


class TestMoves:
    async def test_wait_on_the_payment_until_it_is_written(self, resources: Resources) -> None:
        payment = a_payment(P)
        waiting = [(move.sequence, move.from_status, move.to_status) for move in payment.new_moves]

        async with transaction(resources.sessions) as session:
            session.add(payment)

        assert waiting == [(1, None, C), (2, C, P)]
        assert payment.new_moves == []
        async with transaction(resources.sessions) as session:
            assert await written(session) == waiting

    async def test_are_written_once_however_often_the_session_is_flushed(self, resources: Resources) -> None:
        payment = a_payment(C)
        async with transaction(resources.sessions) as session:
            session.add(payment)
            for _ in range(3):
                await session.flush()
            begin(payment)
            for _ in range(3):
                await session.flush()
            payment.fail("REJECT_CARD_PAYMENT", "한도초과", at=LATER, cause=Cause.API)

        async with transaction(resources.sessions) as session:
            assert await written(session) == [(1, None, C), (2, C, P), (3, P, F)]

    async def test_are_written_as_they_were_made(self, resources: Resources) -> None:
        payment = a_payment(F)
        (*_, last) = payment.new_moves
        async with transaction(resources.sessions) as session:
            session.add(payment)

        async with transaction(resources.sessions) as session:
            (*_, row) = await session.scalars(select(PaymentEvent).order_by(PaymentEvent.sequence))
        assert row.payment_id == payment.id
        assert row.at == AT
        assert Move(**{name: getattr(row, name) for name in Move.__slots__}) == last

    async def test_of_another_day_go_on_where_the_history_ended(self, resources: Resources) -> None:
        async with transaction(resources.sessions) as session:
            session.add(a_payment(C))
        async with transaction(resources.sessions) as session:
            payment, _ = await get_payment_to_change(session, ORDER_ID)

            begin(payment)

        async with transaction(resources.sessions) as session:
            assert await written(session) == [(1, None, C), (2, C, P)]

    async def test_of_several_payments_do_not_mix(self, resources: Resources) -> None:
        one, other = a_payment(C), a_payment(P, order_id="order-000002")
        async with transaction(resources.sessions) as session:
            session.add_all([one, other])

        async with transaction(resources.sessions) as session:
            assert await written(session) == [(1, None, C), (1, None, C), (2, C, P)]

    async def test_that_are_rolled_back_leave_nothing(self, resources: Resources) -> None:
        async with resources.sessions() as session:
            session.add(a_payment(P))
            await session.flush()
            assert len(await written(session)) == 2
            await session.rollback()

        async with transaction(resources.sessions) as session:
            assert await written(session) == []

    async def test_that_change_nothing_else_are_none(self, resources: Resources) -> None:
        async with transaction(resources.sessions) as session:
            session.add(a_payment(C))
        async with transaction(resources.sessions) as session:
            payment, now = await get_payment_to_change(session, ORDER_ID)

            payment.check_at(now)

        async with transaction(resources.sessions) as session:
            assert await written(session) == [(1, None, C)]
