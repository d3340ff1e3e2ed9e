import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from bench import http1
from proof.last_byte import Reply, Shot, fire
from proof.wire import read_message, serving


@dataclass
class Server:
    """Notes when a request has begun and when it is whole; answers those of one path never, and one with nothing."""

    port: int = 0
    whole: list[bytes] = field(default_factory=list)  # by path
    begun: int = 0
    begun_at_first_whole: int | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(1)
        is_look_up = (first + await reader.read(16)).startswith(b"GET /health/live")
        self.begun += not is_look_up
        message = await read_message(reader)
        if is_look_up or message is None:
            writer.write(http1.answer(b"{}"))
            return
        if self.begun_at_first_whole is None:
            self.begun_at_first_whole = self.begun
        self.whole.append(message)
        if b"nothing" in message:
            return
        if b"silence" in message:
            await asyncio.sleep(60)
        writer.write(http1.answer(message.partition(b"\r\n\r\n")[2], "201 Created"))
        await writer.drain()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with serving(made.serve) as made.port:
        yield made


def a_request(body: bytes) -> bytes:
    return http1.request("POST", "/payments/confirm", body)


class TestFire:
    async def test_no_request_is_whole_before_all_have_come(self, server: Server) -> None:
        shots = [Shot(server.port, a_request(b"%d" % number)) for number in range(100)]

        volley = await fire(shots)

        assert server.begun_at_first_whole == 100
        assert volley.replies == [Reply(201, b"%d" % number) for number in range(100)]
        assert volley.spread_seconds < 1

    async def test_takes_requests_without_a_body(self, server: Server) -> None:
        volley = await fire([Shot(server.port, http1.request("GET", "/payments/orders/one"))])

        assert volley.replies == [Reply(201, b"")]

    async def test_a_line_that_ends_without_an_answer_disturbs_no_other(self, server: Server) -> None:
        volley = await fire([Shot(server.port, a_request(body)) for body in (b"nothing", b"else")])

        assert volley.replies == [None, Reply(201, b"else")]

    async def test_does_not_wait_for_ever(self, server: Server) -> None:
        with pytest.raises(TimeoutError):
            await fire([Shot(server.port, a_request(b"silence"))], patience_seconds=0.05)
