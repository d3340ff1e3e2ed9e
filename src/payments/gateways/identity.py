"""Who a token of the shop's customers was given to, as values; `jwks` finds it out.

Apart from it, because only who verifies tokens has use for cryptography, which takes 9 MB.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Identified:
    """The provider gave the token to this subject. `scopes` are those of ours, without what stands before them."""

    subject: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class NotIdentified:
    """The token proves nothing. `reason` is for the log and repeats nothing of the token."""

    reason: str


@dataclass(frozen=True, slots=True)
class IdentityUnreachable:
    """The keys cannot be had, so that nobody can tell."""

    reason: str


Identity = Identified | NotIdentified | IdentityUnreachable


class IdentityProvider(Protocol):
    """What the API needs of whoever knows the shop's buyers."""

    async def identify(self, token: str) -> Identity:
        """Check a token. Never raises for what stands in it, nor for what the provider or the network does."""
        ...
