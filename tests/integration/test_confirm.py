import httpx

from tests.integration.world import AMOUNT, Sandbox, confirm_body, prepare_body


class TestConfirm:
    async def test_takes_the_money_once_and_says_so(self, api: httpx.AsyncClient, sandbox: Sandbox) -> None:
        await api.post("/payments/prepare", json=prepare_body())
        payment_key = await sandbox.buyer_authenticates()

        answer = await api.post("/payments/confirm", json=confirm_body(payment_key))

        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "COMPLETED"
        assert await sandbox.captures() == [AMOUNT]
