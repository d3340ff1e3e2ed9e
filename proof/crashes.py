"""Crash points: every failpoint, every action, every order of two of them; then recovery, and the books."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from fastapi import FastAPI

from proof.failpoints import Fault
from proof.house import build_app
from proof.invariants import Violation
from proof.lives import LifeFailed
from proof.stories import STORIES, Fate, Teller
from proof.world import World

_NUMBERS: Final = count(1)
_TURNS: Final = 3  # a point that is come by often is struck at one of the first times


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: a story, the path that ours goes, what the PG does, and what strikes whom."""

    story: str
    hot: bool
    fate: Fate
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        path = "hot" if self.hot else "plain"
        return "/".join([self.story, path, self.fate.value, "+".join(map(str, self.faults))])

    @classmethod
    def read(cls, text: str) -> "Plan":
        """What `str` wrote."""
        story, path, fate, faults = text.split("/")
        return cls(story, path == "hot", Fate(fate), tuple(Fault.read(one) for one in faults.split("+") if one))


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a run."""

    plan: Plan
    points: Counter[str]
    struck: int  # of the plan's faults
    violations: Sequence[Violation] = ()


@dataclass
class Stage:
    """Where runs are played, one after the other."""

    world: World
    _apps: dict[str, FastAPI] = field(default_factory=dict)

    def play(self, plan: Plan) -> Played:
        """Lead one order through one story."""
        order_id = f"proof-{next(_NUMBERS):07}"
        log = Path(self.world.home, f"{order_id}.log")
        self.world.town.shop.take_orders([order_id])
        with self.world.case() as case:
            if case.database not in self._apps:
                self._apps[case.database] = build_app(case.settings)
            teller = Teller(
                case, self.world.town.shop, self._apps[case.database], order_id, log, hot=plan.hot, fate=plan.fate, faults=list(plan.faults)
            )
            try:
                STORIES[plan.story](teller)
                found = teller.settle()
            except LifeFailed as error:
                found = [Violation("I13", order_id, str(error))]
            finally:
                teller.close()
        if not found:
            log.unlink(missing_ok=True)
        return Played(plan, Counter(teller.points), len(teller.struck), found)
