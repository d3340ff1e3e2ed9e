"""A business day in the books of others: the PG's list of transactions, and the order service."""

import json
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from urllib.parse import parse_qs

from bench.orders import AMOUNT, order_id, payment_key
from payments.business_day import SEOUL, bounds

SERIES: Final = "night"  # of the orders of the day
_DAY_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class Day:
    """So many payments, evenly over a day in Seoul; the first of them is number 0."""

    day: date
    payments: int

    @property
    def begins(self) -> datetime:
        return bounds(self.day)[0]

    @property
    def step(self) -> timedelta:
        """From one payment to the next."""
        return timedelta(seconds=_DAY_SECONDS / max(1, self.payments))

    def transactions(self, query: str) -> bytes:
        """A page of `GET /v1/transactions`; whoever asks for a day asks for all of it."""
        asked = parse_qs(query)
        after = asked.get("startingAfter")
        first = _number(after[0]) + 1 if after else 0
        numbers = range(first, min(first + int(asked["limit"][0]), self.payments))
        return json.dumps([self._transaction(number) for number in numbers], ensure_ascii=False).encode()

    def paid_orders(self, query: str) -> bytes:
        """A page of `GET /orders?status=PAID`."""
        asked = parse_qs(query)
        first = int(asked.get("cursor", ["0"])[0])
        end = min(first + int(asked["limit"][0]), self.payments)
        page = {
            "orders": [_order(order_id(SERIES, number)) for number in range(first, end)],
            "nextCursor": str(end) if end < self.payments else None,
        }
        return json.dumps(page).encode()

    def _transaction(self, number: int) -> dict[str, object]:
        order = order_id(SERIES, number)
        at = (self.begins + number * self.step).astimezone(SEOUL)
        return {
            "mId": "tvivarepublica",
            "transactionKey": f"tx-{order}",
            "paymentKey": payment_key(order),
            "orderId": order,
            "method": "카드",
            "customerKey": None,
            "useEscrow": False,
            "receiptUrl": None,
            "status": "DONE",
            "transactionAt": at.isoformat(timespec="seconds"),
            "currency": "KRW",
            "amount": AMOUNT,
        }


def looked_up_orders(body: bytes) -> bytes:
    """The answer to `POST /orders/lookup`: every order exists and is paid."""
    return json.dumps({"orders": [_order(order) for order in json.loads(body)["orderIds"]]}).encode()


def _order(order: str) -> dict[str, object]:
    return {"orderId": order, "status": "PAID", "amount": AMOUNT, "refundedAmount": 0}


def _number(transaction_key: str) -> int:
    return int(transaction_key.rpartition("-")[2])
