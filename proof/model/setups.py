"""The worlds that are searched, and the design bugs that are planted in small ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from payments.states import PaymentStatus
from proof.model.state import PART, Layers, Office, Setup

_PART: Final = Office("part", PART)
_REPEATED: Final = Office("part", PART, visits=2)
_WHOLE: Final = Office("whole")

# Together more than a million states in less than a minute.
QUICK: Final[Sequence[Setup]] = (
    Setup("double click", tabs=(1, 1), crashes=1, troubles=1),
    Setup("one tab, much trouble", tabs=(1,), crashes=2, troubles=2),
    Setup("refund asked for twice", tabs=(1,), offices=(_REPEATED,), declines=False),
    Setup("refund and the PG's console", tabs=(1,), offices=(_PART,), crashes=0, tricks=1),
    Setup("two windows and a stray capture", tabs=(1, 2), crashes=0, troubles=0, tricks=1),
    Setup("given up and captured", tabs=(1,), offices=(_WHOLE,), crashes=1, troubles=0, tricks=1),
    Setup("deposit, reversed or given up", tabs=(1,), offices=(_WHOLE,), troubles=0, tricks=1, is_account=True),
)
FULL: Final[Sequence[Setup]] = (
    Setup("two windows", tabs=(1, 2)),
    Setup("two stray captures", tabs=(1, 2), crashes=0, troubles=0, tricks=2),
    Setup("refund, much trouble", tabs=(1,), offices=(_REPEATED,), troubles=2, declines=False),
    Setup("two back offices", tabs=(1,), offices=(_PART, _WHOLE), declines=False),
    Setup("two workers", tabs=(1,), offices=(_REPEATED,), workers=2, declines=False),
    Setup("deposit in trouble", tabs=(1,), offices=(_WHOLE,), crashes=0, tricks=1, is_account=True),
)

# Moves of TRANSITIONS that none of these worlds can make, and why not. Empty is best.
NOT_COVERED: Final[Mapping[tuple[PaymentStatus, PaymentStatus], str]] = {}

_CALM: Final = Setup("", tabs=(1,), crashes=0, troubles=0, declines=False, has_webhooks=False)
_SMALL: Final[Mapping[str, Setup]] = {
    "one tab": replace(_CALM, troubles=1),
    "two tabs": replace(_CALM, tabs=(1, 1)),
    "two windows": replace(_CALM, tabs=(1, 2)),
    "a crash": replace(_CALM, crashes=1),
    "a refund": replace(_CALM, offices=(_PART,), troubles=1),
    "a calm refund": replace(_CALM, offices=(_PART,)),
    "a refund and webhooks": replace(_CALM, offices=(_PART,), has_webhooks=True),
    "a repeated refund": replace(_CALM, offices=(_REPEATED,), troubles=1),
    "a console": replace(_CALM, offices=(_PART,), crashes=1, tricks=1),
    "a lost webhook": replace(_CALM, tricks=1),
    "a stray": replace(_CALM, offices=(_WHOLE,), tricks=1),
    "a webhook": replace(_CALM, troubles=1, has_webhooks=True),
    "an account": replace(_CALM, is_account=True, has_webhooks=True),
    "a reversed deposit": replace(_CALM, offices=(_PART,), tricks=1, is_account=True, has_webhooks=True),
}


@dataclass(frozen=True, slots=True)
class Plant:
    """A design bug: protections that are switched off in a small world, and what must then be seen.

    `caught_by` is how the violation begins; where it is None nothing may be seen, and `because` says why that is right.
    """

    off: tuple[str, ...]  # fields of `Layers`
    world: str  # of the small ones
    caught_by: str | None
    because: str = ""

    @property
    def name(self) -> str:
        return f"{' + '.join(self.off)} in {self.world}"

    @property
    def setup(self) -> Setup:
        return replace(_SMALL[self.world], name=self.name, layers=Layers(**dict.fromkeys(self.off, False)))


_KEY: Final = "the key makes the PG repeat its answer"
_CLAIM: Final = "whoever repeats a confirm does so under the same key, or the PG refuses"
_LOCK: Final = "the balance that goes along is the PG's lock"

PLANTS: Final[Sequence[Plant]] = (
    Plant(("timeout_is_unknown",), "one tab", "I9"),
    Plant(("young_is_left_open",), "one tab", "I9"),
    Plant(("asks_about_webhooks",), "a webhook", "I5"),
    Plant(("respects_leases",), "one tab", None, "a lease is for economy: keys and the row's lock make it safe"),
    Plant(("reads_again",), "a refund", "I12"),
    Plant(("recovers",), "a crash", "ends badly: I4"),
    # What keeps a second capture away: each layer alone, each pair, and all three.
    Plant(("claims_pending",), "two windows", "I1"),
    Plant(("claims_pending",), "two tabs", None, _CLAIM),
    Plant(("confirm_key",), "two tabs", None, "only one asks"),
    Plant(("pg_refuses_twice",), "two tabs", None, _KEY),
    Plant(("claims_pending", "confirm_key"), "two tabs", None, "the PG refuses"),
    Plant(("claims_pending", "pg_refuses_twice"), "two tabs", None, _KEY),
    Plant(("confirm_key", "pg_refuses_twice"), "two tabs", None, "only one asks"),
    Plant(("claims_pending", "confirm_key", "pg_refuses_twice"), "two tabs", "I1"),
    Plant(("confirm_key",), "one tab", None, "the PG refuses"),
    Plant(("pg_refuses_twice",), "one tab", None, _KEY),
    Plant(("confirm_key", "pg_refuses_twice"), "one tab", "I1"),
    # What keeps a second refund away, and a first one from being forgotten.
    Plant(("promises_refunds",), "a repeated refund", "I3"),
    Plant(("one_refund_a_request",), "a repeated refund", "I3"),
    Plant(("refund_key",), "a refund", None, _LOCK),
    Plant(("sends_balance",), "a refund", None, _KEY),
    Plant(("refund_key", "sends_balance"), "a refund", "I3"),
    Plant(("doubts_refusals",), "a refund", None, _KEY),
    Plant(("refund_key", "doubts_refusals"), "a refund", "I3"),
    Plant(("sends_balance",), "a console", "I3"),
    Plant(("compares_reasons",), "a console", "I3"),
    Plant(("leaves_open_refund",), "a refund and webhooks", "I3"),
    Plant(("renews_key",), "a refund", "need not end"),
    # What is told, and found out.
    Plant(("tells_with_change",), "a crash", "ends badly: I6"),
    Plant(("tells_in_order",), "a calm refund", "I6"),
    Plant(("marks_after_answer",), "a crash", "I6"),
    Plant(("shop_knows_ids",), "one tab", "I6"),
    Plant(("gives_strays_back",), "a stray", "need not end"),
    Plant(("compares_nightly",), "a lost webhook", "ends badly: I5"),
    Plant(("checks_freshness",), "an account", "I5"),
    Plant(("doubts_late_money",), "a reversed deposit", "I5"),
)


def by_name() -> dict[str, Setup | Plant]:
    """Everything that can be replayed."""
    plants: dict[str, Setup | Plant] = {plant.name: plant for plant in PLANTS}
    return plants | {setup.name: setup for setup in (*QUICK, *FULL)}
