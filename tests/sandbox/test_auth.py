import base64

import httpx
import pytest

from tests.sandbox.client import API_KEY, SECRET_KEY, WIDGET_CLIENT_KEY, WIDGET_KEY, Toss, code_of


def basic(credentials: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}


class TestAuthentication:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({}, (401, "UNAUTHORIZED_KEY")),
            (basic(SECRET_KEY), (403, "INCORRECT_BASIC_AUTH_FORMAT")),
            ({"authorization": f"Bearer {SECRET_KEY}:"}, (403, "INCORRECT_BASIC_AUTH_FORMAT")),
            ({"authorization": "Basic ???"}, (403, "INCORRECT_BASIC_AUTH_FORMAT")),
            ({"authorization": "Basic \u00e9"}, (403, "INCORRECT_BASIC_AUTH_FORMAT")),
            (basic("test_sk_of_somebody_else:"), (401, "UNAUTHORIZED_KEY")),
            (basic(f"\ufeff{SECRET_KEY}:"), (401, "UNAUTHORIZED_KEY")),
            (basic("live_sk_0000000000000000000000000000:"), (401, "UNAUTHORIZED_KEY")),
            (basic(f"{SECRET_KEY}:password"), (401, "UNAUTHORIZED_KEY")),
        ],
    )
    async def test_wrong_credentials_are_refused(
        self, toss: Toss, headers: dict[str, str], expected: tuple[int, str]
    ) -> None:
        raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}

        answer = await toss.http.get("/v1/payments/some-payment-key", headers=raw)

        assert code_of(answer) == expected

    async def test_key_before_a_colon_is_taken(self, toss: Toss) -> None:
        payment_key = await toss.pay()

        answer = await toss.http.get(f"/v1/payments/{payment_key}", headers=basic(f"{SECRET_KEY}:"))

        assert answer.status_code == 200

    async def test_confirm_with_the_key_of_another_pair_is_refused(self, toss: Toss) -> None:
        payment_key = await toss.pay(clientKey=WIDGET_CLIENT_KEY)

        assert code_of(await toss.confirm(payment_key, auth=API_KEY)) == (400, "INVALID_API_KEY")
        assert (await toss.confirm(payment_key, auth=WIDGET_KEY)).status_code == 200

    async def test_unauthorized_call_is_on_record(self, toss: Toss) -> None:
        payment_key = await toss.pay()

        await toss.confirm(payment_key, auth=httpx.BasicAuth("unknown", ""))

        assert [(call["status"], call["code"]) for call in await toss.calls()] == [(401, "UNAUTHORIZED_KEY")]


class TestRoutes:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/payments/confirm"),
            ("PUT", "/v1/payments/confirm"),
            ("DELETE", "/v1/payments/some-payment-key"),
            ("POST", "/v1/payments/orders/order-000001"),
            ("GET", "/v1/nothing/here"),
        ],
    )
    async def test_unknown_method_is_not_found(self, toss: Toss, method: str, path: str) -> None:
        answer = await toss.http.request(method, path, auth=API_KEY)

        assert code_of(answer) == (404, "NOT_FOUND_HTTP_METHOD")

    async def test_every_answer_has_a_trace_id_of_its_own(self, toss: Toss) -> None:
        answers = [await toss.look_up("some-payment-key") for _ in range(2)]

        trace_ids = {answer.headers["x-tosspayments-trace-id"] for answer in answers}
        assert len(trace_ids) == 2
