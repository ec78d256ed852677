"""What tasks are held to, on a real cluster; as root, who alone can have that."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.http import ask

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups")]


def groups(container: str) -> list[str]:
    """The control groups of a container of this machine's agents."""
    return [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if os.path.basename(folder) == container]


def test_a_task_beyond_its_memory_is_killed_and_says_so(cluster: Cluster) -> None:
    done = cluster.meseta("run", "--cpus", "0.1", "--mem", "64", "--", sys.executable, "-c", "x = bytearray(10**9)", check=False)
    assert done.returncode == 137
    assert "Memory limit exceeded: Requested: 64MB Maximum Used: 64MB; Command terminated with signal Killed" in done.stderr
    (task,) = [task for task in cluster.json("task", "list", "--all") if "Memory limit" in str(task["statuses"])]
    status = task["statuses"][-1]
    assert (status["state"], status["reason"]) == ("TASK_FAILED", "REASON_CONTAINER_LIMITATION_MEMORY")
    assert [resource["name"] for resource in status["limitation"]["resources"]] == ["mem"]


def test_one_process_beyond_the_memory_ends_its_whole_task(cluster: Cluster) -> None:
    script = f"{sys.executable} -c 'x = bytearray(10**9)'; sleep 1000"
    done = cluster.meseta("run", "--cpus", "0.1", "--mem", "64", "--", "sh", "-c", script, check=False)
    assert done.returncode == 137
    assert "Memory limit exceeded" in done.stderr


def test_nothing_is_left_of_a_task_that_forks_without_end(start_cluster: Callable[..., Cluster]) -> None:
    """It cannot have more processes than it may, the agent answers meanwhile, and a kill ends all of them."""
    cluster = start_cluster(agents=1, only="master,agent", environ={"MESETA_CONTAINER_PIDS_MAX": "60"})
    code = "import os, time\nwhile True:\n  try: os.fork() or os.setsid()\n  except OSError: time.sleep(0.1)"
    command = [*MESETA, "run", "--name", "bomb", "--cpus", "0.1", "--mem", "512", "--", sys.executable, "-S", "-E", "-c", code]
    bomb = cluster.spawn(command)
    try:
        (held,) = eventually(lambda: ask(cluster.urls["agent-1"], "/containers").json(), what="it is there")
        container = held["container_id"]
        (group,) = eventually(lambda: [path for path in groups(container) if os.path.exists(f"{path}/pids.max")])
        eventually(lambda: refused(group), 60, "it has all the processes it may have")
        began_s = time.monotonic()
        urllib.request.urlopen(f"{cluster.urls['agent-1']}/health", timeout=10).close()
        print(f"the agent answered after {time.monotonic() - began_s:.3f} s beside a fork bomb")
        (task,) = [task for task in cluster.json("task", "list") if task["name"] == "bomb"]
        cluster.meseta("task", "kill", task["task_id"]["value"])
        assert bomb.wait(60) == 143
    finally:
        bomb.kill()
        bomb.communicate()
    eventually(lambda: not groups(container), what="its control groups are gone")


def refused(group: str) -> bool:
    with open(f"{group}/pids.events") as events:
        return events.read().split() != ["max", "0"]


def test_what_a_task_uses_is_shown(cluster: Cluster) -> None:
    command = [*MESETA, "run", "--name", "busy", "--cpus", "0.1", "--mem", "64", "--", "sh", "-c", "echo up; while :; do :; done"]
    busy = cluster.spawn(command)
    try:
        assert busy.stdout is not None
        assert busy.stdout.readline() == "up\n"
        found = cluster.json("task", "stats", "busy")
        assert found["cpus_user_time_secs"] > 0
        assert found["mem_limit_bytes"] == 64 << 20
        assert found["processes"] == 1
        assert cluster.get("/monitor/statistics", next(name for name in cluster.urls if name.startswith("agent"))) is not None
    finally:
        busy.send_signal(signal.SIGINT)
        busy.wait(30)
        busy.communicate()
