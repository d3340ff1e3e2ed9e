"""The benchmark's small helpers: how figures are written and read again, and what counts as worse."""

from typing import Final

import pytest
from bench.figures import (
    MEGABYTES,
    MILLISECONDS,
    PER_SECOND,
    PERCENT,
    PIECES,
    SECONDS,
    Cell,
    Row,
    Table,
    fallen,
    number,
    read,
)
from bench.http1 import NotUnderstood, answer, bounds, request
from bench.load import percentile
from bench.options import Options
from bench.pgbench import NUMBER, Step, script
from bench.report import fallen_since, written_into

OPTIONS: Final = Options(seconds=10, rounds=3, soak_seconds=60)
TABLE: Final = Table(
    "Confirm",
    [
        Row("hot", {"rate": Cell([1234.5, 1200.0, 1300.0], PER_SECOND), "p99": Cell([12.34], MILLISECONDS)}),
        Row("plain", {"rate": Cell([400.0], PER_SECOND), "share": Cell([31.4], PERCENT), "rows": Cell([5], PIECES)}),
    ],
)


class TestNumber:
    @pytest.mark.parametrize(
        ("value", "written"),
        [
            (0, "0.00"),
            (1.234, "1.23"),
            (9.99, "9.99"),
            (10, "10.0"),
            (99.94, "99.9"),
            (100, "100"),
            (1234.5, "1,234"),
            (1_000_000, "1,000,000"),
        ],
    )
    def test_has_three_digits_that_matter(self, value: float, written: str) -> None:
        assert number(value) == written


class TestRead:
    def test_finds_what_a_table_says(self) -> None:
        assert read(TABLE.lines()) == {
            ("hot", "rate"): (1234, PER_SECOND),
            ("hot", "p99"): (12.3, MILLISECONDS),
            ("plain", "rate"): (400, PER_SECOND),
        }

    def test_keeps_tables_apart(self) -> None:
        lines = ["|  | a |", "| --- | --- |", "| one | 1.00 s |", "", "|  | b |", "| --- | --- |", "| one | 2.00 MB |"]

        assert read(lines) == {("one", "a"): (1.0, SECONDS), ("one", "b"): (2.0, MEGABYTES)}

    def test_passes_over_what_is_no_figure(self) -> None:
        assert read(["words", "|  | a | b | c |", "| --- | --- | --- | --- |", "| one | yes | 3 % | 5 |"]) == {}


class TestFallen:
    @pytest.mark.parametrize(
        ("unit", "now", "is_worse"),
        [
            (PER_SECOND, 67, False),
            (PER_SECOND, 66, True),
            (PER_SECOND, 500, False),
            (MILLISECONDS, 133, False),
            (MILLISECONDS, 134, True),
            (SECONDS, 134, True),
            (MEGABYTES, 134, True),
            (MEGABYTES, 1, False),
        ],
    )
    def test_tells_what_is_worse_by_more_than_a_third(self, unit: str, now: float, *, is_worse: bool) -> None:
        told = fallen({("one", "a"): (100.0, unit)}, {("one", "a"): (now, unit)})

        assert told == ([f"one, a: {number(now)} {unit}, was 100 {unit}"] if is_worse else [])

    def test_tells_nothing_of_what_is_new_or_gone(self) -> None:
        assert fallen({("gone", "a"): (100.0, PER_SECOND)}, {("new", "a"): (1.0, PER_SECOND)}) == []


class TestReport:
    TEXT: Final = "# Before\n\n<!-- figures -->\n\nold\n\n<!-- /figures -->\n\nAfter\n"

    def test_is_written_between_its_marks(self) -> None:
        written = written_into(self.TEXT, TABLE.lines(), options=OPTIONS)

        assert written.startswith("# Before\n\n<!-- figures -->\n\nMeasured on ")
        assert written.endswith("\n\n<!-- /figures -->\n\nAfter\n")
        assert "old" not in written
        assert all(line in written.splitlines() for line in TABLE.lines())

    def test_takes_the_place_of_the_last_one(self) -> None:
        once = written_into(self.TEXT, TABLE.lines(), options=OPTIONS)

        twice = written_into(once, TABLE.lines(), options=OPTIONS)

        assert (twice.count("Measured on"), twice.count("### Confirm"), twice.count("<!--")) == (1, 1, 2)

    @pytest.mark.parametrize("text", ["", "<!-- figures -->", "<!-- /figures -->"])
    def test_without_marks_is_not_written(self, text: str) -> None:
        with pytest.raises(ValueError, match="figures"):
            written_into(text, [], options=OPTIONS)

    def test_knows_what_has_fallen_since(self) -> None:
        before = written_into(self.TEXT, TABLE.lines(), options=OPTIONS)
        slow = Table("Confirm", [Row("hot", {"rate": Cell([500.0], PER_SECOND)})])

        assert fallen_since(before, TABLE.lines()) == []
        assert fallen_since(before, slow.lines()) == ["hot, rate: 500 /s, was 1,234 /s"]


class TestPercentile:
    @pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 51), (0.99, 100), (1, 100)])
    def test_is_the_value_below_which_the_share_lies(self, share: float, value: int) -> None:
        assert percentile(range(1, 101), share) == value

    def test_of_one_value_is_that_value(self) -> None:
        assert [percentile([7.0], share) for share in (0, 0.5, 0.99, 1)] == [7.0] * 4


class TestBounds:
    @pytest.mark.parametrize("message", [answer(b'{"a": 1}'), request("POST", "/", b"{}"), request("GET", "/")])
    def test_are_known_when_all_of_it_has_come(self, message: bytes) -> None:
        early = [bounds(message[:length]) for length in range(len(message))]

        head, end = bounds(message + b"of the next one") or (0, 0)

        assert set(early) == {None}
        assert end == len(message)
        assert message[:head].endswith(b"\r\n\r\n")

    def test_of_chunks_are_not_understood(self) -> None:
        with pytest.raises(NotUnderstood):
            bounds(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


class TestScript:
    def test_fills_in_each_placeholder(self) -> None:
        step = Step("SELECT %(one)s,\n  %(two)s::text, 5 %% 2", {"one": NUMBER, "two": "'x' || :n"})

        assert script([step]).splitlines()[-1] == "SELECT (:n), ('x' || :n)::text, 5 % 2;"

    def test_keeps_an_answer_for_later(self) -> None:
        lines = script([Step("SELECT 1 AS id", {}, answers_as="p_"), Step("SELECT %(id)s", {"id": ":p_id"})])

        assert lines.splitlines()[-2:] == ["SELECT 1 AS id \\gset p_", "SELECT (:p_id);"]

    def test_refuses_a_placeholder_without_a_value(self) -> None:
        with pytest.raises(KeyError):
            script([Step("SELECT %(one)s", {})])
