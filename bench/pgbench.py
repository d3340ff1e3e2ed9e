"""The database by itself: pgbench doing exactly what our confirm asks of PostgreSQL, and nothing else."""

import asyncio
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from bench.load import Load, MeasurementFailed, percentile
from payments.local import guard
from payments.local.postgres import find_bindir

_PLACEHOLDER: Final = re.compile(r"%\((\w+)\)s")
_FAILED: Final = re.compile(r"number of failed transactions: (\d+)")
_LATENCY_COLUMN: Final = 2  # of pgbench's own log: client, number, microseconds, ...
_MICROSECONDS: Final = 1000.0  # in a millisecond
# Each iteration of each client has a number of its own.
_NUMBER: Final = "\\set k :k + 1\n\\set n :k * :c + :client_id\n"
NUMBER: Final = ":n"


@dataclass(frozen=True, slots=True)
class Step:
    """A statement with psycopg's placeholders, and an SQL expression over `NUMBER` for each of them.

    With `answers_as` the columns of its one row are variables for later steps, their names behind this prefix.
    """

    statement: str
    values: Mapping[str, str]
    answers_as: str | None = None

    def __str__(self) -> str:
        one_line = " ".join(self.statement.split())
        filled = _PLACEHOLDER.sub(lambda found: f"({self.values[found[1]]})", one_line).replace("%%", "%")
        return f"{filled} \\gset {self.answers_as}\n" if self.answers_as else f"{filled};\n"


def script(steps: Sequence[Step]) -> str:
    """The steps as a script of pgbench, each a transaction of its own."""
    return _NUMBER + "".join(map(str, steps))


async def run(text: str, *, database: str, sockets: str, clients: int, seconds: float, home: Path) -> Load:
    """Run a script on the server behind a socket directory; each iteration counts as one answer.

    Raises:
        MeasurementFailed: pgbench ended with an error, or some of its transactions did.
    """
    file = home / "confirm.sql"
    file.write_text(text)
    log = home / "pgbench"
    process = await asyncio.create_subprocess_exec(
        *(str(find_bindir() / "pgbench"), "-n", "-M", "prepared", "-f", str(file)),
        *("-c", str(clients), "-j", "1", "-T", str(max(1, round(seconds))), "-D", "k=-1", "-D", f"c={clients}"),
        *("-l", f"--log-prefix={log}", "-h", sockets, "-p", str(guard.PORT), "-U", "postgres", database),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    failed = _FAILED.search(said)
    if process.returncode or (failed and failed[1] != "0"):
        raise MeasurementFailed(f"pgbench: {said}")
    return _read(log, _rate(said))


def _rate(said: str) -> float:
    found = re.search(r"tps = ([0-9.]+)", said)
    if found is None:
        raise MeasurementFailed(f"pgbench said no rate: {said}")
    return float(found[1])


def _read(prefix: Path, rate: float) -> Load:
    milliseconds: list[float] = []
    for log in prefix.parent.glob(f"{prefix.name}.*"):
        lines = log.read_text().splitlines()
        milliseconds += [int(line.split()[_LATENCY_COLUMN]) / _MICROSECONDS for line in lines]
        log.unlink()
    milliseconds.sort()
    count = len(milliseconds)
    return Load(rate, percentile(milliseconds, 0.5), percentile(milliseconds, 0.99), count, {HTTPStatus.OK: count})
