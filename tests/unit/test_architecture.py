"""Who may import whom, which library stands where, what no transaction contains: read from the source."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pytest

SRC: Final = Path(__file__).parents[2] / "src"
PACKAGES: Final = ("payments", "toss_sandbox", "demo_shop")

# The core, in its order: each module may import only what stands before it.
CORE: Final = (
    *(
        "states",
        "privacy",
        "errors",
        "access",
        "ids",
        "card_numbers",
        "redaction",
        "leases",
        "background",
        "sockets",
        "db",
        "reserve",
        "models",
        "records",
        "queries",
        "snapshots",
        "explanations",
    ),
    *(
        "outbox",
        "discrepancies",
        "presence",
        "business_day",
        "nightly_queries",
        "inbox",
        "alerts",
        "signing",
        "figures",
        "due",
        "erasure",
        "roles",
        "hot_path",
    ),
)
USABLE_BY_EDGES: Final = {*CORE, "usecases", "resources", "settings", "observability", "schema"}
# What stands around the core: who may import which modules and folders of ours, besides its own folder.
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "gateways": {"card_numbers", "redaction", "sockets"},  # what others say is masked where it is read
    "given_secrets": set(),
    "settings": {"given_secrets"},
    "schema": {"db", "errors", "roles"},
    "observability": {"redaction", "settings"},
    "usecases": {*CORE, "gateways.pg", "gateways.orders", "gateways.subscribers"},
    "resources": {*("background", "db", "reserve", "hot_path", "leases", "presence", "alerts"), "settings", "gateways"},
    "api": {*USABLE_BY_EDGES, "gateways.pg", "gateways.toss_events", "gateways.identity"},
    "nightly": {*USABLE_BY_EDGES, "gateways.orders"},
    "jobs": {*USABLE_BY_EDGES, "nightly"},
    "reports": USABLE_BY_EDGES,
    "commands": {*USABLE_BY_EDGES, "nightly", "reports"},
    "arguments": {"observability", "redaction", "settings"},
    "cli_jobs": {"arguments", "business_day", "commands", "db", "errors", "records", "settings", "usecases"},
    "cli_keys": {"access", "arguments", "card_numbers", "cli_jobs", "commands", "settings"},
    "cli": {*USABLE_BY_EDGES, "api", "arguments", "cli_jobs", "cli_keys", "jobs", "local"},
    "local": {"access"},
    "__main__": {"cli"},
    "__init__": set(),
}
# Which library may be imported where; one that is not listed may be imported anywhere.
LIBRARIES: Final[dict[str, set[str]]] = {
    "fastapi": {"api"},
    "starlette": {"api"},
    "uvicorn": {"api"},
    "jinja2": set(),
    "sqlalchemy": {
        *(
            "db",
            "reserve",
            "models",
            "records",
            "queries",
            "outbox",
            "discrepancies",
            "schema",
            "inbox",
            "hot_path",
            "nightly_queries",
            "figures",
            "due",
            "erasure",
            "roles",
        ),
    },
    "apprise": {"alerts"},
    "standardwebhooks": {"gateways.subscribers"},
    "alembic": {"schema"},
    "jwt": {"gateways.jwks"},
    "cryptography": {"gateways.jwks"},
    "psycopg": {"db", "reserve", "local"},
    "httpx": {"gateways", "local"},
    "aiohttp": {"gateways.pooled_transport"},
    "yarl": {"gateways.pooled_transport"},
    "pydantic": {
        "api.schemas",
        "gateways.orders",
        "gateways.toss_events",
        "gateways.toss_lists",
        "gateways.toss_wire",
        "settings",
    },
    "pydantic_core": {"gateways.toss_wire"},
    "apscheduler": {"jobs"},
    "prometheus_client": {
        *("api.access", "api.edge", "api.health", "api.rate_limits", "api.webhooks"),
        *("figures", "gateways", "observability"),
    },
    "httptools": {"api"},
    "structlog": {
        *(
            "alerts",
            "api",
            "arguments",
            "background",
            "discrepancies",
            "gateways",
            "jobs",
            "observability",
            "presence",
            "roles",
            "usecases",
        ),
    },
}
# Single names of a library that stand where the rest of it may not.
SINGLE_NAMES: Final = {
    ("usecases", "sqlalchemy.ext.asyncio.AsyncSession"),  # a type in signatures
    ("resources", "sqlalchemy.ext.asyncio.AsyncEngine"),  # the same
    ("api.health", "sqlalchemy.exc.DBAPIError"),  # a database that is there and answers nonsense is not ready either
}
GATEWAYS: Final = {"pg", "orders", "subscriber", "alerts"}  # what a use case calls them
# What use cases do inside a transaction.
RECORDING: Final = {"answers", "refund_answers", "promises", "give_back.give_back_later"}
LONGEST_FUNCTION: Final = 50  # lines, docstring included

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file under the name by which the others import it."""

    name: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def place(self) -> str:
        """Its name inside the package."""
        return self.name.partition(".")[2] or "__init__"

    @cached_property
    def imported(self) -> set[str]:
        """Everything that is imported anywhere in it, functions included, down to the single name."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {f"{node.module or '.'}.{alias.name}" for alias in node.names}
        return found


def modules(package: str) -> list[Module]:
    found = []
    for path in sorted((SRC / package).rglob("*.py")):
        name = ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        found.append(Module(name, path.read_text(encoding="utf-8")))
    return found


def lies_in(name: str, places: set[str]) -> bool:
    """Whether a dotted name is one of these places or stands inside one."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def foreign_packages(module: Module) -> Iterator[str]:
    """The three programs know each other only over HTTP."""
    others = set(PACKAGES) - {module.name.partition(".")[0]}
    yield from (f"imports {name}" for name in sorted(module.imported) if lies_in(name, others))


def wrong_arrows(module: Module) -> Iterator[str]:
    """Arrows point inward: edges → use cases → core."""
    ours = sorted(name.removeprefix("payments.") for name in module.imported if lies_in(name, {"payments"}))
    folder = module.place.partition(".")[0]
    if folder in CORE:
        allowed = set(CORE[: CORE.index(folder)])
    elif folder in MAY_IMPORT:
        allowed = {*MAY_IMPORT[folder], folder}
    else:
        yield "has no row in this test: say where it stands"
        return
    yield from (f"imports {name}" for name in ours if not lies_in(name, {*allowed, "__version__"}))


def misplaced_libraries(module: Module) -> Iterator[str]:
    for name in sorted(module.imported):
        library = name.partition(".")[0]
        allowed = LIBRARIES.get(library, {module.place})
        single = any(name == single and lies_in(module.place, {place}) for place, single in SINGLE_NAMES)
        if not (single or lies_in(module.place, allowed)):
            yield f"imports {name}"


def strangers_naming_toss(module: Module) -> Iterator[str]:
    """Which PG it is, is decided in one place."""
    if module.place not in {"resources", "gateways.toss"} and "TossClient" in module.source:
        yield "names TossClient"


def outside_calls_in_transactions(module: Module) -> Iterator[str]:
    """No row stays locked and no connection held while somebody else's machine thinks."""
    reaching_out = functions_reaching_out(module)
    for block in ast.walk(module.tree):
        if isinstance(block, ast.AsyncWith) and any(opens_transaction(item.context_expr) for item in block.items):
            inside = [node for statement in block.body for node in ast.walk(statement)]
            yield from (
                f"line {call.lineno}: {ast.unparse(call.func)}()" for call in outside_calls(inside, reaching_out)
            )


def functions_reaching_out(module: Module) -> set[str]:
    """The functions, as a module names them, that call a gateway themselves or through each other."""
    verbs = {
        name
        for name in module.imported
        if lies_in(name, {"payments.usecases"}) and not lies_in(name, {f"payments.usecases.{own}" for own in RECORDING})
    }
    imported = {name.rpartition(".")[2] for name in verbs if name.rpartition(".")[2].islower()}
    functions = {node.name: list(ast.walk(node)) for node in ast.walk(module.tree) if isinstance(node, Function)}
    found = imported
    while True:
        more = imported | {name for name, nodes in functions.items() if any(outside_calls(nodes, found))}
        if more == found:
            return found
        found = more


def outside_calls(nodes: list[ast.AST], reaching_out: set[str]) -> Iterator[ast.Call]:
    for node in nodes:
        if isinstance(node, ast.Call):
            *owners, name = ast.unparse(node.func).removeprefix("self.").split(".")
            if {owner.lstrip("_") for owner in owners} & GATEWAYS or (not owners and name in reaching_out):
                yield node


def opens_transaction(expression: ast.expr) -> bool:
    return isinstance(expression, ast.Call) and ast.unparse(expression.func).split(".")[-1] in {"transaction", "begin"}


def commits(module: Module) -> Iterator[str]:
    """`transaction()` commits, and nobody else."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in {"commit", "begin"} and module.place != "db":
            yield f"line {node.lineno}: {ast.unparse(node)}"


def bulk_updates(module: Module) -> Iterator[str]:
    """They would not bump the version that guards against lost updates."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"update", "sqlalchemy.update", "sa.update"}:
            yield from (
                f"line {node.lineno}" for argument in node.args if ast.unparse(argument) in {"Payment", "Refund"}
            )


def settings_at_import(module: Module) -> Iterator[str]:
    """Settings are built at the entry point, or every import of the module would need an environment."""
    waiting: list[ast.AST] = [module.tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] in {"Settings", "read_settings"}:
            yield f"line {node.lineno}"
        if not isinstance(node, Function | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def long_functions(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, Function) and (lines := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION:
            yield f"{node.name} has {lines} lines"


Rule = Callable[[Module], Iterator[str]]

EVERYWHERE: Final[tuple[Rule, ...]] = (foreign_packages, long_functions)
IN_PAYMENTS: Final[tuple[Rule, ...]] = (
    *(wrong_arrows, misplaced_libraries, strangers_naming_toss, outside_calls_in_transactions, commits, bulk_updates),
    settings_at_import,
)
INSIDE: Final = "async def f(sessions, pg):\n    async with transaction(sessions) as session:\n        "

# For each rule, code that it must find.
BROKEN: Final[list[tuple[Rule, str, str]]] = [
    (foreign_packages, "payments.local.run", "import toss_sandbox.app"),
    (foreign_packages, "demo_shop.shop", "from payments.states import PaymentStatus"),
    (wrong_arrows, "payments.models", "from payments.settings import Settings"),
    (wrong_arrows, "payments.models", "from payments import queries"),
    (wrong_arrows, "payments.db", "from payments.models import Payment"),
    (wrong_arrows, "payments.reserve", "from payments.hot_path import HotPath"),
    (wrong_arrows, "payments.usecases.confirm", "from payments.api.schemas import ConfirmBody"),
    (wrong_arrows, "payments.usecases.confirm", "def f():\n    from payments.gateways.toss import TossClient"),
    (wrong_arrows, "payments.usecases.confirm", "from payments.gateways import toss"),
    (wrong_arrows, "payments.api.payments", "from payments.gateways.orders import OrdersClient"),
    (wrong_arrows, "payments.gateways.toss", "from payments.states import PaymentStatus"),
    (wrong_arrows, "payments.brand_new", ""),
    (misplaced_libraries, "payments.models", "import httpx"),
    (misplaced_libraries, "payments.usecases.confirm", "from sqlalchemy import select"),
    (misplaced_libraries, "payments.api.payments", "from sqlalchemy.ext.asyncio import AsyncSession"),
    (misplaced_libraries, "payments.states", "from structlog import get_logger"),
    (misplaced_libraries, "payments.gateways.toss", "import aiohttp"),
    (misplaced_libraries, "payments.hot_path", "import psycopg"),
    (misplaced_libraries, "payments.usecases.prepare", "from fastapi.exceptions import HTTPException"),
    (strangers_naming_toss, "payments.jobs", "client = toss.TossClient()"),
    (outside_calls_in_transactions, "payments.usecases.x", f"{INSIDE}await pg.confirm(key)"),
    (outside_calls_in_transactions, "payments.usecases.x", f"{INSIDE}await asyncio.gather(pg.look_up(key))"),
    (outside_calls_in_transactions, "payments.usecases.x", f"{INSIDE}await self._pg.look_up(key)"),
    (outside_calls_in_transactions, "payments.jobs", f"{INSIDE}await resources.pg.look_up(key)"),
    (
        outside_calls_in_transactions,
        "payments.usecases.x",
        f"{INSIDE}if session:\n            await orders.find(order)",
    ),
    (
        outside_calls_in_transactions,
        "payments.usecases.x",
        f"{INSIDE}await _a(pg)\nasync def _a(pg): await _b(pg)\nasync def _b(pg): await pg.look_up(key)",
    ),
    (
        outside_calls_in_transactions,
        "payments.api.payments",
        f"from payments.usecases.confirm import confirm\n{INSIDE}await confirm(body, pg=pg)",
    ),
    (commits, "payments.usecases.x", "async def f(session):\n    await session.commit()"),
    (commits, "payments.usecases.x", "async def f(sessions):\n    async with sessions.begin() as session: pass"),
    (bulk_updates, "payments.queries", "statement = update(Payment).values(status='COMPLETED')"),
    (settings_at_import, "payments.settings", "settings = Settings()"),
    (settings_at_import, "payments.cli", "class C:\n    url = read_settings(os.environ).database_url"),
    (long_functions, "payments.x", "def f():\n" + "    pass\n" * LONGEST_FUNCTION),
]


class TestEveryModule:
    @pytest.mark.parametrize("rule", EVERYWHERE, ids=lambda rule: rule.__name__)
    @pytest.mark.parametrize("package", PACKAGES)
    def test_keeps(self, rule: Rule, package: str) -> None:
        assert [f"{module.name}: {broken}" for module in modules(package) for broken in rule(module)] == []

    @pytest.mark.parametrize("rule", IN_PAYMENTS, ids=lambda rule: rule.__name__)
    def test_of_payments_keeps(self, rule: Rule) -> None:
        assert [f"{module.name}: {broken}" for module in modules("payments") for broken in rule(module)] == []


class TestEveryRule:
    @pytest.mark.parametrize(("rule", "name", "source"), BROKEN)
    def test_finds_what_breaks_it(self, rule: Rule, name: str, source: str) -> None:
        assert len(list(rule(Module(name, source)))) == 1

    def test_is_shown_to_fail(self) -> None:
        assert {rule for rule, _, _ in BROKEN} == {*EVERYWHERE, *IN_PAYMENTS}

    def test_leaves_the_usual_use_case_alone(self) -> None:
        source = """
async def confirm(*, sessions, pg):
    async with transaction(sessions) as session:
        payment = await get_payment(session, order_id)
        if not pg.is_available:
            raise PgUnavailable
    answer = await pg.confirm(payment_key)
    async with transaction(sessions) as session:
        await record(session, payment, answer)
"""

        assert [broken for rule in IN_PAYMENTS for broken in rule(Module("payments.usecases.confirm", source))] == []
