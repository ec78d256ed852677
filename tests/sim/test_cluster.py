"""The cores together, under faults: nothing is promised twice, lost or run twice, and all ends well."""

from __future__ import annotations

import os

import pytest

from tests.sim import history
from tests.sim.cluster import Cluster

SEED = os.environ.get("SEED")  # `make sim SEED=17` replays one.
SEEDS = [int(SEED)] if SEED else range(50)


def test_without_faults_everything_runs_once() -> None:
    cluster = Cluster(1)
    cluster.run(60, troubles_per_minute=0.001)
    cluster.settle()
    cluster.check_end()
    assert len(cluster.submitted) > 50


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_lose_nothing(seed: int) -> None:
    """Loss, delay, doubling, reordering, partitions and crashes of any process, between any two of its acts."""
    outcome = history.run(seed)
    assert outcome.fault is None
    assert outcome.crashes
