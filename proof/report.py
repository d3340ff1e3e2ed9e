"""The report: what is printed, what `docs/proof.md` holds between two marks, and the headline of the README."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from payments.business_day import day_of
from proof.findings import Figure, Findings, Options

_ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = _ROOT / "docs" / "proof.md"
README: Final = _ROOT / "README.md"


def lines_of(findings: Mapping[str, Findings]) -> list[str]:
    """One table of all figures in Markdown."""
    lines = ["| part | what | |", "| --- | --- | --- |"]
    for part, found in findings.items():
        for number, figure in enumerate(found.figures):
            lines.append(f"| {part if not number else ''} | {figure.name} | {_value(figure)} |")
        lines.append(f"| | **violations** | **{len(found.failures)}** |")
    return lines


def write(findings: Mapping[str, Findings], options: Options, *, seconds: float, machine: str) -> None:
    """Put the figures of a full run where they are read.

    Raises:
        ValueError: a file has no marks between which they stand.
    """
    at = f"Run on {day_of(datetime.now(UTC)).isoformat()}, seed {options.seed}, {seconds / 60:.0f} minutes, {machine}."
    DOCS.write_text(within(DOCS.read_text(), [at, "", *lines_of(findings)]))
    README.write_text(within(README.read_text(), [headline(findings)]))


def headline(findings: Mapping[str, Findings]) -> str:
    """What was done to it, and what came of it, in one sentence."""
    figures = {part: {one.name: one for one in found.figures} for part, found in findings.items()}
    said = [
        f"{_value(figures[part][name])} {words}"
        for part, name, words in HEADLINE
        if part in figures and name in figures[part]
    ]
    violations = sum(len(found.failures) for found in findings.values())
    return f"**{', '.join(said)}: {violations or 'no'} violation{'' if violations == 1 else 's'}.**"


# The figures that the README shows: the part, its name there, and the words behind it.
HEADLINE: Final = (
    ("crashes", "runs", "lives of an order"),
    ("crashes", "failpoints", "failpoints"),
    ("crashes", "processes killed", "processes killed"),
)


def within(text: str, lines: list[str]) -> str:
    """The text with these lines between its marks; what people wrote around them stays.

    Raises:
        ValueError: the marks are not there.
    """
    begins, ends = "<!-- proof -->", "<!-- /proof -->"
    before, found, rest = text.partition(begins)
    _, closed, after = rest.partition(ends)
    if not found or not closed:
        raise ValueError(f"there is no {begins} and {ends}")
    return f"{before}{begins}\n\n" + "\n".join(lines) + f"\n\n{ends}{after}"


def _value(figure: Figure) -> str:
    return (
        f"{figure.value:,g} {figure.unit}".strip()
        if isinstance(figure.value, float)
        else f"{figure.value:,} {figure.unit}".strip()
    )
