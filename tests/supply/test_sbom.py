import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from supply.audit import locked_to_run
from supply.lock import ROOT

from tests.programs import BARE_ENVIRONMENT


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _made(tmp_path_factory.mktemp("sbom"), seed="1")


class TestBillOfMaterials:
    def test_lists_what_the_image_holds_with_every_hash(self, sbom: str) -> None:
        components: list[dict[str, Any]] = json.loads(sbom)["components"]

        listed = {(component["name"], component["version"]) for component in components}

        hashes = re.findall(r"sha256:([0-9a-f]{64})", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
        assert listed == {(pin.name, pin.version) for pin in locked_to_run()}
        assert all(
            component["purl"] == f"pkg:pypi/{component['name']}@{component['version']}" for component in components
        )
        assert [found for found in hashes if f'"content": "{found}"' not in sbom] == []

    def test_names_what_it_is_about(self, sbom: str) -> None:
        told = json.loads(sbom)

        assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
        assert told["metadata"]["component"]["name"] == "payments"

    def test_is_the_same_on_every_machine_at_any_time(self, sbom: str, tmp_path: Path) -> None:
        again = _made(tmp_path, seed="2")

        assert again == sbom
        assert "timestamp" not in sbom
        assert "serialNumber" not in sbom
        assert str(ROOT) not in sbom


def _made(directory: Path, *, seed: str) -> str:
    """What `make sbom` writes, by the command that stands there; that one takes two seconds more to validate it."""
    (command,) = re.findall(r"^SBOM := \$\(BIN\)/python (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    made = directory / "sbom.json"
    subprocess.run(
        [sys.executable, *command.split(), "--no-validate", "--output-file", made],
        cwd=ROOT,
        env={**BARE_ENVIRONMENT, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
    )
    return made.read_text(encoding="utf-8")
