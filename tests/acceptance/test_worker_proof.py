"""The promises of the worker that are stated in seconds, and its stories at full size: only with --proof."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from payments.settings import Settings
from tests.acceptance.worker_world import (
    Api,
    Books,
    Town,
    confirm_key_of,
    days_before_night,
    environment_for,
    most_within,
    new_shop,
    numbered,
    serving_api,
    that_hold,
    until,
    until_next,
    working,
)
from tests.integration.world import AMOUNT

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at processes through /proc"),
    pytest.mark.timeout(600),
]

RATE: float = Settings.model_fields["toss_worker_rate"].default
PATIENCE_SECONDS = 300.0  # so that a story that takes too long still tells how long it took


@pytest.fixture(scope="module", autouse=True)
def _only_as_proof(pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--proof"):
        pytest.skip("takes minutes; runs with --proof")


@pytest.fixture
def books(town: Town) -> Iterator[tuple[str, Books]]:
    with town.books() as opened:
        yield opened


class Watch:
    """Measures a stretch of a story."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began, 1)


class TestKilledApi:
    @pytest.mark.parametrize("round_number", range(3))
    def test_the_order_is_paid_within_10_s_of_the_start_of_a_worker(
        self, town: Town, books: tuple[str, Books], capsys: pytest.CaptureFixture[str], round_number: int
    ) -> None:
        database, ours = books
        (order_id,) = numbered("killed", 1)
        town.confirm_and_die(database, order_id)

        since_start = Watch()
        with working(town.environment(database), town.logs):
            until(lambda: town.shop.order(order_id) == ("PAID", 0), so_far=ours.statuses)
            took = since_start.seconds

        with capsys.disabled():
            print(f"\nA payment whose API was killed: {took} s")  # noqa: T201 - the proof shows its figures
        assert ours.are_all("COMPLETED")
        assert town.pg.captures([order_id]) == {order_id: 1}
        assert took <= 10, f"{took} s"


class TestOutage:
    def test_two_workers_decide_500_payments_within_90_s_of_its_end(
        self, town: Town, books: tuple[str, Books], capsys: pytest.CaptureFixture[str]
    ) -> None:
        database, ours = books
        orders = numbered("outage", 500)
        captured, promised = orders[::3], sorted({*orders} - {*orders[::3]})
        town.leave_pending(ours, captured=captured, promised=promised)
        outage, began = town.pg.arm("any", "html", times=None), time.time()

        with working(town.environment(database), town.logs, amount=2):
            until(lambda: len(town.pg.asked_at(since=began)) >= 10)  # so both have felt it, whose circuits open at 5
            assert set(ours.statuses()) == {"PENDING"}
            town.pg.disarm(outage)
            lost_answers = town.pg.arm("confirm", "drop_reply", times=None, probability=0.1)
            since_end = Watch()
            until(lambda: ours.are_all("COMPLETED"), within=PATIENCE_SECONDS, so_far=ours.statuses)
            took = since_end.seconds
            town.pg.disarm(lost_answers)

        asked_at = town.pg.asked_at(since=began)
        most = {seconds: most_within(asked_at, seconds) for seconds in (1, 5, 20)}
        figures = f"{took} s, {len(asked_at)} requests, at most {most} in so many seconds"
        with capsys.disabled():
            print(f"\n500 payments after an outage: {figures}")  # noqa: T201 - as above
        assert town.pg.captures(orders) == dict.fromkeys(orders, 1), figures
        assert town.pg.confirms(orders) == {order_id: {confirm_key_of(order_id)} for order_id in promised}, figures
        assert ours.times_moved_to("COMPLETED") == {1: len(orders)}, figures
        # Each worker may let the requests of one second go at once, after a pause.
        assert all(amount <= 2 * RATE * (seconds + 1) for seconds, amount in most.items()), figures
        assert took <= 90, figures


class TestTwentyWorkers:
    def test_each_of_1000_payments_is_decided_once_though_some_of_them_are_killed(
        self, town: Town, books: tuple[str, Books], capsys: pytest.CaptureFixture[str]
    ) -> None:
        database, ours = books
        orders = numbered("twenty", 1_000)
        town.leave_pending(ours, captured=sorted({*orders} - {*orders[::4]}), promised=orders[::4])
        slow = town.pg.arm("lookup", "delay", times=None, delaySeconds=1)

        since_start = Watch()
        with working(town.environment(database), town.logs, amount=20) as workers:
            until(lambda: ours.statuses()["COMPLETED"] >= 200, within=PATIENCE_SECONDS, so_far=ours.statuses)
            killed = until(lambda: that_hold(workers, ours, orders, at_least=4))[:4]
            names = {ours.name_of(worker.pid) for worker in killed}
            left = ours.statuses()["PENDING"]
            for worker in killed:
                worker.die()
            since_death = Watch()
            until(lambda: not names & ours.holders(), within=PATIENCE_SECONDS)
            taken_over = since_death.seconds
            until(lambda: ours.are_all("COMPLETED"), within=PATIENCE_SECONDS, so_far=ours.statuses)
            took = since_start.seconds
            until(lambda: not ours.undelivered(), within=PATIENCE_SECONDS, so_far=ours.undelivered)
        town.pg.disarm(slow)

        figures = f"{took} s; {left} were open when 4 were killed, theirs were taken over after {taken_over} s"
        with capsys.disabled():
            print(f"\n20 workers on 1,000 payments: {figures}")  # noqa: T201 - as above
        assert ours.times_moved_to("COMPLETED") == {1: len(orders)}, figures
        assert ours.messages_each() == {1: len(orders)}, figures
        assert town.pg.captures(orders) == dict.fromkeys(orders, 1), figures
        assert set(map(len, town.pg.confirms(orders).values())) == {1}, figures
        assert town.shop.received(orders) == {order_id: ours.sent_of(order_id) for order_id in orders}, figures
        assert taken_over <= 30, figures


class TestOrderServiceDown:
    def test_it_hears_everything_in_order_and_once_though_the_worker_dies_while_it_is_told(
        self, town: Town, books: tuple[str, Books], capsys: pytest.CaptureFixture[str]
    ) -> None:
        database, ours = books
        orders = numbered("down", 60)
        with new_shop(town.postgres) as shop:
            shop.take_orders(orders)
            environment = environment_for(database, town.pg.url, **shop.told)
            with working(environment, town.logs) as (worker,):
                with serving_api(environment) as (api, _):
                    for order_id in orders:
                        town.buy(api, order_id)
                        give_back_in_thirds(api, order_id)
                until(lambda: ours.told_in_vain() == len(orders), so_far=ours.told_in_vain)
                waiting = ours.undelivered()

                with shop.running():
                    until(lambda: ours.undelivered() < waiting)
                    worker.die()
                    left = ours.undelivered()
                    since_death = Watch()
                    with working(environment, town.logs):
                        until(lambda: not ours.undelivered(), within=PATIENCE_SECONDS, so_far=ours.undelivered)
                        took = since_death.seconds

            figures = f"{waiting} events, {left} of them after the worker's death, in {took} s"
            with capsys.disabled():
                print(f"\nThe order service is back: {figures}")  # noqa: T201 - as above
            assert waiting == 4 * len(orders)
            assert 0 < left < waiting, figures
            assert shop.received(orders) == {order_id: ours.sent_of(order_id) for order_id in orders}
            assert shop.statuses(orders) == {"REFUNDED": len(orders)}


def give_back_in_thirds(api: Api, order_id: str) -> None:
    for number in range(3):
        api.refund(AMOUNT // 3, key=f"{order_id}-{number}", order_id=order_id).raise_for_status()


class TestStoppedWorker:
    def test_it_ends_within_15_s_and_what_it_held_is_free_at_once(
        self, town: Town, books: tuple[str, Books], capsys: pytest.CaptureFixture[str]
    ) -> None:
        database, ours = books
        orders = numbered("stopped", 20)
        town.leave_pending(ours, captured=[], promised=orders)
        town.pg.arm("confirm", "delay", times=len(orders), delaySeconds=25)
        environment = town.environment(database, TOSS_WORKER_RATE="100")
        with working(environment, town.logs) as (stopped,):
            until(lambda: ours.holdings(orders)[stopped.pid] == len(orders))
            name = ours.name_of(stopped.pid)
            with working(environment, town.logs):
                until(lambda: ours.processes() == 2)

                stopped.tell_to_stop()
                since_signal = Watch()
                code = stopped.process.wait(PATIENCE_SECONDS)
                ended = since_signal.seconds
                held_at_the_end = stopped.left_to_others()
                until(lambda: name not in ours.holders())
                free = since_signal.seconds
                until(lambda: ours.are_all("COMPLETED"), so_far=ours.statuses)
                done = since_signal.seconds

        figures = f"ended after {ended} s, {held_at_the_end} left, free after {free} s, decided after {done} s"
        with capsys.disabled():
            print(f"\nA worker that was told to stop: {figures}")  # noqa: T201 - as above
        assert code == 0
        assert held_at_the_end == len(orders), figures
        assert town.pg.captures(orders) == dict.fromkeys(orders, 1), figures
        assert town.pg.confirms(orders) == {order_id: {confirm_key_of(order_id)} for order_id in orders}, figures
        assert ours.times_moved_to("COMPLETED") == {1: len(orders)}, figures
        assert ended <= 15, figures
        assert free <= ended + 3, figures


class TestNights:
    def test_each_is_checked_once_by_three_workers_whether_they_were_there_or_not(
        self, town: Town, books: tuple[str, Books]
    ) -> None:
        database, ours = books
        before_three = until_next(2, 50)
        first, second, *missed = (days_before_night(moved_by=before_three, days=days) for days in (1, 0, -1, -2, -3))
        environment = town.environment(database)

        ours.move_clock(before_three)
        with working(environment, town.logs, amount=3):
            until(lambda: ours.are_checked([first]), so_far=ours.nights)
            only_the_first = ours.nights()
            ours.move_clock(before_three + timedelta(minutes=80))
            until(lambda: ours.are_checked([second]), so_far=ours.nights)
        ours.move_clock(before_three + timedelta(days=3, minutes=80))
        with working(environment, town.logs, amount=3):
            until(lambda: ours.are_checked(missed), so_far=ours.nights)

        assert only_the_first == {"check_orders": [(first, 1, True)], "reconcile": [(first, 1, True)]}
        done_once = [(day, 1, True) for day in (first, second, *missed)]
        assert ours.nights() == {"check_orders": done_once, "reconcile": done_once}
