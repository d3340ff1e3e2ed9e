"""Whom the clients speak to: the clients as they are in production, and a server on loopback with any certificate."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from uuid import UUID

import certifi
import pytest

from payments.gateways.orders import NoSuchOrder, OrdersClient, OrdersUnreachable
from payments.gateways.pg import Approved, Unknown, UnknownBecause
from payments.gateways.subscribers import Delivered, NotDelivered, SubscriberClient
from payments.gateways.toss import TossClient
from tests.gateways.certificates import UNTRUSTED, Authority, antiquated
from tests.gateways.conftest import SECRET_KEY
from tests.gateways.loopback import Script, answering, loopback, never_answering, ok_reply
from tests.gateways.toss_builders import AMOUNT, ORDER_ID, PAYMENT_KEY, a_payment, as_bytes

Ask = Callable[[str], Awaitable[object]]


async def ask_toss(url: str) -> object:
    async with TossClient(base_url=url, secret_key=SECRET_KEY) as client:
        return await client.look_up(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT)


async def ask_orders(url: str) -> object:
    async with OrdersClient(url) as client:
        return await client.find(ORDER_ID)


async def tell_subscriber(url: str) -> object:
    secrets = ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
    async with SubscriberClient(f"{url}/events", secrets=secrets) as client:
        return await client.deliver(UUID(int=1), b"{}")


NOBODY: Final = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
# Each client, what it is answered, what it makes of that, and of a server that it does not speak to.
CLIENTS: Final = {
    "toss": (
        ask_toss,
        answering(ok_reply(as_bytes(a_payment()))),
        Approved,
        Unknown(UnknownBecause.NOT_SENT, message="ConnectError"),
    ),
    "orders": (ask_orders, answering(NOBODY), NoSuchOrder, OrdersUnreachable("ConnectError")),
    "subscriber": (tell_subscriber, answering(ok_reply(b"")), Delivered, NotDelivered("ConnectError")),
}
with_each_client = pytest.mark.parametrize(
    ("ask", "script", "understood", "not_asked"), CLIENTS.values(), ids=CLIENTS.keys()
)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The only one that this machine trusts."""
    authority = Authority.create()
    trusted = authority.write_to(tmp_path / "trusted.pem")
    monkeypatch.setattr(certifi, "where", lambda: str(trusted))
    return authority


@with_each_client
class TestEveryClient:
    async def test_speaks_to_a_server_that_is_who_it_says(
        self, tmp_path: Path, authority: Authority, ask: Ask, script: Script, understood: type, not_asked: object
    ) -> None:
        async with loopback(script, tls=authority.server(tmp_path)) as server:
            answer = await ask(f"https://127.0.0.1:{server.port}")

        assert isinstance(answer, understood)

    @pytest.mark.parametrize("certified", UNTRUSTED.values(), ids=UNTRUSTED.keys())
    async def test_says_nothing_to_a_server_that_is_certified(
        self,
        tmp_path: Path,
        authority: Authority,
        certified: Callable[[Authority, Path], ssl.SSLContext],
        ask: Ask,
        script: Script,
        understood: type,
        not_asked: object,
    ) -> None:
        async with loopback(script, tls=certified(authority, tmp_path)) as server:
            answer = await ask(f"https://127.0.0.1:{server.port}")

        assert answer == not_asked
        assert server.requests == []

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
    async def test_says_nothing_over_tls(
        self,
        tmp_path: Path,
        authority: Authority,
        version: ssl.TLSVersion,
        ask: Ask,
        script: Script,
        understood: type,
        not_asked: object,
    ) -> None:
        async with loopback(script, tls=antiquated(authority.server(tmp_path), version)) as server:
            answer = await ask(f"https://127.0.0.1:{server.port}")

            assert answer == not_asked
            assert server.requests == []
            assert await is_spoken(server.port, version)  # so that it is the client that does not want to

    async def test_is_led_nowhere_by_the_environment(
        self,
        tmp_path: Path,
        authority: Authority,
        monkeypatch: pytest.MonkeyPatch,
        ask: Ask,
        script: Script,
        understood: type,
        not_asked: object,
    ) -> None:
        stranger = Authority.create()
        (tmp_path / "folder").mkdir()
        monkeypatch.setenv("SSL_CERT_FILE", str(stranger.write_to(tmp_path / "stranger.pem")))
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "folder"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        async with loopback(never_answering) as proxy:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)

            async with loopback(script, tls=authority.server(tmp_path)) as server:
                answer = await ask(f"https://127.0.0.1:{server.port}")
            async with loopback(script, tls=stranger.server(tmp_path)) as impostor:
                refused = await ask(f"https://127.0.0.1:{impostor.port}")

        assert isinstance(answer, understood)
        assert refused == not_asked
        assert proxy.connections == 0

    @pytest.mark.parametrize("status", [302, 308])
    async def test_follows_no_redirect(
        self, authority: Authority, status: int, ask: Ask, script: Script, understood: type, not_asked: object
    ) -> None:
        async with loopback(script) as elsewhere:
            head = f"HTTP/1.1 {status} Moved\r\nlocation: {elsewhere.url}/\r\ncontent-length: 0\r\n\r\n"
            async with loopback(answering(head.encode())) as server:
                answer = await ask(server.url)

        assert not isinstance(answer, understood)
        assert (len(server.requests), elsewhere.connections) == (1, 0)


async def is_spoken(port: int, version: ssl.TLSVersion) -> bool:
    """Whether a client that takes anything gets through."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=antiquated(context, version))
    spoken = writer.get_extra_info("ssl_object").version()
    writer.transport.abort()
    del reader
    return str(spoken) == {ssl.TLSVersion.TLSv1: "TLSv1", ssl.TLSVersion.TLSv1_1: "TLSv1.1"}[version]
