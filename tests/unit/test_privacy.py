"""What is held of persons: written down column by column, in the docs too, and erasable where it says so."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from payments import models, records  # noqa: F401 - their tables belong to the metadata
from payments.db import Base
from payments.models import ERASED, Payment, Refund
from payments.privacy import INVENTORY, STAFF, Gone, Holds, Kind, as_markdown, columns_of
from payments.queries import FORGETTABLE
from payments.settings import Settings
from payments.states import Cause, PaymentMethod, PaymentStatus
from payments.usecases.forget import KEPT_FOR
from tests.builders import ACCOUNT, AT, LATER, LEASE, ORDER_ID, WEBHOOK_SECRET, a_payment, columns

DOCS: Final = Path(__file__).parents[2] / "docs" / "privacy.md"
OWNER: Final = "auth0|kim"
# Written by people, or about them: such a column that is called plain needs a second look here.
SUSPECT: Final = re.compile(r"email|name$|holder|reason|owner|actor|_by$|body|payload|note|resolution|phone|address")
NOT_OF_PERSONS: Final = {
    ("payments", "fail_reason"),  # the gateway's sentence
    ("refunds", "fail_reason"),
    ("stray_captures", "fail_reason"),
    ("payments", "held_by"),  # a process
    ("refunds", "held_by"),
    ("stray_captures", "held_by"),
    ("nightly_runs", "held_by"),
    ("received_webhooks", "verified_by"),  # a way, not a person
    ("processes", "name"),
    ("job_runs", "name"),
}


def fields(gone: Gone, *tables: str) -> set[tuple[str, str]]:
    """The columns that something erases."""
    return {
        (table, name)
        for table in tables or INVENTORY
        for name, holds in INVENTORY[table].items()
        if holds.gone is gone and holds.kind is not Kind.PLAIN
    }


def a_full_payment(status: PaymentStatus = PaymentStatus.COMPLETED) -> Payment:
    """A payment of which everything is known that can be."""
    payment = a_payment(status)
    payment.owner = OWNER
    payment.keep_account(ACCOUNT)
    payment.learn(
        method=PaymentMethod.VIRTUAL_ACCOUNT,
        receipt_url="https://dashboard.tosspayments.com/receipt",
        webhook_secret=WEBHOOK_SECRET,
        is_partial_cancelable=True,
    )
    return payment


def a_refund_of(payment: Payment) -> Refund:
    return Refund.request(
        payment, 1_000, reason="김토스 님 요청", refund_key="key-1", at=AT, lease=LEASE, cause=Cause.API
    )


class TestInventory:
    def test_knows_every_column_and_no_other(self) -> None:
        kept = {(table.name, column.name) for table in Base.metadata.sorted_tables for column in table.columns}

        assert {(table, name) for table, columns in INVENTORY.items() for name in columns} == kept

    def test_calls_nothing_plain_that_sounds_like_a_person(self) -> None:
        plain = {(table, name) for table in INVENTORY for name in columns_of(table, Kind.PLAIN)}

        sounding = {(table, name) for table, name in plain if SUSPECT.search(name)}

        assert sounding == NOT_OF_PERSONS

    def test_says_of_everything_else_whose_it_is_and_what_for(self) -> None:
        told = [holds for table in INVENTORY.values() for holds in table.values()]

        assert [holds for holds in told if holds != Holds(Kind.PLAIN) and not (holds.whose and holds.purpose)] == []

    def test_lets_nothing_of_a_buyer_stay_for_ever(self) -> None:
        stays = {(table, name) for table, name in fields(Gone.NEVER) if INVENTORY[table][name].kind is Kind.PERSONAL}

        assert {INVENTORY[table][name].whose for table, name in stays} == {STAFF}

    def test_is_what_the_docs_show(self) -> None:
        assert as_markdown() in DOCS.read_text(encoding="utf-8")

    def test_leaves_to_forget_only_what_forget_deletes_in_time(self) -> None:
        shortest = next(
            limit.ge for limit in Settings.model_fields["personal_data_kept"].metadata if hasattr(limit, "ge")
        )

        tables = {table for table, _ in fields(Gone.FORGET)}

        assert tables <= set(FORGETTABLE) == set(KEPT_FOR)
        # What `erase` does not delete as well is gone before the shortest time for which anybody can be known.
        assert max(KEPT_FOR[table] for table in tables - {"outbox_messages"}) <= shortest == timedelta(days=30)


class TestErasePerson:
    def test_leaves_nothing_that_the_inventory_says_it_erases(self) -> None:
        payment = a_full_payment()
        before = columns(payment)

        payment.erase_person(at=LATER)

        held = {name: value for name, value in columns(payment).items() if ("payments", name) in fields(Gone.ERASE)}
        assert held == {**dict.fromkeys(held), "order_name": ORDER_ID}
        kept = set(before) - set(held) - {"erased_at"}
        assert {name: columns(payment)[name] for name in kept} == {name: before[name] for name in kept}
        assert payment.erased_at == LATER

    def test_leaves_a_word_where_a_reason_stood(self) -> None:
        refund = a_refund_of(a_full_payment())
        before = columns(refund)

        refund.erase_person()

        assert columns(refund) == {**before, "reason": ERASED}
        assert fields(Gone.ERASE, "refunds") == {("refunds", "reason")}

    def test_still_knows_that_there_was_an_account(self) -> None:
        payment = a_full_payment()
        payment.erase_person(at=LATER)

        payment.refund(payment.amount, at=LATER, cause=Cause.NIGHTLY)

        assert (payment.virtual_account, payment.has_account) == (None, True)
        assert payment.is_being_paid_out  # the bank's part is followed as for any other
        assert payment.next_check_at is not None


class TestErasedPayment:
    def test_takes_nothing_personal_from_a_late_answer(self) -> None:
        payment = a_full_payment()
        payment.erase_person(at=LATER)

        payment.keep_account(ACCOUNT)
        payment.learn(
            method=PaymentMethod.VIRTUAL_ACCOUNT,
            receipt_url="https://dashboard.tosspayments.com/receipt",
            webhook_secret=WEBHOOK_SECRET,
            is_partial_cancelable=False,
        )

        held = [payment.account_number, payment.account_holder, payment.receipt_url, payment.webhook_secret]
        assert held == [None] * 4
        assert not payment.is_partial_cancelable  # what is no person's is learnt all the same

    def test_is_due_again_after_somebody_gave_a_reason(self) -> None:
        payment = a_full_payment()
        payment.erase_person(at=LATER)

        a_refund_of(payment)

        assert payment.erased_at is None

    def test_is_due_again_after_the_buyer_came_back(self) -> None:
        payment = a_payment(PaymentStatus.FAILED)
        payment.erase_person(at=AT)
        payment.retry(at=LATER)

        payment.prepare_again(
            method=PaymentMethod.CARD, order_name="토스 티셔츠", customer_email="buyer@example.com", at=LATER
        )

        assert (payment.erased_at, payment.customer_email) == (None, "buyer@example.com")

    @pytest.mark.parametrize("status", [PaymentStatus.CREATED, PaymentStatus.PENDING])
    def test_is_due_again_after_it_was_given_up(self, status: PaymentStatus) -> None:
        payment = a_payment(status)
        payment.erase_person(at=AT)

        payment.cancel("김토스 님 요청", at=LATER, cause=Cause.OPERATOR)

        assert (payment.erased_at, payment.cancel_reason) == (None, "김토스 님 요청")
