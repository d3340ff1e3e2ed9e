"""What commands print for operators: progress on stderr, and a report as a table or as JSON on stdout."""

import json
import sys
from collections.abc import Sequence
from typing import Final

from payments.resources import open_resources
from payments.settings import Settings
from payments.states import RefundStatus
from payments.usecases.refund import Resolved, resolve_refunds

DECIDED: Final = 0
UNDECIDED: Final = 1  # something is wrong with the data: it is still not known what happened


async def resolve(settings: Settings, *, order_id: str | None, limit: int, as_json: bool) -> int:
    """Ask about refunds that are not decided and print what came of it; the command's exit code."""
    async with open_resources(settings) as resources:
        resolved = await resolve_refunds(
            sessions=resources.sessions, pg=resources.pg, order_id=order_id, limit=limit, progress=_progress
        )
    print(_as_json(resolved) if as_json else _as_table(resolved))
    return UNDECIDED if any(one.status is RefundStatus.REQUESTED for one in resolved) else DECIDED


def _progress(done: int, of: int) -> None:
    print(f"asked about {done} of {of} refunds", file=sys.stderr)


def _as_json(resolved: Sequence[Resolved]) -> str:
    return json.dumps(
        [
            {
                "orderId": one.order_id,
                "refundId": str(one.refund_id),
                "amount": one.amount,
                "status": one.status.value,
                "code": one.code,
                "ageSeconds": round(one.age.total_seconds()),
            }
            for one in resolved
        ],
        indent=2,
    )


def _as_table(resolved: Sequence[Resolved]) -> str:
    if not resolved:
        return "Every refund is decided."
    rows = [("ORDER", "REFUND", "AMOUNT", "STATUS", "AGE", "CODE")]
    for one in resolved:
        age = f"{round(one.age.total_seconds())} s"
        rows.append((one.order_id, str(one.refund_id), f"{one.amount:,}", one.status.value, age, one.code or ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    decided = sum(one.status is not RefundStatus.REQUESTED for one in resolved)
    return "\n".join([*lines, f"{decided} of {len(resolved)} refunds are decided."])
