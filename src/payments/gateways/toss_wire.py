"""The JSON of Toss Payments, read with suspicion: bytes become a `PgPayment` or `MalformedAnswer`, nothing else."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Final, Literal, Never, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

from payments.card_numbers import has_card_number, mask
from payments.gateways.pg import PgCancel, PgPayment, PgStatus, PgTransaction, PgVirtualAccount
from payments.redaction import redact, redact_credentials

MAX_MESSAGE_LENGTH: Final = 510  # Toss's own limit for error messages
_LONGEST_READ: Final = 4 * MAX_MESSAGE_LENGTH  # so that a secret which is cut in two is not in what is kept
_MAX_REASON_LENGTH: Final = 200  # and for the reason of a cancel
_MOST_PLACES_TOLD: Final = 10  # a list of a thousand broken cancels has a thousand broken places
_LARGEST_AMOUNT: Final = 2**53 - 1  # beyond it JSON numbers stop being exact
_KST: Final = timezone(timedelta(hours=9), "KST")
_EASY_PAY: Final = "간편결제"

_PAYMENT_KEY = re.compile(r"[A-Za-z0-9_-]{1,200}")
# The reference lists letters, digits, - and _; the English message of INVALID_ORDER_ID allows = as well.
_ORDER_ID = re.compile(r"[A-Za-z0-9_=-]{6,64}")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,100}")
# Real ones are 32 hexadecimal digits or `txrd_a01...`; the reference only says how long they may be.
_TRANSACTION_KEY = re.compile(r"[!-~]{1,64}")

_Read = TypeVar("_Read")


class MalformedAnswer(ValueError):
    """The PG's answer is not what it documents. The text names the place and never the content."""


def is_payment_key(text: str) -> bool:
    """Whether `text` may stand in a URL as a payment key; `..`, `/`, `?` and their like may not."""
    return _PAYMENT_KEY.fullmatch(text) is not None


def is_order_id(text: str) -> bool:
    """Whether Toss accepts `text` as an order id."""
    return _ORDER_ID.fullmatch(text) is not None


def is_transaction_key(text: str) -> bool:
    """Whether `text` can name a movement in Toss's books."""
    return _TRANSACTION_KEY.fullmatch(text) is not None


def clean_text(text: str, *, longest: int = MAX_MESSAGE_LENGTH) -> str:
    """Return `text` in one printable line, card numbers masked.

    A lone surrogate or NUL would not survive the database.
    """
    printable = "".join(character if character.isprintable() else " " for character in text)
    return mask(" ".join(printable.split()))[:longest]


def clean_message(text: str) -> str:
    """The same for what the PG says in its own words, which buyers read and we keep: it may repeat what it was sent."""
    return redact(clean_text(text, longest=_LONGEST_READ))[:MAX_MESSAGE_LENGTH]


def _whole_won(value: object) -> int:
    # Toss documents "number" and shows 5000.0 in one of its own examples, so a float without a fraction is an amount.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= _LARGEST_AMOUNT:
        raise ValueError("not an amount in won")
    return value


def _won_either_way(value: object) -> int:
    # Which sign the amount of a cancel has in the list of transactions is not documented; the status tells.
    return _whole_won(-value if isinstance(value, int | float) and value < 0 else value)


def _is_there(value: object) -> bool:
    return value is not None


def _moment(value: object) -> datetime:
    if not isinstance(value, str) or "T" not in value:
        raise ValueError("not a date and time")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=_KST)  # `dueDate` is documented without an offset; Toss lives in Korea
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("not a date of our times") from None


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("contains control characters")
    return value


def _payment_key(value: str) -> str:
    if not is_payment_key(value):
        raise ValueError("not a payment key")
    return value


def _transaction_key(value: str) -> str:
    if not is_transaction_key(value):
        raise ValueError("not a transaction key")
    return value


def _code(value: str) -> str:
    if _CODE.fullmatch(value) is None or has_card_number(value) or redact_credentials(value) != value:
        raise ValueError("not a code")
    return value


def _name(value: str) -> str:
    return clean_text(value, longest=100)


def _reason(value: str) -> str:
    # As it was sent, spaces and all, because a refund of ours is recognised by it; but it has to survive the database.
    return mask(_UNSTORABLE.sub("", value))[:_MAX_REASON_LENGTH]


def _web_address(value: str) -> str:
    # It will stand in a link: `javascript:` must not get that far.
    address = urlsplit(_printable(value))
    if address.scheme not in {"http", "https"} or not address.hostname or has_card_number(value):
        raise ValueError("not a web address")
    return value


class _NoneIfUnreadable:
    """What does not decide about money must not make the money unknown."""

    def __get_pydantic_core_schema__(self, kind: object, shape_of: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_default_schema(shape_of(kind), default=None, on_error="default")


_Won = Annotated[int, BeforeValidator(_whole_won)]
_WonEitherWay = Annotated[int, BeforeValidator(_won_either_way)]
_Moment = Annotated[datetime, BeforeValidator(_moment)]
_Word = Annotated[str, Field(max_length=64), AfterValidator(_printable)]
_Message = Annotated[str, AfterValidator(clean_message)]
_Code = Annotated[str, AfterValidator(_code)]
_TransactionKey = Annotated[str, AfterValidator(_transaction_key)]
_Lenient = _NoneIfUnreadable()


class _Wire(BaseModel):
    # New fields arrive without a new version of the API, so unknown ones are ignored.
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, alias_generator=to_camel)


class _Receipt(_Wire):
    url: Annotated[str, Field(max_length=500), AfterValidator(_web_address)]


class _Failure(_Wire):
    code: _Code
    message: _Message = ""


class _VirtualAccount(_Wire):
    bank_code: Annotated[_Word, Field(min_length=1, max_length=20)]
    account_number: Annotated[_Word, Field(min_length=1, max_length=20, repr=False)]
    customer_name: Annotated[str, AfterValidator(_name), Field(repr=False)] = ""
    due_date: Annotated[_Moment | None, _Lenient] = None
    expired: Annotated[bool | None, _Lenient] = None
    refund_status: Annotated[Literal["NONE", "PENDING", "FAILED", "PARTIAL_FAILED", "COMPLETED"] | None, _Lenient] = (
        None
    )


class _Cancel(_Wire):
    # Refunds are told apart and adopted by these, so one that cannot be read makes the whole answer worthless.
    transaction_key: _TransactionKey
    cancel_amount: Annotated[_Won, Field(ge=1)]
    refundable_amount: _Won
    cancel_status: _Word | None = None
    cancel_reason: Annotated[Annotated[str, AfterValidator(_reason)] | None, _Lenient] = None
    canceled_at: Annotated[_Moment | None, _Lenient] = None


class _Payment(_Wire):
    payment_key: Annotated[str, AfterValidator(_payment_key)]
    order_id: _Word
    status: PgStatus = Field(strict=False)
    total_amount: _Won
    balance_amount: _Won
    currency: Annotated[_Word, AfterValidator(mask)]
    method: Annotated[_Word | None, _Lenient] = None
    approved_at: Annotated[_Moment | None, _Lenient] = None
    was_approved: Annotated[bool, BeforeValidator(_is_there), Field(validation_alias="approvedAt")] = False
    virtual_account: Annotated[_VirtualAccount | None, _Lenient] = None
    secret: Annotated[Annotated[_Word, Field(min_length=1, max_length=50)] | None, _Lenient, Field(repr=False)] = None
    receipt: Annotated[_Receipt | None, _Lenient] = None
    failure: Annotated[_Failure | None, _Lenient] = None
    last_transaction_key: Annotated[_TransactionKey | None, _Lenient] = None
    is_partial_cancelable: Annotated[bool | None, _Lenient] = None
    cancels: list[_Cancel] | None = None
    m_id: Annotated[_Word | None, _Lenient] = None


class _Transaction(_Wire):
    transaction_key: _TransactionKey
    payment_key: Annotated[str, AfterValidator(_payment_key)]
    order_id: _Word
    status: PgStatus = Field(strict=False)
    amount: _WonEitherWay
    currency: Annotated[_Word, AfterValidator(mask)]
    transaction_at: _Moment
    method: Annotated[_Word | None, _Lenient] = None


class TossError(_Wire):
    """The body of every error answer."""

    code: _Code
    message: _Message = ""


_PAYMENT: Final = TypeAdapter(_Payment)
_ERROR: Final = TypeAdapter(TossError)
_TRANSACTIONS: Final = TypeAdapter(list[_Transaction])


def read_payment(body: bytes) -> PgPayment:
    """Read a Payment object.

    Raises:
        MalformedAnswer: It is not JSON, not a payment, or has a status that Toss does not document.
    """
    return _to_payment(_read(_PAYMENT, body))


def read_transactions(body: bytes) -> tuple[PgTransaction, ...]:
    """Read a list of Transaction objects, in its order.

    Raises:
        MalformedAnswer: It is not JSON, not a list, or one of its rows is not a transaction.
    """
    return tuple(_to_transaction(wire) for wire in _read(_TRANSACTIONS, body))


def read_error(body: bytes) -> TossError | None:
    """Read an error body; None if it is not one, such as a proxy's HTML page."""
    try:
        return _read(_ERROR, body)
    except MalformedAnswer:
        return None


def _read(shape: TypeAdapter[_Read], body: bytes) -> _Read:
    try:
        return shape.validate_python(parse_json(body))
    except ValidationError as error:
        # Names of places and rules only: the values include secrets.
        wrong = error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_PLACES_TOLD]
        raise MalformedAnswer("; ".join(_place(item["loc"], item["type"]) for item in wrong)) from None


def _place(location: tuple[int | str, ...], rule: str) -> str:
    return f"{'.'.join(map(str, location)) or 'body'}: {rule}"


def parse_json(body: bytes) -> object:
    """Parse what Toss sends.

    Raises:
        MalformedAnswer: It is not JSON, or JSON that two readers could understand differently.
    """
    # The standard parser, because pydantic's own takes NaN for a number and the last of two equal names for the truth.
    try:
        parsed: object = json.loads(
            body.decode(), object_pairs_hook=_object_without_repetition, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise MalformedAnswer("not JSON") from None
    return parsed


def _object_without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("the same name twice")
    return members


def _refuse_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


def _to_payment(wire: _Payment) -> PgPayment:
    return PgPayment(
        payment_key=wire.payment_key,
        order_id=wire.order_id,
        status=wire.status,
        total_amount=wire.total_amount,
        balance_amount=wire.balance_amount,
        currency=wire.currency,
        method=wire.method,
        easy_pay=wire.method == _EASY_PAY,
        approved_at=wire.approved_at,
        was_approved=wire.was_approved,
        virtual_account=_to_account(wire.virtual_account) if wire.virtual_account else None,
        secret=wire.secret,
        receipt_url=wire.receipt.url if wire.receipt else None,
        failure_code=wire.failure.code if wire.failure else None,
        failure_message=wire.failure.message if wire.failure else None,
        last_transaction_key=wire.last_transaction_key,
        is_partial_cancelable=wire.is_partial_cancelable is not False,  # who does not say is asked, and may refuse
        cancels=_to_cancels(wire.cancels or []),
        merchant_id=wire.m_id,
    )


def _to_transaction(wire: _Transaction) -> PgTransaction:
    return PgTransaction(
        transaction_key=wire.transaction_key,
        payment_key=wire.payment_key,
        order_id=wire.order_id,
        status=wire.status,
        method=wire.method,
        amount=wire.amount,
        currency=wire.currency,
        at=wire.transaction_at,
    )


def _to_cancels(wires: list[_Cancel]) -> tuple[PgCancel, ...]:
    # Toss does not promise an order. The balance only goes down, and unlike the dates it is always there.
    in_order = sorted(wires, key=lambda wire: wire.refundable_amount, reverse=True)
    return tuple(_to_cancel(wire) for wire in in_order)


def _to_cancel(wire: _Cancel) -> PgCancel:
    return PgCancel(
        transaction_key=wire.transaction_key,
        amount=wire.cancel_amount,
        balance_after=wire.refundable_amount,
        reason=wire.cancel_reason or "",
        cancelled_at=wire.canceled_at,
        is_done=wire.cancel_status in {None, "DONE"},  # older answers have none; a word of the future is not done
    )


def _to_account(wire: _VirtualAccount) -> PgVirtualAccount:
    return PgVirtualAccount(
        bank_code=wire.bank_code,
        account_number=wire.account_number,
        holder_name=wire.customer_name,
        due_at=wire.due_date,
        is_expired=wire.expired is True,
        refund_status=wire.refund_status,
    )
