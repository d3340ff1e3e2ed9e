"""How often whom: every client has a share of its own, and one that asks for more gets 429 before anything is read."""

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

from prometheus_client import Counter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from payments.api.front_door import LARGER_BODIES
from payments.api.ports import OPS_PATHS
from payments.api.problems import refusal
from payments.errors import TooManyRequests
from payments.settings import Rate, Settings

MOST_CLIENTS: Final = 50_000  # remembered by one limit: about 10 MB; then the one that was seen least recently goes
# Whoever has an IPv6 network has at least this much of it (RFC 6177).
IPV6_PREFIX: Final = 64
WEBHOOKS: Final = "/webhook/"
MOST_KNOWN: Final = 1000
LONGEST_BODY: Final = max(LARGER_BODIES.values())
BYTES_FOR_ONE: Final = 16 * 1024  # usual requests have a tenth of it

_limited = Counter("requests_limited", "Requests that were answered 429, by the limit", ["limit"])


class Limit:
    """One limit for many clients: the generic cell rate algorithm (ITU-T I.371), one number for each client.

    Written here, because what is to withstand an attack by many addresses must cost the same for each request and
    bounded memory, which the libraries' stores do not promise.
    """

    def __init__(
        self, name: str, rate: Rate, *, clock: Callable[[], float] = time.monotonic, most: int = MOST_CLIENTS
    ) -> None:
        self._name = name
        self._interval = rate.seconds / rate.requests
        self._burst = rate.seconds - self._interval / 2  # half a request more than whole ones, for sums of floats
        self._clock = clock
        self._most = most
        self._free_at: OrderedDict[str, float] = OrderedDict()  # when all of a client's share is there again

    def check(self, client: str) -> None:
        """Refuse a client that has used up its share, without counting.

        Raises:
            TooManyRequests: it says when there is something again.
        """
        now = self._clock()
        wait = max(self._free_at.get(client, now), now) - now - self._burst
        if wait > 0:
            _limited.labels(self._name).inc()
            raise TooManyRequests(timedelta(seconds=wait))

    def take(self, client: str, *, cost: int = 1) -> None:
        """Count a request of a client; one that makes more work than others costs more.

        Raises:
            TooManyRequests: as `check`; then it is not counted.
        """
        self.check(client)
        now = self._clock()
        self._free_at[client] = max(self._free_at.get(client, now), now) + cost * self._interval
        self._free_at.move_to_end(client)
        if len(self._free_at) > self._most:
            self._free_at.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one process; several processes each have their own."""

    buyers: Limit
    webhooks: Limit
    clients: Limit
    failures: Limit

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            Limit("buyers", settings.rate_limit_buyers),
            Limit("webhooks", settings.rate_limit_webhooks),
            Limit("clients", settings.rate_limit_clients),
            Limit("failures", settings.rate_limit_failures),
        )


class KnownCredentials:
    """Digests of what clients have shown and was valid: they are not held back by what others do at their address.

    It opens nothing: whether it is still valid is asked on every request.
    """

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, header: str) -> bool:
        return _digest(header) in self._digests

    def add(self, header: str) -> None:
        digest = _digest(header)
        self._digests[digest] = None
        self._digests.move_to_end(digest)
        if len(self._digests) > MOST_KNOWN:
            self._digests.popitem(last=False)

    def discard(self, header: str) -> None:
        self._digests.pop(_digest(header), None)


def _digest(header: str) -> bytes:
    return hashlib.sha256(header.encode("utf-8", "surrogateescape")).digest()


class RateLimits:
    """Refuses by the address, before anything is read. Clients that are known have a share of their own, further on."""

    def __init__(self, app: ASGIApp, *, limits: Limits, known: KnownCredentials) -> None:
        self._app = app
        self._limits = limits
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._count(scope)
        except TooManyRequests as error:
            scope["problem_code"] = error.code
            await refusal(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _count(self, scope: Scope) -> None:
        if scope["type"] != "http" or scope["path"] in OPS_PATHS:
            return
        headers = Headers(scope=scope)
        if headers.get("authorization", "") in self._known:
            return
        is_webhook = scope["path"].startswith(WEBHOOKS)
        limit = self._limits.webhooks if is_webhook else self._limits.buyers
        limit.take(address_of(scope), cost=_cost(headers))


def _cost(headers: Headers) -> int:
    """By what is to be read: a body that does not say how long it is may be as long as any."""
    declared = headers.get("content-length", "0" if "transfer-encoding" not in headers else "")
    size = int(declared[:7]) if declared.isdecimal() else LONGEST_BODY
    return 1 + min(size, LONGEST_BODY) // BYTES_FOR_ONE


def address_of(scope: Scope) -> str:
    """Whose request it is, as far as an address can tell; of IPv6 the network, whose owner has all its addresses."""
    host = scope["client"][0] if scope.get("client") else ""
    if ":" not in host:
        return host
    try:
        return str(ipaddress.ip_network((host.partition("%")[0], IPV6_PREFIX), strict=False))
    except ValueError:
        return host
