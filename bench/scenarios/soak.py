"""A soak: steady traffic for minutes, and whether the API holds more memory at the end than soon after its start."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import uvloop

from bench import seeds, traffic
from bench.figures import MEGABYTES, MILLISECONDS, PERCENT, Cell, Findings, Row, Table, at_most
from bench.load import Load, open_loop
from bench.machine import megabytes
from bench.operations import PREPARE, READ_ORDERS
from bench.options import Options
from bench.stage import API, Say, Stage, open_stage
from bench.world import World

_PACE: Final = 50.0  # of each kind of request, per second
_EARLY_SECONDS: Final = 60.0  # by then everything that fills up at first is full
_MOST_GROWTH: Final = 5.0  # percent; memory is given out in pieces


def run(world: World, options: Options, say: Say) -> Findings:
    """Measure and judge."""
    seconds = options.soak_seconds
    with open_stage(world, "soak", say=say) as stage:
        early, late, loads = _soak(stage, seconds)
    row = {"soon": Cell([early], MEGABYTES), "at the end": Cell([late], MEGABYTES)}
    latencies = {f"{name} p99": Cell([load.p99], MILLISECONDS) for name, load in loads.items()}
    growth = at_most(
        f"memory of the API, growth over {seconds:.0f} s", _MOST_GROWTH, Cell([100 * (late / early - 1)], PERCENT)
    )
    return Findings([Table("Soak", [Row(f"{seconds:.0f} s of steady traffic", {**row, **latencies})])], [growth])


def _soak(stage: Stage, seconds: float) -> tuple[float, float, dict[str, Load]]:
    confirmed, read = stage.new_series(), stage.new_series()
    rows = int(_PACE * seconds) + 1
    seeds.add_created(stage.connection, confirmed, rows)
    seeds.add_completed(stage.connection, read, READ_ORDERS)
    seeds.tidy_up(stage.connection)
    return uvloop.run(_soak_now(stage, confirmed, read, seconds))


async def _soak_now(stage: Stage, confirmed: str, read: str, seconds: float) -> tuple[float, float, dict[str, Load]]:
    pids, soon = stage.roles[API], _soon(seconds)
    pace = partial(open_loop, ports=stage.ports, per_second=_PACE, seconds=seconds - soon, warm_up=soon)
    early = asyncio.create_task(_megabytes_at(pids, soon))
    confirms, prepares, reads = await asyncio.gather(
        pace(traffic.confirms(traffic.orders_of(confirmed))),
        pace(traffic.prepares(traffic.orders_of(stage.new_series())), expected=PREPARE.expected),
        pace(traffic.reads(traffic.over_and_over(read, READ_ORDERS))),
    )
    return await early, megabytes(*pids), {"confirm": confirms, "prepare": prepares, "read": reads}


def _soon(seconds: float) -> float:
    return min(_EARLY_SECONDS, seconds / 5)


async def _megabytes_at(pids: Sequence[int], seconds: float) -> float:
    await asyncio.sleep(seconds)
    return megabytes(*pids)
