"""Sends the webhooks that are due, and lets payments expire while nobody looks."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

import httpx

from toss_sandbox.clock import toss_time
from toss_sandbox.engine import Sandbox
from toss_sandbox.transmissions import Attempt, Webhook

_AT_ONCE: Final = 16
"""How many webhooks are under way at the same time."""

# What falls due until the next look is taken up now, and waits for its moment by itself.
_LOOKS_EVERY: Final = timedelta(milliseconds=500)

_LONGEST_ANSWER: Final = 65_536  # bytes; nobody reads them

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How many tries were made, and how many of them were received."""

    tried: int
    delivered: int


class Sender:
    """Delivers the webhooks of one sandbox: by itself while `running`, and whenever it is asked."""

    def __init__(self, sandbox: Sandbox, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Take a transport only to lead webhooks somewhere else than over the network."""
        self._sandbox = sandbox
        self._webhooks = sandbox.webhooks
        self._transport = transport
        self._flights: dict[tuple[int, int], asyncio.Task[bool]] = {}
        self._client: httpx.AsyncClient | None = None
        self._woken: asyncio.Event | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send whatever falls due, until the block ends; what is under way then is sent again by the next sandbox."""
        self._woken = asyncio.Event()
        self._webhooks.on_due = self._woken.set
        async with self._new_client() as client:
            self._client = client
            look = asyncio.create_task(self._keep_looking(client, self._woken))
            try:
                yield
            finally:
                tasks = (look, *self._flights.values())
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self._client = self._woken = None

    async def deliver(self) -> Delivery:
        """Try everything that is due now, and wait until all of it has been tried."""
        ended: list[bool] = []
        async with self._open_client() as client:
            while flights := self._start_due(client):
                # Not gathered: whoever asked may give up, and what is under way has to land.
                done, _ = await asyncio.wait(flights)
                ended += [flight.result() for flight in done]
        return Delivery(tried=len(ended), delivered=sum(ended))

    async def send_early(self) -> None:
        """Try what has to be there before an answer, and wait for it; takes no longer than one try does."""
        async with self._open_client() as client:
            flights = [self._start(webhook, client) for webhook in self._webhooks.take_early()]
            if flights:
                await asyncio.wait(flights)

    async def _keep_looking(self, client: httpx.AsyncClient, woken: asyncio.Event) -> None:
        while True:
            woken.clear()
            try:
                self._sandbox.expire_due()
                self._start_due(client)
            except Exception:  # noqa: BLE001 - whatever it was, the webhooks of all other payments have to go on
                _log.exception("webhooks and expiries wait for the next look")
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOKS_EVERY.total_seconds()):
                    await woken.wait()

    def _start_due(self, client: httpx.AsyncClient) -> list[asyncio.Task[bool]]:
        """Start what is due as far as there is room; returns everything that is under way."""
        until = self._sandbox.now() + _LOOKS_EVERY
        for webhook in self._webhooks.due(until, limit=_AT_ONCE + len(self._flights)):
            if len(self._flights) >= _AT_ONCE:
                break
            self._start(webhook, client)
        return list(self._flights.values())

    def _start(self, webhook: Webhook, client: httpx.AsyncClient) -> asyncio.Task[bool]:
        # A resend begins a schedule of its own, which need not wait for the try that it ends.
        key = webhook.id, webhook.schedule
        if key not in self._flights:
            flight = asyncio.create_task(self._fly(webhook, client))
            self._flights[key] = flight
            flight.add_done_callback(lambda flight: self._land(key, flight))
        return self._flights[key]

    def _land(self, key: tuple[int, int], flight: asyncio.Task[bool]) -> None:
        self._flights.pop(key, None)
        if flight.cancelled():
            return
        if error := flight.exception():
            _log.error("webhook %s will be sent again", key[0], exc_info=error)
        elif self._woken is not None:
            self._woken.set()

    async def _fly(self, webhook: Webhook, client: httpx.AsyncClient) -> bool:
        await asyncio.sleep(_seconds_until(webhook, self._sandbox.now()))
        at = self._sandbox.now()
        headers = self._webhooks.headers(webhook, at=at)
        attempt = await self._try(webhook, headers, client, at=at)
        self._webhooks.end_attempt(webhook, attempt, headers, at=at)
        return attempt.is_received

    async def _try(
        self, webhook: Webhook, headers: dict[str, str], client: httpx.AsyncClient, *, at: datetime
    ) -> Attempt:
        url = self._webhooks.settings.url or ""  # taken away at this moment, it is an address that cannot be reached
        limit = self._sandbox.settings.webhook_timeout.total_seconds()
        body = webhook.body.encode()
        try:
            async with (
                asyncio.timeout(limit),
                client.stream("POST", url, content=body, headers=headers) as answer,
            ):
                await _read_away(answer)
                return Attempt(toss_time(at), answer.status_code, None)
        except (TimeoutError, httpx.TimeoutException):
            return Attempt(toss_time(at), None, f"no answer within {limit:g} seconds")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Attempt(toss_time(at), None, f"{type(error).__name__}: {error}")

    @asynccontextmanager
    async def _open_client(self) -> AsyncIterator[httpx.AsyncClient]:
        if self._client is not None:
            yield self._client
            return
        async with self._new_client() as client:
            yield client

    def _new_client(self) -> httpx.AsyncClient:
        # Each try has a connection of its own: one that the shop has closed meanwhile would look like a failure.
        limits = httpx.Limits(max_keepalive_connections=0)
        timeout = self._sandbox.settings.webhook_timeout.total_seconds()
        return httpx.AsyncClient(
            transport=self._transport, limits=limits, timeout=timeout, trust_env=False, verify=self._authorities
        )

    @cached_property
    def _authorities(self) -> ssl.SSLContext:
        return ssl.create_default_context()


async def _read_away(answer: httpx.Response) -> None:
    """Let the shop finish its answer, unless it never does."""
    size = 0
    async for part in answer.aiter_raw():
        size += len(part)
        if size > _LONGEST_ANSWER:
            return


def _seconds_until(webhook: Webhook, now: datetime) -> float:
    return max(0.0, (webhook.next_attempt_at or 0.0) - now.timestamp())
