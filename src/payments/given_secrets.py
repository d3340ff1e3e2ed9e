"""Secrets as operators give them: read from files, and judged by whether somebody else could guess or read them."""

import base64
import binascii
import stat
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

LARGEST_FILE: Final = 64 * 1024
FEWEST_DIFFERENT: Final = 8  # characters or bytes of what was drawn by lot; a word or a pattern has fewer
SHORTEST_PASSWORD: Final = 12
SHORTEST_TOSS_KEY: Final = 16  # behind `live_sk_`; Toss's own are longer
MOSTLY: Final = 0.75  # of neighbours in a row, as in 1234567890: one in five of them in hexadecimal drawn by lot
# Where a server is not asked for a password, or libpq takes it from elsewhere.
_OTHER_PROOFS: Final = frozenset({"passfile", "service", "sslcert"})
# What would count instead of the password before the host, and is hidden by no rule for the logs.
_PASSWORDS: Final = frozenset({"password", "sslpassword"})
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
    password, user = unquote(parts.password or ""), unquote(parts.username or "")
    if not password:
        is_here = not parts.hostname and all(host.startswith("/") for host in _hosts(database_url))
        knows_otherwise = is_here or _OTHER_PROOFS & _parameters(database_url)
        return None if knows_otherwise else "has no password"
    if _is_well_known(password) or password == user or (_bare(user) and _bare(password) == _bare(user)):
        return "has a password that anybody would try"
    if len(password) < SHORTEST_PASSWORD:
        return f"has a password of fewer than {SHORTEST_PASSWORD} characters"
    return "has a password that can be guessed; take a random one" if is_guessable(password) else None


def has_second_password(database_url: str) -> bool:
    """Whether a password stands behind the question mark of a database's address, too."""
    return bool(_PASSWORDS & _parameters(database_url))


def toss_key_problem(key: str) -> str | None:
    """What tells that a key, public or not, is none that Toss has given somebody for real money."""
    kind, _, drawn = key.partition("k_")
    if "sandbox" in key.lower():
        return "is a key of the sandbox"
    if kind.endswith("c"):
        return None
    if len(drawn) < SHORTEST_TOSS_KEY:
        return f"needs {SHORTEST_TOSS_KEY} characters or more behind its prefix, as Toss's own have"
    return "can be guessed; take the one that Toss has given you" if is_guessable(drawn) else None


def is_word(secret: str) -> bool:
    """Whether it is one that stands in many texts, or of so few letters that parts of it do."""
    return len(set(_key(secret))) < FEWEST_DIFFERENT or secret.lower() in _WELL_KNOWN


def is_guessable(secret: str) -> bool:
    """Whether it is a word or a pattern rather than drawn by lot."""
    return is_word(secret) or _is_well_known(secret) or _is_in_a_row(_key(secret))


def shared(purposes: Mapping[str, Iterable[str]]) -> Sequence[str]:
    """The names of the settings that share a secret with another one, which would open two doors at once."""
    holders: dict[bytes, set[str]] = {}
    for name, secrets in purposes.items():
        for secret in secrets:
            holders.setdefault(_key(secret), set()).add(name)
    return sorted({name for names in holders.values() if len(names) > 1 for name in names})


def _parameters(database_url: str) -> set[str]:
    """The names behind the question mark, as SQLAlchemy reads them: to it a `#` ends nothing."""
    return {name.lower() for name, _ in parse_qsl(database_url.partition("?")[2], keep_blank_values=True)}


def _hosts(database_url: str) -> list[str]:
    """The servers that are named behind the question mark, where there are several; a directory is one of a socket."""
    hosts = [value for name, value in parse_qsl(database_url.partition("?")[2]) if name.lower() in {"host", "hostaddr"}]
    return [host for value in hosts for host in value.split(",")]


def _is_well_known(text: str) -> bool:
    """Whether it is a word that everybody tries, also with digits around it or several times."""
    once = text[: (text * 2).index(text, 1)] if text else ""
    return bool({once.lower(), _bare(once)} & _WELL_KNOWN)


def _bare(text: str) -> str:
    """A word without the digits and signs that people put around it."""
    letters = [place for place, character in enumerate(text) if character.isalpha()]
    return text[letters[0] : letters[-1] + 1].lower() if letters else ""


def _is_in_a_row(key: bytes) -> bool:
    steps = [abs(after - before) <= 1 for before, after in pairwise(key)]
    return sum(steps) > MOSTLY * len(steps)


def _key(secret: str) -> bytes:
    """What it is without the writing: `whsec_` and base64 hide that two are the same."""
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True) if "whsec_" in secret else secret.encode()
    except binascii.Error:
        return secret.encode()
