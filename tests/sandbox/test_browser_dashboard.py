"""The dashboard as a browser without scripts meets it: pages, forms and redirects."""

import re
from typing import Any, Final

import httpx
import pytest

from tests.sandbox.client import Toss
from tests.sandbox.receiver import Receiver, deliver, webhooks
from toss_sandbox.browser.listed import Act

AMOUNT: Final = 15_000
ACCOUNT: Final[dict[str, object]] = {"method": "VIRTUAL_ACCOUNT", "holderName": "김토스"}
UNPAID_ACCOUNT: Final = {
    Act.DEPOSIT,
    Act.DEPOSIT_OTHER,
    Act.FORCE_DEPOSIT,
    Act.PASS_DUE_DATE,
    Act.CANCEL,
}
CONFIRM: Final = "confirm"

# How a payment comes into a state, and the buttons that it then has.
STATES: Final[dict[str, tuple[dict[str, object], list[str], set[Act]]]] = {
    "window open": ({"leaveReady": True}, [], {Act.EXPIRE}),
    "authenticated": ({}, [], {Act.EXPIRE}),
    "expired": ({}, [Act.EXPIRE], set()),
    "refused": ({"refuseWith": "REJECT_CARD_PAYMENT"}, [CONFIRM], set()),
    "paid": ({}, [CONFIRM], {Act.CANCEL, Act.CANCEL_AMOUNT}),
    "paid into escrow": ({"useEscrow": True}, [CONFIRM], {Act.CANCEL}),
    "paid as a whole": ({"isPartialCancelable": False}, [CONFIRM], {Act.CANCEL}),
    "paid with an exemption": ({"taxExemptionAmount": 5_000}, [CONFIRM], {Act.CANCEL}),
    "partly cancelled": ({}, [CONFIRM, Act.CANCEL_AMOUNT], {Act.CANCEL, Act.CANCEL_AMOUNT}),
    "cancelled": ({}, [CONFIRM, Act.CANCEL], set()),
    "cancelled in parts": ({}, [CONFIRM, Act.CANCEL_AMOUNT, Act.CANCEL], set()),
    "account given out": (ACCOUNT, [CONFIRM], UNPAID_ACCOUNT),
    "due date passed": (ACCOUNT, [CONFIRM, Act.PASS_DUE_DATE], {Act.FORCE_DEPOSIT, Act.CANCEL}),
    "account given up": (ACCOUNT, [CONFIRM, Act.CANCEL], set()),
    "deposited": (ACCOUNT, [CONFIRM, Act.DEPOSIT], {Act.REVERSE_DEPOSIT, Act.CANCEL, Act.CANCEL_AMOUNT}),
    "deposit reversed": (ACCOUNT, [CONFIRM, Act.DEPOSIT, Act.REVERSE_DEPOSIT], UNPAID_ACCOUNT),
    "account refund under way": (
        ACCOUNT,
        [CONFIRM, Act.DEPOSIT, Act.CANCEL],
        {Act.REFUND_PAID, Act.REFUND_FAILED},
    ),
    "part of an account refund under way": (
        ACCOUNT,
        [CONFIRM, Act.DEPOSIT, Act.CANCEL_AMOUNT],
        {Act.REFUND_PAID, Act.REFUND_FAILED, Act.CANCEL, Act.CANCEL_AMOUNT},
    ),
    "account refund paid out": (ACCOUNT, [CONFIRM, Act.DEPOSIT, Act.CANCEL, Act.REFUND_PAID], set()),
}

# Doing these again changes nothing, and so the engine minds neither; a button would promise something.
REPEATABLE: Final = {Act.EXPIRE, Act.PASS_DUE_DATE}


class Dashboard:
    """A tester in front of the dashboard."""

    def __init__(self, toss: Toss) -> None:
        self.toss = toss
        self.http = toss.http

    async def make(self, state: str, order_id: str = "order-000001") -> str:
        """Bring a payment into a state, by the buttons; its payment key."""
        given, steps, _ = STATES[state]
        payment_key = await self.toss.pay(order_id, AMOUNT, **given)
        for step in steps:
            if step == CONFIRM:
                await self.toss.confirm(payment_key, order_id, amount=AMOUNT)
            else:
                assert is_done(await self.press(Act(step), payment_key))
        return payment_key

    async def press(self, act: Act, payment_key: str, **fields: object) -> httpx.Response:
        amount = 5_000 if act is Act.CANCEL_AMOUNT else AMOUNT
        path = f"/sandbox/dashboard/payments/{payment_key}/{act}"
        return await self.http.post(path, data={"amount": amount} | fields)

    async def text(self, path: str = "/") -> str:
        answer = await self.http.get(path)
        assert answer.status_code == 200
        return answer.text

    async def buttons(self, payment_key: str) -> set[Act]:
        paths = re.findall(rf'action="/sandbox/dashboard/payments/{payment_key}/([\w-]+)"', await self.text())
        return {Act(act) for act in paths}

    async def problem_after(self, answer: httpx.Response) -> str:
        """What the page says that a form led to."""
        assert answer.status_code == 303
        [problem] = re.findall(r'<p id="problem"[^>]*>([^<]*)</p>', await self.text(answer.headers["location"]))
        return str(problem)

    async def payment(self) -> dict[str, Any]:
        payment: dict[str, Any] = (await self.http.get("/sandbox/payments")).json()[0]
        return payment

    async def moved(self, kind: str) -> list[int]:
        """The amounts of one kind of movement in the ledger."""
        return [movement["amount"] for movement in (await self.http.get("/sandbox/ledger")).json()[kind]]


def is_done(answer: httpx.Response) -> bool:
    assert answer.status_code == 303
    return "?problem=" not in answer.headers["location"]


@pytest.fixture
def dashboard(toss: Toss) -> Dashboard:
    return Dashboard(toss)


class TestButtons:
    @pytest.mark.parametrize("state", STATES)
    async def test_payment_has_those_of_its_state(self, dashboard: Dashboard, state: str) -> None:
        payment_key = await dashboard.make(state)

        _, _, expected = STATES[state]
        assert await dashboard.buttons(payment_key) == expected

    @pytest.mark.parametrize("state", STATES)
    async def test_those_that_are_missing_would_be_refused(self, dashboard: Dashboard, state: str) -> None:
        taken = set()
        for number, act in enumerate(Act):
            payment_key = await dashboard.make(state, f"order-{number:06}")
            if is_done(await dashboard.press(act, payment_key)):
                taken.add(act)

        _, _, offered = STATES[state]
        assert offered <= taken
        assert taken - offered <= REPEATABLE

    async def test_deposit_pays_an_account(self, dashboard: Dashboard) -> None:
        payment_key = await dashboard.make("account given out")

        await dashboard.press(Act.DEPOSIT, payment_key)

        assert (await dashboard.payment())["status"] == "DONE"
        assert await dashboard.moved("captures") == [AMOUNT]

    async def test_another_amount_is_refused_by_the_bank(self, dashboard: Dashboard) -> None:
        payment_key = await dashboard.make("account given out")

        answer = await dashboard.press(Act.DEPOSIT_OTHER, payment_key, amount=14_000)

        assert "SANDBOX_DEPOSIT_AMOUNT_DIFFERS" in await dashboard.problem_after(answer)
        assert (await dashboard.payment())["status"] == "WAITING_FOR_DEPOSIT"
        assert await dashboard.moved("captures") == []

    async def test_forced_deposit_changes_the_total(self, dashboard: Dashboard) -> None:
        payment_key = await dashboard.make("account given out")

        await dashboard.press(Act.FORCE_DEPOSIT, payment_key, amount=14_000)

        payment = await dashboard.payment()
        assert (payment["status"], payment["totalAmount"], payment["balanceAmount"]) == ("DONE", 14_000, 14_000)
        assert await dashboard.moved("captures") == [14_000]

    async def test_late_deposit_can_be_forced(self, dashboard: Dashboard) -> None:
        payment_key = await dashboard.make("due date passed")

        await dashboard.press(Act.FORCE_DEPOSIT, payment_key)

        assert (await dashboard.payment())["status"] == "DONE"

    async def test_reversed_deposit_waits_again(self, dashboard: Dashboard) -> None:
        await dashboard.make("deposit reversed")

        payment = await dashboard.payment()
        assert (payment["status"], payment["approvedAt"]) == ("WAITING_FOR_DEPOSIT", None)
        assert await dashboard.moved("reversals") == [AMOUNT]

    async def test_passed_due_date_changes_no_status(self, dashboard: Dashboard) -> None:
        await dashboard.make("due date passed")

        payment = await dashboard.payment()
        assert (payment["status"], payment["virtualAccount"]["expired"]) == ("WAITING_FOR_DEPOSIT", True)

    async def test_cancel_gives_everything_back(self, dashboard: Dashboard) -> None:
        await dashboard.make("cancelled")

        payment = await dashboard.payment()
        assert (payment["status"], payment["balanceAmount"]) == ("CANCELED", 0)
        assert await dashboard.moved("cancels") == [AMOUNT]

    async def test_cancel_of_an_amount_leaves_the_rest(self, dashboard: Dashboard) -> None:
        await dashboard.make("partly cancelled")

        payment = await dashboard.payment()
        assert (payment["status"], payment["balanceAmount"]) == ("PARTIAL_CANCELED", 10_000)
        assert await dashboard.moved("cancels") == [5_000]

    @pytest.mark.parametrize(("act", "status"), [(Act.REFUND_PAID, "COMPLETED"), (Act.REFUND_FAILED, "FAILED")])
    async def test_account_refund_ends_as_told(self, dashboard: Dashboard, act: Act, status: str) -> None:
        payment_key = await dashboard.make("account refund under way")

        await dashboard.press(act, payment_key)

        assert (await dashboard.payment())["virtualAccount"]["refundStatus"] == status

    async def test_expire_ends_an_unfinished_payment(self, dashboard: Dashboard) -> None:
        await dashboard.make("expired")

        assert (await dashboard.payment())["status"] == "EXPIRED"


class TestRefused:
    async def test_button_of_an_old_page_is_answered_on_the_page(self, dashboard: Dashboard) -> None:
        payment_key = await dashboard.make("cancelled")

        answer = await dashboard.press(Act.CANCEL, payment_key)

        assert await dashboard.problem_after(answer) == (
            "거절되었습니다: 이미 취소된 결제 입니다. (ALREADY_CANCELED_PAYMENT)"
        )

    async def test_more_than_the_balance_is_not_given_back(self, dashboard: Dashboard) -> None:
        payment_key = await dashboard.make("partly cancelled")

        answer = await dashboard.press(Act.CANCEL_AMOUNT, payment_key, amount=10_001)

        assert "NOT_CANCELABLE_AMOUNT" in await dashboard.problem_after(answer)
        assert (await dashboard.payment())["balanceAmount"] == 10_000

    @pytest.mark.parametrize("amount", ["", "0", "-1", "1.5", "many", "9" * 400])
    async def test_what_is_no_amount_is_named(self, dashboard: Dashboard, amount: str) -> None:
        payment_key = await dashboard.make("paid")

        answer = await dashboard.press(Act.CANCEL_AMOUNT, payment_key, amount=amount)

        assert "amount: " in await dashboard.problem_after(answer)
        assert (await dashboard.payment())["balanceAmount"] == AMOUNT

    async def test_unknown_payment_is_said_to_be_unknown(self, dashboard: Dashboard) -> None:
        answer = await dashboard.press(Act.EXPIRE, "unknown")

        assert "NOT_FOUND_PAYMENT" in await dashboard.problem_after(answer)

    async def test_message_cannot_bring_markup(self, dashboard: Dashboard) -> None:
        text = await dashboard.text("/?problem=%3Cscript%3Ealert(1)%3C/script%3E")

        assert "<script>alert" not in text

    async def test_reload_shows_the_message_without_acting_again(self, dashboard: Dashboard) -> None:
        payment_key = await dashboard.make("paid")
        answer = await dashboard.press(Act.CANCEL_AMOUNT, payment_key)

        await dashboard.text(answer.headers["location"])
        await dashboard.text(answer.headers["location"])

        assert answer.headers["location"] == f"/#payment-{payment_key}"
        assert await dashboard.moved("cancels") == [5_000]


class TestList:
    async def test_shows_amount_balance_status_and_cancels(self, dashboard: Dashboard) -> None:
        payment_key = await dashboard.make("partly cancelled")

        text = await dashboard.text()

        assert f'data-testid="status-{payment_key}">PARTIAL_CANCELED<' in text
        assert f'data-testid="balance-{payment_key}">10,000원<' in text
        assert "<dd>15,000원</dd>" in text
        assert "<b>-5,000원</b> 관리자 취소" in text

    async def test_shows_an_account_with_bank_and_depositor(self, dashboard: Dashboard) -> None:
        await dashboard.make("due date passed")

        text = await dashboard.text()

        account = (await dashboard.payment())["virtualAccount"]["accountNumber"]
        assert "신한은행 (88)" in text
        assert account in text
        assert "· 김토스" in text
        assert "기한 지남" in text

    async def test_shows_what_became_of_an_account_refund(self, dashboard: Dashboard) -> None:
        payment_key = await dashboard.make("account refund under way")

        assert f'data-testid="refund-{payment_key}">PENDING<' in await dashboard.text()

    async def test_shows_why_a_payment_failed(self, dashboard: Dashboard) -> None:
        await dashboard.make("refused")

        assert "REJECT_CARD_PAYMENT" in await dashboard.text()

    @pytest.mark.parametrize(
        ("given", "means"),
        [
            ({"amount": 50_000, "instalmentMonths": 3}, "카드 · 3개월 할부"),
            ({"method": "EASY_PAY", "easyPayProvider": "네이버페이"}, "간편결제 · 네이버페이"),
            ({"method": "TRANSFER", "bank": "06"}, "계좌이체 · KB국민은행 (06)"),
            ({"method": "TRANSFER", "bank": "99"}, "계좌이체 · 99"),
            ({"method": "MOBILE_PHONE"}, "휴대폰 · 01000000000"),
            ({"method": "BOOK_GIFT_CERTIFICATE"}, "도서문화상품권"),
        ],
    )
    async def test_names_the_means(self, dashboard: Dashboard, given: dict[str, Any], means: str) -> None:
        payment_key = await dashboard.toss.pay(**{"amount": AMOUNT} | given)
        await dashboard.toss.confirm(payment_key, amount=given.get("amount", AMOUNT))

        assert f"<p>{means} <span" in await dashboard.text()

    async def test_leads_to_an_open_window(self, dashboard: Dashboard) -> None:
        payment_key = await dashboard.make("window open")

        assert f'href="/v1/payments/{payment_key}/checkout"' in await dashboard.text()

    async def test_shop_cannot_put_markup_into_it(self, dashboard: Dashboard) -> None:
        await dashboard.toss.pay(orderName='<img src=x onerror="alert(1)">')

        assert "<img" not in await dashboard.text()

    async def test_fields_of_a_later_toss_do_not_disturb_it(self, dashboard: Dashboard) -> None:
        await dashboard.http.put("/sandbox/extra-fields", json={"enabled": True})
        payment_key = await dashboard.make("paid")

        assert payment_key in await dashboard.text()


class TestClockAndFaults:
    async def test_clock_moves_forward(self, dashboard: Dashboard) -> None:
        answer = await dashboard.http.post("/sandbox/dashboard/clock", data={"advanceSeconds": 90_061})

        assert is_done(answer)
        assert '<b data-testid="offset">1일 1시간 1분 1초</b>' in await dashboard.text()

    async def test_clock_never_moves_back(self, dashboard: Dashboard) -> None:
        answer = await dashboard.http.post("/sandbox/dashboard/clock", data={"advanceSeconds": -1})

        assert "advanceSeconds: " in await dashboard.problem_after(answer)

    async def test_fault_without_a_number_of_times_stays(self, dashboard: Dashboard) -> None:
        form = {"operation": "confirm", "kind": "delay", "times": "", "probability": "0.5", "delaySeconds": "0.5"}

        await dashboard.http.post("/sandbox/dashboard/faults", data=form)

        [fault] = (await dashboard.http.get("/sandbox/faults")).json()["faults"]
        assert (fault["times"], fault["probability"], fault["delaySeconds"]) == (None, 0.5, 0.5)
        text = await dashboard.text()
        assert "해제할 때까지" in text
        assert "delaySeconds 0.5, probability 0.5" in text

    async def test_fault_that_could_never_strike_is_explained(self, dashboard: Dashboard) -> None:
        form = {"operation": "confirm", "kind": "error_before_effect", "times": "1"}

        answer = await dashboard.http.post("/sandbox/dashboard/faults", data=form)

        assert "needs a code" in await dashboard.problem_after(answer)

    async def test_all_faults_are_cleared_at_once(self, dashboard: Dashboard) -> None:
        await dashboard.toss.arm("server_error")

        await dashboard.http.post("/sandbox/dashboard/faults/clear")

        assert (await dashboard.http.get("/sandbox/faults")).json() == {"faults": []}


class TestWebhooks:
    async def test_shows_how_far_they_have_got(self, dashboard: Dashboard, receiver: Receiver) -> None:
        receiver.status = 500
        await dashboard.toss.paid()
        await deliver(dashboard.toss)

        text = await dashboard.text()

        [webhook] = await webhooks(dashboard.toss)
        assert f'data-testid="webhook-state-{webhook["id"]}">WAITING<' in text
        assert f'data-testid="webhook-attempts-{webhook["id"]}">1 <small>(500)<' in text
        assert webhook["nextAttemptAt"][:19].replace("T", " ") in text

    async def test_button_sends_one_again(self, dashboard: Dashboard, receiver: Receiver) -> None:
        await dashboard.toss.paid()
        await deliver(dashboard.toss)
        [webhook] = await webhooks(dashboard.toss)

        answer = await dashboard.http.post(f"/sandbox/dashboard/webhooks/{webhook['id']}/resend")

        assert is_done(answer)
        assert await deliver(dashboard.toss) == (1, 1)
        assert receiver.statuses == ["DONE", "DONE"]

    async def test_webhook_without_an_address_is_said_to_have_none(self, dashboard: Dashboard) -> None:
        await dashboard.toss.paid()
        [webhook] = await webhooks(dashboard.toss)

        answer = await dashboard.http.post(f"/sandbox/dashboard/webhooks/{webhook['id']}/resend")

        assert "SANDBOX_NO_WEBHOOK_URL" in await dashboard.problem_after(answer)

    @pytest.mark.parametrize("switch", ["enabled", "paymentEvents", "depositCallbacks"])
    async def test_switch_turns_off_what_was_on(self, dashboard: Dashboard, switch: str) -> None:
        pressed = re.search(rf'name="{switch}" value="(\w+)"', await dashboard.text())
        assert pressed is not None

        await dashboard.http.post("/sandbox/dashboard/webhooks/settings", data={switch: pressed[1]})

        settings = (await dashboard.http.get("/sandbox/webhooks/settings")).json()
        assert [name for name, value in settings.items() if value is False] == [switch]
        assert f'name="{switch}" value="true"' in await dashboard.text()

    async def test_address_is_set_and_taken_away(self, dashboard: Dashboard) -> None:
        path = "/sandbox/dashboard/webhooks/url"

        await dashboard.http.post(path, data={"url": "http://127.0.0.1:8000/webhook/toss"})
        assert 'value="http://127.0.0.1:8000/webhook/toss"' in await dashboard.text()
        refused = await dashboard.http.post(path, data={"url": "javascript:alert(1)"})
        assert "http://" in await dashboard.problem_after(refused)
        await dashboard.http.post(path, data={"url": ""})

        assert (await dashboard.http.get("/sandbox/webhooks/settings")).json()["url"] is None

    async def test_fault_is_armed_and_cleared(self, dashboard: Dashboard) -> None:
        path = "/sandbox/dashboard/webhook-faults"

        await dashboard.http.post(path, data={"kind": "lose", "times": "", "probability": "0.5", "orderId": "order-1"})
        text = await dashboard.text()
        refused = await dashboard.http.post(path, data={"kind": "lose", "probability": "2"})
        await dashboard.http.post(f"{path}/clear")

        assert "orderId order-1, probability 0.5" in text
        assert "at most 1" in await dashboard.problem_after(refused)
        assert (await dashboard.http.get("/sandbox/webhook-faults")).json() == {"faults": []}

    async def test_shop_cannot_put_markup_into_it(self, dashboard: Dashboard) -> None:
        event = {"eventType": "<img>", "data": {"status": "<img>", "orderId": "<img>"}}
        await dashboard.http.post("/sandbox/webhooks/send", json=event)

        assert "<img" not in await dashboard.text()
