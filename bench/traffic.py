"""What the clients of a measurement send: endless iterators of requests that are bytes already."""

import hashlib
import hmac
import itertools
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from tests.keys import AUTHORIZATION

from bench.http1 import request
from bench.orders import AMOUNT, NAME, order_id, payment_key

SHOP: Final = "http://shop.example"
WEBHOOK_SECRET: Final = "bench-webhook-secret-0001"  # noqa: S105 - of the bench alone


def confirms(orders: Iterable[str], target: str = "/payments/confirm") -> Iterator[bytes]:
    """As the browser comes back from the payment window; the PG and the idiom take the same body."""
    return (
        request("POST", target, _json({"paymentKey": payment_key(order), "orderId": order, "amount": AMOUNT}))
        for order in orders
    )


def prepares(orders: Iterable[str]) -> Iterator[bytes]:
    """As the browser begins."""
    rest = {
        "amount": AMOUNT,
        "method": "CARD",
        "customerEmail": "buyer@example.com",
        "orderName": NAME,
        "successUrl": f"{SHOP}/success",
        "failUrl": f"{SHOP}/fail",
    }
    return (request("POST", "/payments/prepare", _json({"orderId": order, **rest})) for order in orders)


def reads(orders: Iterable[str]) -> Iterator[bytes]:
    """As the back office looks a payment up by its order."""
    return (request("GET", f"/payments/orders/{order}", headers=AUTHORIZATION) for order in orders)


def cancels(orders: Iterable[str]) -> Iterator[bytes]:
    """As the back office gives all of the money back."""
    body = _json({"cancelReason": "고객 변심"})
    return (
        request(
            "POST",
            f"/payments/{payment_key(order)}/cancel",
            body,
            {**AUTHORIZATION, "Idempotency-Key": f"cancel-{order}"},
        )
        for order in orders
    )


def webhooks(orders: Iterable[str]) -> Iterator[bytes]:
    """As a relay tells what Toss has told it, signed."""
    created_at = datetime.now(UTC).replace(tzinfo=None).isoformat()
    for order in orders:
        content = {
            "paymentKey": payment_key(order),
            "orderId": order,
            "status": "DONE",
            "lastTransactionKey": f"tx-{order}",
            "totalAmount": AMOUNT,
            "method": "카드",
        }
        body = _json({"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": created_at, "data": content})
        signature = hmac.new(WEBHOOK_SECRET.encode(), body, hashlib.sha256).hexdigest()
        yield request("POST", "/webhook/toss", body, {"Toss-Signature": signature})


def orders_of(series: str, count: int | None = None) -> Iterator[str]:
    """The first orders of a series, or all without an end."""
    return (order_id(series, number) for number in (itertools.count() if count is None else range(count)))


def over_and_over(series: str, count: int) -> Iterator[str]:
    """The same orders again and again."""
    return itertools.cycle(orders_of(series, count))


def _json(content: dict[str, object]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
