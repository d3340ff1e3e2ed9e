"""The payments API as the shop's server meets it, for one order: it keeps the promise of one refund for each key."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import respx

from demo_shop.orders import Order
from tests.shop.builders import Json, a_payment, a_problem, a_refund, not_prepared

Answer = Callable[[httpx.Request], httpx.Response]


def problem(status: int, code: str, **more: object) -> Answer:
    """Refuse whatever comes."""
    return lambda _: httpx.Response(status, json=a_problem(code, status=status, **more))


def no_answer(request: httpx.Request) -> httpx.Response:
    """Break the connection before anything is done."""
    raise httpx.ReadError("gone", request=request)


@dataclass
class PaymentBooks:
    """What the payments API holds and was asked. `steps` answer the next cancels; then it does what it is told."""

    order: Order
    payment: Json | None = None
    asked: list[tuple[str, Json]] = field(default_factory=list)
    steps: list[Answer] = field(default_factory=list)
    answered: dict[str, httpx.Response] = field(default_factory=dict)

    def listen(self, payments_api: respx.MockRouter) -> None:
        path = f"/payments/orders/{self.order.order_id}"
        payments_api.get(path).mock(side_effect=self.answer_read)
        payments_api.post(f"{path}/cancel").mock(side_effect=self.answer_cancel)

    def becomes(self, status: str, **overrides: object) -> None:
        """The payment moves on; a version higher each time, and what it had stays."""
        before = self.payment or a_payment(self.order.order_id, version=0)
        version = int(str(before["version"])) + 1
        self.payment = before | {"status": status, "version": version} | overrides

    def on_cancel(self, *steps: Answer) -> None:
        self.steps = list(steps)

    @property
    def keys(self) -> set[str]:
        """The idempotency keys that arrived."""
        return {key for key, _ in self.asked}

    @property
    def refunded(self) -> list[object]:
        """The amounts that went back."""
        return [refund["amount"] for refund in self._refunds() if refund["status"] == "SUCCEEDED"]

    def answer_read(self, _: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=self.payment) if self.payment else httpx.Response(404, json=not_prepared())

    def answer_cancel(self, request: httpx.Request) -> httpx.Response:
        key, body = request.headers["idempotency-key"], json.loads(request.content)
        self.asked.append((key, body))
        if self.steps:
            return self.steps.pop(0)(request)
        if key not in self.answered:
            self.answered[key] = self._carry_out(body)
        return self.answered[key]

    def lose_answer(self, request: httpx.Request) -> httpx.Response:
        """Do it, and break the connection."""
        self.asked.pop()
        self.answer_cancel(request)
        return no_answer(request)

    def take_on(self, request: httpx.Request) -> httpx.Response:
        """Promise the refund without knowing what comes of it."""
        body = json.loads(request.content)
        refund = a_refund(body["cancelAmount"], status="REQUESTED", completedAt=None, reason=body["cancelReason"])
        self.becomes("COMPLETED", refunds=[*self._refunds(), refund])
        return httpx.Response(202, json={"refund": refund, "payment": self.payment}, headers={"retry-after": "2"})

    def decide(self, status: str, **overrides: object) -> None:
        """The newest refund is decided."""
        *before, newest = self._refunds()
        decided = newest | {"status": status} | overrides
        gone = sum(int(str(refund["amount"])) for refund in [*before, decided] if refund["status"] == "SUCCEEDED")
        self.becomes("PARTIALLY_REFUNDED" if gone else "COMPLETED", refunds=[*before, decided], refundedAmount=gone)

    def _carry_out(self, body: Json) -> httpx.Response:
        if self.payment is None:
            return httpx.Response(404, json=not_prepared())
        if self.payment["status"] in {"CREATED", "WAITING_FOR_DEPOSIT"}:
            self.becomes("CANCELLED")
            return httpx.Response(200, json={"refund": None, "payment": self.payment})
        if self.payment["status"] == "FAILED":
            return httpx.Response(409, json=a_problem("nothing_to_refund"))
        return self._refund(body)

    def _refund(self, body: Json) -> httpx.Response:
        gone = int(str((self.payment or {})["refundedAmount"]))
        amount = int(str(body.get("cancelAmount", self.order.amount - gone)))
        if gone + amount > self.order.amount:
            return httpx.Response(409, json=a_problem("refund_exceeds_balance"))
        refund = a_refund(amount, refundId=f"refund-{len(self._refunds())}", reason=body["cancelReason"])
        self.becomes(
            "REFUNDED" if gone + amount == self.order.amount else "PARTIALLY_REFUNDED",
            refundedAmount=gone + amount,
            refunds=[*self._refunds(), refund],
        )
        return httpx.Response(200, json={"refund": refund, "payment": self.payment})

    def _refunds(self) -> list[Json]:
        refunds = (self.payment or {}).get("refunds", [])
        assert isinstance(refunds, list)
        return refunds
