"""The set of docker-compose.yml without Docker: its commands, variables and volumes on the image's tree, in cells."""

import json
import os
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

from payments.local.plan import KEY_FILE
from payments.local.postgres import LocalPostgres
from tests.acceptance.local_run import free_base
from tests.deploy.cell import NOBODY, cell, inner_pid, why_not
from tests.deploy.cluster import clear_away, socket_directory
from tests.deploy.compose_file import Service, compose
from tests.deploy.docker_file import environment, lay_out
from tests.programs import BARE_ENVIRONMENT, free_port

DEADLINE_SECONDS: Final = 60
ROOMS: Final = ("kept", "postgres", "payments", "migrate", "api", "worker", "shop", "sandbox")
# What a program finds out about itself, and where, of the places that it is told, it can make a file.
LOOK_AROUND: Final = """
import json, os, pathlib, sys
def can_write(place):
    try:
        pathlib.Path(place, "probe").touch()
    except OSError:
        return False
    return True
status = dict(line.split(":\\t") for line in pathlib.Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "ids": [*os.getresuid(), *os.getresgid()],
    "rights": {name: int(value, 16) for name, value in status.items() if name.startswith(("Cap", "NoNewPrivs"))},
    "written": [place for place in sys.argv[1:] if can_write(place)],
    "rooms": os.listdir(sys.argv[1]),
}))
"""
SERVERS: Final = {"api": "8000", "toss-sandbox": "8100", "demo-shop": "8200"}
OPS_PORT: Final = "8001"


@dataclass(frozen=True)
class Machine:
    """Runs what a service of the file says, with the names of the containers put in terms of this machine.

    Attributes:
        root: Where the directories of the image and of the volumes are.
        app: What is `/app` in the image.
        services: The file's, with other ports.
        names: What the services call something, and what it is called here.
        sockets: Where the database server listens.
    """

    root: Path
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
        told, tell = os.pipe()
        with self.started(service, self.services[service].command, info=tell) as process:
            os.close(tell)
            pid = inner_pid(told)
            try:
                yield
            finally:
                os.kill(pid, signal.SIGTERM)
                output, errors = process.communicate(timeout=DEADLINE_SECONDS)
        # uvicorn hands the signal on when it has finished what it held, and bubblewrap tells of it as a shell does.
        assert process.returncode in {0, 128 + signal.SIGTERM}, f"{service}: {output}{errors}"

    def started(self, service: str, command: list[str], *, info: int | None = None) -> subprocess.Popen[str]:
        volumes = self.services[service].mounts.values()
        places = {self.root / volume.partition(":")[0].strip("/"): volume.endswith(":ro") for volume in volumes}
        return subprocess.Popen(
            cell(
                list(map(self.here, command)),
                seen=[self.app, Path(self.sockets), *(place for place, read_only in places.items() if read_only)],
                written=[place for place, read_only in places.items() if not read_only],
                info=info,
            ),
            env=self._environment(service),
            cwd=self.app,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[] if info is None else [info],
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


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the image; nothing can be written there."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    app = tmp_path_factory.mktemp("image") / "app"
    app.mkdir()
    lay_out(app)
    return app


@pytest.fixture
def machine(tmp_path: Path, image: Path, postgres: LocalPostgres) -> Iterator[Machine]:
    """All but the programs: empty volumes, a database server without anything in it."""
    for volume in (tmp_path / "data", *(tmp_path / "secrets" / room for room in ROOMS)):
        volume.mkdir(parents=True)
        if os.geteuid() == 0:
            os.chown(volume, int(NOBODY), int(NOBODY))
    sockets = Path(socket_directory(postgres))
    # Its own alone, while nobody else can come near it.
    sockets.chmod(0o711)
    (sockets / ".s.PGSQL.5432").chmod(0o777)
    base = free_base()
    ports = {"API_PORT": str(base), "SANDBOX_PORT": str(base + 100), "SHOP_PORT": str(base + 200)}
    names = _names(tmp_path, image, str(sockets), [*ports.values()])
    yield Machine(tmp_path, image, compose(ports).services, names, str(sockets))
    clear_away(postgres)


class TestCell:
    def test_is_as_a_container_of_the_file_is(self, machine: Machine) -> None:
        places = ["/secrets", "/secrets/payments", "/app/", "/app/src", "/", "/etc", "/usr", "/tmp"]  # noqa: S108

        seen = json.loads(machine.run("worker", [sys.executable, "-c", LOOK_AROUND, *places]).stdout)

        assert seen["ids"] == [int(NOBODY)] * 6
        assert seen["rights"] == {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapBnd": 0, "CapAmb": 0, "NoNewPrivs": 1}
        assert seen["written"] == ["/tmp"]  # noqa: S108 - nowhere else
        assert sorted(seen["rooms"]) == ["payments", "worker"]


class TestTheSet:
    def test_payments_need_no_right_and_no_disk(self, machine: Machine) -> None:
        with _started(machine, "api", "worker"):
            ready = machine.run("api", machine.services["api"].healthcheck.test[1:])

        assert ready.returncode == 0
        assert ready.stderr == ""

    def test_first_start_makes_a_shop_that_sells(self, machine: Machine, pytestconfig: pytest.Config) -> None:
        if not pytestconfig.getoption("--proof"):
            pytest.skip("starts the whole set; runs with --proof")
        before = _tree(machine.app)

        with _started(machine, "api", "worker", "toss-sandbox", "demo-shop"):
            data = machine.root / "data"
            (data / KEY_FILE).write_text((machine.root / "secrets" / "shop" / "payments-api-key").read_text())
            buy = ["payments", "demo-purchase", "--port-base", machine.here(SERVERS["api"]), "--data", str(data)]
            bought = machine.run("toss-sandbox", buy)  # it sees this directory
            assert machine.logins() == {"payments_api", "payments_worker", "shop"}

        assert bought.returncode == 0, bought.stdout + bought.stderr
        assert _tree(machine.app) == before, "something was written into the image"

    def test_unhealthy_without_a_server(self, machine: Machine) -> None:
        check = machine.services["api"].healthcheck.test[1:]

        assert machine.run("api", check).returncode == 1


@contextmanager
def _started(machine: Machine, *services: str) -> Iterator[None]:
    """What `up` does: what runs once, then these, until each is healthy."""
    for once in ("prepare", "databases", "migrate", "shop-key"):
        ended = machine.run(once)
        assert ended.returncode == 0, ended.stderr
        _rename_in_secrets(machine)
    with ExitStack() as running:
        for service in services:
            running.enter_context(machine.lasting(service))
        for service in services:
            _until_healthy(machine, service)
        yield


def _names(root: Path, app: Path, sockets: str, ports: list[str]) -> dict[str, str]:
    of_servers = dict(zip(SERVERS.values(), ports, strict=True))
    return {
        **{f"http://{name}:{port}": f"http://127.0.0.1:{of_servers[port]}" for name, port in SERVERS.items()},
        **of_servers,
        OPS_PORT: str(free_port()),
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - it is the name that is replaced
        "/secrets": str(root / "secrets"),
        "/data/": f"{root}/data/",
        "/app/": f"{app}/",
        "@postgres:5432/payments": f"@/payments?host={quote(sockets, safe='')}",
        "@postgres:5432/shop": f"@/shop?host={quote(sockets, safe='')}",
    }


def _rename_in_secrets(machine: Machine) -> None:
    """The files name containers as well."""
    for file in (machine.root / "secrets").rglob("*"):
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
