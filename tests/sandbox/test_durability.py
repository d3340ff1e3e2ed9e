import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.programs import free_port
from tests.sandbox.client import ORDER, Toss, until
from tests.sandbox.conftest import sandbox_in_process
from tests.sandbox.receiver import receiving, set_up, webhooks
from toss_sandbox.settings import Settings


class Process:
    """`toss-sandbox serve` as a process of its own, on one port and one file."""

    def __init__(self, data: Path) -> None:
        self.port = free_port()
        self._data = data
        self.options: list[str] = []
        self.toss = Toss(httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=10))
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "toss_sandbox", "serve"]
        self._process = subprocess.Popen(  # noqa: ASYNC220 - the loop has nothing else to do meanwhile
            [*command, "--port", str(self.port), "--data", self._data, *self.options]
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

    async def test_cancel_is_there_again(self, process: Process) -> None:
        toss = process.toss
        await process.start()
        payment_key = await toss.paid()
        cancelled = await toss.cancel(payment_key, key="key-1", cancelAmount=4_000)

        process.end()
        await process.start()

        assert (await toss.cancel(payment_key, key="key-1", cancelAmount=4_000)).content == cancelled.content
        assert await toss.ledger() == {"captures": [15_000], "reversals": [], "cancels": [4_000]}

    async def test_cancel_that_was_running_has_not_happened(self, process: Process) -> None:
        toss = process.toss
        await process.start()
        payment_key = await toss.paid()
        await toss.arm("delay", "cancel", delaySeconds=60)
        running = asyncio.create_task(toss.cancel(payment_key, key="key-1"))
        await until(lambda: has_calls(toss, 2))

        process.end()
        await process.start()

        with pytest.raises(httpx.TransportError):
            await running
        assert await toss.held() == 15_000
        assert (await toss.cancel(payment_key, key="key-1")).json()["status"] == "CANCELED"

    async def test_webhooks_it_owed_are_sent(self, process: Process) -> None:
        toss = process.toss
        async with receiving() as receiver:
            process.options = ["--webhook-url", receiver.url]
            await process.start()
            receiver.status = 500
            await toss.paid()
            await until(lambda: tried(toss))
            await set_up(toss, enabled=False)
            await toss.paid("order-000002")

            process.end()
            receiver.status = 200
            await process.start()
            assert len(receiver.received) == 1  # switched off it has stayed
            await set_up(toss, enabled=True)
            await toss.move_clock(minutes=1)

            await until(lambda: all_delivered(toss))

        first, *later = receiver.received
        retried = "tosspayments-webhook-transmission-retried-count"
        assert sorted(received.headers[retried] for received in later) == ["0", "1"]
        assert first.body in {received.body for received in later}

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


class TestOneTransaction:
    @pytest.mark.parametrize("table", ["ledger", "answers", "payments"])
    async def test_cancel_that_cannot_be_written_has_not_happened(self, tmp_path: Path, table: str) -> None:
        async with sandbox_in_process(Settings(data=tmp_path / "toss.sqlite3")) as toss:
            payment_key = await toss.paid()
            before = await toss.payment(payment_key)
            event = "UPDATE" if table == "payments" else "INSERT"
            write(
                tmp_path, f"CREATE TRIGGER full_disk BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, 'full'); END"
            )

            with pytest.raises(sqlite3.IntegrityError, match="full"):
                await toss.cancel(payment_key, key="key-1")

            assert await toss.payment(payment_key) == before
            assert await toss.held() == 15_000
            write(tmp_path, "DROP TRIGGER full_disk")
            assert (await toss.cancel(payment_key, key="key-1")).json()["status"] == "CANCELED"


class TestPrivacy:
    async def test_account_of_the_buyer_is_nowhere(self, tmp_path: Path) -> None:
        account = {"bank": "88", "accountNumber": "98765432109876", "holderName": "홍길동전"}
        async with sandbox_in_process(Settings(data=tmp_path / "toss.sqlite3")) as toss:
            payment_key = await toss.paid(method="VIRTUAL_ACCOUNT")
            await toss.cancel(payment_key, cancelAmount=1_000, refundReceiveAccount=account, key="key-1")
            await toss.cancel(payment_key, refundReceiveAccount=account | {"bank": "00"}, key="key-2")

            kept = everything_in(tmp_path)

        assert b"key-1" in kept
        assert b"98765432109876" not in kept
        assert "홍길동전".encode() not in kept
        assert rb"\ud64d" not in kept


class TestFileOfBefore:
    """A file that was written before there were cancels or webhooks goes on being used."""

    async def test_its_payments_can_be_cancelled(self, tmp_path: Path) -> None:
        settings = Settings(data=tmp_path / "toss.sqlite3")
        async with sandbox_in_process(settings) as toss:
            card, account = await toss.paid(), await toss.pay("order-000002", method="VIRTUAL_ACCOUNT")
            await toss.confirm(account, "order-000002")
        make_older(tmp_path)

        async with sandbox_in_process(settings) as toss:
            assert await toss.ledger() == {"captures": [15_000], "reversals": [], "cancels": []}
            assert (await toss.cancel(card)).json()["status"] == "CANCELED"
            await toss.control(account, "deposit")
            await toss.control(account, "reverse-deposit")
            assert await toss.held("order-000002") == 0
            told = [webhook["status"] for webhook in await webhooks(toss, paymentKey=account)]
            assert told == ["DONE", "DONE", "WAITING_FOR_DEPOSIT", "WAITING_FOR_DEPOSIT"]

        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            write(tmp_path, "DELETE FROM ledger")

    async def test_its_unfinished_payments_expire(self, tmp_path: Path) -> None:
        settings = Settings(data=tmp_path / "toss.sqlite3")
        async with sandbox_in_process(settings) as toss:
            await toss.pay()
        make_older(tmp_path)

        async with sandbox_in_process(settings) as toss:
            await toss.move_clock(minutes=10)

            assert [webhook["status"] for webhook in await webhooks(toss)] == ["EXPIRED"]


def make_older(directory: Path) -> None:
    """Turn a file into one of before: no reversals in the ledger, a balance beside every payment, no webhooks."""
    new_members = ["tax_free_amount", "tax_exemption_amount", "use_escrow", "is_partial_cancelable", "deposited"]
    gone = ", ".join(f"'$.{name}'" for name in [*new_members, "cancels", "refund_status"])
    write(
        directory,
        f"""
        UPDATE payments SET document = json_set(json_remove(document, {gone}), '$.balance', 15000);
        CREATE TABLE kept AS SELECT * FROM ledger;
        DROP TABLE ledger;
        CREATE TABLE ledger (
            id INTEGER PRIMARY KEY,
            kind TEXT NOT NULL CHECK (kind IN ('capture', 'cancel')),
            payment_key TEXT NOT NULL,
            order_id TEXT NOT NULL,
            amount INTEGER NOT NULL CHECK (amount > 0),
            transaction_key TEXT NOT NULL UNIQUE,
            at TEXT NOT NULL
        );
        CREATE INDEX ledger_by_order ON ledger (order_id);
        DROP INDEX payments_by_running_clock;
        DROP TABLE webhooks;
        DROP TABLE webhook_faults;
        DROP TABLE webhook_switches;
        CREATE TRIGGER ledger_keeps_rows BEFORE DELETE ON ledger
            BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
        INSERT INTO ledger SELECT * FROM kept;
        DROP TABLE kept;
        PRAGMA user_version = 0;
        """,  # noqa: S608 - our own names
    )


def everything_in(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


def write(directory: Path, script: str) -> None:
    """Change the file behind the sandbox's back."""
    with closing(sqlite3.connect(directory / "toss.sqlite3")) as connection:
        connection.executescript(script)


async def tried(toss: Toss) -> bool:
    return bool((await webhooks(toss))[0]["attempts"])


async def all_delivered(toss: Toss) -> bool:
    return {webhook["state"] for webhook in await webhooks(toss)} == {"DELIVERED"}


async def has_calls(toss: Toss, number: int) -> bool:
    return len(await toss.calls()) == number
