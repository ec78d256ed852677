"""An agent that is started with other settings while a task runs: refused, or taken with all it has gained, and the task goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.processes import alive, left

pytestmark = pytest.mark.e2e


def agent(cluster: Cluster, *flags: str) -> subprocess.CompletedProcess[str]:
    """An agent on the work dir of the first, until it leaves by itself."""
    place = ("--work-dir", str(cluster.work_dir / "agent-1"), "--port", "0", "--master", cluster.urls["master"])
    return subprocess.run([*MESETA, "serve", "agent", *place, *flags], env=cluster.environ, capture_output=True, text=True, timeout=60)


def test_a_running_task_and_other_settings(start_cluster: Callable[..., Cluster]) -> None:
    cluster = start_cluster(agents=1, only="master,agent")
    task = cluster.spawn([*MESETA, "run", "--name", "long", "--", "sh", "-c", "echo $$; exec sleep 1000"])
    try:
        assert task.stdout is not None
        pid = int(task.stdout.readline())
        cluster.kill("up")  # Nobody starts the agent again but we.
        cluster.kill("agent-1")
        refused = agent(cluster, "--attributes", "rack:a", "--resources", "cpus:1")
        assert refused.returncode == 2
        for part in ("cpus:", "attributes were `none`, are `rack:a`", "--reconfiguration-policy=additive", "--recover=cleanup"):
            assert part in refused.stderr
        assert "so that it only gains" in agent(cluster, "--resources", "cpus:0.5", "--reconfiguration-policy", "additive").stderr
        assert alive(pid)

        cluster.environ |= {"MESETA_ATTRIBUTES": "rack:a", "MESETA_RECONFIGURATION_POLICY": "additive"}
        cluster.up()
        (node,) = eventually(lambda: [node for node in cluster.json("node", "list") if node["state"] == "active"])
        assert [attribute["name"] for attribute in node["agent_info"]["attributes"]] == ["rack"]
        (shown,) = cluster.json("task", "list")
        assert (shown["state"], shown["agent_id"]["value"]) == ("TASK_RUNNING", node["id"])
        assert alive(pid)

        cluster.kill("up")
        cluster.kill("agent-1")
        cleaned = agent(cluster, "--resources", "cpus:1", "--recover", "cleanup")
        assert cleaned.returncode == 0, cleaned.stderr
        assert "what ran here has ended" in cleaned.stderr
        eventually(lambda: not alive(pid))
        cluster.up()
        (fresh,) = eventually(lambda: [other for other in cluster.json("node", "list") if other["state"] == "active"])
        assert fresh["id"] != node["id"]
    finally:
        task.kill()
        task.communicate()
    cluster.down()
    assert not left(cluster)


def test_what_an_agent_stops_to_run_is_told_before_it_leaves_for_good(start_cluster: Callable[..., Cluster]) -> None:
    """SIGUSR1: the master removes it, and whoever ran something there hears at once."""
    cluster = start_cluster(agents=1, only="master,agent")
    task = cluster.spawn([*MESETA, "run", "--name", "long", "--", "sh", "-c", "echo $$; exec sleep 1000"])
    try:
        assert task.stdout is not None
        pid = int(task.stdout.readline())
        (before,) = cluster.json("node", "list")
        cluster.kill("up")
        agent_pid = cluster.daemon("agent-1")["pid"]
        os.kill(agent_pid, 10)
        eventually(lambda: not alive(agent_pid), 30)
        assert not alive(pid)
        eventually(lambda: cluster.json("node", "list") == [])
        cluster.up()
        (after,) = eventually(lambda: [node for node in cluster.json("node", "list") if node["state"] == "active"])
        assert after["id"] != before["id"]
    finally:
        task.kill()
        task.communicate()
    cluster.down()
    assert not left(cluster)
