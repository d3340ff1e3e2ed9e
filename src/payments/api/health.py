"""What load balancers, orchestrators and monitoring ask."""

from typing import Final

import structlog
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import DBAPIError

from payments.api.deps import FromResources
from payments.db import transaction
from payments.errors import DatabaseUnavailable
from payments.schema import expected_revision, is_read_only, present_revision

log = structlog.get_logger()

router = APIRouter(tags=["operations"])

NOT_READY: Final = 503


@router.get("/health/live", summary="Is the process alive?")
async def live() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/health/ready",
    summary="Can it take payments?",
    responses={NOT_READY: {"description": "Not now; `checks` says why"}},
)
async def ready(resources: FromResources, response: Response) -> dict[str, object]:
    """Red while the database is away or read-only, or its schema is not the one this program was built for."""
    checks = {"database": "ok", "schema": "ok"}
    try:
        async with transaction(resources.sessions) as session:
            if await present_revision(session) != expected_revision():
                checks["schema"] = "not at head: run `payments migrate`"
            if await is_read_only(session):
                checks["database"] = "read-only"
    except (DatabaseUnavailable, DBAPIError):
        checks = {"database": "away", "schema": "unknown"}
    is_ready = checks == {"database": "ok", "schema": "ok"}
    response.status_code = 200 if is_ready else NOT_READY
    return {"status": "ok" if is_ready else "not ready", "checks": checks}


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
