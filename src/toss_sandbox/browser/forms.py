"""The forms of the dashboard: what was filled in, and the redirect that answers it."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from toss_sandbox.errors import TossError


async def _read_fields(request: Request) -> dict[str, str]:
    """The form's fields; an empty one counts as left out."""
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str) and value}


Fields = Annotated[dict[str, str], Depends(_read_fields)]


def attempt(act: Callable[[], object], *, place: str = "") -> RedirectResponse:
    """Act, and lead back to the page, at the place where it happened or with what went wrong."""
    problem = ""
    try:
        act()
    except TossError as error:
        problem = f"{error.message} ({error.code})"
    except ValidationError as error:
        problem = ", ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    except ValueError as error:
        problem = str(error)
    query = f"?{urlencode({'problem': problem})}" if problem else ""
    return RedirectResponse(f"/{query}{'#' if place else ''}{place}", HTTPStatus.SEE_OTHER)
