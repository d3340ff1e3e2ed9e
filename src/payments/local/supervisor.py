"""Keep a set of programs running together: one log, one start, one end."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

HOST = "127.0.0.1"
STOP_SECONDS = 15.0  # The API gives itself ten to finish confirms.
READY_SECONDS = 60.0
ASK_SECONDS = 2.0
POLL_SECONDS = 0.05
LAST_LINES = 10
LONGEST_LINE = 16 * 1024 * 1024  # A log line beyond asyncio's 64 KiB is a nuisance, not a reason to stop.

Show = Callable[[str, str], None]  # Who says it, and the line.


class ProgramStopped(Exception):
    """A program ended that should run, or does not answer; the message says which, with its last lines."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A Python module to run as a program, and the loopback port on which it says that it serves."""

    name: str
    arguments: Sequence[str]  # What follows `python -m`.
    environment: Mapping[str, str] = field(repr=False)  # Holds keys.
    port: int | None = None
    withheld: Collection[str] = ()  # Secrets of the others, which it must not inherit.


async def keep_running(program: Program, show: Show) -> None:
    """Run the program until cancelled, and then let it end in peace before taking it down.

    Raises:
        ProgramStopped: It ended by itself.
    """
    async with _running(program, show) as running:
        code = await running.ended()
        raise ProgramStopped(running.obituary(f"ended with {code}"))


async def run_once(program: Program, show: Show) -> None:
    """Run the program to its end.

    Raises:
        ProgramStopped: It failed.
    """
    async with _running(program, show) as running:
        if code := await running.ended():
            raise ProgramStopped(running.obituary(f"failed with {code}"))


async def until_serving(program: Program) -> None:
    """Return once `/health/live` answers; at once for a program without a port.

    Raises:
        ProgramStopped: It does not within a minute.
    """
    if program.port is None:
        return
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not await _is_serving(program.port):  # noqa: ASYNC110 - nor has another program.
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise ProgramStopped(f"{program.name} does not answer on port {program.port}.") from None


@dataclass(frozen=True)
class _Running:
    program: Program
    process: asyncio.subprocess.Process
    relay: asyncio.Task[None]
    lines: deque[str]

    async def ended(self) -> int:
        code = await self.process.wait()
        # A grandchild may hold the other end open: its lines are not worth waiting for.
        await asyncio.wait([self.relay], timeout=1.0)
        return code

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            # With whatever it started: it leads a session of its own.
            os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.wait()

    def obituary(self, what: str) -> str:
        return "\n".join([f"{self.program.name} {what}. Its last lines:", *self.lines])


@contextlib.asynccontextmanager
async def _running(program: Program, show: Show) -> AsyncIterator[_Running]:
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "payments.local.child", *program.arguments],
        env={**_inherited(program), "PYTHONUNBUFFERED": "1", **program.environment},
        # The child ends when this pipe does: `kill -9` of this process leaves nothing behind.
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LONGEST_LINE,
        # Out of reach of the terminal's Ctrl-C: when to stop is said once, by us.
        start_new_session=True,
    )
    lines: deque[str] = deque(maxlen=LAST_LINES)
    relay = asyncio.create_task(_relay(process, lines, say=lambda line: show(program.name, line)))
    running = _Running(program, process, relay, lines)
    try:
        yield running
    finally:
        await running.end()
        relay.cancel()


def _inherited(program: Program) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in program.withheld}


async def _relay(process: asyncio.subprocess.Process, lines: deque[str], *, say: Callable[[str], None]) -> None:
    if process.stdout is None:
        return
    async for raw in process.stdout:
        line = raw.decode(errors="replace").rstrip("\r\n")
        lines.append(line)
        say(line)


async def _is_serving(port: int) -> bool:
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return b" 200 " in await _status_line(port)
    except (OSError, TimeoutError):
        return False


async def _status_line(port: int) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(f"GET /health/live HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
        return await reader.readline()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def cancel_on_signals() -> None:
    """Let Ctrl-C, SIGTERM and a closing terminal cancel the current task.

    Once: a second Ctrl-C must not interrupt the stopping.
    """
    task = asyncio.current_task()

    def cancel() -> None:
        if task is not None and not task.cancelling():
            task.cancel()

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(one, cancel)
