import asyncio
from functools import partial

import httpx
import pytest

from payments.db import transaction
from payments.queries import lock_payment
from payments.resources import Resources
from tests.integration.world import (
    AMOUNT,
    ORDER,
    Sandbox,
    announced,
    confirm_body,
    discrepancy_kinds,
    prepare_body,
    prepared,
    read,
    recover_now,
    until,
)

# Every way in which the PG's answer can get lost or be wrong, whether or not it had taken the money.
BEFORE_EFFECT = ("drop_before_effect", "reset", "server_error", "html", "too_many_requests")
AFTER_EFFECT = ("drop_reply", "reset_after_effect", "server_error_after_effect", "truncated_json", "wrong_json")


class TestConfirm:
    async def test_takes_the_money_once_and_says_so(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        payment = answer.json()
        assert answer.status_code == 200
        assert (payment["status"], payment["paymentKey"], payment["amount"]) == ("COMPLETED", payment_key, AMOUNT)
        assert payment["receiptUrl"].startswith("http")
        assert await sandbox.captures() == [AMOUNT]

    async def test_tells_the_order_service_in_the_same_breath(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)

        await api.post("/payments/confirm", json=confirm_body(await sandbox.buyer_authenticates()))

        assert await announced(resources) == ["payment.completed"]

    async def test_repeated_answers_the_record_without_asking_the_pg(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepared(api)
        body = confirm_body(await sandbox.buyer_authenticates())
        first = await api.post("/payments/confirm", json=body)

        again = await api.post("/payments/confirm", json=body)

        assert again.status_code == 200
        assert again.json() == first.json()
        assert len(await sandbox.confirms()) == 1

    async def test_issues_a_virtual_account_to_wait_at(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api, method="VIRTUAL_ACCOUNT")
        payment_key = await sandbox.buyer_authenticates(method="VIRTUAL_ACCOUNT")

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        account = answer.json()["virtualAccount"]
        assert (answer.status_code, answer.json()["status"]) == (200, "WAITING_FOR_DEPOSIT")
        assert account["accountNumber"].startswith("X")
        assert account["dueDate"] is not None
        assert await sandbox.captures() == []

    @pytest.mark.parametrize(
        ("method", "recorded"), [("TRANSFER", "TRANSFER"), ("EASY_PAY", "EASY_PAY"), ("MOBILE_PHONE", "MOBILE_PHONE")]
    )
    async def test_records_the_method_that_the_buyer_chose_in_the_window(
        self, api: httpx.AsyncClient, sandbox: Sandbox, method: str, recorded: str
    ) -> None:
        await prepared(api, method="CARD")
        payment_key = await sandbox.buyer_authenticates(method=method)

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert answer.json()["method"] == recorded


class TestRefusedByThePg:
    async def test_is_402_with_the_pgs_code_and_korean_words(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates(refuseWith="REJECT_CARD_PAYMENT")

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (402, "payment_declined")
        assert problem["pgCode"] == "REJECT_CARD_PAYMENT"
        assert problem["pgMessage"] == "한도초과 혹은 잔액부족으로 결제에 실패했습니다."
        assert (await read(api))["failure"]["code"] == "REJECT_CARD_PAYMENT"
        assert await sandbox.captures() == []

    async def test_repeated_gives_the_recorded_refusal(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        body = confirm_body(await sandbox.buyer_authenticates(refuseWith="REJECT_CARD_COMPANY"))
        await api.post("/payments/confirm", json=body)

        again = await api.post("/payments/confirm", json=body)

        assert (again.status_code, again.json()["pgCode"]) == (402, "REJECT_CARD_COMPANY")
        assert len(await sandbox.confirms()) == 1

    async def test_leaves_the_order_payable_with_another_card(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        refused = confirm_body(await sandbox.buyer_authenticates(refuseWith="INVALID_STOPPED_CARD"))
        await api.post("/payments/confirm", json=refused)

        reopened = await prepared(api)
        answer = await api.post("/payments/confirm", json=confirm_body(await sandbox.buyer_authenticates()))

        assert (reopened.status_code, reopened.json()["attempt"]) == (200, 2)
        assert (answer.json()["status"], answer.json()["attempt"]) == ("COMPLETED", 2)
        assert await sandbox.captures() == [AMOUNT]

    async def test_each_attempt_has_its_own_key_at_the_pg(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        await api.post(
            "/payments/confirm",
            json=confirm_body(await sandbox.buyer_authenticates(refuseWith="INVALID_STOPPED_CARD")),
        )
        await prepared(api)
        await api.post("/payments/confirm", json=confirm_body(await sandbox.buyer_authenticates()))

        keys = [call["idempotencyKey"] for call in await sandbox.confirms()]

        assert len(set(keys)) == 2

    async def test_success_page_of_the_refused_attempt_still_shows_its_refusal(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepared(api)
        refused = confirm_body(await sandbox.buyer_authenticates(refuseWith="INVALID_STOPPED_CARD"))
        await api.post("/payments/confirm", json=refused)
        await prepared(api)

        reloaded = await api.post("/payments/confirm", json=refused)

        assert (reloaded.status_code, reloaded.json()["pgCode"]) == (402, "INVALID_STOPPED_CARD")
        assert (await read(api))["status"] == "CREATED"
        assert len(await sandbox.confirms()) == 1

    async def test_an_expired_session_fails_and_can_be_paid_again(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.advance(minutes=11)

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert (answer.status_code, answer.json()["pgCode"]) == (402, "NOT_FOUND_PAYMENT_SESSION")
        assert (await prepared(api)).json()["attempt"] == 2


class TestRefusedByUs:
    """The PG is not asked, and nothing changes."""

    async def test_amount_changed_in_the_redirect(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key, amount=AMOUNT - 1))

        assert (answer.status_code, answer.json()["code"]) == (409, "amount_mismatch")
        assert await sandbox.calls() == []
        assert (await read(api))["status"] == "CREATED"

    async def test_order_that_was_never_prepared(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        answer = await api.post("/payments/confirm", json=confirm_body("tviva20260102144639Ab1Cd"))

        assert (answer.status_code, answer.json()["code"]) == (404, "payment_not_found")
        assert await sandbox.calls() == []

    async def test_another_payment_key_after_the_capture(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        await api.post("/payments/confirm", json=confirm_body(await sandbox.buyer_authenticates()))
        second_window = await sandbox.buyer_authenticates()

        answer = await api.post("/payments/confirm", json=confirm_body(second_window))

        assert (answer.status_code, answer.json()["code"]) == (409, "payment_key_mismatch")
        assert await sandbox.captures() == [AMOUNT]

    async def test_payment_key_of_another_order(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await api.post("/payments/confirm", json=confirm_body(payment_key))
        await prepared(api, "order-000002")

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key, "order-000002"))

        assert (answer.status_code, answer.json()["code"]) == (409, "payment_key_mismatch")
        assert (await read(api, "order-000002"))["status"] == "CREATED"

    async def test_failed_payment_that_was_not_prepared_again(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        refused = await sandbox.buyer_authenticates(refuseWith="INVALID_STOPPED_CARD")
        await api.post("/payments/confirm", json=confirm_body(refused))

        answer = await api.post("/payments/confirm", json=confirm_body(await sandbox.buyer_authenticates()))

        assert (answer.status_code, answer.json()["code"]) == (409, "not_confirmable")


@pytest.mark.usefixtures("path")
class TestUnknownOutcome:
    @pytest.mark.parametrize("kind", AFTER_EFFECT)
    async def test_reply_lost_after_the_capture_is_found_by_looking_up_at_once(
        self, api: httpx.AsyncClient, sandbox: Sandbox, kind: str
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", kind)

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert (answer.status_code, answer.json()["status"]) == (200, "COMPLETED")
        assert await sandbox.captures() == [AMOUNT]
        assert len(await sandbox.confirms()) == 1

    @pytest.mark.parametrize("kind", [*BEFORE_EFFECT, *AFTER_EFFECT])
    async def test_with_the_look_up_failing_too_it_stays_pending_until_the_pg_is_reached(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, kind: str
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", kind)
        await sandbox.arm("lookup", "drop_before_effect", times=None)

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        payment = answer.json()
        assert (answer.status_code, payment["status"], payment["nextAction"]) == (202, "PENDING", "wait")
        assert answer.headers["retry-after"] == "2"
        assert payment["nextCheckAt"] is not None

        await sandbox.clear_faults()
        assert await recover_now(resources) == 1
        assert (await read(api))["status"] == "COMPLETED"
        assert await sandbox.captures() == [AMOUNT]
        assert len({call["idempotencyKey"] for call in await sandbox.confirms()}) == 1

    async def test_repeated_while_pending_never_asks_for_the_money_again(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepared(api)
        body = confirm_body(await sandbox.buyer_authenticates())
        await sandbox.arm("any", "drop_before_effect", times=None)
        await api.post("/payments/confirm", json=body)
        asked_once = len(await sandbox.confirms())

        again = await api.post("/payments/confirm", json=body)

        assert (again.status_code, again.json()["status"]) == (202, "PENDING")
        assert len(await sandbox.confirms()) == asked_once

    async def test_pending_order_cannot_be_prepared_again(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        await sandbox.arm("any", "drop_before_effect", times=None)
        await api.post("/payments/confirm", json=confirm_body(await sandbox.buyer_authenticates()))

        answer = await api.post("/payments/prepare", json=prepare_body())

        assert (answer.status_code, answer.json()["code"]) == (409, "payment_in_progress")

    @pytest.mark.parametrize("code", ["PROVIDER_ERROR", "CARD_PROCESSING_ERROR", "A_CODE_OF_TOMORROW"])
    async def test_a_400_that_is_no_definite_refusal_never_fails_the_payment(
        self, api: httpx.AsyncClient, sandbox: Sandbox, code: str
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "error_before_effect", status=400, code=code)

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")

    async def test_a_wrong_key_of_ours_leaves_the_payment_pending(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("any", "error_before_effect", times=None, status=401, code="UNAUTHORIZED_KEY")

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")

    @pytest.mark.parametrize("kind", ["wrong_amount", "wrong_order"])
    async def test_an_answer_about_something_else_is_noted_and_the_truth_is_looked_up(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, kind: str
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", kind)

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert answer.json()["status"] == "COMPLETED"
        assert await discrepancy_kinds(resources) == ["amount_differs_at_pg"]

    async def test_a_pg_that_insists_on_another_amount_never_completes_the_payment(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("any", "wrong_amount", times=None)

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")
        assert await discrepancy_kinds(resources) == ["amount_differs_at_pg"]

    async def test_a_window_opened_for_a_tampered_price_takes_nothing_and_fails_when_it_expires(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        cheap = await sandbox.buyer_authenticates(amount=100)

        answer = await api.post("/payments/confirm", json=confirm_body(cheap))
        await sandbox.advance(minutes=11)
        await recover_now(resources)

        assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")
        assert (await read(api))["failure"]["code"] == "EXPIRED_PAYMENT"
        assert await sandbox.captures() == []


class TestOutcomeThatCannotBeRecorded:
    """On the hot path, which has to give up before the plain one does: once is twelve seconds."""

    async def test_is_not_known_yet(self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "delay_reply", delaySeconds=0.5)
        request = asyncio.create_task(api.post("/payments/confirm", json=confirm_body(payment_key)))
        await until(sandbox.captures)

        async with transaction(resources.sessions) as session:  # somebody holds the row, and does not let go
            await lock_payment(session, ORDER)
            answer = await request

        assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")
        assert await recover_now(resources) == 1
        assert (await read(api))["status"] == "COMPLETED"
        assert await sandbox.captures() == [AMOUNT]


@pytest.mark.usefixtures("path")
class TestWhenThingsBreakAround:
    async def test_an_answer_that_comes_after_the_next_attempt_began_is_not_given_for_it(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        refused = await sandbox.buyer_authenticates(refuseWith="INVALID_STOPPED_CARD")
        await sandbox.arm("confirm", "delay_reply", delaySeconds=1)
        late = asyncio.create_task(api.post("/payments/confirm", json=confirm_body(refused)))
        await until(sandbox.confirms)
        await until(partial(recover_now, resources))
        await prepared(api)
        await api.post("/payments/confirm", json=confirm_body(await sandbox.buyer_authenticates()))

        answer = await late

        assert (answer.status_code, answer.json()["pgCode"]) == (402, "INVALID_STOPPED_CARD")
        assert (await read(api))["status"] == "COMPLETED"

    async def test_a_client_that_goes_away_does_not_stop_the_recording(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "delay", delaySeconds=0.3)
        request = asyncio.create_task(api.post("/payments/confirm", json=confirm_body(payment_key)))
        await until(sandbox.confirms)

        request.cancel()
        assert (await request).status_code == 503
        left = await resources.background.drain(resources.pg_lease.length)

        assert left == 0
        assert (await read(api))["status"] == "COMPLETED"

    async def test_no_database_connection_is_held_while_the_pg_is_asked(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await sandbox.arm("confirm", "delay", times=None, delaySeconds=1)
        orders = [f"order-{number:06}" for number in range(20)]
        for order_id in orders:
            await prepared(api, order_id)
        bodies = [confirm_body(await sandbox.buyer_authenticates(order_id), order_id) for order_id in orders]
        confirms = [asyncio.create_task(api.post("/payments/confirm", json=body)) for body in bodies]
        for order_id in orders:
            await until(partial(sandbox.confirms, order_id))

        held = resources.engine.pool.checkedout()  # type: ignore[attr-defined]  # the pool in use counts

        assert held == 0
        assert {answer.status_code for answer in await asyncio.gather(*confirms)} == {200}

    async def test_a_failing_pg_is_left_alone_and_the_payment_untouched(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await sandbox.arm("any", "reset", times=None)
        for number in range(5):  # failures in a row open the circuit
            await prepared(api, f"order-00001{number}")
            key = await sandbox.buyer_authenticates(f"order-00001{number}")
            await api.post("/payments/confirm", json=confirm_body(key, f"order-00001{number}"))
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert (answer.status_code, answer.json()["code"]) == (503, "pg_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert (await read(api))["status"] == "CREATED"
        assert await sandbox.calls() == []
