"""Logs that a person and a machine can read. Events are `noun.verb` in the past; never a secret, never a whole key.

Everything that a process has to say goes the same way: our events, what libraries log, warnings, and the error that
ends it. Each is one line, in one shape, and passes `redaction` before it is written.
"""

import logging
import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Final, TextIO, cast

import structlog
from prometheus_client import Histogram
from structlog.types import EventDict, Processor, WrappedLogger

from payments import redaction
from payments.settings import LogFormat

CONFIRM_SECONDS: Final = Histogram(
    "payments_confirm_seconds", "How long a confirm took, the PG's time included", ["outcome"]
)

# They would write what was sent and answered, statements and their parameters, line by line.
_TALKATIVE: Final = ("asyncio", "httpcore", "httpx", "psycopg", "sqlalchemy", "urllib3")
_TRACES: Final = ("exception", "stack")  # the only values that keep their lines
_SET_BY_US: Final = ("level", "timestamp")


class UnbreakableOutput:
    """A stream for logs: whoever reads it may be gone, and money must be recorded all the same.

    The secrets that the process holds are masked in whatever comes by.
    """

    def __init__(self, stream: TextIO, *, secrets: Iterable[str] = ()) -> None:
        self._stream = stream
        self._secrets = redaction.KnownSecrets(secrets)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(self._secrets.mask(text))
        except (OSError, ValueError):  # a broken pipe, a full disk, a closed file
            return 0

    def flush(self) -> None:
        try:  # noqa: SIM105 - each line comes by here, and `suppress` takes longer than the rest
            self._stream.flush()
        except (OSError, ValueError):
            pass


class _LibraryHandler(logging.StreamHandler[TextIO]):
    """What libraries say. A record that cannot be formatted is named, and not printed as it is."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        structlog.get_logger().error("log.record_broken", logger=record.name, line=record.lineno)


def configure_logging(log_format: LogFormat, *, to: TextIO, secrets: Iterable[str] = ()) -> None:
    """Send whatever this process has to say to a stream, one line for each event, without secrets.

    Servers log to standard output. A command that prints a report there logs to standard error.
    """
    output = cast("TextIO", UnbreakableOutput(to, secrets=secrets))
    described: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if log_format is LogFormat.JSON else "%H:%M:%S"),
        structlog.processors.format_exc_info,
    ]
    written: list[Processor] = [_redact, *_RENDERERS[log_format]]
    structlog.configure(
        processors=[*described, *written],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(output),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(output, described=[*described, structlog.stdlib.add_logger_name], written=written)
    _report_crashes()


def _configure_libraries(output: TextIO, *, described: list[Processor], written: list[Processor]) -> None:
    handler = _LibraryHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=described,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *written],
        )
    )
    root = logging.getLogger()
    for before in [one for one in root.handlers if isinstance(one, _LibraryHandler)]:
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns every second that a job still runs while the PG is slow, which is what max_instances is for.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {name: value if name in _SET_BY_US else _clean(name, value) for name, value in event.items()}


def _clean(name: str, value: object) -> object:
    is_trace = name in _TRACES and isinstance(value, str)
    return redaction.clean_trace(str(value)) if is_trace else redaction.clean(value, name=name)


def _indented_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """On a terminal a traceback keeps its lines, and none of them can be taken for an event."""
    return {
        name: f"  | {value}".replace("\n", "\n  | ") if name in _TRACES and isinstance(value, str) else value
        for name, value in event.items()
    }


_RENDERERS: Final[dict[LogFormat, tuple[Processor, ...]]] = {
    LogFormat.JSON: (structlog.processors.JSONRenderer(),),
    LogFormat.CONSOLE: (_indented_trace, structlog.dev.ConsoleRenderer(colors=False, pad_event_to=28)),
}


def _report_crashes() -> None:
    """The interpreter prints what nobody caught; here it is an event as well. The event loop logs its own.

    Whoever has put another hook in place of the interpreter's, such as a debugger, keeps it.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _crashed
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _thread_crashed
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _not_raised


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger().critical("process.crashed", error=kind.__name__, exc_info=(kind, error, trace))


def _thread_crashed(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is None or issubclass(crash.exc_type, SystemExit):
        return
    what = (crash.exc_type, crash.exc_value, crash.exc_traceback)
    thread = crash.thread.name if crash.thread else ""
    structlog.get_logger().critical("thread.crashed", thread=thread, error=crash.exc_type.__name__, exc_info=what)


def _not_raised(crash: "sys.UnraisableHookArgs") -> None:
    what = (crash.exc_type, crash.exc_value, crash.exc_traceback) if crash.exc_value else None
    structlog.get_logger().error("error.not_raised", where=type(crash.object).__name__, exc_info=what)
