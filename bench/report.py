"""The report: what is printed, and what `docs/performance.md` holds between two marks."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Final

from bench import machine
from bench.figures import Findings, fallen, read, verdict_lines
from bench.options import Options
from payments.business_day import day_of

FILE: Final = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
_BEGINS, _ENDS = "<!-- figures -->", "<!-- /figures -->"


def lines_of(findings: Sequence[Findings]) -> list[str]:
    """All tables in Markdown, the targets first."""
    verdicts = list(chain.from_iterable(one.verdicts for one in findings))
    tables = list(chain.from_iterable(one.tables for one in findings))
    head = [*verdict_lines(verdicts), ""] if verdicts else []
    return [*head, *chain.from_iterable([*table.lines(), ""] for table in tables)]


def missed(findings: Sequence[Findings]) -> list[str]:
    """A sentence for each target that is not met."""
    verdicts = chain.from_iterable(one.verdicts for one in findings)
    return [f"{one.what}: {one.measured}, target {one.target}" for one in verdicts if not one.is_met]


def fallen_since(text: str, lines: Sequence[str]) -> list[str]:
    """A sentence for each figure that is worse by more than a third than in the `text` of the report as it was."""
    return fallen(read(_figures(text)), read(lines))


def written_into(text: str, lines: Sequence[str], *, options: Options) -> str:
    """The report with new figures; what people wrote around them stays.

    Raises:
        ValueError: the marks between which the figures stand are not there.
    """
    before, begins, rest = text.partition(_BEGINS)
    _, ends, after = rest.partition(_ENDS)
    if not begins or not ends:
        raise ValueError(f"{FILE} has no {_BEGINS} and {_ENDS}")
    head = (
        f"Measured on {day_of(datetime.now(UTC)).isoformat()}: {machine.description()}. {options.rounds} rounds of"
        f" {options.seconds:g} s each; medians, and in brackets the lowest and the highest round."
    )
    return f"{before}{begins}\n\n" + "\n".join([head, "", *lines]).rstrip() + f"\n\n{ends}{after}"


def _figures(text: str) -> list[str]:
    return text.partition(_BEGINS)[2].partition(_ENDS)[0].splitlines()
