import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from sqlalchemy import func, update

from payments import discrepancies
from payments.alerts import Alert
from payments.db import Sessions, transaction
from payments.queries import database_now
from payments.records import Discrepancy, DiscrepancyKind, Json, Severity
from payments.usecases.alert import AT_ONCE, LEASE, alert_new
from tests.integration.events_world import noted
from tests.integration.night_world import opened

KIND = DiscrepancyKind.ORDER_MISSING
UNPAID: dict[str, Json] = {"status": "PENDING"}


@dataclass
class Pager:
    """A person's pager, which may be out of reach."""

    is_reached: bool = True
    heard: list[Alert] = field(default_factory=list)
    tries: int = 0

    async def send(self, alert: Alert) -> bool:
        self.tries += 1
        if self.is_reached:
            self.heard.append(alert)
        return self.is_reached


class Died(BaseException):
    """The process ends at this point."""


class DeadlyPager(Pager):
    async def send(self, alert: Alert) -> bool:
        await super().send(alert)
        raise Died


@pytest.fixture
async def sessions(database: str) -> AsyncIterator[Sessions]:
    async with opened(database) as sessions:
        yield sessions


async def note(
    sessions: Sessions,
    *subjects: str,
    theirs: dict[str, Json] | None = None,
    severity: Severity = Severity.CRITICAL,
) -> list[bool]:
    """These differ; which of them are new."""
    told: dict[str, Json] = UNPAID if theirs is None else theirs
    async with transaction(sessions) as session:
        now = await database_now(session)
        return [
            await discrepancies.note_subject(
                session, KIND, subject, payment_id=None, ours={"amount": 1}, theirs=told, at=now, severity=severity
            )
            for subject in subjects
        ]


async def resolve(sessions: Sessions) -> None:
    """A person has looked at all of them."""
    values = {"resolved_at": func.now(), "resolved_by": "operator", "resolution": "mended"}
    async with transaction(sessions) as session:
        await session.execute(update(Discrepancy).values(values))


async def let_pass(sessions: Sessions, time: timedelta) -> None:
    """So much time goes by for alerts that wait."""
    async with transaction(sessions) as session:
        await session.execute(update(Discrepancy).values(next_alert_at=Discrepancy.next_alert_at - time))


class TestAlert:
    async def test_each_is_told_once_however_often_it_is_seen_and_however_many_tell(self, sessions: Sessions) -> None:
        pager = Pager()
        await note(sessions, "order-000001")
        counts = await asyncio.gather(*(alert_new(sessions=sessions, alerts=pager) for _ in range(4)))
        await note(sessions, "order-000001")
        await let_pass(sessions, 2 * LEASE)

        assert await alert_new(sessions=sessions, alerts=pager) == 0

        (alert,) = pager.heard
        (found,) = await noted(sessions)
        assert sum(counts) == 1
        assert (alert.title, str(found.id) in alert.body) == ("payments: order_missing", True)
        assert "order_missing  order-000001" in alert.body
        assert found.alerted_at is not None

    async def test_what_is_no_more_than_a_warning_and_what_was_resolved_wakes_nobody(self, sessions: Sessions) -> None:
        pager = Pager()
        await note(sessions, "order-000001")
        await resolve(sessions)
        await note(sessions, "order-000002", severity=Severity.WARNING)

        assert await alert_new(sessions=sessions, alerts=pager) == 0
        assert pager.tries == 0

    async def test_many_are_one_page_and_the_rest_the_next(self, sessions: Sessions) -> None:
        pager = Pager()
        await note(sessions, *(f"order-{number:06}" for number in range(AT_ONCE + 5)))

        counts = [await alert_new(sessions=sessions, alerts=pager) for _ in range(3)]

        assert counts == [AT_ONCE, 5, 0]
        assert [alert.title for alert in pager.heard] == ["payments: 20 discrepancies", "payments: 5 discrepancies"]
        told = "\n".join(alert.body for alert in pager.heard)
        assert all(f"order-{number:06}" in told for number in range(AT_ONCE + 5))

    async def test_what_nobody_could_be_told_is_tried_again_a_while_later(self, sessions: Sessions) -> None:
        pager = Pager(is_reached=False)
        await note(sessions, "order-000001")
        at_once = [await alert_new(sessions=sessions, alerts=pager) for _ in range(3)]
        pager.is_reached = True
        await let_pass(sessions, LEASE)

        assert await alert_new(sessions=sessions, alerts=pager) == 1
        assert (at_once, pager.tries, len(pager.heard)) == ([0, 0, 0], 2, 1)

    async def test_who_dies_before_writing_it_down_has_it_told_again(self, sessions: Sessions) -> None:
        await note(sessions, "order-000001")
        with pytest.raises(Died):
            await alert_new(sessions=sessions, alerts=DeadlyPager())
        pager = Pager()
        too_early = await alert_new(sessions=sessions, alerts=pager)
        await let_pass(sessions, LEASE)

        assert (too_early, await alert_new(sessions=sessions, alerts=pager)) == (0, 1)


class TestReopened:
    async def test_where_the_other_side_changed_after_somebody_had_looked_it_is_told_again(
        self, sessions: Sessions
    ) -> None:
        pager = Pager()
        await note(sessions, "order-000001")
        await alert_new(sessions=sessions, alerts=pager)
        await resolve(sessions)

        assert await note(sessions, "order-000001", theirs={"status": "CANCELLED"}) == [True]

        (found,) = await noted(sessions)
        assert (found.resolved_at, found.resolved_by, found.resolution, found.alerted_at) == (None,) * 4
        assert found.theirs == {"status": "CANCELLED"}
        assert await alert_new(sessions=sessions, alerts=pager) == 1
        assert len(pager.heard) == 2

    async def test_what_turns_out_to_be_about_money_is_told_after_all(self, sessions: Sessions) -> None:
        pager = Pager()
        await note(sessions, "order-000001", severity=Severity.WARNING)
        await alert_new(sessions=sessions, alerts=pager)
        before = len(pager.heard)

        await note(sessions, "order-000001")
        await note(sessions, "order-000001", severity=Severity.WARNING)

        assert (before, await alert_new(sessions=sessions, alerts=pager), len(pager.heard)) == (0, 1, 1)

    async def test_where_it_stays_as_it_was_nobody_is_called_again(self, sessions: Sessions) -> None:
        await note(sessions, "order-000001")
        await resolve(sessions)
        (before,) = await noted(sessions)

        assert await note(sessions, "order-000001") == [False]

        (found,) = await noted(sessions)
        assert (found.resolved_by, found.first_seen_at) == ("operator", before.first_seen_at)
        assert found.last_seen_at > before.last_seen_at

    async def test_an_open_one_that_changes_shows_the_newest_and_is_not_told_again(self, sessions: Sessions) -> None:
        pager = Pager()
        await note(sessions, "order-000001")
        await alert_new(sessions=sessions, alerts=pager)

        assert await note(sessions, "order-000001", theirs={"status": "CANCELLED"}) == [False]

        (found,) = await noted(sessions)
        assert found.theirs == {"status": "CANCELLED"}
        assert await alert_new(sessions=sessions, alerts=pager) == 0
