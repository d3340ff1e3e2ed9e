"""The table of error codes against a copy of the documented list, so that neither changes unnoticed."""

import pytest

from payments.gateways.pg import RefusedBecause, UnknownBecause
from payments.gateways.toss_codes import (
    BADLY_ASKED,
    CANCEL_CODES,
    CODES,
    KEY_FAULTS,
    CodeClass,
    classify,
    classify_cancel,
    why_look_up_failed,
)

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

# The same page, cancel: HTTP status and code as documented, and what we make of it.
CANCEL_TABLE: list[tuple[int, str, CodeClass | RefusedBecause]] = [
    (400, "ALREADY_CANCELED_PAYMENT", RefusedBecause.BALANCE_DIFFERS),
    (400, "INVALID_REFUND_ACCOUNT_INFO", RefusedBecause.ACCOUNT),
    (400, "INVALID_REFUND_ACCOUNT_NUMBER", RefusedBecause.ACCOUNT),
    (400, "INVALID_BANK", RefusedBecause.ACCOUNT),
    (400, "EXCEED_CANCEL_AMOUNT_DISCOUNT_AMOUNT", RefusedBecause.NOT_PARTIALLY),
    (400, "NOT_MATCHES_REFUNDABLE_AMOUNT", RefusedBecause.BALANCE_DIFFERS),
    (400, "INVALID_REQUEST", RefusedBecause.OTHER),
    (400, "PROVIDER_ERROR", CodeClass.AMBIGUOUS),
    (400, "REFUND_REJECTED", RefusedBecause.OTHER),
    (400, "ALREADY_REFUND_PAYMENT", RefusedBecause.BALANCE_DIFFERS),
    (400, "FORBIDDEN_BANK_REFUND_REQUEST", RefusedBecause.ACCOUNT),
    (401, "UNAUTHORIZED_KEY", CodeClass.OURS),
    (403, "NOT_CANCELABLE_AMOUNT", RefusedBecause.BALANCE_DIFFERS),
    (403, "NOT_CANCELABLE_PAYMENT", RefusedBecause.OTHER),
    (403, "NOT_CANCELABLE_PAYMENT_FOR_DORMANT_USER", RefusedBecause.OTHER),
    (403, "FORBIDDEN_CONSECUTIVE_REQUEST", RefusedBecause.NOT_NOW),
    (403, "FORBIDDEN_REQUEST", CodeClass.OURS),
    (403, "EXCEED_MAX_REFUND_DUE", RefusedBecause.TOO_LATE),
    (403, "NOT_ALLOWED_PARTIAL_REFUND", RefusedBecause.NOT_PARTIALLY),
    (403, "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT", RefusedBecause.NOT_PARTIALLY),
    (403, "NOT_AVAILABLE_BANK", RefusedBecause.NOT_NOW),
    (403, "INCORRECT_BASIC_AUTH_FORMAT", CodeClass.OURS),
    (403, "EXCEED_CANCEL_LIMIT", RefusedBecause.OTHER),
    (404, "NOT_FOUND_PAYMENT", CodeClass.OURS),
    (500, "FAILED_INTERNAL_SYSTEM_PROCESSING", CodeClass.AMBIGUOUS),
    (500, "FAILED_REFUND_PROCESS", CodeClass.AMBIGUOUS),
    (500, "FAILED_METHOD_HANDLING_CANCEL", CodeClass.AMBIGUOUS),
    (500, "FAILED_PARTIAL_REFUND", CodeClass.AMBIGUOUS),
    (500, "COMMON_ERROR", CodeClass.AMBIGUOUS),
    (500, "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING", CodeClass.AMBIGUOUS),
]
# What of the general list might reach a cancel; these are our decisions.
CANCEL_ELSEWHERE: list[tuple[int, str, CodeClass | RefusedBecause]] = [
    (400, "INVALID_REFUND_AMOUNT", RefusedBecause.BALANCE_DIFFERS),
    (400, "INVALID_ACCOUNT_NOT_CORRECT_BANK", RefusedBecause.ACCOUNT),
    (400, "INVALID_ACCOUNT_NUMBER", RefusedBecause.ACCOUNT),
    (400, "INVALID_ACCOUNT_NUMBER_OR_UNAVAILABLE", RefusedBecause.ACCOUNT),
    (403, "NOT_ALLOWED_REFUND_BANK", RefusedBecause.ACCOUNT),
    (403, "EXCEED_MAX_REFUND_AMOUNT", RefusedBecause.OTHER),
    (403, "NOT_SUPPORTED_REFUND", RefusedBecause.OTHER),
    (400, "BELOW_ZERO_AMOUNT", RefusedBecause.OTHER),
    (400, "INVALID_CURRENCY", RefusedBecause.OTHER),
    (400, "INVALID_REQUIRED_PARAM", RefusedBecause.OTHER),
    (400, "REQUIRED_AMOUNT", RefusedBecause.OTHER),
    (400, "ALREADY_REFUNDING_PAYMENT", CodeClass.AMBIGUOUS),
    (400, "DUPLICATED_REQUEST", CodeClass.AMBIGUOUS),
    (400, "MAINTAINED_METHOD", CodeClass.AMBIGUOUS),
    (500, "FAILED_DB_PROCESSING", CodeClass.AMBIGUOUS),
    (500, "FAILED_METHOD_HANDLING", CodeClass.AMBIGUOUS),
    (500, "UNKNOWN_ERROR", CodeClass.AMBIGUOUS),
    (409, "IDEMPOTENT_REQUEST_PROCESSING", CodeClass.ASK_AGAIN),
    (400, "API_VERSION_UPDATE_NEEDED", CodeClass.OURS),
    (400, "INVALID_API_KEY", CodeClass.OURS),
    (400, "INVALID_IDEMPOTENCY_KEY", CodeClass.OURS),
    (400, "INVALID_PAYMENT_KEY", CodeClass.OURS),
    (400, "INVALID_TEST_CODE", CodeClass.OURS),
    (403, "INSECURE_KEY_USAGE", CodeClass.OURS),
    (404, "NOT_FOUND", CodeClass.OURS),
    (404, "NOT_FOUND_HTTP_METHOD", CodeClass.OURS),
]
EXPECTED_AT_CANCEL = CANCEL_TABLE + CANCEL_ELSEWHERE
REFUSED_AT_CANCEL = [code for _, code, kind in EXPECTED_AT_CANCEL if isinstance(kind, RefusedBecause)]


class TestTable:
    def test_holds_exactly_the_documented_codes(self) -> None:
        assert dict(CODES) == {code: kind for _, code, kind in EXPECTED}

    def test_the_documented_confirm_table_has_48_codes(self) -> None:
        at_confirm = REFUSED_AT_CONFIRM + AMBIGUOUS_AT_CONFIRM + ASK_AGAIN_AT_CONFIRM + OURS_AT_CONFIRM

        assert len(set(at_confirm)) == 48

    def test_every_key_fault_is_ours(self) -> None:
        assert {CODES[code] for code in KEY_FAULTS} == {CodeClass.OURS}
        assert {CANCEL_CODES[code] for code in KEY_FAULTS} == {CodeClass.OURS}


class TestCancelTable:
    def test_holds_exactly_the_documented_codes(self) -> None:
        assert dict(CANCEL_CODES) == {code: kind for _, code, kind in EXPECTED_AT_CANCEL}

    def test_the_documented_cancel_table_has_30_codes(self) -> None:
        assert len({code for _, code, _ in CANCEL_TABLE}) == 30

    def test_no_code_stands_in_it_twice(self) -> None:
        assert len({code for _, code, _ in EXPECTED_AT_CANCEL}) == len(EXPECTED_AT_CANCEL)

    def test_every_reason_for_a_refusal_has_a_code(self) -> None:
        assert {kind for kind in CANCEL_CODES.values() if isinstance(kind, RefusedBecause)} == set(RefusedBecause)

    def test_refused_has_always_a_reason(self) -> None:
        assert CodeClass.REFUSED not in CANCEL_CODES.values()

    def test_what_was_badly_asked_is_refused(self) -> None:
        assert {CANCEL_CODES[code] for code in BADLY_ASKED} == {RefusedBecause.OTHER}


class TestCancel:
    @pytest.mark.parametrize(("status", "code", "kind"), EXPECTED_AT_CANCEL)
    def test_each_code_with_its_status_is_sorted_as_the_table_says(
        self, status: int, code: str, kind: CodeClass | RefusedBecause
    ) -> None:
        assert classify_cancel(status, code) is kind

    @pytest.mark.parametrize("code", REFUSED_AT_CANCEL)
    @pytest.mark.parametrize("status", [401, 402, 404, 408, 409, 422, 429, 500, 502, 503, 504, 599])
    def test_a_refusal_is_believed_only_with_a_status_that_toss_refuses_with(self, status: int, code: str) -> None:
        assert not isinstance(classify_cancel(status, code), RefusedBecause)

    @pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
    @pytest.mark.parametrize("code", ["SOMETHING_NEW", "not_cancelable_amount", "REJECT_CARD_COMPANY", "", None])
    def test_an_unlisted_code_means_nothing(self, status: int, code: str | None) -> None:
        assert classify_cancel(status, code) is None

    @pytest.mark.parametrize("code", ["SOMETHING_NEW", None])
    @pytest.mark.parametrize(
        ("status", "kind"), [(401, CodeClass.OURS), (429, CodeClass.ASK_AGAIN), (503, CodeClass.AMBIGUOUS)]
    )
    def test_some_statuses_need_no_code(self, status: int, code: str | None, kind: CodeClass) -> None:
        assert classify_cancel(status, code) is kind


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
