import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # it comes with Apprise, its types do not
from pydantic import ValidationError

from demo_shop.settings import ShopSettings
from payments.settings import Settings
from tests.deploy.compose_file import COMPOSE_FILE, ENV_EXAMPLE, ROOT, Service, compose, variables

SERVICES = compose().services
OURS = {name: service for name, service in SERVICES.items() if service.image == "payments:local"}
LASTING = {name: service for name, service in SERVICES.items() if service.is_lasting}
HARDENING = {"user", "read_only", "cap_drop", "security_opt", "pids_limit", "mem_limit", "cpus", "tmpfs"}
# Variables whose value is, or holds, something that nobody else may know.
SECRET = re.compile(r"(KEY|SECRETS?|PASSWORD|TOKEN|DATABASE_URL|ALERT_URLS)$")


class TestTheSet:
    def test_has_what_was_promised(self) -> None:
        once = {"prepare", "databases", "migrate", "shop-key"}

        assert set(LASTING) == {"postgres", "api", "worker", "toss-sandbox", "demo-shop"}
        assert set(SERVICES) - set(LASTING) == once

    def test_is_one_image_and_postgres(self) -> None:
        assert {service.image for service in SERVICES.values()} == {"payments:local", "postgres:18-trixie"}
        # One build for all: Compose takes the image of the others for built as well.
        assert [name for name, service in SERVICES.items() if service.build] == ["prepare"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_everything_waits_for_its_secrets(self, name: str) -> None:
        before = {name}
        while more := {other for service in before for other in SERVICES[service].depends_on} - before:
            before |= more

        assert "prepare" in before

    @pytest.mark.parametrize("name", ["api", "worker"])
    def test_nothing_works_on_an_old_schema(self, name: str) -> None:
        assert SERVICES[name].waits_for("migrate") == "service_completed_successfully"
        assert SERVICES[name].waits_for("postgres") == "service_healthy"
        assert SERVICES["migrate"].waits_for("databases") == "service_completed_successfully"
        assert SERVICES["databases"].waits_for("postgres") == "service_healthy"

    def test_the_shops_key_is_valid_before_the_shop_shows_it_and_where_there_is_no_shop_it_is_not(self) -> None:
        assert SERVICES["demo-shop"].waits_for("shop-key") == "service_completed_successfully"
        assert SERVICES["shop-key"].waits_for("migrate") == "service_completed_successfully"
        assert [name for name, service in SERVICES.items() if "shop-key" in service.depends_on] == ["demo-shop"]

    def test_somebody_who_stays_waits_for_each_that_ends(self) -> None:
        """Or else `up --wait` takes an exit, the good one too, for a failure."""
        adopted = {other for service in LASTING.values() for other in service.depends_on}

        assert set(SERVICES) - set(LASTING) <= adopted

    def test_workers_can_be_many(self) -> None:
        text = COMPOSE_FILE.read_text(encoding="utf-8")

        assert "container_name" not in text
        assert SERVICES["worker"].ports == []


@pytest.mark.parametrize("name", SERVICES)
class TestHardening:
    def test_is_not_root(self, name: str) -> None:
        uid, _, gid = SERVICES[name].user.partition(":")

        assert int(uid) > 0
        assert int(gid) > 0

    def test_cannot_write_to_its_image_or_gain_a_right(self, name: str) -> None:
        service = SERVICES[name]

        assert service.read_only
        assert service.cap_drop == ["ALL"]
        assert service.cap_add == []
        assert service.security_opt == ["no-new-privileges:true"]
        assert not service.privileged

    def test_has_somewhere_to_write_that_is_forgotten(self, name: str) -> None:
        assert [mount for mount in SERVICES[name].tmpfs if mount.startswith("/tmp:size=")]  # noqa: S108

    def test_runs_nothing_that_it_wrote_there(self, name: str) -> None:
        assert [mount for mount in SERVICES[name].tmpfs if not mount.endswith(",noexec,nosuid,nodev")] == []

    def test_shares_nothing_with_the_machine(self, name: str) -> None:
        """Nor can it by a member that is not read here: the file is refused then."""
        assert SERVICES[name].network_mode in {None, "none"}

    def test_is_of_a_version_that_is_named(self, name: str) -> None:
        """A tag moves with security fixes alone; docs/deploy.md says how to pin to the byte."""
        image, _, tag = SERVICES[name].image.partition(":")

        assert re.fullmatch(r"[a-z]+", image), "of Docker's own library, or built here"
        assert re.fullmatch(r"local|[0-9][0-9a-z.-]+", tag)

    def test_cannot_take_the_machine_with_it(self, name: str) -> None:
        service = SERVICES[name]

        assert service.pids_limit is not None
        assert service.mem_limit is not None
        # More than a machine has is refused by Docker, and the smallest has one.
        assert service.cpus == 1
        assert service.logging is not None
        assert set(service.logging.options) == {"max-size", "max-file"}

    def test_mounts_volumes_only(self, name: str) -> None:
        """No file or socket of the host, Docker's own least of all."""
        assert set(SERVICES[name].mounts) <= set(compose().volumes)

    def test_comes_back_after_a_crash_and_says_how_it_is(self, name: str) -> None:
        service = SERVICES[name]

        if name in LASTING:
            assert service.restart == "unless-stopped"
            assert service.healthcheck.test[0] == "CMD"
        else:
            assert service.healthcheck.disable


class TestTheModel:
    @pytest.mark.parametrize(
        "member", ["devices", "pid", "ipc", "userns_mode", "volumes_from", "cgroup_parent", "sysctls"]
    )
    def test_refuses_what_no_test_has_looked_at(self, member: str) -> None:
        with pytest.raises(ValidationError):
            Service.model_validate({"image": "one:1", "command": ["one"], member: "host"})


class TestReachability:
    def test_database_has_no_address_outside(self) -> None:
        assert SERVICES["postgres"].ports == []
        assert SERVICES["postgres"].networks == ["database"]
        assert compose().networks["database"] == {"internal": True}

    @pytest.mark.parametrize("name", ["api", "toss-sandbox", "demo-shop"])
    def test_everything_else_is_for_this_machine(self, name: str) -> None:
        (published,) = SERVICES[name].ports

        assert published.startswith("127.0.0.1:")

    def test_what_probes_and_monitoring_ask_has_a_port_that_nobody_outside_reaches(self) -> None:
        api = SERVICES["api"]

        ops_port = api.command[api.command.index("--ops-port") + 1]
        assert api.healthcheck.test[-2:] == [ops_port, "/health/ready"]
        assert not [published for published in api.ports if published.endswith(f":{ops_port}")]

    def test_only_the_api_can_be_opened(self) -> None:
        opened = compose({"API_ADDRESS": "0.0.0.0", "API_PORT": "9000"}).services  # noqa: S104 - asked for

        assert opened["api"].ports == ["0.0.0.0:9000:8000"]
        assert opened["toss-sandbox"].ports == SERVICES["toss-sandbox"].ports
        assert opened["demo-shop"].ports == SERVICES["demo-shop"].ports

    def test_who_makes_the_secrets_has_no_network(self) -> None:
        assert SERVICES["prepare"].network_mode == "none"

    def test_only_who_needs_the_database_is_near_it(self) -> None:
        near = {name for name, service in SERVICES.items() if "database" in service.networks}

        assert near == {"postgres", "databases", "migrate", "shop-key", "api", "worker", "demo-shop"}


class TestSecrets:
    @pytest.mark.parametrize("name", sorted(set(SERVICES) - {"prepare"}))
    def test_are_files(self, name: str) -> None:
        environment = SERVICES[name].environment

        assert [variable for variable in environment if SECRET.search(variable)] == []
        for variable, value in environment.items():
            if SECRET.search(variable.removesuffix("_FILE")):
                assert value.startswith("/secrets/")

    def test_what_is_given_reaches_nobody_but_who_writes_the_files(self) -> None:
        given = {variable: f"given-{variable}" for variable in variables() if SECRET.search(variable)}

        told = {name: json.dumps(service.environment) for name, service in compose(given).services.items()}

        written_by = told.pop("prepare")
        assert "TOSS_SECRET_KEY" in given
        assert all(value in written_by for value in given.values())
        assert [name for name, environment in told.items() if "given-" in environment] == []

    @pytest.mark.parametrize("file", [COMPOSE_FILE, ENV_EXAMPLE, ROOT / "Dockerfile"], ids=lambda file: file.name)
    def test_none_stands_in_a_file(self, file: Path) -> None:
        text = file.read_text(encoding="utf-8")

        assert re.findall(r"://[^/\s:]+:[^/\s@]+@", text) == []
        assert re.findall(r"(?:test|live)_g?[cs]k_|whsec_[A-Za-z0-9]", text) == []
        assert re.findall(r"(?i)password[=:]\s*\S", text) == []

    @pytest.mark.parametrize(
        ("volume", "readers"),
        [
            ("kept-secrets", {"databases"}),
            ("postgres-secrets", {"postgres"}),
            ("payments-secrets", {"migrate", "shop-key", "api", "worker"}),
            ("migrate-secrets", {"migrate", "shop-key"}),
            ("api-secrets", {"api"}),
            ("worker-secrets", {"worker"}),
            ("shop-secrets", {"demo-shop", "shop-key"}),
            ("sandbox-secrets", {"toss-sandbox"}),
        ],
    )
    def test_are_mounted_by_their_readers_alone(self, volume: str, readers: set[str]) -> None:
        mounted = {name: service.mounts[volume] for name, service in SERVICES.items() if volume in service.mounts}

        assert not mounted.pop("prepare").endswith(":ro")
        assert set(mounted) == readers
        assert all(mount.endswith(":ro") for mount in mounted.values())

    @pytest.mark.parametrize("name", sorted(OURS))
    def test_every_file_is_in_a_volume_that_its_reader_has(self, name: str) -> None:
        service = SERVICES[name]
        directories = {mount.removesuffix(":ro") for mount in service.mounts.values()}

        files = [value for variable, value in service.environment.items() if variable.endswith("_FILE")]

        assert {str(Path(file).parent) for file in files} <= directories


class TestSettings:
    def test_payments_can_be_given_every_setting(self) -> None:
        told = {variable.removesuffix("_FILE").lower() for variable in SERVICES["api"].environment}

        assert told == set(Settings.model_fields)

    def test_shop_can_be_given_every_setting(self) -> None:
        told = {variable.removesuffix("_FILE") for variable in SERVICES["demo-shop"].environment}

        assert told == {f"SHOP_{name.upper()}" for name in ShopSettings.__dataclass_fields__}

    def test_api_worker_and_migration_are_told_the_same_but_who_they_are(self) -> None:
        told = [dict(SERVICES[name].environment) for name in ("api", "worker", "migrate")]

        roles = [environment.pop("DATABASE_URL_FILE") for environment in told]

        assert roles == [f"/secrets/{name}/database-url" for name in ("api", "worker", "migrate")]
        assert told[0] == told[1] == told[2]

    def test_example_names_every_variable(self) -> None:
        named = re.findall(r"^#([A-Z_]+)=", ENV_EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)

        assert sorted(named) == sorted(variables())

    def test_other_keys_start_their_readers_again(self) -> None:
        """Compose makes a container anew when its service reads differently, and files are no part of that."""
        other = compose({"TOSS_CLIENT_KEY": "test_ck_other"}).services

        for name in ("api", "worker", "demo-shop"):
            assert other[name].labels != SERVICES[name].labels

    def test_ports_move_together_with_what_is_said_about_them(self) -> None:
        moved = compose({"API_PORT": "9000", "SANDBOX_PORT": "9100", "SHOP_PORT": "9200"}).services

        assert moved["demo-shop"].ports == ["127.0.0.1:9200:8200"]
        assert moved["demo-shop"].environment["SHOP_PUBLIC_URL"] == "http://127.0.0.1:9200"
        assert moved["demo-shop"].environment["SHOP_PAYMENTS_PUBLIC_URL"] == "http://127.0.0.1:9000"
        assert moved["toss-sandbox"].command[-1] == "--public-url=http://127.0.0.1:9100"
        assert moved["prepare"].environment["SANDBOX_PUBLIC_URL"] == "http://127.0.0.1:9100"
        assert moved["prepare"].environment["SHOP_PUBLIC_URL"] == "http://127.0.0.1:9200"


class TestPostgres:
    def test_keeps_its_data_where_18_puts_them(self) -> None:
        assert SERVICES["postgres"].mounts["postgres-data"] == "/var/lib/postgresql"

    def test_is_healthy_only_when_it_listens_on_the_network(self) -> None:
        """The server of the first set-up listens on its socket alone, and goes away again."""
        assert "--host=127.0.0.1" in SERVICES["postgres"].healthcheck.test

    def test_has_time_to_stop(self) -> None:
        assert SERVICES["postgres"].stop_grace_period == "90s"


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
class TestDockerCompose:
    def test_understands_the_file_as_we_do(self, tmp_path: Path) -> None:
        (nothing := tmp_path / "empty.env").touch()
        keys = {"TOSS_CLIENT_KEY": "test_ck_mine", "TOSS_SECRET_KEY": "test_sk_mine"}

        shown = subprocess.run(
            ["docker-compose", "-f", COMPOSE_FILE, "--env-file", nothing, "config"],  # noqa: S607 - from PATH
            env={"PATH": os.environ["PATH"], **keys},
            capture_output=True,
            text=True,
            check=True,
        )

        understood = yaml.safe_load(shown.stdout)["services"]
        assert shown.stderr == ""
        assert set(understood) == set(SERVICES)
        for name, service in compose(keys).services.items():
            assert understood[name].get("environment", {}) == service.environment
            assert understood[name]["command"] == service.command
            assert {member: understood[name][member] for member in HARDENING} == service.model_dump(include=HARDENING)
