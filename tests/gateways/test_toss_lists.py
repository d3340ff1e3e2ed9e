"""The list of transactions on the wire, and the pace at which everything is asked."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import httpx
import pytest
import respx
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from payments.gateways.pg import (
    Answer,
    Approved,
    PgStatus,
    PgTransaction,
    TransactionPage,
    Unknown,
    UnknownBecause,
)
from payments.gateways.toss import MAX_LIST_BYTES, TossClient
from payments.gateways.toss_lists import TRANSACTIONS_LIMIT
from tests.gateways.conftest import SECRET_KEY, TOSS
from tests.gateways.toss_builders import AMOUNT, ORDER_ID, PAYMENT_KEY, a_payment, an_order, as_bytes

KST = timezone(timedelta(hours=9))
MIDNIGHT = datetime(2026, 1, 2, tzinfo=KST)
DAY = timedelta(days=1)
LIST = "/v1/transactions"


def a_transaction(**changes: object) -> dict[str, object]:
    """A row as Toss's reference shows it: the approval of a card payment."""
    return {
        "mId": "tvivarepubl",
        "transactionKey": "txrd_a01k0000000000000000000000",
        "paymentKey": PAYMENT_KEY,
        "orderId": ORDER_ID,
        "method": "카드",
        "customerKey": None,
        "useEscrow": False,
        "receiptUrl": "https://dashboard.tosspayments.com/receipt",
        "status": "DONE",
        "transactionAt": "2026-01-02T14:46:59+09:00",
        "currency": "KRW",
        "amount": AMOUNT,
        **changes,
    }


def a_full_page() -> list[dict[str, object]]:
    return [a_transaction(transactionKey=f"key-{number}") for number in range(TRANSACTIONS_LIMIT)]


async def listed(client: TossClient, *, after: str | None = None) -> TransactionPage | Unknown:
    return await client.list_transactions(MIDNIGHT, MIDNIGHT + DAY, after=after)


def unknown(answer: TransactionPage | Answer) -> Unknown:
    assert isinstance(answer, Unknown), answer
    return answer


class TestQuestion:
    async def test_names_both_ends_in_the_time_of_korea(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.get(LIST).respond(json=[])
        utc = datetime(2026, 1, 1, 15, tzinfo=UTC)

        assert await client.list_transactions(utc, utc + DAY, after=None) == TransactionPage((), None)

        assert dict(route.calls.last.request.url.params) == {
            "startDate": "2026-01-02T00:00:00",
            "endDate": "2026-01-03T00:00:00",
            "limit": "1000",
        }
        assert "Idempotency-Key" not in route.calls.last.request.headers
        assert route.calls.last.request.extensions["timeout"] == {"connect": 3, "read": 60}

    async def test_leaves_no_part_of_a_second_out(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.get(LIST).respond(json=[])
        moment = MIDNIGHT + timedelta(microseconds=1)

        await client.list_transactions(moment, moment, after=None)

        params = route.calls.last.request.url.params
        assert (params["startDate"], params["endDate"]) == ("2026-01-02T00:00:00", "2026-01-02T00:00:01")

    async def test_goes_on_behind_a_transaction(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.get(LIST).respond(json=[])

        await listed(client, after="txrd_a01&limit=1")

        assert route.calls.last.request.url.params["startingAfter"] == "txrd_a01&limit=1"
        assert route.calls.last.request.url.params["limit"] == "1000"

    @pytest.mark.parametrize(
        ("since", "until", "after"),
        [
            (MIDNIGHT.replace(tzinfo=None), MIDNIGHT, None),
            (MIDNIGHT, MIDNIGHT.replace(tzinfo=None), None),
            (MIDNIGHT, MIDNIGHT - DAY, None),
            (MIDNIGHT, MIDNIGHT, ""),
            (MIDNIGHT, MIDNIGHT, "한글"),
            (MIDNIGHT, MIDNIGHT, "x" * 65),
        ],
    )
    async def test_that_makes_no_sense_is_never_sent(
        self, client: TossClient, toss: respx.MockRouter, *, since: datetime, until: datetime, after: str | None
    ) -> None:
        with pytest.raises(ValueError, match=r"two times|transaction key"):
            await client.list_transactions(since, until, after=after)

        assert toss.calls.call_count == 0


class TestPage:
    async def test_tells_every_row(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.get(LIST).respond(json=[a_transaction(anythingNew={"a": 1}), a_transaction(transactionKey="second")])

        page = await listed(client)

        first = PgTransaction(
            transaction_key="txrd_a01k0000000000000000000000",
            payment_key=PAYMENT_KEY,
            order_id=ORDER_ID,
            status=PgStatus.DONE,
            method="카드",
            amount=AMOUNT,
            currency="KRW",
            at=datetime(2026, 1, 2, 5, 46, 59, tzinfo=UTC),
        )
        assert isinstance(page, TransactionPage)
        assert page.rows[0] == first
        assert [row.transaction_key for row in page.rows[1:]] == ["second"]
        assert page.next_after is None

    @pytest.mark.parametrize("amount", [4_000, -4_000, 4_000.0, -4_000.0])
    async def test_tells_what_was_given_back_whatever_its_sign(
        self, client: TossClient, toss: respx.MockRouter, amount: float
    ) -> None:
        toss.get(LIST).respond(json=[a_transaction(status="PARTIAL_CANCELED", amount=amount)])

        page = await listed(client)

        assert isinstance(page, TransactionPage)
        assert [(row.status, row.amount) for row in page.rows] == [(PgStatus.PARTIAL_CANCELED, 4_000)]

    async def test_that_is_full_leads_to_the_next(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.get(LIST).respond(json=a_full_page())

        page = await listed(client)

        assert isinstance(page, TransactionPage)
        assert (len(page.rows), page.next_after) == (TRANSACTIONS_LIMIT, f"key-{TRANSACTIONS_LIMIT - 1}")

    async def test_that_never_gets_further_is_malformed(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.get(LIST).respond(json=a_full_page())

        answer = await listed(client, after=f"key-{TRANSACTIONS_LIMIT - 1}")

        assert unknown(answer).because is UnknownBecause.MALFORMED

    @pytest.mark.parametrize(
        "changes",
        [
            {"transactionKey": None},
            {"transactionKey": "x" * 65},
            {"paymentKey": "../x"},
            {"orderId": None},
            {"status": "BRAND_NEW"},
            {"amount": None},
            {"amount": "15000"},
            {"amount": 0.5},
            {"amount": True},
            {"amount": -(2**53)},
            {"currency": None},
            {"transactionAt": None},
            {"transactionAt": "2026-01-02"},
            {"transactionAt": "soon"},
        ],
    )
    async def test_with_one_row_that_cannot_be_read_is_no_page(
        self, client: TossClient, toss: respx.MockRouter, changes: dict[str, object]
    ) -> None:
        toss.get(LIST).respond(json=[a_transaction(), a_transaction(**changes)])

        answer = unknown(await listed(client))

        assert answer.because is UnknownBecause.MALFORMED
        assert answer.message is not None
        assert answer.message.startswith(f"1.{next(iter(changes))}")

    async def test_tolerates_a_method_that_nobody_can_read(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.get(LIST).respond(json=[a_transaction(method=["카드"])])

        page = await listed(client)

        assert isinstance(page, TransactionPage)
        assert page.rows[0].method is None

    @pytest.mark.parametrize(
        "body",
        [b"", b"{}", b"null", b"<html>", b"[1]", b"[NaN]", as_bytes([a_transaction()])[:-1], b"[" * 100_000],
        ids=["nothing", "object", "null", "html", "number", "nan", "cut", "deep"],
    )
    async def test_that_is_no_list_of_transactions_is_malformed(
        self, client: TossClient, toss: respx.MockRouter, body: bytes
    ) -> None:
        toss.get(LIST).respond(content=body)

        assert unknown(await listed(client)).because is UnknownBecause.MALFORMED

    @pytest.mark.parametrize(("size", "is_read"), [(MAX_LIST_BYTES, True), (MAX_LIST_BYTES + 1, False)])
    async def test_may_be_long_and_no_longer_than_that(
        self, client: TossClient, toss: respx.MockRouter, *, size: int, is_read: bool
    ) -> None:
        toss.get(LIST).respond(content=as_bytes([a_transaction()]).ljust(size))

        assert isinstance(await listed(client), TransactionPage) is is_read


class TestNoPage:
    @pytest.mark.parametrize(
        ("status", "code", "because"),
        [
            (400, "INVALID_TRANSACTION_KEY", UnknownBecause.MISCONFIGURED),
            (400, "INVALID_DATE", UnknownBecause.MISCONFIGURED),
            (400, "EXCEED_MAX_QUERY_LIMIT", UnknownBecause.MISCONFIGURED),
            (401, "UNAUTHORIZED_KEY", UnknownBecause.MISCONFIGURED),
            (403, "FORBIDDEN_CONSECUTIVE_REQUEST", UnknownBecause.ASK_AGAIN),
            (400, "BRAND_NEW", UnknownBecause.UNLISTED),
            (500, "FAILED_INTERNAL_SYSTEM_PROCESSING", UnknownBecause.PG_ERROR),
            (429, "TOO_MANY", UnknownBecause.ASK_AGAIN),
        ],
    )
    async def test_says_why(
        self, client: TossClient, toss: respx.MockRouter, *, status: int, code: str, because: UnknownBecause
    ) -> None:
        toss.get(LIST).respond(status, json={"code": code, "message": "잘못된 페이징 키 입니다."})

        assert await listed(client) == Unknown(because, code=code, message="잘못된 페이징 키 입니다.")

    @pytest.mark.parametrize("status", [204, 302])
    async def test_comes_with_any_other_status(self, client: TossClient, toss: respx.MockRouter, status: int) -> None:
        toss.get(LIST).respond(status, json=[], headers={"Location": f"{TOSS}/elsewhere"})

        assert await listed(client) == Unknown(UnknownBecause.MALFORMED, message=f"HTTP {status}")

    @pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError])
    async def test_comes_over_a_connection_that_breaks(
        self, client: TossClient, toss: respx.MockRouter, error: type[httpx.TransportError]
    ) -> None:
        toss.get(LIST).mock(side_effect=error("lost"))

        assert unknown(await listed(client)).because is UnknownBecause.NO_ANSWER

    async def test_again_and_again_leaves_confirms_and_look_ups_alone(
        self, client: TossClient, toss: respx.MockRouter
    ) -> None:
        route = toss.get(LIST).respond(503)
        toss.get(f"/v1/payments/{PAYMENT_KEY}").respond(json=a_payment())
        for _ in range(3):
            await listed(client)

        assert unknown(await listed(client)).because is UnknownBecause.CIRCUIT_OPEN
        assert route.call_count == 3
        assert client.is_available
        assert isinstance(await look_up(client), Approved)

    async def test_is_counted_and_logged_without_a_payment(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.get(LIST).mock(side_effect=[httpx.Response(503), httpx.Response(200, json=[a_transaction()])])

        with capture_logs() as logs:
            await listed(client)
            await listed(client)

        assert [(entry["call"], entry["kind"]) for entry in logs] == [
            ("list_transactions", "pg_error"),
            ("list_transactions", "listed"),
        ]
        assert PAYMENT_KEY not in str(logs)


async def confirm(client: TossClient) -> Answer:
    return await client.confirm(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT, idempotency_key="key")


async def look_up(client: TossClient) -> Answer:
    return await client.look_up(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT)


def paced(call: str) -> float:
    return REGISTRY.get_sample_value("pg_paced_seconds_count", {"call": call}) or 0.0


@pytest.fixture
async def slow(toss: respx.MockRouter) -> AsyncIterator[TossClient]:
    """A client with one request in 100 seconds: the second one of a story never gets its turn in time."""
    async with TossClient(
        base_url=TOSS,
        secret_key=SECRET_KEY,
        requests_per_second=0.01,
        transport=httpx.MockTransport(toss.async_handler),
    ) as client:
        yield client


class TestPace:
    async def test_counts_every_request(self, slow: TossClient, toss: respx.MockRouter) -> None:
        toss.get(f"/v1/payments/{PAYMENT_KEY}").respond(json=a_payment())
        assert isinstance(await look_up(slow), Approved)

        calls = [
            await confirm(slow),
            await look_up(slow),
            await slow.look_up_order(ORDER_ID, amount=AMOUNT),
            await slow.refund(PAYMENT_KEY, an_order()),
            await slow.cancel(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT, reason="r", idempotency_key="key"),
            await listed(slow),
        ]

        assert toss.calls.call_count == 1
        for answer in calls:
            assert isinstance(answer, Unknown)
            assert (answer.because, answer.message) == (UnknownBecause.NOT_SENT, "no turn in time")
            assert answer.retry_after is not None
            assert timedelta(seconds=90) < answer.retry_after <= timedelta(seconds=100)

    async def test_says_nothing_about_toss(self, slow: TossClient, toss: respx.MockRouter) -> None:
        toss.post("/v1/payments/confirm").respond(json=a_payment())

        for _ in range(10):
            await confirm(slow)

        assert slow.is_available

    async def test_is_no_part_of_the_deadline(self, toss: respx.MockRouter) -> None:
        toss.get(f"/v1/payments/{PAYMENT_KEY}").respond(json=a_payment())
        async with TossClient(
            base_url=TOSS,
            secret_key=SECRET_KEY,
            requests_per_second=1,
            look_up_deadline=timedelta(seconds=0.5),
            transport=httpx.MockTransport(toss.async_handler),
        ) as client:
            before = paced("look_up")
            answers = await asyncio.gather(*(look_up(client) for _ in range(2)))

        assert all(isinstance(answer, Approved) for answer in answers)
        assert paced("look_up") == before + 2

    @pytest.mark.parametrize("rate", [0, -1.0, float("nan")])
    def test_that_lets_nothing_go_is_refused(self, rate: float) -> None:
        with pytest.raises(ValueError, match="pace"):
            TossClient(base_url=TOSS, secret_key=SECRET_KEY, requests_per_second=rate)


class TestTooMany:
    """A 429 with `Retry-After` is a wish about all calls, not only about the one that it answers."""

    @pytest.fixture
    async def scolded(self, client: TossClient, toss: respx.MockRouter) -> TossClient:
        toss.get(f"/v1/payments/{PAYMENT_KEY}").respond(429, headers={"Retry-After": "86400"})
        await look_up(client)
        return client

    async def test_keeps_look_ups_refunds_and_lists_back(self, scolded: TossClient, toss: respx.MockRouter) -> None:
        for answer in (await look_up(scolded), await listed(scolded), await scolded.refund(PAYMENT_KEY, an_order())):
            assert isinstance(answer, Unknown)
            assert answer.because is UnknownBecause.NOT_SENT
            assert answer.retry_after is not None
            # Not the day that was asked for.
            assert timedelta(minutes=4) < answer.retry_after <= timedelta(minutes=5)
        assert toss.calls.call_count == 1

    async def test_lets_a_buyers_confirm_go_within_a_second(self, scolded: TossClient, toss: respx.MockRouter) -> None:
        toss.post("/v1/payments/confirm").respond(json=a_payment())

        async with asyncio.timeout(4):
            answer = await confirm(scolded)

        assert isinstance(answer, Approved)

    @pytest.mark.parametrize(
        "reply",
        [
            httpx.Response(429),
            httpx.Response(429, headers={"Retry-After": "0"}),
            httpx.Response(429, headers={"Retry-After": "soon"}),
            httpx.Response(503, headers={"Retry-After": "60"}),
        ],
    )
    async def test_without_a_wish_holds_nothing_back(
        self, client: TossClient, toss: respx.MockRouter, reply: httpx.Response
    ) -> None:
        toss.get(f"/v1/payments/{PAYMENT_KEY}").mock(side_effect=[reply, httpx.Response(200, json=a_payment())])

        await look_up(client)

        assert isinstance(await look_up(client), Approved)


class TestMerchant:
    @pytest.mark.parametrize(
        ("told", "known"), [("tvivarepubl", "tvivarepubl"), (None, None), (["x"], None), ("x" * 65, None)]
    )
    async def test_is_told_where_it_can_be_read(
        self, client: TossClient, toss: respx.MockRouter, *, told: object, known: str | None
    ) -> None:
        toss.get(f"/v1/payments/{PAYMENT_KEY}").respond(content=json.dumps(a_payment(mId=told)))

        answer = await look_up(client)

        assert isinstance(answer, Approved)
        assert answer.payment.merchant_id == known
