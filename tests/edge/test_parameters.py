"""Query parameters that a route does not know, or knows once."""

import re
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest
from fastapi import FastAPI

from payments.api.app import create_app
from payments.settings import read_settings
from tests.edge.conftest import LOCAL
from tests.integration.world import SHOP, settings_for
from tests.keys import AUTHORIZATION

PLACE: Final = f"1.1.{'a' * 32}"
ID: Final = "order-000001"
JSON: Final = {"content-type": "application/json"}


@pytest.fixture
def app() -> FastAPI:
    return create_app(read_settings(LOCAL))


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Asks an API whose database nobody is to reach."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://api", headers={"origin": SHOP}
        ) as http,
    ):
        yield http


@pytest.fixture
async def client(database: str) -> AsyncIterator[httpx.AsyncClient]:
    """Asks with a key that may read, of an API that can look it up."""
    app = create_app(settings_for(database, "http://127.0.0.1:1"))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api", headers=AUTHORIZATION) as http,
    ):
        yield http


def routes(app: FastAPI) -> list[tuple[str, str]]:
    return [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]


class TestParameters:
    async def test_that_nobody_knows_are_refused_by_every_route(self, app: FastAPI, api: httpx.AsyncClient) -> None:
        taken = []
        for method, path in routes(app):
            address = re.sub(r"{\w+}", ID, path)
            content = b"{}" if method == "POST" else None

            answer = await api.request(method, f"{address}?kanarienvogel=1", content=content, headers=JSON)

            assert "kanarienvogel" not in answer.text
            if (answer.status_code, answer.json()["code"]) != (400, "malformed_request"):
                taken.append((method, path, answer.status_code))
        assert len(routes(app)) > 5
        assert taken == []

    @pytest.mark.parametrize(
        "query", ["limit=1&limit=2", "limit=1&limit=1", f"after={PLACE}&limit=1&after={PLACE}", "limit=1&%6cimit=2"]
    )
    async def test_that_are_said_twice_are_refused(self, api: httpx.AsyncClient, query: str) -> None:
        answer = await api.get(f"/events?{query}")

        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
        assert answer.json()["detail"] == "There is a query parameter more than once."

    @pytest.mark.parametrize("query", ["Limit=1", "limit[]=1", "limit%00=1", "=1", "limit"])
    async def test_of_nearly_a_known_name_are_refused(self, client: httpx.AsyncClient, query: str) -> None:
        assert (await client.get(f"/events?{query}")).status_code in {400, 422}

    async def test_that_are_known_are_read(self, client: httpx.AsyncClient) -> None:
        answer = await client.get(f"/events?limit=0&after={PLACE}")

        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == ["limit"]

    async def test_are_refused_in_words_that_the_shops_page_can_read(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/events?a=1")

        assert answer.headers["access-control-allow-origin"] == SHOP


class TestBodies:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE"])
    @pytest.mark.parametrize("headers", [{"content-length": "2"}, {"transfer-encoding": "chunked"}])
    async def test_of_methods_that_have_none_are_refused(
        self, api: httpx.AsyncClient, method: str, headers: dict[str, str]
    ) -> None:
        request = api.build_request(method, f"/payments/orders/{ID}", content=b"{}")
        request.headers.pop("content-length")
        request.headers.update(headers)

        answer = await api.send(request)

        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"

    async def test_of_no_length_are_none(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/health/live", headers={"content-length": "0"})

        assert answer.status_code == 200
