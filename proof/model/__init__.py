"""An exhaustive model of the protocol: every order of steps, crashes and losses that a small world allows.

What is in it. One order; the buyer's tabs, with one payment key or two; back offices that refund a part or all, repeat
themselves, or give the payment up; workers (recovery, refunds, stray captures, ended sessions, virtual accounts,
webhooks); the delivery of messages; the PG with its idempotency keys and its books; the order service. Each transaction
of ours is one step, because it locks the row. A call is several: it is sent, it arrives and is answered, the answer is
recorded. A process can be killed at every one of them, its call arriving all the same, also much later. `Setup` bounds
how many crashes, other troubles (calls or answers that are lost or late; a PG that answers with a fault and repeats it,
or does not find what it has; webhooks that are forged or repeated; leases that end while the holder lives) and tricks
(captures and cancels that others make at the PG, deposits reversed, refusals taken back) there may be. Webhooks are
lost at will.

What moves, moves by `TRANSITIONS` and `REFUND_TRANSITIONS`: `Rules` raises where the code would, and keeps which moves
were made; one that no world makes is a failure, and so is a job or an answer that never happens.

What is left out. Clocks: time passes at will, but the PG's window closes before the margin ends (ADR 4), and whoever
is dead loses its lease at once. The hot path, whose outcomes are those of the plain one. The answers that are kept for
Idempotency-Keys of our API (ADR 8): a repetition is worked on, as it is when the first one's lease has ended. Refunds
to accounts, amounts that do not agree, the circuit breaker, erasure. Keys that the PG forgets: nothing is asked under
one that old (ADR 7).

Safety is checked in every state. Liveness is checked over the edges of progress: those that need no fault, and no
decision of a buyer, of a back office or of others at the PG. Two things are shown: progress has no circle, and wherever
it ends, everything is settled. So *every* schedule without further faults ends well from *every* state, whoever is
slow. The only fairness that this takes: somebody who can move does so at last; and an answer that decides nothing (the
PG still shows IN_PROGRESS, or does not find the payment before the margin is over, or repeats a fault) is not given for
ever while time can pass. Edges with such an answer are left out of the circles; each state that has one has another
edge of progress beside it, or it would count as a bad end.
"""

import time
from collections.abc import Iterable
from typing import Final

from payments.states import TRANSITIONS, PaymentStatus
from proof.findings import Failure, Figure, Findings, Options, Say
from proof.model.exploring import Explored, explore
from proof.model.setups import FULL, NOT_COVERED, PLANTS, QUICK, Plant, by_name
from proof.model.state import Job, Said, Setup

FEWEST: Final = 1_000_000  # states; a model that has become smaller does not see what it should
MUST_HAPPEN: Final = frozenset[Job | Said]({*Job, *Said}) - {Job.TELL}  # which only a planted bug does
_EDGES: Final = frozenset((start, end) for start, ends in TRANSITIONS.items() for end in ends)


def run(options: Options, say: Say) -> Findings:
    """Search every world and see every planted design bug; or, with `options.replay`, one of them once more."""
    if options.replay is not None:
        return _replayed(options.replay, say)
    began = time.perf_counter()
    setups = (*QUICK, *FULL) if options.is_full else QUICK
    explored = [_searched(setup, say) for setup in setups]
    failures = [failure for setup, found in zip(setups, explored, strict=True) for failure in _failures(setup, found)]
    planted = [_planted(plant, say) for plant in PLANTS]
    failures += [failure for failure in planted if failure is not None]
    taken = frozenset[tuple[PaymentStatus, PaymentStatus]]().union(*(found.taken for found in explored))
    failures += uncovered(taken)
    happened = frozenset[Job | Said]().union(*(found.happened for found in explored))
    failures += [Failure(f"{one} never happens in the model", "") for one in MUST_HAPPEN - happened]
    states = sum(found.states for found in explored)
    if states < FEWEST:
        failures.append(Failure(f"the model has only {states} states, and should have {FEWEST}", ""))
    return Findings([*_figures(explored, len(taken)), *_sights(failures, began)], failures)


def uncovered(taken: Iterable[tuple[PaymentStatus, PaymentStatus]]) -> list[Failure]:
    """The moves that no world makes although nothing excuses it, and the excuses for moves that one makes."""
    missed = sorted(_EDGES - set(taken) - NOT_COVERED.keys())
    excused = sorted(NOT_COVERED.keys() & set(taken))
    return [
        *(Failure(f"no world of the model moves {start} to {end}", "") for start, end in missed),
        *(Failure(f"{start} to {end} is excused and was made", "") for start, end in excused),
    ]


def seen(plant: Plant) -> str | None:
    """What is wrong with how a planted bug shows, if something is."""
    trouble = explore(plant.setup).trouble
    what = None if trouble is None else trouble.what
    if plant.caught_by is None:
        return None if what is None else f"{plant.name} should do no harm, but: {what}"
    if what is None:
        return f"{plant.name} was not seen"
    return None if what.startswith(plant.caught_by) else f"{plant.name} should show as {plant.caught_by}, not: {what}"


def _searched(setup: Setup, say: Say) -> Explored:
    found = explore(setup)
    say(f"  {setup.name}: {found.states:,} states, {found.edges:,} edges in {found.seconds:.0f} s")
    return found


def _failures(setup: Setup, found: Explored) -> list[Failure]:
    if found.trouble is None:
        return []
    return [Failure(f"{setup.name}: {found.trouble.what}: {found.trouble.path}", setup.name)]


def _planted(plant: Plant, say: Say) -> Failure | None:
    wrong = seen(plant)
    if wrong is not None:
        say(f"  {wrong}")
    return None if wrong is None else Failure(wrong, plant.name)


def _replayed(word: str, say: Say) -> Findings:
    one = by_name().get(word)
    if one is None:
        return Findings([], [Failure(f"the model has no world {word}", "")])
    setup = one.setup if isinstance(one, Plant) else one
    found = _searched(setup, say)
    if found.trouble is not None:
        say("\n".join(("", found.trouble.what, *(f"  {step}" for step in found.trouble.path.steps))))
    failures = _failures(setup, found)
    if isinstance(one, Plant):
        failures = [failure for failure in [_planted(one, say)] if failure is not None]
    return Findings(_figures([found], len(found.taken)), failures)


def _figures(explored: list[Explored], moves: int) -> list[Figure]:
    states, cpu = sum(found.states for found in explored), sum(found.cpu_seconds for found in explored)
    return [
        Figure("states of the model", states),
        Figure("steps between them", sum(found.edges for found in explored)),
        Figure("deepest level", max(found.depth for found in explored), "steps"),
        Figure("search", round(sum(found.seconds for found in explored), 1), "s"),
        Figure("states a second of processor time", round(states / cpu)),
        Figure("moves of TRANSITIONS taken", moves, f"of {len(_EDGES)}"),
    ]


def _sights(failures: list[Failure], began: float) -> list[Figure]:
    missed = {failure.replay for failure in failures}
    harmful = [plant for plant in PLANTS if plant.caught_by is not None]
    caught = sum(plant.name not in missed for plant in harmful)
    return [
        Figure("planted design bugs caught", caught, f"of {len(harmful)}"),
        Figure("switched-off layers that others make up for", len(PLANTS) - len(harmful)),
        Figure("in all", round(time.perf_counter() - began, 1), "s"),
    ]
