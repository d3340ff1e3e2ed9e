"""What the programs hold open while they run: the database, the PG client, the clients of the order service."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from sqlalchemy.ext.asyncio import AsyncEngine

from payments.alerts import Alerts, AppriseAlerts
from payments.background import Background
from payments.db import Sessions, create_engine, create_sessions
from payments.gateways.identity import IdentityProvider
from payments.gateways.orders import OrdersClient, OrderService
from payments.gateways.pg import PaymentGateway
from payments.gateways.subscribers import Subscriber, SubscriberClient
from payments.gateways.toss import TossClient
from payments.hot_path import HotPath
from payments.leases import Lease
from payments.presence import Presence
from payments.reserve import Reserve, Turns
from payments.settings import Settings, SettingsInvalid

API: Final = "api"  # the role in which a buyer may be waiting
WORKER: Final = "worker"
COMMAND: Final = "command"

# Calls to the PG under way at the same time. A buyer waits for each of the API's, and they hold nothing but a socket:
# when the PG takes a second for each, a busy shop has hundreds.
BUYERS_CALLS: Final = 600
OTHER_CALLS: Final = 50

# Webhooks stored at the same time: a share of the connections, so that a flood of them leaves the buyers the others.
WEBHOOKS_AT_ONCE: Final = 4
# Toss repeats what is not answered within ten seconds
# (https://docs.tosspayments.com/guides/v2/webhook); storing one that has its turn takes two at most.
WEBHOOK_PATIENCE: Final = timedelta(seconds=7)


@dataclass(frozen=True, slots=True)
class Resources:
    settings: Settings
    engine: AsyncEngine
    sessions: Sessions
    hot: HotPath | None  # None: everything goes the plain path
    presence: Presence
    pg: PaymentGateway
    orders: OrderService | None
    subscriber: Subscriber | None
    alerts: Alerts | None
    identity: IdentityProvider | None
    background: Background = field(default_factory=Background)
    webhook_turns: Turns = field(default_factory=lambda: Turns(WEBHOOKS_AT_ONCE, patience=WEBHOOK_PATIENCE))
    opened_at: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> timedelta:
        """How long this process has been at work."""
        return timedelta(seconds=time.monotonic() - self.opened_at)

    @property
    def pg_lease(self) -> Lease:
        """Longer than a confirm or cancel and its look-up take: a slot, two connects, the PG's silence, twice."""
        return Lease(self.settings.toss_read_timeout + timedelta(seconds=30), self.presence.holder)

    @property
    def request_lease(self) -> timedelta:
        """Longer than a request that asks the PG and records its answer; a look-up may come before it."""
        return 2 * self.pg_lease.length


@asynccontextmanager
async def open_resources(settings: Settings, *, role: str) -> AsyncIterator[Resources]:
    """Open everything, close it in reverse. Nothing waits for the database or for anybody else.

    A buyer waits for what the API asks of the PG; everybody else keeps to `toss_worker_rate`.

    Raises:
        SettingsInvalid: ALERT_URLS names what is no service.
    """
    # Only who alerts pays for the library that knows a hundred services.
    alerts = _alerts(settings) if role == WORKER else None
    async with AsyncExitStack() as stack:
        engine = create_engine(settings.database_url.get_secret_value())
        stack.push_async_callback(engine.dispose)
        sessions = create_sessions(engine)
        reserve = Reserve(settings.database_url.get_secret_value())
        stack.push_async_callback(reserve.aclose)
        presence = Presence(role, sessions=sessions)
        pg = await stack.enter_async_context(
            TossClient(
                base_url=settings.toss_api_url,
                secret_key=settings.toss_secret_key.get_secret_value(),
                read_timeout=settings.toss_read_timeout,
                max_concurrent=BUYERS_CALLS if role == API else OTHER_CALLS,
                requests_per_second=None if role == API else settings.toss_worker_rate,
            )
        )
        orders = await stack.enter_async_context(OrdersClient(settings.orders_url)) if settings.orders_url else None
        subscriber = await stack.enter_async_context(_subscriber(settings)) if settings.events_url else None
        identity = await _identity(settings, stack) if settings.jwt_jwks_url else None
        presence.start()
        stack.push_async_callback(presence.stop)
        yield Resources(
            settings, engine, sessions, HotPath(reserve), presence, pg, orders, subscriber, alerts, identity
        )


def _subscriber(settings: Settings) -> SubscriberClient:
    secrets = [secret.get_secret_value() for secret in settings.events_secrets]
    return SubscriberClient(settings.events_url or "", secrets=secrets)


async def _identity(settings: Settings, stack: AsyncExitStack) -> IdentityProvider:
    from payments.gateways.jwks import JwksClient  # noqa: PLC0415 - 9 MB, for those who know their buyers

    return await stack.enter_async_context(
        JwksClient(settings.jwt_jwks_url or "", issuer=settings.jwt_issuer or "", audience=settings.jwt_audience or "")
    )


def _alerts(settings: Settings) -> Alerts | None:
    urls = [url.get_secret_value() for url in settings.alert_urls]
    try:
        return AppriseAlerts(urls) if urls else None
    except ValueError as error:
        raise SettingsInvalid(f"ALERT_URLS: {error}") from None
