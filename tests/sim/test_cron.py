"""The scheduler of jobs in a cluster that falls apart and comes back: no slot is missing from history, none runs twice."""

from __future__ import annotations

import os

import pytest

from tests.sim import cron
from tests.sim.mutations import CRON, planted

SEED = os.environ.get("SEED")
SEEDS = [int(SEED)] if SEED else range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_partitions_and_crashes_lose_and_double_no_slot(seed: int) -> None:
    """And ten seconds after the last of them every slot is served within a second."""
    assert cron.run(seed, cron.FULL if SEED else cron.SMALL).fault is None


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.soak)], ids=["some", "all"])
@pytest.mark.parametrize("victim", ["scheduler", "master", "agent", "launcher"])
def test_killed_at_each_of_its_acts(victim: str, every: int) -> None:
    """One job and two that follow it; the victim dies at its first act after the POST, at the second, ..."""
    for acts in range(1, 1000, every):
        if not cron.run_killed(victim, acts):
            break
    assert acts > 20


@pytest.mark.parametrize("name", CRON)
def test_a_planted_bug_is_found(name: str) -> None:
    with planted(name):
        assert any(cron.run(seed, cron.SMALL).fault for seed in range(4, 60))
