"""Room made for guarantees, while everything else fails."""

from __future__ import annotations

import os

import pytest

from tests.sim.mutations import PREEMPTION, is_found
from tests.sim.preemption import live

SEED = os.environ.get("SEED")
SEEDS = [int(SEED)] if SEED else range(int(os.environ.get("SEEDS", "8")))


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_ends_without_notice_or_within_a_limit_and_guarantees_are_met(seed: int) -> None:
    """Whatever is lost, late or doubled, whoever fails; each task has one end, and when all is well a guarantee is met soon."""
    assert live(seed).master.preempted


@pytest.mark.parametrize("name", PREEMPTION)
def test_a_planted_bug_is_found(name: str) -> None:
    assert is_found(name, lambda seed: live(seed, 60.0))
