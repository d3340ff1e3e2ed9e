"""An identity provider of the stories' own: its keys, its tokens, and everything that is not quite one of them."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import jwt
import respx
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

URL: Final = "https://id.shop.example/keys"
ISSUER: Final = "https://id.shop.example"
AUDIENCE: Final = "payments"
HOUR: Final = 3600
# The settings of an API that knows its buyers.
KNOWN: Final = {"jwt_jwks_url": URL, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}


def a_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


# Making one takes a tenth of a second, and every story can do with the same.
KEY: Final = a_key()
OTHER_KEY: Final = a_key()
CURVE_KEY: Final = ec.generate_private_key(ec.SECP256R1())


def public(key: rsa.RSAPrivateKey, name: str = "first", **more: object) -> dict[str, Any]:
    """As the provider publishes it."""
    return {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": name, "alg": "RS256", "use": "sig", **more}


def public_curve(key: ec.EllipticCurvePrivateKey, name: str) -> dict[str, Any]:
    return {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": name}


def claims(**changes: object) -> dict[str, object]:
    """What a token of a buyer says; None leaves something out."""
    now = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "buyer-1", "iat": now, "exp": now + HOUR, **changes}
    return {name: value for name, value in said.items() if value is not None}


def a_token(
    key: Any = KEY,  # noqa: ANN401 - whatever somebody would sign with
    *,
    algorithm: str = "RS256",
    header: Mapping[str, object] | None = None,
    **changes: object,
) -> str:
    named = {"kid": "first", **(header or {})}
    headers = {name: value for name, value in named.items() if value is not None}
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=headers)


@dataclass
class Provider:
    """Publishes keys on the wire of a test."""

    router: respx.MockRouter
    keys: list[dict[str, Any]] = field(default_factory=lambda: [public(KEY)])
    is_away: bool = False
    asked: int = 0

    def __post_init__(self) -> None:
        self.router.get(URL).mock(side_effect=self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.is_away:
            raise httpx.ConnectError("away", request=request)
        return httpx.Response(200, json={"keys": self.keys})
