"""The errors of the Toss API: one exception, and the table of codes with their HTTP status and Korean message."""

from typing import Final

# Statuses, codes and messages as Toss documents them; where its tables differ, the table of the single API wins.
_CONFIRM: Final = {
    400: {
        "ALREADY_PROCESSED_PAYMENT": "이미 처리된 결제 입니다.",
        "PROVIDER_ERROR": "일시적인 오류가 발생했습니다. 잠시 후 다시 시도해주세요.",
        "CARD_PROCESSING_ERROR": "카드사에서 오류가 발생했습니다.",
        "INVALID_REQUEST": "잘못된 요청입니다.",
        "INVALID_API_KEY": "잘못된 시크릿키 연동 정보 입니다.",
        "UNAPPROVED_ORDER_ID": "아직 승인되지 않은 주문번호입니다.",
        "NOT_FOUND_TERMINAL_ID": "단말기번호(Terminal Id)가 없습니다.",
        "INVALID_AUTHORIZE_AUTH": "유효하지 않은 인증 방식입니다.",
        "INVALID_UNREGISTERED_SUBMALL": "등록되지 않은 서브몰입니다.",
        "NOT_REGISTERED_BUSINESS": "등록되지 않은 사업자 번호입니다.",
        "BELOW_MINIMUM_AMOUNT": "신용카드는 결제금액이 100원 이상, 계좌는 200원이상부터 결제가 가능합니다.",
        "EXCEED_MAX_AMOUNT": "거래금액 한도를 초과했습니다.",
        "EXCEED_MAX_PAYMENT_AMOUNT": "하루 결제 가능 금액을 초과했습니다.",
        "EXCEED_MAX_DAILY_PAYMENT_COUNT": "하루 결제 가능 횟수를 초과했습니다.",
        "EXCEED_MAX_MONTHLY_PAYMENT_AMOUNT": "당월 결제 가능금액인 1,000,000원을 초과 하셨습니다.",
        "EXCEED_MAX_ONE_DAY_WITHDRAW_AMOUNT": "1일 출금 한도를 초과했습니다.",
        "EXCEED_MAX_ONE_TIME_WITHDRAW_AMOUNT": "1회 출금 한도를 초과했습니다.",
        "EXCEED_MAX_CARD_INSTALLMENT_PLAN": "설정 가능한 최대 할부 개월 수를 초과했습니다.",
        "INVALID_CARD_INSTALLMENT_PLAN": "할부 개월 정보가 잘못되었습니다.",
        "NOT_SUPPORTED_INSTALLMENT_PLAN_CARD_OR_MERCHANT": "할부가 지원되지 않는 카드 또는 가맹점 입니다.",
        "NOT_SUPPORTED_MONTHLY_INSTALLMENT_PLAN": "할부가 지원되지 않는 카드입니다.",
        "NOT_ALLOWED_POINT_USE": "포인트 사용이 불가한 카드로 카드 포인트 결제에 실패했습니다.",
        "INVALID_CARD_NUMBER": "카드번호를 다시 확인해주세요.",
        "INVALID_CARD_EXPIRATION": "카드 정보를 다시 확인해주세요. (유효기간)",
        "INVALID_STOPPED_CARD": "정지된 카드 입니다.",
        "INVALID_REJECT_CARD": "카드 사용이 거절되었습니다. 카드사 문의가 필요합니다.",
        "INVALID_CARD_LOST_OR_STOLEN": "분실 혹은 도난 카드입니다.",
        "RESTRICTED_TRANSFER_ACCOUNT": "계좌는 등록 후 12시간 뒤부터 결제할 수 있습니다.",
        "INVALID_ACCOUNT_INFO_RE_REGISTER": "유효하지 않은 계좌입니다. 계좌 재등록 후 시도해주세요.",
        "NOT_AVAILABLE_PAYMENT": "결제가 불가능한 시간대입니다.",
    },
    401: {"UNAUTHORIZED_KEY": "인증되지 않은 시크릿 키 혹은 클라이언트 키 입니다."},
    403: {
        "INCORRECT_BASIC_AUTH_FORMAT": "잘못된 요청입니다. ':' 를 포함해 인코딩해주세요.",
        "FORBIDDEN_REQUEST": "허용되지 않은 요청입니다.",
        "REJECT_CARD_PAYMENT": "한도초과 혹은 잔액부족으로 결제에 실패했습니다.",
        "REJECT_CARD_COMPANY": "결제 승인이 거절되었습니다.",
        "REJECT_ACCOUNT_PAYMENT": "잔액부족으로 결제에 실패했습니다.",
        "REJECT_TOSSPAY_INVALID_ACCOUNT": "선택하신 출금 계좌가 출금이체 등록이 되어 있지 않아요.",
        "EXCEED_MAX_AUTH_COUNT": "최대 인증 횟수를 초과했습니다.",
        "EXCEED_MAX_ONE_DAY_AMOUNT": "일일 한도를 초과했습니다.",
        "NOT_AVAILABLE_BANK": "은행 서비스 시간이 아닙니다.",
        "INVALID_PASSWORD": "결제 비밀번호가 일치하지 않습니다.",
        "FDS_ERROR": "위험거래가 감지되어 결제가 제한됩니다.",
    },
    404: {
        "NOT_FOUND_PAYMENT": "존재하지 않는 결제 정보 입니다.",
        "NOT_FOUND_PAYMENT_SESSION": "결제 시간이 만료되어 결제 진행 데이터가 존재하지 않습니다.",
    },
    409: {"IDEMPOTENT_REQUEST_PROCESSING": "이전 멱등 요청이 처리중입니다."},
    500: {
        "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING": "결제가 완료되지 않았어요. 다시 시도해주세요.",
        "FAILED_INTERNAL_SYSTEM_PROCESSING": "내부 시스템 처리 작업이 실패했습니다. 잠시 후 다시 시도해주세요.",
        "UNKNOWN_PAYMENT_ERROR": "결제에 실패했어요. 같은 문제가 반복된다면 은행이나 카드사로 문의해주세요.",
    },
}

_CANCEL: Final = {
    400: {
        "ALREADY_CANCELED_PAYMENT": "이미 취소된 결제 입니다.",
        "INVALID_REFUND_ACCOUNT_INFO": "환불 계좌번호와 예금주명이 일치하지 않습니다.",
        "INVALID_REFUND_ACCOUNT_NUMBER": "잘못된 환불 계좌번호입니다.",
        "INVALID_BANK": "유효하지 않은 은행입니다.",
        "EXCEED_CANCEL_AMOUNT_DISCOUNT_AMOUNT": "즉시할인금액보다 적은 금액은 부분취소가 불가능합니다.",
        "NOT_MATCHES_REFUNDABLE_AMOUNT": "잔액 결과가 일치하지 않습니다.",
        "REFUND_REJECTED": "환불이 거절됐습니다. 결제사에 문의 부탁드립니다.",
        "ALREADY_REFUND_PAYMENT": "이미 환불된 결제입니다.",
        "FORBIDDEN_BANK_REFUND_REQUEST": "고객 계좌가 입금이 되지 않는 상태입니다.",
    },
    403: {
        "NOT_CANCELABLE_AMOUNT": "취소 할 수 없는 금액 입니다.",
        "NOT_CANCELABLE_PAYMENT": "취소 할 수 없는 결제 입니다.",
        "NOT_CANCELABLE_PAYMENT_FOR_DORMANT_USER": "휴면 처리된 회원의 결제는 취소할 수 없습니다.",
        "FORBIDDEN_CONSECUTIVE_REQUEST": "반복적인 요청은 허용되지 않습니다. 잠시 후 다시 시도해주세요.",
        "EXCEED_MAX_REFUND_DUE": "환불 가능한 기간이 지났습니다.",
        "NOT_ALLOWED_PARTIAL_REFUND": "에스크로 주문, 현금 카드 결제 등의 사유로 부분 환불이 불가합니다.",
        "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT": "입금 대기중인 결제는 부분 환불이 불가합니다.",
        "EXCEED_CANCEL_LIMIT": "취소 한도 금액을 초과 하였습니다.",
    },
    500: {
        "FAILED_REFUND_PROCESS": "은행 응답시간 지연이나 일시적인 오류로 환불요청에 실패했습니다.",
        "FAILED_METHOD_HANDLING_CANCEL": ("취소 중 결제 시 사용한 결제수단 처리과정에서 일시적인 오류가 발생했습니다."),
        "FAILED_PARTIAL_REFUND": "은행 점검, 해약 계좌 등의 사유로 부분 환불이 실패했습니다.",
        "COMMON_ERROR": "일시적인 오류가 발생했습니다. 잠시 후 다시 시도해주세요.",
    },
}

# Named by Toss outside the tables of confirm and cancel, and within reach of this sandbox.
_GENERAL: Final = {
    400: {
        "ALREADY_COMPLETED_PAYMENT": "이미 완료된 결제 입니다.",
        "BELOW_ZERO_AMOUNT": "금액은 0보다 커야 합니다.",
        "DUPLICATED_ORDER_ID": ("이미 승인 및 취소가 진행된 중복된 주문번호 입니다. 다른 주문번호로 진행해주세요."),
        "DUPLICATED_REQUEST": "중복된 요청입니다.",
        "EXCEED_MAX_QUERY_LIMIT": "최대 조회 개수를 초과했습니다.",
        "EXCEEDS_TRANSFER_AMOUNT_MAXIMUM": (
            "계좌이체는 한 번에 1,000만 원 이하로만 결제하실 수 있어요. 금액을 낮춰 다시 시도해 주세요."
        ),
        "INCORRECT_FAIL_URL_FORMAT": "잘못된 failUrl 입니다.",
        "INCORRECT_SUCCESS_URL_FORMAT": "잘못된 successUrl 입니다.",
        "INVALID_CLIENT_KEY": "잘못된 클라이언트 연동 정보 입니다.",
        "INVALID_CURRENCY": "잘못된 통화 값입니다.",
        "INVALID_DATE": "날짜 데이터가 잘못 되었습니다.",
        "INVALID_IDEMPOTENCY_KEY": "멱등키는 300자 이하여야 합니다.",
        "INVALID_ISO_DATE_FORMAT": "시간 일시 형식이 잘못되었습니다. 시간 형식은 ISO 8601 형식을 준수해야 합니다.",
        "INVALID_ORDER_ID": (
            "`orderId`는 영문 대소문자, 숫자, 특수문자(-, _) 만 허용합니다. 6자 이상 64자 이하여야 합니다."
        ),
        "INVALID_ORDER_NAME": "주문 이름은 100자 이하여야 합니다.",
        "INVALID_PAYMENT_KEY": "잘못된 결제 키 입니다.",
        "INVALID_REQUIRED_PARAM": "필수 파라미터가 누락되었습니다.",
        "INVALID_PAGING_KEY": "잘못된 페이징 키 입니다.",
        "INVALID_TEST_CODE": "유효하지 않은 테스트 코드입니다.",
        # Seen in a public answer of the list of transactions, where the documents have INVALID_PAGING_KEY.
        "INVALID_TRANSACTION_KEY": "잘못된 페이징 키 입니다.",
        "MAINTAINED_METHOD": "현재 점검 중 입니다.",
        "NOT_SUPPORTED_API_INDIVIDUAL_KEY": "API 개별 연동 키는 지원하지 않습니다. 결제위젯 연동 키를 사용해주세요.",
        "NOT_SUPPORTED_METHOD": "지원되지 않는 결제수단입니다.",
        "NOT_SUPPORTED_WIDGET_KEY": "결제위젯 연동 키는 지원하지 않습니다. API 개별 연동 키를 사용해주세요.",
        "PAY_PROCESS_ABORTED": "결제가 취소되었거나 진행되지 않았습니다.",
        "PAY_PROCESS_CANCELED": "결제가 사용자에 의해 취소되었습니다.",
        "REQUIRED_AMOUNT": "금액 값이 필수입니다.",
    },
    403: {"INSECURE_KEY_USAGE": "시크릿 키는 브라우저에서 사용할 수 없습니다. 클라이언트 키를 사용해주세요."},
    404: {
        "NOT_FOUND": "존재하지 않는 정보 입니다.",
        "NOT_FOUND_HTTP_METHOD": "존재하지 않는 HTTP 메소드 접근입니다.",
    },
    # The body of a 429 is unverified; Toss only names the status.
    429: {"TOO_MANY_REQUESTS": "요청이 너무 많습니다. 잠시 후 다시 시도해주세요."},
    500: {
        "FAILED_DB_PROCESSING": "잘못된 요청 값으로 처리 중 DB 에러가 발생했습니다.",
        "FAILED_METHOD_HANDLING": "결제 중 선택한 결제수단 처리에 일시적인 오류가 발생했습니다.",
        "UNKNOWN_ERROR": "확인되지 않은 오류입니다. 잠시 후 다시 시도해주세요.",
    },
}

CODES: Final[dict[str, tuple[int, str]]] = {
    code: (status, message)
    for table in (_GENERAL, _CANCEL, _CONFIRM)
    for status, messages in table.items()
    for code, message in messages.items()
}
"""Every code that a test code, a fault or a refusal may name, with its HTTP status and message."""

# What only the sandbox says, where at Toss a bank or an operator's screen would refuse.
_OWN: Final = {
    "SANDBOX_NOT_WAITING_FOR_DEPOSIT": "입금 대기 중인 결제가 아닙니다.",
    "SANDBOX_DEPOSIT_AMOUNT_DIFFERS": "입금할 금액과 일치하지 않아 은행이 입금을 거절했습니다.",
    "SANDBOX_DEPOSIT_TOO_LATE": "입금 기한이 지나 은행이 입금을 거절했습니다.",
    "SANDBOX_NO_DEPOSIT_TO_REVERSE": "취소 내역이 없는 입금만 되돌릴 수 있습니다.",
    "SANDBOX_NO_ACCOUNT_REFUND": "진행 중인 계좌 환불이 없습니다.",
    "SANDBOX_NO_WEBHOOK_URL": "웹훅을 받을 주소가 없습니다.",
    "SANDBOX_PAYMENT_EXISTS": "이미 있는 결제 키입니다.",
}
_OWN_STATUS: Final = 409

EXPIRED_PAYMENT: Final = "EXPIRED_PAYMENT"
"""The failure of a payment whose time ran out; never the code of an HTTP answer."""

# The code was seen in a public answer, its message was not.
EXPIRED_MESSAGE: Final = "결제 시간이 만료되었습니다."

ALREADY_RUNNING_MESSAGE: Final = "[S008] 기존 요청을 처리중입니다."
"""What a second confirm reads while the first one runs; not documented, seen in many integrators' logs."""


class TossError(Exception):
    """An error answer of the Toss API, or of the sandbox's own: an HTTP status and a body of `code` and `message`."""

    def __init__(self, code: str, message: str | None = None, *, status: int | None = None) -> None:
        """Take status and message from the tables unless they are given; a code outside of them is a 400."""
        known_status, known_message = (_OWN_STATUS, _OWN[code]) if code in _OWN else CODES.get(code, (400, code))
        self.code = code
        self.status = status or known_status
        self.message = message or known_message
        super().__init__(f"{self.status} {self.code}: {self.message}")
