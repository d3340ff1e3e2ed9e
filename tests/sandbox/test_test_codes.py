import pytest

from tests.sandbox.client import Toss, code_of
from toss_sandbox.errors import CODES

DOCUMENTED = {
    400: """
        ALREADY_PROCESSED_PAYMENT PROVIDER_ERROR CARD_PROCESSING_ERROR INVALID_REQUEST INVALID_API_KEY
        UNAPPROVED_ORDER_ID NOT_FOUND_TERMINAL_ID INVALID_AUTHORIZE_AUTH INVALID_UNREGISTERED_SUBMALL
        NOT_REGISTERED_BUSINESS BELOW_MINIMUM_AMOUNT EXCEED_MAX_AMOUNT EXCEED_MAX_PAYMENT_AMOUNT
        EXCEED_MAX_DAILY_PAYMENT_COUNT EXCEED_MAX_MONTHLY_PAYMENT_AMOUNT EXCEED_MAX_ONE_DAY_WITHDRAW_AMOUNT
        EXCEED_MAX_ONE_TIME_WITHDRAW_AMOUNT EXCEED_MAX_CARD_INSTALLMENT_PLAN INVALID_CARD_INSTALLMENT_PLAN
        NOT_SUPPORTED_INSTALLMENT_PLAN_CARD_OR_MERCHANT NOT_SUPPORTED_MONTHLY_INSTALLMENT_PLAN NOT_ALLOWED_POINT_USE
        INVALID_CARD_NUMBER INVALID_CARD_EXPIRATION INVALID_STOPPED_CARD INVALID_REJECT_CARD
        INVALID_CARD_LOST_OR_STOLEN RESTRICTED_TRANSFER_ACCOUNT INVALID_ACCOUNT_INFO_RE_REGISTER NOT_AVAILABLE_PAYMENT
        ALREADY_COMPLETED_PAYMENT DUPLICATED_ORDER_ID DUPLICATED_REQUEST MAINTAINED_METHOD NOT_SUPPORTED_METHOD
        EXCEEDS_TRANSFER_AMOUNT_MAXIMUM PAY_PROCESS_CANCELED PAY_PROCESS_ABORTED
        ALREADY_CANCELED_PAYMENT INVALID_REFUND_ACCOUNT_INFO INVALID_REFUND_ACCOUNT_NUMBER INVALID_BANK
        EXCEED_CANCEL_AMOUNT_DISCOUNT_AMOUNT NOT_MATCHES_REFUNDABLE_AMOUNT REFUND_REJECTED ALREADY_REFUND_PAYMENT
        FORBIDDEN_BANK_REFUND_REQUEST
        INVALID_ORDER_ID INVALID_PAYMENT_KEY INVALID_REQUIRED_PARAM REQUIRED_AMOUNT INVALID_CURRENCY
        INVALID_IDEMPOTENCY_KEY INVALID_TEST_CODE
    """,
    401: "UNAUTHORIZED_KEY",
    403: """
        INCORRECT_BASIC_AUTH_FORMAT FORBIDDEN_REQUEST REJECT_CARD_PAYMENT REJECT_CARD_COMPANY REJECT_ACCOUNT_PAYMENT
        REJECT_TOSSPAY_INVALID_ACCOUNT EXCEED_MAX_AUTH_COUNT EXCEED_MAX_ONE_DAY_AMOUNT NOT_AVAILABLE_BANK
        INVALID_PASSWORD FDS_ERROR
        NOT_CANCELABLE_AMOUNT NOT_CANCELABLE_PAYMENT NOT_CANCELABLE_PAYMENT_FOR_DORMANT_USER
        FORBIDDEN_CONSECUTIVE_REQUEST EXCEED_MAX_REFUND_DUE NOT_ALLOWED_PARTIAL_REFUND
        NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT EXCEED_CANCEL_LIMIT
    """,
    404: "NOT_FOUND_PAYMENT NOT_FOUND_PAYMENT_SESSION NOT_FOUND NOT_FOUND_HTTP_METHOD",
    409: "IDEMPOTENT_REQUEST_PROCESSING",
    500: """
        FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING FAILED_INTERNAL_SYSTEM_PROCESSING UNKNOWN_PAYMENT_ERROR
        FAILED_METHOD_HANDLING FAILED_DB_PROCESSING COMMON_ERROR UNKNOWN_ERROR
        FAILED_REFUND_PROCESS FAILED_METHOD_HANDLING_CANCEL FAILED_PARTIAL_REFUND
    """,
}
CASES = [(status, code) for status, codes in DOCUMENTED.items() for code in codes.split()]


class TestTestCode:
    @pytest.mark.parametrize(("status", "code"), CASES)
    async def test_code_is_answered_with_its_status(self, toss: Toss, status: int, code: str) -> None:
        answer = await toss.confirm("any-payment-key", test_code=code)

        assert code_of(answer) == (status, code)
        assert 0 < len(answer.json()["message"]) <= 510
        assert answer.json()["message"] != code

    async def test_code_changes_nothing(self, toss: Toss) -> None:
        payment_key = await toss.pay()

        await toss.confirm(payment_key, test_code="REJECT_CARD_COMPANY")

        assert (await toss.look_up(payment_key)).json()["status"] == "IN_PROGRESS"
        assert (await toss.confirm(payment_key)).status_code == 200

    async def test_code_counts_for_its_own_request_only(self, toss: Toss) -> None:
        payment_key = await toss.pay()

        refused = await toss.confirm(payment_key, key="key-1", test_code="IDEMPOTENT_REQUEST_PROCESSING")
        retried = await toss.confirm(payment_key, key="key-1")

        assert (refused.status_code, retried.status_code) == (409, 200)

    async def test_look_ups_obey_it_too(self, toss: Toss) -> None:
        headers = {"tosspayments-test-code": "NOT_FOUND_PAYMENT"}
        payment_key = await toss.pay()

        answer = await toss.http.get(
            f"/v1/payments/{payment_key}", headers=headers, auth=("test_sk_sandbox0000000000000000000000", "")
        )

        assert code_of(answer) == (404, "NOT_FOUND_PAYMENT")

    async def test_unknown_code_is_refused(self, toss: Toss) -> None:
        payment_key = await toss.pay()

        assert code_of(await toss.confirm(payment_key, test_code="NO_SUCH_CODE")) == (400, "INVALID_TEST_CODE")

    async def test_code_is_on_record(self, toss: Toss) -> None:
        await toss.confirm(await toss.pay(), test_code="FDS_ERROR")

        assert [(call["testCode"], call["status"]) for call in await toss.calls()] == [("FDS_ERROR", 403)]


def test_messages_are_those_of_the_documents() -> None:
    assert CODES["REJECT_CARD_PAYMENT"] == (403, "한도초과 혹은 잔액부족으로 결제에 실패했습니다.")
    assert CODES["PROVIDER_ERROR"] == (400, "일시적인 오류가 발생했습니다. 잠시 후 다시 시도해주세요.")
    assert CODES["NOT_CANCELABLE_AMOUNT"] == (403, "취소 할 수 없는 금액 입니다.")
