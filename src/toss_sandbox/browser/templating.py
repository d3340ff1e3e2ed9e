"""Rendering: one template environment, and the headers that every page of the sandbox carries."""

from typing import Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from toss_sandbox.browser.choices import bank_name

# No form-action: a form of the payment window is answered by a redirect to the shop, which that directive would stop.
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


def _moment(at: str) -> str:
    """A time of the sandbox, which is Korean already, without its offset."""
    return at[:19].replace("T", " ")


_templates: Final = Environment(
    loader=PackageLoader("toss_sandbox.browser"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters["won"] = "{:,}원".format
_templates.filters["bank"] = bank_name
_templates.filters["moment"] = _moment


def page(template: str, status: int = 200, **context: object) -> HTMLResponse:
    """Render a template of this package."""
    return HTMLResponse(_templates.get_template(template).render(context), status, headers=_HEADERS)
