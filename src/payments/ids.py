"""Identifiers that we hand out."""

import os
import threading
import time
from uuid import UUID

_lock = threading.Lock()
_last = 0


def new_id() -> UUID:
    """A UUID version 7 (RFC 9562, section 5.7): new rows land at the end of an index, however large the table is.

    Those of one process only grow (section 6.2), even within a millisecond and when its clock is put back.
    """
    global _last  # noqa: PLW0603 - what has been handed out is the process's affair
    milliseconds = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10))
    value = (milliseconds << 80) | random_bits
    value = value & ~(0xF << 76) | (0x7 << 76)  # version
    value = value & ~(0x3 << 62) | (0x2 << 62)  # variant
    with _lock:
        _last = value = max(value, _last + 1)
    return UUID(int=value)
