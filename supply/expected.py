"""The tables of docs/dependencies.md: what may be installed, and why."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from supply.lock import ROOT

TABLES: Final = ROOT / "docs" / "dependencies.md"

Table = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Expected:
    """What the document says, each table by the first cell of its rows."""

    direct: Table
    indirect: Table
    tools: Table
    licences: Table


def expected() -> Expected:
    """Read the document."""
    sections = re.split(r"^## .+$", TABLES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return Expected(*map(_table, sections[:4]))


def wanted() -> tuple[set[str], set[str]]:
    """What pyproject.toml names: to run in production, and for this repository alone."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras, groups = pyproject["project"]["optional-dependencies"], pyproject["dependency-groups"]
    return _names(pyproject["project"]["dependencies"]), _names(chain(*extras.values(), *groups.values()))


def _table(section: str) -> Table:
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return {first.strip(): tuple(cell.strip() for cell in rest) for first, *rest in rows[1:]}


def _names(requirements: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}
