"""Confirm beside its limit, which is pgbench alone, beside the usual idiom, and beside the PG's own time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import psycopg

from bench import pgbench, seeds
from bench.confirm_work import steps
from bench.figures import (
    MILLISECONDS,
    PER_SECOND,
    PERCENT,
    TIMES,
    Cell,
    Findings,
    Verdict,
    at_least,
    at_most,
)
from bench.load import Load, MeasurementFailed, closed_loop
from bench.operations import CONFIRM, attempt, check_left
from bench.options import Options
from bench.sheet import Key, Plan, Sheet
from bench.stage import API, Attempt, Measured, Say, Stage, open_stage
from bench.stand_in import CONFIRM as PG_CONFIRM
from bench.traffic import confirms, orders_of
from bench.world import IDIOM_PORT, STAND_IN_PORT, World

SLOW_MS: Final = 300
_FASTEST_PGBENCH: Final = 12_000  # iterations per second that rows are made for
_FASTEST_IDIOM: Final = 1_000
_BUSY_CLIENTS: Final = 16  # where most targets are set


LIMIT, IDIOM, OURS, PG_ALONE = "(a) pgbench", "(b) the idiom", "(c) ours", "the stand-in of the PG"


def run(world: World, options: Options, say: Say) -> Findings:
    """Measure and judge."""
    sheet = Sheet()
    with open_stage(world, "confirm", say=say, processes=2) as stage, _idiom_on(stage) as idiom:
        for _ in range(options.rounds):
            sheet.fill(_plan(stage, idiom, options), say=say)
    table = sheet.table("Confirm side by side", beside=partial(_beside, sheet))
    return Findings([table], list(_verdicts(sheet)))


def _beside(sheet: Sheet, key: Key) -> dict[str, Cell]:
    found = {}
    if key.program in {IDIOM, OURS} and not key.delay_ms:
        found["of (a)"] = Cell(sheet.shares(key, Key(LIMIT, key.clients)), PERCENT)
    if key.program == OURS and not key.delay_ms:
        found["against (b)"] = Cell(sheet.ratios(key, Key(IDIOM, key.clients)), TIMES)
    return found


@dataclass(frozen=True, slots=True)
class Idiom:
    connection: psycopg.Connection
    roles: Mapping[str, Sequence[int]]


@contextmanager
def _idiom_on(stage: Stage) -> Iterator[Idiom]:
    with stage.world.idiom() as program, stage.world.connect("idiom") as connection:
        yield Idiom(connection, {**stage.roles, API: [program.pid]})


def _plan(stage: Stage, idiom: Idiom, options: Options) -> Plan:
    """One round, in its order: what is compared stands close together."""
    seconds, plan = options.seconds, Plan()
    for clients in options.clients:
        plan[Key(PG_ALONE, clients)] = partial(stage.measure, partial(_pg_alone, clients, seconds))
        plan[Key(LIMIT, clients)] = partial(stage.measure, partial(_limit, stage, clients, seconds))
        plan[Key(IDIOM, clients)] = partial(
            stage.measure, partial(_as_idiom, stage, idiom, clients, seconds), roles=idiom.roles
        )
        for processes in (1, 2):
            plan[Key(OURS, clients, processes)] = _ours(stage, clients, processes, seconds)
    for clients in options.clients:
        for processes in (1, 2):
            plan[Key(OURS, clients, processes, SLOW_MS)] = _ours(stage, clients, processes, seconds)
    return plan


def _ours(stage: Stage, clients: int, processes: int, seconds: float) -> Callable[[], Measured]:
    make = partial(attempt, stage, CONFIRM, stage.ports[:processes], clients=clients, seconds=seconds)
    return partial(stage.measure, make)


def _pg_alone(clients: int, seconds: float) -> Attempt:
    requests = confirms(orders_of("alone"), PG_CONFIRM)
    return Attempt(partial(closed_loop, requests, [STAND_IN_PORT], clients=clients, seconds=seconds))


def _limit(stage: Stage, clients: int, seconds: float) -> Attempt:
    series = stage.new_series()
    seeds.add_created(stage.connection, series, int(_FASTEST_PGBENCH * seconds))
    load = partial(
        pgbench.run,
        pgbench.script(steps(series)),
        database=stage.database,
        sockets=stage.world.sockets,
        clients=clients,
        seconds=seconds,
        home=stage.world.home,
    )
    return Attempt(load, partial(check_left, stage.connection, CONFIRM, series))


def _as_idiom(stage: Stage, idiom: Idiom, clients: int, seconds: float) -> Attempt:
    series = stage.new_series()
    rows = int(_FASTEST_IDIOM * (seconds + 1))
    seeds.add_created_for_idiom(idiom.connection, series, rows)
    seeds.tidy_up(idiom.connection)
    requests = confirms(orders_of(series, rows))
    load = partial(closed_loop, requests, [IDIOM_PORT], clients=clients, seconds=seconds)
    return Attempt(load, partial(_check_idiom, idiom.connection, series))


def _check_idiom(connection: psycopg.Connection, series: str, load: Load) -> None:
    query = "SELECT count(*) FROM payments WHERE starts_with(order_id, %s) AND status = 'COMPLETED'"
    (completed,) = connection.execute(query, [f"{series}-"]).fetchone() or (0,)
    if completed != sum(load.answers.values()):
        raise MeasurementFailed(f"the idiom: {load.answers} answers, and {completed} completed")


def _verdicts(sheet: Sheet) -> Iterable[Verdict]:
    ours, one = Key(OURS, _BUSY_CLIENTS), Key(OURS, 1)
    own = [
        mine.load.p50 - theirs.load.p50
        for mine, theirs in zip(sheet.rounds[one], sheet.rounds[Key(PG_ALONE, 1)], strict=True)
    ]
    yield at_most("confirm, 1 client: p50 beyond the PG's own time", 3, Cell(own, MILLISECONDS))
    against = Cell(sheet.ratios(ours, Key(IDIOM, _BUSY_CLIENTS)), TIMES)
    yield at_least("confirm, 16 clients, 1 process: against the idiom", 5, against)
    shares = Cell(sheet.shares(ours, Key(LIMIT, _BUSY_CLIENTS)), PERCENT)
    yield at_least("confirm, 16 clients, 1 process: of the database's limit", 25, shares)
    p99 = Cell([measured.load.p99 for measured in sheet.rounds[ours]], MILLISECONDS)
    yield at_most("confirm, 16 clients, 1 process: p99", 60, p99)
    for clients in sorted({key.clients for key in sheet.rounds} - {1}):
        more = Cell(sheet.ratios(Key(OURS, clients, 2), Key(OURS, clients)), TIMES)
        yield at_least(f"confirm, {clients} clients: two processes against one", 1.5, more)
    yield at_least(
        "the stand-in of the PG by itself", 10_000, Cell(sheet.rates(Key(PG_ALONE, _BUSY_CLIENTS)), PER_SECOND)
    )
