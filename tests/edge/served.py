"""Small applications behind the same edge as the API's, to see what an application is told."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from payments.api.edge import Edge
from payments.api.server import configuration


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what the application was told of the request."""
    request = Request(scope, receive)
    told = {
        "method": scope["method"],
        "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
        "client": scope["client"][0],
        "scheme": scope["scheme"],
        "port": scope["server"][1],
        "body": (await request.body()).decode(),
    }
    await Response(json.dumps(told), media_type="application/json")(scope, receive, send)


@asynccontextmanager
async def served(edge: Edge, *listeners: socket.socket, app: ASGIApp = echo) -> AsyncIterator[uvicorn.Server]:
    """Serve it on these sockets, as `payments api` would."""
    config = configuration(app, edge)
    config.lifespan = "off"
    server = uvicorn.Server(config)
    async with AsyncExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        running = asyncio.create_task(server.serve(sockets=list(listeners)))
        while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn has a flag, not an event
            await asyncio.sleep(0.01)
        try:
            yield server
        finally:
            server.should_exit = True
            await running


def listening() -> tuple[socket.socket, int]:
    """A socket on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]
