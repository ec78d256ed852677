"""Orders and agents that miss each other: what was promised holds when an agent is back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.processes import agents, alive, settled, task

pytestmark = pytest.mark.e2e

Start = Callable[..., Cluster]


@contextmanager
def held(pid: int) -> Iterator[None]:
    """A process that does nothing for a while: to others it is as good as cut off."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def without_agent(cluster: Cluster) -> Iterator[None]:
    """The only agent is dead, and nobody starts it again, until the end."""
    cluster.kill("up")
    cluster.kill("agent-1")
    eventually(lambda: not agents(cluster))
    try:
        yield
    finally:
        cluster.up()
        settled(cluster)


def begin(cluster: Cluster, folder: Path) -> tuple[str, str, int]:
    """A detached task that ends when the file `gate` appears: the ids of its framework and its own, its pid."""
    script = f"echo $$ > {folder}/pid; until test -e {folder}/gate; do sleep 0.05; done; exit 7"
    done = cluster.meseta("run", "--detach", "--json", "--", "sh", "-c", script)
    result = json.loads(done.stdout.splitlines()[-1])
    file = folder / "pid"
    return result["framework_id"], result["task_ids"][0], int(eventually(lambda: file.exists() and file.read_text()))


@pytest.mark.parametrize("then", ["nothing more", "the master dies"])
def test_a_framework_torn_down_while_the_agent_is_away_has_no_task_when_it_is_back(then: str, start_cluster: Start, tmp_path: Path) -> None:
    cluster = start_cluster(agents=1, only="master,agent")
    framework_id, _, pid = begin(cluster, tmp_path)
    with without_agent(cluster):
        cluster.meseta("framework", "teardown", framework_id)
        if then == "the master dies":
            cluster.kill("master")
        assert alive(pid)
    eventually(lambda: not alive(pid), 30)
    assert not cluster.json("task", "list")
    assert not cluster.json("framework", "list")


def test_a_task_killed_while_the_agent_is_away_ends_when_it_is_back(start_cluster: Start, tmp_path: Path) -> None:
    cluster = start_cluster(agents=1, only="master,agent")
    _, task_id, pid = begin(cluster, tmp_path)
    with without_agent(cluster):
        cluster.meseta("task", "kill", task_id)
        assert alive(pid)
    eventually(lambda: not alive(pid), 30)
    eventually(lambda: task(cluster, task_id)["state"] == "TASK_KILLED", 30)


def test_an_agent_that_falls_silent_is_unreachable_until_it_speaks_again(start_cluster: Start, tmp_path: Path) -> None:
    """Its tasks go on; whoever waits for one is told and waits."""
    cluster = start_cluster(only="master,agent")
    settled(cluster)
    script = f"echo begun; until test -e {tmp_path}/gate; do sleep 0.05; done; echo done; exit 7"
    process = cluster.spawn([*MESETA, "run", "--json", "--", "sh", "-c", script], stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["data"] == "begun\n"
        (row,) = cluster.json("task", "list")
        (node,) = [node for node in cluster.json("node", "list") if node["id"] == row["agent_id"]["value"]]
        port = node["agent_info"]["port"]
        (agent,) = [daemon for daemon in cluster.state()["daemons"] if daemon["url"] and daemon["url"].endswith(f":{port}")]
        with held(agent["pid"]):
            eventually(lambda: task(cluster, row["id"])["state"] == "TASK_UNREACHABLE", 40)
            assert "is unreachable" in json.loads(process.stdout.readline())["message"]
            assert cluster.meseta("run", "--", "echo", "elsewhere").stdout == "elsewhere\n"
        eventually(lambda: task(cluster, row["id"])["state"] == "TASK_RUNNING", 40)
        (tmp_path / "gate").touch()
        output, errors = process.communicate(timeout=40)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 7, output + errors
    assert '"data": "done\\n"' in output


def test_a_master_that_hangs_is_waited_for(start_cluster: Start, tmp_path: Path) -> None:
    cluster = start_cluster(agents=1, only="master,agent")
    script = f"echo begun; until test -e {tmp_path}/gate; do sleep 0.05; done; echo done; exit 7"
    process = cluster.spawn([*MESETA, "run", "--", "sh", "-c", script], stderr=subprocess.PIPE)
    log = cluster.work_dir / "log/agent-1.log"
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        with held(cluster.daemon("master")["pid"]):
            eventually(lambda: "the link to the master" in log.read_text(), 40, "the agent gives the master up")
            (tmp_path / "gate").touch()
            assert process.poll() is None
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (output, process.returncode) == ("done\n", 7), errors
