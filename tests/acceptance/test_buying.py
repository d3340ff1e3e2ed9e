"""A buyer in a real browser, against everything that `make run` starts."""

import pytest
from playwright.async_api import expect

from tests.acceptance.buyer import Buyer

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PRICE = 12_900


class TestBuying:
    async def test_by_card_pays_for_the_order(self, buyer: Buyer) -> None:
        await buyer.orders()
        await buyer.opens_the_window()

        await buyer.pays()

        await buyer.sees("completed")
        assert (buyer.payment()["status"], buyer.order_status()) == ("COMPLETED", "PAID")
        assert buyer.captures() == [PRICE]

    async def test_after_a_refused_card_another_one_pays(self, buyer: Buyer) -> None:
        await buyer.orders()
        await buyer.opens_the_window()
        await buyer.pays(outcome="REJECT_CARD_PAYMENT")
        await buyer.sees("refused")
        await expect(buyer.page.get_by_test_id("refusal-reason")).to_contain_text("한도초과 혹은 잔액부족")
        assert buyer.payment()["failure"]["code"] == "REJECT_CARD_PAYMENT"
        assert (buyer.payment()["status"], buyer.order_status()) == ("FAILED", "CREATED")

        await buyer.page.get_by_test_id("try-again").click()
        await buyer.opens_the_window()
        await buyer.pays()

        await buyer.sees("completed")
        assert (buyer.payment()["status"], buyer.payment()["attempt"]) == ("COMPLETED", 2)
        assert buyer.captures() == [PRICE]

    async def test_closing_the_window_leaves_the_order_payable(self, buyer: Buyer) -> None:
        await buyer.orders()
        await buyer.opens_the_window()
        await buyer.page.get_by_test_id("close").click()
        await buyer.page.wait_for_url("**/fail*")
        assert (buyer.payment()["status"], buyer.order_status()) == ("CREATED", "CREATED")

        await buyer.page.get_by_test_id("try-again").click()
        await buyer.opens_the_window()
        await buyer.pays()

        await buyer.sees("completed")
        assert buyer.payment()["attempt"] == 1
        assert buyer.captures() == [PRICE]

    @pytest.mark.parametrize("method", ["TRANSFER", "EASY_PAY", "MOBILE_PHONE", "GIFT_CERTIFICATE"])
    async def test_by_another_method_pays_for_the_order(self, buyer: Buyer, method: str) -> None:
        await buyer.orders()
        await buyer.opens_the_window(method)

        await buyer.pays()

        await buyer.sees("completed")
        assert buyer.payment()["method"] == method
        assert buyer.captures() == [PRICE]

    async def test_by_virtual_account_shows_where_to_deposit(self, buyer: Buyer) -> None:
        await buyer.orders()
        await buyer.opens_the_window("VIRTUAL_ACCOUNT")

        await buyer.pays()

        await buyer.sees("waiting")
        account = buyer.payment()["virtualAccount"]
        await expect(buyer.page.get_by_test_id("account-number")).to_have_text(account["accountNumber"])
        assert buyer.order_status() == "CREATED"


class TestImpatience:
    async def test_double_clicks_make_one_capture(self, buyer: Buyer) -> None:
        await buyer.orders()
        await buyer.page.get_by_test_id("email").fill("buyer@example.com")
        await buyer.page.get_by_test_id("pay").dblclick()
        await expect(buyer.page.get_by_test_id("order-name")).to_be_visible()

        await buyer.page.get_by_test_id("pay").dblclick()

        await buyer.sees("completed")
        assert buyer.captures() == [PRICE]
        assert buyer.confirms() == 1

    async def test_reloading_the_success_page_makes_one_capture(self, buyer: Buyer) -> None:
        await buyer.orders()
        await buyer.opens_the_window()
        await buyer.pays()
        await buyer.sees("completed")

        await buyer.page.reload()

        await buyer.sees("completed")
        assert buyer.captures() == [PRICE]
        assert buyer.confirms() == 1

    async def test_going_back_and_forth_makes_one_capture(self, buyer: Buyer) -> None:
        await buyer.orders()
        await buyer.opens_the_window()
        await buyer.pays()
        await buyer.sees("completed")

        await buyer.page.go_back()
        await buyer.page.go_forward()

        await buyer.sees("completed")
        assert buyer.captures() == [PRICE]
        assert buyer.confirms() == 1

    async def test_reloading_while_the_pg_is_slow_makes_one_capture(self, buyer: Buyer) -> None:
        await buyer.orders()
        await buyer.opens_the_window()
        buyer.arm("confirm", "delay", delaySeconds=2)
        await buyer.pays()
        await buyer.page.wait_for_url("**/success*")

        await buyer.page.reload()

        await buyer.sees("completed")
        assert buyer.captures() == [PRICE]
        assert buyer.confirms() == 1


class TestUnknownOutcome:
    async def test_the_page_waits_and_turns_to_paid_by_itself(self, buyer: Buyer) -> None:
        await buyer.orders()
        await buyer.opens_the_window()
        buyer.arm("confirm", "drop_reply")
        buyer.arm("lookup", "drop_before_effect", times=2)

        await buyer.pays()

        await buyer.sees("completed")
        assert buyer.order_status() == "PAID"
        assert buyer.captures() == [PRICE]

    async def test_a_closed_browser_is_no_lost_payment(self, buyer: Buyer) -> None:
        await buyer.orders()
        await buyer.opens_the_window()
        buyer.arm("confirm", "drop_reply")
        buyer.arm("lookup", "drop_before_effect", times=1)
        await buyer.pays()
        await buyer.is_charged()

        await buyer.page.goto("about:blank")
        await buyer.page.goto(buyer.run.url(200, f"/orders/{buyer.order_id}"))

        await expect(buyer.page.get_by_test_id("order-status")).to_have_attribute("data-status", "PAID", timeout=30_000)
        assert buyer.captures() == [PRICE]


class TestLeftBeforeTheEnd:
    @pytest.mark.usefixtures("without_webhooks")
    async def test_takes_nothing_and_leaves_the_order_payable(self, buyer: Buyer) -> None:
        await buyer.orders()
        await buyer.opens_the_window()
        await buyer.page.route("**/success*", lambda route: route.abort())
        async with buyer.page.expect_request("**/success*"):
            await buyer.pays()
        left = buyer.page

        buyer.page = await left.context.new_page()
        await left.close()

        assert (buyer.captures(), buyer.payment()["status"], buyer.order_status()) == ([], "CREATED", "CREATED")
        await buyer.page.goto(buyer.run.url(200, f"/orders/{buyer.order_id}/checkout"))
        await buyer.opens_the_window()
        await buyer.pays()
        await buyer.sees("completed")
        assert buyer.captures() == [PRICE]
        assert buyer.order_status() == "PAID"
