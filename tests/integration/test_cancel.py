"""Cancel: the back office gives payments up and money back, once each."""

import asyncio
from typing import Any, Final

import httpx
import pytest

from payments.resources import Resources
from payments.states import PaymentMethod
from tests.integration.world import (
    ACCOUNT,
    AMOUNT,
    ORDER,
    Sandbox,
    announced,
    cancelling,
    confirm_body,
    discrepancy_kinds,
    paid,
    prepared,
    read,
    resolve_now,
    until,
)
from tests.keys import API_KEY, let_in

LOST_REPLIES: Final = ("drop_reply", "reset_after_effect", "truncated_json", "wrong_json", "server_error_after_effect")


def refund_of(answer: httpx.Response) -> dict[str, Any]:
    refund: dict[str, Any] = answer.json()["refund"]
    return refund


async def balances(api: httpx.AsyncClient, sandbox: Sandbox, payment_key: str) -> tuple[int, int]:
    """What is left of a payment here and at the PG."""
    here = (await read(api))["refundableAmount"]
    return here, (await sandbox.shown(payment_key))["balanceAmount"]


class TestAbandon:
    async def test_before_payment_closes_it_without_the_pg(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)

        answer = await cancelling(api)

        assert answer.status_code == 200
        assert (answer.json()["refund"], answer.json()["payment"]["status"]) == (None, "CANCELLED")
        assert await sandbox.calls() == []

    async def test_is_told_once_and_stays(self, api: httpx.AsyncClient, resources: Resources, sandbox: Sandbox) -> None:
        await prepared(api)
        await cancelling(api, key="first")

        again = await cancelling(api, key="second")
        payment_key = await sandbox.buyer_authenticates()
        confirmed = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert (again.status_code, again.json()["code"]) == (409, "payment_closed")
        assert (confirmed.status_code, confirmed.json()["code"]) == (409, "payment_closed")
        assert await announced(resources) == ["payment.cancelled"]
        assert await sandbox.captures() == []

    @pytest.mark.parametrize(
        ("more", "status", "code"),
        [
            ({"cancelAmount": AMOUNT - 1}, 409, "partial_refund_not_allowed"),
            ({"refundReceiveAccount": ACCOUNT}, 422, "refund_account_not_allowed"),
        ],
    )
    async def test_is_whole_and_needs_no_account(
        self, api: httpx.AsyncClient, more: dict[str, Any], status: int, code: str
    ) -> None:
        await prepared(api)

        answer = await cancelling(api, **more)

        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert (await read(api))["status"] == "CREATED"


class TestRefund:
    async def test_of_everything(self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> None:
        payment_key = await paid(api, sandbox)

        answer = await cancelling(api)

        assert answer.status_code == 200
        assert (refund_of(answer)["status"], refund_of(answer)["amount"]) == ("SUCCEEDED", AMOUNT)
        assert (answer.json()["payment"]["status"], answer.json()["payment"]["refundableAmount"]) == ("REFUNDED", 0)
        assert (await sandbox.shown(payment_key))["status"] == "CANCELED"
        assert await announced(resources) == ["payment.completed", "payment.refunded"]

    async def test_in_parts_until_nothing_is_left(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        payment_key = await paid(api, sandbox)

        parts = [await cancelling(api, amount) for amount in (300, 300, 400)]
        rest = await cancelling(api)
        beyond = await cancelling(api)

        assert [part.json()["payment"]["status"] for part in parts] == ["PARTIALLY_REFUNDED"] * 3
        assert rest.json()["payment"]["status"] == "REFUNDED"
        assert (await sandbox.shown(payment_key))["status"] == "PARTIAL_CANCELED"  # as Toss leaves it
        assert await sandbox.cancelled() == [300, 300, 400, AMOUNT - 1000]
        assert (beyond.status_code, beyond.json()["code"]) == (409, "already_refunded")
        assert [refund["amount"] for refund in (await read(api))["refunds"]] == [300, 300, 400, AMOUNT - 1000]

    async def test_by_payment_key_is_the_same(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        payment_key = await paid(api, sandbox)

        answer = await api.post(
            f"/payments/{payment_key}/cancel", json={"cancelReason": "품절"}, headers={"idempotency-key": "k"}
        )

        assert (answer.status_code, refund_of(answer)["reason"]) == (200, "품절")
        assert await sandbox.cancelled() == [AMOUNT]

    async def test_by_the_key_of_an_earlier_attempt_touches_nothing(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepared(api)
        failed = await sandbox.buyer_authenticates(refuseWith="REJECT_CARD_PAYMENT")
        await api.post("/payments/confirm", json=confirm_body(failed))
        await paid(api, sandbox)

        answer = await api.post(
            f"/payments/{failed}/cancel", json={"cancelReason": "품절"}, headers={"idempotency-key": "k"}
        )

        assert (answer.status_code, answer.json()["code"]) == (409, "payment_key_mismatch")
        assert await sandbox.cancelled() == []

    async def test_beyond_the_balance_is_refused_without_the_pg(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        payment_key = await paid(api, sandbox)

        answer = await cancelling(api, AMOUNT + 1)

        assert (answer.status_code, answer.json()["code"]) == (409, "refund_exceeds_balance")
        assert await sandbox.cancels(payment_key) == []

    async def test_is_committed_under_a_key_of_its_own_with_the_balance_as_a_lock(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        payment_key = await paid(api, sandbox)

        await cancelling(api, 1000)
        await cancelling(api, 1000)

        first, second = await sandbox.cancels(payment_key)
        assert first["idempotencyKey"] != second["idempotencyKey"]
        assert await balances(api, sandbox, payment_key) == (AMOUNT - 2000, AMOUNT - 2000)

    async def test_same_part_twice_on_purpose_is_two_refunds(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await paid(api, sandbox)

        await cancelling(api, 1000, key="first")
        await cancelling(api, 1000, key="second")

        assert await sandbox.cancelled() == [1000, 1000]

    async def test_double_click_is_one_refund(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await paid(api, sandbox)

        clicks = await asyncio.gather(*(cancelling(api, 1000, key="one") for _ in range(8)))
        after = await cancelling(api, 1000, key="one")

        assert await sandbox.cancelled() == [1000]
        assert {click.status_code for click in clicks} <= {200, 409}
        assert {click.json()["code"] for click in clicks if click.status_code == 409} <= {"request_in_progress"}
        assert {click.content for click in clicks if click.status_code == 200} == {after.content}

    async def test_keeps_the_tax_free_share(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        payment_key = await paid(api, sandbox, taxFreeAmount=5000)

        answer = await cancelling(api, 6000, taxFreeAmount=2000)

        assert (answer.status_code, refund_of(answer)["taxFreeAmount"]) == (200, 2000)
        assert (await sandbox.shown(payment_key))["taxFreeAmount"] == 3000

    async def test_tax_free_share_is_no_more_than_the_refund(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await paid(api, sandbox, taxFreeAmount=5000)

        answer = await cancelling(api, 1000, taxFreeAmount=1001)

        assert (answer.status_code, answer.json()["code"]) == (422, "tax_free_exceeds_refund")
        assert await sandbox.cancelled() == []

    @pytest.mark.parametrize(
        "method", [PaymentMethod.CARD, PaymentMethod.TRANSFER, PaymentMethod.MOBILE_PHONE, PaymentMethod.EASY_PAY]
    )
    async def test_needs_no_account(self, api: httpx.AsyncClient, sandbox: Sandbox, method: PaymentMethod) -> None:
        await paid(api, sandbox, method=method.value)

        refused = await cancelling(api, refundReceiveAccount=ACCOUNT)
        answer = await cancelling(api)

        assert (refused.status_code, refused.json()["code"]) == (422, "refund_account_not_allowed")
        assert answer.status_code == 200


class TestRefusal:
    async def test_of_parts_of_an_escrow_payment_is_the_pgs(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await paid(api, sandbox, useEscrow=True, method="TRANSFER")

        part = await cancelling(api, 1000)
        whole = await cancelling(api)

        assert (part.status_code, part.json()["code"]) == (409, "partial_refund_not_allowed")
        assert part.json()["pgCode"] == "NOT_ALLOWED_PARTIAL_REFUND"
        assert whole.status_code == 200

    async def test_of_parts_that_the_pg_had_announced_needs_no_pg(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        payment_key = await paid(api, sandbox, isPartialCancelable=False)

        part = await cancelling(api, 1000)
        whole = await cancelling(api)

        assert (part.status_code, part.json()["code"]) == (409, "partial_refund_not_allowed")
        assert whole.status_code == 200
        assert len(await sandbox.cancels(payment_key)) == 1

    @pytest.mark.parametrize(
        ("pg_code", "status", "code"),
        [
            ("EXCEED_MAX_REFUND_DUE", 409, "refund_deadline_passed"),
            ("NOT_CANCELABLE_PAYMENT", 409, "refund_refused"),
            ("NOT_AVAILABLE_BANK", 409, "refund_not_now"),
            ("FORBIDDEN_CONSECUTIVE_REQUEST", 409, "refund_not_now"),
            ("REFUND_REJECTED", 409, "refund_refused"),
        ],
    )
    async def test_is_recorded_told_and_leaves_the_money_refundable(
        self, api: httpx.AsyncClient, sandbox: Sandbox, pg_code: str, status: int, code: str
    ) -> None:
        await paid(api, sandbox)
        http_status = 400 if pg_code == "REFUND_REJECTED" else 403
        await sandbox.arm("cancel", "error_before_effect", code=pg_code, status=http_status)

        answer = await cancelling(api, key="one")
        again = await cancelling(api, key="one")
        anew = await cancelling(api, key="two")

        assert (answer.status_code, answer.json()["code"], answer.json()["pgCode"]) == (status, code, pg_code)
        assert answer.json()["pgMessage"]
        assert (again.status_code, again.content) == (answer.status_code, answer.content)
        assert anew.status_code == 200
        assert [refund["status"] for refund in (await read(api))["refunds"]] == ["FAILED", "SUCCEEDED"]

    @pytest.mark.parametrize("pg_code", ["ALREADY_CANCELED_PAYMENT", "NOT_MATCHES_REFUNDABLE_AMOUNT"])
    async def test_because_somebody_cancelled_in_the_console_brings_the_books_up_to_date(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, pg_code: str
    ) -> None:
        payment_key = await paid(api, sandbox)
        amount = None if pg_code == "ALREADY_CANCELED_PAYMENT" else 4000
        await sandbox.act(payment_key, "cancel", **({} if amount is None else {"amount": amount}))

        answer = await cancelling(api, 1000)

        assert (answer.status_code, answer.json()["code"]) == (409, "refund_balance_differs")
        here, there = await balances(api, sandbox, payment_key)
        assert here == there == (0 if amount is None else AMOUNT - 4000)
        assert await announced(resources) == ["payment.completed", "payment.refunded"]
        assert await discrepancy_kinds(resources) == []

    async def test_of_what_failed_has_nothing_to_give_back(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates(refuseWith="REJECT_CARD_PAYMENT")
        await api.post("/payments/confirm", json=confirm_body(payment_key))

        answer = await cancelling(api)

        assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_refund")

    async def test_of_an_unknown_order_leaves_the_key_unused(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        unknown = await cancelling(api, key="one")
        await paid(api, sandbox)
        known = await cancelling(api, key="one")

        assert (unknown.status_code, unknown.json()["code"]) == (404, "payment_not_found")
        assert known.status_code == 200


class TestLostAnswer:
    @pytest.mark.parametrize("fault", LOST_REPLIES)
    @pytest.mark.parametrize("parts", [[None], [1000], [1000, 2000]], ids=["full", "partial", "second partial"])
    async def test_of_a_refund_is_one_cancel_at_the_pg(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, parts: list[int | None], fault: str
    ) -> None:
        payment_key = await paid(api, sandbox)
        for part in parts[:-1]:
            await cancelling(api, part)
        await sandbox.arm("cancel", fault)
        await sandbox.arm("lookup", "drop_before_effect")

        unknown = await cancelling(api, parts[-1], key="lost")
        resolved = await resolve_now(resources)
        decided = await cancelling(api, parts[-1], key="lost")

        assert (unknown.status_code, refund_of(unknown)["status"]) == (202, "REQUESTED")
        assert unknown.headers["retry-after"]
        assert resolved == ["SUCCEEDED"]
        assert (decided.status_code, refund_of(decided)["status"]) == (200, "SUCCEEDED")
        assert await sandbox.cancelled() == [part or AMOUNT for part in parts]
        here, there = await balances(api, sandbox, payment_key)
        assert here == there

    async def test_is_looked_up_at_once(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await paid(api, sandbox)
        await sandbox.arm("cancel", "drop_reply")

        answer = await cancelling(api, 1000)

        assert (answer.status_code, refund_of(answer)["status"]) == (200, "SUCCEEDED")
        assert await sandbox.cancelled() == [1000]

    @pytest.mark.parametrize("fault", ["drop_before_effect", "reset", "html", "too_many_requests", "server_error"])
    async def test_that_never_had_an_effect_is_carried_out_later(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, fault: str
    ) -> None:
        payment_key = await paid(api, sandbox)
        await sandbox.arm("cancel", fault)

        unknown = await cancelling(api, 1000, key="one")
        resolved = await resolve_now(resources)
        decided = await cancelling(api, 1000, key="one")

        assert unknown.status_code == 202
        assert resolved == ["SUCCEEDED"]
        assert (decided.status_code, await sandbox.cancelled()) == (200, [1000])
        assert len({call["idempotencyKey"] for call in await sandbox.cancels(payment_key)}) == 1

    async def test_leaves_the_money_to_the_refund_that_waits(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        await sandbox.arm("cancel", "drop_before_effect")
        await cancelling(api, 1000, key="one")

        other = await cancelling(api, 1000, key="two")
        waiting = await read(api)
        await resolve_now(resources)
        after = await cancelling(api, 1000, key="two")

        assert (other.status_code, other.json()["code"]) == (409, "refund_in_progress")
        assert other.headers["retry-after"]
        assert (waiting["nextAction"], waiting["refundableAmount"]) == ("wait", AMOUNT)
        assert waiting["nextCheckAt"] is not None
        assert after.status_code == 200
        assert await sandbox.cancelled() == [1000, 1000]

    async def test_asked_again_is_the_same_not_yet_byte_for_byte(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await paid(api, sandbox)
        await sandbox.arm("cancel", "drop_before_effect")

        first = await cancelling(api, 1000, key="one")
        second = await cancelling(api, 1000, key="one")

        assert (first.status_code, second.status_code) == (202, 202)
        assert second.content == first.content

    async def test_beside_the_same_amount_from_the_console_is_not_mistaken_for_it(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await sandbox.arm("cancel", "drop_before_effect")
        await cancelling(api, 1000, key="one")
        await sandbox.act(payment_key, "cancel", amount=1000)

        await resolve_now(resources)
        decided = await cancelling(api, 1000, key="one")

        assert (decided.status_code, decided.json()["code"]) == (409, "refund_balance_differs")
        assert await sandbox.cancelled() == [1000]
        assert await balances(api, sandbox, payment_key) == (AMOUNT - 1000, AMOUNT - 1000)
        states = [(refund["status"], refund["reason"]) for refund in (await read(api))["refunds"]]
        assert states == [("FAILED", "고객 변심"), ("SUCCEEDED", "관리자 취소")]

    @pytest.mark.parametrize("kind", ["wrong_amount", "wrong_order"])
    async def test_about_something_else_is_noted_and_looked_up(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, kind: str
    ) -> None:
        await paid(api, sandbox)
        await sandbox.arm("cancel", kind)

        answer = await cancelling(api, 1000)

        assert (answer.status_code, refund_of(answer)["status"]) == (200, "SUCCEEDED")
        assert await discrepancy_kinds(resources) == ["amount_differs_at_pg"]
        assert await sandbox.cancelled() == [1000]


class TestBusy:
    async def test_second_refund_is_told_to_come_back(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        payment_key = await paid(api, sandbox)
        await sandbox.arm("cancel", "delay", delaySeconds=2)
        running = asyncio.create_task(cancelling(api, 1000))
        await until(lambda: sandbox.cancels(payment_key))

        second = await cancelling(api, 1000)

        assert (second.status_code, second.json()["code"]) == (409, "refund_in_progress")
        assert (await running).status_code == 200
        assert await sandbox.cancelled() == [1000]

    async def test_refund_of_a_pending_payment_resolves_it_first(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "drop_reply")
        await sandbox.arm("lookup", "drop_before_effect")
        confirmed = await api.post("/payments/confirm", json=confirm_body(payment_key))

        answer = await cancelling(api)

        assert confirmed.status_code == 202
        assert (answer.status_code, answer.json()["payment"]["status"]) == (200, "REFUNDED")
        assert (await sandbox.captures(), await sandbox.cancelled()) == ([AMOUNT], [AMOUNT])
        assert await announced(resources) == ["payment.completed", "payment.refunded"]

    async def test_refund_of_what_the_pg_does_not_know_either_waits(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepared(api)
        payment_key = await sandbox.buyer_authenticates()
        await sandbox.arm("confirm", "drop_before_effect")
        await api.post("/payments/confirm", json=confirm_body(payment_key))
        before = await read(api)

        answer = await cancelling(api)

        assert (answer.status_code, answer.json()["code"]) == (409, "payment_in_progress")
        assert answer.headers["retry-after"]
        assert await read(api) == before


class TestIdempotencyKey:
    @pytest.mark.parametrize(
        ("headers", "code"),
        [
            ({}, "idempotency_key_missing"),
            ({"idempotency-key": ""}, "idempotency_key_missing"),
            ({"idempotency-key": "a b"}, "idempotency_key_malformed"),
            ({"idempotency-key": "k" * 301}, "idempotency_key_malformed"),
            ({"idempotency-key": "키".encode()}, "idempotency_key_malformed"),
        ],
    )
    async def test_must_be_there_and_printable(
        self, api: httpx.AsyncClient, sandbox: Sandbox, headers: dict[str, Any], code: str
    ) -> None:
        await paid(api, sandbox)

        answer = await api.post(f"/payments/orders/{ORDER}/cancel", json={"cancelReason": "품절"}, headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert await sandbox.cancelled() == []

    @pytest.mark.parametrize(
        "other", [{"cancelAmount": 1001}, {"cancelReason": "다른 사유"}, {"taxFreeAmount": 1}, {"cancelAmount": None}]
    )
    async def test_of_another_body_is_refused(
        self, api: httpx.AsyncClient, sandbox: Sandbox, other: dict[str, Any]
    ) -> None:
        await paid(api, sandbox)
        first = await cancelling(api, key="one", cancelAmount=1000)

        answer = await cancelling(api, key="one", **{"cancelAmount": 1000, **other})

        assert (first.status_code, answer.status_code) == (200, 422)
        assert answer.json()["code"] == "idempotency_key_reused"
        assert await sandbox.cancelled() == [1000]

    async def test_of_another_order_is_refused(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await paid(api, sandbox, "order-000001")
        await paid(api, sandbox, "order-000002")
        await cancelling(api, order_id="order-000001", key="one")

        answer = await cancelling(api, order_id="order-000002", key="one")

        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        assert await sandbox.cancelled("order-000002") == []

    async def test_of_a_payment_key_gets_its_answer_after_another_attempt_too(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepared(api)
        failed = await sandbox.buyer_authenticates(refuseWith="REJECT_CARD_PAYMENT")
        await api.post("/payments/confirm", json=confirm_body(failed))
        url, body, headers = f"/payments/{failed}/cancel", {"cancelReason": "품절"}, {"idempotency-key": "one"}
        first = await api.post(url, json=body, headers=headers)
        await paid(api, sandbox)

        again = await api.post(url, json=body, headers=headers)

        assert (first.status_code, first.json()["code"]) == (409, "nothing_to_refund")
        assert again.content == first.content

    async def test_of_another_client_is_another_key(
        self, api: httpx.AsyncClient, sandbox: Sandbox, database: str
    ) -> None:
        await paid(api, sandbox)
        old_key, new_key = f"payk_Shop0001_{'s' * 43}", f"payk_Shop0002_{'n' * 43}"
        let_in(database, old_key, name="shop")
        let_in(database, new_key, name="shop")
        url, body = f"/payments/orders/{ORDER}/cancel", {"cancelReason": "품절", "cancelAmount": 1000}

        answers = [
            await api.post(url, json=body, headers={"idempotency-key": "one", "authorization": f"Bearer {key}"})
            for key in (old_key, API_KEY, new_key)
        ]

        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert answers[0].content == answers[2].content != answers[1].content
        assert await sandbox.cancelled() == [1000, 1000]

    async def test_answers_the_same_bytes_whatever_happened_since(
        self, api: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await paid(api, sandbox)
        first = await cancelling(api, 1000, key="one")
        refused = await cancelling(api, AMOUNT, key="two")
        await cancelling(api)

        assert (await cancelling(api, 1000, key="one")).content == first.content
        assert (await cancelling(api, AMOUNT, key="two")).content == refused.content
        assert refused.json()["code"] == "refund_exceeds_balance"
