"""Card numbers in text: whether there is one, and the text without it. Linear in the length of the text."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

SHORTEST: Final = 13  # ISO/IEC 7812
LONGEST: Final = 19
SHOWN: Final = 4  # digits at the end, as on receipts

# Single spaces and dashes stand between the digits, of whatever alphabet (`\d` is Unicode's).
_SPACES: Final = " \u00a0\u2000-\u200a\u202f\u205f\u3000"
_DASHES: Final = "\u2010-\u2015\u2212\ufe58\ufe63\uff0d-"  # the plain one last, where it means itself
SEPARATORS: Final = f"{_SPACES}{_DASHES}"  # inside a class of a pattern
_RUN: Final = re.compile(rf"\d(?:[{SEPARATORS}]?\d){{{SHORTEST - 1},}}")
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[0-9.eE+-]*')  # of JSON: a text or a number

# By the first two digits. From 20 and 21 no card is issued, and order numbers that begin with a date are; the cards
# that pay in Korea alone begin with 9.
_INTERNATIONAL: Final = frozenset({*range(22, 28), *range(30, 70)})
_DOMESTIC: Final = range(90, 100)
_DOMESTIC_LENGTH: Final = 16
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)  # the sum of the digits of twice the digit


def has_card_number(text: str) -> bool:
    """Whether a card number stands in `text`: 13 to 19 digits that pass Luhn's check and begin like a card's.

    Single spaces or dashes may stand between the digits. What is a part of a longer row of digits is none.
    """
    return any(_Run(found[0]).has_card() for found in _RUN.finditer(text))


def mask(text: str) -> str:
    """Return `text` with `*` for all digits but the last four of each card number, and otherwise as it was."""
    return _RUN.sub(lambda found: _Run(found[0]).masked(), text)


def mask_json(body: bytes) -> bytes:
    """Return JSON with every card number in it masked, and otherwise byte for byte as it was.

    Raises:
        ValueError: it is not JSON in UTF-8.
    """
    text = body.decode()
    # A digit that is written as an escape is still a digit to whoever reads it.
    if "\\u" not in text and not has_card_number(text):
        return body
    return _TOKEN.sub(lambda found: _masked_token(found[0]), text).encode()


def _masked_token(token: str) -> str:
    if len(token) < SHORTEST:
        return token
    told = json.loads(token) if token.startswith('"') else token
    masked = mask(told)
    return token if masked == told else json.dumps(masked)


class _Run:
    """Digits with at most one separator between each two. Cards begin and end where a group of digits does."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._places = [place for place, character in enumerate(text) if character.isdecimal()]
        self._digits = [int(text[place]) for place in self._places]
        gaps = [after - before > 1 for before, after in zip(self._places, self._places[1:], strict=False)]
        self._begins = [True, *gaps]
        self._ends = [*gaps, True]
        self._sums = (self._luhn_sums(plain=0), self._luhn_sums(plain=1))

    def has_card(self) -> bool:
        return any(self._card_from(start) is not None for start in range(len(self._digits) - SHORTEST + 1))

    def masked(self) -> str:
        characters = list(self._text)
        for place in self._hidden():
            characters[place] = "*"
        return "".join(characters)

    def _hidden(self) -> Iterator[int]:
        start = 0
        while start <= len(self._digits) - SHORTEST:
            end = self._card_from(start)
            if end is None:
                start += 1
                continue
            yield from self._places[start : end - SHOWN]
            start = end - SHOWN
            self._begins[start] = True  # a group of what is still shown

    def _card_from(self, start: int) -> int | None:
        """Where the longest card number ends that begins here."""
        if not self._begins[start]:
            return None
        first_two = 10 * self._digits[start] + self._digits[start + 1]
        if first_two in _INTERNATIONAL:
            lengths: Sequence[int] = range(LONGEST, SHORTEST - 1, -1)
        else:
            lengths = (_DOMESTIC_LENGTH,) if first_two in _DOMESTIC else ()
        return next((start + length for length in lengths if self._is_card(start, start + length)), None)

    def _is_card(self, start: int, end: int) -> bool:
        if end > len(self._digits) or not self._ends[end - 1]:
            return False
        sums = self._sums[(end - 1) % 2]
        return (sums[end] - sums[start]) % 10 == 0

    def _luhn_sums(self, *, plain: int) -> list[int]:
        """Sums from the left, in which the even places (0) or the odd ones (1) count as they are."""
        values = list(self._digits)
        values[1 - plain :: 2] = [_DOUBLED[digit] for digit in values[1 - plain :: 2]]
        return [0, *accumulate(values)]
