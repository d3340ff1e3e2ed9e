"""httpx's API over aiohttp's connections, for the one client that buyers wait for.

httpx keeps its own connections by walking through all of them for every call: 730 us of CPU for a call with 16 at a
time, and more the more there are; over these 190 us (docs/performance.md). What a failed call means stays httpx's
words, and a test sends every kind of failure through both.
"""

import asyncio
from collections.abc import AsyncIterator
from ssl import SSLContext
from types import TracebackType
from typing import Final
from weakref import WeakSet

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from payments.sockets import has_something_to_read

_LONGEST_HEADER: Final = 64 * 1024  # bytes; a proxy in front of Toss may have much to say, and its answer counts
_KEEP_IDLE_SECONDS: Final = 5.0  # as httpx does; the shorter, the seldomer a server hangs up on a request

# In this order: the first that fits. What is raised before there is a connection comes first, because only then can
# nothing have been sent; everything that is not known for certain to be so counts as sent.
_MEANINGS: Final[tuple[tuple[type[Exception], type[httpx.TransportError]], ...]] = (
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (asyncio.TimeoutError, httpx.ReadTimeout),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
    (aiohttp.ClientError, httpx.ReadError),
    (OSError, httpx.ReadError),
)


class PooledTransport(httpx.AsyncBaseTransport):
    """The network below httpx's requests and answers. One instance per event loop.

    Follows no redirect, keeps no cookie, unpacks nothing, and asks nobody and no environment for a proxy.

    Args:
        max_connections: How many are open at the same time; further requests wait for one, as long as they may take
            to connect.
    """

    def __init__(self, *, max_connections: int) -> None:
        self._max_connections = max_connections
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with _IN_WORDS_OF_HTTPX:
            answer = await self._opened().request(
                request.method,
                URL(str(request.url), encoded=True),  # as it is: httpx has encoded it
                headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
                data=await request.aread() or None,
                allow_redirects=False,
                timeout=_timeout(request),
            )
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_Body(answer))

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        """Opened by the first request, because a session belongs to the loop that runs when it is made."""
        if self._session is None:
            connector = _Connector(limit=self._max_connections, keepalive_timeout=_KEEP_IDLE_SECONDS, ssl=self._tls)
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                max_field_size=_LONGEST_HEADER,
                max_line_size=_LONGEST_HEADER,
                middlewares=(_send_once,),
                skip_auto_headers=("accept", "accept-encoding", "content-type", "user-agent"),
                trust_env=False,
            )
        return self._session


class _Connector(aiohttp.TCPConnector):
    """Keeps connections, and leaves one on which something has come that nobody has asked for.

    It would be taken for the answer to the next request: a refusal that is about another payment, perhaps. aiohttp only
    looks whether the connection still stands.
    """

    def __init__(self, *, limit: int, keepalive_timeout: float, ssl: SSLContext) -> None:
        super().__init__(limit=limit, keepalive_timeout=keepalive_timeout, ssl=ssl)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._used or not _has_something_to_say(protocol):
                if protocol is not None:
                    self._used.add(protocol)
                return connection
            connection.close()


def _has_something_to_say(protocol: ResponseHandler) -> bool:
    """Whether an idle connection is ended, or anything lies on it: read already, or still with the system."""
    if protocol.should_close or protocol.transport is None:
        return True
    return has_something_to_read(protocol.transport.get_extra_info("socket").fileno())


class _Body(httpx.AsyncByteStream):
    """An answer's body as it comes in, so that its reader can stop where it gets too long."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _IN_WORDS_OF_HTTPX:
            async for chunk in self._answer.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        """The connection goes back if the answer was read to its end, and is closed if it was not."""
        self._answer.close()


def _timeout(request: httpx.Request) -> aiohttp.ClientTimeout:
    """For a connection, name look-up and TLS included, and for each silence after that; `None` is for ever."""
    seconds = request.extensions["timeout"]
    return aiohttp.ClientTimeout(total=None, connect=seconds["connect"], sock_read=seconds["read"])


async def _send_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Aiohttp repeats a GET by itself when the first one is lost, which nobody would count; our errors it lets pass."""
    with _IN_WORDS_OF_HTTPX:
        return await send(request)


class _InWordsOfHttpx:
    """Raises what aiohttp means by an error as httpx would have said it. Holds nothing, so that one does for all."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        for kind, meaning in _MEANINGS if error is not None else ():
            if isinstance(error, kind):
                raise meaning(type(error).__name__) from error


_IN_WORDS_OF_HTTPX: Final = _InWordsOfHttpx()
