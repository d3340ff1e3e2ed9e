"""Random lives of a payment: whatever is asked in whatever order, the ledger and the balance say the same."""

import asyncio
from typing import Any, Final

from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sandbox.client import ORDER, Toss
from tests.sandbox.conftest import in_process

AMOUNT: Final = 1_000
ACCOUNT: Final = {"bank": "88", "accountNumber": "110123456789", "holderName": "김토스"}

amounts = st.one_of(st.none(), st.integers(1, 400), st.integers(1, AMOUNT + 1))
steps = st.one_of(
    st.tuples(st.just("cancel"), amounts, st.sampled_from(["key-1", "key-2", None]), st.booleans()),
    st.tuples(st.just("console"), amounts),
    st.tuples(st.just("deposit")),
    st.tuples(st.just("reverse")),
    st.tuples(st.just("lose the reply")),
)
stories = st.lists(steps, min_size=1, max_size=14)


class TestAnyStory:
    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(method=st.sampled_from(["CARD", "VIRTUAL_ACCOUNT"]), tax_free=st.integers(0, 300), story=stories)
    def test_ledger_agrees_with_the_payment(
        self, shared_app: FastAPI, method: str, tax_free: int, story: list[tuple[Any, ...]]
    ) -> None:
        asyncio.run(self._tell(shared_app, method, tax_free, story))

    async def _tell(self, app: FastAPI, method: str, tax_free: int, story: list[tuple[Any, ...]]) -> None:
        async with in_process(app) as http:
            toss = Toss(http)
            await http.post("/sandbox/reset")
            payment_key = await toss.pay(ORDER, AMOUNT, method=method, taxFreeAmount=tax_free)
            await toss.confirm(payment_key, amount=AMOUNT)
            before = await toss.payment(payment_key)
            for step in story:
                await take(toss, payment_key, step, method=method)
                after = await toss.payment(payment_key)
                await check_ledger(toss, after)
                check_parts(after)
                check_history(before, after)
                before = after


async def take(toss: Toss, payment_key: str, step: tuple[Any, ...], *, method: str) -> None:
    match step:
        case "cancel", amount, key, locks:
            payment = await toss.payment(payment_key)
            is_paid_account = method == "VIRTUAL_ACCOUNT" and payment["status"] != "WAITING_FOR_DEPOSIT"
            body = {
                "cancelAmount": amount,
                "taxFreeAmount": min(payment["taxFreeAmount"], amount or 0),
                "refundableAmount": payment["balanceAmount"] if locks else None,
                "refundReceiveAccount": ACCOUNT if is_paid_account else None,
            }
            await answered_below_500(toss, payment_key, body, key)
        case "console", amount:
            await toss.ask_control(payment_key, "cancel", amount=amount)
        case ("deposit",):
            await toss.ask_control(payment_key, "deposit")
        case ("reverse",):
            await toss.ask_control(payment_key, "reverse-deposit")
        case _:
            await toss.arm("html", "cancel")


async def answered_below_500(toss: Toss, payment_key: str, body: dict[str, object], key: str | None) -> None:
    answer = await toss.cancel(payment_key, body, key=key)
    if answer.status_code == 502:  # an armed fault, after which nothing is known
        answer = await toss.cancel(payment_key, body, key=key)
    if answer.status_code == 502:
        return
    assert answer.status_code < 500, answer.text


async def check_ledger(toss: Toss, payment: dict[str, Any]) -> None:
    is_paid = payment["approvedAt"] is not None

    assert await toss.held() == (payment["balanceAmount"] if is_paid else 0)
    cancelled = [cancel["cancelAmount"] for cancel in payment["cancels"] or []] if is_paid else []
    assert (await toss.ledger())["cancels"] == cancelled


def check_parts(payment: dict[str, Any]) -> None:
    parts = [payment[name] for name in ("suppliedAmount", "vat", "taxFreeAmount", "taxExemptionAmount")]

    assert min(parts) >= 0
    assert sum(parts) == payment["balanceAmount"]
    cancels = payment["cancels"] or []
    assert payment["totalAmount"] - sum(cancel["cancelAmount"] for cancel in cancels) == payment["balanceAmount"]
    if cancels:
        assert cancels[-1]["refundableAmount"] == payment["balanceAmount"]
        assert cancels[-1]["transactionKey"] == payment["lastTransactionKey"]
        is_whole = [cancel["cancelAmount"] for cancel in cancels] == [payment["totalAmount"]]
        assert payment["status"] == ("CANCELED" if is_whole else "PARTIAL_CANCELED")


def check_history(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Cancels are only ever added."""
    known = before["cancels"] or []

    assert (after["cancels"] or [])[: len(known)] == known
    assert after["totalAmount"] == before["totalAmount"] == AMOUNT
