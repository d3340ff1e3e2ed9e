import re
from typing import Any

import pytest

from tests.sandbox.client import ORDER, Toss
from tests.sandbox.conftest import sandbox_in_process
from toss_sandbox.payment_object import vat_of
from toss_sandbox.settings import Settings

KOREAN_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+09:00")
FIELDS = [
    "mId",
    "lastTransactionKey",
    "paymentKey",
    "orderId",
    "orderName",
    "taxExemptionAmount",
    "status",
    "requestedAt",
    "approvedAt",
    "useEscrow",
    "cultureExpense",
    "card",
    "virtualAccount",
    "transfer",
    "mobilePhone",
    "giftCertificate",
    "cashReceipt",
    "cashReceipts",
    "discount",
    "cancels",
    "secret",
    "type",
    "easyPay",
    "country",
    "failure",
    "isPartialCancelable",
    "receipt",
    "checkout",
    "currency",
    "totalAmount",
    "balanceAmount",
    "suppliedAmount",
    "vat",
    "taxFreeAmount",
    "method",
    "version",
    "metadata",
]
CARD_FIELDS = [
    "issuerCode",
    "acquirerCode",
    "number",
    "installmentPlanMonths",
    "isInterestFree",
    "interestPayer",
    "approveNo",
    "useCardPoint",
    "cardType",
    "ownerType",
    "acquireStatus",
    "amount",
]
METHOD_OBJECTS = {"card", "virtualAccount", "transfer", "mobilePhone", "giftCertificate", "easyPay"}


async def confirmed(toss: Toss, **more: object) -> dict[str, Any]:
    answer = await toss.confirm(await toss.pay(**more))  # type: ignore[arg-type]  # fields of the control API
    assert answer.status_code == 200, answer.text
    payment: dict[str, Any] = answer.json()
    return payment


class TestPaymentObject:
    async def test_fields_stand_in_the_order_of_a_real_answer(self, toss: Toss) -> None:
        payment = await confirmed(toss)

        assert list(payment) == FIELDS
        assert list(payment["card"]) == CARD_FIELDS

    async def test_fields_of_a_card_payment(self, toss: Toss) -> None:
        payment = await confirmed(toss, orderName="테스트 상품 외 1건")

        expected = {
            "mId": "tvivarepubl",
            "orderId": ORDER,
            "orderName": "테스트 상품 외 1건",
            "taxExemptionAmount": 0,
            "status": "DONE",
            "useEscrow": False,
            "cultureExpense": False,
            "type": "NORMAL",
            "country": "KR",
            "isPartialCancelable": True,
            "currency": "KRW",
            "totalAmount": 15_000,
            "balanceAmount": 15_000,
            "suppliedAmount": 13_636,
            "vat": 1_364,
            "taxFreeAmount": 0,
            "method": "카드",
            "version": "2022-11-16",
        }
        assert {name: payment[name] for name in expected} == expected
        assert (payment["card"]["cardType"], payment["card"]["ownerType"]) == ("신용", "개인")
        assert payment["card"]["amount"] == 15_000

    async def test_what_does_not_apply_is_null(self, toss: Toss) -> None:
        payment = await confirmed(toss)

        nulls = {name for name, value in payment.items() if value is None}
        assert nulls == (METHOD_OBJECTS - {"card"}) | {
            "cashReceipt",
            "cashReceipts",
            "discount",
            "cancels",
            "failure",
            "metadata",
        }

    async def test_keys_and_times_have_their_real_forms(self, toss: Toss) -> None:
        payment = await confirmed(toss)

        assert re.fullmatch(r"tviva\d{14}[A-Za-z0-9]{5}", payment["paymentKey"])
        assert re.fullmatch(r"txrd_a01[a-z0-9]{23}", payment["lastTransactionKey"])
        assert re.fullmatch(r"ps_[A-Za-z0-9]{28}", payment["secret"])
        assert re.fullmatch(r"\d{8}\*{4}\d{3}\*", payment["card"]["number"])
        assert re.fullmatch(r"\d{8}", payment["card"]["approveNo"])
        assert KOREAN_TIME.fullmatch(payment["requestedAt"])
        assert KOREAN_TIME.fullmatch(payment["approvedAt"])
        assert payment["paymentKey"][5:19] == re.sub(r"\D", "", payment["requestedAt"][:19])

    async def test_addresses_lead_to_the_receipt_and_the_window(self) -> None:
        async with sandbox_in_process(Settings(public_url="http://127.0.0.1:9100")) as toss:
            payment = await confirmed(toss)

        key = payment["paymentKey"]
        assert payment["checkout"] == {"url": f"http://127.0.0.1:9100/v1/payments/{key}/checkout"}
        receipt = "https://dashboard-sandbox.tosspayments.com/receipt/redirection?transactionId={}&ref=PX"
        assert payment["receipt"] == {"url": receipt.format(key)}

    @pytest.mark.parametrize(
        ("method", "name", "filled"),
        [
            ("CARD", "카드", "card"),
            ("VIRTUAL_ACCOUNT", "가상계좌", "virtualAccount"),
            ("TRANSFER", "계좌이체", "transfer"),
            ("MOBILE_PHONE", "휴대폰", "mobilePhone"),
            ("EASY_PAY", "간편결제", "easyPay"),
            ("GIFT_CERTIFICATE", "문화상품권", "giftCertificate"),
            ("CULTURE_GIFT_CERTIFICATE", "문화상품권", "giftCertificate"),
            ("BOOK_GIFT_CERTIFICATE", "도서문화상품권", "giftCertificate"),
            ("GAME_GIFT_CERTIFICATE", "게임문화상품권", "giftCertificate"),
        ],
    )
    async def test_method_has_its_korean_name_and_only_its_object(
        self, toss: Toss, method: str, name: str, filled: str
    ) -> None:
        payment = await confirmed(toss, method=method)

        assert payment["method"] == name
        assert {each for each in METHOD_OBJECTS if payment[each] is not None} == {filled}

    async def test_virtual_account_of_the_test_environment(self, toss: Toss) -> None:
        payment = await confirmed(toss, method="VIRTUAL_ACCOUNT", bank="20", holderName="김토스")

        account = payment["virtualAccount"]
        assert re.fullmatch(r"X\d{13}", account.pop("accountNumber"))
        assert KOREAN_TIME.fullmatch(account.pop("dueDate"))
        assert account == {
            "accountType": "일반",
            "bankCode": "20",
            "customerName": "김토스",
            "depositorName": None,
            "expired": False,
            "settlementStatus": "INCOMPLETED",
            "refundStatus": "NONE",
            "refundReceiveAccount": None,
        }
        assert payment["secret"].startswith("ps_")

    async def test_virtual_account_expires_without_a_change_of_status(self, toss: Toss) -> None:
        payment_key = (await confirmed(toss, method="VIRTUAL_ACCOUNT"))["paymentKey"]

        await toss.move_clock(days=8)

        payment = (await toss.look_up(payment_key)).json()
        assert (payment["status"], payment["virtualAccount"]["expired"]) == ("WAITING_FOR_DEPOSIT", True)

    async def test_wallet_says_how_much_it_paid(self, toss: Toss) -> None:
        payment = await confirmed(toss, method="EASY_PAY", easyPayProvider="네이버페이")

        assert payment["easyPay"] == {"provider": "네이버페이", "amount": 15_000, "discountAmount": 0}

    async def test_instalments_are_on_the_card(self, toss: Toss) -> None:
        payment = await confirmed(toss, instalmentMonths=3)

        assert payment["card"]["installmentPlanMonths"] == 3

    async def test_unfinished_payment_shows_neither_money_nor_secret(self, toss: Toss) -> None:
        payment = (await toss.look_up(await toss.pay())).json()

        assert list(payment) == FIELDS
        assert (payment["status"], payment["method"]) == ("IN_PROGRESS", "카드")
        assert {payment[name] for name in ("card", "secret", "approvedAt", "lastTransactionKey", "receipt")} == {None}

    async def test_aborted_payment_has_a_transaction_but_no_secret(self, toss: Toss) -> None:
        payment_key = await toss.pay(refuseWith="COMMON_ERROR")
        await toss.confirm(payment_key)

        payment = (await toss.look_up(payment_key)).json()

        assert payment["lastTransactionKey"] is not None
        assert (payment["status"], payment["method"], payment["balanceAmount"]) == ("ABORTED", "카드", 15_000)
        assert {payment[name] for name in ("secret", "approvedAt", "receipt", "card")} == {None}

    async def test_extra_fields_can_be_switched_on(self, toss: Toss) -> None:
        payment_key = (await confirmed(toss))["paymentKey"]

        await toss.http.put("/sandbox/extra-fields", json={"enabled": True})

        payment = (await toss.look_up(payment_key)).json()
        assert set(payment) > set(FIELDS)
        assert [name for name in payment if name in FIELDS] == FIELDS


class TestVat:
    @pytest.mark.parametrize(("taxed", "vat"), [(15_000, 1_364), (7_000, 636), (11_000, 1_000), (5, 0), (6, 1), (0, 0)])
    def test_an_eleventh_rounded_half_up(self, taxed: int, vat: int) -> None:
        assert vat_of(taxed) == vat
