"""Write what the other containers read: secrets that are made once, and what follows from the keys of Toss."""

import base64
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from payments.access import new_key

DONE: Final = 0
USAGE_WRONG: Final = 2

Files = Mapping[str, str]

# The pair that the sandbox has by default; it opens nothing else. Whoever gives a pair of their own wants Toss itself.
SANDBOX: Final = {
    "toss-api-url": "http://toss-sandbox:8100",
    "toss-client-key": "test_ck_sandbox0000000000000000000000",
    "toss-secret-key": "test_sk_sandbox0000000000000000000000",
}
TOSS_API_URL: Final = "https://api.tosspayments.com"
TOSS_SDK_URL: Final = "https://js.tosspayments.com/v2/standard"

# Volumes are the guard: each is mounted by those alone who may read it. PostgreSQL runs as a user of its own image.
OWNER_READS: Final = 0o400
EVERYBODY_READS: Final = 0o444


# As whom each program of the payments comes to the database. The first one owns the tables.
ROLES: Final = {"migrate": "payments", "api": "payments_api", "worker": "payments_worker"}


class CannotPrepare(Exception):
    """What was given does not fit together; the message is for the operator and repeats no value."""


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Prepare the directory that the only argument names. Running it again changes nothing that was made before.

    Returns:
        The exit code: 0 done, 2 wrong usage or configuration.
    """
    try:
        (directory,) = arguments
        prepare(Path(directory), environ)
    except ValueError:
        return _refuse("name the directory of the secrets, and nothing else")
    except CannotPrepare as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{error.filename} cannot be used: {error.strerror}")
    return DONE


def prepare(directory: Path, environ: Mapping[str, str]) -> None:
    """Make the secrets that are missing in `kept`, then write the room of every reader anew.

    Raises:
        CannotPrepare: Only one of the two keys of Toss is set. Nothing was written.
        OSError: A room is missing or not ours.
    """
    given = {name: value for name, value in environ.items() if value}
    if ("TOSS_CLIENT_KEY" in given) != ("TOSS_SECRET_KEY" in given):
        raise CannotPrepare(
            "TOSS_CLIENT_KEY and TOSS_SECRET_KEY are a pair: set both for Toss, or none for the sandbox"
        )
    kept = {name: _kept(directory / "kept" / name, make) for name, make in MADE_ONCE.items()}
    _fill(directory / "postgres", {"superuser-password": kept["superuser-password"]}, mode=EVERYBODY_READS)
    _fill(directory / "payments", payments_room(given, kept), mode=OWNER_READS)
    for program, role in ROLES.items():
        url = _database_url("payments", kept, role=role)
        _fill(directory / program, {"database-url": url}, mode=OWNER_READS)
    _fill(directory / "shop", shop_room(given, kept), mode=OWNER_READS)
    _fill(directory / "sandbox", {"toss-security-key": kept["toss-security-key"]}, mode=OWNER_READS)


def payments_room(given: Mapping[str, str], kept: Files) -> dict[str, str]:
    """What the API, the worker and the migration all read. An empty file is a setting that is not set."""
    return {
        **_toss(given, kept),
        "events-secrets": given.get("EVENTS_SECRETS", kept["events-secret"]),
        "allowed-origins": given.get("ALLOWED_ORIGINS") or ",".join(_origins(given["SHOP_PUBLIC_URL"])),
        "alert-urls": given.get("ALERT_URLS", ""),
    }


def shop_room(given: Mapping[str, str], kept: Files) -> dict[str, str]:
    """What the demo shop reads."""
    sandbox_sdk = f"{given['SANDBOX_PUBLIC_URL']}/v2/standard"
    return {
        "database-url": _database_url("shop", kept, role="shop"),
        "events-secrets": given.get("EVENTS_SECRETS", kept["events-secret"]),
        "payments-api-key": kept["shop-api-key"],
        "toss-sdk-url": TOSS_SDK_URL if _pays_at_toss(given) else sandbox_sdk,
    }


def _toss(given: Mapping[str, str], kept: Files) -> dict[str, str]:
    if not _pays_at_toss(given):
        return {**SANDBOX, "toss-webhook-secrets": given.get("TOSS_WEBHOOK_SECRETS", kept["toss-security-key"])}
    return {
        "toss-api-url": TOSS_API_URL,
        "toss-client-key": given["TOSS_CLIENT_KEY"],
        "toss-secret-key": given["TOSS_SECRET_KEY"],
        "toss-webhook-secrets": given.get("TOSS_WEBHOOK_SECRETS", ""),
    }


def _pays_at_toss(given: Mapping[str, str]) -> bool:
    return "TOSS_SECRET_KEY" in given


def _database_url(name: str, kept: Files, *, role: str) -> str:
    return f"postgresql+psycopg://{role}:{kept[f'{role}-password']}@postgres:5432/{name}"


def _origins(url: str) -> tuple[str, str]:
    """People type either name, and a browser takes them for two origins."""
    return url, url.replace("//127.0.0.1", "//localhost")


def _password() -> str:
    # Safe in a URL as it is.
    return secrets.token_urlsafe(32)


def _signing_secret() -> str:
    # https://github.com/standard-webhooks/standard-webhooks, signature scheme: base64 of 24 to 64 random bytes.
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def _security_key() -> str:
    # As Toss issues it: 64 hex digits.
    return secrets.token_hex(32)


MADE_ONCE: Final[Mapping[str, Callable[[], str]]] = {
    "superuser-password": _password,
    "payments-password": _password,
    "payments_api-password": _password,
    "payments_worker-password": _password,
    "payments_read-password": _password,
    "shop-password": _password,
    "shop-api-key": lambda: new_key().text,
    "events-secret": _signing_secret,
    "toss-security-key": _security_key,
}


def _kept(file: Path, make: Callable[[], str]) -> str:
    if not file.exists():
        _write(file, make(), mode=OWNER_READS)
    return file.read_text(encoding="utf-8")


def _fill(room: Path, files: Files, *, mode: int) -> None:
    """Let a room hold these files and no others: what an earlier release put there, its readers may not see now."""
    for name, text in files.items():
        _write(room / name, text, mode=mode)
    for file in room.iterdir():
        if file.name not in files:
            file.unlink()


def _write(file: Path, text: str, *, mode: int) -> None:
    """Replace the file as a whole: whoever reads it meanwhile sees the old text or the new one."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as written:
        written.write(text)
        os.fchmod(written.fileno(), mode)
        written.flush()
        # A password that PostgreSQL has taken must outlive a power cut.
        os.fsync(written.fileno())
    fresh.replace(file)


def _refuse(problem: str) -> int:
    print(f"prepare: {problem}", file=sys.stderr)  # noqa: T201 - the container's log
    return USAGE_WRONG


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
