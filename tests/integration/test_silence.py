"""A server that says nothing: frozen, or waiting for a standby that is away. Nobody waits for it without end."""

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

    async def test_that_is_short_enough_is_borne(self, database: str) -> None:
        reserve = Reserve(database)

        assert await reserve.run("SELECT 1 FROM pg_sleep(0.2)", {}) == (1,)

        await reserve.aclose()


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
