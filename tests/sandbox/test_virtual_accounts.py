import pytest

from tests.sandbox.client import ORDER, Toss, code_of
from tests.sandbox.conftest import sandbox_in_process
from toss_sandbox.settings import Settings

ACCOUNT = {"bank": "88", "accountNumber": "110123456789", "holderName": "김토스"}


async def waiting(toss: Toss, **more: object) -> str:
    """A virtual account into which nobody has paid yet."""
    payment_key = await toss.pay(method="VIRTUAL_ACCOUNT", **more)  # type: ignore[arg-type]  # fields of the control API
    assert (await toss.confirm(payment_key)).status_code == 200
    return payment_key


async def paid(toss: Toss) -> str:
    return await toss.paid(method="VIRTUAL_ACCOUNT")


class TestDeposit:
    async def test_money_arrives(self, toss: Toss) -> None:
        payment_key = await waiting(toss)

        payment = await toss.control(payment_key, "deposit")

        assert (payment["status"], payment["balanceAmount"]) == ("DONE", 15_000)
        assert payment["approvedAt"] is not None
        assert (await toss.http.get("/sandbox/ledger", params={"orderId": ORDER})).json()["captures"] == [
            {
                "paymentKey": payment_key,
                "orderId": ORDER,
                "amount": 15_000,
                "transactionKey": payment["lastTransactionKey"],
                "at": payment["approvedAt"],
            }
        ]

    async def test_secret_and_account_stay_the_same(self, toss: Toss) -> None:
        payment_key = await waiting(toss)
        before = await toss.payment(payment_key)

        after = await toss.control(payment_key, "deposit", amount=15_000)

        assert after["secret"] == before["secret"]
        assert after["virtualAccount"] == before["virtualAccount"]
        assert after["lastTransactionKey"] != before["lastTransactionKey"]

    @pytest.mark.parametrize("amount", [14_999, 15_001])
    async def test_bank_takes_no_other_amount(self, toss: Toss, amount: int) -> None:
        payment_key = await waiting(toss)

        answer = await toss.ask_control(payment_key, "deposit", amount=amount)

        assert code_of(answer) == (409, "SANDBOX_DEPOSIT_AMOUNT_DIFFERS")
        assert (await toss.payment(payment_key))["status"] == "WAITING_FOR_DEPOSIT"
        assert await toss.held() == 0

    @pytest.mark.parametrize("amount", [10_000, 20_000])
    async def test_forced_deposit_contradicts_what_was_confirmed(self, toss: Toss, amount: int) -> None:
        payment_key = await waiting(toss)

        payment = await toss.control(payment_key, "deposit", amount=amount, force=True)

        assert (payment["status"], payment["totalAmount"], payment["balanceAmount"]) == ("DONE", amount, amount)
        assert await toss.held() == amount

    async def test_forced_deposit_may_be_less_than_was_sold_without_tax(self, toss: Toss) -> None:
        payment_key = await waiting(toss, taxFreeAmount=9_000, taxExemptionAmount=2_000)

        payment = await toss.control(payment_key, "deposit", amount=10_000, force=True)

        names = ("taxFreeAmount", "taxExemptionAmount", "suppliedAmount", "vat")
        assert [payment[name] for name in names] == [9_000, 1_000, 0, 0]
        cancelled = (await toss.cancel(payment_key, refundReceiveAccount=ACCOUNT)).json()
        assert [cancelled[name] for name in names] == [0, 0, 0, 0]

    async def test_bank_takes_nothing_after_the_due_date(self, toss: Toss) -> None:
        payment_key = await waiting(toss)
        await toss.move_clock(days=8)

        assert code_of(await toss.ask_control(payment_key, "deposit")) == (409, "SANDBOX_DEPOSIT_TOO_LATE")
        assert (await toss.control(payment_key, "deposit", force=True))["status"] == "DONE"

    async def test_only_who_waits_can_be_paid(self, toss: Toss) -> None:
        done, ready = await paid(toss), await toss.pay("order-000002", method="VIRTUAL_ACCOUNT")

        for payment_key in (done, ready):
            answer = await toss.ask_control(payment_key, "deposit", force=True)
            assert code_of(answer) == (409, "SANDBOX_NOT_WAITING_FOR_DEPOSIT")

    @pytest.mark.parametrize("amount", [0, -1, 2**53, "x", 1.5])
    async def test_what_is_no_amount_is_refused(self, toss: Toss, amount: object) -> None:
        payment_key = await waiting(toss)

        answer = await toss.ask_control(payment_key, "deposit", amount=amount, force=True)

        assert answer.status_code == 422

    @pytest.mark.parametrize("verb", ["deposit", "reverse-deposit", "pass-due-date", "cancel"])
    async def test_nothing_can_be_done_to_what_is_not_there(self, toss: Toss, verb: str) -> None:
        assert code_of(await toss.ask_control("no-such-payment", verb)) == (404, "NOT_FOUND_PAYMENT")

    async def test_body_may_be_left_out(self, toss: Toss) -> None:
        payment_key = await waiting(toss)

        answer = await toss.http.post(f"/sandbox/payments/{payment_key}/deposit")

        assert answer.json()["status"] == "DONE"


class TestReversal:
    async def test_bank_takes_the_deposit_back(self, toss: Toss) -> None:
        payment_key = await paid(toss)
        before = await toss.payment(payment_key)

        payment = await toss.control(payment_key, "reverse-deposit")

        assert (payment["status"], payment["approvedAt"]) == ("WAITING_FOR_DEPOSIT", None)
        assert (payment["totalAmount"], payment["balanceAmount"]) == (15_000, 15_000)
        assert payment["lastTransactionKey"] != before["lastTransactionKey"]
        assert await toss.ledger() == {"captures": [15_000], "reversals": [15_000], "cancels": []}

    async def test_buyer_pays_again(self, toss: Toss) -> None:
        payment_key = await paid(toss)
        await toss.control(payment_key, "reverse-deposit")

        assert (await toss.control(payment_key, "deposit"))["status"] == "DONE"
        assert await toss.ledger() == {"captures": [15_000, 15_000], "reversals": [15_000], "cancels": []}

    async def test_forced_amount_goes_back_as_it_came(self, toss: Toss) -> None:
        payment_key = await waiting(toss)
        await toss.control(payment_key, "deposit", amount=9_000, force=True)

        payment = await toss.control(payment_key, "reverse-deposit")

        assert payment["totalAmount"] == 15_000
        assert await toss.held() == 0

    async def test_what_was_partly_cancelled_stays(self, toss: Toss) -> None:
        payment_key = await paid(toss)
        await toss.cancel(payment_key, cancelAmount=1_000, refundReceiveAccount=ACCOUNT)

        answer = await toss.ask_control(payment_key, "reverse-deposit")

        assert code_of(answer) == (409, "SANDBOX_NO_DEPOSIT_TO_REVERSE")
        assert await toss.held() == 14_000

    async def test_only_deposits_are_reversed(self, toss: Toss) -> None:
        card, unpaid = await toss.paid(), await toss.pay("order-000002", method="VIRTUAL_ACCOUNT")
        await toss.confirm(unpaid, "order-000002")

        for payment_key in (card, unpaid):
            answer = await toss.ask_control(payment_key, "reverse-deposit")
            assert code_of(answer) == (409, "SANDBOX_NO_DEPOSIT_TO_REVERSE")


class TestDueDate:
    async def test_it_passes_without_a_change_of_status(self, toss: Toss) -> None:
        payment_key = await waiting(toss)

        payment = await toss.control(payment_key, "pass-due-date")

        assert (payment["status"], payment["virtualAccount"]["expired"]) == ("WAITING_FOR_DEPOSIT", True)
        assert payment["virtualAccount"]["dueDate"] <= (await toss.http.get("/sandbox/clock")).json()["now"]
        assert code_of(await toss.ask_control(payment_key, "deposit")) == (409, "SANDBOX_DEPOSIT_TOO_LATE")

    async def test_passed_date_stays(self, toss: Toss) -> None:
        payment_key = await waiting(toss)
        first = await toss.control(payment_key, "pass-due-date")
        await toss.move_clock(minutes=1)

        assert await toss.control(payment_key, "pass-due-date") == first

    async def test_only_who_waits_has_one(self, toss: Toss) -> None:
        answer = await toss.ask_control(await paid(toss), "pass-due-date")

        assert code_of(answer) == (409, "SANDBOX_NOT_WAITING_FOR_DEPOSIT")


class TestGivingUp:
    """Cancelling before the deposit: all of it, without an account, and no money moves."""

    async def test_account_is_given_up(self, toss: Toss) -> None:
        payment_key = await waiting(toss)

        payment = (await toss.cancel(payment_key)).json()

        assert (payment["status"], payment["balanceAmount"], payment["approvedAt"]) == ("CANCELED", 0, None)
        assert [cancel["cancelAmount"] for cancel in payment["cancels"]] == [15_000]
        assert payment["virtualAccount"]["refundStatus"] == "NONE"
        assert await toss.ledger() == {"captures": [], "reversals": [], "cancels": []}

    async def test_part_is_refused(self, toss: Toss) -> None:
        payment_key = await waiting(toss)

        answer = await toss.cancel(payment_key, cancelAmount=1_000)

        assert code_of(answer) == (403, "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT")
        assert answer.json()["message"] == "입금 대기중인 결제는 부분 환불이 불가합니다."

    async def test_account_to_refund_to_is_needless(self, toss: Toss) -> None:
        payment_key = await waiting(toss)

        assert code_of(await toss.cancel(payment_key, refundReceiveAccount=ACCOUNT)) == (400, "INVALID_REQUEST")
        assert (await toss.payment(payment_key))["status"] == "WAITING_FOR_DEPOSIT"

    async def test_it_can_be_given_up_after_the_due_date(self, toss: Toss) -> None:
        payment_key = await waiting(toss)
        await toss.control(payment_key, "pass-due-date")

        payment = (await toss.cancel(payment_key)).json()

        assert (payment["status"], payment["virtualAccount"]["expired"]) == ("CANCELED", False)

    async def test_nobody_can_pay_into_it_any_more(self, toss: Toss) -> None:
        payment_key = await waiting(toss)
        await toss.cancel(payment_key)

        answer = await toss.ask_control(payment_key, "deposit", force=True)

        assert code_of(answer) == (409, "SANDBOX_NOT_WAITING_FOR_DEPOSIT")
        assert code_of(await toss.cancel(payment_key)) == (400, "ALREADY_CANCELED_PAYMENT")

    async def test_reversed_deposit_leaves_nothing_to_refund(self, toss: Toss) -> None:
        payment_key = await paid(toss)
        await toss.control(payment_key, "reverse-deposit")

        assert (await toss.cancel(payment_key)).json()["status"] == "CANCELED"
        assert await toss.held() == 0


class TestRefundAccount:
    async def test_paid_account_is_refunded_to_the_buyers(self, toss: Toss) -> None:
        payment_key = await paid(toss)

        payment = (await toss.cancel(payment_key, refundReceiveAccount=ACCOUNT)).json()

        assert (payment["status"], payment["balanceAmount"]) == ("CANCELED", 0)
        assert payment["virtualAccount"]["refundReceiveAccount"] is None
        assert await toss.held() == 0

    async def test_account_has_to_be_named(self, toss: Toss) -> None:
        payment_key = await paid(toss)

        assert code_of(await toss.cancel(payment_key)) == (400, "INVALID_REFUND_ACCOUNT_INFO")
        assert await toss.held() == 15_000

    @pytest.mark.parametrize(
        ("member", "value", "code"),
        [
            *(("bank", value, "INVALID_BANK") for value in (None, "", "00", "99", "088", "신한", 88)),
            *(
                ("accountNumber", value, "INVALID_REFUND_ACCOUNT_NUMBER")
                for value in (None, "", "110-123-456789", "1" * 21, "1101234x", 110123456789, "１２３")  # noqa: RUF001 - digits of another alphabet are none
            ),
            *(("holderName", value, "INVALID_REFUND_ACCOUNT_INFO") for value in (None, "", " ", "김" * 61, 5)),
        ],
    )
    async def test_each_member_is_checked(self, toss: Toss, member: str, value: object, code: str) -> None:
        payment_key = await paid(toss)

        answer = await toss.cancel(payment_key, refundReceiveAccount=ACCOUNT | {member: value})

        assert code_of(answer) == (400, code)
        assert await toss.held() == 15_000

    async def test_longest_members_are_taken(self, toss: Toss) -> None:
        account = {"bank": "02", "accountNumber": "1" * 20, "holderName": "김" * 60}

        assert (await toss.cancel(await paid(toss), refundReceiveAccount=account)).status_code == 200

    @pytest.mark.parametrize("method", ["CARD", "TRANSFER", "EASY_PAY", "MOBILE_PHONE"])
    async def test_other_methods_take_none(self, toss: Toss, method: str) -> None:
        payment_key = await toss.paid(method=method)

        assert code_of(await toss.cancel(payment_key, refundReceiveAccount=ACCOUNT)) == (400, "INVALID_REQUEST")
        assert await toss.held() == 15_000

    async def test_guessed_codes_can_be_told(self) -> None:
        settings = Settings(missing_account_code="INVALID_REQUEST", needless_account_code="FORBIDDEN_REQUEST")
        async with sandbox_in_process(settings) as toss:
            account, card = await paid(toss), await toss.paid("order-000002")

            assert code_of(await toss.cancel(account)) == (400, "INVALID_REQUEST")
            assert code_of(await toss.cancel(card, refundReceiveAccount=ACCOUNT)) == (403, "FORBIDDEN_REQUEST")


class TestPayingOut:
    async def test_answer_to_the_cancel_does_not_know_of_it_yet(self, toss: Toss) -> None:
        payment_key = await paid(toss)

        answer = (await toss.cancel(payment_key, refundReceiveAccount=ACCOUNT)).json()

        assert answer["virtualAccount"]["refundStatus"] == "NONE"
        assert (await toss.payment(payment_key))["virtualAccount"]["refundStatus"] == "PENDING"

    @pytest.mark.parametrize(("succeeded", "status"), [(True, "COMPLETED"), (False, "FAILED")])
    async def test_bank_pays_it_out_or_cannot(self, toss: Toss, status: str, *, succeeded: bool) -> None:
        payment_key = await paid(toss)
        await toss.cancel(payment_key, refundReceiveAccount=ACCOUNT)

        payment = await toss.control(payment_key, "finish-account-refund", succeeded=succeeded)

        assert payment["virtualAccount"]["refundStatus"] == status
        again = await toss.ask_control(payment_key, "finish-account-refund", succeeded=succeeded)
        assert code_of(again) == (409, "SANDBOX_NO_ACCOUNT_REFUND")

    async def test_next_part_is_under_way_again(self, toss: Toss) -> None:
        payment_key = await paid(toss)
        await toss.cancel(payment_key, cancelAmount=1_000, refundReceiveAccount=ACCOUNT)
        await toss.control(payment_key, "finish-account-refund", succeeded=True)

        answer = (await toss.cancel(payment_key, cancelAmount=1_000, refundReceiveAccount=ACCOUNT)).json()

        assert answer["virtualAccount"]["refundStatus"] == "COMPLETED"
        assert (await toss.payment(payment_key))["virtualAccount"]["refundStatus"] == "PENDING"

    async def test_card_has_nothing_to_pay_out(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        await toss.cancel(payment_key)

        answer = await toss.ask_control(payment_key, "finish-account-refund", succeeded=True)

        assert code_of(answer) == (409, "SANDBOX_NO_ACCOUNT_REFUND")

    async def test_it_stays_none_where_told_so(self) -> None:
        async with sandbox_in_process(Settings(tracks_account_refunds=False)) as toss:
            payment_key = await paid(toss)
            await toss.cancel(payment_key, refundReceiveAccount=ACCOUNT)

            assert (await toss.payment(payment_key))["virtualAccount"]["refundStatus"] == "NONE"


class TestConsole:
    async def test_merchant_cancels_without_the_shop(self, toss: Toss) -> None:
        payment_key = await toss.paid()

        payment = await toss.control(payment_key, "cancel", amount=5_000)

        assert (payment["status"], payment["balanceAmount"]) == ("PARTIAL_CANCELED", 10_000)
        assert payment["cancels"][0]["cancelReason"] == "관리자 취소"
        assert await toss.held() == 10_000
        assert [call["path"] for call in await toss.calls()] == ["/v1/payments/confirm"]

    async def test_everything_goes_back_under_a_reason(self, toss: Toss) -> None:
        payment = await toss.control(await toss.paid(), "cancel", reason="품절")

        assert (payment["status"], payment["cancels"][0]["cancelReason"]) == ("CANCELED", "품절")

    async def test_deposit_goes_back_without_an_account(self, toss: Toss) -> None:
        payment_key = await paid(toss)

        payment = await toss.control(payment_key, "cancel")

        assert (payment["status"], payment["virtualAccount"]["refundStatus"]) == ("CANCELED", "PENDING")
        assert await toss.held() == 0

    async def test_rules_are_those_of_the_api(self, toss: Toss) -> None:
        account, card = await waiting(toss), await toss.paid("order-000002", isPartialCancelable=False)

        part_of_account = await toss.ask_control(account, "cancel", amount=1_000)
        part_of_card = await toss.ask_control(card, "cancel", amount=1_000)
        too_much = await toss.ask_control(card, "cancel", amount=15_001)

        assert code_of(part_of_account) == (403, "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT")
        assert code_of(part_of_card) == (403, "NOT_ALLOWED_PARTIAL_REFUND")
        assert code_of(too_much) == (403, "NOT_CANCELABLE_AMOUNT")

    @pytest.mark.parametrize("body", [{"amount": 0}, {"amount": "x"}, {"reason": ""}, {"reason": "이" * 201}, {"a": 1}])
    async def test_what_cannot_be_read_is_refused(self, toss: Toss, body: dict[str, object]) -> None:
        assert (await toss.ask_control(await toss.paid(), "cancel", **body)).status_code == 422
