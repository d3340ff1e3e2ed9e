"""The programs as they run in production, told secrets and persons that are looked for in everything they say."""

import json
from collections.abc import Iterator, Mapping
from typing import Final
from uuid import uuid4

import httpx
import pytest

from payments.local.postgres import LocalPostgres
from tests.canary.canaries import ACCOUNTS, CARD, PERSONS, SECRETS, SHOWN, TOSS_KEY, hits, ways_to_write
from tests.canary.neighbours import neighbours
from tests.canary.story import (
    KEY,
    Heard,
    World,
    configured_wrongly_in_other_ways,
    environment_of,
    looked_after_by_more_commands,
    tell,
)
from tests.conftest import TEMPLATE
from tests.integration.world import CLIENT_KEY
from tests.programs import server

pytestmark = pytest.mark.timeout(600)  # the first test waits for the whole story, and the longer one with --proof

# What has to be in the logs, or the story went another way than it was meant to.
TOLD: Final = {
    "api": {
        *("api.started", "request.answered", "request.crashed", "payment.prepared", "payment.failed"),
        *("pg.answered", "pg.answer_unknown", "orders.unreachable", "refund.refused", "webhook.received"),
        *("metrics.database_away", "payment.outcome_unknown", "edge.refused"),
    },
    "worker": {
        *("worker.started", "pg.answer_unknown", "outbox.not_delivered", "alert.not_sent", "job.failed", "job.waiting"),
        *("webhook.recorded", "payment.completed"),
    },
}
# Each of these commands takes a second to start.
MORE: Final = (configured_wrongly_in_other_ways, looked_after_by_more_commands)


@pytest.fixture(scope="module")
def heard(
    postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Heard]:
    """What came out of the programs while the whole story was told."""
    folder = tmp_path_factory.mktemp("canary")
    name = f"canary_{uuid4().hex}"
    postgres.create_database(name, template=TEMPLATE)
    keys = {"TOSS_CLIENT_KEY": CLIENT_KEY, "TOSS_SECRET_KEY": TOSS_KEY}
    arguments = ("toss_sandbox", "serve", "--data", str(folder / "sandbox.sqlite3"))
    heard = Heard()
    with (
        server(*arguments, environment=keys, log=folder / "sandbox.log") as (sandbox_url, _),
        neighbours(sandbox_url) as around,
        httpx.Client(base_url=sandbox_url, trust_env=False, timeout=30) as sandbox,
    ):
        database = postgres.url(name)
        world = World(postgres, database, environment_of(database, around), around, sandbox, folder, heard)
        tell(world, more=MORE if request.config.getoption("--proof") else ())
    yield heard
    postgres.drop_database(name)


def everything(heard: Heard) -> dict[str, Mapping[str, str]]:
    return {
        "logs": heard.logs,
        "commands": heard.commands,
        "metrics": heard.metrics,
        "command lines": heard.command_lines,
        "answers": heard.answers,
    }


def kept(heard: Heard) -> dict[str, str]:
    """Every column but those of a webhook: it is kept as it came, and what is in it is its sender's."""
    return {column: text for column, text in heard.rows.items() if not column.startswith("received_webhooks.")}


class TestNothing:
    @pytest.mark.parametrize("where", ["logs", "commands", "metrics", "command lines", "answers"])
    def test_gets_out_in(self, heard: Heard, where: str) -> None:
        texts = everything(heard)[where]
        key = {"an API key": KEY.rpartition("_")[2]}

        assert texts
        assert hits({**SECRETS, **SHOWN, **ACCOUNTS, **PERSONS, **key}, texts) == []

    @pytest.mark.parametrize(
        "inside",
        ["traceback", "psycopg", "sqlalchemy", "sqlstate", "select ", "uvicorn", "python", "/src/", "'server'"],
    )
    def test_of_how_it_is_made_is_answered(self, heard: Heard, inside: str) -> None:
        # Metrics are for operators, and name the interpreter.
        answers = {title: text for title, text in (heard.answers | heard.own).items() if "/metrics" not in title}

        assert [title for title, text in answers.items() if inside in text.lower()] == []

    def test_that_is_not_the_askers_own_is_answered(self, heard: Heard) -> None:
        assert heard.own
        assert hits({**SECRETS, **SHOWN}, heard.own) == []

    def test_that_must_not_be_kept_is_in_a_row(self, heard: Heard) -> None:
        key = {"an API key": KEY.rpartition("_")[2]}

        assert any(kept(heard).values())
        cards = {name: number for name, number in PERSONS.items() if number.replace(" ", "") == CARD.replace(" ", "")}
        assert hits({**SECRETS, **SHOWN, **ACCOUNTS, **cards, **key}, kept(heard)) == []


class TestStory:
    def test_went_through_every_route(self, heard: Heard) -> None:
        assert heard.routes
        assert heard.pushed == heard.routes

    @pytest.mark.parametrize("program", TOLD)
    def test_led_to_everything_that_is_logged(self, heard: Heard, program: str) -> None:
        events = {json.loads(line)["event"] for line in heard.logs[program].splitlines()}

        assert TOLD[program] - events == set()

    def test_met_refusals_of_every_kind(self, heard: Heard) -> None:
        statuses = {title.split()[-1] for title in (*heard.answers, *heard.own)}

        assert {"200", "201", "400", "402", "404", "405", "409", "413", "415", "422", "500", "503"} <= statuses


class TestEveryLine:
    @pytest.mark.parametrize("program", TOLD)
    def test_is_an_event(self, heard: Heard, program: str) -> None:
        lines = heard.logs[program].splitlines()

        assert all({"event", "level", "timestamp"} <= json.loads(line).keys() for line in lines)
        assert all(line.isascii() for line in lines)


class TestSearch:
    @pytest.mark.parametrize("canary", [*SECRETS.values(), *SHOWN.values(), *ACCOUNTS.values(), *PERSONS.values()])
    def test_finds_every_way_of_writing(self, canary: str) -> None:
        for written in ways_to_write(canary):
            assert hits({"it": canary}, {"there": f"before{written}behind"})

    def test_finds_nothing_where_there_is_nothing(self) -> None:
        assert hits({**SECRETS, **PERSONS}, {"there": "request.answered 200"}) == []
