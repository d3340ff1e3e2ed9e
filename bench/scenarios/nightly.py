"""The nightly comparisons of a day with many payments, by the commands that do the same as the worker."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import seeds
from bench.figures import MEGABYTES, PER_SECOND, SECONDS, Cell, Findings, Row, Table
from bench.listings import SERIES
from bench.load import MeasurementFailed
from bench.machine import wait_until_quiet
from bench.options import Options
from bench.stage import Say, Stage, open_stage
from bench.world import PG_URL, World

# Each with the member of its report that must count all payments.
_CHECKS: Final = {"check-orders": "payments", "reconcile": "compared"}
_KILOBYTES: Final = 1024 / 1_000_000  # in a megabyte


@dataclass(frozen=True, slots=True)
class Night:
    seconds: float
    megabytes: float  # at its peak


def run(world: World, options: Options, say: Say) -> Findings:
    """Measure; there is no target but that nothing is found."""
    day = world.yesterday
    rows = []
    with open_stage(world, "nightly", say=say, processes=0) as stage:
        seeds.add_completed(stage.connection, SERIES, day.payments, begins=day.begins, step=day.step)
        seeds.tidy_up(stage.connection)
        for check, member in _CHECKS.items():
            night = _run_check(stage, check, member)
            say(f"  {check}: {night.seconds:.1f} s, {night.megabytes:.0f} MB")
            rows.append(Row(f"{check} of {day.payments:,} payments", _cells(night, options.payments_of_day)))
    return Findings([Table("The nightly checks", rows)], [])


def _run_check(stage: Stage, check: str, member: str) -> Night:
    day = stage.world.yesterday
    environment = {**os.environ, **stage.world.environment(stage.database), "ORDERS_URL": PG_URL}
    command = [sys.executable, "-m", "payments", check, "--date", day.day.isoformat(), "--json"]
    wait_until_quiet(say=stage.say)
    night, said = _timed(command, environment, stage.world.home / f"{check}.log")
    report = json.loads(said)
    if report[member] != day.payments or report["found"]:
        raise MeasurementFailed(f"{check} did not find {day.payments} payments in order: {said}")
    return night


def _timed(command: Sequence[str], environment: Mapping[str, str], log: Path) -> tuple[Night, str]:
    began = time.perf_counter()
    with log.open("wb") as complaints:
        process = subprocess.Popen(  # noqa: S603 - a command of ours
            command, env=environment, stdout=subprocess.PIPE, stderr=complaints
        )
        said = process.stdout.read().decode() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise MeasurementFailed(f"{' '.join(command[2:])} ended with {process.returncode}: {said}{log.read_text()}")
    return Night(time.perf_counter() - began, usage.ru_maxrss * _KILOBYTES), said


def _cells(night: Night, payments: int) -> dict[str, Cell]:
    return {
        "takes": Cell([night.seconds], SECONDS),
        "rate": Cell([payments / night.seconds], PER_SECOND),
        "memory at its peak": Cell([night.megabytes], MEGABYTES),
    }
