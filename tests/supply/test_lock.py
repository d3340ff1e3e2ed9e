import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
from packaging.markers import Marker
from supply.audit import disorder, locked_to_run, surprises
from supply.expected import expected, wanted
from supply.lock import LOCKS, ROOT, NotPinned, Pin, pins

HASH = f"--hash=sha256:{'0' * 64}"
TABLES = expected()
# How a licence is called by those who do not write it as SPDX has it.
SYNONYMS = {"MIT License": "MIT", "BSD License": "BSD-3-Clause", "Apache 2.0": "Apache-2.0"}


class TestLockFiles:
    def test_pin_every_package_to_one_version_with_hashes(self) -> None:
        assert list(disorder({lock.name: lock.read_text(encoding="utf-8") for lock in LOCKS})) == []

    def test_each_holds_everything_of_the_one_before(self) -> None:
        to_run, local, dev = (set(pins(lock.read_text(encoding="utf-8"))) for lock in LOCKS)

        assert to_run < local < dev

    @pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
    def test_say_nothing_of_where_to_fetch(self, lock: Path) -> None:
        """Whoever installs has an index of their own, and the hashes hold for every one."""
        text = lock.read_text(encoding="utf-8")

        assert re.findall(r"://|@|^\s*-(?!-hash=)|\.(?:com|org|net|io)\b", text, re.MULTILINE) == []

    @pytest.mark.parametrize("file", ["Makefile", "Dockerfile", ".ci/run"])
    def test_are_all_that_is_installed(self, file: str) -> None:
        """But for this package itself, which brings nothing along."""
        text = re.sub(r"\\\n\s*", "", (ROOT / file).read_text(encoding="utf-8"))

        installing = [line for line in text.splitlines() if re.search(r"\bpip\b.*\binstall\b", line)]

        assert [line for line in installing if "--require-hashes" not in line and "--no-deps -e ." not in line] == []
        assert "uv pip install" not in text

    def test_take_nothing_that_is_younger_than_a_week(self) -> None:
        assert "--exclude-newer '7 days'" in (ROOT / "Makefile").read_text(encoding="utf-8")


class TestPins:
    def test_are_read_with_their_markers(self) -> None:
        text = f"one==1.0 \\\n    {HASH} \\\n    {HASH}\nTwo.x==2 ; sys_platform != 'win32' \\\n    {HASH}\n"

        assert list(pins(text)) == [Pin("one", "1.0", ""), Pin("two-x", "2", 'sys_platform != "win32"')]

    @pytest.mark.parametrize(
        "line",
        [
            "one==1.0",
            f"one {HASH}",
            f"one>=1.0 {HASH}",
            f"one==1.* {HASH}",
            f"one==1.0,!=1.1 {HASH}",
            f"one[more]==1.0 {HASH}",
            f"one @ https://packages.example/one.whl {HASH}",
            f"https://packages.example/one.whl {HASH}",
            f"git+https://code.example/one@main {HASH}",
            f"one==1.0 --hash=md5:{'0' * 32}",
            f"one==1.0 {HASH} --index-url https://packages.example",
            "--index-url https://packages.example",
            "-r others.txt",
            "-e .",
        ],
    )
    def test_are_nothing_else(self, line: str) -> None:
        with pytest.raises(NotPinned):
            list(pins(line))

    def test_of_two_files_that_differ_are_told(self) -> None:
        locks = {"a.txt": f"one==1.0 {HASH}", "b.txt": f"one==1.1 {HASH}", "c.txt": "two>=1"}

        assert list(disorder(locks)) == [
            "b.txt: one is 1.1, and 1.0 elsewhere",
            "c.txt: not one version with hashes: two>=1",
        ]


class TestWhatIsInstalled:
    def test_is_named_with_its_reason(self) -> None:
        assert list(surprises(TABLES)) == []

    def test_is_told_when_it_is_not_named(self) -> None:
        tables = expected()
        del tables.direct["fastapi"], tables.indirect["starlette"], tables.tools["ruff"]
        tables.indirect["left-pad"] = ("MIT", "nothing")

        assert list(surprises(tables)) == [
            "pyproject.toml asks for fastapi, which has no row",
            "requirements.txt has fastapi, which has no row",
            "requirements.txt has starlette, which has no row",
            "left-pad has a row, and nothing requirements.txt has it",
            "pyproject.toml asks, for tools, ruff, which has no row",
        ]

    def test_of_the_tools_is_nothing_in_the_image_by_itself(self) -> None:
        to_run, for_tools = wanted()

        assert to_run & for_tools == set()


class TestLicences:
    @pytest.mark.parametrize("pin", locked_to_run(), ids=lambda pin: f"{pin.name} {pin.version}")
    def test_are_what_the_package_says(self, pin: Pin) -> None:
        if pin.where and not Marker(pin.where).evaluate():
            pytest.skip("it is for other machines")
        try:
            told = metadata(pin.name).json
        except PackageNotFoundError:
            pytest.fail("it is locked and not installed")
        classified = [line.rpartition(" :: ")[2] for line in told.get("classifier", []) if "License" in line]

        stated = str(told.get("license_expression") or told.get("license") or classified[0])

        (licence, _) = (TABLES.direct | TABLES.indirect)[pin.name]
        assert SYNONYMS.get(stated, stated) == licence

    def test_bind_a_shop_to_nothing(self) -> None:
        found = {licence for licence, _ in (TABLES.direct | TABLES.indirect).values()}

        assert [licence for licence in sorted(found) if not _is_allowed(licence)] == []
        assert not _is_allowed("MIT AND GPL-3.0-or-later")

    def test_are_allowed_only_where_one_is_used(self) -> None:
        used = {
            part
            for licence, _ in (TABLES.direct | TABLES.indirect).values()
            for part in re.split(r" (?:AND|OR) ", licence)
        }

        assert used == set(TABLES.licences)


def _is_allowed(expression: str) -> bool:
    return all(set(part.split(" OR ")) & set(TABLES.licences) for part in expression.split(" AND "))


class TestBandit:
    def test_leaves_out_only_what_ruff_has_us_explain_line_by_line(self) -> None:
        tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
        lint = tools["ruff"]["lint"]
        ours = [rules for place, rules in lint["per-file-ignores"].items() if not place.startswith("tests/")]
        unexplained = {*lint["ignore"], *(rule for rules in ours for rule in rules)}

        # Ruff has no twin of B404 outside its preview; B603 finds each start of a program.
        twins = {f"S{rule.removeprefix('B')}" for rule in tools["bandit"]["skips"]} - {"S404"}

        assert lint["select"] == ["ALL"]
        assert [rule for rule in twins if any(rule.startswith(prefix) for prefix in unexplained)] == []
