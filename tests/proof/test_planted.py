"""The planted defects fit the source as it is: each text that they replace stands there, once."""

import random
from pathlib import Path
from typing import cast

import pytest
from proof.defects import DEFECTS, GUARDED, PAIRS, Defect
from proof.findings import BadReplay, Options
from proof.hunt import FAILED, Hunt, Hunter, HuntFailed, Verdict, grounds
from proof.invariants import Violation
from proof.planted import SOURCE, Hunted, Wanted, failures_of, judge, plant, run

ALL = [*DEFECTS, *GUARDED, *(one for pair in PAIRS for one in (*pair.noticed, *pair.unnoticed))]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that anything is changed in."""
    copy = tmp_path_factory.mktemp("payments")
    for file in {edit.file for defect in ALL for edit in defect.edits}:
        Path(copy, file).parent.mkdir(parents=True, exist_ok=True)
        Path(copy, file).write_text(Path(SOURCE, "payments", file).read_text())
    return copy


class TestDefects:
    @pytest.mark.parametrize("defect", ALL, ids=[defect.name for defect in ALL])
    def test_each_edit_fits_and_leaves_a_program(self, defect: Defect, copy: Path) -> None:
        whole = {edit.file: Path(copy, edit.file).read_text() for edit in defect.edits}

        plant(defect, copy)

        changed = {file: Path(copy, file).read_text() for file in whole}
        for file, text in whole.items():
            Path(copy, file).write_text(text)
        assert all(changed[file] != whole[file] for file in whole)
        for file, text in changed.items():
            compile(text, file, "exec")

    def test_names_are_unique(self) -> None:
        names = [defect.name for defect in ALL]

        assert len(set(names)) == len(names)

    def test_there_are_enough_of_them(self) -> None:
        assert len(DEFECTS) + len(PAIRS) >= 22
        assert len(PAIRS) >= 5

    def test_every_ground_is_known(self) -> None:
        for defect in ALL:
            assert grounds(",".join(defect.ground)) == list(defect.ground)

    def test_a_pair_switches_off_both_layers_and_each_alone(self) -> None:
        for pair in PAIRS:
            names = {one.name for one in (*pair.noticed, *pair.unnoticed)}
            assert names == {pair.name, f"{pair.name}.1", f"{pair.name}.2"}
            assert f"{pair.name}.1" in {one.name for one in pair.unnoticed}


class Unplayable:
    """Where no scene can be played as it was meant to be; or where something is wrong besides."""

    def __init__(self, *found: Violation) -> None:
        self._found = [Violation("I14", "-", "it could not be played"), *found]

    def play_scene(self, _name: str, _seed: int) -> list[Violation]:
        return self._found


class TestHunt:
    def test_what_cannot_be_played_is_not_unnoticed(self) -> None:
        hunt = Hunt(cast("Hunter", Unplayable()), ["late_account"], random.Random(1), seconds=0.1)

        with pytest.raises(HuntFailed, match="could not be played"):
            hunt.run()

    def test_what_is_found_besides_is_caught(self) -> None:
        found = Violation("I1", "order", "charged twice")
        hunt = Hunt(cast("Hunter", Unplayable(found)), ["late_account"], random.Random(1), seconds=0.1)

        verdict = hunt.run()

        assert verdict.is_caught
        assert str(found) in verdict.violation


HAS_TO_SHOW = Wanted(DEFECTS[0], 120.0, has_to_show=True)
MAY_NOT_SHOW = Wanted(GUARDED[0], 20.0, has_to_show=False)


class TestVerdict:
    def test_a_hunt_that_failed_is_neither_caught_nor_unnoticed(self) -> None:
        said = "hunt: scene/late_account/7 has not ended within 60 seconds\n"

        for wanted in (HAS_TO_SHOW, MAY_NOT_SHOW):
            hunted = judge(wanted, FAILED, said)
            assert hunted.verdict is None
            assert next(one.what for one in failures_of(hunted, within=60.0)).startswith(
                f"{wanted.defect.name}: the hunt has failed: hunt: scene/late_account/7"
            )

    @pytest.mark.parametrize(("seconds", "failures"), [(59.0, 0), (61.0, 1)])
    def test_late_is_a_failure_where_there_is_a_rule(self, seconds: float, failures: int) -> None:
        hunted = Hunted(HAS_TO_SHOW, Verdict(is_caught=True, seconds=seconds, played=3, violation="I1 broke"))

        assert len(list(failures_of(hunted, within=60.0))) == failures

    def test_a_name_that_no_defect_has_is_refused(self) -> None:
        with pytest.raises(BadReplay):
            run(Options(replay="nobody"), print)
