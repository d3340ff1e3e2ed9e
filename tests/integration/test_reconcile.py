import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from payments.business_day import bounds, day_of
from payments.db import Sessions, transaction
from payments.errors import PgUnavailable
from payments.gateways.pg import (
    Answer,
    Approved,
    Cancelled,
    Declined,
    DepositAwaited,
    PgStatus,
    PgTransaction,
    TransactionPage,
    Unknown,
    UnknownBecause,
)
from payments.local.postgres import LocalPostgres
from payments.models import Payment, PaymentEvent, Refund, StrayCapture
from payments.resources import Resources
from payments.states import Cause, PaymentStatus
from payments.usecases.answers import Question, record
from payments.usecases.reconcile import Cap, PgReport, Suspect, _read_list, reconcile, would_change
from tests.builders import AT, PAYMENT_KEY, a_held_payment, a_payment, given_back
from tests.conftest import TEMPLATE
from tests.integration.night_world import (
    DAY,
    OurBooks,
    PgBooks,
    amount_of,
    completed_earlier,
    everything,
    found,
    key_of,
    opened,
    order_of,
    refund_key_of,
)
from tests.integration.world import AMOUNT, ORDER, Sandbox, paid, read

BEGIN, END = bounds(DAY)
HOUR = timedelta(hours=1)
BUSY = 2_000
STATUSES = (*[PaymentStatus.COMPLETED] * 8, PaymentStatus.PARTIALLY_REFUNDED, PaymentStatus.REFUNDED)
# Which payments of the busy day are broken, and how: 60 of them, of which 20 are mended.
FAILED_HERE = range(BUSY, BUSY + 5)
PENDING_HERE = range(BUSY + 5, BUSY + 8)
CREATED_HERE = range(BUSY + 8, BUSY + 12)
CANCELLED_HERE = range(BUSY + 12, BUSY + 16)
CANCELLED_IN_CONSOLE = range(0, 40, 10)
UNKNOWN_HERE = range(BUSY + 16, BUSY + 26)
OTHER_AMOUNT = range(1, 81, 10)
OTHER_AMOUNT_LISTED = range(2, 62, 10)
REFUND_HERE_ONLY = range(8, 88, 10)
HERE_ONLY = range(3, 83, 10)
TO_FIND = {
    *(("captured_but_failed_here", order_of(number)) for number in FAILED_HERE),
    *(("captured_after_cancel", f"{order_of(one)}/{key_of(one)}") for one in CANCELLED_HERE),
    *(("captured_but_unknown_here", f"{order_of(one)}/{key_of(one)}") for one in (*CREATED_HERE, *UNKNOWN_HERE)),
    *(("amount_differs_at_pg", order_of(number)) for number in (*OTHER_AMOUNT, *OTHER_AMOUNT_LISTED)),
    *(("refund_differs_at_pg", order_of(number)) for number in REFUND_HERE_ONLY),
    *(("completed_here_not_at_pg", order_of(number)) for number in HERE_ONLY),
}
MENDED = {
    **dict.fromkeys((*FAILED_HERE, *PENDING_HERE, *CREATED_HERE), PaymentStatus.COMPLETED),
    **dict.fromkeys(CANCELLED_IN_CONSOLE, PaymentStatus.PARTIALLY_REFUNDED),
}
# What is no break at all: an account that nobody paid, sessions that came to nothing.
QUIET = {
    BUSY + 30: PaymentStatus.WAITING_FOR_DEPOSIT,
    BUSY + 31: PaymentStatus.CREATED,
    BUSY + 32: PaymentStatus.PENDING,
    BUSY + 33: PaymentStatus.FAILED,
    BUSY + 34: PaymentStatus.CANCELLED,
}


def busy_books() -> OurBooks:
    ours = OurBooks()
    statuses = {number: STATUSES[number % len(STATUSES)] for number in range(BUSY)} | QUIET
    statuses |= dict.fromkeys(FAILED_HERE, PaymentStatus.FAILED) | dict.fromkeys(PENDING_HERE, PaymentStatus.PENDING)
    statuses |= dict.fromkeys(CREATED_HERE, PaymentStatus.CREATED)
    statuses |= dict.fromkeys(CANCELLED_HERE, PaymentStatus.CANCELLED)
    for number, status in statuses.items():
        ours.hold(number, status)
    return ours


def busy_pg() -> PgBooks:
    """A PG whose books are ours, but for what is broken; some of it a moment before or after midnight."""
    pg = PgBooks()
    for number in range(BUSY):
        pg.hold(number, at=BEGIN - HOUR / 60 if number % 7 == 6 else AT)
        refund = {8: 300, 9: amount_of(number)}.get(number % 10)
        if refund:
            pg.give_back(number, refund, at=END + HOUR / 60 if number % 7 == 5 else AT)
    for number in (*FAILED_HERE, *PENDING_HERE, *CREATED_HERE, *CANCELLED_HERE, *UNKNOWN_HERE):
        pg.hold(number)
    for number in CANCELLED_IN_CONSOLE:
        pg.give_back(number, 100)
    for number in OTHER_AMOUNT:
        pg.hold(number, amount=amount_of(number) + 1)
    for number in OTHER_AMOUNT_LISTED:
        row = pg.rows[f"capture-{number:06}"]
        pg.rows[row.transaction_key] = replace(row, amount=row.amount + 1)
    for number in REFUND_HERE_ONLY:
        pg.hold(number)
        del pg.rows[refund_key_of(number)]
    for number in HERE_ONLY:
        del pg.payments[key_of(number)], pg.rows[f"capture-{number:06}"]
    for number, at in ((9_001, BEGIN - HOUR / 2), (9_002, END + HOUR / 2)):
        pg.hold(number, at=at)  # nothing of ours, and of other nights
    return pg


@pytest.fixture(scope="module")
def busy_day(postgres: LocalPostgres) -> Iterator[str]:
    """The name of a database that holds the payments of a busy day; to be copied."""
    name = f"busy_{uuid4().hex}"
    postgres.create_database(name, template=TEMPLATE)

    async def store() -> None:
        async with opened(postgres.url(name)) as sessions:
            await busy_books().store(sessions)

    asyncio.run(store())
    yield name
    postgres.drop_database(name)


@pytest.fixture
async def busy(postgres: LocalPostgres, busy_day: str) -> AsyncIterator[Sessions]:
    name = f"night_{uuid4().hex}"
    postgres.create_database(name, template=busy_day)
    async with opened(postgres.url(name)) as sessions:
        yield sessions
    postgres.drop_database(name)


@pytest.fixture
async def sessions(database: str) -> AsyncIterator[Sessions]:
    async with opened(database) as sessions:
        yield sessions


async def run(sessions: Sessions, pg: PgBooks) -> PgReport:
    return await reconcile(DAY, sessions=sessions, pg=pg, cause=Cause.NIGHTLY)


async def statuses(sessions: Sessions, numbers: Sequence[int]) -> dict[int, PaymentStatus]:
    orders = {order_of(number): number for number in numbers}
    async with transaction(sessions) as session:
        rows = await session.execute(select(Payment.order_id, Payment.status).where(Payment.order_id.in_(orders)))
        return {orders[order_id]: status for order_id, status in rows}


class TestBusyDay:
    async def test_finds_every_break_and_mends_what_is_proven_however_often(self, busy: Sessions) -> None:
        pg = busy_pg()

        report = await run(busy, pg)

        assert await found(busy) == TO_FIND
        assert report.found == Counter(kind for kind, _ in TO_FIND)
        assert (report.changes, report.repaired, report.stopped) == (20, 20, False)
        assert await statuses(busy, list(MENDED)) == MENDED
        assert await _causes_of_moves(busy) == {Cause.API, Cause.NIGHTLY}

        before = await everything(busy)
        second = await run(busy, pg)

        assert await everything(busy) == before
        assert (second.changes, second.repaired) == (0, 0)

    async def test_asks_only_about_what_differs(self, busy: Sessions) -> None:
        pg = busy_pg()

        await run(busy, pg)

        assert len(pg.asked) <= len(TO_FIND) + len(MENDED)

    @pytest.mark.parametrize("stopped_at", [("transactions", 900), ("payments", 1_500), ("differences", 30)])
    async def test_ends_alike_when_it_was_killed_on_the_way(self, busy: Sessions, stopped_at: tuple[str, int]) -> None:
        pg = busy_pg()

        def kill(what: str, count: int) -> None:
            if what == stopped_at[0] and count >= stopped_at[1]:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await reconcile(DAY, sessions=busy, pg=pg, cause=Cause.NIGHTLY, progress=kill)
        await run(busy, pg)

        assert await found(busy) == TO_FIND
        assert await statuses(busy, list(MENDED)) == MENDED


class TestThePgsAnswers:
    async def test_a_list_that_is_cut_midway_changes_nothing(self, busy: Sessions) -> None:
        pg = busy_pg()
        pg.lists_until_page = 4
        before = await everything(busy)

        with pytest.raises(PgUnavailable):
            await run(busy, pg)

        assert await everything(busy) == before

    async def test_that_do_not_come_leave_the_night_open_and_lose_nothing(self, sessions: Sessions) -> None:
        ours, pg = _failed_here(range(6))
        await ours.store(sessions)
        pg.silent_about = {key_of(3)}

        with pytest.raises(PgUnavailable):
            await run(sessions, pg)

        assert len(await found(sessions)) == 5
        pg.silent_about = set()
        assert (await run(sessions, pg)).repaired == 1
        assert set((await statuses(sessions, range(6))).values()) == {PaymentStatus.COMPLETED}

    async def test_are_not_acted_upon_while_those_that_are_missing_may_be_too_many(self, sessions: Sessions) -> None:
        ours, pg = _failed_here(range(25))
        await ours.store(sessions)
        pg.silent_about = {key_of(number) for number in range(10)}
        before = await everything(sessions)

        with pytest.raises(PgUnavailable):
            await run(sessions, pg)

        assert await everything(sessions) == before

    async def test_that_would_change_too_many_payments_change_none_and_a_person_is_told(
        self, sessions: Sessions
    ) -> None:
        ours, pg = _failed_here(range(21))
        await ours.store(sessions)
        before = await statuses(sessions, range(21))

        report = await run(sessions, pg)

        assert (report.stopped, report.changes, report.repaired, dict(report.found)) == (True, 21, 0, {})
        assert await statuses(sessions, range(21)) == before
        assert [kind for kind, _ in await found(sessions)] == ["too_many_repairs"]

    @pytest.mark.parametrize("cap", [None, Cap(21, 0), Cap(0, 100)], ids=["none", "by number", "by share"])
    async def test_are_recorded_when_an_operator_lets_them(self, sessions: Sessions, cap: Cap | None) -> None:
        ours, pg = _failed_here(range(21))
        await ours.store(sessions)

        report = await reconcile(DAY, sessions=sessions, pg=pg, cause=Cause.OPERATOR, cap=cap)

        assert (report.stopped, report.repaired) == (False, 21)

    async def test_about_a_second_capture_give_it_back_once(self, sessions: Sessions) -> None:
        ours, pg = OurBooks(), PgBooks()
        ours.payments[1] = a_payment(amount=amount_of(1), order_id=order_of(1), payment_key="present-key")
        await ours.store(sessions)
        pg.hold(1)
        pg.payments["present-key"] = replace(pg.payments[key_of(1)], payment_key="present-key")

        first, second = await run(sessions, pg), await run(sessions, pg)

        assert (first.changes, first.repaired, second.changes, second.repaired) == (1, 1, 0, 0)
        async with transaction(sessions) as session:
            assert [stray.payment_key for stray in await session.scalars(select(StrayCapture))] == [key_of(1)]

    async def test_of_a_list_that_contradicts_its_look_up_are_for_a_person(self, sessions: Sessions) -> None:
        ours, pg = _failed_here(range(1))
        await ours.store(sessions)
        pg.payments.clear()

        await run(sessions, pg)

        assert await found(sessions) == {("captured_but_unknown_here", f"{order_of(0)}/{key_of(0)}")}
        assert await statuses(sessions, [0]) == {0: PaymentStatus.FAILED}

    async def test_about_an_earlier_attempt_never_touch_the_present_one(self, sessions: Sessions) -> None:
        ours, pg = OurBooks(), PgBooks()
        ours.payments[1] = a_payment(
            PaymentStatus.COMPLETED, amount_of(1), order_id=order_of(1), payment_key="present-key", attempt=2
        )
        await ours.store(sessions)
        pg.hold(1)
        pg.payments["present-key"] = replace(pg.payments[key_of(1)], payment_key="present-key")
        pg.hold(1, amount=5)

        await run(sessions, pg)

        assert await found(sessions) == {("amount_differs_at_pg", f"{order_of(1)}/{key_of(1)}")}
        assert await statuses(sessions, [1]) == {1: PaymentStatus.COMPLETED}


class TestRefunds:
    async def test_of_an_earlier_payment_are_compared_on_their_own_day(self, sessions: Sessions) -> None:
        ours, pg = OurBooks(), PgBooks()
        ours.hold(1, PaymentStatus.PARTIALLY_REFUNDED)
        await ours.store(sessions)
        await completed_earlier(sessions, timedelta(days=2))
        pg.hold(1, at=AT - timedelta(days=2))

        await run(sessions, pg)

        assert await found(sessions) == {("refund_differs_at_pg", order_of(1))}


class TestOtherCurrencies:
    async def test_in_the_list_are_a_difference(self, sessions: Sessions) -> None:
        ours, pg = OurBooks(), PgBooks()
        ours.hold(1)
        await ours.store(sessions)
        pg.hold(1)
        pg.rows["capture-000001"] = replace(pg.rows["capture-000001"], currency="USD")

        await run(sessions, pg)

        assert await found(sessions) == {("amount_differs_at_pg", order_of(1))}


class TestDeposits:
    async def test_that_the_bank_took_back_after_we_saw_them_are_taken_back_here(self, sessions: Sessions) -> None:
        ours, pg = OurBooks(), PgBooks()
        ours.payments[1] = _with_deposit(1)
        await ours.store(sessions)
        pg.hold(1)
        pg._list("reversal", key_of(1), PgStatus.WAITING_FOR_DEPOSIT, amount_of(1), AT + HOUR)
        account = a_held_payment(
            PgStatus.WAITING_FOR_DEPOSIT, amount_of(1), order_id=order_of(1), payment_key=key_of(1)
        )
        pg.payments[key_of(1)] = account

        report = await run(sessions, pg)

        assert (report.repaired, await found(sessions)) == (1, set())
        assert await statuses(sessions, [1]) == {1: PaymentStatus.WAITING_FOR_DEPOSIT}

    async def test_that_were_given_up_in_the_console_are_given_up_here(self, sessions: Sessions) -> None:
        ours, pg = OurBooks(), PgBooks()
        ours.hold(1, PaymentStatus.WAITING_FOR_DEPOSIT)
        ours.hold(2, PaymentStatus.WAITING_FOR_DEPOSIT)
        await ours.store(sessions)
        for number, status in ((1, PgStatus.CANCELED), (2, PgStatus.WAITING_FOR_DEPOSIT)):
            held = a_held_payment(
                status, amount_of(number), order_id=order_of(number), payment_key=key_of(number), balance=0
            )
            pg.payments[key_of(number)] = replace(held, cancels=())
            pg._list(f"account-{number}", key_of(number), status, amount_of(number), AT)

        await run(sessions, pg)

        assert await statuses(sessions, [1, 2]) == {
            1: PaymentStatus.CANCELLED,
            2: PaymentStatus.WAITING_FOR_DEPOSIT,
        }
        assert pg.asked == [key_of(1)]


class TestMidnight:
    @pytest.mark.parametrize(
        ("at", "is_of_day"),
        [
            (BEGIN - timedelta(microseconds=1), False),
            (BEGIN, True),
            (END - timedelta(microseconds=1), True),
            (END, False),
        ],
    )
    async def test_decides_in_seoul_which_night_judges(
        self,
        sessions: Sessions,
        at: datetime,
        is_of_day: bool,  # noqa: FBT001 - a case of the table
    ) -> None:
        pg = PgBooks()
        pg.hold(1, at=at)

        report = await run(sessions, pg)

        assert (report.transactions, len(await found(sessions))) == ((1, 1) if is_of_day else (0, 0))


MOVES = st.integers(0, 40)


class ShufflingPg(PgBooks):
    """Its pages overlap and repeat rows as they please, and still get to the end."""

    def __init__(self, pages: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self._pages = pages

    async def list_transactions(
        self, since: datetime, until: datetime, *, after: str | None
    ) -> TransactionPage | Unknown:
        number = int(after or 0)
        rows = tuple(_row(one) for one in self._pages[number])
        return TransactionPage(rows, str(number + 1) if number + 1 < len(self._pages) else None)


class TestPages:
    @given(st.lists(st.lists(MOVES, max_size=10), min_size=1, max_size=8))
    def test_show_each_movement_once_however_they_are_cut(self, pages: list[list[int]]) -> None:
        listed = asyncio.run(_read_list(BEGIN, END, pg=ShufflingPg(pages), tell=lambda *_: None))

        shown = [row for rows in listed.values() for row in rows]
        assert sorted(row.transaction_key for row in shown) == sorted(
            {_row(one).transaction_key for page in pages for one in page}
        )
        assert all(rows == sorted(rows, key=lambda row: row.at) for rows in listed.values())

    async def test_that_lead_back_are_no_answer(self) -> None:
        with pytest.raises(PgUnavailable):
            await _read_list(BEGIN, END, pg=CirclingPg(), tell=lambda *_: None)


class CirclingPg(PgBooks):
    async def list_transactions(
        self, since: datetime, until: datetime, *, after: str | None
    ) -> TransactionPage | Unknown:
        return TransactionPage((_row(1),), "1" if after == "2" else "2")


ANSWERS: list[Answer] = [
    Approved(replace(a_held_payment(PgStatus.DONE), was_approved=True)),
    Approved(replace(a_held_payment(PgStatus.PARTIAL_CANCELED, balance=8_000), was_approved=True)),
    Cancelled(replace(a_held_payment(PgStatus.CANCELED, balance=0), was_approved=True)),
    Cancelled(a_held_payment(PgStatus.CANCELED, balance=0)),
    DepositAwaited(a_held_payment(PgStatus.WAITING_FOR_DEPOSIT)),
    Declined("REJECT_CARD_COMPANY", "결제 승인이 거절되었습니다."),
    Unknown(UnknownBecause.MISMATCH, payment=a_held_payment(amount=1)),
    Unknown(UnknownBecause.NOT_FOUND),
]


class TestTheCap:
    @pytest.mark.parametrize("asked_about", ["its own key", "another key"])
    @pytest.mark.parametrize("answer", ANSWERS, ids=lambda one: f"{type(one).__name__}-{ANSWERS.index(one)}")
    async def test_counts_what_recording_changes(self, sessions: Sessions, answer: Answer, asked_about: str) -> None:
        """Whatever recording moves, the count knew; and nothing is counted that could not move."""
        counted, changed = set(), set()
        for status in set(PaymentStatus) - {PaymentStatus.APPROVED}:
            key = PAYMENT_KEY if asked_about == "its own key" else "present-key"
            payment = a_payment(status, payment_key=key)
            refunds = given_back(payment)
            suspect = _suspect(payment, refunds)
            if would_change(suspect, answer):
                counted.add(status)
            if await _changes(sessions, payment, refunds, answer):
                changed.add(status)

        assert changed <= counted
        assert counted - changed <= {PaymentStatus.WAITING_FOR_DEPOSIT}  # an account may turn out to be overdue


class TestAgainstTheSandbox:
    async def test_adopts_what_was_cancelled_in_the_console_and_finds_what_is_unknown_here(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        payment_key = await paid(api, sandbox)
        await paid(api, sandbox, "order-000002")
        await sandbox.act(payment_key, "cancel", amount=4_000)
        imported = {"payments": [{"orderId": "order-000003", "amount": 7_000}]}
        stranger = (await sandbox.http.post("/sandbox/import", json=imported)).raise_for_status().json()
        day = await _today(resources.sessions)

        report = await reconcile(day, sessions=resources.sessions, pg=resources.pg, cause=Cause.NIGHTLY)

        unknown = f"order-000003/{stranger['payments'][0]['paymentKey']}"
        assert await found(resources.sessions) == {("captured_but_unknown_here", unknown)}
        assert (report.compared, report.repaired) == (3, 1)
        assert (await read(api))["refundableAmount"] == AMOUNT - 4_000

    async def test_finds_what_the_pg_has_lost(
        self, api: httpx.AsyncClient, sandbox: Sandbox, resources: Resources
    ) -> None:
        await paid(api, sandbox)
        day = await _today(resources.sessions)
        await sandbox.reset()

        await reconcile(day, sessions=resources.sessions, pg=resources.pg, cause=Cause.NIGHTLY)

        assert await found(resources.sessions) == {("completed_here_not_at_pg", ORDER)}
        assert (await read(api))["status"] == "COMPLETED"


def _failed_here(numbers: range) -> tuple[OurBooks, PgBooks]:
    """Payments that we gave up and the PG holds."""
    ours, pg = OurBooks(), PgBooks()
    for number in numbers:
        ours.hold(number, PaymentStatus.FAILED)
        pg.hold(number)
    return ours, pg


def _with_deposit(number: int) -> Payment:
    payment = a_payment(
        PaymentStatus.WAITING_FOR_DEPOSIT, amount_of(number), order_id=order_of(number), payment_key=key_of(number)
    )
    payment.approve(key_of(number), approved_at=AT, at=AT, cause=Cause.WEBHOOK)
    payment.complete(at=AT, cause=Cause.WEBHOOK)
    return payment


async def _changes(sessions: Sessions, payment: Payment, refunds: Sequence[Refund], answer: Answer) -> bool:
    """Whether recording the answer would move the payment or give money back; nothing of it is kept."""
    async with sessions() as session:
        session.add(payment)
        await session.flush()
        session.add_all(refunds)
        await session.flush()
        before = (payment.status, payment.refunded_amount)
        question = Question(PAYMENT_KEY, payment.version)
        await record(session, payment, answer, question=question, cause=Cause.NIGHTLY, at=AT)
        strays = (await session.scalars(select(StrayCapture))).all()
        return bool(strays) or (payment.status, payment.refunded_amount) != before


def _suspect(payment: Payment, refunds: Sequence[Refund]) -> Suspect:
    return Suspect(
        order_id=payment.order_id,
        payment_key=PAYMENT_KEY,
        amount=payment.amount,
        version=1,
        status=payment.status,
        is_ours=payment.payment_key == PAYMENT_KEY,
        has_account=payment.virtual_account is not None,
        refund_keys=frozenset(refund.transaction_key for refund in refunds if refund.transaction_key),
        is_given_back=False,
        rows=(),
    )


def _row(number: int) -> PgTransaction:
    at = BEGIN + timedelta(minutes=(number * 7) % 40)
    return PgTransaction(
        f"move-{number}", key_of(number % 5), order_of(number % 5), PgStatus.DONE, "카드", 100, "KRW", at
    )


async def _causes_of_moves(sessions: Sessions) -> set[Cause]:
    async with transaction(sessions) as session:
        return set(await session.scalars(select(PaymentEvent.cause).distinct()))


async def _today(sessions: Sessions) -> date:
    async with transaction(sessions) as session:
        return day_of((await session.scalars(select(func.max(PaymentEvent.at)))).one())
