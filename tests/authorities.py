"""Whom programs trust while nothing of the world is asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import certifi
import pytest


@contextmanager
def few_authorities(directory: Path) -> Iterator[None]:
    """Trust one of the world's authorities instead of all: every HTTP client reads them, which takes it 15 ms of work.

    Nothing that a test may reach has a certificate of theirs, and none of them is one of a test.
    """
    first, end, _ = (
        Path(certifi.where()).read_text(encoding="ascii", errors="ignore").partition("-----END CERTIFICATE-----")
    )
    only = directory / "one.pem"
    only.write_text(first + end + "\n", encoding="ascii")
    with pytest.MonkeyPatch.context() as world:
        world.setattr(certifi, "where", lambda: str(only))
        yield
