"""What every page may say about an order, after a look at its payment."""

from typing import Annotated, Final

from fastapi import HTTPException, Path

from demo_shop.catalogue import order_name
from demo_shop.orders import ORDER_ID_PATTERN, Order, OrderStatus, find_order
from demo_shop.payments_client import PaymentStatus
from demo_shop.refresh import Knowledge, Refreshed, refresh_if_open
from demo_shop.shop import Shop, now

OrderId = Annotated[str, Path(pattern=ORDER_ID_PATTERN)]

# The standing of a payment in which the payment window may be opened; None is one that nobody began.
_PAYABLE: Final = {None, PaymentStatus.CREATED, PaymentStatus.FAILED}
_UNDER_WAY: Final = {PaymentStatus.PENDING, PaymentStatus.APPROVED}


async def get_order(shop: Shop, order_id: str) -> Order:
    order = await find_order(shop.sessions, order_id)
    if order is None:
        raise HTTPException(404)
    return order


async def look_at_order(shop: Shop, order_id: str) -> Refreshed:
    try:
        return await refresh_if_open(shop.sessions, shop.payments, order_id, at=now())
    except LookupError as error:
        raise HTTPException(404) from error


def may_pay(refreshed: Refreshed) -> bool:
    if refreshed.order.status is not OrderStatus.CREATED:
        return False
    if refreshed.knowledge not in {Knowledge.KNOWN, Knowledge.NOT_PREPARED}:
        return False
    return (refreshed.payment.status if refreshed.payment else None) in _PAYABLE


def order_context(refreshed: Refreshed) -> dict[str, object]:
    order = refreshed.order
    return {
        "order": order,
        "order_name": order_name(order.product, order.quantity),
        "payment": refreshed.payment,
        "knowledge": refreshed.knowledge,
        "may_pay": may_pay(refreshed),
        "is_under_way": refreshed.payment is not None and refreshed.payment.status in _UNDER_WAY,
        "is_overdue": refreshed.is_overdue(at=now()),
    }
