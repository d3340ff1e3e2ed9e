"""Who asks, and what they may do: pure data, for every edge the same."""

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

# Recognisable, so that scanners of logs and repositories find one that got lost.
_KEY: Final = re.compile(r"payk_([A-Za-z0-9]{8})_[A-Za-z0-9_-]{43}")
_PREFIX_ALPHABET: Final = string.ascii_letters + string.digits
_PREFIX_LENGTH: Final = 8
_SECRET_BYTES: Final = 32


class Scope(StrEnum):
    """What a client of the API may do; a token of the identity provider says `payments:` before it."""

    PAY = "pay"  # prepare and confirm for any buyer
    READ = "read"  # everything about every payment, and the feed of events
    REFUND = "refund"  # give payments up and money back


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Somebody who shows nothing; a buyer's browser, where buyers are not known."""


@dataclass(frozen=True, slots=True)
class Buyer:
    """Somebody whom the identity provider knows, and who sees what is theirs."""

    subject: str


@dataclass(frozen=True, slots=True)
class Client:
    """A program of the shop, or a person of its back office: sees everything, within its scopes."""

    name: str  # stands in histories
    identity: str  # the same for as long as it is the same client, whatever key it shows
    scopes: frozenset[Scope]
    refund_limit: int | None = None  # won, of one payment in all; None: whatever was paid


Caller = Anonymous | Buyer | Client


@dataclass(frozen=True, slots=True)
class KeyText:
    """An API key as a client shows it."""

    prefix: str  # may be seen
    text: str = field(repr=False)

    @property
    def digest(self) -> bytes:
        """What is kept of it. Plain SHA-256 is enough: the key is 256 random bits, and no word that can be guessed."""
        return hashlib.sha256(self.text.encode()).digest()

    def is_same_as(self, digest: bytes) -> bool:
        return hmac.compare_digest(self.digest, digest)


def new_key() -> KeyText:
    prefix = "".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(_PREFIX_LENGTH))
    return KeyText(prefix, f"payk_{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}")


def read_key(text: str) -> KeyText | None:
    """The key in a text that is one."""
    found = _KEY.fullmatch(text)
    return KeyText(found[1], text) if found else None


def looks_like_key(text: str) -> bool:
    """Whether somebody means it as an API key, well written or not."""
    return text.startswith("payk_")
