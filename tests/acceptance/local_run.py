"""`payments run` as somebody at a terminal has it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.local.processes import eventually, naming

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


def free_base() -> int:
    """A port base whose three ports are free."""
    # Workers of pytest-xdist look for ports at the same time, each in a range of its own.
    first = 24_300 + 300 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return next(base for base in range(first, first + 90) if all(map(is_free, (base, base + 100, base + 200))))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def running(base: int, data: Path, *, log: Path) -> Iterator[LocalRun]:
    """A run that leaves nothing behind, and says so if it does."""
    with started(base, data, log=log) as program:
        yield LocalRun(program, base, data, log)
    eventually(lambda: naming(data) == [])


@contextmanager
def started(base: int, data: Path, *, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        program = subprocess.Popen(
            [sys.executable, "-m", "payments", "run", "--port-base", str(base), "--data", data],
            stdout=output,
            stderr=subprocess.STDOUT,
            # Every program inherits the mark, by which the tests find them all.
            env={**ENVIRONMENT, "STARTED_BY_TEST_IN": str(data)},
            # As a shell does for a command in the foreground: Ctrl-C reaches this group.
            process_group=0,
        )
    try:
        yield program
    finally:
        program.kill()
        program.wait()
