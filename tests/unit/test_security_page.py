"""The page on security names tests; each of them exists."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED: Final = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)*)`", PAGE)))


@cache
def names_in(file: Path) -> set[str]:
    """`Class`, `Class::test` and `test` of a file."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}::{method.name}" for method in methods}
    return found


class TestPage:
    @pytest.mark.parametrize("named", NAMED)
    def test_names_a_test_that_exists(self, named: str) -> None:
        path, _, name = named.partition("::")

        assert (ROOT / path).is_file()
        assert not name or name in names_in(ROOT / path)

    def test_names_tests_at_all(self) -> None:
        assert len(NAMED) > 50

    def test_leads_to_pages_that_exist(self) -> None:
        pages = re.findall(r"\]\((\w+\.md)\)", PAGE)

        assert pages
        assert [page for page in pages if not (ROOT / "docs" / page).is_file()] == []
