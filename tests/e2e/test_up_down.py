"""`meseta up` and `down` with work in the cluster: what was begun is found again, what was stopped is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.processes import LAUNCHER, agents, alive, launcher, left, naming, settled, task

pytestmark = pytest.mark.e2e

Start = Callable[..., Cluster]
ENDS = ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED")


def detached(cluster: Cluster, name: str, script: str) -> tuple[str, str]:
    """Start a task that nobody waits for; return its framework's id and its own."""
    done = cluster.meseta("run", "--detach", "--json", "--name", name, "--", "sh", "-c", script)
    result = json.loads(done.stdout.splitlines()[-1])
    return result["framework_id"], result["task_ids"][0]


def waiting(folder: Path, status: int = 7) -> str:
    """A script that writes its pid down, waits for the file `gate`, and says when it ends."""
    return f"echo $$ > {folder}/pid; until test -e {folder}/gate; do sleep 0.05; done; touch {folder}/ended; exit {status}"


def pid_of(folder: Path) -> int:
    file = folder / "pid"
    return int(eventually(lambda: file.exists() and file.read_text(), what=f"{file} is written"))


def end_of(cluster: Cluster, task_id: str) -> dict[str, Any]:
    """The last update of a task, once it has ended."""

    def look() -> Any:
        found = task(cluster, task_id)
        return found["statuses"][-1] if found["statuses"] and found["statuses"][-1]["state"] in ENDS else None

    found: dict[str, Any] = eventually(look, 40, f"{task_id} has ended")
    return found


def frameworks(cluster: Cluster) -> list[str]:
    return [framework["id"] for framework in cluster.json("framework", "list")]


def daemons(cluster: Cluster) -> list[str]:
    """The command lines of all daemons of the cluster, from the process table."""
    return sorted(naming(cluster.work_dir, "meseta serve").values())


def test_down_and_up_lose_no_agent_and_no_framework(start_cluster: Start, tmp_path: Path) -> None:
    cluster = start_cluster(only="master,agent")
    settled(cluster)
    before = agents(cluster)
    framework_id, task_id = detached(cluster, "ended-by-down", waiting(tmp_path))
    pid = pid_of(tmp_path)
    done = json.loads(cluster.meseta("down", "--work-dir", str(cluster.work_dir), "--json").stdout)
    assert done == {"work_dir": str(cluster.work_dir), "stopped": ["master", "agent-1", "agent-2"]}
    assert not alive(pid)
    assert not left(cluster)
    assert not (cluster.work_dir / "endpoints.json").exists()
    cluster.up()
    settled(cluster)
    assert agents(cluster) == before
    assert frameworks(cluster) == [framework_id]
    assert task_id not in [task["id"] for task in cluster.json("task", "list")]
    assert cluster.json("task", "show", task_id)["state"] == "TASK_KILLED", "its framework will hear so"
    assert cluster.meseta("run", "--", "echo", "works").stdout == "works\n"
    cluster.down()
    assert not left(cluster)


def test_who_waits_while_the_cluster_goes_down_hears_how_the_task_ended(start_cluster: Start, tmp_path: Path) -> None:
    cluster = start_cluster(agents=1, only="master,agent")
    script = f"trap 'echo caught; exit 9' TERM; echo begun; {waiting(tmp_path)}"
    process = cluster.spawn([*MESETA, "run", "--", "sh", "-c", script], stderr=subprocess.PIPE)
    try:
        pid_of(tmp_path)
        cluster.down()
        output, errors = process.communicate(timeout=40)
    finally:
        process.kill()
        process.communicate()
    assert (output, process.returncode) == ("begun\ncaught\n", 9), errors
    assert not left(cluster)


def test_tasks_that_are_kept_are_found_by_the_next_up(start_cluster: Start, tmp_path: Path) -> None:
    """One ends while the cluster is down: its exit status is known, since its launcher was there."""
    folders = [tmp_path / name for name in ("during", "after")]
    for folder in folders:
        folder.mkdir()
    cluster = start_cluster(agents=1, only="master,agent")
    ids = [detached(cluster, folder.name, waiting(folder, status))[1] for folder, status in zip(folders, (7, 8), strict=True)]
    pids = [pid_of(folder) for folder in folders]
    cluster.down("--keep-tasks")
    assert not daemons(cluster)
    assert all(alive(pid) for pid in pids)
    (folders[0] / "gate").touch()
    eventually(lambda: not alive(pids[0]))
    assert alive(pids[1])
    cluster.up()
    settled(cluster)
    assert alive(pids[1])
    assert end_of(cluster, ids[0])["message"] == "Command exited with status 7"
    assert cluster.json("task", "show", ids[1])["state"] == "TASK_RUNNING"
    (folders[1] / "gate").touch()
    assert end_of(cluster, ids[1])["message"] == "Command exited with status 8"
    cluster.down()
    assert not left(cluster)


@pytest.mark.parametrize("dead", ["up", "agent-1", "up and agent-1", "agent-1 and its launcher", "everything of ours"])
def test_down_ends_the_tasks_whoever_is_dead(dead: str, start_cluster: Start, tmp_path: Path) -> None:
    """Nothing is left, and the tasks were asked to end before they were made to."""
    cluster = start_cluster(agents=1, only="master,agent")
    detached(cluster, "left", f"trap 'touch {tmp_path}/asked; exit 0' TERM; {waiting(tmp_path)}")
    pid = pid_of(tmp_path)
    victims = {
        "up": [],
        "agent-1": [cluster.daemon("agent-1")["pid"]],
        "up and agent-1": [cluster.daemon("agent-1")["pid"]],
        "agent-1 and its launcher": [cluster.daemon("agent-1")["pid"], launcher(cluster, "agent-1")],
        "everything of ours": [*naming(cluster.work_dir, "meseta serve"), *naming(cluster.work_dir, LAUNCHER)],
    }[dead]
    if "up" in dead or "everything" in dead:
        cluster.kill("up")
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    cluster.down()
    assert not alive(pid)
    assert (tmp_path / "asked").exists()
    assert not left(cluster)


def test_a_second_down_ends_the_tasks_that_the_first_kept(start_cluster: Start, tmp_path: Path) -> None:
    cluster = start_cluster(agents=1, only="master,agent")
    detached(cluster, "kept", waiting(tmp_path))
    pid = pid_of(tmp_path)
    cluster.down("--keep-tasks")
    assert alive(pid)
    assert cluster.meseta("down", "--work-dir", str(cluster.work_dir)).stdout == "Stopped: agent-1\n"
    assert not alive(pid)
    assert not left(cluster)
    assert cluster.meseta("down", "--work-dir", str(cluster.work_dir)).stdout == f"Nothing runs in {cluster.work_dir}\n"


@pytest.mark.parametrize("kept", [True, False])
def test_an_agent_that_the_next_up_does_not_have_leaves_nothing(kept: bool, start_cluster: Start, tmp_path: Path) -> None:
    cluster = start_cluster(only="master,agent")
    settled(cluster)
    for name in ("1", "2", "3", "4"):  # More than one of them has room for.
        (tmp_path / name).mkdir()
        detached(cluster, name, waiting(tmp_path / name))
    pids = [pid_of(tmp_path / name) for name in ("1", "2", "3", "4")]
    if kept:
        cluster.down("--keep-tasks")
    else:
        cluster.kill("up")
    assert all(alive(pid) for pid in pids)
    cluster.agents = 1
    cluster.up()
    assert not naming(f"{cluster.work_dir}/agent-2/")
    settled(cluster)
    running = sum(alive(pid) for pid in pids)
    assert running == len(cluster.json("task", "list"))
    cluster.down()
    assert not any(alive(pid) for pid in pids)
    assert not left(cluster)


@pytest.mark.parametrize("killed", ["up", "up and master", "up and agent-1", "everything of ours"])
def test_the_next_up_finds_what_a_killed_one_left(killed: str, start_cluster: Start, tmp_path: Path) -> None:
    cluster = start_cluster(only="master,agent")
    settled(cluster)
    before, lines, pids = agents(cluster), daemons(cluster), naming(cluster.work_dir, "meseta serve")
    _, task_id = detached(cluster, "survivor", waiting(tmp_path))
    pid = pid_of(tmp_path)
    victims = {
        "up": [],
        "up and master": [cluster.daemon("master")["pid"]],
        "up and agent-1": [cluster.daemon("agent-1")["pid"]],
        "everything of ours": [*naming(cluster.work_dir, "meseta serve"), *naming(cluster.work_dir, LAUNCHER)],
    }[killed]
    cluster.kill("up")
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    cluster.up()
    settled(cluster)
    assert daemons(cluster) == lines, "each runs once"
    assert naming(cluster.work_dir, "meseta serve").keys() & pids.keys() == pids.keys() - set(victims), "and goes on where it did"
    assert agents(cluster) == before
    assert alive(pid)
    assert cluster.json("task", "show", task_id)["state"] == "TASK_RUNNING"
    (tmp_path / "gate").touch()
    # The kernel tells whoever adopted the process how it ended (6.15); an older one does not, and nobody guesses.
    assert end_of(cluster, task_id)["message"] in ("Command exited with status 7", "exit status unknown")[: 1 + ("ours" in killed)]
    cluster.down()
    assert not left(cluster)


def test_a_second_up_shows_what_runs_whatever_it_asks_for(start_cluster: Start) -> None:
    cluster = start_cluster(agents=1, only="master,agent")
    before = daemons(cluster)
    again = cluster.meseta("up", "--agents", "3", "--work-dir", str(cluster.work_dir), "--port-offset", "1", "--json")
    assert [daemon["name"] for daemon in json.loads(again.stdout)["daemons"]] == ["master", "agent-1"]
    table = cluster.meseta("up", "--detach", "--work-dir", str(cluster.work_dir)).stdout
    assert all(url in table for url in cluster.urls.values())
    assert daemons(cluster) == before


@pytest.mark.parametrize("victim", ["master", "agent-1", "launcher of agent-1"])
def test_a_death_is_restarted_and_told(victim: str, start_cluster: Start) -> None:
    cluster = start_cluster(agents=1, only="master,agent")
    if victim.startswith("launcher"):
        pid = eventually(lambda: launcher(cluster, "agent-1"))
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: launcher(cluster, "agent-1") not in (None, pid))
        assert "the launcher is gone; starting it again" in (cluster.work_dir / "log/agent-1.log").read_text()
    else:
        cluster.kill(victim)
        eventually(lambda: cluster.daemon(victim)["restarts"] == 1)
        (shown,) = [daemon for daemon in cluster.state()["daemons"] if daemon["name"] == victim]
        assert shown["last_error"] == "killed by SIGKILL"
        assert f"{victim}: killed by SIGKILL; restart in " in (cluster.work_dir / "log/up.log").read_text()
        settled(cluster)
        assert [daemon["restarts"] for daemon in cluster.json("status")["daemons"] if daemon["name"] == victim] == [1]
        assert "killed by SIGKILL" in cluster.meseta("status").stdout
    assert cluster.meseta("run", "--", "echo", "works").stdout == "works\n"


def test_endpoints_and_logs_are_in_the_work_dir(start_cluster: Start) -> None:
    cluster = start_cluster(only="master,agent")
    assert json.loads((cluster.work_dir / "endpoints.json").read_text()) == cluster.urls
    assert sorted(cluster.urls) == ["agent-1", "agent-2", "master"]
    for name in cluster.urls:
        assert "listens on 127.0.0.1 port" in (cluster.work_dir / f"log/{name}.log").read_text()
    assert (cluster.work_dir / "log/up.log").exists()
    assert "Traceback" not in cluster.logs()


def test_ctrl_c_ends_the_tasks_of_an_up_in_the_foreground(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "home", agents=1)
    command = [*MESETA, "up", "--json", "--work-dir", str(cluster.work_dir), "--port-offset", str(cluster.port_offset)]
    process = cluster.spawn([*command, "--only", "master,agent"], stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        state = json.loads(process.stdout.readline())
        cluster.environ["MESETA_MASTER"] = next(daemon["url"] for daemon in state["daemons"] if daemon["name"] == "master")
        detached(cluster, "foreground", waiting(tmp_path))
        pid = pid_of(tmp_path)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=40)
    finally:
        process.kill()
        process.communicate()
        cluster.down()
    assert process.returncode == 0, errors
    assert not alive(pid)
    assert not left(cluster)
