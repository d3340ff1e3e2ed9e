"""What was measured in several rounds, and the table that comes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.figures import MILLISECONDS, PER_SECOND, PERCENT, Cell, Row, Table
from bench.stage import Measured, Say
from bench.world import set_pg_delay


@dataclass(frozen=True, slots=True)
class Key:
    """What was measured, and how."""

    program: str
    clients: int
    processes: int = 1
    delay_ms: int = 0

    @property
    def name(self) -> str:
        words = [self.program, f"{self.clients} {'client' if self.clients == 1 else 'clients'}"]
        words += [f"{self.processes} processes"] if self.processes > 1 else []
        words += [f"PG {self.delay_ms} ms"] if self.delay_ms else []
        return ", ".join(words)


Plan = dict[Key, Callable[[], Measured]]


def _nothing(_key: Key) -> Mapping[str, Cell]:
    return {}


@dataclass(frozen=True, slots=True)
class Sheet:
    """Everything that was measured, one of a list for each round."""

    rounds: dict[Key, list[Measured]] = field(default_factory=dict)

    def fill(self, plan: Plan, *, say: Say) -> None:
        """Measure one round in the order of the plan."""
        for key, measure in plan.items():
            set_pg_delay(key.delay_ms)
            measured = measure()
            self.rounds.setdefault(key, []).append(measured)
            say(f"  {key.name}: {measured.load.rate:,.0f} /s, p99 {measured.load.p99:.1f} ms")

    def rates(self, key: Key) -> list[float]:
        return [measured.load.rate for measured in self.rounds[key]]

    def ratios(self, key: Key, other: Key) -> list[float]:
        """How much faster than another, within each round: from one round to the next the machine drifts."""
        return [ours / theirs for ours, theirs in zip(self.rates(key), self.rates(other), strict=True)]

    def shares(self, key: Key, other: Key) -> list[float]:
        """The same in percent."""
        return [100 * ratio for ratio in self.ratios(key, other)]

    def table(self, title: str, *, beside: Callable[[Key], Mapping[str, Cell]] = _nothing) -> Table:
        """A row for each key; `beside` adds what follows from other keys."""
        return Table(title, [Row(key.name, {**cells(rounds), **beside(key)}) for key, rounds in self.rounds.items()])


def cells(rounds: Sequence[Measured]) -> dict[str, Cell]:
    """The figures of one row: what clients saw, and who used how much of a core."""
    roles = list(dict.fromkeys(role for measured in rounds for role in measured.usage.cpu_seconds))
    return {
        "rate": Cell([measured.load.rate for measured in rounds], PER_SECOND),
        "p50": Cell([measured.load.p50 for measured in rounds], MILLISECONDS),
        "p99": Cell([measured.load.p99 for measured in rounds], MILLISECONDS),
        **{f"CPU {role}": Cell([measured.usage.share(role) for measured in rounds], PERCENT) for role in roles},
    }
