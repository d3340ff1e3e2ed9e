"""Figures: how they are written into a table, read back from it, and compared with those of another day."""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

PER_SECOND, MILLISECONDS, SECONDS, MEGABYTES, PERCENT, TIMES, PIECES = "/s", "ms", "s", "MB", "%", "x", ""
# The units in which more is worse; of shares and ratios nothing can be said without the rest of the row.
_MORE_IS_WORSE: Final = {PER_SECOND: False, MILLISECONDS: True, SECONDS: True, MEGABYTES: True}
_CELL: Final = re.compile(r"([0-9,]+(?:\.[0-9]+)?) (/s|ms|s|MB)(?: \(.*\))?")
_FELL_BY: Final = 1 / 3
_MANY, _SOME = 100, 10  # from here on no decimals are written, and one

Named = Mapping[tuple[str, str], tuple[float, str]]  # by row and column: value and unit


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure, once for each round that it was measured in."""

    values: Sequence[float]
    unit: str

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        if self.unit == PERCENT:
            return f"{self.median:.0f} %"
        if self.unit == PIECES:
            return f"{self.median:,.0f}"
        text = f"{number(self.median)} {self.unit}"
        if len(self.values) == 1:
            return text
        return f"{text} ({number(min(self.values))} to {number(max(self.values))})"


@dataclass(frozen=True, slots=True)
class Row:
    """What the figures are of, and the figures by their columns; what was not measured is left out."""

    name: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    rows: Sequence[Row]

    def lines(self) -> list[str]:
        """The table in Markdown."""
        columns = list(dict.fromkeys(column for row in self.rows for column in row.cells))
        head = ["", *columns]
        body = [[row.name, *(str(row.cells.get(column, "")) for column in columns)] for row in self.rows]
        return [f"### {self.title}", "", _line(head), _line(["---"] * len(head)), *(_line(cells) for cells in body)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and what was measured beside it."""

    what: str
    target: str
    measured: str
    is_met: bool


def at_most(what: str, most: float, cell: Cell) -> Verdict:
    """A target that is met from below."""
    return Verdict(what, f"at most {most:,g} {cell.unit}".rstrip(), str(cell), cell.median <= most)


def at_least(what: str, least: float, cell: Cell) -> Verdict:
    """A target that is met from above."""
    return Verdict(what, f"at least {least:,g} {cell.unit}", str(cell), cell.median >= least)


def verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """The targets as a table in Markdown."""
    body = [[one.what, one.target, one.measured, "yes" if one.is_met else "**no**"] for one in verdicts]
    return ["### Targets", "", _line(["", "target", "measured", "met"]), _line(["---"] * 4), *map(_line, body)]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a scenario has found out."""

    tables: Sequence[Table]
    verdicts: Sequence[Verdict]


def number(value: float) -> str:
    """Three digits that matter, or all of a whole number."""
    decimals = 0 if value >= _MANY else 1 if value >= _SOME else 2
    return f"{value:,.{decimals}f}"


def read(lines: Iterable[str]) -> Named:
    """The figures that stand in Markdown tables, by the names of their rows and columns."""
    found: dict[tuple[str, str], tuple[float, str]] = {}
    head: list[str] = []
    for line in lines:
        if not line.startswith("| "):
            head = []
            continue
        name, *cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not head:
            head = cells
        for column, text in zip(head, cells, strict=False):
            if (figure := _CELL.fullmatch(text)) is not None:
                found[name, column] = (float(figure[1].replace(",", "")), figure[2])
    return found


def fallen(before: Named, now: Named) -> list[str]:
    """A sentence for each figure that is worse than before by more than a third; new and left out ones are none."""
    return [
        f"{name}, {column}: {number(now[name, column][0])} {unit}, was {number(value)} {unit}"
        for (name, column), (value, unit) in before.items()
        if (name, column) in now and _fell(value, now[name, column][0], unit)
    ]


def _fell(before: float, now: float, unit: str) -> bool:
    if _MORE_IS_WORSE[unit]:
        return now > before * (1 + _FELL_BY)
    return now < before * (1 - _FELL_BY)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
