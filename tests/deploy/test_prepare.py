import os
import stat
from pathlib import Path

import pytest
from deploy.prepare import main, prepare

from payments.settings import Settings, read_settings
from tests.deploy.compose_file import compose

ROOMS = ("kept", "postgres", "payments", "migrate", "api", "worker", "shop", "sandbox")
OWNERS_OF = {"postgres": "superuser", "migrate": "payments", "api": "payments_api", "worker": "payments_worker"}
OWN_KEYS = {"TOSS_CLIENT_KEY": "test_ck_mine", "TOSS_SECRET_KEY": "test_sk_mine"}
OWN_EVENTS = "whsec_" + "bWluZSBhbmQgbm9ib2R5IGVsc2UncyBpbmRlZWQ="


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for room in ROOMS:
        (tmp_path / room).mkdir()
    return tmp_path


def given(**values: str) -> dict[str, str]:
    """What the service is told when whoever starts the set has set these."""
    return compose(values).services["prepare"].environment


def contents(secrets: Path) -> dict[str, str]:
    files = sorted(path for path in secrets.rglob("*") if path.is_file())
    return {str(file.relative_to(secrets)): file.read_text() for file in files}


def settings(secrets: Path) -> Settings:
    """What the payments make of it."""
    told = compose().services["api"].environment
    return read_settings({name: value.replace("/secrets", str(secrets)) for name, value in told.items()})


class TestFirstStart:
    def test_payments_can_start_with_what_is_made(self, secrets: Path) -> None:
        prepare(secrets, given())

        made = settings(secrets)
        assert made.toss_api_url == "http://toss-sandbox:8100"
        assert made.allowed_origins == ("http://127.0.0.1:8200", "http://localhost:8200")
        assert made.alert_urls == ()

    def test_both_sides_get_the_same(self, secrets: Path) -> None:
        prepare(secrets, given())

        files = contents(secrets)
        assert files["payments/events-secrets"] == files["shop/events-secrets"] == files["kept/events-secret"]
        assert files["payments/toss-webhook-secrets"] == files["sandbox/toss-security-key"]
        assert files["postgres/superuser-password"] == files["kept/superuser-password"]
        for room, role in {"migrate": "payments", "api": "payments_api", "worker": "payments_worker"}.items():
            assert f"//{role}:{files[f'kept/{role}-password']}@" in files[f"{room}/database-url"]
            assert files[f"{room}/database-url"].endswith("/payments")
        assert files["kept/shop-password"] in files["shop/database-url"]

    def test_nobody_gets_the_password_of_another(self, secrets: Path) -> None:
        prepare(secrets, given())

        files = contents(secrets)
        roles = [name[5:-9] for name in files if name.startswith("kept/") and name.endswith("-password")]
        for room in set(ROOMS) - {"kept"}:
            there = " ".join(text for name, text in files.items() if name.startswith(f"{room}/"))
            for role in {*roles} - {{**OWNERS_OF, "shop": "shop"}.get(room)}:
                assert files[f"kept/{role}-password"] not in there

    def test_two_sets_share_no_secret(self, secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        other = tmp_path_factory.mktemp("other")
        for room in ROOMS:
            (other / room).mkdir()

        prepare(secrets, given())
        prepare(other, given())

        kept = {name: text for name, text in contents(secrets).items() if name.startswith("kept/")}
        assert len(kept) == 9
        assert all(contents(other)[name] != text for name, text in kept.items())
        assert all(len(text) >= 43 for text in kept.values())  # 32 random bytes

    def test_only_the_owner_reads_them(self, secrets: Path) -> None:
        """But for PostgreSQL, which is another user, and sees no other volume."""
        prepare(secrets, given())

        modes = {
            stat.S_IMODE(file.stat().st_mode)
            for room in set(ROOMS) - {"postgres"}
            for file in (secrets / room).iterdir()
        }
        assert modes == {0o400}
        assert stat.S_IMODE((secrets / "postgres" / "superuser-password").stat().st_mode) == 0o444


class TestLaterStart:
    def test_changes_nothing(self, secrets: Path) -> None:
        prepare(secrets, given())
        before = contents(secrets)

        prepare(secrets, given())

        assert contents(secrets) == before

    def test_lost_room_comes_back_as_it_was(self, secrets: Path) -> None:
        prepare(secrets, given())
        before = contents(secrets)
        for file in (secrets / "payments").iterdir():
            file.unlink()

        prepare(secrets, given())

        assert contents(secrets) == before

    def test_what_an_earlier_release_left_in_a_room_goes(self, secrets: Path) -> None:
        (secrets / "payments" / "database-url").write_text(
            "postgresql+psycopg://payments:the-owner-s@postgres/payments"
        )

        prepare(secrets, given())

        assert not (secrets / "payments" / "database-url").exists()

    def test_start_that_was_killed_while_writing_does_no_harm(self, secrets: Path) -> None:
        half = secrets / "kept" / ".payments-password.new"
        half.write_text("ha")
        half.chmod(0o400)

        prepare(secrets, given())

        assert not half.exists()
        assert len(contents(secrets)["kept/payments-password"]) == 43


class TestTossItself:
    def test_two_variables_are_enough(self, secrets: Path) -> None:
        prepare(secrets, given(**OWN_KEYS))

        made = settings(secrets)
        assert made.toss_api_url == "https://api.tosspayments.com"
        assert made.toss_client_key == "test_ck_mine"
        assert made.toss_secret_key.get_secret_value() == "test_sk_mine"
        assert contents(secrets)["shop/toss-sdk-url"] == "https://js.tosspayments.com/v2/standard"

    def test_sandbox_s_key_signs_nothing_then(self, secrets: Path) -> None:
        prepare(secrets, given(**OWN_KEYS))

        assert settings(secrets).toss_webhook_secrets == ()

    def test_sandbox_is_back_without_them(self, secrets: Path) -> None:
        prepare(secrets, given())
        before = contents(secrets)
        prepare(secrets, given(**OWN_KEYS))

        prepare(secrets, given())

        assert contents(secrets) == before

    def test_live_keys_and_named_origins_make_production(self, secrets: Path) -> None:
        live = {"TOSS_CLIENT_KEY": "live_gck_mine", "TOSS_SECRET_KEY": "live_gsk_mine_and_of_nobody_else"}

        prepare(secrets, given(**live, ALLOWED_ORIGINS="https://shop.example"))

        told = compose({"ENVIRONMENT": "production"}).services["api"].environment
        made = read_settings({name: value.replace("/secrets", str(secrets)) for name, value in told.items()})
        assert made.environment == "production"
        assert made.allowed_origins == ("https://shop.example",)

    @pytest.mark.parametrize("alone", OWN_KEYS)
    def test_half_a_pair_starts_nothing(self, secrets: Path, alone: str, capsys: pytest.CaptureFixture[str]) -> None:
        code = main([str(secrets)], given(**{alone: OWN_KEYS[alone]}))

        assert code == 2
        assert contents(secrets) == {}
        told = capsys.readouterr().err
        assert "are a pair" in told
        assert OWN_KEYS[alone] not in told


class TestWhatIsGiven:
    def test_wins_over_what_was_made(self, secrets: Path) -> None:
        prepare(secrets, given())

        prepare(secrets, given(EVENTS_SECRETS=OWN_EVENTS, TOSS_WEBHOOK_SECRETS="ab" * 32, ALERT_URLS="json://ops"))

        made = settings(secrets)
        assert [secret.get_secret_value() for secret in made.events_secrets] == [OWN_EVENTS]
        assert [secret.get_secret_value() for secret in made.toss_webhook_secrets] == ["ab" * 32]
        assert [secret.get_secret_value() for secret in made.alert_urls] == ["json://ops"]
        assert contents(secrets)["shop/events-secrets"] == OWN_EVENTS

    def test_shop_on_another_port_is_another_origin(self, secrets: Path) -> None:
        prepare(secrets, given(SHOP_PORT="9200", SANDBOX_PORT="9100"))

        assert settings(secrets).allowed_origins == ("http://127.0.0.1:9200", "http://localhost:9200")
        assert contents(secrets)["shop/toss-sdk-url"] == "http://127.0.0.1:9100/v2/standard"


class TestWrongUse:
    @pytest.mark.parametrize("arguments", [[], ["one", "two"]])
    def test_wants_one_directory(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(arguments, given()) == 2
        assert "name the directory" in capsys.readouterr().err

    def test_room_that_is_missing_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([os.fspath(tmp_path)], given()) == 2
        assert f"{tmp_path}/kept/" in capsys.readouterr().err
