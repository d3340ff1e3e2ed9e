"""Telling people, with a receiver on a loopback port in their place."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import pytest
from structlog.testing import capture_logs

from payments.alerts import Alert, Alerts, AppriseAlerts
from tests.gateways.loopback import Loopback, answering, loopback, never_answering

# Of a module that Apprise loads on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

ALERT: Final = Alert("주문 없는 결제", "order-000001: 15,000원이 승인되었으나 주문이 없습니다.")
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
REFUSED: Final = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
TOKEN: Final = "T0KEN-of-the-channel"


def url_of(server: Loopback) -> str:
    return f"json://operator:{TOKEN}@127.0.0.1:{server.port}/{TOKEN}/"


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Loopback, list[dict[str, str]]]]:
    """Somebody who takes every alert, and what they were told."""
    told: list[dict[str, str]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = server.requests[-1].decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        told.append(json.loads(await reader.readexactly(length)))
        writer.write(OK)
        await writer.drain()

    async with loopback(take) as server:
        yield server, told


class TestAlerts:
    @pytest.mark.parametrize(("is_critical", "kind"), [(True, "failure"), (False, "warning")])
    async def test_arrive_as_they_are_with_their_weight(
        self, receiver: tuple[Loopback, list[dict[str, str]]], *, is_critical: bool, kind: str
    ) -> None:
        server, told = receiver
        alerts: Alerts = AppriseAlerts([url_of(server)])

        assert await alerts.send(Alert(ALERT.title, "<b>*order*</b> {{x}}\n{x}", is_critical=is_critical))

        assert [(one["title"], one["message"], one["type"]) for one in told] == [
            (ALERT.title, "<b>*order*</b> {{x}}\n{x}", kind)
        ]

    async def test_reach_everybody_though_one_does_not_take_them(
        self, receiver: tuple[Loopback, list[dict[str, str]]]
    ) -> None:
        server, told = receiver
        async with loopback(answering(REFUSED)) as refusing:
            assert await AppriseAlerts([url_of(refusing), url_of(server)]).send(ALERT)
            assert not await AppriseAlerts([url_of(refusing)]).send(ALERT)

        assert [one["title"] for one in told] == [ALERT.title]

    async def test_that_nobody_takes_in_time_are_not_waited_for(self) -> None:
        async with loopback(never_answering) as server:
            alerts = AppriseAlerts([url_of(server)], deadline=timedelta(seconds=0.3))
            began = asyncio.get_running_loop().time()

            assert not await alerts.send(ALERT)

            assert asyncio.get_running_loop().time() - began < 3

    @pytest.mark.parametrize("reply", [REFUSED, b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"])
    async def test_never_show_where_they_go(
        self, reply: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        with capture_logs() as logs, caplog.at_level(0):
            async with loopback(answering(reply)) as server:
                alerts = AppriseAlerts([url_of(server)])
                await alerts.send(ALERT)

        shown = f"{logs} {caplog.text} {capfd.readouterr()} {alerts!r}"
        assert TOKEN not in shown
        assert str(server.port) not in shown

    async def test_that_were_not_taken_are_logged_with_the_service(self) -> None:
        async with loopback(answering(REFUSED)) as server:
            with capture_logs() as logs:
                await AppriseAlerts([url_of(server)]).send(ALERT)

        assert [(entry["event"], entry["title"], entry["services"]) for entry in logs] == [
            ("alert.not_sent", ALERT.title, ["JSON"])
        ]


class TestUrls:
    @pytest.mark.parametrize(
        "url", ["", "nonsense", f"nosuchservice://{TOKEN}@host", f"slack://{TOKEN}", f"tgram://{TOKEN}", "json://"]
    )
    def test_that_cannot_be_read_are_refused_without_being_told(
        self, url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with caplog.at_level(0), pytest.raises(ValueError, match="Alert URL 2 of 2") as caught:
            AppriseAlerts([f"json://operator:{TOKEN}@127.0.0.1/", url])

        assert TOKEN not in f"{caught.value} {caplog.text} {capfd.readouterr()}"
        assert caught.value.__cause__ is None

    def test_of_which_there_are_none_are_refused(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            AppriseAlerts([])
