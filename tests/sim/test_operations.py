"""Operators and power cuts, while everything else fails too."""

from __future__ import annotations

import os

import pytest

from tests.sim.operations import Operated

SEED = os.environ.get("SEED")
SEEDS = [int(SEED)] if SEED else range(10)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_taken_away_is_told_and_nothing_stays_behind(seed: int) -> None:
    """Frameworks torn down, agents marked gone and machines restarted, under faults: every task has one end, no process is left."""
    cluster = Operated(seed)

    def operate() -> None:
        if cluster.world.now_s < 110:
            cluster.operate()
            cluster.world.after(cluster.world.chance.expovariate(1 / 15), operate)

    cluster.world.after(10.0, operate)
    cluster.run(120)
    cluster.settle()
    cluster.check_end()
    assert cluster.operated
