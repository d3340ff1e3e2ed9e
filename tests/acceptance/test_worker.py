"""Workers as processes of their own: several at once, killed, told to stop, and left alone with it all."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.worker_world import (
    DEADLINE_SECONDS,
    Books,
    Town,
    Worker,
    confirm_key_of,
    days_before_night,
    environment_for,
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
    pytest.mark.timeout(300),  # several waits in a test, each with its own deadline
]

CAPTURED, PROMISED = 90, 30
# By time alone, what a process held that is gone would be free after 60 s.
LONG_BEFORE_THE_LEASE_ENDS = 40


@dataclass(frozen=True)
class Crowd:
    """Four workers on one pile of payments whose outcome is unknown, after two of them were taken out of it."""

    orders: list[str]
    books: Books
    killed: Worker
    stopped: Worker
    names_of_the_gone: set[str]
    nights: list[str]


@pytest.fixture(scope="module")
def crowd(town: Town) -> Iterator[Crowd]:
    """The clock has passed the hours of both nightly checks, one night was missed before, and the PG is slow."""
    orders = numbered("crowd", CAPTURED + PROMISED)
    promised = orders[:: len(orders) // PROMISED]
    moved_by = until_next(5, 0)
    with town.books() as (database, books):
        *missed, done = (days_before_night(moved_by=moved_by, days=days) for days in (0, 1, 2))
        books.count_a_night_done(done)
        books.move_clock(moved_by)
        town.leave_pending(books, captured=sorted({*orders} - {*promised}), promised=promised)
        slow_look_ups = town.pg.arm("lookup", "delay", times=None, delaySeconds=2)
        # Longer than a worker that is told to stop takes, for about as many as two workers have in hand.
        town.pg.arm("confirm", "delay", times=PROMISED * 2 // 3, delaySeconds=15)

        with working(town.environment(database, TOSS_WORKER_RATE="50"), town.logs, amount=4) as workers:
            killed, stopped, *_ = until(lambda: that_hold(workers, books, promised, at_least=2))
            names = {books.name_of(killed.pid), books.name_of(stopped.pid)}
            stopped.tell_to_stop()
            killed.die()
            town.pg.disarm(slow_look_ups)
            yield Crowd(orders, books, killed, stopped, names, sorted([done, *missed]))


class TestManyWorkers:
    def test_what_the_gone_ones_held_is_taken_over_long_before_its_lease_ends(self, crowd: Crowd) -> None:
        until(lambda: not crowd.names_of_the_gone & crowd.books.holders(), within=LONG_BEFORE_THE_LEASE_ENDS)

    def test_each_payment_is_decided_once(self, crowd: Crowd, town: Town) -> None:
        books, orders = crowd.books, crowd.orders

        until(lambda: books.are_all("COMPLETED"), so_far=books.statuses)

        assert books.times_moved_to("COMPLETED") == {1: len(orders)}
        assert town.pg.captures(orders) == dict.fromkeys(orders, 1)

    def test_the_pg_is_asked_for_the_money_of_an_order_under_one_key(self, crowd: Crowd, town: Town) -> None:
        until(lambda: crowd.books.are_all("COMPLETED"), so_far=crowd.books.statuses)

        keys = town.pg.confirms(crowd.orders)

        assert len(keys) == PROMISED
        assert keys == {order_id: {confirm_key_of(order_id)} for order_id in keys}

    def test_the_order_service_hears_once_of_each(self, crowd: Crowd, town: Town) -> None:
        books, orders = crowd.books, crowd.orders

        until(lambda: town.shop.statuses(orders) == {"PAID": len(orders)}, so_far=lambda: town.shop.statuses(orders))

        assert books.messages_each() == {1: len(orders)}
        assert town.shop.received(orders) == {order_id: books.sent_of(order_id) for order_id in orders}

    def test_one_that_is_told_to_stop_ends_well_and_leaves_what_it_cannot_finish(self, crowd: Crowd) -> None:
        code = crowd.stopped.process.wait(DEADLINE_SECONDS)

        assert code == 0
        assert crowd.stopped.left_to_others() > 0


class TestKilledApi:
    def test_one_worker_alone_finishes_what_was_promised_and_the_order_is_paid(self, town: Town) -> None:
        (order_id,) = numbered("killed", 1)
        with town.books() as (database, books):
            town.confirm_and_die(database, order_id)
            assert books.are_all("PENDING")
            assert town.pg.captures([order_id]) == {order_id: 1}

            with working(town.environment(database), town.logs):
                until(lambda: town.shop.order(order_id) == ("PAID", 0), within=LONG_BEFORE_THE_LEASE_ENDS)

            assert books.are_all("COMPLETED")
            assert town.pg.captures([order_id]) == {order_id: 1}


class TestOrderServiceDown:
    def test_it_hears_everything_in_order_and_once_when_it_is_back(self, town: Town) -> None:
        orders = paid, partly, twice, wholly = numbered("down", 4)
        with town.books() as (database, books), new_shop(town.postgres) as shop:
            shop.take_orders(orders)
            # Without ORDERS_URL: while an order cannot be looked at, nobody can begin to pay for it.
            environment = environment_for(database, town.pg.url, **shop.told)
            with working(environment, town.logs), serving_api(environment) as (api, _):
                for order_id in orders:
                    town.buy(api, order_id)
                for number, (order_id, amount) in enumerate(
                    [(partly, 4_000), (twice, 4_000), (twice, AMOUNT - 4_000), (wholly, AMOUNT)]
                ):
                    api.refund(amount, key=f"refund-{number}", order_id=order_id).raise_for_status()
                until(lambda: books.told_in_vain() == len(orders))

                with shop.running():
                    until(lambda: not books.undelivered(), so_far=books.undelivered)
                    told = {order_id: shop.order(order_id) for order_id in orders}

            assert told == {
                paid: ("PAID", 0),
                partly: ("PARTIALLY_REFUNDED", 4_000),
                twice: ("REFUNDED", AMOUNT),
                wholly: ("REFUNDED", AMOUNT),
            }
            assert books.messages_each() == {1: 1, 2: 2, 3: 1}
            assert shop.received(orders) == {order_id: books.sent_of(order_id) for order_id in orders}


class TestNights:
    def test_each_is_checked_once_by_one_of_the_workers_and_a_missed_one_is_caught_up(self, crowd: Crowd) -> None:
        done_once = [(day, 1, True) for day in crowd.nights]

        until(lambda: crowd.books.are_checked(crowd.nights), so_far=crowd.books.nights)

        assert crowd.books.nights() == {"check_orders": done_once, "reconcile": done_once}
