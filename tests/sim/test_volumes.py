"""Reservations and volumes under faults: nothing of them is lost, doubled, or anybody else's."""

from __future__ import annotations

import os

import pytest

from tests.sim.volumes import Tenanted

SEED = os.environ.get("SEED")
SEEDS = [int(SEED)] if SEED else range(int(os.environ.get("SEEDS", "8")))


def test_without_faults_operations_of_all_kinds_succeed() -> None:
    cluster = Tenanted(1)
    cluster.run(30, troubles_per_minute=0.001)
    cluster.settle()
    cluster.check_end()
    done = sum((tenant.done for tenant in cluster.tenants), start=cluster.tenants[0].done.__class__())
    assert done["OPERATION_FINISHED"] > 50
    assert not done["OPERATION_DROPPED"]
    assert sum(len(texts) for agent in cluster.agents for texts in agent.disk.written.values()) > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_lose_no_volume(seed: int) -> None:
    cluster = Tenanted(seed)
    cluster.run(40, tasks_in_flight=10)
    cluster.settle()
    cluster.check_end()
