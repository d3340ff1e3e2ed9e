"""`GET /v1/settlements`: what is paid out, and when."""

from typing import Any, Final

import httpx
import pytest

from tests.sandbox.client import API_KEY, ORDER, Toss, code_of
from tests.sandbox.conftest import sandbox_in_process
from toss_sandbox.settings import Settings

YEAR: Final = {"startDate": "2025-01-01", "endDate": "2025-12-31"}
SUNDAY: Final = "2025-02-09"


async def ask(toss: Toss, **query: object) -> httpx.Response:
    params = {name: str(value) for name, value in (YEAR | query).items() if value is not None}
    return await toss.http.get("/v1/settlements", params=params, auth=API_KEY)


async def rows(toss: Toss, **query: object) -> list[dict[str, Any]]:
    answer = await ask(toss, **query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def bring_in(toss: Toss, day: str = SUNDAY, **more: object) -> str:
    """A payment of a day; its payment key."""
    payment = {"orderId": ORDER, "amount": 64_601, "approvedAt": f"{day}T23:59:59+09:00"} | more
    answer = await toss.http.post("/sandbox/import", json={"payments": [payment]})
    return str(answer.json()["payments"][0]["paymentKey"])


class TestRows:
    async def test_fee_and_days_are_those_of_a_real_settlement(self, toss: Toss) -> None:
        payment_key = await bring_in(toss)

        [row] = await rows(toss)

        payment = await toss.payment(payment_key)
        assert row == {
            "mId": "tvivarepubl",
            "paymentKey": payment_key,
            "transactionKey": payment["lastTransactionKey"],
            "orderId": ORDER,
            "currency": "KRW",
            "method": "카드",
            "amount": 64_601,
            "interestFee": 0,
            "fees": [{"type": "BASE", "fee": 1_492}],
            "fee": 1_492,
            "supplyAmount": 1_356,
            "vat": 136,
            "payOutAmount": 63_109,
            "approvedAt": "2025-02-09T23:59:59+09:00",
            "soldDate": SUNDAY,
            "paidOutDate": "2025-02-13",
            "card": payment["card"],
            "easyPay": None,
            "giftCertificate": None,
            "mobilePhone": None,
            "transfer": None,
            "virtualAccount": None,
            "cancel": None,
        }

    @pytest.mark.parametrize(("negative", "sign"), [(False, 1), (True, -1)])
    async def test_cancel_is_a_row_with_one_cancel(self, *, negative: bool, sign: int) -> None:
        async with sandbox_in_process(Settings(negative_cancel_amounts=negative)) as toss:
            await bring_in(toss, method="TRANSFER", status="CANCELED")

            [_, row] = await rows(toss)

        assert (row["amount"], row["payOutAmount"]) == (sign * 64_601, sign * 63_109)
        assert row["cancel"]["cancelAmount"] == 64_601
        assert row["cancel"]["transactionKey"] == row["transactionKey"]

    async def test_payment_appears_on_the_day_after_it(self, toss: Toss) -> None:
        await toss.paid()
        always = {"startDate": "2000-01-01", "endDate": "2999-12-31"}

        assert await rows(toss, **always) == []
        await toss.move_clock(days=1)
        assert len(await rows(toss, **always)) == 1

    async def test_deposit_that_was_taken_back_is_not_settled(self, toss: Toss) -> None:
        payment_key = await bring_in(toss, method="VIRTUAL_ACCOUNT")
        await toss.control(payment_key, "reverse-deposit")

        assert await rows(toss) == []

    async def test_test_environment_settles_nothing(self) -> None:
        async with sandbox_in_process(Settings(fills_settlements=False)) as toss:
            await bring_in(toss)

            assert await rows(toss) == []


class TestQuery:
    @pytest.mark.parametrize(
        ("query", "number"),
        [
            ({"startDate": SUNDAY, "endDate": SUNDAY}, 1),
            ({"startDate": "2025-02-10"}, 0),
            ({"endDate": "2025-02-08"}, 0),
            ({"dateType": "paidOutDate", "startDate": "2025-02-13", "endDate": "2025-02-13"}, 1),
            ({"dateType": "paidOutDate", "startDate": "2025-02-14"}, 0),
            ({"dateType": "paidOutDate", "endDate": "2025-02-12"}, 0),
        ],
    )
    async def test_asks_for_the_day_of_the_sale_or_of_the_payment(
        self, toss: Toss, query: dict[str, object], number: int
    ) -> None:
        await bring_in(toss)

        assert len(await rows(toss, **query)) == number

    async def test_nothing_is_paid_out_on_a_weekend(self, toss: Toss) -> None:
        for day in range(3, 10):
            await bring_in(toss, f"2025-02-{day:02}")

        days = [row["paidOutDate"][-2:] for row in await rows(toss)]
        assert days == ["07", "10", "10", "10", "11", "12", "13"]
        monday = {"dateType": "paidOutDate", "startDate": "2025-02-08", "endDate": "2025-02-10"}
        assert len(await rows(toss, **monday)) == 3

    async def test_pages_are_counted_from_one(self, toss: Toss) -> None:
        for _ in range(3):
            await bring_in(toss)

        pages = [[row["paymentKey"] for row in await rows(toss, page=page, size=2)] for page in (1, 2, 3)]

        assert [len(page) for page in pages] == [2, 1, 0]
        assert len({*pages[0], *pages[1]}) == 3

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ({"startDate": None}, "INVALID_REQUEST"),
            ({"startDate": "2025-01-01T00:00:00"}, "INVALID_ISO_DATE_FORMAT"),
            ({"startDate": "0000-01-01"}, "INVALID_DATE"),
            ({"endDate": "2024-12-31"}, "INVALID_DATE"),
            ({"dateType": "payday"}, "INVALID_REQUEST"),
            ({"page": 0}, "INVALID_REQUEST"),
            ({"size": 5_001}, "EXCEED_MAX_QUERY_LIMIT"),
        ],
    )
    async def test_query_that_cannot_be_read_has_a_code(self, toss: Toss, query: dict[str, object], code: str) -> None:
        assert code_of(await ask(toss, **query)) == (400, code)

    @pytest.mark.parametrize("date_type", ["soldDate", "paidOutDate"])
    async def test_calendar_may_be_asked_for_from_end_to_end(self, toss: Toss, date_type: str) -> None:
        await bring_in(toss)

        assert len(await rows(toss, startDate="0001-01-01", endDate="9999-12-31", dateType=date_type)) == 1
