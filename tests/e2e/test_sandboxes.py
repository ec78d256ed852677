"""What becomes of sandboxes on a real cluster: they go by age, their logs are rotated, and who fills the disk is ended."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.http import ask, call

pytestmark = pytest.mark.e2e

MIB = 1 << 20
Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts client commands beside a cluster, and ends them after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(cluster: Cluster, *arguments: str) -> subprocess.Popen[str]:
        started.append(cluster.spawn([*MESETA, *arguments]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def named(cluster: Cluster, name: str) -> dict[str, Any]:
    """The task of this name, once it runs."""

    def find() -> dict[str, Any] | None:
        found = (task for task in cluster.json("task", "list") if task["name"] == name)
        return next((task for task in found if task["state"] == "TASK_RUNNING"), None)

    task = eventually(find, what=f"{name} runs")
    assert task is not None
    return task


def sandboxes(cluster: Cluster) -> set[Path]:
    """Those on the disk."""
    found = set()
    for path in cluster.work_dir.glob("agent-*/slaves/*/frameworks/*/executors/*/runs/*"):
        with contextlib.suppress(FileNotFoundError):  # It is being removed.
            found.add(path.resolve())
    return found


def test_the_sandbox_of_an_ended_task_goes_that_of_a_running_one_stays(start_cluster: Callable[..., Cluster], spawn: Spawn) -> None:
    """Also that of one which ended while its agent was away."""
    cluster = start_cluster(agents=1, only="master,agent", environ={"MESETA_GC_DELAY": "1secs", "MESETA_DISK_WATCH_INTERVAL": "200ms"})
    spawn(cluster, "run", "--name", "stays", "--cpus", "0.1", "--mem", "32", "--", "sleep", "1000")
    named(cluster, "stays")
    (running,) = sandboxes(cluster)
    cluster.meseta("run", "--cpus", "0.1", "--mem", "32", "--", "true")
    eventually(lambda: sandboxes(cluster) == {running}, what="that of the ended task is gone")
    agent = cluster.urls["agent-1"]
    eventually(lambda: cluster.get("/metrics/snapshot", "agent-1")["gc/path_removals_succeeded"] == 1)
    assert call(agent, "LIST_FILES", list_files={"path": str(running)}).status == 200
    cluster.kill("agent-1")
    cluster.meseta("task", "kill", named(cluster, "stays")["task_id"]["value"])
    eventually(lambda: not sandboxes(cluster), 40, "the last one is gone")
    assert call(agent, "LIST_FILES", list_files={"path": str(running)}).status == 404
    assert ask(agent, f"/files/browse?path={running}").status == 404


CHATTY = r"""
import os, time
number = 0
while not os.path.exists("stdout.3"):
    for _ in range(100):
        os.write(1, b"line %d\n" % number)
        number += 1
    time.sleep(0.01)
os.write(1, b"the end\n")
"""


def test_the_log_of_a_chatty_task_is_rotated_and_who_follows_sees_each_line_once(cluster: Cluster, spawn: Spawn) -> None:
    """The one who started it and the one who looks on; and one who asks afterwards."""
    limits = ("--env", "CONTAINER_LOGGER_MAX_STDOUT_SIZE=32KB", "--env", "CONTAINER_LOGGER_MAX_FILES=100")
    command = ("--cpus", "0.1", "--mem", "64", *limits, "--", sys.executable, "-S", "-E", "-c", CHATTY)
    started = spawn(cluster, "run", "--name", "chatty", *command)
    task_id = named(cluster, "chatty")["task_id"]["value"]
    following = spawn(cluster, "task", "logs", "-f", task_id)
    printed = [process.communicate(timeout=60)[0].splitlines() for process in (started, following)]
    for lines in printed:
        assert lines == [*(f"line {number}" for number in range(len(lines) - 1)), "the end"]
    assert cluster.meseta("task", "logs", task_id).stdout.splitlines() == printed[0]
    (sandbox,) = (path for path in sandboxes(cluster) if task_id in str(path))
    assert {"stdout", "stdout.1", "stdout.2", "stdout.3"} <= {path.name for path in sandbox.iterdir()}


def test_a_task_that_fills_the_disk_is_killed_and_says_so(start_cluster: Callable[..., Cluster], spawn: Spawn) -> None:
    settings = {"MESETA_CONTAINER_DISK_WATCH_INTERVAL": "200ms", "MESETA_ENFORCE_CONTAINER_DISK_QUOTA": "true"}
    cluster = start_cluster(agents=1, only="master,agent", environ=settings)
    size = ("--cpus", "0.1", "--mem", "64", "--disk", "8")
    spawn(cluster, "run", "--name", "modest", *size, "--", "sh", "-c", "head -c 4000000 /dev/zero > some; sleep 1000")
    named(cluster, "modest")

    def shown() -> list[tuple[int, int]]:
        found = [entry["statistics"] for entry in cluster.get("/monitor/statistics", "agent-1")]
        return [(entry["disk_used_bytes"], entry["disk_limit_bytes"]) for entry in found if entry.get("disk_used_bytes", 0) > 3_900_000]

    eventually(lambda: [limit for _, limit in shown()] == [8 * MIB], what="it is shown what the modest one uses")
    filler = "while :; do head -c 1000000 /dev/zero >> much; done"
    done = cluster.meseta("run", "--name", "filler", *size, "--", "sh", "-c", filler, check=False)
    assert done.returncode == 137
    (task,) = [task for task in cluster.json("task", "list", "--all") if task["name"] == "filler"]
    status = task["statuses"][-1]
    assert (status["state"], status["reason"]) == ("TASK_FAILED", "REASON_CONTAINER_LIMITATION_DISK")
    assert re.fullmatch(r"Disk usage \(\d+MB\) exceeds quota \(8MB\); Command terminated with signal Killed", status["message"])
    assert [resource["name"] for resource in status["limitation"]["resources"]] == ["disk"]
    named(cluster, "modest")
