"""Where our requests go is decided by settings alone, and what secrets are compared with: read from the source."""

import ast
import re
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.unit.test_architecture import Function, Module, modules

Rule = Callable[[Module], Iterator[str]]

VERBS: Final = {"get", "post", "put", "patch", "delete", "head", "options", "request", "stream", "build_request"}
CLIENTS: Final = {"httpx.AsyncClient", "httpx.Client"}
# How a URL may be written where a request is made: the one that the client was built with, or a path under it.
GIVEN: Final = {"self._url", "call.path", "asked.path"}
# What may stand in a path, because the function that puts it there checks it or is given what was checked.
CHECKED: Final = {"payment_key", "order_id", "asked.payment_key"}
CHECKS: Final = re.compile(r"\b_checked\(|\.fullmatch\(|\basked: Asked\b")
SETTINGS: Final = re.compile(r"settings\.[a-z_]+(\.get_secret_value\(\))?( or '')?|url for url|urls")


def careless_clients(module: Module) -> Iterator[str]:
    """A redirect or a proxy of the environment would take a request to where nobody configured it to go."""
    for call in calls(module):
        if ast.unparse(call.func) in CLIENTS:
            told = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            if told.get("follow_redirects") != "False" or told.get("trust_env") != "False" or "verify" in told:
                yield f"line {call.lineno}: {ast.unparse(call.func)}"
        elif ast.unparse(call.func) in {f"httpx.{verb}" for verb in VERBS}:
            yield f"line {call.lineno}: {ast.unparse(call.func)}"


def addresses_from_elsewhere(module: Module) -> Iterator[str]:
    """A URL out of an answer, an event or an order never reaches a client."""
    for call in calls(module):
        *owner, verb = ast.unparse(call.func).split(".")
        if owner and owner[-1].lstrip("_") == "http" and verb in VERBS:
            place = 0 if verb not in {"request", "stream", "build_request"} else 1
            address = ast.unparse(call.args[place]) if len(call.args) > place else "?"
            if address not in GIVEN:
                yield f"line {call.lineno}: {address}"


def unchecked_paths(module: Module) -> Iterator[str]:
    """What comes from outside enters a path only after its alphabet was checked."""
    for function in (node for node in ast.walk(module.tree) if isinstance(node, Function)):
        is_checked = CHECKS.search(ast.unparse(function)) is not None
        for text in (node for node in ast.walk(function) if isinstance(node, ast.JoinedStr)):
            if not ast.unparse(text).strip("f'\"").startswith("/"):
                continue
            names = {ast.unparse(part.value) for part in text.values if isinstance(part, ast.FormattedValue)}
            if names - CHECKED or not is_checked:
                yield f"line {text.lineno}: {ast.unparse(text)}"


def addresses_not_from_settings(module: Module) -> Iterator[str]:
    """Where the clients are built."""
    for call in calls(module):
        if ast.unparse(call.func) in {"TossClient", "OrdersClient", "SubscriberClient", "AppriseAlerts"}:
            named = [keyword.value for keyword in call.keywords if keyword.arg == "base_url"]
            address = ast.unparse([*named, *call.args][0])
            if SETTINGS.fullmatch(address) is None:
                yield f"line {call.lineno}: {address}"


def open_comparisons(module: Module) -> Iterator[str]:
    """Digests and secrets are compared in constant time, by one function, which makes sure of their length."""
    for function in (node for node in ast.walk(module.tree) if isinstance(node, Function)):
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "hmac.compare_digest":
                if "len(a) == len(b)" not in ast.unparse(function):
                    yield f"line {node.lineno}: {function.name}"
            elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq | ast.In):
                told = ast.unparse(node)
                if told not in NOT_SECRET:
                    yield f"line {node.lineno}: {told}"


# Lengths, a version, and a header that is compared with itself, written anew.
NOT_SECRET: Final = {
    "len(a) == len(b) == _DIGEST_BYTES",
    "version == 'v1'",
    "base64.b64encode(value) == _bytes(text)",
}


def calls(module: Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))


def product() -> list[Module]:
    """Without the local run, whose programs talk to each other on loopback."""
    return [module for module in modules("payments") if not module.name.startswith("payments.local")]


def gateways() -> list[Module]:
    return [module for module in product() if module.name.startswith("payments.gateways")]


def only(name: str) -> Callable[[], list[Module]]:
    return lambda: [module for module in product() if module.name == name]


RULES: Final[dict[Rule, Callable[[], list[Module]]]] = {
    careless_clients: product,
    addresses_from_elsewhere: product,
    unchecked_paths: gateways,
    addresses_not_from_settings: only("payments.resources"),
    open_comparisons: only("payments.signing"),
}
BROKEN: Final[list[tuple[Rule, str]]] = [
    (careless_clients, "httpx.AsyncClient(trust_env=False)"),
    (careless_clients, "httpx.AsyncClient(follow_redirects=True, trust_env=False)"),
    (careless_clients, "httpx.AsyncClient(follow_redirects=False)"),
    (careless_clients, "httpx.AsyncClient(follow_redirects=False, trust_env=False, verify=False)"),
    (careless_clients, "httpx.get(payment.receipt_url)"),
    (addresses_from_elsewhere, "self._http.get(payment.receipt_url)"),
    (addresses_from_elsewhere, "self._http.stream('GET', page.next_url)"),
    (addresses_from_elsewhere, "self._http.build_request('POST', url=event.url)"),
    (unchecked_paths, "def f(payment_key):\n    return f'/v1/payments/{payment_key}'"),
    (unchecked_paths, "def f(name):\n    _checked(name)\n    return f'/v1/payments/{name}'"),
    (addresses_not_from_settings, "TossClient(base_url=answer.url)"),
    (addresses_not_from_settings, "OrdersClient('http://elsewhere.example')"),
    (open_comparisons, "def f(a, b):\n    return a == b"),
    (open_comparisons, "def f(a, b):\n    return a in [b]"),
    (open_comparisons, "def f(a, b):\n    return hmac.compare_digest(a, b)"),
]


class TestTheSource:
    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
    def test_keeps(self, rule: Rule) -> None:
        read = RULES[rule]()

        assert read
        assert [f"{module.name}: {broken}" for module in read for broken in rule(module)] == []


class TestEveryRule:
    @pytest.mark.parametrize(("rule", "source"), BROKEN)
    def test_finds_what_breaks_it(self, rule: Rule, source: str) -> None:
        assert len(list(rule(Module("payments.x", source)))) == 1

    def test_is_shown_to_fail(self) -> None:
        assert {rule for rule, _ in BROKEN} == set(RULES)
