"""The identity provider: who a signed token (JWT, RFC 7519) was given to, by the keys that the provider publishes."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, Self

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK

from payments.gateways.bounded import Unreadable, read_bounded
from payments.gateways.identity import Identified, Identity, IdentityUnreachable, NotIdentified

log = structlog.get_logger()

# Signatures by a private key alone. With a shared secret among them, the public key would pass for one.
ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA")
MIN_RSA_BITS: Final = 2048  # RFC 7518, section 3.3
LONGEST_TOKEN: Final = 8 * 1024
LONGEST_SUBJECT: Final = 255  # https://openid.net/specs/openid-connect-core-1_0.html, section 2
LEEWAY: Final = timedelta(seconds=30)  # clocks differ
TOKEN_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})  # RFC 9068, section 2.1
SCOPE_PREFIX: Final = "payments:"

MAX_ANSWER_BYTES: Final = 256 * 1024
DEADLINE: Final = timedelta(seconds=5)
# Providers announce a new key hours before they use it; asking more often would only make us depend on them.
FRESH_FOR: Final = timedelta(minutes=10)
# An outage may last as long; after it nobody knows whether a key was withdrawn.
KEPT_FOR: Final = timedelta(hours=24)
# Tokens that name keys which nobody has ever seen must not make us ask each time.
ASK_AGAIN_AFTER: Final = timedelta(seconds=10)


class _NoKeys(Exception):
    """The provider answered nothing that can be used; the text says why."""


class JwksClient:
    """An identity provider by its published keys (JWKS, RFC 7517), kept so that an outage of it goes unnoticed.

    Args:
        url: Where the keys are; nothing that stands in a token leads anywhere else.
        issuer: What `iss` has to be, to the letter.
        audience: What `aud` has to be or contain.
        clock: Seconds that only grow.
        transport: Replaces the network in tests.
    """

    def __init__(
        self,
        url: str,
        *,
        issuer: str,
        audience: str,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(DEADLINE.total_seconds(), connect=3),
            follow_redirects=False,
            trust_env=False,
            transport=transport,
            headers={"accept": "application/json", "accept-encoding": "identity"},
        )
        self._keys: Mapping[str, PyJWK] = {}
        self._fetched_at = self._asked_at = float("-inf")
        self._failure: str | None = "not asked yet"
        self._asking = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait([self._renewal])
        await self._http.aclose()

    async def identify(self, token: str) -> Identity:
        """Check signature, issuer, audience, times and subject of a token, in this order."""
        try:
            header = _header(token)
        except jwt.PyJWTError as error:
            return NotIdentified(type(error).__name__)
        self._renew_aside()
        key = self._key(header)
        if key is None:
            await self._renew()
            key = self._key(header)
        if key is None and self._failure is not None:
            return IdentityUnreachable(self._failure)
        if key is None or key.algorithm_name != header.get("alg"):
            return NotIdentified("no such key")
        return self._read(token, key)

    def _key(self, header: Mapping[str, object]) -> PyJWK | None:
        if self._age() > KEPT_FOR.total_seconds():
            return None
        name = header.get("kid")
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(name) if isinstance(name, str) else None

    def _read(self, token: str, key: PyJWK) -> Identity:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        # Claims of odd types make the library raise what is none of its own errors.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            return NotIdentified(type(error).__name__)
        subject = claims["sub"]
        if not (isinstance(subject, str) and 0 < len(subject) <= LONGEST_SUBJECT and subject.isprintable()):
            return NotIdentified("no usable subject")
        return Identified(subject, _scopes(claims))

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _renew_aside(self) -> None:
        """Ask for the keys anew while those that are there still serve: nobody waits for the provider."""
        is_fresh = self._age() <= FRESH_FOR.total_seconds()
        is_running = self._renewal is not None and not self._renewal.done()
        if not (is_fresh or is_running) and self._keys:
            self._renewal = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        async with self._asking:
            if self._clock() - self._asked_at < ASK_AGAIN_AFTER.total_seconds():
                return  # somebody else has asked meanwhile
            await self._refresh()
            self._asked_at = self._clock()

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(DEADLINE.total_seconds()):
                self._keys = _usable(await self._fetch())
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, _NoKeys) as error:
            self._failure = str(error) if isinstance(error, _NoKeys) else type(error).__name__
            log.warning("identity.unreachable", reason=self._failure)
            return
        self._failure = None
        self._fetched_at = self._clock()

    async def _fetch(self) -> bytes:
        async with self._http.stream("GET", self._url) as response:
            if response.status_code != httpx.codes.OK:
                raise _NoKeys(f"status {response.status_code}")
            try:
                return await read_bounded(response, longest=MAX_ANSWER_BYTES)
            except Unreadable as error:
                raise _NoKeys(str(error)) from None


def _header(token: str) -> dict[str, object]:
    """The header of a token that may be worth a look.

    Raises:
        jwt.PyJWTError: it is none.
    """
    if len(token) > LONGEST_TOKEN:
        raise jwt.DecodeError
    try:
        header: dict[str, object] = jwt.get_unverified_header(token)
    except (ValueError, RecursionError):  # what is no JSON, for reasons that the library does not foresee
        raise jwt.DecodeError from None
    # A critical extension is one that we do not know: RFC 7515, section 4.1.11.
    if "crit" in header or str(header.get("typ", "")).lower() not in TOKEN_TYPES:
        raise jwt.DecodeError
    return header


def _usable(body: bytes) -> Mapping[str, PyJWK]:
    """The published keys with which tokens are signed; others may stand beside them.

    Raises:
        _NoKeys: there is none.
    """
    try:
        published = json.loads(body)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _NoKeys("not a set of keys") from None
    entries = published if isinstance(published, list) else []
    keys = {str(entry.get("kid", "")): key for entry in entries if (key := _signing_key(entry)) is not None}
    if not keys:
        raise _NoKeys("no usable key")
    return keys


def _signing_key(entry: object) -> PyJWK | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    try:
        key = PyJWK.from_dict(entry)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if key.algorithm_name not in ALGORITHMS:
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < MIN_RSA_BITS:
        return None
    return key


def _scopes(claims: Mapping[str, object]) -> frozenset[str]:
    """What the token allows: `scope` (RFC 8693, section 4.2), in one text or in a list."""
    given = claims.get("scope")
    words = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    return frozenset(
        word.removeprefix(SCOPE_PREFIX) for word in words if isinstance(word, str) and word.startswith(SCOPE_PREFIX)
    )
