"""Reading the PG's JSON: what is tolerated, what is not, and that nothing ever raises anything else."""

import json
from datetime import UTC, datetime

import pytest

from payments.gateways.pg import PgCancel, PgStatus, PgVirtualAccount
from payments.gateways.toss_wire import (
    MalformedAnswer,
    clean_text,
    is_order_id,
    is_payment_key,
    read_error,
    read_payment,
)
from tests.gateways.toss_builders import (
    AMOUNT,
    ORDER_ID,
    PAYMENT_KEY,
    REASON,
    SECRET,
    VIRTUAL_ACCOUNT,
    a_cancel,
    a_payment,
    a_refunded_payment,
    a_virtual_account_payment,
    as_bytes,
)

NO_PAYMENTS = {
    "nothing": b"",
    "a space": b" ",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"DONE"',
    "a number": b"15000",
    "an empty object": b"{}",
    "a page": b"<html><body>502 Bad Gateway</body></html>",
    "cut": as_bytes(a_payment())[:-1],
    "with a tail": as_bytes(a_payment()) + b"}",
    "a list of payments": as_bytes([a_payment()]),
    "with a byte order mark": b"\xef\xbb\xbf" + as_bytes(a_payment()),
    "UTF-16": json.dumps(a_payment()).encode("utf-16"),
    "no UTF-8": as_bytes(a_payment(method="@")).replace(b"@", b"\xff\xfe"),
    "NaN": as_bytes(a_payment(metadata="@")).replace(b'"@"', b"NaN"),
    "infinity": as_bytes(a_payment(metadata="@")).replace(b'"@"', b"-Infinity"),
    "the same name twice": as_bytes(a_payment()).replace(b"{", b'{"status": "ABORTED", ', 1),
    "the same name twice, deeper": as_bytes(a_payment(metadata="@")).replace(b'"@"', b'{"a": 1, "a": 2}'),
    "nested": as_bytes(a_payment(metadata="@")).replace(b'"@"', b"[" * 100_000 + b"]" * 100_000),
    "nested lists": b"[" * 900_000,
    "nested objects": b'{"a":' * 100_000,
    "an endless number": as_bytes(a_payment(metadata="@")).replace(b'"@"', b"9" * 5000),
}


class TestReadPayment:
    def test_card_payment_is_read_whole(self) -> None:
        payment = read_payment(as_bytes(a_payment()))

        assert payment.payment_key == PAYMENT_KEY
        assert payment.order_id == ORDER_ID
        assert payment.status is PgStatus.DONE
        assert (payment.total_amount, payment.balance_amount, payment.currency) == (AMOUNT, AMOUNT, "KRW")
        assert (payment.method, payment.easy_pay) == ("카드", False)
        assert payment.approved_at == datetime(2026, 1, 2, 5, 46, 59, tzinfo=UTC)
        assert payment.secret == SECRET
        assert payment.receipt_url == "https://dashboard.tosspayments.com/receipt/redirection?transactionId=t&ref=PX"
        assert (payment.virtual_account, payment.failure_code, payment.failure_message) == (None, None, None)
        assert payment.last_transaction_key == "txrd_a01k0000000000000000000000"
        assert payment.is_partial_cancelable
        assert payment.cancels == ()

    def test_virtual_account_is_read(self) -> None:
        payment = read_payment(as_bytes(a_virtual_account_payment()))

        due_at = datetime(2026, 1, 9, 14, 59, 59, tzinfo=UTC)
        assert payment.virtual_account == PgVirtualAccount("20", "X6505636518308", "박토스", due_at, "NONE")
        assert payment.approved_at is None

    def test_due_date_without_offset_is_korean_time(self) -> None:
        account = {**VIRTUAL_ACCOUNT, "dueDate": "2026-01-09T23:59:59"}

        payment = read_payment(as_bytes(a_virtual_account_payment(virtualAccount=account)))

        assert payment.virtual_account is not None
        assert payment.virtual_account.due_at == datetime(2026, 1, 9, 14, 59, 59, tzinfo=UTC)

    def test_failure_is_read(self) -> None:
        failure = {"code": "EXPIRED_PAYMENT", "message": "결제 시간이 만료되었습니다.\n다시 시도해 주세요."}

        payment = read_payment(as_bytes(a_payment(status="EXPIRED", failure=failure, method=None, approvedAt=None)))

        assert payment.failure_code == "EXPIRED_PAYMENT"
        assert payment.failure_message == "결제 시간이 만료되었습니다. 다시 시도해 주세요."
        assert payment.method is None

    @pytest.mark.parametrize("status", list(PgStatus))
    def test_every_documented_status_is_read(self, status: PgStatus) -> None:
        assert read_payment(as_bytes(a_payment(status=status.value))).status is status

    def test_easy_pay_is_recognised(self) -> None:
        assert read_payment(as_bytes(a_payment(method="간편결제"))).easy_pay

    def test_a_method_of_the_future_is_kept_as_it_is(self) -> None:
        assert read_payment(as_bytes(a_payment(method="양자결제"))).method == "양자결제"

    def test_what_belongs_to_a_method_of_the_future_is_ignored(self) -> None:
        unheard_of = {
            "provider": ["토스양자"],
            "card": 7,
            "transfer": True,
            "mobilePhone": "010",
            "giftCertificate": [],
        }

        payment = read_payment(as_bytes(a_payment(method="양자결제", quantumPay=unheard_of, **unheard_of)))

        assert (payment.method, payment.total_amount, payment.easy_pay) == ("양자결제", AMOUNT, False)

    def test_fields_of_the_future_are_ignored(self) -> None:
        assert read_payment(as_bytes(a_payment(quantum={"spin": [1.5, None]}))).payment_key == PAYMENT_KEY

    def test_only_what_decides_about_money_is_needed(self) -> None:
        needed = ("paymentKey", "orderId", "status", "totalAmount", "balanceAmount", "currency")
        bare = {name: a_payment()[name] for name in needed}

        payment = read_payment(as_bytes(bare))

        assert (payment.method, payment.secret, payment.receipt_url) == (None, None, None)
        assert (payment.last_transaction_key, payment.is_partial_cancelable, payment.cancels) == (None, True, ())
        for name in needed:
            with pytest.raises(MalformedAnswer, match=name):
                read_payment(as_bytes({key: value for key, value in bare.items() if key != name}))


class TestCancels:
    def test_a_cancel_is_read_whole(self) -> None:
        payment = read_payment(as_bytes(a_refunded_payment(5_000)))

        done_at = datetime(2026, 1, 3, 1, 20, 30, tzinfo=UTC)
        assert payment.cancels == (PgCancel("cancel-down-to-10000", 5_000, 10_000, REASON, done_at, is_done=True),)
        assert payment.last_transaction_key == "cancel-down-to-10000"

    @pytest.mark.parametrize("none", [None, []])
    def test_before_the_first_there_are_none(self, none: object) -> None:
        assert read_payment(as_bytes(a_payment(cancels=none))).cancels == ()

    def test_they_stand_in_the_order_in_which_the_balance_went_down(self) -> None:
        shuffled = [a_cancel(1_000, 9_000), a_cancel(9_000, 0), a_cancel(5_000, 10_000)]

        payment = read_payment(as_bytes(a_refunded_payment(5_000, 1_000, 9_000, cancels=shuffled)))

        assert [(cancel.amount, cancel.balance_after) for cancel in payment.cancels] == [
            (5_000, 10_000),
            (1_000, 9_000),
            (9_000, 0),
        ]

    def test_those_that_left_the_same_stay_in_the_order_of_the_list(self) -> None:
        given_up = a_cancel(1_000, 10_000, transactionKey="given-up", cancelStatus="ABORTED")

        payment = read_payment(as_bytes(a_payment(cancels=[given_up, a_cancel(5_000, 10_000)])))

        assert [cancel.transaction_key for cancel in payment.cancels] == ["given-up", "cancel-down-to-10000"]

    @pytest.mark.parametrize(
        ("status", "is_done"),
        [("DONE", True), (None, True), ("IN_PROGRESS", False), ("ABORTED", False), ("A_WORD_OF_THE_FUTURE", False)],
    )
    def test_only_a_done_one_is_done(self, status: str | None, is_done: bool) -> None:  # noqa: FBT001 - a parameter
        payment = read_payment(as_bytes(a_payment(cancels=[a_cancel(5_000, 10_000, cancelStatus=status)])))

        assert payment.cancels[0].is_done is is_done

    def test_without_a_status_it_is_done(self) -> None:
        cancel = {name: value for name, value in a_cancel(5_000, 10_000).items() if name != "cancelStatus"}

        assert read_payment(as_bytes(a_payment(cancels=[cancel]))).cancels[0].is_done

    @pytest.mark.parametrize("reason", [REASON, " 공백  두 개 ", "줄\n바꿈", "이모지 🎁", ""])
    def test_the_reason_stays_as_it_was_sent(self, reason: str) -> None:
        """A refund of ours is recognised by it."""
        payment = read_payment(as_bytes(a_payment(cancels=[a_cancel(1, 1, cancelReason=reason)])))

        assert payment.cancels[0].reason == reason

    def test_a_reason_that_no_database_stores_is_cleaned_and_cut(self) -> None:
        cancel = a_cancel(1, 1, cancelReason="가\u0000\ud800나" + "다" * 300)

        payment = read_payment(json.dumps(a_payment(cancels=[cancel])).encode())

        assert payment.cancels[0].reason == "가나" + "다" * 198

    @pytest.mark.parametrize("value", [None, 7, [], {}, True])
    def test_an_unreadable_reason_is_empty(self, value: object) -> None:
        payment = read_payment(as_bytes(a_payment(cancels=[a_cancel(1, 1, cancelReason=value)])))

        assert payment.cancels[0].reason == ""

    @pytest.mark.parametrize("value", [None, 7, [], {}, True, "", "yesterday", "2026-01-03"])
    def test_an_unreadable_date_is_absent(self, value: object) -> None:
        payment = read_payment(as_bytes(a_payment(cancels=[a_cancel(1, 1, canceledAt=value)])))

        assert payment.cancels[0].cancelled_at is None

    @pytest.mark.parametrize("key", ["9FF15E1A29D0E77C218F57262BFA4986", "txrd_a01k0000", "!", "~" * 64])
    def test_transaction_keys(self, key: str) -> None:
        payment = read_payment(
            as_bytes(a_payment(cancels=[a_cancel(1, 1, transactionKey=key)], lastTransactionKey=key))
        )

        assert payment.cancels[0].transaction_key == payment.last_transaction_key == key

    @pytest.mark.parametrize("key", [None, 7, True, [], {}, "", " ", "a b", "a\n", "a\u0000", "키", "x" * 65, "\ud800"])
    def test_a_cancel_without_a_usable_transaction_key_spoils_the_answer(self, key: object) -> None:
        body = json.dumps(a_payment(cancels=[a_cancel(5_000, 10_000), a_cancel(1_000, 9_000, transactionKey=key)]))

        with pytest.raises(MalformedAnswer, match=r"cancels\.1\.transactionKey"):
            read_payment(body.encode())

    @pytest.mark.parametrize("name", ["cancelAmount", "refundableAmount"])
    @pytest.mark.parametrize("value", [None, "5000", True, -1, 0.5, [], {}, 2**53])
    def test_a_cancel_without_a_usable_amount_spoils_the_answer(self, name: str, value: object) -> None:
        with pytest.raises(MalformedAnswer, match=rf"cancels\.0\.{name}"):
            read_payment(as_bytes(a_payment(cancels=[a_cancel(5_000, 10_000, **{name: value})])))

    def test_a_cancel_of_nothing_spoils_the_answer(self) -> None:
        with pytest.raises(MalformedAnswer, match="cancelAmount"):
            read_payment(as_bytes(a_payment(cancels=[a_cancel(0, AMOUNT)])))

    @pytest.mark.parametrize("name", ["transactionKey", "cancelAmount", "refundableAmount"])
    def test_what_books_are_kept_from_is_needed(self, name: str) -> None:
        cancel = {key: value for key, value in a_cancel(5_000, 10_000).items() if key != name}

        with pytest.raises(MalformedAnswer, match=name):
            read_payment(as_bytes(a_payment(cancels=[cancel])))

    @pytest.mark.parametrize("status", [7, True, [], {}, "x" * 65, "a\u0000"])
    def test_a_status_that_is_no_word_spoils_the_answer(self, status: object) -> None:
        with pytest.raises(MalformedAnswer, match="cancelStatus"):
            read_payment(as_bytes(a_payment(cancels=[a_cancel(5_000, 10_000, cancelStatus=status)])))

    @pytest.mark.parametrize("cancels", [7, True, "none", {}, a_cancel(5_000, 10_000), [None], [[]], ["x"], [7]])
    def test_what_is_no_list_of_cancels_spoils_the_answer(self, cancels: object) -> None:
        with pytest.raises(MalformedAnswer, match="cancels"):
            read_payment(as_bytes(a_payment(cancels=cancels)))

    def test_a_thousand_broken_ones_make_a_short_reason(self) -> None:
        with pytest.raises(MalformedAnswer) as caught:
            read_payment(as_bytes(a_payment(cancels=[{"cancelReason": "hidden"}] * 1_000)))

        assert len(str(caught.value)) < 1_000
        assert "hidden" not in str(caught.value)

    @pytest.mark.parametrize(("told", "read"), [(True, True), (False, False), (None, True), ("no", True), (0, True)])
    def test_only_a_clear_no_forbids_parts(self, told: object, read: object) -> None:
        assert read_payment(as_bytes(a_payment(isPartialCancelable=told))).is_partial_cancelable is read

    @pytest.mark.parametrize("key", [None, 7, True, [], {}, "", "a b", "x" * 65, "키"])
    def test_an_unreadable_last_transaction_key_is_absent(self, key: object) -> None:
        assert read_payment(as_bytes(a_payment(lastTransactionKey=key))).last_transaction_key is None


class TestAccountRefund:
    @pytest.mark.parametrize("status", ["NONE", "PENDING", "FAILED", "PARTIAL_FAILED", "COMPLETED"])
    def test_documented_words_are_read(self, status: str) -> None:
        account = {**VIRTUAL_ACCOUNT, "refundStatus": status}

        payment = read_payment(as_bytes(a_virtual_account_payment(virtualAccount=account)))

        assert payment.virtual_account is not None
        assert payment.virtual_account.refund_status == status

    @pytest.mark.parametrize("status", [None, "SENT", "none", "", 7, True, [], {}])
    def test_any_other_is_absent(self, status: object) -> None:
        account = {**VIRTUAL_ACCOUNT, "refundStatus": status}

        payment = read_payment(as_bytes(a_virtual_account_payment(virtualAccount=account)))

        assert payment.virtual_account is not None
        assert payment.virtual_account.refund_status is None

    def test_the_account_refunded_to_is_not_read(self) -> None:
        account = {
            **VIRTUAL_ACCOUNT,
            "refundReceiveAccount": {"bankCode": "88", "accountNumber": "110123456789", "holderName": "박환불"},
        }

        payment = read_payment(as_bytes(a_virtual_account_payment(virtualAccount=account)))

        assert "110123456789" not in repr(payment)
        assert "박환불" not in repr(payment)


class TestAmounts:
    @pytest.mark.parametrize("written", ["15000", "15000.0", "1.5e4", "15000.000"])
    def test_a_number_without_fraction_is_an_amount(self, written: str) -> None:
        """Toss documents "number" and shows 5000.0 in one of its own examples."""
        body = as_bytes(a_payment(totalAmount="@")).replace(b'"@"', written.encode())

        payment = read_payment(body)

        assert payment.total_amount == 15_000
        assert type(payment.total_amount) is int

    @pytest.mark.parametrize(
        "written",
        [
            "15000.5",
            '"15000"',
            "true",
            "null",
            "[15000]",
            "{}",
            "-1",
            "-15000.0",
            "9007199254740992",
            "1e16",
            "1e400",
            pytest.param("9" * 5000, id="endless"),
            "NaN",
            "Infinity",
        ],
    )
    @pytest.mark.parametrize("name", ["totalAmount", "balanceAmount"])
    def test_anything_else_is_not(self, name: str, written: str) -> None:
        body = as_bytes(a_payment(**{name: "@"})).replace(b'"@"', written.encode())

        with pytest.raises(MalformedAnswer):
            read_payment(body)


class TestMalformed:
    @pytest.mark.parametrize("body", NO_PAYMENTS.values(), ids=NO_PAYMENTS.keys())
    def test_is_refused(self, body: bytes) -> None:
        with pytest.raises(MalformedAnswer):
            read_payment(body)

    @pytest.mark.parametrize("name", ["paymentKey", "orderId", "status", "currency"])
    @pytest.mark.parametrize("value", [None, 7, True, [], {}, "", "a\u0000b", "x" * 300, "../settlements"])
    def test_a_name_that_is_none_is_refused_or_names_something_else(self, name: str, value: object) -> None:
        body = as_bytes(a_payment(**{name: value}))

        try:
            payment = read_payment(body)
        except MalformedAnswer:
            return

        # An order id or currency of any printable text is read; it then differs from what was asked for.
        assert name in {"orderId", "currency"}
        assert (payment.order_id, payment.currency) != (ORDER_ID, "KRW")

    @pytest.mark.parametrize("name", ["paymentKey", "orderId", "status", "currency"])
    def test_a_lone_surrogate_is_refused(self, name: str) -> None:
        with pytest.raises(MalformedAnswer):
            read_payment(json.dumps(a_payment(**{name: "order-\ud800"})).encode())

    @pytest.mark.parametrize("status", ["DONE ", "done", "SETTLED", "승인"])
    def test_an_undocumented_status_is_refused(self, status: str) -> None:
        with pytest.raises(MalformedAnswer, match=r"status: enum"):
            read_payment(as_bytes(a_payment(status=status)))

    def test_the_reason_names_the_place_without_the_content(self) -> None:
        with pytest.raises(MalformedAnswer) as caught:
            read_payment(as_bytes(a_payment(totalAmount="hidden-amount", currency=["hidden-currency"])))

        assert "totalAmount" in str(caught.value)
        assert "hidden" not in str(caught.value)


class TestDecoration:
    """What does not decide about money never makes the money unknown."""

    @pytest.mark.parametrize("name", ["method", "approvedAt", "virtualAccount", "secret", "receipt", "failure"])
    @pytest.mark.parametrize("value", [7, True, [], {}, {"url": 7}, "\ud800", "a\u0000b", "x" * 600, 1.5])
    def test_unreadable_is_absent(self, name: str, value: object) -> None:
        payment = read_payment(json.dumps(a_payment(**{name: value})).encode())

        attributes = {
            "method": payment.method,
            "approvedAt": payment.approved_at,
            "virtualAccount": payment.virtual_account,
            "secret": payment.secret,
            "receipt": payment.receipt_url,
            "failure": payment.failure_code,
        }
        assert attributes[name] is None
        assert payment.total_amount == AMOUNT

    @pytest.mark.parametrize(
        "url",
        [
            "javascript:alert(1)",
            "data:text/html,hi",
            "//evil.example",
            "receipt",
            "https://",
            "http://[",
            "https://a.example/\n",
            "https://a.example/" + "x" * 500,
        ],
    )
    def test_a_receipt_that_is_no_web_address_is_absent(self, url: str) -> None:
        assert read_payment(as_bytes(a_payment(receipt={"url": url}))).receipt_url is None

    @pytest.mark.parametrize(
        "text",
        ["2026-01-02", "yesterday", "", "1767332819", "2026-13-02T14:46:59+09:00", "0001-01-01T00:00:00+14:00"],
    )
    def test_a_date_that_is_none_is_absent(self, text: str) -> None:
        assert read_payment(as_bytes(a_payment(approvedAt=text))).approved_at is None

    @pytest.mark.parametrize(
        "account",
        [
            {**VIRTUAL_ACCOUNT, "accountNumber": ""},
            {**VIRTUAL_ACCOUNT, "accountNumber": "1" * 21},
            {**VIRTUAL_ACCOUNT, "bankCode": None},
            {"customerName": "박토스"},
        ],
    )
    def test_an_account_without_number_or_bank_is_absent(self, account: object) -> None:
        assert read_payment(as_bytes(a_virtual_account_payment(virtualAccount=account))).virtual_account is None


CARD = "4111-1111-1111-1111"
MASKED = "****-****-****-1111"


class TestCardNumbers:
    """Toss masks them itself; the words of a bank pass through it."""

    def test_in_a_message_are_masked(self) -> None:
        error = read_error(as_bytes({"code": "INVALID_REJECT_CARD", "message": f"카드 {CARD}\n거절"}))
        failure = {"code": "INVALID_REJECT_CARD", "message": "4111 1111\n1111 1111"}
        payment = read_payment(as_bytes(a_payment(status="ABORTED", failure=failure)))

        assert error is not None
        assert error.message == f"카드 {MASKED} 거절"
        assert payment.failure_message == "**** **** **** 1111"

    def test_at_the_end_of_a_long_message_are_masked_before_it_is_cut(self) -> None:
        error = read_error(as_bytes({"code": "X", "message": "a" * 496 + " 4111111111111111"}))

        assert error is not None
        assert error.message.endswith("a " + "*" * 12 + "1")

    def test_in_a_reason_a_name_and_a_currency_are_masked(self) -> None:
        cancelled = a_payment(status="CANCELED", balanceAmount=0, cancels=[a_cancel(AMOUNT, 0, cancelReason=CARD)])
        account = {**VIRTUAL_ACCOUNT, "customerName": f"김 {CARD}"}
        issued = read_payment(as_bytes(a_virtual_account_payment(virtualAccount=account, currency=CARD)))

        assert [cancel.reason for cancel in read_payment(as_bytes(cancelled)).cancels] == [MASKED]
        assert issued.virtual_account is not None
        assert issued.virtual_account.holder_name == f"김 {MASKED}"
        assert issued.currency == MASKED

    def test_make_no_code_and_no_receipt(self) -> None:
        receipt = {"url": f"https://dashboard.tosspayments.com/receipt?card={CARD}"}

        assert read_error(as_bytes({"code": CARD, "message": "x"})) is None
        assert read_payment(as_bytes(a_payment(receipt=receipt))).receipt_url is None

    def test_are_no_account_numbers_to_which_a_buyer_must_send_money(self) -> None:
        account = {**VIRTUAL_ACCOUNT, "accountNumber": "4111111111111111"}
        issued = read_payment(as_bytes(a_virtual_account_payment(virtualAccount=account)))

        assert issued.virtual_account is not None
        assert issued.virtual_account.account_number == "4111111111111111"


class TestReadError:
    def test_code_and_message_are_read(self) -> None:
        error = read_error(as_bytes({"code": "REJECT_CARD_COMPANY", "message": "결제 승인이 거절되었습니다."}))

        assert error is not None
        assert (error.code, error.message) == ("REJECT_CARD_COMPANY", "결제 승인이 거절되었습니다.")

    def test_the_message_is_one_line_of_at_most_510_characters(self) -> None:
        error = read_error(json.dumps({"code": "X", "message": "가\r\n\t\u0000\ud800\u202e나" + "다" * 600}).encode())

        assert error is not None
        assert error.message.startswith("가 나다다")
        assert len(error.message) == 510

    def test_a_message_is_not_needed(self) -> None:
        error = read_error(b'{"code": "X"}')

        assert error is not None
        assert error.message == ""

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"{}",
            b"[]",
            b'{"code": null}',
            b'{"code": ""}',
            b'{"code": 7, "message": "x"}',
            b'{"code": "A B"}',
            b'{"code": "A\\u0000"}',
            b'{"code": "A\\n"}',
            b'{"code": "A", "code": "B"}',
            b'{"error": {"code": "X", "message": "of the second generation"}}',
            as_bytes({"code": "X" * 101}),
        ],
    )
    def test_anything_else_is_no_error_body(self, body: bytes) -> None:
        assert read_error(body) is None


class TestNames:
    @pytest.mark.parametrize("text", ["a", PAYMENT_KEY, "a-b_C9", "x" * 200])
    def test_payment_keys(self, text: str) -> None:
        assert is_payment_key(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ".",
            "..",
            "../settlements",
            "a/cancel",
            "a?b",
            "a#b",
            "a%2e",
            "a b",
            "a\n",
            "a=",
            "키",
            "\uff11",
            "x" * 201,
        ],
    )
    def test_no_payment_keys(self, text: str) -> None:
        assert not is_payment_key(text)

    @pytest.mark.parametrize("text", ["order1", ORDER_ID, "a-b_c=", "x" * 64])
    def test_order_ids(self, text: str) -> None:
        assert is_order_id(text)

    @pytest.mark.parametrize(
        "text", ["", "short", "x" * 65, "order/1", "order.1", "order 1", "주문번호123", "order1\n"]
    )
    def test_no_order_ids(self, text: str) -> None:
        assert not is_order_id(text)

    def test_clean_text_leaves_ordinary_korean_alone(self) -> None:
        assert clean_text("한도초과 혹은 잔액부족으로 결제에 실패했습니다. (2%)") == (
            "한도초과 혹은 잔액부족으로 결제에 실패했습니다. (2%)"
        )
