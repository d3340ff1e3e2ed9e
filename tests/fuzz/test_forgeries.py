"""A million forged webhooks with --proof, 20,000 without: none is taken for genuine, and none breaks anything."""

import random
import time
from collections import Counter
from contextlib import suppress
from typing import Final

import pytest

from payments.api.strict_json import NotStrictJson, parse
from payments.card_numbers import mask_json
from payments.errors import WebhookNotGenuine
from payments.gateways.toss_events import MalformedEvent, read_event
from payments.usecases.receive_webhook import is_signed
from tests.fuzz.forgeries import FORGERIES, TRUST, VARIANTS, Arriving, Forger, changed, genuine_deliveries

SEEDS: Final = range(20261122, 20261132)
IN_ALL: Final = 20_000
IN_ALL_WITH_PROOF: Final = 1_000_000
SEEN: Final = 150  # genuine deliveries that the forger has


def is_taken_for_genuine(arriving: Arriving) -> bool:
    """What the route decides by, in its order."""
    try:
        return is_signed(arriving.delivery, TRUST, at=arriving.at)
    except WebhookNotGenuine:
        return False


def reads(body: bytes) -> None:
    """Whatever reads a body before anything is believed of it; only its own refusal may come out."""
    with suppress(NotStrictJson, MalformedEvent):
        parse(body)
        read_event(body)
        mask_json(body)


class TestForged:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_is_never_taken_for_genuine(
        self, seed: int, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
    ) -> None:
        in_proof = bool(pytestconfig.getoption("--proof"))
        count = (IN_ALL_WITH_PROOF if in_proof else IN_ALL) // len(SEEDS)
        chance = random.Random(seed)
        forger = Forger(chance, genuine_deliveries(chance, SEEN))
        forgeries = changed(forger, FORGERIES)
        made: Counter[str] = Counter()
        accepted = []

        began = time.perf_counter()
        for _ in range(count):
            name, arriving = next(forgeries)
            made[name] += 1
            if is_taken_for_genuine(arriving):
                accepted.append((name, arriving))
            reads(arriving.body)
        took = time.perf_counter() - began

        assert accepted == []
        assert set(made) == set(FORGERIES)  # every way of forging has been tried
        if in_proof:
            figures = f"{count:,} forgeries, none accepted, {count / took:,.0f}/s"
            with capsys.disabled():
                print(f"\nseed {seed}: {figures}")  # noqa: T201 - the proof shows its figures

    def test_differs_from_what_was_seen(self) -> None:
        chance = random.Random(SEEDS[0])
        forger = Forger(chance, genuine_deliveries(chance, SEEN))
        seen = {(one.delivery.body, *map(tuple, lines(one)), one.at) for one in forger.seen}
        forgeries = changed(forger, FORGERIES)

        made = [next(forgeries)[1] for _ in range(2_000)]

        assert not [one for one in made if (one.delivery.body, *map(tuple, lines(one)), one.at) in seen]


def lines(arriving: Arriving) -> tuple[list[str], list[str], list[str]]:
    told = arriving.delivery
    return [*told.signatures], [*told.toss_signatures], [*told.transmission_times]


class TestGenuine:
    """Otherwise a verifier that refuses everything would pass."""

    def test_is_let_in_in_every_spelling_that_the_formats_allow(self) -> None:
        chance = random.Random(SEEDS[0])
        forger = Forger(chance, genuine_deliveries(chance, SEEN))
        variants = changed(forger, VARIANTS)

        refused = [
            name for name, arriving in (next(variants) for _ in range(1_000)) if not is_taken_for_genuine(arriving)
        ]

        assert refused == []
