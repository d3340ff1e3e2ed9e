"""A server on a loopback port whose every byte the test decides."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Loopback:
    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def loopback(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Loopback]:
    """Serve `script`: it is called when the head of a request has been read, and once for each connection."""
    seen = Loopback()
    running: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        writers.append(writer)
        # The client may hang up at any moment; that is what many of the stories are about.
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            seen.requests.append(await reader.readuntil(b"\r\n\r\n"))
            seen.asked.set()
            await script(reader, writer)
        writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        await end(server, running, writers)


async def end(
    server: asyncio.Server, running: Collection[asyncio.Task[None]], writers: Collection[asyncio.StreamWriter]
) -> None:
    """Leave nothing of a server behind, whatever it was at."""
    server.close()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for writer in writers:
        writer.transport.abort()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


def answering(reply: bytes) -> Script:
    """Send `reply` and hang up."""

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()

    return script


async def never_answering(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def plain_transport() -> httpx.AsyncBaseTransport:
    """For stories without TLS: reading the certificates of the world takes longer than most of them."""
    return httpx.AsyncHTTPTransport(verify=False)


def ok_reply(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
