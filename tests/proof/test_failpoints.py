"""Where the failpoints stand, and how a run is written down so that it can be played again."""

import pytest
from proof.crashes import OF_NO_STORY, Plan, calm_plans, names_of
from proof.failpoints import Action, Fault, site_of, sites
from proof.stories import FATES, STORIES, Fate

PLAN = Plan(
    "bought",
    hot=False,
    fate=Fate.REPLY_LOST,
    faults=(
        Fault("confirm._record.commit.before", Action.RAISE, 2, is_outage=False),
        Fault("cancel>refund._ask.pg.refund.after", Action.KILL),
    ),
)


class TestSites:
    def test_are_the_commits_and_outside_calls_of_the_source(self) -> None:
        found = sites()

        assert {
            "confirm._ask_and_record.pg.confirm",
            "confirm._promise_at_once.commit",
            "jobs._take_back.commit",
        } <= found
        assert {"deliver._send.subscriber.deliver", "prepare.prepare.orders.find", "refund._ask.pg.refund"} <= found

    def test_that_are_left_out_are_there(self) -> None:
        """A reason for what is not there any more would hide what comes after it under the same name."""
        assert set(OF_NO_STORY) <= {name for site in sites() for name in names_of(site)}

    def test_are_forty_at_the_least(self) -> None:
        assert len([site for site in sites() if names_of(site).isdisjoint(OF_NO_STORY)]) >= 40


class TestPoint:
    @pytest.mark.parametrize(
        ("point", "site"),
        [
            ("confirm._record.commit.after", "confirm._record.commit"),
            ("cancel>refund._ask.pg.refund.before", "refund._ask.pg.refund"),
        ],
    )
    def test_stands_in_a_site(self, point: str, site: str) -> None:
        assert site_of(point) == site


class TestPlan:
    def test_is_read_as_it_was_written(self) -> None:
        assert Plan.read(str(PLAN)) == PLAN

    def test_of_every_story_is_read_as_it_was_written(self) -> None:
        assert [Plan.read(str(plan)) for plan in calm_plans()] == calm_plans()

    def test_leads_through_a_story_that_there_is(self) -> None:
        assert set(FATES) <= set(STORIES)
