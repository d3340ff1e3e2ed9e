"""Every regular expression of the source, on texts of a megabyte: none can be made slow."""

import ast
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

from tests.unit.linear import slow_parts, witnesses

ROOT: Final = Path(__file__).parents[2]
# Where modules have their names from, and the folder of them.
SOURCES: Final = ((ROOT / "src", "."), (ROOT, "deploy"))
FUNCTIONS: Final = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
# These try every place of the text as a beginning. What is compiled is asked by `match` or `fullmatch`, or is here.
ANYWHERE: Final = {"search", "sub", "subn", "split", "findall", "finditer"}
# What is looked for everywhere and has an end that may be missing, in texts where it is never missing.
NEVER_IN_VAIN: Final = {
    r'"(?:[^"\\]|\\.)*"|-?\d[0-9.eE+-]*': "in JSON that was read already, every quote is closed",
}
# Modules that put patterns together and never ask them of a long text; `test_redaction` shows how long at the most.
ASKED_OF_LITTLE: Final = {"payments.redaction"}
MEGABYTE: Final = 1_000_000
# A hundred times what it takes: this is no measurement, and a pattern that goes back takes hours.
SECONDS: Final = 1.0


@dataclass(frozen=True)
class Found:
    """Where a pattern stands, and what it is."""

    place: str
    pattern: str
    anywhere: bool


class Unreadable(Exception):
    """A pattern that is put together at run time: neither a word, nor a name of its module."""


def patterns_in(source: str, module: str, *, asked_anywhere: set[str]) -> Iterator[Found]:
    """What is given to a function of `re`, or to anything as its `pattern`.

    Raises:
        Unreadable: One could be anything.
    """
    tree = ast.parse(source)
    names = {id(node.value): node.targets[0] for node in ast.walk(tree) if isinstance(node, ast.Assign)}
    names |= {id(node.value): node.target for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = _function(call)
        given = call.args[:1] if function else [word.value for word in call.keywords if word.arg == "pattern"]
        for expression in given:
            target = names.get(id(call))
            name = target.id if isinstance(target, ast.Name) else ""
            # What is compiled and given no name could be asked in any way.
            anywhere = function in ANYWHERE or (function == "compile" and (not name or name in asked_anywhere))
            yield Found(f"{module}:{call.lineno}", _text(expression, name, module), anywhere)


def looked_for_anywhere(source: str) -> set[str]:
    """The names of everything that has a method called so; most of them are texts."""
    owners = (
        ast.unparse(node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and node.attr in ANYWHERE
    )
    return {owner.rpartition(".")[2] for owner in owners}


def _function(call: ast.Call) -> str:
    """The one of `re` that is called, or nothing."""
    module, _, name = ast.unparse(call.func).rpartition(".")
    return name if module == "re" and name in FUNCTIONS else ""


def _text(expression: ast.expr, name: str, module: str) -> str:
    known: object = expression.value if isinstance(expression, ast.Constant) else None
    if known is None:
        known = vars(import_module(module)).get(expression.id if isinstance(expression, ast.Name) else name)
    if isinstance(known, re.Pattern):
        known = known.pattern
    if isinstance(known, bytes):
        return known.decode("latin-1")
    if isinstance(known, str):
        return known
    raise Unreadable(f"{module}:{expression.lineno}: {ast.unparse(expression)}")


@cache
def all_sources() -> dict[str, str]:
    """The text of every module."""
    files = {path: root for root, folder in SOURCES for path in sorted((root / folder).rglob("*.py"))}
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path.read_text("utf-8")
        for path, root in files.items()
    }


@cache
def all_patterns() -> list[Found]:
    asked_anywhere = set().union(*map(looked_for_anywhere, all_sources().values()))
    return [
        found
        for module, source in all_sources().items()
        if module not in ASKED_OF_LITTLE
        for found in patterns_in(source, module, asked_anywhere=asked_anywhere)
    ]


class TestEveryPattern:
    @pytest.mark.parametrize("found", all_patterns(), ids=lambda found: found.place)
    def test_has_one_way_through_any_text(self, found: Found) -> None:
        anywhere = found.anywhere and found.pattern not in NEVER_IN_VAIN

        assert list(slow_parts(found.pattern, anywhere=anywhere)) == []

    def test_is_excused_only_where_it_stands(self) -> None:
        assert set(NEVER_IN_VAIN) <= {found.pattern for found in all_patterns()}

    @pytest.mark.parametrize("found", all_patterns(), ids=lambda found: found.place)
    def test_reads_a_megabyte_at_once(self, found: Found) -> None:
        pattern = re.compile(found.pattern)

        began = time.thread_time()
        for character in witnesses(found.pattern):
            for text in (character * MEGABYTE, f"{character * MEGABYTE}\0"):
                pattern.fullmatch(text)
                if found.anywhere:
                    pattern.sub("", text)

        assert time.thread_time() - began < SECONDS * len(witnesses(found.pattern))

    def test_is_found(self) -> None:
        """So that an empty list is not taken for a clean one."""
        places = {found.place.rpartition(":")[0] for found in all_patterns()}

        assert {"payments.api.schemas", "payments.settings", "demo_shop.pages", "toss_sandbox.listings"} <= places

    def test_goes_through_the_names_that_are_looked_for(self) -> None:
        """`from re import ...`, another engine, and pydantic's way to Python's own."""
        unseen = re.compile(r"^ *(?:from re import|import re as|import regex)|regex_engine|python-re", re.MULTILINE)

        assert [module for module, source in all_sources().items() if unseen.search(source)] == []


class TestSlowPatterns:
    @pytest.mark.parametrize(
        "pattern",
        [
            r"(a+)+$",
            r"(a*)*$",
            r"(a|aa)+$",
            r"(a|a)*b",
            r"(.*)x(.*)y",
            r"a*a*b",
            r"^\s+|\s+$",
            r"([a-z]+)*[0-9]",
            r"(x?)*y",
            r"(?:a?b?)+c",
            r"[A-Za-z0-9._]+@[A-Za-z0-9.]+\.[a-z]+",
            r"\d+\w*!",
            r"[^,]*\S*;",
            r"(a+?)+b",
            r"(a)\1*",
            r"(?=a+)a*",
            r"[가-힣]*[각-힣]*!",
            r"(?:a?a)+b",
            r"(?:a*)?a*b",
        ],
    )
    def test_are_seen(self, pattern: str) -> None:
        assert list(slow_parts(pattern, anywhere=True)) != []

    @pytest.mark.parametrize(
        "pattern", [r"(?:x_)?([a-z]{8})(?:_.*)?", r"[a-z]+(\.[a-z]+)*", r"(?:ab|cd)+e", r"\s*[^\s]+", r"a?a?a?b"]
    )
    def test_are_told_from_quick_ones(self, pattern: str) -> None:
        assert list(slow_parts(pattern, anywhere=False)) == []

    def test_that_are_long_are_seen_where_they_are_looked_for_everywhere(self) -> None:
        assert list(slow_parts(r"<[^>]+>", anywhere=False)) == []
        assert list(slow_parts(r"<[^>]+>", anywhere=True)) != []
        assert list(slow_parts(r"<[^>]+", anywhere=True)) == []

    @pytest.mark.parametrize(
        ("source", "anywhere"),
        [
            ("re.search(r'a+', x)", True),
            ("re.fullmatch(r'a+', x)", False),
            ("A = re.compile(r'a+')\nA.fullmatch(x)", False),
            ("A: Final = re.compile(r'a+')\nA.search(x)", True),
            ("A = re.compile(r'a+')\nfind = A.search", True),
            ("A = {1: re.compile(r'a+')}", True),
            ("A = re.compile(rb'a+')", False),
            ("A = Annotated[str, Field(pattern=r'a+')]", False),
        ],
    )
    def test_are_found_in_a_source(self, source: str, anywhere: bool) -> None:  # noqa: FBT001 - a row of the table
        found = patterns_in(source, "nowhere", asked_anywhere=looked_for_anywhere(source))

        assert list(found) == [Found("nowhere:1", "a+", anywhere)]

    def test_put_together_at_run_time_are_refused(self) -> None:
        with pytest.raises(Unreadable):
            list(patterns_in("re.compile(f'{x}+')", "payments.ids", asked_anywhere=set()))
