"""Stands in for Toss Payments and for the order service: `python -m bench.stand_in --port 28100 --delay-ms 300`.

It has no framework below it, because it must never be what a measurement waits for. It agrees to everything: each
payment key is made of its order, and each payment costs the same.
"""

import argparse
import asyncio
import gc
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Final, cast

import uvloop

from bench import http1
from bench.listings import Day, looked_up_orders
from bench.load import HOST
from bench.pg_answers import PgAnswers

CONFIRM: Final = "/v1/payments/confirm"
DELAY: Final = "/bench/delay-ms/"  # a number follows
_PAYMENT: Final = re.compile(r"/v1/payments/([A-Za-z0-9_-]+)(/cancel)?")
_NOT_FOUND: Final = http1.answer(b'{"code":"NOT_FOUND","message":"nothing of the bench"}', "404 Not Found")
_MILLISECONDS: Final = 1000


@dataclass(slots=True)
class StandIn:
    """What all connections answer from."""

    day: Day
    delay: float  # seconds until the PG answers
    answers: PgAnswers = field(default_factory=PgAnswers)

    def answer(self, method: str, target: str, body: bytes) -> tuple[bytes, float]:
        """The answer, and how many seconds later it is sent."""
        if target == CONFIRM:
            return self.answers.done(json.loads(body)["paymentKey"]), self.delay
        path, _, query = target.partition("?")
        if (found := _PAYMENT.fullmatch(path)) is not None:
            say = self.answers.cancelled if method == "POST" and found[2] else self.answers.done
            return say(found[1]), self.delay
        return self._answer_else(path, query, body), 0

    def _answer_else(self, path: str, query: str, body: bytes) -> bytes:
        match path:
            case "/v1/transactions":
                return http1.answer(self.day.transactions(query))
            case "/orders/lookup":
                return http1.answer(looked_up_orders(body))
            case "/orders":
                return http1.answer(self.day.paid_orders(query))
        if path.startswith(DELAY):
            self.delay = int(path.removeprefix(DELAY)) / _MILLISECONDS
            return http1.answer(b"{}")
        return _NOT_FOUND


class Connection(asyncio.Protocol):
    """One client; it sends its next request when it has its answer."""

    def __init__(self, answer: Callable[[str, str, bytes], tuple[bytes, float]]) -> None:
        self._answer = answer
        self._held = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        self._held += data
        if (bounds := http1.bounds(self._held)) is None:
            return
        method, target, _ = self._held.split(b"\r\n", 1)[0].decode().split(" ")
        answer, delay = self._answer(method, target, self._held[slice(*bounds)])
        self._held = self._held[bounds[1] :]
        if delay:
            asyncio.get_running_loop().call_later(delay, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


async def serve(stand_in: StandIn, port: int) -> None:
    """Serve until the process is told to end."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stand_in.answer), HOST, port)
    gc.freeze()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stand_in", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--delay-ms", type=int, default=0, help="how long the PG thinks (default: %(default)s)")
    parser.add_argument("--day", type=date.fromisoformat, default=date.min, help="the business day it has books of")
    parser.add_argument("--payments", type=int, default=0, help="how many payments that day had (default: none)")
    options = parser.parse_args()
    stand_in = StandIn(Day(options.day, options.payments), options.delay_ms / _MILLISECONDS)
    uvloop.run(serve(stand_in, options.port))


if __name__ == "__main__":
    main()
