"""What operators can have done by hand: each command opens what it needs, calls one use case and prints the outcome."""

import getpass
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

from payments import discrepancies, outbox
from payments.access import KeyText, Scope, read_key
from payments.business_day import yesterday
from payments.card_numbers import mask
from payments.db import transaction
from payments.errors import OrdersUnavailable, PgUnavailable, StillNeeded
from payments.nightly import check_orders_of, reconcile_day
from payments.presence import here
from payments.queries import count_pending, database_now, is_alive
from payments.records import DiscrepancyKind, NightlyCheck
from payments.reports import (
    Rows,
    as_json,
    as_lines,
    as_table,
    discrepancy_report,
    discrepancy_rows,
    key_rows,
    recovered_rows,
    recovered_summary,
    resolved_rows,
    resolved_summary,
    sent_rows,
    sent_summary,
)
from payments.resources import COMMAND, WORKER, Resources, open_resources
from payments.settings import Settings
from payments.states import Cause, RefundStatus
from payments.usecases.deliver import deliver_now
from payments.usecases.erase import erase, erase_order
from payments.usecases.forget import forget
from payments.usecases.keys import NewKey, create_key, list_keys, revoke_key
from payments.usecases.nights import Run, run_night_by_hand
from payments.usecases.reconcile import Cap
from payments.usecases.recover import recover_all
from payments.usecases.refund import resolve_refunds
from payments.usecases.work_webhooks import replay_webhooks

DONE: Final = 0
WRONG: Final = 1  # something is wrong with the data
CANNOT: Final = 2  # it could not be done as asked


async def resolve_refunds_now(settings: Settings, *, order_id: str | None, limit: int, in_json: bool) -> int:
    """Ask the PG about every refund that is not decided."""
    async with open_resources(settings, role=COMMAND) as held:
        resolved = await resolve_refunds(
            sessions=held.sessions, pg=held.pg, order_id=order_id, limit=limit, progress=_asked("refunds")
        )
    rows = resolved_rows(resolved)
    _show_rows(rows, nothing="Every refund is decided.", summary=resolved_summary(resolved), in_json=in_json)
    return WRONG if any(one.status is RefundStatus.REQUESTED for one in resolved) else DONE


async def recover_now(settings: Settings, *, limit: int, in_json: bool) -> int:
    """Ask the PG about every payment whose outcome is unknown."""
    async with open_resources(settings, role=COMMAND) as held:
        recovered = await recover_all(
            sessions=held.sessions, pg=held.pg, lease=held.pg_lease, limit=limit, progress=_asked("payments")
        )
        async with transaction(held.sessions) as session:
            left = await count_pending(session)
    nothing = f"{left} payments are being asked about." if left else "The outcome of every payment is known."
    _show_rows(recovered_rows(recovered), nothing=nothing, summary=recovered_summary(recovered), in_json=in_json)
    return WRONG if left else DONE


async def deliver_events_now(settings: Settings, *, in_json: bool) -> int:
    """Send the order service what it was not told yet."""
    async with open_resources(settings, role=COMMAND) as held:
        if held.subscriber is None:
            return _cannot("EVENTS_URL is not set: there is nobody to tell.")
        sent = await deliver_now(sessions=held.sessions, subscriber=held.subscriber, progress=_sent)
        async with transaction(held.sessions) as session:
            left = len(await outbox.undelivered(session, None))
    nothing = f"{left} events are still on their way." if left else "Every event is delivered."
    _show_rows(sent_rows(sent), nothing=nothing, summary=sent_summary(sent), in_json=in_json)
    return WRONG if left else DONE


async def check_orders_now(settings: Settings, *, day: date | None, in_json: bool) -> int:
    """Compare the orders of one business day with its payments."""
    async with open_resources(settings, role=COMMAND) as held:
        if held.orders is None:
            return _cannot("ORDERS_URL is not set: there are no orders to compare with.")
        compare = partial(check_orders_of, held, cause=Cause.OPERATOR, progress=_compared)
        return await _compare(NightlyCheck.ORDERS, compare, day=day, held=held, in_json=in_json)


async def reconcile_now(settings: Settings, *, day: date | None, cap: Cap | None, in_json: bool) -> int:
    """Compare the payments of one business day with what the PG lists."""
    async with open_resources(settings, role=COMMAND) as held:
        compare = partial(reconcile_day, held, cause=Cause.OPERATOR, cap=cap, progress=_compared)
        return await _compare(NightlyCheck.PG, compare, day=day, held=held, in_json=in_json)


async def _compare(kind: NightlyCheck, run: Run, *, day: date | None, held: Resources, in_json: bool) -> int:
    async with transaction(held.sessions) as session:
        chosen = day or yesterday(await database_now(session))
    try:
        report = await run_night_by_hand(kind, chosen, run=run, sessions=held.sessions)
    except (OrdersUnavailable, PgUnavailable) as error:
        return _cannot(f"{error.detail} What was found by then is noted; run it again.")
    _show(as_json(report) if in_json else as_lines(report))
    return WRONG if report["found"] or report.get("stopped") else DONE


async def list_discrepancies(
    settings: Settings, *, kind: DiscrepancyKind | None, resolved_too: bool, limit: int, in_json: bool
) -> int:
    """Print the differences that nobody has resolved."""
    async with open_resources(settings, role=COMMAND) as held, transaction(held.sessions) as session:
        found = await discrepancies.listed(session, kind=kind, resolved_too=resolved_too, limit=limit)
    rows = discrepancy_rows(found)
    _show_rows(rows, nothing="There is no discrepancy.", summary=f"Found: {len(rows)}.", in_json=in_json)
    return DONE


async def show_discrepancy(settings: Settings, discrepancy_id: UUID, *, in_json: bool) -> int:
    """Print one difference with both sides' values."""
    async with open_resources(settings, role=COMMAND) as held, transaction(held.sessions) as session:
        report = discrepancy_report(await discrepancies.find(session, discrepancy_id))
    _show(as_json(report) if in_json else as_lines(report))
    return DONE


async def resolve_discrepancy(settings: Settings, discrepancy_id: UUID, *, note: str, by: str | None) -> int:
    """Write down that a person has looked at a difference, and what came of it."""
    async with open_resources(settings, role=COMMAND) as held, transaction(held.sessions) as session:
        found = await discrepancies.find(session, discrepancy_id)
        if found.resolved_at is not None:
            return _cannot(f"{found.resolved_by} resolved it before: {found.resolution or 'erased'}")
        found.resolved_at = await database_now(session)
        found.resolved_by = _person(by)
        found.resolution = mask(note)
    _show(f"{found.kind.value} of {found.subject} is resolved.")
    return DONE


async def replay_events(settings: Settings, *, order_id: str | None, message_id: UUID | None) -> int:
    """Have events sent to the order service once more; those that were parked, unless some are named."""
    async with open_resources(settings, role=COMMAND) as held, transaction(held.sessions) as session:
        parked_only = order_id is None and message_id is None
        now = await database_now(session)
        count = await outbox.replay(session, order_id=order_id, message_id=message_id, parked_only=parked_only, at=now)
    _show(f"{count} events will be sent once more.")
    return DONE


async def replay_webhooks_now(settings: Settings, *, webhook_id: UUID | None) -> int:
    """Have webhooks of the PG worked on once more; those that were parked, unless one is named."""
    async with open_resources(settings, role=COMMAND) as held:
        count = await replay_webhooks(sessions=held.sessions, webhook_id=webhook_id, parked_only=webhook_id is None)
    _show(f"{count} webhooks will be worked on once more.")
    return DONE


async def forget_now(settings: Settings) -> int:
    """Delete what is older than it has to be."""
    async with open_resources(settings, role=COMMAND) as held:
        gone = await forget(sessions=held.sessions, progress=_deleted)
    _show(as_lines(dict(gone)))
    return DONE


@dataclass(frozen=True, slots=True)
class WantedKey:
    """A key as a person asks for it."""

    name: str
    scopes: frozenset[Scope]
    by: str | None
    lives: timedelta | None
    from_file: Path | None
    refund_limit: int | None


async def create_key_now(settings: Settings, wanted: WantedKey) -> int:
    """Make an API key and print it; or take one that was made elsewhere, which is not printed."""
    given = _key_in(wanted.from_file) if wanted.from_file else None
    if wanted.from_file and given is None:
        return _cannot(f"{wanted.from_file} cannot be read, or holds no API key.")
    new = NewKey(wanted.name, wanted.scopes, _person(wanted.by), wanted.lives, wanted.refund_limit, given)
    async with open_resources(settings, role=COMMAND) as held:
        key = await create_key(new, sessions=held.sessions)
    if given is None:
        print("This is the key. It is not kept and cannot be shown again:", file=sys.stderr)
        _show(key.text)
    else:
        _show(f"The key {key.prefix} of {wanted.name} is valid.")
    return DONE


def _key_in(file: Path) -> KeyText | None:
    try:
        return read_key(file.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError):
        return None


async def list_keys_now(settings: Settings, *, revoked_too: bool, in_json: bool) -> int:
    """Print who can show a key, and what for."""
    async with open_resources(settings, role=COMMAND) as held:
        rows = key_rows(await list_keys(sessions=held.sessions, revoked_too=revoked_too))
    _show_rows(rows, nothing="There is no API key.", summary=f"Found: {len(rows)}.", in_json=in_json)
    return DONE


async def revoke_key_now(settings: Settings, prefix: str, *, by: str | None) -> int:
    """Make a key worthless."""
    async with open_resources(settings, role=COMMAND) as held:
        key = await revoke_key(prefix, by=_person(by), sessions=held.sessions)
    _show(f"The key {key.prefix} of {key.name} is revoked.")
    return DONE


async def erase_now(settings: Settings) -> int:
    """Erase who paid, where it has been kept for long enough."""
    async with open_resources(settings, role=COMMAND) as held:
        older_than = settings.personal_data_kept
        erased = await erase(sessions=held.sessions, older_than=older_than, progress=_erased)
    _show(
        as_lines(
            {
                "payments": erased.payments,
                "resolutions": erased.resolutions,
                "webhooks": erased.webhooks,
                "stillNeeded": erased.still_needed,
            }
        )
    )
    return DONE


async def erase_order_now(settings: Settings, order_id: str) -> int:
    """Erase who paid for one order, because they have asked for it."""
    async with open_resources(settings, role=COMMAND) as held:
        try:
            erased = await erase_order(order_id, sessions=held.sessions)
        except StillNeeded as refused:
            return _cannot(f"{refused.detail} Nothing was erased: {'; '.join(refused.because)}.")
    _show("It is not known any more who paid." if erased else "It was not known any more who paid.")
    return DONE


async def check_worker(settings: Settings) -> int:
    """Whether a worker of this machine is alive: what a container's health check asks."""
    async with open_resources(settings, role=COMMAND) as held, transaction(held.sessions) as session:
        alive = await is_alive(session, name_begins=f"{here(WORKER)}:")
    _show("A worker of this machine is alive." if alive else "No worker of this machine says that it is alive.")
    return DONE if alive else WRONG


def _person(name: str | None) -> str:
    return (name or _user())[:100]


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


def _show(text: str) -> None:
    print(text)


def _show_rows(rows: Rows, *, nothing: str, summary: str, in_json: bool) -> None:
    if in_json:
        _show(as_json(rows))
    else:
        _show("\n".join([as_table(rows), summary]) if rows else nothing)


def _cannot(why: str) -> int:
    print(f"payments: {why}", file=sys.stderr)
    return CANNOT


def _asked(what: str) -> Callable[[int, int], None]:
    return lambda done, of: print(f"asked about {done} of {of} {what}", file=sys.stderr)


def _sent(done: int, of: int) -> None:
    print(f"sent {done} of {of} events", file=sys.stderr)


def _compared(what: str, done: int) -> None:
    print(f"compared {done} {what}", file=sys.stderr)


def _erased(payments: int) -> None:
    print(f"erased who paid of {payments} payments", file=sys.stderr)


def _deleted(table: str, rows: int) -> None:
    print(f"deleted {rows} of {table}", file=sys.stderr)
