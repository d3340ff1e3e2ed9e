"""The sandbox's own HTTP server, which can also break connections."""

import signal
import socket
import sys
from types import FrameType
from typing import Final

import uvicorn

from toss_sandbox.app import create_sandbox
from toss_sandbox.settings import Settings
from toss_sandbox.wire import SandboxProtocol

_GRACE_SECONDS: Final = 3


class SandboxServer(uvicorn.Server):
    """A uvicorn server for one sandbox."""

    def __init__(self, settings: Settings) -> None:
        config = uvicorn.Config(
            create_sandbox(settings),
            http=SandboxProtocol,
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        super().__init__(config)


def listen(host: str, port: int) -> socket.socket:
    """Bind the address, so that it is known to be free before anything is started; port 0 takes any.

    Raises:
        OSError: The address cannot be had.
    """
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # Inherited by every connection; head and body of an answer are two writes, and must not wait for each other.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM ends it, which is a good end.

    Raises:
        OSError: The address cannot be had.
    """
    # Uvicorn stops cleanly on a signal and then raises it again for whoever was there before.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    with listen(host, port) as listener:
        SandboxServer(settings).run(sockets=[listener])


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
