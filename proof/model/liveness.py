"""Whether everything comes to a good end: progress has no circle, and where it ends everything is settled.

Both are found by walking through the states in an order in which each comes after all that lead to it by progress. What
is left over when no such state can be taken any more lies on a circle, or behind one.
"""

from array import array
from collections.abc import MutableSequence
from itertools import pairwise

from proof.model.search import Path, Search, Trouble

Counts = MutableSequence[int]


def unfinished(search: Search) -> Trouble | None:
    """A state where progress ends badly, and the shortest way to it; or a circle that it can go round for ever."""
    arrivals = _arrivals(search)
    bad = _first_bad_end(search, arrivals)
    if bad is not None:
        return Trouble(f"ends badly: {search.space.loose_end(search.states[bad])}", search.path(bad))
    if any(arrivals):
        return Trouble("need not end: progress can go round for ever", _circle(search, arrivals))
    return None


def _arrivals(search: Search) -> Counts:
    """How many edges of progress lead to each state."""
    arrivals = array("I", bytes(array("I").itemsize * len(search.states)))
    for target in search.targets:
        arrivals[target] += 1
    return arrivals


def _first_bad_end(search: Search, arrivals: Counts) -> int | None:
    """The state nearest to the start where nothing goes on and something is open; takes away from `arrivals`."""
    targets, ends = search.targets, search.ends
    ready = [number for number, count in enumerate(arrivals) if not count]
    bad: int | None = None
    while ready:
        number = ready.pop()
        start, end = ends[number - 1] if number else 0, ends[number]
        if start == end and (bad is None or number < bad) and search.space.loose_end(search.states[number]):
            bad = number
        for target in targets[start:end]:
            arrivals[target] -= 1
            if not arrivals[target]:
                ready.append(target)
    return bad


def _circle(search: Search, left: Counts) -> Path:
    """The way to a circle, and once round it. Whatever is left over has something left over before it."""
    before: dict[int, int] = {}
    start = 0
    for number, end in enumerate(search.ends):
        if left[number]:
            before |= {target: number for target in search.targets[start:end] if left[target]}
        start = end
    passed: dict[int, None] = {}
    number = min(before)
    while number not in passed:
        passed[number] = None
        number = before[number]
    circle = list(passed)[list(passed).index(number) :][::-1]
    first = circle.index(min(circle))
    circle = [*circle[first:], *circle[: first + 1]]
    rounds = [search.step(one, search.states[after]) for one, after in pairwise(circle)]
    return Path((*search.path(circle[0]).steps, *(f"for ever: {step}" for step in rounds)))
