import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from payments.local import guard
from payments.local.postgres import (
    DataDirectoryInUse,
    LocalPostgres,
    PostgresDidNotStart,
    PostgresNotFound,
    find_bindir,
)
from tests.local import owner
from tests.local.processes import eventually, is_alive, kill, naming

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made below it.


@dataclass
class Owner:
    """A program that owns a server, as the tests see it from outside."""

    program: subprocess.Popen[bytes]
    url: str
    guard: int
    uid: int
    server: int


@pytest.fixture(scope="module")
def made_once() -> Iterator[Path]:
    with TemporaryDirectory(prefix="payments-", dir=MEMORY if MEMORY.is_dir() else None) as home:
        with LocalPostgres(Path(home, "pg")):
            pass
        yield Path(home, "pg")


@pytest.fixture
def no_data() -> Iterator[Path]:
    """Where data may come, below a directory of mode 0700."""
    with TemporaryDirectory(prefix="payments-", dir=MEMORY if MEMORY.is_dir() else None) as home:
        data = Path(home, "pg")
        yield data
        guard.stop_orphan(guard.cluster_of(data))
        eventually(lambda: not naming(Path(home)))


@pytest.fixture
def data(no_data: Path, made_once: Path) -> Path:
    subprocess.run(["/bin/cp", "-a", made_once, no_data], check=True)
    return no_data


@pytest.fixture
def programs() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start_owner(programs: ExitStack, data: Path, *, before: Sequence[str] = ()) -> Owner:
    program = popen_owner(programs, data, before=before)
    assert program.stdout is not None
    said = json.loads(program.stdout.readline())
    return Owner(program, said["url"], said["guard"], said["uid"], server_of(data))


def popen_owner(programs: ExitStack, data: Path, *, before: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    return programs.enter_context(
        subprocess.Popen([*before, sys.executable, owner.__file__, data], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )


def server_of(data: Path) -> int:
    return int((guard.cluster_of(data) / "postmaster.pid").read_text().splitlines()[0])


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def write_a_row(url: str) -> None:
    with connect(url) as connection:
        connection.execute("CREATE TABLE kept (amount bigint)")
        connection.execute("INSERT INTO kept VALUES (12000)")


def rows(server: LocalPostgres) -> list[int]:
    with connect(server.url()) as connection:
        return [amount for (amount,) in connection.execute("SELECT amount FROM kept")]


def show(server: LocalPostgres, *settings: str) -> list[str]:
    with connect(server.url()) as connection:
        return [connection.execute(f"SHOW {setting}".encode()).fetchall()[0][0] for setting in settings]


@contextmanager
def a_process_of_the_servers_user(data: Path) -> Iterator[int]:
    with subprocess.Popen([*guard.as_server_user(data), "sleep", "60"]) as somebody:
        yield somebody.pid
        somebody.kill()


class TestServing:
    def test_is_reached_over_a_unix_socket_that_nobody_else_may_enter(self, data: Path) -> None:
        with LocalPostgres(data) as server:
            [sockets, addresses] = show(server, "unix_socket_directories", "listen_addresses")

            assert addresses == ""
            assert stat.S_IMODE(Path(sockets.strip('"')).stat().st_mode) == 0o700

    def test_speaks_utf8(self, data: Path) -> None:
        with LocalPostgres(data) as server, connect(server.url()) as connection:
            assert connection.execute("SELECT length('결제')").fetchall() == [(2,)]

    def test_is_durable_unless_told_otherwise(self, data: Path) -> None:
        durability = ("fsync", "synchronous_commit", "full_page_writes")

        with LocalPostgres(data) as server:
            assert show(server, *durability) == ["on", "on", "on"]
        with LocalPostgres(data, durable=False) as server:
            assert show(server, *durability) == ["off", "off", "off"]

    def test_ignores_the_callers_postgresql_environment(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGPORT", "6543")
        monkeypatch.setenv("PGDATA", "/nowhere")
        monkeypatch.setenv("LC_ALL", "xx_XX.nothing")

        with LocalPostgres(data) as server:
            assert server.database_exists("postgres")

    def test_keeps_its_data_and_nothing_else(self, data: Path) -> None:
        with LocalPostgres(data) as server:
            write_a_row(server.url())
            pid = server_of(data)

        assert not is_alive(pid)
        assert not (data / "socket").exists()
        with LocalPostgres(data) as server:
            assert rows(server) == [12000]

    def test_is_out_of_reach_of_ctrl_c(self, data: Path) -> None:
        with LocalPostgres(data) as server:
            assert server._guard is not None
            assert os.getpgid(server._guard.pid) != os.getpgid(0) != os.getpgid(server_of(data))

    def test_says_when_the_server_is_gone(self, data: Path) -> None:
        with LocalPostgres(data) as server:
            assert server.is_running()

            kill(server_of(data))

            eventually(lambda: not server.is_running())

    def test_runs_below_a_path_too_long_for_a_socket(self, data: Path) -> None:
        with LocalPostgres(data / ("long" * 30)) as server:
            [sockets] = show(server, "unix_socket_directories")

            assert server.database_exists("postgres")

        assert not Path(sockets.strip('"')).exists()

    def test_runs_below_a_path_with_odd_characters(self, data: Path) -> None:
        with LocalPostgres(data / 'a, "b" %c 결제') as server, connect(server.url()) as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]


class TestDatabases:
    def test_copy_holds_what_the_template_held(self, data: Path) -> None:
        with LocalPostgres(data, durable=False) as server:
            server.create_database("template")
            write_a_row(server.url("template"))

            server.create_database("copy", template="template")

            with connect(server.url("copy")) as connection:
                assert connection.execute("SELECT amount FROM kept").fetchall() == [(12000,)]

    def test_dropped_in_spite_of_a_connection(self, data: Path) -> None:
        with LocalPostgres(data, durable=False) as server:
            server.create_database("shop")
            assert server.database_exists("shop")

            with connect(server.url("shop")):
                server.drop_database("shop")

            assert not server.database_exists("shop")


class TestKilled:
    """Whatever is killed: nothing is left running, and the next start has every committed row."""

    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
    def test_owner(self, data: Path, programs: ExitStack, how: signal.Signals) -> None:
        killed = start_owner(programs, data)
        write_a_row(killed.url)

        killed.program.send_signal(how)

        eventually(lambda: not is_alive(killed.server))
        eventually(lambda: not is_alive(killed.guard))
        assert "database system is shut down" in guard.log_of(data).read_text()
        with LocalPostgres(data) as server:
            assert rows(server) == [12000]

    def test_owner_just_before_the_next_start(self, data: Path, programs: ExitStack) -> None:
        killed = start_owner(programs, data)
        write_a_row(killed.url)

        kill(killed.program.pid)

        with LocalPostgres(data) as server:
            assert rows(server) == [12000]

    def test_guard(self, data: Path) -> None:
        with LocalPostgres(data) as server:
            write_a_row(server.url())
            pid = server_of(data)
            assert server._guard is not None

            kill(server._guard.pid)

            assert rows(server) == [12000]
        eventually(lambda: not is_alive(pid))

    def test_owner_with_guard(self, data: Path, programs: ExitStack) -> None:
        killed = start_owner(programs, data)
        write_a_row(killed.url)

        kill(killed.guard, killed.program.pid)  # the other way round the guard may be faster

        assert is_alive(killed.server)
        with LocalPostgres(data) as server:
            eventually(lambda: not is_alive(killed.server))
            assert rows(server) == [12000]

    def test_server(self, data: Path, programs: ExitStack) -> None:
        owner = start_owner(programs, data)
        write_a_row(owner.url)

        kill(owner.server)

        eventually(lambda: not is_alive(owner.guard))
        owner.program.communicate()
        with LocalPostgres(data) as server:
            assert rows(server) == [12000]

    def test_server_during_a_long_query(self, data: Path, programs: ExitStack) -> None:
        owner = start_owner(programs, data)
        write_a_row(owner.url)
        with closing(connect(owner.url)) as connection:
            connection.pgconn.send_query(b"SELECT pg_sleep(60)")

            kill(owner.program.pid, owner.guard, owner.server)

            with LocalPostgres(data) as server:
                assert rows(server) == [12000]

    def test_everything_with_the_servers_id_given_to_somebody_else(self, data: Path, programs: ExitStack) -> None:
        killed = start_owner(programs, data)
        write_a_row(killed.url)
        kill(killed.program.pid, killed.guard, killed.server)

        with a_process_of_the_servers_user(data) as somebody:
            pidfile = guard.cluster_of(data) / "postmaster.pid"
            pidfile.write_text(pidfile.read_text().replace(str(killed.server), str(somebody), 1))

            with LocalPostgres(data) as server:
                assert rows(server) == [12000]
                assert is_alive(somebody)

    def test_temporary_sockets_go_at_the_next_start(self, data: Path, programs: ExitStack) -> None:
        long = data / ("long" * 30)
        killed = start_owner(programs, long)
        sockets = Path((guard.cluster_of(long) / "postmaster.pid").read_text().splitlines()[4])
        kill(killed.program.pid, killed.guard, killed.server)
        assert sockets.exists()

        with LocalPostgres(long):
            assert not sockets.exists()

    def test_everything_in_the_middle_of_initdb(self, no_data: Path, programs: ExitStack) -> None:
        program = popen_owner(programs, no_data)
        eventually(lambda: list(no_data.glob(".new-*/PG_VERSION")))

        kill(program.pid, *naming(no_data))

        with LocalPostgres(no_data) as server:
            assert server.database_exists("template1")
        assert not list(no_data.glob(".new-*"))

    def test_owner_in_the_middle_of_initdb(self, no_data: Path, programs: ExitStack) -> None:
        program = popen_owner(programs, no_data)
        eventually(lambda: list(no_data.glob(".new-*/PG_VERSION")))

        kill(program.pid)

        with LocalPostgres(no_data) as server:
            assert server.database_exists("template1")
        assert "initdb: error" not in guard.log_of(no_data).read_text()

    def test_all_but_initdb(self, no_data: Path, programs: ExitStack) -> None:
        program = popen_owner(programs, no_data)
        [half_made] = eventually(lambda: list(no_data.glob(".new-*/PG_VERSION")))

        kill(program.pid, int(half_made.parent.name.removeprefix(".new-")))

        with LocalPostgres(no_data) as server:
            assert server.database_exists("template1")
        assert not list(no_data.glob(".new-*"))
        assert "initdb: error" not in guard.log_of(no_data).read_text()


class TestRefusing:
    def test_second_owner_is_told_while_the_first_goes_on(self, data: Path) -> None:
        with LocalPostgres(data) as first:
            with pytest.raises(DataDirectoryInUse, match="in use"), LocalPostgres(data):
                pass

            assert first.database_exists("postgres")

    def test_broken_data_is_told_with_the_end_of_the_log(self, data: Path) -> None:
        with LocalPostgres(data):
            pass
        (guard.cluster_of(data) / "PG_VERSION").write_text("9.1\n")

        with pytest.raises(PostgresDidNotStart, match="incompatible"), LocalPostgres(data):
            pass

        assert not naming(data)

    def test_missing_binaries_are_told_with_what_to_install(
        self, no_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PG_BINDIR", str(tmp_path))

        with pytest.raises(PostgresNotFound, match="PG_BINDIR"), LocalPostgres(no_data):
            pass

        assert not no_data.exists()


class TestUsers:
    @needs_root
    def test_root_opens_no_directory(self, no_data: Path) -> None:
        with LocalPostgres(no_data):
            server = Path(f"/proc/{server_of(no_data)}")

            assert server.stat().st_uid != 0
            assert stat.S_IMODE(no_data.stat().st_mode) == 0o700
            assert stat.S_IMODE(no_data.parent.stat().st_mode) == 0o700
            assert no_data.parent.stat().st_uid == 0

    @needs_root
    def test_root_keeps_its_programs_below_a_closed_directory(
        self, no_data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        closed = no_data.parent
        closed.joinpath("bin").symlink_to(find_bindir())
        monkeypatch.setenv("PG_BINDIR", str(closed / "bin"))

        with LocalPostgres(no_data) as server:
            assert server.database_exists("postgres")

    @needs_root
    def test_ordinary_user(self, data: Path, programs: ExitStack) -> None:
        # May read this checkout wherever it is, and is nobody special to the launcher.
        ordinary_user = guard.as_server_user(data)

        ordinary = start_owner(programs, data, before=ordinary_user)
        write_a_row(ordinary.url)

        assert ordinary.uid != 0
        ordinary.program.communicate()
        assert not is_alive(ordinary.server)

    @needs_root
    def test_root_after_an_ordinary_user_leaves_the_data_theirs(self, data: Path) -> None:
        with LocalPostgres(data):
            pass
        cluster = guard.cluster_of(data)
        for path in [cluster, *cluster.rglob("*")]:
            shutil.chown(path, "daemon")

        with LocalPostgres(data):
            assert Path(f"/proc/{server_of(data)}").owner() == "daemon"
