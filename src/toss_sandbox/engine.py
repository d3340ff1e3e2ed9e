"""What can be done in the sandbox: the verbs of the payment window, of the Toss API and of the control API."""

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from pydantic import JsonValue

from toss_sandbox.addresses import is_address, with_query
from toss_sandbox.bodies import ORDER_ID
from toss_sandbox.books import settlements, transactions
from toss_sandbox.cancels import CancelRequest, check_account, check_cancel, make_cancel
from toss_sandbox.clock import MovableClock
from toss_sandbox.confirms import ConfirmRequest, refusal_of
from toss_sandbox.deposits import check_deposit, check_waiting, finish_refund, pass_due_date, reverse
from toss_sandbox.errors import ALREADY_RUNNING_MESSAGE, CODES, TossError
from toss_sandbox.faults import Fault, FaultKind, FaultOrder, Subject
from toss_sandbox.imports import ImportedPayment, check_import, make_import
from toss_sandbox.listings import read_settlements_query, read_transactions_query
from toss_sandbox.payment_object import payment_object
from toss_sandbox.payments import (
    APPROVED,
    METHOD_NAMES,
    UNFINISHED,
    VIRTUAL_ACCOUNT,
    Failure,
    Payment,
    RefundStatus,
    Status,
    make_means,
    new_payment_key,
    new_secret,
)
from toss_sandbox.settings import KeyKind, KeyPair, OrderLookup, Settings
from toss_sandbox.store import Call, Identity, Movement, Remembered, Store, movement
from toss_sandbox.webhooks import Webhooks

WIDGET: Final = "WIDGET"
PAYMENT_FLOW: Final = "payment"
WIDGETS_FLOW: Final = "widgets"

_ORDER_NAME_LENGTH: Final = 100
LARGEST_AMOUNT: Final = 2**53 - 1  # what every JSON reader takes exactly
_INSTALMENTS: Final = frozenset({0, *range(2, 13)})

_OFFSET: Final = "clock_offset_seconds"
_EXTRA_FIELDS: Final = "extra_fields"


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """What the browser SDK passed to `requestPayment`.

    `method` is the SDK's enum (CARD, TRANSFER, ...) or WIDGET when the widget lets the buyer choose; `flow` is
    `payment` or `widgets`; amounts are won. `is_partial_cancelable` is a trait of the buyer's means at Toss, and told
    here because nothing else would.
    """

    client_key: str
    order_id: str
    order_name: str
    amount: int
    method: str
    success_url: str
    fail_url: str
    customer_email: str | None
    customer_name: str | None
    flow: str
    tax_free_amount: int = 0
    tax_exemption_amount: int = 0
    use_escrow: bool = False
    is_partial_cancelable: bool = True


@dataclass(frozen=True, slots=True)
class BuyerChoice:
    """What the buyer did in the window.

    `refuse_with` is the Toss code that the later confirm shall answer; `bank` a two-digit bank code.
    """

    method: str = "CARD"
    refuse_with: str | None = None
    instalment_months: int = 0
    bank: str | None = None
    easy_pay_provider: str | None = None
    holder_name: str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """What the payment window shows of a payment; the amount is won."""

    payment_key: str
    order_id: str
    order_name: str
    amount: int
    method: str
    status: str
    flow: str
    success_url: str
    fail_url: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """The money that moved: the shop holds captures - reversals - cancels."""

    captures: list[Movement]
    cancels: list[Movement]
    reversals: list[Movement]


class Sandbox:
    """One merchant's Toss: payments, money, clock, faults and webhooks.

    A change outlives the process once its method returns, and the webhooks it owes with it.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.store = Store(self.settings.data)
        self._clock = MovableClock(timedelta(seconds=self.store.switch(_OFFSET, default=0)))
        self._confirming: set[str] = set()
        self._chance = random.Random()  # noqa: S311 - it decides about faults, not about secrets
        self.webhooks = Webhooks(self.store, self.settings, show=self.show, now=self.now)

    def close(self) -> None:
        """Release the database file."""
        self.store.close()

    # The payment window

    def open_window(self, request: WindowRequest) -> str:
        """Create a READY payment, whose buyer now has 30 minutes, and return its payment key.

        Raises:
            TossError: The request breaks a rule of `requestPayment`, or the client key is not of this merchant.
        """
        self._check_client_key(request)
        _check_window_request(request)
        at = self._clock.now()
        payment = Payment(
            payment_key=self._new_payment_key(at),
            order_id=request.order_id,
            order_name=request.order_name,
            amount=request.amount,
            requested_method=request.method,
            flow=request.flow,
            client_key=request.client_key,
            success_url=request.success_url,
            fail_url=request.fail_url,
            secret=new_secret(),
            requested_at=at,
            customer_email=request.customer_email,
            customer_name=request.customer_name,
            tax_free_amount=request.tax_free_amount,
            tax_exemption_amount=request.tax_exemption_amount,
            use_escrow=request.use_escrow,
            is_partial_cancelable=request.is_partial_cancelable,
        )
        self.store.save_payment(payment)
        return payment.payment_key

    def window(self, payment_key: str) -> Window:
        """Look at a payment as its window does.

        Raises:
            TossError: NOT_FOUND_PAYMENT.
        """
        payment = self.payment(payment_key)
        return Window(
            payment_key=payment.payment_key,
            order_id=payment.order_id,
            order_name=payment.order_name,
            amount=payment.amount,
            method=payment.requested_method,
            status=payment.status.value,
            flow=payment.flow,
            success_url=payment.success_url,
            fail_url=payment.fail_url,
        )

    def authenticate(self, payment_key: str, choice: BuyerChoice) -> str:
        """The buyer agrees to pay: READY becomes IN_PROGRESS and the ten minutes to confirm begin.

        A buyer who agrees twice is sent to the same address again.

        Returns:
            The `successUrl` with what Toss adds to it.

        Raises:
            TossError: NOT_FOUND_PAYMENT, NOT_FOUND_PAYMENT_SESSION after the 30 minutes, ALREADY_PROCESSED_PAYMENT,
                or the choice is impossible.
        """
        payment = self.payment(payment_key)
        if payment.status is Status.EXPIRED:
            raise TossError("NOT_FOUND_PAYMENT_SESSION")
        if payment.status is not Status.IN_PROGRESS:
            _check_choice(payment, choice)
            means = make_means(
                choice.method,
                instalment_months=choice.instalment_months,
                bank=choice.bank,
                wallet=choice.easy_pay_provider,
                holder_name=choice.holder_name,
            )
            payment = payment.begin(means, refuse_with=choice.refuse_with, at=self._clock.now())
            self.store.save_payment(payment)
        return _success_address(payment)

    def close_window(self, payment_key: str) -> str:
        """The buyer closes the window, which changes nothing; Toss leaves the order id out of this redirect.

        Raises:
            TossError: NOT_FOUND_PAYMENT.
        """
        _, message = CODES["PAY_PROCESS_CANCELED"]
        return with_query(self.payment(payment_key).fail_url, {"code": "PAY_PROCESS_CANCELED", "message": message})

    def abort_window(self, payment_key: str, code: str) -> str:
        """The payment fails inside the window and becomes ABORTED.

        Returns:
            The `failUrl` with code, message and order id.

        Raises:
            TossError: NOT_FOUND_PAYMENT, ALREADY_PROCESSED_PAYMENT, or INVALID_TEST_CODE for a code Toss does not have.
        """
        failure = Failure.of(code)
        payment = self.payment(payment_key).abort(failure)
        self._save_change(payment, at=self._clock.now())
        query = {"code": failure.code, "message": failure.message, "orderId": payment.order_id}
        return with_query(payment.fail_url, query)

    # The Toss API

    def key_pair(self, secret_key: str) -> KeyPair | None:
        return next((pair for pair in self.settings.key_pairs if pair.secret_key == secret_key), None)

    def payment(self, payment_key: str) -> Payment:
        """The payment as it is now, expired if its clock has run out.

        Raises:
            TossError: NOT_FOUND_PAYMENT.
        """
        payment = self.store.payment(payment_key)
        if payment is None:
            raise TossError("NOT_FOUND_PAYMENT")
        return self._expire_if_due(payment)

    @contextmanager
    def confirming(self, request: ConfirmRequest, pair: KeyPair) -> Iterator[None]:
        """Hold the mark of a running confirm; only what is confirmed inside may call `confirm`.

        Raises:
            TossError: The payment cannot be confirmed so, now or by this key; nothing has changed.
        """
        payment = self.payment(request.payment_key)
        if payment.client_key != pair.client_key:
            raise TossError("INVALID_API_KEY")
        if request.payment_key in self._confirming:
            raise TossError("FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING", ALREADY_RUNNING_MESSAGE)
        self._check_confirmable(payment, request)
        self._confirming.add(request.payment_key)
        try:
            yield
        finally:
            self._confirming.discard(request.payment_key)

    def confirm(self, request: ConfirmRequest) -> Payment:
        """Move the money, or record why it did not move.

        Returns:
            The payment: DONE, WAITING_FOR_DEPOSIT, or ABORTED with the failure the caller has to be told.

        Raises:
            TossError: The payment cannot be confirmed any more; nothing has changed.
        """
        payment = self.payment(request.payment_key)
        self._check_confirmable(payment, request)
        at = self._clock.now()
        if refusal := refusal_of(payment):
            payment = payment.abort(refusal)
        elif payment.method == VIRTUAL_ACCOUNT:
            payment = payment.await_deposit(until=at + self.settings.deposit_window)
        else:
            payment = payment.approve(at=at)
            self.store.append(movement("capture", payment, payment.total, at=at))
        self._save_change(payment, at=at)
        return payment

    def check_cancel(self, request: CancelRequest, pair: KeyPair) -> None:
        """Let pass a cancel that would be carried out now.

        Raises:
            TossError: It would not, or not for this key.
        """
        payment = self.payment(request.payment_key)
        if payment.client_key != pair.client_key:
            raise TossError(self.settings.foreign_cancel_code)
        check_cancel(payment, request, self.settings, at=self._clock.now())
        check_account(payment, request.account, self.settings)

    def cancel(self, request: CancelRequest, pair: KeyPair) -> Payment:
        """Give money back, or give up a virtual account; belongs into a transaction.

        Returns:
            The payment as the answer to a cancel shows it: the refund to a buyer's account is not in sight yet.

        Raises:
            TossError: It cannot be cancelled so; nothing has changed.
        """
        self.check_cancel(request, pair)
        before = self.payment(request.payment_key)
        return replace(self._give_back(before, request), refund_status=before.refund_status)

    def look_up(self, payment_key: str) -> Payment:
        """Find a payment for a look-up by its key.

        Raises:
            TossError: NOT_FOUND_PAYMENT.
        """
        return self._served([self.payment(payment_key)])

    def look_up_order(self, order_id: str) -> Payment:
        """Find the payment that a look-up by order id returns.

        Raises:
            TossError: NOT_FOUND_PAYMENT.
        """
        attempts = [self._expire_if_due(payment) for payment in self.store.payments_of_order(order_id)]
        if self.settings.order_lookup is OrderLookup.APPROVED_FIRST:
            attempts.sort(key=lambda payment: payment.status not in APPROVED)
        return self._served(attempts)

    def transactions(self, query: Mapping[str, str]) -> list[JsonValue]:
        """The list of transactions, as its query asks for it.

        Raises:
            TossError: The query cannot be answered.
        """
        read = read_transactions_query(query, has_specific_codes=self.settings.specific_field_codes)
        return transactions(self.store, self.settings, read)

    def settlements(self, query: Mapping[str, str]) -> list[JsonValue]:
        """The settlements, as their query asks for them.

        Raises:
            TossError: The query cannot be answered.
        """
        read = read_settlements_query(query, has_specific_codes=self.settings.specific_field_codes)
        return settlements(self.store, self.settings, read, at=self._clock.now())

    def show(self, payment: Payment) -> dict[str, JsonValue]:
        """The Payment object as this sandbox answers it."""
        shown = payment_object(payment, self.settings, at=self._clock.now())
        if self.has_extra_fields:
            return {"sandboxUnknownField": {"nested": [1, None, "알 수 없음"]}, **shown, "sandboxUnknownFlag": True}
        return shown

    def remember(self, identity: Identity, answer: Remembered) -> None:
        """Keep the first answer under an idempotency key for its 15 days."""
        self.store.remember(identity, answer, at=self._clock.now())

    def remembered(self, identity: Identity) -> Remembered | None:
        """The first answer under an idempotency key, if it is not too old."""
        return self.store.remembered(identity, since=self._clock.now() - self.settings.idempotency_lifetime)

    # The control API

    def list_payments(self, order_id: str | None = None, limit: int = 100) -> list[dict[str, JsonValue]]:
        """Payment objects, newest first."""
        self.expire_due()
        payments = self.store.newest_payments(limit) if order_id is None else self.store.payments_of_order(order_id)
        return [self.show(payment) for payment in payments[:limit]]

    def expire(self, payment_key: str) -> Payment:
        """Let a payment expire before its time.

        Raises:
            TossError: NOT_FOUND_PAYMENT, or ALREADY_PROCESSED_PAYMENT when it is finished.
        """
        payment = self.payment(payment_key)
        if payment.status is not Status.EXPIRED:
            payment = payment.expire()
            self._save_change(payment, at=self._clock.now())
        return payment

    def deposit(self, payment_key: str, *, amount: int | None = None, force: bool = False) -> Payment:
        """The buyer transfers money to a virtual account: the amount that is owed unless told otherwise.

        Banks take nothing else, and nothing after the due date; a deposit that is forced is taken all the same, and
        becomes the total of a payment that contradicts what was confirmed.

        Raises:
            TossError: NOT_FOUND_PAYMENT, SANDBOX_NOT_WAITING_FOR_DEPOSIT, SANDBOX_DEPOSIT_TOO_LATE or
                SANDBOX_DEPOSIT_AMOUNT_DIFFERS; INVALID_REQUEST for what is no amount.
        """
        with self.store.transaction():
            at, payment = self._clock.now(), self.payment(payment_key)
            deposited = payment.amount if amount is None else amount
            check_waiting(payment)
            if not 0 < deposited <= LARGEST_AMOUNT:
                raise TossError("INVALID_REQUEST")
            if not force:
                check_deposit(payment, deposited, at=at)
            payment = payment.deposit(deposited, at=at)
            self.store.append(movement("capture", payment, payment.total, at=at))
            self._save_change(payment, at=at)
        return payment

    def reverse_deposit(self, payment_key: str) -> Payment:
        """The bank takes a deposit back, as it does after a limit or trouble of its network.

        Raises:
            TossError: NOT_FOUND_PAYMENT, or SANDBOX_NO_DEPOSIT_TO_REVERSE.
        """
        with self.store.transaction():
            at, deposited = self._clock.now(), self.payment(payment_key)
            payment = reverse(deposited)
            self.store.append(movement("reversal", payment, deposited.total, at=at))
            self._save_change(payment, at=at)
        return payment

    def pass_due_date(self, payment_key: str) -> Payment:
        """Let the time for a deposit run out, which changes no status.

        Raises:
            TossError: NOT_FOUND_PAYMENT, or SANDBOX_NOT_WAITING_FOR_DEPOSIT.
        """
        payment = pass_due_date(self.payment(payment_key), at=self._clock.now())
        self.store.save_payment(payment)
        return payment

    def cancel_in_console(self, payment_key: str, *, amount: int | None = None, reason: str = "관리자 취소") -> Payment:
        """Cancel as the merchant can in Toss's developer centre, by the same rules; no refund account is asked for.

        Raises:
            TossError: It cannot be cancelled so; nothing has changed.
        """
        if amount is not None and amount < 1:
            raise TossError("INVALID_REQUEST")
        with self.store.transaction():
            payment, request = self.payment(payment_key), CancelRequest(payment_key, reason, amount)
            check_cancel(payment, request, self.settings, at=self._clock.now())
            return self._give_back(payment, request)

    def finish_account_refund(self, payment_key: str, *, succeeded: bool) -> Payment:
        """The bank has paid a refund out to the buyer's account, or could not.

        Raises:
            TossError: NOT_FOUND_PAYMENT, or SANDBOX_NO_ACCOUNT_REFUND.
        """
        end = RefundStatus.COMPLETED if succeeded else RefundStatus.FAILED
        payment = finish_refund(self.payment(payment_key), end)
        self.store.save_payment(payment)
        return payment

    def expire_due(self) -> None:
        """Expire whatever ran out of time."""
        at, settings = self._clock.now(), self.settings
        overdue = self.store.overdue_payments(
            opened_before=at - settings.authentication_window, authenticated_before=at - settings.confirm_window
        )
        if overdue:
            with self.store.transaction():
                for payment in overdue:
                    self._expire_if_due(payment)

    def now(self) -> datetime:
        return self._clock.now()

    @property
    def clock_offset(self) -> timedelta:
        """How far the sandbox's clock is ahead of the real one."""
        return self._clock.offset

    def move_clock(self, by: timedelta) -> None:
        """Move the clock forward and expire what became due.

        Raises:
            ValueError: `by` is negative or leads too far.
        """
        self._clock.advance(by)
        self.store.set_switch(_OFFSET, self._clock.offset.total_seconds())
        self.expire_due()
        self.webhooks.on_due()

    def import_payments(self, entries: Iterable[ImportedPayment]) -> list[Payment]:
        """Take payments into the books, all or none, with the money that moved and without webhooks.

        Raises:
            TossError: One of them cannot be as told, or SANDBOX_PAYMENT_EXISTS.
        """
        now, imported = self._clock.now(), []
        with self.store.transaction():
            for entry in entries:
                check_import(entry, at=now)
                at = entry.approved_at or now
                if entry.payment_key is not None and self.store.has_payment(entry.payment_key):
                    raise TossError("SANDBOX_PAYMENT_EXISTS")
                payment_key = entry.payment_key or self._new_payment_key(at)
                payment, moved = make_import(entry, self.settings, payment_key=payment_key, at=at)
                self.store.save_payment(payment)
                for each in moved:
                    self.store.append(each)
                imported.append(payment)
        return imported

    def ledger(self, order_id: str | None = None) -> Ledger:
        """All money that ever moved, or that of one order, in the order it moved."""
        movements = self.store.movements(order_id)
        return Ledger(
            captures=[moved for moved in movements if moved.kind == "capture"],
            cancels=[moved for moved in movements if moved.kind == "cancel"],
            reversals=[moved for moved in movements if moved.kind == "reversal"],
        )

    def calls(
        self, order_id: str | None = None, payment_key: str | None = None, *, limit: int | None = None
    ) -> list[Call]:
        """The requests to the Toss API, oldest first; a limit keeps the newest of them."""
        return self.store.calls(order_id=order_id, payment_key=payment_key, limit=limit)

    def arm_fault(self, order: FaultOrder) -> Fault:
        return self.store.add_fault(order)

    def faults(self) -> list[Fault]:
        """What is still armed, oldest first."""
        return self.store.faults()

    def clear_fault(self, fault_id: int) -> None:
        self.store.drop_fault(fault_id)

    def clear_faults(self) -> None:
        self.store.drop_faults()

    def take_fault(self, subject: Subject, kinds: frozenset[FaultKind]) -> Fault | None:
        """Let the oldest armed fault of these kinds strike a call, and count it."""
        for fault in self.store.faults():
            if fault.waits_for(subject, kinds) and self._chance.random() < fault.order.probability:
                self.store.use_up(fault)
                return fault
        return None

    @property
    def has_extra_fields(self) -> bool:
        """Whether Payment objects carry fields that no client knows."""
        return bool(self.store.switch(_EXTRA_FIELDS, default=float(self.settings.extra_fields)))

    def switch_extra_fields(self, *, on: bool) -> None:
        self.store.set_switch(_EXTRA_FIELDS, float(on))

    def reset(self) -> None:
        """Forget every payment, movement, call, webhook and fault, and put the clock back."""
        self.store.reset()
        self._clock = MovableClock()
        self.webhooks.forget()

    # Rules

    def _check_client_key(self, request: WindowRequest) -> None:
        if request.client_key.startswith(("test_sk_", "test_gsk_", "live_sk_", "live_gsk_")):
            raise TossError("INSECURE_KEY_USAGE")
        pairs = {pair.client_key: pair for pair in self.settings.key_pairs}
        pair = pairs.get(request.client_key)
        if pair is None:
            raise TossError("UNAUTHORIZED_KEY")
        if pair.kind is KeyKind.WIDGET and request.flow == PAYMENT_FLOW:
            raise TossError("NOT_SUPPORTED_WIDGET_KEY")
        if pair.kind is KeyKind.API and request.flow == WIDGETS_FLOW:
            raise TossError("NOT_SUPPORTED_API_INDIVIDUAL_KEY")

    def _check_confirmable(self, payment: Payment, request: ConfirmRequest) -> None:
        if payment.status is Status.EXPIRED:
            raise TossError("NOT_FOUND_PAYMENT_SESSION")
        if payment.order_id != request.order_id:
            raise TossError("FORBIDDEN_REQUEST")
        if payment.amount != request.amount:
            raise TossError(self.settings.mismatch_code)
        if payment.status in APPROVED:
            raise TossError("ALREADY_PROCESSED_PAYMENT")
        if payment.status is Status.ABORTED:
            raise TossError(self.settings.aborted_code)
        if payment.status is Status.READY:
            raise TossError(self.settings.unauthenticated_code)
        if self.settings.refuses_duplicate_orders and self._is_paid(payment.order_id):
            raise TossError("DUPLICATED_ORDER_ID")

    def _give_back(self, payment: Payment, request: CancelRequest) -> Payment:
        at = self._clock.now()
        cancel = make_cancel(payment, request, at=at)
        cancelled = payment.cancel(cancel)
        if payment.status is not Status.WAITING_FOR_DEPOSIT:
            self.store.append(movement("cancel", cancelled, cancel.amount, at=at))
            if payment.method == VIRTUAL_ACCOUNT and self.settings.tracks_account_refunds:
                cancelled = replace(cancelled, refund_status=RefundStatus.PENDING)
        self._save_change(cancelled, at=at)
        return cancelled

    def _is_paid(self, order_id: str) -> bool:
        return any(payment.status in APPROVED for payment in self.store.payments_of_order(order_id))

    def _served(self, payments: list[Payment]) -> Payment:
        for payment in payments:
            if self.settings.serves_unfinished or payment.status not in UNFINISHED:
                return payment
        raise TossError("NOT_FOUND_PAYMENT")

    def _expire_if_due(self, payment: Payment) -> Payment:
        # A confirm that began in time is carried through, however long it takes.
        if payment.status not in UNFINISHED or payment.payment_key in self._confirming:
            return payment
        settings = self.settings
        ends_at = payment.expires_at(authentication=settings.authentication_window, confirm=settings.confirm_window)
        at = self._clock.now()
        if at < ends_at:
            return payment
        expired = payment.expire()
        self._save_change(expired, at=at)
        return expired

    def _save_change(self, payment: Payment, *, at: datetime) -> None:
        """Keep a payment in its new status together with the webhooks that tell it, or neither."""
        with self.store.transaction():
            self.store.save_payment(payment)
            self.webhooks.record(payment, at=at)

    def _new_payment_key(self, at: datetime) -> str:
        # Five random characters a second are soon used twice, where thousands of payments are made at once.
        while self.store.has_payment(key := new_payment_key(self.settings.merchant_id, at=at)):
            pass
        return key


def _check_window_request(request: WindowRequest) -> None:
    if not ORDER_ID.fullmatch(request.order_id):
        raise TossError("INVALID_ORDER_ID")
    if len(request.order_name) > _ORDER_NAME_LENGTH:
        raise TossError("INVALID_ORDER_NAME")
    if request.amount <= 0:
        raise TossError("BELOW_ZERO_AMOUNT")
    if request.amount > LARGEST_AMOUNT:
        raise TossError("EXCEED_MAX_AMOUNT")
    untaxed = (request.tax_free_amount, request.tax_exemption_amount)
    if min(untaxed) < 0 or sum(untaxed) > request.amount:
        raise TossError("INVALID_REQUEST")
    allowed = {WIDGET} if request.flow == WIDGETS_FLOW else METHOD_NAMES.keys()
    if request.method not in allowed:
        raise TossError("NOT_SUPPORTED_METHOD")
    if not is_address(request.success_url):
        raise TossError("INCORRECT_SUCCESS_URL_FORMAT")
    if not is_address(request.fail_url):
        raise TossError("INCORRECT_FAIL_URL_FORMAT")


def _check_choice(payment: Payment, choice: BuyerChoice) -> None:
    # The window for cards offers wallets beside them.
    offered = {"CARD": {"CARD", "EASY_PAY"}, WIDGET: METHOD_NAMES.keys()}
    if choice.method not in offered.get(payment.requested_method, {payment.requested_method}):
        raise TossError("NOT_SUPPORTED_METHOD")
    if choice.instalment_months not in _INSTALMENTS:
        raise TossError("INVALID_CARD_INSTALLMENT_PLAN")
    if choice.refuse_with is not None:
        Failure.of(choice.refuse_with)


def _success_address(payment: Payment) -> str:
    query = {"paymentKey": payment.payment_key, "orderId": payment.order_id, "amount": str(payment.amount)}
    if payment.flow == WIDGETS_FLOW:
        query = {"paymentType": "NORMAL", **query}
    return with_query(payment.success_url, query)
