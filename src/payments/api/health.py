"""What load balancers, orchestrators and monitoring ask."""

from datetime import timedelta
from typing import Final

import structlog
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import DBAPIError

from payments.api.deps import FromResources
from payments.db import DatabaseRefused, transaction
from payments.errors import DatabaseUnavailable
from payments.figures import publish, read_figures
from payments.queries import overdue_jobs
from payments.schema import HEAD, is_read_only, present_revision

log = structlog.get_logger()

router = APIRouter(tags=["operations"])

NOT_READY: Final = 503
MUTE_AFTER: Final = timedelta(seconds=8)  # less than a write that hangs takes until it is given up


@router.get("/health/live", summary="Is the process alive?")
async def live() -> dict[str, str]:
    return {"status": "ok"}


@router.get(
    "/health/ready",
    summary="Can it take payments, and does somebody look after them?",
    responses={NOT_READY: {"description": "Not now; `checks` says why"}},
)
async def ready(resources: FromResources, response: Response) -> dict[str, object]:
    """Red while the database is away or takes nothing, its schema is not ours, or a job of the workers is overdue."""
    checks = {"database": "ok", "schema": "ok", "jobs": "ok"}
    try:
        async with transaction(resources.sessions) as session:
            if await present_revision(session) != HEAD:
                checks |= {"schema": "not at head: run `payments migrate`", "jobs": "unknown"}
            elif overdue := await overdue_jobs(session, patience=resources.age):
                checks["jobs"] = f"overdue: {', '.join(overdue)}; is `payments worker` running?"
            if await is_read_only(session):
                checks["database"] = "read-only"
            elif resources.presence.silence > MUTE_AFTER:  # it reads, and waits for its standby with every write
                checks["database"] = "takes no writes"
    except (DatabaseUnavailable, DatabaseRefused, DBAPIError):
        checks = {"database": "away", "schema": "unknown", "jobs": "unknown"}
    is_ready = set(checks.values()) == {"ok"}
    response.status_code = 200 if is_ready else NOT_READY
    return {"status": "ok" if is_ready else "not ready", "checks": checks}


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(resources: FromResources) -> Response:
    """Of this process, and what the database says about all of them; the latter is left out while it is away."""
    try:
        async with transaction(resources.sessions) as session:
            publish(await read_figures(session))
    except (DatabaseUnavailable, DatabaseRefused, DBAPIError):
        log.warning("metrics.database_away")
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
