"""Tokens of the identity provider: what is one, what is not, and how long its keys outlive it."""

import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import httpx
import jwt
import pytest
import respx
from cryptography.hazmat.primitives import serialization

from payments.gateways.identity import Identified, IdentityUnreachable, NotIdentified
from payments.gateways.jwks import KEPT_FOR, LONGEST_TOKEN, JwksClient
from tests.access.identity import (
    AUDIENCE,
    CURVE_KEY,
    HOUR,
    ISSUER,
    KEY,
    OTHER_KEY,
    URL,
    Provider,
    a_key,
    a_token,
    claims,
    public,
    public_curve,
)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with respx.mock(assert_all_called=False) as router:
        yield Provider(router)


@pytest.fixture
async def identity(provider: Provider, clock: Clock) -> AsyncIterator[JwksClient]:
    async with JwksClient(URL, issuer=ISSUER, audience=AUDIENCE, clock=clock) as client:
        yield client


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def public_pem() -> bytes:
    encoding, shape = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return KEY.public_key().public_bytes(encoding, shape)


def signed_with_the_public_key() -> str:
    """What the library itself refuses to make: HS256 with the public key for a shared secret."""
    import hashlib  # noqa: PLC0415 - of this forgery alone
    import hmac  # noqa: PLC0415 - the same

    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'first'})}.{part(claims())}"
    digest = hmac.digest(public_pem(), signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def with_another_body(token: str) -> str:
    head, _, signature = token.split(".")
    return f"{head}.{part(claims(sub='buyer-2'))}.{signature}"


# Each is a token that somebody would like to pass for one.
FORGERIES: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "no token": lambda: "token",
    "two dots": lambda: "..",
    "no algorithm": lambda: f"{part({'alg': 'none', 'kid': 'first'})}.{part(claims())}.",
    "no algorithm in capitals": lambda: f"{part({'alg': 'NONE', 'kid': 'first'})}.{part(claims())}.",
    "the public key as a secret": signed_with_the_public_key,
    "another key under our name": lambda: a_token(OTHER_KEY),
    "a key of its own in the header": lambda: a_token(OTHER_KEY, header={"jwk": public(OTHER_KEY)}),
    "keys at an address of its own": lambda: a_token(OTHER_KEY, header={"jku": "https://evil.example/keys"}),
    "a certificate of its own": lambda: a_token(OTHER_KEY, header={"x5u": "https://evil.example/cert"}),
    "a name that is a path": lambda: a_token(header={"kid": "../../../dev/null"}),
    "a name that is a statement": lambda: a_token(header={"kid": "first' OR '1'='1"}),
    "a name that is an address": lambda: a_token(header={"kid": "https://evil.example/keys"}),
    "another algorithm of the same key": lambda: a_token(algorithm="PS256"),
    "a longer hash": lambda: a_token(algorithm="RS512"),
    "expired": lambda: a_token(exp=int(time.time()) - HOUR),
    "without an end": lambda: a_token(exp=None),
    "an end that is no time": lambda: a_token(exp="never"),
    "an end that never comes": lambda: a_token(exp=float("inf")),
    "not yet valid": lambda: a_token(nbf=int(time.time()) + HOUR),
    "made tomorrow": lambda: a_token(iat=int(time.time()) + 24 * HOUR),
    "for somebody else": lambda: a_token(aud="another-api"),
    "for nobody": lambda: a_token(aud=None),
    "by somebody else": lambda: a_token(iss="https://id.evil.example"),
    "by nearly the same": lambda: a_token(iss=f"{ISSUER}/"),
    "by nobody": lambda: a_token(iss=None),
    "about nobody": lambda: a_token(sub=None),
    "about an empty name": lambda: a_token(sub=""),
    "about a name with a NUL": lambda: a_token(sub="buyer\0"),
    "about a name that is too long": lambda: a_token(sub="b" * 256),
    "of another type": lambda: a_token(header={"typ": "secevent+jwt"}),
    "with an extension that is critical": lambda: a_token(header={"crit": ["exp"]}),
    "another body": lambda: with_another_body(a_token()),
    "a signature that is cut": lambda: a_token()[:-4],
    "a signature that goes on": lambda: a_token() + "AAAA",
    "four parts": lambda: a_token() + "." + part({}),
    "too long": lambda: a_token(more="x" * LONGEST_TOKEN),
    "not ASCII": lambda: a_token() + "é",
    "deeply nested": lambda: f"{part({'alg': 'RS256'})}.{'W' * 4000}.AAAA",
}


class TestToken:
    async def test_of_the_provider_says_who_it_is(self, identity: JwksClient) -> None:
        assert await identity.identify(a_token()) == Identified("buyer-1", frozenset())

    @pytest.mark.parametrize("kind", ["JWT", "at+jwt", "application/at+jwt", None])
    async def test_may_say_its_type(self, identity: JwksClient, kind: str | None) -> None:
        assert isinstance(await identity.identify(a_token(header={"typ": kind})), Identified)

    async def test_may_be_for_several(self, identity: JwksClient) -> None:
        assert isinstance(await identity.identify(a_token(aud=["shop", AUDIENCE])), Identified)

    async def test_without_a_key_name_is_read_with_the_only_key(self, identity: JwksClient) -> None:
        assert isinstance(await identity.identify(a_token(header={"kid": None})), Identified)

    async def test_of_an_elliptic_curve_is_read_too(self, identity: JwksClient, provider: Provider) -> None:
        provider.keys.append(public_curve(CURVE_KEY, "curve"))

        answer = await identity.identify(a_token(CURVE_KEY, algorithm="ES256", header={"kid": "curve"}))

        assert isinstance(answer, Identified)

    @pytest.mark.parametrize("scope", ["openid payments:read payments:refund", ["payments:read", "payments:refund", 7]])
    async def test_says_what_it_allows(self, identity: JwksClient, scope: object) -> None:
        assert await identity.identify(a_token(scope=scope)) == Identified("buyer-1", frozenset({"read", "refund"}))

    @pytest.mark.parametrize("scope", ["", "read refund", "payments:", {"payments:read": True}, 5, None])
    async def test_allows_nothing_by_other_words(self, identity: JwksClient, scope: object) -> None:
        answer = await identity.identify(a_token(scope=scope))

        assert isinstance(answer, Identified)
        assert not answer.scopes & {"read", "refund", "pay"}

    @pytest.mark.parametrize("forgery", FORGERIES)
    async def test_that_is_forged_says_nothing(self, identity: JwksClient, forgery: str) -> None:
        assert isinstance(await identity.identify(FORGERIES[forgery]()), NotIdentified)

    async def test_says_nothing_after_any_change_of_a_byte(self, identity: JwksClient) -> None:
        token = a_token()

        for place in range(0, len(token), 7):
            changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
            assert isinstance(await identity.identify(changed), NotIdentified), place


class TestKeys:
    @pytest.mark.parametrize(
        "published",
        [
            {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "first", "alg": "HS256"},
            public(KEY, use="enc"),
            public(KEY, alg="RS512"),
            public(KEY, kty="unknown"),
            public(KEY, n="AQAB"),
            public(a_key(1024)),
            {"kid": "first"},
            "first",
            None,
        ],
    )
    async def test_of_other_kinds_sign_nothing(
        self, identity: JwksClient, provider: Provider, published: object
    ) -> None:
        provider.keys = [published, public(OTHER_KEY, "second")]  # type: ignore[list-item] # what it may publish

        assert isinstance(await identity.identify(a_token()), NotIdentified)
        assert isinstance(await identity.identify(a_token(OTHER_KEY, header={"kid": "second"})), Identified)

    async def test_are_asked_for_once(self, identity: JwksClient, provider: Provider) -> None:
        for _ in range(20):
            await identity.identify(a_token())

        assert provider.asked == 1

    async def test_that_are_new_are_found_at_once(self, identity: JwksClient, provider: Provider, clock: Clock) -> None:
        await identity.identify(a_token())
        provider.keys.append(public(OTHER_KEY, "second"))
        clock.now += 60

        assert isinstance(await identity.identify(a_token(OTHER_KEY, header={"kid": "second"})), Identified)

    async def test_that_nobody_knows_do_not_make_us_ask_again_and_again(
        self, identity: JwksClient, provider: Provider
    ) -> None:
        for number in range(50):
            assert isinstance(await identity.identify(a_token(header={"kid": f"k{number}"})), NotIdentified)

        assert provider.asked == 1

    async def test_outlive_an_outage_of_the_provider(
        self, identity: JwksClient, provider: Provider, clock: Clock
    ) -> None:
        await identity.identify(a_token())
        provider.is_away = True
        clock.now += KEPT_FOR.total_seconds() - 1

        assert isinstance(await identity.identify(a_token()), Identified)

    async def test_that_are_too_old_prove_nothing(self, identity: JwksClient, provider: Provider, clock: Clock) -> None:
        await identity.identify(a_token())
        provider.is_away = True
        clock.now += KEPT_FOR.total_seconds() + 1

        assert isinstance(await identity.identify(a_token()), IdentityUnreachable)

    async def test_that_cannot_be_had_leave_it_open_who_it_is(self, identity: JwksClient, provider: Provider) -> None:
        provider.is_away = True

        assert isinstance(await identity.identify(a_token()), IdentityUnreachable)

    async def test_are_had_when_the_provider_is_back(
        self, identity: JwksClient, provider: Provider, clock: Clock
    ) -> None:
        provider.is_away = True
        await identity.identify(a_token())
        provider.is_away = False
        clock.now += 11

        assert isinstance(await identity.identify(a_token()), Identified)

    async def test_that_were_withdrawn_prove_nothing_once_the_provider_has_said_so(
        self, identity: JwksClient, provider: Provider, clock: Clock
    ) -> None:
        await identity.identify(a_token())
        provider.keys = [public(OTHER_KEY, "second")]
        clock.now += 3600
        await identity.identify(a_token(OTHER_KEY, header={"kid": "second"}))  # asks, and waits for the answer

        assert isinstance(await identity.identify(a_token()), NotIdentified)

    @pytest.mark.parametrize(
        "answer",
        [
            httpx.Response(302, headers={"location": "https://evil.example/keys"}),
            httpx.Response(500),
            httpx.Response(200, text="<html>"),
            httpx.Response(200, json=[]),
            httpx.Response(200, json={"keys": "none"}),
            httpx.Response(200, json={"keys": []}),
            httpx.Response(200, content=b"[" * 100_000),
            httpx.Response(200, json={"keys": [], "more": "x" * 300_000}),
            httpx.Response(200, content=b"\xff\xfe"),
        ],
        ids=lambda answer: f"{answer.status_code} {answer.content[:12]!r}",
    )
    async def test_are_not_taken_from_an_answer_that_is_none(
        self, identity: JwksClient, provider: Provider, answer: httpx.Response
    ) -> None:
        provider.router.get(URL).mock(return_value=answer)

        assert isinstance(await identity.identify(a_token()), IdentityUnreachable)

    async def test_keep_what_they_were_when_the_provider_answers_nonsense(
        self, identity: JwksClient, provider: Provider, clock: Clock
    ) -> None:
        await identity.identify(a_token())
        provider.keys = []
        clock.now += 3600
        await identity.identify(a_token(header={"kid": "unknown"}))

        assert isinstance(await identity.identify(a_token()), Identified)


def test_the_forgeries_are_forged_from_a_token_that_would_pass() -> None:
    assert jwt.decode(a_token(), KEY.public_key(), algorithms=["RS256"], audience=AUDIENCE)["sub"] == "buyer-1"
