"""How much work something is, in a measure that no busy machine changes."""

import sys
from collections.abc import Callable
from types import FrameType


class _Steps:
    count = 0

    def __call__(self, _: FrameType, __: str, ___: object) -> "_Steps":
        self.count += 1
        return self


def steps(work: Callable[[], object]) -> int:
    """How many lines of Python are executed while `work` runs."""
    counted = _Steps()
    sys.settrace(counted)
    try:
        work()
    finally:
        sys.settrace(None)
    return counted.count
