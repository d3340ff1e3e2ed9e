"""What must not get out, and every way of writing it in which it could."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, quote_plus

# The secrets that the programs are told; put together, so that nobody's scan takes them for real ones.
TOSS_KEY: Final = "test_sk_" + "Kanari0nT0ss5chl9essel7q2w"
WEBHOOK_SECRET: Final = "Kanarien/Webhook+5chl9essel=8e4r"
EVENTS_SECRET: Final = f"whsec_{base64.b64encode(b'Kanarien-Ereignis-Schluessel-9z').decode()}"
DATABASE_PASSWORD: Final = "Kanarien-Datenbank-Kennwort-4t6z"
ALERT_TOKEN: Final = "Kanarien-Alarm-Marke-1u8i"
# What callers show, and must not find again.
WRONG_KEY: Final = "payk_fa1scher_" + "Kf3nQ8vTz1RbX6mYw9LcG2pJs5UhDa7eRo4iZtBkNqM"
TOKEN: Final = "eyJ" + "hbGciOiJSUzI1NiJ9." + "eyJ" + "zdWIiOiJLYW5hcmllbiJ9.S2FuYXJpZW4tVG9rZW4tU2ln"
COOKIE: Final = "Kanarien-Sitzung-3o9p"
QUERY: Final = "Kanarien-Anfrage-5a2s"
IDEMPOTENCY_KEY: Final = "Kanarien-Idempotenz-7d1f"
SIGNATURE: Final = base64.b64encode(b"Kanarien-Signatur-6g3h").decode()
# Persons.
EMAIL: Final = "kanarien.vogel+shop@mail.example.co.kr"
PHONE: Final = "010-8437-2916"
ACCOUNT: Final = "110347829156"
HOLDER: Final = "한카나리아"
HOLDER_AT_PG: Final = "박종달새"
CARD: Final = "4539 1488 0343 6467"
RESIDENT: Final = "880314-1437291"

SECRETS: Final[Mapping[str, str]] = {
    "the secret key of Toss": TOSS_KEY.removeprefix("test_sk_"),
    "the secret of webhooks": WEBHOOK_SECRET,
    "the secret of events": EVENTS_SECRET.removeprefix("whsec_"),
    "the bytes of that secret": base64.b64decode(EVENTS_SECRET.removeprefix("whsec_")).decode(),
    "the database's password": DATABASE_PASSWORD,
    "the token of alerts": ALERT_TOKEN,
}
SHOWN: Final[Mapping[str, str]] = {
    "a wrong API key": WRONG_KEY.rpartition("_")[2],
    "a web token": TOKEN.rpartition(".")[2],
    "a cookie": COOKIE,
    "a query": QUERY,
    "an idempotency key": IDEMPOTENCY_KEY,
    "a signature": SIGNATURE,
}
ACCOUNTS: Final[Mapping[str, str]] = {"an account number": ACCOUNT, "an account's holder": HOLDER}
PERSONS: Final[Mapping[str, str]] = {
    "an e-mail address": EMAIL,
    "a telephone number": PHONE,
    "its digits": PHONE.replace("-", ""),
    "a card number": CARD,
    "its digits alone": CARD.replace(" ", ""),
    "a resident registration number": RESIDENT,
    "the holder of an account that the PG issued": HOLDER_AT_PG,
}
# What a person may write where a person may write anything, and a neighbour in its errors.
FREE_TEXT: Final = f"{PHONE} {CARD} {EMAIL} {RESIDENT}"
# The same where a card number would be refused at once.
REASON: Final = f"{PHONE} {EMAIL} {RESIDENT}"


@dataclass(frozen=True)
class Hit:
    canary: str
    written: str
    where: str


def ways_to_write(text: str) -> Iterator[str]:
    """Everything that would give it away."""
    encoded = text.encode()
    yield text
    yield quote(text, safe="")
    yield quote_plus(text)
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield encoded.hex()
    # In base64 it looks different by its place, and its ends by its neighbours.
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + encoded + b"\0" * 3).decode()
        inner = whole[4 if shift else 0 : (shift + len(encoded)) // 3 * 4]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


def hits(canaries: Mapping[str, str], texts: Mapping[str, str]) -> list[Hit]:
    """Where any of them stands in any of these texts."""
    return [
        Hit(name, written, f"{where}: {_around(text, written)}")
        for name, canary in canaries.items()
        for written in dict.fromkeys(ways_to_write(canary))
        for where, text in texts.items()
        if written in text
    ]


def _around(text: str, written: str) -> str:
    place = text.index(written)
    return text[max(0, place - 120) : place + len(written) + 60]
