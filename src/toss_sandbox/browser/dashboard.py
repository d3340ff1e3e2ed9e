"""The dashboard: what the sandbox holds, and the buttons with which a tester plays buyer, bank and back office.

Every button is a form that is answered by a redirect, so that the page works without a script and a reload repeats
nothing; what was refused is said on the page.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel

from toss_sandbox.browser.forms import Fields, attempt
from toss_sandbox.browser.listed import Act, ListedPayment
from toss_sandbox.browser.templating import page
from toss_sandbox.browser.webhooks import WebhookSection, create_webhook_forms_router
from toss_sandbox.clock import toss_time
from toss_sandbox.control import Amount, ClockBody, FaultBody
from toss_sandbox.engine import Sandbox
from toss_sandbox.errors import CODES
from toss_sandbox.faults import Fault, FaultKind, FaultOrder, Operation

_CALLS_SHOWN: Final = 50
_PAYMENTS_SHOWN: Final = 100


class _Amount(BaseModel):
    """The field beside a button that takes an amount of won."""

    amount: Amount


def create_dashboard_router(sandbox: Sandbox) -> APIRouter:
    """The page and what its forms post to."""
    router = APIRouter()

    @router.get("/")
    async def show_dashboard(problem: str = "") -> HTMLResponse:
        return _show(sandbox, problem)

    @router.post("/sandbox/dashboard/payments/{payment_key}/{act}")
    async def act_on_payment(payment_key: str, act: Act, fields: Fields) -> RedirectResponse:
        place = f"payment-{quote(payment_key, safe='')}"
        return attempt(lambda: _DEEDS[act](sandbox, payment_key, fields), place=place)

    @router.post("/sandbox/dashboard/clock")
    async def move_clock(fields: Fields) -> RedirectResponse:
        return attempt(lambda: _move_clock(sandbox, fields))

    @router.post("/sandbox/dashboard/faults")
    async def arm_fault(fields: Fields) -> RedirectResponse:
        return attempt(lambda: _arm_fault(sandbox, fields))

    @router.post("/sandbox/dashboard/faults/clear")
    async def clear_faults() -> RedirectResponse:
        return attempt(sandbox.clear_faults)

    router.include_router(create_webhook_forms_router(sandbox))
    return router


def _show(sandbox: Sandbox, problem: str) -> HTMLResponse:
    return page(
        "dashboard.html",
        problem=problem,
        now=toss_time(sandbox.now()),
        offset=_in_words(sandbox.clock_offset),
        payments=[ListedPayment.model_validate(shown) for shown in sandbox.list_payments(limit=_PAYMENTS_SHOWN)],
        payments_shown=_PAYMENTS_SHOWN,
        calls=sandbox.calls(limit=_CALLS_SHOWN)[::-1],
        faults=[(fault.order, _conditions(fault)) for fault in sandbox.faults()],
        operations=list(Operation),
        kinds=list(FaultKind),
        codes=sorted(CODES),
        Act=Act,
        section=WebhookSection(sandbox),
    )


def _amount(fields: dict[str, str]) -> int:
    return _Amount.model_validate(fields).amount


_DEEDS: Final[dict[Act, Callable[[Sandbox, str, dict[str, str]], object]]] = {
    Act.DEPOSIT: lambda sandbox, key, _: sandbox.deposit(key),
    Act.DEPOSIT_OTHER: lambda sandbox, key, fields: sandbox.deposit(key, amount=_amount(fields)),
    Act.FORCE_DEPOSIT: lambda sandbox, key, fields: sandbox.deposit(key, amount=_amount(fields), force=True),
    Act.REVERSE_DEPOSIT: lambda sandbox, key, _: sandbox.reverse_deposit(key),
    Act.PASS_DUE_DATE: lambda sandbox, key, _: sandbox.pass_due_date(key),
    Act.CANCEL: lambda sandbox, key, _: sandbox.cancel_in_console(key),
    Act.CANCEL_AMOUNT: lambda sandbox, key, fields: sandbox.cancel_in_console(key, amount=_amount(fields)),
    Act.REFUND_PAID: lambda sandbox, key, _: sandbox.finish_account_refund(key, succeeded=True),
    Act.REFUND_FAILED: lambda sandbox, key, _: sandbox.finish_account_refund(key, succeeded=False),
    Act.EXPIRE: lambda sandbox, key, _: sandbox.expire(key),
}


def _move_clock(sandbox: Sandbox, fields: dict[str, str]) -> None:
    sandbox.move_clock(timedelta(seconds=ClockBody.model_validate(fields).advance_seconds))


def _arm_fault(sandbox: Sandbox, fields: dict[str, str]) -> None:
    # Without a number of times a fault stays until it is cleared.
    order = FaultBody.model_validate({"times": None} | fields)
    sandbox.arm_fault(FaultOrder(**order.model_dump()))


def _conditions(fault: Fault) -> str:
    order = fault.order
    conditions = {
        "orderId": order.order_id,
        "paymentKey": order.payment_key,
        "code": order.code,
        "status": order.status,
        "delaySeconds": order.delay_seconds,
        "retryAfterSeconds": order.retry_after_seconds,
        "probability": None if order.probability == 1 else order.probability,
    }
    return ", ".join(f"{name} {value}" for name, value in conditions.items() if value is not None)


def _in_words(duration: timedelta) -> str:
    minutes, seconds = divmod(duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((duration.days, "일"), (hours, "시간"), (minutes, "분"), (seconds, "초"))
    return " ".join(f"{count}{unit}" for count, unit in parts if count) or "0초"
