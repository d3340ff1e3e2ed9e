"""What a request that cannot be served gets: a page for a person, a problem+json for a program."""

import logging
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from demo_shop.rendering import templates

log = logging.getLogger(__name__)

_WORDS: Final = {
    HTTPStatus.NOT_FOUND: "찾으시는 페이지나 주문이 없습니다.",
    HTTPStatus.SERVICE_UNAVAILABLE: "잠시 문제가 생겼습니다. 조금 뒤에 다시 시도해 주세요.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "잠시 문제가 생겼습니다. 조금 뒤에 다시 시도해 주세요.",
}
_OTHER_WORDS: Final = "요청이 올바르지 않습니다. 처음부터 다시 시도해 주세요."


class NotConfigured(Exception):
    """What was asked for is switched off here; the log of the start says how to switch it on."""


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    for database_is_away in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(database_is_away, _on_database_away)
    app.add_exception_handler(NotConfigured, _on_not_configured)
    app.add_exception_handler(Exception, _on_bug)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    return _answer(request, status)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    # An order number that cannot be one is an order that does not exist.
    is_about_the_path = any(problem["loc"][0] == "path" for problem in problems)
    return _answer(request, HTTPStatus.NOT_FOUND if is_about_the_path else HTTPStatus.UNPROCESSABLE_ENTITY)


async def _on_database_away(request: Request, error: Exception) -> Response:
    log.error("database is away: %s", type(error).__name__)
    return _answer(request, HTTPStatus.SERVICE_UNAVAILABLE)


async def _on_not_configured(request: Request, _: Exception) -> Response:
    return _answer(request, HTTPStatus.SERVICE_UNAVAILABLE, code="not_configured")


async def _on_bug(request: Request, _: Exception) -> Response:
    return _answer(request, HTTPStatus.INTERNAL_SERVER_ERROR)  # Starlette hands the error on to the server's log


def _answer(request: Request, status: HTTPStatus, *, code: str | None = None) -> Response:
    is_page = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
    if is_page:
        words = _WORDS.get(status, _OTHER_WORDS)
        return templates.TemplateResponse(request, "problem.html", {"status": int(status), "words": words}, int(status))
    problem = {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "code": code or status.name.lower(),
        "instance": request.url.path,
    }
    return JSONResponse(problem, status_code=int(status), media_type="application/problem+json")
