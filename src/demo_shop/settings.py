"""What the shop has to be told, read once from the environment."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

DEFAULT_SDK_URL = "http://127.0.0.1:8100/v2/standard"

_API_KEY: Final = re.compile(r"[!-~]{16,}")
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - tells what follows, and is none itself
# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
_SECRET_BYTES: Final = range(24, 65)


class InvalidSettings(Exception):
    """A setting is missing or cannot be used; the message names the variable and never repeats its value."""


@dataclass(frozen=True, kw_only=True)
class ShopSettings:
    """Settings of one shop. URLs carry no slash at their end."""

    database_url: str = field(repr=False)  # holds a password
    payments_url: str  # as this server reaches it
    payments_public_url: str  # as the buyer's browser reaches it
    toss_sdk_url: str
    public_url: str  # our own, as the buyer's browser reaches it
    payments_api_key: str = field(repr=False)  # what the payments API knows us by; it reads and refunds
    # Any of them may have signed an event. Without one, an order's changes are learned only by asking.
    events_secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def hears_events(self) -> bool:
        return bool(self.events_secrets)


def read_settings(environ: Mapping[str, str], *, port: int) -> ShopSettings:
    """Settings from `SHOP_*` variables; each may instead be given as a file's name in `SHOP_*_FILE`.

    Raises:
        InvalidSettings: a variable is missing, empty, or not the URL or the secrets it has to be.
    """
    payments_url = _http_url(environ, "SHOP_PAYMENTS_URL", default="http://127.0.0.1:8000")
    return ShopSettings(
        database_url=_database_url(environ),
        payments_url=payments_url,
        payments_public_url=_http_url(environ, "SHOP_PAYMENTS_PUBLIC_URL", default=payments_url),
        toss_sdk_url=_http_url(environ, "SHOP_TOSS_SDK_URL", default=DEFAULT_SDK_URL),
        public_url=_http_url(environ, "SHOP_PUBLIC_URL", default=f"http://127.0.0.1:{port}"),
        payments_api_key=_api_key(environ),
        events_secrets=_secrets(environ, "SHOP_EVENTS_SECRETS"),
    )


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, as a Content-Security-Policy or a browser writes them."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _read(environ: Mapping[str, str], name: str) -> str | None:
    file_name = environ.get(f"{name}_FILE")
    if not file_name:
        return environ.get(name)
    try:
        return Path(file_name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{name}_FILE names a file that cannot be read.") from error


def _database_url(environ: Mapping[str, str]) -> str:
    url = _read(environ, "SHOP_DATABASE_URL")
    if not url:
        raise InvalidSettings("SHOP_DATABASE_URL is missing, for example postgresql+psycopg://user:password@host/shop.")
    if not url.startswith("postgresql+psycopg://"):
        raise InvalidSettings("SHOP_DATABASE_URL has to begin with postgresql+psycopg://.")
    return url


def _api_key(environ: Mapping[str, str]) -> str:
    key = _read(environ, "SHOP_PAYMENTS_API_KEY") or ""
    if _API_KEY.fullmatch(key) is None:
        raise InvalidSettings(
            "SHOP_PAYMENTS_API_KEY is missing or no key; one is made by "
            "`payments keys create --name shop --scope read,refund`."
        )
    return key


def _secrets(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    secrets = tuple(secret.strip() for secret in (_read(environ, name) or "").split(",") if secret.strip())
    if not all(_is_secret(secret) for secret in secrets):
        raise InvalidSettings(
            f"{name} has to be secrets separated by commas, each {_SECRET_PREFIX} with the base64 of 24 to 64 bytes."
        )
    return secrets


def _is_secret(text: str) -> bool:
    key = text.removeprefix(_SECRET_PREFIX).rstrip("=")
    try:
        # Strictly: what is no base64 would be skipped in silence later on, and leave another key.
        decoded = base64.b64decode(key + "=" * (-len(key) % 4), validate=True)
    except (ValueError, binascii.Error):
        return False
    return text.startswith(_SECRET_PREFIX) and len(decoded) in _SECRET_BYTES


def _http_url(environ: Mapping[str, str], name: str, *, default: str) -> str:
    url = (_read(environ, name) or default).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise InvalidSettings(f"{name} has to be an http or https URL without a query.")
    return url
