"""The whole set as `make run` starts it, and a buyer in front of it."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from payments.local.postgres import LocalPostgres
from tests.acceptance.buyer import Buyer
from tests.acceptance.local_run import START_SECONDS, LocalRun, free_base, running
from tests.acceptance.worker_world import Town, open_town
from tests.browser import driving, fresh_page
from tests.local.processes import eventually


@pytest.fixture(scope="module")
def everything() -> Iterator[LocalRun]:
    """One running set for all stories of a file."""
    with (
        tempfile.TemporaryDirectory(prefix="payments-set-") as home,
        running(free_base(), Path(home, "data"), log=Path(home, "log")) as run,
    ):
        eventually(run.is_ready, within=START_SECONDS)
        yield run


@pytest.fixture
def sandbox(everything: LocalRun) -> Iterator[httpx.Client]:
    """The PG's control API, with no faults armed before or after."""
    with httpx.Client(base_url=everything.url(100, ""), trust_env=False, timeout=30) as client:
        client.delete("/sandbox/faults").raise_for_status()
        yield client
        client.delete("/sandbox/faults").raise_for_status()


@pytest.fixture(scope="module")
def town(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """The PG and the order service, for all stories of a file; our own programs come and go."""
    with open_town(postgres, tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest.fixture
def without_webhooks(sandbox: httpx.Client) -> Iterator[None]:
    """Toss tells nobody anything."""
    sandbox.put("/sandbox/webhooks/settings", json={"enabled": False}).raise_for_status()
    yield
    sandbox.put("/sandbox/webhooks/settings", json={"enabled": True}).raise_for_status()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """Driven from the loop of the file: nothing else lives in it but pages."""
    async with driving(chromium) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def browser_page(browser: Browser) -> AsyncIterator[Page]:
    async with fresh_page(browser) as page:
        yield page


@pytest.fixture
def buyer(browser_page: Page, everything: LocalRun, sandbox: httpx.Client) -> Buyer:
    """A buyer with a fresh browser."""
    return Buyer(browser_page, everything, sandbox)
