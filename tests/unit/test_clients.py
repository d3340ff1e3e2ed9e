"""How the source speaks to others, and what it lets libraries say: read from the source."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = sorted(file for folder in ("src", "deploy", "migrations") for file in (ROOT / folder).rglob("*.py"))
CLIENTS: Final = {"httpx.Client", "httpx.AsyncClient", "aiohttp.ClientSession"}
# These take proxies and certificates from the environment, and follow where they are led, unless told otherwise.
HELPERS: Final = {f"httpx.{verb}" for verb in ("get", "post", "put", "patch", "delete", "head", "request", "stream")}
LIBRARIES: Final = {"requests", "urllib.request", "aiohttp", "urllib3"}
# The one place where another library than httpx makes connections, and what it is told there.
ON_ITS_OWN: Final = {"pooled_transport.py: aiohttp"}

Rule = Callable[[ast.AST], Iterator[str]]


def unverified(node: ast.AST) -> Iterator[str]:
    """A certificate that nobody looks at is none."""
    is_off = isinstance(node, ast.keyword) and ast.unparse(node.value) in {"False", "None", "0"}
    if isinstance(node, ast.keyword) and is_off and node.arg in {"verify", "ssl", "verify_ssl"}:
        yield f"{node.arg}=False"
    if isinstance(node, ast.Attribute | ast.Name | ast.alias):
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else node.name
        if name in {"CERT_NONE", "CERT_OPTIONAL", "_create_unverified_context", "disable_warnings"}:
            yield name
    if isinstance(node, ast.Assign) and any(ast.unparse(target).endswith("check_hostname") for target in node.targets):
        yield "check_hostname"


def led_by_others(node: ast.AST) -> Iterator[str]:
    """Neither the environment nor an answer says who is spoken to."""
    if not isinstance(node, ast.Call):
        return
    name, given = ast.unparse(node.func), {one.arg: ast.unparse(one.value) for one in node.keywords}
    if name in HELPERS:
        yield name
    if name in CLIENTS and given.get("trust_env") != "False":
        yield f"{name} without trust_env=False"
    if any(given.get(word, "False") != "False" for word in ("follow_redirects", "allow_redirects")):
        yield f"{name} follows redirects"


def unknown_client(node: ast.AST) -> Iterator[str]:
    """All of them are made by the one library whose defaults are known."""
    if isinstance(node, ast.Import):
        yield from (one.name for one in node.names if one.name in LIBRARIES)
    if isinstance(node, ast.ImportFrom) and node.module in LIBRARIES:
        yield str(node.module)


def talkative(node: ast.AST) -> Iterator[str]:
    """No setting makes a library write what it sends: statements, parameters, headers."""
    if isinstance(node, ast.keyword) and node.arg in {"echo", "echo_pool"}:
        yield f"{node.arg}="
    if isinstance(node, ast.Attribute) and node.attr in {"DEBUG", "NOTSET"}:
        yield node.attr
    if isinstance(node, ast.Constant) and node.value in {"DEBUG", "NOTSET"}:
        yield str(node.value)
    if isinstance(node, ast.keyword) and node.arg in {"show_locals", "capture_locals"}:
        yield f"{node.arg}="


RULES: Final[tuple[Rule, ...]] = (unverified, led_by_others, unknown_client, talkative)
# For each rule, code that it must find.
BROKEN: Final[list[tuple[Rule, str]]] = [
    (unverified, "httpx.AsyncClient(verify=False)"),
    (unverified, "aiohttp.TCPConnector(ssl=False)"),
    (unverified, "context.verify_mode = ssl.CERT_NONE"),
    (unverified, "from ssl import CERT_NONE"),
    (unverified, "context.check_hostname = False"),
    (unverified, "ssl._create_unverified_context()"),
    (led_by_others, "httpx.AsyncClient(timeout=5)"),
    (led_by_others, "httpx.Client(trust_env=True)"),
    (led_by_others, "aiohttp.ClientSession()"),
    (led_by_others, "session.request('GET', url, allow_redirects=True)"),
    (led_by_others, "httpx.get(url)"),
    (led_by_others, "http.get(url, follow_redirects=True)"),
    (unknown_client, "import requests"),
    (unknown_client, "import aiohttp"),
    (unknown_client, "from urllib.request import urlopen"),
    (talkative, "create_engine(url, echo=True)"),
    (talkative, "logging.getLogger().setLevel(logging.DEBUG)"),
    (talkative, "logging.getLogger().setLevel('DEBUG')"),
    (talkative, "RichTracebackFormatter(show_locals=True)"),
]


def found(rule: Rule, source: str) -> list[str]:
    return [broken for node in ast.walk(ast.parse(source)) for broken in rule(node)]


class TestEverySource:
    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
    def test_keeps(self, rule: Rule) -> None:
        told = [f"{file.name}: {broken}" for file in SOURCES for broken in found(rule, file.read_text("utf-8"))]

        assert [one for one in told if one not in ON_ITS_OWN] == []

    def test_that_stands_on_its_own_is_there(self) -> None:
        told = {
            f"{file.name}: {broken}" for file in SOURCES for broken in found(unknown_client, file.read_text("utf-8"))
        }

        assert told == ON_ITS_OWN


class TestEveryRule:
    @pytest.mark.parametrize(("rule", "source"), BROKEN)
    def test_finds_what_breaks_it(self, rule: Rule, source: str) -> None:
        assert len(found(rule, source)) == 1

    def test_is_shown_to_fail(self) -> None:
        assert {rule for rule, _ in BROKEN} == {*RULES}
