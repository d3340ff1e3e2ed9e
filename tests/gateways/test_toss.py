"""The client on the wire: what it sends, what it makes of every way in which an answer can fail to come."""

import asyncio
import base64
import inspect
import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
import respx
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from payments.gateways.breaker import Breaker
from payments.gateways.pg import (
    Answer,
    Approved,
    Declined,
    DepositAwaited,
    PaymentGateway,
    Unknown,
    UnknownBecause,
)
from payments.gateways.toss import MAX_BODY_BYTES, TossClient
from payments.gateways.toss_codes import CodeClass
from tests.gateways.conftest import SECRET_KEY, TOSS, HandClock
from tests.gateways.loopback import Loopback, answering, loopback, never_answering, ok_reply
from tests.gateways.test_toss_codes import EXPECTED
from tests.gateways.toss_builders import (
    AMOUNT,
    ORDER_ID,
    PAYMENT_KEY,
    SECRET,
    a_payment,
    a_virtual_account_payment,
    as_bytes,
)

IDEMPOTENCY_KEY = "0198c0de-0000-7000-8000-000000000001"
CONFIRM = "/v1/payments/confirm"
LOOK_UP = f"/v1/payments/{PAYMENT_KEY}"
LOOK_UP_ORDER = f"/v1/payments/orders/{ORDER_ID}"


def client_of(
    server: Loopback,
    *,
    read_timeout: timedelta = timedelta(seconds=30),
    deadline: timedelta | None = None,
    look_up_deadline: timedelta = timedelta(seconds=10),
    max_concurrent: int = 50,
    breaker: Breaker | None = None,
) -> TossClient:
    """A client on real sockets; its breaker stays out of the story unless the story brings one."""
    return TossClient(
        base_url=server.url,
        secret_key=SECRET_KEY,
        read_timeout=read_timeout,
        deadline=deadline,
        look_up_deadline=look_up_deadline,
        max_concurrent=max_concurrent,
        slot_wait=timedelta(seconds=0.05),
        breaker=breaker or Breaker(failures=1_000_000, pause=timedelta(seconds=1)),
        look_up_breaker=Breaker(failures=1_000_000, pause=timedelta(seconds=1)),
    )


async def confirm(client: PaymentGateway, **changes: str) -> Answer:
    asked = {"payment_key": PAYMENT_KEY, "order_id": ORDER_ID, "idempotency_key": IDEMPOTENCY_KEY, **changes}
    return await client.confirm(
        asked["payment_key"], order_id=asked["order_id"], amount=AMOUNT, idempotency_key=asked["idempotency_key"]
    )


async def look_up(client: PaymentGateway) -> Answer:
    return await client.look_up(PAYMENT_KEY, order_id=ORDER_ID, amount=AMOUNT)


def because(answer: Answer) -> UnknownBecause:
    assert isinstance(answer, Unknown), answer
    return answer.because


class TestRequest:
    async def test_confirm_is_sent_exactly(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.post(CONFIRM).respond(json=a_payment())

        answer = await confirm(client)

        assert isinstance(answer, Approved)
        request = route.calls.last.request
        assert str(request.url) == f"{TOSS}/v1/payments/confirm"
        assert request.headers["Authorization"] == f"Basic {base64.b64encode(f'{SECRET_KEY}:'.encode()).decode()}"
        assert request.headers["Idempotency-Key"] == IDEMPOTENCY_KEY
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["Accept"] == "application/json"
        assert request.headers["Accept-Encoding"] == "identity"
        assert json.loads(request.content) == {"paymentKey": PAYMENT_KEY, "orderId": ORDER_ID, "amount": AMOUNT}

    async def test_look_up_asks_for_the_payment_key(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.get(LOOK_UP).respond(json=a_virtual_account_payment())

        answer = await look_up(client)

        assert isinstance(answer, DepositAwaited)
        assert "Idempotency-Key" not in route.calls.last.request.headers
        assert route.calls.last.request.content == b""

    async def test_look_up_order_asks_for_the_order(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.get(LOOK_UP_ORDER).respond(json=a_payment())

        assert isinstance(await client.look_up_order(ORDER_ID, amount=AMOUNT), Approved)

    async def test_the_timeouts_are_set_for_every_phase(self, toss: respx.MockRouter) -> None:
        route = toss.post(CONFIRM).respond(json=a_payment())
        read, connect = timedelta(seconds=20), timedelta(seconds=2)
        transport = httpx.MockTransport(toss.async_handler)

        async with TossClient(
            base_url=TOSS, secret_key=SECRET_KEY, read_timeout=read, connect_timeout=connect, transport=transport
        ) as client:
            await confirm(client)

        sent = route.calls.last.request.extensions["timeout"]
        assert sent == {"connect": 2.0, "read": 20.0}

    def test_it_is_a_payment_gateway(self, client: TossClient) -> None:
        gateway: PaymentGateway = client

        assert gateway.is_available


class TestCaller:
    """What must not reach a URL or a header is a mistake of ours, found before anything is sent."""

    @pytest.mark.parametrize("key", ["", "..", "../settlements", "a/cancel", "a?x=1", "a#b", "%2e%2e", "x" * 201])
    async def test_payment_key_that_would_change_the_address_is_refused(
        self, client: TossClient, toss: respx.MockRouter, key: str
    ) -> None:
        with pytest.raises(ValueError, match="payment key"):
            await confirm(client, payment_key=key)
        with pytest.raises(ValueError, match="payment key"):
            await client.look_up(key, order_id=ORDER_ID, amount=AMOUNT)

        assert toss.calls.call_count == 0

    @pytest.mark.parametrize("order_id", ["", "short", "../../settlements", "order 00001", "x" * 65])
    async def test_order_id_that_toss_would_not_take_is_refused(
        self, client: TossClient, toss: respx.MockRouter, order_id: str
    ) -> None:
        with pytest.raises(ValueError, match="order id"):
            await confirm(client, order_id=order_id)
        with pytest.raises(ValueError, match="order id"):
            await client.look_up_order(order_id, amount=AMOUNT)

        assert toss.calls.call_count == 0

    @pytest.mark.parametrize("key", ["", "한글", "a\r\nX-Evil: 1", "a\u0000", "a b", "x" * 301])
    async def test_idempotency_key_that_is_no_header_is_refused(
        self, client: TossClient, toss: respx.MockRouter, key: str
    ) -> None:
        with pytest.raises(ValueError, match="idempotency key"):
            await confirm(client, idempotency_key=key)

        assert toss.calls.call_count == 0

    @pytest.mark.parametrize("amount", [0, -1])
    async def test_an_amount_below_one_won_is_refused(self, client: TossClient, amount: int) -> None:
        with pytest.raises(ValueError, match="one won"):
            await client.look_up_order(ORDER_ID, amount=amount)

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "api.tosspayments.com",
            "ftp://a.test",
            "https://",
            "https://u:p@a.test",
            "https://a.test/v1",
            "https://a.test?x",
            "https://a.test:99999",
            "https://a.test:0",
            "https://[::1",
        ],
    )
    def test_an_address_that_is_no_origin_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="address of Toss"):
            TossClient(base_url=url, secret_key=SECRET_KEY)

    @pytest.mark.parametrize("key", ["", "\ufeff" + SECRET_KEY, SECRET_KEY + ":", SECRET_KEY + "\n", "비밀"])
    def test_a_secret_key_that_would_break_the_header_is_refused_without_being_told(self, key: str) -> None:
        with pytest.raises(ValueError, match="secret key") as caught:
            TossClient(base_url=TOSS, secret_key=key)

        assert SECRET_KEY not in str(caught.value)


BECAUSE = {
    CodeClass.AMBIGUOUS: UnknownBecause.PG_ERROR,
    CodeClass.ASK_AGAIN: UnknownBecause.ASK_AGAIN,
    CodeClass.OURS: UnknownBecause.MISCONFIGURED,
}


class TestCodes:
    @pytest.mark.parametrize(("status", "code", "kind"), EXPECTED)
    async def test_every_listed_code_ends_a_confirm_as_the_table_says(
        self, client: TossClient, toss: respx.MockRouter, *, status: int, code: str, kind: CodeClass
    ) -> None:
        toss.post(CONFIRM).respond(status, json={"code": code, "message": "결제가 거절되었습니다."})

        answer = await confirm(client)

        if kind is CodeClass.REFUSED:
            assert answer == Declined(code=code, message="결제가 거절되었습니다.")
        else:
            assert answer == Unknown(BECAUSE[kind], code=code, message="결제가 거절되었습니다.")

    @pytest.mark.parametrize(("status", "code"), [(status, code) for status, code, _ in EXPECTED])
    async def test_no_code_makes_a_look_up_decline(
        self, client: TossClient, toss: respx.MockRouter, *, status: int, code: str
    ) -> None:
        toss.get(LOOK_UP).respond(status, json={"code": code, "message": ""})

        assert isinstance(await look_up(client), Unknown)

    @pytest.mark.parametrize("status", [400, 403, 404, 409])
    async def test_an_unlisted_code_is_unknown(self, client: TossClient, toss: respx.MockRouter, status: int) -> None:
        toss.post(CONFIRM).respond(status, json={"code": "BRAND_NEW", "message": "새 오류"})

        assert await confirm(client) == Unknown(UnknownBecause.UNLISTED, code="BRAND_NEW", message="새 오류")

    async def test_a_refusal_with_a_server_error_is_not_believed(
        self, client: TossClient, toss: respx.MockRouter
    ) -> None:
        toss.post(CONFIRM).respond(500, json={"code": "REJECT_CARD_COMPANY", "message": "거절"})

        assert because(await confirm(client)) is UnknownBecause.PG_ERROR

    async def test_the_pgs_wish_to_wait_is_kept_in_seconds(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.post(CONFIRM).respond(429, headers={"Retry-After": "12"})

        answer = await confirm(client)

        assert isinstance(answer, Unknown)
        assert (answer.because, answer.retry_after) == (UnknownBecause.ASK_AGAIN, timedelta(seconds=12))

    async def test_the_pgs_wish_to_wait_is_kept_as_a_date(self, client: TossClient, toss: respx.MockRouter) -> None:
        until = datetime.now(UTC) + timedelta(seconds=100)
        toss.post(CONFIRM).respond(429, headers={"Retry-After": format_datetime(until, usegmt=True)})

        answer = await confirm(client)

        assert isinstance(answer, Unknown)
        assert answer.retry_after is not None
        assert timedelta(seconds=50) < answer.retry_after <= timedelta(seconds=100)

    async def test_an_unknown_payment_is_not_found_by_a_look_up(
        self, client: TossClient, toss: respx.MockRouter
    ) -> None:
        toss.get(LOOK_UP).respond(404, json={"code": "NOT_FOUND_PAYMENT", "message": "존재하지 않는 결제 정보 입니다."})

        assert because(await look_up(client)) is UnknownBecause.NOT_FOUND


NOT_SENT_AFTER_TWO_ATTEMPTS: set[type[Exception]] = {httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout}
NOT_SENT_AFTER_ONE: set[type[Exception]] = {httpx.UnsupportedProtocol, httpx.InvalidURL}
HTTPX_EXCEPTIONS: list[type[Exception]] = [
    kind for _, kind in inspect.getmembers(httpx, inspect.isclass) if issubclass(kind, Exception)
]


def raised(kind: type[Exception]) -> Exception:
    request = httpx.Request("POST", TOSS)
    if kind is httpx.HTTPStatusError:
        return httpx.HTTPStatusError("lost", request=request, response=httpx.Response(500))
    wants_message = "message" in inspect.signature(kind).parameters
    return kind("lost") if wants_message else kind()


class TestHttpxExceptions:
    """For money only one thing counts: whether the request can have reached Toss."""

    def test_the_walk_meets_every_family(self) -> None:
        families = {httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict}

        assert families <= set(HTTPX_EXCEPTIONS)
        assert len(HTTPX_EXCEPTIONS) >= 28

    @pytest.mark.parametrize("kind", HTTPX_EXCEPTIONS)
    async def test_each_is_sorted_by_whether_toss_may_have_been_asked(
        self, client: TossClient, toss: respx.MockRouter, kind: type[Exception]
    ) -> None:
        route = toss.post(CONFIRM).mock(side_effect=raised(kind))

        answer = await confirm(client)

        not_sent = kind in NOT_SENT_AFTER_TWO_ATTEMPTS | NOT_SENT_AFTER_ONE
        assert answer == Unknown(
            UnknownBecause.NOT_SENT if not_sent else UnknownBecause.NO_ANSWER, message=kind.__name__
        )
        assert answer.was_sent is not not_sent
        assert route.call_count == (2 if kind in NOT_SENT_AFTER_TWO_ATTEMPTS else 1)

    @pytest.mark.parametrize("error", [ssl.SSLError("bad record"), OSError("strange"), TimeoutError()])
    async def test_what_httpx_lets_through_is_a_lost_answer(
        self, client: TossClient, toss: respx.MockRouter, error: OSError
    ) -> None:
        toss.post(CONFIRM).mock(side_effect=error)

        assert because(await confirm(client)) is UnknownBecause.NO_ANSWER

    @pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
    async def test_the_second_attempt_carries_the_same_key(
        self, client: TossClient, toss: respx.MockRouter, kind: type[httpx.TransportError]
    ) -> None:
        route = toss.post(CONFIRM).mock(side_effect=[kind("no"), httpx.Response(200, json=a_payment())])

        answer = await confirm(client)

        assert isinstance(answer, Approved)
        first, second = (call.request for call in route.calls)
        assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"] == IDEMPOTENCY_KEY
        assert first.content == second.content


class TestNoConnection:
    async def test_a_refused_port_is_not_sent(self) -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can answer there
            url = f"http://127.0.0.1:{held.getsockname()[1]}"

            async with TossClient(base_url=url, secret_key=SECRET_KEY) as client:
                answer = await confirm(client)

        assert answer == Unknown(UnknownBecause.NOT_SENT, message="ConnectError")

    async def test_a_certificate_of_nobody_is_not_trusted(self, tmp_path: Path) -> None:
        async with loopback(answering(ok_reply(as_bytes(a_payment()))), tls=self_signed(tmp_path)) as server:
            address = f"https://127.0.0.1:{server.port}"
            async with TossClient(base_url=address, secret_key=SECRET_KEY) as client:
                answer = await confirm(client)

        assert answer == Unknown(UnknownBecause.NOT_SENT, message="ConnectError")
        assert server.requests == []

    async def test_the_environment_cannot_put_anything_between(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        async with loopback(answering(ok_reply(as_bytes(a_payment())))) as server, loopback(never_answering) as proxy:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
            monkeypatch.delenv("NO_PROXY", raising=False)

            async with client_of(server) as client:
                answer = await confirm(client)

        assert isinstance(answer, Approved)
        assert proxy.connections == 0


def self_signed(folder: Path) -> ssl.SSLContext:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [openssl, *request.split(), "-keyout", os.fspath(key), "-out", os.fspath(certificate)],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def reset(writer: asyncio.StreamWriter) -> None:
    held = writer.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


class TestLostAnswer:
    """Real sockets: the request was sent, and what came back is not a complete answer."""

    async def test_an_answer_cut_short_is_never_taken_for_one(self, pytestconfig: pytest.Config) -> None:
        whole = ok_reply(as_bytes(a_payment()))
        step = 1 if pytestconfig.getoption("--proof") else 5  # bytes
        lengths = [*range(0, len(whole), step), len(whole)]
        cuts = iter(lengths)

        async def cut_later_and_later(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(whole[: next(cuts)])
            await writer.drain()

        async with loopback(cut_later_and_later) as server, client_of(server) as client:
            answers = [await confirm(client) for _ in lengths]

        assert {because(answer) for answer in answers[:-1]} == {UnknownBecause.NO_ANSWER}
        assert isinstance(answers[-1], Approved)
        assert server.connections == len(answers)

    async def test_without_a_length_a_cut_answer_is_malformed(self) -> None:
        head, body = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", as_bytes(a_payment())
        half = head + body[: len(body) // 2]

        async with loopback(answering(half)) as server, client_of(server) as client:
            assert because(await confirm(client)) is UnknownBecause.MALFORMED

    async def test_a_reset_is_a_lost_answer(self) -> None:
        async def reset_it(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            reset(writer)

        async with loopback(reset_it) as server, client_of(server) as client:
            answer = await confirm(client)

        assert because(answer) is UnknownBecause.NO_ANSWER
        assert server.connections == 1

    async def test_silence_ends_at_the_read_timeout(self) -> None:
        brief = timedelta(seconds=0.2)
        async with loopback(never_answering) as server, client_of(server, read_timeout=brief) as client:
            answer = await confirm(client)

        assert answer == Unknown(UnknownBecause.NO_ANSWER, message="ReadTimeout")
        assert server.connections == 1

    async def test_a_dripping_answer_ends_at_the_deadline(self) -> None:
        async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{")
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)

        async with loopback(drip) as server, client_of(server, deadline=timedelta(seconds=0.3)) as client:
            answer = await confirm(client)

        assert answer == Unknown(UnknownBecause.NO_ANSWER, message="no complete answer before the deadline")

    async def test_a_dripping_head_ends_at_the_deadline_of_a_look_up(self) -> None:
        async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while not writer.is_closing():
                writer.write(b"X: y\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)

        async with loopback(drip) as server, client_of(server, look_up_deadline=timedelta(seconds=0.3)) as client:
            assert because(await look_up(client)) is UnknownBecause.NO_ANSWER

    async def test_an_endless_body_is_cut_off(self) -> None:
        async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            while not writer.is_closing():
                writer.write(b" " * 65_536)
                await writer.drain()

        async with loopback(flood) as server, client_of(server) as client:
            assert because(await confirm(client)) is UnknownBecause.MALFORMED

    async def test_an_endless_head_is_cut_off(self) -> None:
        async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while not writer.is_closing():
                writer.write(b"X: " + b"y" * 65_536 + b"\r\n")
                await writer.drain()

        async with loopback(flood) as server, client_of(server) as client:
            assert because(await confirm(client)) is UnknownBecause.NO_ANSWER

    async def test_no_http_at_all_is_a_lost_answer(self) -> None:
        async with loopback(answering(b"SSH-2.0-OpenSSH_9.9\r\n")) as server, client_of(server) as client:
            assert because(await confirm(client)) is UnknownBecause.NO_ANSWER

    async def test_a_redirect_is_not_followed(self) -> None:
        async with loopback(answering(ok_reply(as_bytes(a_payment())))) as elsewhere:
            away = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere.url}/\r\nContent-Length: 0\r\n\r\n"
            async with loopback(answering(away.encode())) as server, client_of(server) as client:
                answer = await confirm(client)

        assert because(answer) is UnknownBecause.MALFORMED
        assert elsewhere.connections == 0

    async def test_a_compressed_answer_is_not_unfolded(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.post(CONFIRM).respond(200, headers={"Content-Encoding": "x-gzip"}, json=a_payment())

        assert because(await confirm(client)) is UnknownBecause.MALFORMED

    @pytest.mark.parametrize(("size", "kind"), [(MAX_BODY_BYTES, Approved), (MAX_BODY_BYTES + 1, Unknown)])
    async def test_the_cap_is_exact(
        self, client: TossClient, toss: respx.MockRouter, *, size: int, kind: type[Answer]
    ) -> None:
        toss.post(CONFIRM).respond(200, content=as_bytes(a_payment()).ljust(size))

        assert isinstance(await confirm(client), kind)

    async def test_the_page_of_a_proxy_is_an_error_of_the_pg(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.post(CONFIRM).respond(502, html="<html><h1>502 Bad Gateway</h1></html>")

        assert because(await confirm(client)) is UnknownBecause.PG_ERROR

    async def test_a_page_with_200_is_malformed(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.post(CONFIRM).respond(200, html="<html>maintenance</html>")

        assert because(await confirm(client)) is UnknownBecause.MALFORMED


class TestCancellation:
    async def test_a_cancelled_call_stays_cancelled(self) -> None:
        async with loopback(never_answering) as server, client_of(server) as client:
            call = asyncio.create_task(confirm(client))
            await server.asked.wait()

            call.cancel()

            with pytest.raises(asyncio.CancelledError):
                await call

    async def test_a_cancelled_call_gives_its_slot_back(self) -> None:
        scripts = iter([never_answering, answering(ok_reply(as_bytes(a_payment())))])

        async def hang_then_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await next(scripts)(reader, writer)

        async with loopback(hang_then_answer) as server, client_of(server, max_concurrent=1) as client:
            call = asyncio.create_task(confirm(client))
            await server.asked.wait()
            call.cancel()
            await asyncio.wait([call])

            assert isinstance(await confirm(client), Approved)


class TestBulkhead:
    async def test_a_call_without_a_slot_is_not_sent(self) -> None:
        async with loopback(never_answering) as server, client_of(server, max_concurrent=1) as client:
            first = asyncio.create_task(confirm(client))
            await server.asked.wait()

            answer = await look_up(client)

            first.cancel()
        assert answer == Unknown(UnknownBecause.NOT_SENT, message="no free slot")
        assert len(server.requests) == 1

    async def test_no_more_calls_than_agreed_are_under_way(self) -> None:
        under_way = 0
        most = 0

        async def serve(_: httpx.Request) -> httpx.Response:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            for _turn in range(5):
                await asyncio.sleep(0)
            under_way -= 1
            return httpx.Response(200, json=a_payment())

        transport = httpx.MockTransport(serve)
        async with TossClient(base_url=TOSS, secret_key=SECRET_KEY, max_concurrent=3, transport=transport) as client:
            answers = await asyncio.gather(*(confirm(client) for _ in range(20)))

        assert all(isinstance(answer, Approved) for answer in answers)
        assert most == 3

    async def test_a_full_bulkhead_says_nothing_about_toss(self) -> None:
        touchy = Breaker(failures=1, pause=timedelta(seconds=60))
        async with loopback(never_answering) as server, client_of(server, max_concurrent=1, breaker=touchy) as client:
            first = asyncio.create_task(confirm(client))
            await server.asked.wait()

            await look_up(client)

            assert client.is_available
            first.cancel()


TROUBLES = {
    "silence": httpx.ReadTimeout("silent"),
    "no connection": httpx.ConnectError("refused"),
    "server error": httpx.Response(503),
    "server error of Toss": httpx.Response(500, json={"code": "FAILED_INTERNAL_SYSTEM_PROCESSING", "message": ""}),
    "unauthorized": httpx.Response(401),
    "wrong key": httpx.Response(401, json={"code": "UNAUTHORIZED_KEY", "message": ""}),
    "keys that are no pair": httpx.Response(400, json={"code": "INVALID_API_KEY", "message": ""}),
    "no colon": httpx.Response(403, json={"code": "INCORRECT_BASIC_AUTH_FORMAT", "message": ""}),
}


class TestBreaker:
    async def test_after_failures_in_a_row_toss_is_left_alone(self, client: TossClient, toss: respx.MockRouter) -> None:
        route = toss.post(CONFIRM).respond(500)
        for _ in range(3):
            assert because(await confirm(client)) is UnknownBecause.PG_ERROR

        answer = await confirm(client)

        assert answer == Unknown(UnknownBecause.CIRCUIT_OPEN, retry_after=timedelta(seconds=10))
        assert not client.is_available
        assert not answer.was_sent
        assert route.call_count == 3

    @pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
    async def test_what_would_meet_every_payment_opens_it(
        self, client: TossClient, toss: respx.MockRouter, trouble: httpx.Response | Exception
    ) -> None:
        if isinstance(trouble, httpx.Response):
            toss.post(CONFIRM).mock(return_value=trouble)
        else:
            toss.post(CONFIRM).mock(side_effect=trouble)

        for _ in range(3):
            await confirm(client)

        assert not client.is_available

    async def test_look_ups_that_work_do_not_hide_confirms_that_fail(
        self, client: TossClient, toss: respx.MockRouter
    ) -> None:
        toss.post(CONFIRM).respond(500)
        toss.get(LOOK_UP).respond(json=a_payment())

        for _ in range(3):
            await confirm(client)
            await look_up(client)

        assert not client.is_available
        assert isinstance(await look_up(client), Approved)

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (403, "REJECT_CARD_COMPANY"),
            (400, "ALREADY_PROCESSED_PAYMENT"),
            (400, "PROVIDER_ERROR"),
            (400, "BRAND_NEW"),
            (403, "FORBIDDEN_REQUEST"),  # a buyer provokes it with another order's payment key
            (404, "NOT_FOUND_PAYMENT_SESSION"),
            (429, "TOO_MANY"),
        ],
    )
    async def test_what_concerns_one_payment_does_not_open_it(
        self, client: TossClient, toss: respx.MockRouter, *, status: int, code: str
    ) -> None:
        toss.post(CONFIRM).respond(status, json={"code": code, "message": ""})

        for _ in range(10):
            await confirm(client)

        assert client.is_available

    async def test_one_probe_is_sent_after_the_pause_while_others_are_refused(self, clock: HandClock) -> None:
        released = asyncio.Event()
        asked = asyncio.Event()
        healthy = False

        async def serve(_: httpx.Request) -> httpx.Response:
            if not healthy:
                return httpx.Response(503)
            asked.set()
            await released.wait()
            return httpx.Response(200, json=a_payment())

        async with TossClient(
            base_url=TOSS,
            secret_key=SECRET_KEY,
            breaker=Breaker(failures=1, pause=timedelta(seconds=10), clock=clock),
            transport=httpx.MockTransport(serve),
        ) as client:
            await confirm(client)
            clock.now += 10
            healthy = True

            probe = asyncio.create_task(confirm(client))
            await asked.wait()
            assert because(await confirm(client)) is UnknownBecause.CIRCUIT_OPEN
            released.set()

            assert isinstance(await probe, Approved)
            assert isinstance(await confirm(client), Approved)

    async def test_a_cancelled_probe_does_not_keep_the_circuit_open(self, clock: HandClock) -> None:
        asked = asyncio.Event()
        replies = iter([httpx.Response(503), None, httpx.Response(200, json=a_payment())])

        async def serve(_: httpx.Request) -> httpx.Response:
            reply = next(replies)
            if reply is None:
                asked.set()
                await asyncio.Event().wait()
            assert reply is not None
            return reply

        async with TossClient(
            base_url=TOSS,
            secret_key=SECRET_KEY,
            breaker=Breaker(failures=1, pause=timedelta(seconds=10), clock=clock),
            transport=httpx.MockTransport(serve),
        ) as client:
            await confirm(client)
            clock.now += 10
            probe = asyncio.create_task(confirm(client))
            await asked.wait()

            probe.cancel()
            await asyncio.wait([probe])

            assert isinstance(await confirm(client), Approved)


def counted(call: str, kind: str) -> float:
    return REGISTRY.get_sample_value("pg_answers_total", {"call": call, "kind": kind}) or 0.0


class TestObservability:
    @pytest.mark.parametrize(
        ("reply", "kind"),
        [
            (httpx.Response(200, json=a_payment()), "approved"),
            (httpx.Response(200, json=a_virtual_account_payment()), "deposit_awaited"),
            (httpx.Response(200, json=a_payment(status="CANCELED", balanceAmount=0)), "cancelled"),
            (httpx.Response(403, json={"code": "REJECT_CARD_COMPANY", "message": ""}), "declined"),
            (httpx.Response(500), "pg_error"),
            (httpx.Response(200, json=a_payment(totalAmount=1)), "mismatch"),
        ],
        ids=["approved", "deposit_awaited", "cancelled", "declined", "pg_error", "mismatch"],
    )
    async def test_each_answer_is_counted_and_logged_by_its_kind(
        self, client: TossClient, toss: respx.MockRouter, *, reply: httpx.Response, kind: str
    ) -> None:
        toss.post(CONFIRM).mock(return_value=reply)
        before = counted("confirm", kind)

        with capture_logs() as logs:
            answer = await confirm(client)

        assert counted("confirm", kind) == before + 1
        [entry] = logs
        assert entry["event"] == ("pg.answer_unknown" if isinstance(answer, Unknown) else "pg.answered")
        assert (entry["call"], entry["kind"], entry["order_id"]) == ("confirm", kind, ORDER_ID)
        assert isinstance(entry["milliseconds"], int)

    async def test_the_duration_is_measured(self, client: TossClient, toss: respx.MockRouter) -> None:
        toss.get(LOOK_UP).respond(json=a_payment())
        before = REGISTRY.get_sample_value("pg_call_seconds_count", {"call": "look_up"}) or 0.0

        await look_up(client)

        assert REGISTRY.get_sample_value("pg_call_seconds_count", {"call": "look_up"}) == before + 1

    @pytest.mark.parametrize(
        "reply",
        [
            httpx.Response(200, json=a_payment()),
            httpx.Response(200, json=a_payment(totalAmount=SECRET)),
            httpx.Response(200, json=a_payment(totalAmount=1)),
            httpx.Response(401, json={"code": "UNAUTHORIZED_KEY", "message": "인증되지 않은 시크릿 키"}),
        ],
        ids=["approved", "malformed", "mismatch", "unauthorized"],
    )
    async def test_no_secret_and_no_whole_payment_key_is_shown(
        self, client: TossClient, toss: respx.MockRouter, reply: httpx.Response
    ) -> None:
        toss.post(CONFIRM).mock(return_value=reply)

        with capture_logs() as logs:
            answer = await confirm(client)

        shown = f"{logs} {client!r} {client} {client._transport!r}"
        encoded = base64.b64encode(f"{SECRET_KEY}:".encode()).decode()
        for hidden in (SECRET_KEY, encoded, SECRET, PAYMENT_KEY, IDEMPOTENCY_KEY):
            assert hidden not in shown
        assert logs[0]["payment_key_ends"] == PAYMENT_KEY[-6:]
        assert SECRET not in repr(answer)
