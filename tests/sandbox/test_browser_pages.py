import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from toss_sandbox.app import create_sandbox
from toss_sandbox.settings import Settings

SETTINGS = Settings()
SHOP = "http://127.0.0.1:8200"
ORDER: dict[str, Any] = {
    "clientKey": SETTINGS.client_key,
    "flow": "payment",
    "method": "CARD",
    "orderId": "order-000001",
    "orderName": "토스 티셔츠 외 2건",
    "amount": 15_000,
    "successUrl": f"{SHOP}/success",
    "failUrl": f"{SHOP}/fail",
}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = create_sandbox(SETTINGS)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


async def open_window(client: httpx.AsyncClient, **changes: object) -> tuple[str, str]:
    """Open a window as the SDK does; the payment key and the window's address."""
    answer = (await client.post("/sandbox/window", json=ORDER | changes)).json()
    return answer["paymentKey"], answer["checkoutPath"]


async def pay(client: httpx.AsyncClient, payment_key: str, **form: object) -> httpx.Response:
    return await client.post(f"/sandbox/window/{payment_key}/pay", data={"method": "CARD"} | form)


async def confirm(
    client: httpx.AsyncClient, payment_key: str, amount: int = 15_000, secret_key: str = SETTINGS.secret_key
) -> httpx.Response:
    body = {"paymentKey": payment_key, "orderId": ORDER["orderId"], "amount": amount}
    return await client.post("/v1/payments/confirm", json=body, auth=(secret_key, ""))


def means_of(payment: dict[str, Any], expected: tuple[object, ...]) -> tuple[object, ...]:
    """What the payment says where `expected` looks: the method, and one member of the object that belongs to it."""
    _, name, member, _ = expected
    return payment["method"], name, member, payment[str(name)][str(member)]


def query_of(response: httpx.Response) -> dict[str, list[str]]:
    return parse_qs(urlsplit(response.headers["location"]).query)


class TestSdk:
    async def test_is_javascript_that_any_origin_may_load(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v2/standard")

        assert answer.headers["content-type"] == "application/javascript; charset=utf-8"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "window.TossPayments = TossPayments" in answer.text

    async def test_browsers_may_post_to_it_from_any_origin(self, client: httpx.AsyncClient) -> None:
        answer = await client.options("/sandbox/window", headers={"Origin": SHOP})

        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["access-control-allow-headers"] == "Content-Type"

    async def test_refusal_can_be_read_from_any_origin(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/sandbox/window", json=ORDER | {"clientKey": "test_ck_somebody_else"})

        assert answer.json()["code"] == "UNAUTHORIZED_KEY"
        assert answer.headers["access-control-allow-origin"] == "*"

    @pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "/success", "http://", "http://["])
    async def test_only_web_addresses_are_returned_to(self, client: httpx.AsyncClient, url: str) -> None:
        success = await client.post("/sandbox/window", json=ORDER | {"successUrl": url})
        fail = await client.post("/sandbox/window", json=ORDER | {"failUrl": url})

        assert success.json()["code"] == "INCORRECT_SUCCESS_URL_FORMAT"
        assert fail.json()["code"] == "INCORRECT_FAIL_URL_FORMAT"

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"amount": "15000"}'])
    async def test_malformed_request_is_refused_with_a_toss_code(self, client: httpx.AsyncClient, body: bytes) -> None:
        answer = await client.post("/sandbox/window", content=body)

        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")


class TestWindow:
    async def test_shows_what_is_paid(self, client: httpx.AsyncClient) -> None:
        _, path = await open_window(client)

        text = (await client.get(path)).text

        assert "토스 티셔츠 외 2건" in text
        assert "15,000원" in text
        assert "실제로 결제되지 않습니다" in text

    async def test_shop_cannot_put_markup_into_it(self, client: httpx.AsyncClient) -> None:
        _, path = await open_window(client, orderName='<img src=x onerror="alert(1)">')

        text = (await client.get(f"{path}&easyPay=%22%3E%3Cscript%3E")).text

        assert "<img" not in text
        assert "<script>" not in text

    async def test_runs_no_script_but_its_own(self, client: httpx.AsyncClient) -> None:
        _, path = await open_window(client)

        policy = (await client.get(path)).headers["content-security-policy"]

        assert "default-src 'none'; script-src 'self'" in policy

    @pytest.mark.parametrize(
        ("method", "offered"),
        [
            ("TRANSFER", ["TRANSFER"]),
            ("CARD", ["CARD", "EASY_PAY"]),
            ("BOOK_GIFT_CERTIFICATE", ["BOOK_GIFT_CERTIFICATE"]),
        ],
    )
    async def test_method_of_the_request_is_fixed(
        self, client: httpx.AsyncClient, method: str, offered: list[str]
    ) -> None:
        _, path = await open_window(client, method=method)

        text = (await client.get(path)).text

        assert text.count('name="method"') == len(offered)
        assert all(f'data-testid="method-{each}"' in text for each in offered)

    async def test_unknown_payment_says_so_in_korean(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/v1/payments/unknown/checkout")

        assert answer.status_code == 404
        assert "존재하지 않는 결제 정보 입니다." in answer.text

    async def test_is_no_call_to_the_api(self, client: httpx.AsyncClient) -> None:
        _, path = await open_window(client)
        await client.get(path)

        assert (await client.get("/sandbox/calls")).json() == {"calls": []}


class TestBuyer:
    async def test_paying_leads_to_success_url(self, client: httpx.AsyncClient) -> None:
        payment_key, _ = await open_window(client)

        answer = await pay(client, payment_key)

        assert answer.status_code == 303
        assert answer.headers["location"].startswith(f"{SHOP}/success?")
        assert query_of(answer) == {"paymentKey": [payment_key], "orderId": [ORDER["orderId"]], "amount": ["15000"]}

    async def test_paying_twice_leads_to_the_same_place(self, client: httpx.AsyncClient) -> None:
        payment_key, _ = await open_window(client)

        first = await pay(client, payment_key)
        second = await pay(client, payment_key)

        assert second.headers["location"] == first.headers["location"]

    @pytest.mark.parametrize(
        "form",
        [
            {"method": "TRANSFER"},
            {"outcome": "NO_SUCH_CODE"},
            {"instalmentMonths": 2},
            {"bank": "99"},
            {"easyPayProvider": "누구페이"},
        ],
    )
    async def test_choice_that_was_not_offered_pays_nothing(
        self, client: httpx.AsyncClient, form: dict[str, object]
    ) -> None:
        payment_key, _ = await open_window(client)

        answer = await pay(client, payment_key, **form)

        assert answer.status_code == 400
        assert (await client.get("/sandbox/payments")).json()[0]["status"] == "READY"

    async def test_closing_leaves_the_order_id_out(self, client: httpx.AsyncClient) -> None:
        payment_key, _ = await open_window(client)

        answer = await client.post(f"/sandbox/window/{payment_key}/close")

        assert answer.headers["location"].startswith(f"{SHOP}/fail?")
        assert query_of(answer).keys() == {"code", "message"}
        assert query_of(answer)["code"] == ["PAY_PROCESS_CANCELED"]

    async def test_failing_in_the_window_names_the_order(self, client: httpx.AsyncClient) -> None:
        payment_key, _ = await open_window(client)

        answer = await client.post(f"/sandbox/window/{payment_key}/abort", data={"code": "REJECT_CARD_COMPANY"})

        assert query_of(answer)["code"] == ["REJECT_CARD_COMPANY"]
        assert query_of(answer)["orderId"] == [ORDER["orderId"]]

    async def test_failed_payment_cannot_be_paid_in_another_tab(self, client: httpx.AsyncClient) -> None:
        payment_key, _ = await open_window(client)
        await client.post(f"/sandbox/window/{payment_key}/abort", data={"code": "PAY_PROCESS_ABORTED"})

        answer = await pay(client, payment_key)

        assert "실패한 결제입니다." in answer.text
        assert f'href="{SHOP}/"' in answer.text

    @pytest.mark.parametrize("code", ["PAY_PROCESS_CANCELED", "NO_SUCH_CODE"])
    async def test_window_fails_with_its_own_codes_only(self, client: httpx.AsyncClient, code: str) -> None:
        payment_key, _ = await open_window(client)

        answer = await client.post(f"/sandbox/window/{payment_key}/abort", data={"code": code})

        assert answer.status_code == 400

    @pytest.mark.parametrize("action", ["pay", "close", "abort"])
    async def test_unknown_payment_is_not_found(self, client: httpx.AsyncClient, action: str) -> None:
        form = {"method": "CARD", "code": "PAY_PROCESS_ABORTED"}

        answer = await client.post(f"/sandbox/window/unknown/{action}", data=form)

        assert answer.status_code == 404
        assert "존재하지 않는 결제 정보 입니다." in answer.text

    async def test_too_late_is_said_clearly_with_a_way_back(self, client: httpx.AsyncClient) -> None:
        payment_key, path = await open_window(client)
        await client.post("/sandbox/clock", json={"advanceSeconds": 31 * 60})

        shown = await client.get(path)
        paid = await pay(client, payment_key)
        back = await client.post(f"/sandbox/window/{payment_key}/close")

        assert "결제 시간이 만료되었습니다." in shown.text
        assert "결제 시간이 만료되었습니다." in paid.text
        assert 'data-testid="back"' in paid.text
        assert back.headers["location"].startswith(f"{SHOP}/fail?code=PAY_PROCESS_CANCELED")


# A method, what the buyer fills in besides, and what the confirmed Payment object says of it.
MEANS = [
    ("CARD", {"instalmentMonths": 12}, ("카드", "card", "installmentPlanMonths", 12)),
    ("EASY_PAY", {"easyPayProvider": "카카오페이"}, ("간편결제", "easyPay", "provider", "카카오페이")),
    ("TRANSFER", {"bank": "06"}, ("계좌이체", "transfer", "bankCode", "06")),
    ("VIRTUAL_ACCOUNT", {"bank": "71"}, ("가상계좌", "virtualAccount", "bankCode", "71")),
    ("VIRTUAL_ACCOUNT", {"holderName": "김토스"}, ("가상계좌", "virtualAccount", "customerName", "김토스")),
    ("MOBILE_PHONE", {}, ("휴대폰", "mobilePhone", "customerMobilePhone", "01000000000")),
    ("CULTURE_GIFT_CERTIFICATE", {}, ("문화상품권", "giftCertificate", "settlementStatus", "INCOMPLETED")),
    ("BOOK_GIFT_CERTIFICATE", {}, ("도서문화상품권", "giftCertificate", "settlementStatus", "INCOMPLETED")),
    ("GAME_GIFT_CERTIFICATE", {}, ("게임문화상품권", "giftCertificate", "settlementStatus", "INCOMPLETED")),
]
MEANS_OBJECTS = ("card", "easyPay", "transfer", "virtualAccount", "mobilePhone", "giftCertificate")


class TestMeans:
    @pytest.mark.parametrize(("method", "form", "expected"), MEANS)
    async def test_method_of_a_payment_window_ends_in_its_payment(
        self, client: httpx.AsyncClient, method: str, form: dict[str, object], expected: tuple[object, ...]
    ) -> None:
        requested = "CARD" if method == "EASY_PAY" else method  # a window for cards offers the wallets too
        payment_key, _ = await open_window(client, method=requested, amount=50_000)

        await pay(client, payment_key, method=method, **form)

        assert means_of((await confirm(client, payment_key, 50_000)).json(), expected) == expected

    @pytest.mark.parametrize(("method", "form", "expected"), MEANS)
    async def test_method_chosen_in_a_widget_ends_in_its_payment(
        self, client: httpx.AsyncClient, method: str, form: dict[str, object], expected: tuple[object, ...]
    ) -> None:
        payment_key, _ = await open_window(
            client, clientKey=SETTINGS.widget_client_key, flow="widgets", method="CARD", amount=50_000
        )

        await pay(client, payment_key, method=method, **form)

        answer = await confirm(client, payment_key, 50_000, SETTINGS.widget_secret_key)
        assert means_of(answer.json(), expected) == expected

    async def test_fields_of_other_methods_are_left_aside(self, client: httpx.AsyncClient) -> None:
        payment_key, _ = await open_window(client, method="TRANSFER", amount=50_000)

        await pay(
            client,
            payment_key,
            method="TRANSFER",
            bank="20",
            instalmentMonths=6,
            easyPayProvider="토스페이",
            holderName="김토스",
        )

        payment = (await confirm(client, payment_key, 50_000)).json()
        assert [name for name in MEANS_OBJECTS if payment[name]] == ["transfer"]
        assert payment["transfer"]["bankCode"] == "20"

    @pytest.mark.parametrize(("amount", "offered"), [(49_999, [0]), (50_000, [0, *range(2, 13)])])
    async def test_instalments_begin_at_50000_won(
        self, client: httpx.AsyncClient, amount: int, offered: list[int]
    ) -> None:
        _, path = await open_window(client, amount=amount)

        text = (await client.get(path)).text

        select = text.partition('name="instalmentMonths"')[2].partition("</select>")[0]
        assert [int(months) for months in re.findall(r'value="(\d+)"', select)] == offered
        assert ("할부는 50,000원부터 됩니다." in text) == (offered == [0])

    async def test_banks_are_named_with_their_codes(self, client: httpx.AsyncClient) -> None:
        _, path = await open_window(client, method="VIRTUAL_ACCOUNT")

        text = (await client.get(path)).text

        assert '<option value="88">신한은행 (88)</option>' in text
        assert '<option value="71">우체국 (71)</option>' in text

    async def test_widget_offers_every_method(self, client: httpx.AsyncClient) -> None:
        _, path = await open_window(client, clientKey=SETTINGS.widget_client_key, flow="widgets")

        text = (await client.get(path)).text

        assert re.findall(r'name="method" value="(\w+)"', text) == list(dict.fromkeys(method for method, *_ in MEANS))

    async def test_window_of_the_control_api_can_be_looked_at(self, client: httpx.AsyncClient) -> None:
        body = {"orderId": "order-000002", "amount": 15_000, "method": "GIFT_CERTIFICATE", "leaveReady": True}
        payment_key = (await client.post("/sandbox/payments", json=body)).json()["paymentKey"]

        answer = await client.get(f"/v1/payments/{payment_key}/checkout")

        assert answer.status_code == 200
        assert 'value="GIFT_CERTIFICATE"' in answer.text


class TestAssets:
    @pytest.mark.parametrize("name", ["style.css", "window.js", "result.js", "dashboard.js"])
    async def test_pages_find_what_they_load(self, client: httpx.AsyncClient, name: str) -> None:
        assert (await client.get(f"/sandbox/assets/{name}")).status_code == 200

    @pytest.mark.parametrize("name", ["nothing.js", "..%2Fpages.py"])
    async def test_nothing_else_is_served(self, client: httpx.AsyncClient, name: str) -> None:
        assert (await client.get(f"/sandbox/assets/{name}")).status_code == 404

    async def test_pages_load_nothing_from_elsewhere(self, client: httpx.AsyncClient) -> None:
        _, path = await open_window(client)

        for page in (path, "/", "/sandbox/window/result"):
            text = (await client.get(page)).text
            assert 'src="http' not in text
            assert 'href="http' not in text
