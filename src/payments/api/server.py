"""Serves the API over HTTP."""

import signal
import socket
import sys
from types import FrameType
from typing import Final

import uvicorn

from payments.api.app import create_app
from payments.settings import Settings

# A half-sent body would otherwise hold the shutdown for ever. Confirms that take longer are drained afterwards.
GRACEFUL_SECONDS: Final = 5


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests end.

    Raises:
        OSError: the address cannot be had; said before anything is opened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    config = uvicorn.Config(
        create_app(settings),
        http="httptools",  # the stricter parser of the two: it refuses the requests that smugglers send
        log_config=None,
        access_log=False,  # RequestLog writes one line for each request
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    with socket.create_server((host, port), family=family, backlog=config.backlog) as listener:
        # Head and body of an answer are two writes, and must not wait for each other.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Uvicorn stops cleanly on a signal and then raises it again for whoever was there before: being told to stop is
        # no failure.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        uvicorn.Server(config).run(sockets=[listener])


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
