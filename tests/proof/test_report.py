"""What a full run leaves behind for readers."""

import re
from pathlib import Path

import pytest
from proof.__main__ import PARTS
from proof.findings import Failure, Figure, Findings
from proof.report import DOCS, HEADLINE, README, headline, lines_of, read, source, within

from proof import report

FOUND = Findings([Figure("runs", 1_234), Figure("slowest", 1.26, "s")], [Failure("I1 broke", "word")])


class TestReport:
    def test_stands_between_marks_and_leaves_the_rest(self) -> None:
        text = within("before\n<!-- crashes -->\nold\n<!-- /crashes -->\nafter", "crashes", lines_of(FOUND))

        assert read(text, "crashes") == {"runs": "1,234", "slowest": "1.3", "**violations**": "1"}
        assert text.startswith("before\n")
        assert text.endswith("\nafter")
        assert "old" not in text

    def test_needs_its_marks(self) -> None:
        with pytest.raises(ValueError, match="crashes"):
            within("nothing", "crashes", [])

    def test_has_a_place_for_every_part(self) -> None:
        docs = DOCS.read_text()

        assert [part for part in PARTS if f"<!-- {part} -->" not in docs or f"<!-- /{part} -->" not in docs] == []
        assert "<!-- headline -->" in README.read_text()


class TestSource:
    def test_names_the_commit_that_was_run(self) -> None:
        assert re.fullmatch(r"commit [0-9a-f]{7,}( and changes on top)?|no commit", source())

    def test_outside_of_a_checkout_there_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(report, "_ROOT", tmp_path)

        assert source() == "no commit"


class TestHeadline:
    def test_counts_what_was_done_and_what_broke(self) -> None:
        docs = within("<!-- crashes -->\n<!-- /crashes -->", "crashes", lines_of(FOUND))

        assert headline(docs) == "**1,234 lives of an order: 1 violation.**"

    def test_says_what_the_report_says(self) -> None:
        """The README is not edited by hand."""
        assert headline(DOCS.read_text()) in README.read_text()

    def test_names_figures_that_there_are(self) -> None:
        docs = DOCS.read_text()

        found = {part: read(docs, part) for part, _, _ in HEADLINE}
        assert [(part, name) for part, name, _ in HEADLINE if found[part] and name not in found[part]] == []
