from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import respx

from demo_shop.app import create_shop
from demo_shop.catalogue import BY_SLUG
from demo_shop.orders import Order, Sessions, create_order, create_tables, open_engine, open_sessions
from demo_shop.settings import ShopSettings
from tests.shop.builders import AT

PAYMENTS = "http://payments.test"


@pytest.fixture
async def sessions(empty_database: str) -> AsyncIterator[Sessions]:
    engine = open_engine(empty_database)
    await create_tables(engine)
    yield open_sessions(engine)
    await engine.dispose()


@pytest.fixture
async def order(sessions: Sessions) -> Order:
    """An unpaid order of 24,000 won."""
    return await create_order(sessions, BY_SLUG["moon-mug"], quantity=1, at=AT)


@pytest.fixture
def payments_api() -> Iterator[respx.MockRouter]:
    """The payments API on the wire; a story says what it answers."""
    with respx.mock(base_url=PAYMENTS, assert_all_called=False) as router:
        yield router


@pytest.fixture
def settings(empty_database: str) -> ShopSettings:
    return ShopSettings(
        database_url=empty_database,
        payments_url=PAYMENTS,
        payments_public_url="http://pay.shop.test",
        toss_sdk_url="http://sdk.test/v2/standard",
        public_url="http://shop.test",
        payments_api_key="payk_of_the_shop",
    )


@pytest.fixture
async def buyer(settings: ShopSettings, payments_api: respx.MockRouter) -> AsyncIterator[httpx.AsyncClient]:
    """A client that asks for pages, as a browser does, and follows no redirect."""
    app = create_shop(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test", headers={"accept": "text/html"}
        ) as client,
    ):
        yield client


@pytest.fixture
def program(buyer: httpx.AsyncClient) -> httpx.AsyncClient:
    """The same shop as another service meets it."""
    buyer.headers["accept"] = "application/json"
    return buyer
