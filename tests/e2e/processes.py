"""What end-to-end tests know of a cluster's processes without asking the cluster."""

from __future__ import annotations

import json
import os
from pathlib import Path

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


def agents(cluster: Cluster) -> list[str]:
    """The ids of the active agents; none while the master cannot be asked."""
    done = cluster.meseta("node", "list", "--json", check=False)
    return sorted(node["id"] for node in json.loads(done.stdout) if node["active"]) if done.returncode == 0 else []


def settled(cluster: Cluster, within_s: float = 90.0) -> None:
    """Wait until every daemon works and every agent is active."""
    eventually(lambda: all(daemon["state"] == "running" for daemon in cluster.state()["daemons"]), within_s, "all daemons run")
    eventually(lambda: len(agents(cluster)) == cluster.agents, within_s, "all agents are active")
