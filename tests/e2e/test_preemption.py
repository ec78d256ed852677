"""Room for guarantees, with real processes, as an operator sees it (docs/decisions/preemption.md)."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.processes import ask, settled

pytestmark = pytest.mark.e2e

Start = Callable[..., Cluster]
SETTINGS = {"MESETA_PREEMPT_FOR_GUARANTEES": "true", "MESETA_PREEMPTION_NOTICE": "10secs", "MESETA_RESOURCES": "cpus:4;mem:1024;disk:1024"}
WAIT = "while true; do sleep 0.1; done"


def tasks(cluster: Cluster, role: str) -> list[dict[str, Any]]:
    """All tasks of frameworks in a role, also those that have ended."""
    found = ask(cluster, "GET_TASKS")
    ids = {framework["framework_info"]["id"]["value"] for framework in _frameworks(cluster) if role in _roles(framework["framework_info"])}
    listed = [*found.get("tasks", []), *found.get("completed_tasks", [])]
    return [task for task in listed if task["framework_id"]["value"] in ids]


def _frameworks(cluster: Cluster) -> list[dict[str, Any]]:
    found = ask(cluster, "GET_FRAMEWORKS")
    return [*found.get("frameworks", []), *found.get("completed_frameworks", [])]


def _roles(info: dict[str, Any]) -> list[str]:
    return [*info.get("roles", []), info.get("role", "")]


def run(cluster: Cluster, role: str, name: str, instances: int, *command: str) -> subprocess.Popen[str]:
    size = ["--cpus", "1", "--mem", "64", "--instances", str(instances)]
    return cluster.spawn([*MESETA, "run", "--role", role, "--name", name, *size, "--", *command], stderr=subprocess.STDOUT)


def test_a_task_above_a_lowered_limit_gives_way_to_a_guarantee(start_cluster: Start) -> None:
    cluster = start_cluster(agents=1, only="master,agent", environ=SETTINGS)
    settled(cluster)
    old = run(cluster, "a", "old", 4, "sh", "-c", WAIT)
    try:
        eventually(lambda: [task["state"] for task in tasks(cluster, "a")] == ["TASK_RUNNING"] * 4)
        cluster.meseta("quota", "set", "a", "--limit", "cpus=2", "--force")
        cluster.meseta("quota", "set", "b", "--guarantee", "cpus=2")
        new = run(cluster, "b", "new", 1, "echo", "there is room")
        (one,) = eventually(lambda: cluster.get("/explain")["preemptions"])
        assert (one["guarantee"], one["role"], one["framework"], len(one["tasks"]), one["ending"]) == ("b", "a", "run-old", 1, False)
        why = cluster.meseta("task", "why", "new").stdout
        assert "1 task of run-old must end within" in why
        assert "for what role b is guaranteed" in why
        assert one["tasks"][0] in cluster.meseta("role", "show", "b").stdout
        eventually(lambda: [one["answer"] for one in cluster.get("/explain")["preemptions"]] == ["DECLINE"], what="it runs once")
        out, _ = new.communicate(timeout=60)
        assert (new.returncode, "there is room" in out) == (0, True), out
        ended = [task for task in tasks(cluster, "a") if task["state"] != "TASK_RUNNING"]
        assert [(task["task_id"]["value"], task["state"]) for task in ended] == [(one["tasks"][0], "TASK_GONE")]
        last = ended[0]["statuses"][-1]
        assert (last["reason"], last["message"].partition(";")[0]) == (
            "REASON_CONTAINER_PREEMPTED",
            "preempted for what role b is guaranteed",
        )
        assert "preempted for what role b is guaranteed" in cluster.meseta("task", "why", one["tasks"][0]).stdout
        numbers = cluster.get("/metrics/snapshot")
        assert (numbers["allocator/mesos/roles/a/preempted"], numbers["allocator/mesos/roles/b/preempted_for"]) == (1, 1)
        eventually(lambda: not cluster.get("/explain")["preemptions"])
    finally:
        old.send_signal(signal.SIGINT)
        told, _ = old.communicate(timeout=60)
    assert "preempted for what role b is guaranteed" in told
