"""What end-to-end tests look at again and again: a cluster's processes, its agents and tasks. No command is started for it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kernel.net.client import Client, Refused, Unreachable
from kernel.supervisor import start_time
from tests.cluster import Cluster, eventually

LAUNCHER = "launcher/main.py"


def command_lines() -> dict[int, str]:
    """Of all processes of this machine, arguments joined by spaces."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue  # It ended meanwhile.
    return found


def naming(text: str | Path, *words: str) -> dict[int, str]:
    """Processes whose command line has all of these in it."""
    return {pid: line for pid, line in command_lines().items() if all(str(word) in line for word in (text, *words))}


def launcher(cluster: Cluster, agent: str) -> int | None:
    """The pid of an agent's launcher, None while there is none."""
    return next(iter(naming(f"{cluster.work_dir}/{agent}/", LAUNCHER)), None)


def left(cluster: Cluster) -> list[str]:
    """What still runs of a cluster and the tasks that name its folder."""
    return list(naming(cluster.work_dir.parent).values())


def alive(pid: int) -> bool:
    """Whether a process runs; one that is only waited for by its parent does not."""
    return start_time(pid) is not None


def ask(cluster: Cluster, call: str) -> dict[str, Any]:
    """What the master answers to an operator call; nothing while it cannot be asked."""
    try:
        answer: dict[str, Any] = Client([cluster.urls["master"]]).call({"type": call})[call.lower()]
        return answer
    except (Unreachable, Refused):
        return {}


def agents(cluster: Cluster) -> list[str]:
    """The ids of the active agents."""
    return sorted(agent["agent_info"]["id"]["value"] for agent in ask(cluster, "GET_AGENTS").get("agents", ()) if agent["active"])


def frameworks(cluster: Cluster) -> dict[str, str]:
    """The frameworks that are not completed: id -> name."""
    infos = [framework["framework_info"] for framework in ask(cluster, "GET_FRAMEWORKS").get("frameworks", ())]
    return {info["id"]["value"]: info["name"] for info in infos}


def task(cluster: Cluster, task_id: str) -> dict[str, Any]:
    """A task as the master knows it: `state`, `statuses`..."""
    answer = ask(cluster, "GET_TASKS")
    found = [task for tasks in answer.values() for task in tasks if task["task_id"]["value"] == task_id]
    return found[-1] if found else {"state": "", "statuses": []}


def settled(cluster: Cluster, within_s: float = 90.0) -> None:
    """Wait until every daemon works and every agent is active."""
    eventually(lambda: all(daemon["state"] == "running" for daemon in cluster.state()["daemons"]), within_s, "all daemons run")
    eventually(lambda: len(agents(cluster)) == cluster.agents, within_s, "all agents are active")


@contextmanager
def unsupervised(cluster: Cluster) -> Iterator[Callable[[], None]]:
    """The agent is ours to kill, by the function given, and starts again at once: its supervisor would wait longer each time."""
    pid = cluster.daemon("agent-1")["pid"]
    command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    environ = dict(pair.split("=", 1) for pair in Path(f"/proc/{pid}/environ").read_text().split("\0") if pair)
    cluster.kill("up")
    os.kill(pid, signal.SIGKILL)
    with (cluster.work_dir / "log" / "agent-1.log").open("ab") as log:
        running = [subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)]

        def kill() -> None:
            running[0].kill()
            running[0].wait()
            running[0] = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        try:
            yield kill
        finally:
            running[0].kill()
            running[0].wait()
            cluster.up()
