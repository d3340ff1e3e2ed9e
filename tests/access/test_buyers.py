"""Buyers that are known: a payment is there for whoever prepared it, and for nobody else."""

import httpx
import psycopg
import pytest

from payments.settings import Settings
from tests.access.conftest import serving
from tests.access.identity import KNOWN, Provider, a_token
from tests.integration.world import AMOUNT, ORDER, Sandbox, confirm_body, prepare_body, prepared
from tests.keys import AUTHORIZATION

HERS = {"authorization": f"Bearer {a_token(sub='buyer-1')}"}
HIS = {"authorization": f"Bearer {a_token(sub='buyer-2')}"}


def owner_of(database: str, order_id: str = ORDER) -> str | None:
    with psycopg.connect(database.replace("+psycopg", "", 1)) as connection:
        found = connection.execute("SELECT owner FROM payments WHERE order_id = %s", [order_id]).fetchone()
    assert found is not None
    owner: str | None = found[0]
    return owner


async def prepare(http: httpx.AsyncClient, headers: dict[str, str], **changes: object) -> httpx.Response:
    return await http.post("/payments/prepare", json={**prepare_body(), **changes}, headers=headers)


class TestBuyer:
    async def test_owns_what_they_prepare(self, stranger: httpx.AsyncClient, database: str) -> None:
        assert (await prepare(stranger, HERS)).status_code == 201

        assert owner_of(database) == "buyer-1"

    async def test_pays_and_sees_all_of_it(self, stranger: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepare(stranger, HERS)
        payment_key = await sandbox.buyer_authenticates()

        paid = await stranger.post("/payments/confirm", json=confirm_body(payment_key), headers=HERS)
        seen = await stranger.get(f"/payments/{payment_key}", headers=HERS)

        assert (paid.status_code, paid.json()["status"]) == (200, "COMPLETED")
        assert seen.json()["amount"] == AMOUNT

    async def test_is_the_same_one_with_a_newer_token(self, stranger: httpx.AsyncClient) -> None:
        await prepare(stranger, HERS)

        newer = {"authorization": f"Bearer {a_token(sub='buyer-1', jti='another')}"}

        assert (await stranger.get(f"/payments/orders/{ORDER}", headers=newer)).status_code == 200

    async def test_of_another_payment_changes_nothing_and_captures_nothing(
        self, stranger: httpx.AsyncClient, sandbox: Sandbox, database: str
    ) -> None:
        await prepare(stranger, HERS)
        payment_key = await sandbox.buyer_authenticates()

        answers = [
            await prepare(stranger, HIS),
            await prepare(stranger, HIS, amount=AMOUNT + 1),
            await stranger.post("/payments/confirm", json=confirm_body(payment_key), headers=HIS),
            await stranger.post("/payments/confirm", json=confirm_body(payment_key, amount=1000), headers=HIS),
            await stranger.get(f"/payments/orders/{ORDER}", headers=HIS),
        ]

        codes = ["order_not_found"] * 2 + ["payment_not_found"] * 3
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, code) for code in codes]
        assert await sandbox.captures() == []
        assert owner_of(database) == "buyer-1"

    async def test_of_another_payment_learns_nothing_from_a_confirm_that_is_repeated(
        self, stranger: httpx.AsyncClient, sandbox: Sandbox
    ) -> None:
        await prepare(stranger, HERS)
        payment_key = await sandbox.buyer_authenticates()
        await stranger.post("/payments/confirm", json=confirm_body(payment_key), headers=HERS)

        answer = await stranger.post("/payments/confirm", json=confirm_body(payment_key), headers=HIS)

        assert answer.status_code == 404

    async def test_takes_nothing_over_that_was_prepared_for_nobody_in_particular(
        self, stranger: httpx.AsyncClient, sandbox: Sandbox, database: str
    ) -> None:
        """The shop's server prepares for guests, whose accounts and receipts are nobody else's business."""
        await prepare(stranger, AUTHORIZATION)
        read = await stranger.get(f"/payments/orders/{ORDER}", headers=HERS)
        again = await prepare(stranger, HERS)
        payment_key = await sandbox.buyer_authenticates()
        confirmed = await stranger.post("/payments/confirm", json=confirm_body(payment_key), headers=HERS)

        assert [read.status_code, again.status_code, confirmed.status_code] == [404, 404, 404]
        assert owner_of(database) is None
        assert await sandbox.captures() == []

    async def test_learns_nothing_of_the_orders_of_others(self, stranger: httpx.AsyncClient) -> None:
        """Prepared or not, an order that is not theirs is one that does not exist."""
        await prepare(stranger, HERS)

        answer = await prepare(stranger, HIS)

        assert answer.json()["code"] == "order_not_found"  # as the order service's own "no such order" is answered

    async def test_keeps_the_payment_over_a_refused_attempt(
        self, stranger: httpx.AsyncClient, sandbox: Sandbox, database: str
    ) -> None:
        await prepare(stranger, HERS)
        refused = await sandbox.buyer_authenticates(refuseWith="INVALID_STOPPED_CARD")
        await stranger.post("/payments/confirm", json=confirm_body(refused), headers=HERS)

        assert (await prepare(stranger, HIS)).status_code == 404
        assert (await prepare(stranger, HERS)).json()["attempt"] == 2

    async def test_does_not_hinder_the_shop(self, stranger: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepare(stranger, HERS)
        payment_key = await sandbox.buyer_authenticates()

        paid = await stranger.post("/payments/confirm", json=confirm_body(payment_key), headers=AUTHORIZATION)

        assert paid.status_code == 200

    async def test_gets_503_while_nobody_can_tell_who_they_are(
        self, stranger: httpx.AsyncClient, provider: Provider, database: str
    ) -> None:
        provider.is_away = True

        answer = await prepare(stranger, HERS)

        assert (answer.status_code, answer.json()["code"]) == (503, "identity_unavailable")
        assert answer.headers["retry-after"]
        with psycopg.connect(database.replace("+psycopg", "", 1)) as connection:
            assert connection.execute("SELECT 1 FROM payments").fetchone() is None


class TestNobody:
    async def test_sees_the_status_and_nothing_of_anybody(self, anybody: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await prepared(anybody)
        payment_key = await sandbox.buyer_authenticates()
        (await anybody.post("/payments/confirm", json=confirm_body(payment_key))).raise_for_status()

        for url in (f"/payments/orders/{ORDER}", f"/payments/{payment_key}"):
            seen = (await anybody.get(url)).json()
            assert set(seen) == {"orderId", "status", "reason", "nextAction", "nextCheckAt"}
            assert seen["status"] == "COMPLETED"
            assert str(AMOUNT) not in seen["reason"]

    @pytest.mark.usefixtures("provider")
    async def test_is_somebody_again_where_buyers_are_not_known_any_more(
        self, settings: Settings, sandbox: Sandbox
    ) -> None:
        async with serving(settings, **KNOWN) as known:
            await prepare(known, HERS)
        payment_key = await sandbox.buyer_authenticates()

        async with serving(settings) as anybody:
            paid = await anybody.post("/payments/confirm", json=confirm_body(payment_key))

        assert paid.status_code == 200


class TestToken:
    async def test_that_may_refund_has_the_limit_of_all_tokens(
        self, settings: Settings, provider: Provider, sandbox: Sandbox
    ) -> None:
        known = {**KNOWN, "jwt_refund_limit": 5000}
        clerk = {"authorization": f"Bearer {a_token(sub='clerk', scope='payments:refund')}"}
        async with serving(settings, **known) as stranger:
            await prepare(stranger, HERS)
            payment_key = await sandbox.buyer_authenticates()
            await stranger.post("/payments/confirm", json=confirm_body(payment_key), headers=HERS)

            statuses = []
            for amount in (5001, 5000, 1):
                body, key = {"cancelReason": "-", "cancelAmount": amount}, {"idempotency-key": f"of-{amount}"}
                answer = await stranger.post(f"/payments/{payment_key}/cancel", json=body, headers={**clerk, **key})
                statuses.append(answer.status_code)

        assert provider.asked == 1
        assert statuses == [403, 200, 403]
        assert await sandbox.cancelled() == [5000]
