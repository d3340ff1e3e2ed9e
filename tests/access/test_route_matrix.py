"""Every route of the API's own description, for everybody who could ask: who is let in, and how much they see.

A route that the table below does not know fails, and so does one that forgets its rule.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from payments.access import Scope
from payments.api.access import OPEN, check_every_route
from payments.api.app import create_app
from tests.access.identity import KEY, a_token
from tests.integration.world import ORDER, REASON, Sandbox, confirm_body, prepare_body, settings_for
from tests.keys import headers_of, let_in

Seen = Literal["all", "status", "nothing there", "401", "403"]


class Rule(StrEnum):
    PAY = "pay"
    READ_ONE = "read one"
    READ = "read"
    REFUND = "refund"
    OPEN = "open"


# The only place to change when a route is added.
RULES: Final[dict[tuple[str, str], Rule]] = {
    ("post", "/payments/prepare"): Rule.PAY,
    ("post", "/payments/confirm"): Rule.PAY,
    ("get", "/payments/orders/{orderId}"): Rule.READ_ONE,
    ("get", "/payments/{paymentKey}"): Rule.READ_ONE,
    ("get", "/payments/{paymentKey}/events"): Rule.READ,
    ("post", "/payments/orders/{orderId}/cancel"): Rule.REFUND,
    ("post", "/payments/{paymentKey}/cancel"): Rule.REFUND,
    ("get", "/events"): Rule.READ,
    ("post", "/webhook/toss"): Rule.OPEN,
    ("get", "/health/live"): Rule.OPEN,
    ("get", "/health/ready"): Rule.OPEN,
    ("get", "/metrics"): Rule.OPEN,
}


def a_key_text(name: str) -> str:
    return f"payk_{name:0<8}_{'x' * 43}"


# What somebody shows; keys are made valid by the fixture below.
ROLES: Final[dict[str, Callable[[], dict[str, str]]]] = {
    "nobody": dict,
    "a key for paying": lambda: headers_of(a_key_text("pay")),
    "a key for reading": lambda: headers_of(a_key_text("read")),
    "a key for refunds": lambda: headers_of(a_key_text("refund")),
    "a key that was revoked": lambda: headers_of(a_key_text("revoked")),
    "a key that has expired": lambda: headers_of(a_key_text("expired")),
    "a key that nobody made": lambda: headers_of(a_key_text("unknown")),
    "a key that is nearly right": lambda: headers_of(a_key_text("read")[:-1] + "y"),
    "the buyer": lambda: headers_of(a_token(sub="buyer-1")),
    "another buyer": lambda: headers_of(a_token(sub="buyer-2")),
    "a token for reading": lambda: headers_of(a_token(sub="clerk", scope="payments:read")),
    "a token for refunds": lambda: headers_of(a_token(sub="clerk", scope="payments:refund")),
    "a token that has expired": lambda: headers_of(a_token(sub="buyer-1", exp=1)),
    "two keys at once": lambda: {"authorization": f"Bearer {a_key_text('read')}, Bearer {a_key_text('refund')}"},
    "a name and a password": lambda: {"authorization": "Basic YWRtaW46YWRtaW4="},
}
PROVES_NOTHING: Final = {
    *("a key that was revoked", "a key that has expired", "a key that nobody made", "a key that is nearly right"),
    *("a token that has expired", "two keys at once", "a name and a password"),
}


def expected(rule: Rule, role: str, *, buyers_are_known: bool) -> Seen:
    """What the design says, in one place."""
    is_token = "token" in role or "buyer" in role
    if rule is Rule.OPEN:
        return "all"
    if role in PROVES_NOTHING or (is_token and not buyers_are_known):
        return "401"
    if role == "nobody":
        is_for_anybody = rule in {Rule.PAY, Rule.READ_ONE} and not buyers_are_known
        return ("status" if rule is Rule.READ_ONE else "all") if is_for_anybody else "401"
    if "buyer" in role:
        if rule not in {Rule.PAY, Rule.READ_ONE}:
            return "403"
        return "all" if role == "the buyer" else "nothing there"
    scope = {"paying": Rule.PAY, "reading": Rule.READ, "refunds": Rule.REFUND}[role.rpartition(" ")[2]]
    needed = Rule.READ if rule is Rule.READ_ONE else rule
    return "all" if scope is needed else "403"


@dataclass(frozen=True)
class World:
    """An API with a payment of `buyer-1` in it that is paid."""

    http: httpx.AsyncClient
    payment_key: str

    async def ask(self, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        url = path.format(orderId=ORDER, paymentKey=self.payment_key)
        bodies = {
            "/payments/prepare": prepare_body(),
            "/payments/confirm": confirm_body(self.payment_key),
            "/webhook/toss": {"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": "2026-01-01T00:00:00", "data": {}},
        }
        if method == "get":
            return await self.http.get(url, headers=headers)
        body = bodies.get(path, {"cancelReason": REASON, "cancelAmount": 100})
        return await self.http.post(url, json=body, headers={"idempotency-key": secrets.token_hex(8), **headers})


def seen_in(answer: httpx.Response) -> Seen:
    if answer.status_code in {401, 403}:
        return "401" if answer.status_code == 401 else "403"
    if answer.status_code == 404:
        return "nothing there"
    is_status_only = answer.request.method == "GET" and set(answer.json() if _is_json(answer) else ()) == {
        *("orderId", "status", "reason", "nextAction", "nextCheckAt"),
    }
    return "status" if is_status_only else "all"


def _is_json(answer: httpx.Response) -> bool:
    return "json" in answer.headers["content-type"]


def make_keys(database: str) -> None:
    for scope in Scope:
        let_in(database, a_key_text(scope.value), name=scope.value, scopes=(scope,))
    let_in(database, a_key_text("revoked"), is_revoked=True)
    let_in(database, a_key_text("expired"), has_expired=True)


@pytest.fixture
async def known(stranger: httpx.AsyncClient, sandbox: Sandbox, database: str) -> World:
    make_keys(database)
    return await _paid(stranger, sandbox, headers_of(a_token(sub="buyer-1")))


@pytest.fixture
async def unknown(anybody: httpx.AsyncClient, sandbox: Sandbox, database: str) -> World:
    make_keys(database)
    return await _paid(anybody, sandbox, {})


async def _paid(http: httpx.AsyncClient, sandbox: Sandbox, headers: dict[str, str]) -> World:
    (await http.post("/payments/prepare", json=prepare_body(), headers=headers)).raise_for_status()
    payment_key = await sandbox.buyer_authenticates()
    (await http.post("/payments/confirm", json=confirm_body(payment_key), headers=headers)).raise_for_status()
    return World(http, payment_key)


async def table_of(world: World, *, buyers_are_known: bool) -> tuple[dict[str, Seen], dict[str, Seen]]:
    """What everybody sees of every route, and what they should."""
    seen: dict[str, Seen] = {}
    right: dict[str, Seen] = {}
    for (method, path), rule in RULES.items():
        for role, headers in ROLES.items():
            name = f"{method} {path} by {role}"
            seen[name] = seen_in(await world.ask(method, path, headers()))
            right[name] = expected(rule, role, buyers_are_known=buyers_are_known)
    return seen, right


class TestEveryRoute:
    def test_of_the_description_has_a_rule_here(self, description: FastAPI) -> None:
        described = {(method, path) for path, methods in description.openapi()["paths"].items() for method in methods}

        assert described == set(RULES)

    def test_that_is_not_open_says_in_the_description_what_it_needs(self, description: FastAPI) -> None:
        for (method, path), rule in RULES.items():
            operation = description.openapi()["paths"][path][method]
            assert ("security" in operation) is (rule is not Rule.OPEN), path
            if rule is not Rule.OPEN:
                assert {"401", "403", "429"} <= set(operation["responses"]), path

    def test_without_a_rule_keeps_the_application_from_starting(self, description: FastAPI) -> None:
        forgotten = APIRouter()

        @forgotten.get("/payments/forgotten")
        async def read_what_was_forgotten() -> dict[str, str]:
            return {}

        description.include_router(forgotten)

        with pytest.raises(LookupError, match="/payments/forgotten"):
            check_every_route(description)

    def test_that_is_open_is_one_of_few(self) -> None:
        assert {path for (_, path), rule in RULES.items() if rule is Rule.OPEN} == OPEN

    async def test_is_for_those_it_is_for_where_buyers_are_known(self, known: World) -> None:
        seen, right = await table_of(known, buyers_are_known=True)

        assert seen == right

    async def test_is_for_those_it_is_for_where_buyers_are_not_known(self, unknown: World) -> None:
        seen, right = await table_of(unknown, buyers_are_known=False)

        assert seen == right

    async def test_says_the_same_of_what_is_hidden_and_of_what_is_not_there(self, known: World) -> None:
        other = headers_of(a_token(sub="buyer-2"))
        pairs = [
            (f"/payments/orders/{ORDER}", "/payments/orders/no-such-order"),
            (f"/payments/{known.payment_key}", "/payments/no-such-key"),
        ]

        for hidden, missing in pairs:
            first, second = [(await known.http.get(url, headers=other)).json() for url in (hidden, missing)]
            for unlike in ("requestId", "instance"):
                first.pop(unlike), second.pop(unlike)
            assert first == second

    async def test_tells_who_is_refused_what_to_show(self, known: World) -> None:
        for role in ("nobody", "a key that nobody made"):
            answer = await known.ask("get", "/events", ROLES[role]())
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.fixture
def description() -> FastAPI:
    return create_app(settings_for("postgresql+psycopg://nobody@nowhere/nothing", "http://127.0.0.1:1"))


def test_tokens_are_signed_with_the_key_that_is_published() -> None:
    assert KEY.key_size == 2048
