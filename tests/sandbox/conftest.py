import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI

from tests.sandbox.client import Toss
from tests.sandbox.receiver import Receiver, receiving, set_up
from toss_sandbox.app import create_sandbox
from toss_sandbox.server import SandboxServer, listen
from toss_sandbox.settings import Settings


@pytest.fixture(scope="session")
def shared_app() -> Iterator[FastAPI]:
    """One application in memory; building it costs more than most tests."""
    app = create_sandbox(Settings())
    yield app
    app.state.sandbox.close()


@pytest.fixture
async def toss(shared_app: FastAPI) -> AsyncIterator[Toss]:
    """A sandbox in process, emptied."""
    async with in_process(shared_app) as http:
        await http.post("/sandbox/reset")
        yield Toss(http)


@asynccontextmanager
async def sandbox_in_process(settings: Settings) -> AsyncIterator[Toss]:
    """A sandbox of its own, in process."""
    app = create_sandbox(settings)
    async with app.router.lifespan_context(app), in_process(app) as http:
        yield Toss(http)


def in_process(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://sandbox")


@contextmanager
def running_sandbox(settings: Settings | None = None) -> Iterator[str]:
    """A sandbox on a free loopback port; yields its address."""
    with listen("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = SandboxServer(replace(settings or Settings(), public_url=url))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            _wait_for_start(server, thread)
            yield url
        finally:
            server.should_exit = True
            thread.join()


def _wait_for_start(server: SandboxServer, thread: threading.Thread) -> None:
    deadline = time.monotonic() + 10
    while not server.started:
        assert thread.is_alive(), "the server ended"
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def sandbox_url() -> Iterator[str]:
    """One served sandbox for all tests that need a real connection; they use orders of their own."""
    with running_sandbox() as url:
        yield url


@pytest.fixture
async def served(sandbox_url: str) -> AsyncIterator[Toss]:
    """The served sandbox, emptied."""
    async with httpx.AsyncClient(base_url=sandbox_url, timeout=10) as http:
        await http.post("/sandbox/reset")
        yield Toss(http)


@pytest.fixture
async def receiver(toss: Toss) -> AsyncIterator[Receiver]:
    """Where the sandbox in process sends its webhooks, when it is told to deliver."""
    async with receiving() as receiver:
        await set_up(toss, url=receiver.url)
        yield receiver
