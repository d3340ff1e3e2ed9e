import json
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from payments.api.strict_json import MAX_DEPTH, NotStrictJson, parse
from tests.steps import steps

CANARY: Final = "kanarienvogel"

GOOD: Final[list[tuple[bytes, object]]] = [
    (b"null", None),
    (b"true", True),
    (b" \t\r\n0 ", 0),
    (b"-0", 0),
    (b"9223372036854775808", 2**63),
    (b"1.5e3", 1500.0),
    (b'""', ""),
    ('"토스 티셔츠"'.encode(), "토스 티셔츠"),
    (rb'"\ud83d\ude00 \u00e9 \/ \n"', "😀 é / \n"),
    ('"😀"'.encode(), "😀"),
    (b"[]", []),
    (b'{"a":{"a":[1,{"a":2}]}}', {"a": {"a": [1, {"a": 2}]}}),
]

NOT_JSON: Final = [
    *(b"", b" ", b"{", b"[1,]", b'{"a":1,}', b"{'a':1}", b"{a:1}", b'{"a":1}{"b":2}', b'{"a":1} // c', b"True"),
    *(b"01", b"+1", b"1.", b".5", b"0x10", b"1_000", b"--1", b"undefined", b'"\n"', b'"\x01"', rb'"\x41"', rb'"\u12"'),
    "\uff11\uff12".encode(),  # full-width digits
    b"9" * 5_000,
    b"-" + b"9" * 5_000,
    '{"a":1}'.encode("utf-16-le"),  # without its mark it is UTF-8, full of NULs
    '{"a":1}'.encode("utf-32-be"),
]
NOT_UTF_8: Final = [
    '{"a":1}'.encode("utf-16"),
    '"토스"'.encode("euc-kr"),
    b'"\xff"',
    b'"\xc0\x80"',  # NUL, written too long
    b'"\xed\xa0\x80"',  # a surrogate, written in bytes
]
REPEATED_KEYS: Final = [
    b'{"amount":1,"amount":999}',
    b'{"amount":1,"amount":1}',
    rb'{"amount":1,"\u0061mount":999}',
    b'{"a":[{"b":{"c":1,"c":2}}]}',
    b'{"":1,"":2}',
]
NO_NUMBERS: Final = [b"NaN", b"Infinity", b"-Infinity", b'{"a":[NaN]}']
TOO_LARGE: Final = [b"1e400", b"-1E400", b'{"a":1e999999999}', b"1" + b"0" * 400 + b".0"]
HALF_CHARACTERS: Final = [
    rb'"\ud800"',
    rb'"\udfff"',
    rb'"\ude00\ud83d"',
    rb'{"\ud800":1}',
    rb'[[{"a":"\uD83D x"}]]',
]
NULS: Final = [rb'"\u0000"', rb'{"\u0000":1}', rb'[{"a":["x\u0000y"]}]']


def refusal(body: bytes) -> str:
    with pytest.raises(NotStrictJson) as refused:
        parse(body)
    return str(refused.value)


def tried(body: bytes) -> None:
    with suppress(NotStrictJson):
        parse(body)


class TestParse:
    @pytest.mark.parametrize(("body", "expected"), GOOD)
    def test_reads_json(self, body: bytes, expected: object) -> None:
        assert parse(body) == expected

    def test_leaves_whole_numbers_whole(self) -> None:
        assert type(parse(b"15000")) is int
        assert type(parse(b"15000.0")) is float

    @pytest.mark.parametrize(
        ("bodies", "sentence"),
        [
            (NOT_JSON, "The body is not JSON."),
            (NOT_UTF_8, "The body is not UTF-8."),
            (REPEATED_KEYS, "The body repeats a key."),
            (NO_NUMBERS, "The body has a number that JSON does not have."),
            (TOO_LARGE, "The body has a number that is too large."),
            (HALF_CHARACTERS, "The body has half a character (a lone surrogate) in it."),
            (NULS, "The body has a NUL character in it."),
            ([b"\xef\xbb\xbf{}"], "The body starts with a byte order mark."),
        ],
    )
    def test_refuses_with_a_reason(self, bodies: list[bytes], sentence: str) -> None:
        assert {body[:40]: refusal(body) for body in bodies} == {body[:40]: sentence for body in bodies}

    @pytest.mark.parametrize("opening", [b"[", b'{"a":'])
    def test_takes_the_deepest_nesting_and_no_deeper(self, opening: bytes) -> None:
        closing = b"]" if opening == b"[" else b"}"

        assert parse(opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH)
        assert refusal(opening * (MAX_DEPTH + 1) + b"1" + closing * (MAX_DEPTH + 1)) == "The body is nested too deeply."

    @pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
    def test_refuses_depth_that_would_break_a_recursive_parser(self, opening: bytes) -> None:
        assert refusal(opening * (64_000 // len(opening)))

    @pytest.mark.parametrize(
        "body",
        [
            f'{{"{CANARY}":1,"{CANARY}":2}}',
            f'"{CANARY}\\u0000"',
            f'"{CANARY}\\ud800"',
            f"[{CANARY}]",
            f'"{CANARY}',
        ],
    )
    def test_never_repeats_what_was_sent(self, body: str) -> None:
        with pytest.raises(NotStrictJson) as refused:
            parse(body.encode())

        assert CANARY not in f"{refused.value!r}"
        assert refused.value.__suppress_context__ or refused.value.__context__ is None

    @pytest.mark.parametrize(
        ("opening", "piece", "closing"),
        [
            ("[", "0,", "0]"),
            ("[", "[],", "0]"),
            ("[", "{},", "0]"),
            ("[", '"",', "0]"),
            ("[", '{"a":0},', "0]"),
            ("[", f"{'[' * 31}{']' * 31},", "0]"),
            ("[", f"{'9' * 4_300},", "0]"),
            ("[", "1.7976931348623157e-300,", "0]"),
            ('"', "a", '"'),
            ('"', r"\ud83d\ude00", '"'),
            ("1.", "9", ""),
            ("1e-", "9", ""),
            ('{"b":0', ',"a":0', "}"),
            ("", '{"a":', ""),
        ],
        ids=str,
    )
    def test_takes_time_that_grows_with_the_body_alone(self, opening: str, piece: str, closing: str) -> None:
        short, long = (f"{opening}{piece * (size // len(piece))}{closing}".encode() for size in (16_000, 128_000))

        assert steps(lambda: tried(long)) <= 9 * steps(lambda: tried(short))

    def test_reads_ten_thousand_members_once_each(self) -> None:
        body = json.dumps({f"m{number}": number for number in range(10_000)}).encode()

        assert parse(body) == json.loads(body)

    @given(
        value=st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(10**300), 10**300)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
            max_leaves=20,
        ),
        ascii_only=st.booleans(),
    )
    def test_gives_back_any_value_that_was_written(self, value: object, *, ascii_only: bool) -> None:
        body = json.dumps(value, ensure_ascii=ascii_only).encode()

        assert parse(body) == value

    @given(st.binary(max_size=200))
    @example(b'{"a":"\xed\xa0\x80"}')
    @example(b"\xef\xbb\xbf")
    def test_reads_or_refuses_any_bytes_and_never_breaks(self, body: bytes) -> None:
        with suppress(NotStrictJson):
            parse(body)
