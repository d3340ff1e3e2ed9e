"""What an application is told of a request, whatever else was sent beside it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from payments.api.edge import Edge
from payments.api.security_headers import ALWAYS, as_raw
from tests.edge.served import listening, served
from tests.edge.wire import HOST, JSON, Wire, ask, refused

GET: Final = b"GET /a HTTP/1.1\r\n"
POST: Final = b"POST /a HTTP/1.1\r\n" + HOST + JSON
OFFER: Final = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    listener, port = listening()
    async with served(Edge(), listener):
        yield port


async def told(port: int, *parts: bytes) -> dict[str, Any]:
    answer = await asyncio.to_thread(ask, port, *parts)
    assert answer.status == 200
    return answer.json


class TestClaims:
    @pytest.mark.parametrize(
        "claim",
        [b"X-Forwarded-For: 1.2.3.4", b"Forwarded: for=1.2.3.4", b"X-Real-IP: 1.2.3.4", b"X-Client-IP: 1.2.3.4"],
    )
    async def test_about_the_client_are_not_believed_of_this_machine(self, echo_port: int, claim: bytes) -> None:
        """Uvicorn by itself believes whoever asks from loopback."""
        assert (await told(echo_port, GET + HOST + claim + b"\r\n\r\n"))["client"] == "127.0.0.1"

    async def test_about_the_scheme_are_not_believed_either(self, echo_port: int) -> None:
        assert (await told(echo_port, GET + HOST + b"X-Forwarded-Proto: https\r\n\r\n"))["scheme"] == "http"

    @pytest.mark.parametrize("claim", [b"Host: api:9\r\n", HOST + b"X-Forwarded-Port: 9\r\nX-Forwarded-Host: a:9\r\n"])
    async def test_about_the_port_are_not_believed(self, echo_port: int, claim: bytes) -> None:
        assert (await told(echo_port, GET + claim + b"\r\n"))["port"] == echo_port


class TestOffersOfOtherProtocols:
    @pytest.mark.parametrize("parts", [[b"{}"], [b"", b"{", b"}"]], ids=["in one piece", "in pieces"])
    async def test_are_not_taken_up_and_the_body_is_read(self, echo_port: int, parts: list[bytes]) -> None:
        """Java's own client offers HTTP/2 with every first request."""
        head = POST + OFFER + b"Content-Length: 2\r\n\r\n"

        request = await told(echo_port, head + parts[0], *parts[1:])

        assert (request["method"], request["body"]) == ("POST", "{}")
        assert ["host", "api"] in request["headers"]
        assert "upgrade" not in dict(request["headers"])

    async def test_leave_the_connection_as_it_is(self, echo_port: int) -> None:
        def twice() -> list[int]:
            with Wire(echo_port) as wire:
                statuses = []
                for request in (GET + HOST + OFFER + b"\r\n", POST + b"Content-Length: 2\r\n\r\n{}"):
                    wire.send(request)
                    statuses.append(wire.answer().status)
                return statuses

        assert await asyncio.to_thread(twice) == [200, 200]

    async def test_of_websockets_are_not_taken_up_either(self, echo_port: int) -> None:
        offer = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YQ==\r\n"

        assert (await told(echo_port, GET + HOST + offer + b"\r\n"))["method"] == "GET"


class TestConnections:
    async def test_above_the_limit_are_refused_and_those_below_go_on(self) -> None:
        listener, port = listening()

        def story() -> tuple[str, int]:
            with Wire(port) as first, Wire(port):
                refusal = refused(port)
                first.send(GET + HOST + b"\r\n")
                return refusal.json["code"], first.answer().status

        async with served(Edge(as_raw(ALWAYS), most_connections=2), listener):
            assert await asyncio.to_thread(story) == ("too_many_connections", 200)

    async def test_below_the_limit_again_are_answered(self) -> None:
        listener, port = listening()

        def story() -> int:
            with Wire(port), Wire(port):
                pass
            return self.status_once_there_is_room(port)

        async with served(Edge(most_connections=2), listener):
            assert await asyncio.to_thread(story) == 200

    async def test_above_the_limit_still_get_through_to_the_ops_port(self) -> None:
        (public, port), (ops, ops_port) = listening(), listening()

        def story() -> tuple[int, int]:
            with Wire(port), Wire(port):
                return ask(port).status, ask(ops_port, GET + HOST + b"\r\n").status

        async with served(Edge(most_connections=2, ops_port=ops_port), public, ops):
            assert await asyncio.to_thread(story) == (503, 200)

    def status_once_there_is_room(self, port: int) -> int:
        while (status := ask(port, GET + HOST + b"\r\n").status) == 503:
            pass
        return status
