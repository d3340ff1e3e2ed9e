import re
from typing import Any

import pytest

from tests.sandbox.client import ORDER, WIDGET_CLIENT_KEY, WIDGET_KEY, Toss, code_of
from tests.sandbox.conftest import sandbox_in_process
from toss_sandbox.settings import Settings

KOREAN_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+09:00")
TAX_NAMES = ("balanceAmount", "suppliedAmount", "vat", "taxFreeAmount", "taxExemptionAmount")


def amounts_of(payment: dict[str, Any]) -> tuple[int, ...]:
    return tuple(payment[name] for name in TAX_NAMES)


class TestStatusAfterCancelling:
    """The trap: a balance that went back in parts is 0 and PARTIAL_CANCELED."""

    async def test_one_full_cancel(self, toss: Toss) -> None:
        payment_key = await toss.paid(amount=1_000)

        answer = await toss.cancel(payment_key)

        payment = answer.json()
        assert (answer.status_code, payment["status"], payment["balanceAmount"]) == (200, "CANCELED", 0)
        assert payment["totalAmount"] == 1_000

    async def test_full_amount_said_aloud_is_one_full_cancel(self, toss: Toss) -> None:
        payment_key = await toss.paid(amount=1_000)

        assert (await toss.cancel(payment_key, cancelAmount=1_000)).json()["status"] == "CANCELED"

    @pytest.mark.parametrize("body", [{}, {"cancelAmount": 1}])
    async def test_cancel_of_what_was_cancelled_at_once(self, toss: Toss, body: dict[str, int]) -> None:
        payment_key = await toss.paid()
        await toss.cancel(payment_key)

        answer = await toss.cancel(payment_key, body)

        assert code_of(answer) == (400, "ALREADY_CANCELED_PAYMENT")
        assert answer.json()["message"] == "이미 취소된 결제 입니다."

    async def test_part(self, toss: Toss) -> None:
        payment_key = await toss.paid(amount=1_000)

        payment = (await toss.cancel(payment_key, cancelAmount=300)).json()

        assert (payment["status"], payment["balanceAmount"], payment["totalAmount"]) == ("PARTIAL_CANCELED", 700, 1_000)

    @pytest.mark.parametrize("rest", [{}, {"cancelAmount": 700}])
    async def test_rest_after_a_part_is_still_partial(self, toss: Toss, rest: dict[str, int]) -> None:
        payment_key = await toss.paid(amount=1_000)
        await toss.cancel(payment_key, cancelAmount=300)

        answer = await toss.cancel(payment_key, rest)

        payment = answer.json()
        assert (answer.status_code, payment["status"], payment["balanceAmount"]) == (200, "PARTIAL_CANCELED", 0)

    @pytest.mark.parametrize("body", [{}, {"cancelAmount": 1}])
    async def test_cancel_of_what_went_back_in_parts(self, toss: Toss, body: dict[str, int]) -> None:
        payment_key = await toss.paid(amount=1_000)
        await toss.cancel(payment_key, cancelAmount=300)
        await toss.cancel(payment_key)

        assert code_of(await toss.cancel(payment_key, body)) == (403, "NOT_CANCELABLE_AMOUNT")

    async def test_more_than_the_balance(self, toss: Toss) -> None:
        payment_key = await toss.paid(amount=1_000)
        await toss.cancel(payment_key, cancelAmount=300)
        before = await toss.payment(payment_key)

        answer = await toss.cancel(payment_key, cancelAmount=701)

        assert code_of(answer) == (403, "NOT_CANCELABLE_AMOUNT")
        assert await toss.payment(payment_key) == before

    async def test_other_balance_than_the_caller_believes_in(self, toss: Toss) -> None:
        payment_key = await toss.paid(amount=1_000)
        await toss.cancel(payment_key, cancelAmount=300)
        before = await toss.payment(payment_key)

        answer = await toss.cancel(payment_key, cancelAmount=300, refundableAmount=1_000)

        assert code_of(answer) == (400, "NOT_MATCHES_REFUNDABLE_AMOUNT")
        assert answer.json()["message"] == "잔액 결과가 일치하지 않습니다."
        assert await toss.payment(payment_key) == before

    async def test_balance_the_caller_believes_in(self, toss: Toss) -> None:
        payment_key = await toss.paid(amount=1_000)

        answer = await toss.cancel(payment_key, cancelAmount=300, refundableAmount=1_000)

        assert (answer.status_code, answer.json()["balanceAmount"]) == (200, 700)


class TestEntry:
    async def test_list_is_null_before_the_first(self, toss: Toss) -> None:
        assert (await toss.payment(await toss.paid()))["cancels"] is None

    async def test_fields_of_a_cancel(self, toss: Toss) -> None:
        payment_key = await toss.paid()

        payment = (await toss.cancel(payment_key, cancelAmount=5_000)).json()

        (cancel,) = payment["cancels"]
        assert KOREAN_TIME.fullmatch(cancel.pop("canceledAt"))
        assert re.fullmatch(r"txrd_a01[a-z0-9]{23}", cancel.pop("transactionKey"))
        assert cancel == {
            "cancelReason": "구매자 변심",
            "taxExemptionAmount": 0,
            "cardDiscountAmount": 0,
            "transferDiscountAmount": 0,
            "easyPayDiscountAmount": 0,
            "receiptKey": None,
            "cancelStatus": "DONE",
            "cancelRequestId": None,
            "cancelAmount": 5_000,
            "taxFreeAmount": 0,
            "refundableAmount": 10_000,
        }

    async def test_entries_stand_in_their_order(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        for amount in (1_000, 2_000, 12_000):
            await toss.cancel(payment_key, cancelAmount=amount)

        cancels = (await toss.payment(payment_key))["cancels"]

        assert [(cancel["cancelAmount"], cancel["refundableAmount"]) for cancel in cancels] == [
            (1_000, 14_000),
            (2_000, 12_000),
            (12_000, 0),
        ]
        assert len({cancel["transactionKey"] for cancel in cancels}) == 3

    async def test_last_transaction_is_the_cancel(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        approved = await toss.payment(payment_key)

        payment = (await toss.cancel(payment_key, cancelAmount=1_000)).json()

        assert payment["lastTransactionKey"] == payment["cancels"][0]["transactionKey"]
        assert payment["lastTransactionKey"] != approved["lastTransactionKey"]

    async def test_money_leaves_by_the_ledger(self, toss: Toss) -> None:
        payment_key = await toss.paid()

        payment = (await toss.cancel(payment_key, cancelAmount=4_000)).json()

        assert (await toss.http.get("/sandbox/ledger", params={"orderId": ORDER})).json()["cancels"] == [
            {
                "paymentKey": payment_key,
                "orderId": ORDER,
                "amount": 4_000,
                "transactionKey": payment["cancels"][0]["transactionKey"],
                "at": payment["cancels"][0]["canceledAt"],
            }
        ]
        assert await toss.held() == 11_000

    async def test_rest_of_the_payment_stays_as_it_was(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        before = await toss.payment(payment_key)

        after = (await toss.cancel(payment_key)).json()

        changed = {name for name in before if before[name] != after[name]}
        assert list(after) == list(before)
        assert changed == {"lastTransactionKey", "status", "cancels", "balanceAmount", "suppliedAmount", "vat"}


class TestTaxes:
    async def test_tax_shrinks_with_the_balance(self, toss: Toss) -> None:
        payment_key = await toss.paid()

        part = (await toss.cancel(payment_key, cancelAmount=5_000)).json()
        rest = (await toss.cancel(payment_key)).json()

        assert amounts_of(part) == (10_000, 9_091, 909, 0, 0)
        assert amounts_of(rest) == (0, 0, 0, 0, 0)

    async def test_tax_free_share_pays_none(self, toss: Toss) -> None:
        payment_key = await toss.paid(amount=10_000, taxFreeAmount=3_000)

        assert amounts_of(await toss.payment(payment_key)) == (10_000, 6_364, 636, 3_000, 0)

    async def test_tax_free_share_is_given_back_as_told(self, toss: Toss) -> None:
        payment_key = await toss.paid(amount=10_000, taxFreeAmount=3_000)

        payment = (await toss.cancel(payment_key, cancelAmount=4_000, taxFreeAmount=1_000)).json()

        assert amounts_of(payment) == (6_000, 3_636, 364, 2_000, 0)
        assert payment["cancels"][0]["taxFreeAmount"] == 1_000

    async def test_everything_left_takes_the_tax_free_share_along(self, toss: Toss) -> None:
        payment_key = await toss.paid(amount=10_000, taxFreeAmount=3_000)
        await toss.cancel(payment_key, cancelAmount=1_000, taxFreeAmount=1_000)

        payment = (await toss.cancel(payment_key)).json()

        assert amounts_of(payment) == (0, 0, 0, 0, 0)
        assert payment["cancels"][1]["taxFreeAmount"] == 2_000

    async def test_exempt_share_is_given_back_as_told(self, toss: Toss) -> None:
        payment_key = await toss.paid(amount=10_000, taxExemptionAmount=1_000, method="TRANSFER")

        payment = (await toss.cancel(payment_key, cancelAmount=2_000, taxExemptionAmount=400)).json()

        assert amounts_of(payment) == (8_000, 6_727, 673, 0, 600)
        assert payment["cancels"][0]["taxExemptionAmount"] == 400

    @pytest.mark.parametrize(
        "body",
        [
            {"cancelAmount": 5_000, "taxFreeAmount": 3_001},  # more than was sold without tax
            {"cancelAmount": 1_000, "taxFreeAmount": 1_001},  # more than the cancel
            {"cancelAmount": 7_001},  # more than was sold with tax
            {"cancelAmount": 1_000, "taxExemptionAmount": 1},
        ],
    )
    async def test_shares_that_are_not_left_are_refused(self, toss: Toss, body: dict[str, int]) -> None:
        payment_key = await toss.paid(amount=10_000, taxFreeAmount=3_000)

        assert code_of(await toss.cancel(payment_key, body)) == (403, "NOT_CANCELABLE_AMOUNT")
        assert await toss.held() == 10_000

    @pytest.mark.parametrize(
        "shares",
        [
            {"taxFreeAmount": -1},
            {"taxExemptionAmount": -1},
            {"taxFreeAmount": 15_001},
            {"taxFreeAmount": 10_000, "taxExemptionAmount": 5_001},
        ],
    )
    async def test_shares_of_a_payment_are_within_its_amount(self, toss: Toss, shares: dict[str, int]) -> None:
        answer = await toss.http.post("/sandbox/payments", json={"orderId": ORDER, "amount": 15_000, **shares})

        assert code_of(answer) == (400, "INVALID_REQUEST")


class TestWholeOnly:
    @pytest.mark.parametrize(
        "traits",
        [
            {"isPartialCancelable": False},
            {"useEscrow": True},
            {"useEscrow": True, "method": "TRANSFER"},
            {"taxExemptionAmount": 100},
        ],
    )
    async def test_part_is_refused_where_only_the_whole_goes_back(self, toss: Toss, traits: dict[str, object]) -> None:
        payment_key = await toss.paid(**traits)  # type: ignore[arg-type]  # traits of the control API

        answer = await toss.cancel(payment_key, cancelAmount=1_000)

        assert code_of(answer) == (403, "NOT_ALLOWED_PARTIAL_REFUND")
        assert await toss.held() == 15_000
        assert (await toss.cancel(payment_key, cancelAmount=15_000)).json()["status"] == "CANCELED"

    async def test_traits_are_shown(self, toss: Toss) -> None:
        payment_key = await toss.paid(
            isPartialCancelable=False, useEscrow=True, taxFreeAmount=1_000, taxExemptionAmount=500
        )

        payment = await toss.payment(payment_key)

        assert (payment["isPartialCancelable"], payment["useEscrow"]) == (False, True)
        assert (payment["taxFreeAmount"], payment["taxExemptionAmount"]) == (1_000, 500)

    async def test_exemption_divides_where_it_is_no_card(self, toss: Toss) -> None:
        payment_key = await toss.paid(taxExemptionAmount=100, method="TRANSFER")

        assert (await toss.cancel(payment_key, cancelAmount=1_000)).status_code == 200


class TestNotCancelable:
    async def test_ready(self, toss: Toss) -> None:
        assert code_of(await toss.cancel(await toss.pay(leaveReady=True))) == (403, "NOT_CANCELABLE_PAYMENT")

    async def test_in_progress(self, toss: Toss) -> None:
        payment_key = await toss.pay()

        assert code_of(await toss.cancel(payment_key)) == (403, "NOT_CANCELABLE_PAYMENT")
        assert (await toss.payment(payment_key))["status"] == "IN_PROGRESS"

    async def test_expired(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.move_clock(minutes=10)

        assert code_of(await toss.cancel(payment_key)) == (403, "NOT_CANCELABLE_PAYMENT")

    async def test_aborted(self, toss: Toss) -> None:
        payment_key = await toss.pay(refuseWith="REJECT_CARD_COMPANY")
        await toss.confirm(payment_key)

        assert code_of(await toss.cancel(payment_key)) == (403, "NOT_CANCELABLE_PAYMENT")

    async def test_unknown(self, toss: Toss) -> None:
        assert code_of(await toss.cancel("tviva20260101000000abcde")) == (404, "NOT_FOUND_PAYMENT")

    async def test_cancelled_order_is_not_paid_again(self, toss: Toss) -> None:
        await toss.cancel(await toss.paid())

        assert code_of(await toss.confirm(await toss.pay())) == (400, "DUPLICATED_ORDER_ID")


class TestKeys:
    async def test_other_pair_cannot_cancel(self, toss: Toss) -> None:
        payment_key = await toss.paid()

        assert code_of(await toss.cancel(payment_key, auth=WIDGET_KEY)) == (403, "FORBIDDEN_REQUEST")
        assert await toss.held() == 15_000

    async def test_own_pair_can(self, toss: Toss) -> None:
        payment_key = await toss.pay(clientKey=WIDGET_CLIENT_KEY)
        await toss.confirm(payment_key, auth=WIDGET_KEY)

        assert (await toss.cancel(payment_key, auth=WIDGET_KEY)).status_code == 200

    async def test_nobody_cancels_without_a_key(self, toss: Toss) -> None:
        payment_key = await toss.paid()

        answer = await toss.http.post(f"/v1/payments/{payment_key}/cancel", json={"cancelReason": "x"})

        assert code_of(answer) == (401, "UNAUTHORIZED_KEY")
        assert await toss.held() == 15_000


class TestDeadlines:
    @pytest.mark.parametrize(("method", "days"), [("TRANSFER", 180), ("VIRTUAL_ACCOUNT", 365)])
    async def test_method_can_be_refunded_for_its_days(self, toss: Toss, method: str, days: int) -> None:
        account = {"bank": "88", "accountNumber": "110123456789", "holderName": "김토스"}
        named = {"refundReceiveAccount": account} if method == "VIRTUAL_ACCOUNT" else {}
        payment_key = await toss.paid(method=method)

        await toss.move_clock(days=days - 1)
        in_time = await toss.cancel(payment_key, named, cancelAmount=1_000)
        await toss.move_clock(days=1, seconds=1)
        late = await toss.cancel(payment_key, named, cancelAmount=1_000)

        assert in_time.status_code == 200
        assert code_of(late) == (403, "EXCEED_MAX_REFUND_DUE")
        assert late.json()["message"] == "환불 가능한 기간이 지났습니다."
        assert await toss.held() == 14_000

    async def test_telephone_can_be_refunded_within_the_month(self, toss: Toss) -> None:
        payment_key = await toss.paid(method="MOBILE_PHONE")
        await toss.cancel(payment_key, cancelAmount=1_000)

        await toss.move_clock(days=31)

        assert code_of(await toss.cancel(payment_key)) == (403, "EXCEED_MAX_REFUND_DUE")

    async def test_telephone_has_all_the_time_where_told_so(self) -> None:
        async with sandbox_in_process(Settings(phone_refunds_end_with_month=False)) as toss:
            payment_key = await toss.paid(method="MOBILE_PHONE")
            await toss.move_clock(days=31)

            assert (await toss.cancel(payment_key)).status_code == 200

    @pytest.mark.parametrize("method", ["CARD", "EASY_PAY", "GIFT_CERTIFICATE"])
    async def test_others_have_no_deadline(self, toss: Toss, method: str) -> None:
        payment_key = await toss.paid(method=method)

        await toss.move_clock(days=800)

        assert (await toss.cancel(payment_key)).status_code == 200


class TestSpacing:
    async def test_second_cancel_at_once_is_taken(self, toss: Toss) -> None:
        payment_key = await toss.paid()

        statuses = [(await toss.cancel(payment_key, cancelAmount=1_000)).status_code for _ in range(2)]

        assert statuses == [200, 200]

    async def test_second_cancel_too_soon_is_refused_where_told_so(self) -> None:
        async with sandbox_in_process(Settings(cancel_spacing=Settings().confirm_window)) as toss:
            payment_key = await toss.paid()
            await toss.cancel(payment_key, cancelAmount=1_000)

            refused = await toss.cancel(payment_key, cancelAmount=1_000)
            await toss.move_clock(minutes=10)
            taken = await toss.cancel(payment_key, cancelAmount=1_000)

        assert code_of(refused) == (403, "FORBIDDEN_CONSECUTIVE_REQUEST")
        assert taken.json()["balanceAmount"] == 13_000

    async def test_first_cancel_is_never_too_soon(self) -> None:
        async with sandbox_in_process(Settings(cancel_spacing=Settings().confirm_window)) as toss:
            assert (await toss.cancel(await toss.paid())).status_code == 200


class TestBody:
    @pytest.mark.parametrize(
        "body",
        [
            {"cancelReason": None},
            {"cancelReason": ""},
            {"cancelReason": "이" * 201},
            {"cancelReason": 5},
            {"cancelAmount": 0},
            {"cancelAmount": -1},
            {"cancelAmount": 1.5},
            {"cancelAmount": "much"},
            {"cancelAmount": True},
            {"cancelAmount": [1]},
            {"taxFreeAmount": -1},
            {"taxExemptionAmount": "x"},
            {"refundableAmount": -1},
            {"refundableAmount": {}},
            {"currency": "USD"},
            {"currency": ["KRW"]},
            {"refundReceiveAccount": "110123456789"},
        ],
    )
    async def test_what_cannot_be_read_is_refused(self, toss: Toss, body: dict[str, object]) -> None:
        payment_key = await toss.paid()

        answer = await toss.cancel(payment_key, body)

        assert code_of(answer) == (400, "INVALID_REQUEST")
        assert await toss.held() == 15_000

    @pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{", b'{"cancelReason": "\\ud800"}', b"9" * 5_000])
    async def test_what_is_no_body_is_refused(self, toss: Toss, content: bytes) -> None:
        payment_key = await toss.paid()

        answer = await toss.http.post(
            f"/v1/payments/{payment_key}/cancel", content=content, auth=("test_sk_sandbox0000000000000000000000", "")
        )

        assert code_of(answer) == (400, "INVALID_REQUEST")

    async def test_members_nobody_knows_are_ignored(self, toss: Toss) -> None:
        payment_key = await toss.paid()

        answer = await toss.cancel(payment_key, refundMid=None, isDividedPayment=False, cancelRequestId="request-1")

        assert answer.status_code == 200

    async def test_null_is_as_good_as_absent(self, toss: Toss) -> None:
        names = ("cancelAmount", "taxFreeAmount", "refundableAmount", "currency", "refundReceiveAccount")

        answer = await toss.cancel(await toss.paid(), dict.fromkeys(names))

        assert answer.json()["status"] == "CANCELED"

    async def test_amounts_may_be_strings_of_digits(self, toss: Toss) -> None:
        answer = await toss.cancel(await toss.paid(), cancelAmount="1000", refundableAmount="15000")

        assert answer.json()["balanceAmount"] == 14_000

    async def test_reason_may_have_two_hundred_characters(self, toss: Toss) -> None:
        answer = await toss.cancel(await toss.paid(), cancelReason="이" * 200, currency="KRW")

        assert answer.json()["cancels"][0]["cancelReason"] == "이" * 200

    @pytest.mark.parametrize(
        ("body", "code"),
        [({"cancelReason": None}, "INVALID_REQUIRED_PARAM"), ({"currency": "USD"}, "INVALID_CURRENCY")],
    )
    async def test_bad_field_is_named_where_told_so(self, body: dict[str, object], code: str) -> None:
        async with sandbox_in_process(Settings(specific_field_codes=True)) as toss:
            answer = await toss.cancel(await toss.paid(), body)

        assert code_of(answer) == (400, code)

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    async def test_only_post_cancels(self, toss: Toss, method: str) -> None:
        payment_key = await toss.paid()

        answer = await toss.http.request(
            method, f"/v1/payments/{payment_key}/cancel", auth=("test_sk_sandbox0000000000000000000000", "")
        )

        assert code_of(answer) == (404, "NOT_FOUND_HTTP_METHOD")


class TestOrderOfRules:
    async def test_what_is_over_is_said_before_the_belief_is_looked_at(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        await toss.cancel(payment_key)

        assert code_of(await toss.cancel(payment_key, refundableAmount=15_000)) == (400, "ALREADY_CANCELED_PAYMENT")

    async def test_belief_is_looked_at_before_the_amount(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        await toss.cancel(payment_key, cancelAmount=5_000)
        await toss.cancel(payment_key)

        answer = await toss.cancel(payment_key, cancelAmount=10_000, refundableAmount=10_000)

        assert code_of(answer) == (400, "NOT_MATCHES_REFUNDABLE_AMOUNT")
