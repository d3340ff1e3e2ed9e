"""The inbox of webhooks: each stored once, taken by one worker at a time, and settled by what the PG itself says."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, and_, bindparam, case, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from payments.db import Base
from payments.ids import new_id
from payments.models import Payment, PaymentEvent, Refund
from payments.records import ReceivedWebhook, WebhookOutcome
from payments.states import EVER_CAPTURED, PaymentStatus

_TURN: Final = "payments.inbox"  # hashed to the number of the lock; no other lock has this name

# Built once, and without the ORM: an API does little else while webhooks pour in, and needs two thirds of the time so.
_INBOX: Final = Base.metadata.tables[ReceivedWebhook.__tablename__]
_STORE: Final = (
    insert(_INBOX)
    .values(received_at=func.now(), attempts=0, next_attempt_at=func.now())
    .on_conflict_do_nothing(index_elements=[_INBOX.c.dedupe_key])
    .returning(_INBOX.c.id)
)
_SECRET_OF_ORDER: Final = select(Payment.webhook_secret).where(Payment.order_id == bindparam("order_id"))
_SECRET_OF_KEY: Final = select(Payment.webhook_secret).where(Payment.payment_key == bindparam("payment_key"))

_IS_WAITING: Final = and_(ReceivedWebhook.processed_at.is_(None), ReceivedWebhook.parked_at.is_(None))


class VerifiedBy(StrEnum):
    """Why an event was let in."""

    SIGNATURE = "signature"
    SECRET = "secret"  # noqa: S105 - the word for it; it equals the one that the PG gave us for this payment
    LOOKUP = "lookup"  # for no reason: it only makes us ask the PG


@dataclass(frozen=True, slots=True)
class Incoming:
    """An event as it is stored. What it says about a payment is a hint, never the truth."""

    dedupe_key: str
    event_type: str
    order_id: str | None
    payment_key: str | None
    transaction_key: str | None
    status: str | None
    transmission_id: str | None
    verified_by: VerifiedBy
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Due:
    """A stored event whose turn has come; payments by their ids here, where it names any."""

    webhook_id: UUID
    event_type: str
    payment_key: str | None
    is_verified: bool
    of_order: UUID | None
    of_key: UUID | None
    of_refund: UUID | None
    owner_of_key: UUID | None  # for whom the PG has shown that it is theirs

    @property
    def contradicts_itself(self) -> bool:
        """Whether its order id is one payment's and its payment key proved to be another's."""
        return None not in {self.of_order, self.owner_of_key} and self.of_order != self.owner_of_key

    @property
    def payment_id(self) -> UUID | None:
        """The payment that it is about; None for none of ours.

        Its order's, where the payment key was confirmed for another one, so far in vain: the PG shows whose it is.
        """
        return None if self.contradicts_itself else self.of_order or self.of_key or self.of_refund


@dataclass(frozen=True, slots=True)
class Subject:
    """What has to be known of a payment to ask the PG about it."""

    payment_id: UUID
    order_id: str
    payment_key: str | None
    amount: int  # won
    version: int
    status: PaymentStatus


@dataclass(frozen=True, slots=True)
class Held:
    """The events that one question to the PG is asked for, by what was written into them when it was."""

    order_id: str
    asked_at: datetime

    def rows(self) -> ColumnElement[bool]:
        """Those of them that nobody has taken over meanwhile, which would have changed what was written.

        Not narrowed to those that wait: their index is nearly always empty, so that PostgreSQL would prefer it, and
        read all of it for each question when there is a backlog.
        """
        return and_(ReceivedWebhook.order_id == self.order_id, ReceivedWebhook.looked_up_at == self.asked_at)


async def store(session: AsyncSession, event: Incoming) -> bool:
    """Keep an event, due at once; answers whether it is new. The same one again changes nothing."""
    connection = await session.connection()
    stored = await connection.execute(_STORE, {"id": new_id(), **asdict(event)})
    return stored.first() is not None


async def webhook_secret(session: AsyncSession, *, order_id: str | None, payment_key: str | None) -> str | None:
    """The secret that the PG gave us for the payment of this order, or else of this key; None if there is none."""
    if order_id is None and payment_key is None:
        return None
    statement = _SECRET_OF_KEY if order_id is None else _SECRET_OF_ORDER
    connection = await session.connection()
    secret: str | None = await connection.scalar(statement, {"order_id": order_id, "payment_key": payment_key})
    return secret


async def take_turn(session: AsyncSession) -> bool:
    """Whether this transaction may claim; until it ends nobody else may, so that no payment is asked about twice."""
    return bool(await session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(_TURN, 0)))))


async def due(session: AsyncSession, *, now: datetime, limit: int) -> Sequence[Due]:
    """The events whose turn has come, oldest first, locked. Their bodies stay where they are: they are long."""
    rows = await session.execute(
        select(
            ReceivedWebhook.id,
            ReceivedWebhook.event_type,
            ReceivedWebhook.payment_key,
            ReceivedWebhook.verified_by != VerifiedBy.LOOKUP,
            _payment_of_order(),
            func.coalesce(_payment_of_key(), _payment_of_earlier_key()),
            _payment_of_refund(),
            _owner_of_key(),
        )
        .where(_IS_WAITING, ReceivedWebhook.next_attempt_at <= now)
        .order_by(ReceivedWebhook.next_attempt_at, ReceivedWebhook.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=ReceivedWebhook)
    )
    return [Due(*row) for row in rows]


async def subjects(session: AsyncSession, payment_ids: Collection[UUID]) -> Mapping[UUID, Subject]:
    """The payments with these ids."""
    rows = await session.execute(
        select(
            Payment.id, Payment.order_id, Payment.payment_key, Payment.amount, Payment.version, Payment.status
        ).where(Payment.id.in_(payment_ids))
    )
    return {row.id: Subject(*row) for row in rows}


async def looked_up(session: AsyncSession, order_ids: Collection[str], *, since: datetime) -> Mapping[str, datetime]:
    """When the PG was last asked about these orders because of a webhook, if that was after `since`."""
    rows = await session.execute(
        select(ReceivedWebhook.order_id, func.max(ReceivedWebhook.looked_up_at))
        .where(ReceivedWebhook.order_id.in_(order_ids), ReceivedWebhook.looked_up_at > since)
        .group_by(ReceivedWebhook.order_id)
    )
    return {order_id: last for order_id, last in rows if order_id is not None and last is not None}


async def hold(session: AsyncSession, webhook_ids: Collection[UUID], held: Held, *, until: datetime) -> None:
    """Note that the PG is asked for these; others leave them alone `until` then.

    The order id is the one of the payment that they were found to be about, also where they named none; what they
    said stays in their bodies.
    """
    await session.execute(
        update(ReceivedWebhook)
        .where(ReceivedWebhook.id.in_(webhook_ids))
        .values(order_id=held.order_id, looked_up_at=held.asked_at, next_attempt_at=until)
    )


async def postpone(session: AsyncSession, webhook_ids: Collection[UUID], *, until: datetime) -> None:
    await session.execute(
        update(ReceivedWebhook).where(ReceivedWebhook.id.in_(webhook_ids)).values(next_attempt_at=until)
    )


async def dismiss(
    session: AsyncSession, webhook_ids: Collection[UUID], outcome: WebhookOutcome, *, at: datetime
) -> None:
    """Be done with these without asking the PG."""
    await session.execute(
        update(ReceivedWebhook)
        .where(ReceivedWebhook.id.in_(webhook_ids))
        .values(processed_at=at, outcome=outcome, last_error=None)
    )


async def settle(session: AsyncSession, held: Held, outcome: WebhookOutcome, *, at: datetime) -> None:
    """Be done with those that the PG has answered for."""
    await session.execute(
        update(ReceivedWebhook).where(held.rows()).values(processed_at=at, outcome=outcome, last_error=None)
    )


async def try_again(
    session: AsyncSession,
    held: Held,
    *,
    error: str,
    pauses: Sequence[timedelta],
    not_before: timedelta,
    most: int,
    at: datetime,
) -> Sequence[UUID]:
    """Plan these anew, each after the pause of its attempts so far and after `not_before` at the earliest.

    What has been tried `most` times is parked; answers which these are.
    """
    pause = case(dict(enumerate(pauses)), value=ReceivedWebhook.attempts, else_=pauses[-1])
    is_over = ReceivedWebhook.attempts + 1 >= most
    rows = await session.execute(
        update(ReceivedWebhook)
        .where(held.rows())
        .values(
            attempts=ReceivedWebhook.attempts + 1,
            last_error=error,
            next_attempt_at=literal(at) + func.greatest(pause, not_before),
            parked_at=case((is_over, at)),
        )
        .returning(ReceivedWebhook.id, ReceivedWebhook.parked_at)
    )
    return sorted(webhook_id for webhook_id, parked_at in rows if parked_at is not None)


async def replay(session: AsyncSession, webhook_id: UUID | None, *, parked_only: bool) -> int:
    """Let one event, or all, be worked on once more, from the beginning and at once; answers how many."""
    again = update(ReceivedWebhook).values(
        processed_at=None, outcome=None, parked_at=None, last_error=None, attempts=0, next_attempt_at=func.now()
    )
    if webhook_id is not None:
        again = again.where(ReceivedWebhook.id == webhook_id)
    if parked_only:
        again = again.where(ReceivedWebhook.parked_at.is_not(None))
    return len((await session.scalars(again.returning(ReceivedWebhook.id))).all())


def _payment_of_order() -> ScalarSelect[UUID]:
    return select(Payment.id).where(Payment.order_id == ReceivedWebhook.order_id).scalar_subquery()


def _payment_of_key() -> ScalarSelect[UUID]:
    return select(Payment.id).where(Payment.payment_key == ReceivedWebhook.payment_key).scalar_subquery()


def _owner_of_key() -> ScalarSelect[UUID]:
    is_proved = Payment.status.in_(EVER_CAPTURED | {PaymentStatus.WAITING_FOR_DEPOSIT})
    return _payment_of_key().where(is_proved)


def _payment_of_earlier_key() -> ScalarSelect[UUID]:
    """As `queries.get_payment_by_key`: the key may be the one of an attempt that failed."""
    asked = select(PaymentEvent.payment_id).where(PaymentEvent.payment_key == ReceivedWebhook.payment_key)
    return asked.limit(1).scalar_subquery()


def _payment_of_refund() -> ScalarSelect[UUID]:
    return select(Refund.payment_id).where(Refund.transaction_key == ReceivedWebhook.transaction_key).scalar_subquery()
