"""What no request may do, whatever is in it: break the service, change a row, reach the PG, or be repeated back."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from sqlalchemy import func, select

from payments.api.app import create_app
from payments.db import Base, transaction
from payments.local.postgres import LocalPostgres
from payments.records import ApiKey, Process
from payments.resources import Resources
from tests.conftest import TEMPLATE
from tests.integration.world import ORDER, SHOP, Sandbox, confirm_body, prepare_body, settings_for
from tests.keys import AUTHORIZATION

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY: Final = "kanarienvogel"
PAYMENT_KEY: Final = "tviva20261102120000Ab1Cd"
PREPARE: Final = "/payments/prepare"
CONFIRM: Final = "/payments/confirm"
CANCEL: Final = f"/payments/orders/{ORDER}/cancel"
CANCEL_BY_KEY: Final = f"/payments/{PAYMENT_KEY}/cancel"
ACCOUNT: Final = {"bank": "88", "accountNumber": "90817263544536", "holderName": "김카나리아토스"}
CANCEL_BODY: Final[dict[str, object]] = {
    "cancelReason": "고객 변심으로 취소",
    "cancelAmount": 15_000,
    "taxFreeAmount": 5_000,
    "refundReceiveAccount": ACCOUNT,
}
VALID: Final[dict[str, dict[str, object]]] = {
    PREPARE: prepare_body(),
    CONFIRM: confirm_body(PAYMENT_KEY),
    CANCEL: CANCEL_BODY,
    CANCEL_BY_KEY: CANCEL_BODY,
}
AMOUNT_OF: Final = {PREPARE: "amount", CONFIRM: "amount", CANCEL: "cancelAmount", CANCEL_BY_KEY: "cancelAmount"}
OPTIONAL: Final = {"orderName", "cancelAmount", "taxFreeAmount", "refundReceiveAccount"}
# Well formed, so that nothing but the body is wrong; the routes that know no such header do not mind it.
KEY: Final = {"idempotency-key": "b9b8c3f0-5d0e-4f0e-9a57-0c6f2a2a6a57"}
JSON: Final = {"content-type": "application/json"}

# Numbers of no card that was ever issued, which pass every check that a card's would.
CARDS: Final = (
    *("4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444", "\uff14\uff11\uff11\uff11" + "1" * 12),
    *("카드 378282246310005 로", "3 4111 1111 1111 1111 123", "9410000000000005"),
)
NOT_TEXT: Final[tuple[object, ...]] = (None, True, 7, 1.5, [], [CANARY], {}, {CANARY: CANARY})
NOT_AMOUNTS: Final[tuple[object, ...]] = (
    *(True, False, None, [], [15_000], {}, {"value": 15_000}, 1.0, 15_000.0, 15_000.5, 1e-300),
    *("15000", " 15000 ", "15_000", "\uff11\uff15\uff10\uff10\uff10", "", "won", "1e4", "0x3a98"),
    *(0, -1, -15_000, 99, 1_000_000_001, 2**31, 2**53 + 1, 2**63, 2**64, 10**400),
)
NOT_ORDER_IDS: Final[tuple[object, ...]] = (
    *NOT_TEXT,
    *(
        "",
        "order",
        "o" * 65,
        "o" * 10_000,
        "주문번호일이삼",
        "\uff4f\uff52\uff44\uff45\uff52\uff11",
        "order\u200f00001",
    ),
    *("order-000001\n", "\norder-000001", "order-000001\r", "order 000001", " order-000001", "order-00000\U0001f600"),
    *(
        "../../order",
        "......",
        "order/000001",
        "order%00001",
        "order\\000001",
        "order'--001",
        "order;drop",
        "ordér-000001",
    ),
    *("<script>1", "order.000001", "order+000001", "order:000001", "$" + "{jndi:ldap}", "order-00000\u0661"),
)
NOT_PAYMENT_KEYS: Final[tuple[object, ...]] = (
    *NOT_TEXT,
    *("", "k" * 201, "../settlements", "key/cancel", "key?x=1", "key#x", "key%2fcancel", "..", ".", "key key", "key\n"),
    *("결제키", "\uff4b\uff45\uff59", "key\u200b", "key\U0001f600", "key\\", "key:1", "@host/", "//host"),
)
NOT_METHODS: Final[tuple[object, ...]] = (
    *NOT_TEXT,
    *(
        "",
        "card",
        "Card",
        "CARD ",
        " CARD",
        "CARD\n",
        "카드",
        "CASH",
        "CARD,TRANSFER",
        "PaymentMethod.CARD",
        "\uff23ARD",
    ),
)
NOT_EMAILS: Final[tuple[object, ...]] = (
    *NOT_TEXT,
    *(
        "",
        "buyer",
        "@example.com",
        "buyer@",
        "buyer@localhost",
        "a@b@example.com",
        "buyer@example.com\n",
        " a@b.example",
    ),
    *("a@b.example\r\nBcc: all@b.example", "구매자@example.com", "buyer@예제.kr", '"a b"@example.com', "a@[127.0.0.1]"),
    *("4111111111111111@example.com", "card.4111-1111-1111-1111@example.com", "buyer@4111111111111111.com"),
    *(f"{'a' * 65}@example.com", f"a@{'b' * 64}.com", f"a@{'b.' * 60}com", "a@b..com", "a@.com", "<a@b.example>"),
)
NOT_ORDER_NAMES: Final[tuple[object, ...]] = (
    *(item for item in NOT_TEXT if item is not None),  # null is how a client says that it has none
    *(
        "",
        " ",
        "\t",
        "커" * 101,
        "a\nb",
        "a\rb",
        "a\x1b[31mb",
        "a\x7fb",
        "a\u0085b",
        "a\u2028b",
        "a\u202eb",
        "a\u200bb",
    ),
    *("a\ufeffb", "a\ufffeb", "a\ue000b", "\u3000"),
)
NOT_OUR_PAGES: Final[tuple[object, ...]] = (
    *NOT_TEXT,
    *(
        "",
        "/welcome",
        "welcome",
        "//shop.example/s",
        "\\\\shop.example\\s",
        "https:/shop.example/s",
        "https:shop.example",
    ),
    *("http://shop.example/s", "HTTPS://shop.example/s", "https://SHOP.example/s", "https://shop.example:443/s"),
    *("https://shop.example:22/s", "https://shop.example.evil.example/s", "https://evil.example/https://shop.example/"),
    *("https://shop.example@evil.example/s", "https://ok@shop.example/s", "https://ok:pw@shop.example/s"),
    *(
        "https://shop.example\\@evil.example/s",
        "https://shop.example\\.evil.example",
        "https://shop.example#@evil.example",
    ),
    *(
        "https://shop.example/s\r\nset-cookie: a=b",
        "https://shop.example/s\n",
        "https://shop.example/\t",
        " " + SHOP + "/s",
    ),
    *(
        "https://shop.example/a b",
        "https://shop.example/\U0001f600",
        "https://shop.\u0435xample/s",
        "https://xn--shop.example/s",
    ),
    *(
        "https://shop\u3002example/s",
        "https://\uff53hop.example/s",
        "https://shop.example\u200b/s",
        "https://shop.example./s",
    ),
    *("http://169.254.169.254/latest", "http://127.1/", "http://0x7f000001/", "http://2130706433/", "http://[::1]/"),
    *(
        "http://[::ffff:127.0.0.1]/",
        "http://localtest.me/",
        "http://localhost/",
        "https://127.0.0.1/",
        "https://10.0.0.1/",
    ),
    *(
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)//https://shop.example/",
        "data:text/html,hello",
        "file:///etc/passwd",
    ),
    *(
        "ftp://shop.example/s",
        "blob:https://shop.example/1",
        "about:blank",
        "https://",
        "https:///s",
        "https://*.example/",
    ),
    f"https://shop.example/{'s' * 2_000}",
)
NOT_REASONS: Final[tuple[object, ...]] = (
    *NOT_TEXT,
    *(
        "",
        " ",
        "\t",
        "변" * 201,
        "a\nb",
        "a\rb",
        "a\x1b[31mb",
        "a\x7fb",
        "a\u0085b",
        "a\u2028b",
        "a\u202eb",
        "a\u200bb",
    ),
    *("a\ufeffb", "a\ufffeb", "a\ue000b", "\u3000"),
)
NOT_REFUNDS: Final[tuple[object, ...]] = (
    *(True, False, [], [15_000], {}, {"value": 15_000}, 1.0, 15_000.0, 15_000.5, 1e-300),
    *("15000", " 15000 ", "15_000", "\uff11\uff15\uff10\uff10\uff10", "", "all", "1e4", "0x3a98"),
    *(-1, -15_000, 1_000_000_001, 2**31, 2**53 + 1, 2**63, 2**64, 10**400),
)
NOT_ACCOUNTS: Final[tuple[object, ...]] = (True, 7, 1.5, "88", "90817263544536", [], [CANARY])
NOT_BANKS: Final[tuple[object, ...]] = (
    *NOT_TEXT,
    *("", "8", "0088", "신한", "ab", "8 ", " 88", "88\n", "\uff18\uff18", "8\u200b8", "../", "8\u0668", "-8"),
)
NOT_ACCOUNT_NUMBERS: Final[tuple[object, ...]] = (
    *NOT_TEXT,
    *("", "1" * 21, "110-123-456789", "110 123", "X110123456789", "1.10", "-110", "+110", "110\n", "110\r", "1\u200b1"),
    *("\uff11\uff11\uff10", "\u0661\u0661\u0660", "일일공", "110;drop", "1e9", "0x6e"),
)
NOT_HOLDERS: Final[tuple[object, ...]] = (
    *NOT_TEXT,
    "",
    " ",
    "\t",
    "김" * 61,
    "김\n토스",
    "김\u202e토스",
    "김\u200b토스",
    "\u3000",
)
FIELDS: Final = [
    *((PREPARE, "orderId", value) for value in NOT_ORDER_IDS),
    *((PREPARE, "amount", value) for value in NOT_AMOUNTS),
    *((PREPARE, "method", value) for value in NOT_METHODS),
    *((PREPARE, "customerEmail", value) for value in NOT_EMAILS),
    *((PREPARE, "orderName", value) for value in NOT_ORDER_NAMES),
    *((PREPARE, "successUrl", value) for value in NOT_OUR_PAGES),
    *((PREPARE, "failUrl", value) for value in NOT_OUR_PAGES),
    *((CONFIRM, "paymentKey", value) for value in NOT_PAYMENT_KEYS),
    *((CONFIRM, "orderId", value) for value in NOT_ORDER_IDS),
    *((CONFIRM, "amount", value) for value in NOT_AMOUNTS),
    *((CANCEL, "cancelReason", value) for value in NOT_REASONS),
    *((PREPARE, "orderName", value) for value in CARDS),
    *((CANCEL, "cancelReason", value) for value in CARDS),
    *((CANCEL, "cancelAmount", value) for value in (*NOT_REFUNDS, 0)),
    *((CANCEL, "taxFreeAmount", value) for value in (*NOT_REFUNDS, None)),
]
ACCOUNT_FIELDS: Final = [
    *(("bank", value) for value in NOT_BANKS),
    *(("accountNumber", value) for value in NOT_ACCOUNT_NUMBERS),
    *(("holderName", value) for value in (*NOT_HOLDERS, *CARDS)),
]
NOT_KEYS: Final = (*("", " ", "a b", "k" * 301, "key\x7f", "key\t1", "\xed\x82\xa4", "key\xa0", "\xff", "key\x80"),)
OUT_OF_RANGE: Final = [("TRANSFER", 199), ("TRANSFER", 10_000_001), ("VIRTUAL_ACCOUNT", 199)]
UNKNOWN_MEMBERS: Final[tuple[tuple[str, object], ...]] = (
    *(("status", "COMPLETED"), ("id", CANARY), ("merchantId", CANARY), ("version", 7), ("refundedAmount", 0)),
    *(("currency", "KRW"), ("currency", "krw"), ("currency", "KRW "), ("currency", "USD"), ("currency", None)),
    *(("__class__", CANARY), ("__proto__", {CANARY: CANARY}), ("constructor", CANARY), ("order_id", ORDER)),
    *(("", 1), (CANARY, CANARY), ("Amount", 1), ("amount ", 100), ("metadata", {CANARY: 1e300}), ("createdAt", "now")),
)


def with_raw(path: str, field: str, raw: str) -> bytes:
    """A valid body but for one member, that is written as it stands here."""
    body = {**VALID[path], field: "RAW"}
    return json.dumps(body, ensure_ascii=False).replace('"RAW"', raw).encode()


def without_brace(path: str) -> str:
    return json.dumps(VALID[path])[:-1]


RAW_NUMBERS: Final = (
    *("NaN", "Infinity", "-Infinity", "1E400", "-1e999", "9" * 5_000, "0x3A98", "015000", "+15000", "15000.", "15_000"),
    "\uff11\uff15\uff10\uff10\uff10",
)
ODD_AMOUNTS: Final = ("-0", "1e3", "1.5e4", "15000.0", "-0.0", "1E2", "9" * 4_000)  # JSON, and still no amounts
HALF_OR_NUL: Final = (r'"\ud800"', r'"order\udfff000001"', r'"\ude00\ud83d"', r'"order\u0000000001"', r'"\u0000"')


def unreadable_bodies(path: str) -> Iterator[bytes]:
    """Bodies that have no reading, or more than one."""
    valid, opened = json.dumps(VALID[path]).encode(), without_brace(path)
    yield from (b"", b" ", b"\n", CANARY.encode(), b"{", b"[", b'"', b"{'a': 1}", valid[:-1], valid[1:], valid + valid)
    yield from (valid + b"\0", b"\0" + valid, valid + b"// x", b")]}'\n" + valid, b"orderId=order-000001&amount=15000")
    yield from (b"\xef\xbb\xbf" + valid, valid.decode().encode("utf-16"), valid.decode().encode("utf-16-le"))
    yield from (
        valid.decode().encode("utf-32"),
        f'{opened}, "{CANARY}": "주문"}}'.encode("euc-kr"),
        b'{"a": "\xff\xfe"}',
    )
    yield from (
        f"{opened}{extra}}}".encode()
        for name in (AMOUNT_OF[path],)
        for extra in (",", f', "{name}": 1', f', "\\u{ord(name[0]):04x}{name[1:]}": 1', f', "{name}": 15000')
    )
    yield from (
        f'{opened}, "x": {raw}}}'.encode() for raw in ('{"a":1,"a":2}', '[{"a":1,"\\u0061":2}]', "NaN", "1e400")
    )
    yield from (f'{opened}, "{key}": 1}}'.encode() for key in (r"\ud800", r"\u0000", "\n", "\x1f"))
    yield from (b"[" * 60_000, b'{"a":' * 10_000, b"[" * 100 + b"]" * 100, b'{"a":' * 33 + b"1" + b"}" * 33)
    yield from (with_raw(path, AMOUNT_OF[path], raw) for raw in RAW_NUMBERS)
    texts = [field for field, value in VALID[path].items() if isinstance(value, str)]
    yield from (with_raw(path, field, raw) for field in texts for raw in HALF_OR_NUL)


NOT_OBJECTS: Final = (b"null", b"true", b"0", b"15000", b'"text"', b"[]", b"[{}]", b"{}", b"[null]", b"1.5")
CONTENT_TYPES: Final = (
    *("", "text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*/*"),
    *("application/jsonp", "application/problem+json", "application/json-seq", "application/vnd.api+json", "json"),
    *("application/json; charset=utf-16", "application/json; charset=euc-kr", "application/json; charset=\xb2"),
    *(
        "application/json; charset=utf-8; charset=utf-16",
        "application/json;" + "a=b;" * 100,
    ),
    *("application/json;charset*=utf-16''utf-8", "text/plain; application/json", "application/json, text/plain"),
)
# Each is sent as it stands in the place of an order id and of a payment key.
BAD_SEGMENTS: Final = (
    *(
        "%00",
        "order%00001",
        "order-000001%0a",
        "order-000001%0d%0aset-cookie:a=b",
        "%2e%2e",
        "..%2f..%2fv1",
        "%2e%2e%2f",
    ),
    *("%252e%252e", "order%20000001", "%EC%A3%BC%EB%AC%B8%EB%B2%88%ED%98%B8", "%EF%BC%A1" * 6, "%F0%9F%98%80" * 6),
    *("%ff%fe%fd%fc%fb%fa", "%c0%ae%c0%ae%2f", "a" * 201, "a" * 5_000, "order'--000001", "order%3Fa=1", "order%23frag"),
    *("order-000001%5c", "order;v=1", "order:000001", "*%2a%2a%2a%2a%2a", "%7B%7Bself%7D%7D", "order%E2%80%8F1"),
    *("order-000001%e2%80%a8", "(select+1)", "order@000001"),
)
NOWHERE: Final = (
    *("/", "/payments", "/payments/", "/payments/prepare/", "/payments/orders/order-000001/", "//payments/prepare"),
    *("/Payments/prepare", "/payments/orders/order-000001/events/x", "/.env", "/admin", "/payments/%2e%2e/metrics"),
)
READS: Final = ("/payments/orders/{}", "/payments/{}", "/payments/{}/events")


@dataclass(frozen=True)
class Door:
    """The API from outside, and what stands behind it."""

    api: httpx.AsyncClient
    resources: Resources
    sandbox: Sandbox

    async def rows(self) -> dict[str, int]:
        """How many there are of everything that a request could leave behind."""
        counts = [
            select(func.count()).select_from(table).scalar_subquery().label(table.name)
            for table in Base.metadata.sorted_tables
            if table not in {Process.__table__, ApiKey.__table__}  # the API itself stands there, and who asks
        ]
        async with transaction(self.resources.sessions) as session:
            return dict((await session.execute(select(*counts))).mappings().one())

    async def refuses(self, status: int, request: httpx.Request) -> dict[str, Any]:
        """Send it and check all that holds for every refusal; the problem that came back."""
        answer = await self.api.send(request)

        assert answer.status_code == status, answer.text[:500]
        assert answer.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = answer.json()
        assert problem["status"] == status
        assert problem["code"]
        assert problem["requestId"] == answer.headers["x-request-id"]
        assert not repeated(request, answer)
        assert set((await self.rows()).values()) == {0}
        return problem


def repeated(request: httpx.Request, answer: httpx.Response) -> list[str]:
    """The values of a request that stand in its answer, where only its origin belongs."""
    headers = [value for name, value in answer.headers.items() if name != "access-control-allow-origin"]
    told = f"{answer.text} {headers}"
    try:
        sent = [str(value) for value in json.loads(request.content).values()]
    except (ValueError, AttributeError, RecursionError, httpx.RequestNotRead):
        sent = []
    telling = [value for value in {*sent, CANARY} if len(value) > 5]
    return [value for value in telling if value in told or json.dumps(value)[1:-1] in told]


@pytest.fixture(scope="module")
def empty_books(postgres: LocalPostgres) -> Iterator[str]:
    """One database for all of these stories: none of them may write to it."""
    postgres.create_database("bad_bodies", template=TEMPLATE)
    yield postgres.url("bad_bodies")
    postgres.drop_database("bad_bodies")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(empty_books: str, sandbox_url: str) -> AsyncIterator[Door]:
    app: FastAPI = create_app(settings_for(empty_books, sandbox_url))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://api",
            headers={"origin": SHOP, **KEY, **AUTHORIZATION},
        ) as api,
        httpx.AsyncClient(base_url=sandbox_url, trust_env=False) as control,
    ):
        sandbox = Sandbox(control)
        await sandbox.reset()
        yield Door(api, app.state.resources, sandbox)
        calls = (await control.get("/sandbox/calls")).json()["calls"]
        assert calls == [], "the PG was asked"


def shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:30]}..({len(text)})"


class TestFields:
    @pytest.mark.parametrize(("path", "field", "value"), FIELDS, ids=shown)
    async def test_a_value_that_cannot_be_is_refused_by_its_name(
        self, door: Door, path: str, field: str, value: object
    ) -> None:
        body = json.dumps({**VALID[path], field: value}).encode()

        problem = await door.refuses(422, door.api.build_request("POST", path, content=body, headers=JSON))

        assert [error["field"] for error in problem["errors"]] == [field]

    @pytest.mark.parametrize("raw", ODD_AMOUNTS)
    @pytest.mark.parametrize("path", [PREPARE, CONFIRM, CANCEL])
    async def test_an_amount_is_a_plain_whole_number(self, door: Door, path: str, raw: str) -> None:
        body = with_raw(path, AMOUNT_OF[path], raw)

        problem = await door.refuses(422, door.api.build_request("POST", path, content=body, headers=JSON))

        assert [error["field"] for error in problem["errors"]] == [AMOUNT_OF[path]]

    @pytest.mark.parametrize(("method", "amount"), OUT_OF_RANGE)
    async def test_an_amount_is_one_that_the_method_can_take(self, door: Door, method: str, amount: int) -> None:
        body = prepare_body(amount=amount, method=method)

        problem = await door.refuses(422, door.api.build_request("POST", PREPARE, json=body))

        assert problem["code"] == "amount_out_of_range"

    @pytest.mark.parametrize(
        ("path", "field"),
        [(path, field) for path, body in VALID.items() for field in body if field not in OPTIONAL],
    )
    async def test_none_may_be_missing(self, door: Door, path: str, field: str) -> None:
        body = {name: value for name, value in VALID[path].items() if name != field}

        problem = await door.refuses(422, door.api.build_request("POST", path, json=body))

        assert [error["field"] for error in problem["errors"]] == [field]

    @pytest.mark.parametrize(("field", "value"), ACCOUNT_FIELDS, ids=shown)
    async def test_an_account_is_refused_by_the_name_of_what_is_wrong_in_it(
        self, door: Door, field: str, value: object
    ) -> None:
        body = json.dumps({**CANCEL_BODY, "refundReceiveAccount": {**ACCOUNT, field: value}}).encode()

        problem = await door.refuses(422, door.api.build_request("POST", CANCEL, content=body, headers=JSON))

        assert [error["field"] for error in problem["errors"]] == [f"refundReceiveAccount.{field}"]
        assert not [given for given in ACCOUNT.values() if given != "88" and given in json.dumps(problem)]

    @pytest.mark.parametrize("value", NOT_ACCOUNTS, ids=shown)
    async def test_an_account_is_an_object(self, door: Door, value: object) -> None:
        body = {**CANCEL_BODY, "refundReceiveAccount": value}

        problem = await door.refuses(422, door.api.build_request("POST", CANCEL, json=body))

        assert [error["field"] for error in problem["errors"]] == ["refundReceiveAccount"]

    @pytest.mark.parametrize("field", ACCOUNT)
    async def test_an_account_is_whole(self, door: Door, field: str) -> None:
        account = {name: value for name, value in ACCOUNT.items() if name != field}

        problem = await door.refuses(
            422, door.api.build_request("POST", CANCEL, json={**CANCEL_BODY, "refundReceiveAccount": account})
        )

        assert [error["field"] for error in problem["errors"]] == [f"refundReceiveAccount.{field}"]

    @pytest.mark.parametrize(("member", "value"), [(CANARY, CANARY), ("dueDate", "2026"), ("holder_name", "김")])
    async def test_an_account_has_nothing_made_up_in_it(self, door: Door, member: str, value: str) -> None:
        account = {**ACCOUNT, member: value}

        problem = await door.refuses(
            422, door.api.build_request("POST", CANCEL, json={**CANCEL_BODY, "refundReceiveAccount": account})
        )

        assert problem["errors"] == [{"field": "", "message": "Unknown member."}]

    @pytest.mark.parametrize(("member", "value"), UNKNOWN_MEMBERS, ids=shown)
    @pytest.mark.parametrize("path", [PREPARE, CONFIRM, CANCEL])
    async def test_none_may_be_made_up(self, door: Door, path: str, member: str, value: object) -> None:
        body = {**VALID[path], member: value}

        problem = await door.refuses(422, door.api.build_request("POST", path, json=body))

        assert problem["errors"] == [{"field": "", "message": "Unknown member."}]

    async def test_thousands_made_up_make_no_long_answer(self, door: Door) -> None:
        body = {**VALID[CONFIRM], **{f"m{index}": 0 for index in range(5_000)}}

        problem = await door.refuses(422, door.api.build_request("POST", CONFIRM, json=body))

        assert len(problem["errors"]) <= 20

    async def test_all_that_are_wrong_are_named_at_once(self, door: Door) -> None:
        body = {**VALID[CONFIRM], "amount": "1", "orderId": "x"}

        problem = await door.refuses(422, door.api.build_request("POST", CONFIRM, json=body))

        assert [error["field"] for error in problem["errors"]] == ["orderId", "amount"]


class TestIdempotencyKey:
    @pytest.mark.parametrize("key", NOT_KEYS, ids=shown)
    @pytest.mark.parametrize("path", [CANCEL, CANCEL_BY_KEY])
    async def test_that_cannot_be_one_is_refused(self, door: Door, path: str, key: str) -> None:
        request = door.api.build_request("POST", path, json=CANCEL_BODY)
        others = [item for item in request.headers.raw if item[0].lower() != b"idempotency-key"]
        request.headers = httpx.Headers([*others, (b"idempotency-key", key.encode("latin-1"))])

        problem = await door.refuses(400, request)

        assert problem["code"] in {"idempotency_key_malformed", "idempotency_key_missing"}

    @pytest.mark.parametrize("path", [CANCEL, CANCEL_BY_KEY])
    async def test_may_not_be_missing(self, door: Door, path: str) -> None:
        request = door.api.build_request("POST", path, json=CANCEL_BODY)
        del request.headers["idempotency-key"]

        problem = await door.refuses(400, request)

        assert problem["code"] == "idempotency_key_missing"


class TestBodies:
    @pytest.mark.parametrize("path", VALID)
    async def test_without_exactly_one_reading_are_refused(self, door: Door, path: str) -> None:
        for body in unreadable_bodies(path):
            await door.refuses(400, door.api.build_request("POST", path, content=body, headers=JSON))

    @pytest.mark.parametrize("body", NOT_OBJECTS)
    @pytest.mark.parametrize("path", VALID)
    async def test_are_objects_with_something_in_them(self, door: Door, path: str, body: bytes) -> None:
        await door.refuses(422, door.api.build_request("POST", path, content=body, headers=JSON))

    @pytest.mark.parametrize("content_type", CONTENT_TYPES)
    @pytest.mark.parametrize("path", [CONFIRM, CANCEL])
    async def test_of_another_type_are_refused(self, door: Door, path: str, content_type: str) -> None:
        headers = [(b"content-type", content_type.encode("latin-1"))]
        body = json.dumps(VALID[path]).encode()

        await door.refuses(415, door.api.build_request("POST", path, content=body, headers=headers))

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [("content-type", "application/json"), ("content-type", "text/plain")],
            [("content-type", "application/json"), ("content-type", "application/json")],
            [("content-type", "application/json"), ("content-encoding", "gzip")],
            [("content-type", "application/json"), ("content-encoding", "br")],
            [("content-type", "application/json"), ("content-encoding", "identity, gzip")],
            [("content-type", "application/json"), ("content-encoding", "identity"), ("content-encoding", "gzip")],
            [("content-type", "application/json"), ("content-encoding", "")],
        ],
    )
    @pytest.mark.parametrize("path", [CONFIRM, CANCEL])
    async def test_of_no_type_of_two_or_compressed_are_refused(
        self, door: Door, path: str, headers: list[tuple[str, str]]
    ) -> None:
        body = json.dumps(VALID[path]).encode()

        await door.refuses(415, door.api.build_request("POST", path, content=body, headers=headers))

    @pytest.mark.parametrize(
        "content_type", ["application/json", "Application/JSON", "application/json; charset=UTF-8"]
    )
    async def test_are_read_under_any_spelling_of_json(self, door: Door, content_type: str) -> None:
        body, headers = json.dumps(VALID[CONFIRM]).encode(), {"content-type": content_type}

        problem = await door.refuses(404, door.api.build_request("POST", CONFIRM, content=body, headers=headers))

        assert problem["code"] == "payment_not_found"

    @pytest.mark.parametrize("size", [64 * 1024 + 1, 1024 * 1024])
    @pytest.mark.parametrize(("path", "field"), [(PREPARE, "orderName"), (CANCEL, "cancelReason")])
    async def test_too_large_are_refused(self, door: Door, path: str, field: str, size: int) -> None:
        body = json.dumps({**VALID[path], field: "a" * size}).encode()

        await door.refuses(413, door.api.build_request("POST", path, content=body, headers=JSON))

    async def test_as_large_as_may_be_are_read(self, door: Door) -> None:
        body = json.dumps(VALID[CONFIRM]).encode().ljust(64 * 1024)

        await door.refuses(404, door.api.build_request("POST", CONFIRM, content=body, headers=JSON))

    async def test_in_single_bytes_are_read_like_any_other(self, door: Door) -> None:
        async def one_by_one() -> AsyncIterator[bytes]:
            for byte in json.dumps(VALID[CONFIRM]).encode():
                yield bytes([byte])

        problem = await door.refuses(404, door.api.build_request("POST", CONFIRM, content=one_by_one(), headers=JSON))

        assert problem["code"] == "payment_not_found"

    async def test_without_an_announced_length_are_read_no_further_than_the_limit(self, door: Door) -> None:
        sent = 0

        async def fifty_megabytes() -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(5_000):
                sent += 10_000
                yield b" " * 10_000

        await door.refuses(413, door.api.build_request("POST", PREPARE, content=fifty_megabytes(), headers=JSON))

        assert sent <= 100_000

    @pytest.mark.parametrize("length", ["99999999999999999999999", "\xb2", "-1", "+5", "0x10", "1_0", ""])
    async def test_with_a_length_that_makes_no_sense_break_nothing(self, door: Door, length: str) -> None:
        body = json.dumps({**VALID[CONFIRM], "amount": 1}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length.encode("latin-1"))]

        answer = await door.api.post(CONFIRM, content=body, headers=headers)

        assert answer.status_code in {413, 422}
        assert answer.json()["code"] in {"body_too_large", "invalid_request"}


class TestAddresses:
    @pytest.mark.parametrize("segment", BAD_SEGMENTS, ids=shown)
    @pytest.mark.parametrize("address", READS)
    async def test_with_anything_but_an_id_in_them_are_refused(self, door: Door, address: str, segment: str) -> None:
        answer = await door.api.get(address.format(segment))

        assert answer.status_code in {404, 422}
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] in {"invalid_request", "no_such_route"}
        assert httpx.URL(f"http://api/{segment}").path.strip("/") not in answer.text

    @pytest.mark.parametrize("segment", BAD_SEGMENTS, ids=shown)
    @pytest.mark.parametrize("address", ["/payments/orders/{}/cancel", "/payments/{}/cancel"])
    async def test_of_a_cancel_with_anything_but_an_id_in_them_are_refused(
        self, door: Door, address: str, segment: str
    ) -> None:
        answer = await door.api.post(address.format(segment), json=CANCEL_BODY)

        assert answer.status_code in {404, 405, 422}
        assert answer.json()["code"] in {"invalid_request", "no_such_route", "method_not_allowed"}
        assert set((await door.rows()).values()) == {0}

    @pytest.mark.parametrize(
        "address", ["/payments/orders/order", f"/payments/orders/{'o' * 65}", f"/payments/{'k' * 201}"]
    )
    async def test_with_an_id_too_short_or_too_long_are_refused(self, door: Door, address: str) -> None:
        problem = await door.refuses(422, door.api.build_request("GET", address))

        assert len(problem["errors"]) == 1

    @pytest.mark.parametrize("address", NOWHERE)
    @pytest.mark.parametrize("host", ["api", "evil.example"])
    async def test_that_do_not_exist_lead_nowhere(self, door: Door, address: str, host: str) -> None:
        request = door.api.build_request("GET", f"http://api{address}", headers={"host": host})

        problem = await door.refuses(404, request)

        assert problem["code"] == "no_such_route"

    @pytest.mark.parametrize(
        ("method", "address"),
        [
            *((method, PREPARE) for method in ("PUT", "PATCH", "DELETE", "TRACE")),
            *((method, "/payments/orders/order-000001") for method in ("POST", "PUT", "PATCH", "DELETE")),
            *((method, "/health/live") for method in ("POST", "DELETE")),
            *((method, address) for method in ("GET", "PUT", "DELETE") for address in (CANCEL, CANCEL_BY_KEY)),
        ],
    )
    async def test_take_no_other_method(self, door: Door, method: str, address: str) -> None:
        content = b"{}" if method in {"POST", "PUT", "PATCH"} else None

        problem = await door.refuses(405, door.api.build_request(method, address, content=content, headers=JSON))

        assert problem["code"] == "method_not_allowed"

    async def test_take_no_head_either(self, door: Door) -> None:
        answer = await door.api.head(f"/payments/orders/{ORDER}")

        assert (answer.status_code, answer.content) == (405, b"")

    async def test_of_a_method_override_are_still_what_they_are(self, door: Door) -> None:
        headers = {"x-http-method-override": "DELETE"}

        await door.refuses(404, door.api.build_request("GET", f"/payments/orders/{ORDER}", headers=headers))


class TestTheseStories:
    """They must be able to see what they look for."""

    @pytest.mark.parametrize("told", [f"not {CANARY}", "not 토스 티셔츠", json.dumps("not 토스 티셔츠")])
    async def test_see_a_value_that_is_repeated(self, told: str) -> None:
        request = httpx.Request("POST", "http://api", json={"orderName": "토스 티셔츠", "amount": CANARY})

        assert repeated(request, httpx.Response(422, text=told))

    async def test_see_one_that_is_repeated_in_a_header(self) -> None:
        request = httpx.Request("POST", "http://api", json={"failUrl": "https://evil.example"})

        assert repeated(request, httpx.Response(422, headers={"location": "https://evil.example/"}))

    async def test_see_nothing_where_nothing_is_repeated(self) -> None:
        request = httpx.Request("POST", "http://api", json={"orderName": "토스 티셔츠"})

        assert not repeated(request, httpx.Response(422, text="Field required"))


class TestRequestId:
    async def test_is_the_callers_where_it_is_harmless(self, door: Door) -> None:
        answer = await door.api.get("/payments/none", headers={"x-request-id": "shop-7.A_1"})

        assert answer.headers["x-request-id"] == answer.json()["requestId"] == "shop-7.A_1"

    @pytest.mark.parametrize(
        "given", ["", "a b", "a" * 65, CANARY + "\t", "\xec\x9a\x94", "\xff", "<x>", "4111-1111-1111-1111"]
    )
    async def test_is_ours_where_it_is_not(self, door: Door, given: str) -> None:
        answer = await door.api.get("/payments/none", headers=[(b"x-request-id", given.encode("latin-1"))])

        assert re.fullmatch("[0-9a-f]{16,32}", answer.headers["x-request-id"])
        assert answer.json()["requestId"] == answer.headers["x-request-id"]


class TestCors:
    REFUSED: Final = (
        ("POST", CONFIRM, b"{", 400),
        ("POST", CONFIRM, b"{}", 422),
        ("POST", PREPARE, b" " * 70_000, 413),
        ("GET", "/payments/none", None, 404),
        ("GET", "/nowhere", None, 404),
        ("DELETE", PREPARE, None, 405),
    )

    @pytest.mark.parametrize(("method", "address", "body", "status"), REFUSED)
    async def test_lets_the_shops_page_read_a_problem(
        self, door: Door, method: str, address: str, body: bytes | None, status: int
    ) -> None:
        answer = await door.api.request(method, address, content=body, headers=JSON)

        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", f"{SHOP}.evil.example", "http://shop.example", f"{SHOP}:444"]
    )
    @pytest.mark.parametrize(("method", "address", "body", "status"), REFUSED)
    async def test_lets_no_other_page_read_one(
        self, door: Door, origin: str, method: str, address: str, body: bytes | None, status: int
    ) -> None:
        answer = await door.api.request(method, address, content=body, headers={**JSON, "origin": origin})

        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers

    async def test_lets_the_shops_page_ask_first(self, door: Door) -> None:
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}

        answer = await door.api.options(CONFIRM, headers=asked)

        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert "access-control-allow-credentials" not in answer.headers

    async def test_lets_no_other_page_ask(self, door: Door) -> None:
        asked = {"access-control-request-method": "POST", "origin": "https://evil.example"}

        answer = await door.api.options(CONFIRM, headers=asked)

        assert answer.status_code == 400
        assert "access-control-allow-origin" not in answer.headers
