"""What no log may show: secrets and persons, known by the name they stand under, or by their looks in any text."""

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote

from payments import card_numbers

MASK: Final = "[redacted]"
LONGEST_TEXT: Final = 2_000  # characters of one value
MOST_MEMBERS: Final = 50
DEEPEST: Final = 3
LONGEST_INSIDE: Final = 200  # characters of a value inside another one, of which there may be many
LONGEST_TRACE: Final = 100  # lines
_SHOWN_OF_KEY: Final = 6  # what logs show of a payment key, its end
_FEWEST_DIGITS: Final = 9  # of anything that names a person
_DIGITS_OF_DATE: Final = 8
_LARGEST_NUMBER_BITS: Final = 200  # far beyond money; one of thousands of digits cannot even be written
_SHORTEST_KNOWN: Final = 8  # a shorter secret is a word that stands in other places too

# Where the reading of a long text ends, so much may be the first half of something that is recognised by its end, such
# as an address by its @.
_UNSURE: Final = 600

_SECRET_PARTS: Final = (
    *("secret", "token", "passw", "pwd", "authori", "cookie", "apikey", "credential", "signature", "privatekey"),
    *("sessionid", "idempotencykey", "confirmkey", "cancelkey", "databaseurl", "dsn", "alerturl", "querystring"),
    *("email", "accountno", "accountnum", "holder", "cardno", "cardnum", "cvc", "cvv", "phone", "mobile"),
    *("customername", "buyername", "fullname", "residentreg", "birth"),
)
_SECRET_WORDS: Final = frozenset({"account", "auth", "body", "card", "headers", "pan", "pin", "rrn"})

# The same names in running text, `name=value` or `"name": "value"`, as a driver or a library may write them.
_NAME: Final = (
    r"secret|token|passwor[dt]|passwd|pwd|api[ _-]?key|credential|signature|e-?mail|account[ _-]?(?:number|no)"
    r"|holder|card[ _-]?(?:number|no)|cvc|cvv|phone|idempotency[ _-]?key|customer[ _-]?name"
)
_JOINT: Final = r"[\\\"']{0,4}\s{0,3}(?:=>|[=:]|,\s{0,3}b?(?=[\"']))\s{0,3}"
_QUOTED: Final = r"\\{0,3}\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z)"
_BARE: Final = r"[^\s\"'&,;)}\]]+"
_MAIL_NAME: Final = r"[\w.!#$&'*+/=?^`{|}~-]"  # not %, which encodes the @


class Rule(NamedTuple):
    """What a secret looks like, and what is left of it."""

    name: str
    pattern: re.Pattern[str]
    left: str | Callable[[re.Match[str]], str]


def _rule(name: str, pattern: str, left: str | Callable[[re.Match[str]], str] = MASK) -> Rule:
    # ASCII: in Korean a particle follows a number without a space between, and is a letter to Unicode.
    return Rule(name, re.compile(pattern, re.IGNORECASE | re.ASCII), left)


def _ending(match: re.Match[str]) -> str:
    return f"...{match[0][-_SHOWN_OF_KEY:]}"


def _last_four(match: re.Match[str]) -> str:
    return f"{MASK}{match[0][-4:]}"


def _account(match: re.Match[str]) -> str:
    digits = sum(character.isdecimal() for character in match[0])
    return _last_four(match) if digits > _DIGITS_OF_DATE else match[0]


# What opens something by itself. A scan of the repository looks for these as well.
CREDENTIALS: Final = (
    _rule("toss_secret_key", r"((?:test|live)_g?sk_)[a-z0-9_]+", rf"\1{MASK}"),
    # The same in base64, as Basic authentication carries it.
    _rule("toss_secret_key_in_base64", r"(?:dGVzdF9za1|bGl2ZV9za1|dGVzdF9nc2tf|bGl2ZV9nc2tf)[a-z0-9+/=_-]*"),
    _rule("signing_secret", r"whsec_[a-z0-9+/=_-]+", f"whsec_{MASK}"),
    _rule("api_key", r"payk_([a-z0-9]{8}_)?[a-z0-9_-]+", rf"payk_\1{MASK}"),
    _rule("json_web_token", r"eyJ[a-z0-9_-]{5,}(?:\.[a-z0-9_-]*){0,4}"),
    _rule("authorization", r"\b(basic|bearer|digest)(\s{1,3}|%20|\+)[a-z0-9+/=._~%-]{8,}", rf"\1\2{MASK}"),
    _rule("database_url", r"\b(postgres(?:ql)?(?:\+\w{1,20})?://)[^\s\"']{0,512}@", rf"\1{MASK}@"),
    _rule("user_of_url", r"://[^\s/?#@\"'<>]{1,512}@", f"://{MASK}@"),
    # Apprise writes tokens into hosts and paths. A database's address has its own rule.
    _rule("alert_url", r"\b(?!https?:|wss?:|file:|postgres)([a-z][a-z0-9+.-]{1,30}://)[^\s\"']+", rf"\1{MASK}"),
    _rule("hook", r"\b(https?://[^\s/\"']{1,200}/(?:services|api/webhooks|webhook)/)[^\s\"']+", rf"\1{MASK}"),
    _rule("query", r"\?[a-z_][a-z0-9_.\[\]-]*=[^\s\"']*", f"?{MASK}"),
)
NAMED: Final = (
    _rule("header", rf"((?:authorization|cookie){_JOINT})(?:{_QUOTED}|[^\r\n]*)", rf"\1{MASK}"),
    _rule("named", rf"((?:{_NAME})[a-z_-]{{0,20}}{_JOINT})(?:{_QUOTED}|{_BARE})", rf"\1{MASK}"),
    _rule("refused_value", r"(input_value=).*?(?=, input_type|\n|\Z)", rf"\1{MASK}"),
    _rule("detail_of_database", r"(DETAIL:|Failing row contains)[^\n]*", rf"\1 {MASK}"),
)
PERSONS: Final = (
    _rule("email", rf"(?<!{_MAIL_NAME}){_MAIL_NAME}++(?:@|%40|\\u0040)[\w-]++(?:\.[\w-]++)++"),
    _rule("payment_key", r"\b[a-z_]{4,5}20[0-9]{12}[a-z0-9]{5}\b", _ending),
    _rule("payment_key_of_path", r"(?<=/v1/payments/)(?!confirm|orders)[\w-]{7,}", _ending),
)
NUMBERS: Final = (
    _rule("phone", r"(?<!\d)(?:\+?82[ .-]?\(?0?\)?|0)1[016789][ .-]?\d{3,4}[ .-]?\d{4}(?!\d)"),
    _rule("telephone", r"(?<!\d)0(?:2|[3-6]\d)[ .-]\d{3,4}[ .-]\d{4}(?!\d)"),
    _rule("resident_registration", r"(?<!\d)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])[ -]?[1-8]\d{6}(?!\d)"),
    # Groups as banks print them, or one number; a date and an amount have fewer digits.
    _rule("account", r"(?<![\w.-])\d{2,6}(?:-\d{2,8}){2,3}(?![\w-])", _account),
    _rule("number", r"(?<![\w-])(?<!\d[.])\d{10,20}(?![\w-]|\.\d)", _last_four),
)

# A text without any of these has nothing to hide: most values end here.
_SUSPICIOUS: Final = re.compile(
    r"sk_|sec_|payk_|eyJ|dGVzd|bGl2Z|[=:@%\"']|\\u00|basic|bearer|digest|/v1/|row"
    rf"|\d(?:[.{card_numbers.SEPARATORS}]?\d){{{_FEWEST_DIGITS - 1}}}",
    re.IGNORECASE,
)

# What every one of the credentials has in it. An order's number has none of it, and stands in most lines.
_MAY_BE_CREDENTIAL: Final = re.compile(r"sk_|sec_|payk_|eyJ|dGVzd|bGl2Z|[:=]|basic|bearer|digest", re.IGNORECASE)


def redact(text: str) -> str:
    """The text without secrets and without what names a person."""
    if _SUSPICIOUS.search(text) is None:
        return text
    for rule in (*CREDENTIALS, *NAMED, *PERSONS):
        text = rule.pattern.sub(rule.left, text)
    text = card_numbers.mask(text)
    for rule in NUMBERS:
        text = rule.pattern.sub(rule.left, text)
    return text


def redact_credentials(text: str) -> str:
    """The text without secrets; its numbers stay, because they are what it is there for."""
    if _MAY_BE_CREDENTIAL.search(text) is None:
        return text
    for rule in CREDENTIALS:
        text = rule.pattern.sub(rule.left, text)
    return text


def shorten(text: str, *, longest: int = LONGEST_TEXT, redacted: Callable[[str], str] = redact) -> str:
    """The beginning of the text, redacted; no secret comes through because the end cut it in two."""
    if len(text) <= longest:
        return redacted(text)
    read = 2 * longest + _UNSURE
    shown = redacted(text) if len(text) <= read else redacted(text[:read])[:-_UNSURE]
    return f"{shown[:longest]}... ({len(text)} characters)"


@lru_cache(maxsize=512)
def names_a_secret(name: str) -> bool:
    """Whether what stands under this name is a secret, or personal, whatever it looks like."""
    plain = re.sub("[^a-z0-9]", "", name[:100].lower())
    return plain in _SECRET_WORDS or any(part in plain for part in _SECRET_PARTS)


def clean(value: object, *, name: str = "", depth: int = 0) -> object:
    """A value of an event as it may be logged: bounded, in one line, without secrets; whatever it is."""
    if value is None or isinstance(value, bool):
        return value
    if name and names_a_secret(name):
        return MASK
    if isinstance(value, str):
        return _clean_named(value, name, longest=LONGEST_INSIDE if depth else LONGEST_TEXT)
    if isinstance(value, int | float):
        return _clean_number(value)
    return MASK if depth >= DEEPEST else _clean_other(value, name, depth)


def clean_text(text: str, *, longest: int = LONGEST_TEXT) -> str:
    """One printable line of hardly more than so many characters, without secrets."""
    return _printable(shorten(text, longest=longest))


def clean_trace(text: str) -> str:
    """A traceback: line by line, its middle left out where it is endless."""
    lines = text.split("\n")
    if len(lines) > LONGEST_TRACE:
        begin = LONGEST_TRACE // 4
        lines = [*lines[:begin], "...", *lines[begin - LONGEST_TRACE :]]
    return "\n".join(clean_text(line) for line in lines)


class KnownSecrets:
    """The secrets that this process itself holds, found in any line, whatever they look like."""

    def __init__(self, secrets: Iterable[str]) -> None:
        long_enough = {secret for secret in secrets if len(secret) >= _SHORTEST_KNOWN}
        # The longest first: a password is a part of the address that it stands in.
        self._written = sorted({way for secret in long_enough for way in _ways_to_write(secret)}, key=len, reverse=True)

    def mask(self, line: str) -> str:
        for written in self._written:
            if written in line:
                line = line.replace(written, MASK)
        return line


def _ways_to_write(secret: str) -> Iterable[str]:
    in_json = json.dumps(secret)[1:-1]
    in_bytes = secret.encode(errors="replace")
    # Without its last characters, which depend on what follows.
    in_base64 = base64.b64encode(in_bytes).decode().rstrip("=")[:-1]
    return secret, in_json, quote(secret, safe=""), in_base64, base64.b64encode(in_bytes + b":").decode()


@lru_cache(maxsize=512)
def _names_a_key(name: str) -> bool:
    return name.replace("_", "").lower() in {"paymentkey", "paymentkeyends"}


@lru_cache(maxsize=512)
def _names_an_id(name: str) -> bool:
    return name.replace("_", "").lower().endswith("id")


def _clean_named(text: str, name: str, *, longest: int) -> str:
    if _names_a_key(name):
        return _printable(text[-_SHOWN_OF_KEY:])
    if _names_an_id(name):  # an order's number may have as many digits as a bank account
        return _printable(shorten(text, longest=longest, redacted=redact_credentials))
    return clean_text(text, longest=longest)


def _clean_number(value: float) -> object:
    if not isinstance(value, int):
        return value if math.isfinite(value) else str(value)
    if value.bit_length() > _LARGEST_NUMBER_BITS:
        return "a huge number"
    if abs(value) < 10 ** (_FEWEST_DIGITS - 1):
        return value
    shown = redact(str(value))
    return value if shown == str(value) else shown


def _clean_other(value: object, name: str, depth: int) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        members = list(value.items())[:MOST_MEMBERS]
        named = [(_said_by(key), member) for key, member in members]
        return {_clean_name(key): clean(member, name=key, depth=depth + 1) for key, member in named}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean(member, name=name, depth=depth + 1) for member in list(value)[:MOST_MEMBERS]]
    return clean_text(_said_by(value))


def _clean_name(text: str) -> str:
    return clean_text(text, longest=LONGEST_INSIDE)


def _said_by(value: object) -> str:
    try:
        return f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    except Exception as error:  # noqa: BLE001 - what cannot be shown must not keep the event from being written
        return f"{type(value).__name__} that cannot be shown: {type(error).__name__}"


def _printable(text: str) -> str:
    """Controls, escapes of terminals, separators of lines and marks of direction as what they are called in Python."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
