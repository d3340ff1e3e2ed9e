"""Which programs the local run consists of, and what each of them is told."""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from payments.local.supervisor import HOST, Program

# The pair that the sandbox has by default. Whoever sets a pair of their own wants Toss itself.
SANDBOX_KEYS = {
    "TOSS_CLIENT_KEY": "test_ck_sandbox0000000000000000000000",
    "TOSS_SECRET_KEY": "test_sk_sandbox0000000000000000000000",
}
TOSS_SDK_URL = "https://js.tosspayments.com/v2/standard"
HIGHEST_BASE = 65_535 - 200
KEY_FILE = "shop-api-key"


class CannotRun(Exception):
    """The local run cannot start as asked; the message says what to do about it."""


@dataclass(frozen=True)
class Ports:
    """The three ports of a local run, counted from one base."""

    base: int

    @property
    def api(self) -> int:
        return self.base

    @property
    def sandbox(self) -> int:
        return self.base + 100

    @property
    def shop(self) -> int:
        return self.base + 200


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The programs, in the order in which they start."""

    self_sufficient: tuple[Program, ...]
    migrate: Program
    register: Program  # the shop's key
    on_our_schema: tuple[Program, ...]

    @property
    def lasting(self) -> tuple[Program, ...]:
        """All that stay, as opposed to the migration."""
        return (*self.self_sufficient, *self.on_our_schema)


def new_events_secret() -> str:
    """A key for signing events, as Standard Webhooks writes it."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def make_plan(
    environ: Mapping[str, str],
    ports: Ports,
    *,
    data: Path,
    payments_url: str,
    shop_url: str,
    events_secret: str,
    key_file: Path,
) -> Plan:
    """Plan a run in which every value that the user set in the environment wins.

    Args:
        environ: The user's environment, which every program inherits.
        ports: Where the servers listen.
        data: Where the sandbox keeps its payments.
        payments_url: Database of the payments.
        shop_url: Database of the shop.
        events_secret: What the events to the shop are signed with.
        key_file: Holds what the shop shows to the payments.

    Raises:
        CannotRun: Only one of the two keys of Toss is set.
    """
    if pays_at_toss(environ) != _is_set(environ, "TOSS_CLIENT_KEY"):
        raise CannotRun("TOSS_CLIENT_KEY and TOSS_SECRET_KEY are a pair: set both for Toss, or none for the sandbox.")
    payments = _unset(environ, _payments_defaults(environ, ports, payments_url, events_secret))
    shop = Program(
        name="shop",
        arguments=["demo_shop", "serve", "--host", HOST, "--port", str(ports.shop)],
        environment=_unset(environ, _shop_defaults(environ, ports, shop_url, events_secret, key_file)),
        port=ports.shop,
    )
    api_arguments = ["payments", "api", "--host", HOST, "--port", str(ports.api)]
    return Plan(
        self_sufficient=(shop,) if pays_at_toss(environ) else (_sandbox(ports, data), shop),
        migrate=Program(name="migrate", arguments=["payments", "migrate"], environment=payments),
        register=Program(name="keys", arguments=["payments", *_registration(key_file)], environment=payments),
        on_our_schema=(
            Program(name="api", arguments=api_arguments, environment=payments, port=ports.api),
            Program(name="worker", arguments=["payments", "worker"], environment=payments),
        ),
    )


def pays_at_toss(environ: Mapping[str, str]) -> bool:
    """Whether the user brought keys, so that payments go to Toss's own test environment and no sandbox is needed."""
    return _is_set(environ, "TOSS_SECRET_KEY")


def value_of(environ: Mapping[str, str], name: str) -> str | None:
    """A variable's value, or what the file named by `NAME_FILE` holds.

    Raises:
        CannotRun: The file cannot be read.
    """
    file = environ.get(f"{name}_FILE")
    if not file:
        return environ.get(name)
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotRun(f"{name}_FILE names a file that cannot be read.") from error


def _sandbox(ports: Ports, data: Path) -> Program:
    file = str(data / "toss-sandbox.sqlite3")
    return Program(
        name="sandbox",
        arguments=["toss_sandbox", "serve", "--host", HOST, "--port", str(ports.sandbox), "--data", file],
        environment={"TOSS_WEBHOOK_URL": f"http://{HOST}:{ports.api}/webhook/toss", **SANDBOX_KEYS},
        port=ports.sandbox,
    )


def _payments_defaults(environ: Mapping[str, str], ports: Ports, url: str, events_secret: str) -> dict[str, str]:
    # The sandbox sits beside us and has no limit, so that what its webhooks do not tell shows soon all the same.
    sandbox = {
        "TOSS_API_URL": f"http://{HOST}:{ports.sandbox}",
        "TOSS_DEPOSIT_CHECK": "1m",
        "TOSS_WORKER_RATE": "200",
        **SANDBOX_KEYS,
    }
    return {
        "ENVIRONMENT": "local",
        "LOG_FORMAT": "console",
        "DATABASE_URL": url,
        "ORDERS_URL": f"http://{HOST}:{ports.shop}/api",
        "EVENTS_URL": f"http://{HOST}:{ports.shop}/api/events",
        "EVENTS_SECRETS": events_secret,
        "ALLOWED_ORIGINS": f"http://{HOST}:{ports.shop},http://localhost:{ports.shop}",
        **({} if pays_at_toss(environ) else sandbox),
    }


def _registration(key_file: Path) -> list[str]:
    wanted = ["--name", "demo-shop", "--scope", "read,refund", "--by", "payments run"]
    return ["keys", "create", *wanted, "--from-file", str(key_file)]


def _shop_defaults(
    environ: Mapping[str, str], ports: Ports, url: str, events_secret: str, key_file: Path
) -> dict[str, str]:
    return {
        "SHOP_DATABASE_URL": url,
        "SHOP_EVENTS_SECRETS": value_of(environ, "EVENTS_SECRETS") or events_secret,
        "SHOP_PAYMENTS_URL": f"http://{HOST}:{ports.api}",
        "SHOP_PAYMENTS_API_KEY_FILE": str(key_file),
        "SHOP_TOSS_SDK_URL": TOSS_SDK_URL if pays_at_toss(environ) else f"http://{HOST}:{ports.sandbox}/v2/standard",
        "SHOP_PUBLIC_URL": f"http://{HOST}:{ports.shop}",
    }


def _unset(environ: Mapping[str, str], defaults: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in defaults.items() if not _is_set(environ, name.removesuffix("_FILE"))}


def _is_set(environ: Mapping[str, str], name: str) -> bool:
    return bool(environ.get(name) or environ.get(f"{name}_FILE"))
