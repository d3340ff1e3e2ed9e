"""Hunt for one defect: `python -m proof.hunt --ground bought,refunded` plays until a promise is broken.

It is run with a changed copy of our source before the true one on PYTHONPATH. Calm stories and scenes come first, then
single faults at every point that the stories come by, then pairs of them, in an order that the seed decides.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from tests.acceptance.worker_world import numbered

import payments
from payments.observability import configure_logging
from payments.settings import LogFormat
from proof.crashes import EVERY_STORY, Census, Plan, Played, Stage
from proof.failpoints import Action
from proof.findings import BadReplay
from proof.invariants import Violation
from proof.planted_scenes import ORDERS, SCENES, play_scene
from proof.planted_stories import MORE_FATES
from proof.stories import FATES, Fate
from proof.world import World, open_world

ALL: Final = "all"
SURVIVED: Final = 0
CAUGHT: Final = 1
USAGE: Final = 2
FAILED: Final = 3
_EVERY_FATE: Final = {**FATES, **MORE_FATES}
_SCENE: Final = "scene"
_ROUNDS_OF_SCENES: Final = 3
_PATIENCE: Final = 60.0  # seconds for one scene, longer than it takes itself
_OF_THE_HARNESS: Final = "I14"  # what was meant to happen did not, which is no promise of ours
_BOOKKEEPING: Final = ("jobs.", "keys.")  # comes last: no step of a payment
# In turn: what strikes often, and then what our code is shielded from.
_ACTIONS: Final = ((Action.KILL, Action.RAISE), (Action.CANCEL, Action.FREEZE))
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_EXIT_CODES: Final = (
    "Exit codes: 0 nothing was found in the time; 1 a promise is broken; 2 wrong usage, or another source; "
    "3 a run has hung or could not be played, so that nothing is known."
)


class HuntFailed(Exception):
    """A run has hung, or could not be played: that says nothing about the source."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a hunt."""

    is_caught: bool
    seconds: float  # of playing, without the time until the world was there
    played: int
    violation: str = ""
    plan: str = ""  # which plays it once more

    @classmethod
    def read(cls, line: str) -> "Verdict":
        """What `main` printed as its last line."""
        return cls(**json.loads(line))


@dataclass
class Hunter:
    """Plays one plan after the other in one world."""

    world: World
    stage: Stage

    def play(self, plan: Plan) -> Played:
        return self.stage.play(plan)

    def play_scene(self, name: str, seed: int) -> Sequence[Violation]:
        """In a process of its own, so that nothing of it is left in those that are forked later.

        Raises:
            HuntFailed: the scene has failed, or has not ended in time.
        """
        orders = numbered(name, ORDERS)
        self.world.town.shop.take_orders(orders)  # here, where its database has been opened
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe(duplex=False)
        actors = fork.Process(target=_act, args=(self.world, name, seed, orders, theirs), daemon=True)
        actors.start()
        theirs.close()
        plan = _scene_plan(name, seed)
        try:
            if not ours.poll(_PATIENCE):
                raise HuntFailed(f"{plan} has not ended within {_PATIENCE:.0f} seconds")
            found: list[Violation] = ours.recv()
        except EOFError:
            raise HuntFailed(f"{plan} has failed; what it said stands above") from None
        finally:
            actors.kill()
            actors.join()
        return found


def _scene_plan(name: str, seed: int) -> str:
    return f"{_SCENE}/{name}/{seed}"


def _is_about_us(violation: Violation) -> bool:
    return violation.invariant != _OF_THE_HARNESS


def _act(world: World, name: str, seed: int, orders: Sequence[str], end: Connection) -> None:
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        configure_logging(LogFormat.JSON, to=nowhere)
        end.send(play_scene(world, name, seed, orders))


@dataclass
class Hunt:
    """The search on one ground, until something is found or the time is over."""

    hunter: Hunter
    ground: Sequence[str]
    chance: random.Random
    seconds: float
    played: int = 0
    amiss: list[str] = field(default_factory=list)  # what was not played as it was meant to be
    _began: float = field(default_factory=time.monotonic)

    def run(self) -> Verdict:
        """Play in the order of the module's docstring.

        Raises:
            HuntFailed: something could not be played, and nothing else was found; so nothing is known.
        """
        found = next(self._violations(), None)
        if found is None and self.amiss:
            raise HuntFailed(self.amiss[0])
        if found is None:
            return Verdict(is_caught=False, seconds=self.age, played=self.played)
        plan, violation = found
        return Verdict(is_caught=True, seconds=self.age, played=self.played, violation=violation, plan=plan)

    @property
    def age(self) -> float:
        return round(time.monotonic() - self._began, 1)

    @property
    def _is_over(self) -> bool:
        return self.age >= self.seconds

    def _violations(self) -> Iterator[tuple[str, str]]:
        walks: dict[Plan, Sequence[str]] = {}
        for plan in _calm_plans(self.ground, self.chance):
            if self._is_over:
                return
            played = self.hunter.play(plan)
            walks[plan] = played.points
            yield from self._noted(str(plan), played.violations)
        yield from self._of_scenes()
        if walks:
            yield from self._of_faults(Census(walks))

    def _of_scenes(self) -> Iterator[tuple[str, str]]:
        scenes = [name for name in self.ground if name in SCENES]
        for number in count() if len(scenes) == len(self.ground) else range(_ROUNDS_OF_SCENES):
            for name in scenes:
                if self._is_over:
                    return
                seed = self.chance.randrange(1_000_000)
                found = self.hunter.play_scene(name, seed)
                for plan, violation in self._noted(_scene_plan(name, seed), found):
                    yield plan, f"{violation} in round {number + 1}"

    def _of_faults(self, census: Census) -> Iterator[tuple[str, str]]:
        for plan in _struck_plans(census, self.chance):
            if self._is_over:
                return
            yield from self._noted(str(plan), self.hunter.play(plan).violations)

    def _noted(self, plan: str, found: Sequence[Violation]) -> Iterator[tuple[str, str]]:
        """Another one was played; what it has found about us."""
        self.played += 1
        self.amiss += [f"{plan}: {violation}" for violation in found if not _is_about_us(violation)]
        yield from ((plan, str(violation)) for violation in found if _is_about_us(violation))


def _calm_plans(ground: Sequence[str], chance: random.Random) -> list[Plan]:
    plans = [
        Plan(story, hot, fate)
        for story in ground
        if story not in SCENES
        for hot in (True, False)
        for fate in _EVERY_FATE.get(story, (Fate.SOUND,))
    ]
    chance.shuffle(plans)
    return plans


def _struck_plans(census: Census, chance: random.Random) -> Iterator[Plan]:
    """Every point once with each action, and then any two points, for ever."""
    points = list(census.places)
    for pair in _ACTIONS:
        chance.shuffle(points)
        points.sort(key=lambda point: point.startswith(_BOOKKEEPING))
        yield from (census.single(point, action, chance) for point in points for action in pair)
    while True:
        if (plan := census.several(chance.choices(points, k=2), chance)) is not None:
            yield plan


def grounds(text: str) -> list[str]:
    """The stories and scenes of a comma-separated list; `all` of them.

    Raises:
        ValueError: one of them is unknown.
    """
    known = [*EVERY_STORY, *SCENES]
    names = known if text == ALL else text.split(",")
    if unknown := set(names) - set(known):
        raise ValueError(f"no such story or scene: {', '.join(sorted(unknown))}")
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt, and print the verdict as the last line; `_EXIT_CODES` says what is returned."""
    asked = _parser().parse_args(arguments)
    for number in _ENDING:
        signal.signal(number, _leave)
    source = Path(payments.__file__).resolve()
    if asked.source is not None and not source.is_relative_to(asked.source.resolve()):
        print(f"hunt: payments comes from {source}, which is not the source that was asked for", file=sys.stderr)
        return USAGE
    try:
        with open_world() as world:
            verdict = _replay(world, asked.replay) if asked.replay else _hunt(world, asked)
    except BadReplay as bad:
        print(f"hunt: {bad}", file=sys.stderr)
        return USAGE
    except HuntFailed as failed:
        print(f"hunt: {failed}", file=sys.stderr)
        return FAILED
    print(json.dumps(asdict(verdict)), flush=True)
    return CAUGHT if verdict.is_caught else SURVIVED


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)  # a second one would come in the middle of tidying up
    sys.exit(FAILED)  # through the blocks that end what they have started


def _hunt(world: World, asked: argparse.Namespace) -> Verdict:
    return Hunt(Hunter(world, Stage(world)), grounds(asked.ground), random.Random(asked.seed), asked.seconds).run()  # noqa: S311 - a seed, no secret


def _replay(world: World, word: str) -> Verdict:
    began = time.monotonic()
    hunter = Hunter(world, Stage(world))
    played = _play_again(hunter, word)
    found = [violation for violation in played if _is_about_us(violation)]
    if played and not found:
        raise HuntFailed(f"{word}: {played[0]}")
    seconds = round(time.monotonic() - began, 1)
    return Verdict(bool(found), seconds, 1, "; ".join(map(str, found)), word)


def _play_again(hunter: Hunter, word: str) -> Sequence[Violation]:
    kind, _, rest = word.partition("/")
    if kind == _SCENE:
        name, _, seed = rest.partition("/")
        if name not in SCENES or not seed.isdecimal():
            raise BadReplay(f"no such scene: {word}")
        return hunter.play_scene(name, int(seed))
    return hunter.play(Plan.read(word)).violations


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m proof.hunt", description=__doc__, epilog=_EXIT_CODES)
    parser.add_argument("--ground", default=ALL, metavar="STORIES", help="comma-separated stories and scenes, or `all`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="of playing (default: %(default)s)")
    parser.add_argument("--source", type=Path, help="the directory that `payments` has to come from")
    parser.add_argument("--replay", metavar="PLAN", help="only this one, as a verdict has named it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
