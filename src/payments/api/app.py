"""The API as an ASGI application."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Final

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from payments import __version__
from payments.api import access, events, health, payments, problems, webhooks
from payments.api.front_door import FrontDoor, RequestLog
from payments.api.rate_limits import Limits, RateLimits
from payments.resources import API, open_resources
from payments.roles import warn_of_power
from payments.settings import Environment, Settings

log = structlog.get_logger()

# After uvicorn has waited for the requests themselves (server.GRACEFUL_SECONDS); together below the local run's 15 s.
DRAIN_LIMIT: Final = timedelta(seconds=8)


def create_app(settings: Settings) -> FastAPI:
    """The application; it opens its database pool and clients when it starts and drains them when it stops."""
    app = FastAPI(
        title="payments",
        version=__version__,
        summary="Takes money through Toss Payments for a shop, once.",
        lifespan=_lifespan(settings),
        redirect_slashes=False,  # a redirect would name the host that the caller claims, and repeat the address
        openapi_url="/openapi.json" if settings.environment is Environment.LOCAL else None,
        generate_unique_id_function=lambda route: route.name,  # what links name, and generated clients
    )
    problems.install(app)
    app.include_router(payments.router)
    app.include_router(events.router)
    app.include_router(webhooks.router)
    app.include_router(health.router)
    access.check_every_route(app)
    app.state.limits = limits = Limits.of(settings)
    app.state.known_keys = access.KnownKeys()
    # The last one added is the outermost: without CORS headers no page could read the front door's problems.
    app.add_middleware(FrontDoor)
    app.add_middleware(RateLimits, limits=limits)
    app.add_middleware(RequestLog)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "x-request-id"],
        expose_headers=["retry-after", "x-request-id"],
        max_age=600,
    )
    return app


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(settings, role=API) as resources:
            app.state.resources = resources
            _log_start(settings)
            if settings.environment is Environment.PRODUCTION:
                resources.background.start(warn_of_power(resources.sessions))
            yield
            left = await resources.background.drain(DRAIN_LIMIT)
            log.info("api.stopped", confirms_left_to_recovery=left)

    return lifespan


def _log_start(settings: Settings) -> None:
    log.info("api.started", environment=settings.environment.value, toss=settings.toss_api_url)
    if settings.jwt_jwks_url is None:
        log.info("api.buyers_not_known", hint="set JWT_JWKS_URL, and a payment belongs to whoever prepared it")
    if settings.orders_url is None:
        log.warning("api.amounts_not_checked", hint="set ORDERS_URL, or the amount is what the browser says")
