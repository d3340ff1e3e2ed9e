"""What the order service must be told, written in the same transaction as the change itself."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from payments.ids import new_id
from payments.models import Payment
from payments.queries import refunds_of
from payments.records import EventType, OutboxMessage
from payments.snapshots import snapshot
from payments.states import EVER_CAPTURED


async def announce(session: AsyncSession, payment: Payment, event_type: EventType, *, at: datetime) -> None:
    """Add the message that tells of the payment's newest history row. Sent only if this transaction commits."""
    await session.flush()  # so that the snapshot carries the version that this change gets
    refunds = await refunds_of(session, payment.id) if payment.status in EVER_CAPTURED else ()
    session.add(
        OutboxMessage(
            id=new_id(),
            payment_id=payment.id,
            sequence=payment.last_sequence,
            type=event_type,
            payload={
                "type": event_type.value,
                "sequence": payment.last_sequence,
                "payment": snapshot(payment, refunds),
            },
            created_at=at,
            attempts=0,
            next_attempt_at=at,
        )
    )
