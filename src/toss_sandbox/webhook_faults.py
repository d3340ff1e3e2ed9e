"""The faults of webhooks: what can happen to an event between its change and the shop."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

CONTRADICTION_GAP: Final = timedelta(milliseconds=45)
"""How far apart Toss was seen to create two events of one payment that contradict each other."""


class WebhookFaultKind(StrEnum):
    """What goes wrong."""

    LOSE = "lose"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    CONTRADICT = "contradict"
    EARLY = "early"


@dataclass(frozen=True, slots=True)
class WebhookFaultOrder:
    """A fault as it is armed; it strikes events as they come into being, one fault an event.

    Attributes:
        kind: What it does.
        times: How many events it strikes; None until it is cleared.
        probability: The chance that it strikes an event it waits for, 0 to 1.
        order_id: Only events about this order.
    """

    kind: WebhookFaultKind
    times: int | None = 1
    probability: float = 1.0
    order_id: str | None = None

    def __post_init__(self) -> None:
        """Refuse what could never strike.

        Raises:
            ValueError: A number is out of its range.
        """
        if self.times is not None and self.times < 1:
            raise ValueError("times has to be at least 1, or null")
        if not 0 < self.probability <= 1:
            raise ValueError("probability has to be above 0 and at most 1")


@dataclass(frozen=True, slots=True)
class WebhookFault:
    """An armed fault; `order.times` is what is left of it."""

    id: int
    order: WebhookFaultOrder
