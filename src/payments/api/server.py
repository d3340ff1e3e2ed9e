"""Serves the API over HTTP."""

import uvicorn

from payments.api.app import create_app
from payments.settings import Settings

# Longer than the drain of running confirms; a half-sent body would otherwise hold the shutdown for ever.
GRACEFUL_SECONDS = 10


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
