"""Give money back, or an unpaid order up: ask the payments API under the request's key, and keep what it said."""

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from demo_shop.cancel_requests import CancelRequest, RequestState, note_answer, write_down
from demo_shop.orders import Order, close_unpaid
from demo_shop.payments_client import (
    Accepted,
    CancelAnswer,
    NotKnownYet,
    PaymentStatus,
    RefundAccount,
    Refused,
    Unreachable,
    cancel_payment,
)
from demo_shop.refresh import Knowledge, follow, refresh_order
from demo_shop.shop import Shop

log = logging.getLogger(__name__)

UNREACHABLE: Final = "unreachable"
# The payments API has nothing to give up: nobody began to pay, or the attempt failed.
_NOTHING_THERE: Final = {"payment_not_found", "nothing_to_refund"}


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody asked for on the order's page. `amount` in won; None gives the order up."""

    key: str
    amount: int | None
    reason: str
    account: RefundAccount | None = None


class KeyTaken(Exception):
    """The key names another request already: somebody went back to a page and changed what it had sent."""


async def send(shop: Shop, order: Order, wish: Wish, *, at: datetime) -> None:
    """Have it done, once for each key. What came of it stands in the request, which is committed before we ask.

    Raises:
        KeyTaken: nothing was done.
    """
    request = CancelRequest.of(
        order.order_id,
        key=wish.key,
        amount=wish.amount,
        reason=wish.reason,
        to_account=wish.account is not None,
        asked_at=at,
    )
    kept = await write_down(shop.sessions, request)
    if not kept.is_same_as(request):
        raise KeyTaken
    if kept.state is not RequestState.ASKED:
        return
    answer = await cancel_payment(
        shop.payments, order.order_id, key=wish.key, reason=wish.reason, amount=wish.amount, account=wish.account
    )
    if wish.amount is None and isinstance(answer, Refused) and answer.code in _NOTHING_THERE:
        await _close(shop, order, wish, at=at)
        return
    await _keep(shop, order, wish, answer=answer, at=at)


async def _keep(shop: Shop, order: Order, wish: Wish, *, answer: CancelAnswer, at: datetime) -> None:
    match answer:
        case Accepted(refund=refund, payment=payment) | NotKnownYet(refund=refund, payment=payment):
            state = RequestState.DONE if isinstance(answer, Accepted) else RequestState.TAKEN_ON
            refund_id = refund.refund_id if refund else None
            await note_answer(shop.sessions, wish.key, state=state, refund_id=refund_id)
            await follow(shop.sessions, order, payment=payment, at=at)
        case Refused(code=code, same_again=same_again):
            state = RequestState.ASKED if same_again else RequestState.REFUSED
            message = _without_account(answer, wish).message
            await note_answer(shop.sessions, wish.key, state=state, code=code, message=message)
            log.info("cancel of %s was refused: %s", order.order_id, code)
        case Unreachable(why=why):
            await note_answer(shop.sessions, wish.key, state=RequestState.ASKED, code=UNREACHABLE)
            log.warning("no usable answer to the cancel of %s: %s", order.order_id, why)


def _without_account(refused: Refused, wish: Wish) -> Refused:
    # Toss's words come from a bank in the end, and the buyer's account number is not to be kept.
    if refused.message is None or wish.account is None:
        return refused
    return replace(refused, message=refused.message.replace(wish.account.account_number, "…"))


async def _close(shop: Shop, order: Order, wish: Wish, *, at: datetime) -> None:
    """There is no payment to give up, so the order alone is cancelled, unless somebody pays it at this moment."""
    seen = await refresh_order(shop.sessions, shop.payments, order.order_id, at=at)
    has_failed = seen.payment is not None and seen.payment.status is PaymentStatus.FAILED
    if has_failed or seen.knowledge is Knowledge.NOT_PREPARED:
        await close_unpaid(shop.sessions, order.order_id, version=seen.order.payment_version)
        await note_answer(shop.sessions, wish.key, state=RequestState.DONE)
    else:
        await note_answer(shop.sessions, wish.key, state=RequestState.REFUSED, code="order_moved_on")
