"""Serves the API over HTTP."""

import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType
from typing import Final

import uvicorn

from payments.api.app import create_app
from payments.settings import Settings

# A half-sent body would otherwise hold the shutdown for ever. Confirms that take longer are drained afterwards.
GRACEFUL_SECONDS: Final = 5


class CannotListen(Exception):
    """An address cannot be had. The message names it."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int


def serve(settings: Settings, *, public: Address, ops: Address | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests end.

    With an address for `ops`, what probes and monitoring ask is answered there and nowhere else.

    Raises:
        CannotListen: said before anything is opened.
    """
    config = uvicorn.Config(
        create_app(settings, ops_port=ops.port if ops else None),
        http="httptools",  # the stricter parser of the two: it refuses the requests that smugglers send
        log_config=None,
        access_log=False,  # RequestLog writes one line for each request
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    with ExitStack() as stack:
        listeners = [stack.enter_context(_listen(one, backlog=config.backlog)) for one in (public, ops) if one]
        # Uvicorn stops cleanly on a signal and then raises it again for whoever was there before: being told to stop is
        # no failure.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        uvicorn.Server(config).run(sockets=listeners)


def _listen(address: Address, *, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=backlog)
    except OSError as error:
        raise CannotListen(f"cannot listen on {address.host}:{address.port}: {error.strerror}") from None
    # Head and body of an answer are two writes, and must not wait for each other.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
