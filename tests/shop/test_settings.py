import base64
from pathlib import Path

import pytest

from demo_shop.cli import main
from demo_shop.security import content_security_policy
from demo_shop.settings import InvalidSettings, ShopSettings, read_settings
from tests.shop.signed_events import OLD_SECRET, SECRET

KEY = {"SHOP_PAYMENTS_API_KEY": "payk_hunter2_of_the_shop"}
DATABASE = {"SHOP_DATABASE_URL": "postgresql+psycopg://shop:hunter2@127.0.0.1/shop", **KEY}


class TestReadSettings:
    def test_database_and_key_are_enough_on_one_machine(self) -> None:
        settings = read_settings(DATABASE, port=9200)

        assert settings.payments_url == "http://127.0.0.1:8000"
        assert settings.payments_public_url == "http://127.0.0.1:8000"
        assert settings.toss_sdk_url == "http://127.0.0.1:8100/v2/standard"
        assert settings.public_url == "http://127.0.0.1:9200"

    def test_browser_may_reach_the_payments_api_elsewhere(self) -> None:
        settings = read_settings(
            {**DATABASE, "SHOP_PAYMENTS_URL": "http://api:8000/", "SHOP_PAYMENTS_PUBLIC_URL": "https://pay.shop.kr"},
            port=8200,
        )

        assert settings.payments_url == "http://api:8000"
        assert settings.payments_public_url == "https://pay.shop.kr"

    def test_value_may_stand_in_a_file(self, tmp_path: Path) -> None:
        secret = tmp_path / "database-url"
        secret.write_text(DATABASE["SHOP_DATABASE_URL"] + "\n")

        settings = read_settings({"SHOP_DATABASE_URL_FILE": str(secret), **KEY}, port=8200)

        assert settings.database_url == DATABASE["SHOP_DATABASE_URL"]

    @pytest.mark.parametrize(
        "environ",
        [
            {},
            {"SHOP_DATABASE_URL": ""},
            {"SHOP_DATABASE_URL": "sqlite:///hunter2.db"},
            {"SHOP_DATABASE_URL_FILE": "/hunter2/nowhere"},
            {**DATABASE, "SHOP_PAYMENTS_API_KEY": ""},
            {**DATABASE, "SHOP_PAYMENTS_API_KEY": "hunter2"},
            {**DATABASE, "SHOP_PAYMENTS_URL": "hunter2:8000"},
            {**DATABASE, "SHOP_PUBLIC_URL": "http://"},
            {**DATABASE, "SHOP_TOSS_SDK_URL": "http://sdk.test/v2?key=hunter2"},
        ],
    )
    def test_refusal_names_the_variable_without_its_value(self, environ: dict[str, str]) -> None:
        with pytest.raises(InvalidSettings, match=r"^SHOP_[A-Z_]+") as refusal:
            read_settings(environ, port=8200)

        assert "hunter2" not in str(refusal.value)

    def test_password_is_not_printed(self) -> None:
        assert "hunter2" not in repr(read_settings(DATABASE, port=8200))

    def test_shop_without_secrets_hears_no_events(self) -> None:
        assert not read_settings(DATABASE, port=8200).hears_events
        assert not read_settings({**DATABASE, "SHOP_EVENTS_SECRETS": " , "}, port=8200).hears_events

    def test_several_secrets_may_be_live(self, tmp_path: Path) -> None:
        file = tmp_path / "events-secrets"
        file.write_text(f" {SECRET}, {OLD_SECRET}\n")

        settings = read_settings({**DATABASE, "SHOP_EVENTS_SECRETS_FILE": str(file)}, port=8200)

        assert settings.events_secrets == (SECRET, OLD_SECRET)
        assert SECRET not in repr(settings)

    @pytest.mark.parametrize(
        "secret",
        [
            SECRET.removeprefix("whsec_"),
            "whsec_",
            "whsec_hunter2",
            "whsec_" + base64.urlsafe_b64encode(b"\xff" * 32).decode(),
            "whsec_" + base64.b64encode(b"s" * 23).decode(),
            "whsec_" + base64.b64encode(b"s" * 65).decode(),
            "whsec_비밀",
            f"{SECRET},whsec_hunter2",
        ],
    )
    def test_what_is_no_secret_is_refused_without_repeating_it(self, secret: str) -> None:
        with pytest.raises(InvalidSettings, match=r"^SHOP_EVENTS_SECRETS has to be secrets") as refusal:
            read_settings({**DATABASE, "SHOP_EVENTS_SECRETS": secret}, port=8200)

        assert "hunter2" not in str(refusal.value)


class TestContentSecurityPolicy:
    def test_real_sdk_may_reach_its_sister_hosts(self) -> None:
        settings = ShopSettings(
            database_url="postgresql+psycopg://",
            payments_url="http://api:8000",
            payments_public_url="https://pay.shop.kr",
            toss_sdk_url="https://js.tosspayments.com/v2/standard",
            public_url="https://shop.kr",
            payments_api_key="payk_of_the_shop",
        )

        assert "frame-src https://*.tosspayments.com;" in content_security_policy(settings)


class TestCommand:
    def test_missing_configuration_is_exit_code_2(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("SHOP_DATABASE_URL", raising=False)

        assert main(["serve"]) == 2

        assert "SHOP_DATABASE_URL is missing" in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [[], ["sell"], ["serve", "--port", "0"], ["serve", "--port", "http"]])
    def test_wrong_usage_is_exit_code_2(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)

        assert stopped.value.code == 2

    @pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]])
    def test_help_has_an_example(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)

        assert stopped.value.code == 0
        assert "demo-shop serve --port 8200" in capsys.readouterr().out
