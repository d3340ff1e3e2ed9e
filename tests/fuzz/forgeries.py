"""Genuine deliveries of webhooks, and what a forger makes of them.

A forgery differs from every genuine delivery in the signed bytes, in what a header says, or in when it arrives. What
HTTP does not carry (spaces around a value) and what the formats leave open (the case of hexadecimal digits, `sha256=`
before them, other values beside a genuine one) makes no forgery; those are `VARIANTS`, and must be let in.
"""

import base64
import hashlib
import hmac
import json
import random
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property
from typing import Final

from payments.usecases.receive_webhook import Delivery, Trust

TEXT_SECRET: Final = "new-secret-of-the-webhooks"
HEX_SECRET: Final = "1f" * 32  # as Toss's security keys are written
TRUST: Final = Trust((HEX_SECRET, TEXT_SECRET), takes_hints=False)
AT: Final = datetime(2026, 1, 2, 5, 47, 30, tzinfo=UTC)
TOLERANCE: Final = timedelta(minutes=5)

_NOT_SECRETS: Final = (b"", b"secret-that-was-retired", b"null", TEXT_SECRET[:-1].encode(), b"1f" * 31, b"\0" * 64)
_HEX: Final = "0123456789abcdef"
_BASE64: Final = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
_ODD: Final = ("\0", " ", "\t", "\n", "\r\n", "\u200b", "\ufeff", "\x7f", "!", "-", "=", ":", "%", "가", "\ud800")
_LOOKALIKES: Final = {
    **{ord(digit): 0xFF10 + int(digit) for digit in string.digits},
    ord("a"): 0x430,
    ord("c"): 0x441,
    ord("e"): 0x435,
    ord("A"): 0x410,
    ord("B"): 0x412,
    ord("="): 0xFF1D,
}


@dataclass(frozen=True, slots=True)
class Arriving:
    """A delivery and the moment of its arrival."""

    delivery: Delivery
    at: datetime = AT

    @property
    def body(self) -> bytes:
        return self.delivery.body


@dataclass(frozen=True)
class Forger:
    """Whoever has seen some genuine deliveries and knows no secret."""

    chance: random.Random
    seen: Sequence[Arriving]

    @cached_property
    def bodies(self) -> set[bytes]:
        return {one.body for one in self.seen}

    def another(self, than: Arriving) -> Arriving:
        first, second = self.chance.sample(self.seen, 2)
        return second if first.body == than.body else first

    def place(self, within: str | bytes) -> int:
        return self.chance.randrange(len(within))


Change = Callable[[Forger, Arriving], Arriving | None]  # None: it does not apply to this delivery
Rewrite = Callable[[Forger, str, Arriving], str | None]  # the same for the text of one header
Rebuild = Callable[[Forger, bytes], bytes | None]  # and for a body


def genuine_deliveries(chance: random.Random, count: int, *, at: datetime = AT) -> list[Arriving]:
    """Signed in either way or in both, under either secret, around one moment, no two with one body."""
    return [_a_genuine_one(chance, number, at) for number in range(count)]


def changed(forger: Forger, changes: Mapping[str, Change]) -> Iterator[tuple[str, Arriving]]:
    """Without end: a genuine delivery after a change that applies to it, and the name of the change."""
    names = list(changes)
    while True:
        name = forger.chance.choice(names)
        arriving = changes[name](forger, forger.chance.choice(forger.seen))
        if arriving is not None:
            yield name, arriving


def hex_digest(body: bytes, key: bytes) -> str:
    return hmac.new(key, body, hashlib.sha256).hexdigest()


def toss_value(body: bytes, sent: str, key: bytes) -> str:
    mac = hmac.new(key, body + b":" + sent.encode(), hashlib.sha256).digest()
    return f"v1:{base64.b64encode(mac).decode()}"


def _a_genuine_one(chance: random.Random, number: int, at: datetime) -> Arriving:
    body = _an_event(chance, number)
    secret = chance.choice((TEXT_SECRET, HEX_SECRET))
    zone = timezone(timedelta(hours=chance.choice((0, 9, -5))))
    sent = (at + timedelta(seconds=chance.randint(-240, 240))).astimezone(zone).isoformat()
    key = bytes.fromhex(secret) if secret == HEX_SECRET and number % 2 else secret.encode()
    ours = Delivery(body, signatures=(hex_digest(body, secret.encode()),))
    tosss = Delivery(body, toss_signatures=(toss_value(body, sent, key),), transmission_times=(sent,))
    both = replace(tosss, signatures=ours.signatures)
    return Arriving((ours, tosss, both)[number % 3], at)


def _an_event(chance: random.Random, number: int) -> bytes:
    data: dict[str, object] = {
        "orderId": f"order-{number:06d}",
        "paymentKey": f"tviva20260102144639{number:05d}",
        "status": chance.choice(("DONE", "CANCELED", "PARTIAL_CANCELED", "ABORTED", "WAITING_FOR_DEPOSIT")),
        "totalAmount": chance.randint(100, 10**7),
        "orderName": chance.choice(("토스 티셔츠 외 2건", "T-shirt", "\U0001f600", 'a "b" \\ c')),
        "secret": f"ps_{chance.randbytes(12).hex()}",
        "cancels": [{"cancelAmount": chance.randint(1, 100)} for _ in range(chance.choice((0, 0, 1, 20)))],
    }
    event = {"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": "2026-01-02T14:46:59.653270", "data": data}
    return json.dumps(event, ensure_ascii=chance.random() < 0.3, indent=chance.choice((None, None, 2))).encode()


# Bodies: the headers stay, and the signed bytes are others.


def _flip_a_bit(forger: Forger, body: bytes) -> bytes:
    at = forger.place(body)
    return body[:at] + bytes([body[at] ^ 1 << forger.chance.randrange(8)]) + body[at + 1 :]


def _flip_many_bits(forger: Forger, body: bytes) -> bytes:
    for _ in range(forger.chance.randint(2, 20)):
        body = _flip_a_bit(forger, body)
    return body


def _drop_a_byte(forger: Forger, body: bytes) -> bytes:
    at = forger.place(body)
    return body[:at] + body[at + 1 :]


def _insert_bytes(forger: Forger, body: bytes) -> bytes:
    at = forger.place(body)
    return body[:at] + forger.chance.randbytes(forger.chance.randint(1, 4)) + body[at:]


def _cut(forger: Forger, body: bytes) -> bytes:
    at = forger.place(body)
    return forger.chance.choice((body[:at], body[at + 1 :]))


def _repeat(forger: Forger, body: bytes) -> bytes:
    return body + forger.chance.choice((body, b"", b",")) + body[-forger.place(body) :]


def _surround(forger: Forger, body: bytes) -> bytes:
    more = forger.chance.choice((b" ", b"\n", b"\r\n", b"\t", b"\0", b"\xef\xbb\xbf", b"\xc2\xa0"))
    return forger.chance.choice((body + more, more + body, more + body + more))


def _write_anew(forger: Forger, body: bytes) -> bytes:
    event = json.loads(body)
    turned = dict(reversed(event.items()))
    return forger.chance.choice(
        (
            json.dumps(event, separators=(",", ":")),
            json.dumps(event, indent=4),
            json.dumps(turned, ensure_ascii=False),
            json.dumps(event).replace("o", "\\u006f"),
            json.dumps(event).replace("/", "\\/"),
        )
    ).encode()


def _write_another_word(forger: Forger, body: bytes) -> bytes:
    swaps = ((b"DONE", b"CANCELED"), (b"CANCELED", b"DONE"), (b"status", b"Status"), (b"order-", b"Order-"))
    more = ((b"{", b'{"status":"DONE",'), (b'Amount": ', b'Amount": 0'), (b"ps_", b"PS_"), (b":", b": "), (b": ", b":"))
    return body.replace(*forger.chance.choice((*swaps, *more)))


def _splice(forger: Forger, body: bytes) -> bytes:
    tail = forger.chance.choice(forger.seen).body
    at = forger.place(body)
    return body[:at] + tail[at:]


def _swap_bytes(forger: Forger, body: bytes) -> bytes:
    changed = bytearray(body)
    one, two = forger.place(body), forger.place(body)
    changed[one], changed[two] = changed[two], changed[one]
    return bytes(changed)


def _turn_case(_: Forger, body: bytes) -> bytes:
    return body.swapcase()


# The header of a relay of ours: hexadecimal.


def _another_hex_digit(forger: Forger, text: str, _: Arriving) -> str:
    at = forger.place(text)
    return text[:at] + forger.chance.choice(_HEX.replace(text[at], "")) + text[at + 1 :]


def _cut_text(forger: Forger, text: str, _: Arriving) -> str:
    at = forger.place(text)
    return forger.chance.choice((text[:at], text[at + 1 :], text[:at] + text[at + 1 :]))


def _longer_text(forger: Forger, text: str, _: Arriving) -> str:
    more = forger.chance.choice((*_HEX, text[-1], text, text[:8], "\n", "\0", "0" * 10_000))
    at = forger.chance.choice((0, len(text), forger.place(text)))
    changed = text[:at] + more + text[at:]
    return f"{text}{more}" if changed.strip() == text else changed


def _odd_inside(forger: Forger, text: str, _: Arriving) -> str:
    at = forger.chance.randrange(1, len(text))
    return text[:at] + forger.chance.choice(_ODD) + text[at:]


def _lookalike(forger: Forger, text: str, _: Arriving) -> str | None:
    places = [at for at, character in enumerate(text) if ord(character) in _LOOKALIKES]
    at = forger.chance.choice(places)
    return text[:at] + text[at].translate(_LOOKALIKES) + text[at + 1 :]


def _another_prefix(forger: Forger, text: str, _: Arriving) -> str:
    prefixes = ("sha1=", "sha512=", "SHA256=", "sha256:", "sha256 =", "sha256=sha256=", "md5=", "0x", "v1:", "v1=", "=")
    return forger.chance.choice(prefixes) + text


def _digest_in_another_form(forger: Forger, text: str, _: Arriving) -> str:
    digest = bytes.fromhex(text)
    encoded = base64.b64encode(digest).decode()
    forms = (encoded, f"v1:{encoded}", text[::-1], digest[::-1].hex(), bytes(255 - byte for byte in digest).hex())
    return forger.chance.choice((*forms, digest.hex(" "), digest.hex(":"), str(int(text, 16)), f"{text},{text}"))


def _digest_of_something_else(forger: Forger, _: str, arriving: Arriving) -> str:
    body, key = arriving.body, forger.chance.choice(_NOT_SECRETS)
    texts = (hex_digest(body, key), hashlib.sha256(body).hexdigest(), hashlib.sha256(key + body).hexdigest())
    secret = TEXT_SECRET.encode()
    more = (
        hex_digest(body + b"\n", secret),
        hex_digest(b"", secret),
        hmac.new(secret, body, "sha512").hexdigest()[:64],
    )
    return forger.chance.choice((*texts, *more, "0" * 64, forger.chance.randbytes(32).hex(), "", "null"))


def _digest_of_another(forger: Forger, _: str, arriving: Arriving) -> str | None:
    return "".join(forger.another(arriving).delivery.signatures) or None


# The header of Toss: `v1:` and base64, perhaps several.


def _another_base64_digit(forger: Forger, text: str, _: Arriving) -> str:
    at = forger.chance.randrange(3, len(text) - 1)
    return text[:at] + forger.chance.choice(_BASE64.replace(text[at], "")) + text[at + 1 :]


def _spare_bits(forger: Forger, text: str, _: Arriving) -> str:
    last = _BASE64.index(text[-2])  # its two lowest bits say nothing
    return text[:-2] + _BASE64[last ^ forger.chance.randint(1, 3)] + "="


def _padding(forger: Forger, text: str, _: Arriving) -> str:
    return forger.chance.choice((text.rstrip("="), f"{text}=", f"{text}==", f"{text[:-1]}A", text[:-1] + "%3D"))


def _url_alphabet(_: Forger, text: str, __: Arriving) -> str | None:
    changed = text.translate({ord("+"): "-", ord("/"): "_"})
    return None if changed == text else changed


def _another_version(forger: Forger, text: str, _: Arriving) -> str:
    value = text.removeprefix("v1:")
    versions = (
        "",
        "v1",
        "v1=",
        "v1,",
        "V1:",
        "v2:",
        "v0:",
        "v11:",
        "v1::",
        "v1 :",
        ":",
        "v1:v1:",
        "\u0475\u0031:",
        "v\uff11:",
    )
    return forger.chance.choice(versions) + value


def _crowd(forger: Forger, text: str, _: Arriving) -> str:
    crowd = [forger.chance.choice(("v1:AAAA", "v2:x", "", text))] * forger.chance.choice((5, 6, 50, 1_000))
    crowd.insert(forger.chance.randrange(len(crowd) + 1), text)
    return ",".join(crowd)


def _another_separator(forger: Forger, text: str, _: Arriving) -> str:
    junk = forger.chance.choice(("v1:AAAA", "v2:x", text))
    return junk + forger.chance.choice((";", " ", "\t", "|", "\uff0c", "\u3001", "&", "\n")) + text


def _value_of_something_else(forger: Forger, _: str, arriving: Arriving) -> str:
    body, sent = arriving.body, arriving.delivery.transmission_times[0]
    key, secret = forger.chance.choice(_NOT_SECRETS), TEXT_SECRET.encode()
    digest = hmac.new(secret, body, hashlib.sha256)
    only_body = f"v1:{base64.b64encode(digest.digest()).decode()}"
    texts = (toss_value(body, sent, key), only_body, digest.hexdigest(), f"v1:{digest.hexdigest()}", "", "v1:", "v1")
    more = (toss_value(body + b" ", sent, secret), toss_value(body, f"{sent} ", secret), toss_value(b"", sent, secret))
    short = f"v1:{base64.b64encode(digest.digest()[:16]).decode()}"
    return forger.chance.choice((*texts, *more, short, f"v1:{base64.b64encode(forger.chance.randbytes(32)).decode()}"))


def _value_of_another(forger: Forger, _: str, arriving: Arriving) -> str | None:
    return "".join(forger.another(arriving).delivery.toss_signatures) or None


# The time of the transmission.


def _another_spelling(forger: Forger, text: str, _: Arriving) -> str | None:
    moment = datetime.fromisoformat(text)
    zone = timezone(timedelta(hours=forger.chance.choice((0, 1, 9, -5, -12))))
    spellings = (moment.astimezone(zone).isoformat(), moment.astimezone(UTC).isoformat().replace("+00:00", "Z"))
    more = (text.replace("T", " "), text.replace("T", "t"), f"{text[:19]}.0{text[19:]}", text.replace(":", ""))
    spelling = forger.chance.choice((*spellings, *more, str(int(moment.timestamp())), moment.strftime("%c")))
    return None if spelling == text else spelling


def _another_digit(forger: Forger, text: str, _: Arriving) -> str:
    at = forger.chance.choice([at for at, character in enumerate(text) if character in string.digits])
    return text[:at] + forger.chance.choice(string.digits.replace(text[at], "")) + text[at + 1 :]


def _time_of_now(forger: Forger, text: str, arriving: Arriving) -> str | None:
    now = (arriving.at + timedelta(seconds=forger.chance.randint(-2, 2))).isoformat()
    return None if now == text else now


def _no_time(forger: Forger, _: str, __: Arriving) -> str:
    times = ("", "now", "0", "-1", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-01-02", "T", "\0")
    return forger.chance.choice((*times, "2026-01-02T14:46:59", "2" * 10_000, "\u221e"))


# Whole deliveries.


def _too_late_or_too_early(forger: Forger, arriving: Arriving) -> Arriving | None:
    """Byte for byte the same, outside the tolerance."""
    if not arriving.delivery.transmission_times:
        return None
    sent = datetime.fromisoformat(arriving.delivery.transmission_times[0])
    far = TOLERANCE + timedelta(seconds=forger.chance.choice((0.001, 1, 60, 3600, 86_400, 365 * 86_400)))
    return replace(arriving, at=(sent + forger.chance.choice((far, -far))).astimezone(UTC))


def _twice(forger: Forger, arriving: Arriving) -> Arriving:
    """One header in two lines: which of them counts?"""
    told = arriving.delivery
    name = forger.chance.choice([name for name in _LINES if getattr(told, name)])
    line = getattr(told, name)[0]
    junk = forger.chance.choice((line, "", "v1:AAAA", "0" * 64))
    return _with(arriving, name, forger.chance.choice(((line, junk), (junk, line), (line, line, line))))


def _headers_of_another(forger: Forger, arriving: Arriving) -> Arriving:
    return replace(arriving, delivery=replace(forger.another(arriving).delivery, body=arriving.body))


def _in_the_other_header(_: Forger, arriving: Arriving) -> Arriving:
    told = arriving.delivery
    turned = replace(told, signatures=told.toss_signatures, toss_signatures=told.signatures)
    return replace(arriving, delivery=turned)


def _without_its_time(_: Forger, arriving: Arriving) -> Arriving | None:
    return _with(arriving, "transmission_times", ()) if arriving.delivery.toss_signatures else None


def _boundary_moved(forger: Forger, arriving: Arriving) -> Arriving | None:
    """The signed bytes stay the same: what ended the body now begins the time, or the other way round."""
    if not arriving.delivery.toss_signatures or arriving.delivery.signatures:
        return None
    sent = arriving.delivery.transmission_times[0]
    signed = arriving.body + b":" + sent.encode()
    colons = [at for at, byte in enumerate(signed) if byte == ord(":") and at != len(arriving.body)]
    at = forger.chance.choice(colons[-12:])
    time = signed[at + 1 :].decode("utf-8", "replace")
    moved = replace(arriving.delivery, body=signed[:at], transmission_times=(time,))
    return replace(arriving, delivery=moved)


_LINES: Final = ("signatures", "toss_signatures", "transmission_times")


def _with(arriving: Arriving, name: str, lines: Sequence[str]) -> Arriving:
    delivery = arriving.delivery
    match name:
        case "signatures":
            delivery = replace(delivery, signatures=lines)
        case "toss_signatures":
            delivery = replace(delivery, toss_signatures=lines)
        case _:
            delivery = replace(delivery, transmission_times=lines)
    return replace(arriving, delivery=delivery)


def _of_body(rebuild: Rebuild) -> Change:
    def change(forger: Forger, arriving: Arriving) -> Arriving | None:
        body = rebuild(forger, arriving.body)
        if body is None or body in forger.bodies:
            return None
        return replace(arriving, delivery=replace(arriving.delivery, body=body))

    return change


def _of_header(name: str, rewrite: Rewrite) -> Change:
    def change(forger: Forger, arriving: Arriving) -> Arriving | None:
        lines: Sequence[str] = getattr(arriving.delivery, name)
        text = rewrite(forger, lines[0], arriving) if lines else None
        return None if text is None else _with(arriving, name, (text,))

    return change


_BODIES: Final[tuple[Rebuild, ...]] = (
    *(_flip_a_bit, _flip_many_bits, _drop_a_byte, _insert_bytes, _cut, _repeat, _surround, _write_anew),
    *(_write_another_word, _splice, _swap_bytes, _turn_case),
)
_DIGESTS: Final[tuple[Rewrite, ...]] = (
    *(_another_hex_digit, _cut_text, _longer_text, _odd_inside, _lookalike, _another_prefix),
    *(_digest_in_another_form, _digest_of_something_else, _digest_of_another),
)
_VALUES: Final[tuple[Rewrite, ...]] = (
    *(_another_base64_digit, _spare_bits, _padding, _url_alphabet, _another_version, _crowd, _another_separator),
    *(_cut_text, _longer_text, _odd_inside, _lookalike, _value_of_something_else, _value_of_another),
)
_TIMES: Final[tuple[Rewrite, ...]] = (
    *(_another_spelling, _another_digit, _time_of_now, _no_time, _odd_inside, _lookalike, _cut_text),
)
FORGERIES: Final[Mapping[str, Change]] = {
    **{f"body{change.__name__}": _of_body(change) for change in _BODIES},
    **{f"digest{change.__name__}": _of_header("signatures", change) for change in _DIGESTS},
    **{f"value{change.__name__}": _of_header("toss_signatures", change) for change in _VALUES},
    **{f"time{change.__name__}": _of_header("transmission_times", change) for change in _TIMES},
    "too_late_or_too_early": _too_late_or_too_early,
    "twice": _twice,
    "headers_of_another": _headers_of_another,
    "in_the_other_header": _in_the_other_header,
    "without_its_time": _without_its_time,
    "boundary_moved": _boundary_moved,
}


# What is no forgery.


def _hex_in_another_case(forger: Forger, text: str, _: Arriving) -> str:
    return forger.chance.choice((text.upper(), f"sha256={text}", f"sha256={text.swapcase()}"))


def _value_among_others(forger: Forger, text: str, _: Arriving) -> str:
    others = [forger.chance.choice(("v1:AAAA", "v2:x", "v1:", "")) for _ in range(forger.chance.randint(1, 4))]
    others.insert(forger.chance.randrange(len(others) + 1), text)
    return forger.chance.choice((",", ", ")).join(others)


VARIANTS: Final[Mapping[str, Change]] = {
    "the_same": lambda _, arriving: arriving,
    "hex_in_another_case": _of_header("signatures", _hex_in_another_case),
    "value_among_others": _of_header("toss_signatures", _value_among_others),
}
