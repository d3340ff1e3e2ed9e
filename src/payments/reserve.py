"""Connections for single statements, each of which is a transaction of its own."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, LiteralString, TypeAlias

import psycopg
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from payments.db import CONNECT, PATIENCE, SILENCE, BoundedConnection, has_ended, meaning_of
from payments.errors import DatabaseUnavailable

Row: TypeAlias = tuple[Any, ...]

SIZE: Final = 12  # more than all that are given shares of it take together, so that everybody else finds one


class Turns:
    """So many at the same time, in the order of asking.

    Raises:
        DatabaseUnavailable: upon entering, when the turn has not come within `patience`.
    """

    def __init__(self, count: int, *, patience: timedelta = PATIENCE) -> None:
        self._free = asyncio.Semaphore(count)
        self._patience = patience

    async def __aenter__(self) -> None:
        if not self._free.locked():
            await self._free.acquire()  # at once, without a timer
            return
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                await self._free.acquire()
        except TimeoutError:
            raise DatabaseUnavailable from None

    async def __aexit__(self, *_: object) -> None:
        self._free.release()


class Reserve:
    """A few of the driver's own connections, in autocommit; made when they are wanted, kept while they are good.

    SQLAlchemy's pool takes 45 us for each statement and its adaptation of the driver 230 more, where the statement
    itself takes 30 (docs/performance.md): for the hot path alone.

    Args:
        url: SQLAlchemy's address of the database.
        size: How many there are at the most; whoever finds none free waits for two seconds.
        silence: How long a server may say nothing before it is left.
    """

    def __init__(self, url: str, *, size: int = SIZE, silence: timedelta = SILENCE) -> None:
        address = create_async_engine(url).sync_engine.dialect.create_connect_args(make_url(url))[1]
        self._arguments: dict[str, Any] = {**address, **CONNECT, "autocommit": True}
        self._silence = silence
        self._turns = Turns(size)
        self._free: list[psycopg.AsyncConnection[Row]] = []
        self._is_closed = False

    async def run(self, statement: LiteralString, parameters: Mapping[str, Any]) -> Row | None:
        """Run a statement that answers one row or none, as `run_all`."""
        rows = await self.run_all(statement, parameters)
        return rows[0] if rows else None

    async def run_all(self, statement: LiteralString, parameters: Mapping[str, Any]) -> list[Row]:
        """Run a statement and answer its rows; what it did is committed when this returns.

        Raises:
            ConcurrentUpdate, DatabaseUnavailable, DatabaseRefused: as `db.transaction`.
        """
        async with self._turns:
            return await self._run(statement, parameters)

    async def _run(self, statement: LiteralString, parameters: Mapping[str, Any]) -> list[Row]:
        connection = None
        is_whole = False
        try:
            connection = self._kept() or await BoundedConnection.make(self._silence, **self._arguments)
            rows = await (await connection.execute(statement, parameters)).fetchall()
            is_whole = True
        except psycopg.Error as error:
            meaning = meaning_of(error, is_lost=connection is None or connection.broken)
            # One whose statements a pooler has forgotten, or a migration has changed, would fail again and again.
            is_whole = not isinstance(meaning, DatabaseUnavailable)
            if connection is not None and connection.broken:  # the others lead to the same server
                await self._let_go()
            raise meaning from None
        finally:
            # What was cancelled, perhaps in the middle of an answer, is not used again.
            if connection is not None and is_whole and not self._is_closed:
                self._free.append(connection)
            elif connection is not None:
                await connection.close()
        return rows

    async def aclose(self) -> None:
        """Close what is free; what is in use is closed when it has ended."""
        self._is_closed = True
        await self._let_go()

    async def _let_go(self) -> None:
        while self._free:
            await self._free.pop().close()

    def _kept(self) -> psycopg.AsyncConnection[Row] | None:
        """The one that was used last, so that the others may be closed by whoever closes idle ones."""
        while self._free:
            connection = self._free.pop()
            if not has_ended(connection):
                return connection
            connection.pgconn.finish()
        return None
