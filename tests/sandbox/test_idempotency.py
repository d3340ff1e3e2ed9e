import asyncio

from tests.sandbox.client import WIDGET_CLIENT_KEY, WIDGET_KEY, Toss, code_of, until
from tests.sandbox.conftest import sandbox_in_process
from toss_sandbox.settings import Settings

OTHER = "order-000002"


class TestReplay:
    async def test_first_answer_comes_again_byte_by_byte(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        first = await toss.confirm(payment_key, key="key-1")

        again = await toss.confirm(payment_key, key="key-1")

        assert (again.status_code, again.content) == (200, first.content)
        assert await toss.captured() == 15_000

    async def test_replay_echoes_the_key_under_two_trace_ids(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        first = await toss.confirm(payment_key, key="key-1")

        again = await toss.confirm(payment_key, key="key-1")

        assert first.headers["idempotency-key"] == again.headers["idempotency-key"] == "key-1"
        original, own = again.headers["x-tosspayments-trace-id"].split(",")
        assert original == first.headers["x-tosspayments-trace-id"] != own

    async def test_body_is_not_part_of_the_request(self, toss: Toss) -> None:
        first, other = await toss.pay(), await toss.pay(OTHER)
        await toss.confirm(first, key="key-1")

        answer = await toss.confirm(other, OTHER, key="key-1")

        assert (answer.status_code, answer.json()["paymentKey"]) == (200, first)
        assert await toss.captured(OTHER) == 0

    async def test_refusal_comes_again_even_for_a_corrected_body(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.confirm(payment_key, amount=1, key="key-1")

        assert code_of(await toss.confirm(payment_key, key="key-1")) == (403, "FORBIDDEN_REQUEST")
        assert (await toss.confirm(payment_key, key="key-2")).status_code == 200

    async def test_malformed_request_comes_again(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.confirm(payment_key, amount="much", key="key-1")

        assert code_of(await toss.confirm(payment_key, key="key-1")) == (400, "INVALID_REQUEST")

    async def test_server_error_does_not_come_again(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.arm("server_error")
        await toss.confirm(payment_key, key="key-1")

        assert (await toss.confirm(payment_key, key="key-1")).status_code == 200

    async def test_server_error_comes_again_where_told_so(self) -> None:
        async with sandbox_in_process(Settings(replays_server_errors=True)) as toss:
            payment_key = await toss.pay()
            await toss.arm("server_error")
            await toss.confirm(payment_key, key="key-1")

            assert (await toss.confirm(payment_key, key="key-1")).status_code == 500

    async def test_key_is_forgotten_after_fifteen_days(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.confirm(payment_key, key="key-1")

        await toss.move_clock(days=14)
        assert (await toss.confirm(payment_key, key="key-1")).status_code == 200

        await toss.move_clock(days=1)
        assert code_of(await toss.confirm(payment_key, key="key-1")) == (400, "ALREADY_PROCESSED_PAYMENT")

    async def test_same_key_under_another_api_key_is_another_request(self, toss: Toss) -> None:
        first, other = await toss.pay(), await toss.pay(OTHER, clientKey=WIDGET_CLIENT_KEY)
        await toss.confirm(first, key="key-1")

        answer = await toss.confirm(other, OTHER, key="key-1", auth=WIDGET_KEY)

        assert answer.json()["paymentKey"] == other


class TestRefusals:
    async def test_second_request_while_the_first_runs_conflicts(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.arm("delay", delaySeconds=0.5)
        first = asyncio.create_task(toss.confirm(payment_key, key="key-1"))
        await until(toss.calls)

        second = await toss.confirm(payment_key, key="key-1")

        assert second.json() == {"code": "IDEMPOTENT_REQUEST_PROCESSING", "message": "이전 멱등 요청이 처리중입니다."}
        assert second.status_code == 409
        answer = await first
        assert (await toss.confirm(payment_key, key="key-1")).content == answer.content

    async def test_key_of_three_hundred_characters_is_taken(self, toss: Toss) -> None:
        assert (await toss.confirm(await toss.pay(), key="k" * 300)).status_code == 200

    async def test_longer_key_is_refused(self, toss: Toss) -> None:
        answer = await toss.confirm(await toss.pay(), key="k" * 301)

        assert code_of(answer) == (400, "INVALID_IDEMPOTENCY_KEY")
        assert answer.json()["message"] == "멱등키는 300자 이하여야 합니다."
        assert await toss.captured() == 0

    async def test_unauthorized_answer_is_not_kept(self, toss: Toss) -> None:
        payment_key = await toss.pay()
        await toss.http.post("/v1/payments/confirm", headers={"idempotency-key": "key-1"}, auth=("wrong", ""))

        assert (await toss.confirm(payment_key, key="key-1")).status_code == 200
