"""Giving money back, on the wire: what is sent, what becomes of every answer, and what is told to nobody."""

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
import respx
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from payments.gateways.breaker import Breaker
from payments.gateways.pg import (
    Approved,
    CancelAnswer,
    Cancelled,
    PaymentGateway,
    RefundAccount,
    RefundAnswer,
    Refunded,
    RefundOrder,
    RefundRefused,
    RefusedBecause,
    Unknown,
    UnknownBecause,
)
from payments.gateways.toss import TossClient
from payments.gateways.toss_codes import BADLY_ASKED, CodeClass
from tests.gateways.conftest import SECRET_KEY, TOSS, HandClock
from tests.gateways.loopback import answering, loopback, never_answering, ok_reply
from tests.gateways.test_toss import (
    BECAUSE,
    HTTPX_EXCEPTIONS,
    NOT_SENT_AFTER_ONE,
    NOT_SENT_AFTER_TWO_ATTEMPTS,
    counted,
    raised,
)
from tests.gateways.test_toss_codes import EXPECTED_AT_CANCEL
from tests.gateways.toss_builders import (
    ACCOUNT,
    AMOUNT,
    ORDER_ID,
    PAYMENT_KEY,
    REASON,
    REFUND_KEY,
    SECRET,
    a_cancel,
    a_payment,
    a_refunded_payment,
    a_virtual_account_payment,
    an_order,
    as_bytes,
)

CANCEL = f"/v1/payments/{PAYMENT_KEY}/cancel"
GIVEN_UP = a_virtual_account_payment(
    status="CANCELED", balanceAmount=0, cancels=[a_cancel(AMOUNT, 0)], lastTransactionKey="cancel-down-to-0"
)


async def refund(client: PaymentGateway) -> RefundAnswer:
    return await client.refund(PAYMENT_KEY, an_order())


async def cancel(client: PaymentGateway) -> CancelAnswer:
    return await client.cancel(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT, reason=REASON, idempotency_key=REFUND_KEY)


Call = Callable[[PaymentGateway], Awaitable[RefundAnswer | CancelAnswer]]
both = pytest.mark.parametrize("call", [refund, cancel])


def because(answer: RefundAnswer | CancelAnswer) -> UnknownBecause:
    assert isinstance(answer, Unknown), answer
    return answer.because


def sent(route: respx.Route) -> object:
    return json.loads(route.calls.last.request.content)


class TestRequest:
    async def test_a_refund_is_sent_exactly(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.post(CANCEL).respond(json=a_refunded_payment(5_000, 4_000))
        order = an_order(4_000, believed_balance=10_000, tax_free_amount=1_000, account=ACCOUNT)

        answer = await client.refund(PAYMENT_KEY, order)

        assert isinstance(answer, Refunded)
        request = route.calls.last.request
        assert (request.method, str(request.url)) == ("POST", f"{TOSS}/v1/payments/{PAYMENT_KEY}/cancel")
        assert request.headers["Authorization"] == f"Basic {base64.b64encode(f'{SECRET_KEY}:'.encode()).decode()}"
        assert request.headers["Idempotency-Key"] == REFUND_KEY
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["Accept"] == "application/json"
        assert request.headers["Accept-Encoding"] == "identity"
        assert request.content.decode() == (
            '{"cancelReason":"고객이 취소를 원함","cancelAmount":4000,"refundableAmount":10000,"taxFreeAmount":1000,'
            '"refundReceiveAccount":{"bank":"88","accountNumber":"110123456789","holderName":"박환불"}}'
        )

    async def test_everything_left_names_no_amount(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.post(CANCEL).respond(json=a_refunded_payment())

        await client.refund(PAYMENT_KEY, an_order())

        assert route.calls.last.request.content.decode() == (
            '{"cancelReason":"고객이 취소를 원함","refundableAmount":15000}'
        )

    async def test_the_rest_names_no_amount(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.post(CANCEL).respond(json=a_refunded_payment(5_000, 10_000))

        answer = await client.refund(PAYMENT_KEY, an_order(10_000, believed_balance=10_000))

        assert isinstance(answer, Refunded)
        assert sent(route) == {"cancelReason": REASON, "refundableAmount": 10_000}

    async def test_all_of_it_may_have_been_sold_without_tax(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.post(CANCEL).respond(json=a_refunded_payment())

        await client.refund(PAYMENT_KEY, an_order(tax_free_amount=AMOUNT))

        assert sent(route) == {"cancelReason": REASON, "refundableAmount": AMOUNT, "taxFreeAmount": AMOUNT}

    async def test_a_cancel_is_sent_exactly(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.post(CANCEL).respond(json=GIVEN_UP)

        answer = await cancel(client)

        assert isinstance(answer, Cancelled)
        request = route.calls.last.request
        assert (request.method, str(request.url)) == ("POST", f"{TOSS}/v1/payments/{PAYMENT_KEY}/cancel")
        assert request.headers["Idempotency-Key"] == REFUND_KEY
        assert request.content.decode() == '{"cancelReason":"고객이 취소를 원함"}'

    async def test_a_repetition_is_the_same_byte_for_byte(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.post(CANCEL).respond(500)

        for _ in range(2):
            await client.refund(PAYMENT_KEY, an_order(4_000, account=ACCOUNT))

        first, second = (call.request for call in route.calls)
        assert first.content == second.content
        assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]

    @pytest.mark.parametrize("reason", ["x", "가" * 200, "🎁" * 200, 'a"b\\c\n\u0000</script>'])
    async def test_any_reason_of_200_characters_arrives(
        self, client: TossClient, toss: respx.MockRouter, reason: str
    ) -> None:
        route = toss.post(CANCEL).respond(json=a_refunded_payment())

        await client.refund(PAYMENT_KEY, an_order(reason=reason))

        assert sent(route) == {"cancelReason": reason, "refundableAmount": AMOUNT}


class TestCaller:
    """What must not reach Toss is a mistake of ours, found before anything is sent."""

    @pytest.mark.parametrize("key", ["", "..", "../settlements", "a/cancel", "a?x=1", "a#b", "%2e%2e", "x" * 201])
    async def test_a_payment_key_that_would_change_the_address_is_refused(
        self, client: TossClient, toss: respx.MockRouter, key: str
    ) -> None:
        with pytest.raises(ValueError, match="payment key"):
            await client.refund(key, an_order())
        with pytest.raises(ValueError, match="payment key"):
            await client.cancel(key, order_id=ORDER_ID, amount=AMOUNT, reason=REASON, idempotency_key=REFUND_KEY)

        assert toss.calls.call_count == 0

    @pytest.mark.parametrize("key", ["", "한글", "a\r\nX-Evil: 1", "a\u0000", "a b", "x" * 301])
    async def test_an_idempotency_key_that_is_no_header_is_refused(
        self, client: TossClient, toss: respx.MockRouter, key: str
    ) -> None:
        with pytest.raises(ValueError, match="idempotency key"):
            await client.refund(PAYMENT_KEY, an_order(idempotency_key=key))
        with pytest.raises(ValueError, match="idempotency key"):
            await client.cancel(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT, reason=REASON, idempotency_key=key)

        assert toss.calls.call_count == 0

    @pytest.mark.parametrize("reason", ["", "x" * 201, "\ud800", "반환\udfff"])
    async def test_a_reason_that_toss_would_not_take_is_refused(
        self, client: TossClient, toss: respx.MockRouter, reason: str
    ) -> None:
        with pytest.raises(ValueError, match=r"reason|surrogate"):
            await client.refund(PAYMENT_KEY, an_order(reason=reason))
        with pytest.raises(ValueError, match=r"reason|surrogate"):
            await client.cancel(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT, reason=reason, idempotency_key="key")

        assert toss.calls.call_count == 0

    @pytest.mark.parametrize(
        ("amount", "believed_balance", "total_amount"),
        [
            (0, AMOUNT, AMOUNT),
            (-1, AMOUNT, AMOUNT),
            (10_001, 10_000, AMOUNT),
            (1, 0, AMOUNT),
            (1, AMOUNT + 1, AMOUNT),
            (AMOUNT + 1, AMOUNT + 1, AMOUNT),
            (0, 0, 0),
        ],
    )
    async def test_amounts_that_contradict_each_other_are_refused(
        self, client: TossClient, toss: respx.MockRouter, *, amount: int, believed_balance: int, total_amount: int
    ) -> None:
        order = an_order(amount, believed_balance=believed_balance, total_amount=total_amount)

        with pytest.raises(ValueError, match="won"):
            await client.refund(PAYMENT_KEY, order)

        assert toss.calls.call_count == 0

    @pytest.mark.parametrize("tax_free", [-1, 4_001, AMOUNT])
    async def test_more_without_tax_than_goes_back_is_refused(
        self, client: TossClient, toss: respx.MockRouter, tax_free: int
    ) -> None:
        with pytest.raises(ValueError, match="without tax"):
            await client.refund(PAYMENT_KEY, an_order(4_000, tax_free_amount=tax_free))

        assert toss.calls.call_count == 0

    @pytest.mark.parametrize("order_id", ["", "short", "../../settlements", "order 00001", "x" * 65])
    async def test_an_order_id_that_toss_would_not_take_is_refused(
        self, client: TossClient, toss: respx.MockRouter, order_id: str
    ) -> None:
        with pytest.raises(ValueError, match="order id"):
            await client.refund(PAYMENT_KEY, an_order(order_id=order_id))

        assert toss.calls.call_count == 0

    @pytest.mark.parametrize("amount", [0, -1])
    async def test_an_amount_below_one_won_is_refused(self, client: TossClient, amount: int) -> None:
        with pytest.raises(ValueError, match="one won"):
            await client.cancel(
                PAYMENT_KEY, order_id=ORDER_ID, amount=amount, reason=REASON, idempotency_key=REFUND_KEY
            )

    @pytest.mark.parametrize("name", ["bank", "account_number", "holder_name"])
    async def test_an_account_that_cannot_be_sent_is_refused_without_being_told(
        self, client: TossClient, toss: respx.MockRouter, name: str
    ) -> None:
        account = replace(ACCOUNT, **{name: "110123\ud800"})

        with pytest.raises(ValueError, match="surrogate") as caught:
            await client.refund(PAYMENT_KEY, an_order(account=account))

        assert "110123" not in repr(caught.value)
        assert caught.value.__context__ is None
        assert toss.calls.call_count == 0


class TestCodes:
    @both
    @pytest.mark.parametrize(("status", "code", "kind"), EXPECTED_AT_CANCEL)
    async def test_every_listed_code_ends_the_call_as_the_table_says(
        self,
        client: TossClient,
        toss: respx.MockRouter,
        *,
        status: int,
        code: str,
        kind: CodeClass | RefusedBecause,
        call: Call,
    ) -> None:
        toss.post(CANCEL).respond(status, json={"code": code, "message": "취소할 수 없습니다."})

        answer = await call(client)

        if isinstance(kind, RefusedBecause):
            assert answer == RefundRefused(kind, code=code, message="취소할 수 없습니다.")
        else:
            assert answer == Unknown(BECAUSE[kind], code=code, message="취소할 수 없습니다.")

    @both
    @pytest.mark.parametrize("status", [400, 403, 404, 409])
    async def test_an_unlisted_code_is_unknown(
        self, client: TossClient, toss: respx.MockRouter, *, status: int, call: Call
    ) -> None:
        toss.post(CANCEL).respond(status, json={"code": "BRAND_NEW", "message": "새 오류"})

        assert await call(client) == Unknown(UnknownBecause.UNLISTED, code="BRAND_NEW", message="새 오류")

    @both
    async def test_the_pgs_wish_to_wait_is_kept(self, client: TossClient, toss: respx.MockRouter, call: Call) -> None:
        toss.post(CANCEL).respond(429, headers={"Retry-After": "12"})

        assert await call(client) == Unknown(
            UnknownBecause.ASK_AGAIN, message="HTTP 429 without an error body", retry_after=timedelta(seconds=12)
        )


class TestAnswer:
    async def test_another_refund_than_the_one_asked_for_is_a_mismatch(
        self, client: TossClient, toss: respx.MockRouter
    ) -> None:
        toss.post(CANCEL).respond(json=a_refunded_payment(5_000))

        assert because(await refund(client)) is UnknownBecause.MISMATCH

    async def test_an_account_that_was_paid_into_meanwhile_is_a_mismatch(
        self, client: TossClient, toss: respx.MockRouter
    ) -> None:
        toss.post(CANCEL).respond(json=a_virtual_account_payment(status="DONE"))

        assert because(await cancel(client)) is UnknownBecause.MISMATCH

    async def test_a_look_up_shows_the_cancels(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.get(f"/v1/payments/{PAYMENT_KEY}").respond(json=a_refunded_payment(5_000, 4_000))

        answer = await client.look_up(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT)

        assert isinstance(answer, Approved)
        assert [cancel.transaction_key for cancel in answer.payment.cancels] == [
            "cancel-down-to-10000",
            "cancel-down-to-6000",
        ]


class TestHttpxExceptions:
    """For money only one thing counts: whether the request can have reached Toss."""

    @both
    @pytest.mark.parametrize("kind", HTTPX_EXCEPTIONS)
    async def test_each_is_sorted_by_whether_toss_may_have_been_asked(
        self, client: TossClient, toss: respx.MockRouter, *, kind: type[Exception], call: Call
    ) -> None:
        route = toss.post(CANCEL).mock(side_effect=raised(kind))

        answer = await call(client)

        not_sent = kind in NOT_SENT_AFTER_TWO_ATTEMPTS | NOT_SENT_AFTER_ONE
        assert answer == Unknown(
            UnknownBecause.NOT_SENT if not_sent else UnknownBecause.NO_ANSWER, message=kind.__name__
        )
        assert route.call_count == (2 if kind in NOT_SENT_AFTER_TWO_ATTEMPTS else 1)

    async def test_the_second_attempt_is_the_same_request(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.post(CANCEL).mock(
            side_effect=[httpx.ConnectError("no"), httpx.Response(200, json=a_refunded_payment())]
        )

        answer = await refund(client)

        assert isinstance(answer, Refunded)
        first, second = (call.request for call in route.calls)
        assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == REFUND_KEY
        assert first.content == second.content


class TestLostAnswer:
    async def test_an_answer_cut_short_is_never_taken_for_one(self, pytestconfig: pytest.Config) -> None:
        whole = ok_reply(as_bytes(a_refunded_payment()))
        step = 1 if pytestconfig.getoption("--proof") else 5  # bytes
        lengths = [*range(0, len(whole), step), len(whole)]
        cuts = iter(lengths)

        async def cut_later_and_later(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(whole[: next(cuts)])
            await writer.drain()

        patient = Breaker(failures=1_000_000, pause=timedelta(seconds=1))
        async with (
            loopback(cut_later_and_later) as server,
            TossClient(base_url=server.url, secret_key=SECRET_KEY, cancel_breaker=patient) as client,
        ):
            answers = [await refund(client) for _ in lengths]

        assert {because(answer) for answer in answers[:-1]} == {UnknownBecause.NO_ANSWER}
        assert isinstance(answers[-1], Refunded)

    @both
    async def test_silence_ends_at_the_deadline_of_a_confirm(self, call: Call) -> None:
        brief = timedelta(seconds=0.2)
        async with (
            loopback(never_answering) as server,
            TossClient(base_url=server.url, secret_key=SECRET_KEY, deadline=brief) as client,
        ):
            answer = await call(client)

        assert answer == Unknown(UnknownBecause.NO_ANSWER, message="no complete answer before the deadline")

    async def test_a_redirect_does_not_carry_the_account_away(self) -> None:
        async with loopback(answering(ok_reply(as_bytes(a_refunded_payment())))) as elsewhere:
            away = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n\r\n"
            async with (
                loopback(answering(away.encode())) as server,
                TossClient(base_url=server.url, secret_key=SECRET_KEY) as client,
            ):
                answer = await client.refund(PAYMENT_KEY, an_order(account=ACCOUNT))

        assert because(answer) is UnknownBecause.MALFORMED
        assert elsewhere.connections == 0


class TestBreaker:
    @both
    async def test_after_failures_in_a_row_cancels_are_left_alone(
        self, client: TossClient, toss: respx.MockRouter, call: Call
    ) -> None:
        route = toss.post(CANCEL).respond(500)
        for _ in range(3):
            assert because(await call(client)) is UnknownBecause.PG_ERROR

        answer = await call(client)

        assert answer == Unknown(UnknownBecause.CIRCUIT_OPEN, retry_after=timedelta(seconds=10))
        assert route.call_count == 3

    async def test_refunds_that_fail_do_not_keep_the_shop_from_selling(
        self, client: TossClient, toss: respx.MockRouter
    ) -> None:
        toss.post(CANCEL).respond(500)
        toss.post("/v1/payments/confirm").respond(json=a_payment())
        toss.get(f"/v1/payments/{PAYMENT_KEY}").respond(json=a_payment())

        for _ in range(4):
            await refund(client)

        assert client.is_available
        confirmed = await client.confirm(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT, idempotency_key="attempt")
        assert isinstance(confirmed, Approved)
        assert isinstance(await client.look_up(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT), Approved)

    async def test_confirms_that_fail_do_not_keep_refunds_back(
        self, client: TossClient, toss: respx.MockRouter
    ) -> None:
        toss.post("/v1/payments/confirm").respond(500)
        toss.post(CANCEL).respond(json=a_refunded_payment())

        for _ in range(4):
            await client.confirm(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT, idempotency_key="attempt")

        assert not client.is_available
        assert isinstance(await refund(client), Refunded)

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, "PROVIDER_ERROR"),
            (400, "INVALID_REQUEST"),
            (400, "BRAND_NEW"),
            (403, "NOT_CANCELABLE_AMOUNT"),
            (403, "FORBIDDEN_REQUEST"),
            (403, "NOT_AVAILABLE_BANK"),
            (404, "NOT_FOUND_PAYMENT"),
            (409, "IDEMPOTENT_REQUEST_PROCESSING"),
            (429, "TOO_MANY"),
        ],
    )
    async def test_what_concerns_one_payment_does_not_open_it(
        self, client: TossClient, toss: respx.MockRouter, *, status: int, code: str
    ) -> None:
        route = toss.post(CANCEL).respond(status, json={"code": code, "message": ""})

        for _ in range(10):
            await refund(client)

        assert route.call_count == 10

    async def test_after_the_pause_it_is_tried_again(
        self, client: TossClient, toss: respx.MockRouter, clock: HandClock
    ) -> None:
        toss.post(CANCEL).respond(401)
        for _ in range(3):
            await refund(client)
        toss.post(CANCEL).respond(json=a_refunded_payment())

        clock.now += 10

        assert isinstance(await refund(client), Refunded)


REFUND_KINDS = {
    "refunded": httpx.Response(200, json=a_refunded_payment()),
    "refund_refused": httpx.Response(403, json={"code": "NOT_CANCELABLE_AMOUNT", "message": "취소 할 수 없는 금액"}),
    "mismatch": httpx.Response(200, json=a_payment()),
    "pg_error": httpx.Response(500),
    "misconfigured": httpx.Response(404, json={"code": "NOT_FOUND_PAYMENT", "message": ""}),
}
CANCEL_KINDS = {
    "cancelled": httpx.Response(200, json=GIVEN_UP),
    "refund_refused": httpx.Response(400, json={"code": "ALREADY_CANCELED_PAYMENT", "message": "이미 취소된 결제"}),
    "mismatch": httpx.Response(200, json=a_virtual_account_payment()),
    "unlisted": httpx.Response(400, json={"code": "BRAND_NEW", "message": ""}),
}
KINDS = [(refund, kind, reply) for kind, reply in REFUND_KINDS.items()] + [
    (cancel, kind, reply) for kind, reply in CANCEL_KINDS.items()
]


class TestObservability:
    @pytest.mark.parametrize(
        ("call", "kind", "reply"), KINDS, ids=[f"{call.__name__}-{kind}" for call, kind, _ in KINDS]
    )
    async def test_each_answer_is_counted_and_logged_by_its_kind(
        self, client: TossClient, toss: respx.MockRouter, *, call: Call, kind: str, reply: httpx.Response
    ) -> None:
        toss.post(CANCEL).mock(return_value=reply)
        name = "refund" if call is refund else "cancel"
        before = counted(name, kind)

        with capture_logs() as logs:
            answer = await call(client)

        assert counted(name, kind) == before + 1
        [entry] = logs
        assert entry["event"] == ("pg.answer_unknown" if isinstance(answer, Unknown) else "pg.answered")
        assert (entry["call"], entry["kind"], entry["order_id"]) == (name, kind, ORDER_ID)

    @both
    async def test_the_duration_is_measured(self, client: TossClient, toss: respx.MockRouter, call: Call) -> None:
        toss.post(CANCEL).respond(500)
        labels = {"call": "refund" if call is refund else "cancel"}
        before = REGISTRY.get_sample_value("pg_call_seconds_count", labels) or 0.0

        await call(client)

        assert REGISTRY.get_sample_value("pg_call_seconds_count", labels) == before + 1

    async def test_a_refusal_says_why(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.post(CANCEL).respond(403, json={"code": "EXCEED_MAX_REFUND_DUE", "message": "기간이 지났습니다."})

        with capture_logs() as logs:
            await refund(client)

        assert (logs[0]["code"], logs[0]["because"]) == ("EXCEED_MAX_REFUND_DUE", "too_late")

    @both
    @pytest.mark.parametrize("code", sorted(BADLY_ASKED))
    async def test_a_request_that_was_not_understood_is_for_an_operator(
        self, client: TossClient, toss: respx.MockRouter, *, code: str, call: Call
    ) -> None:
        toss.post(CANCEL).respond(400, json={"code": code, "message": "잘못된 요청입니다."})

        with capture_logs() as logs:
            await call(client)

        [entry] = logs
        assert (entry["event"], entry["log_level"]) == ("pg.request_not_understood", "warning")
        assert (entry["code"], entry["kind"]) == (code, "refund_refused")


def showing(account: RefundAccount, **changes: object) -> dict[str, object]:
    """A virtual account that was paid back, as Toss shows it with the account that the money goes to."""
    shown = {"bankCode": account.bank, "accountNumber": account.account_number, "holderName": account.holder_name}
    virtual = {
        "accountNumber": "X6505636518308",
        "bankCode": "20",
        "refundStatus": "PENDING",
        "refundReceiveAccount": shown,
    }
    return a_refunded_payment(method="가상계좌", virtualAccount=virtual, **changes)


REPLIES_WITH_ACCOUNT = {
    "refunded": httpx.Response(200, json=showing(ACCOUNT)),
    "mismatch": httpx.Response(200, json=showing(ACCOUNT, totalAmount=1)),
    "malformed": httpx.Response(200, json=showing(ACCOUNT, totalAmount=ACCOUNT.account_number)),
    "refused": httpx.Response(
        400, json={"code": "INVALID_REFUND_ACCOUNT_NUMBER", "message": "잘못된 환불 계좌번호입니다."}
    ),
    "not understood": httpx.Response(400, json={"code": "INVALID_REQUEST", "message": "잘못된 요청입니다."}),
    "server error": httpx.Response(500),
}
HIDDEN = (ACCOUNT.account_number, ACCOUNT.holder_name, REASON, PAYMENT_KEY, REFUND_KEY, SECRET_KEY, SECRET)


class TestSecrecy:
    @pytest.mark.parametrize("reply", REPLIES_WITH_ACCOUNT.values(), ids=REPLIES_WITH_ACCOUNT.keys())
    async def test_no_log_line_tells_the_account_the_reason_or_a_whole_key(
        self, client: TossClient, toss: respx.MockRouter, caplog: pytest.LogCaptureFixture, reply: httpx.Response
    ) -> None:
        toss.post(CANCEL).mock(return_value=reply)
        caplog.set_level(logging.DEBUG)
        caplog.set_level(logging.WARNING, logger="httpx")  # as the program does: it would tell every address

        with capture_logs() as logs:
            await client.refund(PAYMENT_KEY, an_order(account=ACCOUNT))

        for hidden in HIDDEN:
            assert hidden not in f"{logs}"
            assert hidden not in caplog.text
        assert logs[0]["payment_key_ends"] == PAYMENT_KEY[-6:]

    @pytest.mark.parametrize("error", [httpx.ReadTimeout("lost"), httpx.ConnectError("refused"), OSError("strange")])
    async def test_nor_when_the_answer_is_lost(
        self, client: TossClient, toss: respx.MockRouter, error: Exception
    ) -> None:
        toss.post(CANCEL).mock(side_effect=error)

        with capture_logs() as logs:
            answer = await client.refund(PAYMENT_KEY, an_order(account=ACCOUNT))

        for hidden in HIDDEN:
            assert hidden not in f"{logs} {answer!r}"

    @pytest.mark.parametrize("reply", REPLIES_WITH_ACCOUNT.values(), ids=REPLIES_WITH_ACCOUNT.keys())
    async def test_no_answer_shows_the_account(
        self, client: TossClient, toss: respx.MockRouter, reply: httpx.Response
    ) -> None:
        toss.post(CANCEL).mock(return_value=reply)

        answer = await client.refund(PAYMENT_KEY, an_order(account=ACCOUNT))

        assert ACCOUNT.account_number not in f"{answer!r} {client!r}"
        assert ACCOUNT.holder_name not in f"{answer!r} {client!r}"

    def test_the_order_does_not_show_it_either(self) -> None:
        order: RefundOrder = an_order(account=ACCOUNT)

        assert ACCOUNT.account_number not in f"{order!r} {order}"
        assert ACCOUNT.holder_name not in f"{order!r} {order}"
        assert f"{ACCOUNT!r}" == "RefundAccount()"
