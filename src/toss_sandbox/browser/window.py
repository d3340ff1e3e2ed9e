"""The payment window: opened by the SDK, shown to the buyer, and left towards the shop."""

from http import HTTPStatus
from typing import Annotated, Final, Literal
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from toss_sandbox.browser import choices
from toss_sandbox.browser.templating import page
from toss_sandbox.engine import WIDGET, WIDGETS_FLOW, BuyerChoice, Sandbox, Window, WindowRequest
from toss_sandbox.errors import CODES, TossError
from toss_sandbox.payments import METHOD_NAMES, Status

RESULT_PATH: Final = "/sandbox/window/result"

_OVER: Final = "이미 처리된 결제입니다."
_ENDED: Final[dict[str, str]] = {
    Status.EXPIRED: "결제 시간이 만료되었습니다.",
    Status.IN_PROGRESS: "이미 인증을 마친 결제입니다.",
    Status.ABORTED: "실패한 결제입니다.",
}

# Any shop may open a window: the client key is public, and this is a tool of one machine.
CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "Content-Type",
}


class _CamelModel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class OpenWindow(_CamelModel):
    """What the SDK posts to open a window; `easy_pay` is a wallet, by its code or its name."""

    client_key: str
    flow: Literal["payment", "widgets"]
    method: str
    easy_pay: str | None = None
    order_id: str
    order_name: str
    amount: int = Field(strict=True)
    success_url: str
    fail_url: str
    customer_email: str | None = None
    customer_name: str | None = None

    def to_request(self) -> WindowRequest:
        """What the sandbox is asked; in the widgets flow the buyer's choice in the shop's page binds nobody yet."""
        given = self.model_dump(exclude={"easy_pay"})
        return WindowRequest(**given | {"method": WIDGET if self.flow == WIDGETS_FLOW else self.method})

    def checkout_path(self, payment_key: str) -> str:
        """Where the window is; the query says what the buyer has chosen in the shop's page already."""
        query = {"method": self.method} | ({"easyPay": self.easy_pay} if self.easy_pay else {})
        return f"/v1/payments/{payment_key}/checkout?{urlencode(query)}"


class Preselection(_CamelModel):
    """The query of a window's address."""

    method: str = "CARD"
    easy_pay: str = ""


class PayForm(_CamelModel):
    """The window's form; fields of the methods that were not chosen arrive too, and are left aside."""

    method: str
    outcome: str = choices.APPROVE
    instalment_months: int = 0
    bank: str | None = None
    easy_pay_provider: str | None = None
    holder_name: str | None = Field(default=None, max_length=100)

    def choice(self, window: Window) -> BuyerChoice:
        """What the buyer chose.

        Raises:
            TossError: A value that this window does not offer.
        """
        is_offered = (
            self.method in _methods_of(window)
            and self.outcome in {choices.APPROVE, *choices.REFUSALS}
            and self.instalment_months in choices.instalments_for(window.amount)
            and self.bank in {None, *choices.BANKS}
            and self.easy_pay_provider in {None, *choices.WALLETS.values()}
        )
        if not is_offered:
            raise TossError("INVALID_REQUEST")
        return BuyerChoice(
            method=self.method,
            refuse_with=None if self.outcome == choices.APPROVE else self.outcome,
            instalment_months=self.instalment_months if self.method == "CARD" else 0,
            bank=self.bank,
            easy_pay_provider=self.easy_pay_provider,
            holder_name=self.holder_name or None,
        )


def create_opening_router(sandbox: Sandbox) -> APIRouter:
    """What the SDK asks for: a new window, and the page that hands its result back into the shop's page."""
    router = APIRouter()

    @router.options("/sandbox/window")
    async def preflight() -> Response:
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=CORS)

    @router.post("/sandbox/window")
    async def open_window(request: Request) -> JSONResponse:
        try:
            order = _parse(await request.body())
            payment_key = sandbox.open_window(order.to_request())
        except TossError as error:
            return JSONResponse({"code": error.code, "message": error.message}, error.status, headers=CORS)
        answer = {"paymentKey": payment_key, "checkoutPath": order.checkout_path(payment_key)}
        return JSONResponse(answer, headers=CORS)

    @router.get(RESULT_PATH)
    async def show_result() -> HTMLResponse:
        return page("result.html")

    return router


def create_buyer_router(sandbox: Sandbox) -> APIRouter:
    """What the buyer sees and does in the window."""
    router = APIRouter()

    @router.get("/v1/payments/{payment_key}/checkout")
    async def show_window(payment_key: str, preselection: Annotated[Preselection, Query()]) -> HTMLResponse:
        try:
            window = sandbox.window(payment_key)
        except TossError as error:
            return _show_unknown(error)
        return _show(window, preselection) if window.status == Status.READY else _show_ended(window)

    @router.post("/sandbox/window/{payment_key}/pay")
    async def pay(payment_key: str, form: Annotated[PayForm, Form()]) -> Response:
        try:
            window = sandbox.window(payment_key)
            return _leave(sandbox.authenticate(payment_key, form.choice(window)))
        except TossError as error:
            return _show_refused(sandbox, payment_key, error)

    @router.post("/sandbox/window/{payment_key}/close")
    async def close(payment_key: str) -> Response:
        try:
            return _leave(sandbox.close_window(payment_key))
        except TossError as error:
            return _show_refused(sandbox, payment_key, error)

    @router.post("/sandbox/window/{payment_key}/abort")
    async def abort(payment_key: str, code: Annotated[str, Form()]) -> Response:
        try:
            return _leave(sandbox.abort_window(payment_key, _known_abort(code)))
        except TossError as error:
            return _show_refused(sandbox, payment_key, error)

    return router


def _parse(body: bytes) -> OpenWindow:
    try:
        return OpenWindow.model_validate_json(body)
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(str(part) for part in each["loc"]) for each in error.errors()}))
        raise TossError("INVALID_REQUEST", f"잘못된 요청입니다. ({fields or 'body'})") from error


def _methods_of(window: Window) -> tuple[str, ...]:
    if window.method == WIDGET:
        return choices.WIDGET_METHODS
    return choices.CARD_METHODS if window.method == "CARD" else (window.method,)


def _known_abort(code: str) -> str:
    if code not in choices.ABORTS:
        raise TossError("INVALID_REQUEST")
    return code


def _leave(url: str) -> RedirectResponse:
    # See other: the shop's page is fetched with GET, and going back does not post again.
    return RedirectResponse(url, HTTPStatus.SEE_OTHER)


def _show(window: Window, preselection: Preselection) -> HTMLResponse:
    methods = _methods_of(window)
    return page(
        "window.html",
        window=window,
        methods=[(method, METHOD_NAMES[method], choices.METHODS[method]) for method in methods],
        chosen=preselection.method if preselection.method in methods else methods[0],
        wallet=choices.WALLETS.get(preselection.easy_pay, preselection.easy_pay),
        target=_target_of(window),
        approve=choices.APPROVE,
        refusals=[(code, CODES[code][1]) for code in choices.REFUSALS],
        aborts=[(code, CODES[code][1]) for code in choices.ABORTS],
        instalments=choices.instalments_for(window.amount),
        instalment_minimum=choices.INSTALMENT_MINIMUM,
        banks=choices.BANKS,
        wallets=choices.WALLETS.values(),
    )


def _target_of(window: Window) -> str:
    # In a frame the answer belongs to the whole window, unless the shop's page itself waits for it.
    return "_self" if _ends_in_page(window) else "_top"


def _ends_in_page(window: Window) -> bool:
    return urlsplit(window.success_url).path == RESULT_PATH


def _show_ended(window: Window, error: TossError | None = None) -> HTMLResponse:
    can_give_up = window.status in {Status.READY, Status.EXPIRED}
    return page(
        "ended.html",
        error.status if error else HTTPStatus.OK,
        window=window,
        message=_ENDED.get(window.status) or (error.message if error else _OVER),
        target=_target_of(window),
        can_give_up=can_give_up,
        shop=None if can_give_up or _ends_in_page(window) else _origin_of(window.success_url),
    )


def _show_unknown(error: TossError) -> HTMLResponse:
    return page("ended.html", error.status, window=None, message=error.message, can_give_up=False, shop=None)


def _show_refused(sandbox: Sandbox, payment_key: str, error: TossError) -> HTMLResponse:
    try:
        return _show_ended(sandbox.window(payment_key), error)
    except TossError:
        return _show_unknown(error)


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"
