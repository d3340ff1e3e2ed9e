"""A server that says nothing: frozen, or waiting for a standby that is away. Nobody waits for it without end."""

import asyncio
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from payments.api.health import MUTE_AFTER
from payments.db import create_engine, create_sessions, transaction
from payments.errors import DatabaseUnavailable
from payments.presence import Presence
from payments.reserve import Reserve

IMPATIENT = timedelta(milliseconds=100)
# Longer than the test may take: only whoever waits can end it.
SILENT = "SELECT set_config('statement_timeout', '0', true), pg_sleep(600)"


class TestSilence:
    async def test_ends_a_transaction(self, database: str) -> None:
        engine = create_engine(database, silence=IMPATIENT)
        sessions = create_sessions(engine)

        with pytest.raises(DatabaseUnavailable):
            async with transaction(sessions) as session:
                await session.execute(text(SILENT))

        async with transaction(sessions) as session:  # on a connection that is good
            assert await session.scalar(text("SELECT 1")) == 1
        await engine.dispose()

    async def test_ends_a_statement_of_the_hot_path(self, database: str) -> None:
        reserve = Reserve(database, silence=IMPATIENT)

        with pytest.raises(DatabaseUnavailable):
            await reserve.run(SILENT, {})

        assert await reserve.run("SELECT 1", {}) == (1,)
        await reserve.aclose()

    async def test_costs_the_hot_path_one_wait_for_all_connections_that_it_kept(self, database: str) -> None:
        """Another server may be there by then, but not for those that lead to the silent one."""
        reserve = Reserve(database, silence=3 * IMPATIENT)
        kept = await asyncio.gather(*(reserve.run("SELECT pg_backend_pid()", {}) for _ in range(3)))

        with frozen(*(pid for row in kept if row for pid in row)):
            with pytest.raises(DatabaseUnavailable):
                await reserve.run("SELECT 1", {})

            assert await reserve.run("SELECT 1", {}) == (1,)
        await reserve.aclose()

    async def test_is_ended_where_no_file_can_be_opened_any_more(self, database: str) -> None:
        reserve = Reserve(database, silence=IMPATIENT)
        await reserve.run("SELECT 1", {})

        with no_files_left(), pytest.raises(DatabaseUnavailable):
            await reserve.run(SILENT, {})

        await reserve.aclose()

    async def test_of_this_process_itself_is_none_of_the_servers(self, database: str) -> None:
        """Its machine was suspended; the answer has been there for long."""
        engine = create_engine(database, silence=IMPATIENT)
        sessions = create_sessions(engine)

        async def suspended() -> None:
            await asyncio.sleep(0)
            time.sleep(3 * IMPATIENT.total_seconds())  # noqa: ASYNC251 - nothing of it goes on

        async with transaction(sessions) as session:
            await session.execute(text("SELECT 1"))
            answer, _ = await asyncio.gather(session.scalar(text("SELECT 2")), suspended())
            assert (answer, await session.scalar(text("SELECT 3"))) == (2, 3)
        await engine.dispose()

    async def test_that_is_short_enough_is_borne(self, database: str) -> None:
        reserve = Reserve(database)

        assert await reserve.run("SELECT 1 FROM pg_sleep(0.2)", {}) == (1,)

        await reserve.aclose()


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """Processes of the server stand still, and their kernel goes on acknowledging."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def no_files_left() -> Iterator[None]:
    """This process can open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestReady:
    async def test_is_red_when_nothing_could_be_written_for_a_while(self, api: httpx.AsyncClient, app: FastAPI) -> None:
        """The database reads, and waits for a standby that is away with every write."""
        mute = Presence("api", sessions=app.state.resources.sessions)
        mute._heard_at -= MUTE_AFTER.total_seconds()
        known = app.state.resources
        app.state.resources = replace(known, presence=mute)

        answer = await api.get("/health/ready")

        app.state.resources = known
        assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "takes no writes")
