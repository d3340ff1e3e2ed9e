"""How the commands take their arguments and their configuration."""

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Never, TextIO

import structlog

from payments.observability import configure_logging
from payments.redaction import clean_text
from payments.settings import Settings, doubts, read_settings

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it

Command = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments, and not what secret somebody gave for one."""

    def error(self, message: str) -> Never:
        super().error(clean_text(message))


def add(
    commands: "Commands",
    name: str,
    run: Command,
    summary: str,
    example: str,
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Add one command, with a help text that ends in an example."""
    parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper() + summary[1:]}.", epilog=f"Example: {example}"
    )
    parser.set_defaults(run=run)
    if add_options is not None:
        add_options(parser)


def add_group(commands: "Commands", name: str, summary: str, example: str) -> "Commands":
    """Add a command that has verbs of its own."""
    parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper() + summary[1:]}.", epilog=f"Example: {example}"
    )
    return parser.add_subparsers(required=True, metavar="VERB")


def settings_from_environment(*, log_to: TextIO) -> Settings:
    """Read the configuration and begin to log.

    Raises:
        SettingsInvalid: it is not usable.
    """
    settings = read_settings(os.environ)
    configure_logging(settings.log_format, to=log_to, secrets=settings.secrets())
    for doubt in doubts(os.environ):
        structlog.get_logger().warning("settings.doubtful", hint=doubt)
    return settings
