"""The command `toss-sandbox`."""

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

from toss_sandbox.server import serve
from toss_sandbox.settings import settings_from_environment

_EXAMPLE = """\
example:
  toss-sandbox serve --port 8100 --data .data/toss-sandbox.sqlite3
  toss-sandbox serve --webhook-url http://127.0.0.1:8000/webhook/toss
  curl -u test_sk_sandbox0000000000000000000000: http://127.0.0.1:8100/v1/payments/orders/order-000001

The keys come from TOSS_CLIENT_KEY and TOSS_SECRET_KEY (and TOSS_WIDGET_CLIENT_KEY, TOSS_WIDGET_SECRET_KEY),
each also as NAME_FILE. Only test keys are taken. TOSS_WEBHOOK_URL and TOSS_SECURITY_KEY (several with commas between
them; also as NAME_FILE) stand for the options of these names.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when it ended well, 2 for wrong usage or configuration."""
    options = _parser().parse_args(arguments)
    public_url = options.public_url or f"http://{options.host}:{options.port}"
    try:
        settings = settings_from_environment(
            os.environ,
            data=options.data,
            public_url=public_url,
            webhook_url=options.webhook_url,
            security_keys=tuple(options.security_key),
        )
        serve(settings, host=options.host, port=options.port)
    except (OSError, ValueError, sqlite3.Error) as error:
        print(f"toss-sandbox: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toss-sandbox",
        description="A local stand-in for the Toss Payments API.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "serve",
        help="serve the API, the browser SDK, the payment window and the control API, and send webhooks",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_options(command)
    return parser


def _add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    command.add_argument("--port", default=8100, type=_port, help="port to listen on (default: %(default)s)")
    command.add_argument(
        "--data",
        default=Path(".data/toss-sandbox.sqlite3"),
        type=Path,
        metavar="FILE",
        help="where payments, money and calls are kept (default: %(default)s)",
    )
    command.add_argument(
        "--public-url",
        metavar="URL",
        help="origin under which browsers reach the sandbox (default: http://HOST:PORT)",
    )
    command.add_argument(
        "--webhook-url",
        metavar="URL",
        help="where webhooks are sent (default: $TOSS_WEBHOOK_URL; without it they are noted, not sent)",
    )
    command.add_argument(
        "--security-key",
        action="append",
        default=[],
        metavar="HEX64",
        help="signs payout.changed and seller.changed; twice for two keys (default: $TOSS_SECURITY_KEY, or unsigned; "
        "unlike the variable, an option is seen by every user of the machine)",
    )


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:  # noqa: PLR2004 - TCP's ports
        raise argparse.ArgumentTypeError("a port is 0 to 65535")
    return port
