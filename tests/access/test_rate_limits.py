"""Shares: one client that asks for too much is told when to come back, and no other one notices."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import psycopg
import pytest
from starlette.types import Scope

from payments.api.rate_limits import Limit, address_of
from payments.errors import TooManyRequests
from payments.settings import Rate, Settings
from tests.access.conftest import serving
from tests.access.identity import KNOWN, Provider, a_token
from tests.integration.world import ORDER, prepare_body
from tests.keys import API_KEY, AUTHORIZATION, let_in

FIVE: Rate = Rate(5, 3600.0)
OTHER = f"payk_Other001_{'o' * 43}"


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def taken(limit: Limit, client: str, times: int) -> int:
    """How many of so many requests are let through."""
    count = 0
    for _ in range(times):
        try:
            limit.take(client)
        except TooManyRequests:
            continue
        count += 1
    return count


class TestLimit:
    def test_lets_a_whole_share_through_at_once(self) -> None:
        assert taken(Limit("x", Rate(300, 60.0), clock=Clock()), "a", 1000) == 300

    def test_fills_up_evenly(self) -> None:
        clock = Clock()
        limit = Limit("x", Rate(60, 60.0), clock=clock)
        taken(limit, "a", 60)

        clock.now = 10.001

        assert taken(limit, "a", 60) == 10

    def test_never_lets_more_than_two_shares_through_in_its_time(self) -> None:
        clock = Clock()
        limit = Limit("x", Rate(10, 10.0), clock=clock)
        through = 0

        for _ in range(1000):
            clock.now += 0.01
            through += taken(limit, "a", 1)

        assert through <= 20

    def test_says_when_to_come_back_and_means_it(self) -> None:
        clock = Clock()
        limit = Limit("x", Rate(10, 60.0), clock=clock)
        taken(limit, "a", 10)

        with pytest.raises(TooManyRequests) as refused:
            limit.take("a")
        clock.now += refused.value.retry_after.total_seconds()

        limit.take("a")

    def test_of_one_client_is_not_another_ones(self) -> None:
        limit = Limit("x", FIVE, clock=Clock())
        taken(limit, "a", 100)

        assert taken(limit, "b", 5) == 5

    def test_remembers_so_many_clients_and_no_more(self) -> None:
        limit = Limit("x", FIVE, clock=Clock(), most=100)

        for number in range(10_000):
            taken(limit, f"client-{number}", 1)

        assert len(limit._free_at) == 100

    def test_checking_counts_nothing(self) -> None:
        limit = Limit("x", FIVE, clock=Clock())

        for _ in range(100):
            limit.check("a")

        assert taken(limit, "a", 10) == 5


class TestAddress:
    @pytest.mark.parametrize(
        ("host", "client"),
        [
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("not:an:address", "not:an:address"),
        ],
    )
    def test_is_the_network_of_an_ipv6_client(self, host: str, client: str) -> None:
        assert address_of({"type": "http", "client": (host, 1)}) == client

    @pytest.mark.parametrize("scope", [{}, {"client": None}])
    def test_of_nobody_is_one_of_its_own(self, scope: Scope) -> None:
        assert address_of(scope) == ""


def from_address(client: httpx.AsyncClient, address: str) -> httpx.AsyncClient:
    """The same API, asked from another machine."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    elsewhere = httpx.ASGITransport(app=transport.app, client=(address, 123))
    return httpx.AsyncClient(transport=elsewhere, base_url="http://api")


async def statuses(client: httpx.AsyncClient, times: int, url: str, **more: dict[str, str]) -> list[int]:
    return [(await client.get(url, headers=more.get("headers"))).status_code for _ in range(times)]


class TestBuyers:
    async def test_are_told_when_to_come_back_while_others_are_served(self, settings: Settings) -> None:
        async with serving(settings, rate_limit_buyers=FIVE) as one, from_address(one, "192.0.2.2") as other:
            url = f"/payments/orders/{ORDER}"
            assert await statuses(one, 6, url) == [404] * 5 + [429]

            refused = await one.get(url)

            assert refused.json()["code"] == "too_many_requests"
            assert refused.headers["content-type"] == "application/problem+json"
            assert 1 <= int(refused.headers["retry-after"]) <= 720
            assert await statuses(other, 5, url) == [404] * 5

    async def test_are_refused_before_their_body_is_looked_at(self, settings: Settings) -> None:
        async with serving(settings, rate_limit_buyers=FIVE) as one:
            await statuses(one, 5, f"/payments/orders/{ORDER}")

            answers = [
                await one.post("/payments/prepare", json=prepare_body()),
                await one.post("/payments/confirm", content=b"{" * 1_000_000),
            ]

        assert [answer.status_code for answer in answers] == [429, 429]

    @pytest.mark.usefixtures("provider")
    async def test_that_are_known_have_a_share_too(self, settings: Settings) -> None:
        token = {"authorization": f"Bearer {a_token()}"}

        async with serving(settings, rate_limit_buyers=FIVE, **KNOWN) as one:
            assert await statuses(one, 6, f"/payments/orders/{ORDER}", headers=token) == [404] * 5 + [429]

    async def test_may_be_told_from_a_page_of_the_shop(self, settings: Settings) -> None:
        async with serving(settings, rate_limit_buyers=FIVE) as one:
            await statuses(one, 5, f"/payments/orders/{ORDER}")
            refused = await one.get(f"/payments/orders/{ORDER}", headers={"origin": settings.allowed_origins[0]})

        assert refused.headers["access-control-allow-origin"] == settings.allowed_origins[0]
        assert "retry-after" in refused.headers["access-control-expose-headers"].lower()


class TestClients:
    async def test_share_nothing_with_each_other_nor_with_buyers(self, settings: Settings, database: str) -> None:
        let_in(database, OTHER, name="other")
        headers = {"authorization": f"Bearer {OTHER}"}

        async with serving(settings, rate_limit_clients=FIVE) as one:
            assert await statuses(one, 6, "/events", headers=AUTHORIZATION) == [200] * 5 + [429]
            assert await statuses(one, 5, "/events", headers=headers) == [200] * 5
            assert await statuses(one, 1, f"/payments/orders/{ORDER}") == [404]

    async def test_have_one_share_for_two_keys_of_theirs(self, settings: Settings, database: str) -> None:
        let_in(database, OTHER)
        headers = {"authorization": f"Bearer {OTHER}"}

        async with serving(settings, rate_limit_clients=FIVE) as one:
            await statuses(one, 5, "/events", headers=AUTHORIZATION)
            assert await statuses(one, 1, "/events", headers=headers) == [429]


class TestGuesses:
    async def test_are_stopped_by_address_while_a_key_that_is_known_works(self, settings: Settings) -> None:
        async with serving(settings, rate_limit_failures=FIVE) as one:
            assert await statuses(one, 1, "/events", headers=AUTHORIZATION) == [200]

            guessed = [
                (await one.get("/events", headers={"authorization": f"Bearer payk_Guess{n:03}_{'g' * 43}"})).status_code
                for n in range(8)
            ]

            assert guessed == [401] * 5 + [429] * 3
            assert await statuses(one, 3, "/events", headers=AUTHORIZATION) == [200] * 3

    async def test_at_one_key_from_everywhere_do_not_hold_it_back(self, settings: Settings) -> None:
        """What can be seen of a key is no secret; who knows it must not be able to lock its client out."""
        near = {"authorization": f"Bearer {API_KEY[:-1]}x"}

        async with serving(settings, rate_limit_failures=FIVE) as one:
            for number in range(20):
                async with from_address(one, f"192.0.2.{number}") as elsewhere:
                    assert await statuses(elsewhere, 1, "/events", headers=near) == [401]

            assert await statuses(one, 1, "/events", headers=AUTHORIZATION) == [200]

    async def test_cost_the_share_of_the_address_whatever_they_ask_for(self, settings: Settings) -> None:
        """Showing something is no way around the share of those who show nothing."""
        bogus = {"authorization": "Bearer x"}
        async with serving(settings, rate_limit_buyers=FIVE) as one:
            urls = ["/events?x=1", "/nowhere", "/events?x=1", "/nowhere", "/events?x=1", "/nowhere"]

            seen = [(await one.get(url, headers=bogus)).status_code for url in urls]

        assert seen == [400, 404, 400, 404, 400, 429]

    async def test_with_a_key_that_was_revoked_are_guesses(self, settings: Settings, database: str) -> None:
        let_in(database, OTHER)
        shown = {"authorization": f"Bearer {OTHER}"}
        async with serving(settings, rate_limit_failures=FIVE) as one:
            assert await statuses(one, 1, "/events", headers=shown) == [200]
            with psycopg.connect(database.replace("+psycopg", "", 1)) as connection:
                connection.execute(
                    "UPDATE api_keys SET revoked_at = now(), revoked_by = 'kim' WHERE name = 'back-office'"
                )

            assert await statuses(one, 8, "/events", headers=shown) == [401] * 5 + [429] * 3

    async def test_at_tokens_are_stopped_while_real_ones_work(self, settings: Settings, provider: Provider) -> None:
        wrong, right = ({"authorization": f"Bearer {token}"} for token in (a_token(exp=1), a_token()))

        async with serving(settings, rate_limit_failures=FIVE, **KNOWN) as one:
            assert await statuses(one, 7, f"/payments/orders/{ORDER}", headers=wrong) == [401] * 5 + [429] * 2
            assert await statuses(one, 1, f"/payments/orders/{ORDER}", headers=right) == [404]
        assert provider.asked == 1


class TestWebhooks:
    async def test_are_limited_by_address_before_anything_is_stored(self, settings: Settings) -> None:
        async with serving(settings, rate_limit_webhooks=FIVE) as one, from_address(one, "192.0.2.2") as toss:
            body = {"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": "2026-01-01T00:00:00", "data": {}}

            answers = [(await one.post("/webhook/toss", json=body)).status_code for _ in range(7)]

            assert answers == [200] * 5 + [429] * 2
            assert (await toss.post("/webhook/toss", json=body)).status_code == 200


class TestLargeBodies:
    async def test_cost_as_much_as_several_small_ones(self, settings: Settings) -> None:
        body = b"[" + b"[]," * 80_000 + b"[]]"

        async with serving(settings, rate_limit_webhooks=Rate(20, 3600.0)) as one:
            headers = {"content-type": "application/json"}
            seen = [(await one.post("/webhook/toss", content=body, headers=headers)).status_code for _ in range(3)]

        assert seen == [400, 400, 429]

    async def test_that_do_not_say_how_long_they_are_cost_the_most(self, settings: Settings) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"{}"

        async with serving(settings, rate_limit_webhooks=Rate(20, 3600.0)) as one:
            headers = {"content-type": "application/json"}
            seen = [(await one.post("/webhook/toss", content=pieces(), headers=headers)).status_code for _ in range(3)]

        assert seen == [400, 400, 429]


class TestMachines:
    @pytest.mark.parametrize("url", ["/health/live", "/health/ready", "/metrics"])
    async def test_that_watch_over_us_are_never_refused(self, settings: Settings, url: str) -> None:
        async with serving(settings, rate_limit_buyers=Rate(1, 3600.0), rate_limit_webhooks=Rate(1, 3600.0)) as one:
            assert 429 not in await statuses(one, 5, url)
