"""The planted defects fit the source as it is: each text that they replace stands there, once."""

from pathlib import Path

import pytest
from proof.defects import DEFECTS, GUARDED, PAIRS, Defect
from proof.hunt import grounds
from proof.planted import SOURCE, plant

ALL = [*DEFECTS, *GUARDED, *(pair.both for pair in PAIRS), *(alone for pair in PAIRS for alone in pair.alone)]


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
