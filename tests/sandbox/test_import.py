"""`POST /sandbox/import`: books that are filled at once."""

from typing import Any

import pytest

from tests.sandbox.client import ORDER, Toss, code_of
from tests.sandbox.receiver import webhooks


async def bring_in(toss: Toss, *payments: dict[str, object]) -> list[dict[str, Any]]:
    given = [{"orderId": f"order-{number:06}", "amount": 15_000} | each for number, each in enumerate(payments, 1)]
    answer = await toss.http.post("/sandbox/import", json={"payments": given})
    assert answer.status_code == 201, answer.text
    imported: list[dict[str, Any]] = answer.json()["payments"]
    return imported


class TestImport:
    async def test_payment_is_as_if_it_had_been_made(self, toss: Toss) -> None:
        [made] = await bring_in(toss, {"approvedAt": "2026-03-02T01:00:00Z", "paymentKey": "payment-key-1"})

        payment = await toss.payment("payment-key-1")
        assert made == {
            "orderId": ORDER,
            "paymentKey": "payment-key-1",
            "transactionKey": payment["lastTransactionKey"],
        }
        assert (payment["status"], payment["approvedAt"]) == ("DONE", "2026-03-02T10:00:00+09:00")
        assert await toss.ledger() == {"captures": [15_000], "reversals": [], "cancels": []}
        assert (await toss.cancel("payment-key-1")).json()["status"] == "CANCELED"

    async def test_nothing_is_told_about_it(self, toss: Toss) -> None:
        await bring_in(toss, {}, {"status": "CANCELED"}, {"method": "VIRTUAL_ACCOUNT", "status": "WAITING_FOR_DEPOSIT"})

        assert await webhooks(toss) == []

    async def test_cancelled_payment_moved_twice_and_waiting_account_not_at_all(self, toss: Toss) -> None:
        [_, waiting] = await bring_in(
            toss, {"status": "CANCELED"}, {"method": "VIRTUAL_ACCOUNT", "status": "WAITING_FOR_DEPOSIT"}
        )

        assert await toss.held() == 0
        assert await toss.captured("order-000002") == 0
        assert (await toss.control(waiting["paymentKey"], "deposit"))["status"] == "DONE"

    async def test_keys_of_many_payments_of_one_moment_differ(self, toss: Toss) -> None:
        moment: dict[str, object] = {"approvedAt": "2026-03-02T10:00:00+09:00"}

        made = await bring_in(toss, *[moment] * 500)

        assert len({payment["paymentKey"] for payment in made}) == 500

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            ({"orderId": "short"}, (400, "INVALID_ORDER_ID")),
            ({"method": "BARTER"}, (400, "NOT_SUPPORTED_METHOD")),
            ({"status": "WAITING_FOR_DEPOSIT"}, (400, "INVALID_REQUEST")),
            ({"approvedAt": "2999-01-01T00:00:00Z"}, (400, "INVALID_DATE")),
            ({"paymentKey": "taken"}, (409, "SANDBOX_PAYMENT_EXISTS")),
        ],
    )
    async def test_one_that_cannot_be_brings_none_in(
        self, toss: Toss, entry: dict[str, object], expected: tuple[int, str]
    ) -> None:
        good = {"orderId": ORDER, "amount": 15_000, "paymentKey": "taken"}

        answer = await toss.http.post("/sandbox/import", json={"payments": [good, good | {"paymentKey": None} | entry]})

        assert code_of(answer) == expected
        assert (await toss.http.get("/sandbox/payments")).json() == []
        assert await toss.captured() == 0

    @pytest.mark.parametrize(
        "entry",
        [{"amount": 0}, {"status": "ABORTED"}, {"approvedAt": "yesterday"}, {"approvedAt": "0001-01-01T00:00:00+23:00"}]
        + [{"paymentKey": key} for key in ("", "a/b", "x" * 201)],
    )
    async def test_what_cannot_be_read_is_refused(self, toss: Toss, entry: dict[str, object]) -> None:
        payment = {"orderId": ORDER, "amount": 15_000} | entry

        assert (await toss.http.post("/sandbox/import", json={"payments": [payment]})).status_code == 422
