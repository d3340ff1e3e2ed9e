"""The command: what it plays again, what it returns, what it says of failures, and what it clears away."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from proof.__main__ import BROKEN, HELD, INTERRUPTED, USAGE, main, run, told
from proof.failpoints import sites
from proof.findings import BadReplay, Failure, Findings, Options, Say
from proof.machine import CALM, SCENES, named
from proof.outages import plan

from proof import commits, cuts, report, world

NOTHING = Findings([])


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Parts that can be replaced; nothing is written, and nothing swept."""
    parts: dict[str, object] = {"storms": lambda _options, _say: NOTHING, "cuts": lambda _options, _say: NOTHING}
    monkeypatch.setattr("proof.__main__.PARTS", parts)
    monkeypatch.setattr("proof.__main__.sweep", lambda: 0)
    monkeypatch.setattr(report, "write", _never)
    return parts


def _never(*_: object, **__: object) -> None:
    raise AssertionError("docs/proof.md is not to be written")


class TestRun:
    def test_holds_if_nothing_has_failed(self, alone: dict[str, object]) -> None:
        assert run(list(alone), Options()) == HELD

    def test_goes_on_after_a_part_that_has_ended_before_its_time(
        self, alone: dict[str, object], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fails(_options: Options, _say: Say) -> Findings:
            raise OSError("no space left")

        alone["storms"] = fails

        assert run(list(alone), Options()) == BROKEN
        said = capsys.readouterr().out
        assert "OSError: no space left" in said
        assert "\ncuts\n" in said

    def test_goes_on_after_a_wait_that_was_in_vain(self, alone: dict[str, object]) -> None:
        """Which pytest's own `fail` ends, and that is no `Exception`."""

        def fails(_options: Options, _say: Say) -> Findings:
            pytest.fail("not within 90 seconds")

        alone["storms"] = fails

        assert run(list(alone), Options()) == BROKEN

    def test_a_full_replay_writes_nothing(self, alone: dict[str, object]) -> None:
        assert run(["storms"], Options(is_full=True, replay="mixed:3")) == HELD


class TestReplay:
    @pytest.mark.parametrize(
        ("part", "word"),
        [
            ("storms", "bogus:3"),
            ("storms", "mixed"),
            ("stateful", "nonsense"),
            ("stateful", "1:hot:webhooks/jump:0"),
            ("stateful", "1:hot:webhooks/read:1"),
            ("planted", "nobody"),
        ],
    )
    def test_of_nothing_is_wrong_usage(
        self, part: str, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("proof.__main__.sweep", lambda: 0)
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

        try:
            assert main(["--only", part, "--replay", word]) == USAGE
        finally:
            signal.signal(signal.SIGTERM, before[0])
            signal.signal(signal.SIGINT, before[1])

        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1
        assert said[0].startswith(f"proof: {part} cannot replay {word}: ")

    @pytest.mark.parametrize("word", ["", "frozen-solid", "0-1", "x-1", "3-x"])
    def test_of_so_many_outages_names_a_number_and_a_seed(self, word: str) -> None:
        with pytest.raises(BadReplay):
            plan(Options(replay=word), full=50, quick=8)

    @pytest.mark.parametrize("word", ["", "confirm:request:x:hot:fin:once", "confirm:request:3:lukewarm:fin:once"])
    def test_of_a_cut_names_a_spot(self, word: str) -> None:
        with pytest.raises(BadReplay):
            cuts.Spot.named(word)

    @pytest.mark.parametrize("word", ["", "commit:confirm:x:hot:lost", "commit:confirm:1:hot:lost:never"])
    def test_of_a_commit_names_a_spot(self, word: str) -> None:
        with pytest.raises(BadReplay):
            commits.Spot.named(word)

    def test_of_a_program_that_is_played_anyway(self) -> None:
        assert [str(named(text)) for text in CALM] == list(CALM)


class TestTold:
    FAILURES = [Failure(f"I5 order-{number}: differs", "mixed:3") for number in range(12)]  # noqa: RUF012

    def test_each_can_be_played_again_as_it_was(self) -> None:
        said = list(told("storms", self.FAILURES[:1], Options(is_full=True, seed=7)))

        assert said == [
            "storms: I5 order-0: differs",
            "  .venv/bin/python -m proof --full --only storms --seed 7 --replay mixed:3",
        ]

    def test_of_many_alike_only_some_are_shown(self) -> None:
        said = list(told("storms", [*self.FAILURES, Failure("I7 order-1: gap", "mixed:3")], Options()))

        assert len([line for line in said if line.startswith("storms: I5 order")]) == 10
        assert "storms: I7 order-1: gap" in said
        assert said[-1] == "storms: 2 more that begin with I5, of mixed:3"


class TestScenes:
    def test_each_leads_by_a_point_that_there_is(self) -> None:
        """One that does not is a point that no program is led by any more."""
        stale = [name for name in SCENES if not any(site.startswith(name.rpartition(">")[2]) for site in sites())]

        assert stale == []


class TestInterrupted:
    def test_ends_with_one_line(self) -> None:
        command = [sys.executable, "-m", "proof", "--only", "model"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stdout is not None
            while "model" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)

        assert process.returncode == INTERRUPTED
        assert said.strip() == "proof: interrupted; what was started is being ended"


class TestSweep:
    @pytest.fixture
    def memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(world, "SHARED_MEMORY", tmp_path)
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
        return tmp_path

    def test_what_nobody_uses_goes(self, memory: Path) -> None:
        left = _old(memory / "payments-proof-left")

        assert world.sweep() == 1
        assert not left.exists()

    def test_what_is_open_or_new_or_of_others_stays(self, memory: Path) -> None:
        used, other = _old(memory / "payments-proof-used"), _old(memory / "payments-test-other")
        new = memory / "payments-proof-new"
        new.mkdir()

        with (used / "owner.lock").open("w"):
            _old(used)
            assert world.sweep() == 0

        assert used.exists()
        assert new.exists()
        assert other.exists()


def _old(home: Path) -> Path:
    home.mkdir(exist_ok=True)
    before = time.time() - 3_600
    os.utime(home, (before, before))
    return home
