"""Headers that keep a page to itself, its payment window and the payments API."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo_shop.settings import ShopSettings, origin_of

# The real SDK loads its window from sister hosts of the one that its script comes from.
_TOSS_DOMAIN: Final = ".tosspayments.com"


class SecurityHeaders:
    """Adds the headers to every response that does not bring its own."""

    def __init__(self, app: ASGIApp, *, settings: ShopSettings) -> None:
        self._app = app
        self._headers = {
            "Content-Security-Policy": content_security_policy(settings),
            "Cache-Control": "no-store",  # orders are nobody else's business
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "Referrer-Policy": "strict-origin-when-cross-origin",  # the success page's URL holds a payment key
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def content_security_policy(settings: ShopSettings) -> str:
    sdk = _sdk_sources(settings.toss_sdk_url)
    payments = origin_of(settings.payments_public_url)
    directives = {
        "default-src": ["'none'"],
        "script-src": ["'self'", *sdk],
        "style-src": ["'self'"],
        "img-src": ["'self'", *sdk],
        "connect-src": ["'self'", payments, *sdk],
        "frame-src": sdk,
        "form-action": ["'self'", *sdk],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(_unique(sources))}" for name, sources in directives.items())


def _sdk_sources(sdk_url: str) -> list[str]:
    host = urlsplit(sdk_url).hostname or ""
    return [f"https://*{_TOSS_DOMAIN}"] if host.endswith(_TOSS_DOMAIN) else [origin_of(sdk_url)]


def _unique(sources: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(sources))
