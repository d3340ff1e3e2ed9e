"""One database with the programs on it, and how they are measured: quietly, with the CPU of each, and checked."""

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import psycopg
import uvloop

from bench.load import Load
from bench.machine import Meter, Usage, wait_until_quiet
from bench.seeds import tidy_up
from bench.world import API_PORT, World

Say = Callable[[str], None]

API: Final = "API"
PG: Final = "PG"
POSTGRES: Final = "PostgreSQL"
_MOST_OTHERS: Final = 15.0  # percent of a core; with more the figures are somebody else's
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """What the clients saw, and who used the CPU meanwhile, the warm-up included."""

    load: Load
    usage: Usage

    def cpu_of_one(self, *roles: str) -> float:
        """CPU that the roles used for one answer, in milliseconds."""
        answers = sum(self.load.answers.values())
        return 1000 * sum(self.usage.cpu_seconds[role] for role in roles) / answers


@dataclass(frozen=True, slots=True)
class Stage:
    """What one or several measurements are made on."""

    world: World
    database: str
    connection: psycopg.Connection
    ports: Sequence[int]  # of the API's processes
    roles: Mapping[str, Sequence[int]]  # process ids; of descendants too
    say: Say
    _series: Iterator[int] = field(default_factory=count)

    def new_series(self) -> str:
        """A name for orders that there have not been yet."""
        return f"s{next(self._series):04}"

    def measure(
        self, prepare: Callable[[], "Attempt"], *, roles: Mapping[str, Sequence[int]] | None = None
    ) -> Measured:
        """Measure once the machine is quiet, and again if somebody else was at it meanwhile.

        `prepare` makes what each attempt needs of its own.

        Raises:
            MeasurementFailed: by the load, or by the check of what it left behind.
        """
        for left in reversed(range(_TRIES)):
            attempt = prepare()
            tidy_up(self.connection)
            wait_until_quiet(say=self.say)
            meter = Meter(roles or self.roles)
            load = uvloop.run(attempt.load())
            usage = meter.stop()
            attempt.check(load)
            if usage.others <= _MOST_OTHERS or not left:
                return Measured(load, usage)
            self.say(f"  others used {usage.others:.0f} % of a core: measured again")
        raise AssertionError("the last try is taken as it is")


def _nothing_to_check(_load: Load) -> None:
    """What changes nothing leaves nothing behind."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a measurement, and how to tell that it did what it says."""

    load: Callable[[], Coroutine[None, None, Load]]
    check: Callable[[Load], None] = _nothing_to_check


@contextmanager
def open_stage(world: World, name: str, *, say: Say, processes: int = 1, first_port: int = API_PORT) -> Iterator[Stage]:
    """A fresh database with so many processes of the API; the stand-in runs already."""
    ports = range(first_port, first_port + processes)
    with (
        world.database(name) as database,
        world.connect(database) as connection,
        world.apis(database, ports) as apis,
    ):
        roles = {API: [api.pid for api in apis], PG: [world.stand_in.pid], POSTGRES: [world.postmaster]}
        yield Stage(world, database, connection, ports, roles, say)
