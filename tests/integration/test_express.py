"""The express lane answers as the framework would, and hands on what it would have to refuse."""

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from pydantic import SecretStr
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from payments.access import Scope as KeyScope
from payments.api.app import create_app
from payments.api.express import PATHS, Express
from payments.settings import Settings, Unsigned
from tests.access.conftest import provider
from tests.access.identity import KNOWN, Provider, a_token
from tests.integration.test_hot_path import NO_SESSIONS, databases
from tests.integration.two_paths import Names
from tests.integration.webhook_world import NEW_SECRET, OLD_SECRET, a_hint, signed, signed_as_toss
from tests.integration.world import AMOUNT, ORDER, SHOP, Sandbox, confirm_body, prepare_body, settings_for
from tests.keys import API_KEY, headers_of, let_in

__all__ = ["databases", "provider"]

PREPARE, CONFIRM, WEBHOOK = "/payments/prepare", "/payments/confirm", "/webhook/toss"
LIMITED: Final = f"payk_Read0001_{'r' * 43}"  # may read, and not pay
NO_ALGORITHM: Final = b'{"alg":"none"}'
UNSIGNED: Final = f"{base64.urlsafe_b64encode(NO_ALGORITHM).decode().rstrip('=')}.e30."

UNKNOWN: Final = f"payk_Nobody01_{'n' * 43}"
JSON: Final = {"content-type": "application/json"}
SAID_AT: Final = "2026-11-02T12:00:00.000000"
REFUSED, ACCOUNT, LOST, UNTOUCHED, PAID = (
    "order-refused",
    "order-account",
    "order-lost",
    "order-untouched",
    "order-paid",
)
# Whose values are a clock's, or a random number's.
UNEQUAL: Final = frozenset({"ms", "milliseconds", "payment_key_ends", "timestamp"})


@dataclass(frozen=True)
class Asked:
    """A request; `KEY(order)` stands for the payment key of an order in its world."""

    path: str
    content: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = field(default_factory=dict)

    def in_world(self, keys: Mapping[str, str]) -> bytes:
        content = self.content
        for order_id, key in keys.items():
            content = content.replace(f"KEY({order_id})".encode(), key.encode())
        return content


def asked(path: str, body: object, method: str = "POST", **headers: str) -> Asked:
    given = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Asked(path, json.dumps(body).encode(), method, given)


def bad_bodies(path: str, good: Mapping[str, object]) -> dict[str, Asked]:
    """Everything that can be wrong with a body that is a flat object."""
    wrong: tuple[object, ...] = (None, "", "x" * 300, 0, -1, 15_000.0, 15_000.5, 10**12, True, [], {}, "15000", "\0")
    bodies: dict[str, object] = {f"no {name}": {**good, name: ...} for name in good}
    bodies = {label: {name: value for name, value in good.items() if f"no {name}" != label} for label in bodies}
    bodies |= {f"{name} is {value!r:.20}": {**good, name: value} for name in good for value in wrong}
    bodies |= {f"body is {value!r:.20}": value for value in wrong}
    bodies |= {"an unknown member": {**good, "more": 1}, "names as ours": {**good, "order_id": ORDER}}
    whole = json.dumps(good).encode()
    raw = {
        "nothing": b"",
        "no JSON": b"orderId=1",
        "half": whole[:-5],
        "twice": whole + whole,
        "a member twice": whole[:-1] + b', "orderId": "order-000009"}',
        "a number that is none": whole[:-1] + b', "more": NaN}',
        "not UTF-8": whole[:-1] + b', "more": "\xff"}',
        "a lone surrogate": whole[:-1] + b', "more": "\\ud800"}',
        "deep": b"[" * 5_000,
        "too long": whole[:-1] + b" " * 300_000 + b"}",
        "spaces around": b" \n" + whole + b"\t",
    }
    return {label: asked(path, body) for label, body in bodies.items()} | {
        label: Asked(path, content, headers=JSON) for label, content in raw.items()
    }


def other_ways(path: str, good: Mapping[str, object]) -> dict[str, Asked]:
    """The right body in a request that is not quite the usual one."""
    body = json.dumps(good).encode()
    types = (
        "application/json; charset=utf-8",
        "application/json; charset=latin-1",
        "text/plain",
        "Application/JSON",
        "",
    )
    return {
        **{f"{verb} it": Asked(path, method=verb) for verb in ("GET", "HEAD", "DELETE", "OPTIONS")},
        **{f"{verb} it with a body": asked(path, good, verb) for verb in ("PUT", "PATCH")},
        **{
            f"at {end!r}": asked(path + end, good)
            for end in ("?", "?x=1", "?orderId=1&orderId=2", "/", "%2F", "//", "?%00")
        },
        "in capitals": asked(path.upper(), good),
        **{f"as {kind!r}": Asked(path, body, headers={"content-type": kind}) for kind in types},
        "as nothing": Asked(path, body),
        "as JSON twice": Asked(path, body, headers=[*JSON.items(), *JSON.items()]),
        "compressed, it says": Asked(path, body, headers={**JSON, "content-encoding": "gzip"}),
        "from a page of somebody else": asked(path, good, origin="https://elsewhere.example"),
        "asked whether it may": Asked(
            path, method="OPTIONS", headers={"origin": SHOP, "access-control-request-method": "POST"}
        ),
        "with an id": asked(path, good, x_request_id="an-id-of-the-client"),
    }


def credentials(path: str, good: Mapping[str, object], **more: str) -> dict[str, Asked]:
    """The same request by everybody who could send it; a refusal of the body comes after that of the caller."""
    shown = {
        "a key": f"Bearer {API_KEY}",
        "a key that nobody made": f"Bearer {UNKNOWN}",
        "a key that is nearly right": f"Bearer {API_KEY[:-1]}x",
        "a key for reading": f"Bearer {LIMITED}",
        "half a key": "Bearer payk_",
        "a token": f"Bearer {UNSIGNED}",
        "nothing behind the word": "Bearer",
        "a name and a password": f"Basic {base64.b64encode(b'admin:admin').decode()}",
        "letters of others": "Bearer \u00e9",
        **more,
    }
    by = {f"by {who}": asked(path, good, authorization=what) for who, what in shown.items()}
    bad = {f"a bad body by {who}": asked(path, {"amount": 1.5}, authorization=what) for who, what in shown.items()}
    two = Asked(path, json.dumps(good).encode(), headers=[*JSON.items(), *[("authorization", f"Bearer {API_KEY}")] * 2])
    return {**by, **bad, "by two keys": two}


NEW: Final = prepare_body("order-new-one")
PREPARING: Final[dict[str, Asked]] = {
    **bad_bodies(PREPARE, NEW),
    **other_ways(PREPARE, NEW),
    **credentials(PREPARE, prepare_body("order-of-everybody")),
    "new": asked(PREPARE, prepare_body("order-new-two")),
    "again": asked(PREPARE, prepare_body("order-new-two")),
    "with another amount": asked(PREPARE, prepare_body("order-new-two", AMOUNT + 1)),
    "without a name": asked(PREPARE, {name: value for name, value in NEW.items() if name != "orderName"}),
    "to another page": asked(PREPARE, {**NEW, "successUrl": "https://elsewhere.example/"}),
    "for too little": asked(PREPARE, {**NEW, "amount": 150, "method": "TRANSFER"}),
    **{
        f"by {method}": asked(PREPARE, {**NEW, "orderId": f"order-by-{method}", "method": method})
        for method in ("EASY_PAY", "CARD", "card", "카드")
    },
    "of what is paid": asked(PREPARE, prepare_body(PAID)),
}


def confirming(order_id: str, amount: int = AMOUNT) -> dict[str, object]:
    return confirm_body(f"KEY({order_id})", order_id, amount)


CONFIRMING: Final[dict[str, Asked]] = {
    **bad_bodies(CONFIRM, confirming(UNTOUCHED, AMOUNT - 1)),
    **other_ways(CONFIRM, confirming(UNTOUCHED, AMOUNT - 1)),
    **credentials(CONFIRM, confirming(UNTOUCHED, AMOUNT - 1)),
    "paid": asked(CONFIRM, confirming(ORDER)),
    "repeated": asked(CONFIRM, confirming(ORDER)),
    "refused": asked(CONFIRM, confirming(REFUSED)),
    "refused, repeated": asked(CONFIRM, confirming(REFUSED)),
    "to an account": asked(CONFIRM, confirming(ACCOUNT)),
    "lost": asked(CONFIRM, confirming(LOST)),
    "lost, repeated": asked(CONFIRM, confirming(LOST)),
    "another amount": asked(CONFIRM, confirming(UNTOUCHED, AMOUNT + 1)),
    "another key": asked(CONFIRM, confirm_body(f"KEY({REFUSED})", ORDER)),
    "an unknown order": asked(CONFIRM, confirm_body("unknown", "order-unknown")),
}

HINT: Final = {**a_hint(ORDER, "tviva20260102144639Ab1Cd"), "createdAt": SAID_AT}


def telling(event: object, headers: Mapping[str, str] | None = None) -> Asked:
    return asked(WEBHOOK, event, **{name.replace("-", "_"): value for name, value in (headers or {}).items()})


BODY: Final = json.dumps(HINT).encode()
TELLING: Final[dict[str, Asked]] = {
    **bad_bodies(WEBHOOK, HINT),
    **other_ways(WEBHOOK, HINT),
    **credentials(WEBHOOK, HINT),
    "a hint": telling({**HINT, "createdAt": "2026-11-02T12:00:00.000001"}),
    "the same": telling({**HINT, "createdAt": "2026-11-02T12:00:00.000001"}),
    "signed": telling(HINT, signed(BODY)),
    "signed under the older secret": telling(HINT, signed(BODY, OLD_SECRET)),
    "signed by somebody else": telling(HINT, signed(BODY, "somebody else")),
    "signed by nobody": telling(HINT, {"toss-signature": ""}),
    "signed by Toss": telling(HINT, signed_as_toss(BODY)),
    "signed by somebody who is not Toss": telling(HINT, signed_as_toss(BODY, "somebody else")),
    "signed twice": Asked(WEBHOOK, BODY, headers=[*JSON.items(), *[*signed(BODY).items()] * 2]),
    "with a number": telling(HINT, {"tosspayments-webhook-transmission-id": "transmission-1"}),
    "with a secret": telling({**HINT, "data": {"orderId": ORDER, "secret": "ps_wrong"}}),
    "of a kind that nobody knows": telling({"eventType": "weather.changed", "createdAt": SAID_AT}),
    "of no kind": telling({"createdAt": SAID_AT, "data": {}}),
    "of an account": telling({"createdAt": SAID_AT, "orderId": ORDER, "status": "DONE", "secret": "ps_wrong"}),
    "with data that are none": telling({"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": SAID_AT, "data": []}),
}


class Framework:
    """Stands where the framework begins, and notes what gets that far."""

    def __init__(self, app: ASGIApp, *, reached: list[str]) -> None:
        self._app = app
        self._reached = reached

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._reached.append(scope["path"])
        await self._app(scope, receive, send)


@dataclass
class World:
    """An API on a database of its own, with some orders that wait to be paid."""

    http: httpx.AsyncClient
    app: FastAPI
    keys: dict[str, str]
    reached: list[str]  # the framework

    async def outcomes(self, requests: Mapping[str, Asked]) -> dict[str, object]:
        """What comes of each request: the answer, what is logged, what is counted."""
        return {label: await self._outcome(one) for label, one in requests.items()}

    async def _outcome(self, one: Asked) -> object:
        before = counted()
        lines = one.headers.items() if isinstance(one.headers, Mapping) else one.headers
        raw = [(name.encode(), value.encode("latin-1")) for name, value in lines]
        with capture_logs() as logs:
            answer = await self.http.request(one.method, one.path, content=one.in_world(self.keys), headers=raw)
        told = {
            "status": answer.status_code,
            "headers": sorted(
                (name, value == str(len(answer.content)) if name == "content-length" else value)
                for name, value in answer.headers.multi_items()
            ),
            "body": json.loads(answer.text) if answer.text.startswith("{") else answer.text,
            "logs": [{name: _shown(value) for name, value in line.items()} for line in logs],
            "counted": {
                name: now - before.get(name, 0) for name, now in counted().items() if now != before.get(name, 0)
            },
        }
        names = Names()
        names.learn([[{"paymentKey": key} for key in self.keys.values()], told])
        return names.of(_without_chance(told))


def counted() -> dict[str, float]:
    """Every counter of ours with its labels."""
    return {
        f"{sample.name} {json.dumps(sample.labels, sort_keys=True)}": sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name.endswith(("_total", "_count")) and not sample.name.startswith(("python_", "process_"))
    }


def _shown(value: object) -> object:
    return type(value).__name__ if isinstance(value, BaseException | type(None)) else value


def _without_chance(value: object) -> object:
    match value:
        case dict():
            return {name: _without_chance(inner) for name, inner in value.items() if name not in UNEQUAL}
        case list():
            return [_without_chance(inner) for inner in value]
        case _:
            return value


@asynccontextmanager
async def serving(settings: Settings, sandbox: Sandbox, *, express: bool) -> AsyncIterator[World]:
    """The API as it is, or without its express lane."""
    app, reached = create_app(settings), list[str]()
    others = [one for one in app.user_middleware if getattr(one.cls, "__name__", "") != Express.__name__]
    assert len(others) == len(app.user_middleware) - 1
    app.user_middleware = [*(app.user_middleware if express else others), Middleware(Framework, reached=reached)]
    let_in(settings.database_url.get_secret_value(), LIMITED, name="reader", scopes=(KeyScope.READ,))
    transport = httpx.ASGITransport(app=app)
    headers = {"origin": SHOP, "x-request-id": "story"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as http,
    ):
        yield World(http, app, await _orders(http, sandbox, app), reached)


async def _orders(http: httpx.AsyncClient, sandbox: Sandbox, app: FastAPI) -> dict[str, str]:
    """Orders that wait to be paid, each with what will come of it; their payment keys."""
    await sandbox.reset()
    key = headers_of(API_KEY)
    for order_id in (ORDER, REFUSED, ACCOUNT, LOST, UNTOUCHED, PAID):
        method = "VIRTUAL_ACCOUNT" if order_id == ACCOUNT else "CARD"
        body = {**prepare_body(order_id), "method": method}
        (await http.post(PREPARE, json=body, headers=key)).raise_for_status()
    keys = {order_id: await sandbox.buyer_authenticates(order_id) for order_id in (ORDER, LOST, UNTOUCHED, PAID)}
    keys[REFUSED] = await sandbox.buyer_authenticates(REFUSED, refuseWith="REJECT_CARD_PAYMENT")
    keys[ACCOUNT] = await sandbox.buyer_authenticates(ACCOUNT, method="VIRTUAL_ACCOUNT")
    (await http.post(CONFIRM, json=confirm_body(keys[PAID], PAID), headers=key)).raise_for_status()
    for operation in ("confirm", "lookup"):
        await sandbox.arm(operation, "server_error", times=None, orderId=LOST)
    return keys


async def told_by_both(
    databases: Mapping[str, str], sandbox_url: str, sandbox: Sandbox, requests: Mapping[str, Asked], **changes: object
) -> tuple[dict[str, object], dict[str, object]]:
    """What comes of the requests with the express lane, and without it."""
    both = []
    for (_, database), express in zip(databases.items(), (True, False), strict=True):
        settings = settings_for(database, sandbox_url).model_copy(update={**SECRETS, **changes})
        async with serving(settings, sandbox, express=express) as world:
            both.append(await world.outcomes(requests))
    with_it, without = both
    return with_it, without


def differing(express: Mapping[str, object], framework: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """Where the two say, log or count something else."""
    assert [*express] == [*framework]
    return {label: (told, framework[label]) for label, told in express.items() if told != framework[label]}


def statuses(outcomes: Mapping[str, object]) -> set[int]:
    return {outcome["status"] for outcome in outcomes.values() if isinstance(outcome, dict)}


SECRETS: Final = {"toss_webhook_secrets": (SecretStr(OLD_SECRET), SecretStr(NEW_SECRET))}
ANSWERED: Final = {
    PREPARE: (PREPARING, {200, 201, 400, 401, 403, 404, 405, 409, 413, 415, 422}),
    CONFIRM: (CONFIRMING, {200, 202, 400, 401, 402, 403, 404, 405, 409, 413, 415, 422}),
    WEBHOOK: (TELLING, {200, 400, 401, 404, 405, 413, 415}),
}


class TestEveryRequest:
    @pytest.mark.parametrize("path", sorted(PATHS))
    async def test_is_answered_as_the_framework_would(
        self, databases: dict[str, str], sandbox_url: str, sandbox: Sandbox, path: str
    ) -> None:
        requests, expected = ANSWERED[path]

        express, framework = await told_by_both(databases, sandbox_url, sandbox, requests)

        assert differing(express, framework) == {}
        assert statuses(express) == expected

    async def test_is_answered_alike_where_hints_count_for_nothing(
        self, databases: dict[str, str], sandbox_url: str, sandbox: Sandbox
    ) -> None:
        strict = {"toss_webhook_unsigned": Unsigned.REJECT}

        express, framework = await told_by_both(databases, sandbox_url, sandbox, TELLING, **strict)

        assert differing(express, framework) == {}
        assert 401 in statuses(express)

    async def test_is_answered_alike_where_buyers_are_known(
        self, databases: dict[str, str], sandbox_url: str, sandbox: Sandbox, provider: Provider
    ) -> None:
        buyers = {
            "the buyer": f"Bearer {a_token(sub='buyer-1')}",
            "another buyer": f"Bearer {a_token(sub='buyer-2')}",
            "a clerk": f"Bearer {a_token(sub='clerk', scope='payments:read')}",
            "a till": f"Bearer {a_token(sub='till', scope='payments:pay')}",
            "yesterday's buyer": f"Bearer {a_token(sub='buyer-1', exp=1)}",
        }
        hers = prepare_body("order-of-buyer-1")
        requests = {
            **{f"prepare {label}": one for label, one in credentials(PREPARE, hers, **buyers).items()},
            **{f"confirm {label}": one for label, one in credentials(CONFIRM, confirming(ORDER), **buyers).items()},
            "by nobody": asked(PREPARE, hers),
        }

        express, framework = await told_by_both(databases, sandbox_url, sandbox, requests, **KNOWN)

        assert differing(express, framework) == {}
        assert statuses(express) >= {200, 201, 401, 403, 404, 422}

    async def test_that_meets_a_bug_is_a_500(
        self, databases: dict[str, str], sandbox_url: str, sandbox: Sandbox
    ) -> None:
        requests = {
            "prepare": asked(PREPARE, prepare_body("order-new-one")),
            "confirm": asked(CONFIRM, confirming(ORDER)),
            "webhook": telling(HINT),
        }
        both = []
        for (_, database), express in zip(databases.items(), (True, False), strict=True):
            async with serving(settings_for(database, sandbox_url), sandbox, express=express) as world:
                world.app.state.resources = replace(world.app.state.resources, sessions=NO_SESSIONS, hot=None)
                both.append(await world.outcomes(requests))

        assert both[0] == both[1]
        assert [_problem_of(outcome) for outcome in both[0].values()] == [(500, "internal_error")] * 3


def _problem_of(outcome: object) -> tuple[int, str]:
    assert isinstance(outcome, dict)
    return outcome["status"], outcome["body"]["code"]


class TestTheFramework:
    async def test_sees_nothing_of_good_requests(
        self, databases: dict[str, str], sandbox_url: str, sandbox: Sandbox
    ) -> None:
        good = {
            "prepare": asked(PREPARE, prepare_body("order-new-one")),
            "paid": asked(CONFIRM, confirming(ORDER)),
            "refused": asked(CONFIRM, confirming(REFUSED)),
            "by a stranger": asked(CONFIRM, confirming(ORDER), authorization=f"Bearer {UNKNOWN}"),
            "webhook": telling(HINT),
        }
        reached = []
        for (_, database), express in zip(databases.items(), (True, False), strict=True):
            async with serving(settings_for(database, sandbox_url), sandbox, express=express) as world:
                world.reached.clear()
                await world.outcomes(good)
                reached.append([*world.reached])

        assert reached == [[], [one.path for one in good.values()]]
