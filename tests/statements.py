"""Statements are put together once for the run and not once for each test, as a program does that lives longer."""

from typing import Any, Final

from sqlalchemy import Connection, Engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg, PGDialectAsync_psycopg
from sqlalchemy.util import LRUCache

# An engine keeps its compiled statements for as long as it lives, which is one test; half of a test's work was that.
COMPILED: Final[LRUCache[Any, Any]] = LRUCache(2_000)


def share_statements() -> None:
    """Let every engine of this process use what another one has compiled for the same kind of server."""
    for dialect in (PGDialect_psycopg, PGDialectAsync_psycopg):
        # It is part of the key of a compiled statement, and every engine has one of its own.
        dialect.__eq__ = _is_of_one_kind  # type: ignore[method-assign] # all servers here are one
        dialect.__hash__ = _kind  # type: ignore[assignment,method-assign]
    event.listen(Engine, "engine_connect", _use_shared)


def _use_shared(connection: Connection) -> None:
    connection.execution_options(compiled_cache=COMPILED)


def _is_of_one_kind(one: object, other: object) -> bool:
    return type(one) is type(other)


def _kind(dialect: object) -> int:
    return hash(type(dialect))
