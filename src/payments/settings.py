"""What an operator can set, read once from the environment at the entry point and passed down."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import ip_network
from typing import Annotated, Final, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator

from payments.given_secrets import (
    UnreadableFile,
    has_second_password,
    is_guessable,
    is_open_to_all,
    is_word,
    password_problem,
    read_file,
    shared,
    toss_key_problem,
)

# https://github.com/standard-webhooks/standard-webhooks, signature scheme: 24 to 64 bytes.
MIN_KEY_BYTES: Final = 24
MAX_KEY_BYTES: Final = 64
# Whoever may speak for more addresses than these is no proxy, but most of the world.
SHORTEST_PREFIX: Final = {4: 8, 6: 16}
MAPPED: Final = ip_network("::ffff:0:0/96")  # all of IPv4, as a socket for both names it
HOW_ALIKE: Final = 0.88  # TOSS_SECRET_KEYS is meant to be TOSS_SECRET_KEY, SHOP_DATABASE_URL is somebody else's
UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class SettingsInvalid(Exception):
    """A setting is missing or wrong. The message names the variables, never their values."""


class Environment(StrEnum):
    LOCAL = "local"
    PRODUCTION = "production"


class Unsigned(StrEnum):
    """What a webhook without a signature is worth; Toss signs none about payments."""

    LOOKUP = "lookup"  # a hint: the PG itself is asked
    REJECT = "reject"  # nothing, unless it carries the payment's own secret


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


def parse_duration(text: object) -> object:
    """`500ms`, `30s`, `5m`, `40m`, `1h`, `15d` as a timedelta.

    Raises:
        ValueError: it is written in another way. Left to pydantic, `30` would be refused in words about days.
    """
    if not isinstance(text, str):
        return text
    found = re.fullmatch(r"([0-9]{1,6})(ms|s|m|h|d)", text)
    if found is None:
        raise ValueError("must be a duration such as 500ms, 30s, 5m, 1h or 15d")
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def split_list(text: object) -> object:
    """`a, b` as ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


class Rate(NamedTuple):
    """At most `requests` in `seconds`, evenly refilled."""

    requests: int
    seconds: float


def parse_rate(text: object) -> object:
    """`300/minute`, `20/s`, `5000/hour` as a Rate.

    Raises:
        ValueError: it is written in another way.
    """
    if not isinstance(text, str):
        return text
    found = re.fullmatch(r"([1-9][0-9]{0,6})/(s|second|m|minute|h|hour)", text)
    if found is None:
        raise ValueError("must be a rate such as 20/second, 300/minute or 5000/hour")
    return Rate(int(found[1]), UNITS[found[2][0]])


RateSetting = Annotated[Rate, BeforeValidator(parse_rate)]
Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(gt=timedelta())]
Names = Annotated[tuple[str, ...], BeforeValidator(split_list)]
SecretNames = Annotated[tuple[SecretStr, ...], BeforeValidator(split_list)]


class Settings(BaseModel):
    """Every setting is an environment variable of the same name in capitals, or a file named by `NAME_FILE`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    environment: Environment = Environment.PRODUCTION
    database_url: SecretStr
    toss_api_url: str = "https://api.tosspayments.com"
    toss_secret_key: SecretStr
    toss_client_key: str = Field(pattern=r"^(test|live)_g?ck_[A-Za-z0-9_]+$")
    toss_read_timeout: Duration = timedelta(seconds=30)
    toss_deposit_check: Duration = timedelta(minutes=5)  # how often a virtual account is looked at, besides webhooks
    # Requests that one worker sends to Toss in a second; Toss's test environment takes 100 a minute for each API.
    toss_worker_rate: float = Field(default=10.0, gt=0, le=10_000)
    toss_webhook_secrets: SecretNames = ()
    toss_webhook_unsigned: Unsigned = Unsigned.LOOKUP
    orders_url: str | None = Field(default=None, repr=False)  # either may carry a token in its path
    events_url: str | None = Field(default=None, repr=False)
    events_secrets: SecretNames = ()
    alert_urls: SecretNames = ()
    allowed_origins: Names = ()
    # The identity provider that knows the shop's buyers: where its keys are, and what its tokens have to say.
    jwt_jwks_url: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_refund_limit: int | None = Field(default=None, gt=0)  # won of one payment in all, for each token that refunds
    # How often a client may ask: each address of buyers, each of webhooks, each API key, each who shows a wrong key.
    rate_limit_buyers: RateSetting = Rate(1200, 60.0)  # many buyers come from one address of their mobile network
    rate_limit_webhooks: RateSetting = Rate(3000, 60.0)
    rate_limit_clients: RateSetting = Rate(3000, 60.0)
    rate_limit_failures: RateSetting = Rate(20, 60.0)
    trusted_proxies: Names = ()  # whose X-Forwarded-For and X-Forwarded-Proto are believed
    # How long it is known who paid, after the last thing that happened to a payment: as long as a bank transfer can be
    # given back (https://docs.tosspayments.com/guides/v2/cancel-payment). A refund of a card or a virtual account
    # needs nothing personal that is kept here. Not shorter than requests and webhooks may be repeated.
    personal_data_kept: Annotated[Duration, Field(ge=timedelta(days=30))] = timedelta(days=180)
    log_format: LogFormat = LogFormat.JSON

    def secrets(self) -> list[str]:
        """Every secret in it, for whoever has to keep them out of sight.

        A password that is a word, as on somebody's own machine, is none: logs are full of the word.
        """
        passwords = [password for password in self._passwords() if not is_word(password)]
        return [secret for secrets in (*self._secrets_by_name().values(), passwords) for secret in secrets]

    def _passwords(self) -> list[str]:
        password = urlsplit(self.database_url.get_secret_value()).password
        return [password, unquote(password)] if password else []

    def _secrets_by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            found[name.upper()] = [one.get_secret_value() for one in values if isinstance(one, SecretStr)]
        return found

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = [*self._database(), *self._urls(), *self._proxies(), *self._keys(), *self._identity()]
        problems += [*self._sharing(), *self._production()]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _database(self) -> Iterator[str]:
        url = self.database_url.get_secret_value()
        if not _is_database(url):
            yield "DATABASE_URL must look like postgresql+psycopg://user:password@host:5432/database"
        if has_second_password(url):
            yield "DATABASE_URL must hold its password before the host, not behind the question mark"

    def _urls(self) -> list[str]:
        problems = []
        if not _is_http(self.toss_api_url):
            problems.append("TOSS_API_URL must be an http(s) URL")
        if self.orders_url is not None and not _is_http(self.orders_url):
            problems.append("ORDERS_URL must be an http(s) URL")
        if self.events_url is not None and not _is_http(self.events_url):
            problems.append("EVENTS_URL must be an http(s) URL")
        if (self.events_url is None) != (not self.events_secrets):
            problems.append("EVENTS_URL and EVENTS_SECRETS belong together: set both or none")
        if not all(_is_long(secret) for secret in self.toss_webhook_secrets):
            problems.append("TOSS_WEBHOOK_SECRETS must be 16 printable ASCII characters or more each, without spaces")
        if not all(re.fullmatch(r"[a-z][a-z0-9+.-]*://[!-~]+", url.get_secret_value()) for url in self.alert_urls):
            problems.append("ALERT_URLS must be Apprise URLs such as slack://..., mailto://... or json://...")
        if not all(_is_signing_secret(secret.get_secret_value()) for secret in self.events_secrets):
            problems.append("EVENTS_SECRETS must be written whsec_ followed by base64 of 24 to 64 random bytes")
        if not all(_is_origin(origin) for origin in self.allowed_origins):
            problems.append("ALLOWED_ORIGINS must be origins such as https://shop.example, without a path")
        return problems

    def _proxies(self) -> list[str]:
        if all(_is_network(proxy) for proxy in self.trusted_proxies):
            return []
        return ["TRUSTED_PROXIES must be addresses or networks such as 10.0.3.0/24, none wider than /8 (IPv6: /16)"]

    def _keys(self) -> list[str]:
        client, secret = self.toss_client_key, self.toss_secret_key.get_secret_value()
        found = re.fullmatch(r"(test|live)_(g?)sk_[A-Za-z0-9_]+", secret)
        if found is None:
            return ["TOSS_SECRET_KEY must look like test_sk_... or live_gsk_..."]
        if not client.startswith(f"{found[1]}_{found[2]}ck_"):
            return ["TOSS_CLIENT_KEY and TOSS_SECRET_KEY must be a pair: both test or live, both widget or API keys"]
        if found[1] == "live" and self.environment is not Environment.PRODUCTION:
            return ["live Toss keys move real money: they need ENVIRONMENT=production"]
        return []

    def _identity(self) -> list[str]:
        named = [self.jwt_jwks_url, self.jwt_issuer, self.jwt_audience]
        if any(named) and not all(named):
            return ["JWT_JWKS_URL, JWT_ISSUER and JWT_AUDIENCE belong together: set all or none"]
        if self.jwt_jwks_url is not None and not _is_http(self.jwt_jwks_url):
            return ["JWT_JWKS_URL must be an http(s) URL"]
        return []

    def _sharing(self) -> list[str]:
        database = self.database_url.get_secret_value()
        passwords = self._passwords() if _is_database(database) else []
        names = shared({**self._secrets_by_name(), "DATABASE_URL": passwords})
        return [f"{' and '.join(names)} hold the same secret; each needs one of its own"] if names else []

    def _production(self) -> list[str]:
        if self.environment is not Environment.PRODUCTION:
            return []
        problems = [*self._guessable()]
        if not self.toss_client_key.startswith("live_"):
            problems.append("ENVIRONMENT=production needs live Toss keys (ENVIRONMENT=local takes test keys)")
        if not self.toss_api_url.startswith("https://"):
            problems.append("ENVIRONMENT=production needs an https TOSS_API_URL")
        if self.jwt_jwks_url is not None and not self.jwt_jwks_url.startswith("https://"):
            problems.append("ENVIRONMENT=production needs an https JWT_JWKS_URL")
        if not self.allowed_origins:
            problems.append("ENVIRONMENT=production needs ALLOWED_ORIGINS")
        if not all(origin.startswith("https://") for origin in self.allowed_origins):
            problems.append("ENVIRONMENT=production needs https ALLOWED_ORIGINS: payment keys come back there")
        return problems

    def _guessable(self) -> Iterator[str]:
        database = self.database_url.get_secret_value()
        if _is_database(database) and (problem := password_problem(database)):
            yield f"ENVIRONMENT=production: DATABASE_URL {problem}"
        if not all(_checks_certificates(url.get_secret_value()) for url in self.alert_urls):
            yield "ENVIRONMENT=production: ALERT_URLS switch off the check of certificates"
        keys = {"TOSS_CLIENT_KEY": self.toss_client_key, "TOSS_SECRET_KEY": self.toss_secret_key.get_secret_value()}
        for name, key in keys.items():
            if problem := toss_key_problem(key):
                yield f"ENVIRONMENT=production: {name} {problem}"
        for name in ("TOSS_WEBHOOK_SECRETS", "EVENTS_SECRETS"):
            if any(is_guessable(secret) for secret in self._secrets_by_name()[name]):
                yield f"ENVIRONMENT=production: {name} can be guessed; take random ones"


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Build the settings from environment variables and the files that `NAME_FILE` variables point at.

    Raises:
        SettingsInvalid: something is missing, wrong or given twice; the message is for the operator.
    """
    found: dict[str, str] = {}
    for name in Settings.model_fields:
        value = _value(environ, name.upper())
        if value:
            found[name] = value
    try:
        settings = Settings.model_validate(found)
    except ValidationError as error:
        problems = [_sentence(problem["loc"], problem["msg"]) for problem in error.errors(include_input=False)]
        raise SettingsInvalid("\n".join(problems)) from None
    if settings.environment is Environment.PRODUCTION and (open_to_all := _open_secrets(environ)):
        raise SettingsInvalid("\n".join(open_to_all))
    return settings


def doubts(environ: Mapping[str, str]) -> list[str]:
    """What works and is probably not meant: a sentence for each, with names and without values."""
    return [*_open_secrets(environ), *_misspelt(environ)]


def _open_secrets(environ: Mapping[str, str]) -> list[str]:
    names = [name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    return [
        f"{name}_FILE can be read or changed by every user of this machine: give it the mode 0400, or 0440"
        for name in names
        if (file := environ.get(f"{name}_FILE")) and is_open_to_all(file)
    ]


def _misspelt(environ: Mapping[str, str]) -> Iterator[str]:
    known = [f"{name.upper()}{ending}" for name in Settings.model_fields for ending in ("", "_FILE")]
    for name in sorted(environ.keys() - set(known)):
        for meant in get_close_matches(name, known, n=1, cutoff=HOW_ALIKE):
            yield f"{name} is not a setting: {meant} is meant?"


def _value(environ: Mapping[str, str], name: str) -> str | None:
    file = environ.get(f"{name}_FILE")
    if not file:
        return environ.get(name)
    if environ.get(name):
        raise SettingsInvalid(f"{name} and {name}_FILE are both set; set one")
    try:
        return read_file(file)
    except UnreadableFile as error:
        raise SettingsInvalid(f"{name}_FILE cannot be read: {error}") from None


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    sentence = message.removeprefix("Value error, ")
    return f"{str(location[0]).upper()}: {sentence}" if location else sentence


def _is_http(url: str) -> bool:
    """An http(s) URL with a host and without a user or password, which would end up in logs."""
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:  # its message repeats the URL
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc and has_port


def _is_long(secret: SecretStr) -> bool:
    """Whether it cannot be guessed by trying; what is shorter is a word that somebody made up."""
    return re.fullmatch(r"[!-~]{16,}", secret.get_secret_value()) is not None


def _is_signing_secret(text: str) -> bool:
    """Whether it is a key as Standard Webhooks writes it."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return False
    return text.startswith("whsec_") and MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES


def _is_database(url: str) -> bool:
    try:
        urlsplit(url).port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    return url.startswith("postgresql+psycopg://")


def _checks_certificates(url: str) -> bool:
    """Whether an alert goes only to a server that is who it says; Apprise can be told not to look."""
    told = parse_qsl(url.partition("?")[2].lower(), keep_blank_values=True)
    return all(word in {"yes", "y", "true", "1", "on"} for name, word in told if name == "verify")


def _is_origin(text: str) -> bool:
    """Whether it is written as browsers send it: in lower case, without a path."""
    return _is_http(text) and text == text.lower() and text == f"{urlsplit(text).scheme}://{urlsplit(text).netloc}"


def _is_network(text: str) -> bool:
    """Whether it is an address or a network of few: whoever is believed can say to be anybody."""
    try:
        network = ip_network(text)
    except ValueError:  # also for a network that is written with the address of a machine in it
        return False
    if network.version == MAPPED.version and network.overlaps(MAPPED):
        return network.prefixlen >= MAPPED.prefixlen + SHORTEST_PREFIX[4]
    return network.prefixlen >= SHORTEST_PREFIX[network.version]
