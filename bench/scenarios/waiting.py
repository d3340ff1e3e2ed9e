"""Confirms that wait for the PG: what they hold meanwhile, and what others notice of it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import psycopg
import uvloop

from bench import seeds, traffic
from bench.figures import MILLISECONDS, PER_SECOND, PIECES, Cell, Findings, Row, Table, Verdict, at_most
from bench.load import Load, closed_loop, open_loop
from bench.machine import wait_until_quiet
from bench.operations import PREPARE, READ_ORDERS
from bench.options import Options
from bench.stage import Say, Stage, open_stage
from bench.world import World, libpq_url, set_pg_delay

_PACE: Final = 50.0  # reads and prepares a second, each
_CONFIRM_PACE: Final = 150.0  # confirms a second that one process has time for, whatever else it does
_SLOW_MS: Final = 300
_WARM_UP: Final = 4.0  # until as many wait as are meant to
_LEAST_SECONDS: Final = 15.0  # so that a hundredth of them are more than one
_FASTEST: Final = 2_000
_LOOK_EVERY: Final = 0.02
_MILLISECONDS: Final = 1000
_KNOWN_OR_NOT: Final = frozenset({200, 202})

# What is held longer than this is held over the question to the PG, which takes twice as long.
_HELD_MS: Final = _SLOW_MS / 2
_HELD: Final = """
SELECT count(*) FILTER (WHERE state <> 'idle'),
       count(*) FILTER (WHERE starts_with(state, 'idle in transaction')
                          AND xact_start < clock_timestamp() - %s * interval '1 ms')
FROM pg_stat_activity WHERE application_name = 'payments' AND datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class Waited:
    """What was seen while so many confirms waited."""

    confirms: Load
    reads: Load
    prepares: Load
    most_active: int  # connections that did something at one moment
    most_held: int  # transactions that were open for long and did nothing, at one moment


def run(world: World, options: Options, say: Say) -> Findings:
    """Measure and judge."""
    clients = options.waiting_clients
    seconds = max(_LEAST_SECONDS, options.seconds)
    found = {}
    with open_stage(world, "waiting", say=say) as stage:
        set_pg_delay(round(_MILLISECONDS * clients / _CONFIRM_PACE))
        paced = partial(_paced, stage, seconds=seconds)
        say("  confirms wait, at a pace")
        found[f"{clients} confirms wait, {_CONFIRM_PACE:.0f} new ones a second"] = _watch(stage, paced, seconds)
        set_pg_delay(_SLOW_MS)
        in_circles = partial(_in_circles, stage, clients=clients, seconds=seconds)
        say("  confirms wait, in circles")
        found[f"{clients} clients confirm in circles, PG {_SLOW_MS} ms"] = _watch(stage, in_circles, seconds)
    set_pg_delay(0)
    return Findings([_table(found)], list(_verdicts(found)))


def _watch(stage: Stage, confirm: Callable[[], Coroutine[None, None, Load]], seconds: float) -> Waited:
    series = stage.new_series()
    seeds.add_completed(stage.connection, series, READ_ORDERS)
    confirms = confirm()
    seeds.tidy_up(stage.connection)
    wait_until_quiet(say=stage.say)
    return uvloop.run(_watch_now(stage, confirms, series, seconds))


async def _watch_now(stage: Stage, confirms: Coroutine[None, None, Load], series: str, seconds: float) -> Waited:
    pace = partial(open_loop, ports=stage.ports, per_second=_PACE, seconds=seconds, warm_up=_WARM_UP)
    reads = pace(traffic.reads(traffic.over_and_over(series, READ_ORDERS)))
    prepares = pace(traffic.prepares(traffic.orders_of(stage.new_series())), expected=PREPARE.expected)
    held: list[tuple[int, int]] = []
    sampling = asyncio.create_task(_sample(stage, held))
    found = await asyncio.gather(confirms, reads, prepares)
    sampling.cancel()
    with suppress(asyncio.CancelledError):
        await sampling
    return Waited(*found, max(active for active, _ in held), max(idle for _, idle in held))


async def _sample(stage: Stage, held: list[tuple[int, int]]) -> None:
    url = libpq_url(stage.world.postgres.url(stage.database))
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while True:
            row = await (await connection.execute(_HELD, [_HELD_MS])).fetchone()
            held.append(row or (0, 0))
            await asyncio.sleep(_LOOK_EVERY)


def _paced(stage: Stage, *, seconds: float) -> Coroutine[None, None, Load]:
    return open_loop(
        _confirms(stage, int(_CONFIRM_PACE * (seconds + _WARM_UP)) + 1),
        stage.ports,
        per_second=_CONFIRM_PACE,
        seconds=seconds,
        warm_up=_WARM_UP,
        expected=_KNOWN_OR_NOT,
    )


def _in_circles(stage: Stage, *, clients: int, seconds: float) -> Coroutine[None, None, Load]:
    return closed_loop(
        _confirms(stage, int(_FASTEST * (seconds + _WARM_UP))),
        stage.ports,
        clients=clients,
        seconds=seconds,
        warm_up=_WARM_UP,
        expected=_KNOWN_OR_NOT,
    )


def _confirms(stage: Stage, rows: int) -> Iterator[bytes]:
    series = stage.new_series()
    seeds.add_created(stage.connection, series, rows)
    return traffic.confirms(traffic.orders_of(series, rows))


def _table(found: dict[str, Waited]) -> Table:
    return Table("While confirms wait", [Row(name, _cells(waited)) for name, waited in found.items()])


def _cells(waited: Waited) -> dict[str, Cell]:
    return {
        "confirms": Cell([waited.confirms.rate], PER_SECOND),
        "of them not known (202)": Cell([waited.confirms.answers.get(202, 0)], PIECES),
        "confirm p50": Cell([waited.confirms.p50], MILLISECONDS),
        "read p99": Cell([waited.reads.p99], MILLISECONDS),
        "prepare p99": Cell([waited.prepares.p99], MILLISECONDS),
        "connections busy at once": Cell([waited.most_active], PIECES),
        "held over the PG's time": Cell([waited.most_held], PIECES),
    }


def _verdicts(found: dict[str, Waited]) -> Iterator[Verdict]:
    for name, waited in found.items():
        cells = _cells(waited)
        yield at_most(f"{name}: transactions held meanwhile", 0, cells["held over the PG's time"])
        yield at_most(f"{name}: read p99", 20, cells["read p99"])
        yield at_most(f"{name}: prepare p99", 20, cells["prepare p99"])
