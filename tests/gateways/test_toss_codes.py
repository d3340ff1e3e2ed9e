"""The table of error codes against a copy of the documented list, so that neither changes unnoticed."""

import pytest

from payments.gateways.pg import UnknownBecause
from payments.gateways.toss_codes import CODES, KEY_FAULTS, CodeClass, classify, why_look_up_failed

# https://docs.tosspayments.com/reference/error-codes, confirm: HTTP status and code as documented.
REFUSED_AT_CONFIRM = [
    (400, "BELOW_MINIMUM_AMOUNT"),
    (400, "EXCEED_MAX_AMOUNT"),
    (400, "EXCEED_MAX_PAYMENT_AMOUNT"),
    (400, "EXCEED_MAX_DAILY_PAYMENT_COUNT"),
    (400, "EXCEED_MAX_MONTHLY_PAYMENT_AMOUNT"),
    (400, "EXCEED_MAX_ONE_DAY_WITHDRAW_AMOUNT"),
    (400, "EXCEED_MAX_ONE_TIME_WITHDRAW_AMOUNT"),
    (400, "EXCEED_MAX_CARD_INSTALLMENT_PLAN"),
    (400, "INVALID_CARD_INSTALLMENT_PLAN"),
    (400, "NOT_SUPPORTED_INSTALLMENT_PLAN_CARD_OR_MERCHANT"),
    (400, "NOT_SUPPORTED_MONTHLY_INSTALLMENT_PLAN"),
    (400, "NOT_ALLOWED_POINT_USE"),
    (400, "INVALID_CARD_NUMBER"),
    (400, "INVALID_CARD_EXPIRATION"),
    (400, "INVALID_STOPPED_CARD"),
    (400, "INVALID_REJECT_CARD"),
    (400, "INVALID_CARD_LOST_OR_STOLEN"),
    (400, "RESTRICTED_TRANSFER_ACCOUNT"),
    (400, "INVALID_ACCOUNT_INFO_RE_REGISTER"),
    (400, "NOT_AVAILABLE_PAYMENT"),
    (403, "REJECT_CARD_PAYMENT"),
    (403, "REJECT_CARD_COMPANY"),
    (403, "REJECT_ACCOUNT_PAYMENT"),
    (403, "REJECT_TOSSPAY_INVALID_ACCOUNT"),
    (403, "EXCEED_MAX_AUTH_COUNT"),
    (403, "EXCEED_MAX_ONE_DAY_AMOUNT"),
    (403, "NOT_AVAILABLE_BANK"),
    (403, "INVALID_PASSWORD"),
    (403, "FDS_ERROR"),
    (404, "NOT_FOUND_PAYMENT"),
    (404, "NOT_FOUND_PAYMENT_SESSION"),
]
AMBIGUOUS_AT_CONFIRM = [
    (400, "ALREADY_PROCESSED_PAYMENT"),
    (400, "PROVIDER_ERROR"),
    (400, "CARD_PROCESSING_ERROR"),
    (500, "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING"),
    (500, "FAILED_INTERNAL_SYSTEM_PROCESSING"),
    (500, "UNKNOWN_PAYMENT_ERROR"),
]
ASK_AGAIN_AT_CONFIRM = [(409, "IDEMPOTENT_REQUEST_PROCESSING")]
OURS_AT_CONFIRM = [
    (400, "INVALID_REQUEST"),
    (400, "INVALID_API_KEY"),
    (400, "UNAPPROVED_ORDER_ID"),
    (400, "NOT_FOUND_TERMINAL_ID"),
    (400, "INVALID_AUTHORIZE_AUTH"),
    (400, "INVALID_UNREGISTERED_SUBMALL"),
    (400, "NOT_REGISTERED_BUSINESS"),
    (401, "UNAUTHORIZED_KEY"),
    (403, "INCORRECT_BASIC_AUTH_FORMAT"),
    (403, "FORBIDDEN_REQUEST"),
]
# The general list has more codes that might reach a confirm; these are our decisions.
REFUSED_ELSEWHERE = [(400, "EXCEEDS_TRANSFER_AMOUNT_MAXIMUM")]
AMBIGUOUS_ELSEWHERE = [
    (400, "ALREADY_COMPLETED_PAYMENT"),
    (400, "DUPLICATED_ORDER_ID"),
    (400, "DUPLICATED_REQUEST"),
    (400, "MAINTAINED_METHOD"),
    (400, "PAY_PROCESS_CANCELED"),
    (400, "PAY_PROCESS_ABORTED"),
    (500, "FAILED_METHOD_HANDLING"),
    (500, "FAILED_DB_PROCESSING"),
    (500, "COMMON_ERROR"),
    (500, "UNKNOWN_ERROR"),
]
ASK_AGAIN_ELSEWHERE = [(403, "FORBIDDEN_CONSECUTIVE_REQUEST")]
OURS_ELSEWHERE = [
    (400, "API_VERSION_UPDATE_NEEDED"),
    (400, "INVALID_CURRENCY"),
    (400, "INVALID_IDEMPOTENCY_KEY"),
    (400, "INVALID_ORDER_ID"),
    (400, "INVALID_PAYMENT_KEY"),
    (400, "INVALID_REQUIRED_PARAM"),
    (400, "INVALID_TEST_CODE"),
    (400, "NOT_SUPPORTED_METHOD"),
    (400, "REQUIRED_AMOUNT"),
    (403, "INSECURE_KEY_USAGE"),
    (404, "NOT_FOUND_HTTP_METHOD"),
]

REFUSED = REFUSED_AT_CONFIRM + REFUSED_ELSEWHERE
EXPECTED = (
    [(status, code, CodeClass.REFUSED) for status, code in REFUSED]
    + [(status, code, CodeClass.AMBIGUOUS) for status, code in AMBIGUOUS_AT_CONFIRM + AMBIGUOUS_ELSEWHERE]
    + [(status, code, CodeClass.ASK_AGAIN) for status, code in ASK_AGAIN_AT_CONFIRM + ASK_AGAIN_ELSEWHERE]
    + [(status, code, CodeClass.OURS) for status, code in OURS_AT_CONFIRM + OURS_ELSEWHERE]
)


class TestTable:
    def test_holds_exactly_the_documented_codes(self) -> None:
        assert dict(CODES) == {code: kind for _, code, kind in EXPECTED}

    def test_the_documented_confirm_table_has_48_codes(self) -> None:
        at_confirm = REFUSED_AT_CONFIRM + AMBIGUOUS_AT_CONFIRM + ASK_AGAIN_AT_CONFIRM + OURS_AT_CONFIRM

        assert len(set(at_confirm)) == 48

    def test_every_key_fault_is_ours(self) -> None:
        assert {CODES[code] for code in KEY_FAULTS} == {CodeClass.OURS}


class TestConfirm:
    @pytest.mark.parametrize(("status", "code", "kind"), EXPECTED)
    def test_each_code_with_its_status_is_sorted_as_the_table_says(
        self, status: int, code: str, kind: CodeClass
    ) -> None:
        assert classify(status, code) is kind

    @pytest.mark.parametrize("code", [code for _, code in REFUSED])
    @pytest.mark.parametrize("status", [401, 402, 408, 409, 422, 429, 500, 502, 503, 504, 599])
    def test_a_refusal_is_believed_only_with_a_status_that_toss_refuses_with(self, status: int, code: str) -> None:
        assert classify(status, code) is not CodeClass.REFUSED

    @pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
    @pytest.mark.parametrize("code", ["SOMETHING_NEW", "reject_card_company", "", None])
    def test_an_unlisted_code_means_nothing(self, status: int, code: str | None) -> None:
        assert classify(status, code) is None

    @pytest.mark.parametrize("code", ["SOMETHING_NEW", None])
    def test_a_server_error_is_ambiguous_whatever_it_says(self, code: str | None) -> None:
        assert classify(503, code) is CodeClass.AMBIGUOUS

    @pytest.mark.parametrize("code", ["SOMETHING_NEW", None])
    def test_too_many_requests_needs_no_code(self, code: str | None) -> None:
        assert classify(429, code) is CodeClass.ASK_AGAIN

    @pytest.mark.parametrize("code", ["SOMETHING_NEW", None])
    def test_unauthorized_needs_no_code(self, code: str | None) -> None:
        assert classify(401, code) is CodeClass.OURS


class TestLookUp:
    @pytest.mark.parametrize("code", ["NOT_FOUND_PAYMENT", "NOT_FOUND"])
    def test_not_found_is_told_apart(self, code: str) -> None:
        assert why_look_up_failed(404, code) is UnknownBecause.NOT_FOUND

    @pytest.mark.parametrize(("status", "code"), [(400, "NOT_FOUND_PAYMENT"), (403, "NOT_FOUND")])
    def test_not_found_with_another_status_is_not_believed(self, status: int, code: str) -> None:
        assert why_look_up_failed(status, code) is UnknownBecause.UNLISTED

    def test_a_bare_404_is_not_an_answer_of_toss(self) -> None:
        assert why_look_up_failed(404, None) is UnknownBecause.MALFORMED

    @pytest.mark.parametrize(
        ("status", "code", "because"),
        [
            (403, "FORBIDDEN_CONSECUTIVE_REQUEST", UnknownBecause.ASK_AGAIN),
            (429, None, UnknownBecause.ASK_AGAIN),
            (401, "UNAUTHORIZED_KEY", UnknownBecause.MISCONFIGURED),
            (403, "INCORRECT_BASIC_AUTH_FORMAT", UnknownBecause.MISCONFIGURED),
            (500, "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING", UnknownBecause.PG_ERROR),
            (502, None, UnknownBecause.PG_ERROR),
            (400, "NOT_SUPPORTED_MONTHLY_INSTALLMENT_PLAN_BELOW_AMOUNT", UnknownBecause.UNLISTED),
            (403, "REJECT_CARD_COMPANY", UnknownBecause.UNLISTED),
        ],
    )
    def test_other_errors_say_why_nothing_is_known(
        self, status: int, code: str | None, because: UnknownBecause
    ) -> None:
        assert why_look_up_failed(status, code) is because
