"""Virtual accounts: issued at confirm, paid into at a bank, taken back by it, given up, and refunded to an account."""

from typing import Any, Final

import httpx
import pytest
from sqlalchemy import select, text, update

from payments.db import transaction
from payments.models import Payment
from payments.resources import Resources
from tests.integration.world import (
    ACCOUNT,
    AMOUNT,
    ORDER,
    Sandbox,
    announced,
    cancelling,
    confirm_body,
    deposited,
    discrepancy_kinds,
    paid,
    prepared,
    read,
    resolve_now,
    watch_now,
)

VIRTUAL: Final = "VIRTUAL_ACCOUNT"


async def stored(resources: Resources) -> Payment:
    async with transaction(resources.sessions) as session:
        return (await session.scalars(select(Payment).where(Payment.order_id == ORDER))).one()


async def let_the_due_date_be_long_past(resources: Resources) -> None:
    async with transaction(resources.sessions) as session:
        past = text("now() - interval '1 day'")
        await session.execute(update(Payment).values(account_due_at=past))


class TestIssue:
    async def test_tells_the_buyer_where_to_pay(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api, method=VIRTUAL)
        payment_key = await sandbox.buyer_authenticates(method=VIRTUAL, bank="20", holderName="박토스")

        payment = (await api.post("/payments/confirm", json=confirm_body(payment_key))).json()

        issued = (await sandbox.shown(payment_key))["virtualAccount"]
        assert (payment["status"], payment["nextAction"]) == ("WAITING_FOR_DEPOSIT", "deposit")
        account = payment["virtualAccount"]
        assert (account["bank"], account["accountNumber"]) == ("20", issued["accountNumber"])
        assert (account["holder"], account["dueDate"] is not None) == ("박토스", True)
        assert payment["nextCheckAt"] is not None

    async def test_keeps_the_secret_of_its_callback_to_itself(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)

        secret = (await sandbox.shown(payment_key))["secret"]
        assert (await stored(resources)).webhook_secret == secret
        assert secret not in str(await read(api))


class TestDeposit:
    async def test_completes_the_payment_once(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.act(payment_key, "deposit")

        for _ in range(3):
            await watch_now(resources)

        assert (await read(api))["status"] == "COMPLETED"
        assert await announced(resources) == ["payment.waiting_for_deposit", "payment.completed"]
        assert await sandbox.captures() == [AMOUNT]

    async def test_that_has_not_come_leaves_it_waiting_and_is_looked_for_again(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox, method=VIRTUAL)

        assert await watch_now(resources) == 1

        assert (await read(api))["status"] == "WAITING_FOR_DEPOSIT"
        assert (await stored(resources)).next_check_at is not None

    async def test_of_another_amount_is_for_a_person_and_completes_nothing(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.act(payment_key, "deposit", amount=AMOUNT - 1, force=True)

        await watch_now(resources)

        payment = await read(api)
        assert (payment["status"], payment["nextAction"]) == ("WAITING_FOR_DEPOSIT", "call_support")
        assert await discrepancy_kinds(resources) == ["deposit_amount_differs"]

    async def test_of_another_amount_cannot_be_given_up_until_the_bank_takes_it_back(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.act(payment_key, "deposit", amount=AMOUNT - 1, force=True)

        refused = await cancelling(api)
        await sandbox.act(payment_key, "reverse-deposit")
        await watch_now(resources)
        answer = await cancelling(api)

        assert (refused.status_code, refused.json()["code"]) == (409, "deposit_amount_differs")
        assert (answer.status_code, answer.json()["payment"]["status"]) == (200, "CANCELLED")

    @pytest.mark.parametrize("fault", ["drop_reply", "server_error", "html", "too_many_requests"])
    async def test_is_found_at_the_next_look_when_one_fails(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, fault: str
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.act(payment_key, "deposit")
        await sandbox.arm("lookup", fault)

        await watch_now(resources)
        between = await read(api)
        await watch_now(resources)

        assert between["status"] == "WAITING_FOR_DEPOSIT"
        assert (await read(api))["status"] == "COMPLETED"


class TestDueDate:
    async def test_passed_without_a_deposit_fails_the_payment_and_the_order_can_be_paid_anew(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.act(payment_key, "pass-due-date")

        await watch_now(resources)
        failed = await read(api)
        again = await prepared(api)

        assert (failed["status"], failed["failure"]["code"]) == ("FAILED", "DEPOSIT_OVERDUE")
        assert (again.status_code, again.json()["attempt"]) == (200, 2)
        assert await announced(resources) == ["payment.waiting_for_deposit", "payment.failed"]
        assert await discrepancy_kinds(resources) == []

    async def test_passed_with_the_deposit_there_completes_it(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.act(payment_key, "deposit")
        await let_the_due_date_be_long_past(resources)

        await watch_now(resources)

        assert (await read(api))["status"] == "COMPLETED"

    async def test_passed_while_the_pg_cannot_be_asked_decides_nothing(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox, method=VIRTUAL)
        await let_the_due_date_be_long_past(resources)
        await sandbox.arm("lookup", "server_error")

        await watch_now(resources)

        assert (await read(api))["status"] == "WAITING_FOR_DEPOSIT"


class TestReversal:
    async def test_makes_the_payment_wait_again_and_is_told(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)
        await sandbox.act(payment_key, "reverse-deposit")

        await watch_now(resources)

        payment = await read(api)
        assert (payment["status"], payment["nextAction"]) == ("WAITING_FOR_DEPOSIT", "deposit")
        assert "took the deposit back" in payment["reason"]
        assert (payment["completedAt"], payment["refundableAmount"]) == (None, 0)
        assert (await announced(resources))[-1] == "payment.deposit_reversed"
        assert await discrepancy_kinds(resources) == []

    async def test_and_another_deposit_completes_it_again(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)
        await sandbox.act(payment_key, "reverse-deposit")
        await watch_now(resources)

        await sandbox.act(payment_key, "deposit")
        await watch_now(resources)

        payment = await read(api)
        assert (payment["status"], payment["refundableAmount"]) == ("COMPLETED", AMOUNT)
        assert [told.partition(".")[2] for told in await announced(resources)] == [
            *("waiting_for_deposit", "completed", "deposit_reversed", "completed")
        ]

    async def test_found_by_a_refund_refuses_it_and_waits(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)
        await sandbox.act(payment_key, "reverse-deposit")

        refused = await cancelling(api, refundReceiveAccount=ACCOUNT)
        await watch_now(resources)

        assert refused.status_code in {409, 422}
        assert (await read(api))["status"] == "WAITING_FOR_DEPOSIT"
        assert await sandbox.cancelled() == []


class TestGiveUp:
    async def test_before_the_deposit_closes_the_account_at_the_pg(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)

        answer = await cancelling(api)

        assert (answer.status_code, answer.json()["refund"]) == (200, None)
        assert answer.json()["payment"]["status"] == "CANCELLED"
        assert (await sandbox.shown(payment_key))["status"] == "CANCELED"
        assert await announced(resources) == ["payment.waiting_for_deposit", "payment.cancelled"]

    @pytest.mark.parametrize(
        ("more", "status", "code"),
        [
            ({"cancelAmount": 1000}, 409, "partial_refund_not_allowed"),
            ({"refundReceiveAccount": ACCOUNT}, 422, "refund_account_not_allowed"),
        ],
    )
    async def test_is_whole_and_needs_no_account(
        self, api: httpx.AsyncClient, sandbox: Sandbox, more: dict[str, Any], status: int, code: str
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)

        answer = await cancelling(api, **more)

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert await sandbox.cancels(payment_key) == []

    async def test_with_the_reply_lost_is_looked_up(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.arm("cancel", "drop_reply")

        answer = await cancelling(api)

        assert (answer.status_code, answer.json()["payment"]["status"]) == (200, "CANCELLED")
        assert len(await sandbox.cancels(payment_key)) == 1

    @pytest.mark.parametrize("fault", ["drop_before_effect", "drop_reply"])
    async def test_of_unknown_outcome_is_kept_at_by_the_worker_under_the_same_key(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, fault: str
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.arm("cancel", fault)
        await sandbox.arm("lookup", "drop_before_effect")

        unknown = await cancelling(api, key="one")
        await watch_now(resources)
        decided = await cancelling(api, key="one")

        assert (unknown.status_code, unknown.json()["payment"]["nextAction"]) == (202, "wait")
        assert (decided.status_code, decided.json()["payment"]["status"]) == (200, "CANCELLED")
        assert len({call["idempotencyKey"] for call in await sandbox.cancels(payment_key)}) == 1

    async def test_after_a_deposit_that_nobody_had_seen_is_too_late(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.act(payment_key, "deposit")

        answer = await cancelling(api, key="one")
        again = await cancelling(api, key="one")

        assert (answer.status_code, answer.json()["code"]) == (409, "deposit_arrived")
        assert again.content == answer.content
        assert (await read(api))["status"] == "COMPLETED"
        assert await sandbox.cancelled() == []


class TestGivingUpMeetsLife:
    """A cancel whose outcome is unknown, and everything that can happen to the account before it is known."""

    @pytest.fixture
    async def payment_key(self, api: httpx.AsyncClient, sandbox: Sandbox) -> str:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.arm("cancel", "drop_before_effect")
        assert (await cancelling(api, key="one")).status_code == 202
        return payment_key

    async def test_the_due_date_passes(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, payment_key: str
    ) -> None:
        await sandbox.act(payment_key, "pass-due-date")
        await sandbox.arm("cancel", "drop_before_effect")
        await watch_now(resources)

        answer = await cancelling(api, key="one")

        assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_refund")

    async def test_a_deposit_comes_and_is_taken_back(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, payment_key: str
    ) -> None:
        await sandbox.act(payment_key, "deposit")
        await sandbox.arm("cancel", "drop_before_effect")
        await watch_now(resources)
        await sandbox.act(payment_key, "reverse-deposit")
        await watch_now(resources)

        answer = await cancelling(api, key="one")

        assert (answer.status_code, answer.json()["code"]) == (409, "deposit_arrived")
        assert (await read(api))["status"] == "WAITING_FOR_DEPOSIT"

    async def test_the_order_is_paid_in_a_new_attempt_which_the_old_request_never_touches(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, payment_key: str
    ) -> None:
        await sandbox.act(payment_key, "pass-due-date")
        await sandbox.arm("cancel", "drop_before_effect")
        await watch_now(resources)
        await prepared(api)

        answer = await cancelling(api, key="one")

        assert (answer.status_code, answer.json()["code"]) == (409, "request_overtaken")
        assert (await read(api))["status"] == "CREATED"

    @pytest.mark.parametrize(
        "fault", [{"code": "PROVIDER_ERROR", "status": 400}, {"code": "INVALID_API_KEY", "status": 400}]
    )
    async def test_the_pg_repeats_a_fault_of_its_own_and_the_cancel_goes_on_under_a_new_key(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, payment_key: str, fault: dict[str, Any]
    ) -> None:
        await sandbox.arm("cancel", "error_before_effect", **fault)
        await watch_now(resources)
        await watch_now(resources)
        stuck = await cancelling(api, key="one")
        async with transaction(resources.sessions) as session:
            await session.execute(text("UPDATE payments SET cancel_key_since = now() - interval '2 minutes'"))

        await watch_now(resources)
        await watch_now(resources)
        answer = await cancelling(api, key="one")

        assert stuck.status_code == 202
        assert (answer.status_code, answer.json()["payment"]["status"]) == (200, "CANCELLED")
        assert len({call["idempotencyKey"] for call in await sandbox.cancels(payment_key)}) == 2

    async def test_a_day_goes_by_and_a_person_is_told(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, payment_key: str
    ) -> None:
        async with transaction(resources.sessions) as session:
            await session.execute(text("UPDATE payments SET cancel_asked_at = now() - interval '25 hours'"))
        await sandbox.arm("cancel", "server_error")

        await watch_now(resources)

        assert await discrepancy_kinds(resources) == ["unresolved_24h"]
        assert (await read(api))["nextAction"] == "wait"


class TestMoneyThatWasNeverSeen:
    async def test_came_and_was_cancelled_in_the_console_is_told_as_both(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox, method=VIRTUAL)
        await sandbox.act(payment_key, "deposit")
        await sandbox.act(payment_key, "cancel")

        await watch_now(resources)

        payment = await read(api)
        assert (payment["status"], payment["refundedAmount"]) == ("REFUNDED", AMOUNT)
        assert (await announced(resources))[1:] == ["payment.completed", "payment.refunded"]

    async def test_was_taken_back_before_the_account_was_closed_is_no_refund(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)
        await sandbox.act(payment_key, "reverse-deposit")
        await sandbox.act(payment_key, "cancel")

        await watch_now(resources)

        payment = await read(api)
        assert (payment["status"], payment["refundedAmount"]) == ("CANCELLED", 0)
        assert (await announced(resources))[-2:] == ["payment.deposit_reversed", "payment.cancelled"]

    async def test_is_not_refunded_when_the_bank_took_it_back_and_the_refund_was_lost(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)
        await sandbox.arm("cancel", "drop_before_effect")
        await cancelling(api, key="one", refundReceiveAccount=ACCOUNT)
        await sandbox.act(payment_key, "reverse-deposit")
        async with transaction(resources.sessions) as session:
            await session.execute(text("UPDATE refunds SET requested_at = requested_at - interval '11 minutes'"))

        resolved = await resolve_now(resources)
        await watch_now(resources)

        assert resolved == ["FAILED"]
        assert (await sandbox.shown(payment_key))["status"] == "WAITING_FOR_DEPOSIT"
        assert (await read(api))["status"] == "WAITING_FOR_DEPOSIT"


class TestRefundToAnAccount:
    async def test_goes_there_and_is_followed_until_the_bank_has_paid_it_out(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)

        answer = await cancelling(api, 5000, refundReceiveAccount=ACCOUNT)
        await watch_now(resources)
        under_way = await read(api)
        await sandbox.act(payment_key, "finish-account-refund", succeeded=True)
        await watch_now(resources)
        arrived = await read(api)

        assert (answer.status_code, answer.json()["refund"]["status"]) == (200, "SUCCEEDED")
        assert (under_way["virtualAccount"]["refundStatus"], under_way["nextAction"]) == ("PENDING", "wait")
        assert (arrived["virtualAccount"]["refundStatus"], arrived["nextAction"]) == ("COMPLETED", "none")
        assert await sandbox.cancelled() == [5000]

    async def test_that_the_bank_cannot_pay_out_is_for_a_person(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await deposited(api, sandbox, resources)
        await cancelling(api, refundReceiveAccount=ACCOUNT)
        await watch_now(resources)
        await sandbox.act(payment_key, "finish-account-refund", succeeded=False)

        await watch_now(resources)

        assert (await read(api))["nextAction"] == "ask_for_account"
        assert await discrepancy_kinds(resources) == ["refund_not_paid_out"]

    async def test_must_name_one(self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> None:
        payment_key = await deposited(api, sandbox, resources)

        answer = await cancelling(api, 5000)

        assert (answer.status_code, answer.json()["code"]) == (422, "refund_account_required")
        assert answer.json()["errors"][0]["field"] == "refundReceiveAccount"
        assert await sandbox.cancels(payment_key) == []

    @pytest.mark.parametrize(
        "wrong",
        [
            {"bank": "신한"},
            {"bank": ""},
            {"accountNumber": "110-123-456789"},
            {"accountNumber": "1" * 21},
            {"accountNumber": "\uff11\uff11\uff10"},
            {"accountNumber": 110123456789},
            {"holderName": ""},
            {"holderName": "김" * 61},
            {"holderName": "김\n토스"},
            {"owner": "김토스"},
        ],
    )
    async def test_must_be_well_formed_and_is_not_echoed(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, wrong: dict[str, Any]
    ) -> None:
        await deposited(api, sandbox, resources)

        answer = await cancelling(api, 5000, refundReceiveAccount={**ACCOUNT, **wrong})

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert ACCOUNT["accountNumber"] not in answer.text
        assert await sandbox.cancelled() == []

    @pytest.mark.parametrize(
        "pg_code", ["INVALID_REFUND_ACCOUNT_INFO", "INVALID_BANK", "FORBIDDEN_BANK_REFUND_REQUEST"]
    )
    async def test_that_the_bank_does_not_take_is_refused_and_another_one_may_be_named(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, pg_code: str
    ) -> None:
        await deposited(api, sandbox, resources)
        await sandbox.arm("cancel", "error_before_effect", code=pg_code, status=400)

        refused = await cancelling(api, 5000, refundReceiveAccount=ACCOUNT)
        other = await cancelling(api, 5000, refundReceiveAccount={**ACCOUNT, "accountNumber": "110999"})

        assert (refused.status_code, refused.json()["code"]) == (422, "refund_account_refused")
        assert (other.status_code, await sandbox.cancelled()) == (200, [5000])

    async def test_lost_before_it_reached_the_pg_goes_on_when_the_client_asks_again(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await deposited(api, sandbox, resources)
        await sandbox.arm("cancel", "drop_before_effect")

        unknown = await cancelling(api, 5000, key="one", refundReceiveAccount=ACCOUNT)
        by_hand = await resolve_now(resources)
        decided = await cancelling(api, 5000, key="one", refundReceiveAccount=ACCOUNT)

        assert (unknown.status_code, by_hand) == (202, ["REQUESTED"])
        assert (decided.status_code, decided.json()["refund"]["status"]) == (200, "SUCCEEDED")
        assert await sandbox.cancelled() == [5000]

    async def test_lost_after_it_was_done_is_found_without_the_account(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await deposited(api, sandbox, resources)
        await sandbox.arm("cancel", "drop_reply")
        await sandbox.arm("lookup", "drop_before_effect")

        unknown = await cancelling(api, 5000, refundReceiveAccount=ACCOUNT)
        resolved = await resolve_now(resources)

        assert (unknown.status_code, resolved) == (202, ["SUCCEEDED"])
        assert await sandbox.cancelled() == [5000]

    async def test_that_nobody_asks_for_again_is_closed_with_the_pgs_refusal(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await deposited(api, sandbox, resources)
        await sandbox.arm("cancel", "drop_before_effect")
        await cancelling(api, 5000, key="one", refundReceiveAccount=ACCOUNT)
        async with transaction(resources.sessions) as session:
            await session.execute(text("UPDATE refunds SET requested_at = requested_at - interval '11 minutes'"))

        resolved = await resolve_now(resources)
        decided = await cancelling(api, 5000, key="one", refundReceiveAccount=ACCOUNT)
        anew = await cancelling(api, 5000, key="two", refundReceiveAccount=ACCOUNT)

        assert resolved == ["FAILED"]
        assert (decided.status_code, decided.json()["code"]) == (409, "refund_refused")
        assert decided.json()["pgCode"] == "ACCOUNT_NOT_KEPT"
        assert (anew.status_code, await sandbox.cancelled()) == (200, [5000])

    async def test_is_kept_in_no_table_and_no_log(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await deposited(api, sandbox, resources)
        canary = {"bank": "88", "accountNumber": "90817263544536", "holderName": "카나리아"}
        await sandbox.arm("cancel", "drop_before_effect")
        await cancelling(api, 5000, key="one", refundReceiveAccount=canary)
        await resolve_now(resources)
        await cancelling(api, 5000, key="one", refundReceiveAccount=canary)
        await cancelling(api, refundReceiveAccount={**canary, "holderName": ""})

        async with transaction(resources.sessions) as session:
            tables = await session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
            rows = [
                str(row)
                for table in tables.all()
                for row in await session.execute(text(f"SELECT t::text FROM {table} t"))  # noqa: S608 - a table's name
            ]
        printed = capsys.readouterr()
        for hidden in (canary["accountNumber"], canary["holderName"]):
            assert not [row for row in rows if hidden in row or hidden.encode().hex() in row]
            assert hidden not in printed.out + printed.err
        assert len(rows) > 10
