"""Our programs as processes of their own, on loopback."""

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

# Nothing that somebody has set for runs of their own, only what Python needs.
BARE_ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
START_SECONDS = 60


def free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection and no other worker of the tests will take."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 12_000 + 1_000 * worker  # below the ports that systems hand out by themselves
    while True:
        port = random.randrange(first, first + 1_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


@contextmanager
def program(
    *arguments: str, environment: Mapping[str, str], log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m ...` for as long as the block lasts; what it says goes to `log`, or where ours goes."""
    command = [sys.executable, "-m", *arguments]
    with ExitStack() as stack:
        output = stack.enter_context(log.open("ab")) if log else None
        errors = subprocess.STDOUT if log else None
        process = stack.enter_context(
            subprocess.Popen(command, env={**BARE_ENVIRONMENT, **environment}, stdout=output, stderr=errors)
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(START_SECONDS)


@contextmanager
def server(
    *arguments: str, environment: Mapping[str, str], log: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The same for a program that serves HTTP, on a free port; yields its URL once it answers."""
    port = free_port()
    with program(*arguments, "--port", str(port), environment=environment, log=log) as process:
        url = f"http://127.0.0.1:{port}"
        _wait_until_live(url)
        yield url, process


@contextmanager
def server_with_ops(
    *arguments: str, environment: Mapping[str, str], log: Path | None = None
) -> Iterator[tuple[int, int, subprocess.Popen[bytes]]]:
    """The same for a program that answers probes on a port of their own; yields its port, theirs, and the process."""
    port, ops_port = free_port(), free_port()
    ports = ("--port", str(port), "--ops-port", str(ops_port))
    with program(*arguments, *ports, environment=environment, log=log) as process:
        _wait_until_live(f"http://127.0.0.1:{ops_port}")
        yield port, ops_port, process


@contextmanager
def sandbox_server(data: Path, *, client_key: str, secret_key: str, log: Path | None = None) -> Iterator[str]:
    """A sandbox that keeps its books in `data`; what it says goes to `log`, or where ours goes."""
    keys = {"TOSS_CLIENT_KEY": client_key, "TOSS_SECRET_KEY": secret_key}
    with server("toss_sandbox", "serve", "--data", str(data), environment=keys, log=log) as (url, _):
        yield url


def _wait_until_live(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/health/live", trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)  # a process is starting; there is nothing to be told by
        else:
            return
    raise TimeoutError(url)
