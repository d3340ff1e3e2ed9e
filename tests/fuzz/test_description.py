"""The API held against its own description: whatever is sent, it answers what it says, and repeats nothing of it.

Schemathesis makes the requests: such as the description allows, such as it forbids, and walks along its links.
"""

import asyncio
import json
import re
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from typing import Any, Final, cast
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Flaky
from schemathesis import BaseSchema, GenerationMode
from schemathesis.checks import CHECKS, CheckFunction, load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.generation.stateful import run_state_machine_as_test
from schemathesis.generation.stateful.state_machine import APIStateMachine

from payments.api.app import create_app
from payments.local.postgres import LocalPostgres
from tests.conftest import TEMPLATE
from tests.integration.world import CLIENT_KEY, SECRET_KEY, SHOP, settings_for
from tests.keys import AUTHORIZATION
from tests.programs import sandbox_server

# What is asserted of every answer; the last one only where the request was made to be refused.
ALWAYS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
REFUSED: Final = "negative_data_rejection"

# How far the walks have to come at least.
REACHED: Final = (
    "POST /payments/prepare 201",
    "POST /payments/prepare 409",
    "POST /payments/confirm 200",
    "GET /payments/{paymentKey} 200",
    "GET /payments/{paymentKey}/events 200",
    "POST /payments/orders/{orderId}/cancel 200",
)
SEED: Final = 20261122
CASES: Final = 5_000
CASES_OF_PROOF: Final = 20_000
SHARE_OF_WALKS: Final = 0.3
STEPS: Final = 8
TELLING: Final = 8  # characters: what is shorter stands in our own words too
FEWEST_CHARACTERS: Final = 3  # different ones: zeros stand in a bound of ours
ORDER_ID: Final = re.compile(r"[A-Za-z0-9_-]{6,64}")
READINESS: Final = "/health/ready"
BASE: Final = "http://api"


Case = schemathesis.Case[Any]
Operation = schemathesis.APIOperation[Any, Any, Any, Any]


def checks(names: Sequence[str]) -> list[CheckFunction]:
    return cast("list[CheckFunction]", CHECKS.get_by_names(list(names)))


@dataclass
class Api:
    """The real application with its database and the PG behind it, asked from a test that is not asynchronous."""

    schema: BaseSchema
    runner: asyncio.Runner
    http: httpx.AsyncClient
    window: httpx.Client
    words: frozenset[str]  # of the description itself: Schemathesis sends them, too, and a refusal may say them
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return self.statuses.total()

    def ask(self, case: Case) -> httpx.Response:
        answer = self.runner.run(self.http.send(self._request(case)))
        self.statuses[f"{case.method} {case.path} {answer.status_code}"] += 1
        assert repeated(case, answer, ours=self.words) == [], (
            f"{case.method} {case.path} repeats what was sent: {answer.text[:300]}"
        )
        assert_problem(answer)
        return answer

    @contextmanager
    def keeping_what_is_wrong(self) -> Iterator[None]:
        try:
            yield
        except (AssertionError, FailureGroup) as error:
            self.wrong.append("".join(traceback.format_exception(error)))
            raise

    def check(self, case: Case, answer: httpx.Response, *names: str) -> None:
        case.validate_response(answer, checks=checks(names), headers=dict(answer.request.headers))

    def _request(self, case: Case) -> httpx.Request:
        told = case.as_transport_kwargs(base_url=BASE)
        headers = [(name.encode(), as_bytes(value)) for name, value in {**AUTHORIZATION, **told["headers"]}.items()]
        content = told["data"] if "data" in told else json.dumps(told["json"]) if "json" in told else None
        # What cannot be written is sent as a byte that is none of UTF-8.
        content = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        # The client of the library would not send what stands in a path as it is.
        url = httpx.URL(told["url"], params=told.get("params") or None)
        return self.http.build_request(told["method"], url, headers=headers, content=content)

    def authenticate(self, order_id: object, amount: object) -> str | None:
        """A buyer goes through the payment window, if the PG takes such an order."""
        asked = {"orderId": order_id, "amount": amount}
        answer = self.window.post("/sandbox/payments", json=asked)
        return str(answer.json()["paymentKey"]) if answer.is_success else None


def as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def repeated(case: Case, answer: httpx.Response, *, ours: frozenset[str]) -> list[str]:
    """What was sent and stands in a refusal."""
    if answer.status_code < 400:
        return []
    given = [case.path_parameters, case.query, {**case.headers, **AUTHORIZATION}, case.cookies]
    sent = {str(value) for values in given for value in (values or {}).values()} | texts_in(answer.request.content)
    told = answer.text
    telling = [text for text in sent - ours if len(text) >= TELLING and len(set(text)) > FEWEST_CHARACTERS]
    return [text for text in telling if text in told or json.dumps(text)[1:-1] in told or quote(text) in told]


def texts_in(content: bytes) -> set[str]:
    """Every text of a body, names of members too, where it can be read at all."""
    try:
        waiting: list[object] = [json.loads(content)]
    except (ValueError, RecursionError):
        return {content.decode("utf-8", "replace")}
    found = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str):
            found.add(one)
    return found


def assert_problem(answer: httpx.Response) -> None:
    if answer.status_code >= 400 and answer.request.url.path != READINESS:
        assert answer.headers["content-type"] == "application/problem+json", answer.text[:200]
        assert answer.json()["requestId"] == answer.headers["x-request-id"]


@pytest.fixture(scope="module")
def sandbox_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("sandbox") / "sandbox.sqlite3"
    with sandbox_server(data, client_key=CLIENT_KEY, secret_key=SECRET_KEY) as url:
        yield url


@pytest.fixture(scope="module")
def api(postgres: LocalPostgres, sandbox_of_module: str) -> Iterator[Api]:
    load_all_checks()
    postgres.create_database("description", template=TEMPLATE)
    app = create_app(settings_for(postgres.url("description"), sandbox_of_module))
    # Who may ask is another story, told route by route.
    config = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
    schema = schemathesis.openapi.from_dict(app.openapi(), config=config)
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        stack.callback(lambda: runner.run(lifespan.__aexit__(None, None, None)))
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=BASE, timeout=60)
        stack.callback(lambda: runner.run(http.aclose()))
        window = stack.enter_context(httpx.Client(base_url=sandbox_of_module, trust_env=False))
        words = frozenset(texts_in(json.dumps(app.openapi(), ensure_ascii=False).encode()))
        yield Api(schema, runner, http, window, words)
    postgres.drop_database("description")


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> int:
    return CASES_OF_PROOF if request.config.getoption("--proof") else CASES


def operations(schema: BaseSchema) -> list[Operation]:
    return [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]


def modes_of(operation: Operation) -> list[GenerationMode]:
    """Where nothing is asked for, nothing can be wrong."""
    takes_something = operation.body or operation.query or operation.path_parameters or operation.headers
    return [GenerationMode.NEGATIVE, GenerationMode.POSITIVE] if takes_something else [GenerationMode.POSITIVE]


class TestDescription:
    def test_is_kept_by_every_route_whatever_is_sent(self, api: Api, cases: int) -> None:
        kinds = [(operation, mode) for operation in operations(api.schema) for mode in modes_of(operation)]
        share = int(cases * (1 - SHARE_OF_WALKS) / len(kinds))

        for operation, mode in kinds:
            self._ask(api, operation, mode, times=share)
        self._walk(api, until=cases)

        print("\n".join(f"{times:>6} {what}" for what, times in sorted(api.statuses.items())))  # noqa: T201 - the figures
        assert api.asked >= cases
        assert set(REACHED) <= set(api.statuses), "the walks did not get anywhere"

    def _ask(self, api: Api, operation: Operation, mode: GenerationMode, *, times: int) -> None:
        names = [*ALWAYS, REFUSED] if mode is GenerationMode.NEGATIVE else [*ALWAYS]
        if operation.path == READINESS:
            names.remove("not_a_server_error")  # it is red, because no worker runs here

        @seed(SEED)
        @so_many(times)
        @given(operation.as_strategy(mode))
        def send(case: Case) -> None:
            if mode is GenerationMode.POSITIVE:
                make_payable(api, case)
            api.check(case, api.ask(case), *names)

        send()

    def _walk(self, api: Api, *, until: int) -> None:
        """Prepare, pay, read, give back, in every order that the links of the description allow."""
        walk = a_walk(api)
        while api.asked < until:
            # The ids and times of real answers make two walks differ, which Hypothesis takes for a fault of the test;
            # what is wrong with an answer is kept beside it.
            with suppress(Flaky):
                run_state_machine_as_test(walk, settings=so_many(50, steps=STEPS))
            assert api.wrong == []


def so_many(times: int, *, steps: int = 1) -> hypothesis_settings:
    return hypothesis_settings(
        max_examples=times,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        stateful_step_count=steps,
    )


def make_payable(api: Api, case: Case) -> None:
    """What no description can say: pages of the shop, and a buyer who has been in the payment window."""
    if not isinstance(case.body, dict):
        return
    if case.path == "/payments/prepare":
        case.body = {**case.body, "successUrl": f"{SHOP}/success", "failUrl": f"{SHOP}/fail"}
    if case.path == "/payments/confirm":
        key = api.authenticate(case.body.get("orderId"), case.body.get("amount"))
        case.body = {**case.body, "paymentKey": key or case.body.get("paymentKey")}


def a_walk(api: Api) -> type[APIStateMachine]:
    numbers = count(1)

    class Walk(api.schema.as_state_machine()):  # type: ignore[misc] # made of the description
        def setup(self) -> None:
            self.number = next(numbers)

        def call(self, case: Case, **_: object) -> Response:
            self._have_orders_of_its_own(case)
            make_payable(api, case)
            with api.keeping_what_is_wrong():
                return Response.from_any(api.ask(case))

        def _have_orders_of_its_own(self, case: Case) -> None:
            """Another walk's payments would decide what comes of this one, and Hypothesis wants to know."""
            holders = [holder for holder in (case.body, case.path_parameters) if isinstance(holder, dict)]
            for holder in holders:
                order_id = holder.get("orderId")
                if isinstance(order_id, str) and ORDER_ID.fullmatch(order_id):
                    holder["orderId"] = self._own(order_id)

        def _own(self, order_id: str) -> str:
            begin = f"walk-{self.number}-"
            return order_id if order_id.startswith(begin) else begin + sha256(order_id.encode()).hexdigest()[:16]

        def validate_response(self, response: Response, case: Case, **_: object) -> None:
            with api.keeping_what_is_wrong():
                case.validate_response(response, checks=checks(ALWAYS))

    return Walk
