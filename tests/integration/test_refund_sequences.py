"""Random days in a back office: whatever is refunded, lost, repeated or cancelled elsewhere, the books agree."""

from itertools import count
from typing import Final

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from payments.resources import WORKER, Resources, open_resources
from payments.states import RefundStatus
from tests.integration.world import Sandbox, cancelling, paid, read, resolve_now

AMOUNT: Final = 10_000
LOST: Final = ("drop_reply", "truncated_json", "server_error_after_effect", "drop_before_effect", "server_error")

refunds = st.one_of(st.none(), st.sampled_from([1, 1000, 2500, 5000, 9_999, 10_000, 10_001]))
steps = st.one_of(
    st.tuples(st.just("refund"), refunds),
    st.tuples(st.just("lose"), st.sampled_from(LOST)),
    st.tuples(st.just("again"), st.none()),
    st.tuples(st.just("console"), st.sampled_from([1, 1000, 5000])),
    st.tuples(st.just("resolve"), st.none()),
)
Step = tuple[str, int | str | None]
orders = count(1)


class BackOffice:
    """One payment, and all that people do to it."""

    def __init__(self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources) -> None:
        self._api, self._sandbox, self._resources = api, sandbox, resources
        self.order_id = f"order-{next(orders):06}"
        self._asked: tuple[int | None, str] = (None, f"{self.order_id}-first")
        self._requests = count()

    async def take(self, step: Step) -> None:
        match step:
            case ("refund", amount) if not isinstance(amount, str):
                self._asked = (amount, f"{self.order_id}-{next(self._requests)}")
                await self._ask()
            case ("again", _):
                await self._ask()
            case ("lose", str() as fault):
                await self._sandbox.arm("cancel", fault, orderId=self.order_id)
            case ("console", amount):
                answer = await self._sandbox.http.post(
                    f"/sandbox/payments/{self.payment_key}/cancel", json={"amount": amount}
                )
                assert answer.status_code in {200, 400, 403}
            case _:
                await resolve_now(self._resources)

    async def begin(self) -> None:
        self.payment_key = await paid(self._api, self._sandbox, self.order_id, AMOUNT)

    async def close(self) -> None:
        """Faults are over, everything is resolved, and a last refund of one won meets whatever the console did."""
        await self._sandbox.clear_faults()
        await resolve_now(self._resources)
        await cancelling(self._api, 1, order_id=self.order_id)
        if RefundStatus.REQUESTED in await resolve_now(self._resources):
            async with open_resources(self._resources.settings, role=WORKER) as worker:  # whose circuits are closed
                await resolve_now(worker)
                await cancelling(self._api, 1, order_id=self.order_id)
                await resolve_now(worker)

    async def _ask(self) -> None:
        amount, key = self._asked
        answer = await cancelling(self._api, amount, order_id=self.order_id, key=key)
        assert answer.status_code in {200, 202, 409}


class TestRefunds:
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(day=st.lists(steps, min_size=1, max_size=5))
    async def test_never_exceed_the_capture_and_equal_the_pgs_balance(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources, day: list[Step]
    ) -> None:
        office = BackOffice(api, sandbox, resources)
        await office.begin()

        for step in day:
            await office.take(step)
        await office.close()

        payment = await read(api, office.order_id)
        given_back = [refund["amount"] for refund in payment["refunds"] if refund["status"] == "SUCCEEDED"]
        assert sorted(given_back) == sorted(await sandbox.cancelled(office.order_id))
        assert sum(given_back) == payment["refundedAmount"] <= AMOUNT
        assert payment["refundableAmount"] == (await sandbox.shown(office.payment_key))["balanceAmount"]
        assert not [refund for refund in payment["refunds"] if refund["status"] == "REQUESTED"]
