import base64
import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from deploy.databases import GUESTS, OWNERS, create_databases, main

from payments import roles
from payments.local.postgres import LocalPostgres
from tests.deploy.cluster import clear_away, socket_directory


@pytest.fixture
def server(postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The socket that libpq finds by PGHOST; afterwards neither roles nor databases are left."""
    directory = socket_directory(postgres)
    monkeypatch.setenv("PGHOST", directory)
    monkeypatch.setenv("PGUSER", "postgres")
    yield directory
    clear_away(postgres)


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    for role in ("superuser", *OWNERS, *GUESTS["payments"]):
        (tmp_path / f"{role}-password").write_text(f"secret-of-{role}")
    return tmp_path


class TestCreateDatabases:
    def test_each_owner_can_make_tables_in_its_own(self, server: str, passwords: Path) -> None:
        create_databases(passwords)

        for name in OWNERS:
            with psycopg.connect(user=name, dbname=name) as connection:
                connection.execute("CREATE TABLE mine ()")

    def test_none_comes_into_the_other_s(self, server: str, passwords: Path) -> None:
        create_databases(passwords)

        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(user="shop", dbname="payments")

    def test_roles_can_do_nothing_beyond(self, server: str, passwords: Path) -> None:
        create_databases(passwords)

        with psycopg.connect(dbname="postgres") as connection:
            rights = connection.execute(
                "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles "
                "WHERE rolname = ANY(%s)",
                [[*OWNERS, *GUESTS["payments"]]],
            ).fetchall()
            members = connection.execute(
                "SELECT FROM pg_auth_members WHERE member >= 16384"
            ).fetchall()  # none built in
        assert rights == [(False,) * 5] * 5
        assert members == []

    def test_guests_are_the_roles_that_migrate_gives_rights_to(self) -> None:
        assert GUESTS["payments"] == roles.ROLES

    @pytest.mark.parametrize("role", GUESTS["payments"])
    def test_guests_come_into_the_payments_only_and_own_nothing(self, server: str, passwords: Path, role: str) -> None:
        create_databases(passwords)

        with psycopg.connect(user=role, dbname="payments") as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute("CREATE TABLE mine ()")
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute("CREATE TEMPORARY TABLE mine ()")
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(user=role, dbname="shop")

    def test_again_keeps_the_rows_and_takes_the_new_password(self, server: str, passwords: Path) -> None:
        create_databases(passwords)
        with psycopg.connect(user="payments", dbname="payments") as connection:
            connection.execute("CREATE TABLE kept ()")
        (passwords / "payments-password").write_text("another")

        create_databases(passwords)

        with psycopg.connect(user="payments", dbname="payments") as connection:
            assert connection.execute("SELECT to_regclass('kept') IS NOT NULL").fetchone() == (True,)
        assert takes("payments", "another")
        assert takes("shop", "secret-of-shop")
        assert takes("payments_api", "secret-of-payments_api")


class TestWhatGoesWrong:
    def test_server_that_is_away_is_told_without_the_password(
        self, passwords: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PGHOST", str(passwords))

        assert main([str(passwords)]) == 2

        assert "secret-of" not in capsys.readouterr().err

    def test_password_that_is_missing_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([str(tmp_path)]) == 2
        assert "superuser-password" in capsys.readouterr().err


def takes(role: str, password: str) -> bool:
    """Whether the server's verifier of the role is that of the password: RFC 5803, `StoredKey` as in RFC 5802."""
    with psycopg.connect(dbname="postgres") as connection:
        found = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [role]).fetchone()
    assert found is not None
    scheme, parameters, keys = str(found[0]).split("$")
    iterations, salt = parameters.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored = base64.b64encode(hashlib.sha256(client_key).digest()).decode()
    return scheme == "SCRAM-SHA-256" and keys.split(":")[0] == stored
