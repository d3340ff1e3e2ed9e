"""The control API under `/sandbox`: what tests and tools ask of the sandbox besides the Toss API."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final, Literal

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from toss_sandbox.clock import FARTHEST, toss_time
from toss_sandbox.engine import LARGEST_AMOUNT, PAYMENT_FLOW, WIDGET, WIDGETS_FLOW, BuyerChoice, Sandbox, WindowRequest
from toss_sandbox.faults import Fault, FaultKind, FaultOrder, Operation
from toss_sandbox.imports import ImportedPayment
from toss_sandbox.payments import Status
from toss_sandbox.store import Call, Movement

_RETURN_ADDRESS: Final = "http://127.0.0.1/{}"
CAMEL: Final = ConfigDict(
    alias_generator=to_camel,
    populate_by_name=True,
    extra="forbid",
    frozen=True,
    # Only a text with a bound is looked into: JSON can escape half of a surrogate pair, which nobody could store.
    str_max_length=10_000,
)
LARGEST_ID: Final = 2**63 - 1
"""Of SQLite."""

_OLDEST: Final = datetime(2000, 1, 1, tzinfo=UTC)  # Toss has no older payments, and the calendar begins somewhere

OrderId = Annotated[str | None, Query(alias="orderId")]
PaymentKey = Annotated[str | None, Query(alias="paymentKey")]
Amount = Annotated[int, Field(ge=1, le=LARGEST_AMOUNT)]
Limit = Annotated[int, Query(ge=1, le=LARGEST_ID)]


class PaymentBody(BaseModel):
    """A payment as a buyer would leave it behind: authenticated, or with its window still open."""

    model_config = CAMEL

    order_id: str
    amount: int
    order_name: str = "테스트 상품"
    method: str = "CARD"
    client_key: str | None = None
    refuse_with: str | None = None
    leave_ready: bool = False
    customer_email: str | None = None
    customer_name: str | None = None
    instalment_months: int = 0
    bank: str | None = None
    easy_pay_provider: str | None = None
    holder_name: str | None = None
    tax_free_amount: int = 0
    tax_exemption_amount: int = 0
    use_escrow: bool = False
    is_partial_cancelable: bool = True

    def window_request(self, sandbox: Sandbox) -> WindowRequest:
        client_key = self.client_key or sandbox.settings.client_key
        is_widget = client_key == sandbox.settings.widget_client_key
        return WindowRequest(
            client_key=client_key,
            order_id=self.order_id,
            order_name=self.order_name,
            amount=self.amount,
            method=WIDGET if is_widget else self.method,
            success_url=_RETURN_ADDRESS.format("success"),
            fail_url=_RETURN_ADDRESS.format("fail"),
            customer_email=self.customer_email,
            customer_name=self.customer_name,
            flow=WIDGETS_FLOW if is_widget else PAYMENT_FLOW,
            tax_free_amount=self.tax_free_amount,
            tax_exemption_amount=self.tax_exemption_amount,
            use_escrow=self.use_escrow,
            is_partial_cancelable=self.is_partial_cancelable,
        )

    def choice(self) -> BuyerChoice:
        return BuyerChoice(
            method=self.method,
            refuse_with=self.refuse_with,
            instalment_months=self.instalment_months,
            bank=self.bank,
            easy_pay_provider=self.easy_pay_provider,
            holder_name=self.holder_name,
        )


class DepositBody(BaseModel):
    """A transfer to a virtual account; without an amount it is the one that is owed."""

    model_config = CAMEL

    amount: Amount | None = None
    force: bool = False


class CancelBody(BaseModel):
    """A cancel from the console; without an amount everything left goes back."""

    model_config = CAMEL

    amount: Amount | None = None
    reason: Annotated[str, Field(min_length=1, max_length=200)] = "관리자 취소"


class RefundEndBody(BaseModel):
    """How the bank's payment to the buyer's account ended."""

    model_config = CAMEL

    succeeded: bool


class FaultBody(BaseModel):
    """A fault to arm."""

    model_config = CAMEL

    operation: Operation
    kind: FaultKind
    times: int | None = 1
    probability: float = 1.0
    order_id: str | None = None
    payment_key: str | None = None
    delay_seconds: float | None = None
    status: int | None = None
    code: str | None = None
    retry_after_seconds: int | None = None


class ImportedBody(BaseModel):
    """A payment for the books; without `approvedAt` it was made now."""

    model_config = CAMEL

    order_id: str
    amount: Amount
    method: str = "CARD"
    status: Literal[Status.DONE, Status.CANCELED, Status.WAITING_FOR_DEPOSIT] = Status.DONE
    approved_at: Annotated[AwareDatetime, Field(ge=_OLDEST)] | None = None
    payment_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")] | None = None

    def payment(self) -> ImportedPayment:
        return ImportedPayment(**self.model_dump())


class ImportBody(BaseModel):
    model_config = CAMEL

    payments: Annotated[list[ImportedBody], Field(max_length=5_000)]


class ClockBody(BaseModel):
    model_config = CAMEL

    advance_seconds: Annotated[int, Field(ge=0, le=int(FARTHEST.total_seconds()))]


class SwitchBody(BaseModel):
    model_config = CAMEL

    enabled: bool


def create_control_router(sandbox: Sandbox) -> APIRouter:
    """The routes under `/sandbox`."""
    router = APIRouter(prefix="/sandbox")
    _add_payments(router, sandbox)
    _add_money(router, sandbox)
    _add_records(router, sandbox)
    _add_clock(router, sandbox)
    _add_faults(router, sandbox)
    return router


def _add_payments(router: APIRouter, sandbox: Sandbox) -> None:
    @router.post("/payments", status_code=HTTPStatus.CREATED)
    async def make_payment(body: PaymentBody) -> JSONResponse:
        """Do what a buyer would: open the window and authenticate."""
        payment_key = sandbox.open_window(body.window_request(sandbox))
        if not body.leave_ready:
            sandbox.authenticate(payment_key, body.choice())
        payment = sandbox.payment(payment_key)
        made = {"paymentKey": payment_key, "orderId": payment.order_id, "amount": payment.amount}
        return JSONResponse(made | {"status": payment.status.value}, HTTPStatus.CREATED)

    @router.post("/import", status_code=HTTPStatus.CREATED)
    async def import_payments(body: ImportBody) -> JSONResponse:
        """Take payments into the books, all or none, with the money that moved and without webhooks."""
        imported = sandbox.import_payments(entry.payment() for entry in body.payments)
        keys = [
            {
                "orderId": payment.order_id,
                "paymentKey": payment.payment_key,
                "transactionKey": payment.last_transaction_key,
            }
            for payment in imported
        ]
        return JSONResponse({"payments": keys}, HTTPStatus.CREATED)

    @router.post("/payments/{payment_key}/expire")
    async def expire(payment_key: str) -> dict[str, JsonValue]:
        """Let a payment run out of time at once."""
        return sandbox.show(sandbox.expire(payment_key))

    @router.get("/payments")
    async def list_payments(order_id: OrderId = None, limit: Limit = 100) -> list[dict[str, JsonValue]]:
        """Payment objects, newest first."""
        return sandbox.list_payments(order_id, limit)


def _add_money(router: APIRouter, sandbox: Sandbox) -> None:
    @router.post("/payments/{payment_key}/deposit")
    async def deposit(payment_key: str, body: DepositBody | None = None) -> dict[str, JsonValue]:
        """The buyer transfers money to the virtual account; the bank refuses another amount unless it is forced."""
        body = body or DepositBody()
        return sandbox.show(sandbox.deposit(payment_key, amount=body.amount, force=body.force))

    @router.post("/payments/{payment_key}/reverse-deposit")
    async def reverse_deposit(payment_key: str) -> dict[str, JsonValue]:
        """The bank takes the deposit back."""
        return sandbox.show(sandbox.reverse_deposit(payment_key))

    @router.post("/payments/{payment_key}/pass-due-date")
    async def pass_due_date(payment_key: str) -> dict[str, JsonValue]:
        """Let the time for the deposit run out at once."""
        return sandbox.show(sandbox.pass_due_date(payment_key))

    @router.post("/payments/{payment_key}/cancel")
    async def cancel(payment_key: str, body: CancelBody | None = None) -> dict[str, JsonValue]:
        """Cancel as from Toss's developer centre, wholly or in part."""
        body = body or CancelBody()
        return sandbox.show(sandbox.cancel_in_console(payment_key, amount=body.amount, reason=body.reason))

    @router.post("/payments/{payment_key}/finish-account-refund")
    async def finish_account_refund(payment_key: str, body: RefundEndBody) -> dict[str, JsonValue]:
        """The bank has paid the refund out to the buyer's account, or could not."""
        return sandbox.show(sandbox.finish_account_refund(payment_key, succeeded=body.succeeded))


def _add_records(router: APIRouter, sandbox: Sandbox) -> None:
    @router.get("/ledger")
    async def ledger(order_id: OrderId = None) -> dict[str, list[dict[str, JsonValue]]]:
        """The money that moved."""
        money = sandbox.ledger(order_id)
        kinds = {"captures": money.captures, "cancels": money.cancels, "reversals": money.reversals}
        return {kind: [_movement(movement) for movement in movements] for kind, movements in kinds.items()}

    @router.get("/calls")
    async def calls(
        order_id: OrderId = None, payment_key: PaymentKey = None, limit: Limit | None = None
    ) -> dict[str, list[dict[str, JsonValue]]]:
        """Every request to the Toss API, or the newest `limit` of them; oldest first either way."""
        return {"calls": [_call(call) for call in sandbox.calls(order_id, payment_key, limit=limit)]}

    @router.post("/reset", status_code=HTTPStatus.NO_CONTENT)
    async def reset() -> None:
        """Forget everything and put the clock back."""
        sandbox.reset()


def _add_clock(router: APIRouter, sandbox: Sandbox) -> None:
    @router.get("/clock")
    async def clock() -> dict[str, JsonValue]:
        """The sandbox's present, and how far it is ahead of the real one."""
        return _clock(sandbox)

    @router.post("/clock")
    async def move_clock(body: ClockBody) -> dict[str, JsonValue]:
        """Move forward; what becomes due expires at once."""
        try:
            sandbox.move_clock(timedelta(seconds=body.advance_seconds))
        except ValueError as error:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        return _clock(sandbox)

    @router.get("/extra-fields")
    async def extra_fields() -> dict[str, bool]:
        """Whether Payment objects carry fields that no client knows."""
        return {"enabled": sandbox.has_extra_fields}

    @router.put("/extra-fields")
    async def switch_extra_fields(body: SwitchBody) -> dict[str, bool]:
        """Prove that a client ignores fields it does not know."""
        sandbox.switch_extra_fields(on=body.enabled)
        return {"enabled": sandbox.has_extra_fields}


def _add_faults(router: APIRouter, sandbox: Sandbox) -> None:
    @router.get("/faults")
    async def faults() -> dict[str, list[dict[str, JsonValue]]]:
        """What is still armed, oldest first."""
        return {"faults": [_fault(fault) for fault in sandbox.faults()]}

    @router.post("/faults", status_code=HTTPStatus.CREATED)
    async def arm_fault(body: FaultBody) -> dict[str, JsonValue]:
        """Arm a fault for calls to come."""
        try:
            order = FaultOrder(**body.model_dump())
        except ValueError as error:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        return _fault(sandbox.arm_fault(order))

    @router.delete("/faults", status_code=HTTPStatus.NO_CONTENT)
    async def clear_faults() -> None:
        """Disarm everything."""
        sandbox.clear_faults()

    @router.delete("/faults/{fault_id}", status_code=HTTPStatus.NO_CONTENT)
    async def clear_fault(fault_id: Annotated[int, Path(ge=1, le=LARGEST_ID)]) -> None:
        """Disarm one fault; one that is gone already is no mistake."""
        sandbox.clear_fault(fault_id)


def _clock(sandbox: Sandbox) -> dict[str, JsonValue]:
    return {"now": toss_time(sandbox.now()), "offsetSeconds": int(sandbox.clock_offset.total_seconds())}


def _movement(movement: Movement) -> dict[str, JsonValue]:
    return {
        "paymentKey": movement.payment_key,
        "orderId": movement.order_id,
        "amount": movement.amount,
        "transactionKey": movement.transaction_key,
        "at": movement.at,
    }


def _call(call: Call) -> dict[str, JsonValue]:
    return {
        "id": call.id,
        "method": call.method,
        "path": call.path,
        "orderId": call.order_id,
        "paymentKey": call.payment_key,
        "idempotencyKey": call.idempotency_key,
        "testCode": call.test_code,
        "status": call.status,
        "code": call.code,
        "fault": call.fault,
        "at": call.at,
    }


def _fault(fault: Fault) -> dict[str, JsonValue]:
    order = fault.order
    return {
        "id": fault.id,
        "operation": order.operation.value,
        "kind": order.kind.value,
        "times": order.times,
        "probability": order.probability,
        "orderId": order.order_id,
        "paymentKey": order.payment_key,
        "delaySeconds": order.delay_seconds,
        "status": order.status,
        "code": order.code,
        "retryAfterSeconds": order.retry_after_seconds,
    }
