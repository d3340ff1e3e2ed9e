"""Just enough of HTTP/1.1 for both ends of a measurement: whole messages with a Content-Length, one at a time."""

from collections.abc import Mapping

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class NotUnderstood(Exception):
    """A message that says its length in another way, or not at all where it has to."""


def request(method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole request, ready to be sent."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + _HEAD_END + body


def answer(body: bytes, status: str = "200 OK") -> bytes:
    """A whole answer."""
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )


def bounds(held: bytes) -> tuple[int, int] | None:
    """Where the body of the first message begins and ends; None while it has not come in whole.

    Raises:
        NotUnderstood: its length cannot be told.
    """
    head_end = held.find(_HEAD_END)
    if head_end < 0:
        return None
    end = head_end + len(_HEAD_END) + _length(held[:head_end].lower())
    return (head_end + len(_HEAD_END), end) if len(held) >= end else None


def _length(head: bytes) -> int:
    at = head.find(_LENGTH)
    if at >= 0:
        return int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
    if b"transfer-encoding" in head:
        raise NotUnderstood("a message in chunks")
    return 0
