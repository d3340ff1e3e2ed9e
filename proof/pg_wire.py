"""Enough of PostgreSQL's protocol 3 to see every commit pass, and to lose one: before it arrives, or its reply.

Over a unix socket, where nobody asks for encryption first.
"""

import asyncio
import re
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import quote

from payments.local import guard
from proof.wire import Ending, end, send, serving

_SOCKET: Final = f".s.PGSQL.{guard.PORT}"
_CHUNK: Final = 65_536
_FLUSH: Final = b"H\0\0\0\4"  # let the server say what it has to say, without ending the transaction
_IDLE: Final = b"I"  # outside of a transaction block
_OPEN: Final = b"T"  # inside of one that has not failed
# What a statement changes; `FOR UPDATE` and `DO UPDATE` are parts of other statements.
_WRITES: Final = re.compile(r'(?<!FOR )(?<!KEY )(?<!DO )\b(INSERT INTO|UPDATE|DELETE FROM)\s+(?:ONLY\s+)?"?(\w+)')
_COUNT: Final = re.compile(rb"(\d+)\0$")


class Loss(StrEnum):
    """What becomes of a commit."""

    NEVER = "never"  # the line ends before it reaches the server, which rolls back
    LOST = "lost"  # the server carries it out, and the line ends before its reply arrives


@dataclass(frozen=True, slots=True)
class Message:
    """One message; the first of a client has no kind."""

    kind: bytes
    raw: bytes

    @property
    def body(self) -> bytes:
        return self.raw[5:]


class Splitter:
    """Finds the messages in what comes in pieces."""

    def __init__(self, *, is_client: bool) -> None:
        self._held = bytearray()
        self._is_first = is_client

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole now; what is left waits for more."""
        self._held += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        at = 0 if self._is_first else 1
        if len(self._held) < at + 4:
            return None
        end_of_it = at + int.from_bytes(self._held[at : at + 4], "big")
        if len(self._held) < end_of_it:
            return None
        raw = bytes(self._held[:end_of_it])
        del self._held[:end_of_it]
        self._is_first = False
        return Message(raw[:at], raw)


@dataclass(frozen=True, slots=True)
class Commit:
    """The end of a transaction that changes something."""

    writes: tuple[str, ...]  # such as `UPDATE payments`, each once, in the order of their first time
    is_alone: bool  # a single statement outside of a transaction block

    @property
    def name(self) -> str:
        return ", ".join(self.writes)


class Ear:
    """Listens to one connection, and knows what the transaction that is open on it has changed."""

    def __init__(self) -> None:
        self.has_changed = False  # rows, for certain
        self._status = _IDLE
        self._statements: dict[bytes, str] = {}
        self._writes: dict[str, None] = {}  # in order
        self._running: deque[bool] = deque()  # statements that have no answer yet: whether they write

    def client_says(self, message: Message) -> Commit | None:
        """The commit that this message asks for: a COMMIT, or the end of a statement that is its own transaction."""
        match message.kind:
            case b"Q" if message.body.startswith(b"COMMIT"):
                return self._commit(is_alone=False) if self.has_changed and self._status == _OPEN else None
            case b"Q":
                self._begin(message.body.rstrip(b"\0").decode())
            case b"P":
                name, text, _ = message.body.split(b"\0", 2)
                self._statements[name] = text.decode()
            case b"B":
                self._begin(self._statements[message.body.split(b"\0", 2)[1]])
            case b"S" if self._status == _IDLE:
                return self._commit(is_alone=True)
        return None

    def server_says(self, message: Message) -> None:
        match message.kind:
            case b"C" if self._running:
                found = _COUNT.search(message.body)
                self.has_changed |= self._running.popleft() and found is not None and found[1] != b"0"
            case b"E":
                self.has_changed = False
            case b"Z":
                self._status = message.body
                self._running.clear()
                if self._status == _IDLE:
                    self._writes.clear()

    def _begin(self, text: str) -> None:
        if not self._writes:
            self.has_changed = False
        found = [f"{verb.split(' ', 1)[0]} {table}" for verb, table in _WRITES.findall(text)]
        self._writes.update(dict.fromkeys(found))
        self._running.append(bool(found))

    def _commit(self, *, is_alone: bool) -> Commit | None:
        return Commit(tuple(self._writes), is_alone=is_alone) if self._writes else None


@dataclass(slots=True)
class Armed:
    """A commit that is to be lost: the first of this name after `skips` others of it; any name if there is none."""

    name: str | None
    skips: int
    loss: Loss
    is_taken: bool = False  # one is being lost at this moment
    struck: Commit | None = None

    def fits(self, commit: Commit) -> bool:
        return self.struck is None and self.name in {None, commit.name}


@dataclass(slots=True)
class PgLine:
    """Between our programs and PostgreSQL."""

    server: Path  # the socket
    directory: str
    ignored: frozenset[str]  # tables whose changes nobody is told of
    commits: list[Commit] = field(default_factory=list)  # that were carried out and told, and have changed something
    armed: list[Armed] = field(default_factory=list)

    def url(self, database: str) -> str:
        """SQLAlchemy's address of a database, over this line."""
        return f"postgresql+psycopg://postgres@/{database}?host={quote(self.directory, safe='')}"

    def arm(self, name: str | None, loss: Loss, *, skips: int = 0) -> Armed:
        """Lose one commit from now on."""
        armed = Armed(name, skips, loss)
        self.armed.append(armed)
        return armed

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection, for as long as it lasts."""
        upstream = await asyncio.open_unix_connection(self.server)
        talk = _Talk(self, client=writer, server=upstream[1])
        pumps = [asyncio.create_task(talk.hear_client(reader)), asyncio.create_task(talk.hear_server(upstream[0]))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            end(upstream[1], Ending.RST)
            end(writer, Ending.RST)

    def take(self, commit: Commit) -> Armed | None:
        """What is armed for this commit, if it is not one of those to be skipped."""
        if not self._is_told_of(commit):
            return None
        found = next((one for one in self.armed if not one.is_taken and not one.skips and one.fits(commit)), None)
        if found is not None:
            found.is_taken = True
        return found

    def note(self, commit: Commit) -> None:
        """A commit that was carried out and told."""
        if self._is_told_of(commit):
            self.commits.append(commit)
            for one in self.armed:
                if one.skips and one.fits(commit):
                    one.skips -= 1

    def _is_told_of(self, commit: Commit) -> bool:
        return any(write.split(" ")[1] not in self.ignored for write in commit.writes)


class _Talk:
    """One connection through the line: whose commit is under way, and what is kept back because of it."""

    def __init__(self, line: PgLine, *, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._line = line
        self._client = client
        self._server = server
        self._ear = Ear()
        self._commit: Commit | None = None
        self._armed: Armed | None = None  # for that one
        self._end = b""  # of a statement that never commits: kept back until the server has said what it changed
        self._reply = b""

    async def hear_client(self, reader: asyncio.StreamReader) -> None:
        """Ends when the client does, or where the line is to be cut."""
        splitter = Splitter(is_client=True)
        while data := await reader.read(_CHUNK):
            passed = b""
            for message in splitter.feed(data):
                is_kept = self._is_kept_back(message)
                if is_kept and self._commit is not None and not self._commit.is_alone:
                    self._strike()
                    return
                passed += _FLUSH if is_kept else message.raw
            await send(self._server, passed)

    async def hear_server(self, reader: asyncio.StreamReader) -> None:
        """The same for the server."""
        splitter = Splitter(is_client=False)
        while data := await reader.read(_CHUNK):
            for message in splitter.feed(data):
                self._ear.server_says(message)
                self._reply += message.raw
                if self._armed is not None and self._is_decided_by(message):
                    if self._ear.has_changed:
                        self._strike()
                        return
                    await self._let_go()
                if message.kind == b"Z":
                    self._note()
            if self._armed is None:
                reply, self._reply = self._reply, b""
                await send(self._client, reply)

    def _is_kept_back(self, message: Message) -> bool:
        commit = self._ear.client_says(message)
        if commit is None:
            return False
        self._commit, self._armed = commit, self._line.take(commit)
        if self._armed is None or self._armed.loss is Loss.LOST:
            return False
        self._end = message.raw
        return True

    def _is_decided_by(self, message: Message) -> bool:
        return message.kind == b"Z" or (bool(self._end) and message.kind in {b"C", b"E"})

    def _strike(self) -> None:
        if self._armed is not None:
            self._armed.struck = self._commit

    async def _let_go(self) -> None:
        """It has changed nothing, so there is nothing to lose."""
        if self._armed is not None:
            self._armed.is_taken = False
        self._armed = None
        kept, self._end = self._end, b""
        await send(self._server, kept)

    def _note(self) -> None:
        if self._commit is not None and self._ear.has_changed:
            self._line.note(self._commit)
        self._commit = None


@asynccontextmanager
async def pg_line(server: str, *, ignored: frozenset[str] = frozenset()) -> AsyncIterator[PgLine]:
    """A line to the PostgreSQL whose socket lies in the directory `server`, until the block ends.

    Args:
        server: The directory.
        ignored: Tables that our programs write to by themselves; commits of nothing else do not count.
    """
    with tempfile.TemporaryDirectory(prefix="pg-line-") as directory:
        line = PgLine(Path(server, _SOCKET), directory, ignored)
        async with serving(line.serve, path=Path(directory, _SOCKET)):
            yield line
