from pathlib import Path

import psycopg
import pytest

from payments.local.databases import create_if_missing, sibling
from payments.local.plan import CannotRun
from payments.local.postgres import LocalPostgres


class TestCreateIfMissing:
    def test_creates_it_once(self, postgres: LocalPostgres) -> None:
        url = postgres.url("odd, name")

        create_if_missing(url)
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            connection.execute("CREATE TABLE kept ()")
        create_if_missing(url)

        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT to_regclass('kept') IS NOT NULL").fetchall() == [(True,)]
        postgres.drop_database("odd, name")

    def test_server_that_is_away_is_told_without_the_password(self, tmp_path: Path) -> None:
        with pytest.raises(CannotRun, match="payments") as refused:
            create_if_missing(f"postgresql+psycopg://me:hush@/payments?host={tmp_path}")

        assert "hush" not in str(refused.value)


class TestSibling:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("postgresql+psycopg://me:pw@db:5433/payments?a=b", "postgresql+psycopg://me:pw@db:5433/shop?a=b"),
            ("postgresql+psycopg://me@/payments?host=%2Ftmp", "postgresql+psycopg://me@/shop?host=%2Ftmp"),
        ],
    )
    def test_is_on_the_same_server(self, url: str, expected: str) -> None:
        assert sibling(url, "shop") == expected
