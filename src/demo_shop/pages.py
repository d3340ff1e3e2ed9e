"""What a buyer sees, and the two calls that the pages' own scripts make."""

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from demo_shop.banks import BANKS
from demo_shop.catalogue import BY_SLUG, MAX_QUANTITY, PRODUCTS, order_name
from demo_shop.order_view import OrderId, get_order, look_at_order, may_pay, order_context
from demo_shop.orders import OrderStatus, create_order, note_email
from demo_shop.refresh import Knowledge, Refreshed, refresh_order
from demo_shop.refusals import reason_in_korean
from demo_shop.rendering import templates
from demo_shop.shop import InShop, now

router = APIRouter(include_in_schema=False)


class EmailBody(BaseModel):
    """Sent as JSON, which another site's form cannot do."""

    model_config = ConfigDict(extra="forbid", strict=True)

    email: str = Field(
        alias="customerEmail",
        max_length=100,
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$",
    )


@router.get("/")
async def show_products(request: Request) -> Response:
    context = {"products": PRODUCTS, "max_quantity": MAX_QUANTITY}
    return templates.TemplateResponse(request, "products.html", context)


@router.post("/orders")
async def place_order(
    shop: InShop, product: Annotated[str, Form()], quantity: Annotated[int, Form(ge=1, le=MAX_QUANTITY)] = 1
) -> Response:
    """Make an order at our own price.

    There is no login in this demo, hence no cookie that would give a forged form anybody's rights.
    """
    if product not in BY_SLUG:
        raise HTTPException(404)
    order = await create_order(shop.sessions, BY_SLUG[product], quantity=quantity, at=now())
    return RedirectResponse(f"/orders/{order.order_id}/checkout", status_code=303)


@router.get("/orders/{order_id}/checkout")
async def show_checkout(
    request: Request, order_id: OrderId, shop: InShop, flow: Literal["payment", "widgets"] = "payment"
) -> Response:
    refreshed = await look_at_order(shop, order_id)
    if not may_pay(refreshed) and refreshed.knowledge is not Knowledge.UNKNOWN:
        return RedirectResponse(f"/orders/{order_id}", status_code=303)
    own = f"{shop.settings.public_url}/orders/{order_id}"
    context = {
        **order_context(refreshed),
        "flow": flow,
        "sdk_url": shop.settings.toss_sdk_url,
        "payments_url": shop.settings.payments_public_url,
        "success_url": f"{own}/success",
        "fail_url": f"{own}/fail",
    }
    return templates.TemplateResponse(request, "checkout.html", context)


@router.get("/orders/{order_id}/success")
async def show_success(request: Request, order_id: OrderId, shop: InShop) -> Response:
    """The buyer is back from the payment window. Nothing in the URL is proof of a payment; the script confirms it."""
    order = await get_order(shop, order_id)
    query = request.query_params
    payment_key = query.get("paymentKey", "")
    is_ours = query.get("orderId") == order_id and query.get("amount") == str(order.amount) and payment_key != ""
    context = {
        "order": order,
        "order_name": order_name(order.product, order.quantity),
        "is_ours": is_ours,
        "payment_key": payment_key,
        "payments_url": shop.settings.payments_public_url,
        "banks": BANKS,
        "hears_events": shop.settings.hears_events,
    }
    return templates.TemplateResponse(request, "success.html", context, 200 if is_ours else 400)


@router.get("/orders/{order_id}/fail")
async def show_fail(
    request: Request,
    order_id: OrderId,
    shop: InShop,
    code: Annotated[str, Field(max_length=100)] = "",
) -> Response:
    """The payment window gave up. What happened to the money is asked of the payments API, never read from the URL."""
    # Toss leaves the order number out when the buyer closed the window.
    if request.query_params.get("orderId", order_id) != order_id:
        raise HTTPException(400)
    refreshed = await look_at_order(shop, order_id)
    context = {**order_context(refreshed), "standing": _standing(refreshed), "reason": reason_in_korean(code)}
    return templates.TemplateResponse(request, "fail.html", context)


@router.get("/orders/{order_id}/state")
async def show_state(order_id: OrderId, shop: InShop) -> dict[str, int]:
    """What our own database knows: another version than before is news, told to us by an event."""
    order = await get_order(shop, order_id)
    return {"paymentVersion": order.payment_version}


@router.post("/orders/{order_id}/refresh")
async def refresh(order_id: OrderId, shop: InShop) -> dict[str, str | int | bool | None]:
    """Have our server look at the payment itself. Harmless however often, and whoever asks."""
    try:
        refreshed = await refresh_order(shop.sessions, shop.payments, order_id, at=now())
    except LookupError as error:
        raise HTTPException(404) from error
    payment = refreshed.payment
    return {
        "orderId": order_id,
        "orderStatus": refreshed.order.status,
        "knowledge": refreshed.knowledge,
        "paymentVersion": refreshed.order.payment_version,
        "paymentStatus": payment.status if payment else None,
        "depositReversed": refreshed.order.deposit_reversed_at is not None,
        "dueDatePassed": refreshed.is_overdue(at=now()),
        "needsSupport": payment is not None and payment.next_action == "call_support",
        "receiptUrl": payment.receipt_url if payment else None,
    }


@router.put("/orders/{order_id}/email", status_code=204)
async def keep_email(order_id: OrderId, shop: InShop, body: EmailBody) -> None:
    if not await note_email(shop.sessions, order_id, email=body.email):
        raise HTTPException(409)


@dataclass(frozen=True)
class Standing:
    """What may be said to a buyer who comes back without a payment; `state` is one of the pages' result states."""

    state: str
    title: str
    text: str


_NOT_CHARGED: Final = Standing(
    "refused", "결제가 완료되지 않았습니다", "청구된 금액은 없습니다. 다시 결제하실 수 있습니다."
)
_UNDECIDED: Final = Standing(
    "pending", "결제를 확인하고 있습니다", "결제가 진행 중일 수 있으니 다시 결제하지 말고 잠시 기다려 주세요."
)
_AWAITING_DEPOSIT: Final = Standing("waiting", "입금을 기다리고 있습니다", "이미 발급된 가상계좌가 있습니다.")
_PAID: Final = Standing("completed", "이미 결제된 주문입니다", "이 주문의 결제는 완료되었습니다. 다시 결제하지 마세요.")
_CLOSED: Final = Standing("error", "취소된 주문입니다", "새로 주문해 주세요.")
_NOT_KNOWN: Final = Standing(
    "error",
    "결제 상태를 확인하지 못했습니다",
    "다시 결제하기 전에 주문 내역에서 결제 여부를 먼저 확인해 주세요.",
)


def _standing(refreshed: Refreshed) -> Standing:
    if may_pay(refreshed):
        return _NOT_CHARGED
    if refreshed.order.status is OrderStatus.CANCELLED:
        return _CLOSED
    if refreshed.order.status is not OrderStatus.CREATED:
        return _PAID
    if refreshed.payment is None:
        return _NOT_KNOWN
    return _AWAITING_DEPOSIT if refreshed.awaits_deposit else _UNDECIDED
