"""What the programs hold open while they run: the database, the PG client, the order service client."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from payments.background import Background
from payments.db import Sessions, create_engine, create_sessions
from payments.gateways.orders import OrdersClient, OrderService
from payments.gateways.pg import PaymentGateway
from payments.gateways.toss import TossClient
from payments.settings import Settings


@dataclass(frozen=True, slots=True)
class Resources:
    settings: Settings
    engine: AsyncEngine
    sessions: Sessions
    pg: PaymentGateway
    orders: OrderService | None
    background: Background = field(default_factory=Background)

    @property
    def confirm_lease(self) -> timedelta:
        """Longer than a confirm or cancel and its look-up take: a slot, two connects, the PG's silence, twice."""
        return self.settings.toss_read_timeout + timedelta(seconds=30)

    @property
    def request_lease(self) -> timedelta:
        """Longer than a request that asks the PG and records its answer; a look-up may come before it."""
        return 2 * self.confirm_lease


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Open everything, close it in reverse. Nothing connects before it is used."""
    async with AsyncExitStack() as stack:
        engine = create_engine(settings.database_url.get_secret_value())
        stack.push_async_callback(engine.dispose)
        pg = await stack.enter_async_context(
            TossClient(
                base_url=settings.toss_api_url,
                secret_key=settings.toss_secret_key.get_secret_value(),
                read_timeout=settings.toss_read_timeout,
            )
        )
        orders = await stack.enter_async_context(OrdersClient(settings.orders_url)) if settings.orders_url else None
        yield Resources(settings, engine, create_sessions(engine), pg, orders)
