"""What the tests of the deployment need of a server besides databases: its socket, and roles that go away again."""

from urllib.parse import parse_qs, urlsplit

import psycopg
from deploy.databases import GUESTS, OWNERS
from psycopg import sql

from payments.local.postgres import LocalPostgres


def socket_directory(server: LocalPostgres) -> str:
    """What libpq takes as PGHOST."""
    (directory,) = parse_qs(urlsplit(server.url()).query)["host"]
    return directory


def clear_away(server: LocalPostgres) -> None:
    """Drop what `deploy.databases` creates."""
    for name in OWNERS:
        server.drop_database(name)
    host = socket_directory(server)
    with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as connection:
        for name in (*OWNERS, *(guest for guests in GUESTS.values() for guest in guests)):
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
