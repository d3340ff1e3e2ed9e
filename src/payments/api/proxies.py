"""Who asks, where proxies stand between: `scope["client"]` is an address that the caller cannot choose."""

from collections.abc import Sequence
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class TrustedProxies:
    """Believes X-Forwarded-For and X-Forwarded-Proto of these peers, and of nobody else.

    The client is the right-most address that is none of theirs: further left stands what the caller has made up.
    """

    def __init__(self, app: ASGIApp, *, trusted: Sequence[str]) -> None:
        self._app = app
        self._believe: ASGIApp = ProxyHeadersMiddleware(self._checked, trusted_hosts=list(trusted))  # type: ignore[arg-type,assignment] # uvicorn's types of ASGI are narrower

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["peer"] = scope.get("client")
        await self._believe(scope, receive, send)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["client"] != scope["peer"]:
            scope["client"] = _as_address(scope["client"]) or scope["peer"]
        await self._app(scope, receive, send)


def _as_address(client: tuple[str, int]) -> tuple[str, int] | None:
    """In its one spelling; None for what a proxy has written that is no address."""
    try:
        address = ip_address(client[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), client[1]
