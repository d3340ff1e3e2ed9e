"""The sandbox as one ASGI application: the Toss API, the browser's pages and the control API."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import httpx
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from toss_sandbox.api import create_api_router
from toss_sandbox.browser.pages import create_pages_router
from toss_sandbox.control import create_control_router
from toss_sandbox.engine import Sandbox
from toss_sandbox.errors import TossError
from toss_sandbox.gateway import Gateway
from toss_sandbox.sender import Sender
from toss_sandbox.settings import Settings
from toss_sandbox.webhook_control import create_webhook_router


def create_sandbox(
    settings: Settings | None = None, *, webhook_transport: httpx.AsyncBaseTransport | None = None
) -> FastAPI:
    """Build the application; its `state.sandbox` is the engine behind it.

    In process it works through an ASGI transport; broken connections then are the exceptions that httpx would raise.
    Webhooks are sent by themselves while its lifespan runs, and without one when `/sandbox/webhooks/deliver` is asked;
    `webhook_transport` leads them into a shop that is in process too.
    """
    sandbox = Sandbox(settings)
    sender = Sender(sandbox, transport=webhook_transport)
    gateway = Gateway(sandbox, sender)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with sender.running():
            yield
            await gateway.stop()
        sandbox.close()

    app = FastAPI(title="Toss Payments sandbox", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.sandbox = sandbox

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Answers once the sandbox serves."""
        return {"status": "ok"}

    # Before the API, whose last route takes everything under /v1.
    app.include_router(create_pages_router(sandbox))
    app.include_router(create_control_router(sandbox))
    app.include_router(create_webhook_router(sandbox, sender))
    app.include_router(create_api_router(sandbox, gateway))
    app.add_exception_handler(TossError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    return app


async def _answer_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, TossError):
        raise error
    return JSONResponse({"code": error.code, "message": error.message}, error.status)


async def _answer_invalid(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    # Without the input, which may be nothing that JSON can hold, and in ASCII, as a member's name may be no text.
    detail = [{name: each[name] for name in ("type", "loc", "msg")} for each in error.errors()]
    return Response(json.dumps({"detail": detail}), HTTPStatus.UNPROCESSABLE_ENTITY, media_type="application/json")
