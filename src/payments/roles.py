"""Which role of the database may do what: a table of rights, granted by every `payments migrate`."""

from collections.abc import Iterator
from typing import Final

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession

from payments import models, records  # noqa: F401 - their tables belong to the metadata
from payments.db import Base, Sessions, transaction
from payments.errors import Unavailable
from payments.privacy import Kind, columns_of

log = structlog.get_logger()

# Each is a login of its own, made by whoever looks after the server. The one that owns the tables has no name here:
# it is whoever runs `payments migrate`.
API: Final = "payments_api"
WORKER: Final = "payments_worker"
READ: Final = "payments_read"  # for people and reports: nothing personal, nothing secret
ROLES: Final = (API, WORKER, READ)

SELECT, INSERT, UPDATE, DELETE = "SELECT", "INSERT", "UPDATE", "DELETE"
_NOTHING: Final[frozenset[str]] = frozenset()
_LOOK: Final = frozenset({SELECT})
_ADD: Final = frozenset({SELECT, INSERT})
_WRITE: Final = frozenset({SELECT, INSERT, UPDATE})
_GO_ON: Final = frozenset({SELECT, UPDATE})
_GO_ON_AND_FORGET: Final = frozenset({SELECT, UPDATE, DELETE})

# A row cannot be locked without UPDATE. The one DELETE of the API is that of its own presence, when it stops: it says
# no more than the UPDATE by which a process says that it lives.
RIGHTS: Final[dict[str, dict[str, frozenset[str]]]] = {
    "payments": {API: _WRITE, WORKER: _GO_ON},
    "payment_events": {API: _ADD, WORKER: _ADD},
    "refunds": {API: _WRITE, WORKER: _WRITE},
    "stray_captures": {API: _WRITE, WORKER: _WRITE},
    "outbox_messages": {API: _ADD, WORKER: _WRITE | {DELETE}},
    "received_webhooks": {API: _ADD, WORKER: _GO_ON_AND_FORGET},
    "idempotent_requests": {API: _WRITE, WORKER: _GO_ON_AND_FORGET},
    "discrepancies": {API: _WRITE, WORKER: _WRITE},
    "api_keys": {API: _LOOK, WORKER: _NOTHING},
    "processes": {API: _WRITE | {DELETE}, WORKER: _WRITE | {DELETE}},
    "job_runs": {API: _LOOK, WORKER: _WRITE},
    "nightly_runs": {API: _NOTHING, WORKER: _WRITE},
}

# What is written once: nobody but the owner can make another amount, order or message of it afterwards.
FROZEN: Final[dict[str, frozenset[str]]] = {
    "payments": frozenset({"id", "order_id", "amount", "currency", "created_at"}),
    "refunds": frozenset(
        {"id", "payment_id", "amount", "tax_free_amount", "believed_balance", "request_id", "cause", "requested_at"}
    ),
    "stray_captures": frozenset({"id", "payment_id", "payment_key", "total_amount", "cause", "found_at"}),
    "outbox_messages": frozenset({"id", "payment_id", "sequence", "type", "payload", "created_at", "transaction_id"}),
    "received_webhooks": frozenset({"id", "dedupe_key", "event_type", "verified_by", "body", "received_at"}),
    "idempotent_requests": frozenset({"id", "key_hash", "fingerprint", "created_at"}),
}

# Alembic's own table: whoever looks whether the schema is theirs.
VERSION_TABLE: Final = "alembic_version"

# An owner of such a name keeps what is its own.
_PRESENT: Final = text(
    "SELECT rolname FROM pg_roles WHERE rolname = ANY(:roles) AND rolname <> current_user ORDER BY rolname"
)
# One migration at a time grants: two would meet in the catalogue.
_TURN: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('payments.roles', 0))")
_OWNS_SCHEMA: Final = text("SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE oid = 'public'::regnamespace")
_POWER: Final = text(
    "SELECT rolsuper OR EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace "
    "AND relkind IN ('r', 'p') AND pg_has_role(relowner, 'USAGE')) FROM pg_roles WHERE rolname = current_user"
)


def grant_rights(connection: Connection) -> list[str]:
    """Give every role that exists exactly what the table says, and answer which these are. Needs the owner.

    In one transaction, so that nobody is without a right for a moment. Doing it again changes nothing.
    """
    connection.execute(_TURN)
    present = list(connection.scalars(_PRESENT, {"roles": list(ROLES)}))
    statements = [statement for role in present for statement in _grants_to(role)]
    # On older servers the schema belongs to the superuser; there everybody may look into it anyway.
    if connection.scalar(_OWNS_SCHEMA):
        statements.append("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        statements += [f"GRANT USAGE ON SCHEMA public TO {role}" for role in present]
    for statement in statements:
        connection.execute(text(statement))
    return present


def _grants_to(role: str) -> Iterator[str]:
    """The statements that leave a role with its rights and no others. Every name in them is ours."""
    for table in RIGHTS:
        yield f"REVOKE ALL ON {table} FROM {role}"
        for verb, columns in sorted(rights_of(role, table).items()):
            some = "" if columns == _columns(table) else f" ({', '.join(sorted(columns))})"
            yield f"GRANT {verb}{some} ON {table} TO {role}"
    yield f"REVOKE ALL ON {VERSION_TABLE} FROM {role}"
    yield f"GRANT SELECT ON {VERSION_TABLE} TO {role}"


def rights_of(role: str, table: str) -> dict[str, frozenset[str]]:
    """What a role may do with a table, and with which of its columns."""
    if role == READ:
        return {SELECT: frozenset(columns_of(table, Kind.PLAIN))}
    rights = dict.fromkeys(RIGHTS[table][role], _columns(table))
    if UPDATE in rights:
        rights[UPDATE] -= FROZEN.get(table, frozenset())
    return rights


def _columns(table: str) -> frozenset[str]:
    return frozenset(column.name for column in Base.metadata.tables[table].columns)


async def is_powerful(session: AsyncSession) -> bool:
    """Whether this role could do anything: it is a superuser, or tables are its own."""
    return bool(await session.scalar(_POWER))


async def warn_of_power(sessions: Sessions) -> None:
    """Say so once when a program runs as a role that could change its tables, which no program has to."""
    try:
        async with transaction(sessions) as session:
            if await is_powerful(session):
                log.warning("database.role_owns_tables", hint=f"give it a role of its own: {API} or {WORKER}")
    except Unavailable as error:
        log.warning("database.role_not_looked_at", code=error.code)
