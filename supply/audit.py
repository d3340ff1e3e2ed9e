"""Look for known weaknesses of what is locked, and say so when nobody could be asked: `python -m supply.audit`."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from supply.expected import Expected, expected, wanted
from supply.lock import LOCKS, RUN_TIME, NotPinned, Pin, pins

FINE: Final = 0
FOUND: Final = 1
NOT_ASKED: Final = 3
IN_ORDER: Final = "locks, hashes and tables are in order"

# The service answers in seconds; a network that swallows everything would have us wait for each of a hundred packages.
PATIENCE_SECONDS: Final = 180


class NobodyAnswered(Exception):
    """The advisory service was not reached, or said something that is no report."""


def main(options: list[str]) -> int:
    """Check locks and tables, which needs nobody, then ask about every locked version; options are pip-audit's own.

    Returns:
        The exit code: 0 nothing is known against any, 1 a weakness or disorder, 3 not every version was asked about.
    """
    texts = {lock.name: lock.read_text(encoding="utf-8") for lock in LOCKS}
    if wrong := list(disorder(texts)) or list(surprises(expected())):
        return _say(FOUND, "the lock files are not as docs/dependencies.md has them:", wrong)
    try:
        report = ask(LOCKS, options)
    except NobodyAnswered as error:
        return _say(NOT_ASKED, f"{IN_ORDER}, but nobody was asked about known weaknesses:", [str(error)])
    return judge(report)


def disorder(locks: Mapping[str, str]) -> Iterator[str]:
    """What is not pinned, or not to the same version in every file that has it."""
    versions: dict[tuple[str, str], str] = {}
    for name, text in locks.items():
        try:
            pinned = list(pins(text))
        except NotPinned as error:
            yield f"{name}: not one version with hashes: {error}"
            continue
        for pin in pinned:
            first = versions.setdefault((pin.name, pin.where), pin.version)
            if pin.version != first:
                yield f"{name}: {pin.name} is {pin.version}, and {first} elsewhere"


def surprises(tables: Expected) -> Iterator[str]:
    """What is asked for or locked and not named in the tables, or named and not there."""
    to_run, for_tools = wanted()
    locked = {pin.name for pin in locked_to_run()}
    yield from _differences("pyproject.toml asks for", to_run, {*tables.direct})
    yield from _differences("requirements.txt has", locked, {*tables.direct, *tables.indirect})
    yield from _differences("pyproject.toml asks, for tools,", for_tools, {*tables.tools})


def locked_to_run() -> list[Pin]:
    """Every package of the image, for whatever machine."""
    return list(pins(RUN_TIME.read_text(encoding="utf-8")))


def ask(locks: tuple[Path, ...], options: list[str]) -> str:
    """What pip-audit reports about these files, as JSON.

    Raises:
        NobodyAnswered: There is no report.
    """
    ours = ["--require-hashes", "--disable-pip", "--progress-spinner=off", "--desc=off", "--format=json"]
    files = [f"--requirement={lock}" for lock in locks]
    try:
        asked = subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", "pip_audit", *ours, *files, *options],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NobodyAnswered(f"no answer within {PATIENCE_SECONDS} seconds") from None
    if not asked.stdout.strip():
        # The last line of a traceback, or of what it says itself.
        raise NobodyAnswered(f"pip-audit: {asked.stderr.strip().rpartition(chr(10))[2] or 'no word'}")
    return asked.stdout


def judge(report: str) -> int:
    """Print what a report of pip-audit means.

    Returns:
        The exit code, as `main` has it.
    """
    packages = json.loads(report)["dependencies"]
    weak = [
        f"{package['name']} {package['version']}: {weakness['id']}, mended in {weakness['fix_versions']}"
        for package in packages
        for weakness in package.get("vulns", [])
    ]
    # pip-audit ends with 0 all the same when it could not ask.
    unasked = [package["name"] for package in packages if "skip_reason" in package]
    if weak:
        return _say(FOUND, f"known weaknesses among {len(packages)} packages:", weak)
    if unasked:
        return _say(
            NOT_ASKED, f"{IN_ORDER}, but nobody answered for {len(unasked)} of {len(packages)}:", [", ".join(unasked)]
        )
    return _say(FINE, f"{IN_ORDER}, and nothing is known against any of {len(packages)} packages", [])


def _differences(where: str, there: set[str], named: set[str]) -> Iterator[str]:
    yield from (f"{where} {name}, which has no row" for name in sorted(there - named))
    yield from (f"{name} has a row, and nothing {where} it" for name in sorted(named - there))


def _say(code: int, sentence: str, details: list[str]) -> int:
    print(f"audit: {sentence}", *details, sep="\n  ", file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
