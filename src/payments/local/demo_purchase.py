"""A scripted purchase over real HTTP against the running set, told step by step."""

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from payments.local.plan import KEY_FILE, Ports
from payments.local.supervisor import HOST

PRODUCT: Final = "drip-coffee"
REFUSAL: Final = "REJECT_CARD_PAYMENT"

HEARING_SECONDS: Final = 20

DONE: Final = 0
PROBLEM: Final = 1
NOT_RUNNING: Final = 2


class WentWrong(Exception):
    """A step did not answer as it must; the message says which and how."""


@dataclass
class Story:
    """Prints what happens, with the time since the beginning."""

    began: float = field(default_factory=time.monotonic)
    step: int = 0

    def tell(self, who: str, what: str) -> None:
        self.step += 1
        seconds = time.monotonic() - self.began
        print(f"  {self.step:>2}. {seconds:5.2f} s  {who:<8} {what}")  # noqa: T201 - the story is the result


async def demo_purchase(*, port_base: int, data: Path) -> int:
    """Buy one thing: a card is refused, another one pays. Needs `payments run` on the same port base.

    The timeline is for the back office: it is read with the key that the run has left in its `data`.

    Returns:
        The exit code: 0 paid once, 1 something was not as it must be, 2 nothing is running there.
    """
    ports = Ports(port_base)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            await _buy(http, ports, Story(), key=_key_in(data))
    except httpx.ConnectError:
        _complain(f"Nothing answers on port {port_base}; start it first: payments run --port-base {port_base}")
        return NOT_RUNNING
    except (WentWrong, httpx.HTTPError) as error:
        _complain(str(error) or type(error).__name__)
        return PROBLEM
    return DONE


async def _buy(http: httpx.AsyncClient, ports: Ports, story: Story, *, key: str) -> None:
    api, sandbox, shop = (f"http://{HOST}:{port}" for port in (ports.api, ports.sandbox, ports.shop))
    order_id = await _place_order(http, shop)
    order = _good(await http.get(f"{shop}/api/orders/{order_id}")).json()
    story.tell("buyer", f"puts something in the cart: order {order_id}, {order['amount']:,} won")

    await _pay(http, story, order, api=api, sandbox=sandbox, shop=shop, refuse_with=REFUSAL)
    completed = await _pay(http, story, order, api=api, sandbox=sandbox, shop=shop)

    again = await http.post(f"{api}/payments/confirm", json=_confirm_body(order, completed["paymentKey"]))
    story.tell("buyer", f"reloads the page: {again.status_code} {again.json()['status']}, from the record")

    order = await _hear(http, f"{shop}/api/orders/{order_id}")
    story.tell("shop", f"hears of it by a signed event: the order is {order['status']}")
    captures = _good(await http.get(f"{sandbox}/sandbox/ledger", params={"orderId": order_id})).json()["captures"]
    story.tell("PG", f"took {sum(capture['amount'] for capture in captures):,} won in {len(captures)} capture")
    await _print_timeline(http, api, completed["paymentKey"], key=key)
    if order["status"] != "PAID" or [capture["amount"] for capture in captures] != [order["amount"]]:
        raise WentWrong(f"The order is {order['status']} after {len(captures)} captures.")


def _key_in(data: Path) -> str:
    try:
        return (data / KEY_FILE).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        raise WentWrong(f"{data / KEY_FILE} cannot be read: name the data directory of the run by --data.") from None


async def _hear(http: httpx.AsyncClient, order_url: str) -> dict[str, Any]:
    """The order once the shop has heard that it is paid, or as it still stands when that takes too long."""
    deadline = time.monotonic() + HEARING_SECONDS
    while True:
        order: dict[str, Any] = _good(await http.get(order_url)).json()
        if order["status"] == "PAID" or time.monotonic() > deadline:
            return order
        await asyncio.sleep(0.05)


async def _place_order(http: httpx.AsyncClient, shop: str) -> str:
    answer = await http.post(f"{shop}/orders", data={"product": PRODUCT, "quantity": "1"})
    if not answer.is_redirect:
        raise WentWrong(f"The shop did not take the order: HTTP {answer.status_code}.")
    return urlsplit(answer.headers["location"]).path.split("/")[2]


async def _pay(
    http: httpx.AsyncClient,
    story: Story,
    order: Mapping[str, Any],
    *,
    api: str,
    sandbox: str,
    shop: str,
    refuse_with: str | None = None,
) -> dict[str, Any]:
    prepared = _good(await http.post(f"{api}/payments/prepare", json=_prepare_body(order, shop))).json()
    story.tell("browser", f"prepares the payment: attempt {prepared['attempt']}, {prepared['status']}")

    window = {"orderId": order["orderId"], "amount": order["amount"], "refuseWith": refuse_with}
    payment_key = _good(await http.post(f"{sandbox}/sandbox/payments", json=window)).json()["paymentKey"]
    story.tell("buyer", f"pays in the payment window: key …{payment_key[-6:]}")

    answer = await http.post(f"{api}/payments/confirm", json=_confirm_body(order, payment_key))
    body: dict[str, Any] = answer.json()
    if answer.status_code == httpx.codes.PAYMENT_REQUIRED:
        story.tell("browser", f"confirms: 402, {body['pgCode']}: {body['pgMessage']}")
    else:
        _good(answer)
        story.tell("browser", f"confirms: {answer.status_code} {body['status']}")
    return body


async def _print_timeline(http: httpx.AsyncClient, api: str, payment_key: str, *, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    events = _good(await http.get(f"{api}/payments/{payment_key}/events", headers=headers)).json()["events"]
    print("\n  The payment's timeline:")  # noqa: T201 - the story is the result
    for event in events:
        move = f"{event['from'] or 'nothing'} → {event['to']}"
        why = f"  {event['pgCode']}" if event["pgCode"] else ""
        place = f"{event['sequence']:>2}. {event['at'][11:23]}  attempt {event['attempt']}"
        print(f"  {place}  {move:<24} {event['cause']}{why}")  # noqa: T201 - as above
    print()  # noqa: T201 - as above


def _prepare_body(order: Mapping[str, Any], shop: str) -> dict[str, object]:
    return {
        "orderId": order["orderId"],
        "amount": order["amount"],
        "method": "CARD",
        "customerEmail": "demo@example.com",
        "orderName": "demo-purchase",
        "successUrl": f"{shop}/orders/{order['orderId']}/success",
        "failUrl": f"{shop}/orders/{order['orderId']}/fail",
    }


def _confirm_body(order: Mapping[str, Any], payment_key: str) -> dict[str, object]:
    return {"paymentKey": payment_key, "orderId": order["orderId"], "amount": order["amount"]}


def _good(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    raise WentWrong(f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}: {answer.text}")


def _complain(text: str) -> None:
    print(f"payments demo-purchase: {text}", file=sys.stderr)  # noqa: T201 - the command's own words
