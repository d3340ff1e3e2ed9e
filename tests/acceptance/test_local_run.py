import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from demo_shop.catalogue import PRODUCTS
from tests.local.processes import eventually, kill, naming

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc")

START_SECONDS = 120.0  # A deadline for a machine that does much else, not a promise.
# What somebody has set for their own runs is not what is tested here.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.removesuffix("_FILE").endswith(("_URL", "_KEY"))
}


@dataclass
class LocalRun:
    """A `payments run`, as somebody at a terminal has it."""

    program: subprocess.Popen[bytes]
    base: int
    data: Path
    log: Path

    def url(self, offset: int, path: str) -> str:
        return f"http://127.0.0.1:{self.base + offset}{path}"

    def is_ready(self) -> bool:
        if self.program.poll() is not None:
            pytest.fail(f"It ended with {self.program.returncode}:\n{self.log.read_text()}")
        return "Ready in" in self.log.read_text()

    def press_ctrl_c(self) -> int:
        os.killpg(self.program.pid, signal.SIGINT)
        return self.program.wait(START_SECONDS)


@pytest.fixture
def data() -> Iterator[Path]:
    # Not tmp_path: its long name would put the sockets elsewhere, and pytest keeps it.
    with TemporaryDirectory(prefix="payments-run-") as home:
        yield Path(home, "data")


@pytest.fixture
def start(data: Path, free_base: int) -> Iterator[Callable[[], LocalRun]]:
    with ExitStack() as stack:

        def start_once() -> LocalRun:
            run = stack.enter_context(running(free_base, data, log=data.parent / "log"))
            eventually(run.is_ready, within=START_SECONDS)
            return run

        yield start_once


@pytest.fixture
def free_base() -> int:
    return next(base for base in range(21_000, 21_100) if all(map(is_free, (base, base + 100, base + 200))))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def running(base: int, data: Path, *, log: Path) -> Iterator[LocalRun]:
    with popen_run(base, data, log=log) as program:
        yield LocalRun(program, base, data, log)
        program.kill()
    eventually(lambda: naming(data) == [])


def popen_run(base: int, data: Path, *, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "payments", "run", "--port-base", str(base), "--data", data],
            stdout=output,
            stderr=subprocess.STDOUT,
            # Every program inherits the mark, by which the tests find them all.
            env={**ENVIRONMENT, "STARTED_BY_TEST_IN": str(data)},
            # As a shell does for a command in the foreground: Ctrl-C reaches this group.
            process_group=0,
        )


def begin_a_payment(run: LocalRun) -> str:
    """Order something and open its payment; return the order's id."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        ordered = client.post(run.url(200, "/orders"), data={"product": PRODUCTS[0].slug, "quantity": "1"})
        order_id = ordered.headers["location"].split("/")[2]
        order = client.get(run.url(200, f"/api/orders/{order_id}")).json()
        page = run.url(200, f"/orders/{order_id}")
        wanted = {
            "orderId": order_id,
            "amount": order["amount"],
            "method": "CARD",
            "customerEmail": "buyer@example.com",
            "successUrl": f"{page}/success",
            "failUrl": f"{page}/fail",
        }
        assert client.post(run.url(0, "/payments/prepare"), json=wanted).status_code == 201
        return order_id


def status_of_payment(run: LocalRun, order_id: str) -> int:
    return httpx.get(run.url(0, f"/payments/orders/{order_id}"), trust_env=False, timeout=30).status_code


class TestLocalRun:
    def test_everything_serves(self, start: Callable[[], LocalRun]) -> None:
        run = start()

        for offset in (0, 100, 200):
            assert httpx.get(run.url(offset, "/health/live"), trust_env=False).json() == {"status": "ok"}
        assert httpx.get(run.url(0, "/health/ready"), trust_env=False).status_code == 200

    def test_ctrl_c_leaves_the_data_and_no_process(self, start: Callable[[], LocalRun], data: Path) -> None:
        run = start()
        order_id = begin_a_payment(run)

        code = run.press_ctrl_c()

        assert code == 0
        assert naming(data) == []
        assert status_of_payment(start(), order_id) == 200

    def test_kill_9_leaves_the_data_and_no_process(self, start: Callable[[], LocalRun], data: Path) -> None:
        run = start()
        order_id = begin_a_payment(run)

        kill(run.program.pid)

        eventually(lambda: naming(data) == [])
        assert status_of_payment(start(), order_id) == 200

    def test_end_of_one_program_stops_all_with_its_name(self, start: Callable[[], LocalRun], data: Path) -> None:
        run = start()
        [shop] = [pid for pid in naming(data) if "demo_shop" in Path(f"/proc/{pid}/cmdline").read_text()]

        kill(shop)

        assert run.program.wait(START_SECONDS) == 1
        assert "shop ended" in run.log.read_text()
        assert naming(data) == []

    def test_end_of_the_database_stops_all(self, start: Callable[[], LocalRun], data: Path) -> None:
        run = start()

        kill(int((data / "pg/cluster/postmaster.pid").read_text().splitlines()[0]))

        assert run.program.wait(START_SECONDS) == 1
        assert "PostgreSQL ended" in run.log.read_text()
        assert naming(data) == []

    def test_port_in_use_is_told_before_anything_starts(self, data: Path, free_base: int) -> None:
        with (
            socket.create_server(("127.0.0.1", free_base + 100)),
            popen_run(free_base, data, log=data.parent / "log") as program,
        ):
            code = program.wait(START_SECONDS)

        log = (data.parent / "log").read_text()
        assert code == 2
        assert f"Port {free_base + 100}" in log
        assert "PORT_BASE=" in log
        assert not data.exists()

    def test_second_run_on_the_same_data_is_told(self, start: Callable[[], LocalRun], data: Path) -> None:
        first = start()

        with popen_run(first.base + 10, data, log=data.parent / "second") as second:
            code = second.wait(START_SECONDS)

        assert code == 2
        assert "in use" in (data.parent / "second").read_text()
        assert httpx.get(first.url(0, "/health/ready"), trust_env=False).status_code == 200
