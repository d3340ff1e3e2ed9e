"""The database: the mapped base, the engine, and the only way to open a transaction."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, ClassVar, Final, Self, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import BigInteger, Connection, Date, DateTime, Enum, MetaData, String, event
from sqlalchemy import create_engine as create_sync_engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection

from payments.errors import (
    ConcurrentUpdate,
    DatabaseUnavailable,
    PaymentError,
    PaymentKeyMismatch,
    RefundInProgress,
    Unavailable,
)
from payments.sockets import hang_up, has_something_to_read

type_map = {datetime: DateTime(timezone=True), date: Date(), int: BigInteger, str: String}


class Base(DeclarativeBase):
    """Every table of the product. Constraint names are spelled out so that errors can be told apart by them."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map: ClassVar = type_map


def listed(enum: type[StrEnum], name: str) -> Enum:
    """A text column that gives back the enum, and whose CHECK lists its values."""
    return Enum(
        enum,
        native_enum=False,
        length=40,
        create_constraint=True,
        name=name,
        values_callable=lambda members: [member.value for member in members],
    )


def readable(column: str) -> str:
    """A CHECK that a text says something, and holds no control character and no other end of a line."""
    return rf"{column} ~ '\S' AND {column} !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029]'"


NOT_ALLOWED: Final = "42501"  # https://www.postgresql.org/docs/current/errcodes-appendix.html


class DatabaseRefused(Exception):
    """The database refused what only a bug of ours can ask. The message names the rule, never a value."""

    def __init__(self, error: str, sqlstate: str, constraint: str) -> None:
        super().__init__(f"{error} (SQLSTATE {sqlstate or 'none'}, constraint {constraint or 'none'})")
        self.is_forbidden = sqlstate == NOT_ALLOWED  # the role of the address lacks a right


Sessions = async_sessionmaker[AsyncSession]

# How often a use case reads again after a lost race before its caller is told to come back.
RACES: Final = 5

# How long the recording of an answer outlasts a database that went away, between tries. None is long: whoever waits is
# answered soon after it is back.
RECORDING_PAUSES: Final = (0.1, 0.3, *(0.5,) * 7)

T = TypeVar("T")

# What a lost race looks like, by the constraint that noticed it.
CONSTRAINTS: Final[dict[str, type[PaymentError]]] = {
    "uq_payments_order_id": ConcurrentUpdate,  # two first prepares of one order: the loser reads the winner's
    "uq_payments_payment_key": PaymentKeyMismatch,
    "pk_payment_events": ConcurrentUpdate,  # two writers took the same place in one payment's history
    "uq_outbox_messages_payment_id_sequence": ConcurrentUpdate,
    "uq_refunds_payment_id_requested": RefundInProgress,
    "uq_refunds_request_id": ConcurrentUpdate,
    "uq_refunds_transaction_key": ConcurrentUpdate,  # the same cancel was adopted by somebody else
    "uq_idempotent_requests_key_hash": ConcurrentUpdate,
    "uq_stray_captures_payment_key": ConcurrentUpdate,
    "pk_nightly_runs": ConcurrentUpdate,  # another worker took the same night
}

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_LOST_RACE: Final = {"40001", "40P01"}  # serialization failure, deadlock
# Connection, resources, shutdown, system and internal errors; commit unknown, read-only server, ended or broken
# transaction, statements forgotten by a pooler or changed by a migration, statement timeout, lock timeout.
_UNAVAILABLE: Final = re.compile(r"(08|53|58|XX)...|57P..|40003|25006|25P0[23]|26000|42P05|0A000|57014|55P03")


# Every connection gives up by itself rather than hang: 3 s to connect, 10 s for a statement, 2 s for a lock, 15 s for a
# peer that fell silent.
CONNECT: Final[dict[str, int | str]] = {
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "payments",
    "options": "-c statement_timeout=10000 -c lock_timeout=2000 -c idle_in_transaction_session_timeout=30000"
    " -c timezone=UTC",
}
PATIENCE: Final = timedelta(seconds=2)  # with a free connection
SILENCE: Final = timedelta(seconds=12)  # of a server, while a statement may take ten


class BoundedConnection(psycopg.AsyncConnection[Any]):
    """A connection that hangs up on a server which says nothing any more.

    All limits above are the server's or the kernel's: one that is frozen keeps none of them while its kernel goes on
    acknowledging, and one that waits for its standby counts that as no statement. It is left without a request to
    cancel: a commit whose wait for the standby is cancelled can be seen, and may be lost with the server.
    """

    silence = SILENCE

    @classmethod
    async def make(cls, silence: timedelta, **arguments: Any) -> Self:  # noqa: ANN401 - as psycopg takes them
        """Connect, and bear so much silence from then on."""
        connection = await cls.connect(**arguments)
        connection.silence = silence
        return connection

    async def wait(self, gen: PQGen[T], *how: Any, **more: Any) -> T:  # noqa: ANN401 - whatever psycopg hands on
        """What every statement, commit and rollback waits in.

        Raises:
            psycopg.OperationalError: the server was silent for too long; the connection is of no use any more.
        """
        loop, number = asyncio.get_running_loop(), self.fileno()
        timer: asyncio.TimerHandle

        def leave() -> None:
            nonlocal timer
            if has_something_to_read(number):  # it was this process that slept, or has too much to do
                timer = loop.call_later(self.silence.total_seconds(), leave)
            else:
                hang_up(number)

        timer = loop.call_later(self.silence.total_seconds(), leave)
        try:
            return await super().wait(gen, *how, **more)
        finally:
            timer.cancel()


def create_engine(url: str, *, pool_size: int = 8, silence: timedelta = SILENCE) -> AsyncEngine:
    """An engine whose pool is small, which is enough, since no connection is held while the PG is asked."""
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=PATIENCE.total_seconds(),
        pool_use_lifo=True,
        hide_parameters=True,
        connect_args={**CONNECT, "async_creator_fn": partial(BoundedConnection.make, silence)},
    )
    event.listen(engine.sync_engine, "checkout", _refuse_dead)
    return engine


def _refuse_dead(connection: DBAPIConnection, entry: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
    """Leave a connection that the server has ended; the pool makes another one.

    A new one is not looked at: the pool would give up after the second, with an error that is none of the database's.
    """
    if entry.info.get("used") and has_ended(connection.driver_connection):
        raise DisconnectionError("the server has ended it")
    entry.info["used"] = True


def has_ended(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether an idle connection is of no use any more.

    It has nothing to read unless the server has said goodbye, so one look at the socket tells as much as a question to
    the server would, which costs a round trip for each transaction.
    """
    return connection.closed or has_something_to_read(connection.fileno())


def create_sessions(engine: AsyncEngine) -> Sessions:
    """Sessions whose objects stay readable after the commit, because nothing is read lazily here."""
    return async_sessionmaker(engine, expire_on_commit=False)


@contextmanager
def one_transaction(url: str) -> Iterator[Connection]:
    """One transaction on a connection of its own, for what is done to the schema and not to its rows."""
    engine = create_sync_engine(url, poolclass=NullPool, connect_args={"options": "-c lock_timeout=5000"})
    with engine.begin() as connection:
        yield connection


@asynccontextmanager
async def transaction(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    """One short transaction: committed at the end of the block, rolled back if the block raises.

    Never await a gateway inside it, and never carry an entity out of it into another one.

    Raises:
        ConcurrentUpdate: another writer was faster; nothing of this block is kept. Read again.
        DatabaseUnavailable: the database cannot be reached, or it did not say whether it committed.
        DatabaseRefused: the database found a bug of ours.
    """
    try:
        async with sessions.begin() as session:
            yield session
    except (StaleDataError, DBAPIError, PoolTimeout) as error:
        # Without the cause: PostgreSQL's details and the statement's parameters carry keys and addresses.
        raise translate(error) from None


async def race(work: Callable[[], Awaitable[T]]) -> T:
    """Do `work`, a transaction, again while it loses races.

    Raises:
        ConcurrentUpdate: it has lost five.
    """
    for _ in range(RACES):
        with suppress(ConcurrentUpdate):
            return await work()
    raise ConcurrentUpdate


async def insist(work: Callable[[], Awaitable[T]]) -> T:
    """Do `work`, a transaction that must not be given up lightly, again while it loses races or the database is away.

    Raises:
        ConcurrentUpdate, Unavailable: after four seconds and the tries themselves; what the last one said.
    """
    for pause in RECORDING_PAUSES:
        try:
            return await work()
        except (ConcurrentUpdate, Unavailable):
            await asyncio.sleep(pause)
    return await work()


def translate(error: StaleDataError | DBAPIError | PoolTimeout) -> Exception:
    """What SQLAlchemy's error means, in our words and without any of its values."""
    if isinstance(error, StaleDataError):
        return ConcurrentUpdate()
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailable()
    return meaning_of(error.orig, is_lost=error.connection_invalidated)


def meaning_of(error: BaseException | None, *, is_lost: bool) -> Exception:
    """What the driver's own error means; `is_lost` where the connection is gone."""
    state = str(getattr(error, "sqlstate", None) or "")
    constraint = str(getattr(getattr(error, "diag", None), "constraint_name", None) or "")
    if constraint in CONSTRAINTS:
        return CONSTRAINTS[constraint]()
    if state in _LOST_RACE:
        return ConcurrentUpdate()
    never_reached = not state and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    if is_lost or never_reached or _UNAVAILABLE.fullmatch(state):
        return DatabaseUnavailable()
    return DatabaseRefused(type(error).__name__, state, constraint)
