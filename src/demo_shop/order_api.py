"""The order service's contract: what the payments service reads of our orders, under `/api`."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Final, Self

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from demo_shop.orders import ORDER_ID_PATTERN, Order, OrderStatus, find_order, find_orders, list_orders
from demo_shop.shop import InShop

router = APIRouter(prefix="/api")

OrderId = Annotated[str, Path(pattern=ORDER_ID_PATTERN)]

_LOOKUP_LIMIT: Final = 500


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", strict=True)


class OrderBody(_Body):
    """An order as others see it. Amounts are whole won."""

    order_id: str
    status: OrderStatus
    amount: int
    refunded_amount: int
    currency: str = "KRW"

    @classmethod
    def of(cls, order: Order) -> Self:
        return cls(
            order_id=order.order_id,
            status=order.status,
            amount=order.amount,
            refunded_amount=order.refunded_amount,
        )


class LookupBody(_Body):
    order_ids: Annotated[
        list[Annotated[str, Field(pattern=ORDER_ID_PATTERN)]], Field(min_length=1, max_length=_LOOKUP_LIMIT)
    ]


class OrdersBody(_Body):
    """Those of the orders asked for that exist."""

    orders: list[OrderBody]


class OrderPage(_Body):
    """One page of a list; `next_cursor` is null on the last one."""

    orders: list[OrderBody]
    next_cursor: str | None


class ListQuery(BaseModel):
    """`from` (included) and `to` (excluded) are about the payment, or about the order itself while it is unpaid."""

    status: OrderStatus | None = None
    since: AwareDatetime | None = Field(default=None, alias="from")
    until: AwareDatetime | None = Field(default=None, alias="to")
    cursor: str | None = Field(default=None, max_length=300)
    limit: int = Field(default=100, ge=1, le=_LOOKUP_LIMIT)


@router.get("/orders/{order_id}")
async def read_order(order_id: OrderId, shop: InShop) -> OrderBody:
    order = await find_order(shop.sessions, order_id)
    if order is None:
        raise HTTPException(404)
    return OrderBody.of(order)


@router.post("/orders/lookup")
async def look_up_orders(body: LookupBody, shop: InShop) -> OrdersBody:
    orders = await find_orders(shop.sessions, body.order_ids)
    return OrdersBody(orders=[OrderBody.of(order) for order in orders])


@router.get("/orders")
async def read_orders(query: Annotated[ListQuery, Query()], shop: InShop) -> OrderPage:
    orders = await list_orders(
        shop.sessions,
        status=query.status,
        since=query.since,
        until=query.until,
        after=_place(query.cursor) if query.cursor else None,
        limit=query.limit + 1,  # one more tells whether there is a next page
    )
    shown = orders[: query.limit]
    next_cursor = _cursor(shown[-1]) if len(orders) > query.limit else None
    return OrderPage(orders=[OrderBody.of(order) for order in shown], next_cursor=next_cursor)


def _cursor(order: Order) -> str:
    place = f"{(order.paid_at or order.created_at).isoformat()} {order.order_id}"
    return base64.urlsafe_b64encode(place.encode()).decode()


def _place(cursor: str) -> tuple[datetime, str]:
    try:
        moment, order_id = base64.urlsafe_b64decode(cursor.encode("ascii")).decode("ascii").split(" ")
        at = datetime.fromisoformat(moment)
    except (ValueError, binascii.Error) as error:
        raise HTTPException(422) from error
    if at.tzinfo is None or "\0" in order_id:
        raise HTTPException(422)
    return at, order_id
