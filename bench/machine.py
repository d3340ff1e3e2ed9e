"""The machine under the measurements, read from Linux's /proc: who used how much CPU and memory, and is it quiet."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOAD: Final = "load"  # the role of who measures
_PROC: Final = Path("/proc")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MEGABYTE: Final = 1_000_000
# Fields of /proc/<pid>/stat after the command's name, counted from the state (proc_pid_stat(5)).
_PARENT, _TIMES, _RESIDENT_PAGES = 1, slice(11, 15), 21
_IDLE_TIMES: Final = slice(3, 5)  # idle and iowait of /proc/stat's first line; guests are counted as users already
_BUSY_FIELDS: Final = 8
_QUIET_SHARE: Final = 0.08  # of one core; about what an idle PostgreSQL and our own programs take
_LOOK_SECONDS: Final = 0.5


class NotLinux(Exception):
    """There is no /proc to read."""


def check() -> None:
    """See that this machine can be measured on.

    Raises:
        NotLinux: it cannot.
    """
    if not (_PROC / "self" / "stat").exists():
        raise NotLinux("CPU and memory are read from /proc: this runs on Linux.")


def cpu_seconds(*pids: int) -> float:
    """CPU that processes and all their descendants have used, those that have ended and were waited for included."""
    children = _children()
    ticks = 0
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        ticks += sum(int(field) for field in _fields(pid)[_TIMES])
        waiting += children.get(pid, [])
    return ticks / _TICKS


def megabytes(*pids: int) -> float:
    """What processes hold in memory."""
    return sum(int(fields[_RESIDENT_PAGES]) for pid in pids if (fields := _fields(pid))) * _PAGE_BYTES / _MEGABYTE


def _busy_seconds() -> float:
    fields = (_PROC / "stat").read_text().split("\n", 1)[0].split()[1 : 1 + _BUSY_FIELDS]
    ticks = [int(field) for field in fields]
    return (sum(ticks) - sum(ticks[_IDLE_TIMES])) / _TICKS


def wait_until_quiet(patience: float = 20.0, *, say: Callable[[str], None] = print) -> None:
    """Wait until next to nothing runs, for `patience` seconds at most: then it is measured all the same."""
    ends = time.monotonic() + patience
    while (share := _busy_share()) > _QUIET_SHARE:
        if time.monotonic() > ends:
            say(f"  the machine is not quiet: others use {share:.0%} of a core")
            return


def description() -> str:
    """What was measured on, in words for the head of a table."""
    return f"{os.cpu_count()} cores, {_memory_gigabytes():.0f} GB, Linux, Python {platform.python_version()}"


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU over a stretch of time: seconds by role, and what nobody of ours used."""

    wall_seconds: float
    cpu_seconds: Mapping[str, float]
    others_seconds: float

    def share(self, role: str) -> float:
        """How much of one core a role used, in percent."""
        return 100 * self.cpu_seconds.get(role, 0.0) / self.wall_seconds

    @property
    def others(self) -> float:
        """How much of one core everybody else used, in percent."""
        return 100 * self.others_seconds / self.wall_seconds


class Meter:
    """Measures who uses the CPU from its making on; this process and what it waited for is `LOAD`."""

    def __init__(self, roles: Mapping[str, Sequence[int]]) -> None:
        self._roles = roles
        self._began = time.perf_counter()
        self._busy = _busy_seconds()
        self._used = self._read()

    def stop(self) -> Usage:
        """Who used how much until now."""
        wall = time.perf_counter() - self._began
        used = {role: value - self._used[role] for role, value in self._read().items()}
        return Usage(wall, used, max(0.0, _busy_seconds() - self._busy - sum(used.values())))

    def _read(self) -> dict[str, float]:
        # Its own children are the measured programs, so that only those that have ended belong to it.
        return {LOAD: sum(os.times()[:4]), **{role: cpu_seconds(*pids) for role, pids in self._roles.items()}}


def _busy_share() -> float:
    before = _busy_seconds()
    time.sleep(_LOOK_SECONDS)
    return (_busy_seconds() - before) / _LOOK_SECONDS


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and (fields := _fields(int(entry.name))):
            found.setdefault(int(fields[_PARENT]), []).append(int(entry.name))
    return found


def _fields(pid: int) -> list[str]:
    """What stands behind the command's name, which may hold spaces; nothing where the process is gone."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _memory_gigabytes() -> float:
    return os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES / 1e9
