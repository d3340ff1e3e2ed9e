"""What every answer tells browsers, so that nothing of ours is kept, framed, guessed at or run."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = tuple[tuple[bytes, bytes], ...]

NOTHING_RUNS: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# The page of the API's documentation, in the local environment only: FastAPI loads its viewer from this network.
DOCS_PATH: Final = "/docs"
DOCS_RUN: Final = (
    "default-src 'none'; script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net; img-src data: https://fastapi.tiangolo.com; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

ALWAYS: Final[dict[str, str]] = {
    "cache-control": "no-store",
    "content-security-policy": NOTHING_RUNS,
    # For reading without CORS, as <img> does; pages of allowed origins ask with CORS, which this does not concern.
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
OVER_TLS: Final = {"strict-transport-security": "max-age=31536000; includeSubDomains"}


def security_headers(*, in_production: bool) -> dict[str, str]:
    return {**ALWAYS, **(OVER_TLS if in_production else {})}


def as_raw(headers: dict[str, str]) -> Headers:
    """As they stand on the wire."""
    return tuple((name.encode(), value.encode()) for name, value in headers.items())


class SecurityHeaders:
    """Adds them to every answer, except where a route has said otherwise."""

    def __init__(self, app: ASGIApp, *, headers: dict[str, str], has_docs: bool) -> None:
        self._app = app
        self._headers = as_raw(headers)
        self._of_docs = as_raw({**headers, "content-security-policy": DOCS_RUN}) if has_docs else self._headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = self._of_docs if scope["path"] == DOCS_PATH else self._headers

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", [])
                names = {name for name, _ in given}
                message["headers"] = [*given, *(header for header in headers if header[0] not in names)]
            await send(message)

        await self._app(scope, receive, send_with_headers)
