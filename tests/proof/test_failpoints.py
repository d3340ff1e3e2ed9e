"""Where the failpoints stand."""

import pytest
from proof.crashes import OF_NO_STORY, names_of
from proof.failpoints import is_commit, site_of, sites


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

    def test_is_of_a_commit_or_of_a_call(self) -> None:
        assert is_commit("cancel>refund._record.commit.after")
        assert not is_commit("confirm._commit.pg.confirm.after")
