"""Card numbers, wherever they stand in a text: none of them belongs here, and none of them may stay."""

import re
from itertools import accumulate
from typing import Final

FEWEST_DIGITS: Final = 13
MOST_DIGITS: Final = 19
SHOWN_DIGITS: Final = 4
_FIRST_DIGITS: Final = frozenset("23456")  # ISO/IEC 7812: of banks and merchants
_RUN: Final = re.compile(r"[0-9](?:[ -]?[0-9]){12,}")
_GROUP: Final = re.compile(r"[0-9]+")


def mask(text: str) -> str:
    """Replace the digits of every card number but its last four by `*`. Takes time in proportion to the text."""
    return _RUN.sub(lambda run: _mask_run(run[0]), text)


def _mask_run(run: str) -> str:
    """A number begins and ends where a group of digits does; before and behind it others may stand, such as amounts."""
    groups = [(found.start(), found.end()) for found in _GROUP.finditer(run)]
    pieces, told, first = [], 0, 0
    while first < len(groups):
        last = _last_group_of_card(run, groups, first)
        if last is not None:
            begin, end = groups[first][0], groups[last][1]
            pieces += [run[told:begin], _masked(run[begin:end])]
            told, first = end, last
        first += 1
    return "".join([*pieces, run[told:]])


def _last_group_of_card(run: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """The last group of the longest card number that begins with this group."""
    if run[groups[first][0]] not in _FIRST_DIGITS:
        return None
    found = None
    ahead = groups[first : first + MOST_DIGITS]
    for place, digits in enumerate(accumulate(end - begin for begin, end in ahead)):
        if digits > MOST_DIGITS:
            break
        if digits >= FEWEST_DIGITS and _is_luhn(run[ahead[0][0] : ahead[place][1]]):
            found = first + place
    return found


def _is_luhn(text: str) -> bool:
    digits = [int(character) for character in reversed(text) if character.isdecimal()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _masked(text: str) -> str:
    hidden = sum(character.isdecimal() for character in text) - SHOWN_DIGITS
    return re.sub("[0-9]", "*", text, count=hidden)
