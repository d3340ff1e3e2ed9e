import base64
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from pydantic import ValidationError

from payments.settings import Environment, Settings, SettingsInvalid, doubts, read_settings

CANARY: Final = "kanarienvogel"  # stands in every secret below, and may stand in no message
LOCAL: Final = {
    "ENVIRONMENT": "local",
    "DATABASE_URL": f"postgresql+psycopg://payments:{CANARY}@db/payments",
    "TOSS_SECRET_KEY": f"test_sk_{CANARY}",
    "TOSS_CLIENT_KEY": "test_ck_0123456789",
}
PRODUCTION: Final = {
    "DATABASE_URL": LOCAL["DATABASE_URL"],
    "TOSS_SECRET_KEY": f"live_sk_{CANARY}_{CANARY}",
    "TOSS_CLIENT_KEY": "live_ck_0123456789",
    "ALLOWED_ORIGINS": "https://shop.example",
}
RANDOM_HEX: Final = "4f1c8a3e9b7d2056"
RANDOM_SIGNING: Final = f"whsec_{base64.b64encode(b'of-exactly-32-characters--by-lot').decode()}"
NOT_DURATIONS: Final = (
    *("30", "30 s", " 30s", "30s\n", "30S", "1.5s", "-5s", "+5s", "s", "1 day", "PT30S", "-PT30S", "00:00:30", "1e3s"),
    *("1h30m", "\uff13\uff10s", "9999999d", "0s", "0ms"),
)
NOT_WEB_ADDRESSES: Final = (
    *("ftp://host", "host", "http://", "https:///path", "http://host:port", "http://host:0", "http://host:99999"),
    *("http://[::1", f"http://user:{CANARY}@host", f"http://:{CANARY}@host", f"http://{CANARY}@\u2100.example"),
)
NOT_ORIGINS: Final = (
    *("*", "null", "shop.example", "https://shop.example/", "https://shop.example/path", "https://shop.example?q"),
    *("https://shop.example#f", f"https://:{CANARY}@shop.example", "https://a.example https://b.example"),
    *("ftp://shop.example", "https://a\n.example"),
)


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsInvalid) as refused:
        read_settings(environ)
    return str(refused.value)


def secret_in_file(folder: Path, environ: dict[str, str], *, mode: int) -> dict[str, str]:
    """The same settings, the secret key of Toss among them in a file of this mode."""
    file = folder / "key"
    file.write_text(environ["TOSS_SECRET_KEY"], encoding="utf-8")
    file.chmod(mode)
    return {**environ, "TOSS_SECRET_KEY": "", "TOSS_SECRET_KEY_FILE": str(file)}


def events() -> dict[str, str]:
    return {"EVENTS_SECRETS": RANDOM_SIGNING}


def database(user: str, password: str) -> dict[str, str]:
    return {"DATABASE_URL": f"postgresql+psycopg://{user}:{password}@db/payments"}


class TestReadSettings:
    def test_takes_the_least_that_is_needed(self) -> None:
        settings = read_settings(LOCAL)

        assert settings.environment is Environment.LOCAL
        assert settings.database_url.get_secret_value() == LOCAL["DATABASE_URL"]
        assert settings.toss_api_url == "https://api.tosspayments.com"
        assert (settings.orders_url, settings.allowed_origins) == (None, ())

    def test_is_production_unless_said_otherwise(self) -> None:
        assert read_settings(PRODUCTION).environment is Environment.PRODUCTION

    def test_ignores_what_is_not_ours(self) -> None:
        assert read_settings({**LOCAL, "PATH": "/usr/bin", "VERSION": "1"}) == read_settings(LOCAL)

    @pytest.mark.parametrize("name", ["DATABASE_URL", "TOSS_SECRET_KEY", "TOSS_CLIENT_KEY"])
    @pytest.mark.parametrize("value", [None, ""])
    def test_names_what_is_missing_or_empty(self, name: str, value: str | None) -> None:
        environ = {key: text for key, text in LOCAL.items() if key != name}
        if value is not None:
            environ[name] = value

        assert refusal(environ).startswith(f"{name}: ")

    def test_names_everything_that_is_wrong_at_once(self) -> None:
        said = refusal({"ENVIRONMENT": "staging", "TOSS_READ_TIMEOUT": "soon"})

        for name in ("ENVIRONMENT", "TOSS_READ_TIMEOUT", "DATABASE_URL", "TOSS_SECRET_KEY", "TOSS_CLIENT_KEY"):
            assert f"{name}: " in said

    def test_splits_lists_at_commas(self) -> None:
        settings = read_settings({**LOCAL, "ALLOWED_ORIGINS": " https://a.example ,http://127.0.0.1:8200,, "})

        assert settings.allowed_origins == ("https://a.example", "http://127.0.0.1:8200")

    def test_cannot_be_changed_afterwards(self) -> None:
        settings = read_settings(LOCAL)

        with pytest.raises(ValidationError):
            settings.environment = Environment.PRODUCTION


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("500ms", timedelta(milliseconds=500)),
            ("30s", timedelta(seconds=30)),
            ("5m", timedelta(minutes=5)),
            ("40m", timedelta(minutes=40)),
            ("1h", timedelta(hours=1)),
            ("15d", timedelta(days=15)),
        ],
    )
    def test_are_a_number_with_its_unit(self, text: str, expected: timedelta) -> None:
        assert read_settings({**LOCAL, "TOSS_READ_TIMEOUT": text}).toss_read_timeout == expected

    @pytest.mark.parametrize(
        "text",
        NOT_DURATIONS,
    )
    def test_written_otherwise_or_not_above_zero_are_refused(self, text: str) -> None:
        said = refusal({**LOCAL, "TOSS_READ_TIMEOUT": text})

        assert said.startswith("TOSS_READ_TIMEOUT: ")
        assert "\n" not in said


class TestPersonalData:
    def test_is_kept_for_half_a_year_unless_said_otherwise(self) -> None:
        assert read_settings(LOCAL).personal_data_kept == timedelta(days=180)
        assert read_settings({**LOCAL, "PERSONAL_DATA_KEPT": "30d"}).personal_data_kept == timedelta(days=30)

    @pytest.mark.parametrize("text", ["29d", "719h", "1s", "0d"])
    def test_is_kept_as_long_as_requests_and_webhooks_may_be_repeated(self, text: str) -> None:
        assert refusal({**LOCAL, "PERSONAL_DATA_KEPT": text}).startswith("PERSONAL_DATA_KEPT: ")


class TestFiles:
    def test_give_a_secret_without_its_last_newline(self, tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_text("test_sk_from_a_file\n", encoding="utf-8")
        environ = {**LOCAL, "TOSS_SECRET_KEY": "", "TOSS_SECRET_KEY_FILE": str(file)}

        assert read_settings(environ).toss_secret_key.get_secret_value() == "test_sk_from_a_file"

    def test_work_for_every_setting(self, tmp_path: Path) -> None:
        given = {**LOCAL, "TOSS_READ_TIMEOUT": "7s", "ALLOWED_ORIGINS": "https://a.example", "LOG_FORMAT": "console"}
        for name, value in given.items():
            (tmp_path / name).write_text(value, encoding="utf-8")

        from_files = read_settings({f"{name}_FILE": str(tmp_path / name) for name in given})

        assert from_files == read_settings(given)

    def test_beside_the_variable_itself_are_refused(self, tmp_path: Path) -> None:
        said = refusal({**LOCAL, "TOSS_SECRET_KEY_FILE": str(tmp_path / "key")})

        assert said == "TOSS_SECRET_KEY and TOSS_SECRET_KEY_FILE are both set; set one"

    @pytest.mark.parametrize("content", [None, b"\xff\xfe"])
    def test_that_cannot_be_read_are_refused_without_showing_where(self, tmp_path: Path, content: bytes | None) -> None:
        file = tmp_path / CANARY
        if content is not None:
            file.write_bytes(content)

        said = refusal({**LOCAL, "DATABASE_URL": "", "DATABASE_URL_FILE": str(file)})

        assert said.startswith("DATABASE_URL_FILE cannot be read: ")
        assert CANARY not in said

    @pytest.mark.parametrize(
        ("content", "why"), [(b"x" * (64 * 1024 + 1), "larger than 64 kB"), (b"test_sk_\0nothing", "a NUL in it")]
    )
    def test_that_hold_no_setting_are_refused(self, tmp_path: Path, content: bytes, why: str) -> None:
        file = tmp_path / "key"
        file.write_bytes(content)

        said = refusal({**LOCAL, "TOSS_SECRET_KEY": "", "TOSS_SECRET_KEY_FILE": str(file)})

        assert said == f"TOSS_SECRET_KEY_FILE cannot be read: {why}"

    @pytest.mark.parametrize("mode", [0o444, 0o402, 0o622])
    def test_that_everybody_reads_or_changes_are_refused_in_production(self, tmp_path: Path, mode: int) -> None:
        environ = secret_in_file(tmp_path, PRODUCTION, mode=mode)

        assert refusal(environ).startswith("TOSS_SECRET_KEY_FILE can be read or changed by every user of this machine")

    @pytest.mark.parametrize("mode", [0o400, 0o440, 0o600])
    def test_that_their_owner_and_group_read_are_taken(self, tmp_path: Path, mode: int) -> None:
        environ = secret_in_file(tmp_path, PRODUCTION, mode=mode)

        assert read_settings(environ) == read_settings(PRODUCTION)
        assert doubts(environ) == []

    def test_that_everybody_reads_are_a_doubt_elsewhere(self, tmp_path: Path) -> None:
        environ = secret_in_file(tmp_path, LOCAL, mode=0o444)

        assert read_settings(environ) == read_settings(LOCAL)
        assert [doubt.split()[0] for doubt in doubts(environ)] == ["TOSS_SECRET_KEY_FILE"]


class TestKeys:
    @pytest.mark.parametrize(
        ("client", "secret"),
        [
            ("test_ck_0", "live_sk_0"),
            ("live_ck_0", "test_sk_0"),
            ("test_gck_0", "test_sk_0"),
            ("test_ck_0", "test_gsk_0"),
        ],
    )
    def test_of_two_different_pairs_are_refused(self, client: str, secret: str) -> None:
        said = refusal({**LOCAL, "TOSS_CLIENT_KEY": client, "TOSS_SECRET_KEY": secret})

        assert "must be a pair" in said

    @pytest.mark.parametrize(
        ("place", "client", "secret"),
        [("local", "test_gck_0", "test_gsk_0"), ("production", "live_ck_0", f"live_sk_{CANARY}_too")],
    )
    def test_of_one_pair_are_taken(self, place: str, client: str, secret: str) -> None:
        given = {"ENVIRONMENT": place, "TOSS_CLIENT_KEY": client, "TOSS_SECRET_KEY": secret}

        settings = read_settings({**PRODUCTION, **given})

        assert (settings.toss_client_key, settings.toss_secret_key.get_secret_value()) == (client, secret)

    def test_that_move_real_money_are_refused_outside_production(self) -> None:
        said = refusal({**LOCAL, "TOSS_CLIENT_KEY": "live_ck_0", "TOSS_SECRET_KEY": f"live_sk_{CANARY}"})

        assert said == "live Toss keys move real money: they need ENVIRONMENT=production"

    @pytest.mark.parametrize(
        "secret", ["secret", "test_ck_0", "test_sk_", "test_sk_a:b", "test_sk_a b", "\ufefftest_sk_0"]
    )
    def test_that_do_not_look_like_secret_keys_are_refused(self, secret: str) -> None:
        assert "TOSS_SECRET_KEY must look like" in refusal({**LOCAL, "TOSS_SECRET_KEY": secret})


class TestUrls:
    @pytest.mark.parametrize("name", ["TOSS_API_URL", "ORDERS_URL"])
    @pytest.mark.parametrize(
        "url",
        NOT_WEB_ADDRESSES,
    )
    def test_that_are_no_web_address_or_carry_a_password_are_refused(self, name: str, url: str) -> None:
        assert refusal({**LOCAL, name: url}) == f"{name} must be an http(s) URL"

    @pytest.mark.parametrize(
        "origin",
        NOT_ORIGINS,
    )
    def test_origins_are_nothing_but_origins(self, origin: str) -> None:
        assert refusal({**LOCAL, "ALLOWED_ORIGINS": origin}).startswith("ALLOWED_ORIGINS must be origins")

    def test_proxies_that_are_trusted_are_addresses_and_networks(self) -> None:
        settings = read_settings({**LOCAL, "TRUSTED_PROXIES": "10.0.3.7, 10.0.0.0/8,2001::/16,::ffff:10.0.0.0/104"})

        assert settings.trusted_proxies == ("10.0.3.7", "10.0.0.0/8", "2001::/16", "::ffff:10.0.0.0/104")

    @pytest.mark.parametrize(
        "proxy",
        [
            *("*", "proxy.example", "10.0.3", "10.0.3.7/24", "10.0.3.0/33", "10.0.3.7:80", "http://10.0.3.7", "any"),
            *("0.0.0.0/0", "::/0", "10.0.3.7;10.0.3.8"),
            *("0.0.0.0/1,128.0.0.0/1", "10.0.0.0/7", "::/1,8000::/1", "2000::/15", "::/16", "::ffff:0:0/96"),
        ],
    )
    def test_a_proxy_that_could_be_anybody_is_not_trusted(self, proxy: str) -> None:
        said = refusal({**LOCAL, "TRUSTED_PROXIES": f"10.0.3.7,{proxy}"})

        assert said.startswith("TRUSTED_PROXIES must be addresses or networks")

    @pytest.mark.parametrize("url", ["postgresql://db/payments", "sqlite:///payments.db", "postgresql+asyncpg://db/p"])
    def test_the_database_is_postgresql_through_psycopg(self, url: str) -> None:
        assert refusal({**LOCAL, "DATABASE_URL": url}).startswith("DATABASE_URL must look like")

    @pytest.mark.parametrize("environ", [LOCAL, PRODUCTION], ids=["local", "production"])
    @pytest.mark.parametrize(
        "query",
        [
            *(f"?password={CANARY}", f"?connect_timeout=3&password={CANARY}", f"?sslpassword={CANARY}", "?password="),
            *(f"?pass%77ord={CANARY}", f"#?password={CANARY}", f"?x#&password={CANARY}", f"?PASSWORD={CANARY}"),
        ],
    )
    def test_the_database_has_one_password(self, environ: dict[str, str], query: str) -> None:
        said = refusal({**environ, "DATABASE_URL": f"{environ['DATABASE_URL']}{query}"})

        assert said == "DATABASE_URL must hold its password before the host, not behind the question mark"


class TestProduction:
    def test_takes_live_keys_over_https(self) -> None:
        assert read_settings(PRODUCTION).toss_client_key == "live_ck_0123456789"

    def test_refuses_test_keys(self) -> None:
        said = refusal({**PRODUCTION, "TOSS_CLIENT_KEY": "test_ck_0", "TOSS_SECRET_KEY": "test_sk_0"})

        assert "needs live Toss keys" in said

    def test_refuses_the_sandbox_keys(self) -> None:
        zeros = "sandbox0000000000000000000000"

        said = refusal({**PRODUCTION, "TOSS_CLIENT_KEY": f"test_ck_{zeros}", "TOSS_SECRET_KEY": f"test_sk_{zeros}"})

        assert "needs live Toss keys" in said

    @pytest.mark.parametrize("origins", ["http://shop.example", "https://shop.example,http://127.0.0.1:8200"])
    def test_refuses_a_page_over_plain_http(self, origins: str) -> None:
        assert "needs https ALLOWED_ORIGINS" in refusal({**PRODUCTION, "ALLOWED_ORIGINS": origins})

    def test_refuses_a_pg_over_plain_http(self) -> None:
        assert "needs an https TOSS_API_URL" in refusal({**PRODUCTION, "TOSS_API_URL": "http://127.0.0.1:8100"})

    def test_refuses_to_run_without_the_shops_origin(self) -> None:
        assert "needs ALLOWED_ORIGINS" in refusal({**PRODUCTION, "ALLOWED_ORIGINS": ""})

    def test_refuses_pages_over_plain_http(self) -> None:
        said = refusal({**PRODUCTION, "ALLOWED_ORIGINS": "https://shop.example,http://shop.example"})

        assert said == "ENVIRONMENT=production needs https ALLOWED_ORIGINS: payment keys come back there"

    @pytest.mark.parametrize(
        ("client", "secret", "problem"),
        [
            ("ck_0", "sk_a", "TOSS_SECRET_KEY needs 16 characters or more behind its prefix, as Toss's own have"),
            ("gck_0", f"gsk_{CANARY}", "TOSS_SECRET_KEY needs 16 characters or more behind its prefix"),
            ("ck_0", f"sk_Sandbox{CANARY}", "TOSS_SECRET_KEY is a key of the sandbox"),
            ("ck_sandbox0", f"sk_{CANARY}_too", "TOSS_CLIENT_KEY is a key of the sandbox"),
            ("ck_0", f"sk_{'0' * 32}", "TOSS_SECRET_KEY can be guessed"),
            ("ck_0", "sk_1234567890123456", "TOSS_SECRET_KEY can be guessed"),
        ],
    )
    def test_refuses_keys_that_toss_gave_nobody(self, client: str, secret: str, problem: str) -> None:
        given = {"TOSS_CLIENT_KEY": f"live_{client}", "TOSS_SECRET_KEY": f"live_{secret}"}

        said = refusal({**PRODUCTION, **given})

        assert said.startswith(f"ENVIRONMENT=production: {problem}")
        assert "\n" not in said

    @pytest.mark.parametrize(
        "password",
        [
            *("postgres", "password", "Payments", "changeme", "change%2Dme", "12345678", "its%2Downer"),
            *("payments1", "Password1", "payments20261128", "2026password!!", "its%2Downer2026", "payments1payments1"),
        ],
    )
    def test_refuses_a_password_that_anybody_would_try(self, password: str) -> None:
        said = refusal({**PRODUCTION, **database("its-owner", password)})

        assert said == "ENVIRONMENT=production: DATABASE_URL has a password that anybody would try"

    @pytest.mark.parametrize(
        ("password", "problem"),
        [
            ("elevenchars", "has a password of fewer than 12 characters"),
            ("x%2Fy%2Fz-abcde", "has a password of fewer than 12 characters"),
            ("aaaaaaaaaaaaaaaa", "has a password that can be guessed; take a random one"),
            ("123456789012", "has a password that can be guessed; take a random one"),
        ],
    )
    def test_refuses_a_password_that_trying_finds(self, password: str, problem: str) -> None:
        said = refusal({**PRODUCTION, **database("payments", password)})

        assert said == f"ENVIRONMENT=production: DATABASE_URL {problem}"

    @pytest.mark.parametrize("user", ["payments", "4711"])
    def test_takes_a_password_of_digits_that_were_drawn_by_lot(self, user: str) -> None:
        given = {**PRODUCTION, **database(user, "830" + "5917426" + "308")}

        assert read_settings(given).database_url.get_secret_value() == given["DATABASE_URL"]

    @pytest.mark.parametrize(
        "url",
        [
            *("payments@db/payments", "payments:@db/payments", "db/payments?connect_timeout=3"),
            "payments@/payments?host=db1:5432&host=db2:5432&target_session_attrs=read-write",
            "payments@/payments?host=/var/run/postgresql,db2",
        ],
    )
    def test_refuses_a_database_without_a_password(self, url: str) -> None:
        said = refusal({**PRODUCTION, "DATABASE_URL": f"postgresql+psycopg://{url}"})

        assert said == "ENVIRONMENT=production: DATABASE_URL has no password"

    @pytest.mark.parametrize(
        "url",
        [
            "payments@/payments?host=/var/run/postgresql",
            "payments@db/payments?passfile=/run/secrets/pgpass",
            "payments@db/payments?sslcert=/run/secrets/client.crt",
        ],
    )
    def test_takes_a_database_that_knows_otherwise_who_asks(self, url: str) -> None:
        given = {**PRODUCTION, "DATABASE_URL": f"postgresql+psycopg://{url}"}

        assert read_settings(given).database_url.get_secret_value() == given["DATABASE_URL"]

    @pytest.mark.parametrize(
        ("name", "secret"),
        [
            ("TOSS_WEBHOOK_SECRETS", "0000000000000000"),
            ("TOSS_WEBHOOK_SECRETS", "abcabcabcabcabcabc"),
            ("TOSS_WEBHOOK_SECRETS", "1234567890123456"),
            ("TOSS_WEBHOOK_SECRETS", "abcdefghabcdefgh"),
            ("TOSS_WEBHOOK_SECRETS", "fedcba9876543210"),
            ("TOSS_WEBHOOK_SECRETS", "changeme-12345678"),
            ("EVENTS_SECRETS", f"whsec_{'A' * 32}"),
            ("EVENTS_SECRETS", f"whsec_{base64.b64encode(bytes(range(32))).decode()}"),
        ],
    )
    def test_refuses_a_secret_that_was_not_drawn_by_lot(self, name: str, secret: str) -> None:
        said = refusal({**PRODUCTION, "EVENTS_URL": "https://orders.example/events", **events(), name: secret})

        assert said == f"ENVIRONMENT=production: {name} can be guessed; take random ones"

    @pytest.mark.parametrize("query", ["?verify=no", "?cto=5&verify=False", "?verify=0"])
    def test_refuses_to_alert_whoever_answers(self, query: str) -> None:
        said = refusal({**PRODUCTION, "ALERT_URLS": f"jsons://alerts.example/{CANARY}{query}"})

        assert said == "ENVIRONMENT=production: ALERT_URLS switch off the check of certificates"

    def test_takes_secrets_that_were(self) -> None:
        given = {"TOSS_WEBHOOK_SECRETS": RANDOM_HEX, "EVENTS_URL": "https://orders.example/events", **events()}

        assert {RANDOM_HEX, RANDOM_SIGNING, CANARY} <= set(read_settings({**PRODUCTION, **given}).secrets())


class TestKnownSecrets:
    def test_are_all_that_somebody_has_drawn(self) -> None:
        settings = read_settings(
            {**LOCAL, "TOSS_WEBHOOK_SECRETS": RANDOM_HEX, **database("payments", "a%2Fb-" + CANARY)}
        )

        assert {LOCAL["TOSS_SECRET_KEY"], RANDOM_HEX, f"a%2Fb-{CANARY}", f"a/b-{CANARY}"} <= set(settings.secrets())

    def test_are_no_words_of_which_logs_are_full(self) -> None:
        assert "payments" not in read_settings({**LOCAL, **database("payments", "payments")}).secrets()

    def test_are_also_those_that_production_would_not_take(self) -> None:
        assert "password2026" in read_settings({**LOCAL, **database("payments", "password2026")}).secrets()


class TestOneSecretForTwoPurposes:
    @pytest.mark.parametrize(
        ("given", "names"),
        [
            ({"TOSS_WEBHOOK_SECRETS": f"test_sk_{CANARY}"}, "TOSS_SECRET_KEY and TOSS_WEBHOOK_SECRETS"),
            ({"TOSS_WEBHOOK_SECRETS": RANDOM_SIGNING}, "EVENTS_SECRETS and TOSS_WEBHOOK_SECRETS"),
            (
                {"TOSS_WEBHOOK_SECRETS": RANDOM_HEX, **database("payments", RANDOM_HEX)},
                "DATABASE_URL and TOSS_WEBHOOK_SECRETS",
            ),
            (
                {"TOSS_WEBHOOK_SECRETS": base64.b64decode(RANDOM_SIGNING.removeprefix("whsec_")).decode()},
                "EVENTS_SECRETS and TOSS_WEBHOOK_SECRETS",
            ),
        ],
        ids=["as the key", "as the events", "as the password", "in another writing"],
    )
    def test_is_refused(self, given: dict[str, str], names: str) -> None:
        said = refusal({**LOCAL, "EVENTS_URL": "https://orders.example/events", **events(), **given})

        assert said == f"{names} hold the same secret; each needs one of its own"

    def test_is_not_one_that_is_listed_twice(self) -> None:
        settings = read_settings({**LOCAL, "TOSS_WEBHOOK_SECRETS": f"{RANDOM_HEX},{RANDOM_HEX}"})

        assert len(settings.toss_webhook_secrets) == 2


class TestDoubts:
    @pytest.mark.parametrize(
        ("given", "meant"),
        [
            ("TOSS_SECRET_KEYS", "TOSS_SECRET_KEY"),
            ("TOSS_WEBHOOK_SECRET", "TOSS_WEBHOOK_SECRETS"),
            ("ALERTS_URL", "ALERT_URLS"),
            ("DATABASE_URLFILE", "DATABASE_URL_FILE"),
        ],
    )
    def test_name_what_somebody_may_have_meant(self, given: str, meant: str) -> None:
        assert doubts({**LOCAL, given: CANARY}) == [f"{given} is not a setting: {meant} is meant?"]

    @pytest.mark.parametrize("name", ["SHOP_DATABASE_URL", "SHOP_EVENTS_SECRETS", "TOSS_SECURITY_KEY", "PATH", "HOME"])
    def test_leave_alone_what_others_are_told(self, name: str) -> None:
        assert doubts({**LOCAL, name: CANARY}) == []


class TestSecrets:
    def test_never_stand_in_what_the_settings_look_like(self) -> None:
        settings = read_settings(LOCAL)

        assert CANARY not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"

    @pytest.mark.parametrize("name", sorted(field.upper() for field in Settings.model_fields))
    def test_never_stand_in_a_refusal(self, name: str) -> None:
        said = refusal({**LOCAL, name: f"{CANARY}:{CANARY}@{CANARY} \x00"})

        assert CANARY not in said

    def test_never_stand_in_the_error_that_pydantic_would_show(self) -> None:
        with pytest.raises(ValidationError) as refused:
            Settings.model_validate({"database_url": CANARY, "toss_secret_key": CANARY, "toss_client_key": CANARY})

        assert CANARY not in str(refused.value)
