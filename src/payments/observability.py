"""Logs that a person and a machine can read. Events are `noun.verb` in the past; never a secret, never a whole key."""

import logging
import sys
from typing import Final

import structlog
from prometheus_client import Histogram

from payments.settings import LogFormat

CONFIRM_SECONDS: Final = Histogram(
    "payments_confirm_seconds", "How long a confirm took, the PG's time included", ["outcome"]
)


def configure_logging(log_format: LogFormat) -> None:
    """Send structlog's events, and the warnings of the libraries, to standard output, one line each."""
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
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    # It warns every second that a job still runs while the PG is slow, which is what max_instances is for.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
