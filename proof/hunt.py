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
from typing import Final

from tests.acceptance.worker_world import numbered

import payments
from payments.observability import configure_logging
from payments.settings import LogFormat
from proof.crashes import EVERY_STORY, Census, Plan, Played, Stage
from proof.failpoints import Action
from proof.invariants import Violation
from proof.planted_scenes import ORDERS, SCENES, play_scene
from proof.planted_stories import MORE_FATES
from proof.stories import FATES, Fate
from proof.world import World, open_world

ALL: Final = "all"
CAUGHT: Final = 1
SURVIVED: Final = 0
_EVERY_FATE: Final = {**FATES, **MORE_FATES}
_SCENE: Final = "scene"
_ROUNDS_OF_SCENES: Final = 3
_PATIENCE: Final = 60.0  # seconds for one scene
_BOOKKEEPING: Final = ("jobs.", "keys.")  # comes last: no step of a payment
# In turn: what strikes often, and then what our code is shielded from.
_ACTIONS: Final = ((Action.KILL, Action.RAISE), (Action.CANCEL, Action.FREEZE))


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
        """In a process of its own, so that nothing of it is left in those that are forked later."""
        orders = numbered(name, ORDERS)
        self.world.town.shop.take_orders(orders)  # here, where its database has been opened
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe(duplex=False)
        actors = fork.Process(target=_act, args=(self.world, name, seed, orders, theirs), daemon=True)
        actors.start()
        theirs.close()
        try:
            found: list[Violation] = ours.recv() if ours.poll(_PATIENCE) else [_stuck(name)]
        except EOFError:
            found = [Violation("I13", "-", f"{name} has failed; what it said stands above")]
        actors.kill()
        actors.join()
        return found


def _stuck(name: str) -> Violation:
    return Violation("I13", "-", f"{name} has not ended within {_PATIENCE:.0f} seconds")


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
    _began: float = field(default_factory=time.monotonic)

    def run(self) -> Verdict:
        """Play in the order of the module's docstring."""
        found = next(self._violations(), None)
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
            played = self._play(plan)
            walks[plan] = played.points
            yield from ((str(plan), str(violation)) for violation in played.violations)
        yield from self._of_scenes()
        if walks:
            yield from self._of_faults(Census(walks))

    def _of_scenes(self) -> Iterator[tuple[str, str]]:
        scenes = [name for name in self.ground if name in SCENES]
        for number in count() if len(scenes) == len(self.ground) else range(_ROUNDS_OF_SCENES):
            for name in scenes:
                if self._is_over:
                    return
                self.played += 1
                seed = self.chance.randrange(1_000_000)
                for violation in self.hunter.play_scene(name, seed):
                    yield f"{_SCENE}/{name}/{seed}", f"{violation} in round {number + 1}"

    def _of_faults(self, census: Census) -> Iterator[tuple[str, str]]:
        for plan in _struck_plans(census, self.chance):
            if self._is_over:
                return
            yield from ((str(plan), str(violation)) for violation in self._play(plan).violations)

    def _play(self, plan: Plan) -> Played:
        self.played += 1
        return self.hunter.play(plan)


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
    """Exit codes: 0 nothing was found in the time, 1 a promise is broken, 2 wrong usage or another source."""
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # through the blocks that end what they have started
    source = Path(payments.__file__).resolve()
    if asked.source is not None and not source.is_relative_to(asked.source.resolve()):
        print(f"hunt: payments comes from {source}, which is not the source that was asked for", file=sys.stderr)
        return 2
    with open_world() as world:
        verdict = _replay(world, asked.replay) if asked.replay else _hunt(world, asked)
    print(json.dumps(asdict(verdict)), flush=True)
    return CAUGHT if verdict.is_caught else SURVIVED


def _hunt(world: World, asked: argparse.Namespace) -> Verdict:
    return Hunt(Hunter(world, Stage(world)), grounds(asked.ground), random.Random(asked.seed), asked.seconds).run()  # noqa: S311 - a seed, no secret


def _replay(world: World, word: str) -> Verdict:
    began = time.monotonic()
    hunter = Hunter(world, Stage(world))
    kind, _, rest = word.partition("/")
    if kind == _SCENE:
        name, _, seed = rest.partition("/")
        found = hunter.play_scene(name, int(seed))
    else:
        found = hunter.play(Plan.read(word)).violations
    seconds = round(time.monotonic() - began, 1)
    return Verdict(bool(found), seconds, 1, "; ".join(map(str, found)), word)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m proof.hunt", description=__doc__)
    parser.add_argument("--ground", default=ALL, metavar="STORIES", help="comma-separated stories and scenes, or `all`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="of playing (default: %(default)s)")
    parser.add_argument("--source", type=Path, help="the directory that `payments` has to come from")
    parser.add_argument("--replay", metavar="PLAN", help="only this one, as a verdict has named it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
