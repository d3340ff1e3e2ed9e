"""Give the payments and the shop a database each, and their programs roles, on the server of docker-compose.yml."""

import sys
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

DONE: Final = 0
USAGE_WRONG: Final = 2
OWNERS: Final = ("payments", "shop")
# Who may come into a database beside its owner. What they may do there, `payments migrate` says.
GUESTS: Final[dict[str, tuple[str, ...]]] = {
    "payments": ("payments_api", "payments_worker", "payments_read"),
    "shop": (),
}
CONNECT_SECONDS: Final = 10


def main(arguments: list[str]) -> int:
    """Create what is missing, with the passwords in the directory that the only argument names.

    The server is found by libpq's variables PGHOST and PGUSER.

    Returns:
        The exit code: 0 done, 2 wrong usage or configuration.
    """
    try:
        (directory,) = arguments
        create_databases(Path(directory))
    except ValueError:
        return _refuse("name the directory of the passwords, and nothing else")
    except psycopg.Error as error:
        return _refuse(f"the server did not do it: {error}")
    except OSError as error:
        return _refuse(f"{error.filename} cannot be read: {error.strerror}")
    return DONE


def create_databases(passwords: Path) -> None:
    """Create all roles and both databases, or give roles that exist their password of today.

    Raises:
        OSError: A password cannot be read.
        psycopg.Error: The server is away, or refuses.
    """
    with psycopg.connect(
        dbname="postgres",
        password=_read(passwords, "superuser"),
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
    ) as connection:
        for name in OWNERS:
            _ensure_role(connection, name, password=_read(passwords, name))
            _ensure_database(connection, name)
            for guest in GUESTS[name]:
                _ensure_role(connection, guest, password=_read(passwords, guest))
                _let_in(connection, guest, database=name)


def _ensure_role(connection: psycopg.Connection, name: str, *, password: str) -> None:
    role = sql.Identifier(name)
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone() is None:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    # The server gets the verifier only: a statement may end in its log.
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(verifier)))


def _ensure_database(connection: psycopg.Connection, name: str) -> None:
    database = sql.Identifier(name)
    if connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, database))
    # The shop has no business in the payments, nor they in the shop.
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))


def _let_in(connection: psycopg.Connection, guest: str, *, database: str) -> None:
    statement = sql.SQL("GRANT CONNECT ON DATABASE {} TO {}")
    connection.execute(statement.format(sql.Identifier(database), sql.Identifier(guest)))


def _read(passwords: Path, owner: str) -> str:
    return (passwords / f"{owner}-password").read_text(encoding="utf-8")


def _refuse(problem: str) -> int:
    print(f"databases: {problem}", file=sys.stderr)  # noqa: T201 - the container's log
    return USAGE_WRONG


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
