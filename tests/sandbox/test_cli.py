import socket
from pathlib import Path

import pytest

from toss_sandbox.cli import main
from toss_sandbox.settings import Settings, settings_from_environment


class TestSettings:
    def test_keys_come_from_the_environment(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("test_sk_from_a_file\n", encoding="utf-8")

        settings = settings_from_environment(
            {"TOSS_CLIENT_KEY": "test_ck_from_a_variable", "TOSS_SECRET_KEY_FILE": str(secret)}
        )

        assert (settings.client_key, settings.secret_key) == ("test_ck_from_a_variable", "test_sk_from_a_file")
        assert settings.widget_client_key == Settings().widget_client_key

    def test_webhooks_are_set_up_by_the_environment(self, tmp_path: Path) -> None:
        url = tmp_path / "url"
        url.write_text("http://127.0.0.1:8000/webhook/toss\n", encoding="utf-8")
        environment = {"TOSS_WEBHOOK_URL_FILE": str(url), "TOSS_SECURITY_KEY": f"{'0f' * 32}, {'A1' * 32}"}

        settings = settings_from_environment(environment)
        given = settings_from_environment(environment, webhook_url="http://shop/", security_keys=("b2" * 32,))

        assert settings.webhook_url == "http://127.0.0.1:8000/webhook/toss"
        assert settings.security_keys == ("0f" * 32, "A1" * 32)
        assert (given.webhook_url, given.security_keys) == ("http://shop/", ("b2" * 32,))
        assert "0f0f" not in repr(settings)

    @pytest.mark.parametrize("environment", [{"TOSS_WEBHOOK_URL": "shop:8000"}, {"TOSS_SECURITY_KEY": "0f"}])
    def test_webhooks_that_could_not_work_are_refused(self, environment: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=r"webhook URL|security key"):
            settings_from_environment(environment)

    @pytest.mark.parametrize(
        "environment",
        [
            {"TOSS_SECRET_KEY": "live_sk_0000000000000000"},
            {"TOSS_CLIENT_KEY": "live_ck_0000000000000000"},
            {"TOSS_CLIENT_KEY": "test_gck_of_the_widget"},
            {"TOSS_SECRET_KEY_FILE": "/nowhere/secret"},
        ],
    )
    def test_other_keys_are_refused(self, environment: dict[str, str]) -> None:
        with pytest.raises(ValueError, match=r"(?i)key"):
            settings_from_environment(environment)

    def test_secrets_are_not_shown(self) -> None:
        assert "sk_" not in repr(Settings())
        assert "sk_" not in repr(Settings().key_pairs)


class TestCommand:
    @pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]])
    def test_help_has_an_example(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as end:
            main(arguments)

        assert end.value.code == 0
        shown = capsys.readouterr().out
        assert "toss-sandbox serve --port 8100" in shown
        assert "toss-sandbox serve --webhook-url http" in shown

    @pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--port", "many"], ["serve", "--port", "65536"]])
    def test_wrong_usage_is_two(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as end:
            main(arguments)

        assert end.value.code == 2

    def test_wrong_configuration_is_two(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("TOSS_SECRET_KEY", "live_sk_0000000000000000")

        assert main(["serve"]) == 2
        assert "secret_key has to begin with test_sk_" in capsys.readouterr().err

    def test_taken_port_is_two(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])

            assert main(["serve", "--port", port, "--data", str(tmp_path / "toss.sqlite3")]) == 2

        assert "toss-sandbox:" in capsys.readouterr().err

    def test_data_that_is_no_database_is_two(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["serve", "--port", "0", "--data", str(tmp_path)]) == 2
        assert "toss-sandbox: unable to open database file" in capsys.readouterr().err
