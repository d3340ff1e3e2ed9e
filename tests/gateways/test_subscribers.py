"""Telling the order service over real sockets: what it is sent, and every way in which it can fail to take it."""

import asyncio
import base64
import json
import socket
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from payments.gateways.subscribers import MAX_ANSWER_BYTES, Delivered, NotDelivered, SubscriberClient
from tests.gateways.loopback import Loopback, Script, answering, loopback, never_answering, plain_transport

MESSAGE: Final = UUID("0198c0de-0000-7000-8000-000000000003")
BODY: Final = json.dumps(
    {"type": "payment.completed", "data": {"orderName": "테스트 상품"}}, ensure_ascii=False
).encode()
SECRET: Final = "whsec_" + base64.b64encode(b"the secret that everybody has...").decode()
NEXT_SECRET: Final = "whsec_" + base64.b64encode(b"the secret that takes its place.").decode()
BRIEF: Final = timedelta(seconds=0.3)


def client_of(
    server: Loopback, *, deadline: timedelta = timedelta(seconds=10), secrets: tuple[str, ...] = (SECRET,)
) -> SubscriberClient:
    url = f"{server.url}/api/events?shop=1"
    return SubscriberClient(url, secrets=secrets, deadline=deadline, transport=plain_transport())


def reply(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def headers_of(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}


async def flooding(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" " * MAX_ANSWER_BYTES)
        await writer.drain()


async def dripping_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def hanging_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@pytest.fixture
async def taking() -> AsyncIterator[tuple[Loopback, list[bytes]]]:
    """A receiver that takes everything, and the bodies that it was sent."""
    bodies: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int(headers_of(server.requests[-1])["content-length"])
        bodies.append(await reader.readexactly(length))
        writer.write(reply("204 No Content"))
        await writer.drain()

    async with loopback(take) as server:
        yield server, bodies


class TestRequest:
    async def test_is_signed_so_that_the_receivers_library_accepts_it(
        self, taking: tuple[Loopback, list[bytes]]
    ) -> None:
        server, bodies = taking
        async with client_of(server) as client:
            assert await client.deliver(MESSAGE, BODY) == Delivered()

        head = server.requests[0]
        assert head.startswith(b"POST /api/events?shop=1 HTTP/1.1\r\n")
        headers = headers_of(head)
        assert bodies == [BODY]
        assert (headers["webhook-id"], headers["content-type"]) == (str(MESSAGE), "application/json")
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        Webhook(SECRET).verify(BODY, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(NEXT_SECRET).verify(BODY, headers)

    async def test_is_signed_with_every_live_secret(self, taking: tuple[Loopback, list[bytes]]) -> None:
        server, _ = taking
        async with client_of(server, secrets=(SECRET, NEXT_SECRET)) as client:
            await client.deliver(MESSAGE, BODY)

        headers = headers_of(server.requests[0])
        assert len(headers["webhook-signature"].split(" ")) == 2
        for secret in (SECRET, NEXT_SECRET):
            Webhook(secret).verify(BODY, headers)

    async def test_goes_past_whatever_proxy_the_environment_names(
        self, taking: tuple[Loopback, list[bytes]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server, bodies = taking
        async with loopback(never_answering) as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            async with SubscriberClient(server.url, secrets=[SECRET]) as client:
                await client.deliver(MESSAGE, BODY)

            assert (len(bodies), proxy.connections) == (1, 0)

    async def test_is_refused_before_it_is_sent_when_it_is_no_text(self, taking: tuple[Loopback, list[bytes]]) -> None:
        server, bodies = taking
        async with client_of(server) as client:
            assert await client.deliver(MESSAGE, b"\xff") == NotDelivered("not UTF-8", is_refused=True)

        assert bodies == []


class TestAnswer:
    @pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted", "204 No Content", "299 Whatever"])
    async def test_of_2xx_is_success_whatever_it_says(self, status: str) -> None:
        body = b"" if status.startswith("204") else b"<html>garbage"
        async with loopback(answering(reply(status, body=body))) as server, client_of(server) as client:
            assert await client.deliver(MESSAGE, BODY) == Delivered()

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 451, 499])
    async def test_of_4xx_will_be_the_same_next_time(self, status: int) -> None:
        async with loopback(answering(reply(f"{status} No", body=BODY))) as server, client_of(server) as client:
            assert await client.deliver(MESSAGE, BODY) == NotDelivered(f"status {status}", is_refused=True)

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
    async def test_of_trouble_that_passes_is_not_refused(self, status: int) -> None:
        async with loopback(answering(reply(f"{status} No"))) as server, client_of(server) as client:
            assert await client.deliver(MESSAGE, BODY) == NotDelivered(f"status {status}")

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_of_3xx_is_a_failure_and_never_followed(self, status: int) -> None:
        async with loopback(answering(reply("204 No Content"))) as elsewhere:
            away = reply(f"{status} Elsewhere", f"Location: {elsewhere.url}/")
            async with loopback(answering(away)) as server, client_of(server) as client:
                assert await client.deliver(MESSAGE, BODY) == NotDelivered(f"status {status}")

            assert elsewhere.connections == 0

    @pytest.mark.parametrize(("header", "seconds"), [("7", 7), ("0", 0), ("86400", 3600)])
    async def test_may_ask_to_be_left_alone_for_an_hour_at_most(self, header: str, seconds: int) -> None:
        answer = reply("503 Busy", f"Retry-After: {header}")
        async with loopback(answering(answer)) as server, client_of(server) as client:
            delivery = await client.deliver(MESSAGE, BODY)

        assert delivery == NotDelivered("status 503", retry_after=timedelta(seconds=seconds))

    async def test_that_asks_for_nonsense_asks_for_nothing(self) -> None:
        answer = reply("429 Busy", "Retry-After: soon")
        async with loopback(answering(answer)) as server, client_of(server) as client:
            assert await client.deliver(MESSAGE, BODY) == NotDelivered("status 429")

    async def test_counts_by_its_status_though_its_body_never_ends(self) -> None:
        async with loopback(flooding) as server, client_of(server) as client:
            assert await client.deliver(MESSAGE, BODY) == Delivered()

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nContent-Type: x; charset=nonsense\r\nContent-Length: 3\r\n\r\nabc",
        ],
        ids=["cut short", "no chunk", "no gzip", "no charset"],
    )
    async def test_counts_by_its_status_though_its_body_is_broken(self, answer: bytes) -> None:
        async with loopback(answering(answer)) as server, client_of(server) as client:
            assert await client.deliver(MESSAGE, BODY) == Delivered()

    async def test_counts_by_its_status_though_its_body_does_not_come_before_the_deadline(self) -> None:
        async def saying_no_more(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            await writer.drain()
            await asyncio.Event().wait()

        async with loopback(saying_no_more) as server, client_of(server, deadline=BRIEF) as client:
            assert await client.deliver(MESSAGE, BODY) == Delivered()


class TestNoAnswer:
    @pytest.mark.parametrize("script", [never_answering, dripping_head], ids=["silence", "a dripping head"])
    async def test_ends_at_the_deadline(self, script: Script) -> None:
        async with loopback(script) as server, client_of(server, deadline=BRIEF) as client:
            delivery = await client.deliver(MESSAGE, BODY)

        assert isinstance(delivery, NotDelivered)
        assert not delivery.is_refused

    @pytest.mark.parametrize(
        "script",
        [hanging_up, answering(b""), answering(b"SSH-2.0-OpenSSH_9.9\r\n"), answering(b"HTTP/1.1 2")],
        ids=["reset", "nothing", "no http", "half a line"],
    )
    async def test_is_not_delivered(self, script: Script) -> None:
        async with loopback(script) as server, client_of(server) as client:
            delivery = await client.deliver(MESSAGE, BODY)

        assert isinstance(delivery, NotDelivered)
        assert (delivery.is_refused, delivery.retry_after) == (False, None)

    async def test_where_nobody_listens_says_so(self) -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
            url = f"http://127.0.0.1:{held.getsockname()[1]}/"
            async with SubscriberClient(url, secrets=[SECRET]) as client:
                assert await client.deliver(MESSAGE, BODY) == NotDelivered("ConnectError")

    async def test_a_cancelled_delivery_stays_cancelled(self) -> None:
        async with loopback(never_answering) as server, client_of(server) as client:
            delivery = asyncio.create_task(client.deliver(MESSAGE, BODY))
            await server.asked.wait()

            delivery.cancel()

            with pytest.raises(asyncio.CancelledError):
                await delivery


class TestConfiguration:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "shop.example/events",
            "ftp://shop.example/events",
            "http://",
            "http://user:pass@shop.example/",
            "http://shop.example/#here",
            "http://shop.example:99999/",
            "http://[::1/",
        ],
    )
    def test_an_address_that_cannot_be_right_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="address of the receiver") as caught:
            SubscriberClient(url, secrets=[SECRET])

        assert "pass" not in str(caught.value)

    @pytest.mark.parametrize(
        "secret",
        [
            "",
            "whsec_",
            SECRET.removeprefix("whsec_"),
            SECRET.rstrip("=")[:-1],
            SECRET + "!",
            SECRET + "\n",
            "whsec_비밀",
            "whsec_" + base64.b64encode(b"x" * 23).decode(),
            "whsec_" + base64.b64encode(b"x" * 65).decode(),
        ],
    )
    def test_a_secret_that_cannot_be_right_is_refused_without_being_told(self, secret: str) -> None:
        with pytest.raises(ValueError, match="whsec_") as caught:
            SubscriberClient("http://shop.example/", secrets=[NEXT_SECRET, secret])

        assert SECRET[6:20] not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_without_a_secret_nothing_could_be_signed(self) -> None:
        with pytest.raises(ValueError, match="at least one secret"):
            SubscriberClient("http://shop.example/", secrets=[])
