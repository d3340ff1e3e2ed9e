"""The API in this process, the sandbox in another one, PostgreSQL between them: everything real but the buyer."""

import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from payments.api.app import create_app
from payments.resources import Resources
from payments.settings import Settings
from tests.integration.world import CLIENT_KEY, SECRET_KEY, SHOP, Sandbox, settings_for


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A sandbox process for the whole run."""
    port, data = free_port(), tmp_path_factory.mktemp("sandbox") / "sandbox.sqlite3"
    command = [sys.executable, "-m", "toss_sandbox", "serve", "--port", str(port), "--data", str(data)]
    environment = {"TOSS_CLIENT_KEY": CLIENT_KEY, "TOSS_SECRET_KEY": SECRET_KEY, "PATH": ""}
    with subprocess.Popen(command, env=environment, cwd=Path.cwd()) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_live(url)
        yield url
        process.terminate()


def wait_until_live(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/health/live", trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)  # a process is starting; there is nothing to be told by
        else:
            return
    raise TimeoutError(url)


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
    """A browser on the shop's page, talking to the API."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers={"origin": SHOP}) as client:
        yield client


@pytest.fixture
def resources(app: FastAPI) -> Resources:
    """What the running API holds open."""
    held: Resources = app.state.resources
    return held
