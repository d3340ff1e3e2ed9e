"""The lines that the proof cuts: what passes, what does not, and whether that is what was asked for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from proof.pg_wire import Commit, Ear, Loss, Message, PgLine, Splitter, pg_line
from proof.wire import HOST, Cut, Direction, Ending, Exchange, HttpLine, http_line, read_message, serving
from sqlalchemy import make_url

from payments.local.postgres import LocalPostgres

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def request(body: bytes = b"order-1", *, path: bytes = b"/confirm") -> bytes:
    return b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


class Pg:
    """A server that answers whole requests, and remembers every byte that reached it."""

    def __init__(self) -> None:
        self.connections: list[bytes] = []
        self.all_over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.connections)
        self.connections.append(b"")
        try:
            while data := await reader.read(10_000):
                self.connections[number] += data
                if self.connections[number].endswith((b"order-1", b"order-2")):
                    writer.write(ANSWER)
        finally:
            self.all_over.set()


@asynccontextmanager
async def a_line() -> AsyncIterator[tuple[Pg, HttpLine]]:
    pg = Pg()
    async with serving(pg.serve) as port, http_line((HOST, port)) as line:
        yield pg, line


async def ask(line: HttpLine, *requests: bytes) -> bytes:
    """Send requests on one connection; all that comes back, however it ends."""
    reader, writer = await asyncio.open_connection(HOST, line.port)
    received = b""
    try:
        for one in requests:
            writer.write(one)
            received += await read_message(reader) or b""
    except asyncio.IncompleteReadError as error:
        received += error.partial
    finally:
        writer.close()
    return received


class TestHttpLine:
    async def test_passes_what_is_not_to_be_cut_and_measures_it(self) -> None:
        async with a_line() as (pg, line):
            line.arm("order-1", "/confirm", Cut(Direction.REQUEST, 3, Ending.FIN))

            others = (request(b"order-2"), request(path=b"/cancel"))
            assert await ask(line, *others) == ANSWER * 2
            assert line.exchanges == [Exchange(len(one), len(ANSWER)) for one in others]
            assert pg.connections == list(others)
            assert line.mend("order-1") is None

    @pytest.mark.parametrize("ending", Ending)
    @pytest.mark.parametrize("offset", [0, 1, len(request()) - 1, len(request())])
    async def test_lets_so_many_bytes_of_a_request_arrive_and_nothing_come_back(
        self, offset: int, ending: Ending
    ) -> None:
        async with a_line() as (pg, line):
            line.arm("order-1", "/confirm", Cut(Direction.REQUEST, offset, ending))

            assert await self._answer_or_reset(line) == b""
            await pg.all_over.wait()
            assert pg.connections == [request()[:offset]]
            assert line.mend("order-1") == Exchange(len(request()), None)

    @pytest.mark.parametrize("ending", Ending)
    @pytest.mark.parametrize("offset", [0, 1, len(ANSWER) - 1, len(ANSWER)])
    async def test_lets_so_many_bytes_of_an_answer_come_back_when_the_work_is_done(
        self, offset: int, ending: Ending
    ) -> None:
        async with a_line() as (pg, line):
            line.arm("order-1", "/confirm", Cut(Direction.RESPONSE, offset, ending))

            assert await self._answer_or_reset(line) == ANSWER[:offset]
            assert pg.connections == [request()]
            assert line.mend("order-1") == Exchange(len(request()), len(ANSWER))

    async def test_strikes_once_unless_it_stays(self) -> None:
        async with a_line() as (_, line):
            line.arm("order-1", "/confirm", Cut(Direction.RESPONSE, 3, Ending.FIN))
            line.arm("order-2", "/confirm", Cut(Direction.RESPONSE, 3, Ending.FIN, stays=True))

            assert [await ask(line, request()) for _ in range(2)] == [ANSWER[:3], ANSWER]
            looked_up = request(b"order-2", path=b"/look-up")
            assert [await ask(line, one) for one in (request(b"order-2"), looked_up)] == [ANSWER[:3], b""]
            assert line.mend("order-2") == Exchange(len(request()), len(ANSWER))
            assert await ask(line, looked_up) == ANSWER

    async def _answer_or_reset(self, line: HttpLine) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, line.port)
        writer.write(request())
        received = b""
        try:
            while data := await reader.read(100):
                received += data
        except ConnectionResetError:
            pass
        finally:
            writer.close()
        return received


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


class TestSplitter:
    def test_finds_the_same_messages_however_they_come_in(self) -> None:
        said = [(b"", b"\0\3\0\0user\0me\0\0"), (b"Q", b"SELECT 1\0"), (b"S", b"")]
        stream = b"".join(message(kind, body) for kind, body in said)

        for piece in (1, 2, 7, len(stream)):
            splitter = Splitter(is_client=True)
            pieces = [stream[at : at + piece] for at in range(0, len(stream), piece)]
            found = [one for some in pieces for one in splitter.feed(some)]
            assert b"".join(one.raw for one in found) == stream
            assert [(one.kind, one.raw[len(one.kind) + 4 :]) for one in found] == said


class Conversation:
    """Both sides of a connection, heard by one ear."""

    def __init__(self) -> None:
        self.ear = Ear()

    def ask(self, text: str, *tags: str, status: bytes = b"T") -> Commit | None:
        commit = self._say(b"Q", text.encode() + b"\0")
        self.answer(*tags, status=status)
        return commit

    def run(self, text: str | None, *tags: str, name: bytes = b"", status: bytes = b"T") -> Commit | None:
        """With parameters; without a text by the name that it was given before."""
        if text is not None:
            self._say(b"P", name + b"\0" + text.encode() + b"\0\0\0")
        self._say(b"B", b"\0" + name + b"\0\0\0\0\0\0\0")
        self._say(b"E", b"\0\0\0\0\0")
        commit = self._say(b"S", b"")
        self.answer(*tags, status=status)
        return commit

    def answer(self, *tags: str, status: bytes) -> None:
        for tag in tags:
            self.ear.server_says(Message(b"C", message(b"C", tag.encode() + b"\0")))
        self.ear.server_says(Message(b"Z", message(b"Z", status)))

    def _say(self, kind: bytes, body: bytes) -> Commit | None:
        return self.ear.client_says(Message(kind, message(kind, body)))


class TestEar:
    def test_knows_what_a_transaction_has_changed(self) -> None:
        talk = Conversation()
        talk.ask("BEGIN", "BEGIN")
        talk.run("SELECT id FROM payments FOR NO KEY UPDATE OF payments SKIP LOCKED", "SELECT 1")
        talk.run("UPDATE payments SET status=$1 WHERE id = $2", "UPDATE 1", name=b"one")
        talk.run("INSERT INTO outbox_messages (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET x = 1", "INSERT 0 1")

        assert talk.ask("COMMIT", "COMMIT", status=b"I") == Commit(
            ("UPDATE payments", "INSERT outbox_messages"), is_alone=False
        )

        talk.ask("BEGIN", "BEGIN")
        talk.run(None, "UPDATE 1", name=b"one")
        assert talk.ask("COMMIT", "COMMIT", status=b"I") == Commit(("UPDATE payments",), is_alone=False)

    @pytest.mark.parametrize(
        ("text", "tag"), [("SELECT 1", "SELECT 1"), ("UPDATE payments SET a = 1 WHERE false", "UPDATE 0")]
    )
    def test_takes_no_commit_for_one_where_nothing_has_changed(self, text: str, tag: str) -> None:
        talk = Conversation()
        talk.ask("BEGIN", "BEGIN")
        talk.run(text, tag)
        assert talk.ask("COMMIT", "COMMIT", status=b"I") is None

    def test_takes_no_commit_for_one_that_was_rolled_back_or_failed(self) -> None:
        talk = Conversation()
        for ending, status in (("ROLLBACK", b"T"), ("COMMIT", b"E")):
            talk.ask("BEGIN", "BEGIN")
            talk.run("DELETE FROM payments", "DELETE 3", status=status)
            assert talk.ask(ending, "ROLLBACK", status=b"I") is None

    def test_takes_the_end_of_a_statement_outside_of_a_block_for_a_commit(self) -> None:
        talk = Conversation()
        text = "WITH made AS (INSERT INTO payments DEFAULT VALUES RETURNING id) SELECT id FROM made"

        for again in (text, None):
            assert talk.run(again, "SELECT 1", name=b"made", status=b"I") == Commit(("INSERT payments",), is_alone=True)
            assert talk.ear.has_changed
        assert talk.run(None, "SELECT 0", name=b"made", status=b"I") is not None
        assert not talk.ear.has_changed
        assert talk.run("SELECT now()", "SELECT 1", status=b"I") is None


@pytest.fixture(scope="module")
def database(postgres: LocalPostgres) -> Iterator[str]:
    postgres.create_database("wire")
    url = postgres.url("wire")
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE told (word text)")
        connection.execute("CREATE TABLE noise (word text)")
    yield url
    postgres.drop_database("wire")


@pytest.fixture
async def line(database: str) -> AsyncIterator[PgLine]:
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        connection.execute("TRUNCATE told, noise")
    host = make_url(database).query["host"]
    assert isinstance(host, str)
    async with pg_line(host, ignored=frozenset({"noise"})) as made:
        yield made


async def tell(line: PgLine, word: str, *, alone: bool, table: str = "told") -> None:
    connection = await psycopg.AsyncConnection.connect(line.url("wire").replace("+psycopg", ""), autocommit=alone)
    async with connection:
        await connection.execute(f"INSERT INTO {table} VALUES (%(word)s)", {"word": word})  # noqa: S608 - ours


def told(database: str) -> list[str]:
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        return [word for (word,) in connection.execute("SELECT word FROM told ORDER BY word")]


@pytest.mark.parametrize("alone", [True, False])
class TestPgLine:
    async def test_passes_everything_and_knows_what_was_committed(
        self, line: PgLine, database: str, *, alone: bool
    ) -> None:
        for word in "ab":
            await tell(line, word, alone=alone)
        await tell(line, "hum", alone=alone, table="noise")

        assert told(database) == ["a", "b"]
        assert line.commits == [Commit(("INSERT told",), is_alone=alone)] * 2

    @pytest.mark.parametrize(("loss", "left"), [(Loss.LOST, ["a", "b", "c"]), (Loss.NEVER, ["a", "c"])])
    async def test_loses_the_one_that_is_meant(
        self, line: PgLine, database: str, loss: Loss, left: list[str], *, alone: bool
    ) -> None:
        armed = line.arm("INSERT told", loss, skips=1)

        await tell(line, "a", alone=alone)
        await tell(line, "hum", alone=alone, table="noise")
        with pytest.raises(psycopg.OperationalError):
            await tell(line, "b", alone=alone)
        await tell(line, "c", alone=alone)

        assert told(database) == left
        assert armed.struck == Commit(("INSERT told",), is_alone=alone)
        assert len(line.commits) == 2

    @pytest.mark.parametrize("loss", Loss)
    async def test_loses_nothing_where_nothing_has_changed(self, line: PgLine, loss: Loss, *, alone: bool) -> None:
        armed = line.arm(None, loss)
        url = line.url("wire").replace("+psycopg", "")
        async with await psycopg.AsyncConnection.connect(url, autocommit=alone) as connection:
            await connection.execute("UPDATE told SET word = %s WHERE false", ["x"])
            await connection.execute("SELECT word FROM told WHERE word = %s", ["x"])

        assert armed.struck is None
        assert line.commits == []
