"""API keys: made and shown once, kept so that nobody can read them, worthless at once when they are revoked."""

import asyncio
import json
from pathlib import Path
from typing import Final

import httpx
import psycopg
import pytest

from payments.access import Scope, looks_like_key, new_key, read_key
from payments.api.schemas import MAX_AMOUNT
from payments.cli import main
from payments.settings import Settings
from tests.access.conftest import serving
from tests.integration.world import (
    AMOUNT,
    CLIENT_KEY,
    ORDER,
    REASON,
    SECRET_KEY,
    Sandbox,
    cancelling,
    paid,
    prepared,
)
from tests.keys import API_KEY, headers_of, let_in

CARD: Final = "4242424242424242"
OTHER: Final = f"payk_Other001_{'o' * 43}"


@pytest.fixture
def command(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of an operator's terminal."""
    told = {
        "ENVIRONMENT": "local",
        "DATABASE_URL": database,
        "TOSS_CLIENT_KEY": CLIENT_KEY,
        "TOSS_SECRET_KEY": SECRET_KEY,
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)


def every_row(database: str) -> str:
    """All that is in the database, as text."""
    with psycopg.connect(database.replace("+psycopg", "", 1)) as connection:
        tables = connection.execute("SELECT relname FROM pg_stat_user_tables").fetchall()
        return "\n".join(
            str(row)
            for (table,) in tables
            for row in connection.execute(
                psycopg.sql.SQL("SELECT to_jsonb(t)::text FROM {} AS t").format(psycopg.sql.Identifier(table))
            )
        )


class TestKey:
    def test_is_256_random_bits_behind_a_name_that_may_be_seen(self) -> None:
        keys = [new_key() for _ in range(100)]

        assert len({key.text for key in keys}) == len({key.prefix for key in keys}) == 100
        assert all(read_key(key.text) == key for key in keys)
        assert all(len(key.text) == len("payk_12345678_") + 43 for key in keys)

    def test_is_not_printed_with_what_holds_it(self) -> None:
        key = new_key()

        assert key.text not in repr(key)
        assert key.prefix in repr(key)

    @pytest.mark.parametrize(
        "text", ["", "payk_", "payk_short_x", API_KEY[:-1], API_KEY + "k", f" {API_KEY}", "x" * 99]
    )
    def test_of_another_form_is_none(self, text: str) -> None:
        assert read_key(text) is None

    def test_is_told_from_a_token_by_how_it_begins(self) -> None:
        assert looks_like_key(API_KEY)
        assert not looks_like_key("eyJ.e30.x")


@pytest.mark.usefixtures("command")
class TestCommands:
    def test_created_key_is_printed_once_and_is_not_in_the_database(
        self, database: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["keys", "create", "--name", "shop", "--scope", "read,refund"]) == 0

        key = read_key(capsys.readouterr().out.strip())
        assert key is not None
        rows = every_row(database)
        assert key.prefix in rows
        assert key.text not in rows
        assert key.text.rpartition("_")[2] not in rows

    def test_created_key_opens_what_it_is_for_and_nothing_else(
        self, settings: Settings, capsys: pytest.CaptureFixture[str]
    ) -> None:
        main(["keys", "create", "--name", "shop", "--scope", "refund"])
        key = capsys.readouterr().out.strip()

        async def read_and_cancel() -> list[int]:
            async with serving(settings) as client:
                read = await client.get("/events", headers=headers_of(key))
                headers = {"idempotency-key": "one", **headers_of(key)}
                cancel = await client.post(
                    f"/payments/orders/{ORDER}/cancel", json={"cancelReason": "-"}, headers=headers
                )
                return [read.status_code, cancel.status_code]

        assert asyncio.run(read_and_cancel()) == [403, 404]

    def test_list_tells_keys_apart_without_showing_them(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["keys", "create", "--name", "shop", "--scope", "read", "--by", "kim", "--expires-in", "90d"])
        text = capsys.readouterr().out.strip()

        assert main(["keys", "list", "--json"]) == 0

        printed = capsys.readouterr().out
        newest = json.loads(printed)[0]
        assert text not in printed
        assert (newest["name"], newest["scopes"], newest["createdBy"]) == ("shop", "read", "kim")
        assert newest["prefix"] in text
        assert newest["expiresAt"] > newest["createdAt"]

    def test_revoked_key_is_listed_only_when_asked_for(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["keys", "create", "--name", "shop", "--scope", "read"])
        key = read_key(capsys.readouterr().out.strip())
        assert key is not None

        assert main(["keys", "revoke", key.prefix, "--by", "kim"]) == 0
        assert main(["keys", "revoke", key.prefix, "--by", "lee"]) == 0  # again changes nothing
        capsys.readouterr()

        main(["keys", "list", "--json"])
        assert key.prefix not in capsys.readouterr().out
        main(["keys", "list", "--all", "--json"])
        [row] = [row for row in json.loads(capsys.readouterr().out) if row["prefix"] == key.prefix]
        assert row["revokedBy"] == "kim"

    def test_key_from_a_file_is_taken_once_and_not_printed(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "key"
        file.write_text(f"{OTHER}\n")
        create = ["keys", "create", "--name", "shop", "--scope", "read", "--from-file", str(file)]

        assert (main(create), main(create)) == (0, 0)
        assert OTHER not in capsys.readouterr().out
        main(["keys", "list", "--json"])
        assert [row["prefix"] for row in json.loads(capsys.readouterr().out)].count("Other001") == 1

    def test_key_from_a_file_that_was_revoked_stays_worthless(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "key"
        file.write_text(OTHER)
        create = ["keys", "create", "--name", "shop", "--scope", "read", "--from-file", str(file)]
        main(create)
        main(["keys", "revoke", "Other001"])

        assert main(create) == 2
        assert OTHER not in capsys.readouterr().err

    @pytest.mark.parametrize(
        "arguments",
        [
            ["create", "--name", "shop"],
            ["create", "--scope", "read"],
            ["create", "--name", "shop", "--scope", "everything"],
            ["create", "--name", "shop", "--scope", ""],
            ["create", "--name", "shop\n", "--scope", "read"],
            ["create", "--name", "", "--scope", "read"],
            ["create", "--name", "s" * 81, "--scope", "read"],
            ["create", "--name", "shop", "--scope", "read", "--expires-in", "soon"],
            ["create", "--name", "shop", "--scope", "read", "--expires-in", "0d"],
            ["create", "--name", "shop", "--scope", "read", "--expires-in", "59s"],
            ["create", "--name", "shop", "--scope", "refund", "--refund-limit", "0"],
            ["create", "--name", "shop", "--scope", "refund", "--refund-limit", str(MAX_AMOUNT + 1)],
            ["create", "--name", "shop", "--scope", "refund", "--refund-limit", "9" * 20],
            ["create", "--name", "shop", "--scope", "refund", "--refund-limit", "9" * 5000],
            ["create", "--name", "token alice", "--scope", "read"],
            ["create", "--name", "Token alice", "--scope", "read"],
            ["create", "--name", f"shop {CARD}", "--scope", "read"],
            ["create", "--name", "shop", "--scope", "read", "--by", f"kim {CARD}"],
            ["create", "--name", "shop", "--scope", "read", "--by", "kim\x1b[2Jlee"],
            ["create", "--name", "shop", "--scope", "read", "--by", "kim\u202elee"],
            ["create", "--name", "shop", "--scope", "read", "--by", "k" * 101],
            ["revoke", "Other001", "--by", f"kim {CARD}"],
            ["revoke"],
            ["revoke", "short"],
            [],
        ],
    )
    def test_wrong_usage_is_exit_code_2(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(["keys", *arguments])

        assert stopped.value.code == 2

    def test_limit_is_at_most_what_a_payment_can_be_of(self, capsys: pytest.CaptureFixture[str]) -> None:
        create = ["keys", "create", "--scope", "refund", "--expires-in", "1m", "--by", "k" * 100, "--name", "tokenizer"]

        assert main([*create, "--refund-limit", str(MAX_AMOUNT)]) == 0

        with pytest.raises(SystemExit):
            main([*create, "--refund-limit", str(MAX_AMOUNT + 1)])
        assert f"at most {MAX_AMOUNT:,}" in capsys.readouterr().err

    def test_refusal_does_not_repeat_a_card_number(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["keys", "create", "--name", CARD, "--scope", "read"])

        said = capsys.readouterr().err
        assert "--name: must not contain a card number" in said
        assert CARD not in said

    @pytest.mark.parametrize("content", ["", "no key", API_KEY[:-1], "é"])
    def test_file_without_a_key_is_refused(
        self, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "key"
        file.write_text(content)

        assert main(["keys", "create", "--name", "shop", "--scope", "read", "--from-file", str(file)]) == 2
        assert "holds no API key" in capsys.readouterr().err

    def test_prefix_that_nobody_has_is_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["keys", "revoke", "Nobody00"]) == 2
        assert "no API key with this prefix" in capsys.readouterr().err

    @pytest.mark.parametrize("verb", ["create", "list", "revoke"])
    def test_help_has_an_example(self, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["keys", verb, "--help"])

        assert f"Example: payments keys {verb}" in capsys.readouterr().out


class TestClient:
    async def test_is_refused_from_the_next_request_on(self, anybody: httpx.AsyncClient, database: str) -> None:
        let_in(database, OTHER)
        before = await anybody.get("/events", headers=headers_of(OTHER))
        with psycopg.connect(database.replace("+psycopg", "", 1)) as connection:
            connection.execute("UPDATE api_keys SET revoked_at = now(), revoked_by = 'kim' WHERE prefix = 'Other001'")

        after = await anybody.get("/events", headers=headers_of(OTHER))

        assert (before.status_code, after.status_code) == (200, 401)
        assert after.json()["code"] == "credentials_invalid"

    async def test_stands_in_the_history_of_what_it_did(
        self, api: httpx.AsyncClient, sandbox: Sandbox, database: str
    ) -> None:
        let_in(database, OTHER, name="night shift", scopes=(Scope.REFUND,))
        payment_key = await paid(api, sandbox)

        refund = {"cancelReason": REASON, "cancelAmount": 1000}
        headers = {"idempotency-key": "one", **headers_of(OTHER)}
        (await api.post(f"/payments/orders/{ORDER}/cancel", json=refund, headers=headers)).raise_for_status()

        events = (await api.get(f"/payments/{payment_key}/events")).json()["events"]
        assert events[-1]["actor"] == "night shift"

    async def test_that_may_not_refund_gives_nothing_back(
        self, api: httpx.AsyncClient, sandbox: Sandbox, database: str
    ) -> None:
        let_in(database, OTHER, scopes=(Scope.READ, Scope.PAY))
        await paid(api, sandbox)

        headers = {"idempotency-key": "one", **headers_of(OTHER)}
        answer = await api.post(f"/payments/orders/{ORDER}/cancel", json={"cancelReason": REASON}, headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
        assert await sandbox.cancelled() == []

    @pytest.mark.parametrize("amount", [AMOUNT, None, 5001])
    async def test_gives_no_more_back_than_its_limit(
        self, api: httpx.AsyncClient, sandbox: Sandbox, database: str, amount: int | None
    ) -> None:
        let_in(database, OTHER, name="clerk", refund_limit=5000)
        await paid(api, sandbox)
        body = {"cancelReason": REASON} if amount is None else {"cancelReason": REASON, "cancelAmount": amount}

        headers = {"idempotency-key": "one", **headers_of(OTHER)}
        answer = await api.post(f"/payments/orders/{ORDER}/cancel", json=body, headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (403, "refund_over_limit")
        assert await sandbox.cancelled() == []

    async def test_does_not_pass_its_limit_in_parts_while_somebody_else_can(
        self, api: httpx.AsyncClient, sandbox: Sandbox, database: str
    ) -> None:
        let_in(database, OTHER, name="clerk", refund_limit=5000)
        await paid(api, sandbox)

        statuses = []
        for number in range(3):
            body = {"cancelReason": REASON, "cancelAmount": 2500}
            headers = {"idempotency-key": f"part-{number}", **headers_of(OTHER)}
            statuses.append(
                (await api.post(f"/payments/orders/{ORDER}/cancel", json=body, headers=headers)).status_code
            )

        assert statuses == [200, 200, 403]
        assert (await cancelling(api, 10_000)).status_code == 200
        assert await sandbox.cancelled() == [2500, 2500, 10_000]

    @pytest.mark.parametrize(
        "given",
        [
            [""],
            ["Bearer"],
            ["Bearer "],
            [f"Bearer  {API_KEY}"],
            [f"Bearer {API_KEY} x"],
            [f"bearer\t{API_KEY}"],
            [API_KEY],
            [f"Token {API_KEY}"],
            [f"Basic {API_KEY}"],
            [f"Bearer {API_KEY[:-1]}é"],
            [f"Bearer {API_KEY}"] * 2,
            [f"Bearer {API_KEY}", "Basic YTpi"],
            [f"Bearer {API_KEY}\0"],
            [f"Bearer {'x' * 100_000}"],
            ["Bearer \udc80\udcff"],
        ],
        ids=[str(number) for number in range(15)],
    )
    async def test_that_shows_a_key_in_another_way_is_refused(
        self, anybody: httpx.AsyncClient, given: list[str]
    ) -> None:
        headers = [(b"authorization", value.encode("utf-8", "surrogateescape")) for value in given]

        answer = await anybody.get("/events", headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (401, "credentials_invalid")

    async def test_may_write_bearer_as_it_likes(self, anybody: httpx.AsyncClient) -> None:
        assert (await anybody.get("/events", headers={"authorization": f"bEARER {API_KEY}"})).status_code == 200


class TestWhoeverShowsSomethingWrong:
    async def test_is_refused_also_where_nothing_has_to_be_shown(self, anybody: httpx.AsyncClient) -> None:
        await prepared(anybody)

        answer = await anybody.get(f"/payments/orders/{ORDER}", headers=headers_of(OTHER))

        assert answer.status_code == 401
