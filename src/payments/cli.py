"""The command `payments`: what operators and `make` call."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from payments import __version__
from payments.arguments import Command, Parser, add, settings_from_environment
from payments.cli_jobs import add_jobs
from payments.cli_keys import add_keys
from payments.errors import DatabaseUnavailable
from payments.local.plan import HIGHEST_BASE
from payments.observability import configure_logging
from payments.settings import LogFormat, SettingsInvalid

DONE: Final = 0
USAGE_WRONG: Final = 2
HIGHEST_PORT: Final = 65_535


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 something is wrong with the data, 2 wrong usage or configuration."""
    configure_logging(LogFormat.CONSOLE, to=sys.stderr)  # until the settings are read, and for commands without any
    options = _parser().parse_args(arguments)
    run: Command = options.run
    try:
        return run(options)
    except SettingsInvalid as error:
        print(f"payments: the configuration is not usable:\n{error}", file=sys.stderr)
        return USAGE_WRONG
    except KeyboardInterrupt:
        return DONE


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="payments",
        description="Takes money through Toss Payments for a shop, once.",
        epilog="Example: payments run",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add(commands, "run", _run, "start everything on this machine", "payments run --port-base 9000", _run_options)
    add(commands, "api", _api, "serve the HTTP API", "payments api --port 8000 --ops-port 8001", _server_options)
    add(commands, "worker", _worker, "do the jobs that nobody waits for", "payments worker")
    add(commands, "migrate", _migrate, "bring the database schema to the newest version", "payments migrate")
    add(
        commands,
        "demo-purchase",
        _demo_purchase,
        "buy something from the running set and print what happens",
        "payments demo-purchase --port-base 9000",
        _demo_options,
    )
    add_jobs(commands)
    add_keys(commands)
    return parser


def _server_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=port, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--ops-port", type=port, metavar="N", help="answer /health and /metrics there, and nowhere else (default: none)"
    )
    parser.add_argument(
        "--ops-host", default="127.0.0.1", metavar="HOST", help="address for --ops-port (default: %(default)s)"
    )


def port(text: str) -> int:
    """A port to listen on; the name stands in the message of a wrong one."""
    number = int(text)
    if not 1 <= number <= HIGHEST_PORT:
        raise ValueError(text)
    return number


def port_base(text: str) -> int:
    """The first of three ports, 100 apart."""
    number = int(text)
    if not 1 <= number <= HIGHEST_BASE:
        raise ValueError(text)
    return number


def _base_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port-base",
        type=port_base,
        default=8000,
        metavar="N",
        help="API on N, sandbox on N+100, shop on N+200 (default: 8000)",
    )


def _run_options(parser: argparse.ArgumentParser) -> None:
    _base_option(parser)
    _data_option(parser, "where the data is kept")


def _data_option(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--data", type=Path, default=Path(".data"), metavar="DIR", help=f"{what} (default: .data)")


def _demo_options(parser: argparse.ArgumentParser) -> None:
    _base_option(parser)
    _data_option(parser, "the data directory of the running set")


def _api(options: argparse.Namespace) -> int:
    from payments.api.server import Address, CannotListen, serve  # noqa: PLC0415 - others start faster without FastAPI

    if options.ops_port == options.port:
        print("payments: --port and --ops-port must differ: by its port a request is told apart", file=sys.stderr)
        return USAGE_WRONG
    settings = settings_from_environment(log_to=sys.stdout)
    ops = Address(options.ops_host, options.ops_port) if options.ops_port else None
    try:
        serve(settings, public=Address(options.host, options.port), ops=ops)
    except CannotListen as error:
        print(f"payments: {error}", file=sys.stderr)
        return USAGE_WRONG
    return DONE


def _worker(_: argparse.Namespace) -> int:
    from payments.jobs import work  # noqa: PLC0415 - the same for the scheduler

    asyncio.run(work(settings_from_environment(log_to=sys.stdout)))
    return DONE


def _migrate(_: argparse.Namespace) -> int:
    from payments.schema import HEAD, NotTheOwner, migrate  # noqa: PLC0415 - the same for Alembic

    try:
        roles = migrate(settings_from_environment(log_to=sys.stderr).database_url.get_secret_value())
    except DatabaseUnavailable:
        print(
            "payments: cannot work on the database of DATABASE_URL: it cannot be reached, refuses the login, "
            "or somebody holds a lock on its tables",
            file=sys.stderr,
        )
        return USAGE_WRONG
    except NotTheOwner:
        print("payments: the role of DATABASE_URL may not change the tables: migrate as their owner", file=sys.stderr)
        return USAGE_WRONG
    print(f"The database is at {HEAD}.")
    if roles:
        print(f"Roles that have their rights: {', '.join(roles)}.")
    return DONE


def _run(options: argparse.Namespace) -> int:
    from payments.local.run import run  # noqa: PLC0415 - only for the local run

    return run(port_base=options.port_base, data=options.data)


def _demo_purchase(options: argparse.Namespace) -> int:
    from payments.local.demo_purchase import demo_purchase  # noqa: PLC0415 - only for the local run

    return asyncio.run(demo_purchase(port_base=options.port_base, data=options.data))
