"""What Toss says in its own words: buyers read it and we keep it, so it may not repeat what it was sent."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Final

import httpx
import pytest
import respx
from structlog.testing import capture_logs

from payments.gateways.pg import Declined, RefundAccount, RefundOrder, RefundRefused, Unknown
from payments.gateways.toss import TossClient
from payments.redaction import MASK
from tests.gateways.conftest import SECRET_KEY
from tests.gateways.toss_builders import AMOUNT, ORDER_ID, PAYMENT_KEY

ACCOUNT: Final = RefundAccount("88", "110-12-34", "홍길동")
REFUSAL: Final = "REJECT_CARD_COMPANY"


async def confirm(client: TossClient) -> object:
    return await client.confirm(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT, idempotency_key="key-of-the-attempt")


async def refund(client: TossClient) -> object:
    order = RefundOrder(
        order_id=ORDER_ID,
        total_amount=AMOUNT,
        amount=AMOUNT,
        believed_balance=AMOUNT,
        tax_free_amount=0,
        reason="고객 변심",
        idempotency_key="key-of-the-refund",
        account=ACCOUNT,
    )
    return await client.refund(PAYMENT_KEY, order)


def says(status: int, code: str, message: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": message})


class TestMessage:
    @pytest.mark.parametrize(
        "repeated",
        [
            SECRET_KEY,
            base64.b64encode(f"{SECRET_KEY}:".encode()).decode(),
            "4111-1111-1111-1111",
            "buyer@example.com",
            "010-1234-5678",
        ],
        ids=["key", "header", "card", "address", "telephone"],
    )
    async def test_repeats_nothing(self, client: TossClient, toss: respx.MockRouter, repeated: str) -> None:
        toss.post("/v1/payments/confirm").mock(return_value=says(403, REFUSAL, f"거절되었습니다: {repeated} 확인"))

        answer = await confirm(client)

        assert isinstance(answer, Declined)
        assert answer.message.startswith("거절되었습니다: ")
        assert answer.message.endswith(" 확인")
        assert repeated not in answer.message

    @pytest.mark.parametrize("before", range(480, 515, 5))
    async def test_repeats_nothing_where_it_is_cut(
        self, client: TossClient, toss: respx.MockRouter, before: int
    ) -> None:
        long = f"{'가' * before} {SECRET_KEY} {'나' * 5_000}"
        toss.post("/v1/payments/confirm").mock(return_value=says(403, REFUSAL, long))

        answer = await confirm(client)

        assert isinstance(answer, Declined)
        assert SECRET_KEY[8:12] not in answer.message
        assert len(answer.message) <= 510

    async def test_is_what_toss_says_where_it_repeats_nothing(self, client: TossClient, toss: respx.MockRouter) -> None:
        usual = "당월 결제 가능금액인 1,000,000원을 초과 하셨습니다. (유효기간: 2026-11-22)"
        toss.post("/v1/payments/confirm").mock(return_value=says(403, REFUSAL, usual))

        assert await confirm(client) == Declined(REFUSAL, usual)

    async def test_names_no_account_that_is_refused(self, client: TossClient, toss: respx.MockRouter) -> None:
        said = f"{ACCOUNT.holder_name}님의 계좌 {ACCOUNT.account_number}로 환불할 수 없습니다."
        toss.post(f"/v1/payments/{PAYMENT_KEY}/cancel").mock(
            return_value=says(400, "INVALID_REFUND_ACCOUNT_NUMBER", said)
        )

        answer = await refund(client)

        assert isinstance(answer, RefundRefused)
        assert answer.message == f"{MASK}님의 계좌 {MASK}로 환불할 수 없습니다."


class TestCode:
    async def test_that_opens_something_is_none(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.post("/v1/payments/confirm").mock(return_value=says(403, SECRET_KEY, ""))

        answer = await confirm(client)

        assert isinstance(answer, Unknown)
        assert SECRET_KEY not in repr(answer)


class TestLog:
    @pytest.mark.parametrize("ask", [confirm, refund])
    async def test_has_the_code_and_not_the_words(
        self, client: TossClient, toss: respx.MockRouter, ask: Callable[[TossClient], Awaitable[object]]
    ) -> None:
        toss.post(url__regex=".*").mock(return_value=says(400, "SOMETHING_NEW", f"{ACCOUNT.holder_name}님"))

        with capture_logs() as logs:
            await ask(client)

        assert [entry["code"] for entry in logs] == ["SOMETHING_NEW"]
        assert ACCOUNT.holder_name not in json.dumps(logs, ensure_ascii=False)
