"""A client that holds back the last byte: hundreds of requests become whole at one moment, whatever came before it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench import http1

from proof.wire import HOST, Streams, read_message, send

# Whoever answers this on a new connection has taken in what came over older ones, all but its last byte.
_LOOK_UP: Final = http1.request("GET", "/health/live")


@dataclass(frozen=True, slots=True)
class Shot:
    """A whole request, and where it goes."""

    port: int
    request: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Volley:
    """What came of requests that became whole at the same moment."""

    replies: Sequence[Reply | None]  # in the order of the shots; None where the line ended without one
    spread_seconds: float  # between the first last byte and the last one


async def fire(shots: Sequence[Shot], *, patience_seconds: float = 60.0) -> Volley:
    """Send all of each but its last byte, on a line of its own; then, when all lie there, the last bytes at once.

    Raises:
        OSError: a server takes no connection.
        TimeoutError: an answer took longer than `patience_seconds`.
    """
    lines = await asyncio.gather(*(_load(shot) for shot in shots))
    try:
        await asyncio.gather(*(_ask(Shot(port, _LOOK_UP)) for port in {shot.port for shot in shots}))
        began = time.perf_counter()
        for (_, writer), shot in zip(lines, shots, strict=True):
            writer.write(shot.request[-1:])
        spread = time.perf_counter() - began
        async with asyncio.timeout(patience_seconds):
            replies = await asyncio.gather(*(_hear(line) for line in lines))
    finally:
        for _, writer in lines:
            writer.close()
    return Volley(replies, spread)


async def _load(shot: Shot) -> Streams:
    reader, writer = await asyncio.open_connection(HOST, shot.port)
    await send(writer, shot.request[:-1])
    return reader, writer


async def _ask(shot: Shot) -> Reply | None:
    line = await _load(shot)
    line[1].write(shot.request[-1:])
    try:
        return await _hear(line)
    finally:
        line[1].close()


async def _hear(line: Streams) -> Reply | None:
    try:
        message = await read_message(line[0])
    except (OSError, EOFError):
        return None
    if message is None:
        return None
    head, _, body = message.partition(b"\r\n\r\n")
    return Reply(int(head.split(b" ", 2)[1]), body)
