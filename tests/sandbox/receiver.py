"""A shop's endpoint for webhooks, on a loopback port."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.sandbox.client import Toss


@dataclass(frozen=True)
class Received:
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told

    @property
    def status(self) -> str:
        """The status that it tells."""
        told = self.json
        return str(told["data"]["status"] if "data" in told else told["status"])


@dataclass
class Receiver:
    """Takes every webhook and answers `status`, once `may_answer` is set."""

    url: str = ""
    status: int = 200
    received: list[Received] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def statuses(self) -> list[str]:
        return [each.status for each in self.received]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
            self.received.append(Received(headers, await reader.readexactly(int(headers["content-length"]))))
            await self.may_answer.wait()
            writer.write(b"HTTP/1.1 %d Status\r\nlocation: /elsewhere\r\ncontent-length: 2\r\n\r\nok" % self.status)
            await writer.drain()
        self.at_once -= 1
        writer.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver that answers 200 at once."""
    receiver = Receiver()
    receiver.may_answer.set()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/webhook"
    try:
        yield receiver
    finally:
        receiver.may_answer.set()
        server.close()
        await server.wait_closed()


async def webhooks(toss: Toss, **query: str | int) -> list[dict[str, Any]]:
    """What the sandbox has noted, oldest first."""
    noted: list[dict[str, Any]] = (await toss.http.get("/sandbox/webhooks", params=query)).json()["webhooks"]
    return noted


async def deliver(toss: Toss) -> tuple[int, int]:
    """Have everything tried that is due; how many were tried, and how many arrived."""
    answer = await toss.http.post("/sandbox/webhooks/deliver")
    assert answer.status_code == 200, answer.text
    return answer.json()["tried"], answer.json()["delivered"]


async def set_up(toss: Toss, **settings: object) -> None:
    """Change the settings of webhooks."""
    answer = await toss.http.put("/sandbox/webhooks/settings", json=settings)
    assert answer.status_code == 200, answer.text
