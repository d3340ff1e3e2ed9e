"""The routes of the browser side: the SDK, the payment window and the dashboard."""

from http import HTTPStatus
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response

from toss_sandbox.browser.dashboard import create_dashboard_router
from toss_sandbox.browser.window import CORS, create_buyer_router, create_opening_router
from toss_sandbox.engine import Sandbox

_STATIC: Final = Path(__file__).parent / "static"
_MEDIA_TYPES: Final = {".js": "text/javascript", ".css": "text/css"}


def create_pages_router(sandbox: Sandbox) -> APIRouter:
    """Everything a browser asks for."""
    router = APIRouter(include_in_schema=False)
    router.include_router(_create_assets_router())
    router.include_router(create_opening_router(sandbox))
    router.include_router(create_buyer_router(sandbox))
    router.include_router(create_dashboard_router(sandbox))
    return router


def _create_assets_router() -> APIRouter:
    router = APIRouter()
    assets = {path.name: path.read_bytes() for path in _STATIC.iterdir()}

    @router.get("/v2/standard")
    async def load_sdk() -> Response:
        headers = CORS | {"Cross-Origin-Resource-Policy": "cross-origin", "Cache-Control": "no-cache"}
        # Without its charset a script is read in that of the page, and the Korean messages with it.
        return Response(assets["sdk.js"], media_type="application/javascript; charset=utf-8", headers=headers)

    @router.get("/sandbox/assets/{name}")
    async def load_asset(name: str) -> Response:
        if name not in assets:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        media_type = _MEDIA_TYPES[Path(name).suffix]
        return Response(assets[name], media_type=media_type, headers={"Cache-Control": "no-cache"})

    return router
