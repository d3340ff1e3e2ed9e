from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from toss_sandbox.engine import BuyerChoice, Sandbox, WindowRequest
from toss_sandbox.errors import TossError
from toss_sandbox.settings import Settings

SETTINGS = Settings()
REQUEST = WindowRequest(
    client_key=SETTINGS.client_key,
    order_id="order-000001",
    order_name="테스트 상품",
    amount=15_000,
    method="CARD",
    success_url="https://shop.example/success?shop=1#top",
    fail_url="https://shop.example/fail",
    customer_email=None,
    customer_name=None,
    flow="payment",
)
WIDGETS = replace(REQUEST, client_key=SETTINGS.widget_client_key, method="WIDGET", flow="widgets")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(SETTINGS)
    yield sandbox
    sandbox.close()


def query_of(address: str) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(urlsplit(address).query).items()}


class TestOpenWindow:
    def test_window_shows_the_request(self, sandbox: Sandbox) -> None:
        window = sandbox.window(sandbox.open_window(REQUEST))

        assert (window.order_id, window.order_name, window.amount) == ("order-000001", "테스트 상품", 15_000)
        assert (window.status, window.method, window.flow) == ("READY", "CARD", "payment")

    @pytest.mark.parametrize(
        ("request_", "code"),
        [
            (replace(REQUEST, client_key="test_ck_of_somebody_else"), "UNAUTHORIZED_KEY"),
            (replace(REQUEST, client_key="live_ck_0000000000000000"), "UNAUTHORIZED_KEY"),
            (replace(REQUEST, client_key=SETTINGS.secret_key), "INSECURE_KEY_USAGE"),
            (replace(REQUEST, client_key=SETTINGS.widget_client_key), "NOT_SUPPORTED_WIDGET_KEY"),
            (replace(WIDGETS, client_key=SETTINGS.client_key), "NOT_SUPPORTED_API_INDIVIDUAL_KEY"),
            (replace(REQUEST, order_id="short"), "INVALID_ORDER_ID"),
            (replace(REQUEST, order_id="order 000001"), "INVALID_ORDER_ID"),
            (replace(REQUEST, order_name="가" * 101), "INVALID_ORDER_NAME"),
            (replace(REQUEST, amount=0), "BELOW_ZERO_AMOUNT"),
            (replace(REQUEST, amount=2**53), "EXCEED_MAX_AMOUNT"),
            (replace(REQUEST, method="CASH"), "NOT_SUPPORTED_METHOD"),
            (replace(REQUEST, method="WIDGET"), "NOT_SUPPORTED_METHOD"),
            (replace(REQUEST, success_url="/success"), "INCORRECT_SUCCESS_URL_FORMAT"),
            (replace(REQUEST, fail_url="javascript:alert(1)"), "INCORRECT_FAIL_URL_FORMAT"),
            (replace(REQUEST, success_url="http://["), "INCORRECT_SUCCESS_URL_FORMAT"),
            (replace(REQUEST, fail_url="http://\u2100.example/"), "INCORRECT_FAIL_URL_FORMAT"),
        ],
    )
    def test_request_against_the_rules_is_refused(self, sandbox: Sandbox, request_: WindowRequest, code: str) -> None:
        with pytest.raises(TossError) as refused:
            sandbox.open_window(request_)

        assert refused.value.code == code
        assert sandbox.list_payments() == []

    def test_unknown_window_is_not_found(self, sandbox: Sandbox) -> None:
        with pytest.raises(TossError, match="NOT_FOUND_PAYMENT"):
            sandbox.window("no-such-payment")


class TestAuthenticate:
    def test_buyer_returns_with_key_order_and_amount(self, sandbox: Sandbox) -> None:
        payment_key = sandbox.open_window(REQUEST)

        address = sandbox.authenticate(payment_key, BuyerChoice())

        expected = {"shop": "1", "paymentKey": payment_key, "orderId": "order-000001", "amount": "15000"}
        assert query_of(address) == expected
        assert address.startswith("https://shop.example/success?shop=1&")
        assert address.endswith("#top")
        assert sandbox.window(payment_key).status == "IN_PROGRESS"

    def test_widget_adds_the_payment_type(self, sandbox: Sandbox) -> None:
        address = sandbox.authenticate(sandbox.open_window(WIDGETS), BuyerChoice(method="TRANSFER"))

        assert query_of(address)["paymentType"] == "NORMAL"

    def test_buyer_who_agrees_twice_returns_to_the_same_address(self, sandbox: Sandbox) -> None:
        payment_key = sandbox.open_window(REQUEST)

        assert sandbox.authenticate(payment_key, BuyerChoice()) == sandbox.authenticate(payment_key, BuyerChoice())

    @pytest.mark.parametrize(
        ("choice", "code"),
        [
            (BuyerChoice(method="TRANSFER"), "NOT_SUPPORTED_METHOD"),
            (BuyerChoice(instalment_months=13), "INVALID_CARD_INSTALLMENT_PLAN"),
            (BuyerChoice(refuse_with="NO_SUCH_CODE"), "INVALID_TEST_CODE"),
        ],
    )
    def test_impossible_choice_is_refused(self, sandbox: Sandbox, choice: BuyerChoice, code: str) -> None:
        payment_key = sandbox.open_window(REQUEST)

        with pytest.raises(TossError, match=code):
            sandbox.authenticate(payment_key, choice)

        assert sandbox.window(payment_key).status == "READY"

    def test_expired_window_has_no_session(self, sandbox: Sandbox) -> None:
        payment_key = sandbox.open_window(REQUEST)
        sandbox.expire(payment_key)

        with pytest.raises(TossError, match="NOT_FOUND_PAYMENT_SESSION"):
            sandbox.authenticate(payment_key, BuyerChoice())


class TestLeaveWindow:
    def test_closing_changes_nothing_and_leaves_the_order_out(self, sandbox: Sandbox) -> None:
        payment_key = sandbox.open_window(REQUEST)

        query = query_of(sandbox.close_window(payment_key))

        assert query == {"code": "PAY_PROCESS_CANCELED", "message": "결제가 사용자에 의해 취소되었습니다."}
        assert sandbox.window(payment_key).status == "READY"

    def test_failing_aborts_and_names_the_order(self, sandbox: Sandbox) -> None:
        payment_key = sandbox.open_window(REQUEST)

        query = query_of(sandbox.abort_window(payment_key, "REJECT_CARD_COMPANY"))

        message = "결제 승인이 거절되었습니다."
        assert query == {"code": "REJECT_CARD_COMPANY", "message": message, "orderId": "order-000001"}
        assert sandbox.window(payment_key).status == "ABORTED"

    def test_aborted_payment_cannot_be_aborted_again(self, sandbox: Sandbox) -> None:
        payment_key = sandbox.open_window(REQUEST)
        sandbox.abort_window(payment_key, "PAY_PROCESS_ABORTED")

        with pytest.raises(TossError, match="ALREADY_PROCESSED_PAYMENT"):
            sandbox.abort_window(payment_key, "PAY_PROCESS_ABORTED")
