"""More stories and more promises: what the hunt for planted defects needs beside those that everything is played with.

They stand apart because they are about the ways in which a defect shows, such as a client that asks once and never
again, a browser that was tampered with, or a PG that contradicts itself.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.integration.webhook_world import as_sent, signed, status_changed
from tests.integration.world import AMOUNT, REASON, confirm_body, prepare_body

from proof.books import CONFIRM, PREPARE, WEBHOOK, Books, OrderBooks, Row
from proof.invariants import Violation
from proof.lives import Http
from proof.stories import ACCOUNT_METHOD, SESSION_IS_OVER, Fate, Teller

_LESS: Final = 1_000  # won that a buyer would rather pay
_NO_SUCH_CODE: Final = "CODE_OF_TOMORROW"  # Toss adds codes without notice
_WRONG_ANSWERS: Final = frozenset({"wrong_amount", "wrong_order"})
_INTERNAL_ERROR: Final = 500


def gone(t: Teller) -> None:
    """The buyer's page asks once, and never again."""
    t.prepare()
    key = t.window()
    t.tell(Http("POST", "/payments/confirm", confirm_body(key, t.order_id)))
    t.later()
    t.later()
    t.later(SESSION_IS_OVER)
    t.later()


def unheard(t: Teller) -> None:
    """What came of a confirm is lost, cannot be looked up for a while, and nobody tells of it or asks again."""
    t.confirm_and_not_hear(tries=1)
    t.later()
    t.later()


def gone_refund(t: Teller) -> None:
    """The back office asks for a part of the money once, and never again."""
    t.buy(strikes=False)
    headers = (("idempotency-key", f"{t.order_id}-once"),)
    body = {"cancelReason": REASON, "cancelAmount": 4_000}
    t.tell(Http("POST", f"/payments/orders/{t.order_id}/cancel", body, headers))
    t.later()
    t.later()


def refund_unheard(t: Teller) -> None:
    """The PG's part in a refund of a part is lost, and cannot be looked up for a while either."""
    t.buy(strikes=False)
    t.lose("cancel")
    t.cancel("part", 4_000)
    t.later()
    t.cancel("rest")
    t.later()


def late_page(t: Teller) -> None:
    """The order was given up, and then the buyer's success page loads."""
    t.prepare()
    key = t.window()
    t.cancel("all")
    t.confirm(key)
    t.later()


def tampered(t: Teller) -> None:
    """A buyer opens the payment window over another amount than was prepared, and confirms that one."""
    t.prepare()
    key = t.case.pg.authenticate(t.order_id, _LESS)
    t.ask(CONFIRM, key, Http("POST", "/payments/confirm", confirm_body(key, t.order_id, _LESS)))
    t.later()


def cheap(t: Teller) -> None:
    """A buyer has the payment prepared over less than the order costs."""
    t.ask(PREPARE, PREPARE, Http("POST", "/payments/prepare", prepare_body(t.order_id, _LESS)))
    key = t.case.pg.authenticate(t.order_id, _LESS)
    t.ask(CONFIRM, key, Http("POST", "/payments/confirm", confirm_body(key, t.order_id, _LESS)))
    t.later()


def too_much(t: Teller) -> None:
    """The back office wants to give more back than there is."""
    t.buy(strikes=False)
    t.cancel("much", AMOUNT + 1)
    t.cancel("part", 4_000)
    t.cancel("more", AMOUNT - 3_999)
    t.later()


def repeated(t: Teller) -> None:
    """What was answered is asked again, after other things have happened."""
    key = t.buy(strikes=False)
    t.cancel("part", 4_000)
    t.cancel("rest")
    t.cancel("part", 4_000)
    t.confirm(key)
    t.later()


def forged(t: Teller) -> None:
    """Somebody writes to us, as the PG would, that a payment is done which was never confirmed."""
    t.prepare()
    key = t.window()
    shown = next(one for one in t.case.pg.payments(t.order_id) if one["paymentKey"] == key)
    body = as_sent(status_changed(shown, status="DONE", approvedAt=shown["requestedAt"]))
    t.ask(WEBHOOK, "forged", Http("POST", "/webhook/toss", body, (("content-type", "application/json"),)))
    t.later()


def forged_signature(t: Teller) -> None:
    """The same, signed by somebody who does not know the secret."""
    t.prepare()
    key = t.window()
    shown = next(one for one in t.case.pg.payments(t.order_id) if one["paymentKey"] == key)
    body = as_sent(status_changed(shown, status="DONE", approvedAt=shown["requestedAt"]))
    lines = {"content-type": "application/json", **signed(body, "not-the-secret")}
    t.ask(WEBHOOK, "forged", Http("POST", "/webhook/toss", body, tuple(lines.items())))
    t.later()


def captured_unheard(t: Teller) -> None:
    """The PG took money that nobody here has asked for, and tells nobody, until the session ends."""
    t.prepare()
    t.captured_elsewhere()
    t.later(SESSION_IS_OVER)
    t.later()


def webhook_and_silence(t: Teller) -> None:
    """A cancel of the PG's console is told of at a moment at which the PG cannot be asked about it."""
    key = t.buy(strikes=False)
    t.at_pg(key, "cancel", when="DONE", amount=1_000)
    t.case.pg.arm("lookup", "drop_before_effect", orderId=t.order_id)
    t.webhook(key)
    t.later()
    t.later()


def looked_up_too_soon(t: Teller) -> None:
    """The answer to a confirm is lost, and for a while the PG cannot find the payment that it has just captured."""
    t.prepare()
    key = t.window()
    t.case.pg.arm("confirm", "drop_reply", orderId=t.order_id)
    t.case.pg.arm("lookup", "error_before_effect", orderId=t.order_id, code="NOT_FOUND_PAYMENT", times=2)
    t.confirm(key)
    t.later()
    t.later()


def deposit_unheard(t: Teller) -> None:
    """The back office gives an account up, and has not heard that the buyer has paid into it."""
    key = t.buy(method=ACCOUNT_METHOD, strikes=False)
    t.at_pg(key, "deposit", when="WAITING_FOR_DEPOSIT")
    t.strike("cancel")
    t.cancel("all")
    t.later()


@dataclass(frozen=True, slots=True)
class Odd:
    """How the PG answers oddly to what it has done."""

    kind: str
    code: str | None = None
    status: int | None = None

    def arm(self, t: Teller, operation: str) -> None:
        more = {"code": self.code, "status": self.status} if self.code else {}
        t.case.pg.arm(operation, self.kind, orderId=t.order_id, **more)


def _odd_confirm(t: Teller, odd: Odd) -> None:
    """The PG confirms, and answers oddly."""
    t.prepare()
    key = t.window()
    odd.arm(t, "confirm")
    t.confirm(key)
    t.later()
    t.later()


def _odd_refund(t: Teller, odd: Odd) -> None:
    """The PG gives a part back, and answers oddly."""
    t.buy(strikes=False)
    odd.arm(t, "cancel")
    t.cancel("part", 4_000)
    t.later()
    t.cancel("rest")
    t.later()


_AFTER_ALL: Final = "server_error_after_effect"
_ODD: Final[Mapping[str, Odd]] = {
    "wrong_amount": Odd("wrong_amount"),
    "wrong_order": Odd("wrong_order"),
    "truncated": Odd("truncated_json"),
    "html": Odd("html"),
    "wrong_json": Odd("wrong_json"),
    "too_many": Odd("too_many_requests"),
    "unlisted": Odd(_AFTER_ALL, _NO_SUCH_CODE, 400),
    "provider_error": Odd(_AFTER_ALL, "PROVIDER_ERROR", 400),
}
ODD_CONFIRMS: Final = {f"confirm_{name}": partial(_odd_confirm, odd=odd) for name, odd in _ODD.items()}
ODD_REFUNDS: Final = {f"refund_{name}": partial(_odd_refund, odd=odd) for name, odd in _ODD.items()}


MORE_STORIES: Final[Mapping[str, Callable[[Teller], None]]] = {
    **{
        story.__name__: story
        for story in (
            *(gone, unheard, gone_refund, refund_unheard, late_page, tampered, cheap, too_much, repeated, forged),
            *(forged_signature, captured_unheard, webhook_and_silence, looked_up_too_soon, deposit_unheard),
        )
    },
    **ODD_CONFIRMS,
    **ODD_REFUNDS,
}

# What the PG's part in them may be, as in `stories.FATES`.
MORE_FATES: Final[Mapping[str, Sequence[Fate]]] = {
    "unheard": (Fate.REPLY_LOST,),
    "refund_unheard": (Fate.NOT_RECEIVED, Fate.REPLY_LOST, Fate.FAULT_OF_PG),
    "deposit_unheard": (Fate.SOUND, Fate.NOT_RECEIVED, Fate.REPLY_LOST),
}

# Where the payment of each story stands in the end, whatever the PG's part in it: whoever takes nobody's money breaks
# no other promise. None: it was never prepared.
STORY_ENDS: Final[Mapping[str | None, Collection[str]]] = {
    None: ("cheap",),
    "CREATED": ("forged", "forged_signature", "tampered"),
    "FAILED": ("never_confirmed", "stolen"),
    "COMPLETED": (
        *("captured_unheard", "deposit_unheard", "forgotten_by_the_shop", "found_at_night", "gone"),
        *("looked_up_too_soon", "lost", "unheard"),
        *ODD_CONFIRMS,
    ),
    "PARTIALLY_REFUNDED": ("bought", "deposited", "gone_refund", "too_much", "webhook_and_silence"),
    "REFUNDED": ("cancelled_while_unknown", "refund_lost", "refund_unheard", "refunded", "repeated", *ODD_REFUNDS),
    "CANCELLED": ("given_up", "late_page", "reversed_deposit", "stray"),
    "WAITING_FOR_DEPOSIT": ("given_up",),  # where the PG refuses to give it up
}

Says = Iterator[str]


def contradiction_is_told(books: OrderBooks, calls: Sequence[Row]) -> Says:
    """I2: a person is told when the PG answered about another order or amount."""
    wrong = {kind for call in calls for kind in (call["fault"] or "").split("+")} & _WRONG_ANSWERS
    if wrong and not books.discrepancies:
        yield f"nobody was told of {sorted(wrong)}"


def no_bug_was_answered(books: OrderBooks) -> Says:
    """I8: nobody is told that something went wrong in here, where nothing was made to."""
    for told in books.told:
        if told.status == _INTERNAL_ERROR:
            yield f"{told.what} {told.name} was answered with {told.status}"


def ends_as(books: Books, ends: Collection[str | None]) -> Iterator[Violation]:
    """I13: where nothing of ours was made to fail, all that was asked for has been done in the end."""
    for one in books.orders:
        status = one.payment["status"] if one.payment else None
        if status not in ends:
            yield Violation("I13", one.order_id, f"ended as {status}, and not as {sorted(map(str, ends))}")


def more_violations(books: Books, calls: Mapping[str, Sequence[Any]], *, is_calm: bool) -> Iterator[Violation]:
    """What does not hold beside `invariants.violations` where nothing of ours was made to fail (`is_calm`).

    There nobody may see a bug, or die before a person is told. `calls` are the PG's, by order.
    """
    for one in books.orders if is_calm else ():
        yield from (Violation("I2", one.order_id, says) for says in contradiction_is_told(one, calls[one.order_id]))
        yield from (Violation("I8", one.order_id, says) for says in no_bug_was_answered(one))
