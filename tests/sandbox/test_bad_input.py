"""Whatever is sent, the sandbox answers 5xx only when a fault or a test code asks it to."""

import json
from typing import Final

import pytest

from tests.sandbox.client import API_KEY, ORDER, Toss

HALF_A_PAIR: Final = r'"\ud800"'
NO_BODIES: Final = {
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "not a number": b"NaN",
    "half a document": b"{",
    "no text": b"\xff\xfe",
    "a NUL": b"\x00",
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a number without an end": b"9" * 5_000,
    "a megabyte": b'{"a":"' + b"x" * 1_000_000 + b'"}',
    "a name that is no text": b'{"\\ud800": 1}',
}
NO_VALUES: Final = [
    "NaN",
    "-Infinity",
    "1e400",
    "9" * 400,
    "-1",
    "0",
    "1.5",
    "true",
    "[]",
    "{}",
    '""',
    r'"a\u0000b"',
    HALF_A_PAIR,
    '"http://["',
    '"' + "x" * 1_000_000 + '"',
]
MEMBERS: Final[dict[str, dict[str, object]]] = {
    "/sandbox/payments": {"orderId": ORDER, "amount": 15_000, "orderName": "n", "refuseWith": None, "leaveReady": True},
    "/sandbox/faults": {"operation": "lookup", "kind": "delay", "times": 1, "delaySeconds": 0, "code": "X"},
    "/sandbox/clock": {"advanceSeconds": 0},
    "/sandbox/window": {
        "clientKey": "test_ck_sandbox0000000000000000000000",
        "flow": "payment",
        "method": "CARD",
        "orderId": ORDER,
        "orderName": "n",
        "amount": 15_000,
        "successUrl": "http://127.0.0.1/success",
        "failUrl": "http://127.0.0.1/fail",
        "customerName": None,
    },
    "/v1/payments/confirm": {"paymentKey": "some-key", "orderId": ORDER, "amount": 15_000},
}


class TestBodies:
    @pytest.mark.parametrize("path", MEMBERS)
    @pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data", "no type"])
    async def test_what_is_no_body_is_refused(self, served: Toss, path: str, content_type: str) -> None:
        headers = {"content-type": content_type}

        for what, body in NO_BODIES.items():
            answer = await served.http.post(path, content=body, headers=headers, auth=API_KEY)

            assert 400 <= answer.status_code < 500, what
            assert len(answer.content) < 2_000, what

    @pytest.mark.parametrize(("path", "member"), [(path, member) for path in MEMBERS for member in MEMBERS[path]])
    async def test_any_value_has_an_answer(self, served: Toss, path: str, member: str) -> None:
        for value in NO_VALUES:
            answer = await post_with(served, path, member, value)

            assert answer < 500, value[:80]

    async def test_what_was_taken_can_be_shown(self, served: Toss) -> None:
        for member in MEMBERS["/sandbox/payments"]:
            for value in NO_VALUES:
                await post_with(served, "/sandbox/payments", member, value)

        assert (await served.http.get("/sandbox/payments")).status_code == 200
        assert (await served.http.get("/sandbox/calls")).status_code == 200

    async def test_half_a_surrogate_pair_is_no_text(self, served: Toss) -> None:
        assert await post_with(served, "/sandbox/payments", "orderName", HALF_A_PAIR) == 422
        assert await post_with(served, "/sandbox/faults", "code", HALF_A_PAIR) == 422
        assert await post_with(served, "/sandbox/window", "orderName", HALF_A_PAIR) == 400


class TestForms:
    @pytest.mark.parametrize(
        "form",
        [
            b"",
            b"method=%00",
            b"method=%ff",
            b"method=CARD&instalmentMonths=NaN",
            b"method=CARD&instalmentMonths=" + b"9" * 5_000,
            b"method=CARD&outcome=NO_SUCH_CODE",
            b"method=CARD&holderName=" + b"x" * 1_000_000,
            b"method=CARD&bank=%ED%A0%80",
            b"\xff\xfe",
            b"code=%00",
            b"code=NO_SUCH_CODE",
            b"a=1&" * 3_000,
        ],
    )
    @pytest.mark.parametrize("step", ["pay", "abort"])
    @pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
    async def test_what_the_window_does_not_offer_is_refused(
        self, served: Toss, form: bytes, step: str, content_type: str
    ) -> None:
        payment_key = await served.pay(leaveReady=True)
        headers = {"content-type": content_type}

        answer = await served.http.post(f"/sandbox/window/{payment_key}/{step}", content=form, headers=headers)

        assert 400 <= answer.status_code < 500
        assert (await served.look_up(payment_key)).json()["status"] == "READY"


class TestAddresses:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/payments/{}"),
            ("GET", "/v1/payments/orders/{}"),
            ("GET", "/v1/payments/{}/checkout"),
            ("POST", "/v1/payments/{}/cancel"),
            ("GET", "/sandbox/assets/{}"),
            ("GET", "/sandbox/payments?limit={}"),
            ("GET", "/sandbox/calls?limit={}"),
            ("DELETE", "/sandbox/faults/{}"),
            ("POST", "/sandbox/payments/{}/expire"),
            ("POST", "/sandbox/window/{}/close"),
        ],
    )
    async def test_what_names_nothing_is_refused(self, served: Toss, method: str, path: str) -> None:
        for text in ("%00", "%ff", "%ED%A0%80", "%F0%9F%98%80", "x" * 5_000, "-1", "9" * 30, "1.5"):
            answer = await served.http.request(method, path.format(text), auth=API_KEY)

            assert 400 <= answer.status_code < 500, text

    @pytest.mark.parametrize("path", ["/sandbox/payments", "/sandbox/calls", "/sandbox/ledger"])
    async def test_order_that_cannot_be_is_not_there(self, served: Toss, path: str) -> None:
        assert (await served.http.get(f"{path}?orderId=%00%ED%A0%80")).status_code == 200


class TestHeaders:
    @pytest.mark.parametrize("value", [b"", b"\xff", b"x" * 301, b"Basic", b"Basic ===", b"Basic /w==", b"Basic OgA="])
    @pytest.mark.parametrize("name", [b"authorization", b"idempotency-key", b"tosspayments-test-code"])
    async def test_any_value_has_an_answer(self, served: Toss, name: bytes, value: bytes) -> None:
        body = json.dumps(MEMBERS["/v1/payments/confirm"]).encode()

        answer = await served.http.post("/v1/payments/confirm", headers=[(name, value)], content=body)

        assert 400 <= answer.status_code < 500


async def post_with(toss: Toss, path: str, member: str, value: str) -> int:
    """Post what the route takes, with one member replaced by a piece of JSON; returns the status."""
    members = {name: json.dumps(usual) for name, usual in MEMBERS[path].items()} | {member: value}
    body = "{" + ",".join(f'"{name}":{text}' for name, text in members.items()) + "}"
    headers = {"content-type": "application/json"}
    return (await toss.http.post(path, content=body, headers=headers, auth=API_KEY)).status_code
