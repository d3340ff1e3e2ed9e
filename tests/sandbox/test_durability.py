import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.sandbox.client import ORDER, Toss, until


class Process:
    """`toss-sandbox serve` as a process of its own, on one port and one file."""

    def __init__(self, data: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self._data = data
        self.toss = Toss(httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10))
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "toss_sandbox", "serve"]
        self._process = subprocess.Popen(  # noqa: ASYNC220 - the loop has nothing else to do meanwhile
            [*command, "--port", str(self.port), "--data", self._data]
        )
        await until(self._is_live)

    def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal and return the exit code."""
        assert self._process is not None
        os.kill(self._process.pid, number)
        return self._process.wait(20)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end()

    async def _is_live(self) -> bool:
        try:
            return bool((await self.toss.http.get("/health/live")).is_success)
        except httpx.TransportError:
            return False


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    process = Process(tmp_path / "data" / "toss.sqlite3")
    yield process
    await process.toss.http.aclose()
    process.stop()


class TestKilledProcess:
    async def test_everything_is_there_again(self, process: Process) -> None:
        toss = process.toss
        await process.start()
        payment_key = await toss.pay()
        waiting = await toss.pay("order-000002")
        await toss.move_clock(minutes=5)
        confirmed = await toss.confirm(payment_key, key="key-1")
        await toss.arm("server_error", operation="lookup")

        process.end()
        await process.start()

        assert await toss.captured() == 15_000
        assert (await toss.confirm(payment_key, key="key-1")).content == confirmed.content
        assert [call["status"] for call in await toss.calls()] == [200, 200]
        assert (await toss.look_up(payment_key)).status_code == 500
        assert (await toss.http.get("/sandbox/clock")).json()["offsetSeconds"] == 300
        assert (await toss.confirm(waiting, "order-000002")).status_code == 200

    async def test_confirm_that_was_running_has_not_happened(self, process: Process) -> None:
        toss = process.toss
        await process.start()
        payment_key = await toss.pay()
        await toss.arm("delay", delaySeconds=60)
        running = asyncio.create_task(toss.confirm(payment_key, key="key-1"))
        await until(toss.calls)

        process.end()
        await process.start()

        with pytest.raises(httpx.TransportError):
            await running
        assert await toss.captured() == 0
        assert [call["status"] for call in await toss.calls()] == [None]
        assert (await toss.confirm(payment_key, key="key-1")).status_code == 200

    async def test_asked_to_end_it_ends_well(self, process: Process) -> None:
        await process.start()

        assert process.end(signal.SIGTERM) == 0


class TestLedger:
    @pytest.mark.parametrize("statement", ["UPDATE ledger SET amount = 1", "DELETE FROM ledger"])
    async def test_ledger_cannot_be_rewritten(self, process: Process, tmp_path: Path, statement: str) -> None:
        await process.start()
        await process.toss.confirm(await process.toss.pay())

        with (
            closing(sqlite3.connect(tmp_path / "data" / "toss.sqlite3")) as connection,
            pytest.raises(sqlite3.IntegrityError, match="append-only"),
        ):
            connection.execute(statement)

        assert await process.toss.captured(ORDER) == 15_000
