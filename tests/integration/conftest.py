"""The API in this process, the sandbox in another one, PostgreSQL between them: everything real but the buyer."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Final

import httpx
import pytest
from fastapi import FastAPI

from payments.api.app import create_app
from payments.resources import Resources
from payments.settings import Settings
from tests.integration.world import CLIENT_KEY, SECRET_KEY, SHOP, Sandbox, settings_for
from tests.keys import AUTHORIZATION
from tests.programs import sandbox_server

HOT: Final = "hot"
PLAIN: Final = "plain"


@pytest.fixture(scope="session")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A sandbox process for the whole run."""
    data = tmp_path_factory.mktemp("sandbox") / "sandbox.sqlite3"
    with sandbox_server(data, client_key=CLIENT_KEY, secret_key=SECRET_KEY) as url:
        yield url


@pytest.fixture
async def sandbox(sandbox_url: str) -> AsyncIterator[Sandbox]:
    """The sandbox, empty, and its control API."""
    async with httpx.AsyncClient(base_url=sandbox_url, trust_env=False) as http:
        world = Sandbox(http)
        await world.reset()
        yield world


@pytest.fixture
def settings(database: str, sandbox_url: str) -> Settings:
    return settings_for(database, sandbox_url)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shop that may do everything, from the shop's page."""
    transport = httpx.ASGITransport(app=app)
    headers = {"origin": SHOP, **AUTHORIZATION}
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
        yield client


@pytest.fixture
def resources(app: FastAPI) -> Resources:
    """What the running API holds open."""
    held: Resources = app.state.resources
    return held


@pytest.fixture(params=[HOT, PLAIN])
def path(request: pytest.FixtureRequest, app: FastAPI) -> str:
    """Everything of the story goes the hot path where it can; once more, everything goes the plain one.

    For `usefixtures`, which come before `resources`.
    """
    chosen: str = request.param
    if chosen == PLAIN:
        app.state.resources = replace(app.state.resources, hot=None)
    return chosen
