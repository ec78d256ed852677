"""Agents drained and machines taken down, by commands, with real processes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.processes import agents, alive, ask, settled, task

pytestmark = pytest.mark.e2e

Start = Callable[..., Cluster]


def begin(cluster: Cluster, folder: Path, script: str) -> tuple[str, int]:
    """A detached task of a shell script that has begun: its id and its pid."""
    pid = folder / "pid"
    done = cluster.meseta("run", "--detach", "--json", "--", "sh", "-c", f"{script}; echo $$ > {pid}.new; mv {pid}.new {pid}; {WAIT}")
    return json.loads(done.stdout.splitlines()[-1])["task_ids"][0], int(eventually(lambda: pid.exists() and pid.read_text()))


WAIT = "while true; do sleep 0.1; done"


def node(cluster: Cluster) -> dict[str, Any]:
    (only,) = cluster.json("node", "list")
    return only


def drains(cluster: Cluster) -> list[str]:
    """The states of the drains of all agents."""
    return [agent.get("drain_info", {}).get("state", "") for agent in ask(cluster, "GET_AGENTS").get("agents", ())]


def answers(cluster: Cluster) -> list[str]:
    """What frameworks say to planned maintenance."""
    return [status["status"] for machine in cluster.json("maintenance", "list") for status in machine["statuses"]]


def reasons(cluster: Cluster, task_id: str) -> list[str | None]:
    return [status.get("reason") for status in task(cluster, task_id)["statuses"]]


def test_a_drained_agent_ends_its_tasks_gently_and_is_used_again_when_it_is_undrained(start_cluster: Start, tmp_path: Path) -> None:
    cluster = start_cluster(agents=1, only="master,agent")
    settled(cluster)
    task_id, pid = begin(cluster, tmp_path, f"trap 'sleep 1; echo bye > {tmp_path}/bye; exit 0' TERM")
    name = node(cluster)["id"]
    done = cluster.meseta("node", "drain", name, "--grace", "30s", "--wait")
    assert done.stdout.endswith("is drained.\n")
    assert (tmp_path / "bye").read_text() == "bye\n"
    assert not alive(pid)
    ended = task(cluster, task_id)
    assert (ended["state"], reasons(cluster, task_id)[-1]) == ("TASK_KILLED", "REASON_AGENT_DRAINING")
    assert node(cluster)["state"] == "drained"
    waiting = cluster.spawn([*MESETA, "run", "--", "sh", "-c", "echo again"], stderr=subprocess.PIPE)
    try:
        eventually(lambda: any(one["name"] == "run-sh" and one["active"] for one in cluster.json("framework", "list")))
        assert cluster.meseta("node", "undrain", name).stdout.endswith("is offered again.\n")
        out, _ = waiting.communicate(timeout=30)
        assert (out, waiting.returncode) == ("again\n", 0)
    finally:
        waiting.kill()
        waiting.wait()
    assert node(cluster)["state"] == "active"


@pytest.mark.parametrize("dies", ["agent-1", "master"])
def test_a_drain_goes_on_when_a_daemon_dies(dies: str, start_cluster: Start, tmp_path: Path) -> None:
    """The task does not listen to SIGTERM: it is there until its grace ends, whoever has to know that meanwhile."""
    cluster = start_cluster(agents=1, only="master,agent")
    settled(cluster)
    task_id, pid = begin(cluster, tmp_path, "trap '' TERM")
    name = node(cluster)["id"]
    assert "is draining: 1 task left" in cluster.meseta("node", "drain", name, "--grace", "6s").stdout
    cluster.kill(dies)
    eventually(lambda: drains(cluster) == ["DRAINED"], 60, "the agent is drained")
    assert not alive(pid)
    assert (task(cluster, task_id)["state"], reasons(cluster, task_id)[-1]) == ("TASK_KILLED", "REASON_AGENT_DRAINING")
    refused = cluster.meseta("node", "undrain", "nobody", check=False)
    assert refused.returncode == 1
    cluster.meseta("node", "undrain", name)
    assert cluster.meseta("run", "--", "true").returncode == 0


def test_a_machine_is_planned_drained_taken_down_and_brought_up(start_cluster: Start) -> None:
    cluster = start_cluster(agents=1, only="master,agent")
    settled(cluster)
    first = node(cluster)
    host = first["hostname"]
    user = cluster.spawn([*MESETA, "run", "--", "sleep", "1000"], stderr=subprocess.PIPE)
    try:
        cluster.meseta("maintenance", "set", host, "--start", "+1h", "--duration", "2h")
        assert "unavailability" in node(cluster)
        eventually(lambda: answers(cluster) == ["DECLINE"], what="`meseta run` objects")
        cluster.meseta("node", "drain", first["id"], "--wait", "--grace", "1s")  # Under a schedule, too.
        assert user.wait(30) == 128 + signal.SIGTERM
        eventually(lambda: answers(cluster) == [])
    finally:
        user.kill()
        user.communicate()
    cluster.meseta("maintenance", "down", host)
    assert cluster.json("maintenance", "list")[0]["state"] == "down"
    eventually(lambda: not agents(cluster))
    assert cluster.meseta("maintenance", "clear", host, check=False).returncode == 1
    cluster.meseta("maintenance", "up", host)
    eventually(lambda: agents(cluster), 60)
    assert node(cluster)["id"] != first["id"]
    assert cluster.meseta("run", "--", "true").returncode == 0
