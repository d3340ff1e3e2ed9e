"""What is played, how a run is written down so that it can be played again, and what counts as done."""

import os
import random
from dataclasses import replace
from itertools import product
from typing import Final

import pytest
from proof.crashes import Census, Plan, Played, Tally, calm_plans, chained, not_covered, run
from proof.failpoints import Action, Fault
from proof.findings import BadReplay, Options
from proof.invariants import Violation
from proof.lives import Trace
from proof.stories import FATES, STORIES, Fate

COMMITTED: Final = "confirm._record.commit.after"
ASKED: Final = "confirm._ask_and_record.pg.confirm.after"
TOLD: Final = "deliver._send.subscriber.deliver.after"
LATE: Final = "recover._ask.pg.look_up.after"  # no undisturbed story comes by it
BOUGHT: Final = Plan("bought", hot=True, fate=Fate.SOUND)
REFUNDED: Final = Plan("refunded", hot=False, fate=Fate.SOUND)
PLAN: Final = Plan(
    "bought",
    hot=False,
    fate=Fate.REPLY_LOST,
    faults=(
        Fault("confirm._record.commit.before", Action.RAISE, 2, is_outage=False),
        Fault("cancel>refund._ask.pg.refund.after", Action.KILL),
    ),
)


def _killed(*points: str) -> Plan:
    return replace(BOUGHT, faults=tuple(Fault(point, Action.KILL) for point in points))


def _chain(*points: str, struck: int) -> Played:
    """A run that came by nothing but some of the points at which it was to be killed, and so it was."""
    plan = _killed(*points)
    return Played(plan, points[:struck], plan.faults[:struck], range(struck))


@pytest.fixture
def tally() -> Tally:
    """After two undisturbed stories."""
    census = Census({BOUGHT: [ASKED, COMMITTED, TOLD, COMMITTED], REFUNDED: [ASKED]})
    return Tally(lambda _: None, points=set(census.places), census=census)


class TestPlan:
    def test_is_read_as_it_was_written(self) -> None:
        assert Plan.read(str(PLAN)) == PLAN

    def test_of_every_story_is_read_as_it_was_written(self) -> None:
        assert [Plan.read(str(plan)) for plan in calm_plans()] == calm_plans()

    def test_leads_through_a_story_that_there_is(self) -> None:
        assert set(FATES) <= set(STORIES)

    @pytest.mark.parametrize(
        "word",
        [
            "",
            "nonsense",
            "bought/hoot/sound/",
            "sold/hot/sound/",
            "bought/hot/lucky/",
            "bought/hot/sound/confirm._record.commit.after",
            "bought/hot/sound/confirm._record.commit.after@1=hurt",
            "bought/hot/sound/confirm._record.commit.after@first=kill",
            "bought/hot/sound/confirm._record.commit.after@1=kill+",
        ],
    )
    def test_is_not_read_from_what_nobody_wrote(self, word: str) -> None:
        with pytest.raises(BadReplay, match="a run is"):
            run(Options(replay=word), lambda _: None)


class TestPlayed:
    def test_has_a_leg_before_between_and_after_its_faults(self) -> None:
        plan = _killed(COMMITTED, LATE)

        legs = dict(Played(plan, [ASKED, COMMITTED, ASKED, LATE, TOLD], plan.faults, [1, 3]).legs())

        assert legs == {BOUGHT: [ASKED, COMMITTED], _killed(COMMITTED): [ASKED, LATE], plan: [TOLD]}

    def test_is_replayed_without_what_there_was_no_occasion_for(self, tally: Tally) -> None:
        broken = replace(_chain(ASKED, TOLD, COMMITTED, struck=2), violations=[Violation("I1", "-", "")])

        tally.note(broken)

        assert [Plan.read(failure.replay) for failure in tally.failures] == [_killed(ASKED, TOLD)]


class TestCensus:
    def test_draws_no_run_twice_before_it_has_drawn_all(self, tally: Tally) -> None:
        ways = 4  # at the first time or the second, by an outage or a bug

        drawn = list(tally.census.singles(COMMITTED, Action.RAISE, ways, random.Random(1)))
        more = list(tally.census.singles(COMMITTED, Action.RAISE, ways + 3, random.Random(1)))

        assert len(set(drawn)) == ways
        assert set(more) == set(drawn)
        assert len(more) == ways + 3

    def test_draws_a_bug_instead_of_an_outage_only_where_it_makes_a_difference(self, tally: Tally) -> None:
        killed = tally.census.singles(COMMITTED, Action.KILL, 10, random.Random(1))
        raised = tally.census.singles(ASKED, Action.RAISE, 10, random.Random(1))

        assert all(fault.is_outage for plan in (*killed, *raised) for fault in plan.faults)

    def test_strikes_after_the_faults_that_led_there(self) -> None:
        plan = Census({_killed(ASKED): [LATE]}).single(LATE, Action.KILL, random.Random(1))

        assert plan == _killed(ASKED, LATE)


class TestTally:
    def test_remembers_what_leads_to_a_point_that_no_undisturbed_story_comes_by(self, tally: Tally) -> None:
        plan = _killed(ASKED, TOLD)

        tally.note(Played(plan, [ASKED, COMMITTED, LATE, TOLD], plan.faults, [0, 3]))

        assert tally.elsewhere == {_killed(ASKED): [LATE]}
        assert {point for point, _ in tally.left()} == {ASKED, COMMITTED, LATE, TOLD}

    def test_forgets_no_such_point_when_the_same_leads_elsewhere(self, tally: Tally) -> None:
        for point in (LATE, "stray.point.commit.after"):
            tally.note(Played(_killed(ASKED), [ASKED, point], _killed(ASKED).faults, [0]))

        assert tally.elsewhere == {_killed(ASKED): [LATE, "stray.point.commit.after"]}

    def test_has_left_what_has_not_struck(self, tally: Tally) -> None:
        for point, action in product((ASKED, COMMITTED, TOLD), Action):
            if (point, action) != (TOLD, Action.FREEZE):
                tally.struck[point, action] += 1

        assert list(tally.left()) == [(TOLD, Action.FREEZE)]
        (failure,) = [failure for failure in not_covered(tally, Options()) if TOLD in failure.what]
        assert Plan.read(failure.replay).faults == (Fault(TOLD, Action.FREEZE),)

    def test_counts_a_pair_once_both_have_struck(self, tally: Tally) -> None:
        tally.note(_chain(ASKED, TOLD, COMMITTED, struck=2))

        assert tally.both == {(ASKED, TOLD)}

    def test_misses_a_pair_that_was_not_even_tried_alone(self, tally: Tally) -> None:
        tally.pairs = {(ASKED, TOLD), (TOLD, ASKED), (ASKED, ASKED)}
        tally.both, tally.alone = {(ASKED, TOLD)}, {(TOLD, ASKED)}

        missed = [one for one in not_covered(tally, Options(is_full=True)) if "to follow" in one.what]

        assert [one.what for one in missed] == [f"nothing has struck at {ASKED} with {ASKED} to follow"]
        assert [[fault.point for fault in Plan.read(one.replay).faults] for one in missed] == [[ASKED, ASKED]]

    def test_misses_a_fate_that_met_no_call(self, tally: Tally) -> None:
        tally.fates[Fate.REFUSED] += 1

        missed = [one.what for one in not_covered(tally, Options(seed=7)) if "the PG's part" in one.what]

        assert len(missed) == len(set(Fate) - {Fate.SOUND, Fate.REFUSED})
        assert all("--only crashes --seed 7)" in what for what in missed)


class TestChained:
    @pytest.mark.parametrize("struck", [0, 1])
    def test_are_the_first_two_even_where_they_have_not_struck(self, struck: int) -> None:
        """Or a pair that never strikes would be chained for ever."""
        assert set(chained(_chain(ASKED, TOLD, COMMITTED, struck=struck))) == {(ASKED, TOLD)}

    def test_are_those_that_struck_and_the_one_that_was_armed_then(self) -> None:
        assert set(chained(_chain(ASKED, TOLD, COMMITTED, ASKED, struck=2))) == {
            (ASKED, TOLD),
            (ASKED, COMMITTED),
            (TOLD, COMMITTED),
        }


class TestTrace:
    def test_tells_what_a_process_wrote_before_it_was_killed(self) -> None:
        trace = Trace()
        if not (pid := os.fork()):
            trace.passes(ASKED)
            trace.strikes()
            trace.passes(TOLD)
            os._exit(1)
        os.waitpid(pid, 0)

        told = trace.news()
        trace.close()

        assert told == [ASKED, "", TOLD]

    def test_tells_nothing_twice(self) -> None:
        trace = Trace()
        trace.passes(ASKED)
        trace.news()

        assert trace.news() == []
        trace.passes(TOLD)
        assert trace.news() == [TOLD]
        trace.close()
