"""What one HTTP answer means for exactly the payment that was asked about."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from payments.gateways.pg import (
    Answer,
    Approved,
    Cancelled,
    Declined,
    DepositAwaited,
    PgStatus,
    Unknown,
    UnknownBecause,
)
from payments.gateways.toss_answers import (
    LONGEST_RETRY_AFTER,
    Asked,
    Reply,
    parse_retry_after,
    read_confirm,
    read_look_up,
)
from tests.gateways.toss_builders import (
    AMOUNT,
    ASKED,
    ASKED_BY_ORDER,
    ORDER_ID,
    PAYMENT_KEY,
    VIRTUAL_ACCOUNT,
    a_payment,
    a_virtual_account_payment,
    as_bytes,
)

AT = datetime(2026, 1, 2, 5, 46, 59, tzinfo=UTC)
Reader = Callable[[Reply, Asked], Answer]

# How fast a busy machine is says nothing about the answers.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=15000, database=None)
either = pytest.mark.parametrize("read", [read_confirm, read_look_up])


def ok(body: object) -> Reply:
    return Reply(200, as_bytes(body))


def because(answer: Answer) -> UnknownBecause:
    assert isinstance(answer, Unknown), answer
    return answer.because


@either
class TestStatus:
    def test_done_is_approved(self, read: Reader) -> None:
        answer = read(ok(a_payment()), ASKED)

        assert isinstance(answer, Approved)
        assert answer.payment.payment_key == PAYMENT_KEY

    def test_waiting_for_deposit_is_awaited(self, read: Reader) -> None:
        answer = read(ok(a_virtual_account_payment()), ASKED)

        assert isinstance(answer, DepositAwaited)
        assert answer.payment.virtual_account is not None
        assert answer.payment.virtual_account.account_number == "X6505636518308"

    def test_waiting_without_an_account_to_pay_into_is_malformed(self, read: Reader) -> None:
        answer = read(ok(a_virtual_account_payment(virtualAccount=None)), ASKED)

        assert because(answer) is UnknownBecause.MALFORMED

    @pytest.mark.parametrize("balance", [0, 1, AMOUNT - 1])
    def test_partly_cancelled_was_captured(self, read: Reader, balance: int) -> None:
        answer = read(ok(a_payment(status="PARTIAL_CANCELED", balanceAmount=balance)), ASKED)

        assert isinstance(answer, Approved)
        assert answer.payment.balance_amount == balance

    def test_cancelled_keeps_nothing(self, read: Reader) -> None:
        answer = read(ok(a_payment(status="CANCELED", balanceAmount=0)), ASKED)

        assert isinstance(answer, Cancelled)

    @pytest.mark.parametrize(
        ("status", "balance"),
        [
            ("DONE", 0),
            ("DONE", AMOUNT - 1),
            ("DONE", AMOUNT + 1),
            ("PARTIAL_CANCELED", AMOUNT),
            ("PARTIAL_CANCELED", AMOUNT + 1),
            ("CANCELED", 1),
            ("CANCELED", AMOUNT),
        ],
    )
    def test_a_balance_that_contradicts_the_status_is_for_a_person(
        self, read: Reader, status: str, balance: int
    ) -> None:
        answer = read(ok(a_payment(status=status, balanceAmount=balance)), ASKED)

        assert isinstance(answer, Unknown)
        assert answer.because is UnknownBecause.MISMATCH
        assert answer.payment is not None
        assert answer.message == "differs in balanceAmount"

    @pytest.mark.parametrize("status", ["ABORTED", "EXPIRED"])
    def test_ended_with_a_reason_is_declined_with_it(self, read: Reader, status: str) -> None:
        failure = {"code": "REJECT_CARD_COMPANY", "message": "결제 승인이 거절되었습니다."}

        answer = read(ok(a_payment(status=status, failure=failure, approvedAt=None)), ASKED)

        assert isinstance(answer, Declined)
        assert (answer.code, answer.message) == ("REJECT_CARD_COMPANY", "결제 승인이 거절되었습니다.")
        assert answer.payment is not None

    @pytest.mark.parametrize("status", ["ABORTED", "EXPIRED"])
    def test_ended_without_a_reason_is_declined_with_its_status(self, read: Reader, status: str) -> None:
        answer = read(ok(a_payment(status=status)), ASKED)

        assert isinstance(answer, Declined)
        assert answer.code == status
        assert answer.message

    @pytest.mark.parametrize("status", ["READY", "IN_PROGRESS"])
    def test_not_captured_yet_is_in_progress(self, read: Reader, status: str) -> None:
        answer = read(ok(a_payment(status=status, approvedAt=None, method=None)), ASKED)

        assert isinstance(answer, Unknown)
        assert answer.because is UnknownBecause.IN_PROGRESS
        assert answer.payment is not None

    def test_a_status_of_the_future_is_malformed(self, read: Reader) -> None:
        assert because(read(ok(a_payment(status="ALMOST_DONE")), ASKED)) is UnknownBecause.MALFORMED


CLAIMS = {
    "captured": a_payment(),
    "awaiting its deposit": a_virtual_account_payment(),
    "partly cancelled": a_payment(status="PARTIAL_CANCELED", balanceAmount=5_000),
    "cancelled": a_payment(status="CANCELED", balanceAmount=0),
}


@either
class TestIdentity:
    @pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS.keys())
    @pytest.mark.parametrize(
        ("name", "other"),
        [
            ("paymentKey", "tviva20260102144639Zz9Zz"),
            ("paymentKey", PAYMENT_KEY.lower()),
            ("orderId", "order-000002"),
            ("orderId", "ORDER-000001"),
            ("currency", "USD"),
            ("currency", "krw"),
        ],
    )
    def test_another_subject_is_a_mismatch(
        self, read: Reader, claim: dict[str, object], name: str, other: object
    ) -> None:
        answer = read(ok({**claim, name: other}), ASKED)

        assert isinstance(answer, Unknown)
        assert answer.because is UnknownBecause.MISMATCH
        assert answer.payment is not None
        assert answer.message == f"differs in {name}"

    @pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS.keys())
    @pytest.mark.parametrize("amount", [0, 1, AMOUNT - 1, AMOUNT + 1, AMOUNT * 100])
    def test_another_amount_is_a_mismatch(self, read: Reader, claim: dict[str, object], amount: int) -> None:
        assert because(read(ok({**claim, "totalAmount": amount}), ASKED)) is UnknownBecause.MISMATCH

    def test_asked_by_order_any_payment_key_will_do(self, read: Reader) -> None:
        answer = read(ok(a_payment(paymentKey="another-key")), ASKED_BY_ORDER)

        assert isinstance(answer, Approved)
        assert answer.payment.payment_key == "another-key"

    @pytest.mark.parametrize("status", ["ABORTED", "EXPIRED"])
    def test_what_took_nothing_needs_only_the_same_payment_key(self, read: Reader, status: str) -> None:
        other = {"orderId": "order-000002", "totalAmount": 1, "currency": "USD"}

        assert isinstance(read(ok(a_payment(status=status, **other)), ASKED), Declined)

    @pytest.mark.parametrize("status", ["ABORTED", "EXPIRED", "READY", "IN_PROGRESS"])
    def test_another_payment_key_says_nothing_about_ours(self, read: Reader, status: str) -> None:
        answer = read(ok(a_payment(status=status, paymentKey="another-key")), ASKED)

        assert because(answer) is UnknownBecause.MISMATCH

    @pytest.mark.parametrize("status", ["ABORTED", "EXPIRED", "READY", "IN_PROGRESS"])
    def test_asked_by_order_another_order_says_nothing_about_ours(self, read: Reader, status: str) -> None:
        answer = read(ok(a_payment(status=status, orderId="order-000002")), ASKED_BY_ORDER)

        assert because(answer) is UnknownBecause.MISMATCH


@either
class TestHttpStatus:
    @pytest.mark.parametrize("status", [201, 202, 204, 206, 301, 302, 303, 304, 307, 308])
    def test_only_200_is_believed(self, read: Reader, status: int) -> None:
        assert because(read(Reply(status, as_bytes(a_payment())), ASKED)) is UnknownBecause.MALFORMED

    @pytest.mark.parametrize("status", [400, 403, 404, 409, 422])
    @pytest.mark.parametrize("body", [b"", b"<html>", as_bytes(a_payment()), b'{"code": 5}'])
    def test_an_error_without_a_code_is_malformed(self, read: Reader, status: int, body: bytes) -> None:
        assert because(read(Reply(status, body), ASKED)) is UnknownBecause.MALFORMED

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    @pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", as_bytes(a_payment()), b'{"code": "NEW"}'])
    def test_a_server_error_is_the_pgs_whatever_it_says(self, read: Reader, status: int, body: bytes) -> None:
        assert because(read(Reply(status, body), ASKED)) is UnknownBecause.PG_ERROR

    def test_an_unlisted_code_is_unlisted(self, read: Reader) -> None:
        answer = read(Reply(400, as_bytes({"code": "BRAND_NEW", "message": "새 오류"})), ASKED)

        assert answer == Unknown(UnknownBecause.UNLISTED, code="BRAND_NEW", message="새 오류")

    def test_the_wait_that_the_pg_asks_for_is_passed_on(self, read: Reader) -> None:
        answer = read(Reply(429, b"", timedelta(seconds=7)), ASKED)

        assert isinstance(answer, Unknown)
        assert (answer.because, answer.retry_after) == (UnknownBecause.ASK_AGAIN, timedelta(seconds=7))


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("0", 0),
            ("7", 7),
            ("299", 299),
            ("301", 300),
            ("999999999", 300),
            ("Fri, 02 Jan 2026 05:47:29 GMT", 30),
            ("Fri, 02 Jan 2026 05:47:29 -0000", 30),
            ("Fri, 02 Jan 2026 14:47:29 +0900", 30),
            ("Fri, 02 Jan 2026 05:46:29 GMT", 0),
            ("Fri, 02 Jan 2099 05:46:29 GMT", 300),
        ],
    )
    def test_seconds_or_a_date_are_read_and_capped(self, header: str, seconds: int) -> None:
        assert parse_retry_after(header, at=AT) == timedelta(seconds=seconds)

    @pytest.mark.parametrize(
        "header", [None, "", "soon", "-1", "1.5", "9999999999", "\u0661", "Fri, 99 Jan 2026 05:47:29 GMT"]
    )
    def test_anything_else_is_no_wish(self, header: str | None) -> None:
        assert parse_retry_after(header, at=AT) is None

    @unhurried
    @given(st.text())
    def test_no_header_breaks_it(self, header: str) -> None:
        wait = parse_retry_after(header, at=AT)

        assert wait is None or timedelta(0) <= wait <= LONGEST_RETRY_AFTER


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
# Near misses: a payment of which any field may be anything, or what would be right for another.
near_payments = st.fixed_dictionaries(
    {},
    optional={
        "paymentKey": st.sampled_from([PAYMENT_KEY, "another-key", ""]) | json_values,
        "orderId": st.sampled_from([ORDER_ID, "order-000002"]) | json_values,
        "status": st.sampled_from([status.value for status in PgStatus]) | json_values,
        "totalAmount": st.sampled_from([AMOUNT, float(AMOUNT), str(AMOUNT), AMOUNT + 0.5]) | json_values,
        "balanceAmount": st.sampled_from([AMOUNT, 0, 1]) | json_values,
        "currency": st.sampled_from(["KRW", "USD"]) | json_values,
        "virtualAccount": st.just(VIRTUAL_ACCOUNT) | json_values,
        "failure": st.fixed_dictionaries({"code": json_values, "message": json_values}) | json_values,
        "receipt": st.fixed_dictionaries({"url": json_values}) | json_values,
        "method": json_values,
        "approvedAt": json_values,
        "secret": json_values,
    },
).map(lambda changes: a_payment(**changes))
bodies = (
    st.binary()
    | json_values.map(lambda value: json.dumps(value).encode())
    | near_payments.map(lambda value: json.dumps(value).encode())
    | near_payments.map(lambda value: json.dumps({**value, "paymentKey": PAYMENT_KEY, "orderId": ORDER_ID}).encode())
)


class TestAnyAnswer:
    @unhurried
    @given(body=bodies, status=st.sampled_from([200, 201, 302, 400, 401, 403, 404, 409, 429, 500, 503]))
    def test_never_raises_and_claims_money_only_for_what_was_asked(self, body: bytes, status: int) -> None:
        for read in (read_confirm, read_look_up):
            for asked in (ASKED, ASKED_BY_ORDER):
                assert_honest(read(Reply(status, body), asked), status=status, body=body, asked=asked)

    @unhurried
    @given(body=bodies, status=st.integers(min_value=400, max_value=599))
    def test_an_error_to_a_look_up_never_declines(self, body: bytes, status: int) -> None:
        assert isinstance(read_look_up(Reply(status, body), ASKED), Unknown)

    @unhurried
    @given(code=st.text(min_size=1), message=st.text(), status=st.integers(min_value=500, max_value=599))
    def test_a_server_error_never_declines(self, code: str, message: str, status: int) -> None:
        body = json.dumps({"code": code, "message": message}).encode()

        assert because(read_confirm(Reply(status, body), ASKED)) is UnknownBecause.PG_ERROR


def assert_honest(answer: Answer, *, status: int, body: bytes, asked: Asked) -> None:
    match answer:
        case Approved() | DepositAwaited() | Cancelled():
            told = json.loads(body)
            assert status == 200
            assert told["orderId"] == answer.payment.order_id == asked.order_id
            assert told["totalAmount"] == answer.payment.total_amount == asked.amount
            assert told["currency"] == answer.payment.currency == "KRW"
            assert asked.payment_key in {None, told["paymentKey"]}
        case Declined(payment=payment) if payment is not None:
            assert payment.status in {PgStatus.ABORTED, PgStatus.EXPIRED}
        case Declined():
            assert status in {400, 403, 404}
        case Unknown():
            assert answer.because not in {UnknownBecause.NOT_SENT, UnknownBecause.CIRCUIT_OPEN}
