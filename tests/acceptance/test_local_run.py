import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from demo_shop.catalogue import PRODUCTS
from tests.acceptance.local_run import START_SECONDS, LocalRun, free_base, running, started
from tests.local.processes import eventually, kill, naming

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc"),
    pytest.mark.timeout(600),  # Two starts in a test, each with its own deadline.
]


class House:
    """One data directory and whatever runs on it; a story that ends the set leaves the next one to start it again."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.data = home / "data"
        self._log = home / "log"
        self._base = free_base()
        self._stack = stack
        self._run: LocalRun | None = None

    def open(self) -> LocalRun:
        """The set that runs, which may have to start for that."""
        if self._run is None or self._run.program.poll() is not None:
            self._stack.close()
            self._run = self._stack.enter_context(running(self._base, self.data, log=self._log))
            eventually(self._run.is_ready, within=START_SECONDS)
        return self._run


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    # Not tmp_path: its long name would put the sockets elsewhere, and pytest keeps it.
    with TemporaryDirectory(prefix="payments-run-") as home, ExitStack() as stack:
        yield House(Path(home), stack)


@pytest.fixture
def run(house: House) -> LocalRun:
    return house.open()


@pytest.fixture(scope="module")
def order_id(house: House) -> str:
    """A payment of the very first run."""
    return begin_a_payment(house.open())


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
    def test_everything_serves(self, run: LocalRun) -> None:
        for offset in (0, 100, 200):
            assert httpx.get(run.url(offset, "/health/live"), trust_env=False).json() == {"status": "ok"}
        assert httpx.get(run.url(0, "/health/ready"), trust_env=False).status_code == 200

    def test_second_run_on_the_same_data_is_told(self, run: LocalRun) -> None:
        log = run.data.parent / "second"

        with started(run.base + 10, run.data, log=log) as second:
            code = second.wait(START_SECONDS)

        assert code == 2
        assert "in use" in log.read_text()
        assert httpx.get(run.url(0, "/health/ready"), trust_env=False).status_code == 200

    def test_ctrl_c_leaves_the_data_and_no_process(self, run: LocalRun, house: House, order_id: str) -> None:
        code = run.press_ctrl_c()

        assert code == 0
        assert naming(run.data) == []
        assert status_of_payment(house.open(), order_id) == 200

    def test_kill_9_leaves_the_data_and_no_process(self, run: LocalRun, house: House, order_id: str) -> None:
        kill(run.program.pid)

        eventually(lambda: naming(run.data) == [])
        run.program.wait()
        assert status_of_payment(house.open(), order_id) == 200

    def test_end_of_one_program_stops_all_with_its_name(self, run: LocalRun) -> None:
        [shop] = [pid for pid in naming(run.data) if "demo_shop" in Path(f"/proc/{pid}/cmdline").read_text()]

        kill(shop)

        assert run.program.wait(START_SECONDS) == 1
        assert "shop ended" in run.log.read_text()
        assert naming(run.data) == []

    def test_end_of_the_database_stops_all(self, run: LocalRun) -> None:
        kill(int((run.data / "pg/cluster/postmaster.pid").read_text().splitlines()[0]))

        assert run.program.wait(START_SECONDS) == 1
        assert "PostgreSQL ended" in run.log.read_text()
        assert naming(run.data) == []

    def test_port_in_use_is_told_before_anything_starts(self, tmp_path: Path) -> None:
        base, data, log = free_base(), tmp_path / "data", tmp_path / "log"

        with socket.create_server(("127.0.0.1", base + 100)), started(base, data, log=log) as program:
            code = program.wait(START_SECONDS)

        assert code == 2
        assert f"Port {base + 100}" in log.read_text()
        assert "PORT_BASE=" in log.read_text()
        assert not data.exists()
