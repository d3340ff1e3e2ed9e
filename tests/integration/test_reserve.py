"""The hot path's own connections: few, good ones, and nothing of a broken one is ever read."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, LiteralString
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from sqlalchemy import text

from payments import reserve as reserve_module
from payments.db import DatabaseRefused, Sessions, create_engine, create_sessions, transaction
from payments.errors import ConcurrentUpdate, DatabaseUnavailable, PaymentKeyMismatch
from payments.hot_path import BEGIN_AT_ONCE, WRITE_AT_ONCE
from payments.local import guard
from payments.reserve import Reserve
from payments.resources import WEBHOOKS_AT_ONCE
from tests.edge.conftest import NOWHERE
from tests.integration.world import until

SIZE: Final = 3
LOCK: Final = 20261102  # the number of an advisory lock that the stories wait for
# For as long as a story likes, and not only for the two seconds of our connections.
WAIT: Final[LiteralString] = (
    "SELECT %(answer)s::int, set_config('lock_timeout', '0', true), pg_advisory_xact_lock(%(lock)s)"
)
ANSWER: Final[LiteralString] = "SELECT %(answer)s::int"
OWN_PID: Final[LiteralString] = "SELECT pg_backend_pid()"
CANARY: Final = "kanarienvogel-of-a-value"


class Server:
    """What somebody else does on the database."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @contextmanager
    def holding_the_lock(self) -> Iterator[None]:
        self._connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        try:
            yield
        finally:
            self._connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])

    def ours(self) -> list[int]:
        """The processes of the server that serve us."""
        rows = self._connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in rows]

    def waiting(self) -> list[int]:
        """Those of them that wait for the lock."""
        rows = self._connection.execute("SELECT pid FROM pg_locks WHERE objid = %s AND NOT granted", [LOCK])
        return [pid for (pid,) in rows]

    async def until_waiting(self, number: int) -> None:
        async def are_waiting() -> bool:
            return len(self.waiting()) == number

        await until(are_waiting)

    async def end(self, pids: list[int]) -> None:
        for pid in pids:
            self._connection.execute("SELECT pg_terminate_backend(%s)", [pid])
        await self.until_gone(set(pids))

    async def until_gone(self, pids: set[int]) -> None:
        async def are_gone() -> bool:
            return not pids & set(self.ours())

        await until(are_gone)

    def execute(self, statement: LiteralString) -> None:
        self._connection.execute(statement)

    def read(self, statement: LiteralString) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement).fetchall()


@pytest.fixture
def server(database: str) -> Iterator[Server]:
    with psycopg.connect(database.replace("+psycopg", "", 1), autocommit=True) as connection:
        yield Server(connection)


@pytest.fixture
async def reserve(database: str) -> AsyncIterator[Reserve]:
    reserve = Reserve(database, size=SIZE)
    yield reserve
    await reserve.aclose()


async def answer(reserve: Reserve, number: int = 7) -> int:
    row = await reserve.run(ANSWER, {"answer": number})
    assert row is not None
    value: int = row[0]
    return value


async def _is_empty(server: Server) -> bool:
    return server.ours() == []


def waiting_for_the_lock(reserve: Reserve, number: int = 1) -> asyncio.Task[tuple[Any, ...] | None]:
    return asyncio.ensure_future(reserve.run(WAIT, {"lock": LOCK, "answer": number}))


class TestConnections:
    async def test_are_made_when_they_are_wanted(self, reserve: Reserve, server: Server) -> None:
        before = server.ours()

        await answer(reserve)

        assert (len(before), len(server.ours())) == (0, 1)

    async def test_are_used_again(self, reserve: Reserve, server: Server) -> None:
        pids = {await reserve.run(OWN_PID, {}) for _ in range(20)}

        assert len(pids) == len(server.ours()) == 1

    async def test_are_never_more_than_agreed(self, reserve: Reserve, server: Server) -> None:
        with server.holding_the_lock():
            asked = [waiting_for_the_lock(reserve, number) for number in range(10)]
            await server.until_waiting(SIZE)

            taken = server.ours()

        answers = await asyncio.gather(*asked)
        assert len(taken) == len(server.ours()) == SIZE
        assert [row and row[0] for row in answers] == [*range(10)]

    async def test_that_are_all_busy_are_not_waited_for_without_end(self, reserve: Reserve, server: Server) -> None:
        with server.holding_the_lock():
            asked = [waiting_for_the_lock(reserve) for _ in range(SIZE)]
            await server.until_waiting(SIZE)

            with pytest.raises(DatabaseUnavailable):
                await answer(reserve)

            waiting = server.waiting()
            for one in asked:
                one.cancel()
            await asyncio.wait(asked)
        assert len(waiting) == SIZE

    async def test_are_closed_in_the_end(self, database: str, server: Server) -> None:
        reserve = Reserve(database, size=SIZE)
        await asyncio.gather(*(answer(reserve) for _ in range(10)))
        held = server.ours()

        await reserve.aclose()

        await server.until_gone({*held})
        assert held != []
        assert server.ours() == []

    async def test_in_use_at_the_end_are_closed_when_they_are_done(self, reserve: Reserve, server: Server) -> None:
        with server.holding_the_lock():
            waiting = waiting_for_the_lock(reserve, 7)
            await server.until_waiting(1)
            await reserve.aclose()

        row = await waiting

        assert row is not None
        assert row[0] == 7
        await until(partial(_is_empty, server))

    async def test_commit_each_statement(self, reserve: Reserve, server: Server) -> None:
        server.execute("CREATE TABLE kept (number integer)")

        await reserve.run("INSERT INTO kept VALUES (%(number)s) RETURNING number", {"number": 7})

        assert server.read("SELECT number FROM kept") == [(7,)]

    async def test_give_up_by_themselves(self, reserve: Reserve) -> None:
        limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "timezone")

        rows = await reserve.run_all(
            "SELECT current_setting(name) FROM unnest(%(names)s::text[]) AS name", {"names": [*limits]}
        )

        assert [value for (value,) in rows] == ["10s", "2s", "30s", "UTC"]


class TestBrokenConnections:
    async def test_that_the_server_ended_while_they_were_idle_are_not_used(
        self, reserve: Reserve, server: Server
    ) -> None:
        await _fill(reserve, server)
        ended = server.ours()
        await server.end(ended)

        answers = [await answer(reserve, number) for number in range(5)]

        assert len(ended) == SIZE
        assert answers == [*range(5)]
        assert not set(server.ours()) & set(ended)

    async def test_that_the_server_ends_during_a_statement_leave_its_outcome_unknown(
        self, reserve: Reserve, server: Server
    ) -> None:
        with server.holding_the_lock():
            asked = waiting_for_the_lock(reserve)
            await server.until_waiting(1)
            await server.end(server.waiting())

            with pytest.raises(DatabaseUnavailable):
                await asked

        assert await answer(reserve) == 7

    async def test_whose_statement_was_cancelled_leave_nothing_half_read(
        self, reserve: Reserve, server: Server
    ) -> None:
        cancelled: set[int] = set()
        for number in range(2 * SIZE):  # more often than there are turns
            with server.holding_the_lock():
                asked = waiting_for_the_lock(reserve, 1000 + number)
                await server.until_waiting(1)
                cancelled.update(server.waiting())
                asked.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asked

        answers = await asyncio.gather(*(answer(reserve, number) for number in range(20)))

        assert answers == [*range(20)]
        assert server.waiting() == []
        await server.until_gone(cancelled)
        assert len(server.ours()) <= SIZE

    async def test_take_no_turn_along(self, reserve: Reserve, server: Server) -> None:
        with server.holding_the_lock():
            asked = [waiting_for_the_lock(reserve) for _ in range(SIZE)]
            await server.until_waiting(SIZE)
            queued = [asyncio.ensure_future(answer(reserve)) for _ in range(SIZE)]
            await asyncio.wait(queued, timeout=0)
            for one in queued:
                one.cancel()
            await asyncio.wait(queued)
        await asyncio.gather(*asked)

        with server.holding_the_lock():
            again = [waiting_for_the_lock(reserve) for _ in range(SIZE)]

            await server.until_waiting(SIZE)

        assert [row and row[0] for row in await asyncio.gather(*again)] == [1] * SIZE

    async def test_of_the_plain_pool_are_not_used_either(self, database: str, server: Server) -> None:
        engine = create_engine(database, pool_size=SIZE)
        sessions = create_sessions(engine)
        with server.holding_the_lock():
            asked = [asyncio.ensure_future(_plain_answer(sessions)) for _ in range(SIZE)]
            await server.until_waiting(SIZE)
        await asyncio.gather(*asked)
        ended = server.ours()
        await server.end(ended)

        answers = await asyncio.gather(*(_plain_answer(sessions) for _ in range(2 * SIZE)))

        assert len(ended) == SIZE
        assert answers == [7] * 2 * SIZE
        assert not set(server.ours()) & set(ended)
        await engine.dispose()

    async def test_that_are_ended_as_soon_as_they_are_made_are_a_database_that_is_away(self, database: str) -> None:
        """A server that is shutting down, or a pooler in front of one."""
        async with ending_every_login(database) as address:
            reserve, engine = Reserve(address), create_engine(address)
            for _ in range(3):
                with pytest.raises(DatabaseUnavailable):
                    await _plain_answer(create_sessions(engine))
                with pytest.raises(DatabaseUnavailable):
                    await answer(reserve)
            await reserve.aclose()
            await engine.dispose()


class TestShares:
    def test_leave_a_connection_to_everybody_else(self) -> None:
        assert BEGIN_AT_ONCE + WRITE_AT_ONCE + WEBHOOKS_AT_ONCE < reserve_module.SIZE


@asynccontextmanager
async def ending_every_login(database: str) -> AsyncIterator[str]:
    """The address of a server that lets everybody in and then says goodbye."""
    (sockets,) = parse_qs(urlsplit(database).query)["host"]
    ready, told = b"Z\0\0\0\x05I", b"SFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
    goodbye = b"E" + (len(told) + 4).to_bytes(4, "big") + told

    async def let_in(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_unix_connection(f"{sockets}/.s.PGSQL.{guard.PORT}")
        asking = asyncio.ensure_future(_pass_on(reader, to_them))
        said = b""
        while ready not in said and (piece := await theirs.read(4096)):
            said += piece
            writer.write(piece)
        asking.cancel()
        writer.write(goodbye)
        for one in (writer, to_them):
            one.close()

    server = await asyncio.start_server(let_in, "127.0.0.1", 0)
    name = urlsplit(database).path.removeprefix("/")
    yield f"postgresql+psycopg://postgres@127.0.0.1:{server.sockets[0].getsockname()[1]}/{name}"
    server.close()
    await server.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(4096):
        writer.write(piece)


async def _fill(reserve: Reserve, server: Server) -> None:
    """Have as many connections as there may be."""
    with server.holding_the_lock():
        asked = [waiting_for_the_lock(reserve) for _ in range(SIZE)]
        await server.until_waiting(SIZE)
    await asyncio.gather(*asked)


async def _plain_answer(sessions: Sessions) -> int:
    async with transaction(sessions) as session:
        value: int = await session.scalar(text("SELECT 7 FROM pg_advisory_xact_lock_shared(:lock)"), {"lock": LOCK})
    return value


# What the server says, and what it means; https://www.postgresql.org/docs/current/errcodes-appendix.html
MEANINGS: Final[list[tuple[str, str, type[Exception]]]] = [
    ("23505", "uq_payments_payment_key", PaymentKeyMismatch),
    ("23505", "uq_payments_order_id", ConcurrentUpdate),
    ("23505", "pk_payment_events", ConcurrentUpdate),
    ("23505", "uq_outbox_messages_payment_id_sequence", ConcurrentUpdate),
    ("40001", "", ConcurrentUpdate),
    ("40P01", "", ConcurrentUpdate),
    *(
        (state, "", DatabaseUnavailable)
        for state in ("08006", "53300", "57014", "55P03", "57P01", "58030", "25006", "XX000")
    ),
    ("23505", "uq_of_something_new", DatabaseRefused),
    ("23514", "ck_payments_amount_positive", DatabaseRefused),
    ("22001", "", DatabaseRefused),
    ("42501", "", DatabaseRefused),
]
FAILING: Final[LiteralString] = """
CREATE FUNCTION fails(state text, rule text, said text) RETURNS integer LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '%', said USING ERRCODE = state, CONSTRAINT = rule, DETAIL = said, HINT = said; END $$
"""


class TestErrors:
    @pytest.mark.parametrize(("state", "constraint", "meaning"), MEANINGS)
    async def test_mean_the_same_as_in_a_transaction_and_tell_no_value(
        self, reserve: Reserve, server: Server, database: str, state: str, constraint: str, meaning: type[Exception]
    ) -> None:
        server.execute(FAILING)
        failing = {"state": state, "rule": constraint, "said": CANARY}
        engine = create_engine(database)

        with pytest.raises(meaning) as of_reserve:
            await reserve.run("SELECT fails(%(state)s, %(rule)s, %(said)s)", failing)
        with pytest.raises(meaning) as of_plain:
            async with transaction(create_sessions(engine)) as session:
                await session.execute(text("SELECT fails(:state, :rule, :said)"), failing)

        assert type(of_reserve.value) is type(of_plain.value)
        assert str(of_reserve.value) == str(of_plain.value)
        assert CANARY not in "".join(traceback.format_exception(of_reserve.value))
        assert await answer(reserve) == 7
        await engine.dispose()

    async def test_of_values_that_cannot_be_sent_spoil_no_connection(self, reserve: Reserve, server: Server) -> None:
        with pytest.raises(DatabaseRefused) as refused:
            await reserve.run("SELECT %(said)s::text", {"said": f"{CANARY}\0"})

        assert CANARY not in "".join(traceback.format_exception(refused.value))
        assert await answer(reserve) == 7

    async def test_of_a_server_that_is_away_cost_no_turn(self) -> None:
        reserve = Reserve(NOWHERE, size=SIZE)

        for _ in range(SIZE + 1):
            with pytest.raises(DatabaseUnavailable):
                await answer(reserve)

        await reserve.aclose()

    async def test_of_a_server_that_is_away_do_not_tell_the_password(self) -> None:
        reserve = Reserve(NOWHERE.replace("nobody@", f"nobody:{CANARY}@"))

        with pytest.raises(DatabaseUnavailable) as unavailable:
            await answer(reserve)

        assert CANARY not in "".join(traceback.format_exception(unavailable.value))
        assert CANARY not in repr(reserve)
