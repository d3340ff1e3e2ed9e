"""Serves the API over HTTP."""

from typing import Final

import uvicorn

from payments.api.app import create_app
from payments.settings import Settings

# A half-sent body would otherwise hold the shutdown for ever. Confirms that take longer are drained afterwards.
GRACEFUL_SECONDS: Final = 5


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests end."""
    uvicorn.run(
        create_app(settings),
        host=host,
        port=port,
        http="httptools",  # the stricter parser of the two: it refuses the requests that smugglers send
        log_config=None,
        access_log=False,  # RequestLog writes one line for each request
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
