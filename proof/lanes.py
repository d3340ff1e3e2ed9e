"""Lanes: the same world several times over, so that every core has something to do."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from proof.world import World, open_world

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

Task = TypeVar("Task")
Result = TypeVar("Result")

LANES: Final = 2 * (os.cpu_count() or 1)  # each of them waits for others now and then
_PATIENCE: Final = 300.0  # seconds for one task


class LaneFailed(Exception):
    """A lane is gone, or says nothing any more."""


class Lanes(Generic[Task, Result]):
    """Some processes with a world each, which do one task after the other."""

    def __init__(self, do: Callable[[World], Callable[[Task], Result]], *, lanes: int = LANES) -> None:
        """Start them. `do` is called once in each, with its world, and makes what does the tasks."""
        fork = multiprocessing.get_context("fork")
        self._processes: list[ForkProcess] = []
        self._ends: list[Connection] = []
        for number in range(lanes):
            ours, theirs = fork.Pipe()
            process = fork.Process(target=_run, args=(number, do, theirs, [*self._ends, ours]), daemon=False)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._ends.append(ours)

    def __enter__(self) -> "Lanes[Task, Result]":
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join()

    def map(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """Do all of them; the results come as they are ready.

        Raises:
            LaneFailed: one has died, or a task has taken five minutes.
        """
        waiting = iter(tasks)
        at_work = 0
        for end in self._ends:
            at_work += self._give(end, waiting)
        while at_work:
            ready = [end for end in wait(self._ends, timeout=_PATIENCE) if isinstance(end, Connection)]
            if not ready:
                raise LaneFailed("no lane has finished anything for five minutes")
            for end in ready:
                yield self._result(end)
                at_work += self._give(end, waiting) - 1

    @staticmethod
    def _give(end: Connection, waiting: Iterator[Task]) -> int:
        for task in islice(waiting, 1):
            end.send(task)
            return 1
        return 0

    @staticmethod
    def _result(end: Connection) -> Result:
        try:
            result: Result = end.recv()
        except EOFError:
            raise LaneFailed("a lane has died; what it said stands above") from None
        return result


def _run(
    number: int, do: Callable[[World], Callable[[Task], Result]], tasks: Connection, others: list[Connection]
) -> None:
    os.environ["PYTEST_XDIST_WORKER"] = f"gw{number}"  # by which `free_port` gives each of them ports of its own
    for other in others:  # or the others would never see that whoever leads them is gone
        other.close()
    with open_world() as world:
        doer = do(world)
        while True:
            try:
                task = tasks.recv()
            except EOFError:
                return
            tasks.send(doer(task))
