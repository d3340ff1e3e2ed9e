"""Clocks that a story moves: the machine's own stays where it is."""

from datetime import timedelta

import psycopg
from psycopg import sql

_SESSIONS_BEFORE = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle'
"""


def move_database_clock(database_url: str, by: timedelta) -> None:
    """Let `now()` be so much later (or earlier) than it is, for every session of a database.

    A second call replaces the first. Sessions that idle in a pool are ended, so that they come back with the new time;
    the use cases tell the time by the database's clock alone.
    """
    with psycopg.connect(database_url.replace("+psycopg", "", 1), autocommit=True) as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute("CREATE SCHEMA IF NOT EXISTS moved")
        moved = sql.SQL(
            "CREATE OR REPLACE FUNCTION moved.now() RETURNS timestamptz LANGUAGE sql STABLE "
            "RETURN pg_catalog.now() + {}::interval"
        )
        connection.execute(moved.format(sql.Literal(f"{by.total_seconds()} seconds")))
        # First in the path, so that it hides the one of pg_catalog.
        connection.execute(sql.SQL("ALTER DATABASE {} SET search_path = moved, pg_catalog, public").format(database))
        connection.execute(_SESSIONS_BEFORE)
