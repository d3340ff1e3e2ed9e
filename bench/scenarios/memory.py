"""A process of the API by itself: how soon it answers, and what it holds when nothing is asked of it."""

from functools import partial

import uvloop

from bench import traffic
from bench.figures import MEGABYTES, SECONDS, Cell, Findings, Row, Table, at_most
from bench.load import closed_loop
from bench.machine import megabytes, wait_until_quiet
from bench.operations import CANCEL, CONFIRM, PREPARE, READ, WEBHOOK, Operation
from bench.options import Options
from bench.stage import Say, Stage, open_stage
from bench.world import API_PORT, World

_ALL = (PREPARE, CONFIRM, READ, CANCEL, WEBHOOK)


def run(world: World, options: Options, say: Say) -> Findings:
    """Measure and judge."""
    starts, rests = [], []
    with open_stage(world, "memory", say=say, processes=0) as stage:
        for _ in range(options.rounds):
            wait_until_quiet(say=say)
            with world.apis(stage.database, [API_PORT]) as (api,):
                for operation in _ALL:
                    _ask_once(stage, operation)
                starts.append(api.start_seconds)
                rests.append(megabytes(api.pid))
    start, rest = Cell(starts, SECONDS), Cell(rests, MEGABYTES)
    row = Row("one process of the API", {"start": start, "memory at rest": rest})
    verdicts = [at_most("start of the API", 2, start), at_most("memory of the API at rest", 120, rest)]
    return Findings([Table("One process", [row])], verdicts)


def _ask_once(stage: Stage, operation: Operation) -> None:
    series = stage.new_series()
    if operation.seed is not None:
        operation.seed(stage.connection, series, 1)
    requests = operation.requests(traffic.orders_of(series, 1))
    ask = partial(closed_loop, requests, [API_PORT], clients=1, seconds=5, warm_up=0)
    uvloop.run(ask(expected=operation.expected))
