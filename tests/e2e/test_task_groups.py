"""Task groups on the default executor, launched as any v1 client may (spec: mesos-v1, sections 2.8 and 3.6)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Cluster, eventually
from tests.e2e.scheduler import Scheduler

pytestmark = pytest.mark.e2e


@pytest.fixture
def scheduler(cluster: Cluster) -> Iterator[Scheduler]:
    made = Scheduler(cluster, "groups")
    yield made
    made.close()


def test_a_group_runs_side_by_side_and_one_failure_ends_the_rest(cluster: Cluster, scheduler: Scheduler) -> None:
    """The tasks see each other: the second waits for what the first writes into the executor's sandbox."""
    write = "echo here > $MESOS_SANDBOX/../../shared; exec sleep 1000"
    wait = "until test -e $MESOS_SANDBOX/../../shared; do sleep 0.1; done; exit 7"
    scheduler.launch_group("group", {"writer": write, "waiter": wait})
    failed = scheduler.status("waiter", "TASK_FAILED")
    assert failed["message"] == "Command exited with status 7"
    assert failed["executor_id"]["value"] == "group"
    assert scheduler.status("writer", "TASK_KILLED")["source"] == "SOURCE_EXECUTOR"
    assert scheduler.next(lambda event: event["type"] == "FAILURE")["failure"]["executor_id"]["value"] == "group"


def test_a_group_whose_tasks_finish_leaves_nothing(cluster: Cluster, scheduler: Scheduler) -> None:
    scheduler.launch_group("short", {"one": "true", "two": "echo done"})
    scheduler.status("one", "TASK_RUNNING")
    scheduler.next(lambda event: event["type"] == "FAILURE")

    def resources_used() -> float:
        (found,) = [f for f in cluster.get("/state")["frameworks"] if f["id"] == scheduler.framework_id["value"]]
        return float(found["used_resources"]["cpus"])

    assert eventually(lambda: resources_used() == 0.0 or None)
