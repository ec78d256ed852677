"""Quotas and weights set at random, while everything else fails."""

from __future__ import annotations

import os

import pytest

from tests.sim.mutations import QUOTAS, is_found
from tests.sim.quotas import live

SEED = os.environ.get("SEED")
SEEDS = [int(SEED)] if SEED else range(int(os.environ.get("SEEDS", "8")))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_role_is_offered_anything_beyond_its_limit(seed: int) -> None:
    """Whatever is lost, late or doubled, whoever fails; and when the quotas are gone, all work ends as ever."""
    assert live(seed).set


@pytest.mark.parametrize("name", QUOTAS)
def test_a_planted_bug_is_found(name: str) -> None:
    assert is_found(name, lambda seed: live(seed, 60.0))
