"""What agents lend comes and goes, and is taken back, while everything else fails."""

from __future__ import annotations

import os

import pytest

from tests.sim.lending import live
from tests.sim.mutations import LENDING, is_found

SEED = os.environ.get("SEED")
SEEDS = [int(SEED)] if SEED else range(int(os.environ.get("SEEDS", "8")))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_more_is_given_out_than_is_lent_and_who_is_preempted_is_told_once(seed: int) -> None:
    cluster = live(seed)
    assert sum(agent.lent for agent in cluster.agents)
    assert cluster.preempted


@pytest.mark.parametrize("name", LENDING)
def test_a_planted_bug_is_found(name: str) -> None:
    assert is_found(name, lambda seed: live(seed, 60.0))
