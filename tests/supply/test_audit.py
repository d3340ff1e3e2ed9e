import asyncio
import json
from pathlib import Path

import pytest
from supply.audit import FINE, FOUND, NOT_ASKED, NobodyAnswered, ask, judge

from tests.gateways.loopback import answering, loopback
from tests.programs import free_port

KNOWN = {
    "vulns": [
        {
            "id": "OSV-2026-1",
            "summary": "Anybody may do anything.",
            "affected": [
                {
                    "package": {"name": "one", "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
                }
            ],
        }
    ]
}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    file = tmp_path / "requirements.txt"
    file.write_text(f"one==1.0 --hash=sha256:{'0' * 64}\n")
    return file


class TestAudit:
    async def test_fails_by_a_known_weakness(self, lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code = await _asked(lock, 200, json.dumps(KNOWN))

        assert code == FOUND
        assert "one 1.0: OSV-2026-1, mended in ['1.1']" in capsys.readouterr().err

    async def test_is_content_when_nothing_is_known(self, lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code = await _asked(lock, 200, "{}")

        assert code == FINE
        assert "nothing is known against any of 1 packages" in capsys.readouterr().out

    @pytest.mark.parametrize("status", [404, 500])
    async def test_takes_no_answer_for_no_answer(self, lock: Path, status: int) -> None:
        with pytest.raises(NobodyAnswered):
            await _asked(lock, status, "{}")

    def test_says_when_the_service_is_away(self, lock: Path) -> None:
        with pytest.raises(NobodyAnswered, match="pip-audit"):
            ask((lock,), _service(f"http://127.0.0.1:{free_port()}"))

    def test_counts_a_package_that_was_not_looked_up(self, capsys: pytest.CaptureFixture[str]) -> None:
        """As pip-audit reports it behind a mirror without advisories, and ends with 0."""
        report = {
            "dependencies": [
                {"name": "one", "version": "1.0", "vulns": []},
                {"name": "two", "skip_reason": "Dependency not found on PyPI and could not be audited: two (2.0)"},
            ]
        }

        assert judge(json.dumps(report)) == NOT_ASKED
        assert "nobody answered for 1 of 2:\n  two" in capsys.readouterr().err


async def _asked(lock: Path, status: int, body: str) -> int:
    """What comes of asking a service that says this about everything."""
    reply = f"HTTP/1.1 {status} Status\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    async with loopback(answering(reply.encode())) as service:
        return judge(await asyncio.to_thread(ask, (lock,), _service(service.url)))


def _service(url: str) -> list[str]:
    return ["--vulnerability-service=osv", f"--osv-url={url}"]
