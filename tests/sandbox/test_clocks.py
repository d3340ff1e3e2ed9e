import re
from datetime import datetime

import pytest

from tests.sandbox.client import ORDER, Toss, code_of

NULLS_OF_EXPIRED = {
    "method",
    "approvedAt",
    "lastTransactionKey",
    "transactionKey",
    "useEscrow",
    "receipt",
    "secret",
}


class TestTimeWindows:
    async def test_confirm_is_taken_for_ten_minutes(self, toss: Toss) -> None:
        payment_key = await toss.pay()

        await toss.move_clock(minutes=9, seconds=50)

        assert (await toss.confirm(payment_key)).status_code == 200

    async def test_confirm_after_ten_minutes_has_no_session(self, toss: Toss) -> None:
        payment_key = await toss.pay()

        await toss.move_clock(minutes=10)

        answer = await toss.confirm(payment_key)
        assert code_of(answer) == (404, "NOT_FOUND_PAYMENT_SESSION")
        assert answer.json()["message"] == "결제 시간이 만료되어 결제 진행 데이터가 존재하지 않습니다."
        assert await toss.captured() == 0

    async def test_buyer_may_take_thirty_minutes(self, toss: Toss) -> None:
        payment_key = await toss.pay(leaveReady=True)

        await toss.move_clock(minutes=29, seconds=50)
        assert (await toss.look_up(payment_key)).json()["status"] == "READY"

        await toss.move_clock(seconds=10)
        assert (await toss.look_up(payment_key)).json()["status"] == "EXPIRED"

    async def test_late_confirm_of_something_else_does_not_tell_what_it_was(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.move_clock(minutes=10)

        assert code_of(await toss.confirm(payment_key, amount=1)) == (404, "NOT_FOUND_PAYMENT_SESSION")

    async def test_expired_payment_is_served_with_its_nulls(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.move_clock(minutes=10)

        payment = (await toss.look_up(payment_key)).json()

        assert payment["status"] == "EXPIRED"
        assert payment["failure"]["code"] == "EXPIRED_PAYMENT"
        assert {payment[name] for name in NULLS_OF_EXPIRED} == {None}
        assert (payment["totalAmount"], payment["balanceAmount"]) == (15_000, 15_000)

    async def test_payment_can_be_let_expire_at_once(self, toss: Toss) -> None:
        payment_key = await toss.pay()

        answer = await toss.http.post(f"/sandbox/payments/{payment_key}/expire")

        assert answer.json()["status"] == "EXPIRED"
        assert code_of(await toss.confirm(payment_key)) == (404, "NOT_FOUND_PAYMENT_SESSION")

    async def test_paid_payment_does_not_expire(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.confirm(payment_key)

        await toss.move_clock(days=400)

        assert (await toss.look_up(payment_key)).json()["status"] == "DONE"
        refused = await toss.http.post(f"/sandbox/payments/{payment_key}/expire")
        assert code_of(refused) == (400, "ALREADY_PROCESSED_PAYMENT")


class TestClock:
    async def test_clock_runs_ahead_of_the_real_one(self, toss: Toss) -> None:
        before = (await toss.http.get("/sandbox/clock")).json()

        moved = (await toss.http.post("/sandbox/clock", json={"advanceSeconds": 3_600})).json()

        assert (before["offsetSeconds"], moved["offsetSeconds"]) == (0, 3_600)
        passed = datetime.fromisoformat(moved["now"]) - datetime.fromisoformat(before["now"])
        assert 3_600 <= passed.total_seconds() < 3_660

    async def test_payments_are_dated_by_the_moved_clock(self, toss: Toss) -> None:
        await toss.move_clock(days=40)
        now = (await toss.http.get("/sandbox/clock")).json()["now"]

        payment = (await toss.confirm(await toss.pay())).json()

        assert payment["approvedAt"][:13] >= now[:13]
        assert re.sub(r"\D", "", now[:10]) <= payment["paymentKey"][5:13]

    async def test_clock_never_goes_back(self, toss: Toss) -> None:
        answer = await toss.http.post("/sandbox/clock", json={"advanceSeconds": -1})

        assert answer.status_code == 422

    async def test_clock_stays_within_the_calendar(self, toss: Toss) -> None:
        a_century = 36_500 * 86_400
        await toss.http.post("/sandbox/clock", json={"advanceSeconds": a_century - 60})

        answer = await toss.http.post("/sandbox/clock", json={"advanceSeconds": a_century})

        assert answer.status_code == 422
        assert (await toss.http.get("/sandbox/clock")).json()["offsetSeconds"] == a_century - 60
        assert (await toss.confirm(await toss.pay())).status_code == 200

    async def test_reset_puts_the_clock_back(self, toss: Toss) -> None:
        await toss.move_clock(days=1)

        await toss.http.post("/sandbox/reset")

        assert (await toss.http.get("/sandbox/clock")).json()["offsetSeconds"] == 0


class TestStatusAfterTheWindow:
    @pytest.mark.parametrize("leave_ready", [True, False])
    async def test_list_shows_what_ran_out_of_time(self, toss: Toss, *, leave_ready: bool) -> None:
        await toss.pay(leaveReady=leave_ready)

        await toss.move_clock(minutes=31)

        payments = (await toss.http.get("/sandbox/payments", params={"orderId": ORDER})).json()
        assert [payment["status"] for payment in payments] == ["EXPIRED"]
