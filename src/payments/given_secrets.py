"""Secrets as operators give them: read from files, and judged by whether somebody else could guess or read them."""

import base64
import binascii
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

LARGEST_FILE: Final = 64 * 1024
FEWEST_DIFFERENT: Final = 8  # characters or bytes of what was drawn by lot; a word or a pattern has fewer
# Where a server is not asked for a password, or libpq takes it from elsewhere.
_OTHER_PROOFS: Final = frozenset({"passfile", "service", "sslcert"})
_WELL_KNOWN: Final = frozenset(
    {
        *("postgres", "postgresql", "password", "passwort", "payments", "payment", "shop", "secret", "changeme"),
        *("change-me", "admin", "root", "user", "test", "example", "default", "demo", "toss", "letmein", "qwerty"),
        *("123456", "1234567", "12345678", "123456789", "1234567890", "trust", "pass", "db", "dev", "local"),
    }
)


class UnreadableFile(Exception):
    """A file that cannot hold a setting; the message repeats neither its path nor anything in it."""


def read_file(path: str) -> str:
    """The text of a file, without the newline at its end.

    Raises:
        UnreadableFile: it is not there, too large, or no text.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UnreadableFile(type(error).__name__) from None
    if len(content) > LARGEST_FILE:
        raise UnreadableFile(f"larger than {LARGEST_FILE // 1024} kB")
    if "\0" in text:
        raise UnreadableFile("a NUL in it")
    return text.strip()


def is_open_to_all(path: str) -> bool:
    """Whether every user of the machine may read or change a file, as far as its own mode goes."""
    try:
        return bool(Path(path).stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))
    except (OSError, ValueError):
        return False


def password_problem(database_url: str) -> str | None:
    """What is wrong with the password of a database, if anything. A server on this machine may know who asks."""
    parts = urlsplit(database_url)
    query = parse_qs(parts.query)
    password = unquote(parts.password or "") or query.get("password", [""])[0]
    if not password:
        knows_otherwise = not parts.hostname or _OTHER_PROOFS & query.keys()
        return None if knows_otherwise else "has no password"
    if password.lower() in _WELL_KNOWN or password == unquote(parts.username or ""):
        return "has a password that anybody would try"
    return None


def is_guessable(secret: str) -> bool:
    """Whether it is a word or a pattern rather than drawn by lot."""
    key = _key(secret)
    return len(set(key)) < FEWEST_DIFFERENT or secret.lower() in _WELL_KNOWN


def shared(purposes: Mapping[str, Iterable[str]]) -> Sequence[str]:
    """The names of the settings that share a secret with another one, which would open two doors at once."""
    holders: dict[bytes, set[str]] = {}
    for name, secrets in purposes.items():
        for secret in secrets:
            holders.setdefault(_key(secret), set()).add(name)
    return sorted({name for names in holders.values() if len(names) > 1 for name in names})


def _key(secret: str) -> bytes:
    """What it is without the writing: `whsec_` and base64 hide that two are the same."""
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True) if "whsec_" in secret else secret.encode()
    except binascii.Error:
        return secret.encode()
