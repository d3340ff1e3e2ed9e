"""docker-compose.yml as Compose reads it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import yaml  # type: ignore[import-untyped] # it comes with Apprise, its types do not
from pydantic import BaseModel, ConfigDict, Field

ROOT: Final = Path(__file__).resolve().parents[2]
COMPOSE_FILE: Final = ROOT / "docker-compose.yml"
ENV_EXAMPLE: Final = ROOT / ".env.example"

VARIABLE: Final = re.compile(r"\$\{([A-Z_]+):-([^}]*)\}")

Condition = Literal["service_healthy", "service_completed_successfully"]


class Known(BaseModel):
    """Refuses a member that no test has looked at: `devices`, `pid: host` and their like are harmless nowhere."""

    model_config = ConfigDict(extra="forbid")


class DependsOn(Known):
    condition: Condition


class Healthcheck(Known):
    test: list[str] = []
    disable: bool = False
    interval: str = "30s"
    timeout: str = "30s"
    retries: int = 3
    start_period: str = "0s"


class Logging(Known):
    driver: str
    options: dict[str, str]


class Service(Known):
    """What the tests look at; a missing member is Docker's default."""

    image: str
    build: str | None = None
    command: list[str]
    user: str = ""
    read_only: bool = False
    cap_drop: list[str] = []
    cap_add: list[str] = []
    privileged: bool = False
    security_opt: list[str] = []
    pids_limit: int | None = None
    mem_limit: str | None = None
    shm_size: str | None = None
    cpus: float | None = None
    init: bool = False
    tmpfs: list[str] = []
    restart: str = "no"
    stop_grace_period: str | None = None
    labels: dict[str, str] = {}
    logging: Logging | None = None
    healthcheck: Healthcheck = Field(default_factory=Healthcheck)
    depends_on: dict[str, DependsOn] = {}
    environment: dict[str, str] = {}
    ports: list[str] = []
    volumes: list[str] = []
    networks: list[str] = ["default"]
    network_mode: str | None = None

    @property
    def is_lasting(self) -> bool:
        """As opposed to what runs once and ends."""
        return self.restart != "no"

    @property
    def mounts(self) -> dict[str, str]:
        """Where each volume is mounted, with its mode."""
        return dict(volume.split(":", 1) for volume in self.volumes)

    def waits_for(self, other: str) -> str | None:
        return self.depends_on[other].condition if other in self.depends_on else None


class ComposeFile(Known):
    services: dict[str, Service]
    networks: dict[str, dict[str, bool]]
    volumes: dict[str, dict[str, str]]


def compose(given: Mapping[str, str] | None = None) -> ComposeFile:
    """The file with these variables set and no others.

    Raises:
        pydantic.ValidationError: It has a member that `Service` does not.
    """
    written = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
    read = {key: value for key, value in written.items() if not key.startswith("x-")}
    return ComposeFile.model_validate(_filled_in(read, given or {}))


def _filled_in(value: object, given: Mapping[str, str]) -> object:
    match value:
        case dict():
            return {key: _filled_in(inner, given) for key, inner in value.items()}
        case list():
            return [_filled_in(inner, given) for inner in value]
        case str():
            return VARIABLE.sub(lambda variable: given.get(variable[1]) or variable[2], value)
    return value


def variables() -> set[str]:
    """Everything that whoever starts the set may set."""
    return {name for name, _ in VARIABLE.findall(COMPOSE_FILE.read_text(encoding="utf-8"))}
