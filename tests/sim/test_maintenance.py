"""Draining and maintenance, while everything else fails too."""

from __future__ import annotations

import os

import pytest

from tests.sim.maintenance import Maintained

SEED = os.environ.get("SEED")
SEEDS = [int(SEED)] if SEED else range(int(os.environ.get("SEEDS", "8")))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_taken_out_of_service_is_empty_and_comes_back(seed: int) -> None:
    """A drained agent has no task and gets none, each task has one end, what is decided is written, and in the end all agents
    are used again."""
    cluster = Maintained(seed)

    def operate() -> None:
        if cluster.world.now_s < 170:
            cluster.operate()
            cluster.world.after(cluster.world.chance.expovariate(1 / 4), operate)

    cluster.world.after(5.0, operate)
    cluster.run(180)
    cluster.settle()
    cluster.check_all_are_used()
    cluster.settle()
    cluster.check_end()
    assert cluster.deeds["DrainAgent"]
