"""Nothing that somebody sends becomes SQL: statements are values of SQLAlchemy and psycopg, or words of ours."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.unit.test_architecture import LIBRARIES, Module, lies_in, modules

ROOT: Final = Path(__file__).parents[2]
RUN: Final = {"execute", "executemany", "scalar", "scalars"}
OF_RESERVE: Final = {"run", "run_all"}  # statements as psycopg takes them: strings
OF_STRINGS: Final = {"exec_driver_sql", "executescript", "text", "DDL", "literal_column"}
BY_PATTERN: Final = {
    "like",
    "ilike",
    "not_like",
    "notlike",
    "not_ilike",
    "notilike",
    "regexp_match",
    "regexp_replace",
    "op",
}
BY_PART: Final = {"startswith", "endswith", "contains", "icontains", "istartswith", "iendswith"}

# Where ruff's S608 (SQL built of strings) is told to look away, and what stands in the statement.
LOOKS_AWAY: Final = {
    "migrations/versions/0003_nothing_is_missed.py": 1,  # names of kinds, listed above it
    "src/payments/hot_path.py": 5,  # names of the columns of `payments` and of a `Move`
    "src/toss_sandbox/store.py": 4,  # names of tables and clauses, constants of the module
    "src/toss_sandbox/webhook_store.py": 1,  # the same
}
# Where a statement is run that is not written out in its place.
NOT_WRITTEN_OUT: Final = {
    # One of PROOF_BY_ORDER and PROOF_BY_KEY.
    ("payments.hot_path", "self._reserve.run(statement, {'order_id': order_id, 'payment_key': payment_key})"),
    ("payments.reserve", "self.run_all(statement, parameters)"),  # whatever the hot path has it run, looked at there
    ("payments.reserve", "connection.execute(statement, parameters)"),  # the same
    ("payments.models", "DDL(statement)"),  # of APPEND_ONLY, while the module is imported
    ("payments.roles", "text(statement)"),  # of RIGHTS and the names of the columns: GRANT takes no parameters
    ("toss_sandbox.store", "self._connection.execute(f'DELETE FROM {table}')"),  # of _EMPTIED
}


def is_made_up(node: ast.expr, *, of_strings: bool) -> bool:
    """Whether a statement is put together of strings, or comes from where it cannot be seen."""
    match node:
        case ast.JoinedStr() | ast.BinOp(op=ast.Add() | ast.Mod()):
            return True
        case ast.Call(func=ast.Attribute(attr="format" | "join" | "replace")):
            return "sql." not in ast.unparse(node.func)  # psycopg's own quote what they are given
        case ast.Constant():
            return False
        case ast.Name(id=name) if name.isupper():  # a constant of the module
            return False
        case _:
            return of_strings  # the others take SQLAlchemy's own values, and no strings


def statements_of_strings(module: Module) -> Iterator[str]:
    """Statements that are not written out where they are run."""
    for call in ast.walk(module.tree):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        *owners, run = ast.unparse(call.func).split(".")
        in_reserve = module.name == "payments.reserve"
        by_reserve = run in OF_RESERVE and (in_reserve or "reserve" in {owner.lstrip("_") for owner in owners})
        of_strings = run in OF_STRINGS or in_reserve or by_reserve
        is_known = (module.name, ast.unparse(call)) in NOT_WRITTEN_OUT
        runs = run in RUN | OF_STRINGS or by_reserve
        if runs and is_made_up(call.args[0], of_strings=of_strings) and not is_known:
            yield f"line {call.lineno}: {ast.unparse(call)}"


def patterns(module: Module) -> Iterator[str]:
    """Comparisons in which `%` and `_` of somebody's text would mean more than themselves."""
    for call in ast.walk(module.tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            is_escaped = any(keyword.arg == "autoescape" for keyword in call.keywords)
            if call.func.attr in BY_PATTERN or (call.func.attr in BY_PART and not is_escaped):
                yield f"line {call.lineno}: {ast.unparse(call)}"


def chosen_orders(module: Module) -> Iterator[str]:
    """Sort orders that are not columns written out: a name that a caller sends never becomes one."""
    for call in ast.walk(module.tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "order_by":
            yield from (f"line {call.lineno}: {ast.unparse(one)}" for one in call.args if not _is_column(one))


def _is_column(node: ast.expr) -> bool:
    match node:
        case ast.Attribute() | ast.Name():
            return True
        case ast.Call(func=ast.Attribute(attr="desc" | "asc", value=inner), args=[], keywords=[]):
            return _is_column(inner)
        case _:
            return False


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call)


def sql_modules() -> list[Module]:
    """The modules of ours that may speak SQL."""
    ours = [module for module in modules("payments") if lies_in(module.place, {*LIBRARIES["sqlalchemy"], "local"})]
    return [*ours, *modules("demo_shop"), *modules("toss_sandbox")]


class TestRuff:
    def test_looks_for_statements_of_strings_everywhere(self) -> None:
        lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
        spared = {code for codes in [lint["ignore"], *lint["per-file-ignores"].values()] for code in codes}

        assert lint["select"] == ["ALL"]
        assert not {code for code in spared if "S608".startswith(code)}

    def test_is_told_to_look_away_in_these_places_only(self) -> None:
        files = [path for folder in ("src", "deploy", "migrations") for path in (ROOT / folder).rglob("*.py")]
        told = {
            str(path.relative_to(ROOT)): len(re.findall(r"# noqa: [A-Z0-9, ]*S608", path.read_text(encoding="utf-8")))
            for path in files
        }

        assert {name: count for name, count in told.items() if count} == LOOKS_AWAY


class TestStatements:
    def test_are_not_put_together_of_strings(self) -> None:
        assert [f"{one.name}: {found}" for one in sql_modules() for found in statements_of_strings(one)] == []

    def test_that_are_known_for_not_being_written_out_are_there(self) -> None:
        run = {(one.name, ast.unparse(call)) for one in sql_modules() for call in ast.walk(one.tree) if _is_call(call)}

        assert run >= NOT_WRITTEN_OUT

    def test_have_fixed_sort_orders(self) -> None:
        assert [f"{one.name}: {found}" for one in sql_modules() for found in chosen_orders(one)] == []

    def test_compare_by_no_pattern(self) -> None:
        speaking = [module for module in modules("payments") if lies_in(module.place, LIBRARIES["sqlalchemy"])]

        assert [f"{one.name}: {found}" for one in speaking for found in patterns(one)] == []

    @pytest.mark.parametrize(
        ("rule", "source"),
        [
            (statements_of_strings, "session.execute(text(f'SELECT {name}'))"),
            (statements_of_strings, "text('SELECT ' + name)"),
            (statements_of_strings, "text('SELECT %s' % name)"),
            (statements_of_strings, "cursor.execute('SELECT {}'.format(name))"),
            (statements_of_strings, "connection.execute(text(statement))"),
            (statements_of_strings, "self._reserve.run(statement, {})"),
            (statements_of_strings, "self._reserve.run_all(f'SELECT {name}', {})"),
            (patterns, "select(Payment).where(Payment.order_name.ilike(text))"),
            (patterns, "select(Payment).where(Payment.order_name.contains(text))"),
            (patterns, "Payment.order_name.op('~')(text)"),
            (chosen_orders, "select(Payment).order_by(getattr(Payment, name))"),
            (chosen_orders, "select(Payment).order_by(COLUMNS[name])"),
            (chosen_orders, "select(Payment).order_by(text(name))"),
            (chosen_orders, "select(Payment).order_by('order_id')"),
        ],
    )
    def test_that_break_a_rule_are_found(self, rule: object, source: str) -> None:
        assert callable(rule)
        assert len(list(rule(Module("payments.x", source)))) == 1
