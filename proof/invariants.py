"""What must hold of everybody's books, whatever happened: the promises, one function each.

The numbers are those under which they are known (docs/proof.md). All of them are checked after everything has
settled; `in_motion` is those that hold at every moment.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.integration.world import REASON

from demo_shop.orders import OrderStatus
from demo_shop.refresh import ORDER_STATUS
from payments.errors import Busy
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
_EVER_CAPTURED: Final = frozenset(status.value for status in EVER_CAPTURED)
_UNDECIDED: Final = frozenset({202, 429})
_OK: Final = 200
_ACCEPTED: Final = 202
_CONFLICT: Final = 409
_INTERNAL_ERROR: Final = 500
_BUSY: Final = frozenset(kind.code for kind in Busy.__subclasses__())
# In the answers to one confirm, whatever becomes of the payment later; not the times, which are moved to let time pass.
_NEVER_CHANGES: Final = ("orderId", "paymentKey", "amount")
_ADOPTED: Final = "adopted-"  # how the keys of refunds begin that were made at the PG itself
_ENDED: Final = frozenset({"ABORTED", "EXPIRED"})
# Codes that are ours, because the PG has none for it: of payments, and of refunds.
_DECIDED_HERE: Final = frozenset({"expired", "DEPOSIT_OVERDUE", "KEY_OF_ANOTHER_ORDER"})
_REFUND_DECIDED_HERE: Final = frozenset(
    {"ACCOUNT_NOT_KEPT", "ALREADY_RECORDED", "NOT_MATCHES_REFUNDABLE_AMOUNT", "NOT_REFUNDED"}
)
_DEPOSIT_REVERSED: Final = "DEPOSIT_REVERSED"  # ours as well, and there is a reversal then
# Under which names a person is told of what cannot be decided here.
_NOT_BACK: Final = frozenset({"captured_after_cancel", "stray_not_given_back"})
_AMOUNT_DIFFERS: Final = frozenset({"amount_differs_at_pg", "deposit_amount_differs"})


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
    came, reversed_ = _under_keys(books.taken or books.captures), _under_keys(books.reversals)
    given_back: Counter[str] = Counter()
    for cancel in books.cancels:
        given_back[cancel["paymentKey"]] += cancel["amount"]
    for key, times in came.items():
        if times > 1 + reversed_[key]:
            yield f"a payment was captured {times} times, and {reversed_[key]} times the bank took it back"
    ours = books.payment["payment_key"] if books.payment else None
    told_of = {row["subject"].partition("/")[2] for row in books.discrepancies if row["kind"] == "stray_not_given_back"}
    strays = {row["payment_key"] for row in books.strays}
    for capture in books.captures:
        key = capture["paymentKey"]
        is_back = key in strays and (given_back[key] == capture["amount"] or key in told_of)
        if key != ours and not is_back:
            yield f"{capture['amount']} won under the key of another attempt were kept"


def _under_keys(movements: Sequence[Row]) -> Counter[str]:
    return Counter(row["paymentKey"] for row in movements)


def nothing_is_kept_of_what_was_given_up(books: OrderBooks) -> Says:
    """I1: what came under the key of an order that was given up is back, or a person still knows that it is not."""
    if books.payment is None or books.payment["status"] != "CANCELLED":
        return
    key = books.payment["payment_key"]
    moved = {
        name: sum(row["amount"] for row in rows if row["paymentKey"] == key)
        for name, rows in (
            ("in", books.taken or books.captures),
            ("back", books.reversals),
            ("given", books.cancels),
        )
    }
    kept = moved["in"] - moved["back"] - moved["given"]
    told_of = {
        row["subject"].partition("/")[2]
        for row in books.discrepancies
        if row["kind"] in _NOT_BACK and row["resolved_at"] is None
    }
    if kept > 0 and key not in told_of:
        yield f"{kept} won were kept of an order that was given up"


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


def amount_is_the_orders(books: OrderBooks) -> Says:
    """I2: what is to be paid is what the order costs."""
    if books.payment and books.order and books.payment["amount"] != books.order["amount"]:
        yield f"prepared {books.payment['amount']}, the order costs {books.order['amount']}"


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


def each_request_once(books: OrderBooks) -> Says:
    """I3: as many refunds were begun here, and carried out by the PG in our words, as requests have asked for.

    What is done twice and then adopted, as somebody else's, leaves books that agree. A client that got no answer may
    have asked for the one that there is.
    """
    asked = len({told.name for told in books.told if told.what == CANCEL})
    begun = len(_begun(books))
    done = sum(one["cancelReason"] == REASON for shown in books.shown for one in shown["cancels"] or ())
    if begun > max(1, asked):
        yield f"{asked} requests made {begun} refunds"
    may_be_given_up = books.payment is not None and books.payment["status"] == "CANCELLED"
    if done > max(asked, begun, may_be_given_up):
        yield f"{asked} requests had the PG carry out {done} refunds"


def _begun(books: OrderBooks) -> Sequence[Row]:
    return [row for row in books.refunds if not row["refund_key"].startswith(_ADOPTED)]


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
        if payment is not None and payment["status"] in _EVER_CAPTURED:
            yield f"{payment['status']} here, and the PG knows nothing of it"
        return
    fitting = _SHOWN_AS.get(payment["status"])
    # An account that nobody paid into in time is closed here, and can be closed there at any later time.
    is_closed_there = payment["status"] == "FAILED" and shown["status"] == "CANCELED" and not _is_held(books, shown)
    if fitting is not None and shown["status"] not in fitting and not is_closed_there:
        yield f"{payment['status']} here, {shown['status']} at the PG"
    if payment["status"] in _EVER_CAPTURED:
        balance = payment["amount"] - payment["refunded_amount"]
        if balance != shown["balanceAmount"]:
            yield f"{balance} won left here, {shown['balanceAmount']} at the PG"


def _is_held(books: OrderBooks, shown: Row) -> bool:
    """Whether money came under this payment key that no bank has taken back."""
    came, went = _under_keys(books.taken or books.captures), _under_keys(books.reversals)
    return came[shown["paymentKey"]] > went[shown["paymentKey"]]


def amount_is_the_pgs(books: OrderBooks) -> Says:
    """I5: what the PG waits for, or took, is our amount, or a person was told."""
    payment = books.payment
    if payment is None or payment["status"] not in {"WAITING_FOR_DEPOSIT", *_EVER_CAPTURED}:
        return
    is_told = any(row["kind"] in _AMOUNT_DIFFERS for row in books.discrepancies)
    for shown in books.shown:
        is_ours = shown["paymentKey"] == payment["payment_key"]
        if is_ours and shown["totalAmount"] != payment["amount"] and not is_told:
            yield f"{payment['amount']} won here, {shown['totalAmount']} at the PG"


def money_moved_as_often(books: OrderBooks) -> Says:
    """I5: under each key money came here no more often than at the PG, and no more often did a bank take it back."""
    came, went = _under_keys(books.taken or books.captures), _under_keys(books.reversals)
    came_here: Counter[str] = Counter()
    went_here: Counter[str] = Counter()
    key = ""
    for row in books.history:
        key = row["payment_key"] or key  # named when its confirm begins
        came_here[key] += row["to_status"] == "APPROVED"
        went_here[key] += (row["from_status"], row["to_status"]) == ("COMPLETED", "WAITING_FOR_DEPOSIT")
    yield from (f"APPROVED {came_here[key]} times, captured {came[key]} times" for key in came_here - came)
    yield from (f"{times} deposits taken back here that the PG still has" for times in (went_here - went).values())


def each_change_is_told_once(books: OrderBooks) -> Says:
    """I6: one message for each change that matters; the shop took each once, in order, and stands where we stand."""
    told_of = [row["sequence"] for row in books.history if PaymentStatus(row["to_status"]) in _TOLD_OF]
    messages = [row["sequence"] for row in books.messages]
    if messages != told_of:
        yield f"messages about {messages}, changes {told_of}"
    reversed_ = sum(row["type"] == "payment.deposit_reversed" for row in books.messages)
    if reversed_ > len(books.reversals):
        yield f"{reversed_} messages that a deposit was taken back, and {len(books.reversals)} were"
    if books.order is None:
        if books.payment is not None:
            yield "the shop has no such order"
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
    for told in books.told:
        if told.what == PREPARE and told.status in {200, 201} and books.payment is None:
            yield "prepared for the buyer, and not there"
        if told.what == CONFIRM and told.status in {200, 202}:
            wanted = {told.body["status"], *(("PENDING",) if told.status == _ACCEPTED else ())}
            if missing := wanted - statuses:
                yield f"the buyer was told {sorted(missing)}, the history has {sorted(statuses)}"
        if told.what == CANCEL and told.status in {200, 202}:
            yield from _cancel_is_there(books, told, statuses)


def _cancel_is_there(books: OrderBooks, told: Told, statuses: Collection[str]) -> Says:
    stands_as = told.body["payment"]["status"]
    if stands_as not in statuses:
        yield f"the back office was told {stands_as}, the history has {sorted(statuses)}"
    if (answered := told.body["refund"]) is None:
        return
    refund = next((row for row in books.refunds if str(row["id"]) == answered["refundId"]), None)
    is_done = refund is not None and refund["status"] == "SUCCEEDED" and refund["amount"] == answered["amount"]
    if refund is None or (told.status != _ACCEPTED and not is_done):
        yield f"a refund of {answered['amount']} won was answered that is not there"


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


def failure_was_said(books: OrderBooks) -> Says:
    """I9: the code of a failure is one that the PG did answer with, or that its payment shows."""
    said = {call["code"] for call in books.calls}
    for shown in (*books.shown, *books.confirmed):
        said |= {shown["status"]} & _ENDED | {(shown["failure"] or {}).get("code")}
    for row in books.history:
        if row["to_status"] == "FAILED" and row["pg_code"] not in said | _DECIDED_HERE:
            yield f"FAILED because of {row['pg_code']}, which the PG never said"
    of_refunds = said | _REFUND_DECIDED_HERE | ({_DEPOSIT_REVERSED} if books.reversals else set())
    for name, rows, known in (("refund", books.refunds, of_refunds), ("stray capture", books.strays, said)):
        for row in rows:
            if row["status"] == "FAILED" and row["fail_code"] not in known:
                yield f"a {name} FAILED because of {row['fail_code']}, which the PG never said"


def refused_is_not_carried_out(books: OrderBooks) -> Says:
    """I9: what is known here as refused is not what the PG carried out, and was then taken for somebody else's."""
    adopted = {(row["amount"], row["reason"]) for row in books.refunds if row["refund_key"].startswith(_ADOPTED)}
    for row in books.refunds:
        if row["status"] == "FAILED" and (row["amount"], row["reason"]) in adopted:
            yield f"a refund of {row['amount']} won FAILED, and the PG carried it out"


def same_request_same_answer(books: OrderBooks) -> Says:
    """I10: a request that is repeated is answered alike for good, once it has been decided."""
    answers: dict[tuple[str, str], list[Told]] = defaultdict(list)
    for told in books.told:
        if told.what in {CONFIRM, CANCEL} and _is_decided(told):
            answers[told.what, told.name].append(told)
    for (what, name), decided in answers.items():
        if len({told.status for told in decided}) > 1:
            yield f"{what} {name} was answered {[told.status for told in decided]}"
        if what == CANCEL and len({json.dumps(told.body, sort_keys=True) for told in decided}) > 1:
            yield f"cancel {name} was answered in two ways"
        if what == CONFIRM and len(bought := {_bought(told) for told in decided if told.status == _OK}) > 1:
            yield f"confirm {name} was answered {sorted(bought)}"


def _is_decided(told: Told) -> bool:
    if told.status == _CONFLICT:  # a confirm may come again when the order has been prepared again
        return told.what == CANCEL and told.body["code"] not in _BUSY
    return told.status not in _UNDECIDED and told.status < _INTERNAL_ERROR


def _bought(told: Told) -> tuple[object, ...]:
    return tuple(told.body[name] for name in _NEVER_CHANGES)


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


def messages_have_whole_amounts(books: OrderBooks) -> Says:
    """I12: every amount that the shop is told is a whole number of won."""
    for row in books.messages:
        found = _amounts(row["payload"]["data"])
        yield from (f"{name} is {value!r} in a message" for name, value in found if type(value) is not int)


IN_MOTION: Final[Sequence[tuple[str, OfOrder]]] = (
    ("I2", capture_is_as_prepared),
    ("I7", history_is_whole),
    ("I8", what_was_answered_is_there),
    ("I9", failure_has_evidence),
    ("I10", same_request_same_answer),
    ("I12", amounts_are_whole_won),
)
SETTLED: Final[Sequence[tuple[str, OfOrder]]] = (
    ("I1", one_capture),
    ("I1", nothing_is_kept_of_what_was_given_up),
    ("I2", amount_is_the_orders),
    ("I3", refunds_are_carried_out_once),
    ("I3", each_request_once),
    ("I4", nothing_is_open),
    ("I5", books_agree_with_the_pg),
    ("I5", amount_is_the_pgs),
    ("I5", money_moved_as_often),
    ("I6", each_change_is_told_once),
    ("I9", failure_was_said),
    ("I9", refused_is_not_carried_out),
    ("I12", messages_have_whole_amounts),
    *IN_MOTION,
)


def violations(books: Books, *, canaries: Sequence[str] = ()) -> list[Violation]:
    """All that does not hold of books that have settled. `canaries` are words that may stand in no log."""
    found = list(_of_orders(books, SETTLED))
    found += _unasked(books)
    found += _unheard(books)
    found += [Violation("I4", "-", "a request is still held") for row in books.requests if row["is_locked"]]
    answered = {told.name for one in books.orders for told in one.told if told.what == WEBHOOK and told.status == 200}
    if len(answered) > len(books.webhooks):
        found.append(Violation("I8", "-", f"{len(answered)} webhooks were taken, {len(books.webhooks)} are there"))
    found += [
        Violation("I11", where, f"shows {word!r}") for where, text in _shown(books) for word in canaries if word in text
    ]
    return found


def _unasked(books: Books) -> Iterator[Violation]:
    """I3: each refund that was begun here is one that a request has asked for."""
    requests = {row["id"] for row in books.requests}
    for one in books.orders:
        for row in _begun(one):
            if row["request_id"] not in requests:
                yield Violation("I3", one.order_id, f"a refund of {row['amount']} won that nobody asked for")


def _unheard(books: Books) -> Iterator[Violation]:
    """I4: of each event of the PG something came, or a person was told that nothing can."""
    told_of = {
        webhook_id
        for one in books.orders
        for row in one.discrepancies
        if row["kind"] == "webhook_not_processed"
        for webhook_id in row["ours"]["webhooks"]
    }
    for row in books.webhooks:
        if _waits(row):
            yield Violation("I4", row["order_id"] or "-", "a webhook waits")
        elif row["parked_at"] is not None and str(row["id"]) not in told_of:
            yield Violation("I4", row["order_id"] or "-", "a webhook was given up, and nobody was told")


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


def _of_orders(books: Books, invariants: Sequence[tuple[str, OfOrder]]) -> Iterator[Violation]:
    for one in books.orders:
        for name, invariant in invariants:
            yield from (Violation(name, one.order_id, says) for says in invariant(one))


def _waits(webhook: Row) -> bool:
    return webhook["processed_at"] is None and webhook["parked_at"] is None


def is_settled(books: Books) -> bool:
    """Whether nothing is left to do: nothing open, no message on its way, no webhook to be worked on."""
    is_told = all(row["delivered_at"] for one in books.orders for row in one.messages)
    is_open = any(says for one in books.orders for says in nothing_is_open(one))
    return is_told and not is_open and not any(map(_waits, books.webhooks))
