"""What is left of a cluster's work when nobody wants it any more, and what a cluster without work costs."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.processes import LAUNCHER, alive, frameworks, naming, settled

pytestmark = pytest.mark.e2e

IDLE_PSS_KB_MAX = 200_000
MEASURED_S = 3.0
TICKS_S = os.sysconf("SC_CLK_TCK")


def pss_kb(pid: int) -> int:
    """A process's own memory and its part of what it shares."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(row.split()[1] for row in rollup.splitlines() if row.startswith("Pss:")))


def cpu_s(pid: int) -> float:
    """What a process has used of a core, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_S


def test_a_framework_that_is_killed_leaves_nothing(start_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    """`meseta run` says how long it may be away: 10 s. Then its task is ended."""
    cluster = start_cluster(agents=1, only="master,agent")
    script = f"echo $$ > {tmp_path}/pid; echo begun; while :; do sleep 0.1; done"
    process = cluster.spawn([*MESETA, "run", "--name", "orphan", "--", "sh", "-c", script], stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
    finally:
        process.kill()
        process.communicate()
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    eventually(lambda: not alive(pid), 40)
    eventually(lambda: not frameworks(cluster), 40)
    assert not cluster.json("framework", "list")
    assert not cluster.json("task", "list")


def test_an_idle_cluster_is_small(start_cluster: Callable[..., Cluster], capsys: pytest.CaptureFixture[str]) -> None:
    """Memory is checked; what it uses of a core is shown only, as others may be busy here."""
    cluster = start_cluster(only="master,agent")
    settled(cluster)
    cluster.meseta("run", "--", "true")
    processes = naming(cluster.work_dir)
    assert sum("meseta serve" in line for line in processes.values()) == 3
    assert sum(LAUNCHER in line for line in processes.values()) == 2
    memory_kb = {pid: pss_kb(pid) for pid in processes}
    before_s = {pid: cpu_s(pid) for pid in processes}
    time.sleep(MEASURED_S)
    percent = {pid: 100 * (cpu_s(pid) - before_s[pid]) / MEASURED_S for pid in processes}
    rows = [f"{memory_kb[pid]:>8} kB {percent[pid]:5.1f} %  {line[:140]}" for pid, line in sorted(processes.items())]
    total = f"{sum(memory_kb.values()):>8} kB {sum(percent.values()):5.1f} %  of one core, idle cluster with two agents"
    with capsys.disabled():
        print("\n" + "\n".join([*rows, total]))
    assert sum(memory_kb.values()) <= IDLE_PSS_KB_MAX
