"""Growth: what a confirm costs among few payments and among many, measured in turns on two databases."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final

from bench import seeds
from bench.figures import MILLISECONDS, PERCENT, Cell, Findings, Table, at_most
from bench.operations import CONFIRM, attempt
from bench.options import Options
from bench.sheet import Key, Plan, Sheet
from bench.stage import API, POSTGRES, Measured, Say, Stage, open_stage
from bench.world import API_PORT, World

_CLIENTS: Final = 16
_LOADERS: Final = 2  # as many as there are cores to load with
_SERIES: Final = "old"
# Messages are forgotten after a while, and payments never are: a tenth of them is left.
_MESSAGES_LEFT: Final = 10
_PIECE: Final = 50_000


def run(world: World, options: Options, say: Say) -> Findings:
    """Measure and judge."""
    few, many = options.grown
    sheet = Sheet()
    with (
        open_stage(world, "few", say=say) as small,
        open_stage(world, "many", say=say, first_port=API_PORT + 1) as large,
        _room_for_wal(large),
    ):
        _grow(small, few)
        _grow(large, many)
        for _ in range(options.rounds):
            sheet.fill(_plan({_key(few): small, _key(many): large}, options), say=say)
    cost = _cost(sheet, _key(few), _key(many))
    verdict = at_most(f"confirm among {many:,} payments: CPU against {few:,}", 10, cost)
    return Findings([_table(sheet)], [verdict])


def _key(payments: int) -> Key:
    return Key(f"confirm among {payments:,} payments", _CLIENTS)


def _plan(stages: dict[Key, Stage], options: Options) -> Plan:
    return {
        key: partial(
            stage.measure, partial(attempt, stage, CONFIRM, stage.ports, clients=_CLIENTS, seconds=options.seconds)
        )
        for key, stage in stages.items()
    }


@contextmanager
def _room_for_wal(stage: Stage) -> Iterator[None]:
    """A checkpoint for each gigabyte would write every page anew and again, and take longer than the loading."""
    stage.connection.execute("ALTER SYSTEM SET max_wal_size = '16GB'")
    stage.connection.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        stage.connection.execute("ALTER SYSTEM RESET max_wal_size")
        stage.connection.execute("SELECT pg_reload_conf()")


def _grow(stage: Stage, payments: int) -> None:
    pieces = [(first, min(_PIECE, payments - first)) for first in range(0, payments, _PIECE)]
    done = 0
    with ThreadPoolExecutor(_LOADERS) as loaders:
        for count in loaders.map(partial(_load, stage), pieces):
            done += count
            if done % (10 * _PIECE) == 0:
                stage.say(f"  {done:,} of {payments:,} payments are there")
    seeds.tidy_up(stage.connection)


def _load(stage: Stage, piece: tuple[int, int]) -> int:
    first, count = piece
    with stage.world.connect(stage.database) as connection:
        connection.execute("SET synchronous_commit = off")
        seeds.add_completed(connection, _SERIES, count, first=first)
        seeds.add_delivered(connection, _SERIES, first=first, count=max(1, count // _MESSAGES_LEFT))
    return count


def _table(sheet: Sheet) -> Table:
    return sheet.table("Growth", beside=lambda key: {"CPU of one": _cpu(sheet.rounds[key])})


def _cpu(rounds: list[Measured]) -> Cell:
    return Cell([measured.cpu_of_one(API, POSTGRES) for measured in rounds], MILLISECONDS)


def _cost(sheet: Sheet, few: Key, many: Key) -> Cell:
    """How much more CPU a confirm takes among many, in percent, within each round."""
    before, after = _cpu(sheet.rounds[few]).values, _cpu(sheet.rounds[many]).values
    return Cell([100 * (grown / small - 1) for small, grown in zip(before, after, strict=True)], PERCENT)
