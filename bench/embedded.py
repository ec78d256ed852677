"""What a cluster on one machine costs: until it works, while it idles, and each command a user waits for."""

from __future__ import annotations

import os
import statistics
import subprocess
import time

from bench.cluster import MESETA, Cluster
from bench.report import BenchError, Report

ROUNDS = 7
AGENTS = 2
PEERS = {
    "bare Python start (our measurement, 2 cores of a virtual machine)": "13 ms; with click 65 ms",
    "Airflow 3.3 standalone (same)": "1,860 MB resident in 15 processes",
    "Ray 2.60 (same)": "764 MB resident in 9 processes",
}


def run(seconds: float) -> Report:
    """Measure. seconds: how long the idle cluster is watched. Raises BenchError when something fails."""
    began_s = time.perf_counter()
    with Cluster(AGENTS) as cluster:
        if cluster.meseta("run", "--", "echo", "hello") != "hello\n":
            raise BenchError("the first task did not say hello")
        first_output_s = time.perf_counter() - began_s
        before_s = _cpu_s(cluster.work_dir)
        time.sleep(seconds)
        results = {
            "first_output_s": first_output_s,
            "idle_mb": _pss_mb(cluster.work_dir),
            "idle_cpu_percent": (_cpu_s(cluster.work_dir) - before_s) / seconds * 100,
            "help_s": _command_s(cluster, "--help"),
            "node_list_s": _command_s(cluster, "node", "list"),
        }
    return Report("embedded", {"agents": AGENTS, "seconds": seconds}, results, PEERS)


def _processes(work_dir: str) -> list[str]:
    """The processes of a cluster: supervisor, daemons, launchers. Their command lines name its folder."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if work_dir.encode() in file.read():
                    found.append(name)
        except OSError:  # It has ended.
            continue
    return found


def _pss_mb(work_dir: str) -> float:
    """The memory they have together, what is shared counted once."""
    kib = 0
    for name in _processes(work_dir):
        with open(f"/proc/{name}/smaps_rollup", encoding="ascii") as file:
            kib += sum(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    return kib * 1024 / 1e6


def _cpu_s(work_dir: str) -> float:
    ticks = 0
    for name in _processes(work_dir):
        with open(f"/proc/{name}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _command_s(cluster: Cluster, *arguments: str) -> float:
    """The median time of a command."""
    times = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        subprocess.run([*MESETA, *arguments], env=cluster.environ, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - began_s)
    return statistics.median(times)
