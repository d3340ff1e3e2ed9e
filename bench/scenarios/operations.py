"""Everything else that clients ask of the API: prepare, read, cancel, webhook intake."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from bench.figures import PER_SECOND, Cell, Findings, Verdict, at_least
from bench.operations import CANCEL, PREPARE, READ, WEBHOOK, attempt
from bench.options import Options
from bench.sheet import Key, Plan, Sheet
from bench.stage import Say, Stage, open_stage
from bench.world import World

_OPERATIONS: Final = (PREPARE, READ, CANCEL, WEBHOOK)
_SLOW_MS: Final = 300
_BUSY_CLIENTS: Final = 16


def run(world: World, options: Options, say: Say) -> Findings:
    """Measure and judge."""
    sheet = Sheet()
    with open_stage(world, "operations", say=say, processes=2) as stage:
        for _ in range(options.rounds):
            sheet.fill(_plan(stage, options), say=say)
    return Findings([sheet.table("The other operations")], list(_verdicts(sheet)))


def _plan(stage: Stage, options: Options) -> Plan:
    plan = Plan()
    for operation in _OPERATIONS:
        for delay_ms in (0, _SLOW_MS) if operation.asks_pg else (0,):
            for clients in options.clients:
                for processes in (1, 2):
                    ports = stage.ports[:processes]
                    make = partial(attempt, stage, operation, ports, clients=clients, seconds=options.seconds)
                    plan[Key(operation.name, clients, processes, delay_ms)] = partial(stage.measure, make)
    return plan


def _verdicts(sheet: Sheet) -> Iterator[Verdict]:
    rates = Cell(sheet.rates(Key(WEBHOOK.name, _BUSY_CLIENTS)), PER_SECOND)
    yield at_least(f"webhook intake, {_BUSY_CLIENTS} clients, 1 process", 1_500, rates)
