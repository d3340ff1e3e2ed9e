"""Headless Chromium for tests, and servers on loopback for it to visit."""

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import uvicorn
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI
from playwright.async_api import Browser, Page, async_playwright, expect

PATIENCE_MILLISECONDS: Final = 30_000
_START_SECONDS: Final = 10
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No sandbox of its own: containers do not allow it, and only our own pages are visited. The rest keeps it off the net.
_ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_path() -> str | None:
    """Where Chromium is installed, or None."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[str]:
    """One Chromium for the run (one for each worker); yields the address from which it is driven.

    It is started in a thread with a loop of its own, since the loop of a test ends with it.
    """
    path = _chromium_or_skip()
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_running(path)) as address:
        yield address


@pytest.fixture
async def browser_page(chromium: str) -> AsyncIterator[Page]:
    """A fresh page; the test fails when a script of a visited page threw."""
    async with driving(chromium) as browser, fresh_page(browser) as page:
        yield page


@asynccontextmanager
async def driving(chromium: str) -> AsyncIterator[Browser]:
    """Drive the running Chromium from this loop: what does it is a program of its own, as slow to start as most."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(chromium)
        yield browser
        await browser.close()


@asynccontextmanager
async def fresh_page(browser: Browser) -> AsyncIterator[Page]:
    """A page with cookies, storage and cache of its own.

    Raises:
        AssertionError: A script of a visited page threw.
    """
    errors: list[str] = []
    context = await browser.new_context(locale="ko-KR", timezone_id="Asia/Seoul")
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MILLISECONDS)
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await context.close()
    assert errors == []


@asynccontextmanager
async def serving(app: FastAPI, *, port: int = 0) -> AsyncIterator[str]:
    """Serve an application on a loopback port, by default a free one; yields its origin."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(_START_SECONDS):
            while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn has a flag, not an event
                await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


@asynccontextmanager
async def _running(path: str) -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="payments-chromium-", ignore_cleanup_errors=True) as profile:
        async with async_playwright() as playwright:
            arguments = (*_ARGUMENTS, "--remote-debugging-port=0")
            started = await playwright.chromium.launch_persistent_context(profile, executable_path=path, args=arguments)
            yield _address_of(Path(profile))
            await started.close()


def _address_of(profile: Path) -> str:
    # Chromium leaves the port that it took, and a path that nobody else knows, in its profile.
    port, path = (profile / "DevToolsActivePort").read_text(encoding="utf-8").splitlines()
    return f"ws://127.0.0.1:{port}{path}"


def _chromium_or_skip() -> str:
    if path := chromium_path():
        return path
    missing = f"no Chromium on the PATH (looked for {', '.join(_NAMES)})"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)
