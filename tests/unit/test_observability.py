"""Everything a process has to say is one line of one shape; a process of its own says it in most of these stories."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from typing import Final

import pytest

from payments.observability import UnbreakableOutput
from payments.settings import LogFormat
from tests.programs import BARE_ENVIRONMENT

KEY: Final = "test_sk_kanarienvogel"
KNOWN: Final = "a secret without any looks"
START: Final = f"""
import asyncio, gc, logging, sys, threading, warnings
import structlog
from payments.observability import configure_logging
from payments.settings import LogFormat

configure_logging(LogFormat(sys.argv[1]), to=sys.stdout, secrets=[{KNOWN!r}])
log = structlog.get_logger()
"""


def said(story: str, log_format: LogFormat = LogFormat.JSON, *, environment: Mapping[str, str] | None = None) -> str:
    """What a process says, on both of its outputs, that is told this story after it has begun to log."""
    run = subprocess.run(
        [sys.executable, "-c", START + story, log_format.value],
        env={**BARE_ENVIRONMENT, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return run.stdout


def events(story: str) -> list[dict[str, object]]:
    """The same as events: one for each line, or this fails."""
    return [json.loads(line) for line in said(story).splitlines()]


EVERY_WAY: Final = {
    "our own event": f"log.info('a.happened', note='{KEY}', other={KNOWN!r})",
    "our own error": f"""
try:
    local = '{KEY}'
    raise ValueError('{KEY} and ' + {KNOWN!r})
except ValueError:
    log.exception('a.failed')
""",
    "a chain of errors": f"""
try:
    try:
        raise KeyError('{KEY}')
    except KeyError as error:
        raise ValueError('again') from error
except ValueError:
    log.exception('a.failed')
""",
    "a library's warning": f"logging.getLogger('uvicorn.error').warning('no %s', '{KEY}')",
    "a library's error": f"""
try:
    raise ValueError('{KEY}')
except ValueError:
    logging.getLogger('some.library').exception('it failed')
""",
    "a record that cannot be formatted": f"logging.getLogger('some.library').warning('%d', '{KEY}')",
    "a warning": f"warnings.warn('{KEY}')",
    "a thread's crash": f"""
def crash():
    raise RuntimeError('{KEY}')
threading.Thread(target=crash).start()
""",
    "a task that nobody waited for": f"""
async def crash():
    raise RuntimeError('{KEY}')
async def main():
    asyncio.create_task(crash())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
asyncio.run(main())
""",
    "a callback's crash": f"""
def crash(text):
    raise RuntimeError(text)
async def main():
    asyncio.get_running_loop().call_soon(crash, '{KEY}')
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(main())
""",
    "an error that cannot be raised": f"""
class Odd:
    def __del__(self):
        raise RuntimeError('{KEY}')
Odd()
""",
    "a crash": f"raise RuntimeError('{KEY} and ' + {KNOWN!r})",
}


@pytest.fixture(scope="module")
def said_every_way() -> list[dict[str, object]]:
    """One process that says something in every way, the last of which ends it."""
    assert list(EVERY_WAY)[-1] == "a crash"
    return events(
        "".join(f"\n{story}\nfor one in threading.enumerate()[1:]: one.join()" for story in EVERY_WAY.values())
    )


class TestEveryWay:
    def test_of_saying_something_is_one_line(self, said_every_way: list[dict[str, object]]) -> None:
        began = [
            *("a.happened", "a.failed", "a.failed", "no test_sk_", "it failed", "log.record_broken", "<string>:"),
            *("thread.crashed", "Task exception was never retrieved", "Exception in callback crash('test_sk_["),
            *("error.not_raised", "process.crashed"),
        ]

        for event, beginning in zip(said_every_way, began, strict=True):
            assert str(event["event"]).startswith(beginning)

    @pytest.mark.parametrize("place", range(len(EVERY_WAY)), ids=EVERY_WAY.keys())
    def test_of_saying_something_hides_what_it_must(self, said_every_way: list[dict[str, object]], place: int) -> None:
        shown = json.dumps(said_every_way[place])

        assert {"event", "level", "timestamp"} <= said_every_way[place].keys()
        assert "kanarienvogel" not in shown
        assert KNOWN not in shown

    def test_shows_where_it_happened_and_no_locals(self) -> None:
        (event,) = events("def work(amount):\n    hidden = amount * 7\n    raise RuntimeError('too much')\nwork(6)")

        trace = str(event["exception"])
        assert "RuntimeError: too much" in trace
        assert "in work" in trace
        assert "42" not in trace

    def test_on_a_terminal_no_line_of_a_traceback_can_be_taken_for_an_event(self) -> None:
        lines = said("raise RuntimeError('a\\n12:00:00 [info ] payment.completed')", LogFormat.CONSOLE).splitlines()

        assert "process.crashed" in lines[0]
        assert lines[-1] == "  | 12:00:00 [info ] payment.completed"
        assert all(line.startswith("  | ") for line in lines[1:])


class TestOneEvent:
    @pytest.mark.parametrize("log_format", list(LogFormat))
    def test_is_one_line_whatever_is_in_it(self, log_format: LogFormat) -> None:
        hostile = "a\\r\\n{}%s\\x1b[2J\\u2028\\u2029\\x85\\u202e\\ud800\\0"

        output = said(f"log.info('a.happened', note='{hostile}', more=['{hostile}'], big='x' * 1_000_000)", log_format)

        assert len(output.splitlines()) == 1
        assert output.rstrip("\n").isprintable()
        assert len(output) < 3_000

    def test_can_be_written_whatever_is_in_it(self) -> None:
        (event,) = events("log.info('a.happened', number=10 ** 5000, none=float('nan'), thing=object, it=log)")

        assert event["number"] == "a huge number"
        assert event["none"] == "nan"

    def test_is_not_changed_where_it_is_harmless(self) -> None:
        (event,) = events(
            "log.info('request.answered', method='POST', route='/payments/orders/{orderId}/cancel', status=200, ms=1.5)"
        )

        assert {**event, "timestamp": ""} == {
            "event": "request.answered",
            "level": "info",
            "timestamp": "",
            "method": "POST",
            "route": "/payments/orders/{orderId}/cancel",
            "status": 200,
            "ms": 1.5,
        }


class TestLibraries:
    def test_are_heard_from_warnings_on_whatever_the_environment_says(self) -> None:
        story = """
for name in ("sqlalchemy.engine", "httpx", "httpcore", "psycopg.pool", "asyncio", "uvicorn.error"):
    logging.getLogger(name).info("%s", name)
    logging.getLogger(name).debug("%s", name)
"""

        environment = {"LOG_LEVEL": "DEBUG", "HTTPX_LOG_LEVEL": "trace", "PYTHONASYNCIODEBUG": "1"}
        assert said(story, environment=environment) == ""

    def test_say_it_in_the_same_shape(self) -> None:
        (event,) = events("logging.getLogger('uvicorn.error').warning('Invalid HTTP request received.')")

        assert {**event, "timestamp": ""} == {
            "event": "Invalid HTTP request received.",
            "level": "warning",
            "logger": "uvicorn.error",
            "timestamp": "",
        }

    def test_say_it_once_however_often_logging_is_configured(self) -> None:
        again = "configure_logging(LogFormat.JSON, to=sys.stdout)\n" * 3

        assert len(events(f"{again}logging.getLogger('x').warning('once')")) == 1


class TestUnbreakableOutput:
    def test_goes_on_when_nobody_reads_any_more(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb", buffering=0) as raw:
            output = UnbreakableOutput(TextIOWrapper(raw, write_through=True))

            assert output.write("payment.completed\n") == 0
            output.flush()

    def test_goes_on_when_the_output_is_closed(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        stream = os.fdopen(writing, "w")
        stream.close()

        assert UnbreakableOutput(stream).write("payment.completed\n") == 0
