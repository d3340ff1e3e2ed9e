import asyncio
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from payments.local.supervisor import Program, ProgramStopped, keep_running, run_once, until_serving
from tests.local.processes import eventually, is_alive

CHECKOUT = Path(__file__).parents[2]


class Log:
    """What the programs said."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self._more = asyncio.Event()

    def show(self, name: str, line: str) -> None:
        self.lines.append((name, line))
        self._more.set()

    async def next_line(self) -> str:
        await self._more.wait()
        return self.lines[-1][1]


def a_program(*arguments: str, port: int | None = None) -> Program:
    return Program(
        name="stand-in",
        arguments=["tests.local.stand_in", *arguments],
        environment={"PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path])},
        port=port,
    )


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class TestRunOnce:
    async def test_shows_every_line_under_the_programs_name(self, log: Log) -> None:
        await run_once(a_program("say", "one", "둘"), log.show)

        assert log.lines == [("stand-in", "one"), ("stand-in", "둘")]

    async def test_very_long_line_is_shown_whole(self, log: Log) -> None:
        await run_once(a_program("say", "x" * 100_000), log.show)

        assert log.lines == [("stand-in", "x" * 100_000)]

    async def test_inherits_no_secret_of_the_others(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ("EVENTS_SECRETS", "EVENTS_SECRETS_FILE", "ORDERS_URL")
        for name in names:
            monkeypatch.setenv(name, "set")

        await run_once(replace(a_program("tell", *names), withheld=["EVENTS_SECRETS"]), log.show)

        assert [line for _, line in log.lines] == [
            "EVENTS_SECRETS=None",
            "EVENTS_SECRETS_FILE=None",
            "ORDERS_URL=set",
        ]

    async def test_failure_is_told_with_the_last_lines(self, log: Log) -> None:
        with pytest.raises(ProgramStopped, match=r"stand-in failed with 3.*\nno table"):
            await run_once(a_program("fail", "no table"), log.show)


class TestKeepRunning:
    async def test_end_by_itself_is_told_even_if_it_calls_it_success(self, log: Log) -> None:
        with pytest.raises(ProgramStopped, match=r"stand-in ended with 0.*\ndone"):
            await keep_running(a_program("say", "done"), log.show)

    async def test_cancelled_lets_it_end_in_peace(self, log: Log) -> None:
        task = asyncio.create_task(keep_running(a_program("stay"), log.show))
        pid = int(await log.next_line())

        await cancelled(task)

        assert not is_alive(pid)
        assert log.lines[-1] == ("stand-in", "ended in peace")

    async def test_until_serving_waits_for_its_health(self, log: Log, port: int) -> None:
        program = a_program("serve", str(port), port=port)
        task = asyncio.create_task(keep_running(program, log.show))

        await until_serving(program)

        await cancelled(task)

    async def test_program_without_a_port_serves_at_once(self) -> None:
        await until_serving(a_program("stay"))


class TestChild:
    def test_ends_when_its_parent_is_gone(self) -> None:
        [*command] = [sys.executable, "-m", "payments.local.child", *a_program("stay").arguments]
        environment = {**os.environ, **a_program("stay").environment}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            pid = int(child.stdout.readline())

            child.stdin.close()

            eventually(lambda: child.poll() is not None)
            assert not is_alive(pid)
