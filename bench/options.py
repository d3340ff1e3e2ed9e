"""How long and how much is measured."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """A full run, or one that is only quick enough to see that everything works."""

    seconds: float  # of one measurement, after its warm-up
    rounds: int
    soak_seconds: float
    is_quick: bool = False

    @property
    def clients(self) -> Sequence[int]:
        return (1, 16) if self.is_quick else (1, 16, 64)

    @property
    def waiting_clients(self) -> int:
        return 100 if self.is_quick else 500

    @property
    def recovered(self) -> int:
        """Payments whose outcome is unknown."""
        return 1_000 if self.is_quick else 100_000

    @property
    def payments_of_day(self) -> int:
        return 2_000 if self.is_quick else 100_000

    @property
    def grown(self) -> tuple[int, int]:
        """How many payments there are before and after the tables have grown."""
        return (1_000, 20_000) if self.is_quick else (10_000, 3_000_000)
