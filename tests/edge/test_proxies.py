"""Who asks, where proxies stand between: what rate limits and logs may rely on."""

from collections.abc import Sequence
from typing import Final

import httpx
import pytest
from starlette.requests import Request

from payments.api.app import create_app
from payments.settings import read_settings
from tests.edge.conftest import LOCAL

PROXY: Final = "10.0.0.7"
EDGE: Final = "10.0.9.1"  # a second proxy, before the first
CLIENT: Final = "203.0.113.9"


async def seen(headers: Sequence[tuple[str, str]], *, trusted: str, peer: str = PROXY) -> tuple[str, str]:
    """The client and the scheme that a route sees."""
    app = create_app(read_settings({**LOCAL, "TRUSTED_PROXIES": trusted}))

    @app.get("/who")
    async def who(request: Request) -> list[str]:
        assert request.client is not None
        return [request.client.host, request.url.scheme]

    transport = httpx.ASGITransport(app=app, client=(peer, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        client, scheme = (await http.get("/who", headers=list(headers))).json()
    return client, scheme


class TestNobodyTrusted:
    async def test_says_who_else_asks(self) -> None:
        headers = [("x-forwarded-for", CLIENT), ("x-forwarded-proto", "https")]

        assert await seen(headers, trusted="", peer="127.0.0.1") == ("127.0.0.1", "http")


class TestTrustedProxy:
    @pytest.mark.parametrize("trusted", [PROXY, "10.0.0.0/24", f"192.0.2.1, {PROXY}"])
    async def test_is_believed(self, trusted: str) -> None:
        headers = [("x-forwarded-for", CLIENT), ("x-forwarded-proto", "https")]

        assert await seen(headers, trusted=trusted) == (CLIENT, "https")

    async def test_is_believed_by_its_address_alone(self) -> None:
        headers = [("x-forwarded-for", CLIENT), ("x-forwarded-proto", "https")]

        assert await seen(headers, trusted=PROXY, peer="10.0.0.8") == ("10.0.0.8", "http")

    async def test_that_says_nothing_is_the_client(self) -> None:
        assert await seen([], trusted=PROXY) == (PROXY, "http")

    @pytest.mark.parametrize(
        "headers",
        [
            [("x-forwarded-for", f"198.51.100.1, {CLIENT}")],
            [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", CLIENT)],
            [("x-forwarded-for", f"{PROXY}, {CLIENT}")],
            [("x-forwarded-for", f"unknown, , 127.0.0.1, {CLIENT}")],
            [("x-forwarded-for", f"{'198.51.100.1, ' * 200}{CLIENT}")],
            [("x-forwarded-for", CLIENT), ("forwarded", "for=198.51.100.1"), ("x-real-ip", "198.51.100.1")],
        ],
    )
    async def test_is_not_outwitted_by_what_the_client_had_claimed(self, headers: list[tuple[str, str]]) -> None:
        assert (await seen(headers, trusted=PROXY))[0] == CLIENT

    async def test_behind_another_one_tells_who_came_first(self) -> None:
        headers = [("x-forwarded-for", f"198.51.100.1, {CLIENT}, {EDGE}")]

        assert (await seen(headers, trusted=f"{PROXY},{EDGE}"))[0] == CLIENT

    async def test_behind_one_that_is_not_trusted_tells_of_that_one(self) -> None:
        headers = [("x-forwarded-for", f"{CLIENT}, {EDGE}")]

        assert (await seen(headers, trusted=PROXY))[0] == EDGE

    @pytest.mark.parametrize(
        "claim", ["", " ", ",", "unknown", "_hidden", "<script>", "1.2.3", "1.2.3.4.5", "1.2.3.4; DROP", "a" * 4_000]
    )
    async def test_that_names_no_address_is_the_client(self, claim: str) -> None:
        """So that nobody who keeps accounts by address meets what is none."""
        assert (await seen([("x-forwarded-for", claim)], trusted=PROXY))[0] == PROXY

    @pytest.mark.parametrize(
        ("claim", "client"),
        [
            ("203.0.113.9:4711", CLIENT),
            ("::ffff:203.0.113.9", CLIENT),
            ("2001:DB8:0:0::1", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
        ],
    )
    async def test_names_a_client_in_one_spelling(self, claim: str, client: str) -> None:
        """Or else one client has as many accounts as its address has spellings."""
        assert (await seen([("x-forwarded-for", claim)], trusted=PROXY))[0] == client

    @pytest.mark.parametrize("scheme", ["ftp", "https, http", "", "HTTPS\\", "javascript"])
    async def test_that_names_no_scheme_of_ours_changes_none(self, scheme: str) -> None:
        assert (await seen([("x-forwarded-proto", scheme)], trusted=PROXY))[1] == "http"
