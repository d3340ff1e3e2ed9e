"""Lines that we hold in our own hands: everything passes, and each can be cut at any byte."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_AT_ONCE: Final = struct.pack("ii", 1, 0)  # linger for no time: what is not sent yet is thrown away
_BROKEN: Final = (OSError, EOFError, asyncio.LimitOverrunError)  # what a line that is cut raises at its other end

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Ending(StrEnum):
    """How a line ends: told properly, or from one moment to the next."""

    FIN = "fin"
    RST = "rst"


class Direction(StrEnum):
    """Whose bytes are counted."""

    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class Cut:
    """So many bytes of the one direction arrive, then the line ends at both of its ends.

    Of a request that is cut nothing is answered; before an answer is cut, the other side has done its work.
    """

    direction: Direction
    offset: int  # bytes
    ending: Ending
    stays: bool = False  # whether nothing about the same thing passes afterwards, until `HttpLine.mend`


@dataclass(frozen=True, slots=True)
class Exchange:
    """How long a request and its whole answer were, in bytes; the answer's is None where none was waited for."""

    request: int
    response: int | None


@dataclass(slots=True)
class _Armed:
    cut: Cut
    target: bytes  # the end of the path
    has_struck: bool = False
    exchange: Exchange | None = None  # the one that was cut


@dataclass(slots=True)
class HttpLine:
    """Between an HTTP client and its server; requests are told apart by what stands in them.

    A request is taken in whole before any of it is passed on, so that the right one is cut, and each goes on over a
    connection of its own, so that one that the server has left is never used.
    """

    server: tuple[str, int]
    port: int = 0
    exchanges: list[Exchange] = field(default_factory=list)  # that passed
    _armed: dict[bytes, _Armed] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def arm(self, mark: str, target: str, cut: Cut) -> None:
        """Cut the next request whose path ends with `target` and that says `mark` anywhere."""
        self._armed[mark.encode()] = _Armed(cut, target.encode())

    def mend(self, mark: str) -> Exchange | None:
        """Let everything about `mark` pass again; the exchange that was cut, None if there was none."""
        return self._armed.pop(mark.encode()).exchange

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, for as long as it lasts."""
        while (request := await read_message(reader)) is not None:
            upstream = await asyncio.open_connection(*self.server)
            try:
                if not await self._pass_on(request, upstream, writer):
                    return
            finally:
                upstream[1].close()

    async def _pass_on(self, request: bytes, upstream: Streams, writer: asyncio.StreamWriter) -> bool:
        """Whether the line still stands afterwards."""
        armed = self._armed_for(request)
        if armed is None:
            answer = await _ask(upstream, request)
            self.exchanges.append(Exchange(len(request), len(answer)))
            await send(writer, answer)
            return True
        cut = Cut(Direction.REQUEST, 0, armed.cut.ending) if armed.has_struck else armed.cut
        armed.has_struck = True
        if cut.direction is Direction.REQUEST:
            await send(upstream[1], request[: cut.offset])
            exchange = Exchange(len(request), None)
        else:
            answer = await _ask(upstream, request)
            await send(writer, answer[: cut.offset])
            exchange = Exchange(len(request), len(answer))
        armed.exchange = armed.exchange or exchange
        end(upstream[1], cut.ending)
        end(writer, cut.ending)
        return False

    def _armed_for(self, request: bytes) -> _Armed | None:
        """What strikes this request: for the first time, or because it stays."""
        for mark, one in self._armed.items():
            if mark in request and (one.cut.stays if one.has_struck else _path(request).endswith(one.target)):
                return one
        return None


@asynccontextmanager
async def http_line(server: tuple[str, int]) -> AsyncIterator[HttpLine]:
    """A line to an HTTP server, on a port of its own, until the block ends."""
    line = HttpLine(server)
    async with serving(line.serve) as port:
        line.port = port
        yield line


@asynccontextmanager
async def serving(served: Served, *, path: Path | None = None) -> AsyncIterator[int]:
    """Serve connections at a unix socket's path, or on a free port, which is what is answered; 0 for a path.

    What is still open when the block ends is cut.
    """
    open_now: set[asyncio.Task[None] | None] = set()

    async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        open_now.add(task)
        try:
            # A cancel is the end of the block; the streams' own callback would report it as an error.
            with contextlib.suppress(*_BROKEN, asyncio.CancelledError):
                await served(reader, writer)
        finally:
            open_now.discard(task)
            writer.close()

    server = await (
        asyncio.start_unix_server(_serve, path) if path is not None else asyncio.start_server(_serve, HOST, 0)
    )
    try:
        yield 0 if path is not None else int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        still_open = [task for task in open_now if task is not None]
        for task in still_open:
            task.cancel()
        await asyncio.gather(*still_open, return_exceptions=True)


async def read_message(reader: asyncio.StreamReader) -> bytes | None:
    """One whole HTTP/1.1 message that says its length, or has no body; None where the line has ended before it.

    Raises:
        EOFError: the line has ended in the middle of it.
        ValueError: it says its length in another way.
    """
    try:
        head = await reader.readuntil(_HEAD_END)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    return head + await reader.readexactly(_length(head.lower()))


def end(writer: asyncio.StreamWriter, ending: Ending) -> None:
    """End a connection; what was written so far is on its way before a FIN, and a RST follows what has been sent."""
    if ending is Ending.RST:
        held = writer.get_extra_info("socket")
        if held.family != socket.AF_UNIX:  # which has no RST
            held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        writer.transport.abort()
        return
    writer.close()


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send bytes; they have left this program when this returns, so that a line may be ended behind them."""
    writer.write(data)
    while writer.transport.get_write_buffer_size():  # `drain` is content with little
        await writer.drain()
        await asyncio.sleep(0)


async def _ask(upstream: Streams, request: bytes) -> bytes:
    reader, writer = upstream
    await send(writer, request)
    answer = await read_message(reader)
    if answer is None:
        raise EOFError
    return answer


def _path(request: bytes) -> bytes:
    return request.split(b" ", 2)[1]


def _length(head: bytes) -> int:
    _, found, rest = head.partition(_LENGTH)
    if found:
        return int(rest.split(b"\r\n", 1)[0])
    if b"transfer-encoding" in head:
        raise ValueError("a message in chunks")
    return 0
