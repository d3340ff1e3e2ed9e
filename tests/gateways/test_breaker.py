from datetime import timedelta

import pytest

from payments.gateways.breaker import Breaker, Permit


class HandClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def breaker(clock: HandClock) -> Breaker:
    return Breaker(failures=3, pause=timedelta(seconds=10), clock=clock)


def permit_of(breaker: Breaker) -> Permit:
    permit = breaker.admit()
    assert permit is not None
    return permit


def open_it(breaker: Breaker) -> None:
    for _ in range(3):
        breaker.failed(permit_of(breaker))
    assert not breaker.is_available


class TestClosedBreaker:
    def test_two_failures_of_three_leave_it_closed(self, breaker: Breaker) -> None:
        breaker.failed(permit_of(breaker))
        breaker.failed(permit_of(breaker))

        assert breaker.is_available
        assert breaker.pause_left == timedelta(0)

    def test_a_success_starts_the_count_again(self, breaker: Breaker) -> None:
        breaker.failed(permit_of(breaker))
        breaker.failed(permit_of(breaker))
        breaker.succeeded(permit_of(breaker))
        breaker.failed(permit_of(breaker))
        breaker.failed(permit_of(breaker))

        assert breaker.is_available

    def test_a_cancelled_call_neither_counts_nor_starts_the_count_again(self, breaker: Breaker) -> None:
        breaker.failed(permit_of(breaker))
        breaker.failed(permit_of(breaker))
        breaker.abandoned(permit_of(breaker))
        assert breaker.is_available

        breaker.failed(permit_of(breaker))
        assert not breaker.is_available

    def test_third_failure_in_a_row_opens_it(self, breaker: Breaker) -> None:
        open_it(breaker)

        assert breaker.admit() is None
        assert breaker.pause_left == timedelta(seconds=10)

    def test_a_limit_of_zero_is_refused(self) -> None:
        with pytest.raises(ValueError, match="first failure"):
            Breaker(failures=0, pause=timedelta(seconds=1))


class TestOpenBreaker:
    def test_nothing_passes_before_the_pause_is_over(self, breaker: Breaker, clock: HandClock) -> None:
        open_it(breaker)

        clock.now += 9.5

        assert breaker.admit() is None
        assert breaker.pause_left == timedelta(seconds=0.5)

    def test_after_the_pause_one_probe_passes_alone(self, breaker: Breaker, clock: HandClock) -> None:
        open_it(breaker)
        clock.now += 10

        permit_of(breaker)

        assert not breaker.is_available
        assert breaker.admit() is None

    def test_a_good_probe_closes_it(self, breaker: Breaker, clock: HandClock) -> None:
        open_it(breaker)
        clock.now += 10

        breaker.succeeded(permit_of(breaker))

        permit_of(breaker)
        permit_of(breaker)
        assert breaker.is_available

    def test_a_bad_probe_opens_it_for_another_pause(self, breaker: Breaker, clock: HandClock) -> None:
        open_it(breaker)
        clock.now += 10

        breaker.failed(permit_of(breaker))

        assert breaker.admit() is None
        assert breaker.pause_left == timedelta(seconds=10)

    def test_a_cancelled_probe_leaves_its_place_to_the_next_call(self, breaker: Breaker, clock: HandClock) -> None:
        open_it(breaker)
        clock.now += 10

        breaker.abandoned(permit_of(breaker))

        permit_of(breaker)
        assert breaker.admit() is None

    def test_after_a_good_probe_it_takes_three_failures_again(self, breaker: Breaker, clock: HandClock) -> None:
        open_it(breaker)
        clock.now += 10
        breaker.succeeded(permit_of(breaker))

        breaker.failed(permit_of(breaker))
        breaker.failed(permit_of(breaker))

        assert breaker.is_available


class TestLateAnswer:
    """Calls that were sent before the circuit opened end at any time later."""

    def test_a_late_success_does_not_close_the_circuit(self, breaker: Breaker) -> None:
        slow = permit_of(breaker)
        open_it(breaker)

        breaker.succeeded(slow)

        assert not breaker.is_available

    def test_a_late_failure_does_not_end_the_probe(self, breaker: Breaker, clock: HandClock) -> None:
        slow = permit_of(breaker)
        open_it(breaker)
        clock.now += 10
        probe = permit_of(breaker)

        breaker.failed(slow)
        breaker.abandoned(slow)
        assert breaker.admit() is None

        breaker.succeeded(probe)
        assert breaker.is_available
