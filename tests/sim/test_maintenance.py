"""Draining and maintenance, while everything else fails too."""

from __future__ import annotations

import os

import pytest

from tests.sim.maintenance import live
from tests.sim.mutations import MAINTENANCE, is_found

SEED = os.environ.get("SEED")
SEEDS = [int(SEED)] if SEED else range(int(os.environ.get("SEEDS", "8")))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_taken_out_of_service_is_empty_and_comes_back(seed: int) -> None:
    """A drained agent has no task and gets none, each task has one end, what is decided is written, and in the end all agents
    are used again."""
    assert live(seed).deeds["DrainAgent"]


@pytest.mark.parametrize("name", MAINTENANCE)
def test_a_planted_bug_is_found(name: str) -> None:
    assert is_found(name, lambda seed: live(seed, 60.0))
