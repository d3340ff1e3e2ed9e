"""Planted defects: the harness sees what it is there to see, or whatever it passes says nothing.

Each defect is planted into a copy of our source, and `proof.hunt` has to find that something is wrong. Where two
layers guard against the same thing each is switched off alone first, which nobody may notice, and then both.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proof.defects import DEFECTS, GUARDED, PAIRS, Defect
from proof.findings import BadReplay, Failure, Figure, Findings, Options, Say
from proof.hunt import ALL, CAUGHT, SURVIVED, Verdict

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / "src"
WITHIN: Final = 60.0  # seconds of playing until a defect has to be found; in a quick run later ones are counted
_PATIENCE: Final = 120.0  # so that a slow machine is told from a defect that nobody notices
_ALONE: Final = 20.0  # seconds that a layer is off alone, and nobody may notice
_UNHARMED: Final = 60.0  # seconds that the true source is hunted in
_TO_BEGIN: Final = 180.0  # seconds until a world is there, and gone again, at the most
_AT_ONCE: Final = 2
_THIRDS: Final = 3
_LOOK_EVERY: Final = 0.1
_LAST_WORDS: Final = 600  # characters
_UNHARMED_SOURCE: Final = Defect("nothing", "the source as it is", (ALL,), ())


class DoesNotFit(Exception):
    """The source is no longer what an edit takes it for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is hunted for, for so long at the most, and whether it has to be found or to stay unnoticed."""

    defect: Defect
    seconds: float
    has_to_show: bool


@dataclass(frozen=True, slots=True)
class Hunted:
    """What came of one hunt."""

    wanted: Wanted
    verdict: Verdict | None  # None: the hunt itself has failed
    said: str = ""  # at last, by a hunt that has failed


@dataclass
class Hunts:
    """Hunts, two at a time, each in a copy of the source and in a process of its own."""

    seed: int
    say: Say
    _is_over: threading.Event = field(default_factory=threading.Event)

    def all(self, wanted: Sequence[Wanted]) -> list[Hunted]:
        """Hunt for each of these."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            try:
                return list(pool.map(self._hunt, wanted))
            finally:
                self._is_over.set()  # whoever leaves early does not wait for the others
                pool.shutdown(cancel_futures=True)

    def _hunt(self, wanted: Wanted) -> Hunted:
        defect, seconds = wanted.defect, wanted.seconds
        with _copy_with(defect) as source, tempfile.TemporaryFile() as said:
            command = [sys.executable, "-m", "proof.hunt", "--ground", ",".join(defect.ground), "--source", str(source)]
            command += ["--seed", str(self.seed), "--seconds", str(seconds)]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(ROOT)])}
            with subprocess.Popen(  # noqa: S603 - our own program
                command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT
            ) as process:
                self._wait(process, within=seconds + _TO_BEGIN)
            said.seek(0)
            hunted = judge(wanted, process.returncode, said.read().decode(errors="replace"))
        self.say(f"planted: {_line(hunted)}")
        return hunted

    def _wait(self, process: subprocess.Popen[bytes], *, within: float) -> None:
        ends_at = time.monotonic() + within
        while process.poll() is None and time.monotonic() < ends_at and not self._is_over.is_set():
            time.sleep(_LOOK_EVERY)
        process.terminate()  # if it still runs; it ends what it has started


def run(options: Options, say: Say) -> Findings:
    """Plant them: all, or a third of them, at least eight; which ones depends on the seed.

    In a full run each has to be found within a minute. A quick one may share its machine with much else.
    """
    began = time.monotonic()
    hunted = Hunts(options.seed, say).all(_wanted(options))
    within = WITHIN if options.is_full else math.inf
    failures = [failure for one in hunted for failure in failures_of(one, within=within)]
    return Findings(_figures(hunted, seconds=time.monotonic() - began), failures)


def plant(defect: Defect, package: Path) -> None:
    """Change the files of a copy of our package.

    Raises:
        DoesNotFit: a text that is to be replaced does not stand there once.
    """
    for edit in defect.edits:
        file = package / edit.file
        text = file.read_text(encoding="utf-8")
        if text.count(edit.old) != 1:
            raise DoesNotFit(f"{defect.name}: {edit.file} has {text.count(edit.old)} times {edit.old!r}")
        file.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def _wanted(options: Options) -> list[Wanted]:
    """The longest hunt first, which is the one in the true source.

    Raises:
        BadReplay: no defect has this name.
    """
    third = slice(None) if options.is_full or options.replay else slice(options.seed % _THIRDS, None, _THIRDS)
    planted = [*DEFECTS[third], *(one for pair in PAIRS[third] for one in pair.noticed)]
    alone = [*(one for pair in PAIRS[third] for one in pair.unnoticed), *GUARDED[third]]
    wanted = [
        Wanted(_UNHARMED_SOURCE, _UNHARMED, has_to_show=False),
        *(Wanted(one, _PATIENCE, has_to_show=True) for one in planted),
        *(Wanted(one, _ALONE, has_to_show=False) for one in alone),
    ]
    chosen = [one for one in wanted if options.replay in {None, one.defect.name}]
    if not chosen:
        raise BadReplay("no defect has this name")
    return chosen


@contextmanager
def _copy_with(defect: Defect) -> Iterator[Path]:
    """A copy of our source with the defect in it, as Python is to find it; what is compiled already comes along."""
    with tempfile.TemporaryDirectory(prefix="payments-planted-") as directory:
        shutil.copytree(SOURCE, Path(directory, "src"))
        shutil.copytree(ROOT / "migrations", Path(directory, "migrations"))
        shutil.copy2(ROOT / "alembic.ini", directory)
        plant(defect, Path(directory, "src", "payments"))
        yield Path(directory, "src")


def judge(wanted: Wanted, code: int, said: str) -> Hunted:
    """Read what a hunt has said, by its exit code."""
    if code in {CAUGHT, SURVIVED}:
        with suppress(json.JSONDecodeError, IndexError, TypeError):
            return Hunted(wanted, Verdict.read(said.rstrip().splitlines()[-1]))
    return Hunted(wanted, None, said=said[-_LAST_WORDS:].strip())


def _line(hunted: Hunted) -> str:
    name, verdict = hunted.wanted.defect.name, hunted.verdict
    if verdict is None:
        return f"{name}: the hunt has failed: {hunted.said}"
    what = f"{verdict.violation} in {verdict.plan}" if verdict.is_caught else "nothing was noticed"
    return f"{name}: {what} ({verdict.played} runs, {verdict.seconds:.0f} s)"


def failures_of(hunted: Hunted, *, within: float) -> Iterator[Failure]:
    """What is wrong with how a defect showed, in how many seconds, or did not show."""
    wanted, verdict = hunted.wanted, hunted.verdict
    wish = "has to show" if wanted.has_to_show else "may not show"
    if verdict is None or verdict.is_caught is not wanted.has_to_show:
        yield Failure(f"{_line(hunted)}; what {wish}: {wanted.defect.says}", wanted.defect.name)
    elif verdict.is_caught and verdict.seconds > within:
        yield Failure(f"{_line(hunted)}; it has to show within {within:.0f} s", wanted.defect.name)


def _figures(hunted: Sequence[Hunted], *, seconds: float) -> list[Figure]:
    planted = [one for one in hunted if one.wanted.has_to_show]
    caught = [one.verdict for one in planted if one.verdict is not None and one.verdict.is_caught]
    alone = [one for one in hunted if not one.wanted.has_to_show and one.wanted.defect.edits]
    unnoticed = [one for one in alone if one.verdict is not None and not one.verdict.is_caught]
    return [
        Figure("defects planted", len(planted)),
        Figure("defects caught", len(caught)),
        Figure("the slowest of them", round(max((one.seconds for one in caught), default=0)), "s"),
        Figure("of these after more than a minute", sum(one.seconds > WITHIN for one in caught)),
        Figure("layers that were switched off alone", len(alone)),
        Figure("of these unnoticed, because another layer still guards", len(unnoticed)),
        Figure("seconds", round(seconds)),
    ]
