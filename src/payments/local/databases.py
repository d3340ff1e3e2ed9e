"""Databases of the local run, on whichever server it uses."""

import contextlib
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from payments.local.plan import CannotRun

CONNECT_SECONDS = 5
MAINTENANCE = "postgres"  # Every server has it, for nothing but to be connected to.


def sibling(url: str, name: str) -> str:
    """The address of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(name, safe='')}"))


def create_if_missing(url: str) -> None:
    """Create the database that a SQLAlchemy URL names, unless it is there.

    Raises:
        CannotRun: The server is away, or this user may not.
    """
    name = unquote(urlsplit(url).path.removeprefix("/"))
    with contextlib.suppress(psycopg.OperationalError), _connect(url):
        return
    try:
        with _connect(sibling(url, MAINTENANCE)) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise CannotRun(f"The database {name} cannot be reached or created: {error}") from error


def _connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True, connect_timeout=CONNECT_SECONDS)
