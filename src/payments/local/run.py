"""Run the whole system on one machine by one command: PostgreSQL, sandbox, shop, API and worker."""

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from payments.access import new_key
from payments.local.databases import create_if_missing, sibling
from payments.local.plan import (
    HIGHEST_BASE,
    KEY_FILE,
    CannotRun,
    Plan,
    Ports,
    make_plan,
    new_events_secret,
    pays_at_toss,
    value_of,
)
from payments.local.postgres import DataDirectoryInUse, LocalPostgres, LocalPostgresFailure
from payments.local.supervisor import HOST, ProgramStopped, cancel_on_signals, keep_running, run_once, until_serving
from payments.local.terminal import ENVIRONMENT_FILE, complain, say, show, welcome

STOPPED = 0
PROBLEM = 1
WRONG_USAGE = 2
SERVER_POLL_SECONDS = 0.5
TAKEN_OVER = "PAYMENTS_RUN_IN"  # by it a terminal says that it was told what a run is told


@dataclass(frozen=True, kw_only=True)
class Databases:
    """Where payments and shop keep their rows, and whether that server is still there."""

    payments: str
    shop: str
    are_up: Callable[[], bool]


def run(*, port_base: int, data: Path) -> int:
    """Start everything, stay until Ctrl-C or SIGTERM, stop everything and keep the data.

    Returns:
        The exit code: 0 stopped on request, 1 something failed, 2 cannot start as asked.
    """
    began_at = time.monotonic()
    try:
        _check_own_environment(os.environ)
        # Until the programs run, SIGTERM means what Ctrl-C means.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        ports = _free_ports(port_base)
        _make(data)
        with _databases(os.environ, data) as databases:
            plan = make_plan(
                os.environ,
                ports,
                data=data,
                payments_url=databases.payments,
                shop_url=databases.shop,
                events_secret=new_events_secret(),
                key_file=_key_file(data),
            )
            _write_environment(data, plan.migrate.environment)
            code = asyncio.run(_supervise(plan, databases, lambda: _greet(ports, data, began_at)))
    except KeyboardInterrupt:
        code = STOPPED
    except (CannotRun, DataDirectoryInUse) as error:
        complain(str(error))
        return WRONG_USAGE
    except LocalPostgresFailure as error:
        complain(str(error))
        return PROBLEM
    say("Everything has stopped; the data stay.  모두 멈췄습니다. 데이터는 그대로 있습니다.")
    return code


def _check_own_environment(environ: Mapping[str, str]) -> None:
    """A run that takes what another one was told for its user's wishes would work on that one's database."""
    if TAKEN_OVER in environ:
        raise CannotRun(
            f"This terminal has taken over the environment of the run in {environ[TAKEN_OVER]}. "
            "Start another run in another terminal."
        )


def _make(data: Path) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRun(f"The data directory {data} cannot be made ({error.strerror}).") from error


def _key_file(data: Path) -> Path:
    """What the shop shows to the payments, the same from run to run."""
    file = data / KEY_FILE
    if not file.exists():
        _write_private(file, new_key().text)
    return file


def _write_private(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as written:
        written.write(text)


def _write_environment(data: Path, environment: Mapping[str, str]) -> None:
    """What our programs run with and the user did not set, for commands in another terminal."""
    told = {**environment, TAKEN_OVER: str(data)}
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(told.items())]
    _write_private(data / ENVIRONMENT_FILE, "".join(lines))


def _greet(ports: Ports, data: Path, began_at: float) -> None:
    seconds = time.monotonic() - began_at
    say(welcome(ports, data=data, seconds=seconds, at_toss=pays_at_toss(os.environ)))


async def _supervise(plan: Plan, databases: Databases, greet: Callable[[], None]) -> int:
    code = STOPPED
    cancel_on_signals()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_watch(databases))
            for program in plan.self_sufficient:
                group.create_task(keep_running(program, show))
            await run_once(plan.migrate, show)
            await run_once(plan.register, show)
            for program in plan.on_our_schema:
                group.create_task(keep_running(program, show))
            for program in plan.lasting:
                await until_serving(program)
            greet()
    except* ProgramStopped as stopped:
        complain(str(stopped.exceptions[0]))
        code = PROBLEM
    except* asyncio.CancelledError:
        code = STOPPED
    return code


async def _watch(databases: Databases) -> None:
    while databases.are_up():  # noqa: ASYNC110 - a process has no event to wait for.
        await asyncio.sleep(SERVER_POLL_SECONDS)
    raise ProgramStopped("PostgreSQL ended; its log is in the data directory.")


def _free_ports(base: int) -> Ports:
    """Find out before anything starts, because a program that cannot listen says so in the middle of a long log."""
    if not 1 <= base <= HIGHEST_BASE:
        raise CannotRun(f"The port base is between 1 and {HIGHEST_BASE}.")
    ports = Ports(base)
    for port in (ports.api, ports.sandbox, ports.shop):
        with socket.socket() as probe:
            # As the servers do: a port in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise CannotRun(
                    f"Port {port} cannot be used ({error.strerror}). Stop what listens there, or move all ports: "
                    f"`payments run --port-base N` or `make run PORT_BASE=N` takes N, N + 100 and N + 200."
                ) from error
    return ports


@contextlib.contextmanager
def _databases(environ: Mapping[str, str], data: Path) -> Iterator[Databases]:
    given = value_of(environ, "DATABASE_URL")
    with contextlib.ExitStack() as servers:
        if given:
            payments, are_up = given, _always
        else:
            server = servers.enter_context(LocalPostgres(data / "pg"))
            payments, are_up = server.url("payments"), server.is_running
        shop = value_of(environ, "SHOP_DATABASE_URL") or sibling(payments, "shop")
        for url in (payments, shop):
            create_if_missing(url)
        yield Databases(payments=payments, shop=shop, are_up=are_up)


def _always() -> bool:
    # A server of the user's own is not ours to watch; the programs live through its absence.
    return True
