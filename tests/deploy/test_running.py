"""The set of docker-compose.yml without containers: its commands and variables on the image's tree, with no rights."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg
import pytest

from payments.local.postgres import LocalPostgres
from tests.acceptance.local_run import free_base
from tests.deploy.cluster import clear_away, socket_directory
from tests.deploy.compose_file import Service, compose
from tests.deploy.docker_file import environment, lay_out
from tests.programs import BARE_ENVIRONMENT, free_port

DEADLINE_SECONDS: Final = 60
ROOMS: Final = ("kept", "postgres", "payments", "migrate", "api", "worker", "shop", "sandbox")
SERVERS: Final = {"api": "8000", "toss-sandbox": "8100", "demo-shop": "8200"}
OPS_PORT: Final = "8001"


@dataclass(frozen=True)
class Machine:
    """Runs what a service of the file says, with the names of the containers put in terms of this machine.

    Attributes:
        app: What is `/app` in the image.
        services: The file's, with other ports.
        names: What the services call something, and what it is called here.
        sockets: Where the database server listens.
    """

    app: Path
    services: Mapping[str, Service]
    names: Mapping[str, str]
    sockets: str

    def here(self, text: str) -> str:
        for name, local in self.names.items():
            text = text.replace(name, local)
        return text

    def run(self, service: str, command: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of the service, its own by default, to its end."""
        with self.started(service, command or self.services[service].command) as process:
            output, errors = process.communicate(timeout=DEADLINE_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    @contextmanager
    def lasting(self, service: str) -> Iterator[None]:
        """The service runs for as long as the block lasts, and ends well when it is told to."""
        with self.started(service, self.services[service].command) as process:
            try:
                yield
            finally:
                process.terminate()
                output, errors = process.communicate(timeout=DEADLINE_SECONDS)
        # uvicorn hands the signal on when it has finished what it held.
        assert process.returncode in {0, -signal.SIGTERM}, f"{service}: {output}{errors}"

    def started(self, service: str, command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*_without_rights(), *map(self.here, command)],
            env=self._environment(service),
            cwd=self.app,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def logins(self) -> set[str]:
        """As whom the programs are connected to the databases."""
        with psycopg.connect(host=self.sockets, user="postgres", dbname="postgres") as connection:
            found = connection.execute(
                "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = ANY(%s)", [["payments", "shop"]]
            )
            return {name for (name,) in found}

    def _environment(self, service: str) -> dict[str, str]:
        told = {**environment(), **self.services[service].environment}
        path = f"{Path(sys.executable).parent}:{BARE_ENVIRONMENT['PATH']}"
        return {**{name: self.here(value) for name, value in told.items()}, "PATH": path, "PGHOST": self.sockets}


@pytest.fixture
def machine(tmp_path: Path, postgres: LocalPostgres) -> Iterator[Machine]:
    """All but the programs: the tree of the image, empty volumes, a database server without anything in it."""
    app = tmp_path / "app"
    for directory in (app, tmp_path / "data", *(tmp_path / "secrets" / room for room in ROOMS)):
        directory.mkdir(parents=True)
    lay_out(app)
    sockets = socket_directory(postgres)
    # The server may be another user than we are, and its socket its own.
    Path(sockets, ".s.PGSQL.5432").chmod(0o777)
    base = free_base()
    ports = {"API_PORT": str(base), "SANDBOX_PORT": str(base + 100), "SHOP_PORT": str(base + 200)}
    yield Machine(app, compose(ports).services, _names(tmp_path, sockets, [*ports.values()]), sockets)
    clear_away(postgres)


@pytest.fixture(autouse=True)
def _only_as_proof(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--proof"):
        pytest.skip("starts the whole set; runs with --proof")


class TestTheSet:
    def test_first_start_makes_a_shop_that_sells(self, machine: Machine) -> None:
        before = _tree(machine.app)

        for once in ("prepare", "databases", "migrate"):
            ended = machine.run(once)
            assert ended.returncode == 0, ended.stderr
            _rename_in_secrets(machine)
        assert machine.run("worker", machine.services["worker"].healthcheck.test[1:]).returncode != 0
        with ExitStack() as running:
            for service in ("api", "worker", "toss-sandbox", "demo-shop"):
                running.enter_context(machine.lasting(service))
            for service in ("api", "worker", "toss-sandbox", "demo-shop"):
                _until_healthy(machine, service)
            bought = machine.run("api", ["payments", "demo-purchase", "--port-base", machine.here(SERVERS["api"])])
            assert bought.returncode == 0, bought.stdout + bought.stderr
            assert machine.logins() == {"payments_api", "payments_worker", "shop"}

        assert _tree(machine.app) == before, "something was written into the image"

    def test_unhealthy_without_a_server(self, machine: Machine) -> None:
        check = machine.services["api"].healthcheck.test[1:]

        assert machine.run("api", check).returncode == 1


def _without_rights() -> list[str]:
    """As `cap_drop: ALL` and `no-new-privileges` have it. A plain user has no rights to lose."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and there is no setpriv to take that away")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


def _names(root: Path, sockets: str, ports: list[str]) -> dict[str, str]:
    of_servers = dict(zip(SERVERS.values(), ports, strict=True))
    return {
        **{f"http://{name}:{port}": f"http://127.0.0.1:{of_servers[port]}" for name, port in SERVERS.items()},
        **of_servers,
        OPS_PORT: str(free_port()),
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - it is the name that is replaced
        "/secrets": str(root / "secrets"),
        "/data/": f"{root}/data/",
        "/app/": f"{root}/app/",
        "@postgres:5432/payments": f"@/payments?host={quote(sockets, safe='')}",
        "@postgres:5432/shop": f"@/shop?host={quote(sockets, safe='')}",
    }


def _rename_in_secrets(machine: Machine) -> None:
    """The files name containers as well."""
    for file in (machine.app.parent / "secrets").rglob("*"):
        if file.is_file():
            text = machine.here(file.read_text())
            file.unlink()
            file.write_text(text)


def _until_healthy(machine: Machine, service: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        checked = machine.run(service, machine.services[service].healthcheck.test[1:])
        if checked.returncode == 0:
            return
        assert time.monotonic() < deadline, f"{service}: {checked.stdout}{checked.stderr}"
        time.sleep(0.1)  # a process is starting; there is nothing to be told by


def _tree(directory: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in directory.rglob("*"))
