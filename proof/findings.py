"""What a part of the proof has found out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Say = Callable[[str], None]  # tells whoever waits how far it has come


class BadReplay(ValueError):
    """A replay word that names nothing that can be played."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is tried: what fits into a quarter of an hour, or everything; and with which chance."""

    is_full: bool = False
    seed: int = 1
    replay: str | None = None  # only this one thing, as a failure has named it


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that did not hold, and the word after `--replay` that has it tried once more."""

    what: str
    replay: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that is told to the reader, with what it counts: `Figure("confirms cut", 2_104)`."""

    name: str
    value: int | float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """What was done and what came of it. Nothing done is a failure, which whoever did nothing has to say."""

    figures: Sequence[Figure]
    failures: Sequence[Failure] = field(default=())
