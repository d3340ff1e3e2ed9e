"""No secret stands in a file of this repository: the patterns of the logs, and of those whom others may have let in."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from payments.redaction import CREDENTIALS

ROOT: Final = Path(__file__).parents[2]
# Addresses with a query or of other schemes are what documentation is full of; the rest is looked at.
LOOKED_FOR: Final = tuple(
    (rule.name, rule.pattern) for rule in CREDENTIALS if rule.name not in {"query", "alert_url", "hook"}
)
OF_OTHERS: Final = (
    ("private_key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=\s]{40,}")),
    ("cloud_key", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{35}\b")),
    ("forge_token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|glpat-[A-Za-z0-9_-]{20}|pypi-[A-Za-z0-9_-]{50,})")),
    ("chat_token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/T[A-Z0-9]{8,}/")),
)
# What looks like a secret and is none.
ALLOWED: Final = {
    "test_sk_sandbox0000000000000000000000": "the sandbox's own, which opens nothing else",
    "test_gsk_sandbox0000000000000000000000": "the same for its widgets",
    "test_sk_0123456789abcdef": "a key of the tests, which opens nothing",
    "test_sk_0123456789abcdefABCDEF": "the same",
    "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD": "signs the events of tests",
    "whsec_a2FuYXJpZW52b2dlbGthbmFyaWVudm9nZWw=": "a canary twice, in base64",
    "payk_kanarien_Kx7vQ2mZr9TbW4nYc6LdE1pHs8UgJa3fRo5iXtBkMwN": "a canary that opens the databases of tests",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJidXllciJ9.c2lnbmF0dXJlLW9mLWl0": "says of itself that it is signed by nobody",
}
NEVER_TRACKED: Final = re.compile(r"(^|/)(\.env|id_(rsa|ed25519)|.*\.(pem|key|p12|pfx|jks|dump|sqlite3?))$")
_RUN: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}")
FEWEST_DIFFERENT: Final = 10  # characters of what was drawn by lot; zeros and names of people have fewer


def tracked() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    run = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in run.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def is_drawn_by_lot(text: str) -> bool:
    """Whether it holds letters and digits without an order, and many of them."""
    return any(
        len(set(run)) >= FEWEST_DIFFERENT and re.search("[0-9]", run) and re.search("[A-Za-z]", run)
        for run in _RUN.findall(text)
    )


def secrets_in(text: str) -> Iterator[str]:
    """What stands in a text that could open something, by the name of its pattern; never the thing itself."""
    for name, pattern in (*LOOKED_FOR, *OF_OTHERS):
        for found in pattern.finditer(text):
            if is_drawn_by_lot(found[0]) and found[0] not in ALLOWED:
                line = text.count("\n", 0, found.start()) + 1
                yield f"{name} in line {line}"


# Made here, so that this file does not hold what it looks for.
DRAWN: Final = "zXLkKEypNArWmo50" + "nX3lmeaxYG5R"
PLANTED: Final = {
    "toss_secret_key": f"TOSS_SECRET_KEY=live_gsk_{DRAWN}",
    "signing_secret": f"whsec_{DRAWN}{DRAWN}",
    "api_key": f"payk_{DRAWN[:8]}_{DRAWN}{DRAWN[:15]}",
    "json_web_token": f"eyJ{DRAWN}.eyJ{DRAWN}.{DRAWN}",
    "authorization": f"authorization: Bearer {DRAWN}",
    "database_url": f"postgresql://payments:{DRAWN}@db/payments",
    "user_of_url": f"https://me:{DRAWN}@forge.example/",
    "private_key": f"-----BEGIN {'EC'} PRIVATE KEY-----\n{DRAWN}{DRAWN}",
    "cloud_key": f"AK{'IA'}IOSFODNN7EXAMPLE",
    "forge_token": f"gh{'p'}_{DRAWN}{DRAWN[:8]}",
    "chat_token": f"xo{'xb'}-{DRAWN}",
}


class TestRepository:
    def test_holds_no_secret(self) -> None:
        found = {
            str(path.relative_to(ROOT)): secrets
            for path in tracked()
            if (secrets := list(secrets_in(path.read_text(encoding="utf-8", errors="replace"))))
        }

        assert found == {}

    def test_tracks_no_file_that_is_one(self) -> None:
        names = [str(path.relative_to(ROOT)) for path in tracked()]

        assert [name for name in names if NEVER_TRACKED.search(name)] == []

    def test_keeps_out_what_operators_write_theirs_into(self) -> None:
        ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
        first, *taken = [
            line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n") if line[:1] in {"*", "!"}
        ]

        assert {".env", ".data/"} <= {*ignored}
        assert first == "*"  # and nothing but what is named
        assert not [line for line in taken if ".env" in line or ".data" in line]


class TestScan:
    @pytest.mark.parametrize(("name", "text"), PLANTED.items())
    def test_finds(self, name: str, text: str) -> None:
        assert f"{name} in line 2" in list(secrets_in(f"before\n{text}\nbehind"))

    @pytest.mark.parametrize("text", ALLOWED)
    def test_takes_no_part_of_what_is_allowed_for_it(self, text: str) -> None:
        assert list(secrets_in(text)) == []
        assert list(secrets_in(f"{text[:-4]}{DRAWN}"))
