"""The routes of payments: parse, call, answer."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path, Response

from payments.access import Anonymous, Caller, Client
from payments.api.access import FromPayer, FromReader, FromReaderOfOne, FromRefunder, buyer_of
from payments.api.deps import IDEMPOTENCY_KEY_PARAMETER, FromIdempotencyKey, FromResources
from payments.api.documented import (
    GUARDED,
    RETRY_AFTER,
    WHAT_FOLLOWS_CONFIRM,
    WHAT_FOLLOWS_PREPARE,
    Responses,
    refusals,
)
from payments.api.idempotent import once
from payments.api.schemas import (
    CancelAnswer,
    CancelBody,
    ConfirmBody,
    EventAnswer,
    EventsAnswer,
    OrderId,
    PaymentAnswer,
    PaymentKey,
    PrepareBody,
    PreparedAnswer,
    StatusAnswer,
    payment_answer,
    status_answer,
)
from payments.db import transaction
from payments.errors import (
    AlreadyPaid,
    AlreadyRefunded,
    AmountMismatch,
    AmountOutOfRange,
    AwaitingDeposit,
    ConcurrentUpdate,
    DatabaseUnavailable,
    DepositAmountDiffers,
    DepositArrived,
    IdempotencyKeyMalformed,
    IdempotencyKeyMissing,
    IdempotencyKeyReused,
    NotConfirmable,
    NothingToRefund,
    OrderAmountMismatch,
    OrderNotFound,
    OrderNotPayable,
    OrdersUnavailable,
    PartialRefundNotAllowed,
    PaymentClosed,
    PaymentDeclined,
    PaymentInProgress,
    PaymentKeyMismatch,
    PaymentNotFound,
    PgUnavailable,
    RedirectNotAllowed,
    RefundAccountNotAllowed,
    RefundAccountRefused,
    RefundAccountRequired,
    RefundBalanceDiffers,
    RefundDeadlinePassed,
    RefundExceedsBalance,
    RefundInProgress,
    RefundNotNow,
    RefundOverLimit,
    RefundRefused,
    RequestInProgress,
    RequestOvertaken,
    TaxFreeExceedsRefund,
)
from payments.models import Payment, Refund
from payments.observability import CONFIRM_SECONDS
from payments.queries import get_payment, get_payment_by_key, history, refunds_of
from payments.resources import Resources
from payments.states import PaymentStatus
from payments.usecases.cancel import CancelOutcome, cancel, order_of_key
from payments.usecases.confirm import Confirmed, ConfirmRequest, confirm
from payments.usecases.idempotency import Name
from payments.usecases.prepare import prepare

router = APIRouter(prefix="/payments", tags=["payments"])

POLL_AFTER_SECONDS: Final = 2  # the first look at an unknown outcome comes after 2 s


@router.post(
    "/prepare",
    status_code=201,
    summary="Get ready to be paid",
    responses={
        201: {"links": WHAT_FOLLOWS_PREPARE},
        200: {
            "model": PreparedAnswer,
            "description": "Prepared before, with the same amount; or reopened after a failure",
            "links": WHAT_FOLLOWS_PREPARE,
        },
        **refusals(
            *GUARDED,
            OrderNotFound,
            AmountMismatch,
            OrderAmountMismatch,
            OrderNotPayable,
            PaymentInProgress,
            AwaitingDeposit,
            AlreadyPaid,
            PaymentClosed,
            ConcurrentUpdate,
            RedirectNotAllowed,
            AmountOutOfRange,
            OrdersUnavailable,
            DatabaseUnavailable,
        ),
    },
)
async def prepare_payment(
    body: PrepareBody, caller: FromPayer, resources: FromResources, response: Response
) -> PreparedAnswer:
    """Make a payment for an order, or find it again, and answer all that the payment window needs.

    The amount is checked with the order service where one is configured. After a failure the payment is reopened as
    a new attempt.
    """
    prepared = await prepare(
        body.request(buyer=buyer_of(caller)),
        sessions=resources.sessions,
        hot=resources.hot,
        orders=resources.orders,
        allowed_origins=resources.settings.allowed_origins,
    )
    response.status_code = 201 if prepared.is_new else 200
    return PreparedAnswer.of(prepared, body, client_key=resources.settings.toss_client_key)


@router.post(
    "/confirm",
    summary="Take the money",
    responses={
        200: {"links": WHAT_FOLLOWS_CONFIRM},
        202: {
            "model": PaymentAnswer,
            "description": "The outcome is not known yet: read the payment until it is",
            "headers": RETRY_AFTER,
            "links": WHAT_FOLLOWS_CONFIRM,
        },
        **refusals(
            *GUARDED,
            PaymentDeclined,
            PaymentNotFound,
            AmountMismatch,
            PaymentKeyMismatch,
            NotConfirmable,
            PaymentClosed,
            ConcurrentUpdate,
            PgUnavailable,
            DatabaseUnavailable,
        ),
    },
)
async def confirm_payment(
    body: ConfirmBody, caller: FromPayer, resources: FromResources, response: Response
) -> PaymentAnswer:
    """Take the money of a prepared payment, with what the payment window's redirect brought back.

    Repeating it answers what is recorded and never charges again. 202 means that the outcome is not known yet; it is
    never a failure.
    """
    confirmed = await _confirm_timed(body.request(buyer=buyer_of(caller)), resources)
    if confirmed.payment.status is PaymentStatus.PENDING:
        response.status_code = 202
        response.headers["retry-after"] = str(POLL_AFTER_SECONDS)
    return payment_answer(confirmed.payment, confirmed.refunds)


CANCEL_RESPONSES: Final[Responses] = {
    202: {
        "model": CancelAnswer,
        "description": "The outcome is not known yet: send the same request again, or read the payment, until it is",
        "headers": RETRY_AFTER,
    },
    **refusals(
        *GUARDED,
        IdempotencyKeyMissing,
        IdempotencyKeyMalformed,
        IdempotencyKeyReused,
        RequestInProgress,
        PaymentNotFound,
        PaymentKeyMismatch,
        PaymentInProgress,
        PaymentClosed,
        RefundInProgress,
        NothingToRefund,
        AlreadyRefunded,
        RefundExceedsBalance,
        TaxFreeExceedsRefund,
        RefundAccountRequired,
        RefundAccountNotAllowed,
        DepositArrived,
        DepositAmountDiffers,
        RequestOvertaken,
        RefundRefused,
        RefundBalanceDiffers,
        PartialRefundNotAllowed,
        RefundDeadlinePassed,
        RefundAccountRefused,
        RefundNotNow,
        RefundOverLimit,
        ConcurrentUpdate,
        DatabaseUnavailable,
    ),
}


@router.post(
    "/orders/{orderId}/cancel",
    summary="Give up an order's payment, or give its money back",
    response_model=CancelAnswer,
    responses=CANCEL_RESPONSES,
    openapi_extra={"parameters": [IDEMPOTENCY_KEY_PARAMETER]},
)
async def cancel_payment_of_order(
    order_id: Annotated[OrderId, Path(alias="orderId")],
    body: CancelBody,
    key: FromIdempotencyKey,
    client: FromRefunder,
    resources: FromResources,
) -> Response:
    """Give up a payment that was not paid, or give captured money back, wholly or in part.

    The same `Idempotency-Key` and body get the same answer, byte for byte, and nothing happens twice. A 202 is no
    answer yet: the same request gets the same 202 until the outcome is known, and from then on the outcome. A 409
    with `Retry-After` and a 503 decide nothing either; the same request may be sent again.
    """

    async def _find() -> str:
        return order_id

    name = Name.of(client.identity, key, content=f"cancel order {order_id} {body.model_dump_json()}")
    return await _cancel_once(name, _find, body, client=client, resources=resources)


@router.post(
    "/{paymentKey}/cancel",
    summary="Give up a payment, or give its money back",
    response_model=CancelAnswer,
    responses=CANCEL_RESPONSES,
    openapi_extra={"parameters": [IDEMPOTENCY_KEY_PARAMETER]},
)
async def cancel_payment(
    payment_key: Annotated[PaymentKey, Path(alias="paymentKey")],
    body: CancelBody,
    key: FromIdempotencyKey,
    client: FromRefunder,
    resources: FromResources,
) -> Response:
    """The same as for the order, by the PG's key of its present attempt."""

    async def _find() -> str:
        return await order_of_key(payment_key, sessions=resources.sessions)

    name = Name.of(client.identity, key, content=f"cancel payment {payment_key} {body.model_dump_json()}")
    return await _cancel_once(name, _find, body, client=client, resources=resources)


@router.get(
    "/orders/{orderId}",
    summary="Where an order's payment stands",
    responses=refusals(*GUARDED, PaymentNotFound, DatabaseUnavailable),
)
async def read_payment_of_order(
    order_id: Annotated[OrderId, Path(alias="orderId")], caller: FromReaderOfOne, resources: FromResources
) -> PaymentAnswer | StatusAnswer:
    """The whole payment for the back office and for the buyer whose it is; for everybody else the status alone."""
    if resources.hot is not None and (found := await resources.hot.find(order_id)):
        return _as_seen_by(caller, found, ())
    async with transaction(resources.sessions) as session:
        payment = await get_payment(session, order_id)
        return _as_seen_by(caller, payment, await refunds_of(session, payment.id))


@router.get(
    "/{paymentKey}",
    summary="Where a payment stands",
    responses=refusals(*GUARDED, PaymentNotFound, DatabaseUnavailable),
)
async def read_payment(
    payment_key: Annotated[PaymentKey, Path(alias="paymentKey")], caller: FromReaderOfOne, resources: FromResources
) -> PaymentAnswer | StatusAnswer:
    """The same by the PG's key, also by the key of an earlier attempt."""
    async with transaction(resources.sessions) as session:
        payment = await get_payment_by_key(session, payment_key)
        return _as_seen_by(caller, payment, await refunds_of(session, payment.id))


@router.get(
    "/{paymentKey}/events",
    summary="A payment's timeline",
    responses=refusals(*GUARDED, PaymentNotFound, DatabaseUnavailable),
)
async def read_timeline(
    payment_key: Annotated[PaymentKey, Path(alias="paymentKey")], _: FromReader, resources: FromResources
) -> EventsAnswer:
    """Every move of the payment since it was prepared, oldest first, over all its attempts."""
    async with transaction(resources.sessions) as session:
        payment = await get_payment_by_key(session, payment_key)
        return EventsAnswer(events=[EventAnswer.of(event, payment) for event in await history(session, payment.id)])


def _as_seen_by(caller: Caller, payment: Payment, refunds: Sequence[Refund]) -> PaymentAnswer | StatusAnswer:
    if payment.is_hidden_from(buyer_of(caller)):
        raise PaymentNotFound
    return status_answer(payment, refunds) if isinstance(caller, Anonymous) else payment_answer(payment, refunds)


async def _cancel_once(
    name: Name, find_order: Callable[[], Awaitable[str]], body: CancelBody, *, client: Client, resources: Resources
) -> Response:
    async def _cancel(request_id: UUID) -> Response:
        outcome = await cancel(
            body.request(await find_order(), request_id=request_id, client=client),
            sessions=resources.sessions,
            pg=resources.pg,
            background=resources.background,
            lease=resources.pg_lease,
        )
        return _cancel_response(outcome)

    return await once(name, _cancel, resources=resources)


def _cancel_response(outcome: CancelOutcome) -> Response:
    body = CancelAnswer.of(outcome).model_dump_json(by_alias=True)
    if outcome.is_decided:
        return Response(body, media_type="application/json")
    headers = {"retry-after": str(POLL_AFTER_SECONDS)}
    return Response(body, status_code=202, headers=headers, media_type="application/json")


async def _confirm_timed(asked: ConfirmRequest, resources: Resources) -> Confirmed:
    started = time.monotonic()
    outcome = "refused"
    try:
        confirmed = await confirm(
            asked,
            sessions=resources.sessions,
            hot=resources.hot,
            pg=resources.pg,
            background=resources.background,
            lease=resources.pg_lease,
        )
        outcome = confirmed.payment.status.value.lower()
    finally:
        CONFIRM_SECONDS.labels(outcome).observe(time.monotonic() - started)
    return confirmed
