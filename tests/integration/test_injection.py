"""What somebody sends stays what it is: a text in a row, or a refusal."""

from typing import Final
from urllib.parse import quote

import httpx
from sqlalchemy import func, select

from payments.db import transaction
from payments.models import Payment
from payments.resources import Resources
from tests.integration.world import confirm_body, prepare_body

HOSTILE: Final = (
    "'; DROP TABLE payments; --",
    "' OR '1'='1",
    "$$; SELECT pg_sleep(10); $$",
    "%' UNION SELECT customer_email FROM payments --",
    "%_\\%",
    "{0} %s %(name)s :name",
    '{"$ne": null}',
)


async def orders(resources: Resources) -> list[tuple[str, str]]:
    async with transaction(resources.sessions) as session:
        rows = await session.execute(select(Payment.order_id, Payment.order_name))
        return [(order_id, name) for order_id, name in rows]


class TestHostileText:
    async def test_in_a_name_is_a_name(self, api: httpx.AsyncClient, resources: Resources) -> None:
        names = {f"order-{number:06}": text for number, text in enumerate(HOSTILE)}

        answers = [await api.post("/payments/prepare", json=prepare_body(one, orderName=names[one])) for one in names]

        assert [(answer.status_code, answer.json()["orderName"]) for answer in answers] == [
            (201, text) for text in HOSTILE
        ]
        assert dict(await orders(resources)) == names

    async def test_in_an_id_or_a_key_is_refused(self, api: httpx.AsyncClient, resources: Resources) -> None:
        answers = []
        for text in HOSTILE:
            answers.append(await api.post("/payments/prepare", json=prepare_body(text)))
            answers += [await api.get(f"/payments/{path}{quote(text, safe='')}") for path in ("orders/", "")]
            answers.append(await api.post("/payments/confirm", json=confirm_body(text)))

        assert {answer.status_code for answer in answers} == {422}
        assert await orders(resources) == []


class TestPatterns:
    async def test_are_no_patterns_to_the_database(self, api: httpx.AsyncClient, resources: Resources) -> None:
        """`_` may stand in an order id, and would stand for any character in a LIKE."""
        await api.post("/payments/prepare", json=prepare_body("order-A00001"))

        answer = await api.get("/payments/orders/order-_00001")

        assert answer.status_code == 404
        async with transaction(resources.sessions) as session:
            assert await session.scalar(select(func.count()).select_from(Payment)) == 1
