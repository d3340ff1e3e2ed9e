import socket
from collections.abc import Callable, Iterator
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


@pytest.fixture
def data() -> Iterator[Path]:
    # Not tmp_path: its long name would put the sockets elsewhere, and pytest keeps it.
    with TemporaryDirectory(prefix="payments-run-") as home:
        yield Path(home, "data")


@pytest.fixture
def base() -> int:
    return free_base()


@pytest.fixture
def start(data: Path, base: int) -> Iterator[Callable[[], LocalRun]]:
    with ExitStack() as stack:

        def start_once() -> LocalRun:
            run = stack.enter_context(running(base, data, log=data.parent / "log"))
            eventually(run.is_ready, within=START_SECONDS)
            return run

        yield start_once


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

    def test_port_in_use_is_told_before_anything_starts(self, data: Path, base: int) -> None:
        with (
            socket.create_server(("127.0.0.1", base + 100)),
            started(base, data, log=data.parent / "log") as program,
        ):
            code = program.wait(START_SECONDS)

        log = (data.parent / "log").read_text()
        assert code == 2
        assert f"Port {base + 100}" in log
        assert "PORT_BASE=" in log
        assert not data.exists()

    def test_second_run_on_the_same_data_is_told(self, start: Callable[[], LocalRun], data: Path) -> None:
        first = start()

        with started(first.base + 10, data, log=data.parent / "second") as second:
            code = second.wait(START_SECONDS)

        assert code == 2
        assert "in use" in (data.parent / "second").read_text()
        assert httpx.get(first.url(0, "/health/ready"), trust_env=False).status_code == 200
