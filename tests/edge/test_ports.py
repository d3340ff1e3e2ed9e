"""Which port shows what, and what browsers are told beside it."""

import re
import time
from pathlib import Path
from typing import Final

import httpx
import pytest
from playwright.async_api import Page, Route

from payments.api.app import create_app
from payments.settings import Settings, read_settings
from tests.edge.conftest import LOCAL, PRODUCTION, Running
from tests.edge.wire import GET, HOST, Answer, ask, refused
from tests.local.processes import eventually
from tests.programs import free_port, program

OPS: Final = ("/health/live", "/health/ready", "/metrics")
DOCS: Final = ("/docs", "/openapi.json", "/redoc", "/docs/oauth2-redirect")
VIEWER: Final = """
window.SwaggerUIBundle = options => { window.opened = options.url; };
SwaggerUIBundle.presets = {};
SwaggerUIBundle.SwaggerUIStandalonePreset = {};
"""
OURS: Final = ("/payments/orders/order-000001", "/events", "/nowhere")


def get(port: int, path: str, headers: bytes = b"") -> Answer:
    return ask(port, f"GET {path} HTTP/1.1\r\n".encode() + HOST + headers + b"\r\n")


async def shown(settings: Settings, path: str, *, port: int, ops_port: int | None) -> int:
    """What the application answers where the socket that listens has this port."""
    transport = httpx.ASGITransport(app=create_app(settings, ops_port=ops_port))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://api:{port}") as http:
        return (await http.get(path)).status_code


class TestInProduction:
    @pytest.mark.parametrize("path", [*OPS, *DOCS, "/%6detrics", "/metrics/", "/health", "/health/"])
    def test_what_is_for_inside_is_not_public(self, production: Running, path: str) -> None:
        answer = get(production.port, path)

        assert (answer.status, answer.json["code"]) == (404, "no_such_route")

    @pytest.mark.parametrize(
        "claim",
        ["X-Forwarded-Port: {}", "X-Forwarded-Host: 127.0.0.1:{}", "X-Original-URL: http://127.0.0.1:{}/metrics"],
    )
    def test_no_header_opens_it(self, production: Running, claim: str) -> None:
        headers = claim.format(production.ops_port).encode() + b"\r\n"

        assert get(production.port, "/metrics", headers).status == 404

    def test_nor_does_the_name_of_another_port(self, production: Running) -> None:
        host = f"Host: 127.0.0.1:{production.ops_port}\r\n\r\n".encode()

        assert ask(production.port, GET + host).status == 404

    def test_probes_and_monitoring_have_a_port(self, production: Running) -> None:
        assert get(production.ops_port, "/health/live").status == 200
        assert get(production.ops_port, "/health/ready").json["checks"]["database"] == "away"
        assert b"edge_refusals_total" in get(production.ops_port, "/metrics").body

    @pytest.mark.parametrize("path", [*OURS, *DOCS, "/webhook/toss"])
    def test_which_shows_nothing_else(self, production: Running, path: str) -> None:
        answer = get(production.ops_port, path)

        assert (answer.status, answer.json["code"]) == (404, "no_such_route")

    def test_without_such_a_port_it_says_that_it_cannot_be_watched(self, tmp_path: Path) -> None:
        log, port = tmp_path / "log", str(free_port())
        with program("payments", "api", "--port", port, environment=PRODUCTION, log=log):
            eventually(lambda: b"api.not_observable" in log.read_bytes())

    @pytest.mark.parametrize("path", OPS)
    async def test_nor_is_it_public_then(self, path: str) -> None:
        assert await shown(read_settings(PRODUCTION), path, port=8000, ops_port=None) == 404


class TestLocally:
    @pytest.mark.parametrize("path", ["/health/live", "/metrics", "/docs", "/openapi.json"])
    def test_everything_is_on_one_port(self, port: int, path: str) -> None:
        assert get(port, path).status == 200

    @pytest.mark.parametrize(("port", "status"), [(8000, 404), (8001, 200)])
    async def test_a_port_for_probes_is_the_only_one_that_answers_them(self, port: int, status: int) -> None:
        assert await shown(read_settings(LOCAL), "/health/live", port=port, ops_port=8001) == status

    @pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
    async def test_and_shows_no_documentation(self, path: str) -> None:
        assert await shown(read_settings(LOCAL), path, port=8000, ops_port=8001) == 200
        assert await shown(read_settings(LOCAL), path, port=8001, ops_port=8001) == 404


class TestSecurityHeaders:
    EXPECTED: Final = {
        "cache-control": "no-store",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    HSTS: Final = "strict-transport-security"

    @pytest.mark.parametrize("path", ["/health/live", "/nowhere", "/events?a=1", "/%00"])
    def test_stand_on_every_answer(self, port: int, path: str) -> None:
        answer = get(port, path)

        assert {name: answer.values(name) for name in self.EXPECTED} == {
            name: [value] for name, value in self.EXPECTED.items()
        }
        assert answer.values(self.HSTS) == []

    def test_stand_on_what_the_edge_refuses(self, production: Running) -> None:
        answer = refused(production.port, b"\0")

        for name, value in self.EXPECTED.items():
            assert answer.values(name) == [value]
        assert answer.values(self.HSTS) == ["max-age=31536000; includeSubDomains"]

    def test_tell_browsers_to_keep_to_tls_in_production(self, production: Running) -> None:
        assert get(production.port, "/nowhere").values(self.HSTS) == ["max-age=31536000; includeSubDomains"]

    @pytest.mark.parametrize("path", ["/nowhere", "/health/live"])
    def test_say_nothing_of_what_runs_here(self, production: Running, path: str) -> None:
        answer = get(production.port, path)

        told = f"{answer.headers} {answer.body.decode()}".lower()
        assert [
            word for word in ("server'", "uvicorn", "python", "starlette", "fastapi", "powered") if word in told
        ] == []


class TestDocumentation:
    @pytest.mark.browser
    async def test_works_under_its_own_policy(self, port: int, browser_page: Page) -> None:
        """Its viewer comes from elsewhere, which is played here, and is started by a script in the page."""
        complaints: list[str] = []
        browser_page.on("console", lambda message: complaints.append(message.text))

        async def viewer(route: Route) -> None:
            await route.fulfill(body=VIEWER, content_type="text/javascript")

        await browser_page.route(re.compile(r"//cdn\.jsdelivr\.net/.*\.js"), viewer)
        await browser_page.goto(f"http://127.0.0.1:{port}/docs")
        fetched = await browser_page.evaluate("fetch(window.opened).then(answer => answer.status)")

        assert await browser_page.evaluate("window.opened") == "/openapi.json"
        assert fetched == 200
        assert [text for text in complaints if "Security Policy" in text] == []


class TestRefusals:
    def test_are_counted_and_of_a_flood_the_log_has_a_line_a_second(self, production: Running) -> None:
        before, lines_before, began = self.counted(production), self.lines(production), time.monotonic()

        for _ in range(200):
            refused(production.port, GET + b"\r\n")

        assert self.counted(production) == before + 200
        eventually(lambda: self.told(production) >= before + 200)
        assert self.lines(production) - lines_before <= time.monotonic() - began + 2

    def counted(self, running: Running) -> int:
        found = re.search(
            r'edge_refusals_total\{code="malformed_request"\} ([0-9]+)', get(running.ops_port, "/metrics").body.decode()
        )
        return int(found[1]) if found else 0

    def lines(self, running: Running) -> int:
        return len(running.logged("edge.refused"))

    def told(self, running: Running) -> int:
        """How many the lines of the log speak of."""
        return sum(int(line.get("malformed_request", 0)) for line in running.logged("edge.refused"))
