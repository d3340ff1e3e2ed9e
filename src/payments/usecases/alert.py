"""Alert: a person is told of each critical discrepancy, once."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from payments import discrepancies
from payments.alerts import Alert, Alerts
from payments.db import Sessions, transaction
from payments.queries import database_now
from payments.records import Discrepancy

# Longer than telling may take. Who told and died before saying so has it told once more.
LEASE: Final = timedelta(minutes=1)
AT_ONCE: Final = 20  # in one message, so that a bad night is one page and not a thousand


async def alert_new(*, sessions: Sessions, alerts: Alerts, limit: int = AT_ONCE) -> int:
    """Tell of the discrepancies that nobody was told of yet; answers of how many. Several workers may do this."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        found = await discrepancies.claim_alerts(session, now=now, until=now + LEASE, limit=limit)
    if not found or not await alerts.send(_in_words(found)):
        return 0
    async with transaction(sessions) as session:
        now = await database_now(session)
        await discrepancies.were_told(session, [one.id for one in found], at=now)
    return len(found)


def _in_words(found: Sequence[Discrepancy]) -> Alert:
    title = f"payments: {found[0].kind.value}" if len(found) == 1 else f"payments: {len(found)} discrepancies"
    lines = [f"{one.kind.value}  {one.subject}  ours {one.ours}  theirs {one.theirs}  id {one.id}" for one in found]
    return Alert(title, "\n".join([*lines, "", "payments discrepancies show ID"]))
