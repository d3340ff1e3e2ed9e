"""The lock files: one version and its hashes for every package, and nothing that says where to fetch it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[1]
# What the image holds; the same and what runs everything on one machine; the same and what tests and checks it.
RUN_TIME: Final = ROOT / "requirements.txt"
LOCKS: Final = (RUN_TIME, ROOT / "requirements-local.txt", ROOT / "requirements-dev.txt")

_HASHED: Final = re.compile(r"(?P<requirement>[^\\]*?)(?P<hashes>(?: --hash=sha256:[0-9a-f]{64})+)")


@dataclass(frozen=True)
class Pin:
    """One version of one package.

    Attributes:
        name: In its normal form, as `typing-extensions`.
        where: The marker of the machines that it is for; empty for all.
    """

    name: str
    version: str
    where: str


class NotPinned(Exception):
    """A line could bring in something else than what was looked at."""


def pins(text: str) -> Iterator[Pin]:
    """What a lock file pins, line by line.

    Raises:
        NotPinned: A line is no single version with a sha256 of each of its files.
    """
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        if line.strip():
            yield _pin(line.strip())


def _pin(line: str) -> Pin:
    """Options, addresses and names of files are no requirement with hashes; `name @ address` is one, with a URL."""
    found = _HASHED.fullmatch(line)
    if found is None:
        raise NotPinned(line)
    try:
        requirement = Requirement(found["requirement"])
    except InvalidRequirement:
        raise NotPinned(line) from None
    exact = [only.version for only in requirement.specifier if only.operator == "==" and "*" not in only.version]
    if requirement.url or requirement.extras or len(exact) != 1 or len(requirement.specifier) != 1:
        raise NotPinned(line)
    return Pin(canonicalize_name(requirement.name), exact[0], str(requirement.marker or ""))
