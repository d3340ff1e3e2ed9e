import socket

import pytest

from payments.cli import DONE, USAGE_WRONG, main
from tests.programs import free_port

LOCAL = {
    "ENVIRONMENT": "local",
    "DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/nowhere",
    "TOSS_CLIENT_KEY": "test_ck_sandbox0000000000000000000000",
    "TOSS_SECRET_KEY": "test_sk_sandbox0000000000000000000000",
}
COMMANDS = ("run", "api", "worker", "migrate", "demo-purchase", "refunds", "refunds resolve")


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOCAL.items():
        monkeypatch.setenv(name, value)


class TestUsage:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_explains_itself_with_an_example(
        self, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            main([*command.split(), "--help"])

        assert stopped.value.code == DONE
        assert f"Example: payments {command}" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["fly"],
            ["api", "--port", "70000"],
            ["api", "--port", "0"],
            ["api", "--port", "x"],
            ["api", "--ops-port", "0"],
            ["run", "--port-base", "65400"],
            ["demo-purchase", "--port-base", "99999"],
            ["refunds"],
            ["refunds", "resolve", "--limit", "0"],
        ],
    )
    def test_wrong_usage_is_exit_code_2(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)

        assert stopped.value.code == USAGE_WRONG

    def test_a_configuration_that_is_not_usable_is_exit_code_2(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("DATABASE_URL", raising=False)

        assert main(["migrate"]) == USAGE_WRONG
        assert "DATABASE_URL" in capsys.readouterr().err

    def test_alerts_to_nowhere_are_told_without_a_traceback(
        self, local: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("ALERT_URLS", "nosuchservice://secret-token")

        assert main(["worker"]) == USAGE_WRONG
        complaint = capsys.readouterr().err
        assert "ALERT_URLS: Alert URL 1 of 1" in complaint
        assert "secret-token" not in complaint

    def test_a_terminal_that_belongs_to_a_run_starts_no_other(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PAYMENTS_RUN_IN", ".data")

        assert main(["run"]) == USAGE_WRONG
        assert "another terminal" in capsys.readouterr().err

    def test_a_database_that_is_away_is_told_without_a_traceback(
        self, local: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["migrate"]) == USAGE_WRONG
        assert capsys.readouterr().err.startswith("payments: cannot work on the database")

    def test_a_report_without_a_database_is_told_without_a_traceback(
        self, local: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["refunds", "resolve"]) == USAGE_WRONG
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("payments: The service cannot reach its database")

    def test_one_port_for_everybody_and_for_probes_is_refused(
        self, local: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["api", "--port", "9000", "--ops-port", "9000"]) == USAGE_WRONG
        assert "--ops-port must differ" in capsys.readouterr().err

    def test_an_ops_port_that_is_taken_is_named(self, local: None, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]

            assert main(["api", "--port", str(free_port()), "--ops-port", str(port)]) == USAGE_WRONG

        assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err

    def test_a_port_that_is_taken_is_told_without_a_traceback(
        self, local: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]

            assert main(["api", "--port", str(port)]) == USAGE_WRONG

        assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
