"""The sandbox as one ASGI application: the Toss API, the browser's pages and the control API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from toss_sandbox.api import create_api_router
from toss_sandbox.browser.pages import create_pages_router
from toss_sandbox.control import create_control_router
from toss_sandbox.engine import Sandbox
from toss_sandbox.errors import TossError
from toss_sandbox.gateway import Gateway
from toss_sandbox.settings import Settings


def create_sandbox(settings: Settings | None = None) -> FastAPI:
    """Build the application; its `state.sandbox` is the engine behind it.

    In process it works through an ASGI transport; broken connections then are the exceptions that httpx would raise.
    """
    sandbox = Sandbox(settings)
    gateway = Gateway(sandbox)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
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
    app.include_router(create_api_router(sandbox, gateway))
    app.add_exception_handler(TossError, _answer_error)
    return app


async def _answer_error(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, TossError):
        raise error
    return JSONResponse({"code": error.code, "message": error.message}, error.status)
