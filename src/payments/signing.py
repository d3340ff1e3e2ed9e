"""Whether a webhook was signed by somebody who knows a secret: pure functions that no input makes raise."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

_HEX_DIGEST = re.compile(r"(?:sha256=)?([0-9A-Fa-f]{64})")
_HEX_KEY = re.compile(r"[0-9A-Fa-f]{64}")
_TIME = re.compile(r"[0-9TZ:.+-]{1,40}")  # the standard parser takes more: a NUL at the end, any letter for the T
# Toss sends one value for each of its two keys; a long list would only make us work.
_MOST_VALUES: Final = 5
_DIGEST_BYTES: Final = 32


def is_same(a: str, b: str) -> bool:
    """Compare two texts in a time that tells neither how much of them agrees nor whether they are of one length."""
    return _is_same_digest(hashlib.sha256(_bytes(a)).digest(), hashlib.sha256(_bytes(b)).digest())


def is_signed_by(header: str, body: bytes, secrets: Sequence[str]) -> bool:
    """Check the hexadecimal HMAC-SHA256 of the raw body, with or without `sha256=` before it.

    Any of the secrets may have signed. An empty one signs nothing: everybody knows it.
    """
    found = _HEX_DIGEST.fullmatch(header)
    if found is None:
        return False
    digest = bytes.fromhex(found[1])
    return _is_any_of(digest, _digests(body, [_bytes(secret) for secret in secrets if secret]))


def is_signed_by_toss(
    header: str,
    transmission_time: str,
    body: bytes,
    secrets: Sequence[str],
    *,
    at: datetime,
    tolerance: timedelta = timedelta(minutes=5),
) -> bool:
    """Check `tosspayments-webhook-signature` as Toss computes it.

    It covers `{raw body}:{transmission time}` (https://docs.tosspayments.com/reference/using-api/webhook-events). One
    genuine value of several is enough, because two keys live side by side while one replaces the other.

    Args:
        header: `v1:<base64>`, perhaps several with commas between.
        transmission_time: The header of that name as it came; with an offset, or it proves nothing.
        body: The raw bytes; JSON that was written anew has another signature.
        secrets: The security keys. Whether Toss signs with their text or with the 32 bytes that their 64 hexadecimal
            digits stand for is not documented, so both count.
        at: Now, with an offset.
        tolerance: How far the transmission may lie in the past or in the future. Every resend has a new time.
    """
    if not _is_recent(transmission_time, at=at, tolerance=tolerance):
        return False
    message = body + b":" + _bytes(transmission_time)
    expected = _digests(message, [key for secret in secrets for key in _toss_keys(secret)])
    return any(_is_any_of(value, expected) for value in _values(header))


def _digests(message: bytes, keys: Sequence[bytes]) -> Sequence[bytes]:
    return [hmac.digest(key, message, hashlib.sha256) for key in keys]


def _is_any_of(digest: bytes, expected: Sequence[bytes]) -> bool:
    return any(_is_same_digest(digest, one) for one in expected)


def _is_same_digest(a: bytes, b: bytes) -> bool:
    # Of one length always, because for others the comparison ends early.
    return len(a) == len(b) == _DIGEST_BYTES and hmac.compare_digest(a, b)


def _toss_keys(secret: str) -> Iterator[bytes]:
    if secret:
        yield _bytes(secret)
    if _HEX_KEY.fullmatch(secret):
        yield bytes.fromhex(secret)


def _values(header: str) -> Iterator[bytes]:
    parts = header.split(",", _MOST_VALUES)
    if len(parts) > _MOST_VALUES:
        return
    for part in parts:
        version, _, text = part.strip(" ").partition(":")
        value = _strict_base64(text)
        if version == "v1" and value is not None:
            yield value


def _strict_base64(text: str) -> bytes | None:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None
    # The decoder ignores the spare bits of the last digit, so that several texts would pass for one value.
    return value if base64.b64encode(value) == _bytes(text) else None


def _is_recent(transmission_time: str, *, at: datetime, tolerance: timedelta) -> bool:
    if _TIME.fullmatch(transmission_time) is None:
        return False
    try:
        sent_at = datetime.fromisoformat(transmission_time)
        return sent_at.tzinfo is not None and abs(at - sent_at) <= tolerance
    except (ValueError, OverflowError):  # OverflowError: an offset leads out of the calendar
        return False


def _bytes(text: str) -> bytes:
    # A lone surrogate, which JSON can carry, is no text of UTF-8; it only has to be different from everything else.
    return text.encode("utf-8", "surrogatepass")
