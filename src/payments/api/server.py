"""Serves the API over HTTP."""

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType
from typing import Final

import structlog
import uvicorn
from starlette.types import ASGIApp

from payments.api.app import create_app
from payments.api.edge import MAX_CONNECTIONS, OPS_CONNECTIONS, Edge, protocol_of
from payments.api.security_headers import as_raw, security_headers
from payments.resources import BUYERS_CALLS
from payments.settings import Environment, Settings

log = structlog.get_logger()

# A request leaves thousands of objects behind and hardly a cycle among them. With the usual (700, 10, 10) their search
# takes a sixth of the CPU.
GC_THRESHOLDS: Final = (10_000, 20, 50)
# What is being answered may take as long. Confirms that take longer are drained afterwards (app.DRAIN_LIMIT).
GRACEFUL_SECONDS: Final = 4
# When whoever has not finished is left behind. An orchestrator would kill a second later.
LAST_SECONDS: Final = 9
# Besides connections, and the calls to the PG: the database, the order service, the log and what Python itself holds.
OTHER_FILES: Final = 150


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
    ops_port = ops.port if ops else None
    headers = as_raw(security_headers(in_production=settings.environment is Environment.PRODUCTION))
    edge = Edge(headers, ops_port=ops_port, most_connections=_most_connections(_raise_file_limit()))
    config = configuration(create_app(settings, ops_port=ops_port), edge)
    with ExitStack() as stack:
        listeners = [stack.enter_context(_listen(one, backlog=config.backlog)) for one in (public, ops) if one]
        # Uvicorn stops cleanly on a signal and then raises it again for whoever was there before: being told to stop is
        # no failure.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        Server(config).run(sockets=listeners)


class Server(uvicorn.Server):
    """Starts without what the imports leave to be looked through, and ends in time for certain."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """A hundred thousand objects that stay for good would be walked again and again, and requests wait for it."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """A database that hangs would hold up the goodbyes to it for ever."""
        asyncio.get_running_loop().call_later(LAST_SECONDS, _end_now)
        await super().shutdown(sockets)


def configuration(app: ASGIApp, edge: Edge) -> uvicorn.Config:
    """How uvicorn serves an application of ours."""
    return uvicorn.Config(
        app,
        http=protocol_of(edge),
        ws="none",
        log_config=None,
        access_log=False,  # RequestLog writes one line for each request
        server_header=False,
        proxy_headers=False,  # TRUSTED_PROXIES says who is believed; by default loopback would be
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )


def _listen(address: Address, *, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=backlog)
    except OSError as error:
        raise CannotListen(f"cannot listen on {address.host}:{address.port}: {error.strerror}") from None
    # Head and body of an answer are two writes, and must not wait for each other.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _raise_file_limit() -> int:
    """Take all the open files that the system grants: the usual limit is made for programs with few sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_CONNECTIONS + BUYERS_CALLS + OPS_CONNECTIONS + OTHER_FILES
    wanted = most if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def _most_connections(files: int) -> int:
    """As many as there are files for: a process that cannot accept any more can refuse nobody either."""
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    spare = files - OPS_CONNECTIONS - OTHER_FILES
    # A connection has the PG called for one buyer at a time, so that there are never more calls than connections.
    return max(1, min(MAX_CONNECTIONS, max(spare - BUYERS_CALLS, spare // 2)))


def _end_now() -> None:
    log.error("api.ended_unfinished", hint="what is undecided is left to recovery")
    os._exit(1)  # whatever hangs would hang in an orderly exit as well


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
