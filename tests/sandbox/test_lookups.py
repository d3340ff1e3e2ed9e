from tests.sandbox.client import ORDER, Toss, code_of
from tests.sandbox.conftest import sandbox_in_process
from toss_sandbox.settings import OrderLookup, Settings


class TestLookUp:
    async def test_payment_is_found_by_its_key_and_by_its_order(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        confirmed = (await toss.confirm(payment_key)).json()

        assert (await toss.look_up(payment_key)).json() == confirmed
        assert (await toss.look_up_order()).json() == confirmed

    async def test_unknown_payment_is_not_found(self, toss: Toss) -> None:
        not_found = {"code": "NOT_FOUND_PAYMENT", "message": "존재하지 않는 결제 정보 입니다."}

        for answer in (await toss.look_up("no-such-payment"), await toss.look_up_order("no-such-order")):
            assert (answer.status_code, answer.json()) == (404, not_found)

    async def test_unfinished_payment_is_hidden_where_told_so(self) -> None:
        async with sandbox_in_process(Settings(serves_unfinished=False)) as toss:
            payment_key = await toss.pay()
            assert code_of(await toss.look_up(payment_key)) == (404, "NOT_FOUND_PAYMENT")

            await toss.confirm(payment_key)
            assert (await toss.look_up(payment_key)).status_code == 200

    async def test_idempotency_key_means_nothing_to_a_look_up(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        headers = {"idempotency-key": "key-1"}
        path = f"/v1/payments/{payment_key}"
        auth = ("test_sk_sandbox0000000000000000000000", "")

        before = (await toss.http.get(path, headers=headers, auth=auth)).json()
        await toss.confirm(payment_key)
        after = (await toss.http.get(path, headers=headers, auth=auth)).json()

        assert (before["status"], after["status"]) == ("IN_PROGRESS", "DONE")


class TestOrderWithSeveralPayments:
    async def test_approved_payment_is_returned_first(self, toss: Toss) -> None:
        approved, newer = await toss.pay(), await toss.pay()
        await toss.confirm(approved)

        assert (await toss.look_up_order()).json()["paymentKey"] == approved
        assert (await toss.look_up(newer)).json()["status"] == "IN_PROGRESS"

    async def test_newest_payment_is_returned_while_none_is_approved(self, toss: Toss) -> None:
        await toss.pay()
        newer = await toss.pay()

        assert (await toss.look_up_order()).json()["paymentKey"] == newer

    async def test_newest_payment_is_returned_where_told_so(self) -> None:
        async with sandbox_in_process(Settings(order_lookup=OrderLookup.NEWEST)) as toss:
            approved, newer = await toss.pay(), await toss.pay()
            await toss.confirm(approved)

            assert (await toss.look_up_order()).json()["paymentKey"] == newer

    async def test_list_has_all_of_them_newest_first(self, toss: Toss) -> None:
        older, newer = await toss.pay(), await toss.pay()
        await toss.pay("order-000002")

        payments = (await toss.http.get("/sandbox/payments", params={"orderId": ORDER})).json()

        assert [payment["paymentKey"] for payment in payments] == [newer, older]
