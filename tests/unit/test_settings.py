from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from pydantic import ValidationError

from payments.settings import Environment, Settings, SettingsInvalid, read_settings

CANARY: Final = "kanarienvogel"  # stands in every secret below, and may stand in no message
LOCAL: Final = {
    "ENVIRONMENT": "local",
    "DATABASE_URL": f"postgresql+psycopg://payments:{CANARY}@db/payments",
    "TOSS_SECRET_KEY": f"test_sk_{CANARY}",
    "TOSS_CLIENT_KEY": "test_ck_0123456789",
}
PRODUCTION: Final = {
    "DATABASE_URL": LOCAL["DATABASE_URL"],
    "TOSS_SECRET_KEY": f"live_sk_{CANARY}",
    "TOSS_CLIENT_KEY": "live_ck_0123456789",
    "ALLOWED_ORIGINS": "https://shop.example",
}
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

    @pytest.mark.parametrize(("client", "secret"), [("test_gck_0", "test_gsk_0"), ("live_ck_0", "live_sk_0")])
    def test_of_one_pair_are_taken(self, client: str, secret: str) -> None:
        settings = read_settings({**LOCAL, "TOSS_CLIENT_KEY": client, "TOSS_SECRET_KEY": secret})

        assert (settings.toss_client_key, settings.toss_secret_key.get_secret_value()) == (client, secret)

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

    @pytest.mark.parametrize("url", ["postgresql://db/payments", "sqlite:///payments.db", "postgresql+asyncpg://db/p"])
    def test_the_database_is_postgresql_through_psycopg(self, url: str) -> None:
        assert refusal({**LOCAL, "DATABASE_URL": url}).startswith("DATABASE_URL must look like")


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
