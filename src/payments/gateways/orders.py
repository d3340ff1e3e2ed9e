"""The order service: what an order costs, and whether it still waits for a payment."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol, Self

import httpx
import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

log = structlog.get_logger()

MAX_ANSWER_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the order service holds it; `amount` in won."""

    order_id: str
    status: str
    amount: int

    @property
    def is_payable(self) -> bool:
        """Whether it waits for its payment; a status that we do not know does not."""
        return self.status == "CREATED"


@dataclass(frozen=True, slots=True)
class NoSuchOrder:
    pass


@dataclass(frozen=True, slots=True)
class OrdersUnreachable:
    """No usable answer. `reason` is for the log."""

    reason: str


OrderAnswer = Order | NoSuchOrder | OrdersUnreachable


class OrderService(Protocol):
    """What the use cases need of the order service."""

    async def find(self, order_id: str) -> OrderAnswer:
        """Ask for one order. Never raises for what the order service or the network does."""
        ...


class _OrderWire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True, extra="ignore")

    order_id: str
    status: str
    amount: int = Field(ge=0)


class OrdersClient:
    """The order service over HTTP (`GET {base_url}/orders/{orderId}`), bounded in time and size."""

    def __init__(
        self,
        base_url: str,
        *,
        deadline: timedelta = timedelta(seconds=5),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._deadline = deadline
        self._http = httpx.AsyncClient(
            base_url=base_url,
            timeout=httpx.Timeout(deadline.total_seconds(), connect=2),
            follow_redirects=False,
            trust_env=False,
            transport=transport,
            headers={"accept": "application/json"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def find(self, order_id: str) -> OrderAnswer:
        """Ask for one order. `order_id` must have been checked against Toss's rule (`[A-Za-z0-9_-]{6,64}`)."""
        try:
            async with asyncio.timeout(self._deadline.total_seconds()):
                status, body = await self._get(f"/orders/{order_id}")
        # OSError stands for what httpx lets through, such as an ssl.SSLError in the middle of an answer.
        except (httpx.HTTPError, httpx.StreamError, httpx.CookieConflict, httpx.InvalidURL, OSError) as error:
            return self._unreachable(order_id, type(error).__name__)
        if status == httpx.codes.NOT_FOUND:
            return NoSuchOrder()
        if status != httpx.codes.OK:
            return self._unreachable(order_id, f"status {status}")
        return self._read(order_id, body)

    async def _get(self, path: str) -> tuple[int, bytes]:
        body = b""
        async with self._http.stream("GET", path) as response:
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise httpx.DecodingError("the answer is too large")
        return response.status_code, body

    def _read(self, order_id: str, body: bytes) -> OrderAnswer:
        try:
            order = _OrderWire.model_validate_json(body)
        except ValidationError:
            return self._unreachable(order_id, "not an order")
        if order.order_id != order_id:
            return self._unreachable(order_id, "another order")
        return Order(order.order_id, order.status, order.amount)

    @staticmethod
    def _unreachable(order_id: str, reason: str) -> OrdersUnreachable:
        log.warning("orders.unreachable", order_id=order_id, reason=reason)
        return OrdersUnreachable(reason)
