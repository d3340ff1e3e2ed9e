"""What counts as a card number is computed here the slow way; the numbers are the card brands' own examples."""

import random
import re
import unicodedata
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from payments.card_numbers import has_card_number, mask, mask_json
from tests.steps import steps

VISA: Final = "4111111111111111"
CARDS: Final = (
    *("4111111111111111", "4222222222222", "4012888888881881", "4000000000000000006"),  # Visa: 16, 13, 16, 19
    *("5555555555554444", "5105105105105100", "2223003122003222", "2720990000000007"),  # Mastercard, the 2-series too
    *("378282246310005", "371449635398431", "30569309025904", "38520000023237"),  # American Express, Diners
    *(
        "3530111333300000",
        "6011111111111117",
        "6200000000000005",
        "6759649826438453",
    ),  # JCB, Discover, UnionPay, Maestro
    "9410000000000005",  # pays in Korea alone
)
NO_CARDS: Final = (
    *("", "0", "*", "1234", "토스 티셔츠 외 2건", "010-1234-5678", "02) 123-4567", "₩15,000", "1588-1588 1588-1588"),
    *(VISA[:-1] + "2", VISA[:12], "4111 1111 1111"),
    *(VISA * 2, f"{VISA}1111", f"0{VISA}", f"{VISA}0000", "4" * 20),
    *("4111  1111  1111  1111", "4111--1111--1111--1111", "4111, 1111, 1111, 1111", "4111\n1111\n1111\n1111"),
    *(
        "12345678****123*",
        "12345678****789*",
        "123*****90123",
        "************1111",
        "4111-****-****-1111",
    ),  # Toss masks so
    *("20261122143000018", "2026-11-22 14:30:00 0015", "2100000000000007", "tviva20260102144639Ab1Cd"),
    *("0000000000000000", "1000000000000008", "7000000000000005", "8801234567890128", "9780306406157", "1767332819000"),
)
WRITTEN: Final = (
    *(
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111-1111 1111-1111",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "41111111 11111111",
    ),
    *(
        "\uff14\uff11\uff11\uff11" + "1" * 12,
        "٤١١١١١١١١١١١١١١١",
        "\U0001d7d2" + "\U0001d7cf" * 15,
        "4१११ ११११ ११११ ११११",
    ),
    *("4111\u00a01111\u20091111\u30001111", "4111\u20101111\u20131111\u22121111", "4111\uff0d1111\uff0d1111\uff0d1111"),
)
AROUND: Final = (
    *("{}", "a{}b", "카드 {} 로", "({})", "{}.", "card:{},cvc:123", "\n{}\n", "{}원", "x_{}_x", "{}\u200b", "'{}'"),
    *("3 {}", "{} 123", "{} 12/29 123", "12345 {} 67890", "0-{}-0", "**** {}", "*{}*", "{}*"),
)


def is_card(digits: str) -> bool:
    """Luhn's check from the right, digit by digit, and the beginnings that cards have."""
    values = [unicodedata.decimal(digit) for digit in reversed(digits)]
    total = sum(value if place % 2 == 0 else sum(divmod(2 * value, 10)) for place, value in enumerate(values))
    first_two = 10 * values[-1] + values[-2]
    is_domestic = first_two >= 90 and len(digits) == 16
    return total % 10 == 0 and (22 <= first_two <= 27 or 30 <= first_two <= 69 or is_domestic)


def has_card_the_slow_way(text: str) -> bool:
    """Every stretch of 13 to 19 digits that no other digit touches."""
    pieces = re.split(r"(?<=\d)[ -](?=\d)|([^\d]+)", text)
    rows: list[list[str]] = [[]]
    for piece in pieces:
        if piece is None:
            continue
        if piece == "" or not piece.isdecimal():
            rows.append([])
        else:
            rows[-1].append(piece)
    return any(
        13 <= len(digits) <= 19 and is_card(digits)
        for row in rows
        for start in range(len(row))
        for end in range(start + 1, len(row) + 1)
        if (digits := "".join(row[start:end]))
    )


class TestFound:
    @pytest.mark.parametrize("number", CARDS)
    def test_are_the_numbers_of_every_brand(self, number: str) -> None:
        assert has_card_number(number)
        assert mask(number) == "*" * (len(number) - 4) + number[-4:]

    @pytest.mark.parametrize("number", WRITTEN)
    def test_are_numbers_however_they_are_written(self, number: str) -> None:
        digits = [place for place, character in enumerate(number) if character.isdecimal()]
        hidden = {*digits[:-4]}

        assert has_card_number(number)
        assert mask(number) == "".join("*" if at in hidden else character for at, character in enumerate(number))

    @pytest.mark.parametrize("around", AROUND)
    def test_are_numbers_wherever_they_stand(self, around: str) -> None:
        assert has_card_number(around.format(VISA))
        assert VISA[:-4] not in mask(around.format(VISA))
        assert mask(around.format("4111-1111-1111-1111")) == around.format("****-****-****-1111")

    @pytest.mark.parametrize("text", NO_CARDS)
    def test_is_nothing_else(self, text: str) -> None:
        assert not has_card_number(text)
        assert mask(text) == text

    def test_is_each_of_many(self) -> None:
        text = f"{VISA} 5555555555554444 / 378282246310005"

        assert mask(text) == "************1111 ************4444 / ***********0005"


class TestInJson:
    @pytest.mark.parametrize(
        ("body", "masked"),
        [
            (b'{"a":"4111 1111 1111 1111"}', b'{"a":"**** **** **** 1111"}'),
            (b'{"a": 4111111111111111 , "b":[1.5e3]}', b'{"a": "************1111" , "b":[1.5e3]}'),
            (b"[-4111111111111111,4111111111111111.0]", b'["-************1111","************1111.0"]'),
            (b'{"4111111111111111":"\\\\"}', b'{"************1111":"\\\\"}'),
            (rb'["\"4111111111111111\\","\n"]', rb'["\"************1111\\","\n"]'),
            (rb'["\u0034111111111111111","\u00e9"]', rb'["************1111","\u00e9"]'),
            (rb'["4111\u00201111 1111-1111"]', rb'["**** **** ****-1111"]'),
        ],
    )
    def test_are_masked_in_texts_names_and_numbers(self, body: bytes, masked: bytes) -> None:
        assert mask_json(body) == masked

    @pytest.mark.parametrize(
        "body",
        [
            b'{ "number" : "12345678****123*",\n"amount":15000 }',
            rb'{"a":"\uD1A0\uc2a4 \/ \u0034","b":20261122143000018,"c":"010-1234-5678"}',
            b'["4111","1111","1111","1111"]',
            b"[4111,1111,1111,1111]",
            b"null",
        ],
    )
    def test_leave_the_rest_byte_for_byte(self, body: bytes) -> None:
        assert mask_json(body) == body

    @pytest.mark.parametrize("piece", ['"",', '"4111 1111 1111 1111",', '"44444444444444444",', "1,", '"\\u0034",'])
    def test_are_looked_for_in_time_that_grows_with_the_body_alone(self, piece: str) -> None:
        short, long = (f"[{piece * (size // len(piece))}0]".encode() for size in (10_000, 80_000))

        assert steps(lambda: mask_json(long)) <= 9 * steps(lambda: mask_json(short))


class TestEveryText:
    @given(st.text(st.sampled_from("0123456789 -4123*a\uff14"), max_size=60))
    @example("4 " * 20)
    @example("4111 1111 1111 1111 1111 1111 1111 1111")
    @example("0000000000000000 4 0 0 0 0 0 0 0 0 0 0 0 0 2")
    def test_is_masked_so_that_no_card_number_is_left(self, text: str) -> None:
        masked = mask(text)

        assert not has_card_number(masked)
        assert mask(masked) == masked
        assert len(masked) == len(text)
        assert all(now == was or (now == "*" and was.isdecimal()) for now, was in zip(masked, text, strict=True))
        assert (masked != text) is has_card_number(text)

    def test_has_a_card_number_exactly_when_the_slow_way_finds_one(self) -> None:
        chance = random.Random(20261122)
        texts = [a_text_of_digits(chance) for _ in range(3_000)]

        found = [has_card_number(text) for text in texts]

        assert found == [has_card_the_slow_way(text) for text in texts]
        assert 300 < sum(found) < 2_700  # the texts are of both kinds

    @given(st.text(max_size=200))
    def test_breaks_nothing(self, text: str) -> None:
        assert len(mask(text)) == len(text)

    @pytest.mark.parametrize("piece", ["4 ", "4", "4-4 ", f"{VISA} ", "4" * 17 + " ", "4" * 12 + "  ", "1234567890 "])
    def test_takes_no_more_steps_for_each_character_when_it_is_long(self, piece: str) -> None:
        short, long = piece * (10_000 // len(piece)), piece * (80_000 // len(piece))

        assert steps(lambda: mask(long)) <= 9 * steps(lambda: mask(short))


def a_text_of_digits(chance: random.Random) -> str:
    groups = ("".join(chance.choices("0123456789", k=chance.choice((1, 3, 4, 4, 6, 13, 16, 17)))) for _ in range(6))
    return "".join(group + chance.choice((" ", "-", " ", "  ", ",", "")) for group in groups)
