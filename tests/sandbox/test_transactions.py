"""`GET /v1/transactions`: what moved, in pages."""

from datetime import datetime
from typing import Any, Final

import httpx
import pytest

from tests.sandbox.client import API_KEY, ORDER, WIDGET_KEY, Toss, code_of
from tests.sandbox.conftest import sandbox_in_process
from toss_sandbox.settings import Settings

DAY: Final = "2026-03-02"
ALWAYS: Final = {"startDate": "2000-01-01", "endDate": "2999-12-31"}


async def ask(toss: Toss, /, **query: object) -> httpx.Response:
    params = {name: str(value) for name, value in (ALWAYS | query).items() if value is not None}
    return await toss.http.get("/v1/transactions", params=params, auth=API_KEY)


async def rows(toss: Toss, **query: object) -> list[dict[str, Any]]:
    answer = await ask(toss, **query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def bring_in(toss: Toss, *times: str) -> list[str]:
    """Payments of one day, at these times of it; their transaction keys."""
    payments = [
        {"orderId": f"order-{number:06}", "amount": 10_000 + number, "approvedAt": f"{DAY}T{time}+09:00"}
        for number, time in enumerate(times)
    ]
    answer = await toss.http.post("/sandbox/import", json={"payments": payments})
    return [payment["transactionKey"] for payment in answer.json()["payments"]]


class TestRows:
    async def test_approval_is_one_row(self, toss: Toss) -> None:
        payment_key = await toss.paid()
        payment = await toss.payment(payment_key)

        assert await rows(toss) == [
            {
                "mId": "tvivarepubl",
                "transactionKey": payment["lastTransactionKey"],
                "paymentKey": payment_key,
                "orderId": ORDER,
                "method": "카드",
                "customerKey": None,
                "useEscrow": False,
                "receiptUrl": payment["receipt"]["url"],
                "status": "DONE",
                "transactionAt": payment["approvedAt"],
                "currency": "KRW",
                "amount": 15_000,
            }
        ]

    async def test_every_cancel_is_a_row_more(self, toss: Toss) -> None:
        in_parts, at_once = await toss.paid(), await toss.paid("order-000002")
        await toss.cancel(in_parts, cancelAmount=5_000)
        await toss.cancel(in_parts)
        await toss.cancel(at_once)

        found = [(row["paymentKey"], row["status"], row["amount"]) for row in await rows(toss)]
        assert found == [
            (in_parts, "DONE", 15_000),
            (at_once, "DONE", 15_000),
            (in_parts, "PARTIAL_CANCELED", 5_000),
            (in_parts, "PARTIAL_CANCELED", 10_000),
            (at_once, "CANCELED", 15_000),
        ]

    async def test_what_moved_no_money_is_no_row(self, toss: Toss) -> None:
        await toss.confirm(await toss.pay(refuseWith="REJECT_CARD_PAYMENT"))
        given_up = await toss.pay("order-000002", method="VIRTUAL_ACCOUNT")
        await toss.confirm(given_up, "order-000002")
        await toss.cancel(given_up)

        assert await rows(toss) == []

    async def test_deposit_that_was_taken_back_is_a_row(self, toss: Toss) -> None:
        await toss.control(await toss.paid(method="VIRTUAL_ACCOUNT"), "reverse-deposit")

        found = [(row["status"], row["amount"]) for row in await rows(toss)]
        assert found == [("DONE", 15_000), ("WAITING_FOR_DEPOSIT", 15_000)]

    async def test_cancels_can_be_negative(self) -> None:
        async with sandbox_in_process(Settings(negative_cancel_amounts=True)) as toss:
            await toss.cancel(await toss.paid())

            assert [row["amount"] for row in await rows(toss)] == [15_000, -15_000]


class TestPages:
    async def test_pages_lead_through_everything_once(self, toss: Toss) -> None:
        keys = await bring_in(toss, *["10:00:00"] * 3, "09:00:00", "11:00:00")
        in_order = [keys[3], *keys[:3], keys[4]]

        found, after = [], None
        while page := await rows(toss, limit=2, startingAfter=after):
            found += [row["transactionKey"] for row in page]
            after = found[-1]

        assert found == in_order

    async def test_page_has_a_hundred_rows_unless_told(self, toss: Toss) -> None:
        await bring_in(toss, *["10:00:00"] * 101)

        assert len(await rows(toss)) == 100
        assert len(await rows(toss, limit=5_000)) == 101

    @pytest.mark.parametrize(
        ("start", "end", "number"),
        [
            (f"{DAY}T09:00:00", f"{DAY}T10:00:00", 2),
            (f"{DAY}T09:00:01", f"{DAY}T10:00:00", 1),
            (f"{DAY}T09:00:00", f"{DAY}T09:59:59", 1),
            (DAY, "2026-03-03", 3),
            (f"{DAY}T00:00:01", "2026-03-03T00:00:00", 2),
            ("2026-03-01", DAY, 1),  # a bare day ends as it begins
        ],
    )
    async def test_time_is_korean_with_both_ends(self, toss: Toss, start: str, end: str, number: int) -> None:
        await bring_in(toss, "00:00:00", "09:00:00", "10:00:00")

        assert len(await rows(toss, startDate=start, endDate=end)) == number

    async def test_list_follows_the_clock(self, toss: Toss) -> None:
        await toss.move_clock(days=3)
        await toss.paid()
        now = datetime.fromisoformat((await toss.http.get("/sandbox/clock")).json()["now"]).replace(tzinfo=None)

        assert len(await rows(toss, startDate=now.date(), endDate=now.isoformat())) == 1


class TestRefused:
    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ({"startDate": None}, "INVALID_REQUEST"),
            ({"endDate": ""}, "INVALID_REQUEST"),
            ({"startDate": "2026.03.02"}, "INVALID_ISO_DATE_FORMAT"),
            ({"startDate": "2026-03-02 10:00:00"}, "INVALID_ISO_DATE_FORMAT"),
            ({"endDate": "2026-02-30"}, "INVALID_DATE"),
            ({"endDate": "2026-03-02T25:00:00"}, "INVALID_DATE"),
            ({"startDate": "2026-03-02", "endDate": "2026-03-01"}, "INVALID_DATE"),
            ({"limit": 5_001}, "EXCEED_MAX_QUERY_LIMIT"),
            ({"limit": 0}, "INVALID_REQUEST"),
            ({"limit": "many"}, "INVALID_REQUEST"),
            ({"startingAfter": "txrd_unknown"}, "INVALID_TRANSACTION_KEY"),
        ],
    )
    async def test_query_that_cannot_be_read_has_a_code(self, toss: Toss, query: dict[str, object], code: str) -> None:
        assert code_of(await ask(toss, **query)) == (400, code)

    async def test_key_from_outside_the_time_is_no_place(self, toss: Toss) -> None:
        [key] = await bring_in(toss, "10:00:00")

        answer = await ask(toss, startDate="2026-03-03", startingAfter=key)

        assert code_of(answer) == (400, "INVALID_TRANSACTION_KEY")
        assert answer.json()["message"] == "잘못된 페이징 키 입니다."

    async def test_gate_is_that_of_every_call(self, toss: Toss) -> None:
        anonymous = await toss.http.get("/v1/transactions", params=ALWAYS)

        assert code_of(anonymous) == (401, "UNAUTHORIZED_KEY")
        assert (await toss.http.get("/v1/transactions", params=ALWAYS, auth=WIDGET_KEY)).json() == []
        calls = (await toss.http.get("/sandbox/calls")).json()["calls"]
        assert [(call["path"], call["status"]) for call in calls] == [
            ("/v1/transactions", 401),
            ("/v1/transactions", 200),
        ]


class TestFaults:
    @pytest.mark.parametrize("path", ["/v1/transactions", "/v1/settlements"])
    @pytest.mark.parametrize("operation", ["list", "any"])
    async def test_list_is_cut_off_midway(self, served: Toss, path: str, operation: str) -> None:
        await bring_in(served, *["10:00:00"] * 3)
        await served.arm("truncated_json", operation)
        params = {"startDate": "2026-03-01", "endDate": "2026-03-03"}

        with pytest.raises(httpx.RemoteProtocolError):
            await served.http.get(path, params=params, auth=API_KEY)

        assert len((await served.http.get(path, params=params, auth=API_KEY)).json()) == 3

    async def test_busy_toss_says_when_to_come_again(self, toss: Toss) -> None:
        await toss.arm("too_many_requests", "list", retryAfterSeconds=3)

        answer = await ask(toss)

        assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")

    async def test_fault_that_needs_a_payment_leaves_lists_alone(self, toss: Toss) -> None:
        await bring_in(toss, "10:00:00")
        await toss.arm("wrong_amount", "any")

        assert len(await rows(toss)) == 1
        assert len((await toss.http.get("/sandbox/faults")).json()["faults"]) == 1
