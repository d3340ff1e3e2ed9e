"""The command `demo-shop`."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

import uvicorn

from demo_shop.app import create_shop
from demo_shop.settings import InvalidSettings, read_settings

_DESCRIPTION = "A tiny shop with its own order database that takes payments through the payments service."
_EPILOG = """\
example:
  SHOP_DATABASE_URL=postgresql+psycopg://shop:secret@127.0.0.1/shop demo-shop serve --port 8200

environment (each may be given as a file's name in NAME_FILE):
  SHOP_DATABASE_URL         own order database, postgresql+psycopg://...; required
  SHOP_PAYMENTS_URL         payments API for this server (http://127.0.0.1:8000)
  SHOP_PAYMENTS_API_KEY     what the payments API knows this server by; scopes read and refund (required)
  SHOP_PAYMENTS_PUBLIC_URL  payments API for the buyer's browser (the same)
  SHOP_TOSS_SDK_URL         browser SDK (http://127.0.0.1:8100/v2/standard)
  SHOP_PUBLIC_URL           this shop, for the buyer's browser (http://127.0.0.1:PORT)
  SHOP_EVENTS_SECRETS       whsec_... that sign the events of the payments service, separated by commas;
                            without one POST /api/events is off, and orders move only when they are looked at

exit codes: 0 stopped, 1 could not start, 2 wrong usage or configuration

There is no login: whoever reaches the address sees every order. For trying things out, not for selling.
"""

_PORTS = range(1, 65_536)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    return _serve(arguments.host, arguments.port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="demo-shop",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve the shop until it is interrupted",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=_port, default=8200, help="port to listen on (default: %(default)s)")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if port not in _PORTS:
        raise argparse.ArgumentTypeError("a port is between 1 and 65535")
    return port


def _serve(host: str, port: int) -> int:
    try:
        settings = read_settings(os.environ, port=port)
    except InvalidSettings as error:
        print(f"demo-shop: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # one line for each look at a payment is too many
    # No access log: the success page's URL holds a payment key.
    config = uvicorn.Config(
        create_shop(settings), host=host, port=port, log_level="warning", access_log=False, server_header=False
    )
    server = uvicorn.Server(config)
    # When the server has finished what it held it hands the signal on; being told to stop is no failure.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server.run()
    except KeyboardInterrupt:
        return 0
    except SystemExit:
        return 1  # the port is taken; uvicorn has said so
    return 0 if server.started else 1
