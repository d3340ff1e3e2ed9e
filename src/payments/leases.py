"""How long, and for whom, a piece of work is left alone by everybody else."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

# A process says every second that it is alive. After so long a silence it is taken for dead, and what it held is free.
BEAT_EVERY: Final = timedelta(seconds=1)
DEAD_AFTER: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Lease:
    """Work that is held by one process. It ends with its time, or earlier when the holder dies.

    A holder that was only frozen, and comes back after others took its work over, does no harm: the version of what it
    held has moved on, and the PG is asked under the same key.
    """

    length: timedelta  # longer than the work can take
    holder: UUID | None = None  # None: the holder cannot be watched, and only time ends the lease
