from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import pytest
from sqlalchemy import func, select

from payments.db import Base, Sessions, transaction
from payments.ids import new_id
from payments.inbox import VerifiedBy
from payments.models import Payment, PaymentEvent
from payments.queries import database_now
from payments.records import EventType, IdempotentRequest, OutboxMessage, Process, ReceivedWebhook, WebhookOutcome
from payments.usecases import forget as forgetting
from payments.usecases.forget import KEPT_FOR, forget
from tests.builders import a_payment
from tests.integration.night_world import opened

AGES: Final = timedelta(days=3650)
MARGIN: Final = timedelta(hours=1)


@pytest.fixture
async def sessions(database: str) -> AsyncIterator[Sessions]:
    async with opened(database) as sessions:
        yield sessions


def a_request(at: datetime) -> IdempotentRequest:
    name = new_id().bytes * 2
    return IdempotentRequest(id=new_id(), key_hash=name, fingerprint=name, created_at=at, locked_until=at)


def a_webhook(at: datetime, *, parked_at: datetime | None = None, is_processed: bool = True) -> ReceivedWebhook:
    return ReceivedWebhook(
        id=new_id(),
        dedupe_key=new_id().hex,
        event_type="PAYMENT_STATUS_CHANGED",
        verified_by=VerifiedBy.LOOKUP,
        body=b"{}",
        received_at=at,
        attempts=0,
        next_attempt_at=at,
        processed_at=at if is_processed else None,
        outcome=WebhookOutcome.ORPHAN if is_processed else None,
        parked_at=parked_at,
    )


def a_message(
    at: datetime, payment: Payment, *, delivered_at: datetime | None, parked_at: datetime | None = None, number: int = 1
) -> OutboxMessage:
    return OutboxMessage(
        id=new_id(),
        payment_id=payment.id,
        sequence=number,
        type=EventType.COMPLETED,
        payload={},
        created_at=at,
        attempts=1,
        next_attempt_at=at,
        awaits_receiver=False,
        delivered_at=delivered_at,
        parked_at=parked_at,
    )


def a_process(at: datetime) -> Process:
    return Process(id=new_id(), name="worker elsewhere:1", started_at=at, seen_at=at)


async def stored(sessions: Sessions, make: Callable[[datetime], Sequence[Base]]) -> None:
    """These rows, made with the database's time."""
    async with transaction(sessions) as session:
        session.add_all(make(await database_now(session)))


async def with_a_payment(sessions: Sessions, make: Callable[[datetime, Payment], Sequence[Base]]) -> None:
    """The same for rows of a payment that was made long ago."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        payment = a_payment()
        session.add(payment)
        await session.flush()
        session.add_all(make(now, payment))


async def count(sessions: Sessions, entity: type[Base]) -> int:
    async with transaction(sessions) as session:
        return (await session.scalars(select(func.count()).select_from(entity))).one()


class TestForget:
    async def test_requests_go_when_no_client_repeats_them_any_more(self, sessions: Sessions) -> None:
        kept = KEPT_FOR["idempotent_requests"]
        await stored(sessions, lambda now: [a_request(now - kept - MARGIN), a_request(now - kept + MARGIN)])

        gone = await forget(sessions=sessions)

        assert gone == {**dict.fromkeys(KEPT_FOR, 0), "idempotent_requests": 1}
        assert await count(sessions, IdempotentRequest) == 1

    async def test_webhooks_go_when_they_were_worked_on_and_never_while_they_wait(self, sessions: Sessions) -> None:
        kept = KEPT_FOR["received_webhooks"]
        await stored(
            sessions,
            lambda now: [
                a_webhook(now - kept - MARGIN),
                a_webhook(now - kept + MARGIN),
                a_webhook(now - AGES, is_processed=False),
                a_webhook(now - AGES, is_processed=False, parked_at=now),
            ],
        )

        gone = await forget(sessions=sessions)

        assert gone == {**dict.fromkeys(KEPT_FOR, 0), "received_webhooks": 1}
        assert await count(sessions, ReceivedWebhook) == 3

    async def test_events_go_when_they_were_delivered_and_never_while_they_wait(self, sessions: Sessions) -> None:
        kept = KEPT_FOR["outbox_messages"]
        await with_a_payment(
            sessions,
            lambda now, payment: [
                a_message(now - kept - MARGIN, payment, delivered_at=now - kept - MARGIN),
                a_message(now - kept + MARGIN, payment, delivered_at=now, number=2),
                a_message(now - AGES, payment, delivered_at=None, number=3),
                a_message(now - AGES, payment, delivered_at=None, parked_at=now, number=4),
            ],
        )

        gone = await forget(sessions=sessions)

        assert gone == {**dict.fromkeys(KEPT_FOR, 0), "outbox_messages": 1}
        assert await count(sessions, OutboxMessage) == 3
        assert await count(sessions, PaymentEvent) == 4  # however old the payment is

    async def test_processes_go_when_they_have_long_been_silent(self, sessions: Sessions) -> None:
        kept = KEPT_FOR["processes"]
        await stored(sessions, lambda now: [a_process(now - kept - MARGIN), a_process(now - kept + MARGIN)])

        gone = await forget(sessions=sessions)

        assert gone == {**dict.fromkeys(KEPT_FOR, 0), "processes": 1}

    async def test_more_than_a_batch_goes_in_several_and_each_is_told_of(self, sessions: Sessions) -> None:
        rows = 2 * forgetting.BATCH + 1
        await stored(sessions, lambda now: [a_process(now - AGES) for _ in range(rows)])
        told: list[tuple[str, int]] = []

        gone = await forget(sessions=sessions, progress=lambda table, gone_by_now: told.append((table, gone_by_now)))

        assert gone["processes"] == rows
        assert told == [("processes", number) for number in (1000, 2000, 2001)]
