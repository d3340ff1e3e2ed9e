"""Alert: a person is told of each critical discrepancy, once."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from payments import discrepancies
from payments.alerts import Alert, Alerts
from payments.db import Sessions, transaction
from payments.queries import database_now
from payments.records import Discrepancy

# Longer than telling may take, one after the other. Who told and died before saying so has it told once more.
LEASE: Final = timedelta(minutes=10)
AT_ONCE: Final = 20  # in one message, so that a bad night is one page and not a thousand


async def alert_new(*, sessions: Sessions, alerts: Alerts, limit: int = AT_ONCE) -> int:
    """Tell of the discrepancies that nobody was told of yet; answers of how many. Several workers may do this."""
    async with transaction(sessions) as session:
        now = await database_now(session)
        found = await discrepancies.claim_alerts(session, now=now, until=now + LEASE, limit=limit)
    told = await _tell(found, alerts=alerts)
    if told:
        async with transaction(sessions) as session:
            now = await database_now(session)
            await discrepancies.were_told(session, [one.id for one in told], at=now)
    return len(told)


async def _tell(found: Sequence[Discrepancy], *, alerts: Alerts) -> Sequence[Discrepancy]:
    """Tell of all of them at once; where that is not taken, of one after the other. Answers those that were."""
    if not found:
        return ()
    if await alerts.send(_in_words(found)):
        return found
    if len(found) == 1:
        return ()
    return [one for one in found if await alerts.send(_in_words([one]))]


def _in_words(found: Sequence[Discrepancy]) -> Alert:
    title = f"payments: {found[0].kind.value}" if len(found) == 1 else f"payments: {len(found)} discrepancies"
    lines = [
        f"{one.kind.value}  {one.subject}  ours {json.dumps(one.ours, ensure_ascii=False)}  "
        f"theirs {json.dumps(one.theirs, ensure_ascii=False)}  id {one.id}"
        for one in found
    ]
    return Alert(title, "\n".join([*lines, "", "payments discrepancies show ID"]))
