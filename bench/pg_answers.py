"""What the stand-in of the PG answers: Payment objects of the sandbox, made once and filled in for each payment."""

import json
from datetime import UTC, datetime
from typing import Final

from bench import http1
from bench.orders import AMOUNT, NAME, order_of
from toss_sandbox.payment_object import payment_object
from toss_sandbox.payments import Cancel, Payment, make_means
from toss_sandbox.settings import Settings

# Stand for what differs from payment to payment. They contain nothing that JSON would write in another way.
_KEY: Final = "<key>"
_ORDER: Final = "<order>"
_TRANSACTION: Final = "<transaction>"
_AS_LONG_AS_A_SECRET: Final = f"ps_{'b' * 28}"


class PgAnswers:
    """Answers about payments that are all alike but for their names."""

    def __init__(self) -> None:
        at = datetime.now(UTC)
        settings = Settings()
        done = _done(at)
        cancel = Cancel(
            transaction_key=_TRANSACTION,
            reason="고객 변심",
            amount=AMOUNT,
            tax_free_amount=0,
            tax_exemption_amount=0,
            refundable_amount=0,
            at=at,
        )
        self._done = _template(done, settings, at)
        self._cancelled = _template(done.cancel(cancel), settings, at)

    def done(self, key: str) -> bytes:
        """It was approved: the answer to a confirm and to a look-up."""
        return _fill(self._done, key)

    def cancelled(self, key: str) -> bytes:
        """All of it went back."""
        return _fill(self._cancelled, key)


def _done(at: datetime) -> Payment:
    payment = Payment(
        payment_key=_KEY,
        order_id=_ORDER,
        order_name=NAME,
        amount=AMOUNT,
        requested_method="CARD",
        flow="DEFAULT",
        client_key="test_ck_bench",
        success_url="",
        fail_url="",
        secret=_AS_LONG_AS_A_SECRET,
        requested_at=at,
    )
    return payment.begin(make_means("CARD"), refuse_with=None, at=at).approve(at=at)


def _template(payment: Payment, settings: Settings, at: datetime) -> bytes:
    text = json.dumps(payment_object(payment, settings, at=at), ensure_ascii=False)
    text = text.replace("%", "%%")
    for name in (_KEY, _ORDER, _TRANSACTION):
        text = text.replace(name, f"%({name[1:-1]})b")
    return text.encode()


def _fill(template: bytes, key: str) -> bytes:
    order = order_of(key).encode()
    return http1.answer(template % {b"key": key.encode(), b"order": order, b"transaction": b"tx-" + order})
