"""The Dockerfile, by stages, and the tree that it leaves in the image."""

import compileall
import json
import py_compile
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.deploy.compose_file import ROOT

DOCKERFILE: Final = ROOT / "Dockerfile"


@dataclass(frozen=True)
class Step:
    """One instruction and what follows it, on one line."""

    instruction: str
    text: str


Stage = tuple[Step, ...]


def stages() -> tuple[Stage, ...]:
    """What each FROM begins, the FROM included."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    found: list[list[Step]] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        instruction, _, text = line.partition(" ")
        if instruction == "FROM":
            found.append([])
        found[-1].append(Step(instruction, text.strip()))
    return tuple(tuple(stage) for stage in found)


def texts(stage: Stage, instruction: str) -> list[str]:
    return [step.text for step in stage if step.instruction == instruction]


def exec_form(text: str) -> list[str]:
    """The words of a command in exec form.

    Raises:
        ValueError: It is in shell form, or no list of words.
    """
    words: object = json.loads(text)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(text)
    return words


def environment() -> dict[str, str]:
    """What the image sets for every program."""
    return dict(pair.split("=", 1) for text in texts(stages()[-1], "ENV") for pair in text.split())


def lay_out(app: Path) -> None:
    """Copy what the image has in /app to a directory, and let nobody write there."""
    for text in texts(stages()[0], "COPY"):
        source, destination = (ROOT / text.split()[0]), app / text.split()[1]
        if source.is_dir():
            shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, destination)
    # As the image has it: programs that find nothing compiled, and may not write, would compile everything each time.
    compileall.compile_dir(app, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    for path in (app, *app.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
