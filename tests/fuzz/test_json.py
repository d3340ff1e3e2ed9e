"""The strict reader against the standard one: what has exactly one meaning is taken with it, and nothing else."""

import json
import math
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Never

import pytest

from payments.api.strict_json import MAX_DEPTH, NotStrictJson, parse
from payments.card_numbers import mask_json
from payments.gateways.toss_events import MalformedEvent, read_event
from payments.gateways.toss_wire import is_order_id, is_payment_key, is_transaction_key

SEED: Final = 20261122
TEXTS: Final = 10_000
TEXTS_WITH_PROOF: Final = 200_000
SCALARS: Final = (
    *("0", "-0", "1", "15000", "-1", "1.5", "1e3", "1E400", "-1e400", "1e-400", "0.1e1", "9" * 400, "9" * 4_301, "NaN"),
    *("Infinity", "-Infinity", "true", "false", "null", "True", "None", "01", "+1", ".5", "1.", "0x1", "1_000", "--1"),
    *("\uff11", "undefined", "'a'", "1e", "1e+", "-", "nul", "1" + "0" * 309, "1.7976931348623159e308", "4" * 16),
)
STRINGS: Final = (
    *("", "a", "amount", "orderId", r"\u0061mount", r"\ud800", r"\udc00", r"\ud83d\ude00", r"\ude00\ud83d", r"\u0000"),
    *(r"\n", "\n", "\x01", "\x7f", r"\x41", r"\u12", r"\/", r"\\", r"\"", "토스", "😀", "\u2028", "\ufeff", "\xa0"),
    *("4111 1111 1111 1111", r"\u0034111111111111111", "eventType", "data", "status", "../", "k" * 201),
)
SPACES: Final = ("", "", "", " ", "\t", "\n", "\r\n", "\x0b", "\xa0", "\ufeff", "/**/", "//\n")


def a_text(chance: random.Random, depth: int = 0) -> str:
    """Nearly JSON."""
    kind = chance.random()
    space = chance.choice(SPACES) if chance.random() < 0.02 else ""
    if depth > 5 or kind < 0.3:
        return space + chance.choice(SCALARS[:6] if chance.random() < 0.8 else SCALARS)
    if kind < 0.55:
        return space + f'"{chance.choice(STRINGS[:4] if chance.random() < 0.6 else STRINGS)}"'
    members = [a_text(chance, depth + 1) for _ in range(chance.choice((0, 1, 2, 2, 3, 8)))]
    if kind < 0.75:
        return f"[{','.join(members)}]{space}"
    names = chance.sample(STRINGS, len(members)) if chance.random() < 0.9 else chance.choices(STRINGS, k=len(members))
    return "{" + ",".join(f'"{name}":{member}' for name, member in zip(names, members, strict=True)) + space + "}"


def damaged(chance: random.Random, text: str) -> bytes:
    body = text.encode("utf-8", "surrogatepass")
    at = chance.randrange(len(body) + 1)
    nested = chance.choice((MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 2_000))
    damages: tuple[Callable[[], bytes], ...] = (
        lambda: body,
        lambda: body,
        lambda: body,
        lambda: body[:at] + body[at + 1 :],
        lambda: (
            body[:at]
            + chance.choice((b",", b'"', b"{", b"]", b":", b"\\", b"\0", b"\xff", b"\xed\xa0\x80"))
            + body[at:]
        ),
        lambda: body + body,
        lambda: b"[" * nested + body + b"]" * nested,
        lambda: b'{"a":' * nested + body + b"}" * nested,
        lambda: chance.choice((b"\xef\xbb\xbf", b" ", b"\xff\xfe", b"")) + body,
        lambda: text.encode(chance.choice(("utf-16", "utf-16-le", "utf-32", "utf-8")), "surrogatepass"),
    )
    return chance.choice(damages)()


def bodies(count: int) -> list[bytes]:
    chance = random.Random(SEED)
    return [damaged(chance, a_text(chance)) for _ in range(count)]


class Ambiguous(Exception):
    """The standard reader took it, and it has two meanings or none."""


def meaning(body: bytes) -> object:
    """What the standard reader says, and then each rule by itself.

    Raises:
        ValueError, RecursionError, Ambiguous: it is to be refused.
    """
    text = body.decode()  # the standard reader would guess an encoding
    value: object = json.loads(text, object_pairs_hook=_once, parse_constant=_none)
    if text.startswith("\ufeff") or any(
        0xD800 <= ord(character) <= 0xDFFF or character == "\0" for character in said(value)
    ):
        raise Ambiguous
    if depth_of(value) > MAX_DEPTH:
        raise Ambiguous
    return json.loads(text)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Ambiguous
    return dict(pairs)


def _none(_: str) -> Never:
    raise Ambiguous


def said(value: object) -> str:
    match value:
        case str():
            return value
        case float() if math.isinf(value):
            raise Ambiguous
        case dict():
            return "".join(said(member) for pair in value.items() for member in pair)
        case list():
            return "".join(said(member) for member in value)
        case _:
            return ""


def depth_of(value: object) -> int:
    children = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if children is None else 1 + max(map(depth_of, children), default=0)


class TestStrictJson:
    def test_is_the_standard_reading_of_what_has_one_meaning_and_nothing_else(
        self, pytestconfig: pytest.Config
    ) -> None:
        count = TEXTS_WITH_PROOF if pytestconfig.getoption("--proof") else TEXTS
        taken = 0
        for body in bodies(count):
            try:
                expected = repr(meaning(body))
            except (ValueError, RecursionError, Ambiguous):
                with pytest.raises(NotStrictJson):
                    parse(body)
            else:
                assert repr(parse(body)) == expected
                taken += 1

        assert 0.2 < taken / count < 0.8  # of both kinds

    def test_stays_json_when_card_numbers_are_masked(self, pytestconfig: pytest.Config) -> None:
        count = TEXTS_WITH_PROOF // 10 if pytestconfig.getoption("--proof") else TEXTS // 4
        for body in bodies(count):
            with suppress(NotStrictJson):
                shape = repr(parse(body))
                masked = repr(json.loads(mask_json(body)))
                assert (masked == shape) or "*" in masked


class TestEvents:
    def test_hold_what_their_names_say_or_nothing(self) -> None:
        for body in bodies(TEXTS // 4):
            for wrapped in (
                body,
                b'{"eventType":"X","data":' + body + b"}",
                b'{"orderId":"order-000001","status":' + body + b"}",
            ):
                with suppress(MalformedEvent):
                    event = read_event(wrapped)
                    assert event.order_id is None or is_order_id(event.order_id)
                    assert event.payment_key is None or is_payment_key(event.payment_key)
                    assert event.transaction_key is None or is_transaction_key(event.transaction_key)
                    assert 0 < len(event.event_type) <= 64
                    assert (event.event_type + (event.status or "") + event.created_at).isprintable()
