"""Servers that are crashed: what they have committed outlives them, alone and in pairs."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from proof.cluster import Crash, Pair, Server, libpq_url, open_pair, open_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with open_server(tmp_path_factory.mktemp("alone") / "server") as server:
        yield server


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with open_pair(tmp_path) as pair:
        yield pair


def write(server: Server, table: str) -> None:
    with server.connect() as connection:
        connection.execute(f"CREATE TABLE {table} ()".encode())


def has(server: Server, table: str) -> bool:
    return server.ask("SELECT to_regclass(%s)", table) is not None


class TestServer:
    @pytest.mark.parametrize("how", Crash)
    def test_keeps_what_it_has_committed(self, server: Server, how: Crash) -> None:
        table = f"written_before_{how.name.lower()}"
        write(server, table)

        crashed_at = server.crash(how)
        back_since = server.start()

        assert has(server, table)
        assert crashed_at < back_since


class TestPair:
    def test_loses_nothing_with_its_primary(self, pair: Pair) -> None:
        write(pair.primary, "acknowledged")
        url = libpq_url(pair.url("postgres"))

        pair.fail_over(Crash.KILLED)

        with psycopg.connect(url) as connection:
            connection.execute("INSERT INTO acknowledged DEFAULT VALUES")
            assert connection.info.host == pair.primary.sockets

    def test_loses_what_a_standby_did_not_hear(self, pair: Pair) -> None:
        pair.loosen()
        pair.cut_off()
        write(pair.primary, "acknowledged")

        pair.fail_over(Crash.KILLED)

        assert not has(pair.primary, "acknowledged")
