"""Bytes on a socket, as no well-behaved client sends them, and what comes back."""

import json
import socket
from dataclasses import dataclass
from typing import Any, Final, Self

SECONDS: Final = 30.0  # a deadline for a machine that does much else, not a promise
HOST: Final = b"Host: api\r\n"
JSON: Final = b"Content-Type: application/json\r\n"
GET: Final = b"GET /health/live HTTP/1.1\r\n"
POST: Final = b"POST /payments/prepare HTTP/1.1\r\n" + HOST + JSON


@dataclass(frozen=True)
class Answer:
    """One answer as it stood on the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, wanted: str) -> list[str]:
        return [value for name, value in self.headers if name == wanted]

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


class Wire:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> Answer:
        """Read the next one.

        Raises:
            EOFError: the connection was closed before it was complete.
        """
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in head[1:]]
        answer = Answer(int(head[0].split()[1]), [(name.lower(), value) for name, value in pairs], b"")
        length = int((answer.values("content-length") or ["0"])[0])
        while len(self._unread) < length:
            self._more()
        body, self._unread = self._unread[:length], self._unread[length:]
        return Answer(answer.status, answer.headers, body)

    def is_closed(self) -> bool:
        """Whether the other side has nothing more to say; waits for it to say so."""
        try:
            return self._unread + self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            self._more()
        found, _, self._unread = self._unread.partition(mark)
        return found

    def _more(self) -> None:
        received = self._socket.recv(65_536)
        if not received:
            raise EOFError(self._unread)
        self._unread += received


def ask(port: int, *parts: bytes) -> Answer:
    """Send a request and read its answer."""
    with Wire(port) as wire:
        for part in parts:
            wire.send(part)
        return wire.answer()


def refused(port: int, *parts: bytes) -> Answer:
    """Send what the edge must refuse, and check all that holds for each of its refusals."""
    with Wire(port) as wire:
        for part in parts:
            wire.send(part)
        answer = wire.answer()
        assert wire.is_closed()
    assert answer.values("connection") == ["close"]
    assert answer.values("content-type") == ["application/problem+json"]
    assert answer.json["status"] == answer.status
    assert [answer.json["requestId"]] == answer.values("x-request-id")
    assert answer.values("x-content-type-options") == ["nosniff"]
    assert answer.values("server") == []
    return answer
