"""Who is told of our events: one POST for each, signed as Standard Webhooks asks (https://www.standardwebhooks.com)."""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, Self
from uuid import UUID

import httpx
from standardwebhooks import Webhook

from payments.gateways.retry_after import parse_retry_after

MAX_ANSWER_BYTES: Final = 64 * 1024  # nothing of it is used; reading it lets the connection be used again
LONGEST_RETRY_AFTER: Final = timedelta(hours=1)
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how every secret begins
_KEY_BYTES: Final = range(24, 65)  # the specification, "Signature scheme": 24 to 64 bytes
_PORTS: Final = range(1, 65_536)  # httpx takes more, and the socket then raises what is no error of the network
_FIRST_CLIENT_ERROR: Final = 400
_FIRST_SERVER_ERROR: Final = 500
# Answers of the 4xx that a later try may not get: too slow, too early, too many.
_PASSING: Final = frozenset({408, 425, 429})
# OSError stands for what httpx lets through, such as an ssl.SSLError in the middle of an answer, and for a timeout.
_LOST = (httpx.HTTPError, httpx.StreamError, httpx.CookieConflict, httpx.InvalidURL, OSError)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver answered with a status of 2xx."""


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """The receiver did not take it, or its answer was lost: it may have taken it all the same.

    Attributes:
        reason: For the log and the operator: a status or the name of an error, never what was sent or answered.
        is_refused: The receiver will say the same next time.
        retry_after: How long it asks to be left alone.
    """

    reason: str
    is_refused: bool = False
    retry_after: timedelta | None = None


Delivery = Delivered | NotDelivered


class Subscriber(Protocol):
    """What the use cases need of whoever is told of our events."""

    async def deliver(self, message_id: UUID, body: bytes) -> Delivery:
        """Send one event. The same id on every repetition. Never raises for what the receiver or the network does."""
        ...


class SubscriberClient:
    """A receiver of events over HTTP, bounded in time and size. Redirects are failures.

    Args:
        url: Where events are sent, http or https, without a user or a password.
        secrets: `whsec_<base64>`, at least one; each signs, so that the receiver can change from one to the next.
        deadline: Total wall clock of one delivery.
        transport: Replaces the network in tests.

    Raises:
        ValueError: The address or a secret cannot be right. The message contains neither.
    """

    def __init__(
        self,
        url: str,
        *,
        secrets: Sequence[str],
        deadline: timedelta = timedelta(seconds=10),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not secrets:
            raise ValueError("An event needs at least one secret to be signed with.")
        self._url = _checked_url(url)
        self._signers = [Webhook(_checked_key(secret)) for secret in secrets]
        self._deadline = deadline
        self._http = httpx.AsyncClient(
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "payments"},
            timeout=httpx.Timeout(deadline.total_seconds(), connect=min(3.0, deadline.total_seconds())),
            follow_redirects=False,
            trust_env=False,  # a proxy from the environment would read what was bought
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def deliver(self, message_id: UUID, body: bytes) -> Delivery:
        """Send one event (JSON). The status decides, whatever comes after it."""
        try:
            headers = self._headers(message_id, body.decode())
        except UnicodeDecodeError:
            return NotDelivered("not UTF-8", is_refused=True)
        request = self._http.build_request("POST", self._url, content=body, headers=headers)
        ends_at = asyncio.get_running_loop().time() + self._deadline.total_seconds()
        try:
            async with asyncio.timeout_at(ends_at):
                response = await self._http.send(request, stream=True)
        except TimeoutError:
            return NotDelivered("no answer before the deadline")
        except _LOST as error:
            return NotDelivered(type(error).__name__)
        await _read_away(response, ends_at=ends_at)
        return _delivery(response)

    def _headers(self, message_id: UUID, text: str) -> dict[str, str]:
        at = datetime.now(UTC)  # of this try: receivers refuse old ones
        signatures = [signer.sign(str(message_id), at, text) for signer in self._signers]
        return {
            "Content-Type": "application/json",
            "webhook-id": str(message_id),
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


async def _read_away(response: httpx.Response, *, ends_at: float) -> None:
    """Read the body so that the connection stays usable; a body that is too long or too slow ends the connection."""
    with suppress(*_LOST):
        try:
            async with asyncio.timeout_at(ends_at):
                read = 0
                async for piece in response.aiter_raw():
                    read += len(piece)
                    if read > MAX_ANSWER_BYTES:
                        break
        finally:
            await response.aclose()


def _delivery(response: httpx.Response) -> Delivery:
    status = response.status_code
    if response.is_success:
        return Delivered()
    return NotDelivered(
        f"status {status}",
        is_refused=_FIRST_CLIENT_ERROR <= status < _FIRST_SERVER_ERROR and status not in _PASSING,
        retry_after=parse_retry_after(
            response.headers.get("Retry-After"), at=datetime.now(UTC), longest=LONGEST_RETRY_AFTER
        ),
    )


def _checked_url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise ValueError("The address of the receiver of events is not a URL.") from None
    is_web = url.scheme in {"http", "https"} and url.host and (url.port is None or url.port in _PORTS)
    if not is_web or url.userinfo or url.fragment:
        raise ValueError("The address of the receiver of events is an http(s) URL without a user or a fragment.")
    return str(url)


def _checked_key(secret: str) -> bytes:
    # Checked here, because the library takes whatever is left of a secret when the impossible characters are dropped.
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_SECRET_PREFIX) or len(key) not in _KEY_BYTES:
        raise ValueError("A secret for events is whsec_ and then base64 of 24 to 64 bytes.")
    return key
