"""What the shop's own people see: the orders, one order, and the forms that give its money back or give it up."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from demo_shop.banks import BANKS
from demo_shop.cancel_forms import GIVEN_UP_BECAUSE, KEY_IS_TAKEN, CancelForm, is_key
from demo_shop.cancel_requests import CancelRequest, RequestState, find_request, unanswered_requests
from demo_shop.cancel_words import Notice, notice_of
from demo_shop.cancelling import KeyTaken, send
from demo_shop.order_view import OrderId, get_order, order_context
from demo_shop.orders import OrderStatus, recent_orders
from demo_shop.payments_client import PaymentStatus
from demo_shop.refresh import Knowledge, Refreshed, refresh_order
from demo_shop.rendering import templates
from demo_shop.shop import InShop, Shop, now

router = APIRouter(include_in_schema=False)

_RECENT: Final = 50
_GIVE_UP: Final = {None, PaymentStatus.CREATED, PaymentStatus.FAILED, PaymentStatus.WAITING_FOR_DEPOSIT}

Problems = dict[str, str]


def refuse_other_sites(request: Request) -> None:
    """A page elsewhere may make a browser send a form here, and these forms move money.

    Raises:
        HTTPException: the browser says that another site's page sent it.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise HTTPException(403)


@router.get("/orders")
async def show_orders(request: Request, shop: InShop) -> Response:
    orders = await recent_orders(shop.sessions, _RECENT)
    return templates.TemplateResponse(request, "orders.html", {"orders": orders})


@router.get("/orders/{order_id}")
async def show_order(request: Request, order_id: OrderId, shop: InShop) -> Response:
    """The order; with `?request=` also what came of that request for a refund."""
    refreshed = await _look(shop, order_id)
    key = request.query_params.get("request", "")
    asked = await find_request(shop.sessions, order_id, key) if is_key(key) else None
    return await _order_page(request, shop, refreshed, asked=asked)


@router.post("/orders/{order_id}/refund", dependencies=[Depends(refuse_other_sites)])
async def refund(request: Request, order_id: OrderId, shop: InShop, form: Annotated[CancelForm, Form()]) -> Response:
    """Give back what the form says, once for the key of the page that it stood on."""
    problems = form.problems(asks_for_account=form.has_account) | form.problem_of_amount()
    return await _send(request, shop, order_id, form=form, problems=problems)


@router.post("/orders/{order_id}/abandon", dependencies=[Depends(refuse_other_sites)])
async def abandon(request: Request, order_id: OrderId, shop: InShop, form: Annotated[CancelForm, Form()]) -> Response:
    """Give up an order that is not paid, along with its virtual account."""
    given_up = CancelForm(key=form.key, reason=form.reason)
    return await _send(request, shop, order_id, form=given_up, problems=given_up.problems(asks_for_account=False))


async def _send(request: Request, shop: Shop, order_id: str, *, form: CancelForm, problems: Problems) -> Response:
    order = await get_order(shop, order_id)
    if not problems:
        try:
            await send(shop, order, form.wish(), at=now())
            return RedirectResponse(f"/orders/{order_id}?request={form.key}", status_code=303)
        except KeyTaken:
            problems = {"key": KEY_IS_TAKEN}
    # Answered at once: an account number would have to travel in the URL of a redirect.
    asked = None if "key" in problems else await find_request(shop.sessions, order_id, form.key)
    typed = form.under_new_key() if "key" in problems else form
    return await _order_page(request, shop, await _look(shop, order_id), asked=asked, typed=typed, problems=problems)


async def _look(shop: Shop, order_id: str) -> Refreshed:
    # Also an order that is over: how far its refund got may still change.
    try:
        return await refresh_order(shop.sessions, shop.payments, order_id, at=now())
    except LookupError as error:
        raise HTTPException(404) from error


async def _order_page(
    request: Request,
    shop: Shop,
    refreshed: Refreshed,
    *,
    asked: CancelRequest | None = None,
    typed: CancelForm | None = None,
    problems: Problems | None = None,
) -> Response:
    notice = notice_of(asked, refreshed.payment, at=now()) if asked else None
    context = {
        **order_context(refreshed),
        "asked": asked,
        "notice": notice,
        "again": (typed or CancelForm.again(asked)) if asked and notice and notice.may_send_again else None,
        "offer": _offer(refreshed, notice),
        "form": typed or _form(refreshed, asked),
        "problems": problems or {},
        "banks": BANKS,
        "refunds": refreshed.payment.refunds if refreshed.payment else [],
        "is_refund_open": _has_open_refund(refreshed),
        "hears_events": shop.settings.hears_events,
        "unanswered": [
            unanswered
            for unanswered in await unanswered_requests(shop.sessions, refreshed.order.order_id)
            if asked is None or unanswered.key != asked.key
        ],
    }
    return templates.TemplateResponse(request, "order.html", context, 422 if problems else 200)


def _offer(refreshed: Refreshed, notice: Notice | None) -> str | None:
    """Which form the page has: `refund`, `abandon` or none, as nothing else may be asked while an answer is open."""
    payment = refreshed.payment
    if notice and (notice.may_send_again or notice.is_waiting):
        return None
    if refreshed.knowledge not in {Knowledge.KNOWN, Knowledge.NOT_PREPARED}:
        return None
    if payment and payment.refundable_amount and not _has_open_refund(refreshed):
        return "refund"
    is_unpaid = refreshed.order.status is OrderStatus.CREATED
    return "abandon" if is_unpaid and (payment.status if payment else None) in _GIVE_UP else None


def _has_open_refund(refreshed: Refreshed) -> bool:
    return refreshed.payment is not None and any(refund.is_undecided for refund in refreshed.payment.refunds)


def _form(refreshed: Refreshed, asked: CancelRequest | None) -> CancelForm:
    """A new form, filled with what a refused request said, so that only what was wrong has to be mended."""
    left = refreshed.payment.refundable_amount if refreshed.payment else 0
    if not left:
        return CancelForm.drawn(amount=None, reason=GIVEN_UP_BECAUSE)
    if asked and asked.amount and asked.state is RequestState.REFUSED:
        return CancelForm.drawn(amount=min(asked.amount, left), reason=asked.reason)
    return CancelForm.drawn(amount=left, reason="")
