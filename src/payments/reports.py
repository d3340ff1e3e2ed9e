"""How commands print what they found: as a table for people, as JSON for programs."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from payments.records import ApiKey, Discrepancy, Json
from payments.snapshots import iso
from payments.states import PaymentStatus, RefundStatus
from payments.usecases.deliver import Sent
from payments.usecases.recover import Recovered
from payments.usecases.refund import Resolved

Rows = Sequence[Mapping[str, Json]]


def as_json(found: object) -> str:
    return json.dumps(found, indent=2, ensure_ascii=False)


def as_table(rows: Rows) -> str:
    """Columns named by the members of the first row; there is at least one."""
    cells = [[_heading(name) for name in rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def as_lines(report: Mapping[str, Json]) -> str:
    """One line for each member, with those of a member's own members indented below it."""
    width = max(len(name) for name in report)
    lines = []
    for name, value in report.items():
        if isinstance(value, dict):
            lines.append(f"{name.ljust(width)}  {'' if value else 'none'}".rstrip())
            lines += [f"  {inner}: {_cell(one)}" for inner, one in value.items()]
        else:
            lines.append(f"{name.ljust(width)}  {_cell(value)}")
    return "\n".join(lines)


def key_rows(keys: Sequence[ApiKey]) -> Rows:
    return [
        {
            "prefix": key.prefix,
            "name": key.name,
            "scopes": ",".join(key.scopes),
            "refundLimit": key.refund_limit,
            "createdAt": iso(key.created_at),
            "createdBy": key.created_by,
            "expiresAt": iso(key.expires_at),
            "revokedAt": iso(key.revoked_at),
            "revokedBy": key.revoked_by,
        }
        for key in keys
    ]


def recovered_rows(recovered: Sequence[Recovered]) -> Rows:
    return [
        {
            "orderId": one.order_id,
            "amount": one.amount,
            "status": one.status.value,
            "code": one.code,
            "ageSeconds": _seconds(one.age),
        }
        for one in recovered
    ]


def recovered_summary(recovered: Sequence[Recovered]) -> str:
    decided = sum(one.status is not PaymentStatus.PENDING for one in recovered)
    return f"{decided} of {len(recovered)} payments are decided."


def resolved_rows(resolved: Sequence[Resolved]) -> Rows:
    return [
        {
            "orderId": one.order_id,
            "refundId": str(one.refund_id),
            "amount": one.amount,
            "status": one.status.value,
            "code": one.code,
            "ageSeconds": _seconds(one.age),
        }
        for one in resolved
    ]


def resolved_summary(resolved: Sequence[Resolved]) -> str:
    decided = sum(one.status is not RefundStatus.REQUESTED for one in resolved)
    return f"{decided} of {len(resolved)} refunds are decided."


def sent_rows(sent: Sequence[Sent]) -> Rows:
    return [
        {
            "orderId": one.order_id,
            "event": one.type,
            "sequence": one.sequence,
            "delivered": one.delivered,
            "error": one.error,
            "messageId": str(one.message_id),
        }
        for one in sent
    ]


def sent_summary(sent: Sequence[Sent]) -> str:
    return f"{sum(one.delivered for one in sent)} of {len(sent)} events are delivered."


def discrepancy_rows(found: Sequence[Discrepancy]) -> Rows:
    return [
        {
            "id": str(one.id),
            "kind": one.kind.value,
            "subject": one.subject,
            "severity": one.severity.value,
            "firstSeenAt": _moment(one.first_seen_at),
            "lastSeenAt": _moment(one.last_seen_at),
            "resolvedAt": _moment(one.resolved_at),
        }
        for one in found
    ]


def discrepancy_report(one: Discrepancy) -> dict[str, Json]:
    return {
        "id": str(one.id),
        "kind": one.kind.value,
        "subject": one.subject,
        "severity": one.severity.value,
        "ours": one.ours,
        "theirs": one.theirs,
        "firstSeenAt": _moment(one.first_seen_at),
        "lastSeenAt": _moment(one.last_seen_at),
        "alertedAt": _moment(one.alerted_at),
        "resolvedAt": _moment(one.resolved_at),
        "resolvedBy": one.resolved_by,
        "resolution": one.resolution,
    }


def _moment(at: datetime | None) -> str | None:
    return iso(at.replace(microsecond=0)) if at else None


def _seconds(age: timedelta) -> int:
    return round(age.total_seconds())


def _cell(value: Json) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _heading(name: str) -> str:
    """`firstSeenAt` as FIRST SEEN AT."""
    return re.sub(r"([A-Z])", r" \1", name).upper()
