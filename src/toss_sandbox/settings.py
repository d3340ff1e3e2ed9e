"""What a sandbox is told at its start: keys, storage and every behaviour of Toss that no public source settles."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from toss_sandbox.addresses import is_address

_SECURITY_KEY: Final = re.compile(r"[0-9A-Fa-f]{64}")


class KeyKind(StrEnum):
    """Which product of Toss a key pair belongs to."""

    API = "API"
    WIDGET = "WIDGET"


class OrderLookup(StrEnum):
    """Which of several payments an order look-up returns."""

    APPROVED_FIRST = "approved-first"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A client key and the secret key that belongs to it."""

    kind: KeyKind
    client_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that may differ from one sandbox to the next.

    The attributes below `merchant_id` answer questions that Toss's documents leave open; each default is the guess that
    is least likely to make a careless client look correct.

    Attributes:
        data: The SQLite file; None keeps everything in memory.
        client_key: The client key of the API pair. Only `test_` keys are taken.
        secret_key: The secret key of the API pair.
        widget_client_key: The client key of the widget pair.
        widget_secret_key: The secret key of the widget pair.
        public_url: The origin under which browsers reach this sandbox; `checkout.url` begins with it.
        receipt_url: The receipt's address, with `{payment_key}`; the default is the test environment's form.
        merchant_id: `mId` of every payment; its first five characters begin every payment key.
        authentication_window: How long a buyer may take to authenticate (documented: 30 minutes).
        confirm_window: How long after it a confirm is taken (documented: 10 minutes).
        idempotency_lifetime: How long an idempotency key is remembered (documented: 15 days).
        deposit_window: How long a virtual account waits for its deposit (documented default: 168 hours).
        transfer_refund_window: How long after its approval a transfer can be cancelled (documented: 180 days).
        deposit_refund_window: The same for a virtual account from its deposit (documented: usually 365 days).
        phone_refunds_end_with_month: Whether a payment by mobile phone can be cancelled only within the Korean
            calendar month of its approval (documented).
        cancel_spacing: How long after a cancel the next one of the same payment is FORBIDDEN_CONSECUTIVE_REQUEST; zero
            switches it off. A second was documented once, its code never was.
        order_lookup: Which payment an order look-up picks among several attempts. Unverified.
        serves_unfinished: Whether look-ups serve READY and IN_PROGRESS payments. Unverified.
        refuses_duplicate_orders: Whether a confirm answers DUPLICATED_ORDER_ID when another payment of the same order
            is approved already. The code is documented, its tie to confirm is not.
        replays_server_errors: Whether 5xx answers are replayed under their idempotency key. Unverified; 4xx always are.
        mismatch_code: What a confirm answers when the amount differs. Unverified; documented for another order id.
        aborted_code: What a confirm of an ABORTED payment answers. Unverified.
        unauthenticated_code: What a confirm of a payment whose buyer has not authenticated yet answers. Unverified.
        missing_account_code: What a cancel of a paid virtual account without a refund account answers. Unverified.
        needless_account_code: What a cancel answers that names a refund account where none is needed. Unverified.
        foreign_cancel_code: What a cancel with the other pair's secret key answers. Unverified.
        tracks_account_refunds: Whether a cancel of a paid virtual account leaves `refundStatus` PENDING until the
            control API says how it ended; the cancel's own answer still shows the status before. Otherwise it stays
            NONE. Unverified.
        specific_field_codes: Whether a bad field is named by its own code (INVALID_ORDER_ID, INVALID_PAYMENT_KEY,
            REQUIRED_AMOUNT, INVALID_REQUIRED_PARAM, INVALID_CURRENCY) instead of INVALID_REQUEST. Unverified.
        extra_fields: Whether Payment objects begin with fields no client knows, as a future Toss may send them.
        negative_cancel_amounts: Whether the list of transactions and the settlements show what was given back with a
            negative sign. Unverified.
        paging_key_code: What the list of transactions answers for a page after a key that is not in it. Seen once; the
            documents have another one.
        fills_settlements: Whether settlements are filled, as live ones are; those of Toss's test environment are empty.
        webhook_url: Where webhooks are sent; None has them noted and never sent.
        webhook_timeout: How long an answer to a webhook may take (documented: 10 seconds).
        security_keys: The keys, 64 hexadecimal digits each, that sign events about payouts and sellers; two while one
            is being replaced. Without any these events go unsigned.
        security_key_is_text: Whether the digits themselves are the HMAC key, not the bytes they stand for. Unverified.
    """

    data: Path | None = None
    client_key: str = "test_ck_sandbox0000000000000000000000"
    secret_key: str = field(default="test_sk_sandbox0000000000000000000000", repr=False)
    widget_client_key: str = "test_gck_sandbox0000000000000000000000"
    widget_secret_key: str = field(default="test_gsk_sandbox0000000000000000000000", repr=False)
    public_url: str = "http://127.0.0.1:8100"
    receipt_url: str = (
        "https://dashboard-sandbox.tosspayments.com/receipt/redirection?transactionId={payment_key}&ref=PX"
    )
    merchant_id: str = "tvivarepubl"
    authentication_window: timedelta = timedelta(minutes=30)
    confirm_window: timedelta = timedelta(minutes=10)
    idempotency_lifetime: timedelta = timedelta(days=15)
    deposit_window: timedelta = timedelta(hours=168)
    transfer_refund_window: timedelta = timedelta(days=180)
    deposit_refund_window: timedelta = timedelta(days=365)
    phone_refunds_end_with_month: bool = True
    cancel_spacing: timedelta = timedelta()
    order_lookup: OrderLookup = OrderLookup.APPROVED_FIRST
    serves_unfinished: bool = True
    refuses_duplicate_orders: bool = True
    replays_server_errors: bool = False
    mismatch_code: str = "FORBIDDEN_REQUEST"
    aborted_code: str = "ALREADY_PROCESSED_PAYMENT"
    unauthenticated_code: str = "NOT_FOUND_PAYMENT_SESSION"
    missing_account_code: str = "INVALID_REFUND_ACCOUNT_INFO"
    needless_account_code: str = "INVALID_REQUEST"
    foreign_cancel_code: str = "FORBIDDEN_REQUEST"
    tracks_account_refunds: bool = True
    specific_field_codes: bool = False
    extra_fields: bool = False
    negative_cancel_amounts: bool = False
    paging_key_code: str = "INVALID_TRANSACTION_KEY"
    fills_settlements: bool = True
    webhook_url: str | None = None
    webhook_timeout: timedelta = timedelta(seconds=10)
    security_keys: tuple[str, ...] = field(default=(), repr=False)
    security_key_is_text: bool = False

    def __post_init__(self) -> None:
        """Refuse keys of the live environment and keys of the wrong kind.

        Raises:
            ValueError: A key has not the prefix or the form of its kind, or the webhook URL is none.
        """
        prefixes = {
            "client_key": "test_ck_",
            "secret_key": "test_sk_",
            "widget_client_key": "test_gck_",
            "widget_secret_key": "test_gsk_",
        }
        for name, prefix in prefixes.items():
            if not getattr(self, name).startswith(prefix):
                raise ValueError(f"{name} has to begin with {prefix}")
        if not all(_SECURITY_KEY.fullmatch(key) for key in self.security_keys):
            raise ValueError("a security key has 64 hexadecimal digits")
        if self.webhook_url is not None:
            check_webhook_url(self.webhook_url)

    @property
    def key_pairs(self) -> tuple[KeyPair, KeyPair]:
        """The API pair and the widget pair of this merchant."""
        return (
            KeyPair(KeyKind.API, self.client_key, self.secret_key),
            KeyPair(KeyKind.WIDGET, self.widget_client_key, self.widget_secret_key),
        )


def check_webhook_url(url: str) -> None:
    """Let pass where a webhook can be sent.

    Raises:
        ValueError: It is no address.
    """
    if not is_address(url):
        raise ValueError("the webhook URL has to be an address that begins with http:// or https://")


def settings_from_environment(
    environ: Mapping[str, str],
    *,
    data: Path | None = None,
    public_url: str | None = None,
    webhook_url: str | None = None,
    security_keys: tuple[str, ...] = (),
) -> Settings:
    """Read keys and webhook URL from the environment, where they are not given; the rest keeps its default.

    Raises:
        ValueError: A key has not the prefix or the form of its kind, the webhook URL is none, or a file cannot be read.
    """
    default = Settings()
    return Settings(
        data=data,
        public_url=public_url or default.public_url,
        client_key=_read(environ, "TOSS_CLIENT_KEY") or default.client_key,
        secret_key=_read(environ, "TOSS_SECRET_KEY") or default.secret_key,
        widget_client_key=_read(environ, "TOSS_WIDGET_CLIENT_KEY") or default.widget_client_key,
        widget_secret_key=_read(environ, "TOSS_WIDGET_SECRET_KEY") or default.widget_secret_key,
        webhook_url=webhook_url or _read(environ, "TOSS_WEBHOOK_URL") or None,
        security_keys=security_keys or _listed(_read(environ, "TOSS_SECURITY_KEY")),
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read(environ: Mapping[str, str], variable: str) -> str:
    path = environ.get(f"{variable}_FILE")
    if not path:
        return environ.get(variable, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{variable}_FILE cannot be read: {error}") from error
