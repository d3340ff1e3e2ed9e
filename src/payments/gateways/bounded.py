"""The body of an answer, as far as anybody may make us read."""

import httpx


class Unreadable(Exception):
    """The answer is none that was asked for; the text says why."""


async def read_bounded(response: httpx.Response, *, longest: int) -> bytes:
    """The body, of `longest` bytes at the most; of a longer one the rest is left unread.

    Raises:
        Unreadable: it is longer, or compressed: unfolded it could be a thousand times as long.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Unreadable("compressed though asked not to")
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > longest:
            raise Unreadable("the answer is too large")
    return bytes(body)
