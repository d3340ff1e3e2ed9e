"""The commands that do by hand what the workers do, and those that look after what only a person can decide."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from payments.arguments import add, add_group, settings_from_environment
from payments.errors import PaymentError
from payments.settings import Settings

if TYPE_CHECKING:
    from payments.arguments import Commands
    from payments.records import DiscrepancyKind

USAGE_WRONG = 2

Work = Callable[[Settings], Coroutine[object, object, int]]


def add_jobs(commands: "Commands") -> None:
    """Add them all."""
    add(
        commands,
        "recover",
        _recover,
        "ask the payment gateway about every payment whose outcome is unknown, now",
        "payments recover --json",
        _many_options,
    )
    add(
        commands,
        "deliver",
        _deliver,
        "send the order service every event that it has not taken yet, now",
        "payments deliver",
        _json_option,
    )
    add(
        commands,
        "check-orders",
        _check_orders,
        "compare the orders of a business day with its payments",
        "payments check-orders --date 2026-11-21",
        _day_options,
    )
    add(
        commands,
        "reconcile",
        _reconcile,
        "compare the payments of a business day with what the payment gateway lists, and repair what it proves",
        "payments reconcile --date 2026-11-21 --json",
        _reconcile_options,
    )
    _add_forgetting(commands)
    _add_refunds(add_group(commands, "refunds", "look after money that goes back", "payments refunds resolve"))
    _add_events(add_group(commands, "events", "look after what the order service is told", "payments events replay"))
    _add_webhooks(add_group(commands, "webhooks", "look after what the gateway tells us", "payments webhooks replay"))
    _add_discrepancies(
        add_group(
            commands,
            "discrepancies",
            "look after differences between orders, payments and the gateway",
            "payments discrepancies list",
        )
    )
    _add_health(add_group(commands, "health", "tell whether a program is alive", "payments health worker"))


def _add_forgetting(commands: "Commands") -> None:
    add(commands, "forget", _forget, "delete the rows that nobody needs any more", "payments forget")
    add(
        commands,
        "erase",
        _erase,
        "erase who paid, of payments that nobody needs to know it of any more, or of one order now",
        "payments erase --order order-20261122-0001",
        _erase_options,
    )


def _add_refunds(verbs: "Commands") -> None:
    add(
        verbs,
        "resolve",
        _resolve_refunds,
        "ask the payment gateway about every refund whose outcome is unknown, now",
        "payments refunds resolve --order order-20261122-0001 --json",
        _refund_options,
    )


def _add_events(verbs: "Commands") -> None:
    add(
        verbs,
        "replay",
        _replay_events,
        "send events once more: those that were given up, or those of one order",
        "payments events replay --order order-20261122-0001",
        _replay_options,
    )


def _add_webhooks(verbs: "Commands") -> None:
    add(
        verbs,
        "replay",
        _replay_webhooks,
        "work on webhooks of the gateway once more: those that were given up, or one",
        "payments webhooks replay --id 0193a1b2-0000-7000-8000-000000000000",
        lambda parser: _id_option(parser, "--id", "only this webhook (default: those that were given up)"),
    )


def _add_discrepancies(verbs: "Commands") -> None:
    add(
        verbs,
        "list",
        _list_discrepancies,
        "list the differences that nobody has resolved, newest first",
        "payments discrepancies list --kind order_not_paid",
        _list_options,
    )
    add(
        verbs,
        "show",
        _show_discrepancy,
        "show one difference with both sides' values",
        "payments discrepancies show 0193a1b2-0000-7000-8000-000000000000",
        _show_options,
    )
    add(
        verbs,
        "resolve",
        _resolve_discrepancy,
        "write down that somebody has looked at a difference, and what came of it",
        'payments discrepancies resolve 0193a1b2-0000-7000-8000-000000000000 --note "refunded by telephone"',
        _resolution_options,
    )


def _add_health(verbs: "Commands") -> None:
    add(verbs, "worker", _check_worker, "tell whether a worker of this machine is alive", "payments health worker")


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _many_options(parser: argparse.ArgumentParser) -> None:
    _limit_option(parser, "at most N, oldest first")
    _json_option(parser)


def _limit_option(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--limit", type=count, default=1000, metavar="N", help=f"{what} (default: %(default)s)")


def _refund_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--order", metavar="ORDER_ID", help="only the refund of this order (default: all)")
    _many_options(parser)


def _erase_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--order",
        metavar="ORDER_ID",
        help="only this order's payment, however young (default: all that are older than PERSONAL_DATA_KEPT)",
    )


def _day_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--date",
        type=business_day,
        metavar="YYYY-MM-DD",
        help="the business day in Seoul, or `today` (default: yesterday)",
    )
    _json_option(parser)


def _reconcile_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force",
        action="store_true",
        help="repair however many payments differ; without it a day with suspiciously many is left as it is",
    )
    _day_options(parser)


def _replay_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--order", metavar="ORDER_ID", help="all events of this order (default: those given up)")
    _id_option(parser, "--id", "only this event, by its webhook-id")


def _id_option(parser: argparse.ArgumentParser, name: str, what: str) -> None:
    parser.add_argument(name, type=identifier, metavar="ID", help=what)


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kind", type=kind, metavar="KIND", help="only of this kind, such as order_not_paid")
    parser.add_argument("--all", action="store_true", help="those that were resolved, too")
    _limit_option(parser, "at most N, newest first")
    _json_option(parser)


def _show_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", type=identifier, metavar="ID", help="as `payments discrepancies list` shows it")
    _json_option(parser)


def _resolution_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", type=identifier, metavar="ID", help="as `payments discrepancies list` shows it")
    parser.add_argument("--note", required=True, type=words, metavar="TEXT", help="what came of it")
    parser.add_argument("--by", metavar="NAME", help="who resolved it (default: the user of this machine)")


def count(text: str) -> int:
    """How many, at least one."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("has to be a whole number, at least 1")
    return int(text)


def kind(text: str) -> "DiscrepancyKind":
    """How orders, payments and the gateway can disagree."""
    from payments.records import DiscrepancyKind  # noqa: PLC0415 - the other commands start faster without it

    try:
        return DiscrepancyKind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"has to be one of {', '.join(DiscrepancyKind)}") from None


def business_day(text: str) -> date:
    """A date as `2026-11-21`, `today` or `yesterday`, in Seoul; none that is still to come."""
    from payments.business_day import day_of, yesterday  # noqa: PLC0415 - as above

    now = datetime.now(UTC)
    words = {"today": day_of(now), "yesterday": yesterday(now)}
    try:
        day = words.get(text) or date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("has to be a date such as 2026-11-21, `today` or `yesterday`") from None
    if day > words["today"]:
        raise argparse.ArgumentTypeError("is a day that has not been yet")
    return day


def identifier(text: str) -> UUID:
    """An id as other commands print it."""
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError("has to be an id as the lists show it") from None


def words(text: str) -> str:
    """What somebody has to say for the record."""
    if not text.strip():
        raise argparse.ArgumentTypeError("has to say something")
    return text.strip()


def perform(work: Work) -> int:
    """Read the configuration and do it; a refusal is a line on standard error."""
    from payments.db import DatabaseRefused  # noqa: PLC0415 - `--help` needs no database

    settings = settings_from_environment(log_to=sys.stderr)
    try:
        return asyncio.run(work(settings))
    except PaymentError as error:
        print(f"payments: {error.detail}", file=sys.stderr)
    except DatabaseRefused as error:
        if not error.is_forbidden:
            raise
        print("payments: the role of DATABASE_URL may not do this: see docs/roles.md for who may", file=sys.stderr)
    return USAGE_WRONG


def _recover(options: argparse.Namespace) -> int:
    from payments.commands import recover_now  # noqa: PLC0415 - the other commands start faster without it

    return perform(lambda settings: recover_now(settings, limit=options.limit, in_json=options.json))


def _deliver(options: argparse.Namespace) -> int:
    from payments.commands import deliver_events_now  # noqa: PLC0415 - as above

    return perform(lambda settings: deliver_events_now(settings, in_json=options.json))


def _check_orders(options: argparse.Namespace) -> int:
    from payments.commands import check_orders_now  # noqa: PLC0415 - as above

    return perform(lambda settings: check_orders_now(settings, day=options.date, in_json=options.json))


def _reconcile(options: argparse.Namespace) -> int:
    from payments.commands import reconcile_now  # noqa: PLC0415 - as above
    from payments.usecases.reconcile import USUAL_CAP  # noqa: PLC0415 - as above

    cap = None if options.force else USUAL_CAP
    return perform(lambda settings: reconcile_now(settings, day=options.date, cap=cap, in_json=options.json))


def _forget(_: argparse.Namespace) -> int:
    from payments.commands import forget_now  # noqa: PLC0415 - as above

    return perform(forget_now)


def _erase(options: argparse.Namespace) -> int:
    from payments.commands import erase_now, erase_order_now  # noqa: PLC0415 - as above

    order_id: str | None = options.order
    if order_id is not None:
        return perform(lambda settings: erase_order_now(settings, order_id))
    return perform(erase_now)


def _resolve_refunds(options: argparse.Namespace) -> int:
    from payments.commands import resolve_refunds_now  # noqa: PLC0415 - as above

    return perform(
        lambda settings: resolve_refunds_now(
            settings, order_id=options.order, limit=options.limit, in_json=options.json
        )
    )


def _replay_events(options: argparse.Namespace) -> int:
    from payments.commands import replay_events  # noqa: PLC0415 - as above

    return perform(lambda settings: replay_events(settings, order_id=options.order, message_id=options.id))


def _replay_webhooks(options: argparse.Namespace) -> int:
    from payments.commands import replay_webhooks_now  # noqa: PLC0415 - as above

    return perform(lambda settings: replay_webhooks_now(settings, webhook_id=options.id))


def _list_discrepancies(options: argparse.Namespace) -> int:
    from payments.commands import list_discrepancies  # noqa: PLC0415 - as above

    return perform(
        lambda settings: list_discrepancies(
            settings, kind=options.kind, resolved_too=options.all, limit=options.limit, in_json=options.json
        )
    )


def _show_discrepancy(options: argparse.Namespace) -> int:
    from payments.commands import show_discrepancy  # noqa: PLC0415 - as above

    return perform(lambda settings: show_discrepancy(settings, options.id, in_json=options.json))


def _resolve_discrepancy(options: argparse.Namespace) -> int:
    from payments.commands import resolve_discrepancy  # noqa: PLC0415 - as above

    return perform(lambda settings: resolve_discrepancy(settings, options.id, note=options.note, by=options.by))


def _check_worker(_: argparse.Namespace) -> int:
    from payments.commands import check_worker  # noqa: PLC0415 - as above

    return perform(check_worker)
