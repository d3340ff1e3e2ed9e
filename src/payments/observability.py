"""Logs that a person and a machine can read. Events are `noun.verb` in the past; never a secret, never a whole key."""

import contextlib
import logging
from typing import Final, TextIO, cast

import structlog
from prometheus_client import Histogram

from payments.settings import LogFormat

CONFIRM_SECONDS: Final = Histogram(
    "payments_confirm_seconds", "How long a confirm took, the PG's time included", ["outcome"]
)


class UnbreakableOutput:
    """A stream for logs: whoever reads it may be gone, and money must be recorded all the same."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # a broken pipe, a full disk, a closed file
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure_logging(log_format: LogFormat, *, to: TextIO) -> None:
    """Send structlog's events, and the warnings of the libraries, to a stream, one line each.

    Servers log to standard output. A command that prints a report there logs to standard error.
    """
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if log_format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=28)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if log_format is LogFormat.JSON else "%H:%M:%S"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", UnbreakableOutput(to))),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=to, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    # It warns every second that a job still runs while the PG is slow, which is what max_instances is for.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
