"""Whether a regular expression can be made slow: read from its parse tree, for every input there is."""

import re
from collections.abc import Iterable, Iterator, Sequence
from re import _constants as code  # the parse tree has no public name
from re import _parser
from typing import Any, Final

Node = tuple[Any, Any]
Chars = frozenset[int]

# What decides whether two classes overlap. ASCII and Latin hold members of every category; the others are what programs
# are attacked with: Hangul, full-width digits, a lone surrogate, an emoji.
ALPHABET: Final = frozenset({*range(0x250), 0xAC00, 0xFF11, 0xD800, 0x1F600})
CATEGORIES: Final = {
    code.CATEGORY_DIGIT: r"\d",
    code.CATEGORY_NOT_DIGIT: r"\D",
    code.CATEGORY_SPACE: r"\s",
    code.CATEGORY_NOT_SPACE: r"\S",
    code.CATEGORY_WORD: r"\w",
    code.CATEGORY_NOT_WORD: r"\W",
}
REPEATS: Final = {code.MAX_REPEAT, code.MIN_REPEAT}


def slow_parts(pattern: str, *, anywhere: bool) -> Iterator[str]:
    """What could make matching take longer than in proportion to the text.

    A repeat is safe where the next character alone decides whether it goes on: then there is one way through any text,
    and nothing to go back to. That is more than is needed, and every pattern that is worth having can be written so.

    Args:
        pattern: As it is given to `re`.
        anywhere: It is looked for at every place of the text (`search`, `sub`), so that what is long is read often.
    """
    tree = list(_parser.parse(pattern))
    yield from _slow(tree, frozenset(), repeated=False)
    if anywhere and _reads_far_in_vain(tree):
        yield "is looked for everywhere, and may read far before it fails"


def witnesses(pattern: str) -> set[str]:
    """One character of each class in it: what it can be fed for as long as one likes."""
    return {chr(min(chars)) for node in _all_nodes(list(_parser.parse(pattern))) if (chars := _own_chars(node))}


def _reads_far_in_vain(tree: list[Node]) -> bool:
    """At the very end a repeat may be as long as it likes: what follows it cannot fail."""
    kind, told = tree[-1]
    end = list(told[2]) if kind in REPEATS else tree[-1:]
    return _is_long(tree[:-1]) or _is_long(end)


def _is_long(sequence: Sequence[Node]) -> bool:
    return any(kind in REPEATS and told[1] == code.MAXREPEAT for kind, told in _all_nodes(sequence))


def _slow(sequence: Sequence[Node], follow: Chars, *, repeated: bool) -> Iterator[str]:
    for position, (kind, told) in enumerate(sequence):
        after = _first(sequence[position + 1 :], follow)
        if kind in REPEATS:
            least, most, body = told
            if most > 1:
                yield from _slow_repeat(list(body), after, is_choice=most > least)
            else:
                yield from _slow_option(list(body), after, is_choice=repeated and most > least, repeated=repeated)
        elif kind is code.SUBPATTERN:
            yield from _slow(list(told[-1]), after, repeated=repeated)
        elif kind is code.BRANCH:
            yield from _slow_branch([list(branch) for branch in told[1]], after, repeated=repeated)
        elif _own_chars((kind, told)) is None and kind is not code.AT:
            yield f"{kind} is not understood here"


def _slow_repeat(body: list[Node], after: Chars, *, is_choice: bool) -> Iterator[str]:
    begins = _first(body, frozenset())
    if is_choice and begins & after:
        yield f"may go on or end at {chr(min(begins & after))!r}"
    if _can_be_empty(body):
        yield "repeats what can be nothing"
    yield from _slow(body, after | begins, repeated=True)


def _slow_option(body: list[Node], after: Chars, *, is_choice: bool, repeated: bool) -> Iterator[str]:
    if is_choice and _first(body, frozenset()) & after:
        yield "repeats a choice of something or nothing that begin alike"
    yield from _slow(body, after, repeated=repeated)


def _slow_branch(branches: list[list[Node]], after: Chars, *, repeated: bool) -> Iterator[str]:
    """Outside a repeat each is tried once at most, whatever the text."""
    for position, branch in enumerate(branches):
        others = _all(_first(other, after) for other in branches[:position])
        if repeated and _first(branch, after) & others:
            yield "repeats a choice of two that begin alike"
        yield from _slow(branch, after, repeated=repeated)


def _first(sequence: Sequence[Node], follow: Chars) -> Chars:
    """The characters that it can begin with; those after it as well where it can be nothing."""
    found: Chars = frozenset()
    for node in sequence:
        found |= _first_of(node)
        if not _can_be_empty([node]):
            return found
    return found | follow


def _first_of(node: Node) -> Chars:
    kind, told = node
    if kind in REPEATS:
        return _first(list(told[2]), frozenset())
    if kind is code.SUBPATTERN:
        return _first(list(told[-1]), frozenset())
    if kind is code.BRANCH:
        return _all(_first(list(branch), frozenset()) for branch in told[1])
    return _own_chars(node) or frozenset()


def _can_be_empty(sequence: Sequence[Node]) -> bool:
    return all(map(_is_empty, sequence))


def _is_empty(node: Node) -> bool:
    kind, told = node
    if kind in REPEATS:
        return told[0] == 0 or _can_be_empty(list(told[2]))
    if kind is code.SUBPATTERN:
        return _can_be_empty(list(told[-1]))
    if kind is code.BRANCH:
        return any(_can_be_empty(list(branch)) for branch in told[1])
    return kind is code.AT


def _own_chars(node: Node) -> Chars | None:
    """What a node that takes one character takes; None for every other node."""
    kind, told = node
    if kind is code.LITERAL:
        return frozenset({told})
    if kind is code.NOT_LITERAL:
        return ALPHABET - {told}
    if kind is code.ANY:
        return ALPHABET - {ord("\n")}
    if kind is code.IN:
        listed = _all(map(_members, told))
        return ALPHABET - listed if told[0][0] is code.NEGATE else listed
    return None


def _members(node: Node) -> Chars:
    kind, told = node
    if kind is code.LITERAL:
        return frozenset({told})
    if kind is code.RANGE:
        return frozenset(range(told[0], told[1] + 1))
    if kind is code.CATEGORY:
        return frozenset(char for char in ALPHABET if re.match(CATEGORIES[told], chr(char)))
    return frozenset()


def _all(classes: Iterable[Chars]) -> Chars:
    return frozenset[int]().union(*classes)


def _all_nodes(sequence: Sequence[Node]) -> Iterator[Node]:
    for kind, told in sequence:
        yield kind, told
        inner = [told[2]] if kind in REPEATS else [told[-1]] if kind is code.SUBPATTERN else []
        for part in told[1] if kind is code.BRANCH else inner:
            yield from _all_nodes(list(part))
