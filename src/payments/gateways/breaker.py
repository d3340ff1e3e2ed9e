"""A circuit breaker for one remote service: after some failures in a row it is left alone for a while.

Own lines instead of the `circuitbreaker` package, because three of its habits are wrong here: once its pause is over
it lets every waiting call through and not one probe, it counts a cancelled call as a success, and a call that was
sent before the circuit opened can close it again with its late answer.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Permit:
    """Allows one call. Give it back to the breaker exactly once, whatever came of the call."""

    era: int


class Breaker:
    """Opens after `failures` failures in a row; after `pause` one probe decides whether it closes.

    Knows nothing of the calls it guards. Not thread safe: it belongs to one event loop.
    """

    def __init__(self, *, failures: int, pause: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        if failures < 1:
            raise ValueError("A breaker that opens before the first failure would never let a call through.")
        self._limit = failures
        self._pause_seconds = pause.total_seconds()
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False
        self._era = 0  # grows whenever the circuit opens, so that answers to older calls are recognised

    @property
    def is_available(self) -> bool:
        """Whether a call would be admitted now."""
        return self._open_until is None or (not self._probing and self._clock() >= self._open_until)

    @property
    def pause_left(self) -> timedelta:
        """How long no call will be admitted; zero while the circuit is closed or its probe is due."""
        if self._open_until is None:
            return timedelta(0)
        return timedelta(seconds=max(0.0, self._open_until - self._clock()))

    def admit(self) -> Permit | None:
        """Return a permit for one call, or None if the call must not be made."""
        if not self.is_available:
            return None
        self._probing = self._open_until is not None
        return Permit(self._era)

    def succeeded(self, permit: Permit) -> None:
        if permit.era != self._era:
            return
        self._failures = 0
        self._open_until = None
        self._probing = False

    def failed(self, permit: Permit) -> None:
        if permit.era != self._era:
            return
        self._failures += 1
        if self._probing or self._failures >= self._limit:
            self._open()

    def abandoned(self, permit: Permit) -> None:
        """Take back the permit of a call that was cancelled: nothing was learned, the next call may be the probe."""
        if permit.era == self._era:
            self._probing = False

    def _open(self) -> None:
        self._era += 1
        self._failures = 0
        self._probing = False
        self._open_until = self._clock() + self._pause_seconds
