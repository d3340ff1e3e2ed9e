"""Whether the time of a refusal tells how much of a signature is right. Noisy by nature, so it runs with --proof only.

What holds without a clock stands in tests/unit/test_outgoing.py: one function compares, in constant time, digests of
one length.
"""

import hashlib
import hmac
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pytest

from payments.signing import is_signed_by

SAMPLES: Final = 20_000  # of each kind
ROUNDS: Final = 5  # a busy machine may spoil one
SEED: Final = 20261122
SECRET: Final = "a-secret-of-the-shop"
BODY: Final = b'{"eventType":"PAYMENT_STATUS_CHANGED"}'
RIGHT: Final = hmac.digest(SECRET.encode(), BODY, hashlib.sha256)
ALMOST: Final = RIGHT[:-1] + bytes([RIGHT[-1] ^ 1])
NOTHING: Final = bytes([RIGHT[0] ^ 1]) + RIGHT[1:]

Check = Callable[[bytes], object]


@dataclass(frozen=True)
class Difference:
    """Between the times of two kinds of refusals."""

    p: float  # of the test of Mann and Whitney: that chance alone differs so
    effect: float  # of the medians, as a share

    @property
    def tells_something(self) -> bool:
        return self.p <= 0.01 and self.effect >= 0.01


def by_the_verifier(digest: bytes) -> object:
    return is_signed_by(digest.hex(), BODY, [SECRET])


def byte_by_byte(digest: bytes) -> object:
    """As nobody should: the first wrong byte ends it."""
    return all(ours == theirs for ours, theirs in zip(RIGHT, digest, strict=True))


def measured(check: Check, chance: random.Random) -> Difference:
    """The two kinds in random order, so that whatever slows the machine slows both."""
    kinds = [ALMOST, NOTHING] * SAMPLES
    chance.shuffle(kinds)
    times: dict[bytes, list[int]] = {ALMOST: [], NOTHING: []}
    for digest in kinds:
        began = time.perf_counter_ns()
        check(digest)
        times[digest].append(time.perf_counter_ns() - began)
    first, second = times[ALMOST], times[NOTHING]
    effect = abs(statistics.median(first) / statistics.median(second) - 1)
    return Difference(mann_whitney(first, second), effect)


def mann_whitney(first: Sequence[int], second: Sequence[int]) -> float:
    """The two-sided p value, by the normal approximation with correction for ties."""
    counts: dict[int, list[int]] = {}
    for kind, values in enumerate((first, second)):
        for value in values:
            counts.setdefault(value, [0, 0])[kind] += 1
    rank_sum, ties, below = 0.0, 0.0, 0
    for value in sorted(counts):
        tied = sum(counts[value])
        rank_sum += counts[value][0] * (below + (tied + 1) / 2)
        ties += tied**3 - tied
        below += tied
    n, m = len(first), len(second)
    u = rank_sum - n * (n + 1) / 2
    variance = n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1)))
    return 2 * (1 - statistics.NormalDist().cdf(abs(u - n * m / 2) / variance**0.5))


class TestTiming:
    @pytest.fixture(autouse=True)
    def _only_in_proof(self, pytestconfig: pytest.Config) -> None:
        if not pytestconfig.getoption("--proof"):
            pytest.skip("measures time, which a busy machine disturbs; runs with --proof")

    def test_of_a_refusal_does_not_tell_how_much_is_right(self, capsys: pytest.CaptureFixture[str]) -> None:
        chance = random.Random(SEED)

        rounds = [measured(by_the_verifier, chance) for _ in range(ROUNDS)]

        with capsys.disabled():
            print(f"\nseed {SEED}, {SAMPLES:,} refusals of each kind, {rounds}")  # noqa: T201 - the proof shows its figures
        assert sum(one.tells_something for one in rounds) <= ROUNDS // 2

    def test_of_a_comparison_that_ends_early_would_be_seen(self) -> None:
        chance = random.Random(SEED)

        assert all(measured(byte_by_byte, chance).tells_something for _ in range(ROUNDS))


class TestMannWhitney:
    def test_finds_no_difference_where_there_is_none(self) -> None:
        assert mann_whitney(range(1_000), range(1_000)) == pytest.approx(1)

    def test_finds_the_smallest_shift_of_many(self) -> None:
        assert mann_whitney(range(10_000), range(300, 10_300)) < 0.01

    def test_agrees_with_a_worked_example(self) -> None:
        """By hand: U = 25 of 100, expected 50, variance 175."""
        first, second = [1, 2, 3, 4, 5, 6, 7, 13, 14, 15], [8, 9, 10, 11, 12, 16, 17, 18, 19, 20]
        u = sum(a > b for a in first for b in second)

        z = abs(u - 50) / 175**0.5
        assert mann_whitney(first, second) == pytest.approx(2 * (1 - statistics.NormalDist().cdf(z)))
