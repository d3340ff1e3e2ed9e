import re
from pathlib import Path
from typing import Final

import pytest

from payments.models import Payment
from payments.states import (
    CAPTURED,
    REFUND_TRANSITIONS,
    TRANSITIONS,
    PaymentStatus,
    RefundStatus,
    allowed_edges,
    mermaid,
)

README: Final = Path(__file__).parents[2] / "README.md"
DRAWING: Final = r"^```mermaid\n(stateDiagram.*?)\n```$"

# The table of the design, written out once more so that a slip in the code cannot hide in it.
DESIGNED: Final = """
                        -> CREATED              prepare
    CREATED             -> PENDING              begin_confirm
    CREATED             -> CANCELLED            cancel
    CREATED             -> FAILED               fail
    PENDING             -> APPROVED             approve
    PENDING             -> WAITING_FOR_DEPOSIT  await_deposit
    PENDING             -> FAILED               fail
    PENDING             -> CANCELLED            cancel
    WAITING_FOR_DEPOSIT -> APPROVED             approve
    WAITING_FOR_DEPOSIT -> CANCELLED            cancel
    WAITING_FOR_DEPOSIT -> FAILED               fail
    APPROVED            -> COMPLETED            complete
    COMPLETED           -> WAITING_FOR_DEPOSIT  reverse_deposit
    COMPLETED           -> PARTIALLY_REFUNDED   refund
    COMPLETED           -> REFUNDED             refund
    PARTIALLY_REFUNDED  -> PARTIALLY_REFUNDED   refund
    PARTIALLY_REFUNDED  -> REFUNDED             refund
    FAILED              -> CREATED              retry
    FAILED              -> APPROVED             approve
"""


def designed() -> list[tuple[str | None, str, str]]:
    rows = re.findall(r"^ *([A-Z_]+)? *-> ([A-Z_]+) +(\w+)$", DESIGNED, re.MULTILINE)
    return [(start or None, end, method) for start, end, method in rows]


class TestTransitions:
    def test_are_those_of_the_design(self) -> None:
        built = [(start, end, method) for start, ends in TRANSITIONS.items() for end, method in ends.items()]

        assert sorted(built) == sorted(row for row in designed() if row[0] is not None)

    def test_have_a_row_for_every_status(self) -> None:
        assert set(TRANSITIONS) == set(PaymentStatus)

    @pytest.mark.parametrize("method", sorted({name for ends in TRANSITIONS.values() for name in ends.values()}))
    def test_are_made_by_a_method_of_payment(self, method: str) -> None:
        assert callable(getattr(Payment, method))

    def test_reach_every_status(self) -> None:
        reached = {end for ends in TRANSITIONS.values() for end in ends}

        assert reached == set(PaymentStatus)

    def test_lead_nowhere_from_a_final_status(self) -> None:
        assert {status for status, ends in TRANSITIONS.items() if not ends} == {
            PaymentStatus.CANCELLED,
            PaymentStatus.REFUNDED,
        }

    def test_lead_from_captured_money_only_to_where_the_books_show_it(self) -> None:
        onward = {end for status in CAPTURED for end in TRANSITIONS[status]}

        assert onward == {
            PaymentStatus.WAITING_FOR_DEPOSIT,
            PaymentStatus.PARTIALLY_REFUNDED,
            PaymentStatus.REFUNDED,
        }


class TestAllowedEdges:
    def test_are_those_of_the_design_with_prepare_first(self) -> None:
        edges = allowed_edges()

        assert edges[0] == (None, PaymentStatus.CREATED)
        assert sorted(map(str, edges)) == sorted(str(edge) for edge in _designed_edges())

    def test_are_listed_once(self) -> None:
        assert len(allowed_edges()) == len(set(allowed_edges())) == len(designed())


class TestRefundTransitions:
    def test_decide_a_refund_once(self) -> None:
        decided = frozenset({RefundStatus.SUCCEEDED, RefundStatus.FAILED})

        assert {RefundStatus.REQUESTED: decided, **dict.fromkeys(decided, frozenset())} == REFUND_TRANSITIONS


class TestMermaid:
    def test_draws_every_move_with_the_method_that_makes_it(self) -> None:
        first, *moves = mermaid().splitlines()

        assert first == "stateDiagram-v2"
        assert sorted(moves) == sorted(f"    {start or '[*]'} --> {end}: {method}" for start, end, method in designed())

    def test_is_what_the_readme_shows(self) -> None:
        shown = re.search(DRAWING, README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)

        assert shown is not None, "README.md has no ```mermaid fence with a stateDiagram"
        assert shown[1] == mermaid()


def _designed_edges() -> list[tuple[PaymentStatus | None, PaymentStatus]]:
    return [(PaymentStatus(start) if start else None, PaymentStatus(end)) for start, end, _ in designed()]
