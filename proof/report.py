"""The report: what is printed, what `docs/proof.md` holds between marks, and the headline of the README."""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from payments.business_day import day_of
from proof.findings import Figure, Findings, Options

_ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = _ROOT / "docs" / "proof.md"
README: Final = _ROOT / "README.md"
VIOLATIONS: Final = "**violations**"

# What the README says, in this order: the part, the name of the figure, and the words behind the number.
HEADLINE: Final[Sequence[tuple[str, str, str]]] = (
    ("model", "states of the model", "states of the protocol"),
    ("crashes", "runs", "lives of an order"),
    ("crashes", "failpoints", "failpoints"),
    ("crashes", "processes killed", "processes killed"),
    ("storms", "requests", "requests in storms"),
    ("stateful", "programs", "programs made up and played"),
    ("cuts", "exchanges cut", "exchanges with Toss cut"),
    ("commits", "commits carried out whose reply was lost", "lost replies to COMMIT"),
    ("outages", "crashes of the database", "crashes of the database"),
    ("failover", "failovers to a synchronous standby", "failovers"),
    ("planted", "defects caught", "planted defects caught"),
)
_ROW: Final = re.compile(r"\| (.+) \| ([0-9,.]+)(?: .*)? \|")


def lines_of(found: Findings) -> list[str]:
    """The figures of one part as a table in Markdown."""
    rows = [*found.figures, Figure(VIOLATIONS, len(found.failures))]
    return ["| | |", "| --- | ---: |", *(f"| {one.name} | {_value(one)} |" for one in rows)]


def source() -> str:
    """Of which source the figures are."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changes = _git("status", "--porcelain", "--", "src", "proof")
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
    return f"commit {commit} and changes on top" if changes else f"commit {commit}"


def _git(*words: str) -> str:
    git = shutil.which("git") or "/usr/bin/git"
    asked = subprocess.run([git, *words], cwd=_ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    return asked.stdout.strip()


def write(part: str, found: Findings, options: Options, *, source: str, seconds: float) -> None:
    """Put the figures of a full run of one part where they are read; those of the other parts stay.

    Raises:
        ValueError: a file has no marks between which they stand.
    """
    day = day_of(datetime.now(UTC)).isoformat()
    head = f"Run on {day} at {source} with seed {options.seed}, in {seconds / 60:.0f} minutes."
    docs = within(DOCS.read_text(), part, [head, "", *lines_of(found)])
    DOCS.write_text(docs)
    README.write_text(within(README.read_text(), "headline", [headline(docs)]))


def headline(docs: str) -> str:
    """What was done to it, and what came of it, as the report says; nothing while it says nothing."""
    parts = {part: read(docs, part) for part in re.findall(r"<!-- ([a-z]+) -->", docs)}
    said = [f"{parts[part][name]} {words}" for part, name, words in HEADLINE if name in parts.get(part, {})]
    if not said:
        return ""
    violations = sum(int(figures.get(VIOLATIONS, "0").replace(",", "")) for figures in parts.values())
    return f"**{', '.join(said)}: {violations or 'no'} violation{'' if violations == 1 else 's'}.**"


def read(docs: str, part: str) -> Mapping[str, str]:
    """The figures of a part that stand in the report, by their names."""
    _, _, rest = docs.partition(f"<!-- {part} -->")
    return dict(_ROW.findall(rest.partition(f"<!-- /{part} -->")[0]))


def within(text: str, mark: str, lines: Sequence[str]) -> str:
    """The text with these lines between the two marks of this name; what people wrote around them stays.

    Raises:
        ValueError: the marks are not there.
    """
    begins, ends = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, found, rest = text.partition(begins)
    _, closed, after = rest.partition(ends)
    if not found or not closed:
        raise ValueError(f"there is no {begins} and {ends}")
    return f"{before}{begins}\n\n" + "\n".join(lines) + f"\n\n{ends}{after}"


def _value(figure: Figure) -> str:
    number = f"{figure.value:,.1f}" if isinstance(figure.value, float) else f"{figure.value:,}"
    return f"{number} {figure.unit}".strip()
