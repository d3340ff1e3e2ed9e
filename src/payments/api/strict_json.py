"""JSON as RFC 8259 means it, and stricter: one meaning for every body, and nothing the database cannot keep."""

import json
import re
from collections.abc import Iterable
from typing import Final, NoReturn, TypeGuard

MAX_DEPTH: Final = 32
_HALF_CHARACTER: Final = re.compile("[\ud800-\udfff]")


class NotStrictJson(ValueError):
    """The message says what is wrong, without repeating any of it."""


def parse(body: bytes) -> object:
    """Parse a body that has exactly one reading.

    Raises:
        NotStrictJson: it is not UTF-8 or not JSON, starts with a byte order mark, is nested deeper than 32, repeats a
            key, or has a NaN, an infinite or oversized number, a lone surrogate or a NUL in it.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        raise NotStrictJson("The body starts with a byte order mark.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise NotStrictJson("The body is not UTF-8.") from None
    try:
        value: object = json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except NotStrictJson:
        raise
    except (ValueError, RecursionError):  # ValueError also for an integer of thousands of digits
        raise NotStrictJson("The body is not JSON.") from None
    _check(value)
    return value


def _object(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise NotStrictJson("The body repeats a key.")
        found[key] = value
    return found


def _refuse_constant(_: str) -> NoReturn:
    raise NotStrictJson("The body has a number that JSON does not have.")


def _finite_float(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise NotStrictJson("The body has a number that is too large.")
    return number


def _check(value: object) -> None:
    """Walk the value without recursion, so that depth costs nothing."""
    level: list[object] = [value]
    depth = 0
    while level:
        for text in filter(_is_text, level):
            _check_text(text)
        containers = [member for member in level if isinstance(member, (dict, list))]
        depth += bool(containers)
        if depth > MAX_DEPTH:
            raise NotStrictJson("The body is nested too deeply.")
        level = [child for container in containers for child in _children(container)]


def _is_text(member: object) -> TypeGuard[str]:
    return isinstance(member, str)


def _children(container: dict[str, object] | list[object]) -> list[object]:
    return [*container.keys(), *container.values()] if isinstance(container, dict) else container


def _check_text(text: str) -> None:
    if "\0" in text:
        raise NotStrictJson("The body has a NUL character in it.")
    if _HALF_CHARACTER.search(text):
        raise NotStrictJson("The body has half a character (a lone surrogate) in it.")
