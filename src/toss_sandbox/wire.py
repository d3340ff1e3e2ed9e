"""Replies that reach the client whole, halved or not at all: what the network does to an answer."""

import socket
import struct
from asyncio import Transport
from collections.abc import Callable
from enum import StrEnum
from typing import Final, cast

import httpx
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION: Final = "toss_sandbox.connection"


class Ending(StrEnum):
    """How a reply ends."""

    WHOLE = "whole"
    DROPPED = "dropped"
    RESET = "reset"
    TRUNCATED = "truncated"


class Connection:
    """The TCP connection of one request."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def is_gone(self) -> bool:
        """Whether the client has hung up, so that nothing can be sent to it."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Send what is written and close; a client that waits for more reads the end of the stream."""
        self._transport.close()

    def reset(self) -> None:
        """Close with a TCP reset."""
        lingering = self._transport.get_extra_info("socket")
        # On and zero seconds: the kernel answers with RST instead of FIN.
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class SandboxProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP, which also hands the connection to the application."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: cast("dict[object, object]", Connection(self.transport))}


class Reply(Response):
    """A response with a chosen ending, which reports when it is over.

    Without the sandbox's own server, in process, a broken connection is the exception that httpx would raise for it.
    """

    def __init__(
        self,
        body: bytes,
        *,
        status: int,
        headers: dict[str, str],
        ending: Ending = Ending.WHOLE,
        on_end: Callable[[int | None], None],
    ) -> None:
        """Take `on_end`, which is called once with the status that was sent, or None when none was."""
        super().__init__(body, status_code=status, headers=headers)
        self._ending = ending
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection | None = scope.get("extensions", {}).get(_EXTENSION)
        if self._ending is Ending.WHOLE:
            is_heard = connection is None or not connection.is_gone
            await super().__call__(scope, receive, send)
            self._on_end(self.status_code if is_heard else None)
            return
        if self._ending is Ending.TRUNCATED:
            await self._send_half(send)
        self._on_end(self.status_code if self._ending is Ending.TRUNCATED else None)
        await self._cut(connection, receive)

    async def _send_half(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})

    async def _cut(self, connection: Connection | None, receive: Receive) -> None:
        if connection is None:
            raise _as_the_client_sees(self._ending)
        if self._ending is Ending.RESET:
            connection.reset()
        else:
            connection.close()
        # Uvicorn would answer 500 for an application that returns before the connection is known to be lost.
        while (await receive())["type"] != "http.disconnect":
            pass


def _as_the_client_sees(ending: Ending) -> httpx.TransportError:
    if ending is Ending.RESET:
        return httpx.ReadError("Connection reset by peer")
    if ending is Ending.TRUNCATED:
        return httpx.RemoteProtocolError("peer closed connection without sending complete message body")
    return httpx.RemoteProtocolError("Server disconnected without sending a response.")
