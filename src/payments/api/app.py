"""The API as an ASGI application."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Final

import structlog
from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from payments import __version__
from payments.api import access, events, health, payments, problems, webhooks
from payments.api.express import Express
from payments.api.front_door import FrontDoor, RequestLog
from payments.api.parameters import refuse_stray_parameters
from payments.api.ports import Ports
from payments.api.proxies import TrustedProxies
from payments.api.rate_limits import KnownCredentials, Limits, RateLimits
from payments.api.security_headers import SecurityHeaders, security_headers
from payments.resources import API, open_resources
from payments.roles import warn_of_power
from payments.settings import Environment, Settings

log = structlog.get_logger()

# After uvicorn has waited for the requests themselves (server.GRACEFUL_SECONDS); with it, and with what closing takes,
# below the 10 s after which an orchestrator kills.
DRAIN_LIMIT: Final = timedelta(seconds=3)


def create_app(settings: Settings, *, ops_port: int | None = None) -> FastAPI:
    """The application; it opens its database pool and clients when it starts and drains them when it stops.

    With an `ops_port`, what is for probes and monitoring is shown there alone; in production it is never public.
    """
    is_local = settings.environment is Environment.LOCAL
    app = FastAPI(
        title="payments",
        version=__version__,
        summary="Takes money through Toss Payments for a shop, once.",
        lifespan=_lifespan(settings, ops_port=ops_port),
        dependencies=[Depends(refuse_stray_parameters)],
        redirect_slashes=False,  # a redirect would name the host that the caller claims, and repeat the address
        generate_unique_id_function=lambda route: route.name,  # what links name, and generated clients
        openapi_url="/openapi.json" if is_local else None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    problems.install(app)
    app.include_router(payments.router)
    app.include_router(events.router)
    app.include_router(webhooks.router)
    app.include_router(health.router)
    access.check_every_route(app)
    app.state.limits = limits = Limits.of(settings)
    app.state.known = known = KnownCredentials()
    # The last one added is the outermost: without CORS headers no page could read the front door's problems.
    app.add_middleware(Express, routers=[payments.router, webhooks.router])
    app.add_middleware(FrontDoor)
    app.add_middleware(RateLimits, limits=limits, known=known)
    app.add_middleware(Ports, ops_port=ops_port, ops_in_public=is_local)
    app.add_middleware(RequestLog)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "x-request-id"],
        expose_headers=["retry-after", "x-request-id"],
        max_age=600,
    )
    headers = security_headers(in_production=not is_local)
    app.add_middleware(SecurityHeaders, headers=headers, has_docs=is_local)
    if settings.trusted_proxies:
        app.add_middleware(TrustedProxies, trusted=settings.trusted_proxies)
    return app


def _lifespan(settings: Settings, *, ops_port: int | None) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(settings, role=API) as resources:
            app.state.resources = resources
            _log_start(settings, ops_port=ops_port)
            if settings.environment is Environment.PRODUCTION:
                resources.background.start(warn_of_power(resources.sessions))
            yield
            left = await resources.background.drain(DRAIN_LIMIT)
            log.info("api.stopped", confirms_left_to_recovery=left)

    return lifespan


def _log_start(settings: Settings, *, ops_port: int | None) -> None:
    log.info("api.started", environment=settings.environment.value, toss=settings.toss_api_url)
    if settings.jwt_jwks_url is None:
        log.info("api.buyers_not_known", hint="set JWT_JWKS_URL, and a payment belongs to whoever prepared it")
    if settings.orders_url is None:
        log.warning("api.amounts_not_checked", hint="set ORDERS_URL, or the amount is what the browser says")
    if ops_port is None and settings.environment is Environment.PRODUCTION:
        log.warning("api.not_observable", hint="with --ops-port, /health and /metrics are there, and only there")
