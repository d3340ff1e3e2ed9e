"""The client of Toss Payments: asks, waits no longer than agreed, and gives every outcome as a value."""

import asyncio
import base64
import math
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from types import MappingProxyType, TracebackType
from typing import Final, Generic, Self, TypeVar

import httpx
import structlog
from prometheus_client import Counter, Histogram

from payments.gateways.bounded import Unreadable, read_bounded
from payments.gateways.breaker import Breaker
from payments.gateways.pace import NotInTime, Pace
from payments.gateways.pg import (
    Answer,
    Approved,
    CancelAnswer,
    Cancelled,
    Declined,
    DepositAwaited,
    RefundAnswer,
    Refunded,
    RefundOrder,
    RefundRefused,
    TransactionPage,
    Unknown,
    UnknownBecause,
)
from payments.gateways.pooled_transport import PooledTransport
from payments.gateways.retry_after import parse_retry_after
from payments.gateways.toss_answers import (
    LONGEST_RETRY_AFTER,
    Asked,
    Reply,
    read_cancel,
    read_confirm,
    read_look_up,
    read_refund,
)
from payments.gateways.toss_codes import BADLY_ASKED, KEY_FAULTS
from payments.gateways.toss_lists import read_page, transactions_query
from payments.gateways.toss_wire import is_order_id, is_payment_key

log = structlog.get_logger()

MAX_BODY_BYTES: Final = 1_000_000  # a payment is about 2 kB
MAX_LIST_BYTES: Final = 5_000_000  # a full page of transactions is about 0.5 MB
# Toss's pages on lists: an answer takes up to 60 s.
_LIST_READ_TIMEOUT: Final = timedelta(seconds=60)
_LIST_DEADLINE: Final = timedelta(seconds=90)
# Longest waits for a turn. The leases of confirms and refunds have ten seconds to spare, and each asks twice at most.
_PATIENCE: Final = timedelta(seconds=4)
_LIST_PATIENCE: Final = timedelta(seconds=60)
_BUYERS_LONGEST_HOLD: Final = timedelta(seconds=1)
_AROUND_READING: Final = timedelta(seconds=10)  # a slot, two attempts to connect, the pause between them
_CONNECT_ATTEMPTS: Final = 2
_RETRY_PAUSE_SECONDS: Final = (0.05, 0.25)
_LARGEST_PORT: Final = 65_535  # httpx takes more, and the socket then raises what is no error of the network
_UNAUTHORIZED: Final = 401
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = 500
_MAX_REASON_LENGTH: Final = 200
_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,300}")  # Toss's limit; httpx cannot send what is not ASCII
_SURROGATE = re.compile("[\ud800-\udfff]")
_SECRET_KEY = re.compile(r"[!-9;-~]+")  # no colon: it ends the user name in Basic auth

# Raised before a byte of the request could leave: there was no connection to send it on. Trying again may help.
_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
# Raised before a connection is tried, because the address makes no sense. Trying again cannot help.
_NO_ADDRESS = (httpx.UnsupportedProtocol, httpx.InvalidURL)
# Everything else may have reached Toss, LocalProtocolError too: it also ends a request that was half sent. OSError
# stands for what httpx lets through, such as an ssl.SSLError in the middle of an answer.
_LOST = (httpx.HTTPError, httpx.StreamError, httpx.CookieConflict, OSError)

_AnyAnswer = Answer | RefundAnswer | CancelAnswer | TransactionPage
_Read = TypeVar("_Read", bound=_AnyAnswer)

_KINDS: Final[Mapping[type[_AnyAnswer], str]] = MappingProxyType(
    {
        Approved: "approved",
        DepositAwaited: "deposit_awaited",
        Declined: "declined",
        Cancelled: "cancelled",
        Refunded: "refunded",
        RefundRefused: "refund_refused",
        TransactionPage: "listed",
    }
)
_answers = Counter(
    "pg_answers", "Answers of the payment gateway; kinds of unknown stand by their reason", ["call", "kind"]
)
_seconds = Histogram(
    "pg_call_seconds",
    "Wall clock of one call to the payment gateway, waiting for a slot and a turn and retries included",
    ["call"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60),
)
_paced_seconds = Histogram(
    "pg_paced_seconds",
    "How long a request to the payment gateway waited for its turn before it was sent",
    ["call"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60),
)


@dataclass(frozen=True, slots=True)
class _Call(Generic[_Read]):
    name: str
    method: str
    url: httpx.URL
    asked: Asked | None  # None: about no single payment
    read: Callable[[Reply], _Read]
    deadline: timedelta
    breaker: Breaker
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Mapping[str, object] | None = field(default=None, repr=False)  # a buyer's account may stand in it
    read_timeout: timedelta | None = None  # None: the client's
    longest_body: int = MAX_BODY_BYTES
    patience: timedelta = _PATIENCE  # with the pace
    longest_hold: timedelta = LONGEST_RETRY_AFTER  # how far it heeds a 429 to another call


class TossClient:
    """A `PaymentGateway` on Toss Payments. One instance per process and event loop.

    Its calls never raise for what Toss or the network does; a cancelled call stays cancelled.

    Args:
        base_url: Scheme, host and port, such as `https://api.tosspayments.com`.
        secret_key: `test_sk_...`, `live_gsk_...`.
        connect_timeout: For one attempt to connect; there are two.
        read_timeout: The longest silence of Toss. Its pages ask for 60 s for billing and lists and say nothing about
            confirm; what a shorter wait loses is found by recovery.
        deadline: Total wall clock of a confirm, a refund or a cancel, waiting for a slot and connecting included; by
            default ten seconds more than `read_timeout`.
        look_up_deadline: The same for a look-up.
        max_concurrent: Calls under way at the same time; further ones wait for `slot_wait` and are then not sent.
        breaker: Of confirms; closed by default, opens for ten seconds after five failures in a row.
        look_up_breaker: Of look-ups, the same. Apart, because look-ups may work while confirms fail: they must not
            close the circuit of the confirms, and recovery must not wait for it.
        cancel_breaker: Of refunds and cancels, the same. Apart, because a bank that cannot pay back must not keep a
            shop from selling.
        list_breaker: Of lists, the same. Apart, because they are slow and asked for at night only.
        requests_per_second: The pace of all requests together; None for as they come. A call whose turn would not
            come within seconds is not sent. Waiting for it does not count towards a deadline.
        transport: Replaces the network in tests.

    Raises:
        ValueError: The address or the key cannot be right, or nothing would ever be sent at that pace.
    """

    def __init__(  # noqa: PLR0913 - each has its name, and a default that is right in production
        self,
        *,
        base_url: str,
        secret_key: str,
        connect_timeout: timedelta = timedelta(seconds=3),
        read_timeout: timedelta = timedelta(seconds=30),
        deadline: timedelta | None = None,
        look_up_deadline: timedelta = timedelta(seconds=10),
        max_concurrent: int = 50,
        slot_wait: timedelta = timedelta(seconds=2),
        breaker: Breaker | None = None,
        look_up_breaker: Breaker | None = None,
        cancel_breaker: Breaker | None = None,
        list_breaker: Breaker | None = None,
        requests_per_second: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base_url = _checked_base_url(base_url)
        self._confirm_url = httpx.URL(f"{self._base_url}/v1/payments/confirm")
        self._deadline = deadline or read_timeout + _AROUND_READING
        self._look_up_deadline = look_up_deadline
        self._slot_wait = slot_wait
        self._slots = asyncio.Semaphore(max_concurrent)
        self._breaker = breaker or Breaker(failures=5, pause=timedelta(seconds=10))
        self._look_up_breaker = look_up_breaker or Breaker(failures=5, pause=timedelta(seconds=10))
        self._cancel_breaker = cancel_breaker or Breaker(failures=5, pause=timedelta(seconds=10))
        self._list_breaker = list_breaker or Breaker(failures=5, pause=timedelta(seconds=10))
        self._pace = Pace(math.inf if requests_per_second is None else requests_per_second)
        self._headers = _headers(_checked_secret_key(secret_key))
        self._silences = {"connect": connect_timeout.total_seconds(), "read": read_timeout.total_seconds()}
        # Requests go to the transport as they are. A client between them would add what none of them has, cookies,
        # redirects, hooks and a flow of authentication, and take as long for it as for the call itself.
        self._transport = transport or PooledTransport(max_connections=max_concurrent)

    def __repr__(self) -> str:
        return f"TossClient({self._base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    @property
    def is_available(self) -> bool:
        """False while the circuit of confirms is open: one that is asked for now would not be sent."""
        return self._breaker.is_available

    async def confirm(self, payment_key: str, *, order_id: str, amount: int, idempotency_key: str) -> Answer:
        """Ask for the capture of `amount` won (https://docs.tosspayments.com/reference, payment confirm).

        Toss tells repetitions by the key and the address alone and not by the body, so the key must belong to this
        attempt only, and is the same whenever it is repeated.

        Raises:
            ValueError: The caller let something through that must not reach a URL or a header.
        """
        asked = _checked(Asked(payment_key, order_id, amount))
        call = _Call(
            "confirm",
            method="POST",
            url=self._confirm_url,
            asked=asked,
            read=partial(read_confirm, asked=asked),
            deadline=self._deadline,
            breaker=self._breaker,
            headers={"Idempotency-Key": _checked_idempotency_key(idempotency_key)},
            json={"paymentKey": payment_key, "orderId": order_id, "amount": amount},
            longest_hold=_BUYERS_LONGEST_HOLD,  # a buyer waits, and has ten minutes in all
        )
        return await self._ask(call)

    async def refund(self, payment_key: str, order: RefundOrder) -> RefundAnswer:
        """Give captured money back (https://docs.tosspayments.com/reference, payment cancel).

        Toss compares the balance that we believe in with its own and gives nothing back if they differ, so that a
        refund which was carried out unnoticed is not carried out again under another key.

        Raises:
            ValueError: As for `confirm`; also the amounts contradict each other, or a text cannot be sent.
        """
        asked = _checked(Asked(payment_key, order.order_id, order.total_amount))
        body = _refund_body(_checked_order(order))
        read = partial(read_refund, asked=asked, order=order)
        return await self._ask_for_cancel("refund", asked, idempotency_key=order.idempotency_key, body=body, read=read)

    async def cancel(
        self, payment_key: str, *, order_id: str, amount: int, reason: str, idempotency_key: str
    ) -> CancelAnswer:
        """Give up a virtual account before its deposit; `amount` won is what was to be paid.

        Names no amount, because Toss cancels no part of an account that waits; and no balance, because its own is the
        whole amount before the deposit as well as after.

        Raises:
            ValueError: As for `confirm`, or the reason cannot be sent.
        """
        asked = _checked(Asked(payment_key, order_id, amount))
        body = {"cancelReason": _checked_reason(reason)}
        read = partial(read_cancel, asked=asked)
        return await self._ask_for_cancel("cancel", asked, idempotency_key=idempotency_key, body=body, read=read)

    async def _ask_for_cancel(
        self,
        name: str,
        asked: Asked,
        *,
        idempotency_key: str,
        body: Mapping[str, object],
        read: Callable[[Reply], _Read],
    ) -> _Read | Unknown:
        call = _Call(
            name,
            method="POST",
            url=self._url(f"/v1/payments/{asked.payment_key}/cancel"),
            asked=asked,
            read=read,
            deadline=self._deadline,
            breaker=self._cancel_breaker,
            headers={"Idempotency-Key": _checked_idempotency_key(idempotency_key)},
            json=body,
        )
        return await self._ask(call)

    async def look_up(self, payment_key: str, *, order_id: str, amount: int) -> Answer:
        """Ask what happened to a payment.

        Raises:
            ValueError: As for `confirm`.
        """
        asked = _checked(Asked(payment_key, order_id, amount))
        return await self._look_up("look_up", path=f"/v1/payments/{payment_key}", asked=asked)

    async def look_up_order(self, order_id: str, *, amount: int) -> Answer:
        """Ask what happened to an order. Which of several payments of one order Toss shows is not documented.

        Raises:
            ValueError: As for `confirm`.
        """
        asked = _checked(Asked(None, order_id, amount))
        return await self._look_up("look_up_order", path=f"/v1/payments/orders/{order_id}", asked=asked)

    async def list_transactions(
        self, since: datetime, until: datetime, *, after: str | None
    ) -> TransactionPage | Unknown:
        """Ask for a page of the movements between two moments, in whole seconds.

        The times must stay the same from page to page: Toss refuses an `after` that lies outside them.

        Raises:
            ValueError: The times or the transaction key cannot be asked with.
        """
        call = _Call(
            "list_transactions",
            method="GET",
            url=self._url("/v1/transactions").copy_merge_params(transactions_query(since, until, after=after)),
            asked=None,
            read=partial(read_page, after=after),
            deadline=_LIST_DEADLINE,
            breaker=self._list_breaker,
            read_timeout=_LIST_READ_TIMEOUT,
            longest_body=MAX_LIST_BYTES,
            patience=_LIST_PATIENCE,
        )
        return await self._ask(call)

    async def _look_up(self, name: str, *, path: str, asked: Asked) -> Answer:
        call = _Call(
            name,
            method="GET",
            url=self._url(path),
            asked=asked,
            read=partial(read_look_up, asked=asked),
            deadline=self._look_up_deadline,
            breaker=self._look_up_breaker,
        )
        return await self._ask(call)

    async def _ask(self, call: _Call[_Read]) -> _Read | Unknown:
        began = time.monotonic()
        answer = await self._in_slot(call)
        _observe(call, answer, seconds=time.monotonic() - began)
        return answer

    async def _in_slot(self, call: _Call[_Read]) -> _Read | Unknown:
        """The bulkhead: a slow Toss may hold this many calls, and no more of the process than that."""
        if not call.breaker.is_available:
            return _left_alone(call)  # without queueing first
        ends_at = asyncio.get_running_loop().time() + call.deadline.total_seconds()
        try:
            await self._take_slot(min(self._slot_wait, call.deadline))
        except TimeoutError:
            # Says nothing about Toss, so the breaker does not hear of it.
            return Unknown(UnknownBecause.NOT_SENT, message="no free slot")
        try:
            return await self._in_turn(call, ends_at=ends_at)
        finally:
            self._slots.release()

    async def _take_slot(self, patience: timedelta) -> None:
        if not self._slots.locked():
            await self._slots.acquire()  # at once
            return
        async with asyncio.timeout(patience.total_seconds()):
            await self._slots.acquire()

    async def _in_turn(self, call: _Call[_Read], *, ends_at: float) -> _Read | Unknown:
        """The pace: Toss has a limit, and tells whoever crosses it to be quiet for a while."""
        try:
            waited = await self._pace.wait(patience=call.patience, longest_hold=call.longest_hold)
        except NotInTime as far:
            # A slot is not kept for so long: confirms would find none.
            return Unknown(UnknownBecause.NOT_SENT, message="no turn in time", retry_after=far.left)
        _paced(call.name).observe(waited.total_seconds())
        return await self._guarded(call, ends_at=ends_at + waited.total_seconds())

    async def _guarded(self, call: _Call[_Read], *, ends_at: float) -> _Read | Unknown:
        permit = call.breaker.admit()
        if permit is None:
            return _left_alone(call)
        try:
            outcome = await self._exchange(call, ends_at=ends_at)
            answer = outcome if isinstance(outcome, Unknown) else call.read(outcome)
        except BaseException:  # cancelled
            call.breaker.abandoned(permit)
            raise
        self._heed(outcome)
        if _is_failing(outcome, answer):
            call.breaker.failed(permit)
        else:
            call.breaker.succeeded(permit)
        return answer

    def _heed(self, outcome: Reply | Unknown) -> None:
        if isinstance(outcome, Reply) and outcome.status == _TOO_MANY_REQUESTS and outcome.retry_after:
            self._pace.hold(outcome.retry_after)

    async def _exchange(self, call: _Call[_Read], *, ends_at: float) -> Reply | Unknown:
        """The total deadline: each of httpx's timeouts only measures one silence, so a dripping answer never ends."""
        try:
            async with asyncio.timeout_at(ends_at):
                return await self._send_or_reconnect(call)
        except TimeoutError:
            return Unknown(UnknownBecause.NO_ANSWER, message="no complete answer before the deadline")

    async def _send_or_reconnect(self, call: _Call[_Read]) -> Reply | Unknown:
        not_sent = Unknown(UnknownBecause.NOT_SENT)
        for attempt in range(_CONNECT_ATTEMPTS):
            if attempt > 0:
                await asyncio.sleep(random.uniform(*_RETRY_PAUSE_SECONDS))  # noqa: S311 - jitter, not a secret
            try:
                return await self._send(call)
            except _NO_CONNECTION as error:
                not_sent = Unknown(UnknownBecause.NOT_SENT, message=type(error).__name__)
            except _NO_ADDRESS as error:
                return Unknown(UnknownBecause.NOT_SENT, message=type(error).__name__)
            except _LOST as error:
                return Unknown(UnknownBecause.NO_ANSWER, message=type(error).__name__)
        return not_sent

    async def _send(self, call: _Call[_Read]) -> Reply | Unknown:
        response = await self._transport.handle_async_request(self._request(call))
        try:
            body = await read_bounded(response, longest=call.longest_body)
        except Unreadable as error:
            return Unknown(UnknownBecause.MALFORMED, message=str(error))
        finally:
            await response.aclose()
        retry_after = parse_retry_after(
            response.headers.get("Retry-After"), at=datetime.now(UTC), longest=LONGEST_RETRY_AFTER
        )
        return Reply(status=response.status_code, body=body, retry_after=retry_after)

    def _request(self, call: _Call[_Read]) -> httpx.Request:
        silences = self._silences
        if call.read_timeout is not None:
            silences = {**silences, "read": call.read_timeout.total_seconds()}
        request = httpx.Request(
            call.method, call.url, headers=self._headers, json=call.json, extensions={"timeout": silences}
        )
        request.headers.update(call.headers)
        return request

    def _url(self, path: str) -> httpx.URL:
        return httpx.URL(f"{self._base_url}{path}")


def _left_alone(call: _Call[_Read]) -> Unknown:
    return Unknown(UnknownBecause.CIRCUIT_OPEN, retry_after=call.breaker.pause_left)


def _checked_base_url(text: str) -> str:
    try:
        url = httpx.URL(text.rstrip("/"))
    except httpx.InvalidURL:
        raise ValueError("The address of Toss is not a URL.") from None
    if (
        url.scheme not in {"http", "https"}
        or not url.host
        or url.port == 0
        or (url.port or 0) > _LARGEST_PORT
        or url.userinfo
        or url.path != "/"
        or url.query
        or url.fragment
    ):
        raise ValueError("The address of Toss is a scheme, a host and perhaps a port.")
    return str(url).rstrip("/")


def _headers(secret_key: str) -> httpx.Headers:
    # https://docs.tosspayments.com/reference/using-api/authorization: the key is the user name, without a password.
    credentials = base64.b64encode(f"{secret_key}:".encode()).decode()
    return httpx.Headers(
        {
            "Accept": "application/json",
            # A compressed answer could unfold to a thousand times its size before the cap is noticed.
            "Accept-Encoding": "identity",
            "Authorization": f"Basic {credentials}",
            "User-Agent": "payments",
        }
    )


def _checked_secret_key(text: str) -> str:
    if _SECRET_KEY.fullmatch(text) is None:
        # A byte order mark copied with the key is the classic; the key itself must not stand in a message.
        raise ValueError("The Toss secret key must be printable ASCII without spaces and colons.")
    return text


def _checked(asked: Asked) -> Asked:
    if asked.payment_key is not None and not is_payment_key(asked.payment_key):
        raise ValueError("not a payment key")
    if not is_order_id(asked.order_id):
        raise ValueError("not an order id that Toss accepts")
    if asked.amount < 1:
        raise ValueError("An amount is at least one won.")
    return asked


def _checked_idempotency_key(key: str) -> str:
    if _IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise ValueError("An idempotency key is 1 to 300 printable ASCII characters without spaces.")
    return key


def _checked_order(order: RefundOrder) -> RefundOrder:
    if not 0 < order.amount <= order.believed_balance <= order.total_amount:
        raise ValueError("A refund is at least one won and at most what is left of what was captured.")
    if not 0 <= order.tax_free_amount <= order.amount:
        raise ValueError("What was sold without tax is a part of the refund.")
    _checked_reason(order.reason)
    return order


def _checked_reason(reason: str) -> str:
    if not 1 <= len(reason) <= _MAX_REASON_LENGTH:
        raise ValueError("The reason of a cancel has 1 to 200 characters.")
    return _checked_text(reason)


def _checked_text(text: str) -> str:
    # Looked for, because the error that encoding would raise carries the whole text, which may be a buyer's.
    if _SURROGATE.search(text):
        raise ValueError("A lone surrogate cannot be sent.")
    return text


def _refund_body(order: RefundOrder) -> dict[str, object]:
    body: dict[str, object] = {"cancelReason": order.reason}
    if order.amount < order.believed_balance:
        body["cancelAmount"] = order.amount  # without it Toss gives back all that is left
    body["refundableAmount"] = order.believed_balance
    if order.tax_free_amount > 0:
        body["taxFreeAmount"] = order.tax_free_amount
    if order.account is not None:
        body["refundReceiveAccount"] = {
            "bank": _checked_text(order.account.bank),
            "accountNumber": _checked_text(order.account.account_number),
            "holderName": _checked_text(order.account.holder_name),
        }
    return body


def _is_failing(outcome: Reply | Unknown, answer: _AnyAnswer) -> bool:
    """Whether the next call would most likely meet the same trouble.

    A refusal is no failure, nor is FORBIDDEN_REQUEST: a buyer can provoke both. A fault of our key counts like any
    other failure and does not open the circuit at once, because a payment key of a foreign shop may provoke it too.
    """
    if isinstance(outcome, Unknown):
        return True
    if outcome.status >= _SERVER_ERRORS or outcome.status == _UNAUTHORIZED:
        return True
    return isinstance(answer, Unknown) and answer.code in KEY_FAULTS


# A child is looked up by its labels under a lock, which takes as long as counting does.
@lru_cache(maxsize=200)
def _answered(call: str, kind: str) -> Counter:
    return _answers.labels(call=call, kind=kind)


@lru_cache(maxsize=20)
def _took(call: str) -> Histogram:
    return _seconds.labels(call=call)


@lru_cache(maxsize=20)
def _paced(call: str) -> Histogram:
    return _paced_seconds.labels(call=call)


def _observe(call: _Call[_Read], answer: _AnyAnswer, *, seconds: float) -> None:
    kind = _kind(answer)
    _answered(call.name, kind).inc()
    _took(call.name).observe(seconds)
    subject = _subject(call.asked) if call.asked else {}
    said: dict[str, object] = {"call": call.name, "kind": kind, "milliseconds": round(seconds * 1000), **subject}
    match answer:
        case Unknown(code=None, message=message):
            log.warning("pg.answer_unknown", **said, code=None, message=message)
        case Unknown(code=code):  # its message is the PG's own words, in which anything may be repeated
            log.warning("pg.answer_unknown", **said, code=code)
        case RefundRefused(code=code, because=because) if code in BADLY_ASKED:
            log.warning("pg.request_not_understood", **said, code=code, because=because.value)
        case RefundRefused(code=code, because=because):
            log.info("pg.answered", **said, code=code, because=because.value)
        case Declined(code=code):
            log.info("pg.answered", **said, code=code)
        case _:
            log.info("pg.answered", **said)


def _subject(asked: Asked) -> dict[str, str | None]:
    return {"order_id": asked.order_id, "payment_key_ends": asked.payment_key and asked.payment_key[-6:]}


def _kind(answer: _AnyAnswer) -> str:
    return answer.because.value if isinstance(answer, Unknown) else _KINDS[type(answer)]
