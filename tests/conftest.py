"""What every test can ask for: a real PostgreSQL, and databases of its own in it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import hypothesis
import pytest
import structlog

from payments.local.postgres import LocalPostgres
from payments.schema import migrate
from tests.authorities import few_authorities
from tests.keys import let_in
from tests.statements import share_statements

pytest_plugins = ["tests.browser"]

TEMPLATE: Final = "migrated"
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a private directory is made in it


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--proof", action="store_true", help="run random stories many times more")


def pytest_configure(config: pytest.Config) -> None:
    """How many examples a property gets that does not say so itself, and what all tests share."""
    hypothesis.settings.register_profile("quick", max_examples=50)
    hypothesis.settings.register_profile("proof", max_examples=200)
    hypothesis.settings.load_profile("proof" if config.getoption("--proof") else "quick")
    share_statements()
    # A traceback as structlog prints it by itself shows every local, and takes half a minute for one of FastAPI's.
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    merge, level = structlog.contextvars.merge_contextvars, structlog.processors.add_log_level
    structlog.configure(processors=[merge, level, plain])


@pytest.fixture(scope="session", autouse=True)
def _few_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with few_authorities(tmp_path_factory.mktemp("authorities")):
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """One server for the run (one for each worker), in memory where the machine offers it."""
    parent = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="payments-test-", dir=parent, ignore_cleanup_errors=True) as directory,
        LocalPostgres(Path(directory) / "pg", durable=False) as server,
    ):
        server.create_database(TEMPLATE)
        migrate(server.url(TEMPLATE))
        let_in(server.url(TEMPLATE))
        yield server


@pytest.fixture
def empty_database(postgres: LocalPostgres) -> Iterator[str]:
    """The URL of a database without anything in it."""
    name = f"empty_{uuid4().hex}"
    postgres.create_database(name)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def database(postgres: LocalPostgres) -> Iterator[str]:
    """The URL of a migrated database without any rows but the API key of `tests.keys`."""
    name = f"migrated_{uuid4().hex}"
    postgres.create_database(name, template=TEMPLATE)
    yield postgres.url(name)
    postgres.drop_database(name)
