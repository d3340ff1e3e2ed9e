"""What the proof tries: which bytes are cut and which commits are lost, and that each can be tried once more."""

from itertools import pairwise

import pytest
from proof.commits import Step
from proof.cuts import Operation
from proof.findings import Options
from proof.pg_wire import Loss
from proof.wire import Direction, Exchange

from proof import commits, cuts

SIZE = Exchange(request=411, response=1_539)
FULL = Options(is_full=True)


def offsets(direction: Direction, options: Options) -> list[int]:
    return [spot.cut.offset for spot in cuts.spots(Operation.CONFIRM, SIZE, options) if spot.cut.direction is direction]


class TestCuts:
    def test_in_full_every_byte_is_cut_once(self) -> None:
        assert offsets(Direction.REQUEST, FULL) == list(range(SIZE.request + 1))
        assert offsets(Direction.RESPONSE, FULL) == list(range(1_539 + 1))

    @pytest.mark.parametrize("seed", [1, 5])
    def test_in_a_hurry_the_ends_and_every_eighth_between_them(self, seed: int) -> None:
        tried = offsets(Direction.RESPONSE, Options(seed=seed))

        assert tried[:40] == list(range(40))
        assert tried[-40:] == list(range(1_500, 1_540))
        assert {(offset + seed) % 8 for offset in tried[40:-40]} == {0}
        assert max(after - before for before, after in pairwise(tried)) == 8

    def test_both_paths_take_turns(self) -> None:
        hot = [spot.hot for spot in cuts.spots(Operation.REFUND, SIZE, Options())]
        assert hot[::2] == [False] * len(hot[::2])
        assert hot[1::2] == [True] * len(hot[1::2])

    def test_each_can_be_named(self) -> None:
        for spot in cuts.spots(Operation.REFUND, SIZE, Options()):
            assert cuts.Spot.named(str(spot)) == spot


class TestCommits:
    KNOWN = {(Step.CONFIRM, True): ["UPDATE payments", "UPDATE payments, INSERT outbox_messages"]}  # noqa: RUF012

    def test_each_is_lost_alone_in_both_ways_and_again_with_another_one(self) -> None:
        spots = list(commits.spots(self.KNOWN, Options()))

        alone = [(spot.number, spot.loss) for spot in spots if spot.then is None]
        assert alone == [(number, loss) for number in (1, 2) for loss in Loss]
        assert [spot.then is None for spot in spots[: len(alone)]] == [True] * len(alone)
        assert [(spot.number, spot.loss) for spot in spots[len(alone) : 2 * len(alone)]] == alone
        assert len(list(commits.spots(self.KNOWN, FULL))) > len(spots)

    def test_each_can_be_named(self) -> None:
        for spot in commits.spots(self.KNOWN, FULL):
            assert commits.Spot.named(str(spot)) == spot
