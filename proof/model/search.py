"""Every state that can be reached, breadth first, up to the first violation.

A state is one integer: the number of the world, and behind it, in a few bits for each process, the number of what that
process has in its head. What a process does next depends on the world and on its own head alone, so it is worked out
once for each such pair and kept as differences between integers: a state's successors cost an addition each.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from proof.model.books import Rules
from proof.model.house import Process, processes
from proof.model.invariants import unsettled, violation
from proof.model.state import At, AtPg, Job, Kind, Said, Setup, Step, Task, Window, World

HEAD_BITS: Final = 11
HEADS: Final = 1 << HEAD_BITS
TOO_MANY: Final = 20_000_000  # states; a model that grows beyond has lost its bounds


class OutOfBounds(Exception):
    """The model has more states than it may have, or than its integers can tell apart."""


class Moves(NamedTuple):
    """From one world and head: differences to the states that follow, those of fault-free progress first."""

    progress: tuple[int, ...]
    others: tuple[int, ...]


Lookup = tuple[Process, int, dict[int, Moves]]  # where its head is in a state, and what was worked out before


class Path(NamedTuple):
    """How a state is reached: the shortest way there is."""

    steps: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(f"{number}. {step}" for number, step in enumerate(self.steps, 1))


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that does not hold, and how it comes about."""

    what: str
    path: Path


class Space:
    """The states of one setup, numbered as they are found."""

    def __init__(self, setup: Setup) -> None:
        self.rules = Rules(setup)
        self.processes: Sequence[Process] = processes(setup, self.rules)
        self._setup = setup
        self._worlds: list[World] = []
        self._world_numbers: dict[World, int] = {}
        self._heads: list[list[Task]] = [[] for _ in self.processes]
        self._head_numbers: list[dict[Task, int]] = [{} for _ in self.processes]
        self._shifts = [HEAD_BITS * process.who.number for process in self.processes]
        self.bits = HEAD_BITS * len(self.processes)
        self.violation: str | None = None  # the first that was met

    def first(self) -> int:
        """The buyer has come back from one payment window; the others are still open."""
        windows = tuple(Window(AtPg.IN_PROGRESS if key == 1 else AtPg.ABSENT) for key in self._setup.keys)
        setup = self._setup
        world = World(
            windows,
            hints=(None,) * len(windows),
            crashes=setup.crashes,
            troubles=setup.troubles,
            tricks=setup.tricks,
        )
        return self._encoded(world, [Task(visits=process.visits) for process in self.processes])

    def world(self, state: int) -> World:
        return self._worlds[state >> self.bits]

    def loose_end(self, state: int) -> str | None:
        """Why nothing may end in this state."""
        loose = unsettled(self.world(state))
        waiting = [one.name for one in self.processes if self._decoded(state, one)[1].at is not At.IDLE]
        return loose or (f"I4: {waiting[0]} waits for ever" if waiting else None)

    def happened(self) -> frozenset[Job | Said]:
        """What the processes have worked on, and what they were answered."""
        tasks = [task for heads in self._heads for task in heads]
        return frozenset([task.job for task in tasks]) | {task.reply.said for task in tasks if task.reply is not None}

    def named_steps(self, state: int) -> Iterator[tuple[str, int, Kind]]:
        """Each step from a state with its name, where it leads to, and of which kind it is."""
        for process in self.processes:
            world, head = self._decoded(state, process)
            for step in process.steps(world, head):
                yield f"{process.name}: {step.name}", state + self._difference(state, process, step), step.kind

    def moves(self, state: int, process: Process) -> Moves:
        """What this process can do in this state."""
        world, head = self._decoded(state, process)
        progress: list[int] = []
        others: list[int] = []
        for step in process.steps(world, head):
            difference = self._difference(state, process, step)
            if difference:
                (progress if step.kind is Kind.PROGRESS else others).append(difference)
        return Moves(tuple(progress), tuple(others))

    def _decoded(self, state: int, process: Process) -> tuple[World, Task]:
        number = state >> self._shifts[process.who.number] & HEADS - 1
        return self._worlds[state >> self.bits], self._heads[process.who.number][number]

    def _difference(self, state: int, process: Process, step: Step) -> int:
        shift = self._shifts[process.who.number]
        head = self._head_number(process.who.number, step.task if process is not self.processes[-1] else Task())
        old = state >> shift & HEADS - 1
        return (self._world_number(step.world) - (state >> self.bits) << self.bits) + (head - old << shift)

    def _encoded(self, world: World, heads: Sequence[Task]) -> int:
        state = self._world_number(world) << self.bits
        for number, head in enumerate(heads):
            state |= self._head_number(number, head) << self._shifts[number]
        return state

    def _world_number(self, world: World) -> int:
        number = self._world_numbers.get(world)
        if number is None:
            number = self._world_numbers[world] = len(self._worlds)
            self._worlds.append(world)
            self.violation = self.violation or violation(world, self._setup)
        return number

    def _head_number(self, process: int, head: Task) -> int:
        number = self._head_numbers[process].get(head)
        if number is None:
            number = self._head_numbers[process][head] = len(self._heads[process])
            self._heads[process].append(head)
            if number >= HEADS:
                raise OutOfBounds(f"more than {HEADS} heads of {self.processes[process].name}")
        return number


class Search:
    """One search through a space."""

    def __init__(self, space: Space) -> None:
        self.space = space
        first = space.first()
        self.states: list[int] = [first]
        self._numbers: dict[int, int] = {first: 0}
        self._parents = array("I", [0])
        self.targets = array("I")  # of the edges of progress, state after state
        self.ends = array("I")  # where the edges of each state end in `targets`
        self.depth = 0
        self.edges = 0

    def run(self) -> None:
        """Find every state, or stop at the first violation, which no shorter way leads to."""
        level_ends = 1
        lookups: list[Lookup] = [(process, HEAD_BITS * process.who.number, {}) for process in self.space.processes]
        number = 0
        while number < len(self.states) and self.space.violation is None:
            if number == level_ends:
                self.depth += 1
                level_ends = len(self.states)
            self._expand(number, lookups)
            number += 1
        if len(self.states) > level_ends:
            self.depth += 1

    def _expand(self, number: int, lookups: Sequence[Lookup]) -> None:
        state, bits = self.states[number], self.space.bits
        numbers, states, targets = self._numbers, self.states, self.targets
        for process, shift, cache in lookups:
            place = (state >> bits << HEAD_BITS) | (state >> shift & HEADS - 1)
            moves = cache.get(place)
            if moves is None:
                moves = cache[place] = self.space.moves(state, process)
            for difference in moves.progress:
                target = numbers.setdefault(state + difference, len(states))
                if target == len(states):
                    states.append(state + difference)
                    self._parents.append(number)
                targets.append(target)
            for difference in moves.others:
                if numbers.setdefault(state + difference, len(states)) == len(states):
                    states.append(state + difference)
                    self._parents.append(number)
            self.edges += len(moves.progress) + len(moves.others)
        self.ends.append(len(targets))
        if len(states) > TOO_MANY:
            raise OutOfBounds(f"more than {TOO_MANY} states")

    def path(self, number: int) -> Path:
        """The shortest way to a state that was found."""
        steps: list[str] = []
        while number:
            parent = self._parents[number]
            steps.append(self.step(parent, self.states[number]))
            number = parent
        return Path(tuple(reversed(steps)))

    def step(self, parent: int, state: int) -> str:
        """What leads from one state, by its number, to another."""
        return next(name for name, target, _ in self.space.named_steps(self.states[parent]) if target == state)

    def violated(self) -> Trouble | None:
        """The first violation and the shortest way to it."""
        what = self.space.violation
        if what is None:
            return None
        setup = self.space.rules.setup
        number = next(
            number for number, state in enumerate(self.states) if violation(self.space.world(state), setup) is not None
        )
        return Trouble(what, self.path(number))
