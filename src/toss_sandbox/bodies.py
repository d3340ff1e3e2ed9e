"""The bodies of the Toss API: what can be read out of them, and which error says that it cannot."""

import json
import re
from typing import Final

from pydantic import JsonValue

from toss_sandbox.cancels import CURRENCY, CancelRequest, RefundAccount
from toss_sandbox.confirms import ConfirmRequest
from toss_sandbox.errors import TossError

# The SDK and the English text of INVALID_ORDER_ID allow `=` too.
ORDER_ID: Final = re.compile(r"[A-Za-z0-9_=-]{6,64}")
_MAXIMUM_PAYMENT_KEY_LENGTH: Final = 200
_MAXIMUM_REASON_LENGTH: Final = 200
_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,15}")


def parse(body: bytes) -> JsonValue:
    """The JSON of a body, None when it is none."""
    try:
        parsed: JsonValue = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed


def read_text(body: JsonValue, name: str) -> str | None:
    """A member that is a text, None otherwise."""
    value = body.get(name) if isinstance(body, dict) else None
    # JSON can escape half of a surrogate pair, which is no text anybody could store.
    return value if isinstance(value, str) and _is_text(value) else None


def read_confirm(body: JsonValue, *, has_specific_codes: bool) -> ConfirmRequest:
    """Check the body of a confirm; an amount may come as a string of digits, as integrators are known to send it.

    Raises:
        TossError: INVALID_REQUEST, or the field's own code if asked for.
    """
    payment_key, order_id = read_text(body, "paymentKey"), read_text(body, "orderId")
    amount = _amount(body.get("amount")) if isinstance(body, dict) else None
    if payment_key is None or not 0 < len(payment_key) <= _MAXIMUM_PAYMENT_KEY_LENGTH:
        raise TossError("INVALID_PAYMENT_KEY" if has_specific_codes else "INVALID_REQUEST")
    if order_id is None or not ORDER_ID.fullmatch(order_id):
        raise TossError("INVALID_ORDER_ID" if has_specific_codes else "INVALID_REQUEST")
    if amount is None or amount < 1:
        raise TossError("REQUIRED_AMOUNT" if has_specific_codes else "INVALID_REQUEST")
    return ConfirmRequest(payment_key, order_id, amount)


def read_cancel(payment_key: str, body: JsonValue, *, has_specific_codes: bool) -> CancelRequest:
    """Check the body of a cancel; members it does not know are ignored, and null is as good as absent.

    Raises:
        TossError: INVALID_REQUEST, or the field's own code if asked for.
    """
    if not isinstance(body, dict):
        raise TossError("INVALID_REQUEST")
    reason = read_text(body, "cancelReason")
    if reason is None or not 0 < len(reason) <= _MAXIMUM_REASON_LENGTH:
        raise TossError("INVALID_REQUIRED_PARAM" if has_specific_codes and not reason else "INVALID_REQUEST")
    if body.get("currency") not in (None, CURRENCY):  # a set could not be asked for what JSON can hold
        raise TossError("INVALID_CURRENCY" if has_specific_codes else "INVALID_REQUEST")
    return CancelRequest(
        payment_key=payment_key,
        reason=reason,
        amount=_optional_amount(body, "cancelAmount", least=1),
        tax_free_amount=_optional_amount(body, "taxFreeAmount") or 0,
        tax_exemption_amount=_optional_amount(body, "taxExemptionAmount") or 0,
        refundable_amount=_optional_amount(body, "refundableAmount"),
        account=_account(body.get("refundReceiveAccount")),
    )


def _account(value: JsonValue) -> RefundAccount | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TossError("INVALID_REQUEST")
    return RefundAccount(
        bank=read_text(value, "bank"),
        account_number=read_text(value, "accountNumber"),
        holder_name=read_text(value, "holderName"),
    )


def _optional_amount(body: dict[str, JsonValue], name: str, *, least: int = 0) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    amount = _amount(value)
    if amount is None or amount < least:
        raise TossError("INVALID_REQUEST")
    return amount


def _amount(value: JsonValue) -> int | None:
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_text(value: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in value)
