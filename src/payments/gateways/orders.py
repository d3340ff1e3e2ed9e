"""The order service: what orders cost, whether they still wait for a payment, and which it believes to be paid."""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Protocol, Self, TypeVar

import httpx
import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from payments.card_numbers import mask
from payments.gateways.bounded import Unreadable, read_bounded

log = structlog.get_logger()

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_LIST_BYTES: Final = 1_000_000
LOOK_UP_LIMIT: Final = 100
PAGE_LIMIT: Final = 100
_PAID: Final = "PAID"
_ORDER_ID: Final = re.compile(r"[A-Za-z0-9_-]{6,64}")


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the order service holds it; amounts in won."""

    order_id: str
    status: str
    amount: int
    refunded_amount: int | None = None  # None where the order service does not keep it

    @property
    def is_payable(self) -> bool:
        """Whether it waits for its payment; a status that we do not know does not."""
        return self.status == "CREATED"


@dataclass(frozen=True, slots=True)
class OrderPage:
    """Some of the orders that were asked for; `next_cursor` is None on the last page."""

    orders: tuple[Order, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class NoSuchOrder:
    pass


@dataclass(frozen=True, slots=True)
class OrdersUnreachable:
    """No usable answer. `reason` is for the log."""

    reason: str


OrderAnswer = Order | NoSuchOrder | OrdersUnreachable


class OrderService(Protocol):
    """What the use cases need of the order service. Never raises for what it or the network does."""

    async def find(self, order_id: str) -> OrderAnswer:
        """Ask for one order."""
        ...

    async def look_up(self, order_ids: Sequence[str]) -> Mapping[str, Order] | OrdersUnreachable:
        """Ask for several orders, at most `LOOK_UP_LIMIT`; those that are not in the answer do not exist."""
        ...

    async def paid_between(
        self, since: datetime, until: datetime, *, cursor: str | None
    ) -> OrderPage | OrdersUnreachable:
        """Ask for a page of the orders that were paid from `since` (included) to `until` (excluded)."""
        ...


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True, extra="ignore")


def _storable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("contains control characters")
    return text


_Word = Annotated[str, Field(max_length=200), AfterValidator(_storable)]  # it may stand in a discrepancy


class _OrderWire(_Wire):
    order_id: _Word
    status: Annotated[_Word, AfterValidator(mask)]
    amount: int = Field(ge=0)
    refunded_amount: int | None = Field(default=None, ge=0)


class _OrdersWire(_Wire):
    orders: list[_OrderWire]


class _PageWire(_OrdersWire):
    next_cursor: str | None = Field(default=None, min_length=1)


_Shape = TypeVar("_Shape", bound=_Wire)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    params: Mapping[str, str] | None = None
    json: object = None


class _NoAnswer(Exception):
    """There is no usable answer; the text says why."""


class OrdersClient:
    """The order service over HTTP, bounded in time and size.

    Args:
        base_url: What `/orders/{orderId}`, `/orders/lookup` and `/orders` are appended to.
        deadline: Total wall clock of a question about one order, which a buyer may wait for.
        list_deadline: The same of a question about many.
        transport: Replaces the network in tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        deadline: timedelta = timedelta(seconds=5),
        list_deadline: timedelta = timedelta(seconds=30),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._deadline = deadline
        self._list_deadline = list_deadline
        self._http = httpx.AsyncClient(
            base_url=base_url,
            timeout=httpx.Timeout(max(deadline, list_deadline).total_seconds(), connect=2),
            follow_redirects=False,
            trust_env=False,  # a proxy or a certificate file from the environment could tell us any price
            transport=transport,
            # identity: a compressed answer could unfold to a thousand times its size before the cap is noticed.
            headers={"accept": "application/json", "accept-encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def find(self, order_id: str) -> OrderAnswer:
        """Ask for one order.

        Raises:
            ValueError: The caller let something through that must not reach a URL.
        """
        if _ORDER_ID.fullmatch(order_id) is None:
            raise ValueError("not an order id")
        asked = _Request("GET", f"/orders/{order_id}")
        try:
            status, body = await self._answer(asked, deadline=self._deadline, longest=MAX_ANSWER_BYTES)
            if status == httpx.codes.NOT_FOUND:
                return NoSuchOrder()
            (order,) = _asked_for([_read(_OrderWire, status, body)], lambda order: order.order_id == order_id)
        except _NoAnswer as nothing:
            return _unreachable(nothing, order_id=order_id)
        return order

    async def look_up(self, order_ids: Sequence[str]) -> Mapping[str, Order] | OrdersUnreachable:
        """Ask for several orders at once; for none at all, nobody is asked.

        Raises:
            ValueError: They are more than `LOOK_UP_LIMIT`.
        """
        if len(order_ids) > LOOK_UP_LIMIT:
            raise ValueError(f"At most {LOOK_UP_LIMIT} orders are looked up at once.")
        if not order_ids:
            return {}
        asked = _Request("POST", "/orders/lookup", json={"orderIds": list(dict.fromkeys(order_ids))})
        try:
            found = await self._list(asked, _OrdersWire)
            orders = _asked_for(found.orders, lambda order: order.order_id in order_ids)
        except _NoAnswer as nothing:
            return _unreachable(nothing, orders=len(order_ids))
        return {order.order_id: order for order in orders}

    async def paid_between(
        self, since: datetime, until: datetime, *, cursor: str | None
    ) -> OrderPage | OrdersUnreachable:
        """Ask for a page of the orders that were paid from `since` (included) to `until` (excluded).

        Raises:
            ValueError: A time has no offset.
        """
        if since.tzinfo is None or until.tzinfo is None:
            raise ValueError("Orders are asked for between two times with an offset.")
        dates = {"from": since.astimezone(UTC).isoformat(), "to": until.astimezone(UTC).isoformat()}
        place = {} if cursor is None else {"cursor": cursor}
        asked = _Request("GET", "/orders", params={"status": _PAID, **dates, "limit": str(PAGE_LIMIT), **place})
        try:
            page = await self._list(asked, _PageWire)
            orders = _asked_for(page.orders, lambda order: order.status == _PAID)
            next_cursor = _further(cursor, page.next_cursor)
        except _NoAnswer as nothing:
            return _unreachable(nothing, **dates)
        return OrderPage(tuple(orders), next_cursor)

    async def _list(self, asked: _Request, shape: type[_Shape]) -> _Shape:
        status, body = await self._answer(asked, deadline=self._list_deadline, longest=MAX_LIST_BYTES)
        return _read(shape, status, body)

    async def _answer(self, asked: _Request, *, deadline: timedelta, longest: int) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                return await self._send(asked, longest=longest)
        # OSError stands for what httpx lets through, such as an ssl.SSLError in the middle of an answer.
        except (httpx.HTTPError, httpx.StreamError, httpx.CookieConflict, httpx.InvalidURL, OSError) as error:
            raise _NoAnswer(type(error).__name__) from error

    async def _send(self, asked: _Request, *, longest: int) -> tuple[int, bytes]:
        async with self._http.stream(asked.method, asked.path, params=asked.params, json=asked.json) as response:
            try:
                return response.status_code, await read_bounded(response, longest=longest)
            except Unreadable as error:
                raise _NoAnswer(str(error)) from None


def _read(shape: type[_Shape], status: int, body: bytes) -> _Shape:
    if status != httpx.codes.OK:
        raise _NoAnswer(f"status {status}")
    try:
        return shape.model_validate_json(body)
    except ValidationError:
        raise _NoAnswer("not an order" if shape is _OrderWire else "not orders") from None


def _asked_for(wires: Sequence[_OrderWire], is_asked_for: Callable[[_OrderWire], bool]) -> list[Order]:
    if not all(is_asked_for(wire) for wire in wires):
        raise _NoAnswer("another order")
    if len({wire.order_id for wire in wires}) < len(wires):
        raise _NoAnswer("an order twice")
    return [Order(wire.order_id, wire.status, wire.amount, wire.refunded_amount) for wire in wires]


def _further(cursor: str | None, next_cursor: str | None) -> str | None:
    if next_cursor is not None and next_cursor == cursor:
        raise _NoAnswer("the same page again")  # following it would never end
    return next_cursor


def _unreachable(nothing: _NoAnswer, **about: str | int) -> OrdersUnreachable:
    reason = str(nothing)
    log.warning("orders.unreachable", reason=reason, **about)
    return OrdersUnreachable(reason)
