"""A database as production has it: an owner that is no superuser, and a role for each program."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import psycopg
from psycopg import sql

from payments.local.postgres import LocalPostgres
from payments.roles import ROLES
from payments.schema import migrate

OWNER: Final = "payments_owner"


@dataclass(frozen=True, slots=True)
class SplitDatabase:
    """Its addresses, by who comes."""

    server: LocalPostgres
    name: str

    def url(self, role: str) -> str:
        """SQLAlchemy's address."""
        return self.server.url(self.name).replace("//postgres@", f"//{role}@")

    def connect(self, role: str) -> psycopg.Connection:
        return psycopg.connect(self.url(role).replace("+psycopg", "", 1), autocommit=True)


@contextmanager
def split_database(server: LocalPostgres) -> Iterator[SplitDatabase]:
    """Made as docs/roles.md says, then migrated by its owner; afterwards neither roles nor database are left."""
    database = SplitDatabase(server, f"split_{uuid4().hex}")
    with superuser(server) as connection:
        for role in (OWNER, *ROLES):
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    try:
        create(database)
        migrate(database.url(OWNER))
        yield database
    finally:
        server.drop_database(database.name)
        with superuser(server) as connection:
            for role in (OWNER, *ROLES):
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def create(database: SplitDatabase) -> None:
    with superuser(database.server) as connection:
        statement = sql.SQL("CREATE DATABASE {} OWNER {}")
        connection.execute(statement.format(sql.Identifier(database.name), sql.Identifier(OWNER)))


@contextmanager
def superuser(server: LocalPostgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.url().replace("+psycopg", "", 1), autocommit=True) as connection:
        yield connection
