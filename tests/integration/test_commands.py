import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
import structlog
from pydantic import SecretStr

from payments import commands, discrepancies
from payments.cli import main
from payments.commands import CANNOT, DONE, WRONG
from payments.db import transaction
from payments.errors import DiscrepancyNotFound
from payments.ids import new_id
from payments.leases import Lease
from payments.presence import Presence
from payments.queries import database_now, get_payment_to_change
from payments.records import DiscrepancyKind
from payments.resources import WORKER, Resources
from payments.settings import Settings
from payments.usecases.deliver import PARK_AFTER
from tests.gateways.loopback import loopback, ok_reply
from tests.integration.events_world import BROKEN, Shop, deliver_all, let_pass, lived, message_of, noted
from tests.integration.webhook_world import a_hint, delivered, outcomes, stored, work_now
from tests.integration.world import (
    AMOUNT,
    CLIENT_KEY,
    ORDER,
    SECRET_KEY,
    Sandbox,
    confirm_body,
    prepared,
    read,
    until,
)
from tests.programs import BARE_ENVIRONMENT

COMMANDS: Final = (
    "recover",
    "deliver",
    "check-orders",
    "reconcile",
    "forget",
    "erase",
    "events replay",
    "webhooks replay",
    "discrepancies list",
    "discrepancies show",
    "discrepancies resolve",
    "health worker",
)
SOME_ID: Final = "0193a1b2-0000-7000-8000-000000000000"
OTHER: Final = "order-000002"
SECRET: Final = "whsec_" + "YWFh" * 10


@pytest.fixture(autouse=True)
def _logs_beside_the_report() -> Iterator[None]:
    """As in a process of its own: what is logged does not stand in the report."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    yield
    structlog.reset_defaults()


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> "Printed":
    return Printed(capsys)


class Printed:
    """What a command printed last."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    @property
    def text(self) -> str:
        return self._capsys.readouterr().out

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever it is
        return json.loads(self.text)

    @property
    def complaint(self) -> str:
        return self._capsys.readouterr().err


def payments(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An operator runs a command."""
    environment = {
        **BARE_ENVIRONMENT,
        "ENVIRONMENT": "local",
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "TOSS_API_URL": settings.toss_api_url,
        "TOSS_CLIENT_KEY": CLIENT_KEY,
        "TOSS_SECRET_KEY": SECRET_KEY,
    }
    command = [sys.executable, "-m", "payments", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def told_at(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"events_url": url, "events_secrets": (SecretStr(SECRET),)})


async def note_difference(resources: Resources, order_id: str = ORDER) -> UUID:
    """A difference between the shop and us; its id."""
    async with transaction(resources.sessions) as session:
        now = await database_now(session)
        await discrepancies.note_subject(
            session,
            DiscrepancyKind.ORDER_NOT_PAID,
            order_id,
            payment_id=None,
            ours={"amount": AMOUNT},
            theirs={"status": "PENDING"},
            at=now,
        )
    return next(one.id for one in await noted(resources.sessions) if one.subject == order_id)


async def lose_a_confirm(api: httpx.AsyncClient, sandbox: Sandbox) -> None:
    await prepared(api)
    payment_key = await sandbox.buyer_authenticates()
    await sandbox.arm("any", "drop_before_effect", times=2)
    assert (await api.post("/payments/confirm", json=confirm_body(payment_key))).status_code == 202
    await sandbox.clear_faults()


class TestUsage:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_explains_itself_with_an_example(
        self, command: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            main([*command.split(), "--help"])

        assert stopped.value.code == DONE
        assert f"Example: payments {command}" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "arguments",
        [
            "recover --limit 0",
            "check-orders --date tomorrow",
            "check-orders --date 2999-01-01",
            f"discrepancies resolve {SOME_ID} --note ''",
            "reconcile --date 2026-13-01",
            "events",
            "events replay --id 17",
            "webhooks replay --id order-000001",
            "discrepancies list --kind gone",
            "discrepancies show",
            f"discrepancies resolve {SOME_ID}",
        ],
    )
    def test_wrong_usage_is_exit_code_2(self, arguments: str) -> None:
        with pytest.raises(SystemExit) as stopped:
            main(shlex.split(arguments))

        assert stopped.value.code == CANNOT


class TestProgram:
    async def test_takes_its_options_and_prints_nothing_but_its_report(
        self, settings: Settings, resources: Resources
    ) -> None:
        found = await note_difference(resources)

        shown = payments(settings, "discrepancies", "list", "--kind", "order_not_paid", "--json")
        resolved = payments(settings, "discrepancies", "resolve", str(found), "--note", "전화로 환불", "--by", "kim")

        assert (shown.returncode, [one["id"] for one in json.loads(shown.stdout)]) == (DONE, [str(found)])
        assert (resolved.returncode, resolved.stdout) == (DONE, f"order_not_paid of {ORDER} is resolved.\n")
        (one,) = await noted(resources.sessions)
        assert (one.resolved_by, one.resolution) == ("kim", "전화로 환불")


class TestRecover:
    async def test_asks_about_what_is_unknown_whether_or_not_it_is_due(
        self, api: httpx.AsyncClient, sandbox: Sandbox, settings: Settings, printed: Printed
    ) -> None:
        await lose_a_confirm(api, sandbox)
        await sandbox.arm("lookup", "server_error")
        unknown = await commands.recover_now(settings, limit=10, in_json=True)
        (report,) = printed.json

        known = await commands.recover_now(settings, limit=10, in_json=False)
        table = printed.text
        nothing = await commands.recover_now(settings, limit=10, in_json=False)

        assert (unknown, report["orderId"], report["status"]) == (WRONG, ORDER, "PENDING")
        assert (known, table.splitlines()[-1]) == (DONE, "1 of 1 payments are decided.")
        assert (nothing, printed.text) == (DONE, "The outcome of every payment is known.\n")
        assert (await read(api))["status"] == "COMPLETED"
        assert await sandbox.captures() == [AMOUNT]

    async def test_does_not_call_known_what_somebody_else_is_asking_about(
        self, api: httpx.AsyncClient, sandbox: Sandbox, settings: Settings, resources: Resources, printed: Printed
    ) -> None:
        await lose_a_confirm(api, sandbox)
        async with transaction(resources.sessions) as session:
            payment, now = await get_payment_to_change(session, ORDER)
            payment.hold(Lease(timedelta(minutes=1), holder=payment.id), at=now)

        assert await commands.recover_now(settings, limit=10, in_json=False) == WRONG
        assert printed.text == "1 payments are being asked about.\n"


class TestDeliver:
    async def test_tells_the_shop_at_once_and_says_what_it_did_not_take(
        self, settings: Settings, resources: Resources, printed: Printed
    ) -> None:
        await lived(resources.sessions, ORDER)
        async with loopback(refuse) as server:
            refused = await commands.deliver_events_now(told_at(settings, server.url), in_json=True)
        (report,) = printed.json
        async with loopback(take) as server:
            taken = await commands.deliver_events_now(told_at(settings, server.url), in_json=False)
            table = printed.text
            nothing = await commands.deliver_events_now(told_at(settings, server.url), in_json=False)

        assert (refused, report["delivered"], report["error"]) == (WRONG, False, "status 400")
        assert report["messageId"] == str((await message_of(resources.sessions, ORDER)).id)
        assert (taken, table.splitlines()[-1]) == (DONE, "1 of 1 events are delivered.")
        assert (nothing, printed.text) == (DONE, "Every event is delivered.\n")

    async def test_where_nobody_is_to_be_told_it_says_so(self, settings: Settings, printed: Printed) -> None:
        assert await commands.deliver_events_now(settings, in_json=False) == CANNOT
        assert "EVENTS_URL is not set" in printed.complaint


class TestReplay:
    async def test_of_events_takes_up_what_was_given_up_or_what_is_named(
        self, settings: Settings, resources: Resources, printed: Printed
    ) -> None:
        sessions, shop = resources.sessions, Shop(lambda _: BROKEN)
        await lived(sessions, ORDER, OTHER)
        await deliver_all(sessions, shop)
        await let_pass(sessions, PARK_AFTER + timedelta(hours=1))
        await deliver_all(sessions, shop)
        one = await message_of(sessions, OTHER)

        asked: list[dict[str, Any]] = [
            {"order_id": None, "message_id": None},
            {"order_id": None, "message_id": None},
            {"order_id": ORDER, "message_id": None},
            {"order_id": None, "message_id": one.id},
        ]
        codes = [await commands.replay_events(settings, **each) for each in asked]

        assert codes == [DONE] * 4
        counts = [line.split()[0] for line in printed.text.splitlines()]
        assert counts == ["2", "0", "1", "1"]

    async def test_of_webhooks_has_one_worked_on_once_more(
        self,
        api: httpx.AsyncClient,
        sandbox: Sandbox,
        settings: Settings,
        resources: Resources,
        printed: Printed,
    ) -> None:
        await delivered(api, a_hint("order-of-nobody"))
        await work_now(resources)
        before = await outcomes(resources)

        (event,) = await stored(resources)

        asked = (None, new_id(), event.id)
        codes = [await commands.replay_webhooks_now(settings, webhook_id=webhook_id) for webhook_id in asked]

        assert (before, codes, await outcomes(resources)) == (["orphan"], [DONE] * 3, [None])
        assert [line.split()[0] for line in printed.text.splitlines()] == ["0", "0", "1"]


class TestDiscrepancies:
    async def test_are_listed_while_they_are_open_and_shown_with_both_sides(
        self, settings: Settings, resources: Resources, printed: Printed
    ) -> None:
        found = await note_difference(resources)
        await note_difference(resources, OTHER)
        await commands.resolve_discrepancy(settings, found, note="refunded to 4111 1111 1111 1111", by=None)
        again = await commands.resolve_discrepancy(settings, found, note="once more", by=None)
        complaint = printed.complaint

        async def listed(*, resolved_too: bool, limit: int = 10) -> list[str]:
            code = await commands.list_discrepancies(
                settings, kind=None, resolved_too=resolved_too, limit=limit, in_json=True
            )
            assert code == DONE
            return [one["subject"] for one in printed.json]

        assert (again, "resolved it before: refunded to **** **** **** 1111" in complaint) == (CANNOT, True)
        assert await listed(resolved_too=False) == [OTHER]
        assert await listed(resolved_too=True) == [OTHER, ORDER]
        assert await listed(resolved_too=True, limit=1) == [OTHER]
        await commands.show_discrepancy(settings, found, in_json=True)
        shown = printed.json
        assert (shown["ours"], shown["theirs"]) == ({"amount": AMOUNT}, {"status": "PENDING"})
        assert shown["resolution"] == "refunded to **** **** **** 1111"
        await commands.show_discrepancy(settings, found, in_json=False)
        assert "  status: PENDING" in printed.text

    async def test_what_is_not_there_cannot_be_shown(self, settings: Settings, resources: Resources) -> None:
        with pytest.raises(DiscrepancyNotFound):
            await commands.show_discrepancy(settings, new_id(), in_json=False)


class TestNights:
    async def test_a_day_on_which_nothing_happened_agrees(
        self, sandbox: Sandbox, settings: Settings, printed: Printed
    ) -> None:
        code = await commands.reconcile_now(settings, day=None, cap=None, in_json=True)

        assert (code, printed.json["found"]) == (DONE, {})

    async def test_without_an_order_service_there_is_nothing_to_compare_with(
        self, settings: Settings, printed: Printed
    ) -> None:
        assert await commands.check_orders_now(settings, day=None, in_json=False) == CANNOT
        assert "ORDERS_URL is not set" in printed.complaint


class TestForget:
    async def test_says_how_much_is_gone(self, settings: Settings, resources: Resources, printed: Printed) -> None:
        assert await commands.forget_now(settings) == DONE
        assert printed.text.splitlines()[0].split() == ["idempotent_requests", "0"]


class TestHealth:
    async def test_of_the_worker_is_good_while_it_says_that_it_is_alive(
        self, settings: Settings, resources: Resources, printed: Printed
    ) -> None:
        before = await commands.check_worker(settings)  # an API and this command are alive; neither is a worker
        worker = Presence(WORKER, sessions=resources.sessions)
        worker.start()

        async def is_known() -> bool:
            return worker.holder is not None

        await until(is_known)
        meanwhile = await commands.check_worker(settings)
        await worker.stop()

        assert (before, meanwhile, await commands.check_worker(settings)) == (WRONG, DONE, WRONG)


async def refuse(_: Any, writer: Any) -> None:  # noqa: ANN401 - the streams of asyncio
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


async def take(_: Any, writer: Any) -> None:  # noqa: ANN401 - as above
    writer.write(ok_reply(b"{}"))
    await writer.drain()
