"""The API with buyers that are known, clients with every kind of key, and one payment that belongs to somebody."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
import respx

from payments.api.app import create_app
from payments.settings import Settings
from tests.access.identity import KNOWN, Provider
from tests.integration.conftest import api, app, resources, sandbox, sandbox_url, settings

__all__ = ["api", "app", "resources", "sandbox", "sandbox_url", "settings"]


@pytest.fixture
def provider() -> Iterator[Provider]:
    """The identity provider; everything else on this machine is really asked."""
    with respx.mock(assert_all_called=False) as router:
        router.route(host="127.0.0.1").pass_through()
        yield Provider(router)


@asynccontextmanager
async def serving(settings: Settings, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    """An API that is set up in another way, and somebody who shows nothing."""
    app = create_app(settings.model_copy(update=changes))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api") as client,
    ):
        yield client


@pytest.fixture
async def anybody(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who shows nothing, where buyers are not known."""
    async with serving(settings) as client:
        yield client


@pytest.fixture
async def stranger(settings: Settings, provider: Provider) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who shows nothing, where buyers are known."""
    async with serving(settings, **KNOWN) as client:
        yield client
