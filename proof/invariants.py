"""What must hold of everybody's books, whatever happened: the promises, one function each.

The numbers are those under which they are known (docs/proof.md). All of them are checked after everything has
settled; `in_motion` is those that hold at every moment.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from demo_shop.orders import OrderStatus
from demo_shop.refresh import ORDER_STATUS
from payments.states import EVER_CAPTURED, PaymentStatus, allowed_edges
from proof.books import CANCEL, CONFIRM, PREPARE, WEBHOOK, Books, OrderBooks, Row, Told

# What tells of a payment, and what the PG shows then.
_TOLD_OF: Final = frozenset(
    {
        *(PaymentStatus.WAITING_FOR_DEPOSIT, PaymentStatus.COMPLETED, PaymentStatus.FAILED, PaymentStatus.CANCELLED),
        *(PaymentStatus.REFUNDED, PaymentStatus.PARTIALLY_REFUNDED),
    }
)
_SHOWN_AS: Final[Mapping[str, frozenset[str]]] = {
    "CREATED": frozenset({"READY", "IN_PROGRESS", "EXPIRED", "ABORTED"}),
    "WAITING_FOR_DEPOSIT": frozenset({"WAITING_FOR_DEPOSIT"}),
    "COMPLETED": frozenset({"DONE"}),
    "PARTIALLY_REFUNDED": frozenset({"PARTIAL_CANCELED"}),
    "REFUNDED": frozenset({"CANCELED", "PARTIAL_CANCELED"}),
    # An account that was given up, or whose time is over, may wait at the PG for ever.
    "CANCELLED": frozenset({"CANCELED", "READY", "IN_PROGRESS", "EXPIRED", "ABORTED", "DONE", "PARTIAL_CANCELED"}),
    "FAILED": frozenset({"READY", "IN_PROGRESS", "ABORTED", "EXPIRED", "WAITING_FOR_DEPOSIT"}),
}
_OPEN: Final = frozenset({"PENDING", "APPROVED"})
_UNDECIDED: Final = frozenset({202, 409, 429})


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken."""

    invariant: str
    order_id: str
    says: str

    def __str__(self) -> str:
        return f"{self.invariant} {self.order_id}: {self.says}"


Says = Iterator[str]
OfOrder = Callable[[OrderBooks], Says]


def one_capture(books: OrderBooks) -> Says:
    """I1: at most one capture per order is kept; another one went back whole, or a person was told that it cannot."""
    captured = Counter(capture["paymentKey"] for capture in books.captures)
    given_back: Counter[str] = Counter()
    for cancel in books.cancels:
        given_back[cancel["paymentKey"]] += cancel["amount"]
    if any(count > 1 for count in captured.values()) and not books.reversals:
        yield f"a payment was captured {max(captured.values())} times"
    ours = books.payment["payment_key"] if books.payment else None
    told_of = {row["subject"].partition("/")[2] for row in books.discrepancies if row["kind"] == "stray_not_given_back"}
    strays = {row["payment_key"] for row in books.strays}
    for capture in books.captures:
        key = capture["paymentKey"]
        is_back = key in strays and (given_back[key] == capture["amount"] or key in told_of)
        if key != ours and not is_back:
            yield f"{capture['amount']} won under the key of another attempt were kept"


def capture_is_as_prepared(books: OrderBooks) -> Says:
    """I2: what was captured is what prepare stored: amount, currency, key."""
    payment = books.payment
    if payment is None:
        if books.captures:
            yield "captured, and never prepared here"
        return
    for capture in books.captures:
        if capture["paymentKey"] == payment["payment_key"] and capture["amount"] != payment["amount"]:
            yield f"captured {capture['amount']}, prepared {payment['amount']}"
    if payment["currency"] != "KRW":
        yield f"currency {payment['currency']}"


def refunds_are_carried_out_once(books: OrderBooks) -> Says:
    """I3: the PG gave back exactly what succeeded here, once each, and never more than it took."""
    taken = sum(capture["amount"] for capture in books.captures)
    given = sum(cancel["amount"] for cancel in books.cancels)
    if given > taken:
        yield f"{given} won went back of {taken}"
    strays = {row["payment_key"] for row in books.strays}
    theirs = Counter(
        (cancel["transactionKey"], cancel["amount"]) for cancel in books.cancels if cancel["paymentKey"] not in strays
    )
    ours = Counter(
        (refund["transaction_key"], refund["amount"]) for refund in books.refunds if refund["status"] == "SUCCEEDED"
    )
    if theirs != ours and not _is_given_up(books):
        yield f"the PG gave back {sorted(theirs.elements())}, we know of {sorted(ours.elements())}"
    requests = [refund["request_id"] for refund in books.refunds if refund["request_id"]]
    if len(set(requests)) < len(requests):
        yield "one request made two refunds"


def _is_given_up(books: OrderBooks) -> bool:
    """A virtual account that was given up before its deposit shows a cancel that moved no money."""
    return books.payment is not None and books.payment["status"] == "CANCELLED" and not books.captures


def nothing_is_open(books: OrderBooks) -> Says:
    """I4: nothing is left that somebody still has to find out."""
    if books.payment is not None and books.payment["status"] in _OPEN:
        yield f"still {books.payment['status']}"
    if books.payment is not None and books.payment["cancel_key"] and books.payment["status"] == "WAITING_FOR_DEPOSIT":
        yield "still to be given up"
    for name, rows in (("refund", books.refunds), ("stray capture", books.strays)):
        yield from (f"a {name} is still REQUESTED" for row in rows if row["status"] == "REQUESTED")


def books_agree_with_the_pg(books: OrderBooks) -> Says:
    """I5: status, amount and balance equal the PG's."""
    payment = books.payment
    shown = next((one for one in books.shown if payment and one["paymentKey"] == payment["payment_key"]), None)
    if payment is None or shown is None:
        if payment is not None and payment["status"] in {status.value for status in EVER_CAPTURED}:
            yield f"{payment['status']} here, and the PG knows nothing of it"
        return
    if payment["status"] in _SHOWN_AS and shown["status"] not in _SHOWN_AS[payment["status"]]:
        yield f"{payment['status']} here, {shown['status']} at the PG"
    if payment["status"] in {status.value for status in EVER_CAPTURED}:
        balance = payment["amount"] - payment["refunded_amount"]
        if balance != shown["balanceAmount"]:
            yield f"{balance} won left here, {shown['balanceAmount']} at the PG"


def each_change_is_told_once(books: OrderBooks) -> Says:
    """I6: one message for each change that matters; the shop took each once, in order, and stands where we stand."""
    told_of = [row["sequence"] for row in books.history if PaymentStatus(row["to_status"]) in _TOLD_OF]
    messages = [row["sequence"] for row in books.messages]
    if messages != told_of:
        yield f"messages about {messages}, changes {told_of}"
    if books.order is None:
        return
    ids = [str(row["id"]) for row in books.messages]
    arrived = [event["id"] for event in books.events]
    if sorted(arrived) != sorted(ids):
        yield f"{len(ids)} messages, the shop took {len(arrived)}"
    sequences = [event["sequence"] for event in books.events]
    if sequences != sorted(set(sequences)):
        yield f"the shop took them as {sequences}"
    if books.payment is not None:
        yield from _order_follows(books.payment, books.order)


def _order_follows(payment: Row, order: Row) -> Says:
    wanted = {status.value: stands for status, stands in ORDER_STATUS.items()}[payment["status"]]
    if OrderStatus(order["status"]) is not wanted:
        yield f"{payment['status']} here, the order is {order['status']}"
    if order["refunded_amount"] != payment["refunded_amount"]:
        yield f"{payment['refunded_amount']} won went back, the order says {order['refunded_amount']}"


def history_is_whole(books: OrderBooks) -> Says:
    """I7: the history is a walk through the allowed edges, without a gap, and ends where the payment stands."""
    if books.payment is None:
        return
    edges = {(start.value if start else None, end.value) for start, end in allowed_edges()}
    walked = [(row["from_status"], row["to_status"]) for row in books.history]
    yield from (f"moved {start} -> {end}" for start, end in walked if (start, end) not in edges)
    if [row["sequence"] for row in books.history] != list(range(1, len(walked) + 1)):
        yield f"the sequence is {[row['sequence'] for row in books.history]}"
    starts = [start for start, _ in walked[1:]]
    if starts != [end for _, end in walked[:-1]] or not walked or walked[-1][1] != books.payment["status"]:
        yield f"{walked} does not lead to {books.payment['status']}"


def what_was_answered_is_there(books: OrderBooks) -> Says:
    """I8: whatever was acknowledged is still there."""
    statuses = {row["to_status"] for row in books.history}
    amounts = Counter(refund["amount"] for refund in books.refunds if refund["status"] == "SUCCEEDED")
    promised: dict[str, int] = {}
    for told in books.told:
        if told.what == PREPARE and told.status in {200, 201} and books.payment is None:
            yield "prepared for the buyer, and not there"
        if told.what == CONFIRM and told.status == 200 and told.body["status"] not in statuses:
            yield f"the buyer was told {told.body['status']}, the history has {sorted(statuses)}"
        if told.what == CANCEL and told.status == 200 and (refund := told.body.get("refund")):
            promised[told.name] = refund["amount"]
    if missing := Counter(promised.values()) - amounts:
        yield f"refunds were answered that are not there: {sorted(missing.elements())}"


def failure_has_evidence(books: OrderBooks) -> Says:
    """I9: FAILED is what the PG itself said, and the PG holds no money of that attempt."""
    for row in books.history:
        if row["to_status"] == "FAILED" and not row["pg_code"]:
            yield "FAILED without evidence"
    if books.payment is not None and books.payment["status"] == "FAILED" and books.captures:
        yield "FAILED, and the PG took the money"
    for refund in books.refunds:
        if refund["status"] == "FAILED" and not refund["fail_code"]:
            yield "a refund FAILED without evidence"


def same_request_same_answer(books: OrderBooks) -> Says:
    """I10: a request that is repeated is answered alike for good, once it has been decided."""
    answers: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for told in books.told:
        if told.what in {CONFIRM, CANCEL} and told.status not in _UNDECIDED and told.status < 500:
            answers[told.what, told.name].append(told)
    for (what, name), decided in answers.items():
        if len({told.status for told in decided}) > 1:
            yield f"{what} {name} was answered {[told.status for told in decided]}"
        if what == CANCEL and len({json.dumps(told.body, sort_keys=True) for told in decided}) > 1:
            yield f"cancel {name} was answered in two ways"


def amounts_are_whole_won(books: OrderBooks) -> Says:
    """I12: every amount is a whole number of won, and what went back lies between nothing and everything."""
    for told in books.told:
        yield from (
            f"{name} is {value!r} in an answer" for name, value in _amounts(told.body) if type(value) is not int
        )
    payment = books.payment
    if payment is not None and not 0 <= payment["refunded_amount"] <= payment["amount"]:
        yield f"{payment['refunded_amount']} of {payment['amount']} won went back"


def _amounts(body: object) -> Iterator[tuple[str, object]]:
    if isinstance(body, dict):
        for name, value in body.items():
            if name.lower().endswith("amount"):
                yield name, value
            yield from _amounts(value)
    if isinstance(body, list):
        for one in body:
            yield from _amounts(one)


IN_MOTION: Final[Mapping[str, OfOrder]] = {
    "I2": capture_is_as_prepared,
    "I7": history_is_whole,
    "I8": what_was_answered_is_there,
    "I9": failure_has_evidence,
    "I10": same_request_same_answer,
    "I12": amounts_are_whole_won,
}
SETTLED: Final[Mapping[str, OfOrder]] = {
    "I1": one_capture,
    "I3": refunds_are_carried_out_once,
    "I4": nothing_is_open,
    "I5": books_agree_with_the_pg,
    "I6": each_change_is_told_once,
    **IN_MOTION,
}


def violations(books: Books, *, canaries: Sequence[str] = ()) -> list[Violation]:
    """All that does not hold of books that have settled. `canaries` are words that may stand in no log."""
    found = list(_of_orders(books, SETTLED))
    found += [Violation("I4", row["order_id"] or "-", "a webhook waits") for row in books.webhooks if _waits(row)]
    found += [Violation("I4", "-", "a request is still held") for row in books.requests if row["is_locked"]]
    answered = {told.name for one in books.orders for told in one.told if told.what == WEBHOOK and told.status == 200}
    if len(answered) > len(books.webhooks):
        found.append(Violation("I8", "-", f"{len(answered)} webhooks were taken, {len(books.webhooks)} are there"))
    found += [
        Violation("I11", where, f"shows {word!r}") for where, text in _shown(books) for word in canaries if word in text
    ]
    return found


def _shown(books: Books) -> Iterator[tuple[str, str]]:
    """What others read: our logs, the messages to the shop, the answers to clients.

    Prepare answers the buyer what the buyer sent, for the payment window.
    """
    yield "a log", books.log
    for one in books.orders:
        yield from (("a message", json.dumps(row["payload"], ensure_ascii=False)) for row in one.messages)
        heard = [told for told in one.told if told.what != PREPARE]
        yield from (("an answer", json.dumps(told.body, ensure_ascii=False)) for told in heard)


def in_motion(books: Books) -> list[Violation]:
    """What does not hold although it must at every moment, whatever is still under way."""
    return list(_of_orders(books, IN_MOTION))


def _of_orders(books: Books, invariants: Mapping[str, OfOrder]) -> Iterator[Violation]:
    for one in books.orders:
        for name, invariant in invariants.items():
            yield from (Violation(name, one.order_id, says) for says in invariant(one))


def _waits(webhook: Row) -> bool:
    return webhook["processed_at"] is None and webhook["parked_at"] is None


def is_settled(books: Books) -> bool:
    """Whether nothing is left to do: nothing open, no message on its way, no webhook to be worked on."""
    is_told = all(row["delivered_at"] for one in books.orders for row in one.messages)
    is_open = any(says for one in books.orders for says in nothing_is_open(one))
    return is_told and not is_open and not any(map(_waits, books.webhooks))
