"""After an outage: everything that is PENDING is asked about, while buyers go on paying."""

import time
from typing import Final

import uvloop

from bench import seeds, traffic
from bench.figures import (
    MILLISECONDS,
    PER_SECOND,
    PERCENT,
    TIMES,
    Cell,
    Findings,
    Row,
    Table,
    at_least,
    at_most,
)
from bench.load import Load, MeasurementFailed, open_loop
from bench.machine import Meter, Usage, wait_until_quiet
from bench.options import Options
from bench.stage import Say, Stage, open_stage
from bench.world import World

_PACE: Final = 50.0  # live confirms a second
_LIVE_SECONDS: Final = 15.0
_QUICK_SECONDS: Final = 3.0
_WARM_UP: Final = 3.0  # a worker takes one or two to start
_PATIENCE: Final = 900.0
_LOOK_EVERY: Final = 0.5
_WORKER: Final = "worker"
_IS_LEFT: Final = "SELECT EXISTS (SELECT FROM payments WHERE status = 'PENDING' AND next_check_at IS NOT NULL)"
_RECOVERED: Final = """
SELECT count(*), extract(epoch FROM max(at) - min(at))::float
FROM payment_events WHERE cause = 'recovery' AND to_status = 'COMPLETED'
"""


def run(world: World, options: Options, say: Say) -> Findings:
    """Measure and judge."""
    seconds = _QUICK_SECONDS if options.is_quick else _LIVE_SECONDS
    with open_stage(world, "recovery", say=say) as stage:
        seeds.add_pending(stage.connection, stage.new_series(), options.recovered)
        seeds.tidy_up(stage.connection)
        wait_until_quiet(say=say)
        alone = _live(stage, seconds)
        say(f"  live confirms before it: p99 {alone.p99:.1f} ms")
        with world.worker(stage.database) as worker:
            meter = Meter({**stage.roles, _WORKER: [worker.pid]})
            meanwhile = _live(stage, seconds)
            _wait_for_all(stage)
            usage = meter.stop()
        rate = _rate(stage, options.recovered)
    return _findings(alone, meanwhile, rate, usage, options.recovered)


def _live(stage: Stage, seconds: float) -> Load:
    rows = int(_PACE * (seconds + _WARM_UP)) + 1
    series = stage.new_series()
    seeds.add_created(stage.connection, series, rows)
    requests = traffic.confirms(traffic.orders_of(series, rows))
    return uvloop.run(open_loop(requests, stage.ports, per_second=_PACE, seconds=seconds, warm_up=_WARM_UP))


def _wait_for_all(stage: Stage) -> None:
    ends = time.monotonic() + _PATIENCE
    while (stage.connection.execute(_IS_LEFT).fetchone() or (True,))[0]:
        if time.monotonic() > ends:
            raise MeasurementFailed(f"not everything was recovered within {_PATIENCE:.0f} s")
        time.sleep(_LOOK_EVERY)


def _rate(stage: Stage, expected: int) -> float:
    """By the history itself: from the first that was decided to the last."""
    count, seconds = stage.connection.execute(_RECOVERED).fetchone() or (0, 0)
    if count != expected:
        raise MeasurementFailed(f"{count} of {expected} payments were recovered")
    return float(count / seconds)


def _findings(alone: Load, meanwhile: Load, rate: float, usage: Usage, payments: int) -> Findings:
    recovered = Cell([rate], PER_SECOND)
    ratio = Cell([meanwhile.p99 / alone.p99], TIMES)
    rows = [
        Row(f"recovery of {payments:,} payments", {"rate": recovered, **_shares(usage)}),
        Row("live confirms before it", {"rate": Cell([alone.rate], PER_SECOND), **_latencies(alone)}),
        Row("live confirms during it", {"rate": Cell([meanwhile.rate], PER_SECOND), **_latencies(meanwhile)}),
    ]
    verdicts = [
        at_least(f"recovery of {payments:,} payments", 500, recovered),
        at_most("live confirms during recovery: p99 against before", 2, ratio),
    ]
    return Findings([Table("Recovery while buyers pay", rows)], verdicts)


def _latencies(load: Load) -> dict[str, Cell]:
    return {"p50": Cell([load.p50], MILLISECONDS), "p99": Cell([load.p99], MILLISECONDS)}


def _shares(usage: Usage) -> dict[str, Cell]:
    return {f"CPU {role}": Cell([usage.share(role)], PERCENT) for role in usage.cpu_seconds}
