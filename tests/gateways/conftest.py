"""A client whose network is scripted, with breakers whose clock the story turns."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Final

import httpx
import pytest
import respx

from payments.gateways.breaker import Breaker
from payments.gateways.toss import TossClient

TOSS: Final = "https://api.tosspayments.test"
SECRET_KEY: Final = "test_sk_0123456789abcdef"


class HandClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def toss() -> Iterator[respx.MockRouter]:
    with respx.MockRouter(base_url=TOSS, assert_all_called=False) as router:
        yield router


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def client(toss: respx.MockRouter, clock: HandClock) -> AsyncIterator[TossClient]:
    async with TossClient(
        base_url=TOSS,
        secret_key=SECRET_KEY,
        breaker=Breaker(failures=3, pause=timedelta(seconds=10), clock=clock),
        look_up_breaker=Breaker(failures=3, pause=timedelta(seconds=10), clock=clock),
        cancel_breaker=Breaker(failures=3, pause=timedelta(seconds=10), clock=clock),
        list_breaker=Breaker(failures=3, pause=timedelta(seconds=10), clock=clock),
        transport=httpx.MockTransport(toss.async_handler),
    ) as client:
        yield client
