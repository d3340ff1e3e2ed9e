"""The exhaustive model: the design holds in small worlds, and each bug that is planted in it is seen."""

from dataclasses import fields, replace
from typing import Final

import pytest
from proof.findings import Options
from proof.model import run, seen, setups, uncovered
from proof.model.books import MoveNotAllowed, Rules
from proof.model.exploring import explore
from proof.model.search import HEAD_BITS, Search, Space
from proof.model.setups import PLANTS, Plant, by_name
from proof.model.state import Job, Layers, Office, Row, Said, Setup

from payments.states import TRANSITIONS, PaymentStatus

CLICKS: Final = Setup("clicks", tabs=(1, 1), crashes=0, troubles=0)
SMALL: Final = (
    CLICKS,
    Setup("crash", tabs=(1, 1), troubles=0),
    Setup("windows", tabs=(1, 2), crashes=0, troubles=0, has_webhooks=False),
    Setup("refund", tabs=(1,), offices=(Office("part", 1),), troubles=0, declines=False),
    Setup("console", tabs=(1,), offices=(Office("part", 1),), crashes=0, troubles=0, tricks=1, has_webhooks=False),
    Setup("account", tabs=(1,), crashes=0, is_account=True, has_webhooks=False),
)


class TestDesign:
    @pytest.mark.parametrize("setup", SMALL, ids=lambda setup: setup.name)
    def test_holds_in_every_state_and_always_ends_well(self, setup: Setup) -> None:
        found = explore(setup)

        assert found.trouble is None
        assert found.states > 600
        assert found.edges > found.states

    def test_finds_as_many_states_each_time(self) -> None:
        assert explore(CLICKS).states == explore(CLICKS).states


class TestRules:
    def test_move_only_as_the_code_may(self) -> None:
        with pytest.raises(MoveNotAllowed):
            Rules(CLICKS).move(Row(status=PaymentStatus.CREATED), PaymentStatus.COMPLETED, by="complete")

    def test_move_only_by_the_method_that_the_code_has(self) -> None:
        with pytest.raises(MoveNotAllowed):
            Rules(CLICKS).move(Row(status=PaymentStatus.PENDING), PaymentStatus.FAILED, by="cancel")

    def test_keep_what_was_moved(self) -> None:
        rules = Rules(CLICKS)

        rules.move(Row(status=PaymentStatus.PENDING), PaymentStatus.FAILED, by="fail")

        assert rules.taken == {(PaymentStatus.PENDING, PaymentStatus.FAILED)}


class TestPlantedBugs:
    @pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
    def test_show_as_expected(self, plant: Plant) -> None:
        assert seen(plant) is None

    def test_that_do_no_harm_say_why(self) -> None:
        assert all(plant.because for plant in PLANTS if plant.caught_by is None)

    def test_are_each_caught_somewhere(self) -> None:
        """Alone, or with others that make up for them; a lease makes up for nothing."""
        caught = {layer for plant in PLANTS if plant.caught_by is not None for layer in plant.off}

        assert {field.name for field in fields(Layers)} - caught == {"respects_leases"}

    def test_are_said_when_they_do_not_show(self) -> None:
        harmless = Plant((), "two tabs", "I1")

        assert seen(harmless) == " in two tabs was not seen"

    def test_are_said_when_they_show_as_something_else(self) -> None:
        misjudged = Plant(("timeout_is_unknown",), "one tab", "I1")

        assert "should show as I1, not: I9" in (seen(misjudged) or "")

    def test_are_said_when_they_do_harm_that_nobody_expects(self) -> None:
        misjudged = Plant(("timeout_is_unknown",), "one tab", None)

        assert "should do no harm, but: I9" in (seen(misjudged) or "")


class TestPath:
    def test_of_a_violation_is_told_step_by_step(self) -> None:
        trouble = explore(Setup("", tabs=(1,), layers=Layers(asks_about_webhooks=False))).trouble

        assert trouble is not None
        assert trouble.path.steps == (
            "world: a forged or repeated webhook about key 1",
            "worker 1: believes the webhook",
        )

    def test_is_the_shortest(self) -> None:
        search = Search(Space(CLICKS))
        search.run()
        distances = _distances(search)

        some = range(0, len(search.states), 7)

        assert [len(search.path(number).steps) for number in some] == [distances[number] for number in some]
        assert search.depth == max(distances)


class TestLiveness:
    def test_finds_a_payment_that_nobody_recovers(self) -> None:
        found = explore(Setup("", tabs=(1,), troubles=0, layers=Layers(recovers=False)))

        assert found.trouble is not None
        assert found.trouble.what == "ends badly: I4: the payment stays PENDING"
        assert any("is killed" in step for step in found.trouble.path.steps)

    def test_finds_a_circle(self) -> None:
        setup = Setup("", tabs=(1,), offices=(Office("part", 1),), crashes=0, declines=False, has_webhooks=False)

        found = explore(replace(setup, layers=Layers(renews_key=False)))

        assert found.trouble is not None
        assert found.trouble.what.startswith("need not end")
        assert [step for step in found.trouble.path.steps if step.startswith("for ever")] == [
            "for ever: worker 1: takes the refund",
            "for ever: worker 1: sends the REFUND",
            "for ever: worker 1: PG repeats its answer: FAULT",
            "for ever: worker 1: looks at the cancels",
            "for ever: worker 1: PG shows key 1: DONE",
            "for ever: worker 1: records the refund: FAULT",
        ]


class TestSpace:
    def test_tells_as_many_heads_apart_as_it_says(self) -> None:
        space = Space(CLICKS)

        assert space.bits == HEAD_BITS * 5  # two tabs, a worker, the courier, the world


class TestCoverage:
    def test_of_every_move_is_no_failure(self) -> None:
        assert uncovered((start, end) for start, ends in TRANSITIONS.items() for end in ends) == []

    def test_without_a_move_is_a_failure(self) -> None:
        moves = {(start, end) for start, ends in TRANSITIONS.items() for end in ends}

        failures = uncovered(moves - {(PaymentStatus.FAILED, PaymentStatus.APPROVED)})

        assert [failure.what for failure in failures] == ["no world of the model moves FAILED to APPROVED"]

    def test_of_small_worlds_reaches_the_plain_moves(self) -> None:
        assert (PaymentStatus.FAILED, PaymentStatus.CREATED) in explore(CLICKS).taken

    def test_of_small_worlds_reaches_the_plain_answers(self) -> None:
        assert {Job.CONFIRM, Job.EXPIRE, Said.HELD, Said.DECLINED} <= explore(CLICKS).happened


class TestRun:
    def test_replays_a_planted_bug(self) -> None:
        said: list[str] = []

        findings = run(Options(replay="timeout_is_unknown in one tab"), said.append)

        assert not findings.failures
        assert any("records LOST" in line for line in said)

    def test_does_not_know_every_word(self) -> None:
        findings = run(Options(replay="nothing"), lambda _: None)

        assert [failure.what for failure in findings.failures] == ["the model has no world nothing"]

    def test_can_replay_every_world(self) -> None:
        worlds = (*setups.QUICK, *setups.FULL, *PLANTS)

        assert len(by_name()) == len(worlds)


def _distances(search: Search) -> list[int]:
    """How many steps each state is from the first, relaxed edge by edge until nothing changes."""
    numbers = {state: number for number, state in enumerate(search.states)}
    far = len(search.states)
    distances = [0] + [far] * (far - 1)
    changed = {0}
    while changed:
        reached = set()
        for number in changed:
            for _, target, _ in search.space.named_steps(search.states[number]):
                if distances[number] + 1 < distances[numbers[target]]:
                    distances[numbers[target]] = distances[number] + 1
                    reached.add(numbers[target])
        changed = reached
    return distances
