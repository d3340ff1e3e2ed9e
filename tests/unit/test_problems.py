import json
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, Final

import pytest
from fastapi import FastAPI
from starlette.responses import Response

from payments import errors
from payments.api.app import create_app
from payments.api.documented import EVERYWHERE
from payments.api.problems import HTTP_PROBLEMS, MEDIA_TYPE, STATUSES, refusal, status_of
from payments.errors import InvalidRequest, PaymentDeclined, PaymentError, TransitionNotAllowed, Unavailable
from payments.states import PaymentStatus
from payments.usecases.confirm import confirm
from payments.usecases.prepare import prepare
from tests.integration.world import settings_for

# Operations routes are asked by machines, take no input, and can only fail as a whole.
PLAIN_ROUTES: Final = {"/health/live", "/health/ready", "/metrics"}
MEMBERS: Final = ("type", "title", "status", "detail", "code")


def classes_below(root: type[PaymentError]) -> Iterator[type[PaymentError]]:
    for child in root.__subclasses__():
        yield child
        yield from classes_below(child)


def leaves() -> list[type[PaymentError]]:
    ours = [found for found in classes_below(PaymentError) if found.__module__ == errors.__name__]
    return [found for found in ours if not found.__subclasses__()]


def an_error(kind: type[PaymentError]) -> PaymentError:
    """One of the kind, with what it carries."""
    if issubclass(kind, PaymentDeclined):
        return kind("REJECT_CARD_PAYMENT", "한도초과 혹은 잔액부족으로 결제에 실패했습니다.")
    if issubclass(kind, InvalidRequest):
        return kind("amount")
    if issubclass(kind, TransitionNotAllowed):
        return kind(PaymentStatus.CREATED, PaymentStatus.COMPLETED)
    return kind()


def body_of(response: Response) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(bytes(response.body))
    return body


def drawn_tree(text: str) -> set[tuple[str, str]]:
    """The pairs (parent, child) of a tree drawn with box characters."""
    path: list[str] = ["PaymentError"]
    pairs = set()
    for prefix, name in re.findall(r"^((?:│   |    )*(?:├|└)── )(\w+)", text, re.MULTILINE):
        depth = len(prefix) // 4
        del path[depth:]
        pairs.add((path[-1], name))
        path.append(name)
    return pairs


class TestErrorTree:
    def test_is_the_one_that_the_module_draws(self) -> None:
        ours = [found for found in classes_below(PaymentError) if found.__module__ == errors.__name__]

        assert drawn_tree(errors.__doc__ or "") == {(found.__mro__[1].__name__, found.__name__) for found in ours}

    def test_says_something_about_each_leaf(self) -> None:
        for leaf in leaves():
            assert re.search(rf"── {leaf.__name__} +\w", errors.__doc__ or ""), leaf.__name__

    def test_gives_each_leaf_a_code_of_its_own_after_its_name(self) -> None:
        codes = [leaf.code for leaf in leaves()]

        assert len(set(codes)) == len(codes)
        assert codes == [re.sub(r"(?<!^)([A-Z])", r"_\1", leaf.__name__).lower() for leaf in leaves()]

    @pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf.__name__)
    def test_gives_each_leaf_a_sentence(self, leaf: type[PaymentError]) -> None:
        assert re.fullmatch(r"[A-Z].*\.", leaf.detail)

    def test_shares_no_code_with_the_problems_of_http_itself(self) -> None:
        assert not {leaf.code for leaf in leaves()} & {code for code, _ in HTTP_PROBLEMS.values()}


class TestStatuses:
    @pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf.__name__)
    def test_exist_for_every_leaf(self, leaf: type[PaymentError]) -> None:
        assert 400 <= status_of(leaf) < 600

    def test_do_not_hide_each_other(self) -> None:
        for index, (branch, _) in enumerate(STATUSES):
            assert not any(issubclass(branch, earlier) for earlier, _ in STATUSES[:index])

    def test_are_missing_for_a_branch_that_nobody_has_thought_of(self) -> None:
        with pytest.raises(LookupError):
            status_of(PaymentError)


class TestRefusal:
    @pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf.__name__)
    def test_is_a_problem_document_with_the_code(self, leaf: type[PaymentError]) -> None:
        response = refusal(an_error(leaf))
        body = body_of(response)

        assert response.headers["content-type"] == MEDIA_TYPE
        assert (response.status_code, body["status"]) == (status_of(leaf), status_of(leaf))
        assert (body["code"], body["type"]) == (leaf.code, f"urn:payments:problem:{leaf.code}")
        assert (body["title"], body["detail"]) == (HTTPStatus(status_of(leaf)).phrase, leaf.detail)
        assert {"instance", "requestId"} <= body.keys()

    def test_carries_what_the_pg_said(self) -> None:
        body = body_of(refusal(PaymentDeclined("INVALID_STOPPED_CARD", "정지된 카드 입니다.")))

        assert (body["pgCode"], body["pgMessage"]) == ("INVALID_STOPPED_CARD", "정지된 카드 입니다.")

    @pytest.mark.parametrize("leaf", [leaf for leaf in leaves() if issubclass(leaf, Unavailable)])
    def test_says_when_to_come_back(self, leaf: type[Unavailable]) -> None:
        assert int(refusal(leaf()).headers["retry-after"]) >= 1


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    schema: dict[str, Any] = an_app().openapi()
    return schema


def an_app() -> FastAPI:
    return create_app(settings_for("postgresql+psycopg://nobody@nowhere/nothing", "http://127.0.0.1:1"))


def operations(openapi: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """`POST /payments/confirm` → its operation, without the plain routes."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in openapi["paths"].items()
        if path not in PLAIN_ROUTES
        for method, operation in methods.items()
    }


def examples(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The example problems by code, over all statuses of an operation."""
    return {
        code: shown["value"]
        for response in operation["responses"].values()
        for code, shown in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).items()
    }


class TestDocumented:
    def test_every_route_lists_what_every_route_can_refuse(self, openapi: dict[str, Any]) -> None:
        everywhere = {HTTP_PROBLEMS[status][0] for status in EVERYWHERE}

        for name, operation in operations(openapi).items():
            assert everywhere <= examples(operation).keys(), name

    def test_every_error_status_of_every_route_is_a_problem_with_an_example(self, openapi: dict[str, Any]) -> None:
        for name, operation in operations(openapi).items():
            refused = {status: found for status, found in operation["responses"].items() if int(status) >= 400}
            assert refused, name
            for status, response in refused.items():
                assert list(response["content"]) == [MEDIA_TYPE], f"{name} {status}"
                assert response["content"][MEDIA_TYPE]["examples"], f"{name} {status}"

    def test_every_example_is_what_is_really_answered(self, openapi: dict[str, Any]) -> None:
        real = {leaf.code: body_of(refusal(an_error(leaf))) for leaf in leaves()}

        for operation in operations(openapi).values():
            for code, example in examples(operation).items():
                if code in real:
                    assert [example[member] for member in MEMBERS] == [real[code][member] for member in MEMBERS]

    def test_every_example_stands_under_its_own_status_and_code(self, openapi: dict[str, Any]) -> None:
        for operation in operations(openapi).values():
            for status, response in operation["responses"].items():
                for code, shown in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).items():
                    assert (str(shown["value"]["status"]), shown["value"]["code"]) == (status, code)

    @pytest.mark.parametrize(
        ("usecase", "route"), [(prepare, "POST /payments/prepare"), (confirm, "POST /payments/confirm")]
    )
    def test_a_route_lists_all_that_its_use_case_raises(
        self, openapi: dict[str, Any], usecase: Callable[..., object], route: str
    ) -> None:
        _, raises = (usecase.__doc__ or "").split("Raises:")
        raised = {leaf.code for leaf in leaves() if re.search(rf"\b{leaf.__name__}\b", raises)}

        assert raised
        assert raised <= examples(operations(openapi)[route]).keys()

    def test_a_payment_is_shown_with_its_successes(self, openapi: dict[str, Any]) -> None:
        for name, operation in operations(openapi).items():
            succeeded = [found for status, found in operation["responses"].items() if int(status) < 300]
            assert succeeded, name
            assert all("schema" in found["content"]["application/json"] for found in succeeded), name
