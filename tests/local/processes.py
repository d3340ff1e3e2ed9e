"""Look at processes, and wait for them to come and go."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

DEADLINE_SECONDS = 30.0

T = TypeVar("T")


def eventually(claim: Callable[[], T], *, within: float = DEADLINE_SECONDS) -> T:
    """Return the first true answer."""
    deadline = time.monotonic() + within
    while not (answer := claim()):
        if time.monotonic() > deadline:
            pytest.fail(f"Not within {within} seconds: {claim}")
        time.sleep(0.005)
    return answer


def is_alive(pid: int) -> bool:
    """A zombie is dead: only its parent has not looked yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def naming(path: Path) -> list[int]:
    """The living processes that have this path in their command line or environment."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and _names(pid, os.fsencode(path))]


def _names(pid: int, path: bytes) -> bool:
    try:
        return is_alive(pid) and any(
            path in Path(f"/proc/{pid}/{file}").read_bytes() for file in ("cmdline", "environ")
        )
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, pids)))
