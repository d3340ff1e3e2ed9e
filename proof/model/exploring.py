"""One world, looked at from its first state to all of its ends."""

import time
from dataclasses import dataclass

from payments.states import PaymentStatus
from proof.model.liveness import unfinished
from proof.model.search import Search, Space, Trouble
from proof.model.state import Job, Said, Setup


@dataclass(frozen=True, slots=True)
class Explored:
    """What was found; where there is a violation, only what was found before it."""

    states: int
    edges: int
    depth: int
    seconds: float
    cpu_seconds: float  # of this process; others may share the machine
    taken: frozenset[tuple[PaymentStatus, PaymentStatus]]
    happened: frozenset[Job | Said]
    trouble: Trouble | None


def explore(setup: Setup) -> Explored:
    """Look at every state that can be reached, and at how each of them ends."""
    began, began_cpu = time.perf_counter(), time.process_time()
    search = Search(Space(setup))
    search.run()
    trouble = search.violated() or unfinished(search)
    return Explored(
        states=len(search.states),
        edges=search.edges,
        depth=search.depth,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - began_cpu,
        taken=frozenset(search.space.rules.taken),
        happened=search.space.happened(),
        trouble=trouble,
    )
