"""PyPI's pymesos, unmodified, finds the leading master in ZooKeeper and follows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import eventually
from tests.compat.test_pymesos import PYTHON, Scheduler
from tests.quorum import Quorum
from tests.zookeeper import Zookeeper

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not PYTHON.exists(), reason="no pymesos: run tests/compat/setup_clients.sh"),
]


@pytest.fixture
def quorum(zookeeper: Zookeeper, tmp_path: Path) -> Iterator[Quorum]:
    made = Quorum(tmp_path, zookeeper, 4.0)
    try:
        eventually(made.active_agents, 60, f"the agent is active{made.logs()}")
        yield made
    finally:
        made.stop()


def test_it_follows_the_leader(quorum: Quorum) -> None:
    scheduler = Scheduler(quorum)
    try:
        first = scheduler.expect("registered")["master"]
        scheduler.tell("launch", id="one", shell="exec sleep 1000")
        scheduler.expect_state("one", "TASK_RUNNING")
        leader = quorum.leader()
        assert first["port"] == leader.port
        leader.process.kill()
        leader.process.wait()
        assert scheduler.expect("reregistered")["master"]["port"] == quorum.leader().port != leader.port
        scheduler.tell("launch", id="two", shell="exit 0")
        scheduler.expect_state("two", "TASK_FINISHED")
        scheduler.tell("kill", id="one")
        scheduler.expect_state("one", "TASK_KILLED")
    finally:
        scheduler.end()
