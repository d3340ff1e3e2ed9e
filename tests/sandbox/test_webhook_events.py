"""Which changes are told to the shop, and in which words."""

import json
import re
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from tests.sandbox.client import ORDER, Toss, until
from tests.sandbox.conftest import sandbox_in_process
from tests.sandbox.receiver import set_up, webhooks
from toss_sandbox.settings import Settings

PAYMENT: Final = "PAYMENT_STATUS_CHANGED"
DEPOSIT: Final = "DEPOSIT_CALLBACK"
ACCOUNT: Final = {"bank": "88", "accountNumber": "110123456789", "holderName": "김토스"}


async def confirm_refused(toss: Toss) -> None:
    await toss.confirm(await toss.pay(refuseWith="REJECT_CARD_PAYMENT"))


async def fail_in_the_window(toss: Toss) -> None:
    payment_key = await toss.pay(leaveReady=True)
    await toss.http.post(f"/sandbox/window/{payment_key}/abort", data={"code": "PAY_PROCESS_ABORTED"})


async def close_the_window(toss: Toss) -> None:
    payment_key = await toss.pay(leaveReady=True)
    await toss.http.post(f"/sandbox/window/{payment_key}/close")


async def cancel(toss: Toss) -> None:
    await toss.cancel(await toss.paid())


async def cancel_in_parts(toss: Toss) -> None:
    payment_key = await toss.paid()
    await toss.cancel(payment_key, cancelAmount=5_000)
    await toss.control(payment_key, "cancel")


async def expire_by_hand(toss: Toss) -> None:
    await toss.control(await toss.pay(), "expire")


async def run_out_of_time(toss: Toss) -> None:
    await toss.pay(leaveReady=True)
    await toss.pay("order-000002")
    await toss.move_clock(minutes=31)


async def reverse_the_deposit(toss: Toss) -> None:
    await toss.control(await toss.paid(method="VIRTUAL_ACCOUNT"), "reverse-deposit")


async def cancel_an_account(toss: Toss) -> None:
    payment_key = await toss.paid(method="VIRTUAL_ACCOUNT")
    await toss.cancel(payment_key, cancelAmount=5_000, refundReceiveAccount=ACCOUNT)
    await toss.control(payment_key, "finish-account-refund", succeeded=True)


async def give_up_an_account(toss: Toss) -> None:
    payment_key = await toss.pay(method="VIRTUAL_ACCOUNT")
    await toss.confirm(payment_key)
    await toss.control(payment_key, "pass-due-date")
    await toss.cancel(payment_key)


STORIES: Final[list[tuple[Callable[[Toss], Awaitable[object]], list[str]]]] = [
    (Toss.paid, ["DONE"]),
    (confirm_refused, ["ABORTED"]),
    (fail_in_the_window, ["ABORTED"]),
    (close_the_window, []),
    (cancel, ["DONE", "CANCELED"]),
    (cancel_in_parts, ["DONE", "PARTIAL_CANCELED", "PARTIAL_CANCELED"]),
    (expire_by_hand, ["EXPIRED"]),
    (run_out_of_time, ["EXPIRED", "EXPIRED"]),
]
ACCOUNT_STORIES: Final[list[tuple[Callable[[Toss], Awaitable[object]], list[str]]]] = [
    (reverse_the_deposit, ["WAITING_FOR_DEPOSIT", "DONE", "WAITING_FOR_DEPOSIT"]),
    (cancel_an_account, ["WAITING_FOR_DEPOSIT", "DONE", "PARTIAL_CANCELED"]),
    (give_up_an_account, ["WAITING_FOR_DEPOSIT", "CANCELED"]),
]


class TestWhatIsTold:
    @pytest.mark.parametrize(("story", "statuses"), STORIES, ids=lambda value: getattr(value, "__name__", ""))
    async def test_every_change_is_one_event(
        self, toss: Toss, story: Callable[[Toss], Awaitable[object]], statuses: list[str]
    ) -> None:
        await story(toss)

        noted = [(webhook["eventType"], webhook["status"]) for webhook in await webhooks(toss)]
        assert noted == [(PAYMENT, status) for status in statuses]

    @pytest.mark.parametrize(("story", "statuses"), ACCOUNT_STORIES, ids=lambda value: getattr(value, "__name__", ""))
    async def test_every_change_of_an_account_is_two_events(
        self, toss: Toss, story: Callable[[Toss], Awaitable[object]], statuses: list[str]
    ) -> None:
        await story(toss)

        noted = [(webhook["eventType"], webhook["status"]) for webhook in await webhooks(toss)]
        assert noted == [(kind, status) for status in statuses for kind in (PAYMENT, DEPOSIT)]

    async def test_account_that_expires_or_is_refused_has_no_callback(self, toss: Toss) -> None:
        await toss.control(await toss.pay(method="VIRTUAL_ACCOUNT"), "expire")
        await toss.confirm(await toss.pay(method="VIRTUAL_ACCOUNT", refuseWith="NOT_AVAILABLE_BANK"))

        noted = [(webhook["eventType"], webhook["status"]) for webhook in await webhooks(toss)]
        assert noted == [(PAYMENT, "EXPIRED"), (PAYMENT, "ABORTED")]

    @pytest.mark.parametrize(("registered", "left"), [("paymentEvents", DEPOSIT), ("depositCallbacks", PAYMENT)])
    async def test_event_that_is_not_registered_does_not_come(self, toss: Toss, registered: str, left: str) -> None:
        await set_up(toss, **{registered: False})

        await toss.paid(method="VIRTUAL_ACCOUNT")

        assert {webhook["eventType"] for webhook in await webhooks(toss)} == {left}

    async def test_payment_that_runs_out_of_time_is_told_though_nobody_looks(self) -> None:
        async with sandbox_in_process(Settings(authentication_window=timedelta(milliseconds=1))) as toss:
            await toss.pay(leaveReady=True)

            await until(lambda: webhooks(toss))

            assert [webhook["status"] for webhook in await webhooks(toss)] == ["EXPIRED"]


class TestWords:
    async def test_payment_event_carries_the_payment(self, toss: Toss) -> None:
        payment_key = await toss.paid()

        [webhook] = await webhooks(toss)
        told = json.loads(webhook["body"])
        assert told == {
            "eventType": PAYMENT,
            "createdAt": webhook["createdAt"],
            "data": await toss.payment(payment_key),
        }
        assert (webhook["orderId"], webhook["paymentKey"]) == (ORDER, payment_key)

    async def test_deposit_callback_is_five_flat_fields(self, toss: Toss) -> None:
        payment_key = await toss.paid(method="VIRTUAL_ACCOUNT")

        payment = await toss.payment(payment_key)
        told = json.loads((await webhooks(toss))[-1]["body"])
        assert told == {
            "createdAt": told["createdAt"],
            "secret": payment["secret"],
            "status": "DONE",
            "transactionKey": payment["lastTransactionKey"],
            "orderId": ORDER,
        }

    async def test_both_events_of_a_change_have_one_time_without_an_offset(self, toss: Toss) -> None:
        await toss.paid(method="VIRTUAL_ACCOUNT")

        times = [webhook["createdAt"] for webhook in await webhooks(toss)]
        assert (times[0], times[2]) == (times[1], times[3])
        now = (await toss.http.get("/sandbox/clock")).json()["now"]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", time) for time in times)
        assert times[0][:10] == now[:10]  # Korean days

    async def test_list_is_narrowed_down(self, toss: Toss) -> None:
        first = await toss.paid()
        await toss.paid("order-000002")
        await toss.cancel(first)

        assert [webhook["status"] for webhook in await webhooks(toss, orderId=ORDER)] == ["DONE", "CANCELED"]
        assert [webhook["status"] for webhook in await webhooks(toss, paymentKey=first)] == ["DONE", "CANCELED"]
        assert [webhook["orderId"] for webhook in await webhooks(toss, limit=2)] == ["order-000002", ORDER]


class TestOneTransaction:
    @pytest.mark.parametrize("table", ["webhooks", "answers"])
    async def test_change_and_its_webhook_happen_or_neither(self, tmp_path: Path, table: str) -> None:
        async with sandbox_in_process(Settings(data=tmp_path / "toss.sqlite3")) as toss:
            payment_key = await toss.pay()
            with closing(sqlite3.connect(tmp_path / "toss.sqlite3")) as connection:
                connection.execute(
                    f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'full'); END"
                )

            with pytest.raises(sqlite3.IntegrityError, match="full"):
                await toss.confirm(payment_key, key="key-1")

            assert await toss.captured() == 0
            assert await webhooks(toss) == []
            assert (await toss.payment(payment_key))["status"] == "IN_PROGRESS"
