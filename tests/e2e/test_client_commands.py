"""`meseta task`, `node`, `framework` and `status` on a real cluster: what they show is what is, and scripts can rely on it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e import processes

pytestmark = pytest.mark.e2e

COMMANDS = [
    ["task", "list"],
    ["task", "show", "x"],
    ["task", "logs", "x"],
    ["task", "kill", "x"],
    ["node", "list"],
    ["node", "show", "x"],
    ["framework", "list"],
    ["framework", "show", "x"],
    ["framework", "teardown", "x"],
    ["status"],
]
UNKNOWN = [command for command in COMMANDS if "x" in command]
WRONG = [*([*command, "--nonsense"] for command in COMMANDS), ["task"], ["task", "show"], ["nonsense"]]


def state(cluster: Cluster, task_id: str) -> str:
    return str(processes.task(cluster, task_id)["state"])


@pytest.fixture
def task(cluster: Cluster, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A task that runs until the file `gate` in tmp_path appears, then exits with status 6."""
    script = f"echo out; echo err >&2; until test -e {tmp_path}/gate; do sleep 0.05; done; echo more; exit 6"
    command = ["run", "--detach", "--json", "--name", "shown", "--cpus", "0.25", "--mem", "48", "--env", "A=b", "--", "sh", "-c", script]
    result = json.loads(cluster.meseta(*command).stdout.splitlines()[-1])
    yield {"id": result["task_ids"][0], "framework_id": result["framework_id"]}
    cluster.meseta("framework", "teardown", result["framework_id"], check=False)


def test_a_task_is_listed_while_it_runs_and_with_all_afterwards(cluster: Cluster, task: dict[str, Any], tmp_path: Path) -> None:
    (row,) = [row for row in cluster.json("task", "list") if row["id"] == task["id"]]
    assert row == {
        **row,
        "id": task["id"],
        "name": "shown",
        "task_id": {"value": task["id"]},
        "framework_id": {"value": task["framework_id"]},
        "state": "TASK_RUNNING",
    }
    assert {resource["name"]: resource["scalar"]["value"] for resource in row["resources"]} == {"cpus": 0.25, "mem": 48}
    text = cluster.meseta("task", "list", "--framework", task["framework_id"]).stdout.splitlines()
    assert text[0].split() == ["ID", "NAME", "FRAMEWORK", "HOST", "STATE", "CPUS", "MEM", "SINCE"]
    shown = text[1].split()[:7]
    assert (shown[:3], shown[4:]) == ([task["id"], "shown", "run-shown"], ["running", "0.25", "48M"])
    assert shown[3].startswith("127.0.0.1:"), "several agents may share a machine"
    (tmp_path / "gate").touch()
    eventually(lambda: state(cluster, task["id"]) == "TASK_FAILED")
    assert task["id"] not in [row["id"] for row in cluster.json("task", "list")]
    (row,) = [row for row in cluster.json("task", "list", "--all") if row["id"] == task["id"]]
    assert (row["state"], row["statuses"][-1]["message"]) == ("TASK_FAILED", "Command exited with status 6")


def test_a_task_is_shown_by_id_prefix_or_name(cluster: Cluster, task: dict[str, Any]) -> None:
    shown = cluster.json("task", "show", task["id"])
    assert shown["id"] == task["id"]
    assert [status["state"] for status in shown["statuses"]] == ["TASK_STARTING", "TASK_RUNNING"]
    assert cluster.json("task", "show", task["id"][:-2])["id"] == task["id"]
    text = cluster.meseta("task", "show", task["id"]).stdout
    assert dict(line.split(":", 1) for line in text.splitlines())["state"].strip() == "running"


def test_logs_are_what_the_task_has_written(cluster: Cluster, task: dict[str, Any]) -> None:
    eventually(lambda: cluster.meseta("task", "logs", task["id"]).stderr)
    done = cluster.meseta("task", "logs", task["id"])
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    done = cluster.meseta("task", "logs", "--stderr", task["id"])
    assert (done.stdout, done.stderr) == ("", "err\n")


def test_logs_are_followed_to_the_end_of_the_task(cluster: Cluster, task: dict[str, Any], tmp_path: Path) -> None:
    follower = cluster.spawn([*MESETA, "task", "logs", "-f", "--json", task["id"]], stderr=subprocess.PIPE)
    try:
        assert follower.stdout is not None
        first = [json.loads(follower.stdout.readline()) for _ in range(2)]
        assert sorted((line["stream"], line["data"]) for line in first) == [("stderr", "err\n"), ("stdout", "out\n")]
        (tmp_path / "gate").touch()
        output, errors = follower.communicate(timeout=30)
    finally:
        follower.kill()
        follower.communicate()
    assert [json.loads(line) for line in output.splitlines()] == [{"stream": "stdout", "data": "more\n"}]
    assert (errors, follower.returncode) == ("", 0)


def test_following_ends_with_ctrl_c_and_leaves_the_task(cluster: Cluster, task: dict[str, Any]) -> None:
    follower = cluster.spawn([*MESETA, "task", "logs", "-f", "--stdout", task["id"]], stderr=subprocess.PIPE)
    try:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "out\n"
        follower.send_signal(signal.SIGINT)
        _, errors = follower.communicate(timeout=30)
    finally:
        follower.kill()
        follower.communicate()
    assert follower.returncode == 130
    assert "Traceback" not in errors
    assert cluster.json("task", "show", task["id"])["state"] == "TASK_RUNNING"


def test_a_killed_task_ends(cluster: Cluster, task: dict[str, Any]) -> None:
    assert cluster.meseta("task", "kill", task["id"]).stdout == f"Killing task {task['id']}.\n"
    eventually(lambda: state(cluster, task["id"]) == "TASK_KILLED")
    assert cluster.json("task", "show", task["id"])["statuses"][-1]["state"] == "TASK_KILLED"
    done = cluster.meseta("task", "kill", task["id"], check=False)
    assert done.returncode == 1, "it is over"
    assert "task list" in done.stderr


def test_an_agent_is_listed_and_shown_with_what_runs_there(cluster: Cluster, task: dict[str, Any]) -> None:
    nodes = cluster.json("node", "list")
    assert [(node["hostname"], node["state"], node["active"]) for node in nodes] == [("127.0.0.1", "active", True)] * 2
    agent_id = cluster.json("task", "show", task["id"])["agent_id"]["value"]
    (node,) = [node for node in nodes if node["id"] == agent_id]
    allocated = {resource["name"]: resource["scalar"]["value"] for resource in node["allocated_resources"]}
    assert allocated["cpus"] >= 0.25
    assert allocated["mem"] >= 48
    shown = cluster.json("node", "show", agent_id)
    assert task["id"] in [one["id"] for one in shown["tasks"]]
    text = cluster.meseta("node", "list").stdout.splitlines()
    assert text[0].split() == ["ID", "HOST", "STATE", "CPUS", "MEM", "GPUS", "AGE", "ATTRIBUTES"]
    assert sorted(line.split()[0] for line in text[1:]) == sorted(node["id"] for node in nodes)
    assert agent_id in cluster.meseta("node", "show", agent_id).stdout


def test_a_framework_is_listed_shown_and_torn_down(cluster: Cluster, task: dict[str, Any]) -> None:
    framework_id = task["framework_id"]
    (row,) = [row for row in cluster.json("framework", "list") if row["id"] == framework_id]
    assert (row["name"], row["state"]) == ("run-shown", "disconnected")
    shown = cluster.json("framework", "show", framework_id)
    assert [one["id"] for one in shown["tasks"]] == [task["id"]]
    assert framework_id in cluster.meseta("framework", "show", framework_id).stdout
    assert cluster.json("framework", "teardown", framework_id) == {"framework_id": framework_id}
    assert framework_id not in [row["id"] for row in cluster.json("framework", "list")]
    (row,) = [row for row in cluster.json("framework", "list", "--all") if row["id"] == framework_id]
    assert row["state"] == "completed"
    eventually(lambda: state(cluster, task["id"]) == "TASK_KILLED")
    assert cluster.json("task", "show", task["id"])["state"] == "TASK_KILLED"
    assert cluster.meseta("framework", "teardown", framework_id, check=False).returncode == 1


def test_status_sums_up_the_cluster_and_its_daemons(cluster: Cluster, task: dict[str, Any]) -> None:
    status = cluster.json("status")
    assert status["master"]["url"] == cluster.urls["master"]
    assert status["agents"] == {"active": 2}
    assert status["tasks"]["TASK_RUNNING"] >= 1
    assert status["resources"]["cpus"]["allocated"] >= 0.25
    assert [(daemon["name"], daemon["state"]) for daemon in status["daemons"]][:3] == [
        ("master", "running"),
        ("agent-1", "running"),
        ("agent-2", "running"),
    ]
    assert "agents:" in cluster.meseta("status").stdout


def test_the_master_is_found_by_the_endpoints_of_the_last_up(cluster: Cluster) -> None:
    environ = {name: value for name, value in cluster.environ.items() if name != "MESETA_MASTER"}
    done = subprocess.run([*MESETA, "node", "list", "--json"], env=environ, capture_output=True, text=True, timeout=30)
    assert len(json.loads(done.stdout)) == 2


def test_without_any_cluster_it_is_said_how_to_start_one(cluster: Cluster, tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MESOS_", "MESETA_"))}
    done = subprocess.run(
        [*MESETA, "node", "list"], env={**environ, "XDG_STATE_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "`meseta up`" in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_unreachable_master_is_named_with_a_hint(cluster: Cluster, command: list[str]) -> None:
    with socket.socket() as closed:  # Bound and not listening: nobody else can answer there.
        closed.bind(("127.0.0.1", 0))
        master = f"http://127.0.0.1:{closed.getsockname()[1]}"
        done = cluster.meseta(*command, "--master", master, "--json", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    error = json.loads(done.stderr)
    assert error.keys() == {"error", "field", "hint"}
    assert error["error"].startswith(f"cannot reach the master at {master}: ")
    assert error["field"] == "--master"
    assert "meseta up" in error["hint"]


@pytest.mark.parametrize("command", UNKNOWN, ids=" ".join)
def test_what_there_is_not_is_named_with_a_hint(cluster: Cluster, command: list[str]) -> None:
    kind = command[0]
    done = cluster.meseta(*command, "--json", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    error = json.loads(done.stderr)
    assert error["field"] == kind
    assert error["error"] == f"there is no {kind} 'x'"
    assert f"meseta {command[0]} list" in error["hint"]
    done = cluster.meseta(*command, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {error['error']}; {error['hint']}\n"


@pytest.mark.parametrize("command", WRONG, ids=" ".join)
def test_wrong_usage_is_2(cluster: Cluster, command: list[str]) -> None:
    done = cluster.meseta(*command, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: meseta" in done.stderr
    done = cluster.meseta(*command, "--json", check=False)
    assert done.returncode == 2
    assert json.loads(done.stderr).keys() == {"error", "field", "hint"}
