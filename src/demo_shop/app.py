"""The shop as a web application."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import OperationalError

from demo_shop import back_office, event_api, order_api, pages, problems
from demo_shop.orders import create_tables, open_engine, open_sessions
from demo_shop.payments_client import open_client
from demo_shop.security import SecurityHeaders
from demo_shop.settings import ShopSettings
from demo_shop.shop import Shop

log = logging.getLogger(__name__)

_STATIC = Path(__file__).parent / "static"


def create_shop(settings: ShopSettings) -> FastAPI:
    """A shop that creates its tables when it starts, and waits for nothing but its database."""
    engine = open_engine(settings.database_url)
    payments = open_client(settings.payments_url, api_key=settings.payments_api_key)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not settings.hears_events:
            log.warning("SHOP_EVENTS_SECRETS is not set: POST /api/events is off, orders move only when looked at")
        try:
            await create_tables(engine)
            yield
        except OperationalError as error:
            # A page of driver internals would hide the one line that helps.
            raise ConnectionError(f"The order database cannot be used: {str(error.orig).splitlines()[0]}") from None
        finally:
            await payments.aclose()
            await engine.dispose()

    app = FastAPI(
        title="demo_shop order API", lifespan=lifespan, openapi_url="/api/openapi.json", docs_url=None, redoc_url=None
    )
    app.state.shop = Shop(settings=settings, sessions=open_sessions(engine), payments=payments)
    app.add_middleware(SecurityHeaders, settings=settings)
    problems.add_handlers(app)
    app.include_router(order_api.router)
    app.include_router(event_api.router)
    app.include_router(pages.router)
    app.include_router(back_office.router)
    app.add_api_route("/health/live", _live, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=_STATIC))
    return app


async def _live() -> dict[str, str]:
    return {"status": "ok"}
