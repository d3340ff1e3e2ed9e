"""The nightly checks with all that they need, for the worker and for operators."""

from collections.abc import Callable, Sequence
from datetime import date
from uuid import UUID

from payments.errors import OrdersUnavailable
from payments.records import Json
from payments.resources import Resources
from payments.states import Cause
from payments.usecases.check_orders import OrdersReport, check_orders
from payments.usecases.deliver import deliver_now
from payments.usecases.reconcile import USUAL_CAP, Cap, reconcile

Progress = Callable[[str, int], None]


async def check_orders_of(
    held: Resources, day: date, *, cause: Cause = Cause.NIGHTLY, progress: Progress | None = None
) -> dict[str, Json]:
    """Compare the orders of a business day with its payments.

    Raises:
        OrdersUnavailable: the order service is not configured, or could not be asked.
    """
    if held.orders is None:
        raise OrdersUnavailable
    subscriber = held.subscriber

    async def _deliver(message_ids: Sequence[UUID]) -> None:
        if subscriber is not None:
            await deliver_now(sessions=held.sessions, subscriber=subscriber, message_ids=message_ids)

    report: OrdersReport = await check_orders(
        day,
        sessions=held.sessions,
        orders=held.orders,
        cause=cause,
        deliver=_deliver if subscriber is not None else None,
        progress=progress,
    )
    return report.as_json()


async def reconcile_day(
    held: Resources,
    day: date,
    *,
    cause: Cause = Cause.NIGHTLY,
    cap: Cap | None = USUAL_CAP,
    progress: Progress | None = None,
) -> dict[str, Json]:
    """Compare the payments of a business day with what the PG lists; `cap` as for `reconcile`.

    Raises:
        PgUnavailable: the PG did not answer for all of them; what it answered for is recorded.
    """
    report = await reconcile(day, sessions=held.sessions, pg=held.pg, cause=cause, cap=cap, progress=progress)
    return report.as_json()
