"""The primary dies and the standby takes over: with a synchronous one nothing is lost, and the programs follow it."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import Final

import httpx
from tests.acceptance.worker_world import numbered
from tests.integration.world import confirm_body, prepare_body

from payments.db import CONNECT, SILENCE
from proof.cluster import Crash, Pair, open_pair
from proof.findings import Failure, Figure, Findings, Options, Say
from proof.outages import (
    DATABASE,
    Crowd,
    Outage,
    client_of,
    delays_since,
    look_at,
    lost,
    make_database,
    plan,
    refund,
    send_webhook,
    serving,
    settle,
    told_figures,
    wrong_around,
    wrong_with,
)
from proof.world import World, open_world

_FAILOVERS: Final = 10
_QUICK_FAILOVERS: Final = 2
_LOAD_SECONDS: Final = (0.5, 1.5)
_UNHEARD_SECONDS: Final = 1.0  # for which a standby that nobody waits for hears nothing
_READ_ONLY: Final = "read-only"  # the word that replays it
_LAGGING: Final = "lagging"
_FROZEN: Final = "frozen"
# Seconds: what was being said to it is given up first, then connecting to it; and some for a busy machine.
_LEFT_WITHIN: Final = SILENCE.total_seconds() + float(CONNECT["connect_timeout"]) + 5.0


def run(options: Options, say: Say) -> Findings:
    """Let the roles change so often; ask servers that only read; see what is lost when nobody waits for a standby."""
    found = []
    with open_world() as world:
        if options.replay not in {_READ_ONLY, _LAGGING, _FROZEN}:
            found.append(_failovers(world, options, say))
        if options.replay in {None, _READ_ONLY}:
            found.append(_read_only(world, say))
        if options.replay == _LAGGING or (options.replay is None and options.is_full):
            found.append(_lagging(world, say, seed=options.seed))
        if options.replay == _FROZEN or (options.replay is None and options.is_full):
            found.append(_frozen(world, say, seed=options.seed))
    figures = [figure for one in found for figure in one.figures]
    return Findings(figures, [failure for one in found for failure in one.failures])


def _failovers(world: World, options: Options, say: Say) -> Findings:
    times, seed = plan(options, full=_FAILOVERS, quick=_QUICK_FAILOVERS)
    with _a_pair(world) as (home, pair), serving(world, pair.url(DATABASE), home / "logs") as programs:
        crowd = Crowd(programs.api, world, "failover", seed)
        with crowd.at_work():
            passed = list(_roles_change(pair, crowd, times=times, say=say))
            is_whole = len(passed) == times and passed[-1][0].first_success is not None
            away, early = _standby_is_away(pair, crowd, say=say) if is_whole else ([], [])
        say("  settling")
        took, wrong = settle(crowd, programs, pair.primary)
        outages = [outage for outage, _ in passed]
        wrong += [*wrong_with([*outages, *away], meant=times + 1), *early, *wrong_around(crowd, programs)]
    figures = [
        Figure("failovers to a synchronous standby", len(passed)),
        *told_figures(crowd),
        Figure("from the death of the primary to the promotion, longest", _longest_promotion(passed), "ms"),
        *delays_since("the promotion", outages, crowd),
        *(Figure("first success after a standby came back", _in_milliseconds(one), "ms") for one in away),
        Figure("settled after", round(took), "s"),
    ]
    return Findings(figures, [Failure(what, f"{times}-{seed}") for what in wrong])


def _longest_promotion(passed: Sequence[tuple[Outage, float]]) -> int:
    return round(1000 * max((seconds for _, seconds in passed), default=0))


def _in_milliseconds(outage: Outage) -> int:
    return round(1000 * (outage.first_success or 0.0))


def _roles_change(pair: Pair, crowd: Crowd, *, times: int, say: Say) -> Iterator[tuple[Outage, float]]:
    """Each outage, and how long it took from the death of the primary until the standby took writes."""
    chance = Random(crowd.seed)  # noqa: S311 - a seed, no secret
    for number in range(times):
        crowd.keep_busy(chance.uniform(*_LOAD_SECONDS))
        crashed_at, writes_since = pair.fail_over((Crash.KILLED, Crash.IMMEDIATE)[number % 2])
        outage = look_at(crowd, pair.primary, crashed_at=crashed_at, back_since=writes_since)
        say(f"  failover {number + 1} of {times}: {outage}")
        yield outage, writes_since - crashed_at
        if outage.first_success is None:
            return
        pair.replace_standby()
        pair.bind()


def _standby_is_away(pair: Pair, crowd: Crowd, *, say: Say) -> tuple[list[Outage], list[str]]:
    """What one server alone has written is acknowledged to nobody: it waits until the standby is back."""
    pair.standby.stop()
    away_since = time.time()
    time.sleep(_UNHEARD_SECONDS)
    early = [noted.told for noted in crowd.acknowledged() if noted.asked_at > away_since]
    pair.standby.start()
    outage = look_at(crowd, pair.primary, crashed_at=away_since, back_since=time.time())
    say(f"  the standby was away: {outage}")
    return [outage], [f"acknowledged without the standby: {told.what} {told.order_id}" for told in early]


def _frozen(world: World, say: Say, *, seed: int) -> Findings:
    """The primary is not dead but says nothing, for as long as it likes: the programs leave it by themselves."""
    with _a_pair(world) as (home, pair), serving(world, pair.url(DATABASE), home / "logs") as programs:
        crowd = Crowd(programs.api, world, "frozen", seed)
        with crowd.at_work():
            crowd.keep_busy(_UNHEARD_SECONDS)
            frozen_at = pair.primary.freeze()
            outage = look_at(crowd, pair.standby, crashed_at=frozen_at, back_since=pair.take_over())
            say(f"  the primary was frozen: {outage}")
            pair.standby.crash(Crash.KILLED)  # before it may wake up beside the new one
        _, wrong = settle(crowd, programs, pair.primary)
    wrong += [f"lost with a frozen primary: {what}" for what in outage.lost]
    if outage.first_success is None or outage.first_success > _LEFT_WITHIN:
        wrong.append(f"a frozen primary was not left within {_LEFT_WITHIN:.0f} s: {outage}")
    figures = [Figure("first success after the promotion beside a frozen primary", _in_milliseconds(outage), "ms")]
    return Findings(figures, [Failure(what, _FROZEN) for what in wrong])


def _lagging(world: World, say: Say, *, seed: int) -> Findings:
    """The same with a standby that nobody waits for and that lags: writes must be lost, and we must notice."""
    with _a_pair(world) as (home, pair), serving(world, pair.url(DATABASE), home / "logs") as programs:
        crowd = Crowd(programs.api, world, "lagging", seed)
        with crowd.at_work():
            crowd.keep_busy(_UNHEARD_SECONDS)
            pair.loosen()
            pair.cut_off()
            crowd.keep_busy(_UNHEARD_SECONDS)
            crashed_at, _ = pair.fail_over(Crash.KILLED)
        acknowledged = [noted for noted in crowd.acknowledged() if noted.at < crashed_at]
        with pair.primary.connect(DATABASE) as connection:
            missing = lost(connection, acknowledged)
    say(f"  without a synchronous standby {len(missing)} of {len(acknowledged)} acknowledged writes are lost")
    figures = [
        Figure(f"writes acknowledged, then a failover to a standby {_UNHEARD_SECONDS:.0f} s behind", len(acknowledged)),
        Figure("of these lost, because nobody waited for the standby", len(missing)),
    ]
    blind = [Failure("a failover to a lagging standby lost nothing: the check sees no losses", _LAGGING)]
    return Findings(figures, [] if missing else blind)


def _read_only(world: World, say: Say) -> Findings:
    """Servers that take no writes, a primary that was told so and a standby: refused, and the PG is not asked."""
    with _a_pair(world) as (home, pair):
        with serving(world, pair.url(DATABASE), home / "logs") as programs, client_of(programs.api) as api:
            orders = _make_orders(world, api)
            pair.primary.configure(default_transaction_read_only="on")
            asked, wrong = _refuses(world, api, orders, where="a read-only primary")
            pair.primary.configure(default_transaction_read_only="")
            wrong += _takes_writes_again(api, orders)
        with serving(world, pair.standby.url(DATABASE), home / "more-logs") as programs, client_of(programs.api) as api:
            asked_too, wrong_too = _refuses(world, api, orders, where="a standby")
            wrong += wrong_too
            wrong += _still_reads(api, orders, where="a standby")
    say(f"  read-only servers: {len(wrong)} things wrong")
    figures = [Figure("requests to write that a read-only server had to refuse", asked + asked_too)]
    return Findings(figures, [Failure(what, _READ_ONLY) for what in wrong])


@contextmanager
def _a_pair(world: World) -> Iterator[tuple[Path, Pair]]:
    """Our database on a primary and its standby; the PG has forgotten what was before."""
    world.pg.reset()
    with tempfile.TemporaryDirectory(prefix="payments-proof-") as home, open_pair(Path(home)) as pair:
        make_database(pair.primary)
        yield Path(home), pair


@dataclass(frozen=True, slots=True)
class _Orders:
    """One that is prepared and whose buyer is back from the payment window, one that is paid, one that is new."""

    prepared: str
    payment_key: str
    paid: str
    paid_key: str
    new: str


def _make_orders(world: World, api: httpx.Client) -> _Orders:
    prepared, paid, new = numbered("read-only", 3)
    world.town.shop.take_orders([prepared, paid, new])
    for order_id in (prepared, paid):
        api.post("/payments/prepare", json=prepare_body(order_id)).raise_for_status()
    orders = _Orders(prepared, world.pg.authenticate(prepared), paid, world.pg.authenticate(paid), new)
    api.post("/payments/confirm", json=confirm_body(orders.paid_key, paid)).raise_for_status()
    return orders


def _refuses(world: World, api: httpx.Client, orders: _Orders, *, where: str) -> tuple[int, list[str]]:
    """How much was asked of an API whose server takes no writes, and what is wrong with its answers."""
    before = _heard_by_the_pg(world, orders)
    answers = {
        "prepare": api.post("/payments/prepare", json=prepare_body(orders.new)),
        "confirm": api.post("/payments/confirm", json=confirm_body(orders.payment_key, orders.prepared)),
        "cancel": refund(api, orders.paid),
        "webhook": send_webhook(api, orders.paid, orders.paid_key),
    }
    unavailable = HTTPStatus.SERVICE_UNAVAILABLE
    wrong = [
        f"{where}: {what} is answered {got.status_code}"
        for what, got in answers.items()
        if got.status_code != unavailable
    ]
    if heard := _heard_by_the_pg(world, orders) - before:
        wrong.append(f"{where}: the PG was asked {dict(heard)}")
    if (ready := api.get("/health/ready")).status_code != unavailable:
        wrong.append(f"{where}: it calls itself ready: {ready.text}")
    return len(answers), wrong


def _heard_by_the_pg(world: World, orders: _Orders) -> Counter[str]:
    calls = [*world.pg.calls(orders.prepared), *world.pg.calls(orders.paid), *world.pg.calls(orders.new)]
    return Counter(str(call["path"]) for call in calls)


def _still_reads(api: httpx.Client, orders: _Orders, *, where: str) -> list[str]:
    status = api.get(f"/payments/orders/{orders.paid}").status_code
    return [] if status == HTTPStatus.OK else [f"{where}: a payment is read with {status}"]


def _takes_writes_again(api: httpx.Client, orders: _Orders) -> list[str]:
    answer = api.post("/payments/confirm", json=confirm_body(orders.payment_key, orders.prepared))
    return [] if answer.status_code == HTTPStatus.OK else [f"writes again, and confirm is answered {answer.text}"]
