"""Every refusal of the product, each leaf with a stable `code`.

PaymentError
├── NotFound
│   ├── PaymentNotFound            no payment for this order or payment key
│   ├── OrderNotFound              the order service does not know the order
│   ├── DiscrepancyNotFound        no discrepancy has this id
│   └── ApiKeyNotFound             no API key has this prefix
├── Conflict                       the request is well formed, and the state says no
│   ├── AmountMismatch             another amount than the payment was prepared with
│   ├── OrderAmountMismatch        another amount than the order service holds
│   ├── OrderNotPayable            the order is paid or closed at the order service
│   ├── PaymentKeyMismatch         another payment key is being or was confirmed for this attempt
│   ├── Busy                       not at this moment: the very same request may be sent again
│   │   ├── PaymentInProgress      a confirm is under way or its outcome is unknown
│   │   ├── RefundInProgress       another refund of the payment is under way or its outcome is unknown
│   │   ├── RequestInProgress      the same request, under the same key, is still being worked on
│   │   └── ConcurrentUpdate       another writer was faster; read again
│   ├── AlreadyPaid                the money has been captured
│   ├── AwaitingDeposit            a virtual account was issued and waits for the deposit
│   ├── PaymentClosed              cancelled or refunded: nothing more happens
│   ├── NotConfirmable             failed: prepare it again for a new attempt
│   ├── TransitionNotAllowed       a move that the state machine does not have
│   ├── RefundAlreadyDecided       a refund is decided once
│   ├── NothingToRefund            no money was taken
│   ├── AlreadyRefunded            everything has been given back
│   ├── RefundExceedsBalance       more than is left
│   ├── DepositArrived             too late to give up the virtual account: it has been paid
│   ├── RequestOvertaken           what the request began is over, and the payment has moved on
│   ├── StillNeeded                personal data cannot be erased while something is open
│   ├── DepositAmountDiffers       another amount than the one owed was paid in
│   └── NotGivenBack               the PG gave nothing back; carries its code and message
│       ├── RefundRefused          for a reason of its own
│       ├── RefundBalanceDiffers   something else is left at the PG than we believed
│       ├── PartialRefundNotAllowed  this payment goes back as a whole or not at all
│       ├── RefundDeadlinePassed   too late for this method
│       ├── RefundAccountRefused   the account cannot take the money
│       └── RefundNotNow           the bank is closed, or the last refund was a moment ago
├── InvalidRequest
│   ├── RedirectNotAllowed         successUrl or failUrl is not of an allowed origin
│   ├── AmountOutOfRange           outside what the chosen method can take
│   ├── RefundAccountRequired      a paid virtual account goes back to an account only
│   ├── RefundAccountNotAllowed    and nothing else does
│   ├── TaxFreeExceedsRefund       a share is larger than the whole
│   └── IdempotencyKeyReused       the key has been used for another request
├── InvalidIdempotencyKey
│   ├── IdempotencyKeyMissing      a request that must not happen twice has no name
│   └── IdempotencyKeyMalformed    or one that cannot be one
├── Unauthenticated                who asks has not shown who they are
│   ├── CredentialsMissing         this route is for those who do
│   ├── CredentialsInvalid         unknown, expired, revoked or malformed; never said which
│   └── WebhookNotGenuine          it is not signed as it must be
├── NotAllowed                     who asks is known
│   ├── ScopeMissing               and may not do this
│   └── RefundOverLimit            or not for so much money
├── TooManyRequests                nothing was looked at; carries when to come back
├── PaymentDeclined                the PG refused; carries its code and message
└── Unavailable                    nothing was changed or lost; come back later
    ├── PgUnavailable              the PG keeps failing and is left alone for a while
    ├── OrdersUnavailable          the order service cannot be asked
    ├── IdentityUnavailable        the identity provider's keys cannot be had
    └── DatabaseUnavailable        the database cannot be reached, or did not say whether it committed
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from payments.states import PaymentStatus


class PaymentError(Exception):
    """Root of all refusals. `detail` never carries a value that a caller sent."""

    code: ClassVar[str]
    detail: ClassVar[str]

    def __init__(self) -> None:
        super().__init__(self.detail)


class NotFound(PaymentError):
    pass


class PaymentNotFound(NotFound):
    code = "payment_not_found"
    detail = "There is no payment for this order or payment key."


class OrderNotFound(NotFound):
    code = "order_not_found"
    detail = "The order service does not know this order."


class DiscrepancyNotFound(NotFound):
    code = "discrepancy_not_found"
    detail = "There is no discrepancy with this id."


class ApiKeyNotFound(NotFound):
    code = "api_key_not_found"
    detail = "There is no API key with this prefix."


class Conflict(PaymentError):
    pass


class AmountMismatch(Conflict):
    code = "amount_mismatch"
    detail = "The amount is not the one this payment was prepared with."


class OrderAmountMismatch(Conflict):
    code = "order_amount_mismatch"
    detail = "The amount is not the one the order service holds for this order."


class OrderNotPayable(Conflict):
    code = "order_not_payable"
    detail = "The order service says that this order is not waiting for a payment."


class PaymentKeyMismatch(Conflict):
    code = "payment_key_mismatch"
    detail = "Another payment key belongs to this payment."


class Busy(Conflict):
    """Nothing was decided about the request; it may be sent again as it is, under the same key."""

    retry_after: ClassVar[timedelta] = timedelta(seconds=1)


class PaymentInProgress(Busy):
    code = "payment_in_progress"
    detail = "A payment of this order is being confirmed; read it until it is decided."


class AlreadyPaid(Conflict):
    code = "already_paid"
    detail = "This order has been paid."


class AwaitingDeposit(Conflict):
    code = "awaiting_deposit"
    detail = "A virtual account was issued for this order and waits for the deposit."


class PaymentClosed(Conflict):
    code = "payment_closed"
    detail = "This payment was cancelled or refunded; nothing more happens to it."


class NotConfirmable(Conflict):
    code = "not_confirmable"
    detail = "This payment has failed; prepare it again for a new attempt."


class TransitionNotAllowed(Conflict):
    """A move that `states.TRANSITIONS` does not have."""

    code = "transition_not_allowed"
    detail = "The payment's state does not allow this."

    def __init__(self, start: PaymentStatus, end: PaymentStatus) -> None:
        super().__init__()
        self.start = start
        self.end = end


class RefundInProgress(Busy):
    code = "refund_in_progress"
    detail = "Another refund of this payment is not decided yet; send the request again when it is."


class RequestInProgress(Busy):
    code = "request_in_progress"
    detail = "A request with this Idempotency-Key is still being worked on; send it again to read its answer."


class RefundAlreadyDecided(Conflict):
    code = "refund_already_decided"
    detail = "This refund has succeeded or failed; it is not decided twice."


class NothingToRefund(Conflict):
    code = "nothing_to_refund"
    detail = "This payment has failed: no money was taken, so none can be given back."


class AlreadyRefunded(Conflict):
    code = "already_refunded"
    detail = "The whole amount of this payment has been given back."


class RefundExceedsBalance(Conflict):
    code = "refund_exceeds_balance"
    detail = "More than what is left of this payment."


class DepositArrived(Conflict):
    code = "deposit_arrived"
    detail = "The deposit has arrived, so the payment was not cancelled; refund it to an account of the buyer."


class RequestOvertaken(Conflict):
    code = "request_overtaken"
    detail = "What this request began has ended without effect; read the payment, and ask anew under a new key."


class StillNeeded(Conflict):
    """`because` says in words what is open."""

    code = "still_needed"
    detail = "The buyer's data are still needed, because something of this payment is open."

    def __init__(self, because: Sequence[str] = ()) -> None:
        super().__init__()
        self.because = tuple(because)


class DepositAmountDiffers(Conflict):
    code = "deposit_amount_differs"
    detail = "Another amount than the one owed was deposited. A person must look at it before it can be given back."


class NotGivenBack(Conflict):
    """The PG gave nothing back. `pg_code` and `pg_message` are its own, empty where it did not have to be asked."""

    def __init__(self, pg_code: str = "", pg_message: str = "") -> None:
        super().__init__()
        self.pg_code = pg_code
        self.pg_message = pg_message


class RefundRefused(NotGivenBack):
    code = "refund_refused"
    detail = "The payment gateway refused to give the money back."


class RefundBalanceDiffers(NotGivenBack):
    code = "refund_balance_differs"
    detail = "Something else is left at the payment gateway than was believed; read the payment, and ask anew."


class PartialRefundNotAllowed(NotGivenBack):
    code = "partial_refund_not_allowed"
    detail = "This payment can be given back as a whole only."


class RefundDeadlinePassed(NotGivenBack):
    code = "refund_deadline_passed"
    detail = "The time in which a payment of this method can be refunded is over."


class RefundAccountRefused(NotGivenBack):
    code = "refund_account_refused"
    detail = "The money cannot be sent to this account; check bank, number and holder."


class RefundNotNow(NotGivenBack):
    code = "refund_not_now"
    detail = "Nothing was given back: not at this moment. Ask anew a little later, under a new Idempotency-Key."


class ConcurrentUpdate(Busy):
    """The row changed since it was read. Handled by reading again, never by forcing."""

    code = "concurrent_update"
    detail = "Another request changed this payment at the same moment; send the request again."


class InvalidRequest(PaymentError):
    """A member of the body is well formed and still cannot be accepted; `field` is its name."""

    def __init__(self, field: str) -> None:
        super().__init__()
        self.field = field


class RedirectNotAllowed(InvalidRequest):
    """`successUrl` or `failUrl` would lead the buyer away from the shop."""

    code = "redirect_not_allowed"
    detail = "The URL is not of an allowed origin."


class AmountOutOfRange(InvalidRequest):
    code = "amount_out_of_range"
    detail = "The chosen payment method cannot take this amount."


class RefundAccountRequired(InvalidRequest):
    code = "refund_account_required"
    detail = "A paid virtual account can be refunded to an account of the buyer only: name it."


class RefundAccountNotAllowed(InvalidRequest):
    code = "refund_account_not_allowed"
    detail = "Only the refund of a paid virtual account goes to an account; leave it out."


class TaxFreeExceedsRefund(InvalidRequest):
    code = "tax_free_exceeds_refund"
    detail = "The tax-free share is larger than the refund."


class IdempotencyKeyReused(InvalidRequest):
    code = "idempotency_key_reused"
    detail = "This Idempotency-Key was used for another request; take a new one for a new intention."


class InvalidIdempotencyKey(PaymentError):
    """The header `Idempotency-Key` (https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/)."""


class IdempotencyKeyMissing(InvalidIdempotencyKey):
    code = "idempotency_key_missing"
    detail = "Send an Idempotency-Key header: a new random one for each intention, the same one when repeating it."


class IdempotencyKeyMalformed(InvalidIdempotencyKey):
    code = "idempotency_key_malformed"
    detail = "An Idempotency-Key is one to 300 visible ASCII characters."


class Unauthenticated(PaymentError):
    pass


class CredentialsMissing(Unauthenticated):
    code = "credentials_missing"
    detail = "Send an Authorization header: Bearer, and then an API key or a token."


class CredentialsInvalid(Unauthenticated):
    """One for all reasons: whoever tries out keys is not told how close they came."""

    code = "credentials_invalid"
    detail = "The API key or token is not valid."


class WebhookNotGenuine(Unauthenticated):
    code = "webhook_not_genuine"
    detail = "The signature is missing or wrong."


class NotAllowed(PaymentError):
    pass


class ScopeMissing(NotAllowed):
    code = "scope_missing"
    detail = "These credentials may not do this."


class RefundOverLimit(NotAllowed):
    code = "refund_over_limit"
    detail = "These credentials may not give back so much of one payment; somebody with a higher limit has to."


class TooManyRequests(PaymentError):
    """One client asks more than its share; others are not touched."""

    code = "too_many_requests"
    detail = "Too many requests. Nothing was looked at; send the request again after Retry-After."
    retry_after = timedelta(seconds=1)

    def __init__(self, retry_after: timedelta = retry_after) -> None:
        super().__init__()
        self.retry_after = retry_after


class PaymentDeclined(PaymentError):
    """The PG refused, and said so: no money moved.

    `pg_code` and `pg_message` are the PG's own (https://docs.tosspayments.com/reference/error-codes); the message is
    Korean and written for the buyer.
    """

    code = "payment_declined"
    detail = "The payment was refused."

    def __init__(self, pg_code: str, pg_message: str) -> None:
        super().__init__()
        self.pg_code = pg_code
        self.pg_message = pg_message


class Unavailable(PaymentError):
    retry_after: ClassVar[timedelta] = timedelta(seconds=2)


class PgUnavailable(Unavailable):
    code = "pg_unavailable"
    detail = "The payment gateway is not answering; nothing was charged. Send the request again shortly."
    retry_after = timedelta(seconds=5)


class OrdersUnavailable(Unavailable):
    code = "orders_unavailable"
    detail = "The order service is not answering; nothing was changed. Send the request again shortly."


class IdentityUnavailable(Unavailable):
    code = "identity_unavailable"
    detail = "Tokens cannot be checked now: the identity provider is not answering. Send the request again shortly."


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
    detail = "The service cannot reach its database. Send the request again shortly."
