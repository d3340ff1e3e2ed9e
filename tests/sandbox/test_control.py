import pytest

from tests.sandbox.client import ORDER, WIDGET_CLIENT_KEY, Toss, code_of


class TestMakePayment:
    async def test_payment_is_authenticated(self, toss: Toss) -> None:
        answer = await toss.http.post("/sandbox/payments", json={"orderId": ORDER, "amount": 15_000})

        made = answer.json()
        assert answer.status_code == 201
        assert made.pop("paymentKey").startswith("tviva")
        assert made == {"orderId": ORDER, "amount": 15_000, "status": "IN_PROGRESS"}

    async def test_window_can_be_left_open(self, toss: Toss) -> None:
        answer = await toss.http.post(
            "/sandbox/payments", json={"orderId": ORDER, "amount": 15_000, "leaveReady": True}
        )

        assert answer.json()["status"] == "READY"

    @pytest.mark.parametrize("method", ["CARD", "TRANSFER", "EASY_PAY"])
    async def test_widget_lets_the_buyer_choose(self, toss: Toss, method: str) -> None:
        payment_key = await toss.pay(clientKey=WIDGET_CLIENT_KEY, method=method)

        assert (await toss.look_up(payment_key)).json()["status"] == "IN_PROGRESS"

    async def test_bad_order_id_is_refused_as_the_window_would(self, toss: Toss) -> None:
        answer = await toss.http.post("/sandbox/payments", json={"orderId": "short", "amount": 15_000})

        assert code_of(answer) == (400, "INVALID_ORDER_ID")

    async def test_misspelt_field_is_refused(self, toss: Toss) -> None:
        answer = await toss.http.post(
            "/sandbox/payments", json={"orderId": ORDER, "amount": 15_000, "refuse_With": "FDS_ERROR"}
        )

        assert answer.status_code == 422


class TestReset:
    async def test_nothing_is_left(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.confirm(payment_key, key="key-1")
        await toss.arm("server_error", operation="any", times=None)
        await toss.http.put("/sandbox/extra-fields", json={"enabled": True})

        assert (await toss.http.post("/sandbox/reset")).status_code == 204

        assert code_of(await toss.look_up(payment_key)) == (404, "NOT_FOUND_PAYMENT")
        assert (await toss.http.get("/sandbox/payments")).json() == []
        assert (await toss.http.get("/sandbox/ledger")).json() == {"captures": [], "cancels": [], "reversals": []}
        assert await toss.calls() == []
        assert (await toss.http.get("/sandbox/extra-fields")).json() == {"enabled": False}

    async def test_same_order_can_be_paid_again(self, toss: Toss) -> None:
        await toss.confirm(await toss.pay(), key="key-1")
        await toss.http.post("/sandbox/reset")

        assert (await toss.confirm(await toss.pay(), key="key-1")).status_code == 200


class TestHealth:
    async def test_sandbox_is_live(self, toss: Toss) -> None:
        answer = await toss.http.get("/health/live")

        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
